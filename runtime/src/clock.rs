//! The one place that reads a clock.

use std::time::{Instant, SystemTime};

use keepwatch_protocol::{Instant as Nanos, Now, UnixMillis};

/// Both of the system's clocks, as the machines take them: the monotone one counts from when this was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[expect(clippy::new_without_default, reason = "two clocks are not equal: making one is an act")]
    pub fn new() -> Self {
        Self { start: read() }
    }

    /// The time, on both clocks.
    pub fn now(&self) -> Now {
        #[expect(clippy::disallowed_methods, reason = "a runtime's clock: here time enters")]
        let unix = SystemTime::now();
        // A clock that is set before 1970 is taken as 1970.
        let unix = unix.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now::new(self.instant(), UnixMillis(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time on the monotone clock alone.
    pub fn instant(&self) -> Nanos {
        Nanos::START + read().duration_since(self.start)
    }

    /// The same moment as the standard library has it; `None` if that is too far away for it.
    pub fn to_std(&self, at: Nanos) -> Option<Instant> {
        if at == Nanos::NEVER { None } else { self.start.checked_add(at.since(Nanos::START)) }
    }
}

#[expect(clippy::disallowed_methods, reason = "a runtime's clock: here time enters")]
fn read() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_starts_at_the_start_and_runs_forward() {
        let clock = Clock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(first.instant <= second.instant && first.instant < Nanos::START + Duration::from_secs(60));
        assert!(first.unix > UnixMillis(1_500_000_000_000), "{:?} is before this was written", first.unix);
    }

    #[test]
    fn a_deadline_is_as_far_off_for_the_standard_library() {
        let clock = Clock::new();
        let [one, two] = [1, 2].map(|s| clock.to_std(Nanos::from_millis(s * 1000)).unwrap());
        assert_eq!(two - one, Duration::from_secs(1));
        assert_eq!(clock.to_std(Nanos::NEVER), None);
    }
}
