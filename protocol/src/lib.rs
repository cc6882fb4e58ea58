//! HTTP/1.1, server-sent events and WebSocket as pure state machines, and the driver that runs a server made of them.
//!
//! Nothing here makes a system call, reads a clock or draws a random number: bytes come in as an argument, time comes in as an
//! argument ([`Now`]), and bytes go out into a buffer of the caller. So the same machines run on any event loop, and in a test.
//! There are three floors, and each can be used without the one above it:
//!
//! | floor | what | for whom |
//! | --- | --- | --- |
//! | codecs | [`http1::HeadDecoder`], [`http1::chunked`]; [`websocket::frame`], [`mask`](websocket::mask), [`utf8`](websocket::utf8), [`handshake`](websocket::handshake), [`deflate`](websocket::deflate); [`sse`] | who has a protocol machine already and needs a part |
//! | machines | [`http1::ServerConnection`], [`http1::ClientConnection`], [`websocket::Connection`], [`ClientHandshake`](websocket::handshake::ClientHandshake), [`long_poll::Hold`], [`timer::Wheel`] | who has an event loop with buffers of its own |
//! | server | [`Server`], a whole server as one machine, and the [`Driver`] around it; [`handler`], the smallest way to a `Server`, and to a client | who has sockets and wants to make the system calls, and nothing else |
//!
//! HTTP/1.1 and WebSocket are there in both roles. A [`Server`] runs over connections, whoever made them: one that is a client of
//! WebSockets is [`handler::WebSocketClient`].
//!
//! # Example
//!
//! A server that answers each request with its path, and a conversation with it. There is no socket: what the last lines do
//! with an array, a runtime does with a system call. `keepwatch-mio` and `keepwatch-smol` are such runtimes.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//!
//! use keepwatch_protocol::http1::{self, Disposition, Event, Exchange, ResponseHead, StatusCode};
//! use keepwatch_protocol::{
//!     Admission, After, Closed, ConnectionId, Driver, DriverConfig, Input, Now, Peer, SendQueue, Server, Slices,
//! };
//!
//! #[derive(Default)]
//! struct Paths {
//!     config: Arc<http1::Config>,
//!     connections: BTreeMap<ConnectionId, Connection>,
//! }
//!
//! struct Connection {
//!     http: http1::ServerConnection,
//!     request: Option<(String, Exchange)>,
//! }
//!
//! impl Server for Paths {
//!     fn open(&mut self, id: ConnectionId, _: &Peer, now: Now) -> Admission {
//!         let http = http1::ServerConnection::new(self.config.clone(), now);
//!         self.connections.insert(id, Connection { http, request: None });
//!         Admission::Admit
//!     }
//!
//!     fn receive(&mut self, id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, now: Now) -> After {
//!         let Some(Connection { http, request }) = self.connections.get_mut(&id) else { return After::Abort };
//!         while !out.over_mark() {
//!             match http.recv(input, out, now) {
//!                 Ok(Event::Request(head, exchange)) => *request = Some((head.path().to_owned(), exchange)),
//!                 Ok(Event::Data(_) | Event::Trailers(_) | Event::Refused(_)) => {}
//!                 Ok(Event::EndOfRequest) => {
//!                     let Some((path, exchange)) = request.take() else { break };
//!                     let head = ResponseHead::empty(StatusCode::OK, &[]); // the length is that of the body
//!                     if http.answer(exchange, &head, path.as_bytes(), out, now).is_err() {
//!                         return After::Abort; // a mistake of ours, such as a field that cannot be sent
//!                     }
//!                 }
//!                 Ok(_) => break,  // nothing more for now
//!                 Err(_) => break, // what the peer did wrong is answered already
//!             }
//!         }
//!         match http.disposition() {
//!             Disposition::Open | Disposition::Upgraded => After::Open,
//!             Disposition::Finish => After::Finish,
//!             Disposition::Abort => After::Abort,
//!         }
//!     }
//!
//!     fn resume(&mut self, _: ConnectionId, _: &mut SendQueue, _: Now) -> After {
//!         After::Open // only for servers that name ready connections; timers are left out here
//!     }
//!
//!     fn closed(&mut self, id: ConnectionId, _: Closed, _: Now) {
//!         self.connections.remove(&id);
//!     }
//! }
//!
//! let now = Now::default();
//! let mut driver = Driver::new(Paths::default(), DriverConfig::default());
//! let id = driver.accept(&Peer::default(), now).expect("there is room for one");
//!
//! // Two requests in one packet, the second not whole yet.
//! driver.received(id, &mut b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HT".to_vec(), now);
//! driver.received(id, &mut b"TP/1.1\r\nHost: x\r\n\r\n".to_vec(), now);
//!
//! let mut sent = Vec::new();
//! while let Some(id) = driver.next_ready(now) {
//!     while driver.wants(id).write {
//!         let mut slices = Slices::new(usize::MAX);
//!         driver.fill(id, &mut slices, now);
//!         sent.extend(slices.parts().concat());
//!         let written = slices.len();
//!         driver.wrote(id, written, now);
//!     }
//! }
//! assert_eq!(
//!     String::from_utf8(sent).unwrap(),
//!     "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\n\r\n/a\
//!      HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\n\r\n/b"
//! );
//! ```
//!
//! `examples/echo` is a server with everything: deadlines, bodies of any length, WebSocket, draining.
//!
//! # Errors
//!
//! What a peer does wrong is an error of the machine that met it: fatal for the connection, and its answer (a status, a Close
//! frame) is in the output when the error returns. What the caller does wrong is another type: nothing was written, and the
//! machine goes on. No input makes anything here panic.
//!
//! # Features
//!
//! | feature | |
//! | --- | --- |
//! | `std` (default) | implements traits of `std` where they help; without it the crate is `no_std` with `alloc` |
//! | `deflate` | compresses WebSocket messages ([`websocket::deflate`]), with `zlib-rs`; needs `std` |
//! | `simd` | validates longer texts with the processor's wide registers, with `simdutf8`: those that there are at run time, or without `std` those that the target says |
#![forbid(unsafe_code)]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod blocks;
pub mod driver;
pub mod handler;
pub mod http1;
mod input;
pub mod long_poll;
#[cfg(test)]
mod messages;
mod output;
#[cfg(test)]
mod properties;
mod server;
pub mod sse;
mod time;
pub mod timer;
pub mod websocket;

pub use blocks::Blocks;
pub use driver::{Driver, DriverConfig};
pub use input::Input;
pub use output::{Lease, Leases, SendQueue, Sink, Slices};
pub use server::{Admission, After, Closed, ConnectionId, Fill, Peer, Server};
pub use time::{Instant, Now, UnixMillis, earliest};
