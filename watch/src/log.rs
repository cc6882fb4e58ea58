//! The changes of the near past, from which every watcher reads.
//!
//! ```text
//!   trimmed | [ batch ][ batch ][    batch    ][ batch ] |  next push
//!           ^ floor            ^ a watcher's            ^ head
//!   floor_revision             cursor                   revision
//! ```
//!
//! A watcher that is behind holds a position from `floor` to `head`. When the floor passes it, it has lost changes and is
//! told `compacted`; nothing else in here loses anything. Whole batches leave, and a commit lies in one batch, so neither the
//! floor nor [`Log::position_after`] ever lies inside a commit.

use std::collections::{BTreeSet, VecDeque, vec_deque};
use std::fmt;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::Instant;

use crate::change::{Batch, Change, ends_commit};
use crate::encoding::{Encoded, EncodingId, Encodings};
use crate::key::{Position, Revision};

/// How much a log keeps. The newest batch stays whatever its size, so that who is up to date when it comes is never
/// compacted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of changes: keys, values and what holds them.
    pub bytes: usize,
    /// Changes.
    pub changes: usize,
    /// How long a change is kept at most, though there is room, as long as there is a later one; `None`: no limit.
    pub age: Option<Duration>,
    /// Bytes of the frames that were made of changes. The oldest are dropped first, and are made again for who needs them.
    pub encoded_bytes: usize,
}

impl Default for LogLimits {
    /// 64 MiB, 1,000,000 changes of any age, 64 MiB of encodings.
    fn default() -> Self {
        Self { bytes: 64 << 20, changes: 1_000_000, age: None, encoded_bytes: 64 << 20 }
    }
}

/// The last batches, with their encodings. One for each machine; the batches are shared.
#[derive(Debug)]
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    head: Position,
    floor: Position,
    revision: Revision,
    floor_revision: Revision,
    bytes: usize,
    encoded_bytes: usize,
    /// The first positions of the batches that have an encoding here: the oldest is found at once.
    with_encodings: BTreeSet<Position>,
    encodings: Encodings,
    limits: LogLimits,
    now: Instant,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    batch: Arc<Batch>,
    since: Instant,
    /// By encoding id; as far as the last one that was made.
    encoded: Vec<Option<Arc<Encoded>>>,
}

/// What is kept of the buffer that encodings grow in.
const SCRATCH_KEPT: usize = 64 << 10;

impl Log {
    /// An empty log that goes on from there.
    pub(crate) fn new(head: Position, revision: Revision, encodings: Encodings, limits: LogLimits) -> Self {
        Self {
            entries: VecDeque::new(),
            head,
            floor: head,
            revision,
            floor_revision: revision,
            bytes: 0,
            encoded_bytes: 0,
            with_encodings: BTreeSet::new(),
            encodings,
            limits,
            now: Instant::START,
            scratch: Vec::new(),
        }
    }

    /// An empty one that goes on from there, with the same limits.
    pub(crate) fn restarted(&self, head: Position, revision: Revision) -> Self {
        Self { now: self.now, ..Self::new(head, revision, self.encodings.clone(), self.limits) }
    }

    /// The position that the next change will have.
    pub(crate) fn head(&self) -> Position {
        self.head
    }

    /// The position of the oldest change that is kept; the head if there is none.
    pub(crate) fn floor(&self) -> Position {
        self.floor
    }

    /// The revision of the newest change, kept or not.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// The highest revision that is no longer in the log. A watch since `r` can be answered if `r` is at least this and at
    /// most [`Log::revision`].
    pub(crate) fn floor_revision(&self) -> Revision {
        self.floor_revision
    }

    /// About how many bytes the batches hold, without encodings.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// About how many bytes the encodings hold that this log keeps alive. Other machines may keep the same ones.
    pub(crate) fn encoded_bytes(&self) -> usize {
        self.encoded_bytes
    }

    /// Whether a list or a read at this revision, or a watch since it, can be answered.
    pub(crate) fn check(&self, revision: Revision) -> Result<(), RevisionError> {
        if revision < self.floor_revision {
            Err(RevisionError::Compacted { floor: self.floor_revision })
        } else if revision > self.revision {
            Err(RevisionError::Ahead { current: self.revision })
        } else {
            Ok(())
        }
    }

