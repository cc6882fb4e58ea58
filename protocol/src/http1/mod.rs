//! HTTP/1.1 framing (RFC 9112, and what RFC 9110 says about messages): strict, without IO.
//!
//! [`ServerConnection`] is the machine of one connection. Bytes come in through an [`Input`](crate::Input) that the
//! caller owns, events that borrow those bytes come out; what is answered is put into a [`Sink`](crate::Sink), or
//! written by the caller around its own payload. It holds no bytes and no headers, and there is one of it per
//! connection, in 80 bytes or less. [`ClientConnection`] is its counterpart, and has its own page: [`client`].
//!
//! ```text
//!              recv: Request ── Data* ── Trailers? ── EndOfRequest ── (HungUp) ── Paused
//!                       │
//!                   Exchange ── proceed*, inform* ─┬─ respond ── BodyTx ── frame/data* ── finish ──► the next Request,
//!                                                  ├─ answer ────────────────────────────────────► or Closed
//!                                                  └─ upgrade ──► Upgraded: the input is another protocol's
//! ```
//!
//! What may be done when is in the tokens. An [`Exchange`] is used up by its answer, so a request cannot be answered
//! twice; one that comes too late is [`SendError::Stale`]. A request is answered at any time after its head came: while
//! its body comes, a minute later, or never (then a [deadline](Timeouts::handler) answers it). Requests that are
//! pipelined wait in the input.
//!
//! **Parts.** [`HeadDecoder`], [`chunked::Decoder`] and [`chunked::ChunkHead`] are of use by themselves.
//!
//! **Errors.** What the peer did wrong is a [`RecvError`]: fatal, sticky, and answered by the machine; what can be
//! answered without ending the connection is an event, [`Refused`](Event::Refused). What the caller did wrong is a
//! [`SendError`]: nothing was written, and the token comes back. Nothing here panics on either.
//!
//! # A conversation
//!
//! ```
//! use std::sync::Arc;
//! use keepwatch_protocol::http1::{Config, Disposition, Event, ResponseHead, ServerConnection, StatusCode};
//! use keepwatch_protocol::{Input, Now};
//!
//! // Two requests in one packet: the second does not wait for the first one's answer.
//! let mut received = b"PUT /a HTTP/1.1\r\nHost: example\r\nTransfer-Encoding: chunked\r\n\r\n\
//!                      5\r\nhello\r\n0\r\nChecksum: 5d41\r\n\r\n\
//!                      GET /b?c HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n"
//!     .to_vec();
//! let now = Now::default();
//! let mut connection = ServerConnection::new(Arc::new(Config::default()), now);
//! let mut input = Input::new(&mut received);
//! let mut out = Vec::new();
//!
//! // The first: its head, its body, its trailers, its end.
//! let Event::Request(head, exchange) = connection.recv(&mut input, &mut out, now)? else { panic!() };
//! assert_eq!((head.method(), head.path(), head.authority()), ("PUT", "/a", Some("example")));
//! assert!(matches!(connection.recv(&mut input, &mut out, now)?, Event::Data(data) if data == b"hello"));
//! let Event::Trailers(trailers) = connection.recv(&mut input, &mut out, now)? else { panic!() };
//! assert_eq!(trailers.first("checksum"), Some(&b"5d41"[..]));
//! assert!(matches!(connection.recv(&mut input, &mut out, now)?, Event::EndOfRequest));
//! assert!(matches!(connection.recv(&mut input, &mut out, now)?, Event::Paused));
//! connection.answer(exchange, &ResponseHead::empty(StatusCode::NO_CONTENT, &[]), b"", &mut out, now)?;
//!
//! // The second is answered in chunks, before its end was asked for. The payload stays where it is: only what belongs around
//! // it is made.
//! let Event::Request(head, exchange) = connection.recv(&mut input, &mut out, now)? else { panic!() };
//! assert_eq!((head.path(), head.query()), ("/b", Some("c")));
//! let fields: [(&str, &[u8]); 1] = [("Content-Type", b"text/plain")];
//! let mut body = connection.respond(exchange, &ResponseHead::stream(StatusCode::OK, &fields), &mut out, now)?;
//! let payload = b"one chunk";
//! let frame = connection.frame(&mut body, payload.len())?;
//! for part in [frame.head.as_bytes(), payload, frame.tail] {
//!     out.extend_from_slice(part); // or as slices of a vectored write
//! }
//! connection.finish_with_trailers(body, &[("Checksum", b"9a0b")], &mut out, now)?;
//!
//! assert_eq!(connection.disposition(), Disposition::Finish);
//! assert_eq!(
//!     String::from_utf8(out)?,
//!     "HTTP/1.1 204 No Content\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n\
//!      HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
//!      Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n9\r\none chunk\r\n0\r\nChecksum: 9a0b\r\n\r\n"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod chunked;
pub mod client;
mod config;
mod connection;
mod date;
mod encode;
mod error;
mod exchange;
mod fields;
mod framing;
mod head;
mod mend;
mod response;
mod scan;
#[cfg(test)]
mod states;
mod status;
#[cfg(test)]
mod tests;

#[doc(no_inline)]
pub use client::{ClientConfig, ClientConnection, ClientError, ClientEvent, ClientTimeouts};
pub use config::{Config, Limits, Timeouts};
pub use connection::ServerConnection;
pub use encode::{BodyFrame, BodyLength};
pub use error::{Fault, RecvError, Refused, SendError};
pub use exchange::{BodyTx, Disposition, Event, Exchange, Expired, Timer};
pub use fields::{Field, Fields, FieldsIter};
pub use head::{HeadDecoder, OwnedRequestHead, RequestBody, RequestHead, Version};
pub use response::ResponseHead;
pub use status::StatusCode;
