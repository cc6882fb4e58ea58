//! Every watcher, however slow and however its bytes are cut, sees what a naive model says: each change once, in order, or
//! word that some are missing.

use std::time::Duration;

use keepwatch_protocol::driver::Driver;
use keepwatch_protocol::{ConnectionId, DriverConfig, Fill, Instant, Leases, Now, Peer, Server, UnixMillis};
use keepwatch_sim::{Client, Sim, SimConfig};
use keepwatch_watch::store::Reply;
use keepwatch_watch::{Handle, WatchServer};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Value, json};

use crate::support::{START, UPGRADE, keeping, request, says, server};

const KEYS: &[&str] = &["a", "a/b", "b", "b\"\r\n\u{2028}", "\u{e9}"];
const PREFIXES: &[&str] = &["", "a", "b", "none"];

/// A change, as the model has it: its revision, its key and its value.
type Past = (u64, String, Option<String>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Lines,
    Events,
    /// For clients that speak HTTP/1.0: frames without chunks around them.
    BareLines,
    BareEvents,
    Socket,
    /// A WebSocket with two watches, each with its id.
    SharedSocket,
}

#[derive(Clone, Debug)]
enum Filter {
    Key(usize),
    Prefix(usize),
}

impl Filter {
    fn matches(&self, key: &str) -> bool {
        match self {
            Self::Key(index) => KEYS[*index] == key,
            Self::Prefix(index) => key.starts_with(PREFIXES[*index]),
        }
    }

    fn named(&self) -> (&'static str, &'static str) {
        match self {
            Self::Key(index) => ("key", KEYS[*index]),
            Self::Prefix(index) => ("prefix", PREFIXES[*index]),
        }
    }

    fn query(&self, since: Option<u64>) -> String {
        let (name, text) = self.named();
        let from = since.map_or("initial=true".to_owned(), |since| format!("since={since}"));
        let encoded = text.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
        format!("/v1/watch?{name}={encoded}&{from}")
    }

    fn operation(&self, id: usize, since: Option<u64>) -> Vec<u8> {
        let (name, text) = self.named();
        let mut operation = json!({ "op": "watch", "id": id, name: text });
        match since {
            Some(since) => operation["since"] = since.into(),
            None => operation["initial"] = true.into(),
        }
        says(&operation.to_string())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8),
    Delete(usize),
    /// Several puts that are one batch.
    Burst(Vec<(usize, u8)>),
    /// A watcher comes, whose revision lies so many changes back; if there is none, it wants the state first.
    Watch(Carrier, Filter, Filter, Option<usize>),
    /// A watcher reads up to so many bytes.
    Read(usize, usize),
    /// A watcher loses its connection, and comes back with the last revision that it saw.
    Reconnect(usize),
    /// Heartbeats come due.
    Wait,
}

fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![(0..KEYS.len()).prop_map(Filter::Key), (0..PREFIXES.len()).prop_map(Filter::Prefix),]
}

fn step() -> impl Strategy<Value = Step> {
    use Carrier::{BareEvents, BareLines, Events, Lines, SharedSocket, Socket};
    let carriers = vec![Lines, Events, BareLines, BareEvents, Socket, SharedSocket];
    let write = || (0..KEYS.len(), any::<u8>());
    prop_oneof![
        6 => write().prop_map(|(key, value)| Step::Put(key, value)),
        2 => (0..KEYS.len()).prop_map(Step::Delete),
        2 => prop::collection::vec(write(), 2..8).prop_map(Step::Burst),
        2 => (prop::sample::select(carriers), filter(), filter(), proptest::option::weighted(0.7, 0..6usize))
            .prop_map(|(carrier, first, second, back)| Step::Watch(carrier, first, second, back)),
        8 => (0..8usize, 0..300usize).prop_map(|(watcher, bytes)| Step::Read(watcher, bytes)),
        1 => (0..8usize).prop_map(Step::Reconnect),
        1 => Just(Step::Wait),
    ]
}

/// What is between the server and the watchers, who read nothing by themselves.
trait Net {
    fn connect(&mut self) -> usize;
    fn send(&mut self, client: usize, bytes: &[u8]);
    fn run(&mut self);
    fn read(&mut self, client: usize, bytes: usize);
    fn reset(&mut self, client: usize);
    fn received(&mut self, client: usize) -> Vec<u8>;
    fn wait(&mut self, time: Duration);
    /// All farewells are said.
    fn drain(&mut self);
    /// Everybody reads all there is.
    fn finish(&mut self);
    /// What is held of the budget.
    fn buffered(&self) -> usize;
}

