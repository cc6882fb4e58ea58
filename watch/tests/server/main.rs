//! The watch server in memory and in virtual time: what it says on every route and transport, byte for byte, and what it
//! does to readers that are slow, gone or hostile.

#![expect(clippy::unwrap_used, reason = "the whole crate is a test")]

mod admission;
mod budgets;
#[path = "../shared/commit_store.rs"]
mod commit_store;
mod commits;
#[cfg(feature = "deflate")]
mod compression;
mod crowds;
mod delivery;
mod drain;
mod edges;
mod http;
mod machines;
mod operations;
mod polls;
mod process;
mod socket;
mod streams;
mod support;
