//! How long a driver's turn may take.

use std::time::Duration;

use keepwatch_protocol::Instant;

use crate::clock::Clock;

/// A turn of a driver, which is over when it has taken [so long](Self::TIME): for
/// [`Sockets::turn_is_over`](keepwatch_protocol::driver::Sockets::turn_is_over).
#[derive(Debug)]
pub struct Turn {
    clock: Clock,
    began: Instant,
    asked: u32,
    is_over: bool,
}

impl Turn {
    /// For so long do reading, accepting and timers wait at most, and for a few connections more.
    pub const TIME: Duration = Duration::from_micros(500);

    /// The clock is read only each time that it was asked so often: reading it is a tenth of what a delivery costs beside
    /// its system call.
    const EACH: u32 = 8;

    /// No turn yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, began: Instant::START, asked: 0, is_over: false }
    }

    /// A turn begins now.
    pub fn begin(&mut self) {
        *self = Self { began: self.clock.instant(), ..Self::new(self.clock) };
    }

    /// Whether it is over, as far as the clock was looked at.
    pub fn is_over(&mut self) -> bool {
        self.asked += 1;
        if self.asked % Self::EACH == 0 {
            self.is_over = self.clock.instant().since(self.began) >= Self::TIME;
        }
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_after_its_time_and_not_before_it_was_asked_often() {
        let mut turn = Turn::new(Clock::new());
        turn.begin();
        while !turn.is_over() {}
        assert!(turn.clock.instant().since(turn.began) >= Turn::TIME);
        assert!(turn.is_over(), "it stays so");
        turn.begin();
        assert!(!turn.is_over(), "another");
    }
}
