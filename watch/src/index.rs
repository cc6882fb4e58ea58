//! Who is concerned by a change of a key.
//!
//! A watcher has a filter: one key, or all keys with a prefix. Equal filters are one entry, with a list of its watchers that
//! is threaded through the watchers themselves; so a change costs the filters that it concerns, and then their watchers, however
//! many others there are.
//!
//! ```text
//!  keys      "app/a" ----------> filter 0 ---> watcher 4 <-> watcher 9
//!  prefixes  "" ---------------> filter 2 ---> watcher 0
//!            "app/" -----------> filter 1 ---> watcher 1 <-> watcher 2 <-> watcher 7
//! ```
//!
//! The prefixes of a key are found from the longest down, in one ordered map. The greatest entry that is not above a bound is
//! either a prefix of the bound, or shows how much of the bound can be a prefix at all: what the two have in common. Each step
//! makes the bound shorter, so there are never more steps than bytes in the key, and few in practice.
//!
//! Where a change concerns few, they are told of it at once. Where it concerns many, it is *news* of their filter, from which they
//! are told a bounded number at a time: what else is to be done does not wait for a million of them. Until then
//! [`Index::news_of`] says what a watcher may not have been told. What is changed before any of them was told joins the same
//! news. What is changed later is news of its own, for the round behind this one: whoever has seen the first is not to be sent
//! back to where that was.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use keepwatch_protocol::Blocks;

use crate::key::{Key, KeyError, Position};

/// Which keys a watcher wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter {
    /// One key.
    Key(Key),
    /// Every key that begins with this; with the empty text, every key.
    Prefix(Arc<str>),
}

impl Filter {
    /// One key of at most `max` bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Key::new`].
    pub fn key(key: &str, max: usize) -> Result<Self, KeyError> {
        Key::new(key, max).map(Self::Key)
    }

    /// The keys that begin with a prefix of at most `max` bytes. It may be empty.
    ///
    /// # Errors
    ///
    /// [`KeyError::TooLong`].
    pub fn prefix(prefix: &str, max: usize) -> Result<Self, KeyError> {
        if prefix.len() > max { Err(KeyError::TooLong { max }) } else { Ok(Self::Prefix(prefix.into())) }
    }

    /// Whether it wants to hear of that key.
    pub fn matches(&self, key: &str) -> bool {
        match self {
            Self::Key(wanted) => wanted.as_str() == key,
            Self::Prefix(prefix) => key.starts_with(&**prefix),
        }
    }
}

/// A filter in an [`Index`], for as long as it has a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FilterId(u32);

/// A watcher in an [`Index`]. After its removal the id is given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatcherId(u32);

/// The watchers, each with a payload of type `T`, by what they want to hear of.
#[derive(Debug)]
pub(crate) struct Index<T> {
    keys: BTreeMap<Key, FilterId>,
    prefixes: BTreeMap<Arc<str>, FilterId>,
    filters: Blocks<Entry>,
    watchers: Blocks<Slot<T>>,
    /// What watchers are still to be told, of those filters that have many.
    news: BTreeMap<FilterId, Spread>,
    /// Whose news was told last: filters take turns.
    turn: FilterId,
    free_filter: u32,
    free_watcher: u32,
    watcher_count: usize,
}

/// The end of a list.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Entry {
    /// `None`: free, and `first` is the next free one.
    filter: Option<Filter>,
    first: u32,
    last: u32,
    count: u32,
}

#[derive(Debug)]
struct Slot<T> {
    next: u32,
    previous: u32,
    filter: FilterId,
    /// `None`: free, and `next` is the next free one.
    payload: Option<T>,
}

/// Changes of a filter, from the first to the last: all that concern it of what lies between are among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) first: Position,
    pub(crate) last: Position,
}

