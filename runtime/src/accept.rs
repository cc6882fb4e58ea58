//! Accepting, in bounded turns, and what to do when it fails.
//!
//! ```text
//!            ready                     would block, or closed
//!   quiet ──────────► accepting ──────────────────────────────► quiet
//!                      ▲     │ no descriptors, no memory
//!                      │     ▼
//!   a connection closed,     resting: 100 ms, 200 ms, .. 1 s
//!   on any thread, or rested
//! ```

use std::io::{Error, ErrorKind};
use std::time::Duration;

use keepwatch_protocol::Instant;

/// The listening sockets of a runtime, and which of them may have a connection waiting.
#[derive(Debug)]
pub(crate) struct Listeners<L> {
    doors: Vec<Door<L>>,
    backoff: AcceptBackoff,
    /// Where to look first: listeners take turns.
    first: usize,
}

#[derive(Debug)]
struct Door<L> {
    listener: L,
    ready: bool,
}

impl<L> Listeners<L> {
    /// All may have connections waiting.
    pub(crate) fn new(listeners: impl IntoIterator<Item = L>) -> Self {
        let doors = listeners.into_iter().map(|listener| Door { listener, ready: true }).collect();
        Self { doors, backoff: AcceptBackoff::default(), first: 0 }
    }

    /// The system says that this one, by its place in the order, may have connections waiting.
    pub(crate) fn ready(&mut self, index: usize) {
        if let Some(door) = self.doors.get_mut(index) {
            door.ready = true;
        }
    }

    /// The next connection, as `accept` gives it: it is called with a listener, until it has a connection
    /// or none waits, or accepting has to rest. The caller bounds how often it asks in one turn.
    pub(crate) fn accept<T>(
        &mut self,
        now: Instant,
        mut accept: impl FnMut(&L) -> std::io::Result<T>,
    ) -> Option<T> {
        for _ in 0..self.doors.len() {
            let index = self.first % self.doors.len();
            self.first = index + 1;
            let door = &mut self.doors[index];
            while door.ready && self.backoff.may_accept(now) {
                match accept(&door.listener) {
                    Ok(accepted) => return Some(accepted),
                    Err(error) => match self.backoff.failed(&error, now) {
                        Retry::AtOnce => {}
                        Retry::WhenReady => door.ready = false,
                        Retry::Rested => return None,
                    },
                }
            }
        }
        None
    }

    /// Whether [`accept`](Self::accept) may have something without waiting.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.doors.iter().any(|door| door.ready) && self.backoff.may_accept(now)
    }

    /// Whether accepting rests.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        !self.doors.is_empty() && !self.backoff.may_accept(now)
    }

    /// When to ask again after a rest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.backoff.deadline().filter(|_| !self.doors.is_empty())
    }

    /// A connection of ours was closed: what was short may be there again.
    pub(crate) fn released(&mut self) {
        self.backoff.released();
    }

    /// Whether there are none, or they are closed.
    pub(crate) fn is_empty(&self) -> bool {
        self.doors.is_empty()
    }

    /// Closes the listeners. Connections that wait in them are refused by the system.
    pub(crate) fn close(&mut self) {
        self.doors.clear();
    }
}

/// When to call accept again after it failed.
///
/// With edge-triggered events there is no second event for connections that wait already, and with level-triggered ones
/// there is no end of them: either way, a process that is out of descriptors has to remember that it wants to accept, and
/// rest.
#[derive(Debug, Default)]
pub struct AcceptBackoff {
    until: Option<Instant>,
    /// How long the last rest was; zero outside a spell.
    rest: Duration,
}

/// What is to happen after accept failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// That connection is lost, the next may be well.
    AtOnce,
    /// Nothing waits: when the system says that something does.
    WhenReady,
    /// The system is short of something: when [`AcceptBackoff::may_accept`] says so.
    Rested,
}

impl AcceptBackoff {
    /// The first rest of a spell. Each further one is twice as long.
    pub const SHORTEST: Duration = Duration::from_millis(100);
    /// The longest rest.
    pub const LONGEST: Duration = Duration::from_secs(1);

