//! A server's answer to a handshake: the one call that does it right.

use alloc::vec::Vec;
use core::fmt;

use super::fields::text;
use super::{Agreed, Origins, Rejected, check};
use crate::http1::{
    Exchange, Refused, RequestHead, ResponseHead, SendError, ServerConnection, StatusCode, Version,
};
use crate::output::Sink;
use crate::time::Now;
use crate::websocket::Compression;

/// What a server agrees to. The default: its own pages, no subprotocol, no compression.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'t> {
    /// Whose pages may open the WebSocket.
    pub origins: &'t Origins,
    /// The subprotocols that the server speaks. Of those the one is agreed to that the client likes best; if it offers none of
    /// them, none.
    pub protocols: &'t [&'t str],
    /// The compression that is spoken, if any: that of the [`Config`](crate::websocket::Config).
    pub compression: Option<&'t Compression>,
    /// Further fields of the answer that opens, for example `Set-Cookie`.
    pub fields: &'t [(&'t str, &'t [u8])],
}

impl Default for Terms<'_> {
    fn default() -> Self {
        Self { origins: &Origins::Own, protocols: &[], compression: None, fields: &[] }
    }
}

/// Why a request did not open a WebSocket.
#[derive(Debug)]
pub enum NotOpened {
    /// The request is at fault, and was answered so.
    Rejected(Rejected),
    /// The caller is: [`Terms::fields`] cannot be sent, or the request's body was not read. Nothing was written, and the
    /// exchange comes back.
    NotSent(Refused<Exchange>),
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::NotSent(refused) => refused.fmt(f),
        }
    }
}

impl core::error::Error for NotOpened {}

/// Answers a request that is to become a WebSocket: 101, or what is wrong with it, with the status and the fields that say so
/// (426 with `Sec-WebSocket-Version: 13` to another version, 403 to a page of another origin). Everything behind the request in
/// the input belongs to the [`Connection`](crate::websocket::Connection), which [`Agreed::connection`] makes.
///
/// ```
/// use std::sync::Arc;
/// use keepwatch_protocol::http1::{Config, Event, ServerConnection};
/// use keepwatch_protocol::websocket::{self, Role, handshake};
/// use keepwatch_protocol::{Input, Now};
///
/// let now = Now::default();
/// let mut http = ServerConnection::new(Arc::new(Config::default()), now);
/// let mut request = b"GET /talk HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
///     Sec-WebSocket-Protocol: v2.talk, v1.talk\r\n\r\n\x81\x80\0\0\0\0".to_vec();
/// let (mut input, mut out) = (Input::new(&mut request), Vec::new());
///
/// let Ok(Event::Request(head, exchange)) = http.recv(&mut input, &mut out, now) else { panic!() };
/// let Ok(Event::EndOfRequest) = http.recv(&mut input, &mut out, now) else { panic!() };
/// let terms = handshake::Terms { protocols: &["v1.talk"], ..handshake::Terms::default() };
/// let agreed = handshake::answer(&mut http, exchange, &head, &terms, &mut out, now).unwrap();
/// assert_eq!(agreed.protocol, Some("v1.talk"));
///
/// let seed = 7; // a server's only spreads its pings
/// let mut socket = agreed.connection(Role::Server, Arc::new(websocket::Config::default()), seed, now);
/// assert!(matches!(socket.recv(&mut input, &mut out, now), Ok(websocket::Event::Data { last: true, .. })));
/// ```
///
/// # Errors
///
/// [`NotOpened`]: either way the connection is HTTP as before.
pub fn answer<'h>(
    http: &mut ServerConnection,
    exchange: Exchange,
    head: &RequestHead<'h>,
    terms: &Terms<'_>,
    out: &mut impl Sink,
    now: Now,
) -> Result<Agreed<'h>, NotOpened> {
    let fields = head.fields().into_iter().map(|field| (field.name, field.value));
    let accepted = match check(head.method(), head.version() == Version::Http11, fields) {
        Ok(accepted) if terms.origins.allow(accepted.origin(), head.authority()) => accepted,
        Ok(_) => return Err(reject(http, exchange, Rejected::ForeignOrigin, out, now)),
        Err(rejected) => return Err(reject(http, exchange, rejected, out, now)),
    };
    if terms.fields.iter().any(|(name, _)| is_reserved(name)) {
        return Err(NotOpened::NotSent(Refused { token: exchange, error: SendError::FieldReserved }));
    }
    let protocol = accepted.protocols().find(|offered| terms.protocols.contains(offered));
    let compression = terms.compression.and_then(|compression| compression.answer(accepted.extensions()));
    let mut fields: Vec<(&str, &[u8])> = Vec::with_capacity(terms.fields.len() + 3);
    fields.push(("Sec-WebSocket-Accept", accepted.accept_key()));
    fields.extend(protocol.map(|protocol| ("Sec-WebSocket-Protocol", protocol.as_bytes())));
    if let Some(agreed) = &compression {
        fields.push(("Sec-WebSocket-Extensions", agreed.answer().as_bytes()));
    }
    fields.extend(terms.fields);
    match http.upgrade(exchange, &fields, out, now) {
        Ok(()) => Ok(Agreed { protocol, compression }),
        Err(refused) => Err(NotOpened::NotSent(refused)),
    }
}

fn reject(
    http: &mut ServerConnection,
    exchange: Exchange,
    why: Rejected,
    out: &mut impl Sink,
    now: Now,
) -> NotOpened {
    let mut fields: Vec<(&str, &[u8])> = alloc::vec![("Content-Type", b"text/plain")];
    fields.extend(why.fields().iter().map(|(name, value)| (*name, value.as_bytes())));
    let status = StatusCode::new(why.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let head = ResponseHead::empty(status, &fields);
    match http.answer(exchange, &head, why.reason().as_bytes(), out, now) {
        Ok(()) => NotOpened::Rejected(why),
        Err(refused) => NotOpened::NotSent(refused),
    }
}

/// Whether a field is the handshake's own.
pub(super) fn is_reserved(name: &str) -> bool {
    let start = name.as_bytes().get(..PREFIX.len());
    start.and_then(text).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

const PREFIX: &str = "Sec-WebSocket-";