/// News on its way along the watchers of a filter.
#[derive(Debug)]
struct Spread {
    news: News,
    /// Who is told next.
    next: u32,
    /// What has changed since some were told: when all were, all are told of this.
    later: Option<News>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Index<T> {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            filters: Blocks::new(),
            watchers: Blocks::new(),
            news: BTreeMap::new(),
            turn: FilterId(0),
            free_filter: NONE,
            free_watcher: NONE,
            watcher_count: 0,
        }
    }

    /// Adds a watcher behind those of the same filter.
    pub(crate) fn add(&mut self, filter: Filter, payload: T) -> Result<WatcherId, TooManyWatchers> {
        // Before anything is changed. There are never more filters than watchers, so this bounds both.
        let id = match self.free_watcher {
            NONE => self.next_watcher()?,
            free => free,
        };
        let filter = self.intern(filter);
        let previous = match self.entry_mut(filter) {
            Some(entry) => {
                entry.count += 1;
                if entry.first == NONE {
                    entry.first = id;
                }
                std::mem::replace(&mut entry.last, id)
            }
            None => NONE,
        };
        if let Some(slot) = self.slot_mut(previous) {
            slot.next = id;
        }
        let watcher = Slot { next: NONE, previous, filter, payload: Some(payload) };
        match self.watchers.get_mut(id as usize) {
            Some(free) => {
                self.free_watcher = free.next;
                *free = watcher;
            }
            None => self.watchers.push(watcher),
        }
        self.watcher_count += 1;
        Ok(WatcherId(id))
    }

    /// Removes a watcher, and its filter if it was the last one of it. `None` if there is no such watcher.
    pub(crate) fn remove(&mut self, id: WatcherId) -> Option<T> {
        let free = self.free_watcher;
        let slot = self.slot_mut(id.0)?;
        let payload = slot.payload.take()?;
        let (next, previous, filter) = (slot.next, slot.previous, slot.filter);
        slot.next = free;
        self.free_watcher = id.0;
        self.watcher_count -= 1;
        if let Some(slot) = self.slot_mut(next) {
            slot.previous = previous;
        }
        if let Some(slot) = self.slot_mut(previous) {
            slot.next = next;
        }
        if let Some(spread) = self.news.get_mut(&filter).filter(|spread| spread.next == id.0) {
            spread.next = next;
        }
        if let Some(entry) = self.entry_mut(filter) {
            entry.count -= 1;
            if entry.first == id.0 {
                entry.first = next;
            }
            if entry.last == id.0 {
                entry.last = previous;
            }
            if entry.count == 0 {
                self.release(filter);
            }
        }
        Some(payload)
    }

    /// The payload of a watcher.
    pub(crate) fn get(&self, id: WatcherId) -> Option<&T> {
        self.watchers.get(id.0 as usize)?.payload.as_ref()
    }

    /// The payload of a watcher.
    pub(crate) fn get_mut(&mut self, id: WatcherId) -> Option<&mut T> {
        self.slot_mut(id.0)?.payload.as_mut()
    }

    /// What a watcher wants to hear of.
    pub(crate) fn filter_of(&self, id: WatcherId) -> Option<&Filter> {
        self.filter(self.filter_id_of(id)?)
    }

    /// The filter of a watcher, as an id that all watchers of the same filter share.
    pub(crate) fn filter_id_of(&self, id: WatcherId) -> Option<FilterId> {
        let slot = self.watchers.get(id.0 as usize)?;
        slot.payload.is_some().then_some(slot.filter)
    }

    /// The filter with that id.
    pub(crate) fn filter(&self, id: FilterId) -> Option<&Filter> {
        self.filters.get(id.0 as usize)?.filter.as_ref()
    }

    /// Whether a watcher wants to hear of that key. `false` if there is no such watcher.
    pub(crate) fn matches(&self, id: WatcherId, key: &str) -> bool {
        self.filter_of(id).is_some_and(|filter| filter.matches(key))
    }

    /// How many watchers there are.
    pub(crate) fn len(&self) -> usize {
        self.watcher_count
    }

    /// How many different filters they have.
    #[cfg(test)]
    pub(crate) fn filters(&self) -> usize {
        self.keys.len() + self.prefixes.len()
    }

    /// Calls `f` at once with every watcher that wants to hear of this key, each once: those of the key, then those of its prefixes
    /// from the longest to the shortest; for each filter in the order in which they were added.
    #[cfg(test)]
    pub(crate) fn visit(&mut self, key: &str, mut f: impl FnMut(WatcherId, &mut T)) {
        if let Some(&filter) = self.keys.get(key) {
            visit(&self.filters, &mut self.watchers, filter, &mut f);
        }
        for_each_prefix(&self.prefixes, key, |&filter| {
            visit(&self.filters, &mut self.watchers, filter, &mut f);
        });
    }

    /// The key changes, at this position. Calls `f` with the watchers that it concerns, those of the key before those of its
    /// prefixes, except with those of filters that have more than `few`: for these it becomes news, to be [spread](Self::spread).
    pub(crate) fn announce(&mut self, key: &str, at: Position, few: u32, mut f: impl FnMut(&mut T, News)) {
        let Self { keys, prefixes, filters, watchers, news, .. } = self;
        let mut tell = |filter: FilterId| {
            let (first, count) = filters.get(filter.0 as usize).map_or((NONE, 0), |e| (e.first, e.count));
            let this = News { first: at, last: at };
            match news.get_mut(&filter) {
                Some(spread) if spread.next == first => spread.news.last = at,
                Some(spread) => spread.later.get_or_insert(this).last = at,
                None if count <= few => {
                    visit(filters, watchers, filter, &mut |_, payload| f(payload, this));
                }
                None => drop(news.insert(filter, Spread { news: this, next: first, later: None })),
            }
        };
        if let Some(&filter) = keys.get(key) {
            tell(filter);
        }
        for_each_prefix(prefixes, key, |&filter| tell(filter));
    }

    /// What a watcher costs, its payload included.
    #[cfg(test)]
    pub(crate) const WATCHER_BYTES: usize = size_of::<Slot<T>>();

    /// Whether there is something to [spread](Self::spread).
    pub(crate) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Calls `f` with at most so many of the watchers that are still to be told. They are of one filter; with each call it is the
    /// turn of another one.
    pub(crate) fn spread(&mut self, most: usize, mut f: impl FnMut(&mut T, News)) {
        let Self { filters, watchers, news, turn, .. } = self;
        let later = news.range((Bound::Excluded(*turn), Bound::Unbounded)).next();
        let Some(filter) = later.or_else(|| news.first_key_value()).map(|(filter, _)| *filter) else {
            return;
        };
        *turn = filter;
        let Some(spread) = news.get_mut(&filter) else { return };
        for _ in 0..most {
            let Some(slot) = watchers.get_mut(spread.next as usize) else { break };
            spread.next = slot.next;
            if let Some(payload) = &mut slot.payload {
                f(payload, spread.news);
            }
        }
        if spread.next == NONE {
            match spread.later.take() {
                Some(later) => {
                    spread.news = later;
                    spread.next = filters.get(filter.0 as usize).map_or(NONE, |entry| entry.first);
                }
                None => drop(news.remove(&filter)),
            }
        }
    }

    /// What is being [spread](Self::spread) to the watchers with the filter of this one, and what will be behind it. The first
    /// may have been told already.
    pub(crate) fn news_of(&self, id: WatcherId) -> impl Iterator<Item = News> {
        let filter = if self.news.is_empty() { None } else { self.filter_id_of(id) };
        let spread = filter.and_then(|filter| self.news.get(&filter));
        spread.map(|spread| [Some(spread.news), spread.later]).into_iter().flatten().flatten()
    }

    /// What is being spread concerns nobody any more.
    pub(crate) fn drop_news(&mut self) {
        self.news.clear();
    }

    /// Calls `f` with every watcher, in the order of their ids.
    pub(crate) fn visit_all(&mut self, mut f: impl FnMut(WatcherId, &mut T)) {
        for (id, slot) in (0..).zip(self.watchers.iter_mut()) {
            if let Some(payload) = &mut slot.payload {
                f(WatcherId(id), payload);
            }
        }
    }

    /// The number behind the last one.
    fn next_watcher(&self) -> Result<u32, TooManyWatchers> {
        u32::try_from(self.watchers.len()).ok().filter(|&id| id != NONE).ok_or(TooManyWatchers)
    }

    /// The entry of that filter, a new one if need be.
    fn intern(&mut self, filter: Filter) -> FilterId {
        let known = match &filter {
            Filter::Key(key) => self.keys.get(key),
            Filter::Prefix(prefix) => self.prefixes.get(prefix),
        };
        if let Some(&known) = known {
            return known;
        }
        let id = if self.free_filter == NONE { self.filters.len() as u32 } else { self.free_filter };
        match &filter {
            Filter::Key(key) => self.keys.insert(key.clone(), FilterId(id)),
            Filter::Prefix(prefix) => self.prefixes.insert(Arc::clone(prefix), FilterId(id)),
        };
        let entry = Entry { filter: Some(filter), first: NONE, last: NONE, count: 0 };
        match self.filters.get_mut(id as usize) {
            Some(free) => {
                self.free_filter = free.first;
                *free = entry;
            }
            None => self.filters.push(entry),
        }
        FilterId(id)
    }

    /// Forgets a filter that has no watchers.
    fn release(&mut self, id: FilterId) {
        let free = self.free_filter;
        self.news.remove(&id);
        let Some(entry) = self.entry_mut(id) else { return };
        entry.first = free;
        match entry.filter.take() {
            Some(Filter::Key(key)) => self.keys.remove(&key),
            Some(Filter::Prefix(prefix)) => self.prefixes.remove(&prefix),
            None => None,
        };
        self.free_filter = id.0;
    }

    fn entry_mut(&mut self, id: FilterId) -> Option<&mut Entry> {
        self.filters.get_mut(id.0 as usize)
    }

    fn slot_mut(&mut self, id: u32) -> Option<&mut Slot<T>> {
        self.watchers.get_mut(id as usize)
    }
}

