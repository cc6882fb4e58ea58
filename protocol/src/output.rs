//! Bytes that go out.
//!
//! Two kinds, kept apart. A connection's **own bytes** (response heads, pongs, Close frames, errors) are small and are
//! *pushed* into a [`SendQueue`] through [`Sink`]. **Bodies** are *pulled* when the socket has room: they are lent as
//! [`Slices`] for the length of one write, or as [`Leases`] where the write outlives the call (completion-based IO, TLS).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::websocket::mask;

/// Where a machine puts its own bytes.
///
/// A machine puts whole heads and frames, and puts nothing if it then has to return an error.
pub trait Sink {
    /// Appends the bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends a WebSocket frame's payload, masked with this key. A sink that keeps its bytes in one place may do it without the detour
    /// over the stack that this takes.
    fn put_masked(&mut self, key: [u8; 4], payload: &[u8]) {
        let mut masked = [0; 256];
        for block in payload.chunks(masked.len()) {
            let (masked, _) = masked.split_at_mut(block.len());
            masked.copy_from_slice(block);
            mask::apply(key, 0, masked);
            self.put(masked);
        }
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_masked(&mut self, key: [u8; 4], payload: &[u8]) {
        mask::append(key, payload, self);
    }
}

/// A connection's own bytes on their way out, with the mark above which its owner takes no more input for it.
///
/// The mark is not a hard limit: what one call puts is put whole. The queue holds at most the mark and what one
/// [`receive`](crate::Server::receive) or [`resume`](crate::Server::resume) puts, as neither is called above the mark.
#[derive(Default)]
pub struct SendQueue {
    bytes: Vec<u8>,
    written: usize,
    mark: usize,
}

impl SendQueue {
    /// Memory that is not worth giving back while something waits.
    const KEPT: usize = 16 << 10;

    /// An empty queue with a mark in bytes.
    pub fn new(mark: usize) -> Self {
        Self { bytes: Vec::new(), written: 0, mark }
    }

    /// What was put and not written yet.
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether so much waits that its owner should put no more, and take no more input, until some was written.
    pub fn over_mark(&self) -> bool {
        self.len() > self.mark
    }

    /// How many bytes more may be put until it is [over its mark](SendQueue::over_mark).
    pub fn room(&self) -> usize {
        self.mark.saturating_sub(self.len())
    }

    /// Says that the first `count` waiting bytes were written. Costs no move of the others, until they are the smaller part: then
    /// the memory of what was written is given back.
    pub fn wrote(&mut self, count: usize) {
        self.written = self.written.saturating_add(count).min(self.bytes.len());
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        } else if self.written >= 4096 && self.written >= self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
            if self.bytes.capacity() > Self::KEPT.max(2 * self.bytes.len()) {
                self.bytes.shrink_to(Self::KEPT);
            }
        }
    }

    /// The memory that the queue holds, used or not.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Drops what waits, and the memory.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.mark);
    }
}

impl Sink for SendQueue {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn put_masked(&mut self, key: [u8; 4], payload: &[u8]) {
        mask::append(key, payload, &mut self.bytes);
    }
}

impl fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendQueue({} of {})", self.len(), self.mark)
    }
}

/// Borrowed parts for one vectored write, in order. At most [`Slices::PARTS`] parts, and no more once a number of bytes is
/// reached (the part that reaches it is taken whole).
pub struct Slices<'a> {
    parts: [&'a [u8]; Slices::PARTS],
    count: usize,
    bytes: usize,
    limit: usize,
}

impl<'a> Slices<'a> {
    /// The most parts of one write. Systems take 1024; more than about 64 gain nothing.
    pub const PARTS: usize = 64;

