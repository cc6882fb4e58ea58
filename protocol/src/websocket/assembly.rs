//! Whole messages, for those who want them: an optional layer over the parts that a connection gives.

use alloc::vec::Vec;
use core::fmt;
use core::str;

use super::MessageKind;

/// The memory that is kept from one message for the next.
const KEPT_BYTES: usize = 16 << 10;

/// Puts the parts of a message together. A message that arrives in one part is borrowed and not copied; one that doesn't is
/// collected in a buffer that is used again.
///
/// ```
/// use keepwatch_protocol::websocket::{Assembler, Message, MessageKind};
///
/// let mut assembler = Assembler::new(1024);
/// let (front, back) = (*b"keep", *b"watch");
/// assert_eq!(assembler.push(MessageKind::Text, &front, true, false)?, None);
/// assert_eq!(assembler.push(MessageKind::Text, &back, false, true)?, Some(Message::Text("keepwatch")));
/// # Ok::<(), keepwatch_protocol::websocket::assembly::AssemblyError>(())
/// ```
pub struct Assembler {
    buffer: Vec<u8>,
    limit: usize,
}

/// A whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text.
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
}

/// A message cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AssemblyError {
    /// It has more bytes than the assembler's limit. Close with [`MESSAGE_TOO_BIG`](super::CloseCode::MESSAGE_TOO_BIG).
    TooLarge,
    /// Its parts, given as text, are not UTF-8 together. This never comes of the parts that one connection gave, in order.
    InvalidText,
}

impl Assembler {
    /// An assembler for messages of at most `limit` bytes. It reserves nothing. The limit is worth having below that of the
    /// connection, [`Config::message_bytes`](super::Config::message_bytes), where only some messages are collected.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), limit }
    }

    /// Takes the next part, as [`Event::Data`](super::Event::Data) has it; gives the message with its last part. A `first`
    /// part drops what was collected of a message before.
    ///
    /// Text is looked through once more, as only that makes a `str` of bytes; who needs none reads the parts.
    ///
    /// # Errors
    ///
    /// [`AssemblyError`]; what was collected is dropped.
    pub fn push<'a>(
        &'a mut self,
        kind: MessageKind,
        bytes: &'a [u8],
        first: bool,
        last: bool,
    ) -> Result<Option<Message<'a>>, AssemblyError> {
        if first {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_BYTES);
        }
        if bytes.len() > self.limit.saturating_sub(self.buffer.len()) {
            self.release();
            return Err(AssemblyError::TooLarge);
        }
        if first && last {
            return Message::new(kind, bytes).map(Some);
        }
        self.buffer.reserve_exact(self.memory_with(bytes.len(), first, last) - self.buffer.len());
        self.buffer.extend_from_slice(bytes);
        if last { Message::new(kind, &self.buffer).map(Some) } else { Ok(None) }
    }

    /// Drops what was collected, and the memory. Until this is called, or the next message begins, the memory of a message that
    /// was collected stays: for many connections that speak seldom, call it after each.
    pub fn release(&mut self) {
        self.buffer = Vec::new();
    }

    /// The bytes of memory that it will have with the next part, of so many bytes: for those who ask whether there is so much
    /// before they [push](Self::push) it. It grows by doubling, but not beyond the limit.
    pub fn memory_with(&self, count: usize, first: bool, last: bool) -> usize {
        let (length, capacity) = if first {
            (0, self.buffer.capacity().min(KEPT_BYTES))
        } else {
            (self.buffer.len(), self.buffer.capacity())
        };
        let needed = length.saturating_add(count);
        if needed <= capacity || first && last || needed > self.limit {
            return capacity;
        }
        capacity.saturating_mul(2).min(self.limit).max(needed)
    }
}

impl<'a> Message<'a> {
    fn new(kind: MessageKind, bytes: &'a [u8]) -> Result<Self, AssemblyError> {
        match kind {
            MessageKind::Text => {
                str::from_utf8(bytes).map(Self::Text).map_err(|_| AssemblyError::InvalidText)
            }
            MessageKind::Binary => Ok(Self::Binary(bytes)),
        }
    }

    /// What the payload is.
    pub const fn kind(&self) -> MessageKind {
        match self {
            Self::Text(_) => MessageKind::Text,
            Self::Binary(_) => MessageKind::Binary,
        }
    }

    /// The payload.
    pub const fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Assembler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assembler({} bytes of at most {})", self.buffer.len(), self.limit)
    }
}

