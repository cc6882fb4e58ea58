//! The watch server: keys with revisions, which are listed and then watched, as one state machine without IO. And the
//! [client] that watches one, as another.
//!
//! A client lists keys, and is then told of every later change, exactly once and in order, by whatever it can speak: short
//! polls, long polls, a chunked stream of lines, server-sent events, or a WebSocket that carries many watches and writes. If
//! changes are no longer kept it is told so (`compacted`), never silently passed over. `docs/wire.md` in the repository says
//! what goes over the wire, `docs/architecture.md` how it works.
//!
//! [`WatchServer`] is a [`Server`](keepwatch_protocol::Server): `keepwatch-mio` and `keepwatch-smol` run it over sockets,
//! `keepwatch-sim` in memory. With it comes a [`Handle`], through which the same process puts, reads and watches from any
//! thread.
//!
//! # Example
//!
//! A long poll that a write of the process answers. Time and network are simulated here; over sockets only the first lines
//! are others.
//!
//! ```
//! use std::time::Duration;
//!
//! use keepwatch_sim::Sim;
//! use keepwatch_watch::{Config, Revision, Shared};
//!
//! // Revisions start behind this one; a real program takes the wall clock in microseconds.
//! let shared = Shared::new(Config::default(), Revision::ZERO);
//! let (server, handle) = shared.machine(0x5eed);
//! let mut sim = Sim::new(server);
//!
//! let client = sim.connect();
//! client.send("GET /v1/watch?prefix=jobs/ HTTP/1.1\r\nHost: example\r\n\r\n");
//! sim.run()?;
//! assert_eq!(client.received(), 0); // it is held
//!
//! let written = handle.put("jobs/1", "done".as_bytes());
//! sim.advance(Duration::from_secs(1))?; // it waits for 5 ms first: a burst of changes is one answer
//! assert!(written.wait().is_ok());
//! let answer = String::from_utf8(client.receive())?;
//! assert!(answer.ends_with(concat!(
//!     r#"{"revision":1,"events":[{"type":"put","key":"jobs/1","revision":1,"createRevision":1,"value":"done"}]}"#,
//!     "\n"
//! )));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The parts
//!
//! | | what |
//! | --- | --- |
//! | [`Shared`], [`WatchServer`], [`Config`] | the server, its limits and times |
//! | [`Handle`] | the process's own calls and watches |
//! | [`client`] | a watch of another process's, by any transport |
//! | [`store`] | where writes are decided: a seam, and a store in memory behind it |
//! | [`change`], [`key`] | what a store says, and what a handle gives: changes, keys, revisions, positions |
//!
//! # Features
//!
//! `deflate`, on by default: WebSocket messages are compressed for clients that offer it (permessage-deflate), unless
//! [`Config::websocket`] says otherwise. `command-line`: the arguments that the binaries share.
#![forbid(unsafe_code)]

mod admission;
mod budget;
pub mod change;
pub mod client;
#[cfg(feature = "command-line")]
pub mod command_line;
mod compressed;
mod config;
mod encoding;
mod handle;
mod index;
pub mod key;
mod log;
#[cfg(test)]
mod properties;
mod request;
mod room;
mod server;
mod shapes;
pub mod store;
mod surface;
#[cfg(test)]
mod tests;
mod view;

pub use config::Config;
pub use handle::{Event, Handle, Listed, Pending, Subscription, Unavailable};
pub use index::Filter;
pub use key::{Key, KeyError, Revision};
pub use log::{LogLimits, RevisionError};
pub use server::{Shared, Usage, WatchServer};