    /// A constant is copied into its place. What is made at run time was made on the stack first, and then copied: a tenth of what
    /// a write of one part takes.
    const EMPTY: [&'a [u8]; Slices::PARTS] = [&[]; Slices::PARTS];

    /// No parts yet, and room until `limit` bytes are reached.
    #[inline]
    pub fn new(limit: usize) -> Self {
        Self { parts: Self::EMPTY, count: 0, bytes: 0, limit }
    }

    /// Whether so many parts more would be taken.
    pub fn has_room(&self, parts: usize) -> bool {
        self.count + parts <= Self::PARTS && self.bytes < self.limit
    }

    /// Adds a part; an empty one is passed over. Returns `false`, and takes nothing, when there is no room.
    #[must_use = "a part that is not taken must be offered again"]
    pub fn push(&mut self, part: &'a [u8]) -> bool {
        if part.is_empty() {
            return true;
        }
        if !self.has_room(1) {
            return false;
        }
        self.parts[self.count] = part;
        self.count += 1;
        self.bytes += part.len();
        true
    }

    /// The parts, in order; none is empty.
    pub fn parts(&self) -> &[&'a [u8]] {
        &self.parts[..self.count]
    }

    /// The number of bytes in all parts.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Debug for Slices<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slices({} bytes in {} parts)", self.bytes, self.count)
    }
}

/// A range of shared bytes: it may be written at any later time, whatever happens to the connection or the log meanwhile.
#[derive(Clone, Default)]
pub struct Lease {
    bytes: Arc<[u8]>,
    start: usize,
    end: usize,
}

impl Lease {
    /// The given range of the bytes, cut to what there is.
    pub fn new(bytes: Arc<[u8]>, range: Range<usize>) -> Self {
        let end = range.end.min(bytes.len());
        Self { start: range.start.min(end), end, bytes }
    }

    /// Drops the first `count` bytes (all, if there are fewer): they were written.
    pub fn advance(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

impl From<Arc<[u8]>> for Lease {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self { start: 0, end: bytes.len(), bytes }
    }
}

impl core::ops::Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({}..{} of {})", self.start, self.end, self.bytes.len())
    }
}

/// Owned parts for one write that outlives the call: the same as [`Slices`], with [`Lease`]s.
#[derive(Debug)]
pub struct Leases {
    parts: Vec<Lease>,
    bytes: usize,
    limit: usize,
}

impl Leases {
    /// No parts yet, and room until `limit` bytes are reached.
    pub fn new(limit: usize) -> Self {
        Self { parts: Vec::new(), bytes: 0, limit }
    }

    /// Whether so many parts more would be taken.
    pub fn has_room(&self, parts: usize) -> bool {
        self.parts.len() + parts <= Slices::PARTS && self.bytes < self.limit
    }

    /// How many bytes are taken until there is no room.
    pub fn remaining(&self) -> usize {
        self.limit.saturating_sub(self.bytes)
    }

    /// Adds a part; an empty one is passed over. Returns `false`, and takes nothing, when there is no room.
    #[must_use = "a part that is not taken must be offered again"]
    pub fn push(&mut self, part: Lease) -> bool {
        if part.is_empty() {
            return true;
        }
        if !self.has_room(1) {
            return false;
        }
        self.bytes += part.len();
        self.parts.push(part);
        true
    }

    /// The parts, in order; none is empty.
    pub fn parts(&self) -> &[Lease] {
        &self.parts
    }

