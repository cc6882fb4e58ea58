//! When the machine wants to be called again though nothing arrived.

use core::time::Duration;

use super::close::CloseCode;
use super::connection::{Connection, Phase};
use super::error::Expired;
use super::frame::Opcode;
use crate::output::Sink;
use crate::time::{Instant, Now, earliest};

impl Connection {
    /// When [`on_deadline`](Self::on_deadline) is to be called, if nothing happens before. Costs a few additions. Every
    /// other call may change it.
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.phase_deadline(), self.idle_deadline())
    }

    /// A deadline may have passed: sends a ping where the peer was silent (`None`: go on), or says that the connection is to
    /// be given up. Afterwards [`deadline`](Self::deadline) is later than `now`, or `None`. Nothing happens if called
    /// early.
    #[must_use = "a connection that is to be given up does not do it by itself"]
    pub fn on_deadline(&mut self, out: &mut impl Sink, now: Now) -> Option<Expired> {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now.instant);
        if passed(self.idle_deadline()) {
            return Some(self.give_up(Expired::Idle, out));
        }
        if !passed(self.phase_deadline()) {
            return None;
        }
        match self.phase {
            Phase::Open => {
                self.put_control(Opcode::Ping, &[], out);
                self.phase = Phase::PingSent;
                self.since = now.instant;
                None
            }
            Phase::PingSent => Some(self.give_up(Expired::PongMissing, out)),
            Phase::Closing | Phase::Lingering => Some(self.give_up(Expired::CloseMissing, out)),
            Phase::Closed | Phase::Failed(_) => None,
        }
    }

    /// The ping that was sent last is not written yet: the peer cannot have answered it, and its time to do so begins anew.
    /// Who writes to slow readers calls this in place of [`on_deadline`](Self::on_deadline) while output waits. Returns
    /// whether a pong is waited for.
    pub fn postpone_pong(&mut self, now: Now) -> bool {
        let waits = self.phase == Phase::PingSent;
        if waits {
            self.since = now.instant;
        }
        waits
    }

    fn give_up(&mut self, why: Expired, out: &mut impl Sink) -> Expired {
        match why {
            Expired::PongMissing => self.put_close(Some(CloseCode::INTERNAL_ERROR), "no pong", out),
            Expired::Idle => self.put_close(Some(CloseCode::GOING_AWAY), "idle", out),
            Expired::CloseMissing => {}
        }
        self.phase = Phase::Closed;
        self.drop_states();
        why
    }

    fn phase_deadline(&self) -> Option<Instant> {
        let timeout = match self.phase {
            Phase::Open => self.spread(self.config.ping_interval?),
            Phase::PingSent => self.config.pong_timeout,
            Phase::Closing | Phase::Lingering => self.config.close_timeout,
            Phase::Closed | Phase::Failed(_) => return None,
        };
        after(self.since, timeout)
    }

    fn idle_deadline(&self) -> Option<Instant> {
        let (timeout, rare) = self.config.idle_timeout.zip(self.rare.as_ref())?;
        if self.is_closing() { None } else { after(rare.last_data, timeout) }
    }

    /// Takes off up to an eighth: each connection its own, always the same part.
    fn spread(&self, interval: Duration) -> Duration {
        // In nanoseconds: durations divide slowly, and this is asked with each delivery.
        let Ok(nanos) = u64::try_from(interval.as_nanos()) else { return interval };
        Duration::from_nanos(nanos - nanos / (8 * 256) * u64::from(self.jitter))
    }
}

/// Later than `start` even if the timeout is zero, so that a deadline that was acted on has passed. Never is no deadline.
fn after(start: Instant, timeout: Duration) -> Option<Instant> {
    let at = start + timeout.max(Duration::from_nanos(1));
    (at < Instant::NEVER).then_some(at)
}
