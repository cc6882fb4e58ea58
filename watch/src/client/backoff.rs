//! When to try again, and all that is drawn from the seed.

use std::time::Duration;

use fastrand::Rng;
use keepwatch_protocol::Instant;
use keepwatch_protocol::websocket::handshake::accept_key;

use super::config::Backoff;

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Retry {
    random: Random,
    failures: u32,
    /// Since when the connection has been of use.
    good_since: Option<Instant>,
}

impl Retry {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random(Rng::with_seed(seed)), failures: 0, good_since: None }
    }

    pub(super) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// A stream said something: if it lasts, what was before is forgotten.
    pub(super) fn good(&mut self, now: Instant) {
        self.good_since.get_or_insert(now);
    }

    /// Something was done to its end: what was before is forgotten.
    pub(super) fn done(&mut self) {
        self.failures = 0;
    }

    /// The connection ended, for whatever reason.
    pub(super) fn ended(&mut self, config: &Backoff, now: Instant) {
        if self.good_since.take().is_some_and(|since| now.since(since) >= config.lasting) {
            self.failures = 0;
        }
    }

    /// One failure more: how long to wait. What the server asked for comes first, and then what is drawn, as others were
    /// told the same.
    pub(super) fn failed(&mut self, config: &Backoff, asked: Duration) -> Duration {
        let longest = 1u32.checked_shl(self.failures).map_or(config.most, |times| {
            config.first.checked_mul(times).map_or(config.most, |longest| longest.min(config.most))
        });
        self.failures = self.failures.saturating_add(1);
        asked.min(config.asked).saturating_add(self.random.up_to(longest))
    }
}

/// What is drawn, the same for the same seed.
pub(super) struct Random(Rng);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// The nonce of a WebSocket's handshake. The server sees it, and is not to tell from it what is drawn next, which is the seed
    /// of the masking keys (RFC 6455 section 5.3): so it is a hash, the one of the handshake.
    pub(super) fn nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0; 16];
        let hash = accept_key(&self.next().to_be_bytes());
        nonce.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        nonce
    }

    /// Evenly from zero to a duration.
    fn up_to(&mut self, longest: Duration) -> Duration {
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.0.u64(..=nanos))
    }
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random(..)") // what is told of it tells the keys that follow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn config() -> Backoff {
        Backoff { first: secs(1), most: secs(10), asked: secs(60), lasting: secs(5) }
    }

    #[test]
    fn a_duration_is_drawn_from_zero_to_the_longest() {
        let mut random = Retry::new(1).random;
        let drawn: Vec<_> = (0..100).map(|_| random.up_to(Duration::from_nanos(1)).as_nanos()).collect();
        assert!(drawn.contains(&0) && drawn.contains(&1) && drawn.iter().all(|nanos| *nanos <= 1));
        assert_eq!(random.up_to(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_nonce_is_another_each_time_and_not_what_was_drawn() {
        let (mut one, mut same) = (Retry::new(1).random, Retry::new(1).random);
        let (first, drawn) = (one.nonce(), same.next().to_be_bytes());
        assert_ne!(first, one.nonce());
        assert!(!first.windows(8).any(|part| part == drawn));
    }

    #[test]
    fn what_is_drawn_from_is_not_printed() {
        assert_eq!(format!("{:?}", Retry::new(1).random), "Random(..)");
    }

    #[test]
    fn each_failure_doubles_what_is_drawn_from_up_to_the_most() {
        for seed in 0..200 {
            let mut retry = Retry::new(seed);
            for most in [1, 2, 4, 8, 10, 10, 10] {
                assert!(retry.failed(&config(), Duration::ZERO) <= secs(most));
            }
        }
        let drawn = |seed| Retry::new(seed).failed(&config(), Duration::ZERO);
        assert!((0..200).any(|seed| drawn(seed) < secs(1) / 20));
        assert!((0..200).any(|seed| drawn(seed) > secs(1) * 19 / 20));
    }

    #[test]
    fn what_is_asked_for_comes_on_top_and_is_bounded() {
        for seed in 0..50 {
            let (mut plain, mut asked, mut much) = (Retry::new(seed), Retry::new(seed), Retry::new(seed));
            let drawn = plain.failed(&config(), Duration::ZERO);
            assert_eq!(asked.failed(&config(), secs(7)), drawn + secs(7));
            assert_eq!(much.failed(&config(), Duration::MAX), drawn + secs(60));
        }
    }

    #[test]
    fn what_is_asked_for_without_bound_never_overflows() {
        let config = Backoff { asked: Duration::MAX, ..config() };
        assert_eq!(Retry::new(1).failed(&config, Duration::MAX), Duration::MAX);
    }

    #[test]
    fn only_a_success_that_lasts_is_one() {
        let mut retry = Retry::new(1);
        let fail = |retry: &mut Retry| {
            retry.failed(&config(), Duration::ZERO);
            retry.failures
        };
        assert_eq!((fail(&mut retry), fail(&mut retry)), (1, 2));
        retry.good(Instant::from_millis(1000));
        retry.ended(&config(), Instant::from_millis(5999));
        assert_eq!(fail(&mut retry), 3);
        retry.ended(&config(), Instant::from_millis(20_000));
        assert_eq!(fail(&mut retry), 4);
        retry.good(Instant::from_millis(30_000));
        retry.good(Instant::from_millis(34_000));
        retry.ended(&config(), Instant::from_millis(35_000));
        assert_eq!(fail(&mut retry), 1);
    }

    #[test]
    fn what_is_done_to_its_end_is_a_success_at_once() {
        let mut retry = Retry::new(1);
        retry.failed(&config(), Duration::ZERO);
        retry.done();
        assert_eq!(retry.failures, 0);
    }

    #[test]
    fn failures_without_end_never_overflow() {
        let mut retry = Retry { failures: u32::MAX - 1, ..Retry::new(1) };
        let config = Backoff { first: Duration::MAX, most: Duration::MAX, ..config() };
        for _ in 0..3 {
            assert!(retry.failed(&config, Duration::ZERO) > Duration::ZERO);
        }
    }
}
