//! The timer wheel against a model that is too simple to be wrong.

use core::time::Duration;
use std::collections::BTreeMap;

use keepwatch_protocol::Instant;
use keepwatch_protocol::timer::Wheel;

/// How many keys take part; few, so that they meet.
const KEYS: u8 = 32;
/// The clock is kept below this, so that the model can add without care.
const END: u64 = 1 << 62;

/// Operations on a wheel, of one to three bytes each, checked against a map after each of them.
///
/// The first byte chooses the resolution. Then a byte holds the operation and the key; a time is two bytes more, a mantissa
/// and a shift, so that one mutation reaches every magnitude.
pub fn timer_wheel(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let resolution = [1, 1000, 1_000_000, 100_000_000][usize::from(bytes.next().unwrap_or(0) % 4)];
    let mut test = Test {
        wheel: Wheel::new(Duration::from_nanos(resolution)),
        model: BTreeMap::new(),
        resolution,
        now: 0,
        seen: None,
    };
    while let Some(byte) = bytes.next() {
        let (operation, key) = (byte % 8, usize::from(byte / 8));
        let mut time = || {
            let (mantissa, shift) = (bytes.next().unwrap_or(0), bytes.next().unwrap_or(0));
            u64::from(mantissa) << (shift % 54)
        };
        match operation {
            0 | 1 => test.set(key, (test.now + time()).min(END)),
            2 => test.set(key, test.now.saturating_sub(time())),
            3 => test.cancel(key),
            4 => test.pass(time()),
            5 => test.jump((test.now + time()).min(END)),
            6 => test.jump(test.now.saturating_sub(time())),
            _ => {
                test.take_one();
            }
        }
        test.check();
    }
    test.jump(END);
    test.jump(END + resolution);
    assert!(test.model.is_empty(), "a key never fired: {:?}", test.model);
}

struct Test {
    wheel: Wheel,
    model: BTreeMap<usize, Entry>,
    resolution: u64,
    now: u64,
    /// The time of the last call of `expire`.
    seen: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    /// When the wheel has to know that the key is due: its deadline, or the time that it knew when the deadline was set.
    due: u64,
}

impl Test {
    fn set(&mut self, key: usize, at: u64) {
        self.wheel.set(key, Instant::from_nanos(at));
        let mut due = at.max(self.seen.unwrap_or(0));
        if let Some(old) = self.model.get(&key).filter(|old| at >= old.at) {
            due = at.max(old.due); // lazily: it stays where it was
        }
        self.model.insert(key, Entry { at, due });
    }

    fn cancel(&mut self, key: usize) {
        self.wheel.cancel(key);
        self.model.remove(&key);
    }

    /// The time passes, with a call whenever the wheel asks for one (not for ever: a short resolution asks often).
    fn pass(&mut self, span: u64) {
        let end = (self.now + span).min(END);
        for _ in 0..64 {
            match self.wheel.next().map(Instant::as_nanos) {
                Some(next) if next <= end => self.jump(self.now.max(next)),
                _ => break,
            }
        }
        self.jump(end);
    }

    /// It is now some other time, later or earlier, and everything due is taken.
    fn jump(&mut self, to: u64) {
        self.now = to;
        while self.take_one() {}
        assert!(self.wheel.next().is_none_or(|next| next.as_nanos() > to), "it asks again for {to}");
        for (key, entry) in &self.model {
            assert!(entry.due + self.resolution > to, "{key} did not fire at {to}: {entry:?}");
        }
    }

    fn take_one(&mut self) -> bool {
        self.seen = Some(self.now);
        let Some(key) = self.wheel.expire(Instant::from_nanos(self.now)) else { return false };
        let entry = self.model.remove(&key);
        assert!(entry.is_some_and(|entry| entry.at <= self.now), "{key} fired at {}: {entry:?}", self.now);
        true
    }

    /// What holds between any two operations.
    fn check(&self) {
        for key in 0..usize::from(KEYS) {
            let at = self.model.get(&key).map(|entry| Instant::from_nanos(entry.at));
            assert_eq!(self.wheel.deadline_of(key), at, "the deadline of {key}");
        }
        let next = self.wheel.next().map(Instant::as_nanos);
        assert_eq!(next.is_none(), self.model.is_empty());
        let latest = self.model.values().map(|entry| entry.due.saturating_add(self.resolution)).min();
        assert!(next <= latest, "it asks for {next:?}, a key waits for {latest:?}");
    }
}
