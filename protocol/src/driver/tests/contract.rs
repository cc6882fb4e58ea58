//! What every server is promised, asserted at each call, whichever server it is.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::task::Waker;

use crate::input::Input;
use crate::output::{Leases, SendQueue, Slices};
use crate::server::{Admission, After, Closed, ConnectionId, Fill, Peer, Server};
use crate::time::{Instant, Now};

/// A server inside, and around it the promises of the [`Server`] trait as assertions.
#[derive(Default)]
pub(super) struct Contract<S> {
    pub(super) inner: S,
    known: BTreeMap<ConnectionId, Promises>,
    /// Connections admitted, and closed.
    pub(super) counts: (usize, usize),
}

#[derive(Default)]
struct Promises {
    paused: bool,
    /// The end was told during this pause.
    told: bool,
    finished: bool,
    mid_frame: bool,
    lent: usize,
    leased: bool,
    /// Offered and not taken.
    rest: Vec<u8>,
}

impl<S: Server> Contract<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, known: BTreeMap::new(), counts: (0, 0) }
    }

    fn promises(&mut self, id: ConnectionId) -> &mut Promises {
        self.known.get_mut(&id).expect("a call for a connection that was not admitted, or is closed")
    }
}

impl Promises {
    fn after(&mut self, after: After) -> After {
        match after {
            After::Open => self.paused = false,
            After::Paused => {
                self.told &= self.paused;
                self.paused = true;
            }
            After::Finish | After::Abort => self.finished = true,
            After::MidFrame => {}
        }
        after
    }

    fn lent(&mut self, bytes: usize) {
        self.lent = bytes;
        if bytes == 0 {
            self.mid_frame = false;
        }
    }
}

impl<S: Server> Server for Contract<S> {
    fn start(&mut self, waker: &Waker, now: Now) {
        self.inner.start(waker, now);
    }

    fn open(&mut self, id: ConnectionId, peer: &Peer, now: Now) -> Admission {
        let admission = self.inner.open(id, peer, now);
        if admission == Admission::Admit {
            assert!(self.known.insert(id, Promises::default()).is_none(), "an id was used again");
            self.counts.0 += 1;
        }
        admission
    }

    fn receive(&mut self, id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, now: Now) -> After {
        let promises = self.promises(id);
        assert!(!promises.finished, "input after the server had finished");
        assert!(!out.over_mark(), "input over the mark");
        if promises.paused {
            assert!(input.hung_up(), "input while paused");
            assert!(!promises.told, "the end was told twice in one pause");
            promises.told = true;
        }
        assert!(
            input.bytes().starts_with(&promises.rest),
            "bytes that were not taken were not offered again"
        );
        let after = self.inner.receive(id, input, out, now);
        let promises = self.promises(id);
        promises.rest = input.bytes().to_vec();
        promises.after(after)
    }

    fn resume(&mut self, id: ConnectionId, out: &mut SendQueue, now: Now) -> After {
        assert!(!self.promises(id).finished, "resumed after the server had finished");
        assert!(!out.over_mark(), "resumed over the mark");
        let after = self.inner.resume(id, out, now);
        self.promises(id).after(after)
    }

    fn fill<'a>(&'a mut self, id: ConnectionId, to: &mut Slices<'a>, now: Now) -> Fill {
        let before = to.len();
        let promises = self.known.get_mut(&id).expect("a fill of a connection that is not there");
        assert!(to.has_room(1), "a fill without room");
        assert!(!promises.leased, "a fill while a lease is out");
        assert!(!promises.finished || promises.mid_frame, "a fill after the server had finished");
        let fill = self.inner.fill(id, to, now);
        promises.lent(to.len() - before);
        fill
    }

    fn lease(&mut self, id: ConnectionId, to: &mut Leases, now: Now) -> Fill {
        let before = to.len();
        let promises = self.promises(id);
        assert!(to.has_room(1), "a lease without room");
        assert!(!promises.leased, "two leases at once");
        assert!(!promises.finished || promises.mid_frame, "a lease after the server had finished");
        let fill = self.inner.lease(id, to, now);
        let promises = self.promises(id);
        promises.lent(to.len() - before);
        promises.leased = promises.lent > 0;
        fill
    }

    fn sent(&mut self, id: ConnectionId, bytes: usize, now: Now) -> After {
        let promises = self.promises(id);
        assert!(promises.lent > 0 && bytes <= promises.lent, "{bytes} sent of {} lent", promises.lent);
        promises.lent = 0;
        promises.leased = false;
        let after = self.inner.sent(id, bytes, now);
        if bytes == 0 {
            // It only ends a lease; what it returns changes nothing.
            return after;
        }
        let promises = self.promises(id);
        promises.mid_frame = after == After::MidFrame;
        promises.after(after)
    }

    fn next_ready(&mut self, now: Now) -> Option<ConnectionId> {
        self.inner.next_ready(now)
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }

    fn on_deadline(&mut self, now: Now) {
        self.inner.on_deadline(now);
    }

    fn on_wake(&mut self, now: Now) {
        self.inner.on_wake(now);
    }

    fn drain(&mut self, by: Instant, now: Now) {
        self.inner.drain(by, now);
    }

    fn closed(&mut self, id: ConnectionId, why: Closed, now: Now) {
        assert!(self.known.remove(&id).is_some(), "closed twice, or never admitted");
        self.counts.1 += 1;
        self.inner.closed(id, why, now);
    }
}
