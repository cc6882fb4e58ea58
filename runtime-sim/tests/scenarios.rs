//! The scripts of `scenarios`, played in virtual time, cut in many ways. Over sockets the same are played by the tests of each
//! runtime.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the whole file is a test")]

use std::time::Duration;

use keepwatch_sim::{Client, Order, Random, Sim, SimConfig};
use keepwatch_watch::{Config, Revision, Shared, WatchServer};

#[path = "../../runtime/tests-support/scenarios/mod.rs"]
mod scenarios;

use scenarios::{Heard, Scenario, World, all, play};

/// As long as those of a server that begins at the clock's microseconds: lengths are the same.
const START: u64 = 1_700_000_000_000_000;

/// How long the server may take for what a script expects next. None of its times is between this and those that a script
/// waits for.
const PROMPT: Duration = Duration::from_secs(2);

/// As the binaries have it.
const GRACE: Duration = Duration::from_secs(5);

/// A server in memory.
struct Virtual {
    sim: Sim<WatchServer>,
    clients: Vec<Client>,
    cut: Cut,
    sent: usize,
}

/// How what is sent comes in.
#[derive(Clone, Debug)]
enum Cut {
    Whole,
    /// In two pieces, and all is done that can be done with the first one: so many bytes of what all clients send.
    At(usize),
    /// Reads and writes of at most so many bytes.
    Short {
        reads: &'static [usize],
        writes: &'static [usize],
    },
    /// Events come in an order that is drawn, and the end of a client's side is heard by reading.
    Drawn(u64),
}

impl Virtual {
    fn new(cut: Cut) -> Self {
        let (server, _) = Shared::new(Config::default(), Revision::new(START).unwrap()).machine(7);
        let mut config = SimConfig::default();
        if let Cut::Drawn(seed) = cut {
            config.order = Order::Drawn(Random::new(seed));
            config.reports_hang_up = false;
        }
        Self { sim: Sim::with_config(server, config), clients: vec![], cut, sent: 0 }
    }

    fn heard(&self, client: usize) -> Heard {
        let client = &self.clients[client];
        match client.receive() {
            bytes if !bytes.is_empty() => Heard::Bytes(bytes),
            _ if client.was_reset() => Heard::Reset,
            _ if client.is_ended() => Heard::End,
            _ => Heard::Nothing,
        }
    }
}

impl World for Virtual {
    fn start(&self) -> u64 {
        START
    }

    fn connect(&mut self) {
        let client = self.sim.connect();
        if let Cut::Short { reads, writes } = self.cut {
            client.deliver_in(reads);
            client.accept_in(writes);
        }
        self.clients.push(client);
        self.sim.run().unwrap();
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        let (before, behind) = match self.cut {
            Cut::At(at) if at > self.sent => bytes.split_at(bytes.len().min(at - self.sent)),
            _ => (bytes, &[][..]),
        };
        for piece in [before, behind] {
            self.clients[client].send(piece);
            self.sim.run().unwrap();
        }
        self.sent += bytes.len();
    }

    fn half_close(&mut self, client: usize) {
        self.clients[client].shutdown_write();
        self.sim.run().unwrap();
    }

    fn reset(&mut self, client: usize) {
        self.clients[client].reset();
        self.sim.run().unwrap();
    }

    fn hear(&mut self, client: usize) -> Heard {
        let listening = self.clients[client].clone();
        let came =
            |_: &Sim<WatchServer>| listening.received() > 0 || listening.is_ended() || listening.was_reset();
        // If the time is over, that is for the script to judge.
        let _time_over = self.sim.run_until(came, PROMPT);
        self.heard(client)
    }

    fn overhear(&mut self, client: usize) -> Heard {
        self.sim.run().unwrap();
        self.heard(client)
    }

    fn pass(&mut self, time: Duration) {
        self.sim.advance(time).unwrap();
    }

    fn drain(&mut self) {
        self.sim.start_drain(GRACE);
        self.sim.run().unwrap();
    }

