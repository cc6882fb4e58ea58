//! What all connections of a machine share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use fastrand::Rng;
use keepwatch_protocol::timer::Wheel;
use keepwatch_protocol::{Blocks, ConnectionId, Instant, Now, http1, websocket};

use super::Shared;
use super::delivery::Delivery;
use super::kept::Keeping;
use super::metrics::{Levels, Metrics};
use super::publishing::Publishing;
use super::stream::Answered;
use super::watcher::{self, Owner, Watcher};
use crate::admission::{Guests, IdleShown};
use crate::budget::Buffers;
use crate::change::Batch;
use crate::compressed::Tally;
use crate::config::Config;
use crate::handle::{Answer, Queue};
use crate::index::{Index, WatcherId};
use crate::key::Position;
use crate::room::Member;
use crate::shapes::Written;
use crate::store::{Busy, Condition, Operation, Outcome, Reply, Store, Ticket};
use crate::surface::Surfaces;
use crate::view::View;

pub(super) struct Core<S> {
    pub(super) config: Config,
    pub(super) http: Arc<http1::Config>,
    pub(super) websocket: Arc<websocket::Config>,
    pub(super) store: S,
    pub(super) view: View,
    pub(super) surfaces: Surfaces,
    pub(super) index: Index<Watcher>,
    pub(super) delivery: Delivery,
    pub(super) answered: Option<Answered>,
    pub(super) ready: Ready,
    pub(super) timers: Wheel,
    pub(super) writes: Writes,
    pub(super) room: Member,
    /// Who reads `/hello`, by slot.
    pub(super) readers: BTreeSet<u32>,
    pub(super) publishing: Publishing,
    pub(super) metrics: Metrics,
    /// What the encoders of all machines did.
    pub(super) compressed: Tally,
    /// Connections that were admitted and are not closed.
    pub(super) guests: Guests,
    pub(super) idle: IdleConnections,
    /// What requests and answers under way may hold.
    pub(super) buffers: Buffers,
    pub(super) keeping: Keeping,
    pub(super) roomless: Roomless,
    pub(super) page: Arc<[u8]>,
    pub(super) farewells: Option<Farewells>,
    random: Rng,
    /// Leads to [`Core::settle`].
    waker: Waker,
}

impl<S: Store> Core<S> {
    pub(super) fn new(shared: &Shared, store: S, queue: Arc<Queue>, seed: u64) -> Self {
        let Shared {
            config,
            encodings: (encodings, surfaces),
            room,
            compressed,
            board,
            admissions,
            buffers,
            ..
        } = shared;
        let (config, encodings, guests) = (config.clone(), encodings.clone(), admissions.guests());
        let mut http = config.http.clone();
        http.limits.body_bytes = config.value_bytes as u64;
        // An answer that is held is no handler that failed.
        let held = config.hold + Duration::from_secs(60);
        http.timeouts.handler = http.timeouts.handler.map(|handler| handler.max(held));
        Self {
            http: Arc::new(http),
            websocket: Arc::new(config.websocket.clone()),
            store,
            view: View::new(encodings, config.log),
            surfaces: *surfaces,
            index: Index::new(),
            delivery: Delivery::default(),
            answered: None,
            ready: Ready::default(),
            timers: Wheel::new(Duration::from_millis(4)),
            writes: Writes::default(),
            room: room.join(config.hello_lines),
            readers: BTreeSet::new(),
            publishing: Publishing::new(queue),
            metrics: board.join(),
            compressed: compressed.clone(),
            idle: IdleConnections::new(guests.idle()),
            guests,
            buffers: buffers.clone(),
            keeping: Keeping::new(buffers.outgoing.clone()),
            roomless: Roomless::default(),
            page: Arc::from(&include_bytes!("../page.html")[..]),
            farewells: None,
            random: Rng::with_seed(seed),
            waker: Waker::noop().clone(),
            config,
        }
    }

    pub(super) fn start(&mut self, waker: &Waker) {
        self.waker.clone_from(waker);
        self.store.start(waker);
        self.room.start(waker);
        self.publishing.start(waker);
        self.guests.start(waker);
    }

