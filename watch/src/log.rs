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
mod tests {
    use super::*;
    use crate::encoding::Encoder;
    use crate::key::Key;

    struct Line;

    impl Encoder for Line {
        fn encode(&self, change: &Change, _: bool, out: &mut Vec<u8>) {
            out.extend_from_slice(format!("{} {}\n", change.key, change.revision).as_bytes());
        }
    }

    fn revision(number: u64) -> Revision {
        Revision::new(number).unwrap()
    }

    fn at(number: u64) -> Position {
        Position::new(number)
    }

    fn batch(first: u64, revisions: &[u64]) -> Arc<Batch> {
        let change = |&number: &u64| Change {
            key: Key::new("k", 8).unwrap(),
            revision: revision(number),
            created: revision(number),
            value: None,
        };
        Arc::new(Batch::new(at(first), revisions.iter().map(change).collect()).unwrap())
    }

    /// A log that starts at position 0 and revision 100, with these commits in it.
    fn log(limits: LogLimits, batches: &[&[u64]]) -> (Log, EncodingId) {
        let mut encodings = Encodings::new();
        let line = encodings.register(Arc::new(Line)).unwrap();
        let mut log = Log::new(Position::START, revision(100), encodings, limits);
        for revisions in batches {
            log.push(batch(log.head().as_u64(), revisions)).unwrap();
            while log.trim().is_some() {}
        }
        (log, line)
    }

    fn keep(changes: usize) -> LogLimits {
        LogLimits { changes, ..LogLimits::default() }
    }

    #[test]
    fn the_default_limits_are_those_that_are_documented() {
        let limits =
            LogLimits { bytes: 67_108_864, changes: 1_000_000, age: None, encoded_bytes: 67_108_864 };
        assert_eq!(LogLimits::default(), limits);
    }

    #[test]
    fn a_watch_starts_at_the_first_change_of_a_greater_revision() {
        let (log, _) = log(LogLimits::default(), &[&[110, 110, 120], &[130]]);
        for (since, position) in [(100, 0), (109, 0), (110, 2), (119, 2), (120, 3), (129, 3), (130, 4)] {
            assert_eq!(log.position_after(revision(since)), Ok(at(position)), "since {since}");
        }
    }

    #[test]
    fn a_watch_from_before_the_log_is_compacted_and_one_from_after_it_is_ahead() {
        let (log, _) = log(LogLimits::default(), &[&[110]]);
        assert_eq!(log.position_after(revision(99)), Err(RevisionError::Compacted { floor: revision(100) }));
        assert_eq!(log.position_after(revision(111)), Err(RevisionError::Ahead { current: revision(110) }));
    }

    #[test]
    fn an_empty_log_answers_its_one_revision() {
        let (log, _) = log(LogLimits::default(), &[]);
        assert_eq!(log.position_after(revision(100)), Ok(at(0)));
        assert!(log.position_after(revision(99)).is_err());
        assert!(log.position_after(revision(101)).is_err());
        assert_eq!(log.changes(at(0)).unwrap().count(), 0);
    }

    #[test]
    fn whole_batches_leave_and_the_floor_goes_with_them() {
        let (log, _) = log(keep(3), &[&[101, 102], &[103, 104], &[105]]);
        assert_eq!((log.floor(), log.floor_revision()), (at(2), revision(102)));
        assert_eq!(log.position_after(revision(102)), Ok(at(2)));
        assert!(log.position_after(revision(101)).is_err());
        assert!(log.change(at(1)).is_none() && log.batch(at(1)).is_none());
    }

    #[test]
    fn the_newest_batch_stays_whatever_its_size() {
        let limits = LogLimits { bytes: 1, changes: 1, age: Some(Duration::ZERO), encoded_bytes: 0 };
        let (log, _) = log(limits, &[&[101], &[102, 103, 104]]);
        assert_eq!((log.floor(), log.head()), (at(1), at(4)));
    }

    #[test]
    fn bytes_are_those_of_the_batches_that_are_left() {
        let one = batch(0, &[101]).bytes();
        let (log, _) = log(LogLimits { bytes: 2 * one, ..keep(1000) }, &[&[101], &[102], &[103], &[104]]);
        assert_eq!((log.bytes(), log.floor()), (2 * one, at(2)));
    }

    #[test]
    fn changes_come_with_their_positions_from_any_kept_one_on() {
        let (log, _) = log(keep(4), &[&[101], &[102, 102], &[103, 104]]);
        let from = |from| {
            let changes = log.changes(at(from))?;
            Some(changes.map(|(at, change)| (at.as_u64(), change.revision.as_u64())).collect::<Vec<_>>())
        };
        assert_eq!(from(0), None);
        assert_eq!(from(1), Some(vec![(1, 102), (2, 102), (3, 103), (4, 104)]));
        assert_eq!(from(2), Some(vec![(2, 102), (3, 103), (4, 104)]));
        assert_eq!(from(4), Some(vec![(4, 104)]));
        assert_eq!(from(5), Some(vec![]));
        assert_eq!(from(6), None);
    }

    #[test]
    fn only_the_last_change_of_a_revision_ends_its_commit() {
        let (log, _) = log(LogLimits::default(), &[&[101, 102, 102], &[103]]);
        let ends: Vec<_> = (0..5).map(|position| log.ends_commit(at(position))).collect();
        assert_eq!(ends, [true, false, true, true, false]);
    }

    #[test]
    fn a_batch_that_is_not_the_next_one_is_refused() {
        let (mut log, _) = log(LogLimits::default(), &[&[101]]);
        assert_eq!(log.push(batch(2, &[102])), Err(PushError::Position { expected: at(1) }));
        assert_eq!(log.push(batch(0, &[102])), Err(PushError::Position { expected: at(1) }));
        assert_eq!(log.push(batch(1, &[101])), Err(PushError::Revision { current: revision(101) }));
        assert_eq!((log.head(), log.revision()), (at(1), revision(101)));
    }

