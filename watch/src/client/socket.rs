//! A connection that is a WebSocket, whose URL named the watch.
//!
//! A watch could be asked for in a message as well. In the URL it takes no round trip more, its frames are the same bytes for
//! all who watch the same (no id stands in them), and a server that refuses it says so in the handshake's answer.

use std::time::Duration;

use keepwatch_protocol::websocket::{
    Assembler, CloseCode, Connection, Event, Message, MessageKind, RecvError,
};
use keepwatch_protocol::{Input, Instant, Now, Sink, earliest};

use super::event::Failure;
use super::machine::{End, Link};
use super::parse;
use super::progress::Progress;

#[derive(Debug)]
pub(super) struct Socket {
    machine: Connection,
    assembler: Assembler,
    /// When the server has been silent for too long.
    due: Instant,
}

/// The close code of a watch whose revision is compacted.
const COMPACTED: u16 = 4410;
/// The server is started again (registered with IANA).
const SERVICE_RESTART: u16 = 1012;

impl Socket {
    /// A connection whose handshake is done.
    pub(super) fn new(machine: Connection, progress: &Progress, now: Now) -> Self {
        Self {
            machine,
            assembler: Assembler::new(progress.config.limits.message_bytes),
            due: now.instant + patience(progress),
        }
    }

    pub(super) fn receive(
        &mut self,
        progress: &mut Progress,
        input: &mut Input<'_>,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<Option<Link>, End> {
        let end = self.receive_all(progress, input, out, now);
        if end.is_err() {
            let code = match end {
                Err(End::Failed(Failure::TooLong)) => CloseCode::MESSAGE_TOO_BIG,
                Err(End::Failed(_)) => CloseCode::POLICY_VIOLATION,
                _ => CloseCode::NORMAL,
            };
            // Refused if a Close was sent already.
            let _closing = self.machine.close(code, "", out, now);
        }
        end.map(|()| None)
    }

    fn receive_all(
        &mut self,
        progress: &mut Progress,
        input: &mut Input<'_>,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<(), End> {
        while !progress.is_full() {
            let before = input.consumed();
            let event = self.machine.recv(input, out, now);
            if input.consumed() > before {
                self.due = now.instant + patience(progress);
            }
            match event {
                Ok(Event::NeedMore) => return Ok(()),
                Ok(Event::Ping(_) | Event::Pong(_)) => {}
                Ok(Event::Data { kind, bytes, first, last }) => {
                    self.data(progress, (kind, &bytes, first, last), now)?;
                }
                Ok(Event::Closed(close)) => {
                    return Err(match close.code.map(CloseCode::get) {
                        Some(COMPACTED) => progress.compacted(None, now.instant),
                        Some(1001 | SERVICE_RESTART | 1013) => End::Busy(Duration::ZERO),
                        // 1011: it did not hear our pong.
                        None | Some(1000 | 1011) => End::Broken,
                        Some(_) => End::Failed(Failure::Closed(close.code.unwrap_or(CloseCode::NORMAL))),
                    });
                }
                Err(RecvError::MessageTooLarge) => return Err(End::Failed(Failure::TooLong)),
                Err(error) => return Err(End::Failed(Failure::WebSocket(error))),
            }
        }
        Ok(())
    }

    fn data(
        &mut self,
        progress: &mut Progress,
        (kind, bytes, first, last): (MessageKind, &[u8], bool, bool),
        now: Now,
    ) -> Result<(), End> {
        let message = self.assembler.push(kind, bytes, first, last);
        let told = match message.map_err(|_| End::Failed(Failure::TooLong))? {
            None => return Ok(()),
            Some(Message::Text(text)) => parse::event(text.as_bytes(), &progress.config.limits)?,
            Some(Message::Binary(_)) => return Err(End::Failed(Failure::Malformed)),
        };
        progress.hear(told, now.instant)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        earliest(Some(self.due), self.machine.deadline())
    }

    pub(super) fn on_deadline(
        &mut self,
        progress: &mut Progress,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<(), End> {
        if progress.is_full() {
            // It may have spoken: what it says is not taken.
            self.machine.postpone_pong(now);
            self.due = self.due.max(now.instant + patience(progress));
        }
        let expired = self.machine.on_deadline(out, now);
        if expired.is_none() && self.due > now.instant {
            return Ok(());
        }
        let _closing = self.machine.close(CloseCode::GOING_AWAY, "silent", out, now);
        Err(End::Failed(Failure::Silent))
    }
}

fn patience(progress: &Progress) -> Duration {
    progress.config.timeouts.silence.max(Duration::from_nanos(1))
}
