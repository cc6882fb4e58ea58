//! What is true: the log of committed changes, tapped between the server and its store, and a naive store beside it that
//! says what each operation must have come to.
//!
//! Nothing in here is shared with what it checks: states are found by walking through all changes, and keys and revisions
//! are compared as text and numbers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use keepwatch_protocol::Instant;
use keepwatch_watch::Config;
use keepwatch_watch::change::{Batch, Change};
use keepwatch_watch::store::{
    Busy, Condition, Full, MemoryMachine, MemoryStore, Operation, Outcome, Reply, Snapshot, Store, Ticket,
};

use super::others::{Elsewhere, Others};
use crate::random::Random;

/// One committed change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) revision: u64,
    pub(super) created: u64,
    /// `None`: a deletion.
    pub(super) value: Option<Vec<u8>>,
}

impl From<&Change> for Entry {
    fn from(change: &Change) -> Self {
        Self {
            key: change.key.as_str().to_owned(),
            revision: change.revision.as_u64(),
            created: change.created.as_u64(),
            value: change.value.as_ref().map(|value| value.to_vec()),
        }
    }
}

impl Entry {
    /// Whether this is what was told. The JSON of a deletion does not say when the key was made.
    pub(super) fn is_told_as(&self, told: &Self) -> bool {
        let created = self.created == told.created || self.value.is_none();
        created && (&self.key, self.revision, &self.value) == (&told.key, told.revision, &told.value)
    }
}

/// What a client watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    Key(String),
    Prefix(String),
}

impl Filter {
    pub(super) fn matches(&self, key: &str) -> bool {
        match self {
            Self::Key(wanted) => wanted == key,
            Self::Prefix(prefix) => key.as_bytes().starts_with(prefix.as_bytes()),
        }
    }
}

/// Everything that was ever committed, from one start of the server to the next.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) generations: Vec<Generation>,
    /// The first thing that cannot be.
    pub(super) problem: Option<String>,
    pub(super) others: Others,
}

/// From one start to the next: the store begins empty.
#[derive(Debug)]
pub(super) struct Generation {
    /// The revision that it begins at.
    pub(super) first: u64,
    pub(super) log: Vec<Entry>,
    /// The highest revision that anyone was told of: no later read may answer with less.
    pub(super) told: u64,
    pub(super) machines: Vec<Tap>,
    /// Where in the log each key's newest change is, of those whose operation is known.
    state: BTreeMap<String, usize>,
    /// Committed, and the reply to the operation has not come out yet.
    unexplained: VecDeque<usize>,
    /// Values, each of one write, whose writer was told that the write was not done.
    refused: BTreeSet<Vec<u8>>,
    /// The values that were begun to be sent under [`UPLOADS`].
    uploads: BTreeSet<Vec<u8>>,
    /// Batches that left a log as they were too old.
    pub(super) aged: u64,
    now: Instant,
    config: Config,
}

/// The keys under which nothing is written but what was [begun](Generation::upload) to be sent, and that in whole.
pub(super) const UPLOADS: &str = "up/";

/// What one machine has been given by the store.
#[derive(Debug, Default)]
pub(super) struct Tap {
    submitted: BTreeMap<u64, Operation>,
    /// Positions below this one are known to the machine.
    seen: usize,
    /// What its log keeps.
    batches: VecDeque<Kept>,
    bytes: usize,
    /// The first position that its log keeps.
    pub(super) floor: usize,
    /// Where the floor was when a batch left last for its age.
    pub(super) aged: usize,
    /// Snapshots after the first: who watched before one was told to list again.
    pub(super) snapshots: usize,
}

/// A batch that a log keeps.
#[derive(Clone, Copy, Debug)]
struct Kept {
    end: usize,
    bytes: usize,
    since: Instant,
}

impl Tap {
    /// The oldest batch leaves its log.
    fn forget(&mut self) {
        if let Some(Kept { end, bytes, .. }) = self.batches.pop_front() {
            (self.floor, self.bytes) = (end, self.bytes - bytes);
        }
    }

    /// When the oldest batch leaves its log, if the newest is another.
    fn next_too_old(&self, age: Duration) -> Option<Instant> {
        let oldest = self.batches.front().filter(|_| self.batches.len() > 1);
        oldest.map(|kept| kept.since + age)
    }

    /// How many changes its log keeps.
    pub(super) fn kept(&self) -> usize {
        self.seen - self.floor
    }
}

