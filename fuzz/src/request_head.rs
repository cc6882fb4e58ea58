//! The two ways of reading a request's head: one that comes whole goes through a fast parser and the checks around it, one that
//! comes in parts through a validator of our own. What they make of the same bytes is the same, and what they accept keeps the
//! rules that smuggling breaks (RFC 9112 sections 2.2, 3.2 and 6.3).

use keepwatch_protocol::Input;
use keepwatch_protocol::http1::{Fault, HeadDecoder, Limits, RequestBody, RequestHead, Version};

/// Longer heads meet the same code again.
const LONGEST: usize = 4 * 1024;

/// Reads the bytes whole, byte by byte, and in parts whose sizes follow from the first byte.
pub fn request_head(data: &[u8]) {
    let Some((&seed, wire)) = data.split_first() else { return };
    if wire.len() > LONGEST {
        return;
    }
    let whole = read(wire, wire.len().max(1));
    assert_eq!(whole, read(wire, 1), "byte by byte");
    assert_eq!(whole, read(wire, usize::from(seed % 64) + 2), "in parts");
}

/// What came of a head.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Head(Summary),
    Unfinished,
    Refused(Fault),
}

/// All that a head says.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    length: usize,
    method: String,
    target: String,
    version: Version,
    fields: Vec<(String, Vec<u8>)>,
    authority: Option<String>,
    body: RequestBody,
    expects_continue: bool,
    keep_alive: bool,
    upgrades: bool,
}

/// Gives the decoder so many bytes more each time, as a socket would.
fn read(wire: &[u8], step: usize) -> Outcome {
    let (limits, mut decoder) = (Limits::default(), HeadDecoder::new());
    let mut bytes = wire.to_vec();
    let mut end = 0;
    while end < bytes.len() {
        end = (end + step).min(bytes.len());
        let mut input = Input::new(&mut bytes[..end]);
        match decoder.decode(&mut input, &limits) {
            Ok(None) => assert_eq!(input.consumed(), 0, "a part of a head was taken"),
            Ok(Some(head)) => {
                let length = input.consumed();
                check(&wire[..length], &head);
                return Outcome::Head(summary(&head, length));
            }
            Err(fault) => return Outcome::Refused(fault),
        }
    }
    Outcome::Unfinished
}

fn summary(head: &RequestHead<'_>, length: usize) -> Summary {
    Summary {
        length,
        method: head.method().into(),
        target: head.target().into(),
        version: head.version(),
        fields: head.fields().iter().map(|field| (field.name.into(), field.value.into())).collect(),
        authority: head.authority().map(Into::into),
        body: head.body(),
        expects_continue: head.expects_continue(),
        keep_alive: head.keep_alive(),
        upgrades: head.wants_upgrade_to("websocket"),
    }
}

/// What holds for every head that is accepted, looked up in the bytes in the plainest way.
fn check(wire: &[u8], head: &RequestHead<'_>) {
    assert!(wire.ends_with(b"\r\n\r\n"));
    let text = wire.strip_suffix(b"\r\n\r\n").unwrap_or_default();
    let lines: Vec<&[u8]> = split_lines(text);
    for line in &lines {
        assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "a control character in a line");
    }
    let named = |name: &str| {
        let fields = lines.iter().skip(1).filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then_some(&line[colon + 1..])
        });
        fields.collect::<Vec<_>>()
    };
    let (hosts, lengths, codings) = (named("host"), named("content-length"), named("transfer-encoding"));
    assert!(hosts.len() == 1 || (hosts.is_empty() && head.version() == Version::Http10), "Host");
    assert!(lengths.len() <= 1 && (lengths.is_empty() || codings.is_empty()), "two lengths");
    match head.body() {
        RequestBody::None => assert!(codings.is_empty() && lengths.is_empty()),
        RequestBody::Length(length) => {
            let digits = lengths.first().map(|value| value.trim_ascii());
            let said = digits.and_then(|digits| str_of(digits).parse().ok());
            assert!(digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit)));
            assert_eq!(said, Some(length));
        }
        RequestBody::Chunked => {
            assert!(head.version() == Version::Http11);
            assert!(matches!(codings[..], [coding] if coding.trim_ascii().eq_ignore_ascii_case(b"chunked")));
        }
    }
}

fn split_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

fn str_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
