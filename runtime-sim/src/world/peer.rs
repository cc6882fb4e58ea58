//! How the simulated clients read: HTTP answers, WebSocket frames and server-sent events, parsed in the plainest way and
//! with no line shared with the server. What is not well-formed is an error of the server's.

mod deflate;

use std::collections::VecDeque;
use std::fmt::Write as _;

pub(super) use self::deflate::{Agreed, Deflater, Inflater, Offer};

/// What an answer begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    fields: Vec<(String, String)>,
}

impl Head {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    /// The revision in the entity tag.
    pub(super) fn tag(&self) -> Option<u64> {
        self.field("ETag")?.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
    }
}

/// The next piece of what the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The server waits for the body (100).
    Continue,
    Head(Head),
    Body(Vec<u8>),
    End,
    Frame(Frame),
}

/// A WebSocket frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) opcode: u8,
    pub(super) payload: Vec<u8>,
    /// It came compressed.
    pub(super) inflated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(usize),
    ChunkHead,
    Chunk(usize),
    ChunkEnd,
    Trailer,
    ToEnd,
    Frames,
    /// A Close frame came: nothing may follow but pongs.
    Closed,
}

/// What a request says about how its answer may look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// There is no body, whatever the head says (HEAD).
    pub(super) head_only: bool,
    /// By a client of HTTP/1.0, which knows no chunks.
    pub(super) old: bool,
    /// It expects 100 (RFC 9110 section 10.1.1): no other request is told to go on.
    pub(super) expects: bool,
}

