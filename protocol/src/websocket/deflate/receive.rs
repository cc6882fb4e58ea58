//! How the machine inflates what it receives.

use super::super::connection::{Connection, Event, UnderWay};
use super::super::{RecvError, Role, mask};
use super::codec::{Compressor, Corrupt, Inflater, Progress};
use super::compression::Agreed;
use super::pool::{Buffer, Memory, Pooled, Reservation};
use crate::input::Input;
use crate::time::Now;

/// How many bytes are unmasked at a time. What of them is not taken is masked again.
const UNMASKED_AT_ONCE: usize = 4096;

/// What inflates and compresses for a connection. The states come first: what is set aside for them goes last.
#[derive(Debug, Default)]
pub(in super::super) struct States {
    inflater: Pooled<Inflater>,
    pub(super) compressor: Pooled<Compressor>,
    reservation: Option<Reservation>,
}

impl States {
    /// How many compressed bytes of the message under way were taken.
    pub(in super::super) fn taken(&self) -> u64 {
        self.inflater.shared().map_or(0, |inflater| inflater.taken)
    }

    fn is_drained(&self) -> bool {
        self.inflater.shared().is_none_or(Inflater::is_drained)
    }
}

impl Connection {
    pub(in super::super) fn set_deflate(&mut self, agreed: Agreed) {
        if !self.config.compression.pool().is_some_and(|pool| agreed.reservation.is_of(pool)) {
            return;
        }
        self.deflate = Some(agreed.parameters);
        if !agreed.reservation.is_empty() {
            self.rare.get_or_insert_default().states.reservation = Some(agreed.reservation);
        }
    }

    /// The next part of a compressed message: at most one buffer's worth. `None` if there is none before a further head or
    /// more input.
    pub(in super::super) fn next_inflated<'b>(
        &mut self,
        input: &mut Input<'b>,
        now: Now,
    ) -> Result<Option<Event<'b>>, RecvError> {
        let Some(message) = self.receiving.filter(|message| message.is_deflated()) else { return Ok(None) };
        let arrived = if self.frame_left > 0 { !input.is_empty() } else { self.fin };
        if !arrived && self.rare.as_ref().is_none_or(|rare| rare.states.is_drained()) {
            return Ok(None);
        }
        let mut inflater = self.take_inflater()?;
        let event = self.inflate(message, &mut inflater, input, now)?;
        if self.receiving.is_some() || self.takeover(self.role.other()) {
            self.rare.get_or_insert_default().states.inflater = inflater;
        }
        Ok(event)
    }

    fn take_inflater(&mut self) -> Result<Pooled<Inflater>, RecvError> {
        if let Some(inflater) = self.rare.as_mut().and_then(|rare| rare.states.inflater.take()) {
            return Ok(inflater);
        }
        let memory = self.memory(self.role.other());
        self.config.compression.pool().and_then(|pool| pool.take((), memory)).ok_or(RecvError::NoMemory)
    }

    fn inflate<'b>(
        &mut self,
        message: UnderWay,
        pooled: &mut Pooled<Inflater>,
        input: &mut Input<'b>,
        now: Now,
    ) -> Result<Option<Event<'b>>, RecvError> {
        let pool = self.config.compression.pool().ok_or(RecvError::NoMemory)?;
        let mut room: Pooled<Buffer> = pool.take((), Memory::OnDemand).ok_or(RecvError::NoMemory)?;
        let inflater = pooled.item().ok_or(RecvError::NoMemory)?;
        // One byte more than there may be shows that there are too many.
        let most = usize::try_from(self.message_left.saturating_add(1)).unwrap_or(usize::MAX);
        let mut verdict = Ok(());
        loop {
            let mut free = room.free();
            let len = free.len().min(most);
            free = free.get_mut(..len).unwrap_or_default();
            let piece = input.bytes_mut();
            let len = piece.len().min(usize::try_from(self.frame_left).unwrap_or(usize::MAX));
            let piece = piece.get_mut(..len.min(UNMASKED_AT_ONCE)).unwrap_or_default();
            self.unmask(0, piece);
            let Progress { taken, given } = match inflater.inflate(piece, free) {
                Ok(progress) => progress,
                Err(Corrupt { given }) => {
                    verdict = Err(RecvError::InvalidDeflate);
                    Progress { taken: 0, given }
                }
            };
            let full = given == free.len();
            self.unmask(taken, piece.get_mut(taken..).unwrap_or_default());
            input.take(taken);
            self.key.rotate_left(taken % 4);
            self.frame_left = self.frame_left.saturating_sub(taken as u64);
            room.fill(given);
            if taken > 0 {
                self.heard_data(now);
            }
            if full || self.frame_left == 0 || input.is_empty() || verdict.is_err() {
                break;
            }
        }
        // What came out is looked at before what could not, so that the cuts of the input make no difference.
        let first = self.admit(message.kind(), room.filled())?;
        verdict?;
        let last = self.fin && self.frame_left == 0 && inflater.is_drained();
        if last {
            inflater.finish().map_err(|_| RecvError::InvalidDeflate)?;
        } else if room.filled().is_empty() {
            return Ok(None);
        }
        self.give(message.kind(), room.into(), first, last).map(Some)
    }

    /// Masks or unmasks bytes of the frame under way that stand so far behind the next one.
    fn unmask(&self, distance: usize, bytes: &mut [u8]) {
        if self.role == Role::Server {
            mask::apply(self.key, distance, bytes);
        }
    }

    /// Whether what this role sends may refer to the messages before.
    pub(super) fn takeover(&self, sender: Role) -> bool {
        self.deflate.is_some_and(|parameters| parameters.takeover(sender))
    }

    /// Where the state for what this role sends has its memory from.
    pub(super) fn memory(&self, sender: Role) -> Memory {
        if self.takeover(sender) { Memory::Reserved } else { Memory::OnDemand }
    }
}