impl Generation {
    pub(super) fn new(first: u64, machines: usize, config: Config, now: Instant) -> Self {
        Self {
            first,
            log: Vec::new(),
            told: first,
            machines: (0..machines).map(|_| Tap::default()).collect(),
            state: BTreeMap::new(),
            unexplained: VecDeque::new(),
            refused: BTreeSet::new(),
            uploads: BTreeSet::new(),
            aged: 0,
            now,
            config,
        }
    }

    /// The newest revision.
    pub(super) fn revision(&self) -> u64 {
        self.log.last().map_or(self.first, |entry| entry.revision)
    }

    /// How many changes have a revision up to this one.
    pub(super) fn position_after(&self, revision: u64) -> usize {
        self.log.iter().take_while(|entry| entry.revision <= revision).count()
    }

    /// The lowest revision that a machine can answer from.
    pub(super) fn floor_revision(&self, machine: usize) -> u64 {
        match self.machines[machine].floor {
            0 => self.first,
            floor => self.log[floor - 1].revision,
        }
    }

    /// The change that made the key what it was after so many changes; `None` if it did not exist.
    pub(super) fn at(&self, key: &str, changes: usize) -> Option<&Entry> {
        let newest = self.log[..changes].iter().rev().find(|entry| entry.key == key);
        newest.filter(|entry| entry.value.is_some())
    }

    /// The state after so many changes, in the order of the keys.
    pub(super) fn list(&self, filter: &Filter, changes: usize) -> Vec<&Entry> {
        let mut keys = BTreeMap::new();
        for entry in self.log[..changes].iter().filter(|entry| filter.matches(&entry.key)) {
            keys.insert(entry.key.as_bytes(), entry);
        }
        keys.into_values().filter(|entry| entry.value.is_some()).collect()
    }

    /// The change with this revision.
    pub(super) fn find(&self, revision: u64) -> Option<&Entry> {
        self.log.iter().find(|entry| entry.revision == revision)
    }

    /// Somebody was told of this revision.
    pub(super) fn tell(&mut self, revision: u64) {
        self.told = self.told.max(revision);
    }

    /// Somebody begins to send this value to a key under [`UPLOADS`].
    pub(super) fn upload(&mut self, value: &[u8]) {
        self.uploads.insert(value.to_vec());
    }

    /// The writer of this value, which no other write has, was told that it was not written: it is not, nor will it be.
    pub(super) fn refuse(&mut self, value: &[u8]) -> Result<(), String> {
        self.refused.insert(value.to_vec());
        match self.log.iter().find(|entry| entry.value.as_deref() == Some(value)) {
            Some(entry) => Err(format!("{:?} at {} was refused, and written", entry.key, entry.revision)),
            None => Ok(()),
        }
    }

    /// What was written is what somebody sent, in whole, and was not refused.
    fn may_be(&self, entry: &Entry) -> Result<(), String> {
        let Some(value) = &entry.value else { return Ok(()) };
        if self.refused.contains(value) {
            return Err(format!("{:?} at {} is written, and was refused", entry.key, entry.revision));
        }
        if entry.key.starts_with(UPLOADS) && !self.uploads.contains(value) {
            let length = value.len();
            return Err(format!("{:?} at {}: nobody sent these {length} bytes", entry.key, entry.revision));
        }
        Ok(())
    }

    /// When the next batch of a machine's log will be too old.
    pub(super) fn next_too_old(&self, machine: usize) -> Option<Instant> {
        self.machines[machine].next_too_old(self.config.log.age?)
    }

    /// It is that time now: each machine's log loses what is too old, but for the newest batch.
    pub(super) fn pass(&mut self, now: Instant) {
        self.now = now;
        let Some(age) = self.config.log.age else { return };
        for tap in &mut self.machines {
            while tap.next_too_old(age).is_some_and(|at| at <= now) {
                tap.forget();
                tap.aged = tap.floor;
                self.aged += 1;
            }
        }
    }

