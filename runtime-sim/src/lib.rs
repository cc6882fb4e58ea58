//! In-memory runtime.
#![forbid(unsafe_code)]
