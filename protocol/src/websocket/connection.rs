//! The machine: what it remembers, and how it receives.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::close::{Close, CloseCode};
use super::config::Config;
use super::deflate::{Agreed, Parameters, States};
use super::error::RecvError;
use super::frame::{self, CONTROL_BYTES, Head, Opcode};
use super::keys::MaskingKeys;
use super::payload::Payload;
use super::utf8::Utf8;
use super::{MessageKind, Role, mask};
use crate::input::Input;
use crate::output::Sink;
use crate::time::{Instant, Now};

/// How many pings between two readings of all input are answered each. Only the newest of those beyond is.
const PONGS_AT_ONCE: u8 = 16;

/// How many compressed bytes a message may have on top of twice the limit of what they inflate to.
const DEFLATED_SLACK: u64 = 1024;

/// One WebSocket connection after its handshake, in either [`Role`]. See the [module](super) for the states.
///
/// It is small (64 bytes), holds no payload, and allocates only for what is rare: a flood of pings, an idle timeout, a text
/// that is sent in parts.
#[derive(Debug)]
pub struct Connection {
    pub(super) config: Arc<Config>,
    /// Payload of the data frame under way that has not arrived yet.
    pub(super) frame_left: u64,
    /// What the message under way may still bring. It is the whole limit until the first byte of the message is given out.
    pub(super) message_left: u64,
    /// When the phase began, or in [`Phase::Open`] when the peer was last heard: what every deadline but idleness runs from.
    pub(super) since: Instant,
    pub(super) keys: MaskingKeys,
    pub(super) rare: Option<Box<Rare>>,
    /// The masking key of the frame under way, turned so that its first byte is for the next byte of payload.
    pub(super) key: [u8; 4],
    pub(super) text: Utf8,
    pub(super) empty_fragments: u8,
    /// Pings answered since all input was last read.
    pongs: u8,
    pub(super) jitter: u8,
    pub(super) role: Role,
    pub(super) phase: Phase,
    /// The message that is being received.
    pub(super) receiving: Option<UnderWay>,
    /// Whether that message ends with the frame under way.
    pub(super) fin: bool,
    /// The message that is being sent in parts.
    pub(super) sending: Option<UnderWay>,
    /// What was agreed to about compression.
    pub(super) deflate: Option<Parameters>,
}

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Open, and a ping was sent since the peer was last heard.
    PingSent,
    /// Our Close frame was sent; the peer's is waited for.
    Closing,
    /// Both Close frames went; a client waits for the server to end the stream (RFC 6455 section 7.1.1).
    Lingering,
    Closed,
    Failed(RecvError),
}

/// A message of which more is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnderWay {
    Text,
    Binary,
    DeflatedText,
    DeflatedBinary,
}

impl UnderWay {
    pub(super) const fn new(kind: MessageKind, deflated: bool) -> Self {
        match (kind, deflated) {
            (MessageKind::Text, false) => Self::Text,
            (MessageKind::Binary, false) => Self::Binary,
            (MessageKind::Text, true) => Self::DeflatedText,
            (MessageKind::Binary, true) => Self::DeflatedBinary,
        }
    }

    pub(super) const fn kind(self) -> MessageKind {
        match self {
            Self::Text | Self::DeflatedText => MessageKind::Text,
            Self::Binary | Self::DeflatedBinary => MessageKind::Binary,
        }
    }

    pub(super) const fn is_deflated(self) -> bool {
        matches!(self, Self::DeflatedText | Self::DeflatedBinary)
    }
}

/// State that few connections need.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// The payload of the newest ping that is not answered.
    owed: Option<Box<Owed>>,
    /// When the last part of a message came; kept if there is an idle timeout.
    pub(super) last_data: Instant,
    /// The text that is being sent in parts.
    pub(super) sent_text: Utf8,
    /// What inflates and compresses: between messages with context takeover, otherwise inside a message.
    pub(super) states: States,
}

#[derive(Debug)]
struct Owed {
    bytes: [u8; CONTROL_BYTES],
    len: u8,
}

