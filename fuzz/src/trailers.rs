//! Trailer sections, which [`chunked`](crate::chunked) reads without limits and the connections send from a fixed few. Here are
//! the limits, at the byte that passes them; the fields that must not stand there, all of them and no others; and any names and
//! values through our encoder, to be read by [`reader`](crate::reader) and by the decoder.

use std::sync::Arc;

use keepwatch_protocol::http1::chunked::{Chunk, Decoder};
use keepwatch_protocol::http1::{
    Config, Event, Fault, Field, Limits, ResponseHead, SendError, ServerConnection, StatusCode,
};
use keepwatch_protocol::{Input, Now};

use crate::reader::{End, Kind, Message};

/// Longer sections meet the same code again.
const LONGEST: usize = 2 * 1024;

/// The first byte says what the rest is, the section as it came or lines `name:value` to be sent, and has the limits; the
/// second says how the section is cut.
pub fn trailers(data: &[u8]) {
    let [flags, split, rest @ ..] = data else { return };
    if rest.len() > LONGEST {
        return;
    }
    let limits = limits(flags / 2);
    if flags & 1 == 0 {
        received(rest, &limits, *split);
    } else {
        sent(rest, limits, *split);
    }
}

/// The defaults, or some that are soon met.
fn limits(choice: u8) -> Limits {
    let default = Limits::default();
    let choose = |index: u8, small: [usize; 3], large: usize| match choice >> (2 * index) & 3 {
        0 => large,
        one => small[usize::from(one) - 1],
    };
    Limits {
        trailer_fields: choose(0, [1, 2, 5], usize::from(default.trailer_fields)) as u16,
        field_bytes: choose(1, [8, 12, 24], default.field_bytes),
        trailer_bytes: choose(2, [2, 16, 64], default.trailer_bytes),
        ..default
    }
}

type Lines = Vec<(String, Vec<u8>)>;

/// What becomes of a section.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Its fields, and how many bytes it has.
    Complete(Lines, usize),
    Unfinished,
    Malformed,
    TooLarge,
}

// ---------------------------------------------------------------------------------------------------------- received

fn received(section: &[u8], limits: &Limits, split: u8) {
    let expected = read(section, limits);
    for step in [section.len().max(1), 1, usize::from(split) + 2] {
        assert_eq!(decode(section, limits, step), expected, "{step} bytes at a time");
    }
}

/// `*( field-line CRLF ) CRLF` (RFC 9112 section 7.1.2), a byte at a time, and what of it may be told.
fn read(section: &[u8], limits: &Limits) -> Outcome {
    let (mut lines, mut at): (Lines, usize) = (Vec::new(), 0);
    loop {
        // A line up to its CR; whether its colon was seen; and where its value begins.
        let (start, mut colon) = (at, None);
        loop {
            if at >= limits.trailer_bytes {
                return Outcome::TooLarge;
            }
            let Some(&byte) = section.get(at) else { return Outcome::Unfinished };
            if at - start > limits.field_bytes {
                return Outcome::TooLarge;
            }
            match (colon, byte) {
                (None, b'\r') if at == start => break,
                (None, b':') if at > start => colon = Some(at),
                (None, _) if !is_token(byte) => return Outcome::Malformed,
                (None, _) if at == start && lines.len() >= usize::from(limits.trailer_fields) => {
                    return Outcome::TooLarge;
                }
                (Some(_), b'\r') => break,
                (Some(_), 0..=8 | 10..=31 | 127) => return Outcome::Malformed,
                _ if at - start >= limits.field_bytes => return Outcome::TooLarge,
                _ => {}
            }
            at += 1;
        }
        let line = &section[start..at];
        at += 1;
        if at >= limits.trailer_bytes {
            return Outcome::TooLarge;
        }
        match section.get(at) {
            None => return Outcome::Unfinished,
            Some(b'\n') => at += 1,
            Some(_) => return Outcome::Malformed,
        }
        let Some(colon) = colon else {
            lines.retain(|(name, _)| !is_forbidden(name));
            return Outcome::Complete(lines, at);
        };
        let (name, value) = line.split_at(colon - start);
        lines.push((String::from_utf8_lossy(name).into_owned(), trimmed(&value[1..])));
    }
}

