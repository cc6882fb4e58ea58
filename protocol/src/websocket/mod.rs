//! WebSocket (RFC 6455), both roles, as a machine without IO.
//!
//! A [`Connection`] takes the bytes after the handshake and gives [`Event`]s; what it has to say itself (pongs, pings,
//! Close frames) it puts into a [`Sink`](crate::Sink). Payloads are unmasked in the caller's own buffer and given in the
//! parts in which they arrive, so a message is never held whole unless an [`Assembler`] is asked to.
//!
//! ```text
//!   state      what it means                     deadline        it is left when
//!   ─────────  ────────────────────────────────  ──────────────  ──────────────────────────────────────────────────────
//!   Open       messages go both ways             ping_interval   nothing is heard for so long: a ping      ─► PingSent
//!                                                                close is called: our Close                ─► Closing
//!                                                                the peer's Close comes: it is answered    ─► over
//!   PingSent   the same, and a ping is out       pong_timeout    anything is heard                         ─► Open
//!                                                                nothing is heard: PongMissing, Close 1011 ─► Closed
//!   Closing    our Close is sent, its is not     close_timeout   the peer's Close comes                    ─► over
//!              here: what comes is still given                   it does not come: CloseMissing            ─► Closed
//!   over       both were sent. A server is Closed at once and ends the stream; a client is
//!   Lingering  and waits for that                close_timeout   the stream ends, or CloseMissing          ─► Closed
//!   Closed     the end                           none
//!   Failed     the end: malformed input was      none
//!              answered with a Close
//! ```
//!
//! The first three end as well when the stream does (Closed, not clean) and when something malformed comes (Failed). What
//! comes after the end is swallowed.
//!
//! What else there is, and where:
//!
//! | to | take |
//! | --- | --- |
//! | open one as a server | [`handshake::answer`], on a request that `http1::ServerConnection` gave; then [`Agreed::connection`](handshake::Agreed::connection) |
//! | open one as a client | [`handshake::ClientHandshake`]; then the same, in [`Role::Client`], with entropy for the masking keys |
//! | have messages whole | an [`Assembler`] |
//! | send one message to many | [`Prepared`]: framed once, compressed once |
//! | compress (permessage-deflate, RFC 7692) | [`Config::compression`], with the feature `deflate`: the module [`deflate`]. No other extension is spoken: a frame with a reserved bit that was not agreed to is refused |
//! | find out whether the peer is there | nothing: [`Config::ping_interval`]; or [`Connection::ping`] |
//! | close | [`Connection::close`], then receive until [`Event::Closed`] |
//! | have all that done | [`handler`](crate::handler) |
//! | take a part of it | [`frame`] (heads), [`mask`], [`utf8`] (validation of a stream), [`handshake`] (both sides' checks), [`assembly`] |
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
//!             connection.send(kind, &bytes, &mut out).unwrap(); // an echo; goes on while the input is still borrowed
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
pub mod deflate;
mod error;
pub mod frame;
pub mod handshake;
mod keys;
pub mod mask;
mod payload;
mod prepared;
mod timers;
mod transmit;
pub mod utf8;

#[cfg(test)]
mod tests;

pub use assembly::{Assembler, Message};
pub use close::{Close, CloseCode};
pub use config::Config;
pub use connection::{Connection, Event};
pub use deflate::Compression;
pub use error::{Expired, RecvError, SendError};
pub use frame::{FrameHead, Opcode};
pub use payload::Payload;
pub use prepared::Prepared;

/// Which end of the connection this is. A client masks what it sends, a server must not (RFC 6455 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It accepted the handshake: receives masked frames, sends unmasked ones, and closes the transport first.
    Server,
    /// It asked for the handshake: receives unmasked frames, sends masked ones.
    Client,
}

impl Role {
    /// The peer's.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Server => Self::Client,
            Self::Client => Self::Server,
        }
    }
}

/// What a message's payload is (RFC 6455 section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}
