//! Writing heads, of either role. Everything is validated before the first byte is written, so a message cannot be made
//! malformed, and no header can be smuggled into it.

use super::chunked::ChunkHead;
use super::config::Limits;
use super::error::SendError;
use super::fields::forbidden_in_trailers;
use super::scan::{VALUE, is, is_token};
use crate::output::Sink;

/// How long a message's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none. Told as `Content-Length: 0` where a length is told at all: a 304 tells none, and of the requests
    /// those that have content by their nature (PATCH, POST, PUT) tell it.
    Empty,
    /// So many bytes.
    Known(u64),
    /// Not known: in chunks to HTTP/1.1; a response to HTTP/1.0 goes up to the end of the connection.
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

impl BodyFrame {
    /// Puts the frame and the payload, unless that is empty.
    pub(super) fn put(&self, payload: &[u8], out: &mut impl Sink) {
        if !payload.is_empty() {
            out.put(self.head.as_bytes());
            out.put(payload);
            out.put(self.tail);
        }
    }
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
    pub(super) te: bool,
}

/// Which fields a caller may not set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// A final response: `Upgrade` may tell what could be spoken instead.
    Final,
    /// An interim response: `Upgrade` is the machine's too.
    Interim,
    /// A request: what routes it, and what it expects, are the machine's too.
    Request,
    Trailers,
}

/// The most field lines that a machine adds to those of a response: `Date`, the length, `Connection`.
const OWN_LINES: usize = 3;
/// The most bytes of these lines, of the status line and of the last line.
const OWN_BYTES: usize = 160;

/// Whether these fields can be sent there, and can be read by who has the same limits. The head of a request is measured
/// as a whole, with [`Size`].
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
    let head = (limits.fields, limits.head_bytes);
    let ((most_lines, most_bytes), own_lines, own_bytes) = match section {
        Section::Final | Section::Interim => (head, OWN_LINES, OWN_BYTES),
        Section::Request => (head, 0, 0),
        Section::Trailers => ((limits.trailer_fields, limits.trailer_bytes), 0, 2),
    };
    let fits =
        fields.len() + own_lines <= usize::from(most_lines) && bytes.saturating_add(own_bytes) <= most_bytes;
    // What the machine says by itself has to be said, whatever the limits.
    if fits || fields.is_empty() { Ok(()) } else { Err(SendError::HeadTooLarge) }
}

/// How large a head is: what is put is counted, and goes nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) bytes: usize,
    pub(super) lines: usize,
}

impl Sink for Size {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.lines += bytes.split(|byte| *byte == b'\n').skip(1).count();
    }
}

fn is_reserved(name: &str, section: Section) -> bool {
    const RESERVED: [&str; 6] =
        ["connection", "content-length", "keep-alive", "proxy-connection", "te", "transfer-encoding"];
    let is_among = |names: &[&str]| names.iter().any(|reserved| name.eq_ignore_ascii_case(reserved));
    is_among(&RESERVED)
        || match section {
            Section::Final => is_among(&["date"]),
            Section::Interim => is_among(&["date", "upgrade"]),
            Section::Request => is_among(&["expect", "host", "upgrade"]),
            Section::Trailers => forbidden_in_trailers(name),
        }
}

/// Whether a field is among these.
pub(super) fn has_field(fields: &[(&str, &[u8])], wanted: &str) -> bool {
    fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted))
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
    let options = [
        (connection.close, "close"),
        (connection.keep_alive, "keep-alive"),
        (connection.upgrade, "upgrade"),
        (connection.te, "TE"),
    ];
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

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: (&str, &[u8]) = ("name", b"12"); // with what stands between and behind

    #[test]
    fn a_line_may_be_as_long_as_the_limit() {
        let check =
            |field_bytes| check_fields(&[TEN], Section::Final, &Limits { field_bytes, ..Limits::default() });
        assert_eq!((check(10), check(9)), (Ok(()), Err(SendError::HeadTooLarge)));
    }

    #[test]
    fn a_section_may_be_as_large_as_its_limits_with_what_is_added() {
        for (section, own_lines, own_bytes) in
            [(Section::Final, OWN_LINES, OWN_BYTES), (Section::Request, 0, 0), (Section::Trailers, 0, 2)]
        {
            let check = |lines: usize, bytes| {
                let fields = lines as u16;
                let limits = Limits {
                    fields,
                    head_bytes: bytes,
                    trailer_fields: fields,
                    trailer_bytes: bytes,
                    ..Limits::default()
                };
                check_fields(&[TEN; 2], section, &limits)
            };
            let (lines, bytes) = (2 + own_lines, 20 + own_bytes);
            assert_eq!(check(lines, bytes), Ok(()));
            assert_eq!(check(lines - 1, bytes), Err(SendError::HeadTooLarge));
            assert_eq!(check(lines, bytes - 1), Err(SendError::HeadTooLarge));
        }
    }
}
