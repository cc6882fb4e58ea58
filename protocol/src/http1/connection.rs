//! The machine of one connection, in the server's role.
//!
//! What is read and what is answered go their own ways between the head of a request and the end of both. All states of
//! the two together, and the theory, are in `states.rs`. This is printed from it, and a test holds the machine to each line:
//!
#![doc = include_str!("states.md")]

mod answer;
#[cfg(test)]
mod drive;

use alloc::sync::Arc;
use answer::put_fault;
use core::mem;
use core::time::Duration;

use super::chunked::{Chunk, Decoder};
use super::config::Config;
use super::encode::ConnectionField;
use super::error::{Fault, RecvError};
use super::exchange::{Disposition, Event, Exchange, Expired, Timer};
use super::head::{HeadDecoder, RequestBody, Version};
use crate::input::Input;
use crate::output::Sink;
use crate::time::{Instant, Now};

/// One connection of a server. It holds no bytes: they stay with the caller, before and after.
///
/// It is made to sit in an array for as long as the connection lives: it has no lifetime, and what may be done when is
/// in the tokens that it gives.
#[derive(Debug)]
pub struct ServerConnection {
    config: Arc<Config>,
    deadline: Instant,
    reading: Reading,
    /// Names the current exchange.
    sequence: u32,
    phase: Phase,
    timer: Timer,
    /// The caller wants no further request.
    closing: bool,
    request: Request,
}

/// What has to be known of the current request when it is answered.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    http10: bool,
    is_head: bool,
    is_connect: bool,
    /// Both sides let the connection go on, so far.
    persistent: bool,
    /// It was said to go on with the body, or the body began to come.
    continued: bool,
    expects_continue: bool,
    websocket: bool,
    hang_up_told: bool,
}

#[derive(Debug)]
enum Reading {
    Head { decoder: HeadDecoder, empty_lines: u8 },
    Length { left: u64, rate: Instant },
    Chunked { decoder: Decoder, rate: Instant },
    Ended,
    Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Open,
    Sending,
    Answered,
    Over,
    Upgraded,
    Failed { fault: Fault, answered: bool },
}

impl ServerConnection {
    /// A connection that was just accepted.
    pub fn new(config: Arc<Config>, now: Now) -> Self {
        let deadline = now.instant + config.timeouts.first_byte;
        Self {
            config,
            deadline,
            reading: Reading::Head { decoder: HeadDecoder::new(), empty_lines: 0 },
            sequence: 0,
            phase: Phase::Idle,
            timer: Timer::FirstByte,
            closing: false,
            request: Request::default(),
        }
    }

    /// Takes the next event from the input. Call it until it says `NeedMore`, `Paused` or `Closed`.
    ///
    /// Bodies are taken as they come. A head, and a trailer section, is taken when it is whole: until then the caller
    /// keeps it, and has room for [`head_bytes`](super::Limits::head_bytes). What is not taken has to be offered again,
    /// in front of what follows. The deadlines of heads and bodies run on while the caller holds input back.
    ///
    /// # Errors
    ///
    /// The peer broke a rule. The answer is in `out` if one could be given; see [`RecvError`].
    pub fn recv<'b>(
        &mut self,
        input: &mut Input<'b>,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Event<'b>, RecvError> {
        match self.phase {
            Phase::Over => return Ok(Event::Closed),
            Phase::Upgraded => return Ok(Event::Paused),
            Phase::Failed { fault, answered } => return Err(RecvError::new(fault, answered)),
            Phase::Idle | Phase::Open | Phase::Sending | Phase::Answered => {}
        }
        let read = match self.reading {
            Reading::Head { .. } => self.read_head(input, out, now),
            Reading::Length { .. } | Reading::Chunked { .. } => self.read_body(input, now),
            Reading::Ended => {
                self.reading = Reading::Told;
                if self.phase == Phase::Answered {
                    self.next_request(now);
                }
                Ok(Event::EndOfRequest)
            }
            Reading::Told => Ok(self.paused(input)),
        };
        read.map_err(|fault| {
            let is_head = match self.phase {
                Phase::Idle => input.bytes().starts_with(b"HEAD "),
                _ => self.request.is_head,
            };
            self.fail(fault, is_head, out, now)
        })
    }

    /// Makes the current response, or the next if its head was sent already, the last. An [idle](Self::is_idle)
    /// connection can be closed at once; when it is given no bytes, [`recv`](Self::recv) says so.
    pub fn close_after_this(&mut self) {
        self.closing = true;
    }

