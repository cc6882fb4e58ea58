//! The client's side of the handshake, as a machine.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::fields::is_token;
use super::server::is_reserved;
use super::{Agreed, KEY_BYTES, Offered, RefusedAnswer, check_answer, request_key};
use crate::http1::client::{ClientExpired, Request, Response};
use crate::http1::{self, ClientConfig, ClientConnection, ClientError, ClientEvent};
use crate::input::Input;
use crate::output::Sink;
use crate::time::{Instant, Now, earliest};
use crate::websocket::{Compression, deflate};

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Host and port, as `Host` says them.
    pub authority: &'a str,
    /// The path, which begins with `/`, and perhaps a query.
    pub target: &'a str,
    /// The subprotocols that the client speaks, what it likes best first: tokens, each once.
    pub protocols: &'a [&'a str],
    /// The compression that is offered, if any: that of the [`Config`](crate::websocket::Config).
    pub compression: Option<&'a Compression>,
    /// Further fields, for example `Origin`, `Authorization`, `Cookie`. Those of the handshake, and those that are the HTTP
    /// machine's ([`Request`]), must not be among them.
    pub fields: &'a [(&'a str, &'a [u8])],
    /// How long the whole handshake may take, from the request to the last byte of the answer. Default: 10 s.
    pub timeout: Duration,
}

impl<'a> Opening<'a> {
    /// A handshake for this path, and perhaps a query, of this host, with nothing offered.
    pub const fn new(authority: &'a str, target: &'a str) -> Self {
        let timeout = Duration::from_secs(10);
        Self { authority, target, protocols: &[], compression: None, fields: &[], timeout }
    }

    fn check(&self) -> Result<(), OpeningError> {
        let mut protocols = self.protocols;
        while let [first, rest @ ..] = protocols {
            if first.is_empty() || !is_token(first.as_bytes()) || rest.contains(first) {
                return Err(OpeningError::Protocol);
            }
            protocols = rest;
        }
        if self.fields.iter().any(|(name, _)| is_reserved(name)) {
            return Err(OpeningError::Field);
        }
        Ok(())
    }
}

/// A handshake cannot be asked for like that. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpeningError {
    /// A subprotocol is no token, or stands there twice (RFC 6455 section 4.1).
    Protocol,
    /// A field is the handshake's own: `Sec-WebSocket-...`.
    Field,
    /// The host, the path or a field cannot be sent.
    Http(http1::SendError),
}

impl fmt::Display for OpeningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "a subprotocol must be a token, and stand there once",
            Self::Field => "a field that is the handshake's own",
            Self::Http(error) => return error.fmt(f),
        })
    }
}

impl core::error::Error for OpeningError {}

/// A client's handshake: writes the request, reads the answer, and leaves what follows a 101 where it is.
///
/// ```text
///   start ─► recv: NeedMore* ─┬─ Opened            the rest of the input is the WebSocket's
///                             ├─ Refused ─ Body* ─ End       any other answer: a redirect, 401, 404 ..
///                             └─ HandshakeError    a 101 that is none, malformed HTTP, too late
/// ```
///
/// ```
/// use std::sync::Arc;
/// use keepwatch_protocol::http1::ClientConfig;
/// use keepwatch_protocol::websocket::handshake::{Answer, ClientHandshake, Opening};
/// use keepwatch_protocol::{Input, Now};
///
/// let now = Now::default();
/// let opening = Opening { protocols: &["talk"], ..Opening::new("example.com", "/a?b") };
/// let nonce = *b"the sample nonce"; // 16 bytes from the system's random source
/// let mut out = Vec::new();
/// let mut handshake = ClientHandshake::start(&opening, Arc::new(ClientConfig::default()), nonce, &mut out, now)?;
/// assert!(out.starts_with(b"GET /a?b HTTP/1.1\r\nHost: example.com\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"));
///
/// let mut received = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: talk\r\n\r\n\x81\x02hi".to_vec();
/// let mut input = Input::new(&mut received);
/// let Answer::Opened(agreed) = handshake.recv(&mut input, now)? else { panic!() };
/// assert_eq!((agreed.protocol, input.bytes()), (Some("talk"), &b"\x81\x02hi"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ClientHandshake {
    http: ClientConnection,
    /// For the whole handshake.
    deadline: Instant,
    key: [u8; KEY_BYTES],
    protocols: Box<[Box<str>]>,
    offer: Option<deflate::Offer>,
    failed: Option<HandshakeError>,
}

/// What came. What it borrows is the input's, not the handshake's.
#[derive(Debug)]
pub enum Answer<'b> {
    /// More is needed. After [`Opened`](Self::Opened) and [`End`](Self::End), for ever.
    NeedMore,
    /// The WebSocket is open: what is left of the input, and all that follows, is its [`Connection`](crate::websocket::Connection)'s.
    Opened(Agreed<'b>),
    /// It is not, and this is why: the head of any answer but 101. Its body follows, and then [`End`](Self::End).
    Refused(Response<'b>),
    /// A part of that answer's body.
    Body(&'b mut [u8]),
    /// That was all of it.
    End,
}

/// A handshake that failed. Final: every later call says the same. There is nothing to do but close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The answer is malformed, over a limit, cut off, or there was none.
    Http(ClientError),
    /// The answer says 101, and does not open a WebSocket.
    Answer(RefusedAnswer),
    /// It took longer than [`Opening::timeout`].
    TimedOut,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => error.fmt(f),
            Self::Answer(error) => error.fmt(f),
            Self::TimedOut => f.write_str("the handshake took too long"),
        }
    }
}

