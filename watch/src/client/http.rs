//! A connection that speaks HTTP: lists, polls, streams, and the handshake of a WebSocket.
//!
//! ```text
//!              ask                     head                end of the answer
//!   Ready ──────────► List              JSON is collected   Ready, or listed anew
//!     ▲    │          Get               value is collected  Ready
//!     │    ├────────► LongPoll          JSON is collected   Ready
//!     │    ├────────► Lines, Events     read as it comes    the connection is over
//!     │    ├────────► Upgrade                               another protocol
//!     │    └────────► Resting ── its time comes ──► ask
//!     └── the answer is over, and nothing came behind it
//! ```

use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::http1::client::{
    ClientConnection, ClientEvent, ClientExpired, Failure as HttpFailure, Request, Response,
};
use keepwatch_protocol::http1::{self, SendError};
use keepwatch_protocol::websocket::handshake;
use keepwatch_protocol::{Input, Instant, Now, Sink, earliest, sse};

use super::event::{Failure, Transport};
use super::lines::Lines;
use super::machine::{End, Target};
use super::parse;
use super::progress::{Heard, Plan, Progress};
use crate::index::Filter;
use crate::key::Revision;

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
    Upgrade(Box<[u8; handshake::KEY_BYTES]>),
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    status: u16,
    /// The revision that the entity tag says.
    tag: Option<Revision>,
}

/// What became of the connection.
pub(super) enum Received {
    Open,
    /// It is a WebSocket now.
    Upgraded,
}

/// An answer that comes sooner than this was not held.
const HELD: Duration = Duration::from_millis(100);

