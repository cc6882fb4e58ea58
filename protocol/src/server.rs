//! The seam between what a server does and what runs it.
//!
//! A [`Server`] is a whole server as one machine: every connection of it, what they share, and its timers. It does no IO.
//! A [`Driver`](crate::Driver) stands around it and does what every server needs (keeping unread bytes, queues with limits,
//! turns, lingering close, stalled writes), and a runtime around that makes the system calls.
//!
//! ```text
//!            accept            bytes in               room to write          bytes written
//!   runtime ────────► open    ─────────► receive     ─────────────► fill    ───────────────► sent
//!                       │                  │  │                      │ │                       │
//!   server          Admission        After ┘  └ own bytes       Fill ┘ └ lent slices     After ┘
//!                                               pushed: out          pulled: bodies
//!
//!   others' doing: next_ready ─► resume        time: deadline ─► on_deadline        end: closed, exactly once
//! ```

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::task::Waker;

use crate::input::Input;
use crate::output::{Lease, Leases, SendQueue, Slices};
use crate::time::{Instant, Now};

/// Names one connection for as long as it exists, and never another: a slot that is used again, and its generation.
///
/// The slot is small and dense, so that a server can keep its connections in an array of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    slot: u32,
    generation: u32,
}

impl ConnectionId {
    /// A slot and its generation. Only a driver, or a test in its place, makes ids.
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    /// The slot: an index that is used again after the connection is closed.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }

    /// Differs each time that the slot is used.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

/// Who is at the other end of a connection, as far as the runtime knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The address; `None` where there is none (in memory, a Unix socket).
    pub address: Option<SocketAddr>,
    /// Whether the bytes are encrypted on their way.
    pub encrypted: bool,
}

impl Peer {
    /// A peer at an address, not encrypted.
    pub fn at(address: SocketAddr) -> Self {
        Self { address: Some(address), encrypted: false }
    }
}

/// Whether a server takes a new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It does; [`Server::closed`] will be called for it.
    Admit,
    /// It does not: these bytes are sent (a whole response, say a 503 with `Retry-After`), and the connection is closed
    /// with care that they arrive. The server hears no more of it.
    Refuse(Cow<'static, [u8]>),
}

/// What is to happen with a connection after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It goes on: more input is welcome.
    Open,
    /// Only from [`Server::sent`]: a pulled frame is half written. Nothing else may be written before its rest.
    MidFrame,
    /// It goes on, and takes no input until [`Server::resume`] or [`Server::sent`] say `Open`: an answer is under way, or is
    /// waited for. The driver keeps a little of what arrives and then stops reading.
    Paused,
    /// No more will come from the server but what is in its queue (and the rest of a half-written frame): write that, shut
    /// down the writing side, then wait for the peer to close, reading and dropping (RFC 9112 section 9.6).
    Finish,
    /// Close it now; what is not written is lost.
    Abort,
}

/// What a server lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Nothing, as nothing is due.
    Nothing,
    /// All that is due. When it is written, the server may not be asked again before [`receive`](Server::receive) or
    /// [`resume`](Server::resume).
    All,
    /// A part: ask again when it is written. Nothing need be lent, if only the search for what is due takes several steps.
    More,
}

/// Why a connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The server said [`After::Finish`], and everything was written.
    Finished,
    /// The server said [`After::Abort`].
    Aborted,
    /// Reading or writing failed: the peer is gone.
    Failed,
    /// The peer accepted nothing of what was to be written for too long.
    WriteStalled,
    /// The time for draining was over.
    Drained,
}

/// A whole server as one machine.
///
/// All calls for a connection lie between the [`open`](Server::open) that admitted it and its one [`closed`](Server::closed).
/// No call may block. Every list that a call works through is bounded, and what is left is taken up at the next call.
pub trait Server {
    /// Called once, before anything else. The waker may be kept and given to other threads: after it was woken,
    /// [`on_wake`](Server::on_wake) is called soon.
    fn start(&mut self, waker: &Waker, now: Now) {
        let _ = (waker, now);
    }

    /// A connection came. Admission and budgets belong to the server.
    fn open(&mut self, id: ConnectionId, peer: &Peer, now: Now) -> Admission;

    /// Bytes came, or the end of them became known ([`Input::hung_up`]; this is told even while the connection is
    /// [`After::Paused`]). What is not taken is offered again with what follows. Not called while `out` is over its mark: a
    /// server that answers many pipelined requests looks at the mark between them and returns with the rest untaken. After
    /// it, or [`resume`](Server::resume), returned with `out` over its mark, it is called again when that is below, even if
    /// nothing is left to offer.
    fn receive(&mut self, id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, now: Now) -> After;