/// Reads one connection.
pub(super) struct Reader {
    bytes: VecDeque<u8>,
    state: State,
    /// The requests whose answers are awaited.
    asked: VecDeque<Asked>,
    /// The extension that was offered with an upgrade.
    offer: Option<Offer>,
    agreed: Option<Agreed>,
    inflater: Option<Inflater>,
    /// The server said that it closes behind this answer.
    last: bool,
    /// Answers that nobody awaits are no error: what was sent is nonsense.
    lenient: bool,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            bytes: VecDeque::new(),
            state: State::Head,
            asked: VecDeque::new(),
            offer: None,
            agreed: None,
            inflater: None,
            last: false,
            lenient: false,
        }
    }

    /// For a client that does not know what it asked.
    pub(super) fn lenient() -> Self {
        Self { lenient: true, ..Self::new() }
    }

    pub(super) fn ask(&mut self, asked: Asked) {
        self.asked.push_back(asked);
    }

    /// A request that upgrades to WebSocket, and what it offers.
    pub(super) fn ask_to_upgrade(&mut self, offer: Option<Offer>) {
        self.offer = offer;
        self.ask(Asked::default());
    }

    /// What was agreed on about compression.
    pub(super) fn agreed(&self) -> Option<Agreed> {
        self.agreed
    }

    /// Whether the server closes behind the answer that was read last, as it said itself.
    pub(super) fn is_last(&self) -> bool {
        self.last
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The server's side of the stream ended here. An answer of its own is not to be cut.
    pub(super) fn is_between(&self) -> bool {
        let between = matches!(self.state, State::Head | State::ToEnd | State::Frames | State::Closed);
        between && self.bytes.is_empty()
    }

    /// Whether an answer is awaited of which nothing has come.
    pub(super) fn is_owed(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether the end of the stream is the end of the answer.
    pub(super) fn is_to_end(&self) -> bool {
        self.state == State::ToEnd
    }

    pub(super) fn next(&mut self) -> Result<Option<Piece>, String> {
        loop {
            match self.state {
                State::Head => {
                    let Some(head) = self.line_end(b"\r\n\r\n") else { return Ok(None) };
                    let head = self.take(head);
                    let head = String::from_utf8(head).map_err(|_| "a head is not text".to_owned())?;
                    if let Some(piece) = self.head(&head)? {
                        return Ok(Some(piece));
                    }
                }
                State::Length(0) => {
                    self.state = State::Head;
                    return Ok(Some(Piece::End));
                }
                State::Length(left) | State::Chunk(left) if left > 0 => {
                    if self.bytes.is_empty() {
                        return Ok(None);
                    }
                    let count = left.min(self.bytes.len());
                    self.state = match self.state {
                        State::Length(_) => State::Length(left - count),
                        _ => State::Chunk(left - count),
                    };
                    return Ok(Some(Piece::Body(self.take(count))));
                }
                State::Length(_) | State::Chunk(_) => self.state = State::ChunkEnd,
                State::ChunkEnd => {
                    if self.bytes.len() < 2 {
                        return Ok(None);
                    }
                    if self.take(2) != b"\r\n" {
                        return Err("a chunk is longer than it says".into());
                    }
                    self.state = State::ChunkHead;
                }
                State::ChunkHead => {
                    let Some(end) = self.line_end(b"\r\n") else { return Ok(None) };
                    let line = self.take(end);
                    let digits = &line[..line.len() - 2];
                    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
                        return Err(format!("a chunk begins with \"{}\"", line.escape_ascii()));
                    }
                    let text = String::from_utf8_lossy(digits);
                    let size = usize::from_str_radix(&text, 16).map_err(|error| error.to_string())?;
                    self.state = if size == 0 { State::Trailer } else { State::Chunk(size) };
                }
                State::Trailer => {
                    if self.bytes.len() < 2 {
                        return Ok(None);
                    }
                    if self.take(2) != b"\r\n" {
                        return Err("the last chunk is not the last".into());
                    }
                    self.state = State::Head;
                    return Ok(Some(Piece::End));
                }
                State::ToEnd => {
                    let count = self.bytes.len();
                    return Ok((count > 0).then(|| Piece::Body(self.take(count))));
                }
                State::Frames => return self.frame(),
                // Pings are answered until the client's Close has come (RFC 6455 section 5.5.2).
                State::Closed => match self.bytes.front() {
                    None => return Ok(None),
                    Some(0x8a) => return self.frame(),
                    Some(_) => return Err("more than pongs follow a Close frame".into()),
                },
            }
        }
    }

    /// `None`: it was an interim answer that says nothing.
    fn head(&mut self, head: &str) -> Result<Option<Piece>, String> {
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status: Option<u16> =
            first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let Some(status) = status else { return Err(format!("an answer begins with {first:?}")) };
        let mut fields = Vec::new();
        for line in lines {
            let Some((name, value)) = line.split_once(": ") else {
                return Err(format!("a field is {line:?}"));
            };
            fields.push((name.to_owned(), value.to_owned()));
        }
        let head = Head { status, fields };
        if status == 100 {
            // Once, and to who asked for it (RFC 9110 section 15.2.1).
            return match self.asked.front_mut() {
                Some(asked) if asked.expects => {
                    asked.expects = false;
                    Ok(Some(Piece::Continue))
                }
                _ if self.lenient => Ok(None),
                _ => Err("100, and nobody expected it".into()),
            };
        }
        let awaited = self.asked.pop_front();
        if awaited.is_none() && !self.lenient && status != 408 && status != 503 {
            return Err(format!("nobody asked, and the answer is {status}"));
        }
        let chunked = match head.field("Transfer-Encoding") {
            None => false,
            Some("chunked") => true,
            Some(other) => return Err(format!("the transfer coding is {other}")),
        };
        let length = match head.field("Content-Length") {
            None => None,
            Some(text) => Some(text.parse::<usize>().map_err(|_| format!("the length is {text}"))?),
        };
        if chunked && length.is_some() {
            return Err("there are a length and chunks".into());
        }
        let mut asked = awaited.unwrap_or_default();
        // Where there are too many connections, that is said before anything is read.
        asked.head_only &= head.field("Retry-After") != Some("10");
        if chunked && asked.old {
            return Err("chunks, to a client of HTTP/1.0".into());
        }
        if head.field("Date").is_none()
            && status >= 200
            && awaited.is_some()
            && !self.lenient
            && status != 503
        {
            return Err("there is no Date".into());
        }
        let says = head.field("Connection").unwrap_or_default();
        let is_endless = !chunked && length.is_none() && !matches!(status, 101 | 204 | 304);
        self.last = says.eq_ignore_ascii_case("close") || is_endless && !asked.head_only;
        if status == 101 {
            self.agreed = match (&self.offer, head.field("Sec-WebSocket-Extensions")) {
                (_, None) => None,
                (Some(offer), Some(answer)) => Some(offer.accept(answer)?),
                (None, Some(answer)) => return Err(format!("nothing was offered, and {answer} is answered")),
            };
            self.inflater = self.agreed.map(Inflater::new);
        }
        self.state = match (status, asked.head_only, chunked, length) {
            (101, ..) => State::Frames,
            (204 | 304, ..) | (_, true, ..) => State::Length(0),
            (_, _, true, _) => State::ChunkHead,
            (_, _, _, Some(length)) => State::Length(length),
            _ => State::ToEnd,
        };
        Ok(Some(Piece::Head(head)))
    }

    fn frame(&mut self) -> Result<Option<Piece>, String> {
        let at = |index: usize| self.bytes.get(index).copied().map(usize::from);
        let (Some(first), Some(second)) = (at(0), at(1)) else { return Ok(None) };
        let is_compressed = first & 0x70 == 0x40 && first & 0xf == 1 && self.inflater.is_some();
        if first & 0x70 != 0 && !is_compressed || first & 0x80 == 0 || second & 0x80 != 0 {
            return Err(format!("a frame begins with {first:02x} {second:02x}"));
        }
        let extra = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let length = match extra {
            0 => second,
            _ => match (2..2 + extra).try_fold(0, |length, index| Some(length << 8 | at(index)?)) {
                Some(length) => length,
                None => return Ok(None),
            },
        };
        if (extra == 2 && length < 126) || (extra == 8 && length < 1 << 16) {
            return Err(format!("a length of {length} in {extra} bytes"));
        }
        if self.bytes.len() < 2 + extra + length {
            return Ok(None);
        }
        let opcode = (first & 0xf) as u8;
        self.take(2 + extra);
        let mut payload = self.take(length);
        if let (true, Some(inflater)) = (is_compressed, &mut self.inflater) {
            payload = inflater.message(&payload)?;
        }
        match opcode {
            1 | 9 | 10 => {}
            8 => self.state = State::Closed,
            other => return Err(format!("a frame has the opcode {other}")),
        }
        Ok(Some(Piece::Frame(Frame { opcode, payload, inflated: is_compressed })))
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.bytes.make_contiguous()[..count].to_vec();
        self.bytes.drain(..count);
        taken
    }

    /// How many bytes there are up to the end of these.
    fn line_end(&mut self, end: &[u8]) -> Option<usize> {
        let bytes = self.bytes.make_contiguous();
        bytes.windows(end.len()).position(|window| window == end).map(|at| at + end.len())
    }
}

