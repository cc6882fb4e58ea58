//! The scenarios of the simulator, played over loopback: the same scripts, and the same answers.

use std::collections::VecDeque;
use std::env;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::process::{PATIENCE, Process, pause};
use super::scenarios::{Heard, Scenario, World, all, play};

/// A server process, and sockets.
struct Loopback {
    server: Option<Process>,
    start: u64,
    /// What was reset is none.
    clients: Vec<Option<TcpStream>>,
    /// Bytes of one write, each a segment of its own.
    write: usize,
}

/// What is not there after this is not taken to come.
const MOMENT: Duration = Duration::from_millis(40);

impl Loopback {
    fn new(write: usize, under: &[String]) -> Self {
        let server = Process::under(under);
        let start = server.connect().revision();
        Self { server: Some(server), start, clients: vec![], write }
    }

    fn read(&mut self, client: usize, patience: Duration) -> Heard {
        let Some(stream) = &mut self.clients[client] else { return Heard::End };
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut part = vec![0; 64 << 10];
        loop {
            return match stream.read(&mut part) {
                Ok(0) => Heard::End,
                Ok(count) => Heard::Bytes(part[..count].to_vec()),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => Heard::Nothing,
                    ErrorKind::ConnectionReset => Heard::Reset,
                    _ => panic!("{error}"),
                },
            };
        }
    }
}

impl World for Loopback {
    fn start(&self) -> u64 {
        self.start
    }

    fn connect(&mut self) {
        let stream = TcpStream::connect(self.server.as_ref().unwrap().address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        self.clients.push(Some(stream));
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        let stream = self.clients[client].as_mut().expect("a client that has not left");
        for piece in bytes.chunks(self.write) {
            // A server that ended the connection may have reset it: what it said before is what counts.
            if stream.write_all(piece).is_err() {
                return;
            }
        }
    }

    fn half_close(&mut self, client: usize) {
        // It may be gone already, both ways.
        let _gone = self.clients[client].as_ref().map(|stream| stream.shutdown(Shutdown::Write));
    }

    fn reset(&mut self, client: usize) {
        let stream = self.clients[client].take().expect("a client that has not left");
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn hear(&mut self, client: usize) -> Heard {
        self.read(client, PATIENCE)
    }

    fn overhear(&mut self, client: usize) -> Heard {
        self.read(client, MOMENT)
    }

    fn pass(&mut self, time: Duration) {
        pause(time);
    }

    fn drain(&mut self) {
        self.server.as_ref().unwrap().send_signal("TERM");
    }

    fn exits(&mut self) -> Result<(), String> {
        self.clients.clear();
        let status = self.server.take().unwrap().exit_status();
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}")) }
    }
}

/// Longer than this is not waited for without need.
const SHORT: Duration = Duration::from_secs(3);

/// What sends more is not sent in small pieces.
const SMALL: usize = 16 << 10;

#[test]
fn scenarios_go_as_they_do_in_the_simulator() {
    play_all(&[], both_ways, |scenario| scenario.takes() <= SHORT);
}

#[test]
#[ignore = "takes half a minute; the scenarios that wait for long"]
fn long_scenarios_go_as_they_do_in_the_simulator() {
    play_all(&[], both_ways, |scenario| scenario.takes() > SHORT);
}

/// The servers are run by the program that `KEEPWATCH_UNDER` names, with its arguments, which may be slow: valgrind.
#[test]
#[ignore = "needs a program to run servers under: .ci/memory-errors"]
fn scenarios_go_as_well_under_a_program_that_looks_on() {
    let under: Vec<String> =
        env::var("KEEPWATCH_UNDER").unwrap().split_whitespace().map(str::to_owned).collect();
    assert!(!under.is_empty());
    play_all(&under, |_| vec![usize::MAX], |scenario| LOOKED_AT.contains(&scenario.name.as_str()));
}

/// A server that is looked at takes seconds to start: every transport, and every way to end.
const LOOKED_AT: [&str; 9] = [
    "chunked-uploads",
    "half-closes",
    "initial-state",
    "long-polls",
    "lists",
    "socket-deflated",
    "socket-operations",
    "stops",
    "watchers-that-break-off",
];

/// Whole writes, and small ones.
fn both_ways(scenario: &Scenario) -> Vec<usize> {
    if scenario.bytes_sent() <= SMALL { vec![usize::MAX, 7] } else { vec![usize::MAX] }
}

/// Each with a server of its own.
fn play_all(under: &[String], writes: impl Fn(&Scenario) -> Vec<usize>, which: impl Fn(&Scenario) -> bool) {
    let scenarios = all();
    let chosen = scenarios.iter().filter(|scenario| which(scenario));
    let plays: VecDeque<(&Scenario, usize)> = chosen
        .flat_map(|scenario| writes(scenario).into_iter().map(move |write| (scenario, write)))
        .collect();
    assert!(!plays.is_empty());
    let (plays, failures) = (Mutex::new(plays), Mutex::new(vec![]));
    // They wait more than they work, unless they are looked at.
    let at_once = if under.is_empty() { 8 } else { 2 };
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let Some((scenario, write)) = plays.lock().unwrap().pop_front() else { break };
                    let how = format!("writes of {write}");
                    if let Err(problem) = play(scenario, Loopback::new(write, under), &how) {
                        failures.lock().unwrap().push(problem);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} plays fail\n\n{}", failures.len(), failures.join("\n"));
}