fn visit<T>(
    filters: &Blocks<Entry>,
    watchers: &mut Blocks<Slot<T>>,
    id: FilterId,
    f: &mut impl FnMut(WatcherId, &mut T),
) {
    let mut at = filters.get(id.0 as usize).map_or(NONE, |entry| entry.first);
    while let Some(slot) = watchers.get_mut(at as usize) {
        if let Some(payload) = &mut slot.payload {
            f(WatcherId(at), payload);
        }
        at = slot.next;
    }
}

/// Calls `f` with the value of every entry that `key` begins with, from the longest to the shortest. Says how many entries it
/// looked at.
fn for_each_prefix<V>(prefixes: &BTreeMap<Arc<str>, V>, key: &str, mut f: impl FnMut(&V)) -> usize {
    // Every entry that `key` begins with and that is still to come is within the bound, so `text` begins with it too.
    let (mut text, mut bound) = (key, Bound::Included(key));
    let mut steps = 0;
    while let Some((entry, value)) = prefixes.range::<str, _>((Bound::Unbounded, bound)).next_back() {
        steps += 1;
        text = common_prefix(entry, text);
        bound = if text.len() == entry.len() {
            f(value);
            Bound::Excluded(text)
        } else {
            Bound::Included(text)
        };
    }
    steps
}