    /// Takes everything that happened: calls of the process, what the store has, lines of the room. Before an answer to a
    /// read, this is what makes it see every write that anyone was told of. Returns whether anything happened.
    pub(super) fn settle(&mut self) -> bool {
        let called = self.serve_process();
        let stored = self.settle_store();
        let said = self.room.poll();
        if said {
            for slot in &self.readers {
                self.ready.push(*slot);
            }
        }
        self.serve_subscriptions();
        called || stored || said
    }

    /// Takes what the store has.
    pub(super) fn settle_store(&mut self) -> bool {
        let mut happened = false;
        self.writes.submitted = false;
        while let Some(outcome) = self.store.poll() {
            happened = true;
            match outcome {
                Outcome::Batch(batch) => self.apply(&batch),
                Outcome::Reply(ticket, reply) => self.replied(ticket, reply),
                Outcome::Snapshot(snapshot) => {
                    self.keeping.forget();
                    if self.view.restore(snapshot) {
                        let (ready, publishing) = (&mut self.ready, &mut self.publishing);
                        self.index.drop_news();
                        self.index.visit_all(|_, watcher| {
                            watcher.lose();
                            notify(ready, publishing, watcher.owner());
                        });
                    }
                }
            }
        }
        happened
    }

    fn apply(&mut self, batch: &Arc<Batch>) {
        let applied = self.view.apply(Arc::clone(batch));
        debug_assert!(applied.is_ok(), "a store's batches follow each other");
        if applied.is_err() {
            // Nothing of it is in the log, and nobody can be sent there.
            return;
        }
        self.metrics.changes.inc_by(batch.changes().len() as u64);
        let (ready, publishing) = (&mut self.ready, &mut self.publishing);
        let few = u32::try_from(self.config.told_at_once / 32).unwrap_or(u32::MAX);
        for (index, change) in batch.changes().iter().enumerate() {
            let at = batch.first().plus(index);
            self.index.announce(&change.key, at, few, |watcher, news| {
                if watcher.hear(news) {
                    notify(ready, publishing, watcher.owner());
                }
            });
        }
    }

    /// Tells some of those watchers that are many. Returns whether connections are ready by that.
    pub(super) fn spread(&mut self) -> bool {
        /// Steps with nobody to whom it is news.
        const STEPS: usize = 16;
        let step = self.config.told_at_once.max(1);
        for _ in 0..STEPS {
            if !self.index.has_news() {
                return false;
            }
            let (ready, publishing) = (&mut self.ready, &mut self.publishing);
            self.index.spread(step, |watcher, news| {
                if watcher.hear(news) {
                    notify(ready, publishing, watcher.owner());
                }
            });
            if !ready.is_empty() {
                // The process's own do not wait until all these are served.
                self.serve_subscriptions();
                return true;
            }
        }
        // All of them are behind as it is. Others have their turn first.
        self.waker.wake_by_ref();
        false
    }

    fn replied(&mut self, ticket: Ticket, reply: Reply) {
        match self.writes.waiting.remove(&ticket.0) {
            Some((Writer::Connection { id, operation }, absent)) => {
                let (slot, written) = (id.slot() as u32, Written::new(reply, absent));
                self.writes.replies.entry(slot).or_default().push_back((id, operation, written));
                self.ready.push_replied(slot);
            }
            Some((Writer::Process(answer), _)) => answer.send(reply),
            None => {}
        }
    }

    /// Gives the store a write; the reply will come to the writer.
    pub(super) fn submit(&mut self, operation: Operation, writer: Writer) -> Result<(), (Busy, Writer)> {
        let ticket = self.writes.next;
        let absent = operation.condition() == Condition::Absent;
        match self.store.submit(Ticket(ticket), operation) {
            Ok(()) => {
                self.writes.next += 1;
                self.writes.submitted = true;
                self.writes.waiting.insert(ticket, (writer, absent));
                self.metrics.writes.inc();
                Ok(())
            }
            Err(busy) => Err((busy, writer)),
        }
    }

