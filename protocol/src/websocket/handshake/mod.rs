//! The opening handshake (RFC 6455 section 4): what a server checks in a request, what a client checks in the answer.
//!
//! On top of HTTP's machines each side is one thing: [`answer`] does what a server has to do with a request, and
//! [`ClientHandshake`] is a client's machine. Who has an HTTP of their own takes the checks underneath, [`check`] and
//! [`check_answer`], which work over plain fields (names and values, in the order of the message) and write nothing. Either way
//! the bytes behind the heads belong to the WebSocket.
//!
//! ```
//! use keepwatch_protocol::websocket::handshake;
//!
//! let fields: [(&str, &[u8]); 5] = [
//!     ("Host", b"example.com"),
//!     ("Upgrade", b"websocket"),
//!     ("Connection", b"keep-alive, Upgrade"),
//!     ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
//!     ("Sec-WebSocket-Version", b"13"),
//! ];
//! let accepted = handshake::check("GET", true, fields.into_iter()).unwrap();
//! assert_eq!(accepted.accept_key(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
//!
//! // Without the version: 426, and the field that says which one is spoken.
//! let rejected = handshake::check("GET", true, fields.into_iter().take(4)).unwrap_err();
//! assert_eq!((rejected.status(), rejected.fields()[0]), (426, ("Sec-WebSocket-Version", "13")));
//! ```

mod answer;
mod client;
mod fields;
mod origins;
mod request;
mod server;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use super::{Config, Connection, Role, deflate};
use crate::time::Now;

pub(super) use fields::outside_quotes;

pub use answer::{Chosen, Offered, RefusedAnswer, check_answer};
pub use client::{Answer, ClientHandshake, HandshakeError, Opening, OpeningError};
pub use origins::{Origins, is_own_origin};
pub use request::{Accepted, Rejected, check};
pub use server::{NotOpened, Terms, answer};

/// What client and server agreed to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Agreed<'a> {
    /// The subprotocol.
    pub protocol: Option<&'a str>,
    /// Whether and how messages are compressed.
    pub compression: Option<deflate::Agreed>,
}

impl Agreed<'_> {
    /// The connection that begins now, with the [`Config`] whose [`compression`](Config::compression) was offered or accepted.
    /// For the seed see [`Connection::new`].
    pub fn connection(self, role: Role, config: Arc<Config>, seed: u64, now: Now) -> Connection {
        let connection = Connection::new(role, config, seed, now);
        match self.compression {
            Some(agreed) => connection.with_deflate(agreed),
            None => connection,
        }
    }
}

/// The size of a `Sec-WebSocket-Key`: 16 bytes in base64.
pub const KEY_BYTES: usize = 24;
/// The size of a `Sec-WebSocket-Accept`: 20 bytes in base64.
pub const ACCEPT_BYTES: usize = 28;

/// What a server puts behind the key before it hashes it (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 section 4.2.2), whatever that is: see [`is_key`].
pub fn accept_key(key: &[u8]) -> [u8; ACCEPT_BYTES] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [b'='; ACCEPT_BYTES];
    encode(&digest, &mut accept);
    accept
}

/// Whether a `Sec-WebSocket-Key` is the base64 of 16 bytes (RFC 6455 section 4.2.1).
///
/// ```
/// use keepwatch_protocol::websocket::handshake;
///
/// assert!(handshake::is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
/// assert!(!handshake::is_key(b"dGhlIHNhbXBsZQ=="));
/// ```
pub fn is_key(key: &[u8]) -> bool {
    let mut nonce = [0; KEY_BYTES]; // the decoder wants room for as much as the text could hold
    key.len() == KEY_BYTES && STANDARD.decode_slice(key, &mut nonce) == Ok(16)
}

/// The `Sec-WebSocket-Key` that a client makes of 16 random bytes (RFC 6455 section 4.1).
pub fn request_key(nonce: [u8; 16]) -> [u8; KEY_BYTES] {
    let mut key = [b'='; KEY_BYTES];
    encode(&nonce, &mut key);
    key
}

/// Whether a `Sec-WebSocket-Accept` answers this key (RFC 6455 section 4.1).
pub fn verify_accept(key: &[u8; KEY_BYTES], accept: &[u8]) -> bool {
    accept == accept_key(key)
}

/// Base64 into an array of the right size, where no error is possible.
fn encode(bytes: &[u8], to: &mut [u8]) {
    let written = STANDARD.encode_slice(bytes, to);
    debug_assert!(written.is_ok(), "the array has the size that RFC 4648 says");
}