/// What both texts begin with, as part of the second.
fn common_prefix<'a>(a: &str, b: &'a str) -> &'a str {
    let mut length = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    // Two characters may have their first bytes in common. All of `b` and none of it are always whole.
    while !b.is_char_boundary(length) {
        length -= 1;
    }
    b.get(..length).unwrap_or("")
}

/// There are 2^32 - 1 watchers already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyWatchers;

impl fmt::Display for TooManyWatchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no more watchers can be numbered")
    }
}

impl std::error::Error for TooManyWatchers {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    const FEW: u32 = 8;

    fn prefix(text: &str) -> Filter {
        Filter::prefix(text, 1024).unwrap()
    }

    fn key(text: &str) -> Filter {
        Filter::key(text, 1024).unwrap()
    }

    /// The payloads of those who are visited, in order.
    fn visited<T: Copy>(index: &mut Index<T>, key: &str) -> Vec<T> {
        let mut visited = Vec::new();
        index.visit(key, |_, payload| visited.push(*payload));
        visited
    }

    #[test]
    fn a_prefix_may_be_empty_and_has_the_limit_of_a_key() {
        assert_eq!(Filter::prefix("", 4), Ok(prefix("")));
        assert_eq!(Filter::prefix("abcd", 4), Ok(prefix("abcd")));
        assert_eq!(Filter::prefix("abcde", 4), Err(KeyError::TooLong { max: 4 }));
    }

    #[test]
    fn a_change_visits_its_key_and_then_its_prefixes_from_the_longest() {
        let mut index = Index::new();
        for text in ["", "a", "app/", "app/a", "app/ab", "app/b", "b", "app/a/"] {
            index.add(prefix(text), text).unwrap();
        }
        index.add(key("app/a"), "the key").unwrap();
        assert_eq!(visited(&mut index, "app/a"), ["the key", "app/a", "app/", "a", ""]);
        assert_eq!(visited(&mut index, "app/aa"), ["app/a", "app/", "a", ""]);
        assert_eq!(visited(&mut index, "c"), [""]);
    }

    #[test]
    fn watchers_of_one_filter_are_visited_in_the_order_they_came() {
        let mut index = Index::new();
        let ids: Vec<_> = (0..5).map(|number| index.add(prefix("a"), number).unwrap()).collect();
        assert_eq!(index.filters(), 1);
        assert_eq!(index.remove(ids[2]), Some(2));
        assert_eq!(index.remove(ids[0]), Some(0));
        assert_eq!(index.remove(ids[4]), Some(4));
        index.add(prefix("a"), 9).unwrap();
        assert_eq!(visited(&mut index, "a"), [1, 3, 9]);
    }