    /// The bytes that compression takes, for all machines that share it.
    pub(super) fn compression_bytes(&self) -> usize {
        #[cfg(feature = "deflate")]
        let pool = self.config.websocket.compression.memory();
        #[cfg(not(feature = "deflate"))]
        let pool = 0;
        pool + self.compressed.memory()
    }

    /// What others show of this machine when they are asked.
    pub(super) fn publish_levels(&mut self) {
        self.metrics.set(Levels {
            connections: self.guests.len(),
            watchers: self.index.len(),
            keys: self.view.len(),
            revision: self.view.revision().as_u64(),
            state_bytes: self.view.bytes(),
            log_bytes: self.view.log().bytes(),
            encoded_bytes: self.view.log().encoded_bytes(),
        });
    }

    /// Entropy that differs with each call.
    pub(super) fn entropy(&mut self) -> u64 {
        self.random.u64(..)
    }

    /// How long an `EventSource` that is sent away is to wait: 2 to 10 seconds.
    pub(super) fn retry(&mut self) -> Duration {
        Duration::from_millis(2_000 + self.entropy() % 8_001)
    }

    pub(super) fn drain(&mut self, by: Instant, connections: usize, now: Now) {
        // A farewell a millisecond, but all well before the end. Few connections need no spread.
        let room = by.since(now.instant).mul_f32(0.8);
        let span = room.min(Duration::from_millis(connections as u64));
        self.farewells = Some(Farewells::new(now.instant, span));
    }
}

impl<S> Core<S> {
    /// The first change that a watcher may not have seen; `None`: it has seen all that concern it.
    pub(super) fn behind(&self, watcher: WatcherId) -> Option<Position> {
        watcher::behind(&self.index, watcher)
    }
}

fn notify(ready: &mut Ready, publishing: &mut Publishing, owner: Owner) {
    match owner {
        Owner::Connection(slot) => ready.push(slot),
        Owner::Subscription(id) => publishing.ready(id),
    }
}

/// When each connection is told that the server goes: spread, so that clients do not all come back at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Farewells {
    from: Instant,
    span: Duration,
}

impl Farewells {
    pub(super) fn new(from: Instant, span: Duration) -> Self {
        Self { from, span }
    }

    pub(super) fn at(&self, id: ConnectionId) -> Instant {
        // A scrambled slot as a fraction of the span.
        let part = (id.slot() as u32).wrapping_mul(0x9e37_79b1);
        self.from + self.span.mul_f64(f64::from(part) / f64::from(u32::MAX))
    }
}

/// The slots of the connections that are ready, each once, first come, first served. Those that a reply came for take turns
/// with all others: they are few, and a change that goes to ten thousand does not hold up its own writer.
#[derive(Debug, Default)]
pub(super) struct Ready {
    replied: VecDeque<u32>,
    others: VecDeque<u32>,
    turn_of_others: bool,
    /// By slot.
    standing: Blocks<Standing>,
}

/// In which queue of [`Ready`] a slot stands. One that a reply came for while it stood among the others stands there still, and
/// is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Nowhere,
    Replied,
    Others,
}

impl Ready {
    pub(super) fn push(&mut self, slot: u32) {
        let standing = self.standing(slot);
        if *standing == Standing::Nowhere {
            *standing = Standing::Others;
            self.others.push_back(slot);
        }
    }

