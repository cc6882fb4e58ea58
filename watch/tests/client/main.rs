//! The watching client in memory and in virtual time: against the real server through each transport, and against servers
//! that refuse, break off, or make no sense.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the whole crate is a test")]

mod answers;
#[path = "../shared/commit_store.rs"]
mod commit_store;
mod commits;
mod cuts;
mod edges;
mod refusals;
mod support;
mod talk;
mod transports;