/// A frame of a client, masked with this key: a whole message.
pub(super) fn frame(opcode: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    frame_of(0x80 | opcode, payload, key)
}

/// The same with the first byte as it is: FIN, the reserved bits, the opcode.
pub(super) fn frame_of(first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0xfe);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0xff);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(key);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
    bytes
}

/// Text in a path or a query, with everything that might mean something escaped.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'/' {
            escaped.push(byte as char);
        } else {
            let _infallible = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// One server-sent event, its fields in the order in which they came.
pub(super) type Block = Vec<(String, String)>;

/// Splits a body into server-sent events.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    text: Vec<u8>,
}

impl Blocks {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Block>, String> {
        self.text.extend_from_slice(bytes);
        let mut blocks = Vec::new();
        while let Some(end) = self.text.windows(2).position(|window| window == b"\n\n") {
            let block: Vec<u8> = self.text.drain(..end + 2).collect();
            let block = String::from_utf8(block).map_err(|_| "an event is not UTF-8".to_owned())?;
            let fields = block.lines().filter(|line| !line.is_empty()).map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned())
            });
            blocks.push(fields.collect());
        }
        Ok(blocks)
    }
}

/// Splits a body into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: Vec<u8>,
}

impl Lines {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.text.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = self.text.drain(..=end).collect();
            line.pop();
            lines.push(line);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reader: &mut Reader, bytes: &[u8]) -> Result<Vec<Piece>, String> {
        reader.push(bytes);
        let mut pieces = Vec::new();
        while let Some(piece) = reader.next()? {
            pieces.push(piece);
        }
        Ok(pieces)
    }

    #[test]
    fn a_chunked_answer_is_read_to_its_end_and_no_further() {
        let mut reader = Reader::new();
        reader.ask(Asked::default());
        let bytes = b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let pieces = read(&mut reader, bytes).unwrap();
        assert_eq!(pieces[1..], [Piece::Body(b"abc".to_vec()), Piece::End]);
        assert!(reader.is_between());
        assert!(read(&mut reader, b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "nobody asked");
    }

    #[test]
    fn a_frame_behind_a_close_is_an_error() {
        let mut reader = Reader::new();
        reader.ask(Asked::default());
        let switched = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi\x88\x00";
        let pieces = read(&mut reader, switched).unwrap();
        assert_eq!(pieces[1], Piece::Frame(Frame { opcode: 1, payload: b"hi".to_vec(), inflated: false }));
        assert!(read(&mut reader, b"\x81\x00").is_err());
    }

    #[test]
    fn a_pong_may_follow_a_close() {
        let mut reader = Reader::new();
        reader.ask(Asked::default());
        let switched = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x88\x00\x8a\x01x";
        assert_eq!(read(&mut reader, switched).unwrap().len(), 3);
    }

    #[test]
    fn what_was_not_asked_for_is_an_error() {
        let chunked: &[u8] = b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let compressed: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\xc1\x00";
        let continued: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        let old = Asked { old: true, ..Asked::default() };
        for (asked, bytes) in [(old, chunked), (Asked::default(), compressed), (Asked::default(), continued)]
        {
            let mut reader = Reader::new();
            reader.ask(asked);
            assert!(read(&mut reader, bytes).is_err(), "{}", bytes.escape_ascii());
        }
        let mut reader = Reader::new();
        reader.ask(Asked { expects: true, ..Asked::default() });
        assert_eq!(read(&mut reader, continued).unwrap(), [Piece::Continue]);
        assert!(read(&mut reader, continued).is_err(), "once");
    }

    #[test]
    fn events_are_split_where_they_end() {
        let mut blocks = Blocks::default();
        assert!(blocks.push(b"id: 1\nda").unwrap().is_empty());
        let expected = vec![("id".to_owned(), "1".to_owned()), ("data".to_owned(), "x".to_owned())];
        assert_eq!(blocks.push(b"ta: x\n\n").unwrap(), [expected]);
    }
}
