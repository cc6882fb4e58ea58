//! A store whose commits have several changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use keepwatch_watch::Revision;
use keepwatch_watch::change::{Batch, Change};
use keepwatch_watch::key::{Key, Position};
use keepwatch_watch::store::{Busy, Operation, Outcome, Reply, Snapshot, Store, Ticket};

/// A store that takes a put of `a=1 b=2 c` for one commit: two keys are written, and one is deleted.
pub(crate) struct Commits {
    state: BTreeMap<Key, Change>,
    revision: Revision,
    position: Position,
    outcomes: VecDeque<Outcome>,
}

impl Commits {
    /// An empty one: its first commit has the next revision.
    pub(crate) fn new(revision: Revision) -> Self {
        let (position, items) = (Position::START, Vec::new());
        let snapshot = Snapshot { revision, position, items };
        let outcomes = [Outcome::Snapshot(snapshot)].into();
        Self { state: BTreeMap::new(), revision, position, outcomes }
    }

    fn commit(&mut self, text: &str) {
        self.revision = Revision::new(self.revision.as_u64() + 1).unwrap();
        let mut changes = Vec::new();
        for part in text.split(' ') {
            let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
            let key = Key::new(key, 10).unwrap();
            let before = self.state.get(&key).map(|change| change.created);
            let change = Change {
                key: key.clone(),
                revision: self.revision,
                created: before.unwrap_or(self.revision),
                value: value.map(|value| Arc::from(value.as_bytes())),
            };
            match value {
                Some(_) => drop(self.state.insert(key, change.clone())),
                None => drop(self.state.remove(&key).unwrap()),
            }
            changes.push(change);
        }
        let batch = Batch::new(self.position, changes).unwrap();
        self.position = batch.end();
        self.outcomes.push_back(Outcome::Batch(Arc::new(batch)));
    }
}

impl Store for Commits {
    fn start(&mut self, _waker: &Waker) {}

    fn submit(&mut self, ticket: Ticket, operation: Operation) -> Result<(), Busy> {
        let Operation::Put { value, .. } = operation else { return Err(Busy) };
        self.commit(std::str::from_utf8(&value).unwrap());
        let reply = Reply::Written { revision: self.revision, created: false, changed: true };
        self.outcomes.push_back(Outcome::Reply(ticket, reply));
        Ok(())
    }

    fn poll(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }
}