    /// The number of bytes in all parts.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_queue_gives_back_what_was_put_whatever_the_writes() {
        let mut queue = SendQueue::new(10);
        let mut seen = Vec::new();
        for round in 0u8..200 {
            queue.put(&[round; 100]);
            let count = queue.len().min(usize::from(round));
            seen.extend_from_slice(&queue.pending()[..count]);
            queue.wrote(count);
        }
        seen.extend_from_slice(queue.pending());
        queue.wrote(usize::MAX);
        assert!(queue.is_empty());
        let put: Vec<u8> = (0u8..200).flat_map(|round| [round; 100]).collect();
        assert_eq!(seen, put);
    }

    #[test]
    fn a_send_queue_that_never_runs_empty_does_not_keep_what_was_written() {
        let mut queue = SendQueue::new(10);
        queue.put(&[1; 5000]);
        for _ in 0..100 {
            queue.put(&[2; 1000]);
            queue.wrote(1000);
        }
        assert!(queue.capacity() < 32 << 10, "{}", queue.capacity());
    }

    #[test]
    fn a_send_queue_holds_less_when_most_of_something_large_was_written() {
        let mut queue = SendQueue::new(10);
        queue.put(&vec![1; 1 << 20]);
        while queue.len() > 1000 {
            queue.wrote(1000);
            assert!(
                queue.capacity() < 4 * queue.len() + (32 << 10),
                "{} for {}",
                queue.capacity(),
                queue.len()
            );
        }
    }

    #[test]
    fn what_waits_is_moved_only_where_much_was_written_and_little_waits() {
        for (put, wrote, moved) in [(100, 60, false), (100_000, 5000, false), (100_000, 60_000, true)] {
            let mut queue = SendQueue::new(10);
            queue.put(&vec![1; put]);
            queue.wrote(wrote);
            assert_eq!(queue.written == 0, moved, "{wrote} of {put}");
        }
    }

    #[test]
    fn a_send_queue_that_is_reset_has_its_mark_and_no_memory() {
        let mut queue = SendQueue::new(2);
        queue.put(b"abc");
        assert!(queue.capacity() >= 3);
        queue.reset();
        assert_eq!((queue.len(), queue.capacity(), queue.mark), (0, 0, 2));
    }

    #[test]
    fn the_mark_is_passed_by_more_than_it() {
        let mut queue = SendQueue::new(2);
        queue.put(b"ab");
        assert!(!queue.over_mark() && queue.room() == 0);
        queue.put(b"c");
        assert!(queue.over_mark() && queue.room() == 0);
        queue.wrote(1);
        assert!(!queue.over_mark());
        queue.wrote(1);
        assert_eq!(queue.room(), 1);
    }

    #[test]
    fn slices_refuse_what_they_have_no_room_for() {
        let mut slices = Slices::new(4);
        assert!(slices.push(b"") && slices.push(b"abc") && slices.push(b"de"));
        assert!(!slices.push(b"f"));
        assert_eq!((slices.parts(), slices.len()), (&[&b"abc"[..], b"de"][..], 5));
        let mut full = Slices::new(3);
        assert!(full.push(b"abc") && !full.has_room(1));
        let mut many = Slices::new(usize::MAX);
        assert!((0..Slices::PARTS).all(|_| many.push(b"x")));
        assert!(!many.push(b"x"));
    }

    #[test]
    fn leases_refuse_what_they_have_no_room_for() {
        let mut leases = Leases::new(4);
        let mut push =
            |part: &[u8]| (leases.push(Lease::from(Arc::from(part))), leases.remaining(), leases.len());
        assert_eq!(push(b""), (true, 4, 0));
        assert_eq!(push(b"abc"), (true, 1, 3));
        assert_eq!(push(b"de"), (true, 0, 5));
        assert_eq!(push(b"f"), (false, 0, 5));
        assert_eq!(leases.parts().iter().map(|part| &**part).collect::<Vec<_>>(), [&b"abc"[..], b"de"]);
        let part = || Lease::from(Arc::from(&b"x"[..]));
        let mut many = Leases::new(usize::MAX);
        assert!((0..Slices::PARTS).all(|_| many.push(part())));
        assert!(!many.push(part()));
    }

    #[test]
    fn a_sink_that_only_puts_masks_as_one_that_keeps_its_bytes() {
        #[derive(Default)]
        struct Puts(Vec<u8>);
        impl Sink for Puts {
            fn put(&mut self, bytes: &[u8]) {
                self.0.extend_from_slice(bytes);
            }
        }
        let payload: Vec<u8> = (0..=u8::MAX).cycle().take(700).collect();
        let (mut puts, mut kept) = (Puts::default(), Vec::new());
        puts.put_masked([1, 2, 3, 4], &payload);
        kept.put_masked([1, 2, 3, 4], &payload);
        assert_eq!(puts.0, kept);
        assert_eq!(
            kept.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, key)| byte ^ key).collect::<Vec<_>>(),
            payload
        );
    }

    #[test]
    fn a_lease_is_cut_to_its_bytes() {
        let mut lease = Lease::new(Arc::from(&b"abcdef"[..]), 2..99);
        assert_eq!(&*lease, b"cdef");
        lease.advance(3);
        assert_eq!(&*lease, b"f");
        lease.advance(usize::MAX);
        assert!(lease.is_empty());
        assert!(Lease::new(Arc::from(&b"ab"[..]), 9..10).is_empty());
    }
}
