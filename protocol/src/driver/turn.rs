//! Driving by readiness: one turn over the connections that have something to do.

use super::Driver;
use super::shell::{Flag, Phase};
use crate::output::Slices;
use crate::server::{ConnectionId, Fill, Server};
use crate::time::Now;

/// What a system call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// It moved so many bytes. A read of none is the end of the stream; a write of none counts as blocked.
    Done(usize),
    /// A read moved so many bytes, at least one, and these were all that there were: it stands for [`Io::Done`] and the
    /// [`Io::Blocked`] of the next read, which is spared. Only where more bytes are sure to be told by
    /// [`Driver::readable`]; the end of the stream may stand behind these bytes if it was told by [`Driver::hung_up`].
    Drained(usize),
    /// It could move none now. The runtime will say [`Driver::readable`] or [`Driver::writable`] when it can.
    Blocked,
    /// The connection is gone.
    Failed,
}

/// The system calls of a readiness-based runtime. An id names the socket that was accepted under it.
pub trait Sockets {
    /// Reads once, without waiting.
    fn read(&mut self, id: ConnectionId, into: &mut [u8]) -> Io;
    /// Writes the parts once, without waiting. They are not empty.
    fn write(&mut self, id: ConnectionId, parts: &[&[u8]]) -> Io;
    /// Shuts down the writing side.
    fn shutdown(&mut self, id: ConnectionId);
    /// Closes the socket. The id names nothing from now on.
    fn close(&mut self, id: ConnectionId);

    /// Whether the turn has taken so long that new events are to be looked for first, as system calls may be slow. It is asked
    /// after each write, and after each connection that was served. Without it, turns are bounded by [`DriverConfig::turn`](super::DriverConfig::turn)
    /// alone.
    fn turn_is_over(&mut self) -> bool {
        false
    }
}

impl<S: Server> Driver<S> {
    /// The socket may have bytes, or its end.
    pub fn readable(&mut self, id: ConnectionId) {
        self.note_readiness(id, Flag::Readable);
    }

    /// The socket may have room.
    pub fn writable(&mut self, id: ConnectionId) {
        self.note_readiness(id, Flag::Writable);
    }

    fn note_readiness(&mut self, id: ConnectionId, flag: Flag) {
        if let Some(shell) = self.shell(id) {
            shell.flags.set(flag);
            self.enqueue(id);
        }
    }

    /// Serves connections that have something to do, a bounded number of them, until
    /// [`turn_is_over`](Sockets::turn_is_over). Returns whether some are left: if so, look
    /// for new events without waiting and call it again; if not, wait until [`Driver::deadline`].
    pub fn turn(&mut self, sockets: &mut impl Sockets, now: Now) -> bool {
        if self.deadline().is_some_and(|at| at <= now.instant) {
            self.on_deadline(now);
        }
        self.expire(now);
        let mut left = self.config.turn.max(1);
        while left > 0 {
            // Those that the server names and those with readiness alternate, so that neither starves the other.
            let named = self.gather(left.min(Self::NAMED), now);
            let due = self.queued().min(left);
            if named == 0 && due == 0 {
                return false;
            }
            for _ in 0..due {
                let Some(id) = self.dequeue() else { break };
                self.serve(id, sockets, now);
                if sockets.turn_is_over() {
                    return true;
                }
            }
            left -= due.max(named);
        }
        true
    }

    fn serve(&mut self, id: ConnectionId, sockets: &mut impl Sockets, now: Now) {
        self.read(id, sockets, now);
        let mut more = true;
        for _ in 0..Self::ROUNDS {
            more = self.advance(id, now);
            self.write(id, sockets, now);
            // What was written may have made room to answer more.
            more |= self.can_advance(id);
            if !more {
                break;
            }
        }
        self.settle(id, now);
        let config = &self.config;
        let Some(shell) = self.shells.get_mut(id.slot()).filter(|shell| shell.is(id)) else { return };
        match shell.phase {
            Phase::Closing => {
                if shell.lingers && shell.transform.is_none() && !shell.own().is_empty() {
                    self.say_last(id, sockets);
                }
                sockets.close(id);
                return self.release(id);
            }
            Phase::Lingering if !shell.flags.has(Flag::ShutDown) => {
                shell.flags.set(Flag::ShutDown);
                sockets.shutdown(id);
            }
            Phase::Free | Phase::Open | Phase::Finishing | Phase::Lingering => {}
        }
        let shell = &self.shells[id.slot()];
        let reads = shell.flags.has(Flag::Readable) && shell.wants_read(config);
        let writes = shell.flags.has(Flag::Writable) && shell.may_write();
        if more || reads || writes {
            self.enqueue(id);
        }
    }

    /// One that was refused, and has to go before its turn came, gets its answer if that can be written at once. What it has
    /// said by then is read, as unread bytes would make the system reset the connection under the answer.
    fn say_last(&mut self, id: ConnectionId, sockets: &mut impl Sockets) {
        // Whatever becomes of either, it is closed next.
        let _read = sockets.read(id, &mut self.read_buffer);
        let _written = sockets.write(id, &[self.shells[id.slot()].own()]);
    }

    /// Reads once.
    fn read(&mut self, id: ConnectionId, sockets: &mut impl Sockets, now: Now) {
        let shell = &self.shells[id.slot()];
        if !shell.flags.has(Flag::Readable) || !shell.wants_read(&self.config) {
            return;
        }
        let mut buffer = core::mem::take(&mut self.read_buffer);
        match sockets.read(id, &mut buffer) {
            Io::Done(0) | Io::Drained(0) => self.ended(id, now),
            io @ (Io::Done(count) | Io::Drained(count)) => {
                let flags = &mut self.shells[id.slot()].flags;
                // The end was told once, and only a read finds it.
                if matches!(io, Io::Drained(_)) && !flags.has(Flag::HungUp) {
                    flags.clear(Flag::Readable);
                }
                let count = count.min(buffer.len());
                self.take(id, &mut buffer[..count], now);
            }
            Io::Blocked => self.shells[id.slot()].flags.clear(Flag::Readable),
            Io::Failed => self.failed(id, now),
        }
        self.read_buffer = buffer;
    }

    /// Writes until nothing is left, the socket is full, or so much was written that others should have their turn.
    fn write(&mut self, id: ConnectionId, sockets: &mut impl Sockets, now: Now) {
        let mut budget = self.config.write_bytes;
        for _ in 0..Self::ROUNDS {
            let shell = &self.shells[id.slot()];
            if budget == 0 || !shell.flags.has(Flag::Writable) || !shell.may_write() {
                break;
            }
            let mut slices = Slices::new(budget);
            let fill = self.fill(id, &mut slices, now);
            if slices.is_empty() {
                if fill == Fill::More {
                    continue;
                }
                break;
            }
            let lent = slices.len();
            match sockets.write(id, slices.parts()) {
                // A write that moves nothing is one that would block: to try again at once would be to spin.
                Io::Blocked | Io::Done(0) | Io::Drained(0) => {
                    self.shells[id.slot()].flags.clear(Flag::Writable);
                    self.moved(id, 0, Fill::More, now);
                }
                Io::Done(count) | Io::Drained(count) => {
                    budget = budget.saturating_sub(count);
                    let rest = if count < lent { Fill::More } else { fill };
                    self.moved(id, count.min(lent), rest, now);
                }
                Io::Failed => self.failed(id, now),
            }
            if sockets.turn_is_over() {
                break;
            }
        }
    }
}