    /// The connection was named by [`next_ready`](Server::next_ready): the server may put own bytes for it now. Not called
    /// while `out` is over its mark. A connection that was paused is still paused unless this says otherwise.
    fn resume(&mut self, id: ConnectionId, out: &mut SendQueue, now: Now) -> After;

    /// There is room on the socket, and in `to`: lends what is due. The server's next call for this connection is
    /// [`sent`](Server::sent) with the number of bytes that were written of it; if none were, the same bytes are asked for
    /// again. In [`After::Finish`] this is called only for the rest of a half-written frame, and lends no more than that.
    fn fill<'a>(&'a mut self, id: ConnectionId, to: &mut Slices<'a>, now: Now) -> Fill {
        let _ = (id, to, now);
        Fill::Nothing
    }

    /// The same as [`fill`](Server::fill) for writes that outlive the call. Other calls may come before
    /// [`sent`](Server::sent), but no second `lease` or `fill` for the same connection. The default copies what `fill` lends.
    fn lease(&mut self, id: ConnectionId, to: &mut Leases, now: Now) -> Fill {
        let mut slices = Slices::new(to.remaining());
        let fill = self.fill(id, &mut slices, now);
        let copy: Vec<u8> = slices.parts().concat();
        if to.push(Lease::from(Arc::<[u8]>::from(copy))) { fill } else { Fill::More }
    }

    /// So many of the lent bytes were written. Only this moves a cursor. None says only that a lease is over of which nothing
    /// was written; what this returns is not looked at then.
    fn sent(&mut self, id: ConnectionId, bytes: usize, now: Now) -> After {
        let _ = (id, bytes, now);
        After::Open
    }

    /// A connection that is ready through others' doing (a change was published, a deadline passed, a reply came), each
    /// named once until it is resumed. Called until it says `None` or the driver's turn is over; before it says `None` a
    /// server settles what this turn left open.
    fn next_ready(&mut self, now: Now) -> Option<ConnectionId> {
        let _ = now;
        None
    }

    /// When [`on_deadline`](Server::on_deadline) is to be called at the latest. Costs no more than a look.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// A deadline may have passed. Afterwards [`deadline`](Server::deadline) is later than `now`, unless more was due than a
    /// server does at once: then [`next_ready`](Server::next_ready) says who is, and takes the rest. What is due for a connection
    /// is put when it is [`resume`](Server::resume)d.
    fn on_deadline(&mut self, now: Now) {
        let _ = now;
    }

    /// The waker was woken: the store, or another thread, has something.
    fn on_wake(&mut self, now: Now) {
        let _ = now;
    }

    /// Accept no more, say farewell to everyone, spread over the time up to `by`. What is left then is closed by the driver.
    fn drain(&mut self, by: Instant, now: Now) {
        let _ = (by, now);
    }

    /// The connection is gone, or nothing more can be said on it. Called exactly once for each that was admitted.
    fn closed(&mut self, id: ConnectionId, why: Closed, now: Now);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that has what it must have, and lends a few bytes.
    struct Least(&'static [u8]);

    impl Server for Least {
        fn open(&mut self, _: ConnectionId, _: &Peer, _: Now) -> Admission {
            Admission::Admit
        }

        fn receive(&mut self, _: ConnectionId, _: &mut Input<'_>, _: &mut SendQueue, _: Now) -> After {
            After::Open
        }

        fn resume(&mut self, _: ConnectionId, _: &mut SendQueue, _: Now) -> After {
            After::Open
        }

        fn fill<'a>(&'a mut self, _: ConnectionId, to: &mut Slices<'a>, _: Now) -> Fill {
            if to.push(self.0) { Fill::All } else { Fill::More }
        }

        fn closed(&mut self, _: ConnectionId, _: Closed, _: Now) {}
    }

    #[test]
    fn a_server_waits_for_no_time_unless_it_says_so() {
        assert_eq!(Least(b"").deadline(), None);
    }

    #[test]
    fn what_a_server_lends_for_a_call_is_copied_where_it_has_to_outlive_that() {
        let lent = |limit: usize| {
            let mut leases = Leases::new(limit);
            let fill = Least(b"abc").lease(ConnectionId::new(0, 0), &mut leases, Now::default());
            (fill, leases.parts().iter().map(|part| part.to_vec()).collect::<Vec<_>>())
        };
        assert_eq!(lent(2), (Fill::All, vec![b"abc".to_vec()]));
        assert_eq!(lent(0), (Fill::More, vec![]));
    }

    #[test]
    fn a_peer_at_an_address_has_it() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        assert_eq!(Peer::at(address).address, Some(address));
    }
}
