//! Compressed messages: permessage-deflate (RFC 7692), in both roles.
//!
//! A [`Compression`] is made once, put into the [`Config`](super::Config) of all connections, and holds what they share: the
//! settings, the states of compressors and inflaters that nobody uses just now, and one budget in bytes for all of them.
//! Compressors are large (139 to 488 KiB, by default 278) and inflaters are not small (48 KiB), so a connection that sits idle
//! should have neither:
//!
//! ```text
//!                                context takeover                         no context takeover
//!   ───────────────────────────  ───────────────────────────────────────  ───────────────────────────────────────
//!   a message may refer to       those before                             itself
//!   a state is taken             at the first message, for good           at each message, until its end
//!   its memory is counted        at the handshake: where the budget has   while it is taken
//!                                no room, takeover is not agreed to
//!   the budget is used up        cannot happen                            sending: the message goes uncompressed
//!                                                                         receiving: 1013, [`RecvError::NoMemory`]
//! ```
//!
//! What came in one frame may inflate to very much: it is inflated into buffers of 16 KiB, each of which is one
//! [`Event::Data`](super::Event::Data), so a message of any length passes through without being held. Its limit,
//! [`Config::message_bytes`](super::Config::message_bytes), counts what came out, while it comes out. Compressed bytes are
//! bounded as well, to twice the limit and 1 KiB, as endless ones can inflate to nothing.
//!
//! Who sends text of others beside secrets should not compress both in one context: the length of what is sent tells what they
//! share. [`Connection::send_uncompressed`](super::Connection::send_uncompressed) is for that, and for what is compressed in
//! itself.
//!
//! The negotiation alone, [`Terms`], is always there. To compress takes the feature `deflate`: without it a [`Compression`]
//! is always off, and nothing is offered or accepted.
//!
//! From the handshake to the connection, a server:
//!
//! ```
//! use std::sync::Arc;
//! use keepwatch_protocol::Now;
//! use keepwatch_protocol::websocket::{Config, Connection, Role};
//!
//! let config = Arc::new(Config::default()); // with the feature: `compression: Compression::deflate(..)`
//! let offers = ["permessage-deflate; client_max_window_bits"]; // `Accepted::extensions` of the request
//! let agreed = config.compression.answer(offers);
//! // `agreed.answer()`, if there is one, goes into the 101 as its `Sec-WebSocket-Extensions`. Then:
//! let connection = Connection::new(Role::Server, config, 0x5eed, Now::default());
//! let connection = match agreed {
//!     Some(agreed) => connection.with_deflate(agreed),
//!     None => connection,
//! };
//! # drop(connection);
//! ```
//!
//! [`RecvError::NoMemory`]: super::RecvError::NoMemory

#[cfg(feature = "deflate")]
mod codec;
mod compression;
#[cfg(feature = "deflate")]
mod framer;
#[cfg(not(feature = "deflate"))]
mod off;
mod offer;
#[cfg(feature = "deflate")]
mod pool;
#[cfg(feature = "deflate")]
mod receive;
#[cfg(feature = "deflate")]
mod send;

#[cfg(feature = "deflate")]
pub use compression::DeflateConfig;
pub use compression::{Agreed, Compression, Offer};
#[cfg(feature = "deflate")]
pub use framer::Framer;
pub(super) use offer::NAME;
pub use offer::{Parameters, RefusedExtension, Terms};

#[cfg(not(feature = "deflate"))]
pub(super) use off::States;
#[cfg(not(feature = "deflate"))]
use off::{Pool, Reservation};
#[cfg(feature = "deflate")]
pub(super) use pool::Room;
#[cfg(feature = "deflate")]
use pool::{Pool, Reservation};
#[cfg(feature = "deflate")]
pub(super) use receive::States;
