//! A watching client, a network, and a server in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::{Input, Instant, Now};
use keepwatch_sim::{Client as Wire, Sim, SimError};
use keepwatch_watch::client::{ClientConfig, Event, Next, Start, Target, Transport, WatchClient};
use keepwatch_watch::{Config, Filter, Handle, Revision, Shared, WatchServer};

/// The revision that every server here begins at: the first change has the next one.
pub(crate) const START: u64 = 100;

pub(crate) const STREAMS: [Transport; 3] =
    [Transport::WebSocket, Transport::ServerSentEvents, Transport::Lines];
pub(crate) const EXACT: [Transport; 4] =
    [Transport::WebSocket, Transport::ServerSentEvents, Transport::Lines, Transport::LongPoll];
pub(crate) const ALL: [Transport; 5] = [
    Transport::WebSocket,
    Transport::ServerSentEvents,
    Transport::Lines,
    Transport::LongPoll,
    Transport::ShortPoll,
];

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn revision(number: u64) -> Revision {
    Revision::new(number).unwrap()
}

pub(crate) fn only(transport: Transport) -> ClientConfig {
    ClientConfig { transports: vec![transport], ..ClientConfig::default() }
}

pub(crate) fn prefix(prefix: &str) -> Filter {
    Filter::prefix(prefix, 1024).unwrap()
}

pub(crate) fn target(filter: Filter, start: Start) -> Target {
    Target { authority: "example:80".into(), filter, start }
}

/// The world: a server that can be started again, a network that can be cut, and one client.
pub(crate) struct World {
    pub(crate) sim: Sim<WatchServer>,
    pub(crate) handle: Handle,
    pub(crate) client: WatchClient,
    /// The connection, and what came on it and is not taken.
    wire: Option<(Wire, Vec<u8>)>,
    now: Now,
    filter: Filter,
    /// Connections that were made.
    pub(crate) connections: usize,
    /// Bytes that the client was given.
    pub(crate) received: usize,
    /// The connection breaks when so many bytes have been given to the client.
    pub(crate) cut_at: Option<usize>,
    /// The most bytes that are given at once.
    pub(crate) split: usize,
    is_held: bool,
    /// Connections cannot be made.
    pub(crate) is_down: bool,
    /// When connections were wanted.
    pub(crate) wanted_at: Vec<Instant>,
    /// The requests' first lines.
    pub(crate) requests: Vec<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) known: Known,
}

/// What a user makes of the events, and the check that they may be told so.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) map: BTreeMap<String, Vec<u8>>,
    is_whole: bool,
    last: u64,
}

impl Known {
    fn learn(&mut self, event: &Event) {
        match event {
            Event::Listing => {
                self.map.clear();
                (self.is_whole, self.last) = (false, 0);
            }
            Event::Item(item) => {
                assert!(!self.is_whole, "an item outside of a listing");
                assert!(self.map.insert(item.key.to_string(), item.value.clone()).is_none());
            }
            Event::Listed(revision) => {
                assert!(!self.is_whole);
                (self.is_whole, self.last) = (true, revision.as_u64());
            }
            Event::Put(item) => {
                assert!(self.is_whole && item.revision.as_u64() > self.last, "{item:?} after {}", self.last);
                self.last = item.revision.as_u64();
                self.map.insert(item.key.to_string(), item.value.clone());
            }
            Event::Deleted { key, revision } => {
                assert!(self.is_whole && revision.as_u64() > self.last, "{key:?} after {}", self.last);
                self.last = revision.as_u64();
                assert!(self.map.remove(key.as_str()).is_some());
            }
            Event::Bookmark(revision) => {
                assert!(self.is_whole && revision.as_u64() >= self.last);
                self.last = revision.as_u64();
            }
            _ => {}
        }
    }
}

impl World {
    /// A client that watches everything.
    pub(crate) fn new(server: Config, config: ClientConfig) -> Self {
        Self::watching(prefix(""), server, config)
    }