    fn exits(&mut self) -> Result<(), String> {
        let ended = self.sim.run_until(|sim| sim.driver().is_drained(), GRACE + PROMPT);
        ended.map(drop).map_err(|error| error.to_string())
    }
}

/// What sends more is not cut anywhere, and what sends much more is not played without need: without optimization that takes
/// long.
const SHORT: usize = 16 << 10;
const LONG: usize = 8 << 20;

fn cuts(scenario: &Scenario) -> Vec<Cut> {
    let sent = scenario.bytes_sent();
    if sent > LONG {
        return vec![Cut::Whole];
    }
    if sent > SHORT {
        return vec![Cut::Whole, Cut::Short { reads: &[1009], writes: &[4093] }];
    }
    vec![
        Cut::Whole,
        Cut::Short { reads: &[1], writes: &[] },
        Cut::Short { reads: &[], writes: &[1] },
        Cut::Short { reads: &[2, 7, 1], writes: &[3, 1, 20] },
        Cut::Drawn(1),
        Cut::Drawn(2),
    ]
}

#[test]
fn every_scenario_is_played() {
    let scenarios = all();
    assert!(scenarios.len() >= 25, "{} scenarios", scenarios.len());
    let plays = scenarios.iter().filter(|scenario| scenario.bytes_sent() <= LONG);
    none_fails(plays.flat_map(|scenario| cuts(scenario).into_iter().map(move |cut| (scenario, cut))));
}

#[test]
#[ignore = "takes 10 s; the scenarios that send much"]
fn every_long_scenario_is_played() {
    let scenarios = all();
    let plays = scenarios.iter().filter(|scenario| scenario.bytes_sent() > LONG);
    none_fails(plays.flat_map(|scenario| cuts(scenario).into_iter().map(move |cut| (scenario, cut))));
}

#[test]
fn what_happens_otherwise_than_a_script_says_fails() {
    for (script, why) in [
        ("client a\nGET /healthz\n< HTTP/1.1 404 *", "is other from byte 9 on"),
        ("client a\nGET /healthz\n< HTTP/1.1 200 OK", "at its end\na was also sent"),
        ("client a\nGET /healthz\nclient b\nsilence", "a was also sent"),
        ("client a\n< *", "is not followed by more in time"),
        ("client a\nended", "the connection goes on"),
        ("client a\nhalf-close\n< *", "then comes to End"),
        ("client a\nwait 11s\nsilence", "it came to End"),
    ] {
        let failed = play(&Scenario::parse("wrong", script), Virtual::new(Cut::Whole), "").unwrap_err();
        assert!(failed.contains(why), "{script}\n{failed}");
    }
}

/// At every 31st byte; all of them are tried by the test below.
#[test]
fn a_cut_changes_nothing() {
    cut_everywhere(31);
}

#[test]
#[ignore = "takes a minute"]
fn no_cut_changes_anything() {
    cut_everywhere(1);
}

fn cut_everywhere(step: usize) {
    let scenarios = all();
    let short = scenarios.iter().filter(|scenario| scenario.bytes_sent() <= SHORT).enumerate();
    none_fails(short.flat_map(|(number, scenario)| {
        let cuts = (number % step..scenario.bytes_sent()).step_by(step);
        cuts.map(move |at| (scenario, Cut::At(at)))
    }));
}

/// Plays them all, and shows of each scenario how it fails first.
fn none_fails<'a>(plays: impl Iterator<Item = (&'a Scenario, Cut)>) {
    let mut failures: Vec<(&str, String)> = vec![];
    for (scenario, cut) in plays {
        if failures.last().is_some_and(|(name, _)| *name == scenario.name) {
            continue;
        }
        if let Err(problem) = play(scenario, Virtual::new(cut.clone()), &format!("{cut:?}")) {
            failures.push((&scenario.name, problem));
        }
    }
    let problems: Vec<String> = failures.into_iter().map(|(_, problem)| problem).collect();
    assert!(problems.is_empty(), "{} scenarios fail\n\n{}", problems.len(), problems.join("\n"));
}
