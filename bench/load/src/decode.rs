//! Takes apart what a server sends to a subscriber, into payloads.
//!
//! It is light, as one core reads for ten thousand: framing is checked, payloads are not parsed, and a unit that came whole in one
//! read is not copied. A unit is a head, a chunk, a WebSocket frame, a poll's answer; what is cut waits in `tail` for the rest.

use crate::transport::{Transport, WEBSOCKET_ACCEPT};
use crate::value::Wrong;

/// What is longer is not a delivery.
const MOST: usize = 1 << 20;

/// One subscriber's framing.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    tail: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The head of a stream or of a WebSocket.
    Head(Transport),
    Frames,
    Chunks,
    /// A stream without a length and without chunks: lines, up to the end of the connection.
    Lines,
    /// Answers with a length, one behind the other.
    Answers,
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit<'a> {
    /// The subscription stands.
    Head,
    /// Changes, or what says that there are none. Of a poll with the head in front.
    Payload { head: &'a [u8], body: &'a [u8] },
    /// A WebSocket's ping, that wants this back.
    Ping(&'a [u8]),
}

impl Decoder {
    /// Before the first byte.
    pub fn new(transport: Transport) -> Self {
        let state = if transport == Transport::Poll { State::Answers } else { State::Head(transport) };
        Self { state, tail: Vec::new() }
    }

    /// Tells what came, whole units alone.
    ///
    /// # Errors
    ///
    /// It is not what was asked for, or `tell` says so.
    #[inline]
    pub fn take(
        &mut self,
        bytes: &[u8],
        mut tell: impl FnMut(Unit<'_>) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        if self.tail.is_empty() {
            let taken = self.units(bytes, &mut tell)?;
            self.tail.extend_from_slice(&bytes[taken..]);
        } else {
            let mut all = std::mem::take(&mut self.tail);
            all.extend_from_slice(bytes);
            let taken = self.units(&all, &mut tell)?;
            all.drain(..taken);
            // What once was cut is not likely to be again: a subscriber that waits holds nothing.
            self.tail = if all.is_empty() { Vec::new() } else { all };
        }
        if self.tail.len() > MOST { Err(Wrong("a unit has no end")) } else { Ok(()) }
    }

    fn units(
        &mut self,
        bytes: &[u8],
        tell: &mut impl FnMut(Unit<'_>) -> Result<(), Wrong>,
    ) -> Result<usize, Wrong> {
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            let step = match self.state {
                State::Head(transport) => match head(rest)? {
                    None => None,
                    Some((head, length)) => {
                        self.state = begun(transport, head)?;
                        tell(Unit::Head)?;
                        Some(length)
                    }
                },
                State::Frames => frame(rest, tell)?,
                State::Chunks => chunk(rest, tell)?,
                State::Lines => match memchr::memrchr(b'\n', rest) {
                    None => None,
                    Some(at) => {
                        tell(Unit::Payload { head: &[], body: &rest[..=at] })?;
                        Some(at + 1)
                    }
                },
                State::Answers => answer(rest, tell)?,
            };
            match step {
                Some(length) => taken += length,
                None => break,
            }
        }
        Ok(taken)
    }
}

/// A head with the empty line, and its length.
fn head(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Wrong> {
    match memchr::memmem::find(bytes, b"\r\n\r\n") {
        Some(at) => Ok(Some((&bytes[..at + 4], at + 4))),
        None if bytes.len() > 16 << 10 => Err(Wrong("a head has no end")),
        None => Ok(None),
    }
}

/// What follows this head.
fn begun(transport: Transport, head: &[u8]) -> Result<State, Wrong> {
    if transport == Transport::Websocket {
        if status(head) != Some(101) {
            return Err(Wrong("the WebSocket was refused"));
        }
        if field(head, "sec-websocket-accept") != Some(WEBSOCKET_ACCEPT.as_bytes()) {
            return Err(Wrong("the handshake is not that of this key"));
        }
        return Ok(State::Frames);
    }
    if status(head) != Some(200) {
        return Err(Wrong("the stream was refused"));
    }
    let chunked =
        field(head, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    Ok(if chunked { State::Chunks } else { State::Lines })
}

fn frame(bytes: &[u8], tell: &mut impl FnMut(Unit<'_>) -> Result<(), Wrong>) -> Result<Option<usize>, Wrong> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    let (length, from) = match second {
        0..126 => (usize::from(second), 2),
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (usize::from(u16::from_be_bytes([a, b])), 4),
            _ => return Ok(None),
        },
        _ => return Err(Wrong("a frame is masked, or of more than 64 KiB")),
    };
    let Some(payload) = bytes.get(from..from + length) else { return Ok(None) };
    match first {
        0x81 | 0x82 => tell(Unit::Payload { head: &[], body: payload })?,
        0x89 => tell(Unit::Ping(payload))?,
        0x8a => {}
        0x88 => return Err(Wrong("the server closed the WebSocket")),
        _ => return Err(Wrong("a frame is of a kind that was not asked for")),
    }
    Ok(Some(from + length))
}

fn chunk(bytes: &[u8], tell: &mut impl FnMut(Unit<'_>) -> Result<(), Wrong>) -> Result<Option<usize>, Wrong> {
    let mut length = 0_usize;
    for (at, &byte) in bytes.iter().enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if at > 0 => {
                if length == 0 {
                    return Err(Wrong("the server ended the stream"));
                }
                let (from, to) = (at + 2, at + 2 + length);
                let Some(rest) = bytes.get(at + 1..to + 2) else { return Ok(None) };
                if rest[0] != b'\n' || &rest[length + 1..] != b"\r\n" {
                    return Err(Wrong("a chunk is malformed"));
                }
                tell(Unit::Payload { head: &[], body: &bytes[from..to] })?;
                return Ok(Some(to + 2));
            }
            _ => return Err(Wrong("the size of a chunk is malformed")),
        };
        length = length << 4 | usize::from(digit);
        if length > MOST {
            return Err(Wrong("a chunk is longer than any"));
        }
    }
    Ok(None)
}