    pub(crate) fn watching(filter: Filter, server: Config, config: ClientConfig) -> Self {
        let client = WatchClient::new(target(filter.clone(), Start::List), Arc::new(config), 7).unwrap();
        let (server, handle) = Shared::new(server, revision(START)).machine(1);
        let sim = Sim::new(server);
        Self {
            now: sim.now(),
            sim,
            handle,
            client,
            wire: None,
            filter,
            connections: 0,
            received: 0,
            cut_at: None,
            split: usize::MAX,
            is_held: false,
            is_down: false,
            wanted_at: Vec::new(),
            requests: Vec::new(),
            events: Vec::new(),
            known: Known::default(),
        }
    }

    /// A client that watches everything by one transport.
    pub(crate) fn by(transport: Transport) -> Self {
        Self::new(Config::default(), only(transport))
    }

    /// Another server, with nothing in it, begins at this revision where the old one was.
    pub(crate) fn restart(&mut self, config: Config, at: u64) {
        let (server, handle) = Shared::new(config, revision(at)).machine(1);
        self.sim = Sim::new(server);
        self.handle = handle;
        self.cut();
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) {
        let written = self.handle.put(key, value.as_bytes());
        self.sim.run().unwrap();
        written.wait().unwrap();
    }

    pub(crate) fn delete(&mut self, key: &str) {
        let written = self.handle.delete(key);
        self.sim.run().unwrap();
        written.wait().unwrap();
    }

    /// The connection breaks.
    pub(crate) fn cut(&mut self) {
        if let Some((wire, _)) = self.wire.take() {
            wire.reset();
            self.client.disconnected(self.now);
        }
    }

    /// The server reads and writes, but nothing reaches the client, and nothing leaves it.
    pub(crate) fn hold(&mut self) {
        self.is_held = true;
        if let Some((wire, _)) = &self.wire {
            wire.read_limit(0);
        }
    }

    pub(crate) fn release(&mut self) {
        self.is_held = false;
        if let Some((wire, _)) = &self.wire {
            wire.read_limit(usize::MAX);
        }
    }

