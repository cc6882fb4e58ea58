//! Time as an argument.
//!
//! Nothing in this crate reads a clock. Whoever drives a machine says what time it is, with [`Now`], and asks it for its
//! next deadline. The types are our own so that they exist without `std`, can be replayed and compared, and never
//! panic: all arithmetic saturates.

use core::ops::Add;
use core::time::Duration;

/// A point on a clock that never goes back, in nanoseconds since a start that the runtime chose.
///
/// Only differences mean something. It saturates at 584 years after the start, which serves as "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start of the runtime's clock.
    pub const START: Self = Self(0);
    /// Later than every deadline.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant so many nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant so many milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::NEVER`].
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Wall-clock time in milliseconds since 1970-01-01 00:00:00 UTC, for what a person or a peer reads (the `Date` field).
/// It may jump; no deadline is ever computed from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// The time as the runtime read it, once for each turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For dates.
    pub unix: UnixMillis,
}

impl Now {
    /// Both clocks at once.
    pub const fn new(instant: Instant, unix: UnixMillis) -> Self {
        Self { instant, unix }
    }

    /// The same moment, so much later on both clocks. For tests and simulations.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Self { instant: self.instant + by, unix: UnixMillis(self.unix.0.saturating_add(millis)) }
    }
}

/// The earlier of two deadlines, where `None` is none.
pub fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_and_never_panics() {
        assert_eq!(Instant::from_nanos(u64::MAX - 1) + Duration::MAX, Instant::NEVER);
        assert_eq!(Instant::START.since(Instant::NEVER), Duration::ZERO);
        assert_eq!(Instant::from_millis(u64::MAX), Instant::NEVER);
        assert_eq!(Now::default().later(Duration::MAX).unix, UnixMillis(u64::MAX));
    }

    #[test]
    fn earliest_takes_none_as_none() {
        let (a, b) = (Some(Instant::from_millis(1)), Some(Instant::from_millis(2)));
        assert_eq!(earliest(a, b), a);
        assert_eq!(earliest(None, b), b);
        assert_eq!(earliest(None, None), None);
    }
}
