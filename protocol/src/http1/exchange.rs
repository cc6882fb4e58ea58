//! What a connection gives to its caller: events, and the tokens with which they are answered.

use super::chunked::ChunkHead;
use super::encode::{BodyFrame, put_fields};
use super::error::{Fault, SendError};
use super::fields::Fields;
use super::head::RequestHead;
use crate::output::Sink;

/// A request that waits for its answer. It can be answered once, and not twice; dropping it leaves the answer to the
/// [handler's deadline](super::Timeouts::handler).
///
/// It belongs to the connection that gave it, and is not to be offered to another.
#[must_use = "a request has to be answered"]
#[derive(Debug, PartialEq, Eq)]
pub struct Exchange {
    pub(super) sequence: u32,
}

/// A response whose head was sent, and whose content is under way. Has to be given to
/// [`finish`](super::ServerConnection::finish).
#[must_use = "a response has to be finished"]
#[derive(Debug, PartialEq, Eq)]
pub struct BodyTx {
    /// What is missing up to the announced length.
    pub(super) left: u64,
    pub(super) sequence: u32,
    pub(super) kind: BodyKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    Length,
    Chunked,
    CloseDelimited,
    Suppressed,
    /// A 2xx to a CONNECT: what follows its head is another protocol's.
    Tunnel,
}

impl BodyTx {
    /// Whether the content goes in chunks.
    pub fn is_chunked(&self) -> bool {
        self.kind == BodyKind::Chunked
    }

    /// Whether no content may be written, whatever the head says: to HEAD and CONNECT, with 204, 205 and 304.
    pub fn is_suppressed(&self) -> bool {
        matches!(self.kind, BodyKind::Suppressed | BodyKind::Tunnel)
    }

    /// Whether the end of the connection is the end of the content (HTTP/1.0).
    pub fn is_close_delimited(&self) -> bool {
        self.kind == BodyKind::CloseDelimited
    }
}

/// The arithmetic of content that is sent, the same in both roles.
impl BodyTx {
    /// Counts so many bytes against the announced length.
    pub(super) fn count(&mut self, payload_bytes: u64) -> Result<(), SendError> {
        match self.kind {
            BodyKind::Length => {
                self.left = self.left.checked_sub(payload_bytes).ok_or(SendError::TooLong)?;
            }
            BodyKind::Suppressed | BodyKind::Tunnel if payload_bytes > 0 => return Err(SendError::NoContent),
            _ => {}
        }
        Ok(())
    }

    /// Counts so many bytes, and makes what belongs around them.
    pub(super) fn frame(&mut self, len: usize) -> Result<BodyFrame, SendError> {
        self.count(len as u64)?;
        Ok(if self.is_chunked() && len > 0 {
            BodyFrame { head: ChunkHead::new(len), tail: b"\r\n" }
        } else {
            BodyFrame { head: ChunkHead::EMPTY, tail: b"" }
        })
    }

    /// Puts what ends the content: the last chunk, and the trailer fields, which were checked.
    pub(super) fn put_end(&self, trailers: &[(&str, &[u8])], out: &mut impl Sink) {
        if self.is_chunked() {
            out.put(b"0\r\n");
            put_fields(out, trailers);
            out.put(b"\r\n");
        }
    }
}

/// What came.
#[derive(Debug)]
pub enum Event<'b> {
    /// All that is there was taken, or more is needed: call again when more has come.
    NeedMore,
    /// A request is not answered to its end yet. What follows it stays in the input: call again after the answer. Also
    /// after an upgrade, for ever: the input is another protocol's.
    Paused,
    /// A request's head. Its [`EndOfRequest`](Event::EndOfRequest) follows, with or without data between.
    Request(RequestHead<'b>, Exchange),
    /// A part of the request's body, never empty.
    Data(&'b mut [u8]),
    /// The request's trailer fields, without those that have no place there.
    Trailers(Fields<'b>),
    /// The request is complete.
    EndOfRequest,
    /// The peer ended its side while an exchange is open; told once for each. A held answer is to be given up or given
    /// now; an answer under way may be finished, as the peer may still read.
    HungUp,
    /// A request was refused, and the machine has answered it; the connection goes on. So it does after an
    /// [`Expectation`](Fault::Expectation) that cannot be met, in a request without content that does not end the
    /// connection. Every other fault ends it.
    Refused(Fault),
    /// Nothing more will come and nothing is owed: close.
    Closed,
}

/// What is to become of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It goes on.
    Open,
    /// What was put is the last: write it, end the writing side, wait for the peer to close.
    Finish,
    /// A response was cut off: close at once, so that the peer can tell.
    Abort,
    /// From here on it speaks another protocol.
    Upgraded,
}

/// A deadline that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expired {
    /// Which.
    pub timer: Timer,
    /// What to do: [`Finish`](Disposition::Finish) or [`Abort`](Disposition::Abort).
    pub then: Disposition,
    /// Whether an answer (408 or 500) was put. Without one, no request was owed any.
    pub answered: bool,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timer {
    /// The first byte of the first request.
    FirstByte,
    /// The first byte of a later request.
    KeepAlive,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
    /// The head of a response.
    Handler,
}
