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

use keepwatch_protocol::Instant;

use crate::change::{Batch, Change};
use crate::encoding::{Encoded, EncodingId, Encodings};
use crate::key::{Key, Position, Revision};
use crate::log::{Log, LogLimits, PushError, RevisionError};
use crate::store::Snapshot;

/// The state and its log. It is empty, at revision 0, until the store's first snapshot.
#[derive(Debug)]
pub(crate) struct View {
    keys: BTreeMap<Key, Versions>,
    live: usize,
    bytes: usize,
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
    pub(crate) fn new(encodings: Encodings, limits: LogLimits) -> Self {
        Self {
            keys: BTreeMap::new(),
            live: 0,
            bytes: 0,
            log: Log::new(Position::START, Revision::ZERO, encodings, limits),
        }
    }

    /// The log of the changes that led here.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Makes the encoding of the batch at this position, if need be: [`Log::encode`].
    pub(crate) fn encode(&mut self, at: Position, encoding: EncodingId) -> Option<(&Arc<Encoded>, usize)> {
        self.log.encode(at, encoding)
    }

    /// Drops encodings over the limit: [`Log::drop_encodings`].
    pub(crate) fn drop_encodings(&mut self) -> usize {
        self.log.drop_encodings()
    }

    /// The same in the middle of a turn: [`Log::drop_most_encodings`].
    pub(crate) fn drop_most_encodings(&mut self) {
        self.log.drop_most_encodings();
    }

    /// The revision that the state is at now.
    pub(crate) fn revision(&self) -> Revision {
        self.log.revision()
    }

    /// How many keys exist now.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// About how many bytes the state and its older versions hold. The log's batches share the keys and values; what the log
    /// has beyond them is its encodings.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The change that made the key what it is now; `None` if it does not exist.
    pub(crate) fn get(&self, key: &str) -> Option<&Change> {
        live(&self.keys.get(key)?.newest.change)
    }

    /// The same at a revision of the past: a list of one key.
    #[cfg(test)]
    pub(crate) fn get_at(&self, key: &str, at: Revision) -> Result<Option<&Change>, RevisionError> {
        self.log.check(at)?;
        Ok(self.keys.get(key).and_then(|versions| versions.at(at)))
    }

    /// The keys that begin with `prefix` and come after `after`, as they were at that revision, in order. Pulled: it costs
    /// O(log n) to start (or to go on after a key), and then O(1) for each key, and for each key that exists only at other
    /// revisions the log reaches.
    pub(crate) fn list<'a>(
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
    pub(crate) fn next_change_of(&self, key: &str, from: Position) -> Option<Position> {
        self.keys.get(key)?.next_change(from)
    }

    /// The same for all keys with this prefix, if these are few; the head when it has seen them all. `None`: they are many, and
    /// to walk through the log is no slower.
    pub(crate) fn next_change_under(&self, prefix: &str, from: Position) -> Option<Position> {
        const FEW: usize = 32;
        let mut next = self.log.head();
        let keys = self.keys.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        for (count, (key, versions)) in keys.enumerate() {
            if !key.starts_with(prefix) {
                break;
            }
            if count == FEW {
                return None;
            }
            next = versions.next_change(from).map_or(next, |at| at.min(next));
        }
        Some(next)
    }

    /// Takes the changes of the store's next batch, and forgets what falls out of the log for them. On an error nothing has
    /// changed.
    pub(crate) fn apply(&mut self, batch: Arc<Batch>) -> Result<(), PushError> {
        self.log.push(Arc::clone(&batch))?;
        for (change, index) in batch.changes().iter().zip(1..) {
            self.insert(Version { end: batch.first().plus(index), change: change.clone() });
        }
        self.trim();
        Ok(())
    }

    /// It is that time now: forgets what is too old for the log.
    pub(crate) fn pass(&mut self, now: Instant) {
        self.log.set_time(now);
        if self.log.next_too_old().is_some_and(|at| at <= now) {
            self.trim();
        }
    }

    fn trim(&mut self) {
        while let Some(trimmed) = self.log.trim() {
            for change in trimmed.changes() {
                self.forget(&change.key);
            }
        }
    }