    #[test]
    fn a_filter_goes_with_its_last_watcher() {
        let mut index = Index::new();
        let (one, two) = (index.add(key("a"), 1).unwrap(), index.add(key("a"), 2).unwrap());
        let filter = index.filter_id_of(one).unwrap();
        assert_eq!(index.filter_id_of(two), Some(filter));
        index.remove(one);
        assert_eq!(index.filter(filter), Some(&key("a")));
        index.remove(two);
        assert_eq!((index.filter(filter), index.filters(), index.len()), (None, 0, 0));
        assert!(index.keys.is_empty());
    }

    #[test]
    fn who_is_removed_is_not_visited_and_cannot_be_removed_again() {
        let mut index = Index::new();
        let id = index.add(key("a"), 1).unwrap();
        assert_eq!(index.remove(id), Some(1));
        assert_eq!(index.remove(id), None);
        assert_eq!((index.get(id), index.filter_of(id), index.matches(id, "a")), (None, None, false));
        assert_eq!(visited(&mut index, "a"), [0; 0]);
    }

    #[test]
    fn a_watcher_wants_to_hear_of_the_keys_of_its_filter() {
        let mut index = Index::new();
        let id = index.add(prefix("a"), 1).unwrap();
        assert!(index.matches(id, "ab") && !index.matches(id, "b"));
    }

    #[test]
    fn room_is_used_again() {
        let mut index = Index::new();
        for round in 0..100 {
            let one = index.add(key(&format!("a{round}")), round).unwrap();
            let two = index.add(prefix(&format!("b{round}")), round).unwrap();
            index.remove(one);
            index.remove(two);
        }
        assert_eq!((index.watchers.len(), index.filters.len()), (2, 2));
    }

    #[test]
    fn characters_that_begin_alike_are_no_common_prefix() {
        // U+00E9 and U+00EA are C3 A9 and C3 AA.
        let mut index = Index::new();
        for text in ["x", "x\u{e9}", "x\u{e9}\u{e9}", "x\u{ea}"] {
            index.add(prefix(text), text).unwrap();
        }
        assert_eq!(visited(&mut index, "x\u{ea}\u{e9}"), ["x\u{ea}", "x"]);
        assert_eq!(visited(&mut index, "x\u{eb}"), ["x"]);
        assert_eq!(visited(&mut index, "x\u{e9}\u{ea}"), ["x\u{e9}", "x"]);
    }

    #[test]
    fn the_payload_can_be_changed_while_visiting() {
        let mut index = Index::new();
        let id = index.add(prefix(""), 1).unwrap();
        index.visit("a", |_, payload| *payload += 1);
        index.visit_all(|visited, payload| *payload += 10 * i32::from(visited == id));
        assert_eq!(index.get(id), Some(&12));
        *index.get_mut(id).unwrap() = 0;
        assert_eq!(index.get(id), Some(&0));
    }

    #[test]
    fn unrelated_prefixes_are_skipped_and_not_walked() {
        let mut prefixes = BTreeMap::new();
        prefixes.insert(Arc::from(""), 1);
        for number in 0..10_000 {
            prefixes.insert(format!("app/{number:05}/").into(), 1);
        }
        let mut hits = 0;
        let steps = for_each_prefix(&prefixes, "app/07777/x", |&hit| hits += hit);
        assert_eq!(hits, 2);
        assert!((hits..=8).contains(&steps), "{steps} steps");
    }

    #[test]
    fn there_are_never_more_steps_than_bytes_in_the_key() {
        // Before each prefix of the key there is one that differs in the last byte: every step finds a neighbour.
        let key = "b".repeat(200);
        let mut prefixes = BTreeMap::new();
        for length in 0..200 {
            prefixes.insert(format!("{}a", "b".repeat(length)).into(), length);
        }
        let steps = for_each_prefix(&prefixes, &key, |length| unreachable!("b{length} is no prefix of it"));
        assert!((200..=201).contains(&steps), "{steps} steps");
    }

    #[test]
    fn a_watcher_costs_three_numbers_and_its_payload() {
        assert_eq!(size_of::<Slot<NonZeroU32>>(), 16);
    }

