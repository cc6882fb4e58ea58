//! What the other threads of the server do, and whoever they serve, while one machine is in the middle of something.
//!
//! The machines of a world take turns, so that each step has one order. In truth their threads run beside each other: between
//! any two calls to the system of one, another may commit, tell its client, and that client may send its next request to the
//! first. That is played here, at three places:
//!
//! | where | what another thread does there |
//! | --- | --- |
//! | a write is submitted | it writes the same key, and is faster |
//! | the store has nothing more to say | it commits, just when nobody looks any more |
//! | a call to the system | it commits; and the last byte of a request comes from a client that was told of it |
//!
//! So a machine that answers a read with what it knew at the beginning of its turn answers with less than its client knows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use keepwatch_protocol::Instant;
use keepwatch_watch::Key;
use keepwatch_watch::store::{Condition, MemoryStore, Operation};

use super::core::LinkId;
use super::model::Model;
use super::writer::KEYS;
use crate::random::Random;

/// What others may do, and what they did.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// How likely it is, in a thousand, that another thread is faster with the same key.
    faster: u32,
    /// The same of a commit in the middle of a turn.
    midst: u32,
    /// How many there may still be in this step, and in this second. Each makes machines call the system and clients ask
    /// again, and so the next ones: without a bound there may be no end of it.
    left: u32,
    left_in_second: u32,
    second: u64,
    /// How often each of them happened, and how often a byte came in the middle of a turn.
    pub(super) counts: Counts,
    /// The last bytes of requests that are still to come, by machine and client.
    withheld: BTreeMap<(usize, usize), LastByte>,
    /// Of each connection: the last of these that came, and what was known then.
    came: BTreeMap<LinkId, (u64, u64)>,
    written: u64,
}

/// Commits in the middle of turns, in one step of the world and in a second of its time.
const AT_ONCE: u32 = 3;
const IN_A_SECOND: u32 = 6;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) faster: u64,
    pub(super) midst: u64,
    pub(super) last_bytes: u64,
    /// The store took a write not at all: too many waited.
    pub(super) busy: u64,
}

/// The last byte of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastByte {
    pub(super) link: LinkId,
    pub(super) byte: u8,
    /// How many bytes the client has sent on this connection with it.
    pub(super) at: u64,
}

impl Others {
    pub(super) fn new(faster: u32, midst: u32) -> Self {
        Self { faster, midst, ..Self::default() }
    }

    /// The next step begins.
    pub(super) fn step(&mut self, now: Instant) {
        let second = now.as_nanos() / 1_000_000_000;
        if std::mem::replace(&mut self.second, second) != second {
            self.left_in_second = IN_A_SECOND;
        }
        self.left = AT_ONCE;
    }

    /// Whether there may be one more commit.
    fn may_commit(&mut self) -> bool {
        let may = self.left > 0 && self.left_in_second > 0;
        if may {
            self.left -= 1;
            self.left_in_second -= 1;
        }
        may
    }

    /// Nothing happens in between any more.
    pub(super) fn calm_down(&mut self) {
        (self.faster, self.midst) = (0, 0);
    }

    pub(super) fn withhold(&mut self, machine: usize, client: usize, last: LastByte) {
        self.withheld.insert((machine, client), last);
    }

    /// The byte that did not come yet.
    pub(super) fn release(&mut self, machine: usize, client: usize) -> Option<u8> {
        if self.withheld.is_empty() {
            return None;
        }
        self.withheld.remove(&(machine, client)).map(|last| last.byte)
    }

    /// What its client knew when the last byte of a request came, if that was in the middle of a turn.
    pub(super) fn known(&self, link: LinkId, at: u64) -> u64 {
        self.came.get(&link).filter(|(last, _)| *last == at).map_or(0, |(_, told)| *told)
    }
}

/// The others, as one machine meets them.
#[derive(Clone)]
pub(super) struct Elsewhere {
    store: MemoryStore,
    model: Rc<RefCell<Model>>,
    generation: usize,
    machine: usize,
}

impl Elsewhere {
    pub(super) fn new(
        store: &MemoryStore,
        model: &Rc<RefCell<Model>>,
        generation: usize,
        machine: usize,
    ) -> Self {
        Self { store: store.clone(), model: Rc::clone(model), generation, machine }
    }

    /// Another thread writes the same key, and is faster.
    pub(super) fn writes_first(&self, random: &mut Random, key: &Key) {
        if random.chance(self.model.borrow().others.faster) {
            self.model.borrow_mut().others.counts.faster += 1;
            self.commit(key.clone(), false);
        }
    }

    /// Another thread commits something, now and then.
    pub(super) fn commits(&self, random: &mut Random) {
        if self.is_time(random) {
            self.commit_any(random);
        }
    }

    fn is_time(&self, random: &mut Random) -> bool {
        let mut model = self.model.borrow_mut();
        let others = &mut model.others;
        let commits = others.midst > 0 && random.chance(others.midst) && others.may_commit();
        others.counts.midst += u64::from(commits);
        commits
    }

    /// A call to the system. If it is a read of a client's bytes that finds none, what may come just then is returned.
    pub(super) fn meanwhile(&self, random: &mut Random, client: Option<usize>) -> Vec<u8> {
        let place = client.map(|client| (self.machine, client));
        let last = {
            let mut model = self.model.borrow_mut();
            let withheld = &mut model.others.withheld;
            if withheld.is_empty() { None } else { place.and_then(|place| withheld.remove(&place)) }
        };
        let Some(LastByte { link, byte, at }) = last else {
            self.commits(random);
            return Vec::new();
        };
        let commits = self.model.borrow_mut().others.may_commit();
        if commits {
            self.commit_any(random);
        }
        let mut model = self.model.borrow_mut();
        model.others.counts.last_bytes += u64::from(commits);
        let told = model.generation(self.generation).told;
        model.others.came.insert(link, (at, told));
        vec![byte]
    }

    fn commit_any(&self, random: &mut Random) {
        if let Ok(key) = Key::new(random.one_of(KEYS), Key::DEFAULT_MAX) {
            self.commit(key, random.chance(200));
        }
    }

    /// Commits, and tells the one who asked.
    fn commit(&self, key: Key, deletes: bool) {
        let mut model = self.model.borrow_mut();
        model.others.written += 1;
        let value = format!("elsewhere {}", model.others.written).into_bytes().into();
        let condition = Condition::None;
        let operation = if deletes {
            Operation::Delete { key, condition }
        } else {
            Operation::Put { key, value, condition }
        };
        for reply in self.store.commit(vec![operation.clone()]) {
            let result = model.generation(self.generation).elsewhere(&operation, reply);
            model.note(result);
        }
    }
}