    /// Becomes what the store says, with an empty log. `true` if changes were missed: every watcher, also one that was up to
    /// date, is then told `compacted`.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) -> bool {
        let missed = snapshot.position != self.log.head();
        self.log = self.log.restarted(snapshot.position, snapshot.revision);
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
                // Room for one: most keys that change at all change once while the log reaches that far.
                versions.older.get_or_insert_with(|| Box::new(VecDeque::with_capacity(1))).push_back(before);
            }
        }
    }

    /// Forgets the versions of a key that no answerable revision can read.
    fn forget(&mut self, key: &Key) {
        let floor = self.log.floor_revision();
        let Some(versions) = self.keys.get_mut(key) else { return };
        while let Some(oldest) = versions.older.as_ref().and_then(|older| older.front()) {
            // It is read at the floor unless the one after it is.
            if versions.second().change.revision > floor {
                break;
            }
            self.bytes -= oldest.bytes();
            versions.pop_oldest();
        }
        let newest = &versions.newest;
        if newest.change.value.is_none() && newest.change.revision <= floor {
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

    /// The position of the first change from there on.
    fn next_change(&self, from: Position) -> Option<Position> {
        // Mostly it is the newest: a key that is hot has many, and a search through them touches much memory.
        let older = self.older.as_ref().filter(|older| older.back().is_some_and(|last| last.end > from));
        let older = older.and_then(|older| {
            let index = older.partition_point(|version| version.end <= from);
            older.get(index)
        });
        let next = older.unwrap_or(&self.newest).end;
        (next > from).then(|| Position::new(next.as_u64() - 1))
    }

    fn second(&self) -> &Version {
        self.older.as_ref().and_then(|older| older.get(1)).unwrap_or(&self.newest)
    }

    fn pop_oldest(&mut self) {
        if let Some(older) = &mut self.older {
            older.pop_front();
            if older.is_empty() {
                self.older = None;
            } else if older.len() < older.capacity() / 4 {
                // A key that was hot once does not keep the room for it.
                older.shrink_to(older.len() * 2);
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
pub(crate) struct List<'a> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: u64) -> Revision {
        Revision::new(number).unwrap()
    }

    fn change(key: &str, number: u64, value: Option<&str>) -> Change {
        Change {
            key: Key::new(key, 16).unwrap(),
            revision: revision(number),
            created: revision(number),
            value: value.map(|value| value.as_bytes().into()),
        }
    }

    /// A view that keeps so many changes.
    fn view(changes: usize) -> View {
        View::new(Encodings::new(), LogLimits { changes, ..LogLimits::default() })
    }

    /// Applies a batch of its own for each change.
    fn apply(view: &mut View, changes: &[(&str, u64, Option<&str>)]) {
        for &(key, number, value) in changes {
            let batch = Batch::new(view.log().head(), vec![change(key, number, value)]).unwrap();
            view.apply(Arc::new(batch)).unwrap();
        }
    }

    fn value(change: Option<&Change>) -> Option<&str> {
        change.map(|change| std::str::from_utf8(change.value.as_ref().unwrap()).unwrap())
    }

    fn keys<'a>(view: &'a View, prefix: &'a str, after: Option<&str>, at: u64) -> Vec<&'a str> {
        view.list(prefix, after, revision(at)).unwrap().map(|change| change.key.as_str()).collect()
    }

    /// The picture at the top of the module.
    const PICTURE: &[(&str, u64, Option<&str>)] = &[
        ("app/c", 9, Some("c9")),
        ("app/b", 12, Some("b12")),
        ("app/c", 15, None),
        ("other", 20, Some("o20")),
        ("app/a", 25, Some("a25")),
        ("app/a", 38, Some("a38")),
        ("app/b", 41, Some("b41")),
        ("app/a", 47, None),
    ];

    #[test]
    fn reads_find_the_value_of_their_revision() {
        let mut view = view(4);
        apply(&mut view, PICTURE);
        assert_eq!(view.log().floor_revision(), revision(20));
        let at = |key, at| value(view.get_at(key, revision(at)).unwrap());
        let a: Vec<_> = [20, 24, 25, 37, 38, 46, 47].iter().map(|&r| at("app/a", r)).collect();
        assert_eq!(a, [None, None, Some("a25"), Some("a25"), Some("a38"), Some("a38"), None]);
        assert_eq!(
            [at("app/b", 20), at("app/b", 40), at("app/b", 41)],
            [Some("b12"), Some("b12"), Some("b41")]
        );
        assert_eq!([view.get("app/a"), view.get("app/c"), view.get("app")], [None, None, None]);
        assert_eq!(value(view.get("app/b")), Some("b41"));
        assert_eq!(view.len(), 2);
    }

    #[test]
    fn a_read_below_the_floor_is_compacted_and_one_from_the_future_is_ahead() {
        let mut view = view(4);
        apply(&mut view, PICTURE);
        let compacted = RevisionError::Compacted { floor: revision(20) };
        let ahead = RevisionError::Ahead { current: revision(47) };
        assert_eq!(view.get_at("app/b", revision(19)), Err(compacted));
        assert_eq!(view.get_at("app/b", revision(48)), Err(ahead));
        assert_eq!(view.list("", None, revision(19)).unwrap_err(), compacted);
        assert_eq!(view.list("", None, revision(48)).unwrap_err(), ahead);
    }

    #[test]
    fn a_key_that_was_deleted_below_the_floor_is_forgotten() {
        let mut view = view(4);
        apply(&mut view, PICTURE);
        assert!(!view.keys.contains_key("app/c"));
        assert!(view.keys.contains_key("app/a"), "its delete is in the log");
        apply(&mut view, &[("x", 50, None), ("x", 51, None), ("x", 52, None), ("x", 53, None)]);
        assert!(!view.keys.contains_key("app/a"));
    }

    #[test]
    fn bytes_of_what_is_gone_are_given_back() {
        let mut view = view(2);
        apply(&mut view, &[("z", 1, Some("1")), ("z", 2, Some("1")), ("z", 3, Some("1"))]);
        let before = view.bytes();
        apply(&mut view, PICTURE.iter().map(|&(key, n, v)| (key, n + 10, v)).collect::<Vec<_>>().as_slice());
        apply(&mut view, &[("app/b", 61, None), ("other", 62, None)]);
        apply(&mut view, &[("z", 71, Some("1")), ("z", 72, Some("1")), ("z", 73, Some("1"))]);
        assert_eq!((view.bytes(), view.keys.len(), view.len()), (before, 1, 1));
    }

    #[test]
    fn a_list_has_the_keys_of_its_prefix_in_order_at_its_revision() {
        let mut view = view(100);
        apply(&mut view, PICTURE);
        assert_eq!(keys(&view, "", None, 47), ["app/b", "other"]);
        assert_eq!(keys(&view, "app/", None, 46), ["app/a", "app/b"]);
        assert_eq!(keys(&view, "app/", None, 14), ["app/b", "app/c"]);
        assert_eq!(keys(&view, "app/b", None, 46), ["app/b"]);
        assert_eq!(keys(&view, "app0", None, 46), [""; 0]);
        assert_eq!(keys(&view, "", None, 0), [""; 0]);
    }

    #[test]
    fn a_page_goes_on_behind_the_last_key_of_the_one_before() {
        let mut view = view(100);
        apply(
            &mut view,
            &[("a", 1, Some("")), ("b/1", 2, Some("")), ("b/2", 3, Some("")), ("c", 4, Some(""))],
        );
        assert_eq!(keys(&view, "b/", Some("b/1"), 4), ["b/2"]);
        assert_eq!(keys(&view, "b/", Some("b/2"), 4), [""; 0]);
        assert_eq!(keys(&view, "b/", Some("b/11"), 4), ["b/2"], "a key that is not there serves as well");
        assert_eq!(keys(&view, "b/", Some("0"), 4), ["b/1", "b/2"], "before the prefix: from its start");
        assert_eq!(keys(&view, "b/", Some("c"), 4), [""; 0]);
    }

    #[test]
    fn pages_stay_at_their_revision_while_changes_come_until_the_floor_passes_it() {
        let mut view = view(3);
        apply(&mut view, &[("a", 1, Some("a")), ("b", 2, Some("b")), ("c", 3, Some("c"))]);
        assert_eq!(keys(&view, "", None, 3)[..1], ["a"]);
        apply(&mut view, &[("b", 4, None), ("bb", 5, Some("")), ("c", 6, Some("new"))]);
        assert_eq!(keys(&view, "", Some("a"), 3), ["b", "c"]);
        assert_eq!(value(view.list("", Some("b"), revision(3)).unwrap().next()), Some("c"));
        apply(&mut view, &[("d", 7, Some(""))]);
        let floor = revision(4);
        assert_eq!(view.list("", Some("b"), revision(3)).unwrap_err(), RevisionError::Compacted { floor });
    }

    #[test]
    fn the_next_change_of_a_key_is_found_without_a_walk() {
        let mut view = view(100);
        apply(&mut view, &[("a", 1, Some("")), ("b", 2, Some("")), ("a", 3, Some("")), ("a", 4, None)]);
        let next = |key, from| view.next_change_of(key, Position::new(from)).map(Position::as_u64);
        let a: Vec<_> = (0..5).map(|from| next("a", from)).collect();
        assert_eq!(a, [Some(0), Some(2), Some(2), Some(3), None]);
        assert_eq!([next("b", 0), next("b", 1), next("b", 2)], [Some(1), Some(1), None]);
        assert_eq!(next("c", 0), None);
    }

    #[test]
    fn what_came_with_a_snapshot_is_no_change_to_wait_for() {
        let mut view = view(100);
        let items = vec![change("a", 3, Some("old")), change("b", 7, Some("old"))];
        let missed = view.restore(Snapshot { revision: revision(9), position: Position::START, items });
        assert!(!missed, "it was at that position already");
        assert_eq!(view.next_change_of("a", Position::START), None);
        assert_eq!((view.revision(), view.log().floor_revision(), view.len()), (revision(9), revision(9), 2));
        apply(&mut view, &[("a", 10, Some("new"))]);
        assert_eq!(view.next_change_of("a", Position::START), Some(Position::START));
        assert_eq!(value(view.get_at("a", revision(9)).unwrap()), Some("old"));
    }

    #[test]
    fn a_snapshot_from_further_on_means_that_changes_were_missed() {
        let mut view = view(100);
        apply(&mut view, &[("a", 1, Some("")), ("b", 2, Some(""))]);
        let items = vec![change("b", 2, Some("")), change("c", 8, Some(""))];
        assert!(view.restore(Snapshot { revision: revision(8), position: Position::new(5), items }));
        assert_eq!(keys(&view, "", None, 8), ["b", "c"]);
        assert!(view.log().position_after(revision(2)).is_err());
        assert!(view.log().changes(Position::new(2)).is_none());
        assert_eq!(view.log().changes(Position::new(5)).unwrap().count(), 0);
    }

    #[test]
    fn a_batch_that_does_not_follow_changes_nothing() {
        let mut view = view(100);
        apply(&mut view, &[("a", 1, Some("1"))]);
        let gap = Batch::new(Position::new(2), vec![change("a", 3, Some("3"))]).unwrap();
        assert_eq!(view.apply(Arc::new(gap)), Err(PushError::Position { expected: Position::new(1) }));
        assert_eq!((value(view.get("a")), view.revision()), (Some("1"), revision(1)));
    }

    #[test]
    fn several_changes_of_one_key_in_one_commit_read_as_the_last() {
        let mut view = view(2);
        let commit = vec![change("a", 5, Some("1")), change("a", 5, Some("2"))];
        view.apply(Arc::new(Batch::new(Position::START, commit).unwrap())).unwrap();
        apply(&mut view, &[("b", 6, Some(""))]);
        assert_eq!(value(view.get_at("a", revision(5)).unwrap()), Some("2"));
        assert_eq!(view.log().floor_revision(), revision(5), "the commit left as a whole");
    }

    #[test]
    fn a_key_that_was_hot_does_not_keep_the_room_for_it() {
        let mut view = view(1000);
        let hot: Vec<_> = (1..1000).map(|number| ("a", number, Some(""))).collect();
        apply(&mut view, &hot);
        let other: Vec<_> = (1000..1990).map(|number| ("b", number, Some(""))).collect();
        apply(&mut view, &other);
        let older = view.keys["a"].older.as_ref().unwrap();
        assert!(older.len() < 20 && older.capacity() < 80, "{} of {}", older.len(), older.capacity());
    }

    #[test]
    fn room_for_older_versions_is_given_back_when_less_than_a_quarter_is_used() {
        let version = |number| Version { end: Position::START, change: change("a", number, None) };
        let older = (0..1000).map(version).collect();
        let mut versions = Versions { newest: version(1000), older: Some(Box::new(older)) };
        let room = |versions: &Versions| versions.older.as_ref().map(|older| (older.len(), older.capacity()));
        let all = room(&versions).unwrap().1;
        for length in (all / 4..1000).rev() {
            versions.pop_oldest();
            assert_eq!(room(&versions), Some((length, all)));
        }
        versions.pop_oldest();
        let (length, left) = room(&versions).unwrap();
        assert!(left < all && left >= 2 * length, "{length} of {left}");
    }

    #[test]
    fn a_version_costs_its_change_and_its_position_and_a_key_its_place_in_the_tree() {
        let mut view = view(100);
        let version = change("a", 1, Some("1")).bytes() + size_of::<Position>();
        apply(&mut view, &[("a", 1, Some("1"))]);
        let place = view.bytes() - version;
        let least = size_of::<Key>() + size_of::<usize>();
        assert!((least + least / 5..2 * least).contains(&place), "{place}");
        apply(&mut view, &[("a", 2, Some("2"))]);
        assert_eq!(view.bytes(), place + 2 * version);
    }

    #[test]
    fn a_key_with_one_version_is_small() {
        assert!(size_of::<(Key, Versions)>() <= 80, "{}", size_of::<(Key, Versions)>());
    }
}
