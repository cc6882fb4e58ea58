//! A connection that is about to become a WebSocket.

use keepwatch_protocol::http1::SendError;
use keepwatch_protocol::http1::client::ClientConnection;
use keepwatch_protocol::websocket::Role;
use keepwatch_protocol::websocket::handshake::{self, Answer, ClientHandshake, HandshakeError, OpeningError};
use keepwatch_protocol::{Input, Instant, Now, Sink};

use super::event::{Failure, Transport};
use super::http::{busy, ended_by, refused};
use super::machine::{End, Link};
use super::progress::{Plan, Progress};
use super::request::RequestHead;
use super::socket::Socket;
use crate::key::Revision;

#[derive(Debug)]
pub(super) struct Opening {
    handshake: ClientHandshake,
    /// The connection had been used before.
    again: bool,
}

impl Opening {
    /// Puts the request.
    pub(super) fn start(
        progress: &mut Progress,
        since: Revision,
        again: bool,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Self, End> {
        let nonce = progress.retry.random().nonce();
        let handshake =
            start(progress, since, nonce, out, now).map_err(|error| End::Failed(Failure::Request(error)))?;
        Ok(Self { handshake, again })
    }

    pub(super) fn receive(
        &mut self,
        progress: &mut Progress,
        input: &mut Input<'_>,
        now: Now,
    ) -> Result<Option<Link>, End> {
        match self.handshake.recv(input, now) {
            Ok(Answer::NeedMore) => Ok(None),
            Ok(Answer::Opened(agreed)) => {
                let (config, seed) = (progress.config.websocket.clone(), progress.retry.random().next());
                let machine = agreed.connection(Role::Client, config, seed, now);
                Ok(Some(Link::Socket(Box::new(Socket::new(machine, progress, now)))))
            }
            Ok(Answer::Refused(head)) => Err(match head.code() {
                410 => progress.compacted(None, now.instant),
                status => busy(&head).unwrap_or_else(|| refused(status)),
            }),
            Ok(Answer::Body(_) | Answer::End) => Err(End::Broken), // nobody reads so far
            Err(HandshakeError::Http(error)) => Err(ended_by(error, self.again).unwrap_or(End::Broken)),
            Err(HandshakeError::Answer(why)) => Err(End::Refused(Failure::Handshake(why))),
            Err(HandshakeError::TimedOut) => Err(End::Failed(Failure::Silent)),
            Err(_) => Err(End::Broken),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.handshake.deadline()
    }

    pub(super) fn on_deadline(&mut self, now: Now) -> Result<(), End> {
        match self.handshake.on_deadline(now) {
            None => Ok(()),
            Some(_) => Err(End::Failed(Failure::Silent)),
        }
    }
}

/// Whether the longest requests to this target can be sent.
pub(super) fn check(progress: &Progress) -> Result<(), OpeningError> {
    let now = Now::default();
    let mut out = Vec::new();
    start(progress, Revision::MAX, [0; 16], &mut out, now)?;
    let plan = Plan::Watch { transport: Transport::LongPoll, since: Revision::MAX };
    let sent = RequestHead::of(&plan, progress).send(
        &mut ClientConnection::new(progress.config.http.clone()),
        progress,
        &mut out,
        now,
    );
    sent.map_err(|error: SendError| OpeningError::Http(error))
}

fn start(
    progress: &Progress,
    since: Revision,
    nonce: [u8; 16],
    out: &mut impl Sink,
    now: Now,
) -> Result<ClientHandshake, OpeningError> {
    let Progress { config, target, .. } = progress;
    let head = RequestHead::of(&Plan::Watch { transport: Transport::WebSocket, since }, progress);
    let opening = handshake::Opening {
        compression: Some(&config.websocket.compression),
        fields: &head.fields(&config.fields),
        timeout: config.timeouts.answer.max(std::time::Duration::from_nanos(1)),
        ..handshake::Opening::new(&target.authority, &head.target)
    };
    ClientHandshake::start(&opening, config.http.clone(), nonce, out, now)
}
