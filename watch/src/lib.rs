//! The watch server.
#![forbid(unsafe_code)]

pub mod change;
pub mod encoding;
pub mod index;
pub mod key;
pub mod log;
pub mod store;
pub mod view;
