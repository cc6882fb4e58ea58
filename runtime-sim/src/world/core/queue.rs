//! What is to happen, in the order of time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use keepwatch_protocol::Instant;

use super::{End, LinkId};

pub(super) enum Happening {
    Wake(usize),
    Accept(LinkId),
    /// Bytes from the client, and how many it has sent with them.
    Up(LinkId, Vec<u8>, u64),
    UpEnd(LinkId),
    Break(LinkId),
    Down(LinkId, Vec<u8>),
    DownEnd(LinkId, End),
    Read(LinkId, usize),
    Stage(Stage),
}

/// What happens to the whole world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Stage {
    Crash,
    Drain,
    /// The drain's time is over.
    Drained,
    Start,
    ClockJump,
    Pause,
}

/// What comes out of the queue for the world to do.
pub(in super::super) enum Call {
    Wake(usize),
    Heard(usize, LinkId, Vec<u8>),
    Ended(usize, LinkId, End),
    Stage(Stage),
}

struct Due {
    at: Instant,
    sequence: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// The queue: what is due at one time happens in the order in which it was said.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Due>>,
    sequence: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Instant, what: Happening) {
        self.sequence += 1;
        self.heap.push(Reverse(Due { at, sequence: self.sequence, what }));
    }

    /// The next of what is due by then.
    pub(super) fn pop(&mut self, by: Instant) -> Option<Happening> {
        if self.next().is_none_or(|at| at > by) {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due.what)
    }

    /// When the next thing is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(due)| due.at)
    }
}
