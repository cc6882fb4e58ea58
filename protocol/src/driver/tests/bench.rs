//! A driver, sockets in memory, and three ways to bring them together.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::contract::Contract;
use super::toy::Toy;
use crate::driver::{Driver, DriverConfig, Io, Sockets, Transform};
use crate::output::{Leases, Slices};
use crate::server::{ConnectionId, Peer, Server};
use crate::time::Now;

/// How the driver is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `turn`, with readiness.
    Turns,
    /// `next_ready`, `wants` and `fill`.
    Fills,
    /// `next_ready`, `wants` and `lease`.
    Leases,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Turns, Self::Fills, Self::Leases];
}

/// Runs a test once for each way of driving.
pub(super) fn each_way(test: impl Fn(Way)) {
    Way::ALL.into_iter().for_each(test);
}

/// The network's end of a connection.
pub(super) struct Socket {
    pub(super) incoming: Vec<u8>,
    pub(super) ended: bool,
    pub(super) broken: bool,
    /// The most that one read or one write moves.
    pub(super) read_size: usize,
    pub(super) write_size: usize,
    /// How many bytes are accepted before it blocks.
    pub(super) room: usize,
    pub(super) written: Vec<u8>,
    pub(super) shutdowns: usize,
    pub(super) closed: bool,
    /// A read that takes everything says so, as an edge-triggered system lets it.
    pub(super) tells_drained: bool,
    /// How often bytes were read or written.
    pub(super) calls: usize,
}

impl Default for Socket {
    fn default() -> Self {
        Self {
            incoming: Vec::new(),
            ended: false,
            broken: false,
            read_size: usize::MAX,
            write_size: usize::MAX,
            room: usize::MAX,
            written: Vec::new(),
            shutdowns: 0,
            closed: false,
            tells_drained: false,
            calls: 0,
        }
    }
}

#[derive(Default)]
pub(super) struct Network {
    sockets: BTreeMap<ConnectionId, Socket>,
    /// Who was served by a read or a write, in order.
    pub(super) order: Vec<ConnectionId>,
    /// A turn is over as soon as anything was done in it.
    pub(super) hurries: bool,
}

impl Network {
    fn open(&mut self, id: ConnectionId) -> &mut Socket {
        let socket = self.sockets.get_mut(&id).expect("a call for a socket that never was");
        assert!(!socket.closed, "a call for a socket that is closed");
        socket
    }
}

impl Sockets for Network {
    fn read(&mut self, id: ConnectionId, into: &mut [u8]) -> Io {
        self.order.push(id);
        let socket = self.open(id);
        socket.calls += 1;
        if socket.broken {
            return Io::Failed;
        }
        let count = socket.incoming.len().min(socket.read_size).min(into.len());
        if count == 0 {
            return if socket.ended { Io::Done(0) } else { Io::Blocked };
        }
        for (to, from) in into.iter_mut().zip(socket.incoming.drain(..count)) {
            *to = from;
        }
        if socket.tells_drained && socket.incoming.is_empty() { Io::Drained(count) } else { Io::Done(count) }
    }

    fn write(&mut self, id: ConnectionId, parts: &[&[u8]]) -> Io {
        self.order.push(id);
        let socket = self.open(id);
        socket.calls += 1;
        assert_eq!(socket.shutdowns, 0, "a write after the writing side was shut down");
        assert!(!parts.is_empty() && parts.iter().all(|part| !part.is_empty()), "an empty write");
        if socket.broken {
            return Io::Failed;
        }
        let bytes = parts.concat();
        let count = bytes.len().min(socket.write_size).min(socket.room);
        if count == 0 {
            return Io::Blocked;
        }
        socket.room -= count;
        socket.written.extend_from_slice(&bytes[..count]);
        Io::Done(count)
    }

    fn shutdown(&mut self, id: ConnectionId) {
        self.open(id).shutdowns += 1;
    }

    fn close(&mut self, id: ConnectionId) {
        self.open(id).closed = true;
    }

    fn turn_is_over(&mut self) -> bool {
        self.hurries
    }
}

pub(super) struct Bench<S = Toy> {
    pub(super) driver: Driver<Contract<S>>,
    pub(super) network: Network,
    pub(super) now: Now,
    pub(super) way: Way,
}

impl<S: Server> Bench<S> {
    pub(super) fn new(way: Way, server: S) -> Self {
        Self::with_config(way, server, |_config| {})
    }

    pub(super) fn with_config(way: Way, server: S, change: impl FnOnce(&mut DriverConfig)) -> Self {
        let mut config = DriverConfig::default();
        change(&mut config);
        let driver = Driver::new(Contract::new(server), config);
        Self { driver, network: Network::default(), now: Now::default(), way }
    }

    pub(super) fn server(&mut self) -> &mut S {
        &mut self.driver.server_mut().inner
    }

    pub(super) fn connect(&mut self) -> ConnectionId {
        self.connect_transformed(None)
    }

    pub(super) fn connect_transformed(&mut self, transform: Option<Box<dyn Transform>>) -> ConnectionId {
        let id = self.driver.accept_transformed(&Peer::default(), transform, self.now).expect("accepted");
        assert!(self.network.sockets.insert(id, Socket::default()).is_none());
        id
    }

