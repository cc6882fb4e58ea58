//! What the index keeps of a watcher: whose it is, and where it is in the log.
//!
//! | the cursor | means | left by |
//! | --- | --- | --- |
//! | synced, at a position | it has seen all that concerned it before that position, and nothing since did | news of a later change |
//! | behind, at a position | the first change that it may not have seen is there | being written everything up to the head |

use std::num::NonZeroU32;

use crate::index::{Index, News, WatcherId};
use crate::key::Position;

/// In words of 32 bits, so that nothing is lost to alignment: with a million of them each word is 4 MB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watcher {
    /// The number of the owner and which kind it is of, and one more.
    owner: NonZeroU32,
    /// The position and, in the lowest bit, whether it is behind; the upper half first.
    cursor: [u32; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The connection in this slot.
    Connection(u32),
    /// A subscription of the process's own.
    Subscription(u32),
}

impl Watcher {
    /// One that has seen what is before `at`. `None`: there cannot be so many owners.
    pub(super) fn new(owner: Owner, at: Position, head: Position) -> Option<Self> {
        let (number, kind) = match owner {
            Owner::Connection(slot) => (slot, 1),
            Owner::Subscription(id) => (id, 2),
        };
        let owner = number.checked_mul(2)?.checked_add(kind)?;
        let mut watcher = Self { owner: NonZeroU32::new(owner)?, cursor: [0; 2] };
        watcher.seen(at, head);
        Some(watcher)
    }

    pub(super) fn owner(&self) -> Owner {
        let owner = self.owner.get() - 1;
        if owner % 2 == 0 { Owner::Connection(owner / 2) } else { Owner::Subscription(owner / 2) }
    }

    /// It has seen what is before `at`.
    pub(super) fn seen(&mut self, at: Position, head: Position) {
        self.set(at, at < head);
    }

    /// It has missed something: its cursor is below every floor.
    pub(super) fn lose(&mut self) {
        self.set(Position::START, true);
    }

    /// Takes notice of what is news to it. Returns whether it has become behind by that.
    pub(super) fn hear(&mut self, news: News) -> bool {
        let (at, behind) = self.cursor();
        let unseen = self.unseen(news).filter(|_| !behind);
        self.set(unseen.unwrap_or(at), behind || unseen.is_some());
        unseen.is_some()
    }

    /// From where on it has not seen what is news, if that is all that it has not seen.
    fn unseen(&self, news: News) -> Option<Position> {
        let (at, _) = self.cursor();
        // It may have caught up since, up to some of it or to the end.
        (at <= news.last).then_some(at.max(news.first))
    }

    fn cursor(&self) -> (Position, bool) {
        let [high, low] = self.cursor.map(u64::from);
        let bits = high << 32 | low;
        (Position::new(bits >> 1), bits & 1 == 1)
    }

    fn set(&mut self, at: Position, behind: bool) {
        let bits = at.as_u64() << 1 | u64::from(behind);
        self.cursor = [(bits >> 32) as u32, bits as u32];
    }
}

/// The first change that a watcher may not have seen; `None`: it has seen all that concern it, however old the log is by then.
pub(super) fn behind(index: &Index<Watcher>, id: WatcherId) -> Option<Position> {
    let watcher = index.get(id)?;
    match watcher.cursor() {
        (at, true) => Some(at),
        // What is news to it, and has not come to it yet, is not seen either.
        (_, false) => index.news_of(id).find_map(|news| watcher.unseen(news)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Filter;

    fn at(number: u64) -> Position {
        Position::new(number)
    }

    fn news(first: u64, last: u64) -> News {
        News { first: at(first), last: at(last) }
    }

    fn synced(number: u64) -> Watcher {
        Watcher::new(Owner::Connection(0), at(number), at(number)).unwrap()
    }

    #[test]
    fn owners_of_both_kinds_are_told_apart() {
        for number in [0, 1, 7, u32::MAX / 2 - 1] {
            for owner in [Owner::Connection(number), Owner::Subscription(number)] {
                assert_eq!(Watcher::new(owner, at(0), at(0)).unwrap().owner(), owner);
            }
        }
        assert!(Watcher::new(Owner::Connection(1 << 31), at(0), at(0)).is_none());
    }

    #[test]
    fn one_that_is_synced_goes_on_from_what_is_news() {
        let mut watcher = synced(5);
        assert!(watcher.hear(news(9, 9)));
        assert_eq!(watcher.cursor(), (at(9), true));
        assert!(!watcher.hear(news(12, 12)), "it was behind already");
        assert_eq!(watcher.cursor(), (at(9), true));
    }

    #[test]
    fn one_that_has_caught_up_with_some_of_the_news_goes_on_from_there() {
        let mut watcher = synced(10);
        assert!(watcher.hear(news(7, 12)));
        assert_eq!(watcher.cursor(), (at(10), true));
    }

    #[test]
    fn what_it_has_seen_is_no_news() {
        let mut watcher = synced(13);
        assert!(!watcher.hear(news(7, 12)));
        assert_eq!(watcher.cursor(), (at(13), false));
    }

    #[test]
    fn news_that_has_not_come_to_it_counts() {
        let mut index = Index::new();
        let ids: Vec<_> =
            (0..100).map(|_| index.add(Filter::prefix("", 9).unwrap(), synced(5)).unwrap()).collect();
        assert_eq!(behind(&index, ids[99]), None);
        index.announce("a", at(6), 8, |_, _| unreachable!("there are many"));
        assert_eq!(behind(&index, ids[99]), Some(at(6)));
        index.get_mut(ids[99]).unwrap().seen(at(7), at(7));
        assert_eq!(behind(&index, ids[99]), None);
        index.announce("b", at(8), 8, |_, _| unreachable!("there are many"));
        assert_eq!((behind(&index, ids[99]), behind(&index, ids[0])), (Some(at(7)), Some(at(6))));
        let mut heard = 0;
        while index.has_news() {
            index.spread(30, |watcher, news| heard += usize::from(watcher.hear(news)));
        }
        assert_eq!(heard, 100);
        assert_eq!((behind(&index, ids[99]), behind(&index, ids[0])), (Some(at(7)), Some(at(6))));
    }

    #[test]
    fn who_has_seen_the_news_goes_on_from_what_came_later() {
        let mut index = Index::new();
        let ids: Vec<_> =
            (0..100).map(|_| index.add(Filter::prefix("a", 9).unwrap(), synced(5)).unwrap()).collect();
        index.announce("a", at(6), 8, |_, _| unreachable!("there are many"));
        index.spread(50, |watcher, news| assert!(watcher.hear(news)));
        index.get_mut(ids[0]).unwrap().seen(at(7), at(7));
        // The log may have moved on to here: nothing between is missed by that.
        index.announce("a", at(5_000), 8, |_, _| unreachable!("there are many"));
        assert_eq!((behind(&index, ids[0]), behind(&index, ids[99])), (Some(at(5_000)), Some(at(6))));
        while index.has_news() {
            index.spread(50, |watcher, news| _ = watcher.hear(news));
        }
        assert_eq!((behind(&index, ids[0]), behind(&index, ids[99])), (Some(at(5_000)), Some(at(6))));
    }

    #[test]
    fn a_watcher_costs_the_index_three_words() {
        assert_eq!((size_of::<Watcher>(), size_of::<Option<Watcher>>()), (12, 12));
        assert_eq!(Index::<Watcher>::WATCHER_BYTES, 24);
    }
}
