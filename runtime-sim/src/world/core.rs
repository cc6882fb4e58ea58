//! What the actors of a world have in common: the clock, the queue of what is to happen, the machines, and the network
//! between them and the clients with all its faults.

use std::cell::RefCell;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use keepwatch_protocol::{Instant, Now};
use keepwatch_watch::{Handle, WatchServer};

use super::faults::{Fault, Faults};
use super::marks::Marks;
use super::model::{Model, Tapped};
use crate::client::Client;
use crate::random::Random;
use crate::sim::Sim;
use crate::trace::{Fnv, Step};

/// A connection, numbered in the order in which they were asked for.
pub(super) type LinkId = usize;

/// How a connection ended, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The server ended its side.
    Finished,
    /// It broke.
    Reset,
    /// It was not accepted.
    Refused,
}

/// Someone who takes part. Each is called with itself taken out of the world.
pub(super) trait Actor {
    /// A time that it asked for has come, or another: it looks at its own clock.
    fn wake(&mut self, core: &mut Core);
    /// Bytes came.
    fn heard(&mut self, link: LinkId, bytes: &[u8], core: &mut Core);
    /// A connection ended. The client's side is closed already.
    fn ended(&mut self, link: LinkId, how: End, core: &mut Core);
    /// From now on nothing goes wrong any more.
    fn calm(&mut self, _: &mut Core) {}
    /// Some time into the calm: whether it has seen everything.
    fn settled(&self, _: &Core) -> Result<(), String> {
        Ok(())
    }
    /// It ends everything that it does.
    fn leave(&mut self, core: &mut Core);
}

/// One of the threads of the server, with what runs it.
pub(super) struct Machine {
    pub(super) sim: Sim<WatchServer<Tapped>>,
    /// Steps of its trace that are in the transcript.
    pub(super) shown: usize,
    pub(super) handle: Handle,
}

enum Happening {
    Wake(usize),
    Accept(LinkId),
    Up(LinkId, Vec<u8>),
    UpEnd(LinkId),
    Break(LinkId),
    Down(LinkId, Vec<u8>),
    DownEnd(LinkId, End),
    Read(LinkId, usize),
    Stage(Stage),
}

/// What happens to the whole world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Crash,
    Drain,
    /// The drain's time is over.
    Drained,
    Start,
    ClockJump,
    Pause,
}

/// What comes out of the queue for the world to do.
pub(super) enum Call {
    Wake(usize),
    Heard(usize, LinkId, Vec<u8>),
    Ended(usize, LinkId, End),
    Stage(Stage),
}

struct Due {
    at: Instant,
    sequence: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// A connection between a client and a machine.
struct Link {
    owner: usize,
    machine: usize,
    generation: usize,
    client: Option<Client>,
    random: Random,
    habits: Habits,
    opened: Instant,
    accepted: Instant,
    /// Nothing arrives before what was sent before it.
    last_up: Instant,
    last_down: Instant,
    sent: u64,
    received: u64,
    /// The client hears no more of it.
    deaf: bool,
    /// The client was told, or will be, how it ended.
    end_told: bool,
    /// The client closed it for good: what still arrives is answered with a reset.
    closed: bool,
    /// The client does not close when the server has.
    stubborn: bool,
    gone: bool,
}

/// How a connection behaves.
#[derive(Clone, Debug, Default)]
struct Habits {
    delay: Option<Duration>,
    coalesced: bool,
    /// Bytes that the client reads in a fifth of a second.
    rate: Option<usize>,
    reset_sent: Option<u64>,
    reset_received: Option<u64>,
    spurious: bool,
    stalls: bool,
    vanishes: bool,
    vanished: bool,
    never_reads: bool,
    /// Nothing of it can delay an answer by more than moments.
    prompt: bool,
}

/// Everything but the actors.
pub(super) struct Core {
    pub(super) now: Now,
    queue: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    pub(super) machines: Vec<Machine>,
    pub(super) model: Rc<RefCell<Model>>,
    links: Vec<Link>,
    live: Vec<LinkId>,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) marks: Marks,
    /// Nothing goes wrong any more.
    pub(super) calm: bool,
    /// The server accepts connections.
    pub(super) accepts: bool,
    /// When time jumped last: no answer that was awaited then can be late.
    pub(super) last_pause: Instant,
    pub(super) failure: Option<String>,
    pub(super) transcript: Option<Vec<String>>,
    pub(super) names: Vec<String>,
    pub(super) hash: Fnv,
    pub(super) happenings: u64,
    /// Whose turn it is.
    pub(super) current: usize,
}

