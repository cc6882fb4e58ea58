//! How the machine sends.

use super::close::CloseCode;
use super::connection::{Connection, Phase, UnderWay};
use super::error::SendError;
use super::frame::{CONTROL_BYTES, FrameHead, HEAD_BYTES, Opcode};
use super::{MessageKind, Role, mask};
use crate::output::Sink;
use crate::time::Now;

impl Connection {
    /// Sends one message, compressed where that was agreed to and gains something; in one frame, unless it is compressed to more
    /// than 16 KiB. The payload is copied into `out` (masked, for a client); a server that would rather write it from where it is
    /// asks for [`frame_head`](Self::frame_head).
    ///
    /// # Errors
    ///
    /// [`SendError::Closing`], [`SendError::MessageUnfinished`], and [`SendError::InvalidText`], for which text is
    /// checked; [`send_text`](Self::send_text) needs no check.
    pub fn send(&mut self, kind: MessageKind, payload: &[u8], out: &mut impl Sink) -> Result<(), SendError> {
        self.between_messages()?;
        if kind == MessageKind::Text && core::str::from_utf8(payload).is_err() {
            return Err(SendError::InvalidText);
        }
        self.put_message(kind, payload, out);
        Ok(())
    }

    /// [`send`](Self::send) for what is text already.
    ///
    /// # Errors
    ///
    /// [`SendError::Closing`] and [`SendError::MessageUnfinished`].
    pub fn send_text(&mut self, text: &str, out: &mut impl Sink) -> Result<(), SendError> {
        self.between_messages()?;
        self.put_message(MessageKind::Text, text.as_bytes(), out);
        Ok(())
    }

