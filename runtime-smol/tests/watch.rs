//! The watch server on smol, from outside.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the whole file is a test")]

const BINARY: &str = env!("CARGO_BIN_EXE_watch-smol");

#[path = "../../runtime/tests-support/watch/mod.rs"]
mod suite;
