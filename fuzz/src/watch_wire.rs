//! The watch server and everything that comes out of it, by operations: on a few connections at a time requests, whole, half or
//! wrong; messages on WebSockets; writes of the process; time; readers that are slow, and clients that leave.
//!
//! ```text
//!   script ──► Seat ── what it sent ──► Requests: whose answer comes next (asked.rs)
//!               │  ▲                        │
//!               ▼  │ what came ────────► Answers: whole answers, lines, events, frames (answers.rs)
//!     Sim: Driver, WatchServer                │ each watch
//!               │ tapped store                ▼
//!               └──── committed ──────► Cursor: each change once and in order, or word that some are gone (cursor.rs)
//! ```
//!
//! What an answer says is held to what was committed: a value, a list, the answer to a poll is true at a moment between the
//! request and now; a write that is said to be done is there. Behind a last answer, a Close frame or the end of a body nothing
//! comes. In the end everyone reads, and was told everything; then everyone leaves, and nothing is left: no connection, no
//! watcher, no write, no timer.

mod answers;
mod asked;
mod cursor;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use keepwatch_protocol::websocket::{Compression, mask};
use keepwatch_sim::{Client, Sim, SimConfig};
use keepwatch_watch::store::{Busy, MemoryMachine, MemoryStore, Operation, Outcome, Store, Ticket};
use keepwatch_watch::{Config, Handle, Revision, Shared, WatchServer};

use self::answers::Answers;
use self::asked::Requests;
use crate::history::{History, escaped};

/// Longer scripts meet the same code again.
const LONGEST: usize = 1024;
/// How many connections there are at a time.
const SEATS: usize = 4;
const KEYS: [&str; 4] = ["a", "a/b", "a/c", "b"];

/// The first two bytes have the server's limits and times. Then a byte has an operation, in the lower four bits whose it is and how;
/// and what follows is the operation's.
pub fn watch_wire(data: &[u8]) {
    let [flags, keep, script @ ..] = data else { return };
    if script.len() > LONGEST {
        return;
    }
    let mut world = World::new(*flags, *keep);
    let mut script = Script(script);
    while let Some(byte) = script.byte() {
        world.step(byte / 16, byte % 16, &mut script);
    }
    world.everyone_reads();
    world.everyone_leaves();
}

/// What is left of a script.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn byte_or_zero(&mut self) -> u8 {
        self.byte().unwrap_or(0)
    }

    /// A byte of length, and so many bytes.
    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte_or_zero());
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

struct World {
    sim: Sim<WatchServer<Tapped>>,
    handle: Handle,
    config: Arc<Config>,
    history: Rc<RefCell<History>>,
    seats: [Option<Seat>; SEATS],
    draining: bool,
}

/// A connection.
struct Seat {
    client: Client,
    requests: Requests,
    answers: Answers,
    /// The server's end was seen, or the client broke the connection.
    over: bool,
}

/// The machine's store, and what comes out of it is noted.
struct Tapped {
    inner: MemoryMachine,
    history: Rc<RefCell<History>>,
}

impl Store for Tapped {
    fn start(&mut self, waker: &Waker) {
        self.inner.start(waker);
    }

    fn submit(&mut self, ticket: Ticket, operation: Operation) -> Result<(), Busy> {
        self.inner.submit(ticket, operation)
    }

    fn poll(&mut self) -> Option<Outcome> {
        let outcome = self.inner.poll()?;
        if let Outcome::Batch(batch) = &outcome {
            self.history.borrow_mut().push(batch.changes());
        }
        Some(outcome)
    }
}

