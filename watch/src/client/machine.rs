//! The machine: which connection there is, and when the next one is wanted.

use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::websocket::handshake::OpeningError;
use keepwatch_protocol::{Input, Instant, Now, Sink};

use super::config::ClientConfig;
use super::event::{Event, Failure};
use super::http::Http;
use super::opening::{self, Opening};
use super::progress::Progress;
use super::socket::Socket;
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

/// One watch, from its first connection on, for as long as its user likes. See the [module](super).
#[derive(Debug)]
pub struct WatchClient {
    progress: Progress,
    link: Link,
}

/// The connection.
#[derive(Debug)]
pub(super) enum Link {
    /// There is none, and one is wanted.
    Wanted,
    /// There is none, and one is wanted at that time.
    Waiting(Instant),
    /// It is being made, and has time until then.
    Connecting(Instant),
    Http(Box<Http>),
    Opening(Box<Opening>),
    Socket(Box<Socket>),
}

/// Why a connection is over, and so when the next one is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing is wrong but that it cannot be used again: at once.
    Again,
    /// Between two polls: when the next one is due.
    Resting(Instant),
    /// It broke off.
    Broken,
    /// The server wants to be left alone for at least so long.
    Busy(Duration),
    /// Something came that makes no sense, or nothing.
    Failed(Failure),
    /// The transport is not to be had here: the next one at once.
    Refused(Failure),
}

impl WatchClient {
    /// A watch that has not begun. `seed` is entropy, for the jitter of waits and the keys of a WebSocket: hard to guess, and
    /// another one for each client.
    ///
    /// # Errors
    ///
    /// The authority, the key, or a field of the [config](ClientConfig::fields) cannot be sent.
    pub fn new(target: Target, config: Arc<ClientConfig>, seed: u64) -> Result<Self, OpeningError> {
        let progress = Progress::new(target, config, seed);
        opening::check(&progress)?;
        Ok(Self { progress, link: Link::Wanted })
    }

    /// Whether a connection is to be made now. [`deadline`](Self::deadline) says when it will be. None is wanted while the
    /// [queue](super::ClientLimits::queue_events) is full.
    pub fn wants_connection(&self, now: Now) -> bool {
        let wanted = match self.link {
            Link::Wanted => true,
            Link::Waiting(until) => until <= now.instant,
            Link::Connecting(_) | Link::Http(_) | Link::Opening(_) | Link::Socket(_) => false,
        };
        wanted && !self.progress.is_full()
    }

    /// A connection is being made: from here on none is wanted, and the time for it runs. Either
    /// [`connected`](Self::connected) or [`disconnected`](Self::disconnected) follows. May be left out where it takes no time.
    pub fn connecting(&mut self, now: Now) {
        let connect = self.progress.config.timeouts.connect.max(Duration::from_nanos(1));
        self.link = Link::Connecting(now.instant + connect);
    }

    /// The connection is there: puts the first request.
    pub fn connected(&mut self, out: &mut impl Sink, now: Now) {
        let mut http = Box::new(Http::new(&self.progress, now));
        match http.ask(&mut self.progress, out, now) {
            Ok(link) => self.link = link.unwrap_or(Link::Http(http)),
            Err(end) => self.end(end, now),
        }
    }

    /// Takes what came. What is not taken is offered again, in front of what follows. While [events](Self::next_event) wait
    /// in a full queue nothing is taken: take them, and call this again, even if there is nothing to offer.
    pub fn receive(&mut self, input: &mut Input<'_>, out: &mut impl Sink, now: Now) -> Next {
        loop {
            let progress = &mut self.progress;
            let link = match &mut self.link {
                Link::Http(http) => http.receive(progress, input, out, now),
                Link::Opening(opening) => opening.receive(progress, input, now),
                Link::Socket(socket) => socket.receive(progress, input, out, now),
                // Whatever this connection is, it is not the client's.
                Link::Wanted | Link::Waiting(_) | Link::Connecting(_) => return Next::Close,
            };
            match link {
                Ok(None) => return Next::Open,
                Ok(Some(link)) => self.link = link,
                Err(end) => return self.close(end, now),
            }
        }
    }

    /// The connection ended, failed, or could not be made. What came before has to be [received](Self::receive) first: what
    /// is not, comes again later. Does nothing if there is none.
    pub fn disconnected(&mut self, now: Now) {
        let (progress, mut nothing) = (&mut self.progress, Input::last(&mut []));
        // The machines know what the end means where they stand.
        let end = match &mut self.link {
            Link::Wanted | Link::Waiting(_) => return,
            Link::Connecting(_) => End::Broken,
            Link::Http(http) => {
                let end = http.receive(progress, &mut nothing, &mut Vec::new(), now).err();
                end.unwrap_or_else(|| http.broken())
            }
            Link::Opening(opening) => {
                opening.receive(progress, &mut nothing, now).err().unwrap_or(End::Broken)
            }
            Link::Socket(_) => End::Broken,
        };
        self.end(end, now);
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.link {
            Link::Wanted => None,
            Link::Waiting(at) | Link::Connecting(at) => Some(*at),
            Link::Http(http) => http.deadline(),
            Link::Opening(opening) => opening.deadline(),
            Link::Socket(socket) => socket.deadline(),
        }
    }

    /// A deadline may have passed. Afterwards [`deadline`](Self::deadline) is later than `now`, or none. `Close` means the
    /// connection that there is, or the attempt to make one.
    pub fn on_deadline(&mut self, out: &mut impl Sink, now: Now) -> Next {
        let progress = &mut self.progress;
        let link = match &mut self.link {
            Link::Wanted => Ok(None),
            Link::Waiting(until) => Ok((*until <= now.instant).then_some(Link::Wanted)),
            Link::Connecting(by) if *by <= now.instant => Err(End::Failed(Failure::Silent)),
            Link::Connecting(_) => Ok(None),
            Link::Http(http) => http.on_deadline(progress, out, now),
            Link::Opening(opening) => opening.on_deadline(now).map(|()| None),
            Link::Socket(socket) => socket.on_deadline(progress, out, now).map(|()| None),
        };
        match link {
            Ok(None) => {}
            Ok(Some(link)) => self.link = link,
            Err(end) => return self.close(end, now),
        }
        Next::Open
    }

    /// The next event, if one waits.
    pub fn next_event(&mut self) -> Option<Event> {
        self.progress.next_event()
    }

    fn close(&mut self, end: End, now: Now) -> Next {
        self.end(end, now);
        Next::Close
    }

    /// There is no connection any more.
    fn end(&mut self, end: End, now: Now) {
        let config = Arc::clone(&self.progress.config);
        let progress = &mut self.progress;
        let (backoff, instant) = (&config.backoff, now.instant);
        let unheard = progress.ended(instant);
        if let End::Failed(failure) | End::Refused(failure) = end {
            progress.tell(Event::Failed(failure));
        }
        if unheard && matches!(end, End::Broken | End::Failed(_)) {
            progress.routes.strike(&config, instant);
        }
        let wait = match end {
            End::Again => None,
            End::Refused(_) if progress.routes.refused(&config, instant) => None,
            End::Resting(until) => Some(until),
            End::Busy(asked) => Some(instant + progress.retry.failed(backoff, asked)),
            End::Broken | End::Failed(_) | End::Refused(_) => {
                Some(instant + progress.retry.failed(backoff, Duration::ZERO))
            }
        };
        self.link = match wait {
            Some(until) if until > instant => Link::Waiting(until),
            _ => Link::Wanted,
        };
    }
}
