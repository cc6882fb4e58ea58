//! The answering half of the machine: what may be sent, and when, and how it is framed.

use core::mem;

use super::{Phase, Reading, ServerConnection};
use crate::http1::encode::{
    BodyFrame, BodyLength, ConnectionField, LengthField, Section, check_fields, has_field, put_connection,
    put_fields, put_length,
};
use crate::http1::error::{Fault, RecvError, Refused, SendError};
use crate::http1::exchange::{BodyKind, BodyTx, Exchange, Timer};
use crate::http1::response::{ResponseHead, put_date, put_status};
use crate::http1::status::StatusCode;
use crate::output::Sink;
use crate::time::{Instant, Now};

impl ServerConnection {
    /// Says `100 Continue`, if the client waits for that; otherwise it does nothing (RFC 9110 section 10.1.1).
    ///
    /// # Errors
    ///
    /// [`SendError::Stale`].
    pub fn proceed(&mut self, exchange: &Exchange, out: &mut impl Sink) -> Result<(), SendError> {
        self.check(exchange)?;
        let body_to_come = matches!(self.reading, Reading::Length { .. } | Reading::Chunked { .. });
        if body_to_come {
            self.put_continue(out);
        }
        Ok(())
    }

    /// Sends an interim response other than 100 and 101, for example 103.
    ///
    /// # Errors
    ///
    /// [`SendError::Stale`], [`SendError::NotInterim`], [`SendError::InterimToHttp10`], and what is wrong with the
    /// fields ([`SendError::FieldName`] and the like).
    pub fn inform(
        &mut self,
        exchange: &Exchange,
        status: StatusCode,
        fields: &[(&str, &[u8])],
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        self.check(exchange)?;
        if !status.is_informational() || status.code() < 102 {
            return Err(SendError::NotInterim);
        }
        if self.request.http10 {
            return Err(SendError::InterimToHttp10);
        }
        check_fields(fields, Section::Interim, &self.config.limits)?;
        put_status(out, status);
        put_fields(out, fields);
        out.put(b"\r\n");
        Ok(())
    }

    /// Sends the head of the response. Its content follows with [`data`](Self::data) or [`frame`](Self::frame), and its
    /// end with [`finish`](Self::finish).
    ///
    /// A 2xx to a CONNECT makes the connection a tunnel when it is finished.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; nothing was written then, and the exchange comes back.
    pub fn respond(
        &mut self,
        exchange: Exchange,
        head: &ResponseHead<'_>,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<BodyTx, Refused<Exchange>> {
        match self.begin(&exchange, head, out, now) {
            Ok(body) => Ok(body),
            Err(error) => Err(Refused { token: exchange, error }),
        }
    }

    /// Answers with a head and the whole content at once. The length is that of `body`, whatever the head says; an
    /// empty one leaves the length to the head, so that an answer to HEAD, or a 304, can tell the length that it does
    /// not send.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; nothing was written then, and the exchange comes back.
    pub fn answer(
        &mut self,
        exchange: Exchange,
        head: &ResponseHead<'_>,
        body: &[u8],
        out: &mut impl Sink,
        now: Now,
    ) -> Result<(), Refused<Exchange>> {
        let length = match (body.len(), head.length) {
            (0, BodyLength::Known(bytes))
                if self.request.is_head || head.status == StatusCode::NOT_MODIFIED =>
            {
                BodyLength::Known(bytes)
            }
            (0, _) => BodyLength::Empty,
            (bytes, _) => BodyLength::Known(bytes as u64),
        };
        match self.begin(&exchange, &ResponseHead { length, ..*head }, out, now) {
            Ok(sent) => {
                if !sent.is_suppressed() {
                    out.put(body);
                }
                self.complete(&sent, now);
                Ok(())
            }
            Err(error) => Err(Refused { token: exchange, error }),
        }
    }

    /// What to write around so many bytes of content, which are written by the caller. They count from now on. None has
    /// an empty frame: there are no empty chunks.
    ///
    /// # Errors
    ///
    /// [`SendError::Stale`], [`SendError::TooLong`], and [`SendError::NoContent`] where the content is suppressed.
    pub fn frame(&mut self, body: &mut BodyTx, len: usize) -> Result<BodyFrame, SendError> {
        self.check_body(body)?;
        body.frame(len)
    }

    /// Sends a part of the content, by copying it. Does nothing where the content is
    /// [suppressed](BodyTx::is_suppressed).
    ///
    /// # Errors
    ///
    /// [`SendError::Stale`] and [`SendError::TooLong`].
    pub fn data(&mut self, body: &mut BodyTx, payload: &[u8], out: &mut impl Sink) -> Result<(), SendError> {
        if body.is_suppressed() {
            return self.check_body(body);
        }
        let frame = self.frame(body, payload.len())?;
        frame.put(payload, out);
        Ok(())
    }