    /// Where a watch since `revision` starts: the first position of a greater revision, or the head.
    pub(crate) fn position_after(&self, revision: Revision) -> Result<Position, RevisionError> {
        self.check(revision)?;
        if revision == self.revision {
            return Ok(self.head);
        }
        let index = self.entries.partition_point(|entry| entry.batch.last_revision() <= revision);
        Ok(self.entries.get(index).map_or(self.head, |entry| entry.batch.position_after(revision)))
    }

    /// The batch that holds this position, and the index of the change in it.
    pub(crate) fn batch(&self, at: Position) -> Option<(&Arc<Batch>, usize)> {
        let batch = &self.entries.get(self.entry(at))?.batch;
        Some((batch, batch.index_of(at)?))
    }

    /// The change at this position.
    pub(crate) fn change(&self, at: Position) -> Option<&Change> {
        let (batch, index) = self.batch(at)?;
        batch.changes().get(index)
    }

    /// The changes from this position to the head, in order. `None` when `from` is below the floor (compacted) or past
    /// the head.
    pub(crate) fn changes(&self, from: Position) -> Option<Changes<'_>> {
        if from < self.floor || from > self.head {
            return None;
        }
        let mut entries = self.entries.range(self.entry(from)..);
        let current = entries.next().map_or(&[][..], |entry| {
            entry.batch.changes().get(entry.batch.index_of(from).unwrap_or(0)..).unwrap_or(&[])
        });
        Some(Changes { next: from, current: current.iter(), entries })
    }

    /// Whether the change at this position is the last of its [commit](ends_commit).
    pub(crate) fn ends_commit(&self, at: Position) -> bool {
        self.batch(at).is_some_and(|(batch, index)| ends_commit(batch.changes(), index))
    }

    /// The frames of the batch that holds this position, made now if need be, and the index of the change among them.
    pub(crate) fn encode(&mut self, at: Position, encoding: EncodingId) -> Option<(&Arc<Encoded>, usize)> {
        let entry = self.entry(at);
        let entry = self.entries.get_mut(entry)?;
        let index = entry.batch.index_of(at)?;
        let encoder = self.encodings.encoder(encoding)?;
        if entry.encoded.len() <= encoding.index() {
            entry.encoded.resize(encoding.index() + 1, None);
        }
        let slot = entry.encoded.get_mut(encoding.index())?;
        let made = match slot {
            Some(made) => made,
            None => {
                let made = entry.batch.encoded(encoder, &mut self.scratch);
                self.scratch.clear();
                self.scratch.shrink_to(SCRATCH_KEPT);
                self.encoded_bytes += made.memory();
                self.with_encodings.insert(entry.batch.first());
                slot.insert(made)
            }
        };
        Some((made, index))
    }

    /// The same, but only what is made already: for lending slices after a pass that called [`Log::encode`].
    pub(crate) fn encoded(&self, at: Position, encoding: EncodingId) -> Option<(&Arc<Encoded>, usize)> {
        let entry = self.entries.get(self.entry(at))?;
        let index = entry.batch.index_of(at)?;
        Some((entry.encoded.get(encoding.index())?.as_ref()?, index))
    }

    /// Drops encodings, those of the oldest batches first, until they fit their limit, and says how many bytes went.
    ///
    /// O(1) when they fit. It runs at each push; call it in every turn in which watchers that are behind were served. Never
    /// between [`Log::encode`] and the use of what it made.
    pub(crate) fn drop_encodings(&mut self) -> usize {
        let before = self.encoded_bytes;
        while self.encoded_bytes > self.limits.encoded_bytes {
            let Some(oldest) = self.with_encodings.pop_first() else { break };
            let entry = self.entry(oldest);
            self.forget(entry);
        }
        before - self.encoded_bytes
    }

    /// The same in the middle of a turn, in which there may be more than the limit for a while: only when they are twice as much,
    /// and not those of the last batch that has some, which others may want next.
    pub(crate) fn drop_most_encodings(&mut self) {
        let limit = self.limits.encoded_bytes;
        if self.encoded_bytes <= limit.saturating_mul(2) {
            return;
        }
        while self.encoded_bytes > limit && self.with_encodings.len() > 1 {
            let Some(oldest) = self.with_encodings.pop_first() else { break };
            let entry = self.entry(oldest);
            self.forget(entry);
        }
    }

    /// Adds the next batch. The caller then calls [`Log::trim`] until it gives nothing.
    pub(crate) fn push(&mut self, batch: Arc<Batch>) -> Result<(), PushError> {
        if batch.first() != self.head {
            return Err(PushError::Position { expected: self.head });
        }
        if batch.first_revision() <= self.revision {
            return Err(PushError::Revision { current: self.revision });
        }
        self.head = batch.end();
        self.revision = batch.last_revision();
        self.bytes += batch.bytes();
        self.entries.push_back(Entry { batch, since: self.now, encoded: Vec::new() });
        Ok(())
    }

    /// It is that time now, for what is pushed and what is too old.
    pub(crate) fn set_time(&mut self, now: Instant) {
        self.now = now;
    }

    /// When the oldest batch will be too old: [`Log::trim`] then gives it.
    pub(crate) fn next_too_old(&self) -> Option<Instant> {
        let age = self.limits.age.filter(|_| self.entries.len() > 1)?;
        Some(self.entries.front()?.since + age)
    }

    /// Takes the oldest batch out if the log is over a limit, and its encodings with it. When no batch has to go, encodings
    /// over their limit do.
    pub(crate) fn trim(&mut self) -> Option<Arc<Batch>> {
        let over = self.bytes > self.limits.bytes
            || self.head.since(self.floor) > self.limits.changes as u64
            || self.next_too_old().is_some_and(|at| at <= self.now);
        if !over || self.entries.len() < 2 {
            self.drop_encodings();
            return None;
        }
        self.forget(0);
        let batch = self.entries.pop_front()?.batch;
        self.bytes -= batch.bytes();
        self.floor = batch.end();
        self.floor_revision = batch.last_revision();
        Some(batch)
    }

    /// The index of the entry that holds this position, if any does. Who is told of a change is mostly told of one of the
    /// last: those are looked at first, as a search through all batches touches memory that nobody else looks at.
    fn entry(&self, at: Position) -> usize {
        const LAST: usize = 16;
        let count = self.entries.len();
        if at >= self.head {
            return count;
        }
        for index in (count.saturating_sub(LAST)..count).rev() {
            if self.entries.get(index).is_some_and(|entry| entry.batch.first() <= at) {
                return index;
            }
        }
        self.entries.partition_point(|entry| entry.batch.end() <= at)
    }

    /// Drops the encodings of an entry.
    fn forget(&mut self, entry: usize) {
        if let Some(entry) = self.entries.get_mut(entry) {
            let held = std::mem::take(&mut entry.encoded);
            self.encoded_bytes -= held.iter().flatten().map(|encoded| encoded.memory()).sum::<usize>();
            self.with_encodings.remove(&entry.batch.first());
        }
    }
}

