//! Bytes that came in: a cursor over a buffer that the caller owns.
//!
//! A machine takes from the front what it understands, and what it takes is borrowed from the caller's buffer and not from
//! the machine. So the caller can go on using the machine (answer, frame, close) while it still reads what it was given,
//! and payloads can be changed in place (unmasked). What is not taken stays with the caller, who offers it again in front
//! of the bytes that follow.

use core::fmt;

/// A cursor over received bytes, and whether more can follow them.
///
/// ```
/// use keepwatch_protocol::Input;
///
/// let mut buffer = *b"helloworld";
/// let mut input = Input::new(&mut buffer);
/// let hello = input.take(5);
/// assert_eq!(input.bytes(), b"world");
/// hello.make_ascii_uppercase(); // what was taken is the caller's own buffer, and outlives the cursor
/// assert_eq!((hello as &[u8], input.consumed()), (&b"HELLO"[..], 5));
/// ```
pub struct Input<'b> {
    rest: &'b mut [u8],
    consumed: usize,
    hung_up: bool,
}

impl<'b> Input<'b> {
    /// Bytes that more may follow.
    #[inline]
    pub fn new(bytes: &'b mut [u8]) -> Self {
        Self { rest: bytes, consumed: 0, hung_up: false }
    }

    /// Bytes after which the peer is known to send no more: its end of the stream was seen, even if these bytes are
    /// still unread in front of it.
    pub fn last(bytes: &'b mut [u8]) -> Self {
        Self { rest: bytes, consumed: 0, hung_up: true }
    }

    /// What is there and not taken yet.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.rest
    }

    /// How many bytes are there and not taken yet.
    #[inline]
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether nothing is left to take (for now: see [`Input::hung_up`]).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `count` bytes from the front, or all if there are fewer.
    #[inline]
    pub fn take(&mut self, count: usize) -> &'b mut [u8] {
        let count = count.min(self.rest.len());
        let (taken, rest) = core::mem::take(&mut self.rest).split_at_mut(count);
        self.rest = rest;
        self.consumed += count;
        taken
    }

    /// The bytes that are there and not taken yet, to be changed where they are. Who does leaves them as they came, but for
    /// those that it takes.
    #[cfg(feature = "deflate")]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.rest
    }

    /// How many bytes were taken since the cursor was made.
    #[inline]
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// Whether the peer sends nothing after these bytes: it shut down its writing side, or is gone.
    #[inline]
    pub fn hung_up(&self) -> bool {
        self.hung_up
    }
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({} bytes left, {} consumed", self.rest.len(), self.consumed)?;
        f.write_str(if self.hung_up { ", hung up)" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_more_than_there_is_takes_all() {
        let mut bytes = *b"ab";
        let mut input = Input::last(&mut bytes);
        assert_eq!(input.take(3), b"ab");
        assert!(input.is_empty() && input.hung_up());
        assert_eq!(input.take(1), b"");
        assert_eq!(input.consumed(), 2);
    }

    #[test]
    fn taken_parts_live_together() {
        let mut bytes = *b"abcd";
        let mut input = Input::new(&mut bytes);
        let (first, second) = (input.take(2), input.take(2));
        first[0] = b'x';
        assert_eq!((first as &[u8], second as &[u8]), (&b"xb"[..], &b"cd"[..]));
    }
}
