//! Writing heads. Everything is validated before the first byte is written, so a response cannot be made malformed, and
//! no header can be smuggled into it.

use super::chunked::ChunkHead;
use super::config::Limits;
use super::error::SendError;
use super::fields::forbidden_in_trailers;
use super::scan::{VALUE, is, is_token};
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

/// How long a response's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none. Told as `Content-Length: 0` where a length is told at all; a 304 tells none.
    Empty,
    /// So many bytes.
    Known(u64),
    /// Not known: in chunks to HTTP/1.1, up to the end of the connection to HTTP/1.0.
    Unknown,
}

/// What to write around one part of a body: `head`, the payload, `tail`. Both are empty where the body is not chunked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyFrame {
    /// Goes before the payload.
    pub head: ChunkHead,
    /// Goes after it.
    pub tail: &'static [u8],
}

/// The line about the body's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LengthField {
    None,
    Bytes(u64),
    Chunked,
}

/// The options of the `Connection` line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionField {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

/// Which fields a caller may not set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// A final response: `Upgrade` may tell what could be spoken instead.
    Final,
    /// An interim response: `Upgrade` is the machine's too.
    Interim,
    Trailers,
}

/// Whether these fields can be sent there.
pub(super) fn check_fields(
    fields: &[(&str, &[u8])],
    section: Section,
    limits: &Limits,
) -> Result<(), SendError> {
    let mut bytes = 0_usize;
    for (name, value) in fields {
        if !is_token(name.as_bytes()) {
            return Err(SendError::FieldName);
        }
        if !value.iter().all(|byte| is(VALUE, *byte)) {
            return Err(SendError::FieldValue);
        }
        if is_reserved(name, section) {
            return Err(SendError::FieldReserved);
        }
        let line = name.len().saturating_add(value.len()).saturating_add(4);
        if line > limits.field_bytes {
            return Err(SendError::HeadTooLarge);
        }
        bytes = bytes.saturating_add(line);
    }
    if fields.len() > limits.fields as usize || bytes > limits.head_bytes {
        return Err(SendError::HeadTooLarge);
    }
    Ok(())
}

fn is_reserved(name: &str, section: Section) -> bool {
    const RESERVED: [&str; 7] =
        ["connection", "content-length", "date", "keep-alive", "proxy-connection", "te", "transfer-encoding"];
    RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
        || section == Section::Interim && name.eq_ignore_ascii_case("upgrade")
        || section == Section::Trailers && forbidden_in_trailers(name)
}

/// Whether a field is among these.
pub(super) fn has_field(fields: &[(&str, &[u8])], wanted: &str) -> bool {
    fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted))
}

/// `HTTP/1.1`, the status and its reason. We are a 1.1 server to 1.0 clients, too (RFC 9110 section 6.2).
pub(super) fn put_status(out: &mut impl Sink, status: StatusCode) {
    out.put(b"HTTP/1.1 ");
    out.put(&status.digits());
    out.put(b" ");
    out.put(status.reason().as_bytes());
    out.put(b"\r\n");
}

/// Lines that were checked.
pub(super) fn put_fields(out: &mut impl Sink, fields: &[(&str, &[u8])]) {
    for (name, value) in fields {
        out.put(name.as_bytes());
        out.put(b": ");
        out.put(value);
        out.put(b"\r\n");
    }
}

pub(super) fn put_date(out: &mut impl Sink, now: UnixMillis) {
    out.put(b"Date: ");
    out.put(&super::date::imf_fixdate(now));
    out.put(b"\r\n");
}

pub(super) fn put_length(out: &mut impl Sink, length: LengthField) {
    match length {
        LengthField::None => {}
        LengthField::Chunked => out.put(b"Transfer-Encoding: chunked\r\n"),
        LengthField::Bytes(bytes) => {
            let mut digits = [0_u8; 20];
            out.put(b"Content-Length: ");
            out.put(decimal(bytes, &mut digits));
            out.put(b"\r\n");
        }
    }
}

pub(super) fn put_connection(out: &mut impl Sink, connection: ConnectionField) {
    let options =
        [(connection.close, "close"), (connection.keep_alive, "keep-alive"), (connection.upgrade, "upgrade")];
    let mut before: &[u8] = b"Connection: ";
    for (_, option) in options.iter().filter(|(set, _)| *set) {
        out.put(before);
        out.put(option.as_bytes());
        before = b", ";
    }
    if before == b", " {
        out.put(b"\r\n");
    }
}

/// The number in decimal.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    &digits[start..]
}
