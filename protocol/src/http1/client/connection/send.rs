//! The asking half of the machine: what may be sent, and when, and how it is framed.

use super::{ClientConnection, Phase};
use crate::http1::client::error::NotReusable;
use crate::http1::client::event::RequestTx;
use crate::http1::client::request::Request;
use crate::http1::client::response::Asked;
use crate::http1::encode::{BodyFrame, BodyLength, Section, check_fields};
use crate::http1::error::{Refused, SendError};
use crate::http1::exchange::{BodyKind, BodyTx};
use crate::http1::head::Version;
use crate::output::Sink;
use crate::time::Now;

impl ClientConnection {
    /// Sends the head of a request. Its content follows with [`data`](Self::data) or [`frame`](Self::frame), and its end
    /// with [`finish`](Self::finish), also where there is no content.
    ///
    /// # Errors
    ///
    /// [`SendError::NotReusable`] where the connection takes no request now or ever ([`reuse`](Self::reuse)); otherwise
    /// see [`SendError`]. Nothing was written then.
    pub fn request(
        &mut self,
        request: &Request<'_>,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<RequestTx, SendError> {
        self.reuse().map_err(SendError::NotReusable)?;
        let keep_alive = self.peer == Version::Http10;
        request.check(keep_alive, &self.config.limits)?;
        if request.length == BodyLength::Unknown && self.peer == Version::Http10 {
            return Err(SendError::ChunkedToHttp10);
        }
        request.put(keep_alive, out);
        if request.close {
            self.set_last(NotReusable::RequestSaidClose);
        }
        let asked = Asked { is_head: request.method == "HEAD", is_connect: request.is_connect() };
        self.begin(asked, request.upgrade, request.expect_continue, now);
        let (kind, left) = match request.length {
            BodyLength::Empty | BodyLength::Known(0) => (BodyKind::Suppressed, 0),
            BodyLength::Known(bytes) => (BodyKind::Length, bytes),
            BodyLength::Unknown => (BodyKind::Chunked, 0),
        };
        if kind == BodyKind::Suppressed {
            self.sent(now);
        }
        Ok(RequestTx(BodyTx { left, sequence: self.sequence, kind }))
    }

    /// Sends a whole request at once. The length is that of `content`, whatever the request says; and nothing waits for
    /// `100 Continue`, which [`request`](Self::request) is for.
    ///
    /// # Errors
    ///
    /// As of [`request`](Self::request).
    pub fn send(
        &mut self,
        request: &Request<'_>,
        content: &[u8],
        out: &mut impl Sink,
        now: Now,
    ) -> Result<(), SendError> {
        let length =
            if content.is_empty() { BodyLength::Empty } else { BodyLength::Known(content.len() as u64) };
        let _ = self.request(&Request { length, expect_continue: false, ..*request }, out, now)?;
        if !content.is_empty() {
            out.put(content);
            self.sent(now);
        }
        Ok(())
    }

    /// Whether content of the request under way may be sent now: not before `100 Continue` or its deadline if it was
    /// expected, and not when the server has answered instead or the connection has failed.
    pub fn takes_content(&self) -> bool {
        self.phase == Phase::Sending && !self.is_over()
    }

    /// What to write around so many bytes of content, which are written by the caller. They count from now on. None has
    /// an empty frame: there are no empty chunks.
    ///
    /// # Errors
    ///
    /// [`SendError::Stale`], [`SendError::TooLong`], [`SendError::NoContent`]; [`SendError::AwaitsContinue`] and
    /// [`SendError::Unwanted`] while the request [takes no content](Self::takes_content).
    pub fn frame(&mut self, body: &mut RequestTx, len: usize) -> Result<BodyFrame, SendError> {
        self.check_body(body)?;
        body.0.frame(len)
    }

    /// Sends a part of the content, by copying it.
    ///
    /// # Errors
    ///
    /// Those of [`frame`](Self::frame).
    pub fn data(
        &mut self,
        body: &mut RequestTx,
        payload: &[u8],
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        self.frame(body, payload.len())?.put(payload, out);
        Ok(())
    }

    /// Says that the caller writes so many bytes of content by itself, framed already if the content is
    /// [chunked](RequestTx::is_chunked). They count against the announced length.
    ///
    /// # Errors
    ///
    /// Those of [`frame`](Self::frame).
    pub fn framed(&mut self, body: &mut RequestTx, payload_bytes: u64) -> Result<(), SendError> {
        self.check_body(body)?;
        body.0.count(payload_bytes)
    }

    /// Ends the request.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; nothing was written then, and the token comes back.
    pub fn finish(
        &mut self,
        body: RequestTx,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<(), Refused<RequestTx>> {
        self.finish_with_trailers(body, &[], out, now)
    }

    /// Ends the request with trailer fields (RFC 9110 section 6.5). They are left out where the content is not chunked,
    /// as there is no place for them.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; nothing was written then, and the token comes back.
    pub fn finish_with_trailers(
        &mut self,
        body: RequestTx,
        trailers: &[(&str, &[u8])],
        out: &mut impl Sink,
        now: Now,
    ) -> Result<(), Refused<RequestTx>> {
        if let Err(error) = self.check_finish(&body, trailers) {
            return Err(Refused { token: body, error });
        }
        if body.0.kind != BodyKind::Suppressed {
            body.0.put_end(trailers, out);
            self.sent(now);
        }
        Ok(())
    }

    /// Gives the rest of the request up. The response can still be read; then the connection is not used again
    /// ([`NotReusable::RequestUnfinished`]). A request that is complete stays so.
    pub fn abandon(&mut self, body: RequestTx, now: Now) {
        let current = body.0.sequence == self.sequence;
        if current && matches!(self.phase, Phase::Waiting | Phase::Sending) {
            self.abandoned();
            self.request_over(now);
        }
    }

    fn sent(&mut self, now: Now) {
        self.phase = Phase::Sent;
        self.request_over(now);
    }

    fn check_body(&self, body: &RequestTx) -> Result<(), SendError> {
        if body.0.kind == BodyKind::Suppressed {
            return Ok(()); // its request is complete, whatever came since
        }
        if body.0.sequence != self.sequence || self.is_over() {
            return Err(SendError::Stale);
        }
        match self.phase {
            Phase::Sending => Ok(()),
            Phase::Waiting => Err(SendError::AwaitsContinue),
            Phase::Abandoned => Err(SendError::Unwanted),
            Phase::Idle | Phase::Sent => Err(SendError::Stale),
        }
    }

    fn check_finish(&self, body: &RequestTx, trailers: &[(&str, &[u8])]) -> Result<(), SendError> {
        self.check_body(body)?;
        check_fields(trailers, Section::Trailers, &self.config.limits)?;
        if body.0.left > 0 { Err(SendError::TooShort) } else { Ok(()) }
    }
}
