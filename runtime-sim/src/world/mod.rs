//! The real watch server in a world of faults, by seeds.
//!
//! A seed draws a whole world: how many machines the server has and what its limits are, who its clients are, what may go
//! wrong and how likely, and when. [`run`] plays it, and compares everything that every client sees with the log of what was
//! committed, which is tapped between the server and its store.
//!
//! ```text
//!   writers, watchers,          Core: one queue by (time, sequence)              one or two machines
//!   hostile clients, the   ───►   connections with delays, stalls, resets,  ───►   Sim: Driver, WatchServer
//!   process's handle       ◄───   slow and dead readers                     ◄───     │ store, tapped
//!        │ what they saw                                                             ▼
//!        └──────────────────────────────► check ◄───────────────────────────── Model: what was committed
//! ```
//!
//! | phase | what happens |
//! | --- | --- |
//! | storm | everything goes wrong that the seed allows: on connections, in the process, and to it (it crashes, drains, stops) |
//! | calm | nothing goes wrong any more: everyone sees everything, and then a last few changes within moments |
//! | end | everyone leaves but those who are to be thrown out, and nothing may be left: no connection, no watcher, no timer |
//!
//! What is held at every step: the server does not spin, no deadline stays in the past, nothing is written behind an end, the
//! server's memory is within its limits. What is held of every answer: that it is well-formed, belongs to its request, is not
//! older than what anyone was told before it was asked for, and, on a watch, is the next change or a true word that some are
//! gone. The rest is in the actors.
//!
//! The same seed gives the same world for ever, as long as the code is the same: [`Outcome::hash`] is of everything that
//! happened.

mod check;
mod core;
mod faults;
mod hostile;
mod keeper;
mod limits;
mod marks;
mod model;
mod peer;
mod process;
mod shrink;
mod watcher;
mod writer;

use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use keepwatch_protocol::{DriverConfig, Instant, Now, UnixMillis};
use keepwatch_watch::store::MemoryStore;
use keepwatch_watch::{Config, Revision, Shared};

