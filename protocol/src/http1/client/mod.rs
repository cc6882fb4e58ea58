//! The client's side of a connection.
//!
//! [`ClientConnection`] is the counterpart of [`ServerConnection`](super::ServerConnection), and works as that does: bytes
//! come in through an [`Input`](crate::Input), events that borrow them come out, requests are put into a
//! [`Sink`](crate::Sink), or written by the caller around its own payload. It is strict: a response whose end is in doubt is
//! refused, one that was cut off is told from one that is complete, and what no request asked for is no response.
//!
//! ```text
//!   request ── RequestTx ── frame/data* ─┬─ finish ─┐
//!                                        └─ abandon ┤
//!   send ───────────────────────────────────────────┴───► reuse: the next request, or why there is none
//!
//!   recv: Informational* ─┬─ Response ── Data* ── Trailers? ── EndOfResponse ── (Closed)
//!                         └─ Upgraded: the input is another protocol's
//! ```
//!
//! Sending and reading go their own ways, as a response may come at any time after the request's head:
//!
//! | request | is left by | for |
//! | --- | --- | --- |
//! | `Idle` | `request` with content, that is expected by `100 Continue` or not | `Waiting`, `Sending` |
//! | `Idle` | `send`; `request` without content | `Sent` |
//! | `Waiting` | `100 Continue`; its deadline | `Sending` |
//! | `Waiting` | a final response | `Abandoned` |
//! | `Sending` | `finish` | `Sent` |
//! | `Sending` | a final response that is not a 2xx and says `close`; `abandon` | `Abandoned` |
//! | `Sent`, `Abandoned` | the end of the response | `Idle` |
//!
//! | response | is done by | what follows |
//! | --- | --- | --- |
//! | `Head` | the empty line of an interim response | `Informational`; `Head` |
//! | `Head` | the empty line of a final one | `Response`; `Length`, `Chunked`, `UntilClose` or `Ended` |
//! | `Head` | a 101 that was offered, a 2xx to CONNECT | `Upgraded` |
//! | `Head` | the end of the input, or a 408 or 503 that says `close`, while there is no request | `Closed` |
//! | `Length`, `Chunked` | the body's last byte | `Data`, `Trailers`; `Ended` |
//! | `UntilClose` | the end of the input | `Data`; `Ended` |
//! | `Ended` | being told | `EndOfResponse`; `Told` |
//! | `Told` | the end of the request | `Head`, or `Closed` where the connection cannot be used again |
//! | any | a fault, a deadline, an end of the input that comes too soon | `Failed` |
//!
//! **One exchange at a time.** Requests are not pipelined: a server could answer fewer than were sent, and only the caller
//! knows which may be repeated. What failed, whether the request had been sent whole, and whether anything had come back
//! are in a [`ClientError`]; whether the connection can be used again, or why not, is in [`ClientConnection::reuse`].
//!
//! **Deadlines** are data: [`ClientTimeouts`]. When that of `100 Continue` passes, the content may be sent without
//! ([`ClientExpired::SendContent`]); every other fails the connection.
//!
//! # A conversation
//!
//! ```
//! use std::sync::Arc;
//! use keepwatch_protocol::http1::client::{ClientConfig, ClientConnection, ClientEvent, Request};
//! use keepwatch_protocol::http1::{BodyLength, StatusCode};
//! use keepwatch_protocol::{Input, Now};
//!
//! let now = Now::default();
//! let mut connection = ClientConnection::new(Arc::new(ClientConfig::default()));
//! let mut out = Vec::new();
//!
//! // A request with content whose length is not known goes in chunks. The payload stays where it is.
//! let fields: [(&str, &[u8]); 1] = [("Content-Type", b"text/plain")];
//! let post = Request {
//!     fields: &fields,
//!     length: BodyLength::Unknown,
//!     trailers: true,
//!     ..Request::new("POST", "example.com", "/log?today")
//! };
//! let mut body = connection.request(&post, &mut out, now)?;
//! let payload = b"one chunk";
//! let frame = connection.frame(&mut body, payload.len())?;
//! for part in [frame.head.as_bytes(), payload, frame.tail] {
//!     out.extend_from_slice(part); // or as slices of a vectored write
//! }
//! connection.finish(body, &mut out, now)?;
//! assert_eq!(
//!     String::from_utf8(std::mem::take(&mut out))?,
//!     "POST /log?today HTTP/1.1\r\nHost: example.com\r\nContent-Type: text/plain\r\n\
//!      Transfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\n\r\n9\r\none chunk\r\n0\r\n\r\n"
//! );
//!
//! // What comes in return.
//! let mut received = b"HTTP/1.1 103 Early Hints\r\nLink: </style>\r\n\r\n\
//!                      HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
//!                      5\r\nhello\r\n0\r\nContent-Digest: x\r\n\r\n"
//!     .to_vec();
//! let mut input = Input::new(&mut received);
//! let ClientEvent::Informational(hints) = connection.recv(&mut input, now)? else { panic!() };
//! assert_eq!(hints.fields().first("link"), Some(&b"</style>"[..]));
//! let ClientEvent::Response(response) = connection.recv(&mut input, now)? else { panic!() };
//! assert_eq!((response.status(), response.is_early()), (StatusCode::OK, false));
//! assert!(matches!(connection.recv(&mut input, now)?, ClientEvent::Data(data) if data == b"hello"));
//! assert!(matches!(connection.recv(&mut input, now)?, ClientEvent::Trailers(fields) if fields.iter().count() == 1));
//! assert!(matches!(connection.recv(&mut input, now)?, ClientEvent::EndOfResponse { verified: true }));
//!
//! // The connection can be used again.
//! assert_eq!(connection.reuse(), Ok(()));
//! connection.send(&Request::get("example.com", "/"), b"", &mut out, now)?;
//! assert_eq!(out, b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod connection;
mod error;
mod event;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use config::{ClientConfig, ClientTimeouts};
pub use connection::ClientConnection;
pub use error::{ClientError, Failure, NotReusable};
pub use event::{ClientEvent, ClientExpired, ClientTimer, RequestTx};
pub use request::{Request, Target};
pub use response::{OwnedResponse, Response, ResponseBody};
