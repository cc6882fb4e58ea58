//! The watches of one WebSocket: mostly one, and where there are many they take turns, and [room](Budget).

use std::slice;

use crate::budget::{Budget, Share};
use crate::index::Filter;
use crate::server::core::Core;
use crate::server::delivery::Planned;
use crate::server::stream::Feed;

/// The watches of a WebSocket.
pub(super) enum Feeds {
    None,
    One(Feed),
    Many(Box<Many>),
}

/// There was more than one watch.
pub(super) struct Many {
    feeds: Vec<Feed>,
    /// Where the next plan begins: the feeds take turns.
    next: usize,
    /// About how many bytes they hold, here and in the index, but for the first two.
    bytes: usize,
    /// Of the budget, for these.
    share: Share,
}

impl Feeds {
    pub(super) fn as_slice(&self) -> &[Feed] {
        match self {
            Self::None => &[],
            Self::One(feed) => slice::from_ref(feed),
            Self::Many(many) => &many.feeds,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Feed] {
        match self {
            Self::None => &mut [],
            Self::One(feed) => slice::from_mut(feed),
            Self::Many(many) => &mut many.feeds,
        }
    }

    /// Room for one more watch. Returns whether there is any.
    pub(super) fn reserve(&mut self, filter: &Filter) -> bool {
        let Self::Many(many) = self else { return true };
        let bytes = many.bytes + watch_bytes(filter);
        let reserved = many.share.resize(bytes);
        if reserved {
            many.bytes = bytes;
        }
        reserved
    }

    /// The room of watches that are gone, which were so many bytes.
    pub(super) fn give_back(&mut self, bytes: usize) {
        if let Self::Many(many) = self {
            many.bytes = many.bytes.saturating_sub(bytes);
            // Less is always granted.
            let _less = many.share.resize(many.bytes);
        }
    }

    pub(super) fn push(&mut self, feed: Feed, buffers: &Budget) {
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(feed),
            Self::One(first) => {
                let feeds = vec![first, feed];
                Self::Many(Box::new(Many { feeds, next: 0, bytes: 0, share: buffers.share() }))
            }
            Self::Many(mut many) => {
                many.feeds.push(feed);
                Self::Many(many)
            }
        };
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut Feed) -> bool) {
        let left = match self {
            Self::None => false,
            Self::One(feed) => keep(feed),
            Self::Many(many) => {
                many.feeds.retain_mut(keep);
                !many.feeds.is_empty()
            }
        };
        if !left {
            *self = Self::None;
        }
    }
}

impl Many {
    pub(super) fn plan<S>(&mut self, core: &mut Core<S>) -> Planned {
        let count = self.feeds.len();
        for step in 0..count {
            let turn = (self.next + step) % count;
            match self.feeds[turn].plan(core) {
                Planned::All => {}
                Planned::Compacted => {
                    // The next plan begins, and ends, here: it is told so when nothing else is on its way.
                    self.next = turn;
                    return Planned::Compacted;
                }
                Planned::Part => {
                    self.next = turn + 1;
                    return Planned::Part;
                }
            }
            if !core.delivery.has_room() {
                self.next = turn + 1;
                return Planned::Part;
            }
        }
        Planned::All
    }
}

/// About how many bytes one more watch takes, of a filter that nobody else has.
pub(super) fn watch_bytes(filter: &Filter) -> usize {
    const EACH: usize = 192;
    let text = match filter {
        Filter::Key(key) => key.len(),
        Filter::Prefix(prefix) => prefix.len(),
    };
    EACH + text
}
