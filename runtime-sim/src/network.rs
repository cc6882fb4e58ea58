//! The network: for each client two pipes with room for so many bytes, and what each end has done to them.

use std::cell::RefCell;
use std::collections::VecDeque;

use keepwatch_protocol::ConnectionId;
use keepwatch_protocol::driver::{Io, Sockets};

use crate::sim::SimError;
use crate::trace::{Step, Trace};

/// One client's connection, seen from the middle.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// The server's name for it; `None` when it was not accepted, or is closed.
    pub(crate) id: Option<ConnectionId>,
    pub(crate) to_server: Pipe,
    pub(crate) to_client: Pipe,
    /// What the client has read and its owner has not taken yet.
    pub(crate) received: Vec<u8>,
    /// How many bytes more the client reads.
    pub(crate) reads: usize,
    /// The client broke the connection.
    pub(crate) reset_by_client: bool,
    /// The server closed the socket while bytes of the client lay unread in it, or came later: what was on its way to the
    /// client is lost.
    pub(crate) reset_by_server: bool,
    /// The server was told to wait for room.
    write_blocked: bool,
    /// The server is to hear of readiness that is not there.
    pub(crate) poked: bool,
    /// The server shut down its writing side: nothing may be written any more.
    shut_down: bool,
    /// It is in [`Network::events`].
    noted: bool,
}

impl Wire {
    pub(crate) fn new(window: usize) -> Self {
        let to_client = Pipe { capacity: window, ..Pipe::default() };
        Self { to_client, reads: usize::MAX, ..Self::default() }
    }
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) bytes: VecDeque<u8>,
    /// How many bytes lie in it at most.
    pub(crate) capacity: usize,
    /// Nothing more is put in.
    pub(crate) ended: bool,
    /// The most that one call moves: each of these in turn, over and over.
    sizes: Vec<usize>,
    turn: usize,
}

impl Pipe {
    pub(crate) fn move_in(&mut self, sizes: &[usize]) {
        self.sizes = sizes.to_vec();
        self.turn = 0;
    }

    /// The most that this call moves.
    fn next_size(&mut self) -> usize {
        let size = self.sizes.get(self.turn).copied().unwrap_or(usize::MAX);
        self.turn = if self.turn + 1 < self.sizes.len() { self.turn + 1 } else { 0 };
        size.max(1)
    }

    /// Takes so many bytes out, which there are, in one or two pieces.
    fn take(&mut self, count: usize, mut to: impl FnMut(&[u8])) {
        let (first, second) = self.bytes.as_slices();
        let whole = first.len().min(count);
        to(&first[..whole]);
        to(&second[..count - whole]);
        if count == self.bytes.len() {
            self.bytes.clear();
        } else {
            self.bytes.drain(..count);
        }
    }

    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }
}

/// All connections, and which of them something happened to.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) wires: Vec<Wire>,
    /// Wires of which the driver is to be told something; each is in it once.
    pub(crate) events: VecDeque<usize>,
    /// The wire of each slot of the driver.
    slots: Vec<Option<usize>>,
    /// Bytes moved and connections ended: while this grows, there is progress.
    pub(crate) progress: u64,
    /// What clients did.
    pub(crate) touches: u64,
}

impl Network {
    /// The wire of a client; there always is one, as only `Sim::connect` makes clients.
    pub(crate) fn note(&mut self, client: usize) {
        self.touches += 1;
        if let Some(wire) = self.wires.get_mut(client) {
            if !wire.noted {
                wire.noted = true;
                self.events.push_back(client);
            }
        }
    }

    /// The client reads what its limit allows, which makes room for the server.
    pub(crate) fn client_reads(&mut self, client: usize) {
        let Some(wire) = self.wires.get_mut(client) else { return };
        let count = wire.reads.min(wire.to_client.bytes.len());
        wire.to_client.take(count, |part| wire.received.extend_from_slice(part));
        if wire.reads != usize::MAX {
            wire.reads -= count;
        }
        self.progress += count as u64;
        if wire.write_blocked && wire.to_client.room() > 0 {
            self.note(client);
        }
    }

    /// Takes one event out of the queue, and says of which connection the driver is to be told what.
    pub(crate) fn take_event(&mut self, index: usize) -> Option<Event> {
        let client = self.events.swap_remove_front(index)?;
        let wire = self.wires.get_mut(client)?;
        wire.noted = false;
        let writable = wire.write_blocked && (wire.to_client.room() > 0 || wire.reset_by_client);
        if writable {
            wire.write_blocked = false;
        }
        let poked = std::mem::take(&mut wire.poked);
        Some(Event {
            id: wire.id?,
            readable: poked
                || !wire.to_server.bytes.is_empty()
                || wire.to_server.ended
                || wire.reset_by_client,
            writable: poked || writable,
            hung_up: wire.to_server.ended,
        })
    }

    pub(crate) fn bind(&mut self, client: usize, id: ConnectionId) {
        if self.slots.len() <= id.slot() {
            self.slots.resize(id.slot() + 1, None);
        }
        self.slots[id.slot()] = Some(client);
        self.wires[client].id = Some(id);
    }