    /// Says that the caller writes so many bytes of content by itself, framed already if the content is
    /// [chunked](BodyTx::is_chunked). They count against the announced length.
    ///
    /// # Errors
    ///
    /// Those of [`frame`](Self::frame).
    pub fn framed(&mut self, body: &mut BodyTx, payload_bytes: u64) -> Result<(), SendError> {
        self.check_body(body)?;
        body.count(payload_bytes)
    }

    /// Ends the response. See [`disposition`](Self::disposition) for what becomes of the connection.
    ///
    /// # Errors
    ///
    /// [`SendError::Stale`] and [`SendError::TooShort`]; the token comes back.
    pub fn finish(&mut self, body: BodyTx, out: &mut impl Sink, now: Now) -> Result<(), Refused<BodyTx>> {
        self.finish_with_trailers(body, &[], out, now)
    }

    /// Ends the response with trailer fields (RFC 9110 section 6.5). They are left out where the content is not
    /// chunked, as there is no place for them.
    ///
    /// # Errors
    ///
    /// Those of [`finish`](Self::finish), and what is wrong with the fields ([`SendError::FieldName`] and the like); nothing
    /// was written then, and the token comes back.
    pub fn finish_with_trailers(
        &mut self,
        body: BodyTx,
        trailers: &[(&str, &[u8])],
        out: &mut impl Sink,
        now: Now,
    ) -> Result<(), Refused<BodyTx>> {
        if let Err(error) = self.check_finish(&body, trailers) {
            return Err(Refused { token: body, error });
        }
        body.put_end(trailers, out);
        self.complete(&body, now);
        Ok(())
    }

    /// Switches to WebSocket: sends `101` with `Upgrade: websocket`, `Connection: upgrade` and these fields. Everything
    /// in the input from here on is the new protocol's.
    ///
    /// # Errors
    ///
    /// [`SendError::UpgradeNotOffered`] if the client did not ask for it, [`SendError::RequestUnread`] before the
    /// request's body was read (RFC 9110 section 7.8). Nothing was written then, and the exchange comes back.
    pub fn upgrade(
        &mut self,
        exchange: Exchange,
        fields: &[(&str, &[u8])],
        out: &mut impl Sink,
        now: Now,
    ) -> Result<(), Refused<Exchange>> {
        let _ = now; // a 101 needs no Date, and the machine no deadline from here on
        if let Err(error) = self.check_upgrade(&exchange, fields) {
            return Err(Refused { token: exchange, error });
        }
        self.put_continue(out); // RFC 9110 section 7.8: before the 101, if it was asked for
        put_status(out, StatusCode::SWITCHING_PROTOCOLS);
        out.put(b"Upgrade: websocket\r\nConnection: upgrade\r\n");
        put_fields(out, fields);
        out.put(b"\r\n");
        self.end(Phase::Upgraded);
        Ok(())
    }

    fn check(&self, exchange: &Exchange) -> Result<(), SendError> {
        let current = self.phase == Phase::Open && exchange.sequence == self.sequence;
        if current { Ok(()) } else { Err(SendError::Stale) }
    }

    fn check_body(&self, body: &BodyTx) -> Result<(), SendError> {
        let current = self.phase == Phase::Sending && body.sequence == self.sequence;
        if current { Ok(()) } else { Err(SendError::Stale) }
    }

    fn check_finish(&self, body: &BodyTx, trailers: &[(&str, &[u8])]) -> Result<(), SendError> {
        self.check_body(body)?;
        check_fields(trailers, Section::Trailers, &self.config.limits)?;
        if body.left > 0 { Err(SendError::TooShort) } else { Ok(()) }
    }

    fn check_upgrade(&self, exchange: &Exchange, fields: &[(&str, &[u8])]) -> Result<(), SendError> {
        self.check(exchange)?;
        if !self.request.websocket {
            return Err(SendError::UpgradeNotOffered);
        }
        if !self.is_read() {
            return Err(SendError::RequestUnread);
        }
        check_fields(fields, Section::Interim, &self.config.limits)
    }