    /// Accept failed. Errors that are of the one connection are passed over; those that are not known to be so (no
    /// descriptors, no memory) begin or lengthen a spell of rests, which is logged once and ends when nothing waits.
    pub fn failed(&mut self, error: &Error, now: Instant) -> Retry {
        match error.kind() {
            ErrorKind::WouldBlock => {
                *self = Self::default();
                Retry::WhenReady
            }
            // Linux reports what went wrong with the connection before it was accepted (accept(2)).
            ErrorKind::Interrupted
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::PermissionDenied
            | ErrorKind::TimedOut => Retry::AtOnce,
            _ => {
                if self.rest.is_zero() {
                    log::warn!("accepting no connections for now: {error}");
                }
                self.rest = (self.rest * 2).clamp(Self::SHORTEST, Self::LONGEST);
                self.until = Some(now + self.rest);
                Retry::Rested
            }
        }
    }

    /// A connection of ours was closed: what was short may be there again.
    pub fn released(&mut self) {
        self.until = None;
    }

    /// Whether it has rested.
    pub fn may_accept(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// When it will have rested, if it rests.
    pub fn deadline(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const NO_DESCRIPTORS: i32 = 24;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn short() -> Error {
        Error::from_raw_os_error(NO_DESCRIPTORS)
    }

    #[test]
    fn rests_double_up_to_the_longest() {
        let mut backoff = AcceptBackoff::default();
        let mut now = at(0);
        for rest in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(backoff.failed(&short(), now), Retry::Rested);
            let until = now + Duration::from_millis(rest);
            assert_eq!(backoff.deadline(), Some(until));
            assert!(!backoff.may_accept(now) && backoff.may_accept(until));
            now = until;
        }
    }

    #[test]
    fn a_spell_ends_when_nothing_waits() {
        let mut backoff = AcceptBackoff::default();
        backoff.failed(&short(), at(0));
        backoff.failed(&short(), at(100));
        assert_eq!(backoff.failed(&ErrorKind::WouldBlock.into(), at(300)), Retry::WhenReady);
        assert_eq!(backoff.deadline(), None);
        backoff.failed(&short(), at(1000));
        assert_eq!(backoff.deadline(), Some(at(1100)));
    }

    #[test]
    fn a_closed_connection_ends_the_rest_and_not_the_spell() {
        let mut backoff = AcceptBackoff::default();
        backoff.failed(&short(), at(0));
        backoff.released();
        assert!(backoff.may_accept(at(1)));
        backoff.failed(&short(), at(1));
        assert_eq!(backoff.deadline(), Some(at(201)));
    }

    #[test]
    fn an_aborted_connection_is_passed_over() {
        let mut backoff = AcceptBackoff::default();
        for kind in [ErrorKind::ConnectionAborted, ErrorKind::Interrupted, ErrorKind::PermissionDenied] {
            assert_eq!(backoff.failed(&kind.into(), at(0)), Retry::AtOnce);
        }
        assert_eq!(backoff.deadline(), None);
    }

    /// What waits at each of two listeners, as accept would give it.
    type Waiting = RefCell<Vec<Result<char, ErrorKind>>>;

    fn pop(waiting: &Waiting) -> std::io::Result<char> {
        let next = waiting.borrow_mut().pop().unwrap_or(Err(ErrorKind::WouldBlock));
        next.map_err(|kind| if kind == ErrorKind::Other { short() } else { kind.into() })
    }

    #[test]
    fn listeners_take_turns_and_grow_quiet() {
        let mut listeners = Listeners::new([
            Waiting::new(vec![Ok('b'), Err(ErrorKind::ConnectionAborted), Ok('a')]),
            Waiting::new(vec![Ok('x')]),
        ]);
        let accepted: String = std::iter::from_fn(|| listeners.accept(at(0), pop)).collect();
        assert_eq!(accepted, "axb");
        assert!(!listeners.is_ready(at(0)));
        listeners.ready(1);
        assert!(listeners.is_ready(at(0)));
        listeners.close();
        assert!(!listeners.is_ready(at(0)));
    }

    #[test]
    fn a_listener_that_rests_is_asked_again_without_an_event() {
        let mut listeners = Listeners::new([Waiting::new(vec![Ok('a'), Err(ErrorKind::Other)])]);
        assert_eq!(listeners.accept(at(0), pop), None);
        assert!(!listeners.is_ready(at(99)));
        assert_eq!(listeners.deadline(), Some(at(100)));
        assert!(listeners.is_ready(at(100)));
        assert_eq!(listeners.accept(at(100), pop), Some('a'));
    }
}