    /// Whether no request is under way, not even a part of its head.
    pub fn is_idle(&self) -> bool {
        match (self.phase, &self.reading) {
            (Phase::Idle, Reading::Head { decoder, .. }) => decoder.is_fresh(),
            (phase, _) => phase == Phase::Answered,
        }
    }

    /// Whether nothing more will be read or sent: see [`disposition`](Self::disposition).
    pub fn wants_close(&self) -> bool {
        matches!(self.disposition(), Disposition::Finish | Disposition::Abort)
    }

    /// What is to become of the connection.
    pub fn disposition(&self) -> Disposition {
        match self.phase {
            Phase::Idle | Phase::Open | Phase::Sending | Phase::Answered => Disposition::Open,
            Phase::Over | Phase::Failed { answered: true, .. } => Disposition::Finish,
            Phase::Failed { answered: false, .. } => Disposition::Abort,
            Phase::Upgraded => Disposition::Upgraded,
        }
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        (self.deadline != Instant::NEVER).then_some(self.deadline)
    }

    /// Tells whether a deadline has passed, and puts the answer that is due then. Afterwards no deadline is due.
    pub fn on_deadline(&mut self, out: &mut impl Sink, now: Now) -> Option<Expired> {
        if self.deadline > now.instant || self.deadline == Instant::NEVER {
            return None;
        }
        let timer = self.timer;
        let fault = match timer {
            Timer::FirstByte | Timer::KeepAlive => {
                self.end(Phase::Over);
                return Some(Expired { timer, then: Disposition::Finish, answered: false });
            }
            Timer::Head => Fault::HeadTimeout,
            Timer::Body => Fault::BodyTimeout,
            Timer::Handler => Fault::Handler,
        };
        let is_head = self.phase != Phase::Idle && self.request.is_head;
        let answered = self.fail(fault, is_head, out, now).answered;
        Some(Expired { timer, then: self.disposition(), answered })
    }

    fn read_head<'b>(
        &mut self,
        input: &mut Input<'b>,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Event<'b>, Fault> {
        let Reading::Head { decoder, empty_lines } = &mut self.reading else { return Ok(Event::NeedMore) };
        let Config { limits, timeouts } = &*self.config;
        if decoder.is_fresh() {
            // They start no head, and so extend no deadline.
            while let [b'\r', b'\n', ..] = input.bytes() {
                if *empty_lines >= limits.leading_empty_lines {
                    return Err(Fault::EmptyLines);
                }
                *empty_lines += 1;
                input.take(2);
            }
            match input.bytes() {
                [] if input.hung_up() || self.closing => {
                    self.end(Phase::Over);
                    return Ok(Event::Closed);
                }
                [] => return Ok(Event::NeedMore),
                [b'\r'] if input.hung_up() => return Err(Fault::Incomplete),
                [b'\r'] => return Ok(Event::NeedMore),
                [b'\r', ..] => return Err(Fault::BareCr),
                [b'\n', ..] => return Err(Fault::BareLf),
                [..] => {}
            }
            if self.timer != Timer::Head {
                self.timer = Timer::Head;
                self.deadline = now.instant + timeouts.head;
            }
        }
        let Some(head) = decoder.decode_any(input, limits)? else {
            return if input.hung_up() { Err(Fault::Incomplete) } else { Ok(Event::NeedMore) };
        };
        let facts = head.facts();
        self.request = Request {
            http10: facts.version == Version::Http10,
            is_head: head.method() == "HEAD",
            is_connect: head.method() == "CONNECT",
            persistent: facts.persistent,
            continued: false,
            expects_continue: facts.expects_continue,
            websocket: facts.websocket,
            hang_up_told: false,
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.phase = Phase::Open;
        if facts.expects_other {
            return self.refuse(Fault::Expectation, facts.body, out, now);
        }
        let rate = if timeouts.body_rate == 0 { Instant::NEVER } else { now.instant + timeouts.body_grace };
        let body_by = rate.min(now.instant + timeouts.body_idle);
        match facts.body {
            RequestBody::None | RequestBody::Length(0) => self.request_ended(now),
            RequestBody::Length(left) => self.reading = Reading::Length { left, rate },
            RequestBody::Chunked => self.reading = Reading::Chunked { decoder: Decoder::new(), rate },
        }
        if !self.is_read() {
            self.timer = Timer::Body;
            self.deadline = body_by;
        }
        Ok(Event::Request(head, Exchange { sequence: self.sequence }))
    }

    /// Answers a request that was understood. The connection goes on if no content was announced: nobody can tell whether
    /// that still comes, and what came of it already depends on how the bytes were split.
    fn refuse<'b>(
        &mut self,
        fault: Fault,
        body: RequestBody,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Event<'b>, Fault> {
        let without_content = matches!(body, RequestBody::None | RequestBody::Length(0));
        if !without_content || !self.request.persistent || self.closing {
            return Err(fault);
        }
        put_fault(fault, self.request.is_head, ConnectionField::default(), out, now);
        self.next_request(now);
        Ok(Event::Refused(fault))
    }

