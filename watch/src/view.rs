//! A machine's replica of the state, as it is now and as it was at every revision that the log still reaches.
//!
//! For each key it keeps the newest change and, behind it, the older ones down to the one that was true at the log's floor:
//!
//! ```text
//!    revision   10     20     30     40     50
//!                       ^ floor                      ^ now
//!    app/a           25 put ------ 38 put ---------- 47 delete     reads at 20: none, 30: the 25, 40: the 38, 50: none
//!    app/b  12 put ------------------------ 41 put                 the 12 is kept: it is true at 20
//!    app/c  9 put, 15 delete                                       forgotten: it cannot be told from a key that never was
//! ```
//!
//! So a list that is pulled in many pages stays at its one revision while changes come, until the log's floor passes that
//! revision: then the next page says [`RevisionError::Compacted`].

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::iter;
use std::ops::Bound;
use std::sync::Arc;

use crate::change::{Batch, Change};
use crate::encoding::{Encoded, EncodingId, Encodings};
use crate::key::{Key, Position, Revision};
use crate::log::{Log, LogLimits, PushError, RevisionError};
use crate::store::Snapshot;

/// The state and its log. It is empty, at revision 0, until the store's first snapshot.
#[derive(Debug)]
pub struct View {
    keys: BTreeMap<Key, Versions>,
    live: usize,
    bytes: usize,
    limits: LogLimits,
    log: Log,
}

/// The changes of one key that may still be read, at least one.
#[derive(Debug)]
struct Versions {
    newest: Version,
    /// Oldest first, never empty.
    #[expect(
        clippy::box_collection,
        reason = "most keys have none: a pointer for each key instead of four words"
    )]
    older: Option<Box<VecDeque<Version>>>,
}

#[derive(Debug)]
struct Version {
    /// The position after it; `START` when it came with a snapshot, below the log.
    end: Position,
    change: Change,
}

impl View {
    /// An empty one.
    pub fn new(encodings: Encodings, limits: LogLimits) -> Self {
        Self {
            keys: BTreeMap::new(),
            live: 0,
            bytes: 0,
            limits,
            log: Log::new(Position::START, Revision::ZERO, encodings, limits),
        }
    }

    /// The log of the changes that led here.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Makes the encoding of the batch at this position, if need be: [`Log::encode`].
    pub fn encode(&mut self, at: Position, encoding: EncodingId) -> Option<(&Arc<Encoded>, usize)> {
        self.log.encode(at, encoding)
    }

    /// Drops encodings over the limit: [`Log::drop_encodings`].
    pub fn drop_encodings(&mut self) -> usize {
        self.log.drop_encodings()
    }

    /// The revision that the state is at now.
    pub fn revision(&self) -> Revision {
        self.log.revision()
    }

    /// How many keys exist now.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no key exists now.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// About how many bytes the state and its older versions hold. The log's batches share the keys and values; what the log
    /// has beyond them is its encodings.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The change that made the key what it is now; `None` if it does not exist.
    pub fn get(&self, key: &str) -> Option<&Change> {
        live(&self.keys.get(key)?.newest.change)
    }

    /// The same at a revision of the past.
    pub fn get_at(&self, key: &str, at: Revision) -> Result<Option<&Change>, RevisionError> {
        self.log.check(at)?;
        Ok(self.keys.get(key).and_then(|versions| versions.at(at)))
    }

