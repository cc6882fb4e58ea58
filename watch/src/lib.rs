//! The watch server.
#![forbid(unsafe_code)]
