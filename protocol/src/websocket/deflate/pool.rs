//! What connections share: states that nobody uses just now, and one budget for all of them.
//!
//! ```text
//!   used   what is taken, and what is set aside for takeover     at most the budget
//!   idle   what lies on the shelf                                makes room where used grows
//! ```
//!
//! A lock is held for the moment in which something is taken or given back, and for nothing that takes time: making,
//! resetting and dropping a state happen outside. So it is hardly ever contended, and cheap while it is not.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::{vec, vec::Vec};
use core::fmt;
use core::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::Role;
use super::codec::{Compressor, Inflater};
use super::compression::DeflateConfig;
use super::offer::{Parameters, Terms};

/// The size of a buffer: of a room for what was inflated, and of what is compressed at a time.
pub(in super::super) const BUFFER_BYTES: usize = 16 << 10;

/// The most of each kind that are kept while nobody uses them. One for each thread is enough for whole messages; more serve
/// messages that come in pieces.
const IDLE: usize = 8;

/// The settings, the shelf and the budget.
pub(in super::super) struct Pool {
    config: DeflateConfig,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
#[expect(
    clippy::vec_box,
    reason = "what is taken goes into a box, and is neither copied nor allocated for that"
)]
pub(in super::super) struct Shelf {
    used: usize,
    idle: usize,
    pub(super) inflaters: Vec<Box<Slot<Inflater>>>,
    pub(super) compressors: Vec<Box<Slot<Compressor>>>,
    buffers: Vec<Box<Slot<Buffer>>>,
}

/// Whether a state's memory was set aside at the handshake, or is to be found now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Memory {
    Reserved,
    OnDemand,
}

/// What the shelf keeps.
pub(in super::super) trait Kept: Sized {
    /// What is to be known to make one.
    type Class: Copy;
    /// Whether it is only taken for moments.
    const MOMENTARY: bool;

    fn make(class: Self::Class, config: &DeflateConfig) -> Self;
    fn bytes(class: Self::Class, config: &DeflateConfig) -> usize;
    fn class(&self) -> Self::Class;
    fn fits(&self, class: Self::Class) -> bool;
    fn place(shelf: &mut Shelf) -> &mut Vec<Box<Slot<Self>>>;
    /// Makes it as good as new.
    fn reset(&mut self);
}

/// Something of the pool's, which goes back when it is dropped; or nothing.
pub(in super::super) struct Pooled<T: Kept>(Option<Box<Slot<T>>>);

pub(in super::super) struct Slot<T> {
    item: T,
    memory: Memory,
    /// Whom it goes back to; nobody while it is on the shelf.
    pool: Option<Arc<Pool>>,
}

impl Pool {
    pub(super) fn new(config: DeflateConfig) -> Self {
        Self { config: config.in_range(), shelf: Mutex::default() }
    }

    pub(in super::super) fn config(&self) -> &DeflateConfig {
        &self.config
    }

    /// What of the terms there is memory for, which is now set aside. An inflater comes first: it is smaller, and lets the
    /// peer, which most likely is the one with less to do, send less.
    pub(super) fn reserve_takeover(self: &Arc<Self>) -> (Terms, Reservation) {
        let mut terms = self.config.terms;
        let mut reservation = Reservation { pool: Arc::clone(self), bytes: 0 };
        terms.receive_takeover =
            terms.receive_takeover && reservation.grow(Inflater::bytes((), &self.config));
        let compressor = Compressor::bytes(terms.send_window_bits, &self.config);
        terms.send_takeover = terms.send_takeover && reservation.grow(compressor);
        (terms, reservation)
    }

    pub(super) fn memory(&self) -> usize {
        let shelf = self.shelf();
        shelf.used + shelf.idle
    }

    pub(super) fn used(&self) -> usize {
        self.shelf().used
    }

    /// Takes one off the shelf, or makes it; `None` if the budget has no room for it.
    pub(in super::super) fn take<T: Kept>(
        self: &Arc<Self>,
        class: T::Class,
        memory: Memory,
    ) -> Option<Pooled<T>> {
        let bytes = T::bytes(class, &self.config);
        let (kept, surplus) = {
            let mut shelf = self.shelf();
            if memory == Memory::OnDemand && !shelf.use_more(bytes, self.limit::<T>()) {
                return None;
            }
            let place = T::place(&mut shelf);
            let kept = place.iter().position(|slot| slot.item.fits(class)).map(|at| place.swap_remove(at));
            if kept.is_some() {
                shelf.idle = shelf.idle.saturating_sub(bytes);
            }
            (kept, shelf.trim(&self.config))
        };
        drop(surplus);
        let mut slot =
            kept.unwrap_or_else(|| Box::new(Slot { item: T::make(class, &self.config), memory, pool: None }));
        slot.memory = memory;
        slot.pool = Some(Arc::clone(self));
        Some(Pooled(Some(slot)))
    }

    fn reserve(&self, bytes: usize) -> bool {
        let mut shelf = self.shelf();
        let reserved = shelf.use_more(bytes, self.limit::<Inflater>());
        let surplus = shelf.trim(&self.config);
        drop(shelf);
        drop(surplus);
        reserved
    }

    fn release(&self, bytes: usize) {
        let mut shelf = self.shelf();
        shelf.used = shelf.used.saturating_sub(bytes);
    }

