//! The loop around a [`Server`], without the system calls.
//!
//! Everything that every server needs and that is no system call is here, once: bytes that were read and not taken, own
//! output and its mark, whose turn it is, the order of own and lent bytes, stalled writes, the lingering close, draining,
//! and the one seam where bytes are transformed ([`Transform`]: TLS). A runtime is what is left: it maps ids to sockets,
//! makes the calls, and waits.
//!
//! A connection's life, as the driver sees it:
//!
//! ```text
//!   accept ─► Open ── After::Finish, or refused ─► Finishing ── all written ─► Lingering ── peer closed, or time up ─► Closing
//!              │                                      │          shutdown                                                │
//!              └────────── After::Abort, failed, stalled, drained, or too many linger ───────────────────────────────────┤
//!                                                                                                        socket closed ─► gone
//! ```
//!
//! There are two ways to drive it:
//!
//! - **Readiness** (epoll, kqueue; mio, smol): implement [`Sockets`], tell [`Driver::readable`] and [`Driver::writable`],
//!   call [`Driver::turn`] until it says that nothing is left, wait until [`Driver::deadline`].
//! - **Completion** (`io_uring`, a test, an event loop with ideas of its own): call [`Driver::next_ready`] and look at what the
//!   connection [`wants`](Driver::wants); lend with [`Driver::fill`] or [`Driver::lease`]; say what happened with
//!   [`Driver::received`], [`Driver::ended`], [`Driver::wrote`] and [`Driver::failed`].

mod lingering;
mod shell;
mod steps;
mod transform;
mod turn;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::task::Waker;
use core::time::Duration;

use self::lingering::Lingering;
use self::shell::{Flag, Phase, Pool, Shell};
use crate::blocks::Blocks;
use crate::output::{Lease, Leases, Sink, Slices};
use crate::server::{Admission, Closed, ConnectionId, Fill, Peer, Server};
use crate::time::{Instant, Now, earliest};
use crate::timer::Wheel;

pub use self::transform::{Transform, TransformError, Transformed};
pub use self::turn::{Io, Sockets};

/// The limits and times of a [`Driver`].
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// The most connections at once; more are closed as they come. A server that wants to answer them has a lower limit of
    /// its own. Default: 1,000,000.
    pub connections: usize,
    /// Bytes of own output of one connection above which no input is taken for it. Default: 64 KiB.
    pub output_mark: usize,
    /// Size of the one buffer that reads go to. Default: 64 KiB.
    pub read_bytes: usize,
    /// Unread bytes of one connection above which it is not read from: at least the largest head that the server takes.
    /// Default: 128 KiB.
    pub unread_bytes: usize,
    /// The same while the connection is paused. Default: 4 KiB.
    pub paused_bytes: usize,
    /// Bytes lent for one write. Default: 256 KiB.
    pub write_bytes: usize,
    /// Connections served in one turn, before the runtime looks for new events: what comes meanwhile waits so long. Default: 128.
    pub turn: usize,
    /// How long a peer may accept nothing of what is to be written. Default: 60 s.
    pub write_stall: Duration,
    /// Lingering close: how long to wait for the peer's next byte, or its end. Default: 5 s.
    pub linger_idle: Duration,
    /// Lingering close: how long in all. Default: 30 s.
    pub linger: Duration,
    /// Connections at once that are no longer the server's and have sockets still: those that it
    /// [refused](Admission::Refuse), and those that linger after their end. Above it the oldest is closed: it has had the
    /// most time to take what it was sent. What is on its way to a peer that still sends may be lost by that, as the system
    /// resets the connection (RFC 9112 section 9.6): a refusal too, of which no more than one write is tried, or none by
    /// completion. Where twice as many have sockets, whoever is refused gets no answer. Default: 512.
    pub lingering: usize,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            connections: 1_000_000,
            output_mark: 64 << 10,
            read_bytes: 64 << 10,
            unread_bytes: 128 << 10,
            paused_bytes: 4 << 10,
            write_bytes: 256 << 10,
            turn: 128,
            write_stall: Duration::from_secs(60),
            linger_idle: Duration::from_secs(5),
            linger: Duration::from_secs(30),
            lingering: 512,
        }
    }
}

