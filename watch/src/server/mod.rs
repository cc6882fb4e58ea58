//! The watch server as one machine.
//!
//! ```text
//!   WatchServer ─┬─ connections   each a protocol machine and what it is busy with           connection.rs
//!                │    ├─ http       a request is understood, and answered                    http.rs, body.rs, stream.rs, demo.rs
//!                │    └─ websocket  operations, and any number of watches                    websocket.rs
//!                └─ Core          what they share: store, view, index, timers, who is ready  core.rs
//!                     ├─ index      the watchers, each with its cursor                           watcher.rs
//!                     ├─ delivery   frames of the log, lent to one connection at a time      delivery.rs
//!                     ├─ keeping    what is large and being sent                             kept.rs
//!                     ├─ publishing the process's own calls and subscriptions                publishing.rs
//!                     └─ metrics    what /metrics shows                                      metrics.rs
//! ```
//!
//! A change comes out of the store in a batch, goes into the view and its log, and the index names the watchers that it
//! concerns; those that were up to date become *behind* and their connections *ready*. When the socket of one has room, the
//! frames from its cursor on are lent to it, and what was written moves the cursor.

mod body;
mod connection;
mod core;
mod delivery;
mod demo;
mod http;
mod kept;
mod metrics;
mod publishing;
mod stream;
mod watcher;
mod websocket;

use std::borrow::Cow;
use std::task::Waker;

use keepwatch_protocol::{
    Admission, After, Blocks, Closed, ConnectionId, Fill, Input, Instant, Leases, Now, Peer, SendQueue,
    Server, Slices, earliest,
};

use self::connection::Connection;
use self::core::{Core, Roomless};
use self::metrics::Board;
use crate::admission::{Admissions, Refused};
use crate::budget::Buffers;
use crate::compressed::Tally;
use crate::config::Config;
use crate::encoding::Encodings;
use crate::handle::Handle;
use crate::key::Revision;
use crate::room::Room;
use crate::store::{MemoryMachine, MemoryStore, Store};
use crate::surface::Surfaces;

/// What the machines of one process share: the store, and the room behind `/hello`.
///
/// One machine serves one thread. Each is made here, and a write on one is seen by every later read on any other.
#[derive(Clone, Debug)]
pub struct Shared {
    config: Config,
    store: MemoryStore,
    room: Room,
    encodings: (Encodings, Surfaces),
    compressed: Tally,
    board: Board,
    admissions: Admissions,
    buffers: Buffers,
}

impl Shared {
    /// An empty store in memory, whose revisions start behind `first`: take the wall clock in microseconds, so that a server
    /// that is started again does not repeat numbers.
    pub fn new(config: Config, first: Revision) -> Self {
        let store = MemoryStore::new(first, config.store_limits());
        let (mut encodings, compressed) = (Encodings::new(), Tally::default());
        let surfaces = Surfaces::register(&mut encodings, &config.websocket.compression, &compressed)
            .expect("the registry takes 256 encodings");
        let buffers = Buffers::new(config.buffers);
        let admissions = Admissions::new(config.connections, config.connections_per_address);
        Self {
            config,
            store,
            room: Room::default(),
            encodings: (encodings, surfaces),
            compressed,
            board: Board::default(),
            admissions,
            buffers,
        }
    }

    /// A machine over the store in memory, and the handle to publish and watch through it from the same process. `seed` is
    /// entropy for the spread of timers: another for each machine.
    pub fn machine(&self, seed: u64) -> (WatchServer, Handle) {
        self.machine_over(self.store.machine(), seed)
    }

    /// The same over a store of the embedder's own. Machines that are to see each other's writes share what is behind it.
    pub fn machine_over<S: Store>(&self, store: S, seed: u64) -> (WatchServer<S>, Handle) {
        let (handle, queue) = Handle::new();
        let core = Core::new(self, store, queue, seed);
        (WatchServer { connections: Blocks::new(), core }, handle)
    }
}

/// The watch server: see the [crate](crate) for what it does, and [`Shared::machine`] for how to get one.
pub struct WatchServer<S = MemoryMachine> {
    connections: Blocks<Option<Connection>>,
    core: Core<S>,
}

/// What a [`WatchServer`] holds at a moment: what `/metrics` shows as levels, and what its limits are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Connections admitted and not closed.
    pub connections: usize,
    /// Watches, of all transports and of the process itself.
    pub watchers: usize,
    /// Writes whose reply is not delivered.
    pub writes: usize,
    /// Changes in the log.
    pub log_changes: usize,
    /// About how many bytes these hold.
    pub log_bytes: usize,
    /// Bytes of frames made of them.
    pub encoded_bytes: usize,
    /// Bytes of [`Config::buffers`] that are taken, by all machines that share a store.
    pub buffered_bytes: usize,
}