struct Simulated {
    sim: Sim<WatchServer>,
    clients: Vec<Client>,
    window: usize,
    writes: Vec<usize>,
}

impl Net for Simulated {
    fn connect(&mut self) -> usize {
        let client = self.sim.connect();
        client.window(self.window);
        client.accept_in(&self.writes);
        client.read_limit(0);
        self.clients.push(client);
        self.clients.len() - 1
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].send(bytes);
    }

    fn run(&mut self) {
        self.sim.run().unwrap();
    }

    fn read(&mut self, client: usize, bytes: usize) {
        self.clients[client].read_limit(bytes);
        self.run();
    }

    fn reset(&mut self, client: usize) {
        self.clients[client].reset();
        self.run();
    }

    fn received(&mut self, client: usize) -> Vec<u8> {
        self.clients[client].receive()
    }

    fn wait(&mut self, time: Duration) {
        self.sim.advance(time).unwrap();
    }

    fn drain(&mut self) {
        let now = self.sim.now();
        self.sim.server_mut().drain(now.instant + Duration::from_secs(1), now);
        self.wait(Duration::from_secs(1));
    }

    fn finish(&mut self) {
        for client in &self.clients {
            client.read_limit(usize::MAX);
        }
        self.run();
    }

    fn buffered(&self) -> usize {
        self.sim.server().usage().buffered_bytes
    }
}

/// The driver with leases, that are written at any later time while everything else goes on.
struct Leased {
    driver: Driver<WatchServer>,
    now: Now,
    wires: Vec<Wire>,
    slots: Vec<usize>,
    most: usize,
}

#[derive(Default)]
struct Wire {
    id: Option<ConnectionId>,
    input: Vec<u8>,
    leased: Vec<u8>,
    received: Vec<u8>,
}

impl Leased {
    fn new(server: WatchServer, most: usize) -> Self {
        let now = Now::new(Instant::START, UnixMillis(0));
        let mut driver = Driver::new(server, patient());
        driver.start(std::task::Waker::noop(), now);
        Self { driver, now, wires: Vec::new(), slots: Vec::new(), most }
    }

    fn serve(&mut self, id: ConnectionId) {
        let wire = &mut self.wires[self.slots[id.slot()]];
        for _ in 0..10_000 {
            let wants = self.driver.wants(id);
            if wants.close {
                self.driver.release(id);
                wire.id = None;
                return;
            }
            if wants.shutdown {
                self.driver.shut_down(id);
            }
            if wants.read && !wire.input.is_empty() {
                let mut input = std::mem::take(&mut wire.input);
                self.driver.received(id, &mut input, self.now);
            }
            if !self.driver.wants(id).write {
                return;
            }
            let mut leases = Leases::new(self.most);
            let fill = self.driver.lease(id, &mut leases, self.now);
            wire.leased = leases.parts().iter().flat_map(|part| part.to_vec()).collect();
            if fill != Fill::More || !wire.leased.is_empty() {
                return;
            }
        }
        unreachable!("it has more and more, and never anything");
    }
}

impl Net for Leased {
    fn connect(&mut self) -> usize {
        let id = self.driver.accept(&Peer::default(), self.now).unwrap();
        if self.slots.len() <= id.slot() {
            self.slots.resize(id.slot() + 1, 0);
        }
        self.slots[id.slot()] = self.wires.len();
        self.wires.push(Wire { id: Some(id), ..Wire::default() });
        self.wires.len() - 1
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        let wire = &mut self.wires[client];
        wire.input.extend_from_slice(bytes);
        if let Some(id) = wire.id {
            self.serve(id);
        }
    }

    fn run(&mut self) {
        self.driver.woken(self.now);
        if self.driver.deadline().is_some_and(|at| at <= self.now.instant) {
            self.driver.on_deadline(self.now);
        }
        let mut turns = 0;
        while let Some(id) = self.driver.next_ready(self.now) {
            self.serve(id);
            turns += 1;
            assert!(turns < 100_000, "the server spins");
        }
    }

    fn read(&mut self, client: usize, bytes: usize) {
        let wire = &mut self.wires[client];
        if let (Some(id), false) = (wire.id, wire.leased.is_empty()) {
            let written = bytes.min(wire.leased.len());
            wire.received.extend_from_slice(&wire.leased[..written]);
            wire.leased.clear();
            self.driver.wrote(id, written, self.now);
        }
        self.run();
    }