impl Core {
    pub(super) fn new(now: Now, random: Random, faults: Faults, transcript: bool) -> Self {
        Self {
            now,
            queue: BinaryHeap::new(),
            sequence: 0,
            machines: Vec::new(),
            model: Rc::default(),
            links: Vec::new(),
            live: Vec::new(),
            random,
            faults,
            marks: Marks::default(),
            calm: false,
            accepts: false,
            last_pause: Instant::START,
            failure: None,
            transcript: transcript.then(Vec::new),
            names: Vec::new(),
            hash: Fnv::default(),
            happenings: 0,
            current: 0,
        }
    }

    // ---- What actors do ----

    /// The actor is woken then.
    pub(super) fn wake_at(&mut self, at: Instant) {
        self.push(at, Happening::Wake(self.current));
    }

    /// A new connection. It may be refused, or break at once, and its owner hears of that later.
    pub(super) fn connect(&mut self) -> LinkId {
        let link = self.links.len();
        let name = format!("{} {}", self.names[self.current], link);
        let mut random = self.random.fork(&name);
        let habits = self.habits(&mut random);
        let machine = random.below(self.machines.len().max(1));
        let late = self.strikes(Fault::AcceptError, &mut random);
        let at = self.now.instant + Duration::from_micros(50 + random.below(200) as u64);
        let at = if late { at + Duration::from_millis(100 + random.below(900) as u64) } else { at };
        self.links.push(Link {
            owner: self.current,
            machine,
            generation: self.model.borrow().newest(),
            client: None,
            random,
            habits,
            opened: self.now.instant,
            accepted: at,
            last_up: at,
            last_down: at,
            sent: 0,
            received: 0,
            deaf: false,
            end_told: false,
            closed: false,
            stubborn: false,
            gone: false,
        });
        self.say(|| format!("connects: #{link}"));
        self.push(at, Happening::Accept(link));
        link
    }

    /// Bytes for the server.
    pub(super) fn send(&mut self, link: LinkId, bytes: &[u8]) {
        self.say(|| format!("#{link} > \"{}\"", shown(bytes)));
        let calm = self.calm;
        let Some(it) = self.links.get_mut(link).filter(|it| !it.closed && !it.gone) else { return };
        if it.habits.vanished {
            return;
        }
        let cut = it.habits.reset_sent.filter(|at| !calm && it.sent + bytes.len() as u64 >= *at);
        let bytes = match cut {
            Some(at) => &bytes[..(at - it.sent) as usize],
            None => bytes,
        };
        it.sent += bytes.len() as u64;
        let at = self.arrival(link, true);
        self.push(at, Happening::Up(link, bytes.to_vec()));
        if cut.is_some() {
            self.faults.count(Fault::ResetSending);
            self.push(at, Happening::Break(link));
        }
    }

    /// The client ends its side.
    pub(super) fn finish(&mut self, link: LinkId) {
        self.say(|| format!("#{link} > its end"));
        let at = self.arrival(link, true);
        self.push(at, Happening::UpEnd(link));
    }

    /// The client closes for good.
    pub(super) fn close(&mut self, link: LinkId) {
        self.say(|| format!("#{link} closed"));
        let at = self.arrival(link, true);
        self.push(at, Happening::UpEnd(link));
        if let Some(it) = self.links.get_mut(link) {
            it.closed = true;
            it.deaf = true;
        }
    }

