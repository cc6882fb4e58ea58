//! A connection that speaks HTTP: lists, polls, streams.
//!
//! ```text
//!              ask                     head                end of the answer
//!   Ready ──────────► List              JSON is collected   Ready, or listed anew
//!     ▲    │          Get               value is collected  Ready
//!     │    ├────────► LongPoll          JSON is collected   Ready
//!     │    ├────────► Lines, Events     read as it comes    the connection is over
//!     │    ├────────► (a WebSocket's handshake: the connection is `Opening`'s)
//!     │    └────────► Resting ── its time comes ──► ask
//!     └── the answer is over, and nothing came behind it
//! ```

use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::http1::client::{
    ClientConnection, ClientError, ClientEvent, ClientExpired, Failure as HttpFailure, Response,
};
use keepwatch_protocol::websocket::handshake::OpeningError;
use keepwatch_protocol::{Input, Instant, Now, Sink, earliest, sse};

use super::event::{Failure, Transport};
use super::lines::{KEPT_BYTES, Lines};
use super::machine::{End, Link};
use super::opening::Opening;
use super::parse;
use super::progress::{Plan, Progress};
use super::request::RequestHead;
use crate::key::Revision;
use crate::request::decimal;

#[derive(Debug)]
pub(super) struct Http {
    machine: ClientConnection,
    doing: Doing,
    /// The head of the answer came.
    answer: Option<Answer>,
    /// An answer that has to be whole to be read.
    body: Vec<u8>,
    asked_at: Instant,
    /// When the server has been silent for too long, or the rest is over.
    due: Instant,
    exchanges: u32,
    /// How long the server wants to be left alone when the stream is over.
    leave: Option<Duration>,
}

#[derive(Debug)]
enum Doing {
    Ready,
    Resting,
    List,
    Get,
    LongPoll,
    Lines(Lines),
    Events(Box<sse::Decoder>),
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    status: u16,
    /// The revision that the entity tag says.
    tag: Option<Revision>,
}

/// An answer that comes sooner than this was not held.
const HELD: Duration = Duration::from_millis(100);

impl Http {
    /// A connection that was just made.
    pub(super) fn new(progress: &Progress, now: Now) -> Self {
        Self {
            machine: ClientConnection::new(progress.config.http.clone()),
            doing: Doing::Ready,
            answer: None,
            body: Vec::new(),
            asked_at: now.instant,
            due: Instant::NEVER,
            exchanges: 0,
            leave: None,
        }
    }

