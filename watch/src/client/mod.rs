//! The watching client: it lists what is there, is told of every change from then on, and keeps at it.
//!
//! [`WatchClient`] is one watch, of a key or of all keys with a prefix. It speaks to a watch server by whatever transport it
//! gets through with, goes on where it was when a connection ends, lists again when changes are no longer kept, waits longer
//! with each failure, and falls back to polls where nothing else works. It makes no connections, reads no clock and draws no
//! random numbers: its user says when a connection is there, what came on it, and what time it is.
//!
//! # States
//!
//! ```text
//!   connection   what it means            left by
//!   ───────────  ───────────────────────  ────────────────────────────────────────────────────────────────
//!   Wanted       wants_connection         connecting ─► Connecting   connected ─► Http
//!   Waiting      not before a deadline    the deadline ─► Wanted
//!   Connecting   it is being made         connected ─► Http          disconnected, the deadline ─► Waiting
//!   Http         lists, polls, streams    a WebSocket is asked for ─► Opening     its end ─► see below
//!   Opening      a handshake              it is accepted ─► Socket                its end ─► see below
//!   Socket       a WebSocket              its end ─► see below
//!
//!   end of a connection                        the next one     the transport
//!   ─────────────────────────────────────────  ───────────────  ───────────────────────────────────────────
//!   it cannot be used again, nothing is wrong  at once
//!   it was closed before a byte of an answer,  at once
//!   and had been used before
//!   between two polls                          with the poll
//!   compacted                                  at once          (after a wait, if it was listed just before)
//!   it broke off; 408, 5xx; Failed             after a wait     put aside, if three times before an event
//!   503, 429, `retry`, close code 1001, 1013   after a wait
//!   refused: any other status, a media type    at once, by the  put aside; the last one never is
//!   or a handshake that is not right           next transport
//! ```
//!
//! A wait is drawn evenly from zero up to a limit that doubles with each failure in a row ([`Backoff`]); what the server
//! asked for comes on top.
//!
//! # What is told
//!
//! [`Event`]s, in a queue with a limit: while it is full, no input is taken. First a listing, all of one revision, then each
//! change once, in order, however often the connection ended in between, even within a commit of several changes. If that cannot
//! be kept, as changes are gone or the server began anew, the user is told ([`Event::Compacted`]), and a new
//! listing says what is true now. Short polls see states and not changes, so each state that differs is told as a listing.
//!
//! What makes no sense (JSON of another shape, a key that was not asked for, a revision that goes back, more than the
//! [limits](ClientLimits) allow) is [`Event::Failed`]: it is not told, the connection is given up, and the watch goes on from
//! what was told before.
//!
//! # Example
//!
//! A whole program, with a server and a network in memory. Over sockets `sim.connect()` is a connection to be made, `send` and
//! `receive` are writes and reads, and the loop waits for whichever comes first, bytes or [`WatchClient::deadline`].
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use keepwatch_protocol::Input;
//! use keepwatch_sim::Sim;
//! use keepwatch_watch::client::{ClientConfig, Event, Next, Start, Target, WatchClient};
//! use keepwatch_watch::{Config, Filter, Revision, Shared};
//!
//! let (server, handle) = Shared::new(Config::default(), Revision::ZERO).machine(0x5eed);
//! let mut sim = Sim::new(server);
//!
//! let filter = Filter::prefix("jobs/", 1024)?;
//! let target = Target { authority: "example".into(), filter, start: Start::List };
//! let mut client = WatchClient::new(target, Arc::new(ClientConfig::default()), 0x5eed)?;
//! let mut connection = None;
//! let mut unread = Vec::new(); // what came and is not taken: the head of an answer is taken when it is whole
//! let mut jobs = BTreeMap::new();
//!
//! for second in 0..60 {
//!     let (now, mut out) = (sim.now(), Vec::new());
//!     match second {
//!         10 => drop(handle.put("jobs/1", "begun".as_bytes())),
//!         20 => connection = None, // the network fails, and the client is told
//!         21 => client.disconnected(now),
//!         22 => drop(handle.put("jobs/1", "done".as_bytes())),
//!         _ => {}
//!     }
//!     if client.wants_connection(now) {
//!         connection = Some(sim.connect());
//!         unread.clear();
//!         client.connected(&mut out, now);
//!     }
//!     let mut next = Next::Open;
//!     if let Some(socket) = &connection {
//!         unread.extend(socket.receive());
//!         let mut input = if socket.is_ended() { Input::last(&mut unread) } else { Input::new(&mut unread) };
//!         next = client.receive(&mut input, &mut out, now);
//!         let taken = input.consumed();
//!         unread.drain(..taken);
//!     }
//!     // What came is heard first: a process that was stopped for a while is late itself, and its server not silent.
//!     if next == Next::Open && client.deadline().is_some_and(|deadline| deadline <= now.instant) {
//!         next = client.on_deadline(&mut out, now);
//!     }
//!     if let Some(socket) = &connection {
//!         socket.send(out);
//!     }
//!     if next == Next::Close {
//!         connection = None;
//!     }
//!     while let Some(event) = client.next_event() {
//!         match event {
//!             Event::Listing => jobs.clear(),
//!             Event::Item(item) | Event::Put(item) => drop(jobs.insert(item.key, item.value)),
//!             Event::Deleted { key, .. } => drop(jobs.remove(&key)),
//!             _ => {} // where it is, and how it goes
//!         }
//!     }
//!     sim.advance(Duration::from_secs(1))?;
//! }
//! assert_eq!(jobs.get("jobs/1"), Some(&b"done".to_vec()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backoff;
mod config;
mod cursor;
mod event;
mod http;
mod lines;
mod machine;
mod opening;
mod parse;
mod progress;
#[cfg(test)]
mod properties;
mod request;
mod routes;
mod socket;

pub use config::{Backoff, ClientConfig, ClientLimits, WatchTimeouts};
pub use event::{Event, Failure, Item, Transport};
pub use machine::{Next, Start, Target, WatchClient};