/// What a connection wants of a completion-based runtime. See [`Driver::wants`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wants {
    /// A read should be under way.
    pub read: bool,
    /// [`Driver::fill`] or [`Driver::lease`] may have something; never while a lease is out.
    pub write: bool,
    /// The writing side is to be shut down, then [`Driver::shut_down`] called.
    pub shutdown: bool,
    /// The socket is to be closed, then [`Driver::release`] called. Nothing else is wanted. A lease that is out stays valid,
    /// and nobody waits for it: closing is what ends the write.
    pub close: bool,
}

/// The most that a driver holds for any one of its connections, in bytes. See [`Driver::buffered`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Buffered {
    /// Received, and not taken by the server.
    pub unread: usize,
    /// The server's own output, and not written.
    pub output: usize,
}

/// The sans-IO loop around a server. See the [module](self).
pub struct Driver<S> {
    server: S,
    config: DriverConfig,
    shells: Blocks<Shell>,
    free: Vec<u32>,
    /// Slots that are to be looked at; each is once in this or in `named` (`Flag::Queued`).
    queue: VecDeque<u32>,
    /// Those that the server named, a few at a time. The two take turns.
    named: VecDeque<u32>,
    turn_of_named: bool,
    pool: Pool,
    timers: Wheel,
    lingering: Lingering,
    drain_by: Option<Instant>,
    read_buffer: Vec<u8>,
    plain: Vec<u8>,
}

impl<S: Server> Driver<S> {
    /// A driver around a server. Nothing happens before [`start`](Driver::start).
    pub fn new(server: S, config: DriverConfig) -> Self {
        Self {
            server,
            read_buffer: vec![0; config.read_bytes.max(1)],
            pool: Pool::new(config.output_mark),
            config,
            shells: Blocks::new(),
            free: Vec::new(),
            queue: VecDeque::new(),
            named: VecDeque::new(),
            turn_of_named: false,
            timers: Wheel::new(Duration::from_millis(16)),
            lingering: Lingering::default(),
            drain_by: None,
            plain: Vec::new(),
        }
    }

    /// Gives the server the waker that leads to [`woken`](Driver::woken). Once, before anything else.
    pub fn start(&mut self, waker: &Waker, now: Now) {
        self.server.start(waker, now);
    }

    /// The server.
    pub fn server(&self) -> &S {
        &self.server
    }

    /// The server, to talk to it outside the driver's calls. After a change that makes connections ready, call
    /// [`turn`](Driver::turn) or [`next_ready`](Driver::next_ready).
    pub fn server_mut(&mut self) -> &mut S {
        &mut self.server
    }

    /// The server, when all is over. What connections there still are, it is not told of.
    pub fn into_server(self) -> S {
        self.server
    }

    /// How many connections there are, those that only linger included.
    pub fn connections(&self) -> usize {
        self.shells.len() - self.free.len()
    }

    /// The most that it holds for any one connection. It looks at all of them: for tests, that its limits hold.
    pub fn buffered(&self) -> Buffered {
        self.shells.iter().filter_map(|shell| shell.buffers.as_ref()).fold(
            Buffered::default(),
            |most, one| Buffered {
                unread: most.unread.max(one.unread.len()),
                output: most.output.max(one.out.len()),
            },
        )
    }

