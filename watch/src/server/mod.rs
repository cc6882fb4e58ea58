//! The watch server as one machine.
//!
//! ```text
//!   WatchServer ─┬─ connections   each a protocol machine and what it is busy with           connection.rs
//!                │    ├─ http       a request is understood, and answered                    http.rs, stream.rs, demo.rs
//!                │    └─ websocket  operations, and any number of watches                    websocket.rs
//!                └─ Core          what they share: store, view, index, timers, who is ready  core.rs
//!                     ├─ delivery   frames of the log, lent to one connection at a time      delivery.rs
//!                     ├─ publishing the process's own calls and subscriptions                publishing.rs
//!                     └─ metrics    what /metrics shows                                      metrics.rs
//! ```
//!
//! A change comes out of the store in a batch, goes into the view and its log, and the index names the watchers that it
//! concerns; those that were up to date become *behind* and their connections *ready*. When the socket of one has room, the
//! frames from its cursor on are lent to it, and what was written moves the cursor.

mod connection;
mod core;
mod delivery;
mod demo;
mod http;
mod metrics;
mod publishing;
mod stream;
mod websocket;

use std::borrow::Cow;
use std::task::Waker;

use keepwatch_protocol::{
    Admission, After, Closed, ConnectionId, Fill, Input, Instant, Leases, Now, Peer, SendQueue, Server,
    Slices,
};

use self::connection::Connection;
use self::core::Core;
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
}

impl Shared {
    /// An empty store in memory, whose revisions start behind `first`: take the wall clock in microseconds, so that a server
    /// that is started again does not repeat numbers.
    pub fn new(config: Config, first: Revision) -> Self {
        let store = MemoryStore::new(first, config.store_limits());
        let (mut encodings, compressed) = (Encodings::new(), Tally::default());
        let surfaces = Surfaces::register(&mut encodings, &config.websocket.compression, &compressed)
            .expect("the registry takes 256 encodings");
        Self { config, store, room: Room::default(), encodings: (encodings, surfaces), compressed }
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
        (WatchServer { connections: Vec::new(), count: 0, core }, handle)
    }
}

/// The watch server: see the [crate](crate) for what it does, and [`Shared::machine`] for how to get one.
pub struct WatchServer<S = MemoryMachine> {
    connections: Vec<Option<Connection>>,
    count: usize,
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
            connections: self.count,
            watchers: self.core.index.len(),
            writes: self.core.writes.len(),
            log_changes: log.head().since(log.floor()) as usize,
            log_bytes: log.bytes(),
            encoded_bytes: log.encoded_bytes(),
        }
    }

    /// When it does something about this connection at the latest, by itself; `None` if it does not, or there is none.
    pub fn deadline_of(&self, id: ConnectionId) -> Option<Instant> {
        let connection = self.connections.get(id.slot())?.as_ref();
        connection.filter(|connection| connection.id == id)?;
        self.core.timers.deadline_of(id.slot())
    }

    fn connection(&mut self, id: ConnectionId) -> Option<(&mut Connection, &mut Core<S>)> {
        let connection =
            self.connections.get_mut(id.slot())?.as_mut().filter(|connection| connection.id == id)?;
        Some((connection, &mut self.core))
    }
}

/// What a connection beyond the limit is sent. The wait keeps those that are refused from coming back all at once.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 44\r\n\
    Retry-After: 10\r\nConnection: close\r\n\r\n{\"error\":\"too many connections: try later\"}\n";

impl<S: Store> Server for WatchServer<S> {
    fn start(&mut self, waker: &Waker, _: Now) {
        self.core.start(waker);
    }

    fn open(&mut self, id: ConnectionId, _: &Peer, now: Now) -> Admission {
        if self.count >= self.core.config.connections {
            self.core.metrics.connections_refused.inc();
            return Admission::Refuse(Cow::Borrowed(FULL));
        }
        self.count += 1;
        self.core.metrics.connections_opened.inc();
        if self.connections.len() <= id.slot() {
            self.connections.resize_with(id.slot() + 1, || None);
        }
        let connection = Connection::new(id, &self.core, now);
        connection.keep_timer(&mut self.core);
        self.connections[id.slot()] = Some(connection);
        Admission::Admit
    }

    fn receive(&mut self, id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, now: Now) -> After {
        let Some((connection, core)) = self.connection(id) else { return After::Abort };
        let after = connection.receive(core, input, out, now);
        core.metrics.bytes_received.inc_by(input.consumed() as u64);
        connection.keep_timer(core);
        after
    }

    fn resume(&mut self, id: ConnectionId, out: &mut SendQueue, now: Now) -> After {
        let Some((connection, core)) = self.connection(id) else { return After::Abort };
        let after = connection.resume(core, out, now);
        connection.keep_timer(core);
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
        core.metrics.bytes_lent.inc_by(bytes as u64);
        let after = connection.sent(core, bytes, now);
        connection.keep_timer(core);
        after
    }

    fn next_ready(&mut self, now: Now) -> Option<ConnectionId> {
        loop {
            while let Some(slot) = self.core.ready.pop() {
                match self.connections.get(slot as usize) {
                    Some(Some(connection)) => return Some(connection.id),
                    _ => self.core.writes.forget(slot),
                }
            }
            if self.core.settle() {
                continue;
            }
            // A timer that was set in this turn, after a time with none, may stand in a slot of the past: it is moved.
            if self.deadline().is_some_and(|at| at <= now.instant) {
                self.on_deadline(now);
                continue;
            }
            self.core.view.drop_encodings();
            return None;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.core.timers.next()
    }

    fn on_deadline(&mut self, now: Now) {
        while let Some(slot) = self.core.timers.expire(now.instant) {
            if let Some(Some(connection)) = self.connections.get_mut(slot) {
                connection.due();
                self.core.ready.push(slot as u32);
            }
        }
    }

    fn on_wake(&mut self, _: Now) {
        self.core.settle();
    }

    fn drain(&mut self, by: Instant, now: Now) {
        self.core.drain(by, self.count, now);
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
        self.connections[id.slot()] = None;
        self.count -= 1;
        self.core.metrics.connections_closed.inc();
    }
}

#[cfg(test)]
mod tests;
