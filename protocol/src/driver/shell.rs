//! What the driver keeps for a connection: 24 bytes while nothing waits, and a pooled box of buffers while something does.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{DriverConfig, Transform};
use crate::output::SendQueue;
use crate::server::{ConnectionId, Fill};
use crate::time::Instant;

/// Where a connection is in its life. The picture is in the module above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Free,
    Open,
    Finishing,
    Lingering,
    Closing,
}

#[derive(Clone, Copy)]
#[repr(u16)]
pub(super) enum Flag {
    /// The server knows the connection and has not been told that it is closed.
    Admitted = 1 << 0,
    /// It is in the queue.
    Queued = 1 << 1,
    /// The socket may have bytes.
    Readable = 1 << 2,
    /// The socket may have room.
    Writable = 1 << 3,
    /// The server takes no input.
    Paused = 1 << 4,
    /// A lent frame is half written.
    MidFrame = 1 << 5,
    /// The server is to be resumed.
    Resume = 1 << 6,
    /// The server may have something to lend.
    Pull = 1 << 7,
    /// The last fill or lease has bytes of the server's.
    Pulled = 1 << 8,
    /// A lease is out.
    Leased = 1 << 9,
    /// Unread bytes, or the end of them, are to be offered when that is possible.
    Offer = 1 << 10,
    /// The peer ended its side, perhaps behind unread bytes.
    HungUp = 1 << 11,
    /// The peer ended its side, and all was read.
    Ended = 1 << 12,
    /// The server knows of it, and has taken no bytes since.
    ToldHungUp = 1 << 13,
    /// The writing side is shut down.
    ShutDown = 1 << 14,
    /// The transformation can't send yet.
    Withheld = 1 << 15,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Flags(u16);

impl Flags {
    pub(super) fn has(self, flag: Flag) -> bool {
        self.0 & flag as u16 != 0
    }

    pub(super) fn set(&mut self, flag: Flag) {
        self.0 |= flag as u16;
    }

    pub(super) fn clear(&mut self, flag: Flag) {
        self.0 &= !(flag as u16);
    }

    /// Keeps in mind what the server said when it was asked to lend.
    pub(super) fn note_pull(&mut self, fill: Fill, lent: bool) {
        if lent {
            self.set(Flag::Pulled);
        } else {
            self.clear(Flag::Pulled);
            if fill != Fill::More {
                self.clear(Flag::Pull);
                // A server that has nothing to lend is between two frames.
                self.clear(Flag::MidFrame);
            }
        }
    }

    /// Clears it, and says whether it was set.
    pub(super) fn take(&mut self, flag: Flag) -> bool {
        let was = self.has(flag);
        self.clear(flag);
        was
    }
}

#[derive(Default)]
pub(super) struct Shell {
    pub(super) generation: u32,
    pub(super) phase: Phase,
    /// It is no longer the server's, and [counts](super::lingering) until its socket is closed.
    pub(super) lingers: bool,
    pub(super) flags: Flags,
    pub(super) buffers: Option<Box<Buffers>>,
    /// Boxed once more, as few have one: it is one word where there is none.
    pub(super) transform: Option<Box<Transforming>>,
}

/// What stands between a connection and its socket.
pub(super) struct Transforming {
    pub(super) transform: Box<dyn Transform>,
    /// It has said farewell.
    pub(super) ended: bool,
}

impl Shell {
    pub(super) fn open(&mut self, transform: Option<Box<dyn Transform>>) {
        let queued = self.flags.has(Flag::Queued);
        self.phase = Phase::Open;
        self.lingers = false;
        self.flags = Flags::default();
        self.flags.set(Flag::Readable);
        self.flags.set(Flag::Writable);
        if queued {
            self.flags.set(Flag::Queued);
        }
        self.transform = transform.map(|transform| Box::new(Transforming { transform, ended: false }));
    }

    pub(super) fn release(&mut self) {
        self.phase = Phase::Free;
        self.generation = self.generation.wrapping_add(1);
        self.transform = None;
    }

    pub(super) fn is(&self, id: ConnectionId) -> bool {
        self.generation == id.generation() && self.phase != Phase::Free
    }

    pub(super) fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Whether there is a transformation, and it has not said farewell.
    pub(super) fn is_transforming(&self) -> bool {
        self.transform.as_ref().is_some_and(|transforming| !transforming.ended)
    }

    /// Own bytes that wait.
    pub(super) fn own(&self) -> &[u8] {
        self.buffers.as_ref().map_or(&[], |buffers| buffers.out.pending())
    }

    pub(super) fn over_mark(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| buffers.out.over_mark())
    }

