//! The product's own watching client, [`WatchClient`], by whatever transport it gets through with. What it tells its user is
//! held to the log of what was committed, as what the server says is in the other watchers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::Input;
use keepwatch_watch::client::{
    Backoff, ClientConfig, ClientLimits, Event, Failure, Item, Next, Start, Target, Transport, WatchClient,
    WatchTimeouts,
};
use keepwatch_watch::{Filter as WatchFilter, Revision};

use super::check::{self, Cursor, Known};
use super::core::{Actor, Core, End, LinkId};
use super::model::{Entry, Filter};
use super::writer::KEYS;
use crate::random::Random;

pub(super) struct Keeper {
    client: WatchClient,
    filter: Filter,
    link: Option<LinkId>,
    unread: Vec<u8>,
    cursor: Option<Cursor>,
    /// What its user has.
    state: BTreeMap<String, Entry>,
    /// The state is being told anew.
    listing: bool,
    /// What was known when it last asked, and when it asked for what is being listed.
    known: Known,
    list_known: Known,
    transport: Option<Transport>,
    left: bool,
}

impl Keeper {
    /// `silence` is how long a stream of this server may say nothing.
    pub(super) fn new(mut random: Random, silence: Duration) -> Option<Self> {
        let mut transports = vec![
            Transport::WebSocket,
            Transport::ServerSentEvents,
            Transport::Lines,
            Transport::LongPoll,
            Transport::ShortPoll,
        ];
        let first = random.below(transports.len());
        transports.rotate_left(first);
        let most = 1 + random.below(transports.len());
        transports.truncate(most);
        let config = ClientConfig {
            transports,
            aside: Duration::from_secs(20),
            poll_interval: Duration::from_secs(4),
            wait: Duration::from_secs(1 + random.below(30) as u64),
            page_items: 1 + random.below(4),
            timeouts: WatchTimeouts { silence, answer: Duration::from_secs(5), ..WatchTimeouts::default() },
            backoff: Backoff { most: Duration::from_secs(2), ..Backoff::default() },
            limits: ClientLimits { queue_events: 1 + random.below(6), ..ClientLimits::default() },
            ..ClientConfig::default()
        };
        let (filter, wanted) = if random.chance(300) {
            let key = random.one_of(KEYS);
            (Filter::Key(key.to_owned()), WatchFilter::key(key, 1024))
        } else {
            let prefix = random.one_of(&["", "a/", "b"]);
            (Filter::Prefix(prefix.to_owned()), WatchFilter::prefix(prefix, 1024))
        };
        let target = Target { authority: "sim".to_owned(), filter: wanted.ok()?, start: Start::List };
        Some(Self {
            client: WatchClient::new(target, Arc::new(config), random.next_u64()).ok()?,
            filter,
            link: None,
            unread: Vec::new(),
            cursor: None,
            state: BTreeMap::new(),
            listing: false,
            known: Known::default(),
            list_known: Known::default(),
            transport: None,
            left: false,
        })
    }

    /// Lets it do what it can: make a connection, take what came, what is due.
    fn go_on(&mut self, last: bool, core: &mut Core) {
        let (now, mut out) = (core.now, Vec::new());
        if self.link.is_none() && self.client.wants_connection(now) {
            let link = core.connect();
            self.link = Some(link);
            self.unread.clear();
            self.client.connected(&mut out, now);
            if let Some(cursor) = &mut self.cursor {
                cursor.begin(link, core);
            }
        }
        let mut next = Next::Open;
        if self.client.deadline().is_some_and(|at| at <= now.instant) {
            next = self.client.on_deadline(&mut out, now);
        }
        loop {
            if next == Next::Open && self.link.is_some() {
                let mut input =
                    if last { Input::last(&mut self.unread) } else { Input::new(&mut self.unread) };
                next = self.client.receive(&mut input, &mut out, now);
                let taken = input.consumed();
                self.unread.drain(..taken);
            }
            let mut events = 0;
            while let Some(event) = self.client.next_event() {
                events += 1;
                core.say(|| format!("is told {event:?}"));
                let result = self.event(event, core);
                core.check(result);
            }
            if events == 0 || next == Next::Close {
                break;
            }
        }
        if let Some(link) = self.link {
            if !out.is_empty() {
                self.known = Known::behind(link, out.len(), core);
                core.send(link, &out);
            }
            if next == Next::Close {
                core.close(link);
                self.link = None;
            }
        }
        let deadline = self.client.deadline().filter(|at| *at > core.now.instant);
        if let Some(at) = deadline {
            core.wake_at(at);
        } else if self.link.is_none() {
            core.wake_at(core.now.instant + Duration::from_millis(1));
        }
    }