    fn read_body<'b>(&mut self, input: &mut Input<'b>, now: Now) -> Result<Event<'b>, Fault> {
        let before = input.consumed();
        let chunk = match &mut self.reading {
            Reading::Length { left, .. } => {
                let data = input.take(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                match (data.is_empty(), *left) {
                    (true, 0) => Chunk::End,
                    (true, _) => Chunk::NeedMore,
                    (false, _) => Chunk::Data(data),
                }
            }
            Reading::Chunked { decoder, .. } => decoder.decode(input, &self.config.limits)?,
            Reading::Head { .. } | Reading::Ended | Reading::Told => Chunk::End,
        };
        let taken = input.consumed() - before;
        if taken > 0 {
            self.body_came(taken, now);
        }
        match chunk {
            Chunk::Data(data) => {
                if let Reading::Length { left: 0, .. } = self.reading {
                    self.request_ended(now);
                }
                Ok(Event::Data(data))
            }
            Chunk::Trailers(fields) => {
                self.request_ended(now);
                Ok(Event::Trailers(fields))
            }
            Chunk::End => {
                self.request_ended(now);
                self.reading = Reading::Told;
                Ok(Event::EndOfRequest)
            }
            Chunk::NeedMore if !input.hung_up() => Ok(Event::NeedMore),
            // The answer that is under way said that it is the last, and the peer may want it.
            Chunk::NeedMore if self.phase == Phase::Sending => {
                self.deadline = Instant::NEVER;
                Ok(self.paused(input))
            }
            Chunk::NeedMore => Err(Fault::Incomplete),
        }
    }

    /// Bytes of a body came: the deadline moves.
    fn body_came(&mut self, bytes: usize, now: Now) {
        self.request.continued = true;
        let timeouts = &self.config.timeouts;
        let idle = now.instant + timeouts.body_idle;
        if let Reading::Length { rate, .. } | Reading::Chunked { rate, .. } = &mut self.reading {
            if *rate != Instant::NEVER {
                let nanos =
                    (bytes as u64).saturating_mul(1_000_000_000) / u64::from(timeouts.body_rate.max(1));
                *rate = *rate + Duration::from_nanos(nanos);
            }
            self.deadline = idle.min(*rate);
        }
    }

    /// The request is complete, and its end not told yet. From here on the handler's time runs.
    fn request_ended(&mut self, now: Now) {
        self.reading = Reading::Ended;
        self.timer = Timer::Handler;
        self.deadline = match self.config.timeouts.handler {
            Some(handler) if self.phase == Phase::Open => now.instant + handler,
            _ => Instant::NEVER,
        };
    }

    /// An exchange is open: nothing is read.
    fn paused(&mut self, input: &Input<'_>) -> Event<'static> {
        if input.hung_up() && !mem::replace(&mut self.request.hang_up_told, true) {
            Event::HungUp
        } else {
            Event::Paused
        }
    }

    /// Whether the request came to its end.
    fn is_read(&self) -> bool {
        matches!(self.reading, Reading::Ended | Reading::Told)
    }

    /// The exchange is over and the connection goes on.
    fn next_request(&mut self, now: Now) {
        self.phase = Phase::Idle;
        self.reading = Reading::Head { decoder: HeadDecoder::new(), empty_lines: 0 };
        self.wait_for_request(now);
    }

    fn wait_for_request(&mut self, now: Now) {
        self.timer = Timer::KeepAlive;
        self.deadline = now.instant + self.config.timeouts.keep_alive;
    }

    /// Nothing is read or sent any more.
    fn end(&mut self, phase: Phase) {
        self.phase = phase;
        self.deadline = Instant::NEVER;
    }
}
