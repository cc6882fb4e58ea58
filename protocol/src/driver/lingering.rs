//! The connections that are no longer the server's, in the order in which that began.
//!
//! No limit of the server's counts them, and whoever does not close keeps a socket for as long as the driver waits:
//!
//! ```text
//!   refused ────────┐
//!                   ├─► waiting ── peer closed, time up, or pushed out ─► closing ── its turn ─► released
//!   all written ────┘   at most `DriverConfig::lingering`                 both together, if
//!                                                                         refused: at most twice that
//! ```

use alloc::collections::VecDeque;

use crate::server::ConnectionId;

#[derive(Default)]
pub(super) struct Lingering {
    /// The oldest first. Those that are closed may stand here too.
    order: VecDeque<ConnectionId>,
    waiting: usize,
    sockets: usize,
}

impl Lingering {
    /// One more waits. Returns the one that has to go for it, if now more wait than may. `waits` tells those that wait
    /// from those that are closed.
    pub(super) fn push(
        &mut self,
        id: ConnectionId,
        limit: usize,
        waits: impl Fn(ConnectionId) -> bool,
    ) -> Option<ConnectionId> {
        self.waiting += 1;
        self.sockets += 1;
        // Most are closed by their peers. It is looked through again only after as many have come.
        if self.order.len() > 2 * self.waiting + 64 {
            self.order.retain(|&id| waits(id));
        }
        self.order.push_back(id);
        while self.waiting > limit {
            let oldest = self.order.pop_front()?;
            if waits(oldest) {
                return Some(oldest);
            }
        }
        None
    }

    /// One that waited is to be closed.
    pub(super) fn closing(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Its socket is closed.
    pub(super) fn released(&mut self) {
        self.sockets = self.sockets.saturating_sub(1);
    }

    /// How many have sockets, those that are to be closed included.
    pub(super) fn sockets(&self) -> usize {
        self.sockets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_gone_are_forgotten_although_the_oldest_stays() {
        let mut lingering = Lingering::default();
        let id = |slot| ConnectionId::new(slot, 0);
        let waits = |id: ConnectionId| id.slot() == 0;
        assert_eq!(lingering.push(id(0), 2, waits), None);
        for slot in 1..10_000 {
            assert_eq!(lingering.push(id(slot), 2, waits), None);
            lingering.closing();
            lingering.released();
            assert!(lingering.order.len() <= 70, "{}", lingering.order.len());
        }
        lingering.push(id(1), 2, |_| true);
        assert_eq!(lingering.push(id(2), 2, |_| true), Some(id(0)));
    }
}