impl<S: Store> WatchServer<S> {
    /// The revision that the machine's state is at.
    pub fn revision(&self) -> Revision {
        self.core.view.revision()
    }

    /// What it holds now.
    pub fn usage(&self) -> Usage {
        let log = self.core.view.log();
        Usage {
            connections: self.core.guests.len(),
            watchers: self.core.index.len(),
            writes: self.core.writes.len(),
            log_changes: log.head().since(log.floor()) as usize,
            log_bytes: log.bytes(),
            encoded_bytes: log.encoded_bytes(),
            buffered_bytes: self.core.buffers.used(),
        }
    }

    /// When it does something about this connection at the latest, by itself; `None` if it does not, or there is none.
    pub fn deadline_of(&self, id: ConnectionId) -> Option<Instant> {
        let connection = self.connections.get(id.slot())?.as_ref();
        let connection = connection.filter(|connection| connection.id == id)?;
        let room = self.core.roomless.next().filter(|_| connection.waits_for_room());
        earliest(self.core.timers.deadline_of(id.slot()), room)
    }

    /// Makes room for whoever came: an idle connection of this machine is closed, or else one of another.
    fn make_room(&mut self) {
        if !self.close_an_idle_one() {
            self.core.guests.ask_others(1, usize::MAX);
        }
    }

    /// The same for those who came to other machines, if places are still few.
    fn make_room_for_others(&mut self) {
        let Some((places, tries)) = self.core.guests.wanted() else { return };
        for made in 0..places {
            if !self.core.guests.is_crowded() {
                return;
            }
            if !self.close_an_idle_one() {
                return self.core.guests.ask_others(places - made, tries);
            }
        }
    }

    /// Closes the first that is idle between two requests, and was so when it was looked at last. Returns whether there was one.
    fn close_an_idle_one(&mut self) -> bool {
        for _ in 0..self.core.idle.len() {
            let Some(id) = self.core.idle.pop() else { break };
            let Some((connection, core)) = self.connection(id) else { continue };
            if connection.close_if_idle(core) {
                return true;
            }
        }
        false
    }

    /// Has those go on that wait for room and now find some, in their order.
    fn look_for_room(&mut self, now: Now) {
        if self.core.roomless.next().is_none_or(|at| at > now.instant) {
            return;
        }
        let used = self.core.buffers.outgoing.used();
        let mut room = self.core.buffers.outgoing.limit().saturating_sub(used);
        for turn in 0..Roomless::AT_ONCE {
            let Some((id, bytes)) = self.core.roomless.first() else { break };
            if let Some((connection, core)) = self.connection(id) {
                // A single one is sent whatever its size.
                if bytes > room && (used > 0 || turn > 0) {
                    break;
                }
                connection.looks_for_room(core);
                room = room.saturating_sub(bytes);
            }
            self.core.roomless.pop();
        }
        self.core.roomless.looked(now.instant);
    }

    fn connection(&mut self, id: ConnectionId) -> Option<(&mut Connection, &mut Core<S>)> {
        let connection =
            self.connections.get_mut(id.slot())?.as_mut().filter(|connection| connection.id == id)?;
        Some((connection, &mut self.core))
    }
}