    /// [`send`](Self::send) without compressing, whatever was agreed to: for what is compressed in itself (images, archives),
    /// and for secrets beside which an attacker can have text of its own sent, as the length would tell what they share.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    pub fn send_uncompressed(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        self.between_messages()?;
        if kind == MessageKind::Text && core::str::from_utf8(payload).is_err() {
            return Err(SendError::InvalidText);
        }
        self.put_data(true, kind.into(), payload, out);
        Ok(())
    }

    /// Sends a part of a message that is not known whole: a fragment (RFC 6455 section 5.4). The first call begins a
    /// message, the one with `last` ends it; other messages cannot go out between them, pings and pongs can. Text may be
    /// cut inside a code point. Where messages are compressed, each part can be inflated when it arrives.
    ///
    /// # Errors
    ///
    /// [`SendError::Closing`], [`SendError::OtherKind`], and [`SendError::InvalidText`] where the text can no longer
    /// become valid, or ends inside a code point.
    pub fn send_part(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        last: bool,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        if self.is_closing() {
            return Err(SendError::Closing);
        }
        if self.sending.is_some_and(|begun| begun.kind() != kind) {
            return Err(SendError::OtherKind);
        }
        if kind == MessageKind::Text {
            let mut text = self.rare.as_ref().map(|rare| rare.sent_text).unwrap_or_default();
            text.push(payload).map_err(|_| SendError::InvalidText)?;
            if last {
                text.finish().map_err(|_| SendError::InvalidText)?;
            }
            self.rare.get_or_insert_default().sent_text = text;
        }
        if self.sending.is_none() && last {
            self.put_message(kind, payload, out);
            return Ok(());
        }
        let (message, opcode) = match self.sending {
            Some(message) => (message, Opcode::Continuation),
            None => (UnderWay::new(kind, self.begin_deflated()), kind.into()),
        };
        self.sending = if last { None } else { Some(message) };
        if message.is_deflated() {
            self.put_deflated_part(last, opcode, payload, out);
        } else {
            self.put_data(last, opcode, payload, out);
        }
        Ok(())
    }

    /// The head of a whole message of `len` bytes that is not compressed, for a server that writes head and payload itself, the
    /// head first. Nothing is put, and nothing else may be written for this connection before all of the payload. That text is UTF-8 is the
    /// caller's to know.
    ///
    /// # Errors
    ///
    /// As for [`may_send`](Self::may_send), and [`SendError::FrameTooLong`].
    #[inline]
    pub fn frame_head(&self, kind: MessageKind, len: u64) -> Result<FrameHead, SendError> {
        self.may_send()?;
        if len > u64::MAX >> 1 {
            return Err(SendError::FrameTooLong);
        }
        Ok(FrameHead::new(true, kind.into(), len, None))
    }

    /// Whether a message that is framed already ([`Prepared`](super::Prepared) is, for connections to share)
    /// may be written now. Nothing is remembered: it is a whole message.
    ///
    /// # Errors
    ///
    /// [`SendError::Closing`], [`SendError::MessageUnfinished`], and for a client [`SendError::MustMask`].
    #[inline]
    pub fn may_send(&self) -> Result<(), SendError> {
        match self.role {
            Role::Server => self.between_messages(),
            Role::Client => Err(SendError::MustMask),
        }
    }

    /// Sends a ping with up to 125 bytes. From now on the peer must be heard within
    /// [`Config::pong_timeout`](super::Config::pong_timeout). The machine pings by itself when a connection is silent.
    ///
    /// # Errors
    ///
    /// [`SendError::Closing`] and [`SendError::ControlTooLong`].
    pub fn ping(&mut self, payload: &[u8], out: &mut impl Sink, now: Now) -> Result<(), SendError> {
        if self.is_closing() {
            return Err(SendError::Closing);
        }
        if payload.len() > CONTROL_BYTES {
            return Err(SendError::ControlTooLong);
        }
        self.put_control(Opcode::Ping, payload, out);
        // A further ping does not put off the deadline of one that was not answered.
        if self.phase == Phase::Open {
            self.phase = Phase::PingSent;
            self.since = now.instant;
        }
        Ok(())
    }

    /// Begins the closing: no message can be sent after this, and what the peer still sends is received until its own
    /// Close frame ends the connection with [`Event::Closed`](super::Event::Closed). The reason has at most 123 bytes. A
    /// message that is sent in parts is left unfinished.
    ///
    /// # Errors
    ///
    /// [`SendError::Closing`] if the first Close frame has gone already, [`SendError::ControlTooLong`].
    pub fn close(
        &mut self,
        code: CloseCode,
        reason: &str,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<(), SendError> {
        if self.is_closing() {
            return Err(SendError::Closing);
        }
        if reason.len() > CONTROL_BYTES - 2 {
            return Err(SendError::ControlTooLong);
        }
        self.put_close(Some(code), reason, out);
        self.phase = Phase::Closing;
        self.since = now.instant;
        Ok(())
    }

    #[inline]
    fn between_messages(&self) -> Result<(), SendError> {
        if self.is_closing() {
            return Err(SendError::Closing);
        }
        if self.sending.is_some() {
            return Err(SendError::MessageUnfinished);
        }
        Ok(())
    }

    /// Puts a whole message, compressed if that was agreed to and gains something.
    fn put_message(&mut self, kind: MessageKind, payload: &[u8], out: &mut impl Sink) {
        if !self.put_deflated(kind, payload, out) {
            self.put_data(true, kind.into(), payload, out);
        }
    }

    fn put_data(&mut self, fin: bool, opcode: Opcode, payload: &[u8], out: &mut impl Sink) {
        let key = self.masking_key();
        out.put(FrameHead::new(fin, opcode, payload.len() as u64, key).as_ref());
        match key {
            None => out.put(payload),
            Some(key) => out.put_masked(key, payload),
        }
    }

    /// Puts a Close frame; a reason too long for one is cut, which no caller asks for.
    pub(super) fn put_close(&mut self, code: Option<CloseCode>, reason: &str, out: &mut impl Sink) {
        let mut payload = [0; CONTROL_BYTES];
        let bytes = code.into_iter().flat_map(|code| code.get().to_be_bytes()).chain(reason.bytes());
        let mut len = 0;
        for (to, from) in payload.iter_mut().zip(bytes) {
            *to = from;
            len += 1;
        }
        self.put_control(Opcode::Close, payload.get(..len).unwrap_or_default(), out);
    }

    /// Puts a control frame of at most [`CONTROL_BYTES`], in one piece.
    pub(super) fn put_control(&mut self, opcode: Opcode, payload: &[u8], out: &mut impl Sink) {
        let key = self.masking_key();
        let head = FrameHead::new(true, opcode, payload.len() as u64, key);
        let mut frame = [0; HEAD_BYTES + CONTROL_BYTES];
        let mut len = 0;
        for (to, from) in frame.iter_mut().zip(head.as_ref().iter().chain(payload)) {
            *to = *from;
            len += 1;
        }
        if let Some(frame) = frame.get_mut(..len) {
            if let Some((key, payload)) = key.zip(frame.get_mut(head.as_ref().len()..)) {
                mask::apply(key, 0, payload);
            }
            out.put(frame);
        }
    }

    pub(super) fn masking_key(&mut self) -> Option<[u8; 4]> {
        match self.role {
            Role::Server => None,
            Role::Client => Some(self.keys.next_key()),
        }
    }
}