/// The memory that is kept from one answer for the next.
const KEPT_BYTES: usize = 16 << 10;

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

    /// Puts the next request, or rests.
    pub(super) fn ask(&mut self, progress: &mut Progress, out: &mut impl Sink, now: Now) -> Result<(), End> {
        if self.machine.reuse().is_err() {
            return Err(End::Again);
        }
        let plan = progress.plan(now.instant);
        if let Plan::Rest(until) = plan {
            self.doing = Doing::Resting;
            self.due = until;
            return Ok(());
        }
        let nonce = progress.retry.random().nonce();
        let sent = send(&mut self.machine, progress, &plan, nonce, out, now);
        self.doing = sent.map_err(|error| End::Failed(Failure::Request(error)))?;
        self.answer = None;
        self.asked_at = now.instant;
        self.exchanges = self.exchanges.saturating_add(1);
        self.due = now.instant + self.patience(progress);
        Ok(())
    }

    pub(super) fn receive(
        &mut self,
        progress: &mut Progress,
        input: &mut Input<'_>,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Received, End> {
        while !progress.is_full() {
            let before = input.consumed();
            let event = self.machine.recv(input, now);
            if input.consumed() > before && self.due != Instant::NEVER {
                self.due = now.instant + self.patience(progress);
            }
            match event {
                Ok(ClientEvent::NeedMore) if matches!(self.doing, Doing::Ready) => {
                    self.ask(progress, out, now)?;
                    return Ok(Received::Open);
                }
                Ok(ClientEvent::NeedMore) => return Ok(Received::Open),
                Ok(ClientEvent::Informational(_) | ClientEvent::Trailers(_)) => {}
                Ok(ClientEvent::Response(head)) => {
                    self.answer = Some(self.head(&head)?);
                    self.due = now.instant + self.patience(progress);
                }
                Ok(ClientEvent::Data(data)) => self.data(progress, data, now)?,
                Ok(ClientEvent::EndOfResponse { verified }) => self.ended(progress, verified, now)?,
                Ok(ClientEvent::Upgraded(head)) => {
                    let Doing::Upgrade(key) = &self.doing else { return Err(End::Broken) };
                    let fields = head.fields().iter().map(|field| (field.name, field.value));
                    return match handshake::check_answer(head.code(), fields, key, &[]) {
                        Ok(_) => Ok(Received::Upgraded),
                        Err(refused) => Err(End::Refused(Failure::Handshake(refused))),
                    };
                }
                Ok(ClientEvent::Closed) => return Err(self.broken()),
                Err(error) => {
                    return Err(match error.failure {
                        // It was closed as the request was on its way.
                        HttpFailure::NoResponse if !error.response_began && self.exchanges > 1 => End::Again,
                        HttpFailure::NoResponse
                        | HttpFailure::TruncatedHead
                        | HttpFailure::TruncatedLength { .. }
                        | HttpFailure::TruncatedChunks => self.broken(),
                        HttpFailure::TimedOut(_) => End::Failed(Failure::Silent),
                        failure => End::Failed(Failure::Http(failure)),
                    });
                }
            }
        }
        Ok(Received::Open)
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
    ) -> Result<(), End> {
        if let Some(ClientExpired::Failed(_)) = self.machine.on_deadline(now) {
            return Err(End::Failed(Failure::Silent));
        }
        if self.due > now.instant {
            return Ok(());
        }
        match self.doing {
            Doing::Resting => self.ask(progress, out, now),
            // It may have spoken: what it says is not taken.
            _ if progress.is_full() => {
                self.due = now.instant + self.patience(progress);
                Ok(())
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
        if matches!(status, 429 | 503) {
            let after = fields.first("retry-after").and_then(decimal).unwrap_or_default();
            return Err(End::Busy(Duration::from_secs(after)));
        }
        let kind = match (&self.doing, status) {
            (Doing::List | Doing::LongPoll, 200) | (Doing::Get, 404) => "application/json",
            (Doing::List | Doing::LongPoll | Doing::Lines(_) | Doing::Events(_) | Doing::Upgrade(_), 410) => {
                "application/json"
            }
            (Doing::Lines(_), 200) => "application/x-ndjson",
            (Doing::Events(_), 200) => sse::MEDIA_TYPE,
            (Doing::Get, 200) => "application/octet-stream",
            (Doing::Get, 304) => "",
            (Doing::List | Doing::Get, _) => return Err(End::Failed(Failure::Status(status))),
            (_, 408 | 500 | 502..=599) => return Err(End::Failed(Failure::Status(status))),
            _ => return Err(End::Refused(Failure::Status(status))),
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
                    hear(progress, told, None, now)?;
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
                    hear(progress, told, self.leave, now)?;
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
        let body = std::mem::take(&mut self.body);
        let read = self.read(progress, status, tag, &body, now);
        if body.capacity() <= KEPT_BYTES {
            self.body = body;
            self.body.clear();
        }
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
                let lately = progress.listed_lately(now.instant);
                progress.compacted(revision);
                return if lately { Err(End::Busy(Duration::ZERO)) } else { Ok(()) };
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
                let was_held = !answer.events.is_empty() || now.instant.since(self.asked_at) >= HELD;
                for told in answer.events {
                    hear(progress, Ok(told), None, now)?;
                }
                progress.bookmark(answer.revision)?;
                progress.good();
                if was_held {
                    progress.retry.done();
                } else {
                    // Who answers at once and has nothing to say is not asked again at once.
                    self.doing = Doing::Resting;
                    self.due = now.instant + progress.retry.failed(&progress.config.backoff, Duration::ZERO);
                }
            }
            (Doing::Ready | Doing::Resting | Doing::Lines(_) | Doing::Events(_) | Doing::Upgrade(_), _) => {}
        }
        Ok(())
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// An event of a stream.
fn hear(
    progress: &mut Progress,
    told: Result<parse::Told, Failure>,
    leave: Option<Duration>,
    now: Now,
) -> Result<(), End> {
    let lately = progress.listed_lately(now.instant);
    match progress.hear(told?, now.instant)? {
        Heard::More => Ok(()),
        Heard::Compacted => Err(match leave {
            Some(leave) => End::Busy(leave),
            None if lately => End::Busy(Duration::ZERO),
            None => End::Again,
        }),
    }
}

/// Whether the longest request to this target can be sent.
pub(super) fn check(progress: &Progress) -> Result<(), SendError> {
    let mut machine = ClientConnection::new(progress.config.http.clone());
    let plan = Plan::Watch { transport: Transport::WebSocket, since: Revision::MAX };
    send(&mut machine, progress, &plan, [0; 16], &mut Vec::new(), Now::default()).map(|_| ())
}

/// Puts a request. Returns what is done from then on.
fn send(
    machine: &mut ClientConnection,
    progress: &Progress,
    plan: &Plan,
    nonce: [u8; 16],
    out: &mut impl Sink,
    now: Now,
) -> Result<Doing, SendError> {
    let Progress { config, target, .. } = progress;
    let filter = filter(target);
    let key = handshake::request_key(nonce);
    let mut upgrade = None;
    let mut own: Vec<(&str, Vec<u8>)> = Vec::new();
    let accept = |kind: &str| ("Accept", kind.as_bytes().to_vec());
    let (path, doing) = match plan {
        Plan::Rest(_) => return Ok(Doing::Resting),
        Plan::List { token } => {
            own.push(accept("application/json"));
            (list(progress, token.as_deref()), Doing::List)
        }
        Plan::Get { unless } => {
            if let Some(revision) = unless {
                own.push(("If-None-Match", format!("\"{revision}\"").into_bytes()));
            }
            let mut path = "/v1/kv/".to_owned();
            encode(target.filter.text(), &mut path);
            (path, Doing::Get)
        }
        Plan::Watch { transport, since } => {
            let path = format!("/v1/watch?{filter}&since={since}");
            match transport {
                Transport::WebSocket => {
                    upgrade = Some("websocket");
                    own.push(("Sec-WebSocket-Version", b"13".to_vec()));
                    own.push(("Sec-WebSocket-Key", key.to_vec()));
                    (path, Doing::Upgrade(Box::new(key)))
                }
                Transport::ServerSentEvents => {
                    own.push(accept(sse::MEDIA_TYPE));
                    own.push(("Last-Event-ID", since.to_string().into_bytes()));
                    let decoder = sse::Decoder::new(config.limits.message_bytes);
                    (format!("/v1/watch?{filter}"), Doing::Events(Box::new(decoder)))
                }
                Transport::Lines => {
                    own.push(accept("application/x-ndjson"));
                    (path, Doing::Lines(Lines::default()))
                }
                Transport::LongPoll | Transport::ShortPoll => {
                    own.push(accept("application/json"));
                    let wait = config.wait.as_millis();
                    (format!("{path}&wait={wait}ms"), Doing::LongPoll)
                }
            }
        }
    };
    let own = own.iter().map(|(name, value)| (*name, value.as_slice()));
    let users = config.fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let fields: Vec<(&str, &[u8])> = own.chain(users).collect();
    let request =
        Request { fields: &fields, upgrade, ..http1::client::Request::get(&target.authority, &path) };
    machine.send(&request, b"", out, now)?;
    Ok(doing)
}

/// The path of a page.
fn list(progress: &Progress, token: Option<&str>) -> String {
    let mut path = "/v1/kv?prefix=".to_owned();
    encode(progress.target.filter.text(), &mut path);
    // What begins with a key begins with that key, if it exists.
    let limit = match progress.target.filter {
        Filter::Key(_) => 1,
        Filter::Prefix(_) => progress.config.page_items.max(1),
    };
    path.push_str(&format!("&limit={limit}"));
    if let Some(token) = token {
        path.push_str("&continue=");
        encode(token, &mut path);
    }
    path
}

fn filter(target: &Target) -> String {
    let mut filter = match target.filter {
        Filter::Key(_) => "key=".to_owned(),
        Filter::Prefix(_) => "prefix=".to_owned(),
    };
    encode(target.filter.text(), &mut filter);
    filter
}

impl Filter {
    /// The key, or the prefix.
    fn text(&self) -> &str {
        match self {
            Self::Key(key) => key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// Percent-encodes all that is not unreserved (RFC 3986 section 2.3), but not slashes.
fn encode(text: &str, to: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            to.push(char::from(byte));
        } else {
            let digit = |half: u8| char::from(DIGITS.get(usize::from(half)).copied().unwrap_or(b'0'));
            to.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
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

/// Digits, and nothing else: no sign, no space.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_unreserved_is_percent_encoded() {
        let mut text = String::new();
        encode("a/b c?&=+%\u{e9}\0~", &mut text);
        assert_eq!(text, "a/b%20c%3F%26%3D%2B%25%C3%A9%00~");
    }

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
