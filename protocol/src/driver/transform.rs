//! The one seam where bytes are changed between the socket and the server: TLS stands behind it.

use core::fmt;

use super::Driver;
use super::shell::{Flag, Phase, Shell, Transforming, Unread};
use crate::output::{SendQueue, Slices};
use crate::server::{Closed, ConnectionId, Fill, Server};
use crate::time::Now;

use alloc::vec::Vec;

/// Changes the bytes of one connection in both directions, as TLS does. Sans-IO, like everything else.
pub trait Transform: Send {
    /// Bytes came from the peer. What they mean is appended to `plain`; what must be sent because of them (a handshake's next
    /// message, an alert) is put into `wire`.
    ///
    /// # Errors
    ///
    /// The bytes cannot be understood. The connection is closed once `wire` is written.
    fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut SendQueue,
    ) -> Result<Transformed, TransformError>;

    /// Takes bytes from the start of the parts, at most about one record, and puts them transformed into `wire`. Returns how
    /// many it took: none while it cannot send yet.
    fn send(&mut self, parts: &[&[u8]], wire: &mut SendQueue) -> usize;

    /// Nothing more will be sent: puts its farewell (TLS: `close_notify`) into `wire`. Called once.
    fn finish(&mut self, wire: &mut SendQueue);
}

/// What a [`Transform`] knows of the peer's side after it received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transformed {
    /// More may come.
    Open,
    /// The peer said that it sends no more (TLS: `close_notify`).
    Ended,
}

/// The bytes could not be understood. What the peer is to be told of it is in `wire` already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransformError;

impl fmt::Display for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes could not be transformed")
    }
}

impl core::error::Error for TransformError {}

impl<S: Server> Driver<S> {
    pub(super) fn receive_transformed(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        let shell = &mut self.shells[id.slot()];
        let Some(Transforming { transform, .. }) = shell.transform.as_deref_mut() else { return };
        let mut plain = core::mem::take(&mut self.plain);
        plain.clear();
        let buffers = shell.buffers.get_or_insert_with(|| self.pool.take());
        let result = transform.receive(bytes, &mut plain, &mut buffers.wire);
        // The handshake may have ended: what waits can go now.
        shell.flags.clear(Flag::Withheld);
        if !plain.is_empty() && shell.phase == Phase::Open {
            self.offer(id, &mut plain, now);
        }
        self.plain = plain;
        match result {
            Ok(Transformed::Open) => {}
            Ok(Transformed::Ended) => self.ended(id, now),
            Err(TransformError) => self.fail_transform(id, now),
        }
    }

    /// The peer cannot be understood: what the transformation has to say of it (an alert) is its farewell, and nothing of the
    /// server's can follow.
    fn fail_transform(&mut self, id: ConnectionId, now: Now) {
        let shell = &mut self.shells[id.slot()];
        if !matches!(shell.phase, Phase::Open | Phase::Finishing) {
            return;
        }
        shell.phase = Phase::Finishing;
        if let Some(transforming) = &mut shell.transform {
            transforming.ended = true;
        }
        shell.flags.clear(Flag::MidFrame);
        if let Some(buffers) = &mut shell.buffers {
            buffers.out.reset();
            buffers.unread = Unread::default();
        }
        if shell.flags.take(Flag::Admitted) {
            self.server.closed(id, Closed::Failed, now);
            self.linger(id, now);
        }
    }

    /// Transforms a record's worth of what is to be sent, if nothing transformed waits.
    pub(super) fn pull_transformed(&mut self, id: ConnectionId, now: Now) -> Fill {
        const RECORD: usize = 16 << 10;
        let shell = &mut self.shells[id.slot()];
        let mut buffers = shell.buffers.take().unwrap_or_else(|| self.pool.take());
        let mut wire = core::mem::take(&mut buffers.wire);
        shell.buffers = Some(buffers);
        let mut fill = Fill::All;
        if wire.is_empty() {
            if let Some(mut transforming) = shell.transform.take_if(|transforming| !transforming.ended) {
                let mut parts = Slices::new(RECORD);
                let pull = shell.may_pull();
                let Shell { flags, buffers, .. } = shell;
                fill = Self::fill_plain(&mut self.server, flags, buffers, pull, id, &mut parts, now);
                let offered = parts.len();
                let taken =
                    if offered > 0 { transforming.transform.send(parts.parts(), &mut wire) } else { 0 };
                let shell = &mut self.shells[id.slot()];
                shell.transform = Some(transforming);
                if offered == 0 {
                    if fill != Fill::More {
                        self.nothing_lent(id);
                    }
                } else if taken == 0 {
                    // Not yet: it is asked for again when more came from the peer.
                    shell.flags.set(Flag::Withheld);
                    fill = Fill::Nothing;
                    self.wait_for_peer(id, now);
                } else {
                    self.wrote_plain(id, taken, false, Fill::More, now);
                    if taken < offered {
                        fill = Fill::More;
                    }
                }
            }
        }
        self.shells[id.slot()].buffers.get_or_insert_with(|| self.pool.take()).wire = wire;
        fill
    }
}