/// What a connection beyond a limit is sent. The wait keeps those that are refused from coming back all at once.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 44\r\n\
    Retry-After: 10\r\nConnection: close\r\n\r\n{\"error\":\"too many connections: try later\"}\n";

/// The same, if it is the limit of its address.
const FULL_ADDRESS: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 59\r\n\
    Retry-After: 10\r\nConnection: close\r\n\r\n{\"error\":\"too many connections of one address: try later\"}\n";

/// Connections whose time has come that are made ready at once.
const DUE_AT_ONCE: usize = 256;

impl<S: Store> Server for WatchServer<S> {
    fn start(&mut self, waker: &Waker, _: Now) {
        self.core.start(waker);
    }

    fn open(&mut self, id: ConnectionId, peer: &Peer, now: Now) -> Admission {
        if let Err(refused) = self.core.guests.enter(id.slot(), peer.address.map(|address| address.ip())) {
            self.core.metrics.connections_refused.inc();
            // There may have been nobody idle as the last places were taken: the next one finds room.
            if refused == Refused::All {
                self.make_room();
            }
            return Admission::Refuse(Cow::Borrowed(match refused {
                Refused::All => FULL,
                Refused::Address => FULL_ADDRESS,
            }));
        }
        self.core.metrics.connections_opened.inc();
        if self.connections.len() <= id.slot() {
            self.connections.resize_with(id.slot() + 1, || None);
        }
        let connection = Connection::new(id, &self.core, now);
        connection.keep_timer(&mut self.core);
        self.connections[id.slot()] = Some(connection);
        if self.core.guests.is_crowded() {
            self.make_room();
        }
        Admission::Admit
    }

    fn receive(&mut self, id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, now: Now) -> After {
        let Some((connection, core)) = self.connection(id) else { return After::Abort };
        let after = connection.receive(core, input, out, now);
        core.metrics.since.bytes_received += input.consumed();
        connection.settled(core);
        after
    }

    fn resume(&mut self, id: ConnectionId, out: &mut SendQueue, now: Now) -> After {
        let Some((connection, core)) = self.connection(id) else { return After::Abort };
        let after = connection.resume(core, out, now);
        connection.settled(core);
        after
    }

    fn fill<'a>(&'a mut self, id: ConnectionId, to: &mut Slices<'a>, now: Now) -> Fill {
        let Some((connection, core)) = self.connection(id) else { return Fill::Nothing };
        connection.fill(core, to, now)
    }

    fn lease(&mut self, id: ConnectionId, to: &mut Leases, now: Now) -> Fill {
        let Some((connection, core)) = self.connection(id) else { return Fill::Nothing };
        connection.lease(core, to, now)
    }

    fn sent(&mut self, id: ConnectionId, bytes: usize, now: Now) -> After {
        let Some((connection, core)) = self.connection(id) else { return After::Abort };
        core.metrics.since.bytes_lent += bytes;
        let after = connection.sent(core, bytes, now);
        connection.settled_sent(core);
        after
    }

    fn next_ready(&mut self, now: Now) -> Option<ConnectionId> {
        self.core.view.pass(now.instant);
        // The replies are not to wait until all are named who watch something else.
        if self.core.writes.submitted {
            self.core.settle_store();
        }
        loop {
            while let Some(slot) = self.core.ready.pop() {
                match self.connections.get(slot as usize) {
                    Some(Some(connection)) => return Some(connection.id),
                    _ => self.core.writes.forget(slot),
                }
            }
            if self.core.spread() || self.core.settle() {
                continue;
            }
            // A timer that was set in this turn, after a time with none, may stand in a slot of the past: it is moved.
            if self.deadline().is_some_and(|at| at <= now.instant) {
                self.on_deadline(now);
                continue;
            }
            self.core.delivery.clear();
            self.core.view.drop_encodings();
            self.core.publish_levels();
            return None;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let timers = earliest(self.core.timers.next(), self.core.roomless.next());
        earliest(timers, self.core.view.log().next_too_old())
    }

    fn on_deadline(&mut self, now: Now) {
        self.core.view.pass(now.instant);
        self.look_for_room(now);
        // Those that were told of one change have their next heartbeat together: the rest is taken by `next_ready`.
        for _ in 0..DUE_AT_ONCE {
            let Some(slot) = self.core.timers.expire(now.instant) else { return };
            if let Some(Some(connection)) = self.connections.get_mut(slot) {
                connection.due();
                self.core.ready.push(slot as u32);
            }
        }
    }

    fn on_wake(&mut self, now: Now) {
        self.core.view.pass(now.instant);
        self.core.settle();
        self.make_room_for_others();
    }

    fn drain(&mut self, by: Instant, now: Now) {
        self.core.drain(by, self.core.guests.len(), now);
        for connection in self.connections.iter_mut().flatten() {
            connection.drain();
            connection.keep_timer(&mut self.core);
        }
    }

    fn closed(&mut self, id: ConnectionId, _: Closed, _: Now) {
        let Some((connection, core)) = self.connection(id) else { return };
        connection.stop(core);
        core.timers.cancel(id.slot());
        core.writes.forget(id.slot() as u32);
        core.guests.leave(id.slot());
        self.connections[id.slot()] = None;
        if self.core.idle.is_stale(self.core.guests.len()) {
            let connections = &self.connections;
            self.core.idle.retain(|id| {
                connections
                    .get(id.slot())
                    .and_then(Option::as_ref)
                    .is_some_and(|connection| connection.id == id)
            });
        }
        self.core.metrics.connections_closed.inc();
    }
}

#[cfg(test)]
mod tests;
