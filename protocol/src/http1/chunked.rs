//! The chunked transfer coding (RFC 9112 section 7.1), both ways.
//!
//! ```text
//!              ┌──────────────────── DataLf ◄─CR─ DataCr ◄─ (all data)
//!              ▼                                             │
//!   Size ─hex─► Size ─CR─► SizeLf ─LF─┬─ size > 0 ───────► Data
//!              │ SP, ";"    ▲         └─ size = 0 ─► Trailers ─► Done
//!              ▼            │ CR
//!           the grammar of extensions
//! ```
//!
//! Nothing here is lenient, as every lenience has let two servers see different ends of a message: sizes are hex digits
//! and nothing else, lines end with CR LF, and extensions that nobody reads are still checked. Only a client lets spaces
//! after a size pass, which several servers send and which move no border.

use super::config::Limits;
use super::error::Fault;
use super::fields::Fields;
use super::mend::{mend, without_last_line};
use super::scan::{Scan, SectionKind, SectionLimits, TOKEN, Tolerance, VALUE, is};
use crate::input::Input;

/// Framing that may come whatever the payload.
const FREE_OVERHEAD: u64 = 16 * 1024;
/// Digits of a size, zeros in front included. 16 are enough for 64 bits.
const SIZE_DIGITS: u8 = 32;
/// Pieces of payload that are given as one.
const PIECES: usize = 64;
/// A piece of payload longer than this is not moved.
const MOVED_PIECE: usize = 1024;