    pub(super) fn has_unread(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| !buffers.unread.is_empty())
    }

    /// Whether the server may be asked to lend something.
    pub(super) fn may_pull(&self) -> bool {
        match self.phase {
            Phase::Open => self.flags.has(Flag::Pull),
            Phase::Finishing => self.flags.has(Flag::MidFrame),
            Phase::Free | Phase::Lingering | Phase::Closing => false,
        }
    }

    /// Whether the server is to hear, although it is paused, that the peer ended its side.
    pub(super) fn must_tell_hung_up(&self) -> bool {
        self.flags.has(Flag::HungUp) && !self.flags.has(Flag::ToldHungUp)
    }

    /// Whether unread bytes, or the end of them, can be offered now.
    pub(super) fn may_offer(&self) -> bool {
        self.flags.has(Flag::Offer) && (!self.flags.has(Flag::Paused) || self.must_tell_hung_up())
    }

    /// Whether bytes may be lent to be written.
    pub(super) fn may_lend(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Finishing) && !self.flags.has(Flag::Leased)
    }

    /// Whether there may be something to write.
    pub(super) fn may_write(&self) -> bool {
        self.has_wire() || (!self.flags.has(Flag::Withheld) && self.has_output())
    }

    /// The same, if only the transformation could send.
    pub(super) fn has_output(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::Finishing => self.has_wire() || !self.own().is_empty() || self.may_pull(),
            Phase::Free | Phase::Lingering | Phase::Closing => false,
        }
    }

    fn has_wire(&self) -> bool {
        let live = matches!(self.phase, Phase::Open | Phase::Finishing);
        live && self.buffers.as_ref().is_some_and(|buffers| !buffers.wire.is_empty())
    }

    pub(super) fn wants_read(&self, config: &DriverConfig) -> bool {
        if self.flags.has(Flag::Ended) {
            return false;
        }
        match self.phase {
            Phase::Lingering => true,
            // A peer that makes the transformation answer, and reads no answers, is not read from.
            _ if self.buffers.as_ref().is_some_and(|b| b.wire.over_mark()) => false,
            Phase::Finishing => true,
            Phase::Free | Phase::Closing => false,
            Phase::Open => {
                let paused = self.flags.has(Flag::Paused);
                let limit = if paused { config.paused_bytes } else { config.unread_bytes };
                !self.buffers.as_ref().is_some_and(|b| b.unread.len() >= limit || b.out.over_mark())
            }
        }
    }

    /// Lets the transformation say farewell, once. Returns whether it did.
    pub(super) fn end_transform(&mut self, pool: &mut Pool) -> bool {
        match &mut self.transform {
            Some(transforming) if !transforming.ended => {
                transforming.ended = true;
                transforming.transform.finish(&mut self.buffers.get_or_insert_with(|| pool.take()).wire);
                true
            }
            _ => false,
        }
    }
}

/// What a connection has while bytes wait for it.
pub(super) struct Buffers {
    /// Received and not taken.
    pub(super) unread: Unread,
    /// The server's own bytes.
    pub(super) out: SendQueue,
    /// How many of those are lent.
    pub(super) lent: usize,
    /// Transformed bytes.
    pub(super) wire: SendQueue,
    /// When lingering ends at the latest.
    pub(super) linger_until: Instant,
}

impl Buffers {
    pub(super) fn is_unused(&self) -> bool {
        self.unread.is_empty() && self.out.is_empty() && self.wire.is_empty()
    }
}

/// Bytes that were received and not taken. To take some moves none of the others: a peer that pipelines small requests
/// would have all of them moved once for each.
#[derive(Default)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    taken: usize,
}

impl Unread {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.taken..]
    }

    /// Adds bytes. Those that were taken are dropped when they are the larger part.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.taken > self.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The first so many are taken.
    pub(super) fn took(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count).min(self.bytes.len());
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        }
    }
}

/// Buffers between two uses: so many boxes, and none that grew large.
pub(super) struct Pool {
    #[expect(clippy::vec_box, reason = "the boxes are what is pooled")]
    boxes: Vec<Box<Buffers>>,
    mark: usize,
}

impl Pool {
    const BOXES: usize = 64;
    const LARGE: usize = 16 << 10;

    pub(super) fn new(mark: usize) -> Self {
        Self { boxes: Vec::new(), mark }
    }

    #[expect(clippy::unnecessary_box_returns, reason = "the box is what is pooled")]
    pub(super) fn take(&mut self) -> Box<Buffers> {
        self.boxes.pop().unwrap_or_else(|| {
            Box::new(Buffers {
                unread: Unread::default(),
                out: SendQueue::new(self.mark),
                lent: 0,
                wire: SendQueue::new(self.mark),
                linger_until: Instant::NEVER,
            })
        })
    }

    pub(super) fn put(&mut self, mut buffers: Box<Buffers>) {
        if self.boxes.len() >= Self::BOXES {
            return;
        }
        buffers.unread.took(usize::MAX);
        if buffers.unread.bytes.capacity() > Self::LARGE {
            buffers.unread = Unread::default();
        }
        for queue in [&mut buffers.out, &mut buffers.wire] {
            queue.wrote(usize::MAX);
            if queue.capacity() > Self::LARGE {
                queue.reset();
            }
        }
        buffers.lent = 0;
        self.boxes.push(buffers);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::output::Sink;

    #[test]
    fn bytes_that_are_not_taken_are_moved_only_where_they_are_the_smaller_part() {
        for (taken, left_in_front) in [(40, 40), (50, 50), (60, 0)] {
            let mut unread = Unread::default();
            unread.push(&[1; 100]);
            unread.took(taken);
            unread.push(&[2]);
            assert_eq!((unread.len(), unread.taken), (101 - taken, left_in_front));
            assert_eq!(unread.rest(), [&vec![1; 100 - taken][..], &[2]].concat());
        }
    }

    #[test]
    fn buffers_are_used_again_unless_they_are_many() {
        let mut pool = Pool::new(1);
        let many: Vec<_> = (0..70).map(|_| pool.take()).collect();
        for buffers in many {
            pool.put(buffers);
        }
        assert_eq!(pool.boxes.len(), 64);
    }

    #[test]
    fn memory_that_grew_large_is_not_kept_for_the_next() {
        for (bytes, kept) in [(16 << 10, 16 << 10), ((16 << 10) + 1, 0)] {
            let mut pool = Pool::new(1);
            let mut buffers = pool.take();
            buffers.unread.push(&vec![1; bytes]);
            buffers.out.put(&vec![1; bytes]);
            pool.put(buffers);
            let buffers = pool.take();
            assert!(buffers.is_unused());
            assert_eq!((buffers.unread.bytes.capacity(), buffers.out.capacity()), (kept, kept));
        }
    }

    #[test]
    fn a_connection_costs_the_driver_three_words() {
        assert_eq!(size_of::<Shell>(), 24);
    }
}
