//! The watch server's log, view, index and cursors against a model that keeps everything.
//!
//! They are reached as an embedder reaches them: a [`Store`] of our own says what was committed, in batches and snapshots of any
//! shape, and the process's [`Handle`], and a request now and then, read. So nothing of them need be public for this.
//!
//! | who reads | is held to |
//! | --- | --- |
//! | a subscription | each change that concerns it, once and in order, or `Compacted` where the log has lost one |
//! | a list, a get | the state now |
//! | pages of a list | the state at their one revision, for as long as the log reaches it |
//! | a poll since a revision | the changes behind it, cut only behind a commit |
//! | [`Usage`](keepwatch_watch::Usage) | what the model has: changes kept, watchers left |

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use keepwatch_protocol::{
    Admission, After, Closed, ConnectionId, Fill, Input, Now, Peer, SendQueue, Server, Slices,
};
use keepwatch_watch::change::{Batch, Change};
use keepwatch_watch::key::Position;
use keepwatch_watch::store::{Busy, Operation, Outcome, Snapshot, Store, Ticket};
use keepwatch_watch::{
    Config, Event, Handle, Key, LogLimits, Revision, RevisionError, Shared, Subscription, WatchServer,
};
use serde_json::Value;

use crate::history::{Entry, Filter, History, escaped};
use crate::reader::{End, Kind, Message};

/// Longer scripts meet the same code again.
const LONGEST: usize = 400;
/// Some nested, some whose first differing characters begin with the same byte (U+00E9 and U+00EA are C3 A9 and C3 AA).
const KEYS: [&str; 12] = [
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a/c",
    "ab",
    "b",
    "b/\u{7f}",
    "\u{e9}",
    "\u{e9}/\u{ea}",
    "\u{ea}",
    "\u{20ac}",
];
const PREFIXES: [&str; 12] =
    ["", "a", "a/", "a/b", "a/d", "aa", "b", "c", "\u{e9}", "\u{e9}/", "\u{ea}", "\u{eb}"];
/// More subscriptions than this meet the same code again.
const SUBSCRIPTIONS: usize = 8;
/// How many events wait in front of the log for a subscription that does not read.
const BUFFER: usize = 64;

/// The first two bytes are limits; then each byte has an operation and an argument.
pub fn watch_log(data: &[u8]) {
    let [keep, limits, script @ ..] = data else { return };
    if script.len() > LONGEST {
        return;
    }
    let mut world = World::new(1 + usize::from(keep % 64), *limits);
    let mut script = script.iter().copied();
    while let Some(byte) = script.next() {
        let argument = byte / 8;
        match byte % 8 {
            0 | 1 => world.batch(argument, &mut script),
            2 => world.subscribe(argument, &mut script),
            3 => world.read(usize::from(argument), 1 + usize::from(script.next().unwrap_or(0))),
            4 if argument < 24 => world.leave(usize::from(argument)),
            4 => world.snapshot(argument % 4, &mut script),
            5 => world.look(argument, &mut script),
            6 => world.page(argument, &mut script),
            _ => world.poll(argument, &mut script),
        }
        world.settle();
    }
    world.end();
}

struct World {
    server: WatchServer<Scripted>,
    handle: Handle,
    outcomes: Rc<RefCell<VecDeque<Outcome>>>,
    history: History,
    subscriptions: Vec<Subscribed>,
    /// The prefix, revision and last key of a list that is not at its end.
    list: Option<(String, u64, String)>,
    connections: u32,
    poll_bytes: usize,
}

struct Subscribed {
    subscription: Subscription,
    filter: Filter,
    /// The place behind the last change that it was told.
    seen: usize,
    /// The store lost what it had not seen, whatever that was.
    missed: bool,
    over: bool,
}

/// Says what it is told to say.
struct Scripted(Rc<RefCell<VecDeque<Outcome>>>);

impl Store for Scripted {
    fn start(&mut self, _: &Waker) {}

    fn submit(&mut self, _: Ticket, _: Operation) -> Result<(), Busy> {
        Err(Busy)
    }

    fn poll(&mut self) -> Option<Outcome> {
        self.0.borrow_mut().pop_front()
    }
}

impl World {
    fn new(keep: usize, limits: u8) -> Self {
        // So few bytes of encodings, now and then, that they are dropped and made again all the time.
        let encoded_bytes = [64 << 20, 600, 100, 0][usize::from(limits % 4)];
        let poll_bytes = [1 << 20, 200, 1, 0][usize::from(limits / 4 % 4)];
        let log = LogLimits { changes: keep, encoded_bytes, ..LogLimits::default() };
        // Without compression, whose encoders are another target's.
        let mut config = Config { log, poll_bytes, ..Config::default() };
        config.websocket.compression = keepwatch_protocol::websocket::Compression::OFF;
        let outcomes = Rc::default();
        let (mut server, handle) =
            Shared::new(config, Revision::ZERO).machine_over(Scripted(Rc::clone(&outcomes)), 7);
        server.start(Waker::noop(), Now::default());
        let history = History::new(keep);
        let (subscriptions, list) = (Vec::new(), None);
        Self { server, handle, outcomes, history, subscriptions, list, connections: 0, poll_bytes }
    }