    /// A reply came for it.
    pub(super) fn push_replied(&mut self, slot: u32) {
        let standing = self.standing(slot);
        if *standing != Standing::Replied {
            *standing = Standing::Replied;
            self.replied.push_back(slot);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replied.is_empty() && self.others.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<u32> {
        loop {
            let of_others = self.replied.is_empty() || self.turn_of_others && !self.others.is_empty();
            self.turn_of_others = !of_others;
            let (queue, here) = if of_others {
                (&mut self.others, Standing::Others)
            } else {
                (&mut self.replied, Standing::Replied)
            };
            let slot = queue.pop_front()?;
            let standing = self.standing(slot);
            if *standing == here {
                *standing = Standing::Nowhere;
                return Some(slot);
            }
        }
    }

    fn standing(&mut self, slot: u32) -> &mut Standing {
        let index = slot as usize;
        if self.standing.len() <= index {
            self.standing.resize_with(index + 1, || Standing::Nowhere);
        }
        &mut self.standing[index]
    }
}

/// Connections that were idle between two requests, in the order in which they became so. Those that were used since, or closed,
/// may stand here too: each connection stands here once.
#[derive(Debug)]
pub(super) struct IdleConnections {
    order: VecDeque<ConnectionId>,
    /// Other machines see how many there are.
    shown: IdleShown,
}

impl IdleConnections {
    pub(super) fn new(shown: IdleShown) -> Self {
        Self { order: VecDeque::new(), shown }
    }

    pub(super) fn push(&mut self, id: ConnectionId) {
        self.order.push_back(id);
        self.shown.set(self.order.len());
    }

    pub(super) fn pop(&mut self) -> Option<ConnectionId> {
        let first = self.order.pop_front();
        self.shown.set(self.order.len());
        first
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether most are of connections that are closed, where there are so many connections.
    pub(super) fn is_stale(&self, connections: usize) -> bool {
        self.order.len() > 2 * connections + 64
    }

    pub(super) fn retain(&mut self, mut is_open: impl FnMut(ConnectionId) -> bool) {
        self.order.retain(|&id| is_open(id));
        self.order.shrink_to(2 * self.order.len() + 64);
        self.shown.set(self.order.len());
    }
}

/// Connections that are to be sent something large and found no [room](Buffers) for it, each with how much it takes. First come,
/// first served; each stands here once. Room may be made on any thread, so they are looked at again and again.
#[derive(Debug, Default)]
pub(super) struct Roomless {
    waiting: VecDeque<(ConnectionId, usize)>,
    next: Option<Instant>,
}

impl Roomless {
    const PAUSE: Duration = Duration::from_millis(25);
    /// Those that go on at once.
    pub(super) const AT_ONCE: usize = 64;

    pub(super) fn push(&mut self, id: ConnectionId, bytes: usize, now: Now) {
        self.waiting.push_back((id, bytes));
        self.next.get_or_insert(now.instant + Self::PAUSE);
    }

    /// When they are to be looked at again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Who is first, and how much it takes.
    pub(super) fn first(&self) -> Option<(ConnectionId, usize)> {
        self.waiting.front().copied()
    }

    pub(super) fn pop(&mut self) {
        self.waiting.pop_front();
    }

    /// They were looked at.
    pub(super) fn looked(&mut self, now: Instant) {
        self.next = self.first().map(|_| now + Self::PAUSE);
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
    }
}

/// Writes between their submission and their reply's delivery.
#[derive(Debug, Default)]
pub(super) struct Writes {
    next: u64,
    /// The store was not asked since the last was submitted.
    pub(super) submitted: bool,
    /// Who waits, and whether the write was to find no key.
    waiting: BTreeMap<u64, (Writer, bool)>,
    /// By slot; the id tells a reply for a connection that is gone from one for its successor.
    replies: BTreeMap<u32, VecDeque<(ConnectionId, Option<u64>, Written)>>,
}

/// Who submitted a write.
#[derive(Debug)]
pub(super) enum Writer {
    /// A connection; on a WebSocket with the id of the client's operation.
    Connection { id: ConnectionId, operation: Option<u64> },
    /// The process itself.
    Process(Answer<Reply>),
}

impl Writes {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.replies.values().map(VecDeque::len).sum::<usize>()
    }

    /// The next reply for a connection, and the id of the operation that it answers.
    pub(super) fn reply(&mut self, id: ConnectionId) -> Option<(Option<u64>, Written)> {
        let slot = id.slot() as u32;
        let replies = self.replies.get_mut(&slot)?;
        let found = loop {
            match replies.pop_front() {
                Some((whose, operation, written)) if whose == id => break Some((operation, written)),
                Some(_) => {}
                None => break None,
            }
        };
        if replies.is_empty() {
            self.replies.remove(&slot);
        }
        found
    }

    /// The connection in this slot is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        self.replies.remove(&slot);
    }
}
