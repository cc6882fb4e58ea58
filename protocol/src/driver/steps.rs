//! What the driver's calls have in common: the steps that a connection takes, whoever led to them.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::Driver;
use super::shell::{Buffers, Flag, Flags, Phase, Shell, Unread};
use crate::input::Input;
use crate::output::{Lease, Leases, Slices};
use crate::server::{After, Closed, ConnectionId, Fill, Server};
use crate::time::Now;

impl<S: Server> Driver<S> {
    /// How often one visit of a connection may go round between answering and writing before others have their turn.
    pub(super) const ROUNDS: usize = 16;
    /// How many the server names before these are served. Few: who becomes ready through one that is served does not stand
    /// behind all the others.
    pub(super) const NAMED: usize = 32;

    pub(super) fn shell(&mut self, id: ConnectionId) -> Option<&mut Shell> {
        self.shells.get_mut(id.slot()).filter(|shell| shell.is(id))
    }

    pub(super) fn enqueue(&mut self, id: ConnectionId) {
        if let Some(shell) = self.shells.get_mut(id.slot()).filter(|shell| shell.is(id)) {
            if !shell.flags.take(Flag::Queued) {
                self.queue.push_back(id.slot() as u32);
            }
            shell.flags.set(Flag::Queued);
        }
    }

    pub(super) fn dequeue(&mut self) -> Option<ConnectionId> {
        loop {
            self.turn_of_named = !self.turn_of_named;
            let (queue, other) = if self.turn_of_named {
                (&mut self.named, &mut self.queue)
            } else {
                (&mut self.queue, &mut self.named)
            };
            let slot = queue.pop_front().or_else(|| other.pop_front())?;
            let shell = &mut self.shells[slot as usize];
            shell.flags.clear(Flag::Queued);
            if shell.phase != Phase::Free {
                return Some(ConnectionId::new(slot, shell.generation));
            }
        }
    }

    /// How many slots are queued.
    pub(super) fn queued(&self) -> usize {
        self.queue.len() + self.named.len()
    }

    /// Closes what lingered or stalled for too long. The wheel has to be told the time even when nothing is due: a deadline
    /// that is set after hours without any would lie in a slot of long ago, and be reported as passed.
    pub(super) fn expire(&mut self, now: Now) {
        while let Some(slot) = self.timers.expire(now.instant) {
            let shell = &self.shells[slot];
            let id = ConnectionId::new(slot as u32, shell.generation);
            match shell.phase {
                Phase::Lingering => self.close(id, Closed::Finished, now),
                Phase::Open | Phase::Finishing => self.close(id, Closed::WriteStalled, now),
                Phase::Free | Phase::Closing => {}
            }
        }
    }

    /// Queues what the server names as ready, at most so many. Returns how many it named, those that are gone included. None while
    /// some that it named before wait for their turn.
    pub(super) fn gather(&mut self, most: usize, now: Now) -> usize {
        if !self.named.is_empty() {
            return 0;
        }
        for count in 0..most {
            let Some(id) = self.server.next_ready(now) else { return count };
            if let Some(shell) = self.shell(id).filter(|shell| shell.phase == Phase::Open) {
                shell.flags.set(Flag::Resume);
                shell.flags.set(Flag::Pull);
                if !shell.flags.take(Flag::Queued) {
                    self.named.push_back(id.slot() as u32);
                }
                self.shells[id.slot()].flags.set(Flag::Queued);
            }
        }
        most
    }

    /// Does what is due for the connection and can be done without the socket: resumes it, offers unread bytes again.
    /// Returns whether it did anything.
    pub(super) fn advance(&mut self, id: ConnectionId, now: Now) -> bool {
        let Some(shell) = self.shells.get_mut(id.slot()).filter(|shell| shell.is(id)) else { return false };
        if shell.phase != Phase::Open || shell.over_mark() {
            return false;
        }
        if shell.flags.take(Flag::Resume) {
            let mut buffers = shell.buffers.take().unwrap_or_else(|| self.pool.take());
            let after = self.server.resume(id, &mut buffers.out, now);
            let shell = &mut self.shells[id.slot()];
            if buffers.out.over_mark() {
                shell.flags.set(Flag::Offer);
            }
            shell.buffers = Some(buffers);
            shell.flags.set(Flag::Pull);
            self.after(id, after, now);
            return true;
        }
        if shell.may_offer() {
            self.offer(id, &mut [], now);
            return true;
        }
        false
    }

    /// Whether [`advance`](Driver::advance) would do something.
    pub(super) fn can_advance(&self, id: ConnectionId) -> bool {
        self.shells.get(id.slot()).filter(|shell| shell.is(id)).is_some_and(|shell| {
            let due = shell.flags.has(Flag::Resume) || shell.may_offer();
            shell.phase == Phase::Open && !shell.over_mark() && due
        })
    }