    /// The wire that the driver means; none if it no longer is (which would be the driver's fault).
    fn wire(&mut self, id: ConnectionId) -> Option<(usize, &mut Wire)> {
        let client = self.slots.get(id.slot()).copied().flatten()?;
        let wire = self.wires.get_mut(client).filter(|wire| wire.id == Some(id))?;
        Some((client, wire))
    }
}

/// What a runtime would hear from the system of one connection.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: ConnectionId,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) hung_up: bool,
}

/// The system calls of the server side.
pub(crate) struct Calls<'a> {
    pub(crate) network: &'a RefCell<Network>,
    pub(crate) trace: &'a mut Trace,
    /// What the driver did that no driver may do.
    pub(crate) misuse: &'a mut Option<SimError>,
    /// Who plays everyone else meanwhile.
    pub(crate) meanwhile: Option<&'a mut Meanwhile>,
    /// Whether the driver is told of the end of what a client sends before it is read.
    pub(crate) reports_hang_up: bool,
}

/// Called in the middle of a turn, at each call to the system: what others do just then. Of a read that finds nothing it is
/// told the client, and may have bytes come at this moment.
pub(crate) type Meanwhile = dyn FnMut(Option<usize>) -> Vec<u8>;

impl Calls<'_> {
    /// Others have their moment. `reads`: the next call is a read.
    fn meanwhile(&mut self, id: ConnectionId, reads: bool) {
        let Some(meanwhile) = &mut self.meanwhile else { return };
        let mut network = self.network.borrow_mut();
        let Some((client, wire)) = network.wire(id) else { return };
        let pipe = &wire.to_server;
        let is_dry = reads && pipe.bytes.is_empty() && !pipe.ended && !wire.reset_by_client;
        drop(network);
        let came = meanwhile(is_dry.then_some(client));
        if let (false, Some((_, wire))) = (came.is_empty(), self.network.borrow_mut().wire(id)) {
            wire.to_server.bytes.extend(came);
        }
    }
}

impl Sockets for Calls<'_> {
    fn read(&mut self, id: ConnectionId, into: &mut [u8]) -> Io {
        self.meanwhile(id, true);
        let mut network = self.network.borrow_mut();
        let Some((client, wire)) = network.wire(id) else {
            *self.misuse = Some(SimError::StaleId(id));
            return Io::Failed;
        };
        if wire.reset_by_client {
            self.trace.push(Step::Failed { client });
            return Io::Failed;
        }
        let pipe = &mut wire.to_server;
        if pipe.bytes.is_empty() {
            if !pipe.ended {
                return Io::Blocked;
            }
            self.trace.push(Step::Read { client, bytes: 0 });
            return Io::Done(0);
        }
        let count = pipe.next_size().min(into.len()).min(pipe.bytes.len());
        let mut filled = 0;
        pipe.take(count, |part| {
            into[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        });
        // Some systems tell that this was all, as mio does on Linux; the others leave it to the next read. The end behind it is
        // found by who was told of it.
        let drained = pipe.bytes.is_empty() && client % 2 == 0 && (!pipe.ended || self.reports_hang_up);
        network.progress += count as u64;
        self.trace.push(Step::Read { client, bytes: count });
        self.trace.bytes(&into[..count]);
        if drained { Io::Drained(count) } else { Io::Done(count) }
    }

    fn write(&mut self, id: ConnectionId, parts: &[&[u8]]) -> Io {
        self.meanwhile(id, false);
        let mut network = self.network.borrow_mut();
        let Some((client, wire)) = network.wire(id) else {
            *self.misuse = Some(SimError::StaleId(id));
            return Io::Failed;
        };
        if wire.reset_by_client {
            self.trace.push(Step::Failed { client });
            return Io::Failed;
        }
        if wire.shut_down {
            *self.misuse = Some(SimError::WroteAfterEnd(id));
            return Io::Failed;
        }
        let room = wire.to_client.room();
        if room == 0 {
            wire.write_blocked = true;
            return Io::Blocked;
        }
        let most = room.min(wire.to_client.next_size());
        let mut written = 0;
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.trace.push(Step::Write { client, bytes: length.min(most) });
        for part in parts {
            let count = part.len().min(most - written);
            wire.to_client.bytes.extend(&part[..count]);
            self.trace.bytes(&part[..count]);
            written += count;
        }
        network.progress += written as u64;
        network.client_reads(client);
        Io::Done(written)
    }

    fn shutdown(&mut self, id: ConnectionId) {
        let mut network = self.network.borrow_mut();
        let Some((client, wire)) = network.wire(id) else {
            *self.misuse = Some(SimError::StaleId(id));
            return;
        };
        wire.to_client.ended = true;
        wire.shut_down = true;
        network.progress += 1;
        self.trace.push(Step::Shutdown { client });
    }

    fn close(&mut self, id: ConnectionId) {
        let mut network = self.network.borrow_mut();
        let Some((client, wire)) = network.wire(id) else {
            *self.misuse = Some(SimError::StaleId(id));
            return;
        };
        wire.id = None;
        wire.to_client.ended = true;
        if !wire.to_server.bytes.is_empty() {
            wire.reset_by_server = true;
            wire.to_client.bytes.clear();
        }
        network.slots[id.slot()] = None;
        network.progress += 1;
        self.trace.push(Step::Close { client });
    }
}