    // ---- What is committed ----

    fn batch(&mut self, argument: u8, script: &mut impl Iterator<Item = u8>) {
        let first = Position::new(self.history.log.len() as u64);
        let changes = self.changes(argument, script);
        self.history.push(&changes);
        let batch = Batch::new(first, changes).expect("revisions that grow");
        self.outcomes.borrow_mut().push_back(Outcome::Batch(batch.into()));
    }

    /// A few commits of a few changes, or very many changes of one commit. None of them does nothing.
    fn changes(&self, argument: u8, script: &mut impl Iterator<Item = u8>) -> Vec<Change> {
        let (commits, many) = if argument >= 28 { (1, 40) } else { (1 + argument % 4, 0) };
        let (mut changes, mut at): (Vec<Change>, u64) = (Vec::new(), self.history.revision());
        for _ in 0..commits {
            let shape = script.next().unwrap_or(0);
            at += 1 + u64::from(shape / 4 % 4);
            for index in 0..1 + shape % 4 + many {
                let what = if index < 4 { script.next().unwrap_or(0) } else { shape.wrapping_mul(index | 1) };
                changes.push(self.change(what, at, &changes));
            }
        }
        changes
    }

    fn change(&self, what: u8, at: u64, before: &[Change]) -> Change {
        let key = KEYS[usize::from(what % 16) % KEYS.len()];
        let last = before.iter().rfind(|change| &*change.key == key).map(Entry::from);
        let last = last.or_else(|| self.history.log.iter().rfind(|entry| entry.key == key).cloned());
        let there = last.filter(|last| last.value.is_some());
        let value: Option<Vec<u8>> = match (what / 16, &there) {
            (0..=4, Some(_)) => None,
            (15, _) => Some(vec![0xff, what]), // no text
            (14, _) => Some(vec![b'x'; 700]),
            (value, _) => Some(vec![b'a' + value]),
        };
        let revision = revision(at);
        let created = there.map_or(revision, |there| self::revision(there.created));
        let key = Key::new(key, 16).expect("a key");
        Change { key, revision, created, value: value.map(Into::into) }
    }

    /// The store says the state in place of changes: of these few, or of none.
    fn snapshot(&mut self, argument: u8, script: &mut impl Iterator<Item = u8>) {
        let missed = if argument == 0 { Vec::new() } else { self.changes(argument, script) };
        // What it says before is taken before: nothing is left of a log when it comes.
        self.settle();
        self.history.restate(&missed);
        for subscribed in &mut self.subscriptions {
            subscribed.missed |= !missed.is_empty();
        }
        let snapshot = Snapshot {
            revision: revision(self.history.revision()),
            position: Position::new(self.history.log.len() as u64),
            items: self
                .history
                .state(u64::MAX)
                .values()
                .map(|entry| Change {
                    key: Key::new(&entry.key, 16).expect("a key"),
                    revision: revision(entry.revision),
                    created: revision(entry.created),
                    value: entry.value.clone().map(Into::into),
                })
                .collect(),
        };
        self.outcomes.borrow_mut().push_back(Outcome::Snapshot(snapshot));
    }

    /// The machine takes what there is.
    fn settle(&mut self) {
        self.server.on_wake(Now::default());
        assert_eq!(self.server.next_ready(Now::default()), None, "there is no connection");
        let usage = self.server.usage();
        assert_eq!(usage.log_changes, self.history.log.len() - self.history.floor);
        assert_eq!(self.server.revision().as_u64(), self.history.revision());
        assert!(usage.watchers <= self.subscriptions.iter().filter(|it| !it.over).count());
        assert_eq!((usage.connections, usage.writes), (0, 0));
    }

    // ---- Who reads by the handle ----