impl core::error::Error for HandshakeError {}

impl ClientHandshake {
    /// Writes the request. The `nonce` is 16 bytes of entropy, anew for each handshake (RFC 6455 section 4.1).
    ///
    /// # Errors
    ///
    /// What is wrong with the opening.
    pub fn start(
        opening: &Opening<'_>,
        config: Arc<ClientConfig>,
        nonce: [u8; 16],
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Self, OpeningError> {
        opening.check()?;
        let key = request_key(nonce);
        let protocols: String = opening.protocols.join(", ");
        let mut fields: Vec<(&str, &[u8])> = Vec::with_capacity(opening.fields.len() + 4);
        fields.push(("Sec-WebSocket-Key", &key));
        fields.push(("Sec-WebSocket-Version", b"13"));
        if !protocols.is_empty() {
            fields.push(("Sec-WebSocket-Protocol", protocols.as_bytes()));
        }
        let offer = opening.compression.and_then(Compression::offer);
        if let Some(offer) = &offer {
            fields.push(("Sec-WebSocket-Extensions", offer.field().as_bytes()));
        }
        fields.extend(opening.fields);
        let request = Request {
            fields: &fields,
            upgrade: Some("websocket"),
            ..Request::get(opening.authority, opening.target)
        };
        let mut http = ClientConnection::new(config);
        http.send(&request, b"", out, now).map_err(OpeningError::Http)?;
        Ok(Self {
            http,
            deadline: now.instant + opening.timeout,
            key,
            protocols: opening.protocols.iter().copied().map(Box::from).collect(),
            offer,
            failed: None,
        })
    }

    /// Takes what there is of the answer. Call it until it says [`Answer::NeedMore`], [`Answer::Opened`], [`Answer::End`] or an
    /// error. A head is taken when it is whole, so the caller has room for
    /// [`head_bytes`](crate::http1::Limits::head_bytes).
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`].
    pub fn recv<'b>(&mut self, input: &mut Input<'b>, now: Now) -> Result<Answer<'b>, HandshakeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        loop {
            return match self.http.recv(input, now) {
                Ok(ClientEvent::Informational(_) | ClientEvent::Trailers(_)) => continue,
                Ok(ClientEvent::NeedMore | ClientEvent::Closed) => Ok(Answer::NeedMore),
                Ok(ClientEvent::Response(head)) => Ok(Answer::Refused(head)),
                Ok(ClientEvent::Data(bytes)) => Ok(Answer::Body(bytes)),
                Ok(ClientEvent::EndOfResponse { .. }) => {
                    self.deadline = Instant::NEVER;
                    Ok(Answer::End)
                }
                Ok(ClientEvent::Upgraded(head)) => self.check(&head),
                Err(error) => Err(self.fail(HandshakeError::Http(error))),
            };
        }
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        if self.failed.is_some() {
            return None;
        }
        earliest(Some(self.deadline).filter(|deadline| *deadline != Instant::NEVER), self.http.deadline())
    }

    /// Says whether a deadline has passed, and the handshake failed by that. Afterwards no deadline is due.
    #[must_use = "a handshake that failed does not close its connection"]
    pub fn on_deadline(&mut self, now: Now) -> Option<HandshakeError> {
        if self.failed.is_some() {
            return None;
        }
        if self.deadline <= now.instant && self.deadline != Instant::NEVER {
            return Some(self.fail(HandshakeError::TimedOut));
        }
        match self.http.on_deadline(now) {
            Some(ClientExpired::Failed(error)) => Some(self.fail(HandshakeError::Http(error))),
            Some(ClientExpired::SendContent) | None => None,
        }
    }

    fn check<'b>(&mut self, head: &Response<'b>) -> Result<Answer<'b>, HandshakeError> {
        let protocols: Vec<&str> = self.protocols.iter().map(|protocol| &**protocol).collect();
        let extension = self.offer.as_ref().map(|_| deflate::NAME);
        let offered = Offered { protocols: &protocols, extension };
        let fields = head.fields().into_iter().map(|field| (field.name, field.value));
        let checked = check_answer(head.code(), fields, &self.key, &offered).and_then(|chosen| {
            let offer = self.offer.take();
            let agreed = offer.map_or(Ok(None), |offer| offer.accept(chosen.extension));
            let compression = agreed.map_err(|_| RefusedAnswer::Extension)?;
            Ok(Agreed { protocol: chosen.protocol, compression })
        });
        match checked {
            Ok(agreed) => {
                self.deadline = Instant::NEVER;
                Ok(Answer::Opened(agreed))
            }
            Err(error) => Err(self.fail(HandshakeError::Answer(error))),
        }
    }

    fn fail(&mut self, error: HandshakeError) -> HandshakeError {
        self.failed = Some(error);
        error
    }
}