    fn event(&mut self, event: Event, core: &mut Core) -> Result<(), String> {
        let Some(link) = self.link else {
            return match event {
                Event::Transport(_) | Event::Failed(_) => Ok(()),
                other => Err(format!("it has no connection, and tells {other:?}")),
            };
        };
        let generation = core.generation_of(link);
        match event {
            Event::Listing => {
                self.listing = true;
                self.list_known = self.known;
                self.state.clear();
            }
            Event::Item(item) => {
                let entry = entry(&item, core, generation);
                self.state.insert(entry.key.clone(), entry);
            }
            Event::Listed(revision) => {
                core.marks.hit("client: listed");
                self.listing = false;
                if self.transport == Some(Transport::ShortPoll) {
                    return self.polled(revision.as_u64(), self.list_known, link, core);
                }
                let items: Vec<Entry> = self.state.values().cloned().collect();
                check::list(&self.filter, generation, revision.as_u64(), &items, self.list_known, core)?;
                let mut cursor = Cursor::new(&self.filter, generation, revision.as_u64(), core);
                cursor.begin(link, core);
                self.cursor = Some(cursor);
            }
            Event::Put(item) => {
                let entry = entry(&item, core, generation);
                self.change(&entry, generation, core)?;
                self.state.insert(entry.key.clone(), entry);
            }
            Event::Deleted { key, revision } => {
                let key = key.as_str().to_owned();
                let entry = Entry { key, revision: revision.as_u64(), created: 0, value: None };
                self.change(&entry, generation, core)?;
                self.state.remove(&entry.key);
            }
            // Who polls sees states, and is not told what they hide, nor of a server that has the same.
            Event::Bookmark(revision) if self.transport == Some(Transport::ShortPoll) => {
                self.polled(revision.as_u64(), self.known, link, core)?;
            }
            Event::Bookmark(revision) => {
                let Some(cursor) = &mut self.cursor else { return Err("a bookmark before a list".into()) };
                if cursor.generation != generation {
                    return Err("a bookmark of another server".into());
                }
                cursor.bookmark(revision.as_u64(), core)?;
            }
            Event::Compacted(_) => {
                core.marks.hit("client: compacted");
                let Some(cursor) = self.cursor.take() else { return Ok(()) };
                if cursor.is_too_old(link, core) {
                    core.marks.hit("too old: the client");
                }
                cursor
                    .refused_before(link, core)
                    .or_else(|why| cursor.compacted(link, core).map_err(|_| why))?;
            }
            Event::Transport(transport) => {
                core.marks.hit(&format!("client: {transport:?}"));
                self.transport = Some(transport);
            }
            Event::Failed(failure) => {
                core.marks.hit(&format!("client: failed, {}", kind(failure)));
                let cannot_be = matches!(
                    failure,
                    Failure::ContentType
                        | Failure::TooLong
                        | Failure::Malformed
                        | Failure::Key
                        | Failure::Handshake(_)
                );
                if cannot_be {
                    return Err(format!("#{link}: it fails: {failure:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What it has is what there was at a time, not before what was known when it asked: at this revision, if it is not that
    /// of a single key.
    fn polled(&mut self, revision: u64, known: Known, link: LinkId, core: &mut Core) -> Result<(), String> {
        let generation = core.generation_of(link);
        let mut cursor = Cursor::new(&self.filter, generation, revision, core);
        cursor.begin(link, core);
        self.cursor = Some(cursor);
        match &self.filter {
            Filter::Key(key) => {
                let has = self.state.get(key);
                if check::was(key, generation, known, core, |entry| entry == has) {
                    return Ok(());
                }
                Err(format!("it polled {has:?}, which never was"))
            }
            filter @ Filter::Prefix(_) => {
                let items: Vec<Entry> = self.state.values().cloned().collect();
                check::list(filter, generation, revision, &items, known, core)
            }
        }
    }

    fn change(&mut self, entry: &Entry, generation: usize, core: &mut Core) -> Result<(), String> {
        core.marks.hit("client: change");
        match &mut self.cursor {
            Some(cursor) if cursor.generation == generation && !self.listing => cursor.change(entry, core),
            _ => Err(format!("{entry:?} before a list of its server")),
        }
    }
}

/// Short polls of a single key are not told when it was created.
fn entry(item: &Item, core: &Core, generation: usize) -> Entry {
    let (key, revision) = (item.key.as_str().to_owned(), item.revision.as_u64());
    let created = item.created.map(Revision::as_u64).or_else(|| {
        let mut model = core.model.borrow_mut();
        model.generation(generation).find(revision).map(|entry| entry.created)
    });
    Entry { key, revision, created: created.unwrap_or_default(), value: Some(item.value.clone()) }
}

fn kind(failure: Failure) -> &'static str {
    match failure {
        Failure::Status(_) => "status",
        Failure::Http(_) => "http",
        Failure::WebSocket(_) => "websocket",
        Failure::Closed(_) => "closed",
        Failure::Silent => "silent",
        _ => "other",
    }
}

impl Actor for Keeper {
    fn wake(&mut self, core: &mut Core) {
        if !self.left {
            self.go_on(false, core);
        }
    }

    fn heard(&mut self, link: LinkId, bytes: &[u8], core: &mut Core) {
        if self.link == Some(link) && !self.left {
            self.unread.extend_from_slice(bytes);
            self.go_on(false, core);
        }
    }

    fn ended(&mut self, link: LinkId, how: End, core: &mut Core) {
        if self.link != Some(link) || self.left {
            return;
        }
        if how == End::Finished {
            self.go_on(true, core);
        }
        if self.link == Some(link) {
            self.client.disconnected(core.now);
            // What it is told now is of the connection that ended.
            while let Some(event) = self.client.next_event() {
                core.say(|| format!("is told {event:?}"));
                let result = self.event(event, core);
                core.check(result);
            }
            self.link = None;
        }
        self.go_on(false, core);
    }

    fn settled(&self, core: &Core) -> Result<(), String> {
        let mut model = core.model.borrow_mut();
        let newest = model.newest();
        let generation = model.generation(newest);
        let state = generation.list(&self.filter, generation.log.len());
        if self.listing || !self.state.values().eq(state.iter().copied()) {
            return Err(format!("by {:?} it has {:?}, and there is {state:?}", self.transport, self.state));
        }
        drop(model);
        match &self.cursor {
            Some(cursor) if self.transport != Some(Transport::ShortPoll) => cursor.settled(core),
            _ => Ok(()),
        }
    }

    fn leave(&mut self, core: &mut Core) {
        self.left = true;
        if let Some(link) = self.link.take() {
            core.close(link);
        }
    }
}
