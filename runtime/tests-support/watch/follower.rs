//! The library's own watching client over a socket that blocks: in a thread, or as a process that a test can stop.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use keepwatch_protocol::Input;
use keepwatch_runtime::Clock;
use keepwatch_watch::Filter;
use keepwatch_watch::client::{
    Backoff, ClientConfig, Event, Next, Start, Target, Transport, WatchClient, WatchTimeouts,
};

use super::process::{PATIENCE, pause, signal, spawn, stat};

/// Those that are told changes; short polls see states.
pub(crate) const TOLD_CHANGES: [Transport; 4] =
    [Transport::WebSocket, Transport::ServerSentEvents, Transport::Lines, Transport::LongPoll];

/// Watches every key at the server that `address` names when a connection is made, by this transport alone, until `tell` says
/// that it is enough.
fn follow(address: impl Fn() -> SocketAddr, transport: Transport, mut tell: impl FnMut(Event) -> bool) {
    let target =
        Target { authority: "x".into(), filter: Filter::prefix("", 1024).unwrap(), start: Start::List };
    // What is over in a moment in these tests is not worth a long wait.
    let backoff =
        Backoff { first: Duration::from_millis(10), most: Duration::from_millis(100), ..Backoff::default() };
    let poll_interval = Duration::from_millis(20);
    // Nor is it counted as the server's silence that the test was slow.
    let long = Duration::from_secs(600);
    let timeouts = WatchTimeouts { answer: long, silence: long, ..WatchTimeouts::default() };
    let transports = vec![transport];
    let config = ClientConfig { transports, backoff, poll_interval, timeouts, ..ClientConfig::default() };
    let mut client = WatchClient::new(target, Arc::new(config), 7).unwrap();
    let clock = Clock::new();
    let mut socket: Option<TcpStream> = None;
    let (mut unread, mut ended) = (vec![], false);
    loop {
        let (mut out, mut next, mut told) = (vec![], Next::Open, false);
        if client.wants_connection(clock.now()) {
            (unread, ended) = (vec![], false);
            client.connecting(clock.now());
            socket = TcpStream::connect(address()).ok();
            match &socket {
                Some(_) => client.connected(&mut out, clock.now()),
                None => client.disconnected(clock.now()),
            }
        }
        let now = clock.now();
        if socket.is_some() {
            let mut input = if ended { Input::last(&mut unread) } else { Input::new(&mut unread) };
            next = client.receive(&mut input, &mut out, now);
            let taken = input.consumed();
            unread.drain(..taken);
            told |= taken > 0;
        }
        // What came is heard first: whoever was stopped for a while finds time passed and bytes waiting.
        if next == Next::Open && !told && client.deadline().is_some_and(|deadline| deadline <= now.instant) {
            next = client.on_deadline(&mut out, now);
        }
        if let Some(socket) = &mut socket {
            // If this fails, reading does too.
            let _gone = socket.write_all(&out);
        }
        while let Some(event) = client.next_event() {
            told = true;
            if !tell(event) {
                return;
            }
        }
        if next == Next::Close {
            socket = None;
        } else if socket.is_some() && ended && !told {
            client.disconnected(clock.now());
            socket = None;
        }
        // What is told makes room for more of what came.
        if told {
            continue;
        }
        let until = client.deadline().map_or(LOOK, |deadline| deadline.since(clock.now().instant));
        let patience = until.clamp(Duration::from_millis(1), LOOK);
        match &mut socket {
            Some(socket) => ended = read(socket, &mut unread, patience),
            None => pause(patience),
        }
    }
}

/// How often it is looked whether the test is over.
const LOOK: Duration = Duration::from_millis(200);

