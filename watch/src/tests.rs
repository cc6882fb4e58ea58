//! The log, the view, the index and the store against models that keep everything and look at all of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::FileFailurePersistence;

use crate::change::{Batch, Change};
use crate::encoding::{Encoder, EncodingId, Encodings};
use crate::index::{Filter, Index, WatcherId};
use crate::key::{Key, Position, Revision};
use crate::log::{LogLimits, RevisionError};
use crate::store::{
    Condition, MemoryMachine, MemoryStore, Operation, Outcome, Reply, Store, StoreLimits, Ticket,
};
use crate::view::View;

/// Some nested, some whose first differing characters begin with the same byte (U+00E9, U+00EA: C3 A9, C3 AA).
const KEYS: &[&str] = &["a", "a/", "a/b", "a/b/c", "a/c", "ab", "b", "\u{e9}", "\u{e9}/\u{ea}", "\u{ea}"];
const PREFIXES: &[&str] =
    &["", "a", "a/", "a/b", "a/d", "aa", "b", "c", "\u{e9}", "\u{e9}/", "\u{ea}", "\u{eb}"];

fn config(cases: u32) -> ProptestConfig {
    let seeds = FileFailurePersistence::Direct("src/tests.proptest-regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() }
}

fn revision(number: u64) -> Revision {
    Revision::new(number).unwrap()
}

fn key(text: &str) -> Key {
    Key::new(text, 1024).unwrap()
}

fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        select(KEYS).prop_map(|text| Filter::key(text, 1024).unwrap()),
        select(PREFIXES).prop_map(|text| Filter::prefix(text, 1024).unwrap()),
    ]
}

struct Line;

impl Encoder for Line {
    fn encode(&self, change: &Change, _: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(line(change).as_bytes());
    }
}

fn line(change: &Change) -> String {
    format!("{} {} {:?}\n", change.key, change.revision, change.value)
}

// ------------------------------------------------------------------------------------------ log, view and index together

