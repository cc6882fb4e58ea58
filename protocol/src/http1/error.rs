//! What can go wrong, on either side.
//!
//! - The **peer** broke a rule: a [`Fault`], told by [`RecvError`], or by a client's
//!   [`ClientError`](super::client::ClientError). It is fatal and sticky, and where a response can still be
//!   sent it is in the output already. [`Fault::status`] and [`Fault::reason`] read the one table of them.
//! - The **caller** broke a rule: a [`SendError`]. Nothing was written, nothing has changed, the token comes back in
//!   [`Refused`].

use core::fmt;

use super::client::NotReusable;
use super::status::StatusCode;

macro_rules! faults {
    ($($(#[$meta:meta])* $name:ident: $status:ident $reason:literal;)*) => {
        /// What a peer did wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[$meta])* $name,)*
        }

        impl Fault {
            /// The status that it is answered with; of a fault in a response, that with which a gateway tells of it.
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }

            /// The same in words, as the answer's body says them. Never holds a byte of what the peer sent.
            pub const fn reason(self) -> &'static str {
                match self {
                    $(Self::$name => $reason,)*
                }
            }

            /// Every fault there is.
            #[cfg(test)]
            pub(super) const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

faults! {
    /// The first byte is that of a TLS handshake.
    Tls: BAD_REQUEST "this is TLS, and plain HTTP is spoken here";
    /// The request line is not a method, a target and a version with one space between (RFC 9112 section 3).
    RequestLine: BAD_REQUEST "malformed request line";
    /// The status line is not a version, three digits and perhaps a reason (RFC 9112 section 4).
    StatusLine: BAD_GATEWAY "malformed status line";
    /// The status is below 100 (RFC 9110 section 15).
    Status: BAD_GATEWAY "status below 100";
    /// The request-target has none of the four forms, or not the one that the method needs (RFC 9112 section 3.2).
    Target: BAD_REQUEST "invalid request target";
    /// The version is not `HTTP/`, a digit, a dot and a digit (RFC 9112 section 2.3).
    VersionGrammar: BAD_REQUEST "malformed HTTP version";
    /// The major version is not 1.
    Version: HTTP_VERSION_NOT_SUPPORTED "only HTTP/1.1 and HTTP/1.0 are spoken here";
    /// A line ends with LF alone.
    BareLf: BAD_REQUEST "a line must end with CR LF";
    /// A CR is not followed by LF.
    BareCr: BAD_REQUEST "CR without LF";
    /// Over [`leading_empty_lines`](super::Limits::leading_empty_lines).
    EmptyLines: BAD_REQUEST "too many empty lines before the head";
    /// A field line has no valid name, or no colon (RFC 9110 section 5.1).
    FieldName: BAD_REQUEST "malformed field name";
    /// Whitespace between a field's name and the colon (RFC 9112 section 5.1).
    SpaceBeforeColon: BAD_REQUEST "whitespace before a colon";
    /// A line begins with whitespace: before the first field, in a request a folded one, and in a response a folded one
    /// that frames it (RFC 9112 section 5.2).
    Fold: BAD_REQUEST "a field line begins with whitespace";
    /// A control character in a field's value (RFC 9110 section 5.5).
    FieldValue: BAD_REQUEST "invalid character in a field value";
    /// `Host` is missing, there are several, or it is no host and port (RFC 9112 section 3.2).
    Host: BAD_REQUEST "exactly one valid Host field is needed";
    /// `Connection` is not a list of tokens (RFC 9110 section 7.6.1).
    Connection: BAD_REQUEST "malformed Connection field";
    /// Too many empty members in the list of an `Expect` or `Upgrade` (RFC 9110 section 5.6.1.2).
    List: BAD_REQUEST "too many empty members in a list";
    /// `Content-Length` is not one number, or is there twice (RFC 9112 section 6.3).
    ContentLength: BAD_REQUEST "invalid Content-Length";
    /// `Transfer-Encoding` is no list of codings, or does not end in one `chunked` (RFC 9112 section 6.3).
    TransferEncoding: BAD_REQUEST "invalid Transfer-Encoding";
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 section 6.1).
    BothLengths: BAD_REQUEST "Content-Length and Transfer-Encoding together";
    /// `Transfer-Encoding` in an HTTP/1.0 message (RFC 9112 section 6.1).
    TransferEncodingInHttp10: BAD_REQUEST "Transfer-Encoding in an HTTP/1.0 message";
    /// A transfer coding other than `chunked` (RFC 9112 section 6.1).
    Coding: NOT_IMPLEMENTED "no transfer coding but chunked is understood";
    /// An expectation other than `100-continue` (RFC 9110 section 10.1.1).
    Expectation: EXPECTATION_FAILED "no expectation but 100-continue can be met";
    /// Over [`method_bytes`](super::Limits::method_bytes).
    MethodTooLong: NOT_IMPLEMENTED "method too long";
    /// Over [`target_bytes`](super::Limits::target_bytes).
    TargetTooLong: URI_TOO_LONG "request target too long";
    /// Over [`head_bytes`](super::Limits::head_bytes).
    HeadTooLarge: REQUEST_HEADER_FIELDS_TOO_LARGE "head too large";
    /// Over [`field_bytes`](super::Limits::field_bytes).
    FieldTooLarge: REQUEST_HEADER_FIELDS_TOO_LARGE "field line too large";
    /// Over [`fields`](super::Limits::fields).
    TooManyFields: REQUEST_HEADER_FIELDS_TOO_LARGE "too many field lines";
    /// A chunk's size is missing or malformed (RFC 9112 section 7.1).
    ChunkSize: BAD_REQUEST "malformed chunk size";
    /// A chunk's size does not fit 64 bits, or is padded beyond reason.
    ChunkSizeTooLarge: BAD_REQUEST "chunk size too large";
    /// A chunk's extensions are malformed (RFC 9112 section 7.1.1).
    ChunkExtension: BAD_REQUEST "malformed chunk extension";
    /// Over [`chunk_extension_bytes`](super::Limits::chunk_extension_bytes) or
    /// [`extension_bytes`](super::Limits::extension_bytes).
    ExtensionsTooLarge: BAD_REQUEST "chunk extensions too large";
    /// A chunk's data are not followed by CR LF.
    ChunkEnd: BAD_REQUEST "chunk data must end with CR LF";
    /// Over [`chunk_overhead`](super::Limits::chunk_overhead).
    ChunkOverhead: BAD_REQUEST "too much framing for so little content";
    /// Over [`trailer_bytes`](super::Limits::trailer_bytes) or [`trailer_fields`](super::Limits::trailer_fields).
    TrailersTooLarge: REQUEST_HEADER_FIELDS_TOO_LARGE "trailer section too large";
    /// Over [`body_bytes`](super::Limits::body_bytes).
    BodyTooLarge: CONTENT_TOO_LARGE "content too large";
    /// The peer ended its side within a request.
    Incomplete: BAD_REQUEST "the connection ended within the request";
    /// The head did not come in time.
    HeadTimeout: REQUEST_TIMEOUT "the request head took too long";
    /// The body did not come in time.
    BodyTimeout: REQUEST_TIMEOUT "the request content took too long";
    /// Our own: no response in time.
    Handler: INTERNAL_SERVER_ERROR "the request was not answered in time";
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl core::error::Error for Fault {}

/// A request that cannot be gone on with. Fatal and sticky: the same error comes back from every later call.
///
/// If `answered`, the whole response is in the output: write it and finish the connection. If not, a response was under
/// way already and has to be cut off: abort the connection, so that the client can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecvError {
    /// What the peer did wrong.
    pub fault: Fault,
    /// The status that belongs to it.
    pub status: StatusCode,
    /// The same in words.
    pub reason: &'static str,
    /// Whether a response with this status was put into the output (when the error was told first).
    pub answered: bool,
}

impl RecvError {
    pub(super) const fn new(fault: Fault, answered: bool) -> Self {
        Self { fault, status: fault.status(), reason: fault.reason(), answered }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status.code(), self.reason)
    }
}