    fn batch(&mut self, machine: usize, batch: &Batch) -> Result<(), String> {
        let first = batch.first().as_u64() as usize;
        if first != self.machines[machine].seen {
            return Err(format!(
                "machine {machine} got a batch at {first}, and knows {}",
                self.machines[machine].seen
            ));
        }
        for (at, change) in (first..).zip(batch.changes()) {
            let entry = Entry::from(change);
            match self.log.get(at) {
                Some(known) if *known == entry => {}
                Some(known) => return Err(format!("machine {machine} got {entry:?} for {known:?}")),
                None if entry.revision <= self.revision() => {
                    return Err(format!("{entry:?} is not newer than {}", self.revision()));
                }
                None => {
                    self.may_be(&entry)?;
                    self.unexplained.push_back(at);
                    self.log.push(entry);
                }
            }
        }
        let (limits, tap) = (self.config.log, &mut self.machines[machine]);
        tap.seen = first + batch.changes().len();
        tap.batches.push_back(Kept { end: tap.seen, bytes: batch.bytes(), since: self.now });
        tap.bytes += batch.bytes();
        while tap.batches.len() > 1 && (tap.bytes > limits.bytes || tap.seen - tap.floor > limits.changes) {
            tap.forget();
        }
        self.pass(self.now);
        Ok(())
    }

    fn snapshot(&mut self, machine: usize, snapshot: &Snapshot) -> Result<(), String> {
        let at = snapshot.position.as_u64() as usize;
        let tap = &mut self.machines[machine];
        if at != tap.seen {
            tap.snapshots += 1;
        }
        (tap.seen, tap.floor, tap.bytes) = (at, at, 0);
        tap.batches.clear();
        let state = self.list(&Filter::Prefix(String::new()), at);
        let items: Vec<Entry> = snapshot.items.iter().map(Entry::from).collect();
        if !items.iter().eq(state) {
            return Err(format!("the snapshot at {at} is not the state there"));
        }
        Ok(())
    }

    /// The reply must be what a naive store says, and the change that it made the next one of the log.
    fn reply(&mut self, machine: usize, ticket: u64, reply: Reply) -> Result<(), String> {
        let Some(operation) = self.machines[machine].submitted.remove(&ticket) else {
            return Err(format!("machine {machine} got a reply to {ticket}, which nobody asked"));
        };
        let decided = self.unexplained.front().map_or(self.log.len(), |at| *at);
        let Some(entry) = self.decide(&operation, decided, reply)? else { return Ok(()) };
        match self.unexplained.pop_front().map(|at| (at, &self.log[at])) {
            Some((at, made)) if *made == entry => {
                self.became(at);
                Ok(())
            }
            other => Err(format!("{operation:?} was committed as {other:?} and not as {entry:?}")),
        }
    }

    /// Another thread committed this, and was told so.
    pub(super) fn elsewhere(&mut self, operation: &Operation, reply: Reply) -> Result<(), String> {
        if let Some(entry) = self.decide(operation, self.log.len(), reply)? {
            self.tell(entry.revision);
            self.log.push(entry);
            self.became(self.log.len() - 1);
        }
        Ok(())
    }

    /// What a naive store makes of an operation that is decided when so many changes are committed.
    fn decide(&self, operation: &Operation, decided: usize, reply: Reply) -> Result<Option<Entry>, String> {
        let key = operation.key().as_str().to_owned();
        let current = self.state.get(&key).map(|at| &self.log[*at]);
        let next = 1 + decided.checked_sub(1).map_or(self.first, |at| self.log[at].revision);
        let value = match operation {
            Operation::Put { value, .. } => Some(value.to_vec()),
            Operation::Delete { .. } => None,
        };
        let holds = match operation.condition() {
            Condition::None => true,
            Condition::Revision(revision) => current.is_some_and(|entry| entry.revision == revision.as_u64()),
            Condition::Present => current.is_some(),
            Condition::Absent => current.is_none(),
        };
        let number = |revision: Option<u64>| revision.and_then(keepwatch_watch::Revision::new);
        let revision = number(Some(next)).unwrap_or_default();
        let limits = self.config.store;
        if let (true, Some(value), Reply::Full { why: Full::Bytes { max } }) = (holds, &value, reply) {
            if max == limits.bytes && current.is_none_or(|entry| entry.value.as_ref() != Some(value)) {
                return self.may_be_full(&key, value).map(|()| None);
            }
        }
        let expected = match (holds, current, &value) {
            (false, _, _) => Reply::Conflict { current: number(current.map(|entry| entry.revision)) },
            (true, None, None) => Reply::Missing,
            (true, Some(_), None) => Reply::Deleted { revision },
            (true, Some(entry), Some(_)) if entry.value == value => Reply::Written {
                revision: number(Some(entry.revision)).unwrap_or_default(),
                created: false,
                changed: false,
            },
            (true, None, Some(_)) if self.state.len() >= limits.keys => {
                Reply::Full { why: Full::Keys { max: limits.keys } }
            }
            (true, _, Some(_)) => Reply::Written { revision, created: current.is_none(), changed: true },
        };
        if reply != expected {
            return Err(format!("{operation:?} on {current:?} was answered {reply:?} and not {expected:?}"));
        }
        if let (Reply::Written { changed: true, .. }, Some(value)) = (reply, &value) {
            if self.payload_with(&key, value) > limits.bytes {
                return Err(format!("{operation:?} was taken, and there was no room for it"));
            }
        }
        let changed = matches!(reply, Reply::Deleted { .. } | Reply::Written { changed: true, .. });
        let created = current.map_or(next, |entry| entry.created);
        Ok(changed.then_some(Entry { key, revision: next, created, value }))
    }

