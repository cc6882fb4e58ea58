//! The machine of one connection, in the client's role. The page of [`client`](super) has its states.

mod send;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::time::Duration;

use super::config::ClientConfig;
use super::error::{ClientError, Failure, NotReusable};
use super::event::{ClientEvent, ClientExpired, ClientTimer};
use super::response::{self, Asked, Response, ResponseBody};
use crate::http1::chunked::{Chunk, Decoder};
use crate::http1::error::Fault;
use crate::http1::exchange::Disposition;
use crate::http1::head::Version;
use crate::http1::scan::Scan;
use crate::http1::status::StatusCode;
use crate::input::Input;
use crate::time::{Instant, Now, earliest};

/// One connection of a client: one exchange after the other, each to its end. It holds no bytes: they stay with the
/// caller, before and after.
///
/// Requests are not pipelined: the next one is taken when the exchange before it is over, which [`reuse`](Self::reuse) tells.
#[derive(Debug)]
pub struct ClientConnection {
    config: Arc<ClientConfig>,
    /// Of the response.
    deadline: Instant,
    /// When content that waits for `100 Continue` goes without.
    continue_by: Instant,
    reading: Reading,
    /// What the request under way offered in `Upgrade`.
    offered: Option<Box<str>>,
    /// Names the current exchange.
    sequence: u32,
    phase: Phase,
    timer: ClientTimer,
    asked: Asked,
    /// What is known of the server.
    peer: Version,
    interim: u8,
    /// Something of the response came.
    began: bool,
    /// Why there is no exchange after this one; the first reason stays.
    last: Option<NotReusable>,
}

/// How far the response is.
#[derive(Debug)]
enum Reading {
    Head {
        scan: Scan,
        empty_lines: u8,
    },
    Length {
        left: u64,
        want: u64,
    },
    Chunked(Decoder),
    UntilClose {
        got: u64,
    },
    /// It is complete, and that is still to be told.
    Ended {
        verified: bool,
    },
    Told,
    Closed,
    Upgraded,
    Failed(Failure),
}

/// How far the request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is none.
    Idle,
    /// Its head was put, and its content waits for `100 Continue`.
    Waiting,
    /// Its head was put.
    Sending,
    /// It was put to its end.
    Sent,
    /// It was given up, or the server takes no more of it.
    Abandoned,
}

