//! The real watch server in a world of faults, by seeds.
//!
//! A seed draws a whole world: how many machines the server has and what its limits are, who its clients are, what may go
//! wrong and how likely, and when. [`run`] plays it, and compares everything that every client sees with the log of what was
//! committed, which is tapped between the server and its store.
//!
//! ```text
//!   writers, watchers, keepers,    Core: one queue by (time, sequence)           one or two machines
//!   visitors, hostile clients, ───►  connections with delays, stalls, cuts,  ───►   Sim: Driver, WatchServer ◄── others, in
//!   the process's handle       ◄───  slow and dead readers                   ◄───     │ store, tapped            mid-turn
//!        │ what they saw                                                              ▼
//!        └────────────────────────────────► check ◄──────────────────────────── Model: what was committed
//! ```
//!
//! | who | where |
//! | --- | --- |
//! | watchers of every transport, as clients of others' making would be | `watcher`, with `peer` to read and inflate |
//! | the product's own watching client | `keeper` |
//! | writers, with conditions and without | `writer` |
//! | a visitor, who asks for every route in every way | `visitor` |
//! | a breaker, whose connections are cut at one byte after the other | `breaker` |
//! | those that mean no good, and a reader of `/hello` | `hostile` |
//! | guests of several addresses, where there are few places | `guests` |
//! | uploads in parts and polls that are not read, where there is little memory for what is under way | `uploader` |
//! | the process, through its handle | `process` |
//! | other threads, in the middle of a turn | `others` |
//!
//! | phase | what happens |
//! | --- | --- |
//! | storm | everything goes wrong that the seed allows: on connections, in the process, and to it (it crashes, drains, stops) |
//! | calm | nothing goes wrong any more: everyone sees everything, and then a last few changes within moments |
//! | end | everyone leaves but those who are to be thrown out, and nothing may be left: no connection, no watcher, no timer |
//!
//! What is held at every step: the server does not spin, whoever waits for a peer has a deadline and it is met, nothing is
//! written behind an end, the server's memory is within its limits, its log has what it is to have (`invariants`). What is held
//! of every connection: that it is let in if there is room, that it is refused with an answer if there is none, and that it is
//! not ended while an answer is owed. What is held of every answer: that it is well-formed, belongs to its request, is not older
//! than what anyone was told before it was asked for, and, on a watch, is the next change or a true word that some are gone; and
//! of a write that was refused, that nothing of it is done. The rest is in the actors.
//!
//! The same seed gives the same world for ever, as long as the code is the same: [`Outcome::hash`] is of everything that
//! happened.

mod breaker;
mod check;
mod core;
mod faults;
mod guests;
mod hostile;
mod invariants;
mod keeper;
mod limits;
mod marks;
mod model;
mod others;
mod peer;
mod process;
mod shrink;
mod stages;
mod uploader;
mod visitor;
mod watcher;
mod writer;

use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use keepwatch_protocol::driver::Buffered;
use keepwatch_protocol::{DriverConfig, Instant, Now, UnixMillis};
use keepwatch_watch::Config;

use self::core::{Actor, Call, Core, Stage};
use self::faults::Faults;
use self::others::Others;
use self::watcher::Transport;
use crate::random::Random;
use crate::trace::Fnv;

pub use self::faults::Fault;
pub use self::marks::Marks;
pub use self::shrink::shrink;

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Keep a transcript.
    pub trace: bool,
    /// Faults that do not happen, whatever the seed says.
    pub without: Vec<Fault>,
    /// The only actors there are, by name; all if it is empty.
    pub only: Vec<String>,
}

/// What became of a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The first thing that was not as it must be.
    pub failure: Option<String>,
    /// Of everything that happened.
    pub hash: u64,
    /// Turns of a machine, and things that happened in the network and to clients.
    pub steps: u64,
    /// Changes that were committed.
    pub changes: u64,
    /// How often each kind of fault happened, in the order of [`Fault::ALL`].
    pub faults: Vec<u64>,
    /// What was seen.
    pub marks: Marks,
    /// What happened, if it was to be kept.
    pub transcript: Vec<String>,
    /// Who took part.
    pub actors: Vec<String>,
}