    /// The keys that begin with `prefix` and come after `after`, as they were at that revision, in order. Pulled: it costs
    /// O(log n) to start (or to go on after a key), and then O(1) for each key, and for each key that exists only at other
    /// revisions the log reaches.
    pub fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
        at: Revision,
    ) -> Result<List<'a>, RevisionError> {
        self.log.check(at)?;
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        Ok(List { range: self.keys.range::<str, _>((start, Bound::Unbounded)), prefix, at })
    }

    /// The position of the first change of this key from `from` on: what the watcher of a single key reads next, without a
    /// walk through the log. `None` when it has seen them all. `from` is at least the log's floor.
    pub fn next_change_of(&self, key: &str, from: Position) -> Option<Position> {
        let versions = self.keys.get(key)?;
        let older = versions.older.as_ref().and_then(|older| {
            let index = older.partition_point(|version| version.end <= from);
            older.get(index)
        });
        let next = older.unwrap_or(&versions.newest).end;
        (next > from).then(|| Position::new(next.as_u64() - 1))
    }

    /// Takes the changes of the store's next batch, and forgets what falls out of the log for them. On an error nothing has
    /// changed.
    pub fn apply(&mut self, batch: Arc<Batch>) -> Result<(), PushError> {
        self.log.push(Arc::clone(&batch))?;
        for (change, index) in batch.changes().iter().zip(1..) {
            self.insert(Version { end: batch.first().plus(index), change: change.clone() });
        }
        while let Some(trimmed) = self.log.trim() {
            for change in trimmed.changes() {
                self.forget(&change.key);
            }
        }
        Ok(())
    }

    /// Becomes what the store says, with an empty log. `true` if changes were missed: every watcher, also one that was up to
    /// date, is then told `compacted`.
    pub fn restore(&mut self, snapshot: Snapshot) -> bool {
        let missed = snapshot.position != self.log.head();
        self.log = Log::new(snapshot.position, snapshot.revision, self.log.encodings().clone(), self.limits);
        self.keys = BTreeMap::new();
        (self.live, self.bytes) = (0, 0);
        for change in snapshot.items {
            self.insert(Version { end: Position::START, change });
        }
        missed
    }

    fn insert(&mut self, version: Version) {
        self.live += usize::from(version.change.value.is_some());
        self.bytes += version.bytes();
        match self.keys.entry(version.change.key.clone()) {
            btree_map::Entry::Vacant(place) => {
                self.bytes += KEY_BYTES;
                place.insert(Versions { newest: version, older: None });
            }
            btree_map::Entry::Occupied(mut place) => {
                let versions = place.get_mut();
                self.live -= usize::from(versions.newest.change.value.is_some());
                let before = std::mem::replace(&mut versions.newest, version);
                versions.older.get_or_insert_default().push_back(before);
            }
        }
    }

    /// Forgets the versions of a key that no answerable revision can read.
    fn forget(&mut self, key: &Key) {
        let floor = self.log.floor_revision();
        let Some(versions) = self.keys.get_mut(key) else { return };
        while let Some(oldest) = versions.older.as_ref().and_then(|older| older.front()) {
            // It is read at the floor, if the one after it is not there yet; unless it is a delete, which reads as nothing.
            let replaced = versions.second().change.revision <= floor;
            let nothing = oldest.change.value.is_none() && oldest.change.revision <= floor;
            if !replaced && !nothing {
                break;
            }
            self.bytes -= oldest.bytes();
            versions.pop_oldest();
        }
        let newest = &versions.newest;
        if versions.older.is_none() && newest.change.value.is_none() && newest.change.revision <= floor {
            self.bytes -= newest.bytes() + KEY_BYTES;
            self.keys.remove(key);
        }
    }
}

/// What a key costs beside its versions: its place in the tree, a fifth more for the tree itself.
const KEY_BYTES: usize = (size_of::<(Key, Versions)>() - size_of::<Version>()) * 6 / 5;

impl Versions {
    /// What a read at this revision finds. The caller has checked that it is not below the floor.
    fn at(&self, at: Revision) -> Option<&Change> {
        if self.newest.change.revision <= at {
            return live(&self.newest.change);
        }
        let older = self.older.as_ref()?;
        let after = older.partition_point(|version| version.change.revision <= at);
        live(&older.get(after.checked_sub(1)?)?.change)
    }

    fn second(&self) -> &Version {
        self.older.as_ref().and_then(|older| older.get(1)).unwrap_or(&self.newest)
    }

    fn pop_oldest(&mut self) {
        if let Some(older) = &mut self.older {
            older.pop_front();
            if older.is_empty() {
                self.older = None;
            }
        }
    }
}

impl Version {
    fn bytes(&self) -> usize {
        self.change.bytes() + (size_of::<Self>() - size_of::<Change>())
    }
}

fn live(change: &Change) -> Option<&Change> {
    change.value.is_some().then_some(change)
}

/// The keys of a [`View`] at one revision, in order; see [`View::list`].
#[derive(Clone, Debug)]
pub struct List<'a> {
    range: btree_map::Range<'a, Key, Versions>,
    prefix: &'a str,
    at: Revision,
}

impl<'a> Iterator for List<'a> {
    type Item = &'a Change;

    fn next(&mut self) -> Option<&'a Change> {
        loop {
            let (key, versions) = self.range.next()?;
            if !key.starts_with(self.prefix) {
                return None;
            }
            if let Some(change) = versions.at(self.at) {
                return Some(change);
            }
        }
    }
}

impl iter::FusedIterator for List<'_> {}