    fn subscribe(&mut self, argument: u8, script: &mut impl Iterator<Item = u8>) {
        let filter = filter(script.next().unwrap_or(0));
        let wanted = match &filter {
            Filter::Key(key) => keepwatch_watch::Filter::key(key, 16),
            Filter::Prefix(prefix) => keepwatch_watch::Filter::prefix(prefix, 16),
        };
        let since = (argument != 31).then(|| self.back(argument));
        if self.subscriptions.len() == SUBSCRIPTIONS {
            return;
        }
        let answer = self.handle.watch(wanted.expect("a filter"), since.map(revision));
        self.server.on_wake(Now::default());
        let since = since.unwrap_or(self.history.revision());
        match answer.wait().expect("the server is there") {
            Ok(subscription) => {
                assert!(self.history.reaches(since));
                let seen = self.history.after(since);
                let subscribed = Subscribed { subscription, filter, seen, missed: false, over: false };
                self.subscriptions.push(subscribed);
            }
            Err(error) => self.assert_refused(since, error),
        }
    }

    /// A revision not long ago, or one or two that are not reached.
    fn back(&self, argument: u8) -> u64 {
        (self.history.revision() + 2).saturating_sub(u64::from(argument))
    }

    fn assert_refused(&self, at: u64, error: RevisionError) {
        match error {
            RevisionError::Compacted { floor } => {
                assert!(at < floor.as_u64() && floor.as_u64() == self.history.floor_revision());
            }
            RevisionError::Ahead { current } => {
                assert!(at > current.as_u64() && current.as_u64() == self.history.revision());
            }
            other => panic!("{other}"),
        }
    }

    fn read(&mut self, index: usize, count: usize) {
        let Some(subscribed) = self.subscriptions.get_mut(index % SUBSCRIPTIONS) else { return };
        for _ in 0..count {
            let mut waited = subscribed.subscription.try_next();
            if waited.is_none() {
                // Behind a full buffer the rest comes when there is room.
                self.server.on_wake(Now::default());
                waited = subscribed.subscription.try_next();
            }
            let next = self.history.changes(&subscribed.filter, subscribed.seen).next();
            match waited {
                Some(event) if subscribed.over => panic!("{event:?} behind the end"),
                Some(Event::Change(change)) => {
                    let (place, entry) = next.unwrap_or_else(|| panic!("{change:?}, and there is none"));
                    assert_eq!(Entry::from(&change), *entry);
                    subscribed.seen = place + 1;
                }
                Some(Event::Compacted(revision)) => {
                    let lost = next.is_some_and(|(place, _)| place < self.history.floor);
                    assert!(lost || subscribed.missed, "compacted, and nothing is lost: {next:?}");
                    let current = self.history.floor_revision()..=self.history.revision();
                    assert!(subscribed.missed || current.contains(&revision.as_u64()));
                    subscribed.over = true;
                }
                Some(other) => panic!("{other:?}"),
                None => {
                    let told = subscribed.over || next.is_none() && !subscribed.missed;
                    assert!(told, "{next:?} is not told to {:?}", subscribed.filter);
                    return;
                }
            }
        }
    }

    fn leave(&mut self, index: usize) {
        if index % SUBSCRIPTIONS < self.subscriptions.len() {
            self.subscriptions.remove(index % SUBSCRIPTIONS);
        }
    }

    /// The state now, of a prefix and of a key.
    fn look(&mut self, argument: u8, script: &mut impl Iterator<Item = u8>) {
        let prefix = PREFIXES[usize::from(argument) % PREFIXES.len()];
        let key = KEYS[usize::from(script.next().unwrap_or(0)) % KEYS.len()];
        let (list, get) = (self.handle.list(prefix), self.handle.get(key));
        self.server.on_wake(Now::default());
        let state = self.history.state(u64::MAX);
        let list = list.wait().expect("the server is there");
        assert_eq!(list.revision.as_u64(), self.history.revision());
        let items: Vec<Entry> = list.items.iter().map(Entry::from).collect();
        assert!(items.iter().eq(state.values().copied().filter(|entry| entry.key.starts_with(prefix))));
        let got = get.wait().expect("the server is there");
        assert_eq!(got.as_ref().map(Entry::from).as_ref(), state.get(key).copied());
    }

    // ---- Who reads by requests ----

    /// A page of the list that was begun, or of a new one, which may begin in the past.
    fn page(&mut self, argument: u8, script: &mut impl Iterator<Item = u8>) {
        let limit = 1 + usize::from(argument % 4);
        let begun = if argument & 4 == 0 { self.list.take() } else { None };
        let (prefix, from) = match begun {
            Some((prefix, at, after)) => (prefix, Some((at, after))),
            None => {
                let byte = script.next().unwrap_or(0);
                let prefix = PREFIXES[usize::from(byte % 16) % PREFIXES.len()].to_owned();
                // Behind the first key that there can be.
                let past = (argument & 8 != 0).then(|| (self.back(byte / 16), "a".to_owned()));
                (prefix, past)
            }
        };
        let token = from.as_ref().map(|(at, after)| format!("&continue={at}.{}", escaped(after)));
        let target = format!("/v1/kv?prefix={}&limit={limit}{}", escaped(&prefix), token.unwrap_or_default());
        let (status, page) = self.ask(&target);
        let at = from.as_ref().map_or(self.history.revision(), |(at, _)| *at);
        if !self.history.reaches(at) {
            assert_eq!(status, 410, "{page}");
            return;
        }
        assert_eq!((status, page["revision"].as_u64()), (200, Some(at)), "{page}");
        self.history.assert_page(&prefix, from.as_ref().map(|(_, after)| after.as_str()), limit, &page);
        if let Some((_, after)) = page["continue"].as_str().and_then(|token| token.split_once('.')) {
            self.list = Some((prefix, at, after.to_owned()));
        }
    }