/// Plays a seed. A panic is a failure like others.
pub fn run(options: &Options) -> Outcome {
    let mut world = World::new(options);
    match panic::catch_unwind(AssertUnwindSafe(|| world.play())) {
        Ok(played) => world.outcome(played.err()),
        Err(panic) => {
            // What was interrupted is only looked at.
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or(panic.downcast_ref::<&str>().copied()).unwrap_or("of another kind");
            world.outcome(Some(format!("a panic: {what}")))
        }
    }
}

/// A seed in which more happens never ends: they have some thousands.
const MOST_HAPPENINGS: u64 = 300_000;

struct World {
    core: Core,
    actors: Vec<Option<Box<dyn Actor>>>,
    seed: Random,
    config: Config,
    driver: DriverConfig,
    /// Bytes for compression.
    budget: usize,
    machines: usize,
    reports_hang_up: bool,
    steps: u64,
    hash: Fnv,
    /// When the drain that is under way must be over.
    draining: Option<Instant>,
    has_listener: bool,
}

impl World {
    fn new(options: &Options) -> Self {
        let seed = Random::new(options.seed);
        let mut faults = Faults::draw(&seed.fork("faults"), &options.without);
        let mut random = seed.fork("world");
        let (mut config, budget) = limits::config(&mut faults, &mut seed.fork("config"));
        let mut tight = limits::tighten(&mut faults, &seed, &mut config);
        let driver = limits::driver(&mut faults, &seed, &mut tight);
        let machines = 1 + usize::from(random.chance(300));
        let reports_hang_up = !faults.strikes(Fault::HiddenHangUp, &mut random);
        // 1994-11-06, as everywhere.
        let now = Now::new(Instant::from_millis(1), UnixMillis(784_111_777_000));
        let mut world = Self {
            core: Core::new(now, seed.fork("network"), faults, tight, options.trace),
            actors: Vec::new(),
            config,
            driver,
            budget,
            machines,
            reports_hang_up,
            steps: 0,
            hash: Fnv::default(),
            draining: None,
            has_listener: false,
            seed,
        };
        let [faster, midst] = [Fault::Elsewhere, Fault::MidTurn].map(|fault| world.core.faults.chance(fault));
        world.core.model.borrow_mut().others = Others::new(faster, midst);
        world.people(options);
        world
    }

    /// Who takes part.
    fn people(&mut self, options: &Options) {
        let mut random = self.seed.fork("people");
        let (writers, watchers) = (1 + random.below(3), 1 + random.below(4));
        let (process, hostile, listener) = (random.chance(400), random.chance(600), random.chance(150));
        let (visitor, breaker) = (random.chance(400), random.chance(500));
        let writes = 6 + random.below(20);
        let keepers = random.below(3);
        for index in 0..writers {
            let name = format!("writer{index}");
            let random = self.seed.fork(&name);
            self.add(options, writer::Writer::new(&name, random, writes), &name);
        }
        for index in 0..watchers {
            let name = format!("watcher{index}");
            let mut random = self.seed.fork(&name);
            let transport = random.one_of(&Transport::ALL);
            // A silence of the server, and what the network takes: neither is longer.
            let silence =
                if transport == Transport::LongPoll { self.config.hold } else { self.config.heartbeat };
            let patience = silence + Duration::from_secs(1);
            let actor = watcher::Watcher::new(random, transport, self.config.hold, patience);
            self.add(options, actor, &name);
        }
        for index in 0..keepers {
            let name = format!("keeper{index}");
            // Time for a heartbeat, for an answer that is late, and for what is on its way.
            let silence = self.config.heartbeat + Duration::from_secs(5);
            if let Some(actor) = keeper::Keeper::new(self.seed.fork(&name), silence) {
                self.add(options, actor, &name);
            }
        }
        if process {
            self.add(options, process::Process::new(self.seed.fork("process"), writes / 2), "process");
        }
        if hostile {
            self.add(options, hostile::Hostile::new(self.seed.fork("hostile")), "hostile");
        }
        if visitor {
            self.add(options, visitor::Visitor::new(self.seed.fork("visitor")), "visitor");
        }
        if breaker {
            // Each cuts some connections.
            self.add(
                options,
                breaker::Breaker::new(self.seed.fork("breaker"), options.seed.wrapping_mul(7)),
                "breaker",
            );
        }
        self.strangers(options);
        let steady = writers
            + watchers
            + keepers
            + usize::from(visitor)
            + usize::from(breaker)
            + usize::from(listener);
        if self.core.tight.places {
            // In the calm all of them find room, also while the connection before is not gone.
            self.config.connections = steady + 2 + self.seed.fork("places").below(4);
        }
        self.has_listener = listener;
        if listener {
            self.add(options, hostile::Listener::new(self.seed.fork("listener")), "listener");
        }
        self.core.names.push("world".to_owned());
    }