fn answer(
    bytes: &[u8],
    tell: &mut impl FnMut(Unit<'_>) -> Result<(), Wrong>,
) -> Result<Option<usize>, Wrong> {
    let Some((head, from)) = head(bytes)? else { return Ok(None) };
    if status(head) != Some(200) {
        return Err(Wrong("a poll was refused"));
    }
    let length = content_length(head).ok_or(Wrong("a poll's answer has no length"))?;
    let Some(body) = bytes.get(from..from + length) else { return Ok(None) };
    tell(Unit::Payload { head, body })?;
    Ok(Some(from + length))
}

/// The status of an answer.
pub fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The length of an answer's body, if the head says it.
pub fn content_length(head: &[u8]) -> Option<usize> {
    std::str::from_utf8(field(head, "content-length")?).ok()?.parse().ok()
}

/// The value of the first field with this name, which is in lower case.
pub fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').skip(1).find_map(|line| {
        let (before, after) = line.split_at_checked(name.len())?;
        let value = after.strip_prefix(b":")?;
        before.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of these bytes, whole and at every cut into two and byte by byte: it has to be the same.
    fn told(transport: Transport, bytes: &[u8]) -> Result<Vec<String>, Wrong> {
        let parts = |parts: &[&[u8]]| {
            let (mut decoder, mut told) = (Decoder::new(transport), Vec::new());
            for part in parts {
                decoder.take(part, |unit| {
                    told.push(match unit {
                        Unit::Head => "head".into(),
                        Unit::Payload { body, .. } => String::from_utf8_lossy(body).into_owned(),
                        Unit::Ping(payload) => format!("ping {}", payload.len()),
                    });
                    Ok(())
                })?;
            }
            Ok(told)
        };
        let whole = parts(&[bytes]);
        for at in 0..bytes.len() {
            assert_eq!(parts(&[&bytes[..at], &bytes[at..]]), whole, "cut at {at}");
        }
        assert_eq!(parts(&bytes.chunks(1).collect::<Vec<_>>()), whole);
        whole
    }

    #[test]
    fn chunks() {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let stream = [&head[..], b"3\r\nabc\r\n0A\r\n0123456789\r\n"].concat();
        assert_eq!(told(Transport::Chunked, &stream).unwrap(), ["head", "abc", "0123456789"]);
        let ended = [&stream[..], b"0\r\n\r\n"].concat();
        assert_eq!(told(Transport::Sse, &ended), Err(Wrong("the server ended the stream")));
    }

    #[test]
    fn frames() {
        let head = format!("HTTP/1.1 101 X\r\nsec-websocket-accept: {WEBSOCKET_ACCEPT}\r\n\r\n").into_bytes();
        let mut stream = [&head[..], b"\x81\x02hi\x89\x01p\x82\x7e\x00\xc8"].concat();
        stream.extend([b'x'; 200]);
        assert_eq!(told(Transport::Websocket, &stream).unwrap(), ["head", "hi", "ping 1", &*"x".repeat(200)]);
        stream.extend(b"\x88\x00");
        assert!(told(Transport::Websocket, &stream).is_err());
    }

    #[test]
    fn a_handshake_of_another_key_is_refused() {
        assert!(told(Transport::Websocket, b"HTTP/1.1 101 X\r\nsec-websocket-accept: AAAA\r\n\r\n").is_err());
    }

    #[test]
    fn answers() {
        let answers =
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!";
        assert_eq!(told(Transport::Poll, answers).unwrap(), ["ok", "!"]);
        assert!(told(Transport::Poll, b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n").is_err());
    }
}