    /// Does all that can be done at this time.
    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            self.sim.run().unwrap();
            if !self.step() {
                self.sim.run().unwrap();
                let deadline = self.client.deadline();
                assert!(deadline.is_none_or(|at| at > self.now.instant), "a deadline stays in the past");
                return;
            }
        }
        panic!("the client spins");
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now.instant + by;
        self.run();
        while self.now.instant < end {
            let next = self.client.deadline().map_or(end, |at| at.min(end));
            let wire = self.wire.as_ref().map(|(wire, _)| wire.clone());
            let came = |_: &Sim<WatchServer>| {
                wire.as_ref().is_some_and(|wire| wire.received() > 0 || wire.is_ended() || wire.is_closed())
            };
            let wait = next.since(self.now.instant);
            let passed = match self.sim.run_until(came, wait) {
                Ok(passed) => passed,
                Err(SimError::TimeOver { .. }) => wait,
                Err(error) => panic!("{error}"),
            };
            self.now = self.now.later(passed);
            self.run();
        }
    }

    fn step(&mut self) -> bool {
        let mut out = Vec::new();
        let mut moved = false;
        if self.client.deadline().is_some_and(|at| at <= self.now.instant) {
            let next = self.client.on_deadline(&mut out, self.now);
            self.after(next, &out);
            out.clear();
            moved = true;
        }
        if self.client.wants_connection(self.now) {
            self.wanted_at.push(self.now.instant);
            self.connections += 1;
            self.client.connecting(self.now);
            assert!(!self.client.wants_connection(self.now));
            let wire = (!self.is_down).then(|| self.sim.connect()).filter(|wire| !wire.is_closed());
            match wire {
                None => self.client.disconnected(self.now),
                Some(wire) => {
                    self.wire = Some((wire, Vec::new()));
                    self.client.connected(&mut out, self.now);
                    self.after(Next::Open, &out);
                }
            }
            moved = true;
        } else if self.wire.is_some() && !self.is_held {
            moved |= self.give();
        }
        while let Some(event) = self.client.next_event() {
            self.known.learn(&event);
            self.events.push(event);
            moved = true;
        }
        moved
    }

    /// Gives the client what came.
    fn give(&mut self) -> bool {
        let Some((wire, buffer)) = &mut self.wire else { return false };
        buffer.extend(wire.receive());
        let is_over = wire.is_ended() || wire.is_closed();
        let mut count = buffer.len().min(self.split);
        let mut cut = false;
        if let Some(at) = self.cut_at {
            let left = at - self.received;
            cut = left <= count;
            count = count.min(left);
        }
        let last = is_over && count == buffer.len() && !cut;
        let bytes = &mut buffer[..count];
        let mut input = if last { Input::last(bytes) } else { Input::new(bytes) };
        let mut out = Vec::new();
        let next = self.client.receive(&mut input, &mut out, self.now);
        let consumed = input.consumed();
        buffer.drain(..consumed);
        self.received += consumed;
        let moved = consumed > 0 || !out.is_empty() || next == Next::Close || last;
        // What is not taken for want of the rest of it is offered again with more.
        let grow = consumed == 0 && count < buffer.len() && !cut;
        if grow {
            self.split = self.split.saturating_add(1);
        }
        self.after(next, &out);
        if cut && self.wire.is_some() && (consumed == count || !moved) {
            self.cut_at = None;
            self.cut();
            return true;
        }
        if last && self.wire.is_some() {
            // Whatever it said, there is no connection any more.
            self.wire = None;
            self.client.disconnected(self.now);
        }
        moved || grow
    }

    fn after(&mut self, next: Next, out: &[u8]) {
        let Some((wire, _)) = &self.wire else { return };
        if out.starts_with(b"GET ") {
            let line = out.split(|byte| *byte == b'\r').next().unwrap_or_default();
            self.requests.push(String::from_utf8(line.to_vec()).unwrap());
        }
        wire.send(out);
        if next == Next::Close {
            wire.shutdown_write();
            wire.read_limit(0);
            self.wire = None;
        }
    }

    /// What the client knows is what the server has.
    #[track_caller]
    pub(crate) fn agrees(&mut self) {
        let listed = self.handle.list("");
        self.sim.run().unwrap();
        let listed = listed.wait().unwrap();
        let state: BTreeMap<String, Vec<u8>> = listed
            .items
            .iter()
            .filter(|change| self.filter.matches(&change.key))
            .map(|change| (change.key.to_string(), change.value.as_deref().unwrap_or_default().to_vec()))
            .collect();
        assert_eq!(self.known.map, state);
        assert!(self.known.is_whole);
    }

    /// The events since the last call, each in a few letters.
    pub(crate) fn told(&mut self) -> Vec<String> {
        self.events.drain(..).map(|event| short(&event)).collect()
    }
}

pub(crate) fn short(event: &Event) -> String {
    match event {
        Event::Listing => "listing".into(),
        Event::Item(item) => format!("item {}={}", item.key, text(&item.value)),
        Event::Listed(revision) => format!("listed {revision}"),
        Event::Put(item) => format!("put {}={} @{}", item.key, text(&item.value), item.revision),
        Event::Deleted { key, revision } => format!("deleted {key} @{revision}"),
        Event::Bookmark(revision) => format!("bookmark {revision}"),
        Event::Compacted(revision) => format!("compacted {revision}"),
        Event::Transport(transport) => format!("by {transport}"),
        Event::Failed(failure) => format!("failed: {failure}"),
        other => format!("{other:?}"),
    }
}

fn text(value: &[u8]) -> String {
    value.escape_ascii().to_string()
}
