//! What can go wrong with a response, and why a connection is not used again.

use core::fmt;

use super::event::ClientTimer;
use crate::http1::error::Fault;

/// An exchange that cannot be gone on with. Fatal and sticky: the same error comes back from every later call, and the
/// connection is to be closed.
///
/// Whether the request may be sent again, on another connection, is the caller's to say (RFC 9110 section 9.2.2): here is what
/// it needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientError {
    /// What went wrong.
    pub failure: Failure,
    /// Whether a request had been put to its end.
    pub request_sent: bool,
    /// Whether anything had come in return, if only a byte or an interim response.
    pub response_began: bool,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl core::error::Error for ClientError {}

/// What went wrong while a response was awaited or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The response breaks a rule of the grammar or of framing, or is over a limit.
    Malformed(Fault),
    /// The connection ended before the first byte of a final response.
    NoResponse,
    /// The connection ended within a head.
    TruncatedHead,
    /// The connection ended before all of the content had come that was announced (RFC 9112 section 8).
    TruncatedLength {
        /// Bytes that came.
        got: u64,
        /// Bytes that were announced.
        want: u64,
    },
    /// The connection ended within content in chunks (RFC 9112 section 8).
    TruncatedChunks,
    /// Bytes came that no request had asked for (RFC 9112 section 9.2).
    Unsolicited,
    /// A `101` without a request that offered this protocol, or before that request was complete (RFC 9110 section 7.8).
    UnexpectedUpgrade,
    /// Over [`interim_responses`](super::ClientConfig::interim_responses).
    TooManyInterim,
    /// Something did not come in time.
    TimedOut(ClientTimer),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(fault) => return fault.fmt(f),
            Self::TruncatedLength { got, want } => {
                return write!(f, "the connection ended after {got} of {want} bytes of content");
            }
            Self::NoResponse => "the connection ended without a response",
            Self::TruncatedHead => "the connection ended within a response head",
            Self::TruncatedChunks => "the connection ended within chunked content",
            Self::Unsolicited => "bytes that no request asked for",
            Self::UnexpectedUpgrade => "an upgrade that was not offered",
            Self::TooManyInterim => "too many interim responses",
            Self::TimedOut(ClientTimer::FirstByte) => "no response came in time",
            Self::TimedOut(ClientTimer::Head) => "the response head took too long",
            Self::TimedOut(ClientTimer::Body) => "the response content took too long",
        })
    }
}

impl core::error::Error for Failure {}

/// Why a connection takes no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotReusable {
    /// An exchange is under way: later, perhaps. Requests are not pipelined here.
    Busy,
    /// The last request said `close`.
    RequestSaidClose,
    /// The last response, or an interim one, said `close`.
    ResponseSaidClose,
    /// The last response was of HTTP/1.0 and did not say `keep-alive`.
    Http10,
    /// The end of the last response was the end of the connection.
    CloseDelimited,
    /// The last request was answered, and its content then not sent to the end.
    RequestUnfinished,
    /// The last response had no content by its nature, but fields that give it a faulty length (RFC 9112 section 6.3):
    /// server and client may not agree on its end.
    FaultyLength,
    /// Bytes came that no request had asked for: see [`Failure::Unsolicited`].
    Unsolicited,
    /// It speaks another protocol.
    Upgraded,
    /// The server ended it between two exchanges.
    HungUp,
    /// It failed.
    Failed,
}

impl fmt::Display for NotReusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "an exchange is under way",
            Self::RequestSaidClose => "the last request said close",
            Self::ResponseSaidClose => "the last response said close",
            Self::Http10 => "the server speaks HTTP/1.0 and did not say keep-alive",
            Self::CloseDelimited => "the last response ended with the connection",
            Self::RequestUnfinished => "the last request was not sent to its end",
            Self::FaultyLength => "the length of the last response is in doubt",
            Self::Unsolicited => "bytes came that no request asked for",
            Self::Upgraded => "the connection speaks another protocol",
            Self::HungUp => "the server ended the connection",
            Self::Failed => "the connection has failed",
        })
    }
}

impl core::error::Error for NotReusable {}
