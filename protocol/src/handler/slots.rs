//! What a server keeps for its connections, and whose turn it is.

use alloc::collections::VecDeque;
use core::ops::Range;
use core::time::Duration;

use crate::blocks::Blocks;
use crate::server::ConnectionId;
use crate::time::Instant;
use crate::timer::Wheel;

/// Connections by their slots, each with a deadline.
pub(super) struct Slots<T> {
    connections: Blocks<Option<(ConnectionId, T)>>,
    deadlines: Wheel,
    /// Whose deadline has passed, or who is to be resumed for another reason.
    ready: VecDeque<ConnectionId>,
    /// Slots that are still to be told that all ends.
    farewells: Range<usize>,
    draining: bool,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self {
            connections: Blocks::new(),
            deadlines: Wheel::new(Duration::from_millis(10)),
            ready: VecDeque::new(),
            farewells: 0..0,
            draining: false,
        }
    }

    pub(super) fn insert(&mut self, id: ConnectionId, kept: T) {
        if self.connections.len() <= id.slot() {
            self.connections.resize_with(id.slot() + 1, || None);
        }
        self.connections[id.slot()] = Some((id, kept));
    }

    pub(super) fn get(&mut self, id: ConnectionId) -> Option<&mut T> {
        let (owner, kept) = self.connections.get_mut(id.slot())?.as_mut()?;
        (*owner == id).then_some(kept)
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<T> {
        self.deadlines.cancel(id.slot());
        let slot = self.connections.get_mut(id.slot())?;
        slot.take_if(|(owner, _)| *owner == id).map(|(_, kept)| kept)
    }

    pub(super) fn set_deadline(&mut self, id: ConnectionId, at: Option<Instant>, now: Instant) {
        // The wheel has to know the time: what is set after a while without deadlines would lie in a slot of long ago.
        self.expire(now);
        self.deadlines.set(id.slot(), at.unwrap_or(Instant::NEVER));
    }

    /// The first of all deadlines.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Makes those ready whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(slot) = self.deadlines.expire(now) {
            let owner = self.connections.get(slot).and_then(Option::as_ref);
            self.ready.extend(owner.map(|(id, _)| *id));
        }
    }

    pub(super) fn make_ready(&mut self, id: ConnectionId) {
        self.ready.push_back(id);
    }

    pub(super) fn next_ready(&mut self) -> Option<ConnectionId> {
        let Self { ready, farewells, connections, .. } = self;
        ready.pop_front().or_else(|| farewells.find_map(|slot| Some(connections.get(slot)?.as_ref()?.0)))
    }

    /// Makes all ready, some at a time.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.farewells = 0..self.connections.len();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_is_set_after_a_long_time_without_any_lies_ahead() {
        let (mut slots, id) = (Slots::new(), ConnectionId::new(0, 0));
        slots.insert(id, ());
        let now = Instant::START + Duration::from_secs(3600);
        slots.set_deadline(id, Some(now + Duration::from_secs(1)), now);
        assert!(slots.deadline().is_some_and(|at| at > now));
    }
}
