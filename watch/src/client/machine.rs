//! The machine.

use std::sync::Arc;

use keepwatch_protocol::{Input, Instant, Now, Sink, http1};

use super::{ClientConfig, Event};
use crate::index::Filter;
use crate::key::Revision;

/// What is watched, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host and port of the server, as `Host` says it.
    pub authority: String,
    /// The key, or the prefix of keys.
    pub filter: Filter,
    /// Where it begins.
    pub start: Start,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the state: it is listed first.
    List,
    /// Behind a revision that the user knows the state at.
    After(Revision),
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a connection that is to be closed has to be closed"]
pub enum Next {
    /// It goes on.
    Open,
    /// Write what was put, then close it, or give up making it. The client has nothing more to do with it:
    /// [`disconnected`](WatchClient::disconnected) need not be called.
    Close,
}

/// One watch.
#[derive(Debug)]
pub struct WatchClient {
    config: Arc<ClientConfig>,
    target: Target,
}

impl WatchClient {
    /// A watch that has not begun. `seed` is entropy: for the jitter of waits, and for the keys of a WebSocket, so it has
    /// to be hard to guess, and another for each client.
    ///
    /// # Errors
    ///
    /// The authority, or a field of the [config](ClientConfig::fields), cannot be sent.
    pub fn new(target: Target, config: Arc<ClientConfig>, seed: u64) -> Result<Self, http1::SendError> {
        let _ = seed;
        Ok(Self { config, target })
    }

    /// Whether a connection is to be made now. [`deadline`](Self::deadline) says when it will be.
    pub fn wants_connection(&self, now: Now) -> bool {
        let _ = (now, &self.config, &self.target);
        true
    }

    /// A connection is being made: from here on none is wanted, and the time for it runs. Either
    /// [`connected`](Self::connected) or [`disconnected`](Self::disconnected) follows. May be left out where it takes no time.
    pub fn connecting(&mut self, now: Now) {
        let _ = now;
    }

    /// The connection is there: puts the first request.
    pub fn connected(&mut self, out: &mut impl Sink, now: Now) {
        let _ = (out, now);
    }

    /// Takes what came. What is not taken is offered again, in front of what follows. While [events](Self::next_event)
    /// wait in a full queue nothing is taken: take them, and call this again.
    pub fn receive(&mut self, input: &mut Input<'_>, out: &mut impl Sink, now: Now) -> Next {
        let _ = (input, out, now);
        Next::Open
    }

    /// The connection ended, failed, or could not be made. Bytes that came before have to be [received](Self::receive)
    /// first. Does nothing if there is none.
    pub fn disconnected(&mut self, now: Now) {
        let _ = now;
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// A deadline may have passed. Afterwards [`deadline`](Self::deadline) is later than `now`, or none.
    pub fn on_deadline(&mut self, out: &mut impl Sink, now: Now) -> Next {
        let _ = (out, now);
        Next::Open
    }

    /// The next event, if one waits.
    pub fn next_event(&mut self) -> Option<Event> {
        None
    }
}