    /// The client breaks the connection.
    pub(super) fn reset(&mut self, link: LinkId) {
        self.say(|| format!("#{link} reset"));
        if let Some(it) = self.links.get_mut(link) {
            it.deaf = true;
            it.closed = true;
            if let Some(client) = &it.client {
                client.reset();
            }
        }
    }

    /// The client of this new connection does not close it when the server has.
    pub(super) fn never_closes(&mut self, link: LinkId) {
        self.links[link].stubborn = true;
    }

    /// The client of this new connection never reads.
    pub(super) fn never_reads(&mut self, link: LinkId) {
        let habits = &mut self.links[link].habits;
        habits.never_reads = true;
        habits.prompt = false;
    }

    /// Which generation of the server it is a connection to.
    pub(super) fn generation_of(&self, link: LinkId) -> usize {
        self.links[link].generation
    }

    pub(super) fn machine_of(&self, link: LinkId) -> usize {
        self.links[link].machine
    }

    /// Whether an answer can only be late by the server's fault.
    pub(super) fn is_prompt(&self, link: LinkId, since: Instant) -> bool {
        let it = &self.links[link];
        it.habits.prompt && it.generation == self.model.borrow().newest() && self.last_pause < since
    }

    /// The longest that the network takes to carry a request and its answer.
    pub(super) fn lag(&self, link: LinkId) -> Duration {
        let it = &self.links[link];
        let habits = &it.habits;
        let coalesced = if habits.coalesced { Duration::from_millis(50) } else { Duration::ZERO };
        habits.delay.unwrap_or_default() * 2
            + coalesced
            + it.accepted.since(it.opened)
            + Duration::from_millis(1)
    }

    /// Whether the server has closed its socket.
    pub(super) fn is_over(&self, link: LinkId) -> bool {
        let it = &self.links[link];
        it.gone || it.client.as_ref().map_or(it.end_told, Client::is_closed)
    }

    pub(super) fn opened(&self, link: LinkId) -> Instant {
        self.links[link].opened
    }

    /// Whether a fault happens. In the calm none does.
    pub(super) fn strikes(&mut self, fault: Fault, random: &mut Random) -> bool {
        if self.calm { false } else { self.faults.strikes(fault, random) }
    }

    /// Something is not as it must be.
    pub(super) fn fail(&mut self, what: impl Into<String>) {
        if self.failure.is_none() {
            let what = format!("{}: {}", self.names[self.current], what.into());
            self.say(|| format!("FAILED {what}"));
            self.failure = Some(what);
        }
    }

