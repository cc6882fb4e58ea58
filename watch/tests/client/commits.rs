//! Commits of several changes: a connection may end between two of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use keepwatch_watch::change::{Batch, Change};
use keepwatch_watch::client::ClientConfig;
use keepwatch_watch::key::{Key, Position};
use keepwatch_watch::store::{Busy, Operation, Outcome, Reply, Snapshot, Store, Ticket};
use keepwatch_watch::{Config, LogLimits, Shared};

use crate::support::{ALL, START, World, only, prefix, revision, secs};

/// A store that takes a put of `a=1 b=2 c` for one commit: two keys are written, and one is deleted.
struct Commits {
    state: BTreeMap<Key, Change>,
    revision: u64,
    position: Position,
    outcomes: VecDeque<Outcome>,
}

impl Commits {
    fn new() -> Self {
        let (position, items) = (Position::START, Vec::new());
        let snapshot = Snapshot { revision: revision(START), position, items };
        let outcomes = [Outcome::Snapshot(snapshot)].into();
        Self { state: BTreeMap::new(), revision: START, position, outcomes }
    }

    fn commit(&mut self, text: &str) {
        self.revision += 1;
        let mut changes = Vec::new();
        for part in text.split(' ') {
            let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
            let key = Key::new(key, 10).unwrap();
            let before = self.state.get(&key).map(|change| change.created);
            let change = Change {
                key: key.clone(),
                revision: revision(self.revision),
                created: before.unwrap_or(revision(self.revision)),
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
        let reply = Reply::Written { revision: revision(self.revision), created: false, changed: true };
        self.outcomes.push_back(Outcome::Reply(ticket, reply));
        Ok(())
    }

    fn poll(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }
}

fn world(server: Config, config: ClientConfig) -> World<Commits> {
    let server = Shared::new(server, revision(START)).machine_over(Commits::new(), 1);
    World::over(server, prefix(""), config)
}

fn story(world: &mut World<Commits>) {
    world.run();
    for commit in ["a=1 b=1 c=1 d=1", "a=2 b d=2", "c d b=3 e=3", "e"] {
        world.put("commit", commit);
        world.advance(secs(1));
    }
    world.advance(secs(60));
}

#[test]
fn every_change_of_a_commit_is_told_once_wherever_the_connection_ends() {
    for transport in ALL {
        let mut whole = world(Config::default(), only(transport));
        story(&mut whole);
        for at in (0..=whole.received).step_by(1 + whole.received / 200) {
            let mut world = world(Config::default(), only(transport));
            world.cut_at = Some(at);
            story(&mut world);
            // That nothing was told twice was checked on the way.
            world.agrees();
            assert_eq!(world.known.map.len(), 2, "{transport}, cut at {at}");
        }
    }
}

#[test]
fn a_commit_of_which_a_part_was_told_may_be_compacted() {
    for transport in ALL {
        let keeping = |changes| LogLimits { changes, ..LogLimits::default() };
        for at in 0..20 {
            let config = Config { log: keeping(1), ..Config::default() };
            let mut world = world(config, only(transport));
            world.advance(secs(1));
            world.cut_at = Some(world.received + 20 * at);
            world.put("commit", "a=1 b=1 c=1 d=1 e=1");
            world.advance(std::time::Duration::from_millis(1));
            world.put("commit", "a b=2 d=2");
            world.advance(secs(60));
            world.agrees();
        }
    }
}
