//! The watch server on mio, from outside.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the whole file is a test")]

const BINARY: &str = env!("CARGO_BIN_EXE_watch-mio");

#[path = "../../runtime/tests-support/watch/mod.rs"]
mod suite;
