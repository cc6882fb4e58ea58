//! A million held watchers in one machine, without sockets: what each costs in memory, and what they cost in time.
//!
//! ```sh
//! cargo bench --manifest-path bench/Cargo.toml --bench held                 # 1,000,000 watchers: about 1 GB
//! cargo bench --manifest-path bench/Cargo.toml --bench held -- 100000       # so many
//! ```
//!
//! A `Driver` with a `WatchServer` is driven by readiness, as a runtime does it, over sockets that are not there: a request is
//! read, what is written is counted and forgotten. Memory is what the allocator gave, without what it needs for itself. Times are
//! processor times of the thread. The longest turn is how long reading, accepting and timers had to wait at most.
#![expect(unsafe_code, reason = "an allocator that counts can only be written so")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::task::Waker;
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use keepwatch_protocol::driver::{Io, Sockets};
use keepwatch_protocol::{ConnectionId, Driver, DriverConfig, Now, Peer};
use keepwatch_watch::{Config, Handle, LogLimits, Revision, Shared, WatchServer};

struct Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    /// Blocks in use by size, while it is asked for.
    static SIZES: RefCell<Option<BTreeMap<usize, i64>>> = const { RefCell::new(None) };
}

fn count(size: usize, blocks: i64) {
    HELD.set(HELD.get() + size as i64 * blocks);
    // The map's own blocks are not counted: it is borrowed while they are made.
    SIZES.with(|sizes| {
        if let Ok(mut sizes) = sizes.try_borrow_mut()
            && let Some(sizes) = &mut *sizes
        {
            *sizes.entry(size).or_insert(0) += blocks;
        }
    });
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Sockets that are not there: the first that were accepted have a request to read, all take what is written.
#[derive(Default)]
struct Wires {
    requests: VecDeque<(ConnectionId, Vec<u8>)>,
    writes: u64,
    bytes: u64,
    turn: Option<Instant>,
}

impl Sockets for Wires {
    fn read(&mut self, id: ConnectionId, into: &mut [u8]) -> Io {
        if self.requests.front().is_none_or(|(whose, _)| *whose != id) {
            return Io::Blocked;
        }
        self.requests.pop_front().map_or(Io::Blocked, |(_, request)| {
            into[..request.len()].copy_from_slice(&request);
            Io::Done(request.len())
        })
    }

    fn write(&mut self, _: ConnectionId, parts: &[&[u8]]) -> Io {
        let bytes = parts.iter().map(|part| part.len()).sum();
        self.writes += 1;
        self.bytes += bytes as u64;
        Io::Done(bytes)
    }

    fn shutdown(&mut self, _: ConnectionId) {}

    fn close(&mut self, _: ConnectionId) {}

    /// As the runtimes end a turn.
    fn turn_is_over(&mut self) -> bool {
        self.turn.is_some_and(|began| began.elapsed() >= Duration::from_micros(500))
    }
}

#[derive(Clone, Copy)]
enum Transport {
    WebSocket,
    Sse,
    Chunked,
    LongPoll,
}

impl Transport {
    const ALL: [(Self, &str); 4] = [
        (Self::WebSocket, "websocket"),
        (Self::Sse, "sse"),
        (Self::Chunked, "chunked"),
        (Self::LongPoll, "long poll"),
    ];

    fn request(self, query: &str) -> Vec<u8> {
        let (wait, fields) = match self {
            Self::WebSocket => (
                "",
                "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ),
            Self::Sse => ("", "Accept: text/event-stream\r\n"),
            Self::Chunked => ("", "Accept: application/x-ndjson\r\n"),
            Self::LongPoll => ("&wait=60s", ""),
        };
        format!("GET /v1/watch?{query}{wait} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
    }
}

/// A machine, its process's handle, and the time.
struct Machine {
    driver: Driver<WatchServer>,
    handle: Handle,
    wires: Wires,
    now: Now,
}

/// What a piece of work took.
#[derive(Clone, Copy, Default)]
struct Took {
    all: Duration,
    longest_turn: Duration,
    writes: u64,
}

impl Machine {
    fn new() -> Self {
        let config = Config {
            connections: usize::MAX,
            log: LogLimits { bytes: 1 << 30, changes: 2_000_000, ..LogLimits::default() },
            ..Config::default()
        };
        let (server, handle) = Shared::new(config, Revision::ZERO).machine(7);
        let driver = DriverConfig { connections: 2_000_000, ..DriverConfig::default() };
        let (mut driver, now) = (Driver::new(server, driver), Now::default());
        driver.start(Waker::noop(), now);
        Self { driver, handle, wires: Wires::default(), now }
    }

    /// Turns until there is nothing left to do.
    fn run(&mut self) -> Took {
        let mut took = Took::default();
        let writes = self.wires.writes;
        let mut more = true;
        while more {
            let start = ThreadTime::now();
            self.wires.turn = Some(Instant::now());
            self.driver.woken(self.now);
            more = self.driver.turn(&mut self.wires, self.now);
            let turn = start.elapsed();
            took.all += turn;
            took.longest_turn = took.longest_turn.max(turn);
        }
        took.writes = self.wires.writes - writes;
        took
    }

    /// A client comes, and its request with it.
    fn come(&mut self, transport: Transport, query: &str) {
        let id = self.driver.accept(&Peer::default(), self.now).expect("there is room");
        self.wires.requests.push_back((id, transport.request(query)));
    }

    fn hold(&mut self, transport: Transport, query: &str) {
        self.come(transport, query);
        self.run();
    }

    fn put(&mut self, key: &str, value: &str) -> Took {
        let _reply = self.handle.put(key, value.as_bytes());
        self.run()
    }

    fn sleep(&mut self, time: Duration) -> Took {
        self.now = self.now.later(time);
        self.run()
    }
}

/// 16 bytes.
fn key(number: usize) -> String {
    format!("key-{number:012}")
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

fn memory(watchers: usize) {
    println!("memory of a held watcher, of {watchers}: bytes of the allocator");
    for distinct in [false, true] {
        for (transport, name) in Transport::ALL {
            let mut machine = Machine::new();
            let query = |number| format!("key={}", key(if distinct { number } else { 0 }));
            (0..256).for_each(|number| machine.hold(transport, &query(number)));
            let before = HELD.get();
            SIZES.set(Some(BTreeMap::new()));
            (256..watchers + 256).for_each(|number| machine.hold(transport, &query(number)));
            let sizes = SIZES.take().unwrap_or_default();
            let each = (HELD.get() - before) as f64 / watchers as f64;
            let mut parts = String::new();
            let bytes = |(size, blocks): (usize, i64)| size as f64 * blocks as f64 / watchers as f64;
            for part in sizes.into_iter().filter(|&part| bytes(part) >= 0.5) {
                let _ = write!(parts, "  {:.0} in {}", bytes(part), part.0);
            }
            let keys = if distinct { "distinct keys" } else { "one key" };
            println!("  {name:10} {keys:14} {each:6.1}    of these, in blocks of so many bytes:{parts}");
        }
    }
}

/// What a change costs beside so many watchers whom it does not concern.
fn change_for_one(others: usize) {
    let mut machine = Machine::new();
    (0..others).for_each(|number| machine.hold(Transport::Sse, &format!("key={}", key(number))));
    let mut cost = |name: &str, key: &str, concerned: u64| {
        const CHANGES: u32 = 2000;
        let mut all = Duration::ZERO;
        for number in 0..CHANGES {
            let took = machine.put(key, &number.to_string());
            assert_eq!(took.writes, concerned, "{name}");
            all += took.all;
        }
        println!("  {others:>8} held   {name:28} {:>10}", micros(all / CHANGES));
    };
    cost("a change for nobody", "nobody", 0);
    cost("a change for one", &key(others / 2), 1);
}

fn change_for_all(name: &str, watchers: usize, query: impl Fn(usize) -> String) {
    let mut machine = Machine::new();
    (0..watchers).for_each(|number| machine.hold(Transport::Sse, &query(number)));
    machine.put("a/b/c/d", "first");
    let held = HELD.get();
    let took = machine.put("a/b/c/d", "second");
    assert_eq!(took.writes, watchers as u64);
    println!(
        "  {watchers:>8} held   {name:28} {:>10} in all, {:.0} ns each, longest turn {}, memory that stays {} B",
        millis(took.all),
        took.all.as_nanos() as f64 / watchers as f64,
        micros(took.longest_turn),
        HELD.get() - held,
    );
    // They were all told at about the same time, so their heartbeats are due together.
    let took = machine.sleep(Duration::from_secs(25));
    println!(
        "  {watchers:>8} held   {:28} {:>10} in all, {:.0} ns each, longest turn {}",
        "their deadlines, all at once",
        millis(took.all),
        took.all.as_nanos() as f64 / watchers as f64,
        micros(took.longest_turn),
    );
}

/// A log of so many changes of a hundredth as many keys, and then watchers that have seen none of it.
fn catching_up(changes: usize, watchers: usize) {
    let mut machine = Machine::new();
    machine.put("first", "");
    let since = machine.driver.server().revision();
    let keys = changes / 100;
    for number in 0..changes {
        let _reply = machine.handle.put(&key(number % keys), number.to_string().as_bytes());
        if number % 200 == 199 {
            machine.run();
        }
    }
    machine.run();
    assert_eq!(machine.driver.server().usage().log_changes, changes + 1);
    let mut resume = |name: &str, watchers: usize, transport, query: &dyn Fn(usize) -> String| {
        for number in 0..watchers {
            machine.come(transport, &format!("{}&since={since}", query(number)));
        }
        let took = machine.run();
        println!(
            "  {changes:>8} changes, {watchers:>6} watchers of {name:30} {:>11} in all, {:>10} each, longest turn {}",
            millis(took.all),
            micros(took.all / watchers as u32),
            micros(took.longest_turn),
        );
    };
    let few = watchers.min(100);
    resume("a key without changes", watchers, Transport::Sse, &|number| format!("key=none{number}"));
    resume("a key with 100 changes", watchers / 10, Transport::Sse, &|number| format!("key={}", key(number)));
    resume("a prefix without keys", watchers, Transport::Sse, &|number| format!("prefix=none{number}/"));
    resume("a prefix of one key", watchers / 10, Transport::Sse, &|number| format!("prefix={}", key(number)));
    resume("a prefix of ten keys", watchers / 10, Transport::Sse, &|number| {
        format!("prefix={}", &key(number * 10)[..15])
    });
    resume("a prefix of one key, long poll", watchers, Transport::LongPoll, &|number| {
        format!("prefix={}", key(number))
    });
    resume("a prefix of 100 keys", few, Transport::Sse, &|number| {
        format!("prefix={}", &key(number * 100)[..14])
    });
    resume("everything", few.min(10), Transport::Sse, &|_| "prefix=".into());
}

fn main() {
    let watchers = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(1_000_000);
    memory((watchers / 10).max(1000));
    println!("what a change costs, with the write and what is sent");
    for others in [10, 10_000, watchers] {
        change_for_one(others);
    }
    for watchers in [watchers / 10, watchers] {
        change_for_all("a change for all, one key", watchers, |_| "key=a/b/c/d".into());
        let nested = ["a/", "a/b/", "a/b/c/"];
        change_for_all("a change for all, nested", watchers, |number| {
            format!("prefix={}", nested[number % nested.len()])
        });
    }
    println!("catching up");
    catching_up(watchers, (watchers / 100).max(100));
}