    /// Who comes only where something of the server is tight that others do not reach.
    fn strangers(&mut self, options: &Options) {
        let limits::Tight { places, of_address, buffers, .. } = self.core.tight;
        if places || of_address {
            self.add(options, guests::Guests::new(self.seed.fork("guests")), "guests");
        }
        if buffers {
            self.add(
                options,
                uploader::Uploader::new(self.seed.fork("uploader"), self.config.buffers),
                "uploader",
            );
        }
    }

    fn add(&mut self, options: &Options, actor: impl Actor + 'static, name: &str) {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            self.core.names.push(name.to_owned());
            self.actors.push(Some(Box::new(actor)));
        }
    }

    // ---- The three phases ----

    fn play(&mut self) -> Result<(), String> {
        self.start();
        let mut random = self.seed.fork("stages");
        let storm = Duration::from_millis(20_000 + random.below(60_000) as u64);
        for (stage, fault) in [
            (Stage::Crash, Fault::Crash),
            (Stage::Drain, Fault::Drain),
            (Stage::ClockJump, Fault::ClockJump),
            (Stage::Pause, Fault::Pause),
        ] {
            for _ in 0..2 {
                let at = self.core.now.instant + storm / 1000 * random.below(1000) as u32;
                if self.core.strikes(fault, &mut random) {
                    self.core.stage_at(at, stage);
                }
            }
        }
        for actor in 0..self.actors.len() {
            self.core.current = actor;
            let at = self.core.now.instant + Duration::from_millis(random.below(5000) as u64);
            self.core.wake_at(at);
        }
        self.until(storm)?;
        // What began in the storm ends.
        while !self.core.accepts {
            self.until(Duration::from_millis(100))?;
        }
        self.note("the calm begins");
        self.core.calm_down();
        self.core.model.borrow_mut().others.calm_down();
        self.each(|actor, core| actor.calm(core));
        // Longer than any rest, hold, heartbeat and stall.
        self.until(Duration::from_secs(90))?;
        self.settled()?;
        self.nothing_held()?;
        self.last_changes()?;
        self.note("the end begins");
        self.each(|actor, core| actor.leave(core));
        self.end()
    }

    /// A few changes that everyone who watches sees within moments.
    fn last_changes(&mut self) -> Result<(), String> {
        self.note("the last changes");
        for (index, key) in writer::KEYS.iter().enumerate() {
            let machine = index % self.core.machines.len();
            let handle = &self.core.machines[machine].handle;
            if index % 3 == 2 {
                drop(handle.delete(key));
            } else {
                drop(handle.put(key, format!("last {index}").into_bytes()));
            }
        }
        // A poll that rests, a poll that coalesces, a look of the process, and where the log is short, a list.
        self.until(Duration::from_secs(8))?;
        self.settled()
    }

    fn settled(&mut self) -> Result<(), String> {
        if !self.core.model.borrow().is_explained() {
            return Err("a change was committed that nobody asked for".into());
        }
        for (index, actor) in self.actors.iter().enumerate() {
            let settled = actor.as_ref().map_or(Ok(()), |actor| actor.settled(&self.core));
            settled.map_err(|why| format!("{} is not settled: {why}", self.core.names[index]))?;
        }
        Ok(())
    }

    /// Where nobody is sending a request, nothing is held for one.
    fn nothing_held(&mut self) -> Result<(), String> {
        // A message in parts is sent within that time.
        let quiet = self.core.now.instant.since(self.core.came) > Duration::from_secs(1);
        if !quiet || self.core.left().iter().any(|left| left.ends_with("hostile")) {
            return Ok(());
        }
        if self.core.tight.buffers {
            self.core.marks.hit("buffers: empty in the calm");
        }
        match self.core.machines.iter().map(|machine| machine.sim.server().usage().buffered_bytes).max() {
            Some(held @ 1..) => Err(format!("{held} bytes are held, and nothing is under way")),
            _ => Ok(()),
        }
    }

    /// Nothing is left.
    fn end(&mut self) -> Result<(), String> {
        for _ in 0..30 {
            self.until(Duration::from_secs(20))?;
            if self.core.is_quiet()
                && self.core.machines.iter().all(|machine| machine.sim.driver().connections() == 0)
            {
                break;
            }
        }
        if !self.core.is_quiet() {
            return Err(format!("these connections are left: {:?}", self.core.left()));
        }
        for machine in &mut self.core.machines {
            let connections = machine.sim.driver().connections();
            let usage = machine.sim.server().usage();
            let left = (connections, usage.connections, usage.watchers, usage.writes, usage.buffered_bytes);
            if left != (0, 0, 0, 0, 0) {
                return Err(format!("what is left: {connections} connections, {usage:?}"));
            }
            if machine.sim.driver().buffered() != Buffered::default() {
                return Err(format!("what is left: {:?}", machine.sim.driver().buffered()));
            }
            // Timers that nobody needs any more may fire once.
            let year = Duration::from_secs(365 * 86_400);
            machine.sim.advance(year).map_err(|error| error.to_string())?;
            if let Some(deadline) = machine.sim.driver().deadline() {
                return Err(format!("a timer is left: {deadline:?}"));
            }
        }
        match self.config.websocket.compression.used() {
            0 => Ok(()),
            used => Err(format!("{used} bytes of compression are left")),
        }
    }

    // ---- Time ----

    /// Lets everything happen that is due within this time.
    fn until(&mut self, by: Duration) -> Result<(), String> {
        let end = self.core.now.instant + by;
        let mut rounds = 0;
        loop {
            let before = self.core.happenings;
            self.core.model.borrow_mut().others.step(self.core.now.instant);
            while let Some(call) = self.core.next_call() {
                self.call(call);
            }
            self.run_machines()?;
            if self.core.release_all() {
                self.run_machines()?;
            }
            self.core.collect();
            self.check()?;
            if self.core.happenings + self.steps > MOST_HAPPENINGS {
                return Err("it does not come to an end".into());
            }
            let due = self.core.next_time().filter(|at| *at <= end);
            let Some(at) = due else { break };
            rounds = if at > self.core.now.instant || self.core.happenings > before { 0 } else { rounds + 1 };
            if rounds > 1000 {
                return Err(format!("time stands still at {:?}", self.core.now.instant));
            }
            self.move_time(at);
        }
        self.move_time(end);
        Ok(())
    }

    fn move_time(&mut self, to: Instant) {
        let by = to.since(self.core.now.instant);
        if by > Duration::ZERO {
            self.core.now = self.core.now.later(by);
            self.pass();
            for machine in &mut self.core.machines {
                machine.sim.skip(by);
            }
        }
    }

    /// What is too old now leaves the logs.
    fn pass(&mut self) {
        if self.config.log.age.is_none() {
            return;
        }
        let gone = {
            let mut model = self.core.model.borrow_mut();
            let Some(generation) = model.generations.last_mut() else { return };
            let before = generation.aged;
            generation.pass(self.core.now.instant);
            generation.aged - before
        };
        if gone > 0 {
            self.note(&format!("{gone} batches are too old"));
        }
    }

    fn run_machines(&mut self) -> Result<(), String> {
        let count = self.core.machines.len();
        let first = if count > 1 { self.core.random.below(count) } else { 0 };
        let mut round = 0;
        loop {
            let mut ran = false;
            for index in 0..count {
                let machine = &mut self.core.machines[(first + index) % count];
                if round == 0 || !machine.sim.is_idle() {
                    self.steps += 1;
                    ran = true;
                    machine
                        .sim
                        .run()
                        .map_err(|error| format!("machine {}: {error}", (first + index) % count))?;
                    if self.core.transcript.is_some() {
                        self.core.show_machine((first + index) % count);
                    }
                }
            }
            round += 1;
            if !ran {
                return Ok(());
            }
            if round > 1000 {
                return Err("two machines wake each other for ever".into());
            }
        }
    }

    fn call(&mut self, call: Call) {
        let who = match &call {
            Call::Wake(actor) | Call::Heard(actor, ..) | Call::Ended(actor, ..) => *actor,
            Call::Stage(stage) => return self.stage(*stage),
        };
        self.core.current = who;
        let Some(mut actor) = self.actors.get_mut(who).and_then(Option::take) else { return };
        match call {
            Call::Heard(_, link, bytes) => {
                self.core.say(|| format!("#{link} < \"{}\"", core::shown(&bytes)));
                actor.heard(link, &bytes, &mut self.core);
            }
            Call::Ended(_, link, how) => {
                self.core.say(|| format!("#{link} < {how:?}"));
                actor.ended(link, how, &mut self.core);
            }
            Call::Wake(_) | Call::Stage(_) => actor.wake(&mut self.core),
        }
        self.actors[who] = Some(actor);
    }

    fn each(&mut self, mut what: impl FnMut(&mut dyn Actor, &mut Core)) {
        for who in 0..self.actors.len() {
            self.core.current = who;
            if let Some(mut actor) = self.actors[who].take() {
                what(&mut *actor, &mut self.core);
                self.actors[who] = Some(actor);
            }
        }
    }

    fn note(&mut self, what: &str) {
        self.core.current = self.actors.len();
        self.core.say(|| format!("--- {what}"));
    }

    fn outcome(mut self, failure: Option<String>) -> Outcome {
        for machine in &self.core.machines {
            self.hash.write(&machine.sim.trace().hash().to_le_bytes());
        }
        self.hash.write(&self.core.hash.value().to_le_bytes());
        self.hash.write(&self.core.happenings.to_le_bytes());
        let tapped = Rc::clone(&self.core.model);
        // A panic may have left it borrowed; then nothing can be said of it.
        let (mut changes, mut moved, mut snapshots) = (0, false, false);
        if let Ok(model) = tapped.try_borrow() {
            let done = model.others.counts;
            for (fault, count) in [
                (Fault::Elsewhere, done.faster),
                (Fault::MidTurn, done.midst),
                (Fault::LastByte, done.last_bytes),
                (Fault::FullQueue, done.busy),
                (Fault::ShortAge, model.generations.iter().map(|generation| generation.aged).sum()),
            ] {
                self.core.faults.counts[fault as usize] = count;
            }
            changes = model.generations.iter().map(|generation| generation.log.len() as u64).sum();
            let machines = || model.generations.iter().flat_map(|generation| &generation.machines);
            moved = machines().any(|machine| machine.floor > 0);
            snapshots = machines().any(|machine| machine.snapshots > 0);
        }
        if moved {
            self.core.marks.hit("floor: moved");
        }
        if snapshots {
            self.core.marks.hit("store: snapshot");
        }
        self.core.names.pop();
        Outcome {
            failure,
            hash: self.hash.value(),
            steps: self.steps + self.core.happenings,
            changes,
            faults: self.core.faults.counts,
            marks: self.core.marks,
            transcript: self.core.transcript.unwrap_or_default(),
            actors: self.core.names,
        }
    }
}