    /// The same for a check.
    pub(super) fn check(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.fail(what);
        }
    }

    /// For the transcript.
    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(transcript) = &mut self.transcript {
            let nanos = self.now.instant.as_nanos();
            let (secs, micros) = (nanos / 1_000_000_000, nanos / 1000 % 1_000_000);
            transcript.push(format!("{secs:4}.{micros:06} {:<10} {}", self.names[self.current], line()));
        }
    }

    // ---- What the world does ----

    /// What a machine did since the last time, for the transcript.
    pub(super) fn show_machine(&mut self, index: usize) {
        let Some(machine) = self.machines.get_mut(index) else { return };
        let steps = machine.sim.trace().steps();
        let link = |number| {
            let link = self.links.iter().position(|it| {
                it.machine == index
                    && !it.gone
                    && it.client.as_ref().is_some_and(|client| client.number() == number)
            });
            link.map_or_else(|| "gone".to_owned(), |link| format!("#{link}"))
        };
        let mut lines = Vec::new();
        for step in &steps[machine.shown.min(steps.len())..] {
            lines.push(match *step {
                Step::Read { client, bytes } => format!("{} read {bytes}", link(client)),
                Step::Write { client, bytes } => format!("{} wrote {bytes}", link(client)),
                Step::Failed { client } => format!("{} failed", link(client)),
                Step::Shutdown { client } => format!("{} shut down", link(client)),
                Step::Close { client } => format!("{} closed", link(client)),
                Step::Connect { .. } | Step::Time(_) => continue,
            });
        }
        machine.shown = steps.len();
        if !lines.is_empty() {
            self.current = self.names.len() - 1;
            self.say(|| format!("machine {index}: {}", lines.join(", ")));
        }
    }

    pub(super) fn stage_at(&mut self, at: Instant, stage: Stage) {
        self.push(at, Happening::Stage(stage));
    }

    /// The next thing that is due now, done as far as it is the network's.
    pub(super) fn next_call(&mut self) -> Option<Call> {
        loop {
            if self.queue.peek().is_none_or(|Reverse(due)| due.at > self.now.instant) {
                return None;
            }
            let Reverse(due) = self.queue.pop()?;
            self.happenings += 1;
            match due.what {
                Happening::Wake(actor) => return Some(Call::Wake(actor)),
                Happening::Stage(stage) => return Some(Call::Stage(stage)),
                Happening::Accept(link) => self.accept(link),
                Happening::Up(link, bytes) => self.up(link, &bytes),
                Happening::UpEnd(link) => {
                    if let Some(client) = &self.links[link].client {
                        client.shutdown_write();
                    }
                }
                Happening::Break(link) => {
                    if let Some(client) = &self.links[link].client {
                        client.reset();
                    }
                    self.end(link, End::Reset);
                }
                Happening::Read(link, bytes) => {
                    let it = &mut self.links[link];
                    let reads = !it.habits.vanished && !it.habits.never_reads;
                    if let (Some(client), true) = (&it.client, reads) {
                        client.read_limit(if self.calm { usize::MAX } else { bytes });
                    }
                }
                Happening::Down(link, bytes) => {
                    let it = &mut self.links[link];
                    if !it.deaf {
                        self.hash.write(&bytes);
                        return Some(Call::Heard(it.owner, link, bytes));
                    }
                }
                Happening::DownEnd(link, how) => {
                    let it = &mut self.links[link];
                    if !it.deaf {
                        it.deaf = true;
                        let owner = it.owner;
                        if !it.closed && !it.stubborn {
                            it.closed = true;
                            if let Some(client) = &it.client {
                                client.shutdown_write();
                            }
                        }
                        return Some(Call::Ended(owner, link, how));
                    }
                }
            }
        }
    }

    /// When the next thing is to happen.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let queued = self.queue.peek().map(|Reverse(due)| due.at);
        let deadlines = self.machines.iter().filter_map(|machine| machine.sim.driver().deadline());
        deadlines.chain(queued).min()
    }

    /// Takes what the server wrote off the network, and sends it on its way to the clients.
    pub(super) fn collect(&mut self) {
        let mut index = 0;
        while let Some(&link) = self.live.get(index) {
            if self.collect_one(link) {
                index += 1;
            } else {
                self.links[link].gone = true;
                self.live.remove(index);
            }
        }
    }

    /// All connections break, as their server is gone.
    pub(super) fn lose_all(&mut self) {
        for link in std::mem::take(&mut self.live) {
            self.links[link].gone = true;
            if self.links[link].habits.vanished {
                continue;
            }
            let at =
                self.now.instant + Duration::from_micros(100 + self.links[link].random.below(100_000) as u64);
            self.links[link].end_told = true;
            let at = at.max(self.links[link].last_down);
            self.push(at, Happening::DownEnd(link, End::Reset));
        }
    }

    /// From now on every connection behaves, and those that are dead are known to be.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        for link in self.live.clone() {
            let it = &mut self.links[link];
            let vanished = it.habits.vanished;
            let never_reads = it.habits.never_reads;
            it.habits = Habits { vanished, never_reads, ..Habits::default() };
            if let Some(client) = it.client.clone().filter(|_| !never_reads) {
                if vanished {
                    client.reset();
                } else {
                    client.window(64 << 10);
                    client.deliver_in(&[]);
                    client.accept_in(&[]);
                    client.read_limit(usize::MAX);
                }
            }
            if vanished {
                self.end(link, End::Reset);
            }
        }
    }

    /// Whether no connection is left.
    pub(super) fn is_quiet(&self) -> bool {
        self.live.is_empty()
    }

    /// Who still has connections, for reports.
    pub(super) fn left(&self) -> Vec<String> {
        self.live.iter().map(|link| format!("#{link} of {}", self.names[self.links[*link].owner])).collect()
    }

    fn push(&mut self, at: Instant, what: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse(Due { at: at.max(self.now.instant), sequence: self.sequence, what }));
    }

    /// What the faults make of a new connection.
    fn habits(&mut self, random: &mut Random) -> Habits {
        let mut habits = Habits { prompt: true, ..Habits::default() };
        if self.strikes(Fault::Delay, random) {
            let longest = random.one_of(&[1, 20, 300]);
            habits.delay = Some(Duration::from_millis(longest));
        }
        habits.coalesced = self.strikes(Fault::Coalesced, random);
        if self.strikes(Fault::SlowReader, random) {
            habits.rate = Some(1 + random.below(400));
        }
        // These are counted when they happen.
        let looms = |fault, random: &mut Random| !self.calm && self.faults.looms(fault, random);
        habits.spurious = looms(Fault::Spurious, random);
        habits.stalls = looms(Fault::Stall, random);
        habits.vanishes = looms(Fault::Vanish, random);
        let somewhere = |random: &mut Random| {
            let most = random.one_of(&[30, 400, 4000]);
            random.below(most) as u64
        };
        if looms(Fault::ResetSending, random) {
            habits.reset_sent = Some(somewhere(random));
        }
        if looms(Fault::ResetReceiving, random) {
            habits.reset_received = Some(somewhere(random));
        }
        habits.prompt = habits.rate.is_none() && !habits.stalls && !habits.vanishes;
        habits
    }

    fn accept(&mut self, link: LinkId) {
        let it = &self.links[link];
        if !self.accepts || it.generation != self.model.borrow().newest() || it.closed {
            return self.end(link, End::Refused);
        }
        if self.calm {
            // It was drawn in the storm.
            let it = &mut self.links[link];
            it.habits = Habits { never_reads: it.habits.never_reads, ..Habits::default() };
        }
        let machine = &mut self.machines[self.links[link].machine];
        let client = machine.sim.connect();
        if client.is_closed() {
            self.marks.hit("driver: refused");
            return self.end(link, End::Refused);
        }
        let mut random = self.links[link].random.clone();
        let prompt = &mut self.links[link].habits.prompt;
        if self.calm {
            *prompt = true;
        } else {
            let mut sizes = |fault, most: usize| {
                let strikes = self.faults.strikes(fault, &mut random);
                let sizes: Vec<usize> = (0..7).map(|_| 1 + random.below(most)).collect();
                strikes.then_some(sizes)
            };
            let (few, bytewise) = (sizes(Fault::Split, 40), sizes(Fault::Bytewise, 1));
            if let Some(sizes) = bytewise.or(few) {
                client.deliver_in(&sizes);
            }
            if let Some(sizes) = sizes(Fault::ShortWrite, 60) {
                client.accept_in(&sizes);
            }
            if self.faults.strikes(Fault::SmallWindow, &mut random) {
                client.window(1 + random.below(300));
            }
            if let Some(rate) = self.links[link].habits.rate {
                client.window(200);
                client.read_limit(rate);
            }
        }
        let it = &mut self.links[link];
        if it.habits.never_reads {
            client.window(1 + random.below(200));
            client.read_limit(0);
        }
        it.random = random;
        it.client = Some(client);
        self.live.push(link);
    }

    fn up(&mut self, link: LinkId, bytes: &[u8]) {
        let it = &mut self.links[link];
        let Some(client) = &it.client else { return };
        if it.gone || it.habits.vanished {
            return;
        }
        client.send(bytes);
        let random = &mut it.random;
        if it.habits.spurious && random.chance(300) {
            self.faults.count(Fault::Spurious);
            client.poke();
        }
        if it.habits.vanishes && random.chance(200) {
            self.faults.count(Fault::Vanish);
            it.habits.vanished = true;
            client.read_limit(0);
        }
        if it.habits.stalls && random.chance(150) {
            self.faults.count(Fault::Stall);
            client.read_limit(0);
            let until = self.now.instant + Duration::from_millis(500 + random.below(40_000) as u64);
            it.last_up = it.last_up.max(until);
            it.last_down = it.last_down.max(until);
            self.push(until, Happening::Read(link, usize::MAX));
        }
    }

    /// Tells the client how its connection ended.
    fn end(&mut self, link: LinkId, how: End) {
        let it = &mut self.links[link];
        if !std::mem::replace(&mut it.end_told, true) {
            let at = self.now.instant + Duration::from_micros(100);
            self.push(at, Happening::DownEnd(link, how));
        }
    }

    /// Returns whether there may be more to come.
    fn collect_one(&mut self, link: LinkId) -> bool {
        let it = &mut self.links[link];
        let Some(client) = it.client.clone() else { return false };
        let mut bytes = client.receive();
        let is_over = client.is_closed();
        if it.habits.vanished || it.habits.never_reads {
            return !is_over;
        }
        if !bytes.is_empty() {
            if it.closed {
                // Bytes for a socket that is closed.
                client.reset();
            }
            if let Some(rate) = it.habits.rate {
                let at = self.now.instant + Duration::from_millis(200);
                self.push(at, Happening::Read(link, rate));
            }
            let it = &mut self.links[link];
            let before = it.received;
            it.received += bytes.len() as u64;
            let cut = it.habits.reset_received.filter(|at| !self.calm && *at < it.received);
            if let Some(at) = cut {
                bytes.truncate(at.saturating_sub(before) as usize);
            }
            let at = self.arrival(link, false);
            self.push(at, Happening::Down(link, bytes));
            if cut.is_some() {
                self.links[link].habits.reset_received = None;
                self.faults.count(Fault::ResetReceiving);
                client.reset();
                self.end_at(link, at, End::Reset);
            }
        }
        if client.was_reset() {
            let at = self.arrival(link, false);
            self.end_at(link, at, End::Reset);
        } else if client.is_ended() {
            let at = self.arrival(link, false);
            self.end_at(link, at, End::Finished);
        }
        !is_over || !(self.links[link].end_told || self.links[link].deaf)
    }

    fn end_at(&mut self, link: LinkId, at: Instant, how: End) {
        if !std::mem::replace(&mut self.links[link].end_told, true) {
            self.push(at, Happening::DownEnd(link, how));
        }
    }

    /// When what is sent now arrives.
    fn arrival(&mut self, link: LinkId, up: bool) -> Instant {
        let Some(it) = self.links.get_mut(link) else { return self.now.instant };
        let mut at = self.now.instant + Duration::from_micros(20);
        if let Some(longest) = it.habits.delay {
            at = at + Duration::from_nanos(it.random.below(longest.as_nanos() as usize) as u64);
        }
        if up && it.habits.coalesced {
            // A twentieth of a second at a time.
            let grid = 50_000_000;
            at = Instant::from_nanos(at.as_nanos().div_ceil(grid) * grid);
        }
        let last = if up { &mut it.last_up } else { &mut it.last_down };
        *last = at.max(*last);
        *last
    }
}

/// Bytes for the transcript.
pub(super) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 300;
    let more =
        if bytes.len() > MOST { format!("\" and {} bytes more", bytes.len() - MOST) } else { String::new() };
    format!("{}{more}", bytes[..bytes.len().min(MOST)].escape_ascii())
}
