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
mod tests;