    /// Offers unread bytes and these to the server, unless it must not be called now: then they are kept.
    pub(super) fn offer(&mut self, id: ConnectionId, bytes: &mut [u8], now: Now) {
        let shell = &mut self.shells[id.slot()];
        let paused = shell.flags.has(Flag::Paused);
        let hung_up = shell.flags.has(Flag::Ended) || (paused && shell.flags.has(Flag::HungUp));
        let news = hung_up && shell.must_tell_hung_up();
        let mut buffers = shell.buffers.take().unwrap_or_else(|| self.pool.take());
        if buffers.out.over_mark() || (paused && !news) {
            // They are offered when that is over: `Flag::Offer` is set when the mark is passed, and when the pause ends.
            buffers.unread.push(bytes);
            shell.buffers = Some(buffers);
            return;
        }
        shell.flags.clear(Flag::Offer);
        let Buffers { unread, out, .. } = &mut *buffers;
        let mut kept = core::mem::take(unread);
        let all = if kept.is_empty() {
            &mut *bytes
        } else {
            kept.push(bytes);
            kept.rest()
        };
        let mut input = if hung_up { Input::last(all) } else { Input::new(all) };
        let after = self.server.receive(id, &mut input, out, now);
        let consumed = input.consumed();
        if kept.is_empty() {
            kept.push(&bytes[consumed..]);
        } else {
            kept.took(consumed);
        }
        *unread = kept;
        let shell = &mut self.shells[id.slot()];
        // One that takes bytes may start something new with them, and is told again if it pauses for that.
        if hung_up && (paused || consumed == 0) {
            shell.flags.set(Flag::ToldHungUp);
        } else if consumed > 0 {
            shell.flags.clear(Flag::ToldHungUp);
        }
        // The server may have stopped at the mark with everything taken and something left to say (the end of a request).
        if out.over_mark() {
            shell.flags.set(Flag::Offer);
        }
        shell.buffers = Some(buffers);
        shell.flags.set(Flag::Pull);
        self.after(id, after, now);
    }

    pub(super) fn after(&mut self, id: ConnectionId, after: After, now: Now) {
        let shell = &mut self.shells[id.slot()];
        match after {
            After::Open => {
                if shell.flags.take(Flag::Paused) && (shell.has_unread() || shell.flags.has(Flag::Ended)) {
                    shell.flags.set(Flag::Offer);
                }
            }
            After::Paused => {
                shell.flags.set(Flag::Paused);
                // The end may have become known with the very bytes that led to the pause.
                if shell.must_tell_hung_up() && shell.phase == Phase::Open {
                    self.offer(id, &mut [], now);
                }
            }
            After::MidFrame => {}
            After::Finish => {
                if shell.phase == Phase::Open {
                    shell.phase = Phase::Finishing;
                    if let Some(buffers) = &mut shell.buffers {
                        buffers.unread = Unread::default();
                    }
                }
            }
            After::Abort => self.close(id, Closed::Aborted, now),
        }
    }