    #[test]
    fn what_is_too_old_leaves_but_the_newest() {
        let age = Duration::from_secs(10);
        let (mut log, _) = log(LogLimits { age: Some(age), ..LogLimits::default() }, &[&[101]]);
        let seconds = |seconds| Instant::from_millis(seconds * 1000);
        assert_eq!(log.next_too_old(), None);
        for (second, number) in [(5, 102), (6, 103)] {
            log.set_time(seconds(second));
            log.push(batch(log.head().as_u64(), &[number])).unwrap();
            assert!(log.trim().is_none());
        }
        for (at, next, floor) in
            [(9, 10, 100), (10, 15, 101), (14, 15, 101), (15, u64::MAX, 102), (99, u64::MAX, 102)]
        {
            log.set_time(seconds(at));
            while log.trim().is_some() {}
            let next = (next != u64::MAX).then(|| seconds(next));
            assert_eq!((log.next_too_old(), log.floor_revision().as_u64()), (next, floor), "{at}");
        }
    }

    #[test]
    fn a_frame_is_there_once_its_batch_is_encoded() {
        let (mut log, line) = log(LogLimits::default(), &[&[101, 102]]);
        assert!(log.encoded(at(1), line).is_none());
        let (encoded, index) = log.encode(at(0), line).unwrap();
        assert_eq!((&**encoded.bytes(), index), (&b"k 101\nk 102\n"[..], 0));
        let (encoded, index) = log.encoded(at(1), line).unwrap();
        assert_eq!(encoded.frame_bytes(index), b"k 102\n");
        assert!(log.encode(at(2), line).is_none());
    }

    #[test]
    fn an_encoding_that_was_not_registered_has_no_frames() {
        let mut other = Encodings::new();
        other.register(Arc::new(Line)).unwrap();
        let unknown = other.register(Arc::new(Line)).unwrap();
        let (mut log, _) = log(LogLimits::default(), &[&[101]]);
        assert!(log.encode(at(0), unknown).is_none());
    }

    #[test]
    fn encodings_over_their_limit_are_dropped_from_the_oldest_on_and_made_again_equal() {
        let (mut log, line) = log(LogLimits::default(), &[&[101], &[102], &[103]]);
        let mut made = Vec::new();
        // The newest first: what counts is the age of the batch, not when it was encoded.
        for position in [2, 1, 0] {
            made.push(log.encode(at(position), line).unwrap().0.bytes().to_vec());
        }
        let all = log.encoded_bytes();
        log.limits.encoded_bytes = all;
        assert_eq!(log.drop_encodings(), 0, "they fit");
        log.limits.encoded_bytes = all - 1;
        assert_eq!(log.drop_encodings(), all / 3);
        assert_eq!(log.encoded_bytes(), all / 3 * 2);
        assert!(log.encoded(at(0), line).is_none());
        assert!(log.encoded(at(1), line).is_some() && log.encoded(at(2), line).is_some());
        assert_eq!(&**log.encode(at(0), line).unwrap().0.bytes(), &*made[2]);
        assert_eq!(log.encoded_bytes(), all);
    }

    #[test]
    fn a_large_encoding_leaves_no_large_buffer() {
        let large: Vec<_> = (101..20_000).collect();
        let (mut log, line) = log(LogLimits::default(), &[&large]);
        assert!(log.encode(at(0), line).unwrap().0.bytes().len() > SCRATCH_KEPT);
        assert!((1..=SCRATCH_KEPT).contains(&log.scratch.capacity()), "{}", log.scratch.capacity());
    }

    #[test]
    fn a_push_drops_encodings_over_the_limit() {
        let (mut log, line) = log(LogLimits { encoded_bytes: 1, ..LogLimits::default() }, &[&[101]]);
        log.encode(at(0), line).unwrap();
        assert!(log.encoded_bytes() > 1);
        log.push(batch(1, &[102])).unwrap();
        assert!(log.trim().is_none());
        assert_eq!(log.encoded_bytes(), 0);
    }

    #[test]
    fn bytes_taken_from_an_encoding_outlive_the_batch() {
        let (mut log, line) = log(keep(1), &[&[101]]);
        let pin = {
            let (encoded, index) = log.encode(at(0), line).unwrap();
            (Arc::clone(encoded.bytes()), encoded.frame(index))
        };
        log.push(batch(1, &[102])).unwrap();
        let trimmed = log.trim().unwrap();
        assert_eq!(log.encoded_bytes(), 0);
        drop(trimmed);
        assert_eq!(Arc::strong_count(&pin.0), 1);
        assert_eq!(&pin.0[pin.1], b"k 101\n");
    }

    #[test]
    fn what_one_machine_drops_another_keeps() {
        let (mut a, line) = log(LogLimits::default(), &[]);
        let mut b = Log::new(Position::START, revision(100), a.encodings.clone(), LogLimits::default());
        let shared = batch(0, &[101]);
        a.push(Arc::clone(&shared)).unwrap();
        b.push(shared).unwrap();
        let made = Arc::clone(a.encode(at(0), line).unwrap().0);
        assert!(Arc::ptr_eq(&made, b.encode(at(0), line).unwrap().0), "made once for both");
        a.limits.encoded_bytes = 0;
        a.drop_encodings();
        assert!(a.encoded(at(0), line).is_none());
        assert!(Arc::ptr_eq(&made, b.encoded(at(0), line).unwrap().0));
        assert!(Arc::ptr_eq(&made, a.encode(at(0), line).unwrap().0), "found again, not made again");
    }
}
