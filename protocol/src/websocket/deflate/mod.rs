//! Compressed messages: permessage-deflate (RFC 7692), in both roles.
//!
//! A [`Compression`] is made once, put into the [`Config`](super::Config) of all connections, and holds what they share: the
//! settings, the states of compressors and inflaters that nobody uses just now, and one budget in bytes for all of them.
//! Compressors are large (137 to 390 KiB) and inflaters are not small (48 KiB), so a connection that sits idle
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
mod offer;
#[cfg(feature = "deflate")]
mod pool;

#[cfg(feature = "deflate")]
pub use compression::DeflateConfig;
pub use compression::{Agreed, Compression, Offer};
pub use offer::{Parameters, RefusedExtension, Terms};
#[cfg(feature = "deflate")]
pub(super) use pool::Room;
