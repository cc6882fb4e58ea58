//! What happened: a [`Change`] of one key, and a [`Batch`] of them, committed together and shared by every machine.
//!
//! ```text
//!              Batch (one Arc, immutable, shared by all machines)
//!  position      7              8              9
//!  revision     41             41             42          a commit: the changes of one revision, never cut
//!            [ put a ]     [ delete b ]    [ put c ]
//!  encodings  line ->  weak ... SSE -> weak ...           made when first needed, kept alive by the machines' logs
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::encoding::{Encoded, Encoder};
use crate::key::{Key, Position, Revision};

/// One key was written or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose value changed.
    pub key: Key,
    /// When: the revision of the commit that this change is part of.
    pub revision: Revision,
    /// The revision of the write that created the key: the first one since it last did not exist. For a delete, that of
    /// the value that is gone.
    pub created: Revision,
    /// The value from here on; `None`: the key is deleted.
    pub value: Option<Arc<[u8]>>,
}

impl Change {
    /// About how many bytes of memory it holds, its own size included.
    pub fn bytes(&self) -> usize {
        // Both Arcs have two counters in front of their bytes.
        size_of::<Self>() + self.key.len() + self.value.as_ref().map_or(0, |value| value.len() + 16) + 16
    }
}

/// Whether the change with this index is the last of its commit. Only then does its revision say "everything up to here": a
/// resume after it, inside the commit, would lose the rest.
pub(crate) fn ends_commit(changes: &[Change], index: usize) -> bool {
    let revision = |index: usize| changes.get(index).map(|change| change.revision);
    revision(index) != revision(index.saturating_add(1))
}

/// All changes that were committed in one turn of one machine: at least one, in order. Immutable.
pub struct Batch {
    first: Position,
    changes: Box<[Change]>,
    bytes: usize,
    /// Weak: the machines' logs hold the strong ones, so what every machine has dropped is gone, and no machine has to know
    /// what another still needs.
    encoded: Mutex<Vec<MadeBy>>,
}

/// An encoding, and who made it.
type MadeBy = (Arc<dyn Encoder>, Weak<Encoded>);

impl Batch {
    /// Seals the changes at `first` and the positions that follow. Revisions may repeat (several changes of one commit), but
    /// never go back; a commit lies in one batch.
    ///
    /// # Errors
    ///
    /// [`BatchError`]: there are no changes, or their revisions go back.
    pub fn new(first: Position, changes: Vec<Change>) -> Result<Self, BatchError> {
        if changes.is_empty() {
            return Err(BatchError::Empty);
        }
        if !changes.is_sorted_by_key(|change| change.revision) {
            return Err(BatchError::Disorder);
        }
        let bytes = size_of::<Self>() + changes.iter().map(Change::bytes).sum::<usize>();
        Ok(Self { first, changes: changes.into(), bytes, encoded: Mutex::new(Vec::new()) })
    }

    /// The position of the first change.
    pub fn first(&self) -> Position {
        self.first
    }

    /// The position after the last change.
    pub fn end(&self) -> Position {
        self.first.plus(self.changes.len())
    }

    /// The changes in order; the one at index `i` is at position `first + i`.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The change at that position, if it is in this batch.
    pub fn change(&self, at: Position) -> Option<&Change> {
        self.changes.get(self.index_of(at)?)
    }

    /// The index in [`Batch::changes`] of the change at that position, if it is in this batch.
    pub fn index_of(&self, at: Position) -> Option<usize> {
        let index = usize::try_from(at.as_u64().checked_sub(self.first.as_u64())?).ok()?;
        (index < self.changes.len()).then_some(index)
    }

    /// The revision of the first change.
    pub fn first_revision(&self) -> Revision {
        self.changes.first().map_or(Revision::ZERO, |change| change.revision)
    }

    /// The revision of the last change.
    pub fn last_revision(&self) -> Revision {
        self.changes.last().map_or(Revision::ZERO, |change| change.revision)
    }

    /// The first position in this batch whose revision is greater; [`Batch::end`] if there is none. It never lies inside a
    /// commit.
    pub fn position_after(&self, revision: Revision) -> Position {
        self.first.plus(self.changes.partition_point(|change| change.revision <= revision))
    }

    /// About how many bytes of memory the changes hold, without encodings.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The frames of all changes as this encoder writes them; those that another machine made, if it still has them.
    ///
    /// It takes a lock, so a log asks once and keeps the answer. `scratch` is where the frames grow; its content is lost.
    pub(crate) fn encoded(&self, encoder: &Arc<dyn Encoder>, scratch: &mut Vec<u8>) -> Arc<Encoded> {
        // Nothing under this lock can leave the slots half changed, so a poisoned one is as good.
        let mut slots = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.iter().position(|(of, _)| same(of, encoder));
        let made = slot.and_then(|slot| slots.get(slot)).and_then(|(_, made)| made.upgrade());
        made.unwrap_or_else(|| {
            // Under the lock: who waits here would otherwise do the same work a second time.
            let made = Arc::new(Encoded::new(&self.changes, &**encoder, scratch));
            match slot.and_then(|slot| slots.get_mut(slot)) {
                Some((_, slot)) => *slot = Arc::downgrade(&made),
                None => slots.push((Arc::clone(encoder), Arc::downgrade(&made))),
            }
            made
        })
    }
}