/// The changes of a [`Log`] from a position on, each with its position.
#[derive(Clone, Debug)]
pub(crate) struct Changes<'a> {
    next: Position,
    current: slice::Iter<'a, Change>,
    entries: vec_deque::Iter<'a, Entry>,
}

impl<'a> Iterator for Changes<'a> {
    type Item = (Position, &'a Change);

    fn next(&mut self) -> Option<Self::Item> {
        let change = loop {
            match self.current.next() {
                Some(change) => break change,
                None => self.current = self.entries.next()?.batch.changes().iter(),
            }
        };
        let at = self.next;
        self.next = at.plus(1);
        Some((at, change))
    }
}

/// Why nothing can be said about a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevisionError {
    /// It is too long ago: some of the changes after it are no longer kept.
    Compacted {
        /// The lowest revision that can be answered.
        floor: Revision,
    },
    /// It is not reached. The client knew another store, or this one before it was started again.
    Ahead {
        /// The revision of the newest change.
        current: Revision,
    },
}

impl fmt::Display for RevisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compacted { floor } => write!(f, "the changes before revision {floor} are no longer kept"),
            Self::Ahead { current } => write!(f, "the newest revision is {current}"),
        }
    }
}

impl std::error::Error for RevisionError {}

/// Why a batch is not the next one. The store broke its promise, or a batch was lost on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    /// It does not start at the head.
    Position {
        /// Where the next batch starts.
        expected: Position,
    },
    /// Its first revision is not greater than the last one.
    Revision {
        /// The revision of the newest change.
        current: Revision,
    },
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position { expected } => write!(f, "the next batch starts at position {expected}"),
            Self::Revision { current } => write!(f, "the next batch starts above revision {current}"),
        }
    }
}

impl std::error::Error for PushError {}

#[cfg(test)]
mod tests;
