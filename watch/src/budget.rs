//! What all connections together may hold in memory beside what is theirs alone: requests that have not come to their end, and
//! answers and frames that are waiting to be read.
//!
//! It is asked before memory is reserved. Who gets none is told to come back later, or waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a connection is sent of at most so many bytes is not counted here but with the connection: what is small, as most changes
/// are, touches nothing that all share.
pub(crate) const FREE: usize = 16 << 10;

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
    /// Makes it so many bytes, more or fewer. Returns whether it could be: it is as it was if there are not so many left.
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

    #[test]
    fn shares_are_of_one_budget() {
        let budget = Budget::new(10);
        let (mut one, mut two) = (budget.share(), budget.clone().share());
        assert!(one.resize(6) && two.resize(4));
        assert!(!one.resize(7) && !two.resize(usize::MAX));
        assert_eq!(budget.used(), 10);
        assert!(one.resize(2) && two.resize(8));
    }

    #[test]
    fn a_single_one_is_sent_whatever_its_size() {
        let budget = Budget::new(10);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert!(one.resize_to_send(8) && one.resize_to_send(25));
        assert!(!one.resize(26) && !two.resize_to_send(1));
        drop(one);
        assert!(two.resize_to_send(1) && !budget.share().resize_to_send(10));
    }

    #[test]
    fn a_share_that_is_dropped_is_given_back() {
        let budget = Budget::new(10);
        let mut share = budget.share();
        assert!(share.resize(10));
        drop(share);
        assert_eq!(budget.used(), 0);
    }
}