use self::core::{Actor, Call, Core, Machine, Stage};
use self::faults::Faults;
use self::model::{Generation, Tapped};
use self::watcher::Transport;
use crate::random::Random;
use crate::sim::{Order, Sim, SimConfig};
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
        let config = limits::config(&mut faults, &mut seed.fork("config"));
        let driver = limits::driver(&mut faults, &mut seed.fork("driver"));
        let machines = 1 + usize::from(random.chance(300));
        let reports_hang_up = !faults.strikes(Fault::HiddenHangUp, &mut random);
        // 1994-11-06, as everywhere.
        let now = Now::new(Instant::from_millis(1), UnixMillis(784_111_777_000));
        let mut world = Self {
            core: Core::new(now, seed.fork("network"), faults, options.trace),
            actors: Vec::new(),
            config,
            driver,
            machines,
            reports_hang_up,
            steps: 0,
            hash: Fnv::default(),
            draining: None,
            has_listener: false,
            seed,
        };
        world.core.model.borrow_mut().elsewhere = world.core.faults.chance(Fault::Elsewhere);
        world.people(options);
        world
    }

    /// Who takes part.
    fn people(&mut self, options: &Options) {
        let mut random = self.seed.fork("people");
        let patience = self.config.hold.max(self.config.heartbeat) + Duration::from_secs(5);
        let (writers, watchers) = (1 + random.below(3), 1 + random.below(4));
        let (process, hostile, listener) = (random.chance(400), random.chance(600), random.chance(150));
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
        self.has_listener = listener;
        if listener {
            self.add(options, hostile::Listener::new(self.seed.fork("listener")), "listener");
        }
        self.core.names.push("world".to_owned());
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
        self.core.model.borrow_mut().elsewhere = 0;
        self.each(|actor, core| actor.calm(core));
        // Longer than any rest, hold, heartbeat and stall.
        self.until(Duration::from_secs(90))?;
        self.settled()?;
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
            if (connections, usage.connections, usage.watchers, usage.writes) != (0, 0, 0, 0) {
                return Err(format!("what is left: {connections} connections, {usage:?}"));
            }
            // Timers that nobody needs any more may fire once.
            let year = Duration::from_secs(365 * 86_400);
            machine.sim.advance(year).map_err(|error| error.to_string())?;
            if let Some(deadline) = machine.sim.driver().deadline() {
                return Err(format!("a timer is left: {deadline:?}"));
            }
        }
        Ok(())
    }

    // ---- Time ----

    /// Lets everything happen that is due within this time.
    fn until(&mut self, by: Duration) -> Result<(), String> {
        let end = self.core.now.instant + by;
        let mut rounds = 0;
        loop {
            let before = self.core.happenings;
            while let Some(call) = self.core.next_call() {
                self.call(call);
            }
            self.run_machines()?;
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
            for machine in &mut self.core.machines {
                machine.sim.skip(by);
            }
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

    // ---- What is held at every step ----

    fn check(&mut self) -> Result<(), String> {
        if let Some(failure) = self.core.failure.take() {
            return Err(failure);
        }
        if let Some(problem) = self.core.model.borrow_mut().problem.take() {
            return Err(format!("the store: {problem}"));
        }
        // A queue may be passed by what one call puts: an answer that is copied, a page of a list, and what frames them.
        let output = self.driver.output_mark + self.config.list_bytes.max(16 << 10) * 2 + (16 << 10);
        let unread = self.driver.unread_bytes + self.driver.read_bytes;
        for (index, machine) in self.core.machines.iter().enumerate() {
            let buffered = machine.sim.driver().buffered();
            if buffered.output > output || buffered.unread > unread {
                return Err(format!(
                    "machine {index} holds {buffered:?}, and its limits are {output} and {unread}"
                ));
            }
            let usage = machine.sim.server().usage();
            let generation = self.core.model.borrow();
            let newest = generation.generations.last();
            let kept = newest.map_or(0, |generation| generation.machines[index].kept());
            if usage.log_changes != kept {
                return Err(format!("machine {index} has {usage:?}, and its log should have {kept} changes"));
            }
            if usage.encoded_bytes > self.config.log.encoded_bytes {
                return Err(format!("machine {index} has {usage:?}: frames over their limit"));
            }
            if usage.connections > self.config.connections {
                return Err(format!("machine {index} has {usage:?}: connections over their limit"));
            }
            // A reader of `/hello` is waited for as long as the system says that it is there.
            let waits = machine.sim.driver().connections() > 0 && !self.has_listener;
            if waits && machine.sim.driver().deadline().is_none() {
                return Err(format!("machine {index} waits for its peers, and for no time"));
            }
        }
        Ok(())
    }

    // ---- What happens to the server ----

    fn start(&mut self) {
        let generation = self.core.model.borrow().generations.len();
        let micros = self.core.now.unix.0 * 1000;
        let first = Revision::new(micros).unwrap_or_default();
        let shared = Shared::new(self.config.clone(), first);
        let store = MemoryStore::new(first, self.config.store_limits());
        let model = Rc::clone(&self.core.model);
        model.borrow_mut().generations.push(Generation::new(micros, self.machines, self.config.clone()));
        for index in 0..self.machines {
            let name = format!("machine {index} of {generation}");
            let mut random = self.seed.fork(&name);
            let tapped = Tapped::new(&store, random.fork("elsewhere"), &model, generation, index);
            let (server, handle) = shared.machine_over(tapped, random.next_u64());
            let config = SimConfig {
                driver: self.driver.clone(),
                start: self.core.now,
                reports_hang_up: self.reports_hang_up,
                order: Order::Drawn(random),
                trace_steps: if self.core.transcript.is_some() { usize::MAX } else { 0 },
                ..SimConfig::default()
            };
            self.core.machines.push(Machine { sim: Sim::with_config(server, config), shown: 0, handle });
        }
        self.core.marks.hit(if self.machines == 1 { "machines: one" } else { "machines: two" });
        self.core.accepts = true;
        self.note("the server starts");
    }

    fn stop(&mut self) {
        self.core.accepts = false;
        self.draining = None;
        for machine in std::mem::take(&mut self.core.machines) {
            self.hash.write(&machine.sim.trace().hash().to_le_bytes());
        }
        self.core.lose_all();
        let again = self.core.now.instant + Duration::from_millis(5 + self.core.random.below(3000) as u64);
        self.core.stage_at(again, Stage::Start);
    }

    fn stage(&mut self, stage: Stage) {
        self.note(&format!("{stage:?}"));
        match stage {
            Stage::Start => self.start(),
            Stage::Crash if self.core.accepts => self.stop(),
            Stage::Drain if self.core.accepts => {
                let grace = Duration::from_millis(self.core.random.one_of(&[300, 5000]));
                self.core.accepts = false;
                for machine in &mut self.core.machines {
                    machine.sim.start_drain(grace);
                }
                let by = self.core.now.instant + grace + Duration::from_millis(100);
                self.draining = Some(by);
                self.core.stage_at(by, Stage::Drained);
            }
            Stage::Drained if self.draining.is_some() => {
                let now = self.core.now.instant;
                let drained = self.core.machines.iter().all(|machine| machine.sim.driver().is_drained());
                if !drained && now.since(self.core.last_pause) < Duration::from_secs(1) {
                    // It has had no time yet.
                    return self.core.stage_at(now + Duration::from_secs(1), stage);
                }
                if !drained {
                    self.core.fail("the drain's time is over, and there are connections");
                }
                self.core.marks.hit("drain: all said farewell");
                self.stop();
            }
            Stage::ClockJump => {
                let random = &mut self.core.random;
                let by = 1000 + random.below([60_000, 100_000_000][random.clone().below(2)]) as u64;
                let unix = self.core.now.unix.0;
                let unix = if random.chance(500) { unix + by } else { unix - by };
                self.core.now.unix = UnixMillis(unix);
                for machine in &mut self.core.machines {
                    machine.sim.set_unix(UnixMillis(unix));
                }
            }
            Stage::Pause => {
                let by = Duration::from_millis(1 + self.core.random.below(40_000) as u64);
                let to = self.core.now.instant + by;
                self.move_time(to);
                self.core.last_pause = to;
            }
            Stage::Crash | Stage::Drain | Stage::Drained => {}
        }
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
            self.core.faults.counts[Fault::Elsewhere as usize] = model.elsewheres;
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
