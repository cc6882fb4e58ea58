//! One held answer: a request that is answered when something changed, or when it was held for long enough.
//!
//! ```text
//!                 changed                        deadline
//!   ┌─────────┐ ────────────► ┌────────────┐ ────────────────► ┌──────────────────┐
//!   │ waiting │               │ coalescing │                   │ ready: changed   │
//!   └─────────┘ ──────────────┴────────────┴─────────────────► └──────────────────┘
//!     │            changed, and there is no time to coalesce
//!     │                                                        ┌──────────────────┐
//!     └──────────────────────────────────────────────────────► │ ready: timed out │
//!                          deadline                            └──────────────────┘
//!
//!   any state, even ready ── abandon ──► abandoned
//! ```
//!
//! After the first change a hold waits a little longer (`coalesce`), so that a burst is one answer and not one answer and
//! a request for each change of it; but never beyond the end of the hold.
//!
//! # No wake-up is missed
//!
//! A change that comes between looking and waiting would be lost until the next. So a caller *registers, then compares*:
//!
//! 1. make the [`Hold`] and enter it wherever changes are announced, so that each calls [`changed`](Hold::changed);
//! 2. only then compare what the request knows with what is true now; if they differ, call `changed` itself.
//!
//! A change before step 1 is found by step 2, a change after it is announced, one between them is both, which does no harm.
//! In a server that does both within one call the order is still the rule: it stays right when a store answers later.
//!
//! ```
//! use core::time::Duration;
//! use keepwatch_protocol::Now;
//! use keepwatch_protocol::long_poll::{Hold, Outcome};
//!
//! let (mut revision, known) = (7, 7);
//! let now = Now::default();
//! let mut hold = Hold::new(Duration::from_secs(60), Duration::from_millis(5), 0, now); // registered: changes find it
//! if revision > known {
//!     hold.changed(now); // compared
//! }
//! assert_eq!(hold.outcome(), None);
//!
//! let now = now.later(Duration::from_secs(1));
//! revision += 1;
//! hold.changed(now);
//! assert_eq!(hold.deadline(), Some(now.instant + Duration::from_millis(5)));
//! hold.on_deadline(now.later(Duration::from_millis(5)));
//! assert_eq!(hold.outcome(), Some(Outcome::Changed)); // answer with every change since `known`
//! # assert_eq!(revision, 8);
//! ```

use core::time::Duration;

use crate::time::{Instant, Now};

/// One held answer. 24 bytes, no allocation; it does not know what is watched, nor who waits.
///
/// Machine and caller share the work so: the caller tells it of changes, of the time and of the peer's end, and after each
/// call looks at [`outcome`](Self::outcome) (answer now) and [`deadline`](Self::deadline) (come back then).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    state: State,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Something changed: answer with it.
    Changed,
    /// Nothing changed for the time of the hold: answer so, that the peer asks again.
    TimedOut,
    /// Nobody waits for the answer: the peer is gone. Send nothing.
    Abandoned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing changed yet. `coalesce` is in nanoseconds.
    Waiting { until: Instant, coalesce: u64 },
    /// Something did, and more may follow at once.
    Coalescing { until: Instant },
    /// It is decided.
    Ended(Outcome),
}

impl Hold {
    /// Holds from `now` on for `hold`, and from the first change for `coalesce` (zero: not at all).
    ///
    /// `jitter` is entropy, all 64 bits of it: it shortens the hold by up to a tenth, so that holders that came together
    /// (after a restart, say) don't return together. Zero shortens nothing. A hold of zero still waits for the caller to
    /// compare; it ends at the first [`on_deadline`](Self::on_deadline).
    pub fn new(hold: Duration, coalesce: Duration, jitter: u64, now: Now) -> Self {
        let hold = nanos(hold);
        let cut = (u128::from(hold / 10) * u128::from(jitter)) >> 64; // a fraction of a tenth: less than it
        let until = now.instant + Duration::from_nanos(hold - cut as u64);
        Self { state: State::Waiting { until, coalesce: nanos(coalesce) } }
    }

    /// Something changed. The first change while waiting starts to coalesce, until `coalesce` from now or the end of the
    /// hold, whichever is earlier; if that is not later than now, the hold is ready. Otherwise this does nothing.
    pub fn changed(&mut self, now: Now) {
        if let State::Waiting { until, coalesce } = self.state {
            self.state = State::Coalescing { until: until.min(now.instant + Duration::from_nanos(coalesce)) };
            self.on_deadline(now);
        }
    }