impl ClientConnection {
    /// A connection that was just made, to a server that is taken to speak HTTP/1.1.
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Self {
            config,
            deadline: Instant::NEVER,
            continue_by: Instant::NEVER,
            reading: Reading::HEAD,
            offered: None,
            sequence: 0,
            phase: Phase::Idle,
            timer: ClientTimer::FirstByte,
            asked: Asked::default(),
            peer: Version::Http11,
            interim: 0,
            began: false,
            last: None,
        }
    }

    /// Says which version the server is known to speak, from elsewhere: content of unknown length cannot be sent to
    /// HTTP/1.0 (RFC 9112 section 6.1). Each response says it anew.
    pub fn set_peer_version(&mut self, version: Version) {
        self.peer = version;
    }

    /// Takes the next event from the input. Call it until it says `NeedMore` or `Closed`, whenever something came, between
    /// two exchanges too.
    ///
    /// Bodies are taken as they come. A head, and a trailer section, is taken when it is whole: until then the caller
    /// keeps it, and has room for [`head_bytes`](crate::http1::Limits::head_bytes). What is not taken has to be offered
    /// again, in front of what follows. The deadlines run on while the caller holds input back.
    ///
    /// # Errors
    ///
    /// The server broke a rule, or the connection its promise; see [`ClientError`].
    pub fn recv<'b>(&mut self, input: &mut Input<'b>, now: Now) -> Result<ClientEvent<'b>, ClientError> {
        let read = match self.reading {
            Reading::Closed => return Ok(ClientEvent::Closed),
            Reading::Upgraded => return Ok(ClientEvent::NeedMore),
            Reading::Failed(failure) => return Err(self.error(failure)),
            Reading::Head { .. } if self.phase == Phase::Idle => self.read_idle(input, now),
            Reading::Head { .. } => self.read_head(input, now),
            Reading::Length { .. } | Reading::Chunked(_) | Reading::UntilClose { .. } => {
                self.read_body(input, now)
            }
            Reading::Ended { verified } => {
                self.tell_end();
                Ok(ClientEvent::EndOfResponse { verified })
            }
            Reading::Told => self.read_behind(input),
        };
        read.map_err(|failure| self.fail(failure))
    }

    /// Whether a request can be sent now, as far as [`recv`](Self::recv) was shown what came: show it everything first,
    /// so that bytes that no request asked for are not taken for a response.
    ///
    /// # Errors
    ///
    /// Why not. Only [`NotReusable::Busy`] passes.
    pub fn reuse(&self) -> Result<(), NotReusable> {
        match (&self.reading, self.phase) {
            (Reading::Failed(_), _) => Err(NotReusable::Failed),
            (Reading::Upgraded, _) => Err(NotReusable::Upgraded),
            (Reading::Closed, _) => Err(self.last.unwrap_or(NotReusable::HungUp)),
            (Reading::Head { scan, .. }, Phase::Idle) if !scan.is_fresh() => Err(NotReusable::Unsolicited),
            (_, Phase::Idle) => Ok(()),
            (_, _) => Err(NotReusable::Busy),
        }
    }

    /// What is to become of the connection. Bytes of another protocol may be written only when it is
    /// [`Upgraded`](Disposition::Upgraded).
    pub fn disposition(&self) -> Disposition {
        match self.reading {
            Reading::Closed => Disposition::Finish,
            Reading::Upgraded => Disposition::Upgraded,
            Reading::Failed(_) => Disposition::Abort,
            _ => Disposition::Open,
        }
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let some = |deadline: Instant| (deadline != Instant::NEVER).then_some(deadline);
        earliest(some(self.deadline), some(self.continue_by))
    }

    /// Tells whether a deadline has passed. Afterwards no deadline is due.
    pub fn on_deadline(&mut self, now: Now) -> Option<ClientExpired> {
        let passed = |deadline: Instant| deadline <= now.instant && deadline != Instant::NEVER;
        if passed(self.deadline) {
            let failure = match self.phase {
                Phase::Idle => Failure::Unsolicited,
                _ => Failure::TimedOut(self.timer),
            };
            return Some(ClientExpired::Failed(self.fail(failure)));
        }
        if passed(self.continue_by) {
            self.content_is_due();
            return Some(ClientExpired::SendContent);
        }
        None
    }

    /// Between two exchanges nothing should come but the end. A server that gives up waiting may say so in a response
    /// that it owes to nobody.
    fn read_idle<'b>(&mut self, input: &mut Input<'b>, now: Now) -> Result<ClientEvent<'b>, Failure> {
        let event = self.read_head(input, now).map_err(|_| Failure::Unsolicited)?;
        let farewell = match event {
            ClientEvent::Response(head) => {
                let status = head.status();
                let gives_up =
                    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE);
                gives_up && head.facts().says_close
            }
            ClientEvent::NeedMore | ClientEvent::Closed => return Ok(event),
            _ => false,
        };
        if !farewell {
            return Err(Failure::Unsolicited);
        }
        self.close(NotReusable::ResponseSaidClose);
        Ok(ClientEvent::Closed)
    }

    fn read_head<'b>(&mut self, input: &mut Input<'b>, now: Now) -> Result<ClientEvent<'b>, Failure> {
        let Reading::Head { scan, empty_lines } = &mut self.reading else { return Ok(ClientEvent::NeedMore) };
        let idle = self.phase == Phase::Idle;
        let config = &*self.config;
        if scan.is_fresh() {
            // Some servers end a body with an empty line too much.
            let line = |bytes: &[u8]| match bytes {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] if config.lenient_lf => 1,
                _ => 0,
            };
            while line(input.bytes()) > 0 {
                if *empty_lines >= config.limits.leading_empty_lines {
                    return Err(Failure::Malformed(Fault::EmptyLines));
                }
                *empty_lines += 1;
                input.take(line(input.bytes()));
            }
            match input.bytes() {
                [] if input.hung_up() && idle => {
                    self.close(NotReusable::HungUp);
                    return Ok(ClientEvent::Closed);
                }
                [] | [b'\r'] if input.hung_up() => return Err(Failure::NoResponse),
                [] | [b'\r'] => return Ok(ClientEvent::NeedMore),
                [b'\r', ..] => return Err(Failure::Malformed(Fault::BareCr)),
                [b'\n', ..] => return Err(Failure::Malformed(Fault::BareLf)),
                [..] => {}
            }
            self.began = true;
            self.timer = ClientTimer::Head;
            self.deadline = now.instant + config.timeouts.head;
        }
        let head = response::decode(input, scan, self.asked, config).map_err(Failure::Malformed)?;
        match head {
            None if input.hung_up() => Err(Failure::TruncatedHead),
            None => Ok(ClientEvent::NeedMore),
            Some(head) if idle => Ok(ClientEvent::Response(head)),
            Some(head) => {
                let early = matches!(self.phase, Phase::Waiting | Phase::Sending);
                self.head_came(head.with_early(early), now)
            }
        }
    }

    /// A head is complete, and belongs to the request under way.
    fn head_came<'b>(&mut self, head: Response<'b>, now: Now) -> Result<ClientEvent<'b>, Failure> {
        let facts = *head.facts();
        self.peer = facts.version;
        if facts.body == ResponseBody::UntilClose {
            self.set_last(NotReusable::CloseDelimited);
        } else if facts.says_close {
            self.set_last(NotReusable::ResponseSaidClose);
        } else if !facts.persistent {
            self.set_last(NotReusable::Http10);
        }
        if facts.code == 101 {
            let expected = self.phase == Phase::Sent
                && self.offered.as_deref().is_some_and(|offered| head.accepts_upgrade(offered));
            return if expected { Ok(self.upgraded(head)) } else { Err(Failure::UnexpectedUpgrade) };
        }
        if facts.code < 200 {
            if self.interim >= self.config.interim_responses {
                return Err(Failure::TooManyInterim);
            }
            self.interim += 1;
            self.reading = Reading::HEAD;
            if facts.code == 100 {
                self.content_is_due();
            }
            self.await_response(now);
            return Ok(ClientEvent::Informational(head));
        }
        if facts.tunnel {
            return Ok(self.upgraded(head));
        }
        // RFC 9110 section 10.1.1: instead of 100, and RFC 9112 section 9.5: in the middle of the content.
        let refused = facts.says_close && !head.status().is_success();
        if self.phase == Phase::Waiting || self.phase == Phase::Sending && refused {
            self.abandoned();
        }
        if facts.faulty_length {
            self.set_last(NotReusable::FaultyLength);
        }
        match facts.body {
            ResponseBody::None | ResponseBody::Length(0) => self.response_ended(true),
            ResponseBody::Length(want) => self.reading = Reading::Length { left: want, want },
            ResponseBody::Chunked => self.reading = Reading::Chunked(Decoder::new()),
            ResponseBody::UntilClose => self.reading = Reading::UntilClose { got: 0 },
        }
        if !matches!(self.reading, Reading::Ended { .. }) {
            self.await_body(now);
        }
        Ok(ClientEvent::Response(head))
    }

    fn read_body<'b>(&mut self, input: &mut Input<'b>, now: Now) -> Result<ClientEvent<'b>, Failure> {
        let before = input.consumed();
        let most = self.config.limits.body_bytes;
        let data = |data: &'b mut [u8]| if data.is_empty() { Chunk::NeedMore } else { Chunk::Data(data) };
        let chunk = match &mut self.reading {
            Reading::Length { left, .. } => {
                let bytes = input.take(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= bytes.len() as u64;
                data(bytes)
            }
            Reading::UntilClose { got } => {
                if *got >= most && !input.is_empty() {
                    return Err(Failure::Malformed(Fault::BodyTooLarge));
                }
                let bytes = input.take(usize::try_from(most - *got).unwrap_or(usize::MAX));
                *got += bytes.len() as u64;
                data(bytes)
            }
            Reading::Chunked(decoder) => decoder
                .decode_with(input, &self.config.limits, self.config.tolerance())
                .map_err(Failure::Malformed)?,
            _ => Chunk::End,
        };
        if input.consumed() > before {
            self.await_body(now);
        }
        match chunk {
            Chunk::Data(data) => {
                if let Reading::Length { left: 0, .. } = self.reading {
                    self.response_ended(true);
                }
                Ok(ClientEvent::Data(data))
            }
            Chunk::Trailers(fields) => {
                self.response_ended(true);
                Ok(ClientEvent::Trailers(fields))
            }
            Chunk::End => Ok(self.ended(true)),
            Chunk::NeedMore if !input.hung_up() => Ok(ClientEvent::NeedMore),
            Chunk::NeedMore => match &self.reading {
                Reading::Length { left, want } => {
                    Err(Failure::TruncatedLength { got: want - left, want: *want })
                }
                Reading::UntilClose { .. } => Ok(self.ended(false)),
                Reading::Chunked(decoder)
                    if self.config.missing_final_crlf && decoder.lacks_last_line() && input.is_empty() =>
                {
                    Ok(self.ended(true))
                }
                _ => Err(Failure::TruncatedChunks),
            },
        }
    }

    /// The response is told, and the request is still being sent. An empty line too much stays until that is over.
    fn read_behind<'b>(&mut self, input: &Input<'_>) -> Result<ClientEvent<'b>, Failure> {
        match input.bytes() {
            [] | [b'\r'] | [b'\r', b'\n'] if input.hung_up() => {
                self.abandoned();
                self.close(NotReusable::HungUp);
                Ok(ClientEvent::Closed)
            }
            [] | [b'\r'] | [b'\r', b'\n'] => Ok(ClientEvent::NeedMore),
            [..] => Err(Failure::Unsolicited),
        }
    }

    /// The request, or the content that it promised, is not sent to its end.
    fn abandoned(&mut self) {
        self.phase = Phase::Abandoned;
        self.continue_by = Instant::NEVER;
        self.set_last(NotReusable::RequestUnfinished);
    }

    /// Content need not wait any more.
    fn content_is_due(&mut self) {
        self.continue_by = Instant::NEVER;
        if self.phase == Phase::Waiting {
            self.phase = Phase::Sending;
        }
    }

    /// The response is complete, and that is told at once.
    fn ended(&mut self, verified: bool) -> ClientEvent<'static> {
        self.response_ended(verified);
        self.tell_end();
        ClientEvent::EndOfResponse { verified }
    }

    fn response_ended(&mut self, verified: bool) {
        self.reading = Reading::Ended { verified };
        self.deadline = Instant::NEVER;
    }

    fn tell_end(&mut self) {
        self.reading = Reading::Told;
        if matches!(self.phase, Phase::Sent | Phase::Abandoned) {
            self.exchange_over();
        }
    }

    /// Request and response are over.
    fn exchange_over(&mut self) {
        if let Some(reason) = self.last {
            self.close(reason);
        } else {
            self.phase = Phase::Idle;
            self.asked = Asked::default();
            self.reading = Reading::HEAD;
            self.deadline = Instant::NEVER;
        }
    }

    /// From here on the connection is another protocol's.
    fn upgraded<'b>(&mut self, head: Response<'b>) -> ClientEvent<'b> {
        self.over(Reading::Upgraded);
        ClientEvent::Upgraded(head)
    }

    /// Nothing is read or sent any more.
    fn close(&mut self, why: NotReusable) {
        self.set_last(why);
        self.over(Reading::Closed);
    }

    fn fail(&mut self, failure: Failure) -> ClientError {
        self.over(Reading::Failed(failure));
        self.error(failure)
    }

    fn over(&mut self, reading: Reading) {
        self.reading = reading;
        self.deadline = Instant::NEVER;
        self.continue_by = Instant::NEVER;
        self.offered = None;
    }

    /// Whether no exchange will be gone on with.
    fn is_over(&self) -> bool {
        matches!(self.reading, Reading::Closed | Reading::Upgraded | Reading::Failed(_))
    }

    fn error(&self, failure: Failure) -> ClientError {
        ClientError { failure, request_sent: self.phase == Phase::Sent, response_began: self.began }
    }

    fn set_last(&mut self, reason: NotReusable) {
        self.last = self.last.or(Some(reason));
    }

    /// A new exchange begins.
    fn begin(&mut self, asked: Asked, offered: Option<&str>, waits: bool, now: Now) {
        self.sequence = self.sequence.wrapping_add(1);
        self.asked = asked;
        self.offered = offered.map(Box::from);
        self.interim = 0;
        self.began = false;
        self.phase = if waits { Phase::Waiting } else { Phase::Sending };
        if waits {
            self.continue_by = now.instant + self.config.timeouts.expect_continue;
        }
    }

    /// The request was put to its end, or no more of it will be. From here on the server's time runs.
    fn request_over(&mut self, now: Now) {
        if let Reading::Told = self.reading {
            self.exchange_over();
        } else if matches!(&self.reading, Reading::Head { scan, .. } if scan.is_fresh()) {
            self.await_response(now);
        }
    }

    fn await_response(&mut self, now: Now) {
        self.timer = ClientTimer::FirstByte;
        let waits = matches!(self.phase, Phase::Sent | Phase::Abandoned);
        self.deadline = deadline(self.config.timeouts.first_byte.filter(|_| waits), now);
    }

    fn await_body(&mut self, now: Now) {
        self.timer = ClientTimer::Body;
        self.deadline = deadline(self.config.timeouts.body_idle, now);
    }
}

impl Reading {
    /// Before a head.
    const HEAD: Self = Self::Head { scan: Scan::response(), empty_lines: 0 };
}

fn deadline(after: Option<Duration>, now: Now) -> Instant {
    after.map_or(Instant::NEVER, |after| now.instant + after)
}
