//! How the machine compresses what it sends.

use alloc::vec::Vec;

use super::super::connection::Connection;
use super::super::frame::{FrameHead, Opcode};
use super::super::{MessageKind, mask};
use super::codec::{Compressor, Progress, TAIL};
use super::pool::{Buffer, Memory, Pooled};
use crate::output::Sink;

/// What a part of a message is compressed into where the budget has no buffer left: a message that has begun must go on.
const SMALL_BUFFER_BYTES: usize = 1024;

/// How much is compressed at a time while it may turn out that it is not worth it.
const TRIED_AT_ONCE: usize = 1024;

/// An empty message, compressed (RFC 7692 section 7.2.3.6): the beginning of an empty block, whose end is left away.
const EMPTY: [u8; 1] = [0];

impl Connection {
    /// Puts a whole message, compressed. `false` if nothing was put, as it is better not compressed.
    pub(in super::super) fn put_deflated(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        out: &mut impl Sink,
    ) -> bool {
        let Some((parameters, pool)) = self.deflate.zip(self.config.compression.pool()) else { return false };
        let takeover = parameters.takeover(self.role);
        if !pool.config().compresses(payload, takeover) {
            return false;
        }
        let Some(mut buffer) = pool.take::<Buffer>((), Memory::OnDemand) else { return false };
        let Some(mut compressor) = self.take_compressor() else { return false };
        let Some(deflate) = compressor.item() else { return false };
        // Once a compressor has seen what the peer has not, it must not refer to it: with takeover there is no way back.
        let put = self.put_compressed(deflate, (kind.into(), true), payload, buffer.free(), !takeover, out);
        if takeover {
            self.rare.get_or_insert_default().states.compressor = compressor;
        }
        put
    }

    /// A message of parts begins: whether it is compressed.
    pub(in super::super) fn begin_deflated(&mut self) -> bool {
        let Some(compressor) = self.take_compressor() else { return false };
        self.rare.get_or_insert_default().states.compressor = compressor;
        true
    }

    /// Puts a part of such a message.
    pub(in super::super) fn put_deflated_part(
        &mut self,
        last: bool,
        opcode: Opcode,
        payload: &[u8],
        out: &mut impl Sink,
    ) {
        if payload.is_empty() {
            let payload: &mut [u8] = if last { &mut { EMPTY } } else { &mut [] };
            self.put_frame((opcode, last), payload, out);
        } else if let Some(mut compressor) = self.take_compressor() {
            let mut small = [0; SMALL_BUFFER_BYTES];
            let mut buffer =
                self.config.compression.pool().and_then(|pool| pool.take::<Buffer>((), Memory::OnDemand));
            let buffer = buffer.as_mut().map_or(&mut small[..], Pooled::free);
            if let Some(deflate) = compressor.item() {
                self.put_compressed(deflate, (opcode, last), payload, buffer, false, out);
            }
            self.rare.get_or_insert_default().states.compressor = compressor;
        }
        if last && !self.takeover(self.role) {
            if let Some(rare) = &mut self.rare {
                rare.states.compressor = Pooled::default();
            }
        }
    }

    /// A message for all connections with such a window; `None` if it is too short to be compressed, or there is no memory.
    pub(in super::super) fn compress_shared(&self, window_bits: u8, payload: &[u8]) -> Option<Vec<u8>> {
        let pool = self.config.compression.pool()?;
        if !pool.config().compresses(payload, false) {
            return None;
        }
        let mut compressor: Pooled<Compressor> = pool.take(window_bits, Memory::OnDemand)?;
        let mut buffer: Pooled<Buffer> = pool.take((), Memory::OnDemand)?;
        let mut compressed = Vec::new();
        compressor.item()?.compress_message(payload, buffer.free(), &mut compressed);
        Some(compressed)
    }

    fn take_compressor(&mut self) -> Option<Pooled<Compressor>> {
        if let Some(compressor) = self.rare.as_mut().and_then(|rare| rare.states.compressor.take()) {
            return Some(compressor);
        }
        let bits = self.deflate?.window_bits(self.role);
        self.config.compression.pool()?.take(bits, self.memory(self.role))
    }

    /// Puts the frames of a part that is not empty: as many as fill the buffer, and one. May it give up, it does if the first
    /// of them would be no smaller than what it stands for: then nothing was put, and it returns `false`.
    fn put_compressed(
        &mut self,
        compressor: &mut Compressor,
        (mut opcode, last): (Opcode, bool),
        payload: &[u8],
        buffer: &mut [u8],
        mut may_give_up: bool,
        out: &mut impl Sink,
    ) -> bool {
        let (mut rest, mut filled) = (payload, 0);
        loop {
            let piece = if may_give_up { rest.get(..TRIED_AT_ONCE).unwrap_or(rest) } else { rest };
            let flush = piece.len() == rest.len();
            let free = buffer.get_mut(filled..).unwrap_or_default();
            let Progress { taken, given } = compressor.compress(piece, free, flush);
            rest = rest.get(taken..).unwrap_or_default();
            filled += given;
            let (full, stuck) = (filled == buffer.len(), taken == 0 && given == 0);
            if !full && !flush && !stuck {
                continue;
            }
            if may_give_up {
                // What was taken last may not have come out.
                let waiting = if full { TRIED_AT_ONCE } else { 0 };
                if filled + waiting >= payload.len() - rest.len() {
                    return false;
                }
                may_give_up = false;
            }
            if !full || stuck {
                break;
            }
            // The end of what there is may be what is left away at the end of the message.
            let kept = filled - TAIL.len();
            self.put_frame((opcode, false), buffer.get_mut(..kept).unwrap_or_default(), out);
            buffer.copy_within(kept.., 0);
            (opcode, filled) = (Opcode::Continuation, TAIL.len());
        }
        if last {
            filled = filled.saturating_sub(TAIL.len());
        }
        self.put_frame((opcode, last), buffer.get_mut(..filled).unwrap_or_default(), out);
        true
    }

    /// Puts one frame of a compressed message, which is masked in place.
    fn put_frame(&mut self, (opcode, fin): (Opcode, bool), payload: &mut [u8], out: &mut impl Sink) {
        let key = self.masking_key();
        let head = FrameHead::new(fin, opcode, payload.len() as u64, key);
        out.put(if opcode == Opcode::Continuation { head } else { head.with_rsv1() }.as_ref());
        if let Some(key) = key {
            mask::apply(key, 0, payload);
        }
        out.put(payload);
    }
}
