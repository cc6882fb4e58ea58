//! The machine: which connection there is, and when the next one is wanted.

use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::{Input, Instant, Now, Sink, http1};

use super::config::ClientConfig;
use super::event::{Event, Failure};
use super::http::{self, Http, Received};
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
enum Link {
    /// There is none, and one is wanted.
    Wanted,
    /// There is none, and one is wanted at that time.
    Waiting(Instant),
    /// It is being made, and has time until then.
    Connecting(Instant),
    Http(Box<Http>),
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
    pub fn new(target: Target, config: Arc<ClientConfig>, seed: u64) -> Result<Self, http1::SendError> {
        let progress = Progress::new(target, config, seed);
        http::check(&progress)?;
        Ok(Self { progress, link: Link::Wanted })
    }

    /// Whether a connection is to be made now. [`deadline`](Self::deadline) says when it will be. None is wanted while the
    /// [queue](super::ClientLimits::queue_events) is full.
    pub fn wants_connection(&self, now: Now) -> bool {
        let wanted = match self.link {
            Link::Wanted => true,
            Link::Waiting(until) => until <= now.instant,
            Link::Connecting(_) | Link::Http(_) | Link::Socket(_) => false,
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
            Ok(()) => self.link = Link::Http(http),
            Err(end) => self.end(end, now),
        }
    }

    /// Takes what came. What is not taken is offered again, in front of what follows. While [events](Self::next_event) wait
    /// in a full queue nothing is taken: take them, and call this again, even if there is nothing to offer.
    pub fn receive(&mut self, input: &mut Input<'_>, out: &mut impl Sink, now: Now) -> Next {
        match std::mem::replace(&mut self.link, Link::Wanted) {
            Link::Http(mut http) => match http.receive(&mut self.progress, input, out, now) {
                Ok(Received::Open) => self.link = Link::Http(http),
                Ok(Received::Upgraded) => {
                    let socket = Box::new(Socket::new(&mut self.progress, now));
                    return self.receive_socket(socket, input, out, now);
                }
                Err(end) => return self.close(end, now),
            },
            Link::Socket(socket) => return self.receive_socket(socket, input, out, now),
            other => {
                self.link = other;
                return Next::Close; // whatever this is, it is not the client's
            }
        }
        Next::Open
    }

    fn receive_socket(
        &mut self,
        mut socket: Box<Socket>,
        input: &mut Input<'_>,
        out: &mut impl Sink,
        now: Now,
    ) -> Next {
        match socket.receive(&mut self.progress, input, out, now) {
            Ok(()) => {
                self.link = Link::Socket(socket);
                Next::Open
            }
            Err(end) => self.close(end, now),
        }
    }

    /// The connection ended, failed, or could not be made. What came before has to be [received](Self::receive) first: what
    /// is not, comes again later. Does nothing if there is none.
    pub fn disconnected(&mut self, now: Now) {
        let end = match std::mem::replace(&mut self.link, Link::Wanted) {
            // The machine knows what the end means where it stands.
            Link::Http(mut http) => {
                let end = http.receive(&mut self.progress, &mut Input::last(&mut []), &mut Vec::new(), now);
                end.err().unwrap_or_else(|| http.broken())
            }
            Link::Socket(_) | Link::Connecting(_) => End::Broken,
            other @ (Link::Wanted | Link::Waiting(_)) => {
                self.link = other;
                return;
            }
        };
        self.end(end, now);
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.link {
            Link::Wanted => None,
            Link::Waiting(at) | Link::Connecting(at) => Some(*at),
            Link::Http(http) => http.deadline(),
            Link::Socket(socket) => socket.deadline(),
        }
    }

    /// A deadline may have passed. Afterwards [`deadline`](Self::deadline) is later than `now`, or none. `Close` means the
    /// connection that there is, or the attempt to make one.
    pub fn on_deadline(&mut self, out: &mut impl Sink, now: Now) -> Next {
        let end = match &mut self.link {
            Link::Wanted => Ok(()),
            Link::Waiting(until) => {
                if *until <= now.instant {
                    self.link = Link::Wanted;
                }
                Ok(())
            }
            Link::Connecting(by) if *by <= now.instant => Err(End::Failed(Failure::Silent)),
            Link::Connecting(_) => Ok(()),
            Link::Http(http) => http.on_deadline(&mut self.progress, out, now),
            Link::Socket(socket) => socket.on_deadline(&mut self.progress, out, now),
        };
        match end {
            Ok(()) => Next::Open,
            Err(end) => self.close(end, now),
        }
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
