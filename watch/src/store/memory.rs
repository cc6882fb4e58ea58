//! A store in memory, for one process: one lock around the state, taken once by each machine in a turn in which it writes or
//! has something to read, and not at all in any other.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::change::{Batch, Change};
use crate::key::{Key, Position, Revision};
use crate::store::{Busy, Full, Operation, Outcome, Reply, Snapshot, Store, Ticket};

/// What a [`MemoryStore`] holds at most.
///
/// The limits of the state are about the state alone. Each machine has a replica of its tree and a log beside it; keys and values
/// themselves are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Keys.
    pub keys: usize,
    /// Bytes of all keys and values, with what it takes to hold them.
    pub bytes: usize,
    /// Operations that a machine submits in one turn.
    pub queued: usize,
    /// Bytes of the operations that a machine submits in one turn; a single one is always taken.
    pub queued_bytes: usize,
    /// Bytes of the batches that wait for a machine; when they are more, it gets a snapshot instead.
    pub inbox_bytes: usize,
}

impl Default for StoreLimits {
    /// Keys of 1 KiB, values of 1 MiB; 1,000,000 keys and 1 GiB in all; 65,536 operations and 32 MiB in a turn, 64 MiB
    /// waiting for a machine.
    fn default() -> Self {
        Self {
            key_bytes: Key::DEFAULT_MAX,
            value_bytes: 1 << 20,
            keys: 1_000_000,
            bytes: 1 << 30,
            queued: 1 << 16,
            queued_bytes: 32 << 20,
            inbox_bytes: 64 << 20,
        }
    }
}

/// The state that machines share. Cloning gives another handle on the same state.
///
/// It keeps the state as it is now and no history: that is in the machines' logs.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
    limits: StoreLimits,
}

struct Shared {
    items: BTreeMap<Key, Change>,
    bytes: usize,
    revision: Revision,
    /// The position of the next change.
    position: Position,
    /// One for each machine; `None` for those that are gone.
    ports: Vec<Option<Port>>,
}

/// What waits for a machine.
struct Port {
    inbox: VecDeque<Arc<Batch>>,
    bytes: usize,
    /// It joins, or its inbox ran over: it gets the state instead, and until then nothing is kept for it.
    snapshot: bool,
    /// Whether there is anything: read by the machine without the lock, written under it.
    ready: Arc<AtomicBool>,
    waker: Option<Waker>,
}

impl MemoryStore {
    /// An empty state at that revision; the first change gets the next one.
    ///
    /// A store that begins empty after every start gives revisions again that clients know from before, unless they begin higher
    /// each time: so the runtime gives the wall clock here, in microseconds since 1970.
    pub fn new(first_revision: Revision, limits: StoreLimits) -> Self {
        let shared = Shared {
            items: BTreeMap::new(),
            bytes: 0,
            revision: first_revision,
            position: Position::START,
            ports: Vec::new(),
        };
        Self { shared: Arc::new(Mutex::new(shared)), limits }
    }

    /// The limits it was made with.
    pub fn limits(&self) -> &StoreLimits {
        &self.limits
    }

    /// The revision of the newest change.
    pub fn revision(&self) -> Revision {
        lock(&self.shared).revision
    }

    /// A way to this state for one more machine. It may join at any time, and leaves by being dropped.
    pub fn machine(&self) -> MemoryMachine {
        let ready = Arc::new(AtomicBool::new(true));
        let port =
            Port { inbox: VecDeque::new(), bytes: 0, snapshot: true, ready: Arc::clone(&ready), waker: None };
        let mut shared = lock(&self.shared);
        let free = shared.ports.iter().position(Option::is_none).unwrap_or(shared.ports.len());
        match shared.ports.get_mut(free) {
            Some(place) => *place = Some(port),
            None => shared.ports.push(Some(port)),
        }
        drop(shared);
        MemoryMachine {
            store: self.clone(),
            port: free,
            ready,
            queue: Vec::new(),
            queued_bytes: 0,
            batches: VecDeque::new(),
            replies: VecDeque::new(),
            snapshot: None,
        }
    }

