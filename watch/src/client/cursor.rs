//! Up to where everything was told, so that a watch goes on there and tells nothing twice.
//!
//! A commit can have several changes, all with one revision, and a connection can end between two of them. So the revision
//! of the last change is not yet one to go on from: the rest of its commit would be missing. Only what comes behind it (a later
//! change, a bookmark) says that it is whole. Until then the watch goes on from the revision before, and the changes of that
//! one commit that were told already are passed over when they come again.

use super::event::Failure;
use crate::key::Revision;

#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    /// Everything up to here was told.
    whole: Revision,
    /// The commit that may not be whole: its revision, and how many changes of it were told.
    part: Option<(Revision, u32)>,
    /// How many changes of `part` come again.
    repeated: u32,
}

impl Cursor {
    pub(super) fn at(revision: Revision) -> Self {
        Self { whole: revision, part: None, repeated: 0 }
    }

    /// The revision to go on from.
    pub(super) fn since(&self) -> Revision {
        self.whole
    }

    /// Whether everything up to this revision was told, and nothing behind it.
    pub(super) fn is_at(&self, revision: Revision) -> bool {
        self.whole == revision && self.part.is_none()
    }

    /// The watch goes on from [`since`](Self::since).
    pub(super) fn resume(&mut self) {
        self.repeated = self.part.map_or(0, |(_, told)| told);
    }

    /// A change came. Returns whether it is news.
    pub(super) fn change(&mut self, revision: Revision) -> Result<bool, Failure> {
        match &mut self.part {
            Some((part, _)) if revision < *part => return Err(Failure::Revision),
            Some((part, told)) if revision == *part => {
                if self.repeated > 0 {
                    self.repeated -= 1;
                    return Ok(false);
                }
                *told = told.saturating_add(1);
                return Ok(true);
            }
            Some((part, _)) => self.whole = *part,
            None if revision <= self.whole => return Err(Failure::Revision),
            None => {}
        }
        self.repeated = 0;
        self.part = Some((revision, 1));
        Ok(true)
    }

    /// Everything up to this revision came. Returns whether that is news.
    pub(super) fn bookmark(&mut self, revision: Revision) -> Result<bool, Failure> {
        let last = self.part.map_or(self.whole, |(part, _)| part);
        if revision < last {
            return Err(Failure::Revision);
        }
        let news = revision > self.whole;
        *self = Self::at(revision);
        Ok(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: u64) -> Revision {
        Revision::new(number).unwrap()
    }

    fn change(cursor: &mut Cursor, number: u64) -> Result<bool, Failure> {
        cursor.change(revision(number))
    }

    #[test]
    fn a_commit_is_whole_when_something_comes_behind_it() {
        let mut cursor = Cursor::at(revision(10));
        assert_eq!(change(&mut cursor, 12), Ok(true));
        assert_eq!(cursor.since(), revision(10));
        assert_eq!(change(&mut cursor, 12), Ok(true));
        assert_eq!(change(&mut cursor, 14), Ok(true));
        assert_eq!(cursor.since(), revision(12));
        assert_eq!(cursor.bookmark(revision(14)), Ok(true));
        assert_eq!(cursor.since(), revision(14));
        assert_eq!(cursor.bookmark(revision(14)), Ok(false));
    }

    #[test]
    fn it_is_at_a_revision_when_nothing_behind_that_was_told() {
        let mut cursor = Cursor::at(revision(10));
        assert!(cursor.is_at(revision(10)) && !cursor.is_at(revision(9)) && !cursor.is_at(revision(11)));
        assert_eq!(change(&mut cursor, 12), Ok(true));
        assert!(!cursor.is_at(revision(10)) && !cursor.is_at(revision(12)));
    }

    #[test]
    fn what_was_told_of_a_commit_is_passed_over_when_it_comes_again() {
        let mut cursor = Cursor::at(revision(10));
        assert_eq!((change(&mut cursor, 12), change(&mut cursor, 12)), (Ok(true), Ok(true)));
        for _ in 0..2 {
            cursor.resume();
            assert_eq!((change(&mut cursor, 12), change(&mut cursor, 12)), (Ok(false), Ok(false)));
        }
        assert_eq!(change(&mut cursor, 12), Ok(true));
        cursor.resume();
        for news in [false, false, false, true] {
            assert_eq!(change(&mut cursor, 12), Ok(news));
        }
        assert_eq!(change(&mut cursor, 13), Ok(true));
    }

    #[test]
    fn a_cut_within_the_repetition_repeats_it_again() {
        let mut cursor = Cursor::at(revision(10));
        for _ in 0..3 {
            assert_eq!(change(&mut cursor, 12), Ok(true));
        }
        cursor.resume();
        assert_eq!(change(&mut cursor, 12), Ok(false));
        cursor.resume();
        for news in [false, false, false, true] {
            assert_eq!(change(&mut cursor, 12), Ok(news));
        }
    }

    #[test]
    fn revisions_do_not_go_back() {
        let mut cursor = Cursor::at(revision(10));
        assert_eq!(change(&mut cursor, 10), Err(Failure::Revision));
        assert_eq!(cursor.bookmark(revision(9)), Err(Failure::Revision));
        assert_eq!(change(&mut cursor, 12), Ok(true));
        assert_eq!(change(&mut cursor, 11), Err(Failure::Revision));
        assert_eq!(cursor.bookmark(revision(11)), Err(Failure::Revision));
    }
}