    /// The changes since a revision, as far as one answer goes.
    fn poll(&mut self, argument: u8, script: &mut impl Iterator<Item = u8>) {
        let (filter, since) = (filter(script.next().unwrap_or(0)), self.back(argument));
        let what = match &filter {
            Filter::Key(key) => format!("key={}", escaped(key)),
            Filter::Prefix(prefix) => format!("prefix={}", escaped(prefix)),
        };
        let (status, answer) = self.ask(&format!("/v1/watch?{what}&since={since}&wait=0s"));
        if !self.history.reaches(since) {
            assert_eq!(status, 410, "{answer}");
            return;
        }
        let to = answer["revision"].as_u64().unwrap_or_else(|| panic!("{answer}"));
        let from = self.history.after(since);
        let expected: Vec<Entry> = self
            .history
            .changes(&filter, from)
            .map(|(_, entry)| entry)
            .filter(|entry| entry.revision <= to)
            .cloned()
            .collect();
        let events = answer["events"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let events: Vec<Entry> = events.iter().map(Entry::of_json).collect();
        assert_eq!((status, events), (200, expected), "since {since}: {answer}");
        let all = to == self.history.revision();
        assert!(all || to > since && self.poll_bytes < 1000, "since {since} it goes to {to}");
    }

    /// A request on a connection of its own.
    fn ask(&mut self, target: &str) -> (u16, Value) {
        let (id, now) = (ConnectionId::new(0, self.connections), Now::default());
        self.connections += 1;
        assert_eq!(self.server.open(id, &Peer::default(), now), Admission::Admit);
        let mut out = SendQueue::new(usize::MAX);
        let mut bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes();
        let mut after = self.server.receive(id, &mut Input::new(&mut bytes), &mut out, now);
        let mut answer = Vec::new();
        while after != After::Finish {
            // Own bytes stand in front of lent ones.
            answer.extend_from_slice(out.pending());
            out.wrote(out.len());
            if let Some(ready) = self.server.next_ready(now) {
                after = self.server.resume(ready, &mut out, now);
                continue;
            }
            let mut slices = Slices::new(1000);
            let filled = self.server.fill(id, &mut slices, now);
            answer.extend(slices.parts().concat());
            let count = slices.len();
            assert!(
                filled != Fill::Nothing || count > 0,
                "it is not answered: {after:?} {target} {}",
                answer.escape_ascii()
            );
            after = self.server.sent(id, count, now);
        }
        answer.extend_from_slice(out.pending());
        self.server.closed(id, Closed::Finished, now);
        let message = Message::read(&answer, Kind::Response).expect("a head");
        assert_eq!((message.end, message.length), (End::Complete, answer.len()));
        let json = serde_json::from_slice(&message.content);
        (message.status(), json.unwrap_or_else(|error| panic!("{error} in {}", answer.escape_ascii())))
    }

    /// Everyone reads everything, and leaves.
    fn end(mut self) {
        for index in 0..self.subscriptions.len() {
            // What waits in front of the log, and then the rest, which is at most what the log keeps.
            for _ in 0..self.history.log.len() / (BUFFER / 2) + 2 {
                self.read(index, usize::MAX);
                self.settle();
            }
            let Subscribed { filter, seen, missed, over, .. } = &self.subscriptions[index];
            let next = self.history.changes(filter, *seen).next();
            assert!(*over || !missed && next.is_none(), "{next:?} was never told");
        }
        let left = self.subscriptions.iter().filter(|subscribed| !subscribed.over).count();
        assert_eq!(self.server.usage().watchers, left);
        self.subscriptions.clear();
        self.settle();
        assert_eq!(self.server.usage().watchers, 0);
    }
}

fn revision(number: u64) -> Revision {
    Revision::new(number).expect("below 2^53")
}

fn filter(byte: u8) -> Filter {
    let index = usize::from(byte / 2) % 12;
    if byte & 1 == 0 {
        Filter::Prefix(PREFIXES[index].to_owned())
    } else {
        Filter::Key(KEYS[index].to_owned())
    }
}