    /// Commits these operations in one batch, from outside of every machine and from any thread, and gives their replies in
    /// order. All machines are woken; each sees the changes in its next poll.
    ///
    /// Keep it well under [`StoreLimits::inbox_bytes`]: machines that cannot take the batch get a snapshot, and their
    /// watchers must list again.
    pub fn commit(&self, operations: Vec<Operation>) -> Vec<Reply> {
        let mut commit = Commit::default();
        let mut shared = lock(&self.shared);
        let replies = operations
            .into_iter()
            .map(|operation| shared.execute(operation, &self.limits, &mut commit))
            .collect();
        shared.seal(commit, None, &self.limits).wake_after(shared);
        replies
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A machine's end of a [`MemoryStore`].
#[derive(Debug)]
pub struct MemoryMachine {
    store: MemoryStore,
    port: usize,
    ready: Arc<AtomicBool>,
    queue: Vec<(Ticket, Operation)>,
    queued_bytes: usize,
    /// Taken out of the shared part and not yet out of `poll`: first the snapshot, then the batches, then the replies.
    snapshot: Option<Snapshot>,
    batches: VecDeque<Arc<Batch>>,
    replies: VecDeque<(Ticket, Reply)>,
}

impl Store for MemoryMachine {
    fn start(&mut self, waker: &Waker) {
        let mut shared = lock(&self.store.shared);
        let waiting = shared.port_mut(self.port).is_some_and(|port| {
            port.waker = Some(waker.clone());
            port.ready.load(Ordering::Relaxed)
        });
        drop(shared);
        if waiting {
            waker.wake_by_ref();
        }
    }

    fn submit(&mut self, ticket: Ticket, operation: Operation) -> Result<(), Busy> {
        let bytes = operation.bytes();
        let limits = &self.store.limits;
        let full = self.queue.len() >= limits.queued || self.queued_bytes + bytes > limits.queued_bytes;
        if full && !self.queue.is_empty() {
            return Err(Busy);
        }
        self.queued_bytes += bytes;
        self.queue.push((ticket, operation));
        Ok(())
    }

    fn poll(&mut self) -> Option<Outcome> {
        loop {
            if let Some(snapshot) = self.snapshot.take() {
                return Some(Outcome::Snapshot(snapshot));
            }
            if let Some(batch) = self.batches.pop_front() {
                return Some(Outcome::Batch(batch));
            }
            if let Some((ticket, reply)) = self.replies.pop_front() {
                return Some(Outcome::Reply(ticket, reply));
            }
            // Acquire: a machine that was told of a reply elsewhere sees the batch that was pushed before it.
            if self.queue.is_empty() && !self.ready.load(Ordering::Acquire) {
                return None;
            }
            self.turn();
        }
    }
}

impl MemoryMachine {
    /// Everything that a turn needs of the shared part, under one lock: reads what others committed, commits what was
    /// queued.
    fn turn(&mut self) {
        let mut shared = lock(&self.store.shared);
        if let Some(port) = shared.port_mut(self.port) {
            port.ready.store(false, Ordering::Relaxed);
            port.bytes = 0;
            // Swapped, so that neither side allocates again.
            std::mem::swap(&mut self.batches, &mut port.inbox);
            if std::mem::take(&mut port.snapshot) {
                self.snapshot = Some(shared.snapshot());
            }
        }
        let mut commit = Commit::default();
        for (ticket, operation) in self.queue.drain(..) {
            let reply = shared.execute(operation, &self.store.limits, &mut commit);
            self.replies.push_back((ticket, reply));
        }
        self.queued_bytes = 0;
        let sealed = shared.seal(commit, Some(self.port), &self.store.limits);
        self.batches.extend(sealed.batch.clone());
        sealed.wake_after(shared);
    }
}

impl Drop for MemoryMachine {
    fn drop(&mut self) {
        if let Some(port) = lock(&self.store.shared).ports.get_mut(self.port) {
            *port = None;
        }
    }
}

/// The changes of a turn, until they are sealed.
#[derive(Default)]
struct Commit(Vec<Change>);

/// A batch is in all inboxes, and these have to be told.
#[derive(Default)]
struct Sealed {
    batch: Option<Arc<Batch>>,
    wakers: Vec<Waker>,
}

impl Sealed {
    /// Wakes without the lock: a waker may do anything, even poll.
    fn wake_after(self, shared: MutexGuard<'_, Shared>) {
        drop(shared);
        self.wakers.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    fn port_mut(&mut self, port: usize) -> Option<&mut Port> {
        self.ports.get_mut(port)?.as_mut()
    }

    fn snapshot(&self) -> Snapshot {
        let items = self.items.values().cloned().collect();
        Snapshot { revision: self.revision, position: self.position, items }
    }

    /// Decides an operation and does it.
    fn execute(&mut self, operation: Operation, limits: &StoreLimits, commit: &mut Commit) -> Reply {
        let condition = operation.condition();
        let (key, value) = match operation {
            Operation::Put { key, value, .. } => (key, Some(value)),
            Operation::Delete { key, .. } => (key, None),
        };
        let keys = self.items.len();
        let entry = self.items.entry(key);
        let current = match &entry {
            Entry::Occupied(place) => Some(place.get()),
            Entry::Vacant(_) => None,
        };
        let revision = current.map(|current| current.revision);
        if !condition.holds(revision) {
            return Reply::Conflict { current: revision };
        }
        if let (Some(current), Some(value)) = (current, &value) {
            if current.value.as_ref() == Some(value) {
                return Reply::Written { revision: current.revision, created: false, changed: false };
            }
        }
        let Some(next) = self.revision.next() else { return Reply::Full { why: Full::Revisions } };
        match (entry, value) {
            (Entry::Vacant(_), None) => Reply::Missing,
            (Entry::Occupied(place), None) => {
                // With the key of the entry, not the operation's: one copy of a key's text is shared by all.
                let (key, old) = place.remove_entry();
                self.bytes -= item_bytes(&old);
                commit.0.push(Change { key, revision: next, created: old.created, value: None });
                self.revision = next;
                Reply::Deleted { revision: next }
            }
            (entry, Some(value)) => {
                let (key, created, before) = match &entry {
                    Entry::Occupied(place) => (place.key(), place.get().created, item_bytes(place.get())),
                    Entry::Vacant(place) => (place.key(), next, 0),
                };
                let change = Change { key: key.clone(), revision: next, created, value: Some(value) };
                let is_new = before == 0;
                let bytes = self.bytes - before + item_bytes(&change);
                if let Some(why) = too_much(&change, bytes, keys + usize::from(is_new), is_new, limits) {
                    return Reply::Full { why };
                }
                match entry {
                    Entry::Occupied(mut place) => *place.get_mut() = change.clone(),
                    Entry::Vacant(place) => {
                        place.insert(change.clone());
                    }
                }
                commit.0.push(change);
                (self.bytes, self.revision) = (bytes, next);
                Reply::Written { revision: next, created: is_new, changed: true }
            }
        }
    }

    /// Puts the changes of a turn in the inboxes of all machines but `from`.
    fn seal(&mut self, commit: Commit, from: Option<usize>, limits: &StoreLimits) -> Sealed {
        // It fails only on a turn without changes: `execute` gives growing revisions.
        let Ok(batch) = Batch::new(self.position, commit.0) else { return Sealed::default() };
        let batch = Arc::new(batch);
        self.position = batch.end();
        let mut wakers = Vec::new();
        for (index, port) in self.ports.iter_mut().enumerate() {
            if let Some(port) = port.as_mut().filter(|_| Some(index) != from) {
                port.push(&batch, limits);
                // Release: see `poll`. Who has been woken and has not polled since need not be woken again.
                if !port.ready.swap(true, Ordering::Release) {
                    wakers.extend(port.waker.clone());
                }
            }
        }
        Sealed { batch: Some(batch), wakers }
    }
}

impl Port {
    fn push(&mut self, batch: &Arc<Batch>, limits: &StoreLimits) {
        if self.snapshot {
            return;
        }
        self.bytes += batch.bytes();
        if self.bytes > limits.inbox_bytes {
            self.snapshot = true;
            self.bytes = 0;
            self.inbox = VecDeque::new();
        } else {
            self.inbox.push_back(Arc::clone(batch));
        }
    }
}

/// What an item costs: its change, and a place in the tree with the key a second time.
fn item_bytes(change: &Change) -> usize {
    change.bytes() + size_of::<Key>()
}

fn too_much(change: &Change, bytes: usize, keys: usize, is_new: bool, limits: &StoreLimits) -> Option<Full> {
    let value = change.value.as_ref().map_or(0, |value| value.len());
    if change.key.len() > limits.key_bytes {
        Some(Full::KeyBytes { max: limits.key_bytes })
    } else if value > limits.value_bytes {
        Some(Full::ValueBytes { max: limits.value_bytes })
    } else if is_new && keys > limits.keys {
        Some(Full::Keys { max: limits.keys })
    } else if bytes > limits.bytes {
        Some(Full::Bytes { max: limits.bytes })
    } else {
        None
    }
}

/// The lock. No code under it can fail half-way, so a poisoned one is as good as any.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encodings;
    use crate::log::LogLimits;
    use crate::store::Condition;
    use crate::view::View;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    fn revision(number: u64) -> Revision {
        Revision::new(number).unwrap()
    }

    fn key(text: &str) -> Key {
        Key::new(text, 1024).unwrap()
    }

    fn put_if(text: &str, value: &str, condition: Condition) -> Operation {
        Operation::Put { key: key(text), value: value.as_bytes().into(), condition }
    }

    fn put(text: &str, value: &str) -> Operation {
        put_if(text, value, Condition::None)
    }

    fn delete(text: &str, condition: Condition) -> Operation {
        Operation::Delete { key: key(text), condition }
    }

    /// An empty store at revision 100.
    fn store(limits: StoreLimits) -> MemoryStore {
        MemoryStore::new(revision(100), limits)
    }

    fn reply(store: &MemoryStore, operation: Operation) -> Reply {
        store.commit(vec![operation])[0]
    }

    fn written(number: u64) -> Reply {
        Reply::Written { revision: revision(number), created: false, changed: true }
    }

    fn created(number: u64) -> Reply {
        Reply::Written { revision: revision(number), created: true, changed: true }
    }

    /// What comes out of a machine, in one line each.
    fn poll(machine: &mut MemoryMachine) -> Vec<String> {
        let line = |outcome| match outcome {
            Outcome::Snapshot(Snapshot { revision, position, items }) => {
                let keys: Vec<_> = items.iter().map(|item| item.key.as_str()).collect();
                format!("snapshot r{revision} p{position} {}", keys.join(","))
            }
            Outcome::Batch(batch) => {
                let change = |change: &Change| {
                    let kind = if change.value.is_some() { "put" } else { "delete" };
                    format!(" {kind} {} r{} c{}", change.key, change.revision, change.created)
                };
                format!("batch p{}{}", batch.first(), batch.changes().iter().map(change).collect::<String>())
            }
            Outcome::Reply(Ticket(ticket), _) => format!("reply {ticket}"),
        };
        std::iter::from_fn(|| machine.poll()).map(line).collect()
    }

    fn waker() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        (Arc::clone(&woken), Waker::from(woken))
    }

    struct Woken(AtomicUsize);

    impl Woken {
        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_first_outcome_is_a_snapshot() {
        let store = store(StoreLimits::default());
        let mut first = store.machine();
        assert_eq!(poll(&mut first), ["snapshot r100 p0 "]);
        store.commit(vec![put("b", "1"), put("a", "1"), put("b", "2")]);
        assert_eq!(poll(&mut store.machine()), ["snapshot r103 p3 a,b"]);
    }

    #[test]
    fn what_was_submitted_before_the_first_poll_follows_the_snapshot() {
        let store = store(StoreLimits::default());
        let mut machine = store.machine();
        machine.submit(Ticket(1), put("a", "1")).unwrap();
        assert_eq!(poll(&mut machine), ["snapshot r100 p0 ", "batch p0 put a r101 c101", "reply 1"]);
    }

    #[test]
    fn the_operations_of_a_turn_are_one_batch_and_their_replies_come_behind_it() {
        let store = store(StoreLimits::default());
        let mut machine = store.machine();
        poll(&mut machine);
        machine.submit(Ticket(7), put("a", "1")).unwrap();
        machine.submit(Ticket(8), put("a", "1")).unwrap();
        machine.submit(Ticket(9), delete("a", Condition::None)).unwrap();
        let batch = "batch p0 put a r101 c101 delete a r102 c101";
        assert_eq!(poll(&mut machine), [batch, "reply 7", "reply 8", "reply 9"]);
    }

    #[test]
    fn a_write_on_one_machine_is_there_in_the_next_poll_of_another() {
        let store = store(StoreLimits::default());
        let (mut a, mut b) = (store.machine(), store.machine());
        let mut view = View::new(Encodings::new(), LogLimits::default());
        a.submit(Ticket(1), put("k", "v")).unwrap();
        poll(&mut a);
        while let Some(outcome) = b.poll() {
            match outcome {
                Outcome::Snapshot(snapshot) => _ = view.restore(snapshot),
                Outcome::Batch(batch) => view.apply(batch).unwrap(),
                Outcome::Reply(..) => unreachable!("b wrote nothing"),
            }
        }
        assert_eq!(view.get("k").unwrap().value.as_deref(), Some(&b"v"[..]));
    }

    #[test]
    fn batches_of_others_come_before_the_machines_own() {
        let store = store(StoreLimits::default());
        let (mut a, mut b) = (store.machine(), store.machine());
        poll(&mut a);
        poll(&mut b);
        b.submit(Ticket(1), put("b", "")).unwrap();
        a.submit(Ticket(1), put("a", "")).unwrap();
        poll(&mut a);
        assert_eq!(poll(&mut b), ["batch p0 put a r101 c101", "batch p1 put b r102 c102", "reply 1"]);
        assert_eq!(poll(&mut a), ["batch p1 put b r102 c102"]);
    }

    #[test]
    fn the_bytes_that_are_there_already_are_no_change() {
        let store = store(StoreLimits::default());
        let mut machine = store.machine();
        poll(&mut machine);
        assert_eq!(reply(&store, put("a", "1")), created(101));
        poll(&mut machine);
        let same = Reply::Written { revision: revision(101), created: false, changed: false };
        assert_eq!(reply(&store, put("a", "1")), same);
        assert_eq!(poll(&mut machine), [""; 0]);
        assert_eq!(reply(&store, put("a", "2")), written(102));
    }

    #[test]
    fn a_condition_is_checked_before_the_bytes_are_compared() {
        let store = store(StoreLimits::default());
        reply(&store, put("a", "1"));
        let conflict = Reply::Conflict { current: Some(revision(101)) };
        assert_eq!(reply(&store, put_if("a", "1", Condition::Absent)), conflict);
        assert_eq!(reply(&store, put_if("a", "1", Condition::Revision(revision(100)))), conflict);
    }

    #[test]
    fn each_condition_holds_when_it_says_so() {
        let at = revision(101);
        let holds = |condition: Condition| [None, Some(at), Some(revision(102))].map(|r| condition.holds(r));
        assert_eq!(holds(Condition::None), [true, true, true]);
        assert_eq!(holds(Condition::Revision(at)), [false, true, false]);
        assert_eq!(holds(Condition::Present), [false, true, true]);
        assert_eq!(holds(Condition::Absent), [true, false, false]);
    }

    #[test]
    fn compare_and_swap_writes_once() {
        let store = store(StoreLimits::default());
        assert_eq!(reply(&store, put_if("a", "1", Condition::Absent)), created(101));
        let swap = |value| put_if("a", value, Condition::Revision(revision(101)));
        assert_eq!(reply(&store, swap("2")), written(102));
        assert_eq!(reply(&store, swap("3")), Reply::Conflict { current: Some(revision(102)) });
        let gone = put_if("none", "1", Condition::Present);
        assert_eq!(reply(&store, gone), Reply::Conflict { current: None });
    }

    #[test]
    fn deletes_say_what_they_found() {
        let store = store(StoreLimits::default());
        reply(&store, put("a", "1"));
        assert_eq!(reply(&store, delete("b", Condition::None)), Reply::Missing);
        assert_eq!(reply(&store, delete("b", Condition::Absent)), Reply::Missing);
        assert_eq!(reply(&store, delete("b", Condition::Present)), Reply::Conflict { current: None });
        let other = Condition::Revision(revision(100));
        assert_eq!(reply(&store, delete("a", other)), Reply::Conflict { current: Some(revision(101)) });
        assert_eq!(
            reply(&store, delete("a", Condition::Present)),
            Reply::Deleted { revision: revision(102) }
        );
        assert_eq!(store.revision(), revision(102));
    }

    #[test]
    fn a_key_that_comes_back_is_created_again() {
        let store = store(StoreLimits::default());
        let mut machine = store.machine();
        poll(&mut machine);
        store.commit(vec![put("a", "1"), put("a", "2"), delete("a", Condition::None), put("a", "3")]);
        let batch = "batch p0 put a r101 c101 put a r102 c101 delete a r103 c101 put a r104 c104";
        assert_eq!(poll(&mut machine), [batch]);
    }

    #[test]
    fn limits_are_told_and_change_nothing() {
        let limits = StoreLimits { key_bytes: 3, value_bytes: 4, keys: 2, ..StoreLimits::default() };
        let store = store(limits);
        store.commit(vec![put("a", "1"), put("b", "1")]);
        let full = |why| Reply::Full { why };
        assert_eq!(reply(&store, put("abcd", "1")), full(Full::KeyBytes { max: 3 }));
        assert_eq!(reply(&store, put("a", "12345")), full(Full::ValueBytes { max: 4 }));
        assert_eq!(reply(&store, put("c", "1")), full(Full::Keys { max: 2 }));
        assert_eq!(store.revision(), revision(102));
        assert_eq!(reply(&store, put("a", "1234")), written(103), "a full store still changes its keys");
        reply(&store, delete("a", Condition::None));
        assert_eq!(reply(&store, put("c", "1")), created(105), "and has room again after a delete");
    }

    #[test]
    fn the_limit_of_bytes_counts_what_is_there_now() {
        let one = item_bytes(&Change {
            key: key("a"),
            revision: revision(1),
            created: revision(1),
            value: Some([0; 100].into()),
        });
        let store = store(StoreLimits { bytes: 2 * one, ..StoreLimits::default() });
        let value = "x".repeat(100);
        store.commit(vec![put("a", &value), put("b", &value)]);
        let full = Reply::Full { why: Full::Bytes { max: 2 * one } };
        assert_eq!(reply(&store, put("c", "")), full);
        assert_eq!(reply(&store, put("a", &"x".repeat(101))), full);
        assert_eq!(reply(&store, put("a", &"y".repeat(100))), written(103));
        reply(&store, delete("a", Condition::None));
        assert_eq!(reply(&store, put("c", &value)), created(105));
    }

    #[test]
    fn when_the_revisions_are_used_up_nothing_is_written() {
        let last = Revision::new(Revision::MAX.as_u64() - 1).unwrap();
        let store = MemoryStore::new(last, StoreLimits::default());
        assert_eq!(
            store.commit(vec![put("a", "1"), put("b", "1"), put("a", "1"), delete("a", Condition::None)]),
            [
                Reply::Written { revision: Revision::MAX, created: true, changed: true },
                Reply::Full { why: Full::Revisions },
                Reply::Written { revision: Revision::MAX, created: false, changed: false },
                Reply::Full { why: Full::Revisions },
            ]
        );
    }

    #[test]
    fn a_machine_that_submits_too_much_in_a_turn_is_told_busy() {
        let store = store(StoreLimits { queued: 2, queued_bytes: 1000, ..StoreLimits::default() });
        let mut machine = store.machine();
        poll(&mut machine);
        machine.submit(Ticket(1), put("a", "1")).unwrap();
        machine.submit(Ticket(2), put("b", "1")).unwrap();
        assert_eq!(machine.submit(Ticket(3), put("c", "1")), Err(Busy));
        assert_eq!(poll(&mut machine), ["batch p0 put a r101 c101 put b r102 c102", "reply 1", "reply 2"]);
        let large = "x".repeat(2000);
        assert_eq!(machine.submit(Ticket(4), put("a", &large)), Ok(()), "a single one is always taken");
        assert_eq!(machine.submit(Ticket(5), put("b", "")), Err(Busy));
    }

    #[test]
    fn a_machine_that_does_not_poll_gets_a_snapshot_instead_of_what_it_missed() {
        let store = store(StoreLimits { inbox_bytes: 1000, ..StoreLimits::default() });
        let mut slow = store.machine();
        poll(&mut slow);
        for number in 0..100 {
            reply(&store, put("a", &number.to_string()));
            let held = lock(&store.shared).port_mut(slow.port).unwrap().inbox.len();
            assert!(held < 10, "{held} batches wait");
        }
        slow.submit(Ticket(1), put("b", "")).unwrap();
        assert_eq!(poll(&mut slow), ["snapshot r200 p100 a", "batch p100 put b r201 c201", "reply 1"]);
        reply(&store, put("a", "again"));
        assert_eq!(poll(&mut slow), ["batch p101 put a r202 c101"], "from then on it has batches again");
    }

    #[test]
    fn the_others_are_woken_once_until_they_poll() {
        let store = store(StoreLimits::default());
        let (mut a, mut b) = (store.machine(), store.machine());
        let ((a_woken, a_waker), (b_woken, b_waker)) = (waker(), waker());
        a.start(&a_waker);
        b.start(&b_waker);
        assert_eq!((a_woken.times(), b_woken.times()), (1, 1), "the snapshot waits");
        poll(&mut a);
        poll(&mut b);
        for ticket in 0..3 {
            a.submit(Ticket(ticket), put("a", &ticket.to_string())).unwrap();
            poll(&mut a);
        }
        assert_eq!((a_woken.times(), b_woken.times()), (1, 2));
        poll(&mut b);
        reply(&store, put("b", ""));
        assert_eq!((a_woken.times(), b_woken.times()), (2, 3));
    }

    #[test]
    fn nobody_is_woken_when_nothing_changed() {
        let store = store(StoreLimits::default());
        let mut machine = store.machine();
        let (woken, waker) = waker();
        poll(&mut machine);
        machine.start(&waker);
        reply(&store, delete("none", Condition::None));
        assert_eq!(woken.times(), 0);
    }

    #[test]
    fn a_poll_with_nothing_to_do_takes_no_lock() {
        let store = store(StoreLimits::default());
        let mut machine = store.machine();
        poll(&mut machine);
        let held = lock(&store.shared);
        assert!(machine.poll().is_none(), "it would wait for ever");
        drop(held);
    }

    #[test]
    fn a_machine_that_leaves_gives_its_place_to_the_next() {
        let store = store(StoreLimits::default());
        drop(store.machine());
        let mut next = store.machine();
        assert_eq!(lock(&store.shared).ports.len(), 1);
        assert_eq!(poll(&mut next), ["snapshot r100 p0 "]);
    }

    #[test]
    fn one_copy_of_a_keys_text_is_shared_by_all_its_changes() {
        let store = store(StoreLimits::default());
        let mut machine = store.machine();
        poll(&mut machine);
        store.commit(vec![put("a", "1"), put("a", "2"), delete("a", Condition::None)]);
        let Some(Outcome::Batch(batch)) = machine.poll() else { unreachable!("a batch waits") };
        let text = |index: usize| batch.changes()[index].key.as_str().as_ptr();
        assert_eq!([text(1), text(2)], [text(0), text(0)]);
    }

    #[test]
    fn machines_on_threads_of_their_own_end_with_the_same_state() {
        const WRITES: u64 = 300;
        let store = store(StoreLimits { inbox_bytes: 4000, ..StoreLimits::default() });
        let turn = |machine: &mut MemoryMachine, view: &mut View| {
            let mut replies = 0;
            while let Some(outcome) = machine.poll() {
                match outcome {
                    Outcome::Snapshot(snapshot) => _ = view.restore(snapshot),
                    Outcome::Batch(batch) => view.apply(batch).unwrap(),
                    Outcome::Reply(_, Reply::Written { revision, .. }) => {
                        assert!(view.revision() >= revision, "a reply came before its batch");
                        replies += 1;
                    }
                    Outcome::Reply(_, reply) => unreachable!("{reply:?}"),
                }
            }
            replies
        };
        let mut machines: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = ["a", "b", "c"]
                .into_iter()
                .map(|name| {
                    let mut machine = store.machine();
                    scope.spawn(move || {
                        let mut view = View::new(Encodings::new(), LogLimits::default());
                        let mut replies = 0;
                        for ticket in 0..WRITES {
                            let key = if ticket % 2 == 0 { name } else { "all" };
                            machine.submit(Ticket(ticket), put(key, &format!("{name}{ticket}"))).unwrap();
                            if ticket % 3 == 0 {
                                replies += turn(&mut machine, &mut view);
                            }
                        }
                        replies += turn(&mut machine, &mut view);
                        assert_eq!(replies, WRITES);
                        (machine, view)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (machine, view) in &mut machines {
            turn(machine, view);
            let state: Vec<_> = view.list("", None, view.revision()).unwrap().cloned().collect();
            assert_eq!(state, lock(&store.shared).snapshot().items);
            assert_eq!(view.revision().as_u64(), 100 + 3 * WRITES);
        }
    }
}