    fn reset(&mut self, client: usize) {
        if let Some(id) = self.wires[client].id {
            self.wires[client].leased.clear();
            self.driver.failed(id, self.now);
        }
        self.run();
    }

    fn received(&mut self, client: usize) -> Vec<u8> {
        std::mem::take(&mut self.wires[client].received)
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.later(time);
        self.run();
    }

    fn drain(&mut self) {
        let by = self.now.instant + Duration::from_secs(1);
        self.driver.server_mut().drain(by, self.now);
        self.wait(Duration::from_secs(1));
    }

    fn finish(&mut self) {
        self.run();
        while let Some(client) = self.wires.iter().position(|wire| !wire.leased.is_empty()) {
            self.read(client, usize::MAX);
        }
    }

    fn buffered(&self) -> usize {
        self.driver.server().usage().buffered_bytes
    }
}

struct Watcher {
    carrier: Carrier,
    client: usize,
    /// What came and is not understood yet.
    bytes: Vec<u8>,
    head_came: bool,
    /// The server ended the stream, in the way of the carrier.
    ended: bool,
    watches: Vec<Watch>,
}

struct Watch {
    filter: Filter,
    /// `None`: the state is to come, or is coming.
    since: Option<u64>,
    /// The last revision that it saw.
    cursor: Option<u64>,
    seen: Vec<Past>,
    compacted: bool,
}

impl Watcher {
    fn new(net: &mut impl Net, carrier: Carrier, filters: Vec<Filter>, since: Option<u64>) -> Self {
        let watch = |filter| Watch { filter, since, cursor: since, seen: Vec::new(), compacted: false };
        let watches = filters.into_iter().map(watch).collect();
        let (bytes, head_came, ended) = (Vec::new(), false, false);
        let mut watcher = Self { carrier, client: 0, bytes, head_came, ended, watches };
        watcher.connect(net);
        watcher
    }

    fn connect(&mut self, net: &mut impl Net) {
        self.client = net.connect();
        (self.bytes, self.head_came, self.ended) = (Vec::new(), false, false);
        for watch in self.watches.iter_mut().filter(|watch| watch.since.is_none()) {
            watch.seen.clear(); // a state that broke off is worth nothing
        }
        let Watch { filter, cursor, .. } = &self.watches[0];
        let target = filter.query(*cursor);
        let bare = |kind| format!("GET {target} HTTP/1.0\r\nHost: x\r\nAccept: {kind}\r\n\r\n");
        let request = match self.carrier {
            Carrier::Lines => request("GET", &target, "Accept: application/x-ndjson\r\n"),
            Carrier::Events => request("GET", &target, "Accept: text/event-stream\r\n"),
            Carrier::BareLines => bare("application/x-ndjson"),
            Carrier::BareEvents => bare("text/event-stream"),
            Carrier::Socket => request("GET", &target, UPGRADE),
            Carrier::SharedSocket => request("GET", "/v1/watch", UPGRADE),
        };
        net.send(self.client, request.as_bytes());
        if self.carrier == Carrier::SharedSocket {
            for (id, watch) in self.watches.iter().enumerate().filter(|(_, watch)| !watch.compacted) {
                net.send(self.client, &watch.filter.operation(id, watch.cursor));
            }
        }
        net.run();
    }

    /// Understands what came, up to a frame that is not whole.
    fn understand(&mut self, net: &mut impl Net, history: &[Past]) {
        self.bytes.extend(net.received(self.client));
        if !self.head_came {
            let Some(end) = find(&self.bytes, b"\r\n\r\n") else { return };
            let head: Vec<u8> = self.bytes.drain(..end + 4).collect();
            self.head_came = true;
            if head.starts_with(b"HTTP/1.1 410 ") {
                self.watches[0].compacted = true;
                self.bytes.clear();
                return;
            }
            assert!(head.starts_with(b"HTTP/1.1 200 ") || head.starts_with(b"HTTP/1.1 101 "));
        }
        while let Some(event) = self.next_event() {
            let watch = &mut self.watches[event["id"].as_u64().unwrap_or(0) as usize];
            assert!(!watch.compacted || event["type"] == "retry", "nothing follows: {event}");
            watch.heard(&event, history);
        }
    }