    /// Writes the head of a final response, if it can be written.
    fn begin(
        &mut self,
        exchange: &Exchange,
        head: &ResponseHead<'_>,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<BodyTx, SendError> {
        self.check(exchange)?;
        let status = head.status;
        if status.is_informational() {
            return Err(SendError::NotFinal);
        }
        check_fields(head.fields, Section::Final, &self.config.limits)?;
        let names_upgrade = has_field(head.fields, "upgrade");
        if status == StatusCode::UPGRADE_REQUIRED && !names_upgrade {
            return Err(SendError::UpgradeMissing);
        }
        let tunnel = self.request.is_connect && status.is_success();
        if tunnel && !self.is_read() {
            return Err(SendError::RequestUnread);
        }
        let (field, kind) = self.framing(status, tunnel, head.length)?;
        let goes_on =
            self.request.persistent && self.is_read() && !self.closing && kind != BodyKind::CloseDelimited;
        put_status(out, status);
        put_date(out, now.unix);
        put_fields(out, head.fields);
        put_length(out, field);
        let connection = ConnectionField {
            close: !goes_on && !tunnel,
            keep_alive: goes_on && !tunnel && self.request.http10,
            upgrade: names_upgrade && !self.request.http10,
            te: false,
        };
        put_connection(out, connection);
        out.put(b"\r\n");
        self.request.persistent = goes_on;
        self.phase = Phase::Sending;
        if self.timer == Timer::Handler {
            self.deadline = Instant::NEVER;
        }
        let left = match field {
            LengthField::Bytes(bytes) if kind == BodyKind::Length => bytes,
            _ => 0,
        };
        Ok(BodyTx { left, sequence: self.sequence, kind })
    }

    /// How a response's content is framed (RFC 9112 section 6, RFC 9110 section 8.6).
    fn framing(
        &self,
        status: StatusCode,
        tunnel: bool,
        length: BodyLength,
    ) -> Result<(LengthField, BodyKind), SendError> {
        let suppressed = |field| Ok((field, BodyKind::Suppressed));
        let empty = matches!(length, BodyLength::Empty | BodyLength::Known(0));
        match (status, length) {
            _ if tunnel && empty => Ok((LengthField::None, BodyKind::Tunnel)),
            (StatusCode::NO_CONTENT, _) if empty => suppressed(LengthField::None),
            (StatusCode::RESET_CONTENT, _) if empty => suppressed(LengthField::Bytes(0)),
            (StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT, _) => Err(SendError::NoContent),
            _ if tunnel => Err(SendError::NoContent),
            (StatusCode::NOT_MODIFIED, BodyLength::Known(bytes)) => suppressed(LengthField::Bytes(bytes)),
            (StatusCode::NOT_MODIFIED, _) => suppressed(LengthField::None),
            (_, BodyLength::Unknown) if self.request.is_head && self.request.http10 => {
                suppressed(LengthField::None)
            }
            (_, BodyLength::Unknown) if self.request.is_head => suppressed(LengthField::Chunked),
            (_, BodyLength::Unknown) if self.request.http10 => {
                Ok((LengthField::None, BodyKind::CloseDelimited))
            }
            (_, BodyLength::Unknown) => Ok((LengthField::Chunked, BodyKind::Chunked)),
            (_, BodyLength::Empty) if self.request.is_head => suppressed(LengthField::Bytes(0)),
            (_, BodyLength::Known(bytes)) if self.request.is_head => suppressed(LengthField::Bytes(bytes)),
            (_, BodyLength::Empty) => Ok((LengthField::Bytes(0), BodyKind::Length)),
            (_, BodyLength::Known(bytes)) => Ok((LengthField::Bytes(bytes), BodyKind::Length)),
        }
    }

    /// The response is complete.
    fn complete(&mut self, body: &BodyTx, now: Now) {
        if body.kind == BodyKind::Tunnel {
            self.end(Phase::Upgraded);
        } else if !self.request.persistent {
            self.end(Phase::Over);
        } else if let Reading::Told = self.reading {
            self.next_request(now);
        } else {
            self.phase = Phase::Answered;
            self.wait_for_request(now);
        }
    }

    /// Answers a fault, unless a response is under way or was given.
    pub(super) fn fail(&mut self, fault: Fault, is_head: bool, out: &mut impl Sink, now: Now) -> RecvError {
        let answered = matches!(self.phase, Phase::Idle | Phase::Open);
        if answered {
            let close = ConnectionField { close: true, ..ConnectionField::default() };
            put_fault(fault, is_head, close, out, now);
        }
        self.end(Phase::Failed { fault, answered });
        RecvError::new(fault, answered)
    }

    /// `100 Continue`, once, if it was asked for.
    fn put_continue(&mut self, out: &mut impl Sink) {
        if self.request.expects_continue && !mem::replace(&mut self.request.continued, true) {
            out.put(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }
}

/// The whole answer to a fault.
pub(super) fn put_fault(
    fault: Fault,
    is_head: bool,
    connection: ConnectionField,
    out: &mut impl Sink,
    now: Now,
) {
    let (before, after) = ("{\"error\":\"", "\"}");
    let reason = fault.reason();
    put_status(out, fault.status());
    put_date(out, now.unix);
    out.put(b"Content-Type: application/json\r\n");
    put_length(out, LengthField::Bytes((before.len() + reason.len() + after.len()) as u64));
    put_connection(out, connection);
    out.put(b"\r\n");
    if !is_head {
        out.put(before.as_bytes());
        out.put(reason.as_bytes());
        out.put(after.as_bytes());
    }
}