/// What [`Connection::recv`] found. What it borrows is the input's, not the connection's.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// Nothing more can be told from what is there: offer the rest again with what follows it. Once the peer
    /// [hung up](Input::hung_up) this comes only after [`Event::Closed`].
    NeedMore,
    /// A part of a message, unmasked in place. Parts are cut where frames and reads are cut, and every 16 KiB of what was
    /// compressed; text is valid UTF-8 as far as it came, though a part may end inside a code point.
    Data {
        /// The same for all parts of a message.
        kind: MessageKind,
        /// The part; empty only if the message is, if it ended with an empty frame, or if it was compressed and what came
        /// before filled a buffer.
        bytes: Payload<'b>,
        /// Whether the message begins with this part.
        first: bool,
        /// Whether the message ends with this part. Only now is the text known to be whole.
        last: bool,
    },
    /// A ping's payload. The pong is in the output, or will be once all input is read.
    Ping(&'b [u8]),
    /// A pong's payload, asked for or not.
    Pong(&'b [u8]),
    /// The closing is done: the reply is in the output if one was due. Comes once. A server writes the output and closes; a
    /// client waits until the server does, or until [`Connection::on_deadline`] says that it took too long.
    Closed(Close<'b>),
}

impl Connection {
    /// A connection whose handshake is done: its first frame comes next.
    ///
    /// `seed` is entropy for a client's masking keys and for the spread of timers. A client's must not be predictable for
    /// whoever chooses what is sent, or for the server (RFC 6455 sections 5.3 and 10.3): take it from the system's random source,
    /// anew for each connection. The keys that were seen do not tell those that follow; a seed that can be guessed tells all.
    /// A server's only spreads its pings: any number will do.
    pub fn new(role: Role, config: Arc<Config>, seed: u64, now: Now) -> Self {
        let mut keys = MaskingKeys::new(seed);
        let [jitter, ..] = keys.next_key();
        let rare = config.idle_timeout.map(|_| Box::new(Rare { last_data: now.instant, ..Rare::default() }));
        Self {
            frame_left: 0,
            message_left: config.message_bytes,
            config,
            since: now.instant,
            keys,
            rare,
            key: [0; 4],
            text: Utf8::default(),
            empty_fragments: 0,
            pongs: 0,
            jitter,
            role,
            phase: Phase::Open,
            receiving: None,
            fin: false,
            sending: None,
            deflate: None,
        }
    }

    /// The same connection, whose handshake agreed to compress. The [`Config`] must have the
    /// [`compression`](Config::compression) that agreed; with another one, what is compressed is refused.
    #[must_use]
    pub fn with_deflate(mut self, agreed: Agreed) -> Self {
        self.set_deflate(agreed);
        self
    }

    /// What was agreed to about compression, if it was.
    pub fn deflate(&self) -> Option<Parameters> {
        self.deflate
    }

    /// Takes one event's worth of bytes from the input. Call it until it says [`Event::NeedMore`], [`Event::Closed`] or an
    /// error; it may be left off between two events (say, when the output is full) and taken up later.
    ///
    /// Data is given as it arrives. A control frame, at most 125 bytes and a head, is taken when it is whole. After
    /// [`Event::Closed`] and after an error everything is swallowed.
    ///
    /// # Errors
    ///
    /// Malformed input, or more than the limits allow. The Close frame that says so was put, unless one was sent before;
    /// every later call returns the same error.
    #[inline]
    pub fn recv<'b>(
        &mut self,
        input: &mut Input<'b>,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Event<'b>, RecvError> {
        let event = match self.phase {
            Phase::Failed(error) => Err(error),
            Phase::Lingering | Phase::Closed => {
                if input.hung_up() {
                    self.phase = Phase::Closed;
                }
                input.take(usize::MAX);
                return Ok(Event::NeedMore);
            }
            Phase::Open | Phase::PingSent | Phase::Closing => self.next_event(input, out, now),
        };
        if let Err(error) = event {
            input.take(usize::MAX);
            self.fail(error, out);
        }
        event
    }

    /// Whether a Close frame was sent or received, or the connection failed: no message can be sent any more.
    #[inline]
    pub fn is_closing(&self) -> bool {
        !matches!(self.phase, Phase::Open | Phase::PingSent)
    }

    /// Whether nothing more will come out of the connection: it was closed, failed or was given up.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Lingering | Phase::Closed | Phase::Failed(_))
    }

    #[inline]
    fn next_event<'b>(
        &mut self,
        input: &mut Input<'b>,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Event<'b>, RecvError> {
        if let Some(event) = self.next_inflated(input, now)? {
            return Ok(event);
        }
        while self.frame_left == 0 {
            let head = match self.deflate {
                None => frame::decode(input.bytes(), self.role)?,
                Some(_) => frame::decode_extended(input.bytes(), self.role)?,
            };
            let Some((head, size)) = head else {
                return Ok(self.out_of_input(input, out));
            };
            if head.opcode.is_control() {
                let len = head.len as usize;
                if input.len() - size < len {
                    return Ok(self.out_of_input(input, out));
                }
                input.take(size);
                let payload = input.take(len);
                mask::apply(head.mask.unwrap_or_default(), 0, payload);
                self.heard(now);
                return self.control(head.opcode, payload, out, now);
            }
            let message = self.begin(&head)?;
            input.take(size);
            if head.len == 0 || input.is_empty() {
                self.heard_data(now); // else when its payload is taken
            }
            if let Some(event) = self.next_inflated(input, now)? {
                return Ok(event);
            }
            if head.len == 0 && head.fin {
                return self.part(message.kind(), input.take(0));
            }
        }
        let Some(message) = self.receiving.filter(|_| !input.is_empty()) else {
            return Ok(self.out_of_input(input, out));
        };
        let bytes = input.take(usize::try_from(self.frame_left).unwrap_or(usize::MAX));
        self.heard_data(now);
        if self.role == Role::Server {
            mask::apply(self.key, 0, bytes);
            self.key.rotate_left(bytes.len() % 4);
        }
        self.part(message.kind(), bytes)
    }

    /// A data frame's head: may it stand here, and is there room for it?
    #[inline]
    fn begin(&mut self, head: &Head) -> Result<UnderWay, RecvError> {
        let message = match (head.opcode, self.receiving) {
            (Opcode::Continuation, Some(message)) => message,
            (Opcode::Continuation, None) => return Err(RecvError::NothingToContinue),
            (_, Some(_)) => return Err(RecvError::MessageUnfinished),
            (Opcode::Text, None) => UnderWay::new(MessageKind::Text, head.rsv1),
            (_, None) => UnderWay::new(MessageKind::Binary, head.rsv1),
        };
        let room = if message.is_deflated() { self.deflated_left() } else { self.message_left };
        if head.len > room {
            return Err(RecvError::MessageTooLarge);
        }
        if head.len == 0 && !head.fin {
            if self.empty_fragments >= self.config.empty_fragments {
                return Err(RecvError::TooManyEmptyFragments);
            }
            self.empty_fragments += 1;
        }
        self.receiving = Some(message);
        self.fin = head.fin;
        self.frame_left = head.len;
        self.key = head.mask.unwrap_or_default();
        Ok(message)
    }

    /// How many compressed bytes the message under way may still bring. They are bounded by themselves, as endless ones can
    /// inflate to nothing; no compressor that means well makes twice of what there was.
    fn deflated_left(&self) -> u64 {
        let limit = self.config.message_bytes.saturating_mul(2).saturating_add(DEFLATED_SLACK);
        limit.saturating_sub(self.rare.as_ref().map_or(0, |rare| rare.states.taken()))
    }

    /// The next bytes of the message, unmasked.
    #[inline]
    fn part<'b>(&mut self, kind: MessageKind, bytes: &'b mut [u8]) -> Result<Event<'b>, RecvError> {
        self.frame_left -= bytes.len() as u64;
        let first = self.admit(kind, bytes)?;
        self.give(kind, bytes.into(), first, self.fin && self.frame_left == 0)
    }

    /// Counts and checks the next bytes of the message. Returns whether they are its first.
    pub(super) fn admit(&mut self, kind: MessageKind, bytes: &[u8]) -> Result<bool, RecvError> {
        let first = self.message_left == self.config.message_bytes;
        self.message_left =
            self.message_left.checked_sub(bytes.len() as u64).ok_or(RecvError::MessageTooLarge)?;
        if kind == MessageKind::Text {
            self.text.push(bytes).map_err(|_| RecvError::InvalidText)?;
        }
        Ok(first)
    }

    /// Gives bytes that were admitted.
    pub(super) fn give<'b>(
        &mut self,
        kind: MessageKind,
        bytes: Payload<'b>,
        first: bool,
        last: bool,
    ) -> Result<Event<'b>, RecvError> {
        if last {
            self.text.finish().map_err(|_| RecvError::InvalidText)?;
            self.receiving = None;
            self.message_left = self.config.message_bytes;
            self.empty_fragments = 0;
        }
        Ok(Event::Data { kind, bytes, first, last })
    }

    fn control<'b>(
        &mut self,
        opcode: Opcode,
        payload: &'b [u8],
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Event<'b>, RecvError> {
        match opcode {
            Opcode::Ping => {
                self.pong(payload, out);
                Ok(Event::Ping(payload))
            }
            Opcode::Close => self.closed(payload, out, now).map(Event::Closed),
            _ => Ok(Event::Pong(payload)),
        }
    }

    /// Answers a ping (RFC 6455 section 5.5.3 lets the newest stand for all). Each of the first few gets its own pong, in
    /// its place among the answers to what came with it. A flood gets one when the input is read: it is
    /// not turned into a flood of ours.
    fn pong(&mut self, payload: &[u8], out: &mut impl Sink) {
        if self.pongs < PONGS_AT_ONCE {
            self.pongs += 1;
            self.put_control(Opcode::Pong, payload, out);
        } else {
            let owed = Owed::new(payload);
            match &mut self.rare.get_or_insert_default().owed {
                Some(older) => **older = owed,
                none => *none = Some(Box::new(owed)),
            }
        }
    }

    fn put_owed_pong(&mut self, out: &mut impl Sink) {
        if let Some(owed) = self.rare.as_mut().and_then(|rare| rare.owed.take()) {
            self.put_control(Opcode::Pong, owed.as_slice(), out);
        }
    }

    /// The peer's Close frame (RFC 6455 section 5.5.1): it is answered with its own code, unless it is the answer.
    fn closed<'b>(
        &mut self,
        payload: &'b [u8],
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Close<'b>, RecvError> {
        let close = match payload {
            [] => Close { code: None, reason: "", clean: true },
            [_] => return Err(RecvError::CloseTooShort),
            [high, low, reason @ ..] => {
                let code = CloseCode::new(u16::from_be_bytes([*high, *low]));
                let code = Some(code.ok_or(RecvError::InvalidCloseCode)?);
                let reason = core::str::from_utf8(reason).map_err(|_| RecvError::InvalidCloseReason)?;
                Close { code, reason, clean: true }
            }
        };
        self.put_owed_pong(out);
        self.drop_states();
        if self.phase != Phase::Closing {
            self.put_close(close.code, "", out);
        }
        self.phase = match self.role {
            Role::Server => Phase::Closed,
            Role::Client => Phase::Lingering,
        };
        self.since = now.instant;
        Ok(close)
    }

    /// All that can be told of the input was told: now a pong that was put off is due, and the end of the stream counts.
    fn out_of_input<'b>(&mut self, input: &mut Input<'b>, out: &mut impl Sink) -> Event<'b> {
        self.pongs = 0;
        self.put_owed_pong(out);
        if !input.hung_up() {
            return Event::NeedMore;
        }
        input.take(usize::MAX);
        self.phase = Phase::Closed;
        self.drop_states();
        Event::Closed(Close::ABNORMAL)
    }

    fn fail(&mut self, error: RecvError, out: &mut impl Sink) {
        match self.phase {
            Phase::Open | Phase::PingSent => {
                self.put_owed_pong(out);
                self.put_close(Some(error.code()), error.reason(), out);
            }
            Phase::Closing | Phase::Lingering | Phase::Closed | Phase::Failed(_) => {}
        }
        self.phase = Phase::Failed(error);
        self.drop_states();
    }

    /// No message will be received or sent any more.
    pub(super) fn drop_states(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.states = States::default();
        }
    }

    /// A sign of life came.
    #[inline]
    fn heard(&mut self, now: Now) {
        if !self.is_closing() {
            self.phase = Phase::Open;
            self.since = now.instant;
        }
    }

    #[inline]
    pub(super) fn heard_data(&mut self, now: Now) {
        self.heard(now);
        if let Some(rare) = &mut self.rare {
            rare.last_data = now.instant;
        }
    }
}

impl Owed {
    /// Keeps at most [`CONTROL_BYTES`]; a ping has no more.
    fn new(payload: &[u8]) -> Self {
        let mut kept = Self { bytes: [0; CONTROL_BYTES], len: 0 };
        for (to, from) in kept.bytes.iter_mut().zip(payload) {
            *to = *from;
            kept.len += 1;
        }
        kept
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod size {
    use super::Connection;

    #[test]
    fn a_connection_takes_64_bytes() {
        assert_eq!(size_of::<Connection>(), 64);
    }

    #[test]
    fn what_few_connections_need_takes_little_more() {
        assert_eq!(size_of::<super::Rare>(), if cfg!(feature = "deflate") { 56 } else { 24 });
    }
}
