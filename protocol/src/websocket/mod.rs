//! WebSocket (RFC 6455), both roles, as a machine without IO.
//!
//! A [`Connection`] takes the bytes after the handshake and gives [`Event`]s; what it has to say itself (pongs, Close frames,
//! pings) it puts into a [`Sink`](crate::Sink). Payloads are unmasked in the caller's own buffer and given in the parts in
//! which they arrive, so a message is never held whole unless an [`Assembler`] is asked to.
//!
//! ```text
//!                 recv: bytes in                                  close, a peer's Close, malformed input
//!              ┌───────────────────┐                          ┌──────────────────────────────────────────┐
//!   Open ──────┤ Data, Ping, Pong  ├────► Open ...            │   sent ours            its Close came    ▼
//!    │  ▲      └───────────────────┘                  Open ───┴─────────────► Closing ─────────────► Closed
//!    │  │ anything is heard                             │                         │                    ▲  ▲
//!    ▼  │                                               │ its Close: the reply is put                  │  │
//!   PingSent ── nothing heard: PongMissing ─► Closed    ├──────────────────────────────────────────────┘  │
//!                                                       └─ malformed: Close 1002, 1007, 1008, 1009 ─► Failed
//! ```
//!
//! The parts stand alone as well: [`frame`] (heads), [`mask`], [`utf8`] (validation of a stream), [`handshake`] (both
//! sides' checks), [`assembly`] (whole messages). No extension is negotiated yet: a frame with a reserved bit is refused.
//!
//! One conversation, from the server's side:
//!
//! ```
//! use std::sync::Arc;
//! use keepwatch_protocol::websocket::{CloseCode, Config, Connection, Event, MessageKind, Role};
//! use keepwatch_protocol::{Input, Now};
//!
//! let now = Now::default(); // the runtime's clock
//! let mut connection = Connection::new(Role::Server, Arc::new(Config::default()), 0x5eed, now);
//! let mut out = Vec::new(); // what is to be written to the socket
//!
//! // "Hello", masked, as a client sends it (RFC 6455 section 5.7).
//! let mut read = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
//! let mut input = Input::new(&mut read);
//! loop {
//!     match connection.recv(&mut input, &mut out, now) {
//!         Ok(Event::NeedMore) => break, // read more; what the input still holds is offered again in front of it
//!         Ok(Event::Data { kind, bytes, first, last }) => {
//!             assert_eq!((kind, &*bytes, first, last), (MessageKind::Text, &b"Hello"[..], true, true));
//!             connection.send(kind, bytes, &mut out).unwrap(); // an echo; goes on while the input is still borrowed
//!         }
//!         Ok(Event::Ping(_) | Event::Pong(_)) => {} // the pong is already in `out`
//!         Ok(Event::Closed(_)) => break,            // write `out`, then close
//!         Err(_malformed) => break,                 // the Close frame is in `out`: write it, then close
//!     }
//! }
//! assert_eq!(out, b"\x81\x05Hello");
//! connection.close(CloseCode::GOING_AWAY, "", &mut out, now).unwrap();
//! assert_eq!(out[7..], *b"\x88\x02\x03\xe9");
//! ```

pub mod assembly;
mod close;
mod config;
mod connection;
mod error;
pub mod frame;
pub mod handshake;
pub mod mask;
mod timers;
mod transmit;
pub mod utf8;

#[cfg(test)]
mod tests;

pub use assembly::{Assembler, Message};
pub use close::{Close, CloseCode};
pub use config::Config;
pub use connection::{Connection, Event};
pub use error::{Expired, RecvError, SendError};
pub use frame::{FrameHead, Opcode};

/// Which end of the connection this is. A client masks what it sends, a server must not (RFC 6455 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It accepted the handshake: receives masked frames, sends unmasked ones, and closes the transport first.
    Server,
    /// It asked for the handshake: receives unmasked frames, sends masked ones.
    Client,
}

/// What a message's payload is (RFC 6455 section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}