    pub(super) fn socket(&mut self, id: ConnectionId) -> &mut Socket {
        self.network.sockets.get_mut(&id).expect("a socket")
    }

    /// Bytes arrive, and everything runs.
    pub(super) fn arrive(&mut self, id: ConnectionId, bytes: impl AsRef<[u8]>) {
        self.socket(id).incoming.extend_from_slice(bytes.as_ref());
        self.touch(id);
        self.run();
    }

    /// The peer ends its side, and everything runs.
    pub(super) fn end(&mut self, id: ConnectionId) {
        self.socket(id).ended = true;
        self.touch(id);
        self.run();
    }

    /// The peer takes so many bytes more, and everything runs.
    pub(super) fn make_room(&mut self, id: ConnectionId, bytes: usize) {
        let socket = self.socket(id);
        socket.room = socket.room.saturating_add(bytes);
        self.touch(id);
        self.run();
    }

    /// Tells the driver that the socket may have something, as an edge-triggered poll would.
    pub(super) fn touch(&mut self, id: ConnectionId) {
        self.driver.readable(id);
        self.driver.writable(id);
    }

    pub(super) fn take_written(&mut self, id: ConnectionId) -> String {
        let written = core::mem::take(&mut self.socket(id).written);
        String::from_utf8(written).expect("text")
    }

    pub(super) fn is_closed(&mut self, id: ConnectionId) -> bool {
        self.socket(id).closed
    }

    /// Time passes in one jump, and everything runs.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.later(time);
        self.run();
    }

    pub(super) fn pass_secs(&mut self, secs: u64) {
        self.pass(Duration::from_secs(secs));
    }

    /// Runs until everything is idle; fails if that never comes.
    pub(super) fn run(&mut self) {
        for _ in 0..100_000 {
            let more = match self.way {
                Way::Turns => self.driver.turn(&mut self.network, self.now),
                Way::Fills | Way::Leases => self.complete(),
            };
            if !more {
                let deadline = self.driver.deadline();
                assert!(
                    deadline.is_none_or(|at| at > self.now.instant),
                    "{deadline:?} has passed ({:?})",
                    self.way
                );
                return;
            }
        }
        panic!("it spins ({:?})", self.way);
    }

    /// One round of a completion-based runtime. Returns whether anything was done.
    fn complete(&mut self) -> bool {
        if self.driver.deadline().is_some_and(|at| at <= self.now.instant) {
            self.driver.on_deadline(self.now);
        }
        while self.driver.next_ready(self.now).is_some() {}
        let open: Vec<_> =
            self.network.sockets.iter().filter(|(_, s)| !s.closed).map(|(id, _)| *id).collect();
        let mut progress = false;
        for id in open {
            progress |= self.look_at(id);
        }
        progress
    }

    fn look_at(&mut self, id: ConnectionId) -> bool {
        let wants = self.driver.wants(id);
        if wants.close {
            self.network.close(id);
            self.driver.release(id);
            return true;
        }
        if wants.shutdown {
            self.network.shutdown(id);
            self.driver.shut_down(id);
            return true;
        }
        let mut progress = false;
        if wants.write {
            progress |= if self.way == Way::Leases { self.write_lease(id) } else { self.write_slices(id) };
        }
        if self.driver.wants(id).read {
            let mut buffer = vec![0; 64 << 10];
            match self.network.read(id, &mut buffer) {
                Io::Done(0) => self.driver.ended(id, self.now),
                Io::Done(count) | Io::Drained(count) => {
                    self.driver.received(id, &mut buffer[..count], self.now);
                }
                Io::Failed => self.driver.failed(id, self.now),
                Io::Blocked => return progress,
            }
            progress = true;
        }
        progress
    }

    fn write_slices(&mut self, id: ConnectionId) -> bool {
        let mut slices = Slices::new(256 << 10);
        let fill = self.driver.fill(id, &mut slices, self.now);
        if slices.is_empty() {
            return fill == crate::server::Fill::More;
        }
        let io = self.network.write(id, slices.parts());
        self.written(id, io)
    }

    fn write_lease(&mut self, id: ConnectionId) -> bool {
        let mut leases = Leases::new(256 << 10);
        let fill = self.driver.lease(id, &mut leases, self.now);
        if leases.is_empty() {
            return fill == crate::server::Fill::More;
        }
        assert!(!self.driver.wants(id).write, "a second lease");
        let parts: Vec<&[u8]> = leases.parts().iter().map(crate::output::Lease::as_slice).collect();
        let io = self.network.write(id, &parts);
        self.written(id, io)
    }

    fn written(&mut self, id: ConnectionId, io: Io) -> bool {
        match io {
            Io::Done(count) | Io::Drained(count) => self.driver.wrote(id, count, self.now),
            Io::Blocked => {
                self.driver.wrote(id, 0, self.now);
                return false;
            }
            Io::Failed => self.driver.failed(id, self.now),
        }
        true
    }
}

impl Bench {
    /// What the server was told since the last call, without the fills.
    pub(super) fn log(&mut self) -> Vec<String> {
        core::mem::take(&mut self.server().log)
    }
}