/// The server's limits and times: short, so that much happens in little time, and now and then very tight.
fn config(flags: u8, keep: u8) -> Config {
    let mut config = Config {
        hold: Duration::from_secs(20),
        heartbeat: Duration::from_secs(10),
        coalesce: Duration::from_millis(5),
        value_bytes: 4096,
        hello_lines: 2,
        ..Config::default()
    };
    config.log.changes = if flags & 1 == 0 { 100_000 } else { 1 + usize::from(keep % 16) };
    if flags & 2 != 0 {
        (config.list_items, config.list_bytes, config.poll_bytes) = (2, 60, 60);
    }
    if flags & 4 != 0 {
        config.log.encoded_bytes = usize::from(keep) * 2;
    }
    if flags & 8 != 0 {
        (config.connections, config.watches, config.writes, config.store.keys) = (3, 2, 1, 3);
    }
    if flags & 16 == 0 {
        config.websocket.compression = Compression::OFF;
    }
    config
}

impl World {
    fn new(flags: u8, keep: u8) -> Self {
        let config = config(flags, keep);
        let history = Rc::new(RefCell::new(History::new(config.log.changes)));
        let store = MemoryStore::new(Revision::ZERO, config.store_limits());
        let tapped = Tapped { inner: store.machine(), history: Rc::clone(&history) };
        let (server, handle) = Shared::new(config.clone(), Revision::ZERO).machine_over(tapped, 7);
        let mut setup = SimConfig::default();
        setup.trace_steps = 0;
        if flags & 32 != 0 {
            (setup.driver.turn, setup.driver.write_bytes, setup.driver.read_bytes) = (1, 40, 16);
            setup.driver.output_mark = 100;
        }
        setup.reports_hang_up = flags & 64 == 0;
        let sim = Sim::with_config(server, setup);
        let seats = [const { None }; SEATS];
        Self { sim, handle, config: Arc::new(config), history, seats, draining: false }
    }

    fn step(&mut self, operation: u8, argument: u8, script: &mut Script<'_>) {
        let (index, how) = (usize::from(argument % 4), argument / 4);
        match operation {
            0..=2 => self.send(index, script.bytes()),
            3..=5 => {
                let request = self.request(index, script.byte_or_zero());
                self.send(index, request.as_bytes());
            }
            6 => {
                let first = [0x81, 0x01, 0x80, script.byte_or_zero()][usize::from(how)];
                let frame = frame(first, script.bytes());
                self.send(index, &frame);
            }
            7 => {
                let frame = frame(0x81, self.operation(script.byte_or_zero()).as_bytes());
                self.send(index, &frame);
            }
            8 | 9 => {
                for number in 0..=if operation == 8 { 0 } else { argument * 2 } {
                    self.write(script.byte_or_zero(), number);
                }
            }
            10 => {
                let millis =
                    [1, 5, 20, 1000, 2000, 5000, 10_000, 11_000, 18_000, 20_000, 25_000, 30_000, 60_000];
                let millis = millis.get(usize::from(argument)).copied().unwrap_or(120_000);
                self.pass(Duration::from_millis(millis));
            }
            11 => self.read_slowly(index, how, script.byte_or_zero()),
            12 => self.cut(index, how, script.byte_or_zero()),
            13 if how == 3 => self.leave(index),
            13 => self.half_close(index),
            14 => {} // what follows is together with what was before
            _ if argument == 15 && !self.draining => {
                self.draining = true;
                self.sim.start_drain(Duration::from_secs(5));
            }
            _ => self.pass(Duration::ZERO),
        }
        // Some things happen together.
        if !matches!(operation, 1 | 4 | 8 | 14) {
            self.pass(Duration::ZERO);
        }
    }

    // ---- What clients and the process do ----

    fn seat(&mut self, index: usize) -> &mut Seat {
        let (sim, config) = (&mut self.sim, &self.config);
        self.seats[index].get_or_insert_with(|| Seat {
            client: sim.connect(),
            requests: Requests::new(config),
            answers: Answers::default(),
            over: false,
        })
    }

    fn send(&mut self, index: usize, bytes: &[u8]) {
        let now = self.history.borrow().log.len();
        let seat = self.seat(index);
        seat.client.send(bytes);
        seat.requests.sent(bytes, now);
    }