/// Reads a chunked body, a part at a time.
///
/// ```
/// use keepwatch_protocol::Input;
/// use keepwatch_protocol::http1::{Limits, chunked::{Chunk, Decoder}};
///
/// let mut wire = *b"3\r\none\r\n3;x=y\r\ntwo\r\n0\r\n\r\nGET";
/// let (limits, mut decoder) = (Limits::default(), Decoder::new());
/// let mut input = Input::new(&mut wire);
/// assert!(matches!(decoder.decode(&mut input, &limits), Ok(Chunk::Data(data)) if data == b"onetwo"));
/// assert!(matches!(decoder.decode(&mut input, &limits), Ok(Chunk::End)));
/// assert_eq!(input.bytes(), b"GET");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    state: State,
    /// Payload that was announced.
    payload: u64,
    /// Bytes of framing so far.
    overhead: u32,
    /// Bytes of extensions so far.
    extensions: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the size, after so many digits.
    Size {
        size: u64,
        digits: u8,
    },
    /// After the size, in extensions of so many bytes.
    Extension {
        size: u64,
        bytes: u16,
        part: Part,
    },
    /// After the CR of the size line.
    SizeLf {
        size: u64,
    },
    /// In the data, of which so many bytes are left.
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// After the last chunk.
    Trailers(Scan),
    Done,
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`, RFC 9112 section 7.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// In whitespace after the size, before a semicolon that has to come.
    AfterSize,
    /// In whitespace after a value, before a semicolon that has to come.
    BeforeSemicolon,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    Escaped,
    AfterQuoted,
}

/// A part of a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk<'b> {
    /// More bytes are needed.
    NeedMore,
    /// Payload, never empty. The borders of chunks mean nothing, and are not told.
    Data(&'b mut [u8]),
    /// The trailer section; only told if it is not empty.
    Trailers(Fields<'b>),
    /// The body is complete. Told again if asked again.
    End,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Before the first chunk.
    pub const fn new() -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, payload: 0, overhead: 0, extensions: 0 }
    }

    /// Takes what can be taken. Of many small chunks the payloads are moved together, within the bytes that are taken,
    /// and given as one. After a fault the decoder is of no further use.
    ///
    /// # Errors
    ///
    /// What is wrong with the chunks, or which limit they pass.
    pub fn decode<'b>(&mut self, input: &mut Input<'b>, limits: &Limits) -> Result<Chunk<'b>, Fault> {
        self.decode_with(input, limits, Tolerance::NONE)
    }

    /// Whether nothing came behind the last chunk, not even the line that ends the body.
    pub(super) fn lacks_last_line(&self) -> bool {
        matches!(&self.state, State::Trailers(scan) if scan.is_fresh())
    }

    /// The same, and some things are let pass.
    pub(super) fn decode_with<'b>(
        &mut self,
        input: &mut Input<'b>,
        limits: &Limits,
        tolerance: Tolerance,
    ) -> Result<Chunk<'b>, Fault> {
        match &mut self.state {
            State::Done => return Ok(Chunk::End),
            State::Trailers(_) => return self.trailers(input, limits, tolerance),
            _ => {}
        }
        // Pieces of payload, and how far the bytes are understood.
        let mut pieces = [(0_usize, 0_usize); PIECES];
        let mut count = 0;
        let mut at = 0;
        let mut behind_last_piece = (self.clone(), 0);
        let bytes = input.bytes();
        while let Some(&byte) = bytes.get(at) {
            if let State::Data { left } = self.state {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                // A long piece starts an event of its own, so that it stays where it is.
                let Some(piece) = pieces.get_mut(count).filter(|_| count == 0 || here <= MOVED_PIECE) else {
                    break;
                };
                *piece = (at, here);
                count += 1;
                at += here;
                let left = left - here as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                behind_last_piece = (self.clone(), at);
                continue;
            }
            match self.framing(byte, limits, tolerance) {
                Ok(()) => at += 1,
                Err(fault) if count == 0 => return Err(fault),
                // What came before is good and is given first, as it would be had it come alone.
                Err(_) => {
                    (*self, at) = behind_last_piece;
                    break;
                }
            }
            if matches!(self.state, State::Trailers(_)) {
                break;
            }
        }
        let taken = input.take(at);
        if count == 0 {
            return match self.state {
                State::Trailers(_) => self.trailers(input, limits, tolerance),
                _ => Ok(Chunk::NeedMore),
            };
        }
        Ok(Chunk::Data(join(taken, pieces.get(..count).unwrap_or_default())))
    }

    /// One byte that is not payload.
    fn framing(&mut self, byte: u8, limits: &Limits, tolerance: Tolerance) -> Result<(), Fault> {
        self.overhead = self.overhead.saturating_add(1);
        let earned = self.payload.saturating_mul(u64::from(limits.chunk_overhead));
        if u64::from(self.overhead).saturating_sub(FREE_OVERHEAD) > earned {
            return Err(Fault::ChunkOverhead);
        }
        self.state = match self.state {
            State::Size { size, digits } => match (hex(byte), byte) {
                (Some(_), _) if digits >= SIZE_DIGITS => return Err(Fault::ChunkSizeTooLarge),
                (Some(digit), _) => {
                    let size = size.checked_mul(16).ok_or(Fault::ChunkSizeTooLarge)? | u64::from(digit);
                    State::Size { size, digits: digits + 1 }
                }
                (None, b'\r') if digits > 0 => State::SizeLf { size },
                (None, b';' | b' ' | b'\t') if digits > 0 => {
                    self.extension(size, 0, Part::AfterSize, byte, limits)?
                }
                _ => return Err(Fault::ChunkSize),
            },
            State::Extension { size, part: Part::AfterSize, .. }
                if byte == b'\r' && tolerance.space_after_size =>
            {
                State::SizeLf { size }
            }
            State::Extension { size, bytes, part } => self.extension(size, bytes, part, byte, limits)?,
            State::SizeLf { .. } if byte != b'\n' => return Err(Fault::ChunkSize),
            State::SizeLf { size: 0 } => State::Trailers(Scan::trailers()),
            State::SizeLf { size } => {
                self.payload = self.payload.saturating_add(size);
                if self.payload > limits.body_bytes {
                    return Err(Fault::BodyTooLarge);
                }
                State::Data { left: size }
            }
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size { size: 0, digits: 0 },
            State::DataCr | State::DataLf => return Err(Fault::ChunkEnd),
            other @ (State::Data { .. } | State::Trailers(_) | State::Done) => other,
        };
        Ok(())
    }

    /// One byte after the size and before the CR.
    fn extension(
        &mut self,
        size: u64,
        bytes: u16,
        part: Part,
        byte: u8,
        limits: &Limits,
    ) -> Result<State, Fault> {
        let part = match (part, byte) {
            (Part::Name | Part::Token | Part::AfterQuoted, b'\r') => return Ok(State::SizeLf { size }),
            (Part::AfterSize, b' ' | b'\t') => Part::AfterSize,
            (Part::BeforeSemicolon, b' ' | b'\t') => Part::BeforeSemicolon,
            (Part::AfterSize | Part::BeforeSemicolon, b';') => Part::BeforeName,
            (Part::Name | Part::AfterName | Part::Token | Part::AfterQuoted, b';') => Part::BeforeName,
            (Part::BeforeName, b' ' | b'\t') => Part::BeforeName,
            (Part::BeforeName | Part::Name, _) if is(TOKEN, byte) => Part::Name,
            (Part::Name | Part::AfterName, b' ' | b'\t') => Part::AfterName,
            (Part::Name | Part::AfterName, b'=') => Part::BeforeValue,
            (Part::BeforeValue, b' ' | b'\t') => Part::BeforeValue,
            (Part::BeforeValue, b'"') => Part::Quoted,
            (Part::BeforeValue | Part::Token, _) if is(TOKEN, byte) => Part::Token,
            (Part::Token | Part::AfterQuoted, b' ' | b'\t') => Part::BeforeSemicolon,
            (Part::Quoted, b'"') => Part::AfterQuoted,
            (Part::Quoted, b'\\') => Part::Escaped,
            (Part::Quoted | Part::Escaped, _) if is(VALUE, byte) => Part::Quoted,
            _ => return Err(Fault::ChunkExtension),
        };
        let bytes = bytes.saturating_add(1);
        self.extensions = self.extensions.saturating_add(1);
        if bytes > limits.chunk_extension_bytes || self.extensions > limits.extension_bytes {
            return Err(Fault::ExtensionsTooLarge);
        }
        Ok(State::Extension { size, bytes, part })
    }

    fn trailers<'b>(
        &mut self,
        input: &mut Input<'b>,
        limits: &Limits,
        tolerance: Tolerance,
    ) -> Result<Chunk<'b>, Fault> {
        let State::Trailers(scan) = &mut self.state else { return Ok(Chunk::End) };
        let section = SectionLimits {
            method: 0,
            target: 0,
            section: limits.trailer_bytes,
            field: limits.field_bytes,
            fields: limits.trailer_fields,
            kind: SectionKind::Trailers,
            tolerance,
        };
        let Some(length) = scan.scan(input.bytes(), &section)? else { return Ok(Chunk::NeedMore) };
        self.state = State::Done;
        let lines = without_last_line(input.take(length));
        if lines.is_empty() {
            return Ok(Chunk::End);
        }
        if tolerance != Tolerance::NONE {
            mend(lines)?;
        }
        Ok(Chunk::Trailers(Fields::of_trailers(lines)))
    }
}

/// Moves the pieces together behind the first, and returns them as one.
fn join<'b>(taken: &'b mut [u8], pieces: &[(usize, usize)]) -> &'b mut [u8] {
    let start = pieces.first().map_or(0, |piece| piece.0);
    let mut end = start;
    for &(at, length) in pieces {
        if at != end {
            taken.copy_within(at..at + length, end);
        }
        end += length;
    }
    taken.get_mut(start..end).unwrap_or_default()
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// What stands before a chunk's data: its size in hex and CR LF, or nothing. On the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChunkHead {
    bytes: [u8; 18],
    start: u8,
}

impl ChunkHead {
    /// What stands before the data of bodies that are not chunked.
    pub const EMPTY: Self = Self { bytes: *b"                \r\n", start: 18 };

    /// Before so many bytes of data. Empty for none, as an empty chunk would end the body.
    pub fn new(length: usize) -> Self {
        let mut head = Self::EMPTY;
        let mut left = length as u64;
        let mut start = 16;
        for digit in head.bytes[..16].iter_mut().rev() {
            if left == 0 {
                break;
            }
            *digit = b"0123456789abcdef"[(left & 15) as usize];
            left >>= 4;
            start -= 1;
        }
        if length > 0 {
            head.start = start;
        }
        head
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start as usize..).unwrap_or_default()
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }
}

impl AsRef<[u8]> for ChunkHead {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl core::fmt::Debug for ChunkHead {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ChunkHead({})", self.as_bytes().escape_ascii())
    }
}