/// Whether the connection ended.
fn read(socket: &mut TcpStream, unread: &mut Vec<u8>, patience: Duration) -> bool {
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut part = vec![0; 64 << 10];
    loop {
        return match socket.read(&mut part) {
            Ok(0) => true,
            Ok(count) => {
                unread.extend_from_slice(&part[..count]);
                false
            }
            // So it is when a process that was stopped goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
    }
}

/// One in a thread.
pub(crate) struct Follower {
    pub(crate) transport: Transport,
    events: Receiver<Event>,
    /// What it was told.
    pub(crate) journal: Vec<Event>,
    /// What that makes.
    pub(crate) state: BTreeMap<String, Vec<u8>>,
}

impl Follower {
    pub(crate) fn start(transport: Transport, address: impl Fn() -> SocketAddr + Send + 'static) -> Self {
        let (tell, events) = mpsc::channel();
        spawn(move || follow(address, transport, |event| tell.send(event).is_ok()));
        Self { transport, events, journal: vec![], state: BTreeMap::new() }
    }

    /// Waits until this holds.
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        while !holds(self) {
            let event = self.events.recv_timeout(PATIENCE);
            let event =
                event.unwrap_or_else(|_| panic!("{:?}: {what}: {:?}", self.transport, self.journal.last()));
            match &event {
                Event::Listing => self.state.clear(),
                Event::Item(item) | Event::Put(item) => {
                    self.state.insert(item.key.as_str().into(), item.value.clone());
                }
                Event::Deleted { key, .. } => {
                    self.state.remove(key.as_str());
                }
                _ => {}
            }
            self.journal.push(event);
        }
    }
}

/// One that is a process of its own: this test binary, run again.
pub(crate) struct FollowerProcess {
    pub(crate) transport: Transport,
    child: Child,
    lines: Receiver<String>,
}

impl FollowerProcess {
    /// It has listed when this returns.
    pub(crate) fn start(transport: Transport, address: SocketAddr) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "suite::follower::a_process_that_follows", "--ignored", "--nocapture"])
            .env(FOLLOW, format!("{address} {transport:?}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let (send, lines) = mpsc::channel();
        spawn(move || {
            let mut told =
                said.map_while(Result::ok).filter_map(|line| Some(line.split_once(TOLD)?.1.to_owned()));
            told.try_for_each(|line| send.send(line))
        });
        let mut follower = Self { transport, child, lines };
        while follower.told() != "listed" {}
        follower
    }

    /// What it is told next: `put KEY REVISION`, or another word for what it is.
    pub(crate) fn told(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{:?} is told nothing", self.transport))
    }

    /// Nothing that it is told is left.
    pub(crate) fn is_told_nothing(&mut self) -> bool {
        self.lines.try_recv().is_err()
    }

    /// The system does not let it run any more when this returns.
    pub(crate) fn stop(&self) {
        signal("STOP", self.child.id());
        for _ in 0..PATIENCE.as_millis() {
            if stat(self.child.id())[0] == "T" {
                return;
            }
            pause(Duration::from_millis(1));
        }
        panic!("it is not stopped");
    }

    pub(crate) fn go_on(&self) {
        signal("CONT", self.child.id());
    }
}

impl Drop for FollowerProcess {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

const FOLLOW: &str = "KEEPWATCH_TEST_FOLLOW";
const TOLD: &str = "told: ";

/// The process of [`FollowerProcess`].
#[test]
#[ignore = "runs only as a process of other tests"]
fn a_process_that_follows() {
    let Ok(told) = env::var(FOLLOW) else { return };
    let (address, transport) = told.split_once(' ').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let transport = TOLD_CHANGES.into_iter().find(|known| format!("{known:?}") == transport).unwrap();
    follow(
        move || address,
        transport,
        |event| {
            match event {
                Event::Listed(_) => println!("{TOLD}listed"),
                Event::Put(item) => println!("{TOLD}put {} {}", item.key.as_str(), item.revision.as_u64()),
                Event::Item(item) => println!("{TOLD}item {} {}", item.key.as_str(), item.revision.as_u64()),
                Event::Compacted(_) => println!("{TOLD}compacted"),
                Event::Failed(why) => println!("{TOLD}failed: {why:?}"),
                _ => {}
            }
            true
        },
    );
}