impl core::error::Error for RecvError {}

/// A mistake of the caller. Nothing was written and the connection is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendError {
    /// The token's exchange is over: answered by the machine, timed out, or failed.
    Stale,
    /// No request can be sent on this connection, now or ever: the reason says which.
    NotReusable(NotReusable),
    /// A method is not a token.
    Method,
    /// A request-target that has another form than its method needs, or a character that no target has (RFC 9112
    /// section 3.2).
    Target,
    /// An authority that is no host and perhaps a port, or has user information (RFC 9110 section 4.2.4). A CONNECT needs
    /// a port.
    Authority,
    /// `Expect: 100-continue` without content (RFC 9110 section 10.1.1).
    ExpectWithoutContent,
    /// The content waits for `100 Continue`, or for its [deadline](super::ClientTimeouts::expect_continue).
    AwaitsContinue,
    /// The server has answered, and takes no more of the request.
    Unwanted,
    /// Content of unknown length to a server that speaks HTTP/1.0 (RFC 9112 section 6.1).
    ChunkedToHttp10,
    /// What is offered in `Upgrade` is no list of protocols (RFC 9110 section 7.8).
    UpgradeMalformed,
    /// A final response needs a status from 200 on.
    NotFinal,
    /// An interim response needs a 1xx status other than 100 ([`proceed`](super::ServerConnection::proceed)) and 101
    /// ([`upgrade`](super::ServerConnection::upgrade)).
    NotInterim,
    /// HTTP/1.0 knows no interim responses (RFC 9110 section 15.2).
    InterimToHttp10,
    /// A field's name is not a token.
    FieldName,
    /// A field's value has a control character in it.
    FieldValue,
    /// The field belongs to the machine (framing, `Connection` and the like, `Date`), or must not stand in a trailer.
    FieldReserved,
    /// More fields, or more bytes of them, than the limits for heads or trailers allow, with those that the machine adds.
    HeadTooLarge,
    /// The message has no content by its nature (204, 205, 304, an answer to HEAD or CONNECT; a TRACE or CONNECT).
    NoContent,
    /// More content than the length that the head announced.
    TooLong,
    /// Less content than the length that the head announced.
    TooShort,
    /// The request's body has to be read first.
    RequestUnread,
    /// The client did not ask for this upgrade.
    UpgradeNotOffered,
    /// A 426 has to name a protocol in `Upgrade` (RFC 9110 section 15.5.22).
    UpgradeMissing,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale => "the exchange is over",
            Self::NotReusable(reason) => return reason.fmt(f),
            Self::Method => "a method must be a token",
            Self::Target => "invalid request target",
            Self::Authority => "the authority must be a host, perhaps with a port, and nothing else",
            Self::ExpectWithoutContent => "100-continue is expected only with content",
            Self::AwaitsContinue => "the content waits for 100 Continue",
            Self::Unwanted => "the server takes no more of the request",
            Self::ChunkedToHttp10 => "HTTP/1.0 knows no chunks",
            Self::UpgradeMalformed => "an upgrade must name protocols",
            Self::NotFinal => "a final response needs a status from 200 on",
            Self::NotInterim => "an interim response needs a status of 102 to 199",
            Self::InterimToHttp10 => "HTTP/1.0 knows no interim responses",
            Self::FieldName => "a field name must be a token",
            Self::FieldValue => "a field value must have no control characters",
            Self::FieldReserved => "the field is not the caller's to set",
            Self::HeadTooLarge => "the fields are over the limits for heads",
            Self::NoContent => "the message has no content by its nature",
            Self::TooLong => "more content than announced",
            Self::TooShort => "less content than announced",
            Self::RequestUnread => "the request's content must be read first",
            Self::UpgradeNotOffered => "the client did not ask for this upgrade",
            Self::UpgradeMissing => "a 426 must have an Upgrade field",
        })
    }
}

impl core::error::Error for SendError {}

/// A call that was refused, and the token that it would have used up: it can be used again.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused<T> {
    /// The token, as it was.
    pub token: T,
    /// Why.
    pub error: SendError,
}

impl<T> fmt::Display for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: fmt::Debug> core::error::Error for Refused<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_in_json_as_they_are() {
        for fault in Fault::ALL {
            assert!(fault.reason().bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\'));
            assert!(fault.status().code() >= 400);
        }
    }

    #[test]
    fn each_fault_has_its_status() {
        for fault in Fault::ALL {
            let status = match fault {
                Fault::BodyTimeout | Fault::HeadTimeout => 408,
                Fault::BodyTooLarge => 413,
                Fault::TargetTooLong => 414,
                Fault::Expectation => 417,
                Fault::FieldTooLarge
                | Fault::HeadTooLarge
                | Fault::TooManyFields
                | Fault::TrailersTooLarge => 431,
                Fault::Handler => 500,
                Fault::Coding | Fault::MethodTooLong => 501,
                Fault::Status | Fault::StatusLine => 502,
                Fault::Version => 505,
                _ => 400,
            };
            assert_eq!(fault.status().code(), status, "{fault:?}");
        }
    }
}