    /// Lends own bytes and then what the server lends.
    pub(super) fn fill_plain<'a>(
        server: &'a mut S,
        flags: &mut Flags,
        buffers: &'a mut Option<Box<Buffers>>,
        pull: bool,
        id: ConnectionId,
        to: &mut Slices<'a>,
        now: Now,
    ) -> Fill {
        if let Some(buffers) = buffers {
            buffers.lent = 0;
            // Nothing goes between the halves of a frame.
            if !flags.has(Flag::MidFrame) && to.has_room(1) {
                buffers.lent = buffers.out.len();
                let _room = to.push(buffers.out.pending());
            }
        }
        let own = to.len();
        let fill = match pull {
            true if to.has_room(1) => server.fill(id, to, now),
            true => Fill::More,
            false => Fill::Nothing,
        };
        flags.note_pull(fill, to.len() > own);
        if fill == Fill::Nothing && own > 0 { Fill::All } else { fill }
    }

    /// The same, with leases.
    pub(super) fn lease_plain(&mut self, id: ConnectionId, to: &mut Leases, now: Now) -> Fill {
        let shell = &mut self.shells[id.slot()];
        let pull = shell.may_pull();
        if let Some(buffers) = &mut shell.buffers {
            buffers.lent = 0;
            if !shell.flags.has(Flag::MidFrame) && !buffers.out.is_empty() && to.has_room(1) {
                buffers.lent = buffers.out.len();
                let _room = to.push(Lease::from(Arc::<[u8]>::from(buffers.out.pending())));
            }
        }
        let own = to.len();
        let fill = match pull {
            true if to.has_room(1) => self.server.lease(id, to, now),
            true => Fill::More,
            false => Fill::Nothing,
        };
        self.shells[id.slot()].flags.note_pull(fill, to.len() > own);
        if fill == Fill::Nothing && own > 0 { Fill::All } else { fill }
    }

    /// Bytes of the server's, own or lent, left: to the socket, or into the transformation. They were all that is due, or
    /// the server is to be asked for more.
    pub(super) fn wrote_plain(&mut self, id: ConnectionId, bytes: usize, leased: bool, rest: Fill, now: Now) {
        let shell = &mut self.shells[id.slot()];
        let mut pulled = bytes;
        if let Some(buffers) = &mut shell.buffers {
            let own = bytes.min(core::mem::take(&mut buffers.lent));
            buffers.out.wrote(own);
            pulled -= own;
        }
        if !shell.flags.take(Flag::Pulled) {
            return;
        }
        if pulled > 0 {
            let after = self.server.sent(id, pulled, now);
            let flags = &mut self.shells[id.slot()].flags;
            if after == After::MidFrame {
                flags.set(Flag::MidFrame);
            } else {
                flags.clear(Flag::MidFrame);
            }
            if rest == Fill::All {
                flags.clear(Flag::Pull);
            } else {
                flags.set(Flag::Pull);
            }
            self.after(id, after, now);
        } else if leased {
            // Only says that the lease is over: nothing has changed.
            let _nothing_changed = self.server.sent(id, 0, now);
        }
    }

    /// The peer has to accept something, or to say something, before more can be written: for so long, and no longer.
    pub(super) fn wait_for_peer(&mut self, id: ConnectionId, now: Now) {
        if self.timers.deadline_of(id.slot()).is_none() {
            self.timers.set(id.slot(), now.instant + self.config.write_stall);
        }
    }

    /// Nothing was lent: nobody waits for the peer any more, and a connection that only had to write goes on.
    pub(super) fn nothing_lent(&mut self, id: ConnectionId) {
        self.timers.cancel(id.slot());
        if self.shells[id.slot()].phase == Phase::Finishing {
            self.enqueue(id);
        }
    }

    /// Moves the connection on when a phase is over, keeps its timer, and gives back memory that it does not use.
    pub(super) fn settle(&mut self, id: ConnectionId, now: Now) {
        let Some(shell) = self.shells.get_mut(id.slot()).filter(|shell| shell.is(id)) else { return };
        // A transformation that waits for a peer that says no more will never send.
        let stuck = shell.flags.has(Flag::Withheld) && shell.flags.has(Flag::Ended) && !shell.may_write();
        if shell.phase == Phase::Finishing && !shell.flags.has(Flag::Leased) && (stuck || !shell.has_output())
        {
            if shell.end_transform(&mut self.pool) {
                return self.enqueue(id);
            }
            shell.phase = Phase::Lingering;
            let until = now.instant + self.config.linger;
            let buffers = shell.buffers.get_or_insert_with(|| self.pool.take());
            buffers.linger_until = until;
            self.timers.set(id.slot(), until.min(now.instant + self.config.linger_idle));
            let ended = shell.flags.has(Flag::Ended);
            if shell.flags.take(Flag::Admitted) {
                let why = if stuck { Closed::Failed } else { Closed::Finished };
                self.server.closed(id, why, now);
                if !ended {
                    self.linger(id, now);
                }
            }
            if ended {
                self.close(id, Closed::Finished, now);
            }
            return self.enqueue(id);
        }
        if shell.phase == Phase::Open {
            if let Some(buffers) = shell.buffers.take_if(|buffers| buffers.is_unused()) {
                self.pool.put(buffers);
            }
        }
    }

    /// The connection is no longer the server's, and stays for its peer's sake: if too many do, the oldest has to go.
    pub(super) fn linger(&mut self, id: ConnectionId, now: Now) {
        self.shells[id.slot()].lingers = true;
        let shells = &self.shells;
        let waits =
            |id: ConnectionId| shells.get(id.slot()).is_some_and(|shell| shell.is(id) && !shell.is_closing());
        if let Some(oldest) = self.lingering.push(id, self.config.lingering, waits) {
            self.close(oldest, Closed::Finished, now);
        }
    }

    /// Whatever happens, the server hears of it once, and the socket is closed at the connection's next turn.
    pub(super) fn close(&mut self, id: ConnectionId, why: Closed, now: Now) {
        let Some(shell) = self.shells.get_mut(id.slot()).filter(|shell| shell.is(id)) else { return };
        if shell.is_closing() {
            return;
        }
        shell.phase = Phase::Closing;
        shell.flags.clear(Flag::Leased);
        if shell.lingers {
            self.lingering.closing();
        }
        if shell.flags.take(Flag::Admitted) {
            self.server.closed(id, why, now);
        }
        self.timers.cancel(id.slot());
        self.enqueue(id);
    }
}