    /// Puts the next request, or rests. The request may be one after which the connection is no longer this one's.
    pub(super) fn ask(
        &mut self,
        progress: &mut Progress,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Option<Link>, End> {
        if self.machine.reuse().is_err() {
            return Err(End::Again);
        }
        let plan = progress.plan(now.instant);
        let config = Arc::clone(&progress.config);
        let doing = match &plan {
            Plan::Rest(until) => {
                self.doing = Doing::Resting;
                self.due = *until;
                return Ok(None);
            }
            Plan::List { .. } => Doing::List,
            Plan::Get { .. } => Doing::Get,
            Plan::Watch { transport: Transport::WebSocket, since } => {
                let opening = Opening::start(progress, *since, self.exchanges > 0, out, now)?;
                return Ok(Some(Link::Opening(Box::new(opening))));
            }
            Plan::Watch { transport: Transport::ServerSentEvents, .. } => {
                Doing::Events(Box::new(sse::Decoder::new(config.limits.message_bytes)))
            }
            Plan::Watch { transport: Transport::Lines, .. } => Doing::Lines(Lines::default()),
            Plan::Watch { transport: Transport::LongPoll | Transport::ShortPoll, .. } => Doing::LongPoll,
        };
        let head = RequestHead::of(&plan, progress);
        head.send(&mut self.machine, progress, out, now)
            .map_err(|error| End::Failed(Failure::Request(OpeningError::Http(error))))?;
        self.doing = doing;
        self.answer = None;
        self.asked_at = now.instant;
        self.exchanges = self.exchanges.saturating_add(1);
        self.due = now.instant + self.patience(progress);
        Ok(None)
    }

    pub(super) fn receive(
        &mut self,
        progress: &mut Progress,
        input: &mut Input<'_>,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Option<Link>, End> {
        while !progress.is_full() {
            let before = input.consumed();
            let event = self.machine.recv(input, now);
            // Between two answers nothing is due from the server: an empty line does not move the next poll.
            if input.consumed() > before && !matches!(self.doing, Doing::Ready | Doing::Resting) {
                self.due = now.instant + self.patience(progress);
            }
            match event {
                Ok(ClientEvent::NeedMore) if matches!(self.doing, Doing::Ready) => {
                    return self.ask(progress, out, now);
                }
                Ok(ClientEvent::NeedMore) => return Ok(None),
                Ok(ClientEvent::Informational(_) | ClientEvent::Trailers(_)) => {}
                Ok(ClientEvent::Response(head)) => {
                    self.answer = Some(self.head(&head)?);
                    self.due = now.instant + self.patience(progress);
                }
                Ok(ClientEvent::Data(data)) => self.data(progress, data, now)?,
                Ok(ClientEvent::EndOfResponse { verified }) => self.ended(progress, verified, now)?,
                // Never: none was offered.
                Ok(ClientEvent::Upgraded(_)) => return Err(End::Broken),
                Ok(ClientEvent::Closed) => return Err(self.broken()),
                Err(error) => {
                    return Err(ended_by(error, self.exchanges > 1).unwrap_or_else(|| self.broken()));
                }
            }
        }
        Ok(None)
    }

    /// The connection is gone.
    pub(super) fn broken(&self) -> End {
        match (&self.doing, self.leave) {
            (Doing::Resting, _) => End::Resting(self.due),
            (Doing::Ready, _) => End::Again,
            (_, Some(leave)) => End::Busy(leave),
            (_, None) => End::Broken,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = (self.due != Instant::NEVER).then_some(self.due);
        earliest(due, self.machine.deadline())
    }

    pub(super) fn on_deadline(
        &mut self,
        progress: &mut Progress,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Option<Link>, End> {
        if let Some(ClientExpired::Failed(_)) = self.machine.on_deadline(now) {
            return Err(End::Failed(Failure::Silent));
        }
        if self.due > now.instant {
            return Ok(None);
        }
        match self.doing {
            Doing::Resting => self.ask(progress, out, now),
            // It may have spoken: what it says is not taken.
            _ if progress.is_full() => {
                self.due = now.instant + self.patience(progress);
                Ok(None)
            }
            _ => Err(End::Failed(Failure::Silent)),
        }
    }

    /// How long the server may be silent. Never nothing, so that a deadline that was acted on has passed.
    fn patience(&self, progress: &Progress) -> Duration {
        let config = &progress.config;
        let patience = match (&self.doing, &self.answer) {
            (Doing::LongPoll, None) => config.wait.saturating_add(config.timeouts.answer),
            (Doing::Lines(_) | Doing::Events(_), Some(Answer { status: 200, .. })) => config.timeouts.silence,
            _ => config.timeouts.answer,
        };
        patience.max(Duration::from_nanos(1))
    }

    /// Whether the answer is one that can be made sense of.
    fn head(&self, head: &Response<'_>) -> Result<Answer, End> {
        let (status, fields) = (head.code(), head.fields());
        if let Some(busy) = busy(head) {
            return Err(busy);
        }
        let kind = match (&self.doing, status) {
            (Doing::List | Doing::LongPoll, 200) | (Doing::Get, 404) => "application/json",
            (Doing::List | Doing::LongPoll | Doing::Lines(_) | Doing::Events(_), 410) => "application/json",
            (Doing::Lines(_), 200) => "application/x-ndjson",
            (Doing::Events(_), 200) => sse::MEDIA_TYPE,
            (Doing::Get, 200) => "application/octet-stream",
            (Doing::Get, 304) => "",
            (Doing::List | Doing::Get, _) => return Err(End::Failed(Failure::Status(status))),
            _ => return Err(refused(status)),
        };
        let coding =
            fields.first("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        let is_kind =
            kind.is_empty() || fields.first("content-type").is_some_and(|value| is_type(value, kind));
        let tag = fields.first("etag").and_then(entity_tag);
        let lacks_tag = matches!(self.doing, Doing::Get) && status == 200 && tag.is_none();
        if !is_kind || coding || head.is_coded() || lacks_tag {
            return Err(match self.doing {
                Doing::List | Doing::Get => End::Failed(Failure::ContentType),
                _ => End::Refused(Failure::ContentType),
            });
        }
        Ok(Answer { status, tag })
    }

    fn data(&mut self, progress: &mut Progress, data: &mut [u8], now: Now) -> Result<(), End> {
        let config = Arc::clone(&progress.config);
        let (limits, limit) = (&config.limits, config.limits.message_bytes);
        match (&mut self.doing, self.answer) {
            (Doing::Lines(lines), Some(Answer { status: 200, .. })) => {
                let mut rest = &*data;
                let parse = |line: &[u8]| parse::event(line, limits);
                while let Some(told) =
                    lines.next(&mut rest, limit, parse).map_err(|_| End::Failed(Failure::TooLong))?
                {
                    progress.hear(told?, now.instant)?;
                }
            }
            (Doing::Events(decoder), Some(Answer { status: 200, .. })) => {
                let mut input = Input::new(data);
                while let Some(event) =
                    decoder.decode(&mut input).map_err(|_| End::Failed(Failure::TooLong))?
                {
                    self.leave = event.retry.or(self.leave);
                    let told = match (event.data, event.id) {
                        (Some(data), _) => parse::event(data.as_bytes(), limits),
                        // A bookmark is an id alone.
                        (None, Some(id)) if !id.is_empty() => {
                            match decimal(id.as_bytes()).and_then(Revision::new) {
                                Some(revision) => Ok(parse::Told::Bookmark(revision)),
                                None => Err(Failure::Malformed),
                            }
                        }
                        (None, _) => continue,
                    };
                    progress.hear(told?, now.instant).map_err(|end| match (end, self.leave) {
                        (End::Again | End::Busy(_), Some(leave)) => End::Busy(leave),
                        (end, _) => end,
                    })?;
                }
            }
            _ => {
                if data.len() > limit.saturating_sub(self.body.len()) {
                    return Err(End::Failed(Failure::TooLong));
                }
                self.body.extend_from_slice(data);
            }
        }
        Ok(())
    }

    /// The answer came to its end.
    fn ended(&mut self, progress: &mut Progress, verified: bool, now: Now) -> Result<(), End> {
        let Some(Answer { status, tag }) = self.answer else { return Err(End::Broken) };
        // What ends with the connection may have been cut off; and a stream that ends is one that is over.
        if !verified || matches!(self.doing, Doing::Lines(_) | Doing::Events(_)) && status == 200 {
            return Err(self.broken());
        }
        let mut body = std::mem::take(&mut self.body);
        let read = self.read(progress, status, tag, &body, now);
        body.clear();
        body.shrink_to(KEPT_BYTES);
        self.body = body;
        read?;
        if !matches!(self.doing, Doing::Resting) {
            self.doing = Doing::Ready;
            self.due = Instant::NEVER;
        }
        Ok(())
    }

    /// Reads a whole answer.
    fn read(
        &mut self,
        progress: &mut Progress,
        status: u16,
        tag: Option<Revision>,
        body: &[u8],
        now: Now,
    ) -> Result<(), End> {
        let limits = &progress.config.limits;
        match (&self.doing, status) {
            (Doing::List, 410) => {
                let again = progress.page_gone();
                return Err(if again {
                    End::Busy(Duration::ZERO)
                } else {
                    End::Failed(Failure::Status(410))
                });
            }
            (_, 410) => {
                let revision = parse::error_revision(body).map_err(End::Refused)?;
                match progress.compacted(Some(revision), now.instant) {
                    End::Again => {} // on this connection
                    end => return Err(end),
                }
            }
            (Doing::List, _) => {
                let page = parse::page(body, limits)?;
                progress.page(page, now.instant)?;
            }
            (Doing::Get, 304) => progress.not_modified(now.instant),
            (Doing::Get, 404) => {
                let revision = parse::error_revision(body)?;
                progress.no_value(revision, now.instant);
            }
            (Doing::Get, _) => progress.value(tag.unwrap_or_default(), body.to_vec(), now.instant)?,
            (Doing::LongPoll, _) => {
                let answer = parse::answer(body, limits)?;
                let before = progress.revision();
                for told in answer.events {
                    progress.hear(told, now.instant)?;
                }
                progress.bookmark(answer.revision)?;
                progress.good();
                if progress.revision() != before || now.instant.since(self.asked_at) >= HELD {
                    progress.retry.done();
                } else {
                    // Who answers at once and has nothing new to say is not asked again at once.
                    self.doing = Doing::Resting;
                    self.due = now.instant + progress.retry.failed(&progress.config.backoff, Duration::ZERO);
                }
            }
            (Doing::Ready | Doing::Resting | Doing::Lines(_) | Doing::Events(_), _) => {}
        }
        Ok(())
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What the failure of an exchange means; `None`: the connection broke off. `again` says whether the connection had been
/// used before.
pub(super) fn ended_by(error: ClientError, again: bool) -> Option<End> {
    match error.failure {
        // The server closed it as the request was on its way.
        HttpFailure::NoResponse if again && !error.response_began => Some(End::Again),
        HttpFailure::NoResponse
        | HttpFailure::TruncatedHead
        | HttpFailure::TruncatedLength { .. }
        | HttpFailure::TruncatedChunks => None,
        HttpFailure::TimedOut(_) => Some(End::Failed(Failure::Silent)),
        failure => Some(End::Failed(Failure::Http(failure))),
    }
}

/// Whether the server says that it has no time now, and until when. A `Retry-After` that is a date is passed over.
pub(super) fn busy(head: &Response<'_>) -> Option<End> {
    let after = || head.fields().first("retry-after").and_then(decimal).unwrap_or_default();
    matches!(head.code(), 429 | 503).then(|| End::Busy(Duration::from_secs(after())))
}

/// What another answer to the request for a watch means: a server in trouble, or one that has no such transport.
pub(super) fn refused(status: u16) -> End {
    match status {
        408 | 500 | 502..=599 => End::Failed(Failure::Status(status)),
        _ => End::Refused(Failure::Status(status)),
    }
}

/// Whether a `Content-Type` is of this type, whatever its parameters.
fn is_type(value: &[u8], kind: &str) -> bool {
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(kind.as_bytes())
}

/// The revision of an entity tag, weak or not.
fn entity_tag(tag: &[u8]) -> Option<Revision> {
    let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
    decimal(tag.strip_prefix(b"\"")?.strip_suffix(b"\"")?).and_then(Revision::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_tags() {
        assert!(is_type(b"Application/JSON ; charset=utf-8", "application/json"));
        assert!(!is_type(b"application/jsonl", "application/json"));
        assert_eq!(entity_tag(b"W/\"7\""), Revision::new(7));
        for bad in [&b"7"[..], b"\"\"", b"\"7", b"\"-7\"", b"\"abc\"", b"\""] {
            assert_eq!(entity_tag(bad), None);
        }
    }
}