    /// The next event that is whole, if there is one.
    fn next_event(&mut self) -> Option<Value> {
        let text = match self.carrier {
            Carrier::Lines | Carrier::Events => {
                let (size, rest) = split(&self.bytes, b"\r\n")?;
                let size = usize::from_str_radix(std::str::from_utf8(size).unwrap(), 16).unwrap();
                let payload = rest.get(..size + 2)?;
                let (payload, end) = payload.split_at(size);
                assert_eq!(end, b"\r\n");
                let payload = payload.to_vec();
                let used = self.bytes.len() - rest.len() + size + 2;
                self.bytes.drain(..used);
                if size == 0 {
                    self.ended = true;
                    return None;
                }
                payload
            }
            Carrier::BareLines => self.take_through(b"\n")?,
            Carrier::BareEvents => self.take_through(b"\n\n")?,
            Carrier::Socket | Carrier::SharedSocket => {
                let (opcode, payload) = self.take_frame()?;
                if opcode == 0x88 {
                    self.ended = true;
                    return None;
                }
                assert_eq!(opcode, 0x81, "{:?}", payload.escape_ascii());
                payload
            }
        };
        let text = String::from_utf8(text).unwrap();
        match self.carrier {
            Carrier::Events | Carrier::BareEvents => Some(event_of_sse(&text)),
            _ => Some(serde_json::from_str(&text).unwrap()),
        }
    }

    fn take_through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let at = find(&self.bytes, end)?;
        Some(self.bytes.drain(..at + end.len()).collect())
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (head, length) = match (*self.bytes.first()?, *self.bytes.get(1)?) {
            (_, short @ 0..=125) => (2, usize::from(short)),
            (_, 126) => {
                let length = self.bytes.get(2..4)?;
                (4, usize::from(u16::from_be_bytes(length.try_into().unwrap())))
            }
            (_, 127) => {
                let length = self.bytes.get(2..10)?;
                (10, u64::from_be_bytes(length.try_into().unwrap()) as usize)
            }
            (_, other) => unreachable!("a length of {other}"),
        };
        let opcode = self.bytes[0];
        let payload = self.bytes.get(head..head + length)?.to_vec();
        self.bytes.drain(..head + length);
        Some((opcode, payload))
    }
}

impl Watch {
    fn heard(&mut self, event: &Value, history: &[Past]) {
        let revision = event["revision"].as_u64().unwrap();
        match event["type"].as_str().unwrap() {
            "watching" | "retry" => {}
            "compacted" => self.compacted = true,
            "bookmark" if self.since.is_none() => {
                let mut state: Vec<Past> = Vec::new();
                for past in history.iter().filter(|past| past.0 <= revision && self.filter.matches(&past.1)) {
                    state.retain(|(_, key, _)| *key != past.1);
                    state.extend(past.2.is_some().then(|| past.clone()));
                }
                state.sort_by(|a, b| a.1.cmp(&b.1));
                assert_eq!(self.seen, state, "the state at {revision}");
                self.seen.clear();
                (self.since, self.cursor) = (Some(revision), Some(revision));
            }
            "bookmark" => {
                let due = self.expected(history).filter(|past| past.0 <= revision).count();
                assert_eq!(self.seen.len(), due, "the bookmark {revision} says that these are all");
                self.cursor = Some(revision);
            }
            _ => {
                let value = event.get("value").map(|value| value.as_str().unwrap().to_owned());
                self.seen.push((revision, event["key"].as_str().unwrap().to_owned(), value));
                self.cursor = self.since.and(Some(revision));
            }
        }
    }

    fn expected<'a>(&'a self, history: &'a [Past]) -> impl Iterator<Item = &'a Past> {
        let since = self.since.unwrap_or(u64::MAX);
        history.iter().filter(move |(revision, key, _)| *revision > since && self.filter.matches(key))
    }

