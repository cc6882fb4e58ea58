//! The heads of responses that are sent.

use super::encode::BodyLength;
use super::status::StatusCode;
use crate::output::Sink;
use crate::time::UnixMillis;

/// The head of a final response, as its author sees it.
///
/// `Date`, `Content-Length`, `Transfer-Encoding` and `Connection` are the machine's and must not be among the fields.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The status: 200 or above.
    pub status: StatusCode,
    /// Names and values, in the order in which they are sent.
    pub fields: &'a [(&'a str, &'a [u8])],
    /// The length of the content that a GET would be answered with. With an answer to HEAD, or a 304, none is sent, but
    /// the length is told.
    pub length: BodyLength,
}

impl<'a> ResponseHead<'a> {
    /// A response without content.
    pub const fn empty(status: StatusCode, fields: &'a [(&'a str, &'a [u8])]) -> Self {
        Self { status, fields, length: BodyLength::Empty }
    }

    /// A response whose content has this many bytes.
    pub const fn with_length(status: StatusCode, fields: &'a [(&'a str, &'a [u8])], bytes: u64) -> Self {
        Self { status, fields, length: BodyLength::Known(bytes) }
    }

    /// A response whose content ends when it ends.
    pub const fn stream(status: StatusCode, fields: &'a [(&'a str, &'a [u8])]) -> Self {
        Self { status, fields, length: BodyLength::Unknown }
    }
}

/// `HTTP/1.1`, the status and its reason. We are a 1.1 server to 1.0 clients, too (RFC 9110 section 6.2).
pub(super) fn put_status(out: &mut impl Sink, status: StatusCode) {
    out.put(b"HTTP/1.1 ");
    out.put(&status.digits());
    out.put(b" ");
    out.put(status.reason().as_bytes());
    out.put(b"\r\n");
}

pub(super) fn put_date(out: &mut impl Sink, now: UnixMillis) {
    out.put(b"Date: ");
    out.put(&super::date::imf_fixdate(now));
    out.put(b"\r\n");
}