    /// Every connection, those that only linger included, and when the driver itself does something about it at the latest,
    /// whatever the server does. It looks at all of them: for tests, that whoever waits for a peer has a deadline, and that
    /// it is met.
    pub fn deadlines(&self) -> impl Iterator<Item = (ConnectionId, Option<Instant>)> + '_ {
        let there = self.shells.iter().enumerate().filter(|(_, shell)| shell.phase != Phase::Free);
        there.map(|(slot, shell)| {
            (ConnectionId::new(slot as u32, shell.generation), self.timers.deadline_of(slot))
        })
    }

    /// A connection was accepted, or made. `None`: close it at once (a limit is reached, or the driver drains).
    pub fn accept(&mut self, peer: &Peer, now: Now) -> Option<ConnectionId> {
        self.accept_transformed(peer, None, now)
    }

    /// The same, with a transformation between the socket and the server.
    pub fn accept_transformed(
        &mut self,
        peer: &Peer,
        transform: Option<Box<dyn Transform>>,
        now: Now,
    ) -> Option<ConnectionId> {
        if self.drain_by.is_some() || self.connections() >= self.config.connections {
            return None;
        }
        let slot = if let Some(slot) = self.free.pop() {
            slot
        } else {
            let slot = u32::try_from(self.shells.len()).ok()?;
            self.shells.push(Shell::default());
            slot
        };
        let shell = &mut self.shells[slot as usize];
        shell.open(transform);
        let id = ConnectionId::new(slot, shell.generation);
        match self.server.open(id, peer, now) {
            Admission::Admit => shell.flags.set(Flag::Admitted),
            Admission::Refuse(_) if self.lingering.sockets() >= self.config.lingering.saturating_mul(2) => {
                shell.release();
                self.free.push(slot);
                return None;
            }
            Admission::Refuse(bytes) => {
                shell.phase = Phase::Finishing;
                shell.buffers.get_or_insert_with(|| self.pool.take()).out.put(&bytes);
                self.linger(id, now);
            }
        }
        self.enqueue(id);
        Some(id)
    }

    /// These bytes were read. They may be changed in place, and are done with when this returns.
    pub fn received(&mut self, id: ConnectionId, bytes: &mut [u8], now: Now) {
        if self.take(id, bytes, now) {
            self.enqueue(id);
        }
    }

    /// The same for a connection whose turn it is. Returns whether there may be something to do now.
    fn take(&mut self, id: ConnectionId, bytes: &mut [u8], now: Now) -> bool {
        let idle = now.instant + self.config.linger_idle;
        let Some(shell) = self.shell(id) else { return false };
        match shell.phase {
            Phase::Open => {}
            // Read and dropped, so that closing does not reset the connection under what was written.
            // A transformation goes on: its handshake may have to end before the farewell can be sent.
            Phase::Finishing if !shell.is_transforming() => return false,
            Phase::Finishing => {}
            Phase::Lingering => {
                let until = shell.buffers.as_ref().map_or(idle, |buffers| buffers.linger_until.min(idle));
                self.timers.set(id.slot(), until);
                return false;
            }
            Phase::Free | Phase::Closing => return false,
        }
        if shell.transform.is_some() {
            self.receive_transformed(id, bytes, now);
        } else {
            self.offer(id, bytes, now);
        }
        true
    }

    /// All bytes that the peer sent were read: it ended its side of the stream.
    pub fn ended(&mut self, id: ConnectionId, now: Now) {
        let Some(shell) = self.shell(id).filter(|shell| !shell.flags.has(Flag::Ended)) else { return };
        shell.flags.set(Flag::Ended);
        shell.flags.set(Flag::HungUp);
        match shell.phase {
            Phase::Open => self.offer(id, &mut [], now),
            Phase::Lingering => self.close(id, Closed::Finished, now),
            Phase::Free | Phase::Finishing | Phase::Closing => {}
        }
        self.enqueue(id);
    }

    /// The peer ended its side of the stream, perhaps behind bytes that are not read yet. A held answer is cancelled.
    pub fn hung_up(&mut self, id: ConnectionId, now: Now) {
        let Some(shell) = self.shell(id).filter(|shell| !shell.flags.has(Flag::HungUp)) else { return };
        shell.flags.set(Flag::HungUp);
        // Bytes that are not read yet come before the end of them; only a paused connection is told of it at once.
        if shell.phase == Phase::Open && shell.flags.has(Flag::Paused) {
            self.offer(id, &mut [], now);
            self.enqueue(id);
        }
    }

    /// Reading or writing failed: the connection is gone.
    pub fn failed(&mut self, id: ConnectionId, now: Now) {
        self.close(id, Closed::Failed, now);
    }

    /// Lends what is to be written now. Write it, drop the slices, say [`wrote`](Driver::wrote). [`Fill::More`] with nothing
    /// lent: the server still searches, ask again.
    pub fn fill<'a>(&'a mut self, id: ConnectionId, to: &mut Slices<'a>, now: Now) -> Fill {
        let Some(shell) = self.shell(id).filter(|shell| shell.may_lend()) else { return Fill::Nothing };
        if shell.transform.is_some() {
            let fill = self.pull_transformed(id, now);
            if let Some(wire) = self.shells[id.slot()].buffers.as_ref().map(|b| &b.wire) {
                let _room = to.push(wire.pending());
            }
            return fill;
        }
        let Self { server, shells, queue, timers, .. } = self;
        let shell = &mut shells[id.slot()];
        let pull = shell.may_pull();
        let Shell { phase, flags, buffers, .. } = shell;
        let fill = Self::fill_plain(server, flags, buffers, pull, id, to, now);
        if to.is_empty() && fill != Fill::More {
            // As in `nothing_lent`, while the slices are borrowed.
            timers.cancel(id.slot());
            if *phase == Phase::Finishing && !flags.has(Flag::Queued) {
                flags.set(Flag::Queued);
                queue.push_back(id.slot() as u32);
            }
        }
        fill
    }

    /// The same as shared bytes, which may be written at any later time. While they are out, nothing else is lent for this
    /// connection; [`wrote`](Driver::wrote) or the end of the connection ends that.
    pub fn lease(&mut self, id: ConnectionId, to: &mut Leases, now: Now) -> Fill {
        let Some(shell) = self.shell(id).filter(|shell| shell.may_lend()) else { return Fill::Nothing };
        let fill = if shell.transform.is_some() {
            let fill = self.pull_transformed(id, now);
            let wire = self.shells[id.slot()].buffers.as_ref().map_or(&[][..], |b| b.wire.pending());
            if !wire.is_empty() {
                let _room = to.push(Lease::from(Arc::<[u8]>::from(wire)));
            }
            fill
        } else {
            self.lease_plain(id, to, now)
        };
        if !to.is_empty() {
            self.shells[id.slot()].flags.set(Flag::Leased);
            self.wait_for_peer(id, now);
        } else if fill != Fill::More && !self.shells[id.slot()].flags.has(Flag::Withheld) {
            self.nothing_lent(id);
        }
        fill
    }

    /// So many bytes of what was lent were written, from its start: never more than were lent. None: the peer accepts nothing
    /// now, which it may do for [`DriverConfig::write_stall`]. The server hears [`Server::sent`] with the bytes that were its
    /// own lent ones; with 0 only where that ends a lease, and what it returns then changes nothing.
    pub fn wrote(&mut self, id: ConnectionId, bytes: usize, now: Now) {
        if self.moved(id, bytes, Fill::More, now) {
            self.enqueue(id);
        }
    }

    /// The same for a connection whose turn it is; `rest` is [`Fill::All`] if all that is due was written. Returns whether
    /// there may be something to do now.
    fn moved(&mut self, id: ConnectionId, bytes: usize, rest: Fill, now: Now) -> bool {
        let Some(shell) =
            self.shell(id).filter(|shell| matches!(shell.phase, Phase::Open | Phase::Finishing))
        else {
            return false;
        };
        let leased = shell.flags.take(Flag::Leased);
        let transformed = shell.transform.is_some();
        if bytes > 0 {
            self.timers.cancel(id.slot());
        } else {
            self.wait_for_peer(id, now);
        }
        if !transformed {
            self.wrote_plain(id, bytes, leased, rest, now);
        } else if let Some(buffers) = &mut self.shells[id.slot()].buffers {
            buffers.wire.wrote(bytes);
        }
        bytes > 0 || leased
    }

    /// The next connection to look at, with what was due for it done: look at what it [`wants`](Driver::wants).
    pub fn next_ready(&mut self, now: Now) -> Option<ConnectionId> {
        self.expire(now);
        let id = loop {
            let queued = self.queued();
            let named = self.gather(Self::NAMED, now);
            match self.dequeue() {
                Some(id) => break id,
                None if queued == 0 && named == 0 => return None,
                // All of them are gone. They have kept the server from naming others.
                None => {}
            }
        };
        for _ in 0..Self::ROUNDS {
            if !self.advance(id, now) {
                break;
            }
        }
        self.settle(id, now);
        if self.can_advance(id) {
            self.enqueue(id);
        }
        Some(id)
    }

    /// What a connection wants now. It may change with each call that names the connection.
    pub fn wants(&self, id: ConnectionId) -> Wants {
        let Some(shell) = self.shells.get(id.slot()).filter(|shell| shell.is(id)) else {
            return Wants::default();
        };
        if shell.phase == Phase::Closing {
            return Wants { close: true, ..Wants::default() };
        }
        Wants {
            read: shell.wants_read(&self.config),
            write: shell.may_write() && !shell.flags.has(Flag::Leased),
            shutdown: shell.phase == Phase::Lingering && !shell.flags.has(Flag::ShutDown),
            close: false,
        }
    }

    /// The writing side was shut down, as [wanted](Wants::shutdown).
    pub fn shut_down(&mut self, id: ConnectionId) {
        if let Some(shell) = self.shell(id) {
            shell.flags.set(Flag::ShutDown);
        }
    }

    /// The socket was closed, as [wanted](Wants::close). The id names nothing from now on.
    pub fn release(&mut self, id: ConnectionId) {
        let shell = self.shells.get_mut(id.slot()).filter(|shell| shell.is(id) && shell.is_closing());
        let Some(shell) = shell else { return };
        if shell.lingers {
            self.lingering.released();
        }
        shell.release();
        if let Some(buffers) = shell.buffers.take() {
            self.pool.put(buffers);
        }
        self.timers.cancel(id.slot());
        self.free.push(id.slot() as u32);
    }

    /// The waker that the server got was woken.
    pub fn woken(&mut self, now: Now) {
        self.server.on_wake(now);
    }

    /// When [`on_deadline`](Driver::on_deadline) is to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let drain = self.drain_by.filter(|&by| by != Instant::NEVER && self.connections() > 0);
        earliest(earliest(self.server.deadline(), self.timers.next()), drain)
    }

    /// Does what is due at this time.
    pub fn on_deadline(&mut self, now: Now) {
        self.expire(now);
        if self.server.deadline().is_some_and(|at| at <= now.instant) {
            self.server.on_deadline(now);
        }
        if self.drain_by.is_some_and(|by| by <= now.instant) {
            // Once: it looks at every slot, and nothing is accepted from here on.
            self.drain_by = Some(Instant::NEVER);
            for slot in 0..self.shells.len() {
                let shell = &self.shells[slot];
                if !matches!(shell.phase, Phase::Free | Phase::Closing) {
                    self.close(ConnectionId::new(slot as u32, shell.generation), Closed::Drained, now);
                }
            }
        }
    }

    /// No more connections; the server says farewell to those there are, and at `by` what is left is closed. A second call
    /// can only bring the time forward.
    pub fn drain(&mut self, by: Instant, now: Now) {
        let by = self.drain_by.map_or(by, |earlier| earlier.min(by));
        self.drain_by = Some(by);
        self.server.drain(by, now);
    }

    /// Whether the driver drains: nothing is to be accepted.
    pub fn is_draining(&self) -> bool {
        self.drain_by.is_some()
    }

    /// Whether it has drained: there are no connections, and there will be none.
    pub fn is_drained(&self) -> bool {
        self.is_draining() && self.connections() == 0
    }
}

#[cfg(test)]
mod tests;