    /// `whole`: nothing ended it.
    fn check(&self, carrier: Carrier, history: &[Past], whole: bool) {
        let expected: Vec<_> = self.expected(history).cloned().collect();
        if self.since.is_none() {
            assert!(self.compacted || !whole, "{carrier:?}: the state never came");
        } else if self.compacted || !whole {
            assert!(expected.starts_with(&self.seen), "{carrier:?}: {:?} of {expected:?}", self.seen);
        } else {
            assert_eq!(self.seen, expected, "{carrier:?}");
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let found = find(bytes, at)?;
    Some((&bytes[..found], &bytes[found + at.len()..]))
}

/// One server-sent event; a heartbeat as the bookmark that it is.
fn event_of_sse(text: &str) -> Value {
    assert!(!text.contains('\r'));
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let id = field("id").map(|id| id.parse::<u64>().unwrap());
    let Some(data) = field("data") else {
        let kind = if id.is_some() { "bookmark" } else { "retry" };
        return json!({ "type": kind, "revision": id.unwrap_or(0) });
    };
    let event: Value = serde_json::from_str(data).unwrap();
    assert_eq!(field("event"), event["type"].as_str());
    // An item of the state has no id.
    assert!(id.is_none() || id == event["revision"].as_u64());
    event
}

/// How much the server keeps, and how large the values are.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    keep: usize,
    /// Bytes of a value for each that a step says.
    scale: usize,
    buffers: usize,
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let keep = prop::sample::select(vec![1usize, 3, 10, 10_000]);
    // Of large values few find room together, or only one.
    let large = prop::sample::select(vec![(1usize, 256 << 20), (100, 60_000), (100, 18_000)]);
    (keep, large).prop_map(|(keep, (scale, buffers))| Sizes { keep, scale, buffers })
}

fn play(net: &mut impl Net, handle: &Handle, sizes: Sizes, steps: Vec<Step>, drain: bool) {
    let Sizes { keep, scale, buffers } = sizes;
    // A single one is sent whatever its size.
    let most = buffers.max(scale * 256 + 1000);
    let mut history: Vec<Past> = Vec::new();
    let mut watchers: Vec<Watcher> = Vec::new();
    for step in steps {
        match step {
            Step::Put(key, value) => write(net, handle, &mut history, scale, &[(key, Some(value))]),
            Step::Delete(key) => write(net, handle, &mut history, scale, &[(key, None)]),
            Step::Burst(writes) => {
                let writes: Vec<_> = writes.into_iter().map(|(key, value)| (key, Some(value))).collect();
                write(net, handle, &mut history, scale, &writes);
            }
            Step::Watch(carrier, first, second, back) => {
                let since = back.map(|back| history.iter().rev().nth(back).map_or(START, |past| past.0));
                let filters = match carrier {
                    Carrier::SharedSocket => vec![first, second],
                    _ => vec![first],
                };
                watchers.push(Watcher::new(net, carrier, filters, since));
            }
            Step::Read(watcher, bytes) => {
                if let Some(watcher) = watchers.get(watcher) {
                    net.read(watcher.client, bytes);
                }
            }
            Step::Reconnect(watcher) => {
                if let Some(watcher) = watchers.get_mut(watcher) {
                    watcher.understand(net, &history);
                    net.reset(watcher.client);
                    watcher.bytes.clear();
                    if !watcher.watches.iter().all(|watch| watch.compacted) {
                        watcher.connect(net);
                    }
                }
            }
            Step::Wait => net.wait(Duration::from_secs(26)),
        }
        assert!(net.buffered() <= most, "{} of {buffers}", net.buffered());
    }
    if drain {
        net.drain();
    }
    net.finish();
    // Some may have waited for room, each for the one before.
    let mut quiet = if scale > 1 { 0 } else { 2 };
    while quiet < 2 {
        net.wait(Duration::from_millis(25));
        net.finish();
        quiet += 1;
        for watcher in &mut watchers {
            let came = net.received(watcher.client);
            quiet = if came.is_empty() { quiet } else { 0 };
            watcher.bytes.extend(came);
        }
    }
    assert_eq!(net.buffered(), 0);
    for watcher in &mut watchers {
        watcher.understand(net, &history);
        assert!(watcher.bytes.is_empty(), "a frame is not whole: {}", watcher.bytes.escape_ascii());
        let framed = !matches!(watcher.carrier, Carrier::BareLines | Carrier::BareEvents);
        let refused = watcher.watches.iter().all(|watch| watch.compacted);
        assert!(watcher.ended || !drain || !framed || refused, "{:?} has no end", watcher.carrier);
        for watch in &watcher.watches {
            watch.check(watcher.carrier, &history, !drain);
            assert!(!watch.compacted || history.len() > keep, "nothing was lost");
        }
    }
}

/// The process writes, all in one batch.
fn write(
    net: &mut impl Net,
    handle: &Handle,
    history: &mut Vec<Past>,
    scale: usize,
    writes: &[(usize, Option<u8>)],
) {
    let asked: Vec<_> = writes
        .iter()
        .map(|&(key, value)| {
            let text = value.map(|value| "v".repeat(scale * usize::from(value)));
            let pending = match &text {
                Some(text) => handle.put(KEYS[key], text.as_bytes()),
                None => handle.delete(KEYS[key]),
            };
            (KEYS[key].to_owned(), text, pending)
        })
        .collect();
    net.run();
    for (key, text, pending) in asked {
        match pending.wait().unwrap() {
            Reply::Written { changed: false, .. } | Reply::Missing => {}
            Reply::Written { revision, .. } | Reply::Deleted { revision } => {
                history.push((revision.as_u64(), key, text));
            }
            other => unreachable!("{other:?}"),
        }
    }
}

/// A server and a driver that wait for ever for those who do not read.
fn patient_server(keep: usize, buffers: usize) -> (WatchServer, Handle) {
    let mut config = keeping(keep);
    // For what goes. Who waits for room is not told to come back.
    config.buffers = 2 * buffers;
    if buffers < 1 << 20 {
        config.heartbeat = Duration::from_secs(1 << 30);
    }
    config.websocket.ping_interval = None;
    config.websocket.close_timeout = Duration::from_secs(1 << 30);
    server(config)
}

fn patient() -> DriverConfig {
    DriverConfig { write_stall: Duration::from_secs(1 << 30), ..DriverConfig::default() }
}

fn config_of(cases: u32) -> ProptestConfig {
    let seeds = FileFailurePersistence::Direct("tests/server.proptest-regressions");
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(seeds)),
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config_of(96))]

    #[test]
    fn every_watcher_sees_what_the_model_says(
        steps in prop::collection::vec(step(), 1..80),
        sizes in sizes(),
        window in prop::sample::select(vec![1usize, 7, 64, 300, 4096]),
        writes in prop::collection::vec(1..200usize, 0..4),
        drain: bool,
    ) {
        let (server, handle) = patient_server(sizes.keep, sizes.buffers);
        let mut config = SimConfig::default();
        config.driver = patient();
        let mut net = Simulated { sim: Sim::with_config(server, config), clients: Vec::new(), window, writes };
        play(&mut net, &handle, sizes, steps, drain);
    }

    #[test]
    fn every_watcher_sees_the_same_of_leases(
        steps in prop::collection::vec(step(), 1..80),
        sizes in sizes(),
        most in prop::sample::select(vec![1usize, 100, 10_000]),
        drain: bool,
    ) {
        let (server, handle) = patient_server(sizes.keep, sizes.buffers);
        let mut net = Leased::new(server, most);
        play(&mut net, &handle, sizes, steps, drain);
    }
}

