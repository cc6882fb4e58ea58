//! How far the watch is, whatever the connection: what was told, what is next, and what is to be told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::Instant;

use super::backoff::Retry;
use super::config::ClientConfig;
use super::cursor::Cursor;
use super::event::{Event, Failure, Item, Transport};
use super::machine::{End, Start, Target};
use super::parse::{Page, Told};
use super::routes::Routes;
use crate::index::Filter;
use crate::key::{Key, Revision};

#[derive(Debug)]
pub(super) struct Progress {
    pub(super) config: Arc<ClientConfig>,
    pub(super) target: Target,
    pub(super) routes: Routes,
    pub(super) retry: Retry,
    events: VecDeque<Event>,
    stage: Stage,
    cursor: Cursor,
    /// What short polls compare with; `None` where it is not known.
    seen: Option<Seen>,
    /// When a list was last complete, or a short poll answered.
    seen_at: Option<Instant>,
    /// A watch was asked for, and nothing came of it yet.
    unheard: bool,
}

/// What is to be done next.
#[derive(Debug)]
enum Stage {
    Listing(Listing),
    Watching,
}

/// A list, from where it goes on.
#[derive(Debug, Default)]
struct Listing {
    /// The revision of its pages, once the first one was told.
    at: Option<Revision>,
    /// Where the next page begins.
    token: Option<String>,
    /// The last key of the page before.
    after: Option<Key>,
    /// It is a short poll: it is told only if there is something new.
    poll: bool,
}

/// The state as short polls know it: no values.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// The one key that is watched; `None` if it does not exist.
    Key(Option<Revision>),
    /// All keys, where they are on one page.
    Keys(Vec<(Key, Revision)>),
}

/// What to ask the server for next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing before then.
    Rest(Instant),
    /// A page of a list: from the beginning, or where the one before ended.
    List { token: Option<String> },
    /// A short poll of the key, unless it is at this revision.
    Get { unless: Option<Revision> },
    /// All changes since.
    Watch { transport: Transport, since: Revision },
}