    /// A request that is understood.
    fn request(&mut self, index: usize, what: u8) -> String {
        let revision = self.history.borrow().revision();
        let (key, since) =
            (KEYS[usize::from(what / 16 % 4)], revision.saturating_sub(u64::from(what / 64) * 3));
        let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (lines, events) = ("Accept: application/x-ndjson\r\n", "Accept: text/event-stream\r\n");
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Extensions: permessage-deflate\r\n";
        match what % 16 {
            0 => get(&format!("/v1/kv/{key}"), ""),
            1 => {
                let value = format!("v{}", what / 64);
                let length = value.len();
                format!("PUT /v1/kv/{key} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{value}")
            }
            2 => format!("DELETE /v1/kv/{key} HTTP/1.1\r\nHost: a\r\nIf-Match: *\r\n\r\n"),
            3 => get(&format!("/v1/kv?prefix={}&limit=2", &key[..1]), ""),
            4 => {
                let token = self.seat(index).answers.token.clone().unwrap_or_else(|| format!("{since}.a"));
                get(&format!("/v1/kv?limit=1&continue={}", escaped(&token)), "")
            }
            5 => get(&format!("/v1/watch?prefix={key}"), ""),
            6 => get(&format!("/v1/watch?key={key}&since={since}&wait=1s"), ""),
            7 => get("/v1/watch?prefix=a", lines),
            8 => get(&format!("/v1/watch?prefix=&since={since}"), lines),
            9 => get("/v1/watch?prefix=&initial=true", lines),
            10 => get(&format!("/v1/watch?key={key}&since={since}&initial=true"), events),
            11 => get(&format!("/v1/watch?prefix={}", &key[..1]), events),
            12 => get("/v1/watch", upgrade),
            13 => get(&format!("/v1/watch?prefix=&since={since}&initial={}", what & 16 != 0), upgrade),
            14 => {
                let paths = ["/", "/hello", "/ok/1", "/count", "/healthz", "/readyz", "/metrics", "/nowhere"];
                get(paths[usize::from(what / 32)], "")
            }
            _ => {
                let request = get(&format!("/v1/watch?key={key}&initial=true"), lines);
                match what / 64 {
                    0 => request.replace("HTTP/1.1", "HTTP/1.0"),
                    1 => request.replace("GET", "HEAD"),
                    2 => get(&format!("/v1/kv/{key}"), "").replace("GET", "HEAD"),
                    _ => get(&format!("/v1/kv/{key}"), "Connection: close\r\n"),
                }
            }
        }
    }

    /// A message that is understood on a WebSocket.
    fn operation(&self, what: u8) -> String {
        let revision = self.history.borrow().revision();
        let (id, key) = (what / 8 % 4, KEYS[usize::from(what / 32 % 4)]);
        let since = revision.saturating_sub(u64::from(what / 128) * 3);
        let members = match what % 8 {
            0 => format!("\"op\":\"watch\",\"prefix\":{key:?}"),
            1 => format!("\"op\":\"watch\",\"key\":{key:?},\"since\":{since}"),
            2 => format!("\"op\":\"watch\",\"prefix\":\"\",\"since\":{since},\"initial\":true"),
            3 => "\"op\":\"cancel\"".to_owned(),
            4 => format!("\"op\":\"put\",\"key\":{key:?},\"value\":\"w{}\"", what / 128),
            5 => format!("\"op\":\"delete\",\"key\":{key:?}"),
            6 => format!("\"op\":\"get\",\"key\":{key:?}"),
            _ => "\"op\":\"list\",\"prefix\":\"a\",\"limit\":1".to_owned(),
        };
        format!("{{\"id\":{id},{members}}}")
    }

    /// The process writes; the value is now and then large, or no text.
    fn write(&mut self, what: u8, number: u8) {
        let key = KEYS[usize::from(what.wrapping_add(number) % 4)];
        drop(match what / 16 {
            0..=2 => self.handle.delete(key),
            3 => self.handle.put(key, vec![what; 700]),
            4 => self.handle.put(key, vec![0xff, what, number]),
            kind => self.handle.put(key, format!("p{kind}{number}").into_bytes()),
        });
    }