    /// The hold is to end at `by` or earlier, with what it has: for a drain, which is spread over time by calling this with
    /// a different time for each hold. If that is not later than the next [`on_deadline`](Self::on_deadline), it ends there.
    pub fn shorten(&mut self, by: Instant) {
        match &mut self.state {
            State::Waiting { until, .. } | State::Coalescing { until } => *until = by.min(*until),
            State::Ended(_) => {}
        }
    }

    /// Nobody waits any more. This holds even for an answer that is decided and not sent.
    pub fn abandon(&mut self) {
        self.state = State::Ended(Outcome::Abandoned);
    }

    /// How it ended; `None` while it holds. Only [`abandon`](Self::abandon) changes it once there is one.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Waiting { .. } | State::Coalescing { .. } => None,
            State::Ended(outcome) => Some(outcome),
        }
    }

    /// When to call [`on_deadline`](Self::on_deadline) at the latest; `None` once there is an outcome.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until, .. } | State::Coalescing { until } => Some(until),
            State::Ended(_) => None,
        }
    }

    /// The deadline may have passed. Afterwards there is none, or it is later than `now`.
    pub fn on_deadline(&mut self, now: Now) {
        match self.state {
            State::Waiting { until, .. } if until <= now.instant => {
                self.state = State::Ended(Outcome::TimedOut);
            }
            State::Coalescing { until } if until <= now.instant => {
                self.state = State::Ended(Outcome::Changed);
            }
            State::Waiting { .. } | State::Coalescing { .. } | State::Ended(_) => {}
        }
    }
}