#[test]
fn bodies_and_lists_are_leased_whole_however_little_is_written() {
    for (most, step) in [(40, 11), (300, 299), (1 << 20, 113), (1 << 20, usize::MAX)] {
        let (server, handle) = patient_server(1000, 256 << 20);
        let mut net = Leased::new(server, most);
        for key in 0..4 {
            let pending = handle.put(&format!("k{key}"), "v".repeat(9000).as_bytes());
            net.run();
            assert!(pending.wait().is_ok());
        }
        let client = net.connect();
        let requests = ["/v1/kv/k1", "/v1/kv", "/v1/kv/k2", "/healthz"];
        for target in requests {
            net.send(client, request("GET", target, "").as_bytes());
        }
        net.run();
        while !net.wires[client].leased.is_empty() {
            net.read(client, step);
        }
        let text = String::from_utf8(net.received(client)).unwrap();
        let heads: Vec<_> = text.match_indices("HTTP/1.1 200 OK\r\n").collect();
        assert_eq!(heads.len(), requests.len(), "{most} {step}");
        assert!(text.ends_with("\r\n\r\nok\n"), "{most} {step}");
        let value = "v".repeat(9000);
        assert_eq!(text.matches(&format!("\r\n\r\n{value}HTTP")).count(), 2, "{most} {step}");
        let (_, list) = text[heads[1].0..heads[2].0].split_once("\r\n\r\n").unwrap();
        let (list, rest) = unchunked(list);
        assert_eq!(rest, "");
        let list: Value = serde_json::from_str(&list).unwrap();
        assert_eq!(list["items"].as_array().unwrap().len(), 4);
    }
}

/// The content of chunks, and what is behind the last.
fn unchunked(mut text: &str) -> (String, &str) {
    let mut content = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        content += &rest[..size];
        text = rest[size..].strip_prefix("\r\n").unwrap();
        if size == 0 {
            return (content, text);
        }
    }
}
