//! What a connection is sent, kept for it whatever becomes of where it came from.
//!
//! Whoever reads slowly may have to be sent the rest of a value or a frame long after state and log have dropped it. What is
//! [small](FREE) is counted with the connection. Of anything larger no byte is lent before all of it has a share of the
//! [`Budget`]: a frame that is half written can neither be refused nor wait.
//!
//! Many are sent the same: on each machine that is kept, and counted, once.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, OnceLock, Weak};

use keepwatch_protocol::{Lease, Leases, Slices};

use crate::budget::{Budget, FREE, Share};
use crate::encoding::EncodingId;
use crate::key::Position;

/// Bytes that a connection is being sent.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    parts: VecDeque<Lease>,
    begun: bool,
    /// For the one part that is not small, if there is one.
    kept: Option<Arc<Kept>>,
}

/// The share of something large, for all of a machine who are sent it.
#[derive(Debug)]
pub(super) struct Kept {
    #[expect(dead_code, reason = "it is held")]
    share: Share,
    /// Made when the first has to be sent the rest of it.
    bytes: OnceLock<Arc<[u8]>>,
}

/// What is kept for the connections of a machine.
#[derive(Debug)]
pub(super) struct Keeping {
    budget: Budget,
    /// Those that nobody is sent any more are dropped now and then.
    kept: BTreeMap<What, Weak<Kept>>,
    clean_at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// By its address: it is not another's while it is kept.
    Value(usize),
    Frame(Position, EncodingId),
}

impl Outgoing {
    /// All of this, which is small or counted elsewhere.
    pub(super) fn small(bytes: impl Into<Lease>) -> Self {
        let mut outgoing = Self::default();
        outgoing.push(bytes.into());
        outgoing
    }

    /// All of this, which has this share.
    pub(super) fn counted(share: Share, bytes: Arc<[u8]>) -> Self {
        if bytes.len() <= FREE {
            return Self::small(bytes);
        }
        Self { kept: Some(Arc::new(Kept { share, bytes: OnceLock::new() })), ..Self::small(bytes) }
    }

    /// A range of what is kept.
    pub(super) fn push_kept(&mut self, kept: Arc<Kept>, bytes: &Arc<[u8]>, range: Range<usize>) {
        self.push(Lease::new(Arc::clone(bytes), range));
        self.kept = Some(kept);
    }

    /// A range of shared bytes, without all the others if these are many.
    pub(super) fn push_small(&mut self, bytes: &Arc<[u8]>, range: Range<usize>) {
        if bytes.len() <= 2 * range.len() {
            self.push(Lease::new(Arc::clone(bytes), range));
        } else if let Some(part) = bytes.get(range) {
            self.push(Arc::<[u8]>::from(part).into());
        }
    }

    fn push(&mut self, lease: Lease) {
        if !lease.is_empty() {
            self.parts.push_back(lease);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The bytes of all parts.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|lease| lease.len()).sum()
    }

    /// A copy of them all.
    pub(super) fn concat(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|lease| lease.iter().copied()).collect()
    }

    /// Whether some of it was written: then nothing else may be, before its rest.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Drops what was written. Returns whether anything is left.
    pub(super) fn sent(&mut self, mut bytes: usize) -> bool {
        self.begun |= bytes > 0;
        while let Some(first) = self.parts.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                return true;
            }
            bytes -= first.len();
            self.parts.pop_front();
        }
        false
    }

    pub(super) fn lend<'a>(&'a self, to: &mut Slices<'a>) {
        let _all = self.parts.iter().all(|lease| to.push(lease));
    }

    pub(super) fn lease(&self, to: &mut Leases) {
        let _all = self.parts.iter().all(|lease| to.push(lease.clone()));
    }
}

impl Kept {
    /// The bytes that it stands for: those that it has, or these.
    pub(super) fn bytes(&self, make: impl FnOnce() -> Arc<[u8]>) -> &Arc<[u8]> {
        self.bytes.get_or_init(make)
    }
}

impl Keeping {
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, kept: BTreeMap::new(), clean_at: 0 }
    }

    /// The same for another state.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }

    /// Keeps a value. `None`: there is no room for it.
    pub(super) fn value(&mut self, value: &Arc<[u8]>) -> Option<Arc<Kept>> {
        let kept = self.keep(What::Value(Arc::as_ptr(value).addr()), value.len())?;
        kept.bytes(|| Arc::clone(value));
        Some(kept)
    }

    /// Room for the frame of so many bytes of the change at this position. `None`: there is none.
    pub(super) fn frame(&mut self, at: Position, encoding: EncodingId, bytes: usize) -> Option<Arc<Kept>> {
        self.keep(What::Frame(at, encoding), bytes)
    }

    fn keep(&mut self, what: What, bytes: usize) -> Option<Arc<Kept>> {
        if let Some(kept) = self.kept.get(&what).and_then(Weak::upgrade) {
            return Some(kept);
        }
        let mut share = self.budget.share();
        if !share.resize_to_send(bytes) {
            return None;
        }
        if self.kept.len() >= self.clean_at {
            self.kept.retain(|_, kept| kept.strong_count() > 0);
            self.clean_at = 2 * self.kept.len() + 16;
        }
        let kept = Arc::new(Kept { share, bytes: OnceLock::new() });
        self.kept.insert(what, Arc::downgrade(&kept));
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Change;
    use crate::encoding::{Encoder, Encodings};

    struct Nothing;

    impl Encoder for Nothing {
        fn encode(&self, _: &Change, _: bool, _: &mut Vec<u8>) {}
    }

    fn encoding() -> EncodingId {
        Encodings::new().register(Arc::new(Nothing)).unwrap()
    }

    fn value(bytes: usize) -> Arc<[u8]> {
        vec![b'x'; bytes].into()
    }

    #[test]
    fn what_nobody_is_sent_any_more_is_not_kept_in_mind() {
        let budget = Budget::new(1 << 20);
        let mut keeping = Keeping::new(budget.clone());
        let stays = keeping.value(&value(20_000)).unwrap();
        for at in 0..1000 {
            assert!(keeping.frame(Position::new(at), encoding(), 20_000).is_some());
        }
        assert!(keeping.kept.len() < 64, "{}", keeping.kept.len());
        assert_eq!(budget.used(), 20_000);
        drop(stays);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn after_another_state_a_position_is_another_frame() {
        let mut keeping = Keeping::new(Budget::new(100));
        let before = keeping.frame(Position::START, encoding(), 40).unwrap();
        assert!(Arc::ptr_eq(&before, &keeping.frame(Position::START, encoding(), 40).unwrap()));
        keeping.forget();
        assert!(!Arc::ptr_eq(&before, &keeping.frame(Position::START, encoding(), 40).unwrap()));
    }

    #[test]
    fn little_of_much_is_copied() {
        let shared = value(1000);
        for (range, count) in [(0..499, 1), (0..500, 2), (100..1000, 2), (7..7, 1)] {
            let mut outgoing = Outgoing::default();
            outgoing.push_small(&shared, range.clone());
            assert_eq!((outgoing.len(), Arc::strong_count(&shared)), (range.len(), count));
        }
    }
}
