//! The chunk decoder against a second one that is written as the grammar is: RFC 9112 section 7.1, whole and in order.

use keepwatch_protocol::Input;
use keepwatch_protocol::http1::chunked::{Chunk, ChunkHead, Decoder};
use keepwatch_protocol::http1::{Field, Limits};

/// Longer inputs would meet the limits on framing, which the grammar does not know.
const LONGEST: usize = 16 * 1024;

/// Decodes the bytes whole, byte by byte, and in parts whose sizes follow from the first byte: each has to give the payload,
/// the end and the trailers that the reference gives. Then the bytes as a payload: encoded and decoded, they are the same.
pub fn chunked(data: &[u8]) {
    let Some((&seed, wire)) = data.split_first() else { return };
    if wire.len() > LONGEST {
        return;
    }
    let expected = Reference::new(wire).outcome();
    let (whole, _) = decode(wire, || LONGEST);
    expected.assert_same(&whole, "whole");
    let (bytewise, fed) = decode(wire, || 1);
    expected.assert_same(&bytewise, "byte by byte");
    if expected.end == End::Malformed {
        assert_eq!(fed, expected.at + 1, "it did not fail at the first impossible byte");
    }
    let (split, _) = decode(wire, sizes(seed));
    expected.assert_same(&split, "in parts");
    round_trip(wire, seed);
}

/// What came of a body.
#[derive(Debug)]
struct Outcome {
    payload: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether there was a trailer section that is not empty.
    has_trailers: bool,
    end: End,
    /// How many bytes were taken, where the body is complete; where it is malformed, those before the first impossible one.
    at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    /// More bytes could make it complete.
    Unfinished,
    Malformed,
}

impl Outcome {
    fn assert_same(&self, decoded: &Self, how: &str) {
        assert_eq!(self.end, decoded.end, "{how}");
        assert_eq!(
            self.payload.escape_ascii().to_string(),
            decoded.payload.escape_ascii().to_string(),
            "{how}"
        );
        if self.end == End::Complete {
            assert_eq!(self.at, decoded.at, "{how}: bytes taken");
            assert_eq!(self.has_trailers, decoded.has_trailers, "{how}");
            // Some fields must not come as trailers, and are passed over.
            let mut ours = self.trailers.iter();
            assert!(
                decoded.trailers.iter().all(|told| ours.any(|field| field == told)),
                "{how}: {decoded:?}"
            );
        }
    }
}

/// Runs the decoder over parts of the given sizes. Also returns how many bytes it had been offered at its end.
fn decode(wire: &[u8], mut size: impl FnMut() -> usize) -> (Outcome, usize) {
    let limits = Limits {
        chunk_extension_bytes: u16::MAX,
        extension_bytes: u32::MAX,
        chunk_overhead: u32::MAX,
        field_bytes: usize::MAX,
        trailer_fields: u16::MAX,
        trailer_bytes: usize::MAX,
        body_bytes: u64::MAX,
        ..Limits::default()
    };
    let mut decoder = Decoder::new();
    let (payload, trailers) = (Vec::new(), Vec::new());
    let mut outcome = Outcome { payload, trailers, has_trailers: false, end: End::Unfinished, at: 0 };
    let (mut held, mut fed) = (Vec::new(), 0);
    loop {
        let mut input = Input::new(&mut held);
        let end = loop {
            match decoder.decode(&mut input, &limits) {
                Ok(Chunk::NeedMore) => break End::Unfinished,
                Ok(Chunk::Data(data)) => {
                    assert!(!data.is_empty(), "an event of nothing");
                    outcome.payload.extend_from_slice(data);
                }
                Ok(Chunk::Trailers(fields)) => {
                    outcome.has_trailers = true;
                    let owned = |field: Field<'_>| (field.name.as_bytes().to_vec(), field.value.to_vec());
                    outcome.trailers.extend(fields.iter().map(owned));
                }
                Ok(Chunk::End) => {
                    assert_eq!(decoder.decode(&mut input, &limits).ok(), Some(Chunk::End));
                    break End::Complete;
                }
                Err(_) => break End::Malformed,
            }
        };
        let consumed = input.consumed();
        outcome.at += consumed;
        if end != End::Unfinished || fed == wire.len() {
            outcome.end = end;
            return (outcome, fed);
        }
        held.drain(..consumed);
        let part = size().clamp(1, wire.len() - fed);
        held.extend_from_slice(&wire[fed..fed + part]);
        fed += part;
    }
}

/// Sizes of parts, which look random and follow from a byte. Its low bits choose how large they are.
fn sizes(seed: u8) -> impl FnMut() -> usize {
    let mut state = u64::from(seed) + 1;
    let most = 1 << (1 + seed % 8);
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        1 + (state % most) as usize
    }
}