impl fmt::Display for AssemblyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the message is longer than the limit",
            Self::InvalidText => "the message is given as text and is not UTF-8",
        })
    }
}

impl core::error::Error for AssemblyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_one_part_is_not_copied() {
        let mut assembler = Assembler::new(10);
        let bytes = *b"whole";
        let place = bytes.as_ptr();
        let message = assembler.push(MessageKind::Binary, &bytes, true, true).unwrap().unwrap();
        assert_eq!((message, message.as_bytes().as_ptr()), (Message::Binary(b"whole"), place));
        assert_eq!(assembler.buffer.capacity(), 0);
    }

    #[test]
    fn a_code_point_may_be_cut_between_parts() {
        let mut assembler = Assembler::new(10);
        let (front, back) = ([0xe2, 0x82], [0xac]);
        assert_eq!(assembler.push(MessageKind::Text, &front, true, false), Ok(None));
        assert_eq!(assembler.push(MessageKind::Text, &back, false, true), Ok(Some(Message::Text("€"))));
    }

    #[test]
    fn the_limit_holds_over_all_parts_and_lets_go_of_the_memory() {
        let mut assembler = Assembler::new(10);
        assert_eq!(assembler.push(MessageKind::Binary, &[1; 6], true, false), Ok(None));
        assert_eq!(assembler.push(MessageKind::Binary, &[2; 4], false, false), Ok(None));
        assert_eq!(assembler.push(MessageKind::Binary, &[3; 1], false, true), Err(AssemblyError::TooLarge));
        assert_eq!(assembler.buffer.capacity(), 0);
        assert_eq!(assembler.push(MessageKind::Binary, &[4; 11], true, true), Err(AssemblyError::TooLarge));
    }

    #[test]
    fn the_buffer_never_grows_beyond_the_limit() {
        let mut assembler = Assembler::new(1000);
        for index in 0..1000 {
            assert_eq!(assembler.push(MessageKind::Binary, &[9], index == 0, false), Ok(None));
            assert!(assembler.buffer.capacity() <= 1000);
        }
        let message = assembler.push(MessageKind::Binary, &[], false, true);
        assert_eq!(message, Ok(Some(Message::Binary(&[9; 1000]))));
    }

    #[test]
    fn the_memory_is_known_before_it_is_taken() {
        let mut assembler = Assembler::new(1000);
        assert_eq!(assembler.memory_with(1000, true, true), 0);
        for (count, first, expected) in
            [(10, true, 10), (5, false, 20), (5, false, 20), (200, false, 220), (300, false, 520)]
        {
            assert_eq!(assembler.memory_with(count, first, false), expected);
            assert_eq!(assembler.push(MessageKind::Binary, &vec![7; count], first, false), Ok(None));
            assert_eq!(assembler.buffer.capacity(), expected);
        }
        // Nothing is taken for what is refused.
        assert_eq!(assembler.memory_with(481, false, false), 520);
    }

    #[test]
    fn the_buffer_never_grows_beyond_the_limit_by_larger_parts() {
        let mut assembler = Assembler::new(1000);
        for index in 0..142 {
            assert_eq!(assembler.push(MessageKind::Binary, &[9; 7], index == 0, false), Ok(None));
            assert!(assembler.buffer.capacity() <= 1000);
        }
    }

    #[test]
    fn a_part_that_fits_takes_no_more_memory() {
        let mut assembler = Assembler::new(1000);
        assert_eq!(assembler.push(MessageKind::Binary, &[9; 8], true, false), Ok(None));
        let before = assembler.buffer.capacity();
        let fits = vec![9; before - 8];
        assert_eq!(assembler.push(MessageKind::Binary, &fits, false, false), Ok(None));
        assert_eq!(assembler.buffer.capacity(), before);
    }

    #[test]
    fn a_large_message_s_memory_is_not_kept_for_small_ones() {
        let mut assembler = Assembler::new(1 << 20);
        let large = vec![0; 1 << 19];
        assert_eq!(assembler.push(MessageKind::Binary, &large, true, false), Ok(None));
        assert_eq!(assembler.push(MessageKind::Binary, &[1], true, false), Ok(None));
        assert!(assembler.buffer.capacity() <= KEPT_BYTES);
        assert_eq!(
            assembler.push(MessageKind::Binary, &[2], false, true),
            Ok(Some(Message::Binary(&[1, 2])))
        );
    }
}
