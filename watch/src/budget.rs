//! What all connections together may hold in memory beside what is theirs alone: requests that have not come to their end, and
//! answers and frames that are waiting to be read.
//!
//! It is asked before memory is reserved. Who gets none is told to come back later, or waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What has at most so many bytes is not counted here but with its connection: what is small, as most requests and changes are,
/// touches nothing that all share, and is never refused.
pub(crate) const FREE: usize = 16 << 10;

/// The budgets of a process. They are apart, so that who does not read keeps nobody from writing, and the other way round.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    /// For requests that have not come to their end.
    pub(crate) incoming: Budget,
    /// For answers and frames that are waiting to be read.
    pub(crate) outgoing: Budget,
}

impl Buffers {
    /// So many bytes, half of them for each.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { incoming: Budget::new(bytes / 2), outgoing: Budget::new(bytes / 2) }
    }

    /// The bytes that are taken.
    pub(crate) fn used(&self) -> usize {
        self.incoming.used() + self.outgoing.used()
    }

    /// The bytes that there are.
    pub(crate) fn limit(&self) -> usize {
        self.incoming.limit() + self.outgoing.limit()
    }
}

/// A number of bytes that is shared out. Cloning gives another handle on the same.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Bytes>);

#[derive(Debug)]
struct Bytes {
    limit: usize,
    used: AtomicUsize,
}

/// A part of a [`Budget`]. Dropped, it is given back.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Bytes { limit, used: AtomicUsize::new(0) }))
    }

    /// The bytes that are taken.
    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The bytes that there are.
    pub(crate) fn limit(&self) -> usize {
        self.0.limit
    }

    /// A share of nothing yet.
    pub(crate) fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// Makes it so many bytes, more or fewer; [few](FREE) are none. Returns whether it could be: it is as it was if there are not so many left.
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        self.resize_where(bytes, |_| false)
    }

    /// The same for what is to be sent, of which a single one is always taken: where nobody else has any, it may be more than there
    /// is. So nobody waits for ever for what is larger than the whole.
    pub(crate) fn resize_to_send(&mut self, bytes: usize) -> bool {
        let mine = self.bytes;
        self.resize_where(bytes, |used| used == mine)
    }

    fn resize_where(&mut self, bytes: usize, anyway: impl Fn(usize) -> bool) -> bool {
        let bytes = if bytes > FREE { bytes } else { 0 };
        let Bytes { limit, used } = &*self.budget.0;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let taken = |used: usize| used.checked_add(more).filter(|&more| more <= *limit || anyway(used));
            if used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_err() {
                return false;
            }
        } else {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn shares_are_of_one_budget() {
        let budget = Budget::new(10 * MIB);
        let (mut one, mut two) = (budget.share(), budget.clone().share());
        assert!(one.resize(6 * MIB) && two.resize(4 * MIB));
        assert!(!one.resize(7 * MIB) && !two.resize(usize::MAX));
        assert_eq!(budget.used(), 10 * MIB);
        assert!(one.resize(2 * MIB) && two.resize(8 * MIB));
    }

    #[test]
    fn what_is_small_is_not_counted() {
        let budget = Budget::new(0);
        let mut share = budget.share();
        assert!(share.resize(FREE) && share.resize_to_send(FREE));
        assert_eq!(budget.used(), 0);
        assert!(!share.resize(FREE + 1) && share.resize_to_send(FREE + 1));
        assert_eq!(budget.used(), FREE + 1);
    }

    #[test]
    fn what_comes_and_what_goes_are_apart() {
        let buffers = Buffers::new(2 * MIB);
        let (mut comes, mut goes) = (buffers.incoming.share(), buffers.outgoing.share());
        assert!(comes.resize(MIB) && !comes.resize(MIB + 1) && goes.resize(MIB));
        assert_eq!((buffers.used(), buffers.limit()), (2 * MIB, 2 * MIB));
    }

    #[test]
    fn a_single_one_is_sent_whatever_its_size() {
        let budget = Budget::new(10 * MIB);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert!(one.resize_to_send(8 * MIB) && one.resize_to_send(25 * MIB));
        assert!(!one.resize(26 * MIB) && !two.resize_to_send(MIB));
        drop(one);
        assert!(two.resize_to_send(MIB) && !budget.share().resize_to_send(10 * MIB));
    }

    #[test]
    fn a_share_that_is_dropped_is_given_back() {
        let budget = Budget::new(10 * MIB);
        let mut share = budget.share();
        assert!(share.resize(10 * MIB));
        drop(share);
        assert_eq!(budget.used(), 0);
    }
}