/// How far the revision grows, and the changes that it covers.
type Commit = (u64, Vec<(&'static str, Option<u8>)>);

/// What happens to a view and those who read it.
#[derive(Clone, Debug)]
enum Step {
    /// A turn.
    Batch(Vec<Commit>),
    /// A new watcher, since so many revisions before the current one (or after it).
    Watch(Filter, i64),
    /// A watcher reads up to so many changes.
    Read(usize, usize),
    /// A watcher is gone.
    Leave(usize),
    /// A list begins, that many revisions back.
    List(&'static str, i64),
    /// The list goes on with a page of so many keys.
    Page(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let change = (select(KEYS), proptest::option::weighted(0.7, any::<u8>()));
    let commit = (1..4u64, prop::collection::vec(change, 1..4));
    prop_oneof![
        4 => prop::collection::vec(commit, 1..4).prop_map(Step::Batch),
        2 => (filter(), -2..12i64).prop_map(|(filter, back)| Step::Watch(filter, back)),
        5 => (0..8usize, 1..6usize).prop_map(|(watcher, count)| Step::Read(watcher, count)),
        1 => (0..8usize).prop_map(Step::Leave),
        1 => (select(PREFIXES), -2..12i64).prop_map(|(prefix, back)| Step::List(prefix, back)),
        3 => (1..4usize).prop_map(Step::Page),
    ]
}

/// Everything that ever happened.
#[derive(Default)]
struct History {
    changes: Vec<Change>,
    /// How many changes each kept batch has, and where the first kept one starts.
    kept: VecDeque<usize>,
    floor: usize,
    keep: usize,
}

impl History {
    fn revision(&self) -> Revision {
        self.changes.last().map_or(Revision::ZERO, |change| change.revision)
    }

    fn floor_revision(&self) -> Revision {
        self.floor.checked_sub(1).map_or(Revision::ZERO, |last| self.changes[last].revision)
    }

    fn push(&mut self, changes: &[Change]) {
        self.changes.extend_from_slice(changes);
        self.kept.push_back(changes.len());
        while self.kept.len() > 1 && self.changes.len() - self.floor > self.keep {
            self.floor += self.kept.pop_front().unwrap();
        }
    }

    fn check(&self, at: Revision) -> Result<(), RevisionError> {
        if at < self.floor_revision() {
            Err(RevisionError::Compacted { floor: self.floor_revision() })
        } else if at > self.revision() {
            Err(RevisionError::Ahead { current: self.revision() })
        } else {
            Ok(())
        }
    }

    fn state(&self, at: Revision) -> BTreeMap<&str, &Change> {
        let mut state = BTreeMap::new();
        for change in self.changes.iter().take_while(|change| change.revision <= at) {
            match change.value {
                Some(_) => state.insert(change.key.as_str(), change),
                None => state.remove(change.key.as_str()),
            };
        }
        state
    }

    /// The first change from `from` on that this filter is about.
    fn next(&self, filter: &Filter, from: usize) -> Option<usize> {
        (from..self.changes.len()).find(|&index| filter.matches(&self.changes[index].key))
    }
}

/// A watcher as the server will have it, and how much of the history it was given.
struct Watcher {
    /// `None`: up to date.
    behind: Option<Position>,
    seen: usize,
}

struct World {
    view: View,
    line: EncodingId,
    index: Index<Watcher>,
    watchers: Vec<WatcherId>,
    history: History,
    list: Option<(&'static str, Revision, Option<String>)>,
}

impl World {
    fn new(keep: usize) -> Self {
        let mut encodings = Encodings::new();
        let line = encodings.register(Arc::new(Line)).unwrap();
        // So few bytes of encodings that they are dropped and made again all the time.
        let limits = LogLimits { changes: keep, encoded_bytes: 300, ..LogLimits::default() };
        Self {
            view: View::new(encodings, limits),
            line,
            index: Index::new(),
            watchers: Vec::new(),
            history: History { keep, ..History::default() },
            list: None,
        }
    }

    fn back(&self, back: i64) -> Revision {
        let number = self.history.revision().as_u64().saturating_add_signed(-back);
        revision(number)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Batch(commits) => self.batch(commits),
            Step::Watch(filter, back) => self.watch(filter, self.back(back)),
            Step::Read(watcher, count) => {
                if let Some(&id) = self.watchers.get(watcher) {
                    self.read(id, count);
                }
            }
            Step::Leave(watcher) => {
                if watcher < self.watchers.len() {
                    assert!(self.index.remove(self.watchers.remove(watcher)).is_some());
                }
            }
            Step::List(prefix, back) => self.list = Some((prefix, self.back(back), None)),
            Step::Page(count) => self.page(count),
        }
    }

    fn batch(&mut self, commits: Vec<Commit>) {
        let mut at = self.history.revision().as_u64();
        let mut changes = Vec::new();
        for (gap, commit) in commits {
            at += gap;
            for (text, value) in commit {
                let value = value.map(|byte| Arc::from([byte]));
                changes.push(Change { key: key(text), revision: revision(at), created: revision(at), value });
            }
        }
        let first = self.view.log().head();
        self.history.push(&changes);
        let batch = Arc::new(Batch::new(first, changes).unwrap());
        self.view.apply(Arc::clone(&batch)).unwrap();
        for (offset, change) in batch.changes().iter().enumerate() {
            self.index.visit(&change.key, |_, watcher| {
                watcher.behind.get_or_insert(first.plus(offset));
            });
        }
        self.compare();
    }

    fn watch(&mut self, filter: Filter, since: Revision) {
        let position = self.view.log().position_after(since);
        let check = self.history.check(since);
        assert_eq!(position.map(|_| ()), check);
        if let Ok(position) = position {
            let seen = self.history.changes.iter().take_while(|change| change.revision <= since).count();
            assert_eq!(position, Position::new(seen as u64));
            let behind = (position < self.view.log().head()).then_some(position);
            self.watchers.push(self.index.add(filter, Watcher { behind, seen }).unwrap());
        }
    }

    /// Gives a watcher its next changes; each is the next one that the history has for it.
    fn read(&mut self, id: WatcherId, count: usize) {
        let filter = self.index.filter_of(id).unwrap().clone();
        let Watcher { behind, mut seen } = *self.index.get(id).unwrap();
        let Some(mut at) = behind else {
            assert_eq!(self.history.next(&filter, seen), None, "up to date, and yet something is missing");
            return;
        };
        let head = self.view.log().head();
        if at < self.view.log().floor() {
            let lost = self.history.next(&filter, seen).is_some_and(|next| next < self.history.floor);
            // A watcher that began behind holds the position it began at, not yet that of a change for it.
            assert!(lost || at == Position::new(seen as u64), "compacted, though nothing was lost");
            (at, seen) = (head, self.history.changes.len());
        }
        for _ in 0..count {
            let next = match &filter {
                Filter::Key(key) => self.view.next_change_of(key, at),
                Filter::Prefix(_) => {
                    let mut changes = self.view.log().changes(at).unwrap();
                    changes.find(|(_, change)| filter.matches(&change.key)).map(|(position, _)| position)
                }
            };
            let expected = self.history.next(&filter, seen);
            assert_eq!(next, expected.map(|index| Position::new(index as u64)));
            let Some((next, index)) = next.zip(expected) else {
                at = head;
                break;
            };
            let frame = {
                let (encoded, index) = self.view.encode(next, self.line).unwrap();
                encoded.frame_bytes(index).to_vec()
            };
            assert_eq!(String::from_utf8(frame).unwrap(), line(&self.history.changes[index]));
            (at, seen) = (next.plus(1), index + 1);
        }
        self.view.drop_encodings();
        assert!(self.view.log().encoded_bytes() <= 300);
        *self.index.get_mut(id).unwrap() = Watcher { behind: (at < head).then_some(at), seen };
    }

    fn page(&mut self, count: usize) {
        let Some((prefix, at, after)) = self.list.take() else { return };
        let list = match self.view.list(prefix, after.as_deref(), at) {
            Ok(list) => list,
            Err(error) => return assert_eq!(self.history.check(at), Err(error)),
        };
        assert_eq!(self.history.check(at), Ok(()));
        let state = self.history.state(at);
        let expected: Vec<_> = state
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && after.as_deref().is_none_or(|after| **key > after))
            .map(|(_, change)| (*change).clone())
            .take(count)
            .collect();
        let page: Vec<_> = list.take(count).cloned().collect();
        assert_eq!(page, expected);
        if let Some(last) = page.last() {
            self.list = Some((prefix, at, Some(last.key.to_string())));
        }
    }

    /// Every read that there is.
    fn compare(&self) {
        let (view, history) = (&self.view, &self.history);
        assert_eq!(
            (view.revision(), view.log().floor_revision()),
            (history.revision(), history.floor_revision())
        );
        assert_eq!(view.log().floor(), Position::new(history.floor as u64));
        assert_eq!(view.len(), history.state(history.revision()).len());
        for number in history.floor_revision().as_u64().saturating_sub(1)..=history.revision().as_u64() + 1 {
            let at = revision(number);
            let state = history.state(at);
            for text in KEYS {
                let expected = history.check(at).map(|()| state.get(text).copied());
                assert_eq!(view.get_at(text, at), expected, "{text} at {at}");
            }
        }
        for index in 0..history.changes.len() {
            let at = Position::new(index as u64);
            let kept = (index >= history.floor).then(|| &history.changes[index]);
            assert_eq!(view.log().change(at), kept);
            let last = history.changes.get(index + 1).map(|next| next.revision);
            let ends = kept.is_some_and(|change| Some(change.revision) != last);
            assert_eq!(view.log().ends_commit(at), ends);
        }
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn every_watcher_sees_each_change_once_in_order_or_is_told_compacted(
        keep in 1..20usize,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(keep);
        for step in steps {
            world.step(step);
        }
        for id in world.watchers.clone() {
            world.read(id, usize::MAX);
            world.read(id, 1);
        }
    }
}

// --------------------------------------------------------------------------------------------------------------- the index

#[derive(Clone, Debug)]
enum Turn {
    Add(Filter),
    Remove(usize),
    Visit(String),
}

fn turn() -> impl Strategy<Value = Turn> {
    let text = || {
        prop::collection::vec(select(&["a", "b", "/", "\u{e9}", "\u{ea}", "\u{20ac}", "\u{20ad}"][..]), 0..5)
    };
    let filter = (any::<bool>(), text()).prop_map(|(whole, parts)| {
        let text = parts.concat();
        match Filter::key(&text, 1024) {
            Ok(filter) if whole => filter,
            _ => Filter::prefix(&text, 1024).unwrap(),
        }
    });
    prop_oneof![
        3 => filter.prop_map(Turn::Add),
        1 => any::<usize>().prop_map(Turn::Remove),
        3 => text().prop_map(|parts| Turn::Visit(parts.concat())),
    ]
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn a_visit_finds_who_a_look_at_every_filter_finds(turns in prop::collection::vec(turn(), 1..80)) {
        let mut index = Index::new();
        let mut all: Vec<(WatcherId, Filter, usize)> = Vec::new();
        for (number, turn) in turns.into_iter().enumerate() {
            match turn {
                Turn::Add(filter) => {
                    let id = index.add(filter.clone(), number).unwrap();
                    prop_assert!(all.iter().all(|(other, ..)| *other != id));
                    prop_assert_eq!(index.filter_of(id), Some(&filter));
                    all.push((id, filter, number));
                }
                Turn::Remove(choice) if !all.is_empty() => {
                    let (id, _, number) = all.remove(choice % all.len());
                    prop_assert_eq!(index.remove(id), Some(number));
                }
                Turn::Remove(_) => {}
                Turn::Visit(key) => {
                    let mut visited = Vec::new();
                    index.visit(&key, |id, &mut number| visited.push((id, number)));
                    // The order too: the key, then the longest prefix first, and in each the order of adding.
                    let mut expected: Vec<_> = all.iter().filter(|(_, filter, _)| filter.matches(&key)).collect();
                    expected.sort_by_key(|(_, filter, _)| match filter {
                        Filter::Key(_) => (0, 0),
                        Filter::Prefix(prefix) => (1, usize::MAX - prefix.len()),
                    });
                    let expected: Vec<_> = expected.into_iter().map(|(id, _, number)| (*id, *number)).collect();
                    prop_assert_eq!(visited, expected);
                }
            }
            let mut filters: Vec<_> = all.iter().map(|(_, filter, _)| filter).collect();
            filters.sort();
            filters.dedup();
            prop_assert_eq!((index.len(), index.filters()), (all.len(), filters.len()));
        }
    }
}

// --------------------------------------------------------------------------------------------------------------- the store

#[derive(Clone, Debug)]
enum Act {
    Submit(usize, Wanted),
    Commit(Vec<Wanted>),
    Poll(usize),
}

/// An operation whose condition may name the key's revision as the model has it when it is submitted.
#[derive(Clone, Debug)]
struct Wanted {
    key: &'static str,
    value: Option<u8>,
    condition: u8,
}

fn act() -> impl Strategy<Value = Act> {
    let wanted = || {
        let value = proptest::option::weighted(0.7, 0..3u8);
        (select(&KEYS[..4]), value, 0..7u8).prop_map(|(key, value, condition)| Wanted {
            key,
            value,
            condition,
        })
    };
    prop_oneof![
        4 => (0..2usize, wanted()).prop_map(|(machine, wanted)| Act::Submit(machine, wanted)),
        1 => prop::collection::vec(wanted(), 0..4).prop_map(Act::Commit),
        3 => (0..2usize).prop_map(Act::Poll),
    ]
}

/// The state as one map, written by one operation after the other.
struct Model {
    items: BTreeMap<Key, Change>,
    revision: Revision,
}

impl Model {
    fn operation(&self, wanted: &Wanted) -> Operation {
        let key = key(wanted.key);
        let current = self.items.get(&key).map(|change| change.revision);
        let condition = match wanted.condition {
            0..3 => Condition::None,
            3 => Condition::Absent,
            4 => Condition::Present,
            _ => Condition::Revision(current.unwrap_or(Revision::ZERO)),
        };
        match wanted.value {
            Some(byte) => Operation::Put { key, value: [byte].into(), condition },
            None => Operation::Delete { key, condition },
        }
    }

    fn execute(&mut self, operation: &Operation) -> Reply {
        let current = self.items.get(operation.key()).cloned();
        let at = current.as_ref().map(|change| change.revision);
        if !operation.condition().holds(at) {
            return Reply::Conflict { current: at };
        }
        let next = self.revision.next().unwrap();
        match operation {
            Operation::Delete { key, .. } => {
                if self.items.remove(key).is_none() {
                    return Reply::Missing;
                }
                self.revision = next;
                Reply::Deleted { revision: next }
            }
            Operation::Put { key, value, .. } => {
                if let Some(same) = current.as_ref().filter(|change| change.value.as_ref() == Some(value)) {
                    return Reply::Written { revision: same.revision, created: false, changed: false };
                }
                let created = current.as_ref().map_or(next, |change| change.created);
                let change =
                    Change { key: key.clone(), revision: next, created, value: Some(Arc::clone(value)) };
                self.items.insert(key.clone(), change);
                self.revision = next;
                Reply::Written { revision: next, created: current.is_none(), changed: true }
            }
        }
    }
}

/// A machine and what it knows.
struct Replica {
    machine: MemoryMachine,
    view: View,
    queue: Vec<(Ticket, Operation)>,
}

impl Replica {
    fn new(store: &MemoryStore) -> Self {
        let view = View::new(Encodings::new(), LogLimits { changes: 5, ..LogLimits::default() });
        Self { machine: store.machine(), view, queue: Vec::new() }
    }

    /// Polls until there is nothing: then the view is the model, and the replies are the model's.
    fn poll(&mut self, model: &mut Model) {
        let expected: Vec<_> =
            self.queue.drain(..).map(|(ticket, operation)| (ticket, model.execute(&operation))).collect();
        let mut replies = Vec::new();
        while let Some(outcome) = self.machine.poll() {
            match outcome {
                Outcome::Snapshot(snapshot) => {
                    assert!(replies.is_empty());
                    self.view.restore(snapshot);
                }
                Outcome::Batch(batch) => {
                    assert!(replies.is_empty(), "a batch came behind a reply");
                    self.view.apply(batch).unwrap();
                }
                Outcome::Reply(ticket, reply) => replies.push((ticket, reply)),
            }
        }
        assert_eq!(replies, expected);
        assert_eq!(self.view.revision(), model.revision);
        let state: Vec<_> = self.view.list("", None, model.revision).unwrap().cloned().collect();
        assert_eq!(state, model.items.values().cloned().collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn a_machine_that_has_polled_knows_all_that_any_client_was_told(
        inbox_bytes in select(&[0, 500, 1 << 20][..]),
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let store = MemoryStore::new(revision(1000), StoreLimits { inbox_bytes, ..StoreLimits::default() });
        let mut model = Model { items: BTreeMap::new(), revision: revision(1000) };
        let mut machines = [Replica::new(&store), Replica::new(&store)];
        for (number, act) in (0..).zip(acts) {
            match act {
                Act::Submit(machine, wanted) => {
                    let operation = model.operation(&wanted);
                    machines[machine].machine.submit(Ticket(number), operation.clone()).unwrap();
                    machines[machine].queue.push((Ticket(number), operation));
                }
                Act::Commit(wanted) => {
                    let operations: Vec<_> = wanted.iter().map(|wanted| model.operation(wanted)).collect();
                    let expected: Vec<_> = operations.iter().map(|operation| model.execute(operation)).collect();
                    assert_eq!(store.commit(operations), expected);
                }
                Act::Poll(machine) => machines[machine].poll(&mut model),
            }
        }
        for machine in &mut machines {
            machine.poll(&mut model);
        }
        machines[0].poll(&mut model);
    }
}