fn decode(section: &[u8], limits: &Limits, step: usize) -> Outcome {
    const LAST_CHUNK: &[u8] = b"0\r\n";
    let mut decoder = Decoder::new();
    let (mut held, mut told, mut taken) = (LAST_CHUNK.to_vec(), None, 0);
    // Once without a byte of the section.
    for part in [&[][..]].into_iter().chain(section.chunks(step)) {
        held.extend_from_slice(part);
        let mut input = Input::new(&mut held);
        let end = loop {
            match decoder.decode(&mut input, limits) {
                Ok(Chunk::NeedMore) => break None,
                Ok(Chunk::Trailers(fields)) => {
                    let owned = |field: Field<'_>| (field.name.to_owned(), field.value.to_vec());
                    let before = told.replace(fields.iter().map(owned).collect());
                    assert_eq!(before, None, "two sections");
                    for field in &fields {
                        assert_eq!(fields.first(field.name), fields.all(field.name).next());
                    }
                }
                Ok(Chunk::End) => break Some(Ok(())),
                Ok(Chunk::Data(data)) => panic!("data: {}", data.escape_ascii()),
                Err(fault) => break Some(Err(fault)),
            }
        };
        let consumed = input.consumed();
        held.drain(..consumed);
        taken += consumed;
        match end {
            None => {}
            Some(Ok(())) => return Outcome::Complete(told.unwrap_or_default(), taken - LAST_CHUNK.len()),
            Some(Err(Fault::TrailersTooLarge)) => return Outcome::TooLarge,
            Some(Err(_)) => return Outcome::Malformed,
        }
    }
    Outcome::Unfinished
}

// -------------------------------------------------------------------------------------------------------------- sent

fn sent(script: &[u8], limits: Limits, split: u8) {
    let lines: Lines = script
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let name = String::from_utf8_lossy(&line[..colon]).into_owned();
            (name, line.get(colon + 1..).unwrap_or_default().to_vec())
        })
        .collect();
    let fields: Vec<(&str, &[u8])> =
        lines.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let problems = problems(&fields, &limits);

    let config = Arc::new(Config { limits: limits.clone(), ..Config::default() });
    let mut connection = ServerConnection::new(config, Now::default());
    let (mut out, mut request) = (Vec::new(), *b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let Ok(Event::Request(_, exchange)) =
        connection.recv(&mut Input::new(&mut request), &mut out, Now::default())
    else {
        panic!("no request");
    };
    let head = ResponseHead::stream(StatusCode::OK, &[]);
    let body = connection.respond(exchange, &head, &mut out, Now::default()).expect("a request was read");
    let before = out.len();
    match connection.finish_with_trailers(body, &fields, &mut out, Now::default()) {
        Ok(()) => assert_eq!(problems, [], "something of it is wrong"),
        Err(refused) => {
            assert!(problems.contains(&refused.error), "{} is not in {problems:?}", refused.error);
            assert_eq!(out.len(), before, "a refusal puts nothing");
            return;
        }
    }
    let expected: Lines = fields.iter().map(|(name, value)| ((*name).to_owned(), trimmed(value))).collect();
    let section = out[before..].strip_prefix(b"0\r\n").expect("the last chunk");
    for step in [section.len(), 1, usize::from(split) + 2] {
        let whole = Outcome::Complete(expected.clone(), section.len());
        assert_eq!(decode(section, &limits, step), whole, "{step} bytes at a time");
    }
    let message = Message::read(&out, Kind::Response).expect("a head");
    assert_eq!((message.end, message.length), (End::Complete, out.len()));
    let lower: Lines = expected.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    assert_eq!(message.trailers, lower);
}

/// Everything for which a section must be refused.
fn problems(fields: &[(&str, &[u8])], limits: &Limits) -> Vec<SendError> {
    let (mut problems, mut bytes) = (Vec::new(), b"\r\n".len());
    for (name, value) in fields {
        if name.is_empty() || !name.bytes().all(is_token) {
            problems.push(SendError::FieldName);
        }
        if value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
            problems.push(SendError::FieldValue);
        }
        if is_forbidden(name) || name.eq_ignore_ascii_case("Proxy-Connection") {
            problems.push(SendError::FieldReserved);
        }
        let line = name.len() + b": ".len() + value.len() + b"\r\n".len();
        bytes += line;
        if line > limits.field_bytes {
            problems.push(SendError::HeadTooLarge);
        }
    }
    let many = fields.len() > usize::from(limits.trailer_fields) || bytes > limits.trailer_bytes;
    if many && !fields.is_empty() {
        problems.push(SendError::HeadTooLarge);
    }
    problems
}

/// What a trailer section must not have, by what RFC 9110 section 6.5.1 gives as the reason.
fn is_forbidden(name: &str) -> bool {
    let framing = "content-length transfer-encoding connection keep-alive te trailer upgrade";
    let routing = "host max-forwards";
    let authentication =
        "authorization cookie proxy-authenticate proxy-authorization set-cookie www-authenticate";
    let modifiers = "cache-control expect pragma range \
        if-match if-modified-since if-none-match if-range if-unmodified-since";
    let control = "age date expires location retry-after vary warning";
    let name = name.to_ascii_lowercase();
    let listed = [framing, routing, authentication, modifiers, control]
        .iter()
        .any(|reason| reason.split(' ').any(|forbidden| forbidden == name));
    // The format of the content, and of caching whatever else there may come; only a digest is known behind the content.
    listed || name.starts_with("cache-") || name.starts_with("content-") && name != "content-digest"
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Without the spaces and tabs around it.
fn trimmed(value: &[u8]) -> Vec<u8> {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = value.iter().position(is_text).unwrap_or(value.len());
    let end = value.iter().rposition(is_text).map_or(start, |last| last + 1);
    value[start..end].to_vec()
}