    fn put_back<T: Kept>(&self, slot: Box<Slot<T>>) {
        let bytes = T::bytes(slot.item.class(), &self.config);
        let mut shelf = self.shelf();
        if slot.memory == Memory::OnDemand {
            shelf.used = shelf.used.saturating_sub(bytes);
        }
        let fits = shelf.used + shelf.idle + bytes <= self.config.budget;
        let place = T::place(&mut shelf);
        if fits && place.len() < IDLE {
            place.push(slot);
            shelf.idle += bytes;
        } else {
            drop(shelf); // what is dropped now takes its time outside the lock
        }
    }

    /// How much may be used before no more of this kind is given out. Buffers, which are needed for moments, may use all.
    fn limit<T: Kept>(&self) -> usize {
        let DeflateConfig { budget, .. } = self.config;
        if T::MOMENTARY { budget } else { budget.saturating_sub((budget / 16).max(2 * BUFFER_BYTES)) }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// Counts so many bytes more as used, if they stay within the limit.
    fn use_more(&mut self, bytes: usize, limit: usize) -> bool {
        let within = self.used.checked_add(bytes).is_some_and(|used| used <= limit);
        if within {
            self.used += bytes;
        }
        within
    }

    /// Clears the shelf if what is used needs its memory. What is returned is to be dropped outside the lock.
    fn trim(&mut self, config: &DeflateConfig) -> Option<impl Sized + use<>> {
        if self.used + self.idle <= config.budget {
            return None;
        }
        self.idle = 0;
        let Self { inflaters, compressors, buffers, .. } = self;
        Some((take(inflaters), take(compressors), take(buffers)))
    }
}

impl<T: Kept> Pooled<T> {
    /// Takes what is there, if something is.
    pub(super) fn take(&mut self) -> Option<Self> {
        self.0.take().map(|slot| Self(Some(slot)))
    }

    pub(super) fn item(&mut self) -> Option<&mut T> {
        self.0.as_mut().map(|slot| &mut slot.item)
    }

    pub(super) fn shared(&self) -> Option<&T> {
        self.0.as_ref().map(|slot| &slot.item)
    }
}

impl<T: Kept> Default for Pooled<T> {
    /// Nothing.
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Kept> Drop for Pooled<T> {
    fn drop(&mut self) {
        let Some(mut slot) = self.0.take() else { return };
        let Some(pool) = slot.pool.take() else { return };
        slot.item.reset();
        pool.put_back(slot);
    }
}

impl<T: Kept> fmt::Debug for Pooled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pooled")
    }
}

/// Memory that is set aside for the states of a connection with context takeover.
pub(in super::super) struct Reservation {
    pool: Arc<Pool>,
    bytes: usize,
}

impl Reservation {
    /// Gives back what these parameters do not need.
    pub(super) fn reduce(&mut self, parameters: Parameters, role: Role) {
        let config = self.pool.config;
        let mut needed = 0;
        if parameters.takeover(role.other()) {
            needed += Inflater::bytes((), &config);
        }
        if parameters.takeover(role) {
            needed += Compressor::bytes(parameters.window_bits(role), &config);
        }
        let surplus = self.bytes.saturating_sub(needed);
        self.bytes -= surplus;
        self.pool.release(surplus);
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let grown = self.pool.reserve(bytes);
        if grown {
            self.bytes += bytes;
        }
        grown
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(in super::super) fn is_of(&self, pool: &Arc<Pool>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.pool.release(self.bytes);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({})", self.bytes)
    }
}

/// Bytes to write into.
pub(in super::super) struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
}

impl Kept for Buffer {
    type Class = ();
    const MOMENTARY: bool = true;

    fn make((): (), _: &DeflateConfig) -> Self {
        Self { bytes: vec![0; BUFFER_BYTES].into_boxed_slice(), filled: 0 }
    }

    fn bytes((): (), _: &DeflateConfig) -> usize {
        BUFFER_BYTES
    }

    fn class(&self) {}

    fn fits(&self, (): ()) -> bool {
        true
    }

    fn place(shelf: &mut Shelf) -> &mut Vec<Box<Slot<Self>>> {
        &mut shelf.buffers
    }

    fn reset(&mut self) {
        self.filled = 0;
    }
}

/// What was inflated.
pub(in super::super) type Room = Pooled<Buffer>;

impl Room {
    pub(in super::super) fn filled(&self) -> &[u8] {
        self.shared().and_then(|buffer| buffer.bytes.get(..buffer.filled)).unwrap_or_default()
    }

    pub(in super::super) fn filled_mut(&mut self) -> &mut [u8] {
        self.item().and_then(|buffer| buffer.bytes.get_mut(..buffer.filled)).unwrap_or_default()
    }

    /// What is not filled.
    pub(in super::super) fn free(&mut self) -> &mut [u8] {
        self.item().and_then(|buffer| buffer.bytes.get_mut(buffer.filled..)).unwrap_or_default()
    }

    /// Says that so many bytes of what was free are filled.
    pub(in super::super) fn fill(&mut self, count: usize) {
        if let Some(buffer) = self.item() {
            buffer.filled = buffer.filled.saturating_add(count).min(buffer.bytes.len());
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shelf = self.shelf();
        write!(f, "Deflate({:?}, {} bytes used, {} idle)", self.config, shelf.used, shelf.idle)
    }
}