    #[test]
    fn a_filter_costs_its_text_and_two_entries() {
        assert_eq!((size_of::<Entry>(), size_of::<(Key, FilterId)>()), (40, 24));
    }

    fn at(number: u64) -> Position {
        Position::new(number)
    }

    /// An index of so many watchers of the prefix `a`, each with its number.
    fn crowd(count: usize) -> (Index<usize>, Vec<WatcherId>) {
        let mut index = Index::new();
        let ids = (0..count).map(|number| index.add(prefix("a"), number).unwrap()).collect();
        (index, ids)
    }

    fn spread(index: &mut Index<usize>, most: usize) -> Vec<(usize, u64, u64)> {
        let mut told = Vec::new();
        index.spread(most, |number, News { first, last }| {
            told.push((*number, first.as_u64(), last.as_u64()));
        });
        told
    }

    #[test]
    fn few_are_told_at_once_and_many_in_turns() {
        let (mut index, _) = crowd(100);
        index.add(key("ab"), 500).unwrap();
        let mut told = Vec::new();
        index.announce("ab", at(7), FEW, |&mut number, news| told.push((number, news)));
        assert_eq!(told, [(500, News { first: at(7), last: at(7) })]);
        assert!(index.has_news());
        let numbers =
            |told: Vec<(usize, u64, u64)>| told.iter().map(|&(number, ..)| number).collect::<Vec<_>>();
        assert_eq!(numbers(spread(&mut index, 60)), (0..60).collect::<Vec<_>>());
        assert_eq!(numbers(spread(&mut index, 60)), (60..100).collect::<Vec<_>>());
        assert!(!index.has_news() && spread(&mut index, 60).is_empty());
    }

    #[test]
    fn what_comes_while_some_were_told_is_told_to_all() {
        let (mut index, ids) = crowd(100);
        index.announce("ab", at(7), FEW, |_, _| unreachable!());
        assert_eq!(spread(&mut index, 99).last(), Some(&(98, 7, 7)));
        for changed in [9, 11] {
            index.announce("ac", at(changed), FEW, |_, _| unreachable!());
        }
        let (now, later) = (News { first: at(7), last: at(7) }, News { first: at(9), last: at(11) });
        assert!(index.news_of(ids[0]).eq([now, later]));
        assert_eq!(spread(&mut index, 99), [(99, 7, 7)]);
        assert!(index.news_of(ids[0]).eq([later]));
        let told: Vec<_> = (0..100).map(|number| (number, 9, 11)).collect();
        assert_eq!(spread(&mut index, 200), told);
        assert_eq!((index.has_news(), index.news_of(ids[0]).next()), (false, None));
    }

    #[test]
    fn what_comes_before_anyone_was_told_is_told_together() {
        let (mut index, ids) = crowd(100);
        for (changed, first) in [7, 9].into_iter().zip(&ids) {
            index.announce("ab", at(changed), FEW, |_, _| unreachable!());
            // Whoever is first then was told of nothing.
            index.remove(*first);
        }
        let told: Vec<_> = (2..100).map(|number| (number, 7, 9)).collect();
        assert_eq!(spread(&mut index, 200), told);
        assert!(!index.has_news());
    }

    #[test]
    fn filters_take_turns_in_being_told() {
        let mut index = Index::new();
        for number in 0..300 {
            index.add(prefix(["a", "ab", "abc"][number % 3]), number % 3).unwrap();
        }
        index.announce("abcd", at(1), FEW, |_, _| unreachable!());
        let turns: Vec<_> = (0..12).map(|_| spread(&mut index, 25)[0].0).collect();
        assert_eq!(turns, [1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
        assert!(!index.has_news());
    }

    #[test]
    fn who_leaves_while_others_are_told_holds_up_nobody() {
        let (mut index, ids) = crowd(100);
        index.announce("ab", at(7), FEW, |_, _| unreachable!());
        assert_eq!(spread(&mut index, 50).len(), 50);
        for gone in [50, 49, 51, 99] {
            index.remove(ids[gone]);
        }
        assert_eq!(
            spread(&mut index, 100).iter().map(|told| told.0).collect::<Vec<_>>(),
            (52..99).collect::<Vec<_>>()
        );
        index.announce("ab", at(8), FEW, |_, _| unreachable!());
        let left = ids.iter().filter(|id| index.remove(**id).is_some()).count();
        assert_eq!(left, 96);
        assert!(!index.has_news());
    }
}