    fn pass(&mut self, time: Duration) {
        self.sim.advance(time).unwrap_or_else(|error| panic!("{error}"));
        for seat in &mut self.seats {
            if let Some(it) = seat {
                it.hear(&self.history.borrow(), &self.config);
                // The next bytes are those of another.
                if it.over && it.client.is_closed() {
                    *seat = None;
                }
            }
        }
        let history = self.history.borrow();
        assert_eq!(self.sim.server().usage().log_changes, history.log.len() - history.floor);
    }

    fn read_slowly(&mut self, index: usize, how: u8, size: u8) {
        let client = &self.seat(index).client;
        match how {
            0 => client.read_limit(usize::from(size)),
            1 => client.window(1 + usize::from(size)),
            _ => client.read_limit(usize::MAX),
        }
    }

    fn cut(&mut self, index: usize, how: u8, size: u8) {
        let client = &self.seat(index).client;
        let sizes = [1 + usize::from(size % 16), 1 + usize::from(size / 16) * 8];
        match how {
            0 => client.deliver_in(&sizes),
            1 => client.accept_in(&sizes),
            2 => client.poke(),
            _ => {
                client.deliver_in(&[]);
                client.accept_in(&[]);
            }
        }
    }

    fn half_close(&mut self, index: usize) {
        if let Some(seat) = &mut self.seats[index] {
            seat.client.shutdown_write();
            seat.requests.ended();
        }
    }

    /// The client breaks the connection.
    fn leave(&mut self, index: usize) {
        if let Some(seat) = &mut self.seats[index] {
            seat.client.reset();
            seat.over = true;
        }
    }

    // ---- The end ----

    /// Nobody is slow any more: everyone is told everything, and then of a last change.
    fn everyone_reads(&mut self) {
        for seat in self.seats.iter_mut().flatten() {
            seat.client.deliver_in(&[]);
            seat.client.accept_in(&[]);
            seat.client.window(64 << 10);
            seat.client.read_limit(usize::MAX);
        }
        self.pass(Duration::from_millis(100));
        let revision = self.history.borrow().revision();
        drop(self.handle.put("a", format!("last {revision}").into_bytes()));
        // Time for a poll that waits for more.
        self.pass(Duration::from_millis(100));
        assert!(self.history.borrow().revision() > revision || self.config.store.keys < 4);
        for seat in self.seats.iter().flatten().filter(|seat| !seat.over) {
            seat.answers.assert_told(&self.history.borrow());
        }
    }

    fn everyone_leaves(&mut self) {
        for index in [0, 2] {
            self.half_close(index);
        }
        self.pass(Duration::from_secs(100));
        for seat in self.seats.iter_mut().flatten() {
            seat.client.reset();
            seat.over = true;
        }
        // Longer than any hold, linger, ping and count.
        self.pass(Duration::from_mins(10));
        let usage = self.sim.server().usage();
        let left = (self.sim.driver().connections(), usage.connections, usage.watchers, usage.writes);
        assert_eq!(left, (0, 0, 0, 0), "connections, connections, watchers and writes are left");
        // Timers that nobody needs any more may fire once.
        self.pass(Duration::from_hours(24));
        assert_eq!(self.sim.driver().deadline(), None, "a timer is left");
    }
}

impl Seat {
    fn hear(&mut self, history: &History, config: &Config) {
        let came = self.client.receive();
        if self.over {
            return;
        }
        self.answers.hear(&came, &mut self.requests, history, config);
        self.over = self.client.is_ended() || self.client.was_reset();
    }
}

/// A frame of a client, whatever its first byte is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0xfe);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend(key);
    let start = bytes.len();
    bytes.extend(payload);
    mask::apply(key, 0, &mut bytes[start..]);
    bytes
}
