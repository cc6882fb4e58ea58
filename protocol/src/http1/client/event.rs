//! What a client's connection gives to its caller: events, and the token with which a request's content is sent.

use super::error::ClientError;
use super::response::Response;
use crate::http1::exchange::BodyTx;
use crate::http1::fields::Fields;

/// A request whose head was sent. Has to be given to [`finish`](super::ClientConnection::finish), or to
/// [`abandon`](super::ClientConnection::abandon).
///
/// It belongs to the connection that gave it, and is not to be offered to another.
#[must_use = "a request has to be finished"]
#[derive(Debug, PartialEq, Eq)]
pub struct RequestTx(pub(super) BodyTx);

impl RequestTx {
    /// Whether the content goes in chunks.
    pub fn is_chunked(&self) -> bool {
        self.0.is_chunked()
    }
}

/// What came.
#[derive(Debug)]
pub enum ClientEvent<'b> {
    /// All that is there was taken, or more is needed: call again when more has come. After an upgrade, for ever: the
    /// input is another protocol's.
    NeedMore,
    /// An interim response: a final one follows. After `100 Continue` the content that waits for it may be sent.
    Informational(Response<'b>),
    /// The head of the final response. Its [`EndOfResponse`](ClientEvent::EndOfResponse) follows, with or without data
    /// between. See [`Response::is_early`].
    Response(Response<'b>),
    /// A part of the response's content, never empty.
    Data(&'b mut [u8]),
    /// The response's trailer fields, without those that have no place there.
    Trailers(Fields<'b>),
    /// The response is complete.
    EndOfResponse {
        /// Whether it said itself where it ends. If not, the connection ended, and nothing but TLS can tell whether that
        /// was the end or an accident (RFC 9112 sections 8 and 9.8).
        verified: bool,
    },
    /// A `101` to a request that offered the upgrade, or a 2xx to a CONNECT. Everything behind it in the input is the other
    /// protocol's, and now it may be written.
    Upgraded(Response<'b>),
    /// Nothing more will come and nothing is awaited: close. [`reuse`](super::ClientConnection::reuse) tells why.
    Closed,
}

/// A deadline that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "either content may be sent now, or the connection has failed"]
pub enum ClientExpired {
    /// No `100 Continue` came in time: the content may be sent without.
    SendContent,
    /// The connection has failed.
    Failed(ClientError),
}

/// What a client waits for, and fails without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientTimer {
    /// The first byte of a response.
    FirstByte,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
}