    /// The bytes of all keys and values if this key had this value.
    fn payload_with(&self, key: &str, value: &[u8]) -> usize {
        let others = self.state.iter().filter(|(other, _)| *other != key);
        let others = others.map(|(other, at)| other.len() + self.log[*at].value.as_ref().map_or(0, Vec::len));
        others.sum::<usize>() + key.len() + value.len()
    }

    /// What it takes to hold a key and a value is the store's business, as long as it is little.
    fn may_be_full(&self, key: &str, value: &[u8]) -> Result<(), String> {
        const HOLDING: usize = 256;
        let most = self.payload_with(key, value) + HOLDING * (self.state.len() + 1);
        if most > self.config.store.bytes {
            return Ok(());
        }
        Err(format!("{key:?} was refused, and there are at most {most} of {} bytes", self.config.store.bytes))
    }

    /// The change at this place of the log is the newest of its key.
    fn became(&mut self, at: usize) {
        let Entry { key, value, .. } = &self.log[at];
        if value.is_some() {
            self.state.insert(key.clone(), at);
        } else {
            self.state.remove(key);
        }
    }
}

impl Model {
    pub(super) fn generation(&mut self, generation: usize) -> &mut Generation {
        &mut self.generations[generation]
    }

    /// The one that is running, or was the last to run.
    pub(super) fn newest(&self) -> usize {
        self.generations.len() - 1
    }

    /// Whether each committed change has come from an operation that was asked for.
    pub(super) fn is_explained(&self) -> bool {
        self.generations.last().is_none_or(|generation| generation.unexplained.is_empty())
    }

    pub(super) fn note(&mut self, result: Result<(), String>) {
        if let Err(problem) = result {
            self.problem.get_or_insert(problem);
        }
    }
}

/// A machine's store, and the tap between them.
pub(super) struct Tapped {
    inner: MemoryMachine,
    random: Random,
    elsewhere: Elsewhere,
    model: Rc<RefCell<Model>>,
    generation: usize,
    machine: usize,
}

impl Tapped {
    pub(super) fn new(
        store: &MemoryStore,
        random: Random,
        model: &Rc<RefCell<Model>>,
        generation: usize,
        machine: usize,
    ) -> Self {
        let elsewhere = Elsewhere::new(store, model, generation, machine);
        Self { inner: store.machine(), random, elsewhere, model: Rc::clone(model), generation, machine }
    }
}

impl Store for Tapped {
    fn start(&mut self, waker: &Waker) {
        self.inner.start(waker);
    }

    fn submit(&mut self, ticket: Ticket, operation: Operation) -> Result<(), Busy> {
        let submitted = self.inner.submit(ticket, operation.clone());
        self.model.borrow_mut().others.counts.busy += u64::from(submitted.is_err());
        submitted?;
        self.elsewhere.writes_first(&mut self.random, operation.key());
        let mut model = self.model.borrow_mut();
        model.generation(self.generation).machines[self.machine].submitted.insert(ticket.0, operation);
        Ok(())
    }

    fn poll(&mut self) -> Option<Outcome> {
        let Some(outcome) = self.inner.poll() else {
            self.elsewhere.commits(&mut self.random);
            return None;
        };
        let mut model = self.model.borrow_mut();
        let generation = model.generation(self.generation);
        let result = match &outcome {
            Outcome::Snapshot(snapshot) => generation.snapshot(self.machine, snapshot),
            Outcome::Batch(batch) => generation.batch(self.machine, batch),
            Outcome::Reply(ticket, reply) => generation.reply(self.machine, ticket.0, *reply),
            _ => Ok(()),
        };
        model.note(result);
        Some(outcome)
    }
}