fn round_trip(payload: &[u8], seed: u8) {
    let (mut wire, mut rest, mut size) = (Vec::new(), payload, sizes(seed));
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(size().min(rest.len()));
        wire.extend_from_slice(ChunkHead::new(piece.len()).as_bytes());
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
        rest = after;
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    let length = wire.len();
    wire.extend_from_slice(b"GET / HTTP/1.1\r\n");
    let (decoded, _) = decode(&wire, sizes(!seed));
    assert_eq!((decoded.end, decoded.at), (End::Complete, length));
    assert_eq!(decoded.payload, payload);
}

/// Why the reference stops. Where it does is where it stands.
enum Stop {
    Unfinished,
    Malformed,
}

/// Reads a whole body by recursive descent, a byte at a time.
struct Reference<'a> {
    bytes: &'a [u8],
    at: usize,
    payload: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Reference<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, payload: Vec::new(), trailers: Vec::new() }
    }

    fn outcome(mut self) -> Outcome {
        let end = match self.body() {
            Ok(()) => End::Complete,
            Err(Stop::Unfinished) => End::Unfinished,
            Err(Stop::Malformed) => End::Malformed,
        };
        let has_trailers = !self.trailers.is_empty();
        Outcome { payload: self.payload, trailers: self.trailers, has_trailers, end, at: self.at }
    }

    /// `*chunk last-chunk trailer-section CRLF`
    fn body(&mut self) -> Result<(), Stop> {
        loop {
            let size = self.size()?;
            self.extensions()?;
            self.crlf()?;
            if size == 0 {
                return self.trailers();
            }
            for _ in 0..size {
                let byte = self.peek()?;
                self.payload.push(byte);
                self.at += 1;
            }
            self.crlf()?;
        }
    }

    /// `1*HEXDIG`, of which the decoder takes 32, and 64 bits.
    fn size(&mut self) -> Result<u64, Stop> {
        let (mut size, mut digits) = (0_u128, 0);
        while let Some(digit) = char::from(self.peek()?).to_digit(16) {
            size = size * 16 + u128::from(digit);
            digits += 1;
            if digits > 32 || size > u128::from(u64::MAX) {
                return Err(Stop::Malformed);
            }
            self.at += 1;
        }
        if digits == 0 { Err(Stop::Malformed) } else { Ok(size as u64) }
    }

    /// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`
    fn extensions(&mut self) -> Result<(), Stop> {
        while self.peek()? != b'\r' {
            self.whitespace()?;
            self.expect(b';')?;
            self.whitespace()?;
            self.token()?;
            let spaced = self.whitespace()?;
            match self.peek()? {
                b'=' => {
                    self.at += 1;
                    self.whitespace()?;
                    if self.peek()? == b'"' { self.quoted_string()? } else { self.token().map(drop)? }
                }
                b'\r' if spaced => return Err(Stop::Malformed), // whitespace that nothing follows
                _ => {}
            }
        }
        Ok(())
    }

    /// `DQUOTE *( qdtext / quoted-pair ) DQUOTE`
    fn quoted_string(&mut self) -> Result<(), Stop> {
        self.expect(b'"')?;
        loop {
            match self.peek()? {
                b'"' => return self.expect(b'"'),
                b'\\' => {
                    self.at += 1;
                    self.text()?;
                }
                _ => self.text()?,
            }
        }
    }

    /// `*( field-line CRLF ) CRLF`
    fn trailers(&mut self) -> Result<(), Stop> {
        while self.peek()? != b'\r' {
            let name = self.token()?;
            self.expect(b':')?;
            let start = self.at;
            while self.peek()? != b'\r' {
                self.text()?;
            }
            let value = self.bytes[start..self.at].trim_ascii().to_vec();
            self.crlf()?;
            self.trailers.push((name, value));
        }
        self.crlf()
    }

    /// `1*tchar`
    fn token(&mut self) -> Result<Vec<u8>, Stop> {
        let start = self.at;
        while self.peek()?.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&self.peek()?) {
            self.at += 1;
        }
        if self.at == start { Err(Stop::Malformed) } else { Ok(self.bytes[start..self.at].to_vec()) }
    }

    /// `HTAB / SP / VCHAR / obs-text`
    fn text(&mut self) -> Result<(), Stop> {
        match self.peek()? {
            b'\t' | b' '..=b'~' | 0x80.. => {
                self.at += 1;
                Ok(())
            }
            _ => Err(Stop::Malformed),
        }
    }

    /// `BWS`, and whether there was any.
    fn whitespace(&mut self) -> Result<bool, Stop> {
        let start = self.at;
        while matches!(self.peek()?, b' ' | b'\t') {
            self.at += 1;
        }
        Ok(self.at > start)
    }

    fn crlf(&mut self) -> Result<(), Stop> {
        self.expect(b'\r')?;
        self.expect(b'\n')
    }

    fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.peek()? != byte {
            return Err(Stop::Malformed);
        }
        self.at += 1;
        Ok(())
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::Unfinished)
    }
}
