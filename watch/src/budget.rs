//! What all connections together may hold in memory beside what is theirs alone: requests that have not come to their end, and
//! answers that are waiting to be read.
//!
//! It is asked before memory is reserved. Who gets none is told to come back later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// A share of nothing yet.
    pub(crate) fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// Makes it so many bytes, more or fewer. Returns whether it could be: it is as it was if there are not so many left.
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        let Bytes { limit, used } = &*self.budget.0;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let taken = |used: usize| used.checked_add(more).filter(|used| used <= limit);
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
    fn a_share_that_is_dropped_is_given_back() {
        let budget = Budget::new(10);
        let mut share = budget.share();
        assert!(share.resize(10));
        drop(share);
        assert_eq!(budget.used(), 0);
    }
}