/// Whether these are one encoder. By address: machines share encodings when they were given clones of one `Encodings`.
fn same(a: &Arc<dyn Encoder>, b: &Arc<dyn Encoder>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("first", &self.first)
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

/// Why these changes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchError {
    /// There are none.
    Empty,
    /// A revision is lower than the one before it.
    Disorder,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a batch has at least one change",
            Self::Disorder => "the revisions of a batch never go back",
        })
    }
}

impl std::error::Error for BatchError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encodings;

    fn change(key: &str, revision: u64) -> Change {
        let revision = Revision::new(revision).unwrap();
        Change { key: Key::new(key, 16).unwrap(), revision, created: revision, value: Some(Arc::from(*b"v")) }
    }

    struct Tagged(&'static str);

    impl Encoder for Tagged {
        fn encode(&self, change: &Change, _: bool, out: &mut Vec<u8>) {
            out.extend_from_slice(format!("{}{}@{};", self.0, change.key, change.revision).as_bytes());
        }
    }

    #[test]
    fn a_change_costs_itself_and_its_texts_each_behind_two_counters() {
        let counters = 2 * size_of::<usize>();
        let mut change = change("abc", 1);
        change.value = None;
        assert_eq!(change.bytes(), size_of::<Change>() + counters + 3);
        let deleted = change.bytes();
        change.value = Some(Arc::from(*b"value"));
        assert_eq!(change.bytes(), deleted + counters + 5);
    }

    #[test]
    fn a_batch_costs_itself_and_its_changes() {
        let bytes = |changes| Batch::new(Position::START, changes).unwrap().bytes();
        let (a, b) = (change("a", 1), change("bb", 1));
        let one = size_of::<Batch>() + a.bytes();
        assert_eq!((bytes(vec![a.clone()]), bytes(vec![a, b.clone()])), (one, one + b.bytes()));
    }

    #[test]
    fn a_batch_has_changes_whose_revisions_never_go_back() {
        assert_eq!(Batch::new(Position::START, vec![]).unwrap_err(), BatchError::Empty);
        let disorder = vec![change("a", 2), change("b", 1)];
        assert_eq!(Batch::new(Position::START, disorder).unwrap_err(), BatchError::Disorder);
        let batch =
            Batch::new(Position::new(7), vec![change("a", 2), change("b", 2), change("a", 5)]).unwrap();
        assert_eq!((batch.first(), batch.end()), (Position::new(7), Position::new(10)));
        assert_eq!((batch.first_revision().as_u64(), batch.last_revision().as_u64()), (2, 5));
    }

    #[test]
    fn a_position_outside_of_the_batch_has_no_change() {
        let batch = Batch::new(Position::new(7), vec![change("a", 2), change("b", 3)]).unwrap();
        let key = |at| batch.change(Position::new(at)).map(|change| change.key.as_str());
        assert_eq!([key(6), key(7), key(8), key(9)], [None, Some("a"), Some("b"), None]);
        let index = |at| batch.index_of(Position::new(at));
        assert_eq!([index(6), index(7), index(8), index(9)], [None, Some(0), Some(1), None]);
    }

    #[test]
    fn an_encoding_is_made_once_for_all_who_hold_it() {
        let batch = Batch::new(Position::START, vec![change("a", 1), change("b", 2)]).unwrap();
        let encoder: Arc<dyn Encoder> = Arc::new(Tagged("x "));
        let mut scratch = b"left over".to_vec();
        let one = batch.encoded(&encoder, &mut scratch);
        assert_eq!(&**one.bytes(), b"x a@1;x b@2;");
        assert!(Arc::ptr_eq(&one, &batch.encoded(&encoder, &mut scratch)));
    }

    #[test]
    fn an_encoding_that_nobody_holds_is_made_again_with_equal_bytes() {
        let batch = Batch::new(Position::START, vec![change("a", 1), change("b", 2)]).unwrap();
        let encoder: Arc<dyn Encoder> = Arc::new(Tagged("x "));
        let made = batch.encoded(&encoder, &mut Vec::new());
        let (copy, gone) = ((*made).clone(), Arc::downgrade(&made));
        drop(made);
        assert!(gone.upgrade().is_none());
        assert_eq!(*batch.encoded(&encoder, &mut Vec::new()), copy);
        assert_eq!(batch.encoded.lock().unwrap().len(), 1, "the slot was used again");
    }

    #[test]
    fn machines_with_different_encoders_under_one_id_never_get_each_others_bytes() {
        let batch = Batch::new(Position::START, vec![change("a", 1)]).unwrap();
        let (mut here, mut there) = (Encodings::new(), Encodings::new());
        let id = here.register(Arc::new(Tagged("here "))).unwrap();
        assert_eq!(there.register(Arc::new(Tagged("there "))), Ok(id));
        let one = batch.encoded(here.encoder(id).unwrap(), &mut Vec::new());
        let two = batch.encoded(there.encoder(id).unwrap(), &mut Vec::new());
        assert_eq!((&**one.bytes(), &**two.bytes()), (&b"here a@1;"[..], &b"there a@1;"[..]));
    }

    #[test]
    fn batches_pass_between_threads() {
        fn assert_shared<T: Send + Sync>() {}
        assert_shared::<Batch>();
        assert_shared::<Encoded>();
        assert_shared::<Encodings>();
    }
}