/// Saturates at 584 years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::UnixMillis;

    /// A time in milliseconds.
    fn at(millis: u64) -> Now {
        Now::new(Instant::from_millis(millis), UnixMillis(0))
    }

    /// Held from 1000 to 2000, coalescing for so long.
    fn hold(coalesce: u64) -> Hold {
        Hold::new(Duration::from_secs(1), Duration::from_millis(coalesce), 0, at(1000))
    }

    fn waiting(until: u64) -> State {
        State::Waiting { until: Instant::from_millis(until), coalesce: 50_000_000 }
    }

    fn coalescing(until: u64) -> State {
        State::Coalescing { until: Instant::from_millis(until) }
    }

    #[test]
    fn every_event_in_every_state() {
        use Outcome::{Abandoned, Changed, TimedOut};

        #[derive(Clone, Copy, Debug)]
        enum Event {
            Changed(u64),
            Deadline(u64),
            Shorten(u64),
            Abandon,
        }
        let ended = State::Ended;
        let table = [
            // Waiting until 2000, coalescing for 50.
            (waiting(2000), Event::Changed(1500), coalescing(1550)),
            (waiting(2000), Event::Changed(1980), coalescing(2000)),
            (waiting(2000), Event::Changed(2000), ended(Changed)),
            (waiting(2000), Event::Changed(2500), ended(Changed)),
            (waiting(2000), Event::Deadline(1999), waiting(2000)),
            (waiting(2000), Event::Deadline(2000), ended(TimedOut)),
            (waiting(2000), Event::Deadline(2500), ended(TimedOut)),
            (waiting(2000), Event::Shorten(1700), waiting(1700)),
            (waiting(2000), Event::Shorten(2700), waiting(2000)),
            (waiting(2000), Event::Abandon, ended(Abandoned)),
            // Coalescing: further changes don't put the answer off.
            (coalescing(1550), Event::Changed(1540), coalescing(1550)),
            (coalescing(1550), Event::Changed(1600), coalescing(1550)),
            (coalescing(1550), Event::Deadline(1549), coalescing(1550)),
            (coalescing(1550), Event::Deadline(1550), ended(Changed)),
            (coalescing(1550), Event::Deadline(9999), ended(Changed)),
            (coalescing(1550), Event::Shorten(1520), coalescing(1520)),
            (coalescing(1550), Event::Shorten(1560), coalescing(1550)),
            (coalescing(1550), Event::Abandon, ended(Abandoned)),
            // Ended.
            (ended(Changed), Event::Changed(1600), ended(Changed)),
            (ended(Changed), Event::Deadline(9999), ended(Changed)),
            (ended(Changed), Event::Shorten(0), ended(Changed)),
            (ended(Changed), Event::Abandon, ended(Abandoned)),
            (ended(TimedOut), Event::Changed(2100), ended(TimedOut)),
            (ended(TimedOut), Event::Deadline(9999), ended(TimedOut)),
            (ended(TimedOut), Event::Shorten(0), ended(TimedOut)),
            (ended(TimedOut), Event::Abandon, ended(Abandoned)),
            (ended(Abandoned), Event::Changed(1600), ended(Abandoned)),
            (ended(Abandoned), Event::Deadline(9999), ended(Abandoned)),
            (ended(Abandoned), Event::Shorten(0), ended(Abandoned)),
            (ended(Abandoned), Event::Abandon, ended(Abandoned)),
        ];
        for (from, event, to) in table {
            let mut hold = Hold { state: from };
            match event {
                Event::Changed(now) => hold.changed(at(now)),
                Event::Deadline(now) => hold.on_deadline(at(now)),
                Event::Shorten(by) => hold.shorten(Instant::from_millis(by)),
                Event::Abandon => hold.abandon(),
            }
            assert_eq!(hold.state, to, "{from:?}, {event:?}");
            assert_eq!(hold.outcome().is_some(), hold.deadline().is_none(), "{from:?}, {event:?}");
        }
    }

    #[test]
    fn without_coalescing_the_first_change_is_the_answer() {
        let mut hold = hold(0);
        hold.changed(at(1000));
        assert_eq!(hold.outcome(), Some(Outcome::Changed));
    }

    #[test]
    fn a_hold_of_zero_can_still_be_compared() {
        let fresh = Hold::new(Duration::ZERO, Duration::from_secs(1), u64::MAX, at(1000));
        let (mut changed, mut unchanged) = (fresh, fresh);
        changed.changed(at(1000));
        unchanged.on_deadline(at(1000));
        assert_eq!((fresh.outcome(), fresh.deadline()), (None, Some(at(1000).instant)));
        assert_eq!(
            (changed.outcome(), unchanged.outcome()),
            (Some(Outcome::Changed), Some(Outcome::TimedOut))
        );
    }

    #[test]
    fn a_shortened_hold_that_saw_a_change_answers_with_it() {
        let mut hold = hold(500);
        hold.changed(at(1100));
        hold.shorten(Instant::from_millis(1200));
        hold.on_deadline(at(1200));
        assert_eq!(hold.outcome(), Some(Outcome::Changed));
    }

    #[test]
    fn a_change_before_a_shortened_end_does_not_pass_it() {
        let mut hold = hold(500);
        hold.shorten(Instant::from_millis(1200));
        hold.changed(at(1100));
        assert_eq!(hold.deadline(), Some(Instant::from_millis(1200)));
    }

    #[test]
    fn jitter_shortens_by_up_to_a_tenth() {
        let until = |jitter| Hold::new(Duration::from_secs(10), Duration::ZERO, jitter, at(0)).deadline();
        assert_eq!(until(0), Some(Instant::from_millis(10_000)));
        assert_eq!(until(1 << 63), Some(Instant::from_millis(9_500)));
        assert_eq!(until(u64::MAX), Some(Instant::from_nanos(9_000_000_001)));
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Hold>(), 24);
    }

    proptest! {
        #[test]
        fn after_its_deadline_it_ends_or_has_a_later_one(
            hold: u64, coalesce: u64, jitter: u64, start: u64, change: Option<u64>, then: u64,
        ) {
            let now = |nanos| Now::new(Instant::from_nanos(nanos), UnixMillis(0));
            let (hold, coalesce) = (Duration::from_nanos(hold), Duration::from_nanos(coalesce));
            let mut hold = Hold::new(hold, coalesce, jitter, now(start));
            if let Some(change) = change {
                hold.changed(now(change));
                prop_assert!(hold.deadline().is_none_or(|deadline| deadline > now(change).instant));
            }
            hold.on_deadline(now(then));
            prop_assert!(hold.deadline().is_none_or(|deadline| deadline > now(then).instant));
            prop_assert_eq!(hold.deadline().is_none(), hold.outcome().is_some());
            if change.is_some() && hold.outcome().is_some() {
                prop_assert_eq!(hold.outcome(), Some(Outcome::Changed));
            }
        }
    }
}
