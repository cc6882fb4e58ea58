//! Runs keepwatch servers in memory: no sockets, and time that moves when it is told to.
//!
//! A [`Server`](keepwatch_protocol::Server) runs here under the same driver, and so by the same logic, as on a real runtime;
//! only the system calls are others. So a test says exactly what arrives when, hours pass in a moment, and the same steps
//! give the same bytes every time.
//!
//! - [`Conversation`] is a transcript that is checked as it runs;
//! - [`every_split`] sends the same bytes cut at every point, and wants the same answer; [`cuts`] is the same for parsers and
//!   machines of any kind;
//! - [`Sim`] and [`Client`] are what both are made of: slow readers, short reads and writes, half-closes, resets, time.
//!
//! With the feature `watch`, which is the default, the watch server runs here in a world of faults that a seed draws
//! ([`world`]). The command plays one of them, as a conversation that can be read, or many:
//!
//! ```console
//! $ cargo run --profile sim -p keepwatch-sim -- 1871 --trace
//!    0.001000 world      --- the server starts
//!    2.041000 keeper1    connects: #1
//!    2.041000 keeper1    #1 > "GET /v1/kv?prefix=&limit=4 HTTP/1.1\r\nHost: sim\r\n…
//!    …
//! $ cargo run --profile sim -p keepwatch-sim -- --from 0 --count 20000
//! ```
//!
//! A whole program: an echo server that says goodbye to those who say nothing for a minute.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::time::Duration;
//!
//! use keepwatch_protocol::{
//!     Admission, After, Closed, ConnectionId, Input, Instant, Now, Peer, SendQueue, Server, Sink,
//! };
//! use keepwatch_sim::{Conversation, Sim, every_split};
//!
//! #[derive(Default)]
//! struct Echo {
//!     idle_at: BTreeMap<ConnectionId, Instant>,
//! }
//!
//! impl Server for Echo {
//!     fn open(&mut self, id: ConnectionId, _peer: &Peer, now: Now) -> Admission {
//!         self.idle_at.insert(id, now.instant + Duration::from_secs(60));
//!         Admission::Admit
//!     }
//!
//!     fn receive(&mut self, id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, now: Now) -> After {
//!         self.idle_at.insert(id, now.instant + Duration::from_secs(60));
//!         let count = input.len();
//!         out.put(input.take(count));
//!         if input.hung_up() { After::Finish } else { After::Open }
//!     }
//!
//!     fn resume(&mut self, _id: ConnectionId, out: &mut SendQueue, _now: Now) -> After {
//!         out.put(b"goodbye");
//!         After::Finish
//!     }
//!
//!     fn next_ready(&mut self, now: Now) -> Option<ConnectionId> {
//!         let id = self.idle_at.iter().find(|(_, at)| **at <= now.instant).map(|(id, _)| *id)?;
//!         self.idle_at.remove(&id);
//!         Some(id)
//!     }
//!
//!     fn deadline(&self) -> Option<Instant> {
//!         self.idle_at.values().min().copied()
//!     }
//!
//!     fn closed(&mut self, id: ConnectionId, _why: Closed, _now: Now) {
//!         self.idle_at.remove(&id);
//!     }
//! }
//!
//! // A transcript.
//! Conversation::new(Echo::default())
//!     .client("hello")
//!     .server("hello")
//!     .wait_secs(59)
//!     .client("again")
//!     .server("again")
//!     .wait_secs(60)
//!     .server("goodbye")
//!     .server_ends()
//!     .end();
//!
//! // The same bytes give the same bytes, however they are cut.
//! assert_eq!(every_split(Echo::default, b"some bytes").bytes, b"some bytes");
//!
//! // A client that does not read, by hand.
//! let mut sim = Sim::new(Echo::default());
//! let slow = sim.connect();
//! slow.window(4);
//! slow.read_limit(0);
//! slow.send("more than fits");
//! sim.run()?;
//! assert_eq!(slow.received(), 0);
//! slow.read_limit(usize::MAX);
//! slow.shutdown_write();
//! sim.run()?;
//! assert_eq!(slow.receive(), b"more than fits");
//! assert!(slow.is_ended() && slow.is_closed());
//! # Ok::<(), keepwatch_sim::SimError>(())
//! ```
#![forbid(unsafe_code)]

mod client;
mod conversation;
pub mod cuts;
mod network;
mod random;
mod replay;
mod sim;
mod trace;
#[cfg(feature = "watch")]
pub mod world;

pub use client::Client;
pub use conversation::Conversation;
pub use random::Random;
pub use replay::{Replayed, every_split, replay};
pub use sim::{Order, Sim, SimConfig, SimError};
pub use trace::{Step, Trace};