impl Progress {
    pub(super) fn new(target: Target, config: Arc<ClientConfig>, seed: u64) -> Self {
        let (stage, cursor) = match target.start {
            Start::List => (Stage::Listing(Listing::default()), Cursor::at(Revision::ZERO)),
            Start::After(revision) => (Stage::Watching, Cursor::at(revision)),
        };
        Self {
            routes: Routes::new(&config.transports),
            retry: Retry::new(seed),
            events: VecDeque::new(),
            stage,
            cursor,
            seen: None,
            seen_at: None,
            unheard: false,
            target,
            config,
        }
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether so many events wait that no more input is taken.
    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= self.config.limits.queue_events.max(1)
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// The connection is over. Returns whether a watch was asked for on it, and nothing came of that.
    pub(super) fn ended(&mut self, now: Instant) -> bool {
        self.retry.ended(&self.config.backoff, now);
        std::mem::take(&mut self.unheard)
    }

    /// What is to be asked for now.
    pub(super) fn plan(&mut self, now: Instant) -> Plan {
        self.unheard = false;
        if let Stage::Watching = self.stage {
            let (transport, another) = self.routes.choose(now);
            if another {
                self.tell(Event::Transport(transport));
            }
            if transport != Transport::ShortPoll {
                self.unheard = true;
                self.cursor.resume();
                return Plan::Watch { transport, since: self.cursor.since() };
            }
            let next = self.seen_at.map(|seen| seen + self.config.poll_interval).filter(|next| *next > now);
            if let Some(next) = next {
                return Plan::Rest(next);
            }
            if let (Filter::Key(_), Some(Seen::Key(unless))) = (&self.target.filter, &self.seen) {
                return Plan::Get { unless: *unless };
            }
            self.stage = Stage::Listing(Listing { poll: true, ..Listing::default() });
        }
        match &self.stage {
            Stage::Listing(listing) => Plan::List { token: listing.token.clone() },
            Stage::Watching => Plan::Rest(now),
        }
    }

    /// An event of a watch came. The error may be that it is compacted.
    pub(super) fn hear(&mut self, told: Told, now: Instant) -> Result<(), End> {
        match told {
            Told::Put(item) => {
                if self.is_news(&item.key, item.revision)? {
                    self.change(Some(item.revision), Event::Put(item));
                }
            }
            Told::Deleted { key, revision } => {
                if self.is_news(&key, revision)? {
                    self.change(None, Event::Deleted { key, revision });
                }
            }
            Told::Bookmark(revision) => self.bookmark(revision)?,
            Told::Compacted(revision) => return Err(self.compacted(Some(revision), now)),
            Told::Other => {}
        }
        self.good();
        self.retry.good(now);
        Ok(())
    }

    /// Everything up to this revision came.
    pub(super) fn bookmark(&mut self, revision: Revision) -> Result<(), Failure> {
        if self.cursor.bookmark(revision)? {
            self.tell(Event::Bookmark(revision));
        }
        Ok(())
    }

    /// The transport works.
    pub(super) fn good(&mut self) {
        self.unheard = false;
        self.routes.good();
    }

    /// Changes up to this revision may be missing; without one, those from here on. Returns when the list is to begin.
    pub(super) fn compacted(&mut self, revision: Option<Revision>, now: Instant) -> End {
        self.good();
        self.tell(Event::Compacted(revision.unwrap_or(self.cursor.since())));
        self.seen = None;
        self.stage = Stage::Listing(Listing::default());
        // If the watch behind the last list was over so soon, there is no hurry for the next one.
        match self.seen_at {
            Some(at) if now.since(at) < self.config.backoff.lasting => End::Busy(Duration::ZERO),
            _ => {
                self.retry.done();
                End::Again
            }
        }
    }

    fn is_news(&mut self, key: &Key, revision: Revision) -> Result<bool, Failure> {
        if self.target.filter.matches(key) { self.cursor.change(revision) } else { Err(Failure::Key) }
    }

    /// Tells a change, after which the key is at this revision.
    fn change(&mut self, revision: Option<Revision>, event: Event) {
        self.seen = match &self.target.filter {
            Filter::Key(_) => Some(Seen::Key(revision)),
            Filter::Prefix(_) => None,
        };
        self.tell(event);
    }

    /// The page of the list is gone: it begins anew. Returns whether there was a list to be gone.
    pub(super) fn page_gone(&mut self) -> bool {
        match &mut self.stage {
            Stage::Listing(listing) if listing.at.is_some() => {
                *listing = Listing::default();
                true
            }
            _ => false,
        }
    }

    /// A page came.
    pub(super) fn page(&mut self, page: Page, now: Instant) -> Result<(), Failure> {
        let Stage::Listing(listing) = &mut self.stage else { return Ok(()) };
        let Page { revision, items, token } = page;
        if listing.at.is_some_and(|at| at != revision) {
            *listing = Listing::default();
            return Err(Failure::Revision);
        }
        let (items, token) = match &self.target.filter {
            // The list of what begins with a key begins with that key, if it exists.
            Filter::Key(key) => {
                (items.into_iter().take(1).filter(|item| item.key == *key).collect::<Vec<_>>(), None)
            }
            Filter::Prefix(_) => (items, token),
        };
        let mut after = listing.after.as_ref();
        for item in &items {
            if !self.target.filter.matches(&item.key) || after.is_some_and(|after| *after >= item.key) {
                return Err(Failure::Key);
            }
            if item.revision > revision {
                return Err(Failure::Revision);
            }
            after = Some(&item.key);
        }
        if token.is_some() && items.is_empty() {
            return Err(Failure::Malformed); // it would go on for ever
        }
        let first = listing.at.is_none();
        let seen = match &self.target.filter {
            Filter::Key(_) => Some(Seen::Key(items.first().map(|item| item.revision))),
            Filter::Prefix(_)
                if first && token.is_none() && self.routes.next(now) == Transport::ShortPoll =>
            {
                Some(Seen::Keys(items.iter().map(|item| (item.key.clone(), item.revision)).collect()))
            }
            Filter::Prefix(_) => None,
        };
        if first && listing.poll {
            let same = match (&self.seen, &seen) {
                (Some(before), Some(seen)) => before == seen,
                _ => self.cursor.is_at(revision),
            };
            if same {
                self.seen_unchanged(revision, now);
                return Ok(());
            }
        }
        listing.at = Some(revision);
        listing.after = items.last().map(|item| item.key.clone()).or(listing.after.take());
        listing.token = token;
        let more = listing.token.is_some();
        if first {
            self.tell(Event::Listing);
        }
        self.events.extend(items.into_iter().map(Event::Item));
        if !more {
            self.seen = seen;
            self.state_told(revision, now);
        }
        Ok(())
    }

    /// A short poll of the key found it at another revision.
    pub(super) fn value(&mut self, revision: Revision, value: Vec<u8>, now: Instant) -> Result<(), Failure> {
        if value.len() > self.config.limits.value_bytes {
            return Err(Failure::TooLong);
        }
        let Filter::Key(key) = &self.target.filter else { return Ok(()) };
        let item = Item { key: key.clone(), value, revision, created: None };
        self.tell(Event::Listing);
        self.tell(Event::Item(item));
        self.seen = Some(Seen::Key(Some(revision)));
        self.state_told(revision, now);
        self.polled();
        Ok(())
    }

    /// A short poll of the key found it as it was.
    pub(super) fn not_modified(&mut self, now: Instant) {
        self.seen_at = Some(now);
        self.polled();
    }

    /// A short poll found that the key does not exist at this revision.
    pub(super) fn no_value(&mut self, revision: Revision, now: Instant) {
        if self.seen == Some(Seen::Key(None)) {
            self.seen_unchanged(revision, now);
            return;
        }
        self.tell(Event::Listing);
        self.seen = Some(Seen::Key(None));
        self.state_told(revision, now);
        self.polled();
    }

    fn state_told(&mut self, revision: Revision, now: Instant) {
        if let Stage::Listing(Listing { poll: true, .. }) = self.stage {
            self.polled();
        }
        self.tell(Event::Listed(revision));
        self.cursor = Cursor::at(revision);
        self.stage = Stage::Watching;
        self.seen_at = Some(now);
    }

    fn seen_unchanged(&mut self, revision: Revision, now: Instant) {
        if !self.cursor.is_at(revision) {
            self.tell(Event::Bookmark(revision));
        }
        self.cursor = Cursor::at(revision);
        self.stage = Stage::Watching;
        self.seen_at = Some(now);
        self.polled();
    }

    /// A short poll was answered.
    fn polled(&mut self) {
        self.routes.good();
        self.retry.done();
    }
}
