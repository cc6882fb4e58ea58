//! What the actors of a world have in common: the clock, the queue of what is to happen, the machines, and the network
//! between them and the clients with all its faults.

mod doors;
mod network;
mod queue;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use keepwatch_protocol::{Instant, Now};
use keepwatch_watch::{Handle, WatchServer};

use self::network::Link;
use self::queue::{Happening, Queue};
use super::breaker::Cut;
use super::faults::{Fault, Faults};
use super::limits::Tight;
use super::marks::Marks;
use super::model::{Model, Tapped};
use crate::client::Client;
use crate::random::Random;
use crate::sim::Sim;
use crate::trace::{Fnv, Step};

pub(super) use self::doors::Doors;
pub(super) use self::queue::{Call, Stage};

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
    /// What had happened on its connections when what it wrote was taken last.
    pub(super) collected: u64,
    /// More has happened since the time before.
    pub(super) is_fresh: bool,
}

/// Everything but the actors.
pub(super) struct Core {
    pub(super) now: Now,
    queue: Queue,
    pub(super) machines: Vec<Machine>,
    pub(super) model: Rc<RefCell<Model>>,
    links: Vec<Link>,
    live: Vec<LinkId>,
    /// Connections whose last byte is to come in the middle of a turn, or at the end of this step.
    withheld: Vec<LinkId>,
    pub(super) random: Random,
    pub(super) faults: Faults,
    /// What of the server is tight.
    pub(super) tight: Tight,
    pub(super) doors: Doors,
    /// When bytes of any client came last.
    pub(super) came: Instant,
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
    pub(super) fn new(now: Now, random: Random, faults: Faults, tight: Tight, transcript: bool) -> Self {
        Self {
            now,
            queue: Queue::default(),
            machines: Vec::new(),
            model: Rc::default(),
            links: Vec::new(),
            live: Vec::new(),
            withheld: Vec::new(),
            random,
            faults,
            tight,
            doors: Doors::default(),
            came: Instant::START,
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

    /// A new connection, from the actor's own address. It may be refused, or break at once, and its owner hears of that later.
    pub(super) fn connect(&mut self) -> LinkId {
        self.connect_from(IpAddr::from([10, 0, 0, 1 + self.current as u8]))
    }

    /// The same from any address.
    pub(super) fn connect_from(&mut self, address: IpAddr) -> LinkId {
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
            address,
            let_in: false,
            refusal: None,
            came: Instant::START,
            over: None,
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
            finished: false,
            chosen: false,
            gone: false,
        });
        self.say(|| format!("connects: #{link} from {address}"));
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
        if it.deaf && it.stubborn {
            self.marks.hit("half-close: sent behind the server's end");
        }
        let cut = it.habits.reset_sent.filter(|at| !calm && it.sent + bytes.len() as u64 >= *at);
        let bytes = match cut {
            Some(at) => &bytes[..(at - it.sent) as usize],
            None => bytes,
        };
        it.sent += bytes.len() as u64;
        let sent = it.sent;
        let at = self.arrival(link, true);
        self.push(at, Happening::Up(link, bytes.to_vec(), sent));
        if cut.is_some() {
            let it = &self.links[link];
            self.faults.count(if it.chosen { Fault::ResetAtByte } else { Fault::ResetSending });
            self.marks.byte(Cut::Sending, it.sent);
            self.push(at, Happening::Break(link));
        }
    }

    /// How many bytes were sent on this connection.
    pub(super) fn sent(&self, link: LinkId) -> u64 {
        self.links[link].sent
    }

    /// What is sent next on this connection leaves that much later.
    pub(super) fn hesitate(&mut self, link: LinkId, by: Duration) {
        let it = &mut self.links[link];
        it.last_up = it.last_up.max(self.now.instant + by);
    }

    /// The client ends its side.
    pub(super) fn finish(&mut self, link: LinkId) {
        self.say(|| format!("#{link} > its end"));
        self.links[link].finished = true;
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

    /// This new connection breaks when so many bytes of the client were sent.
    pub(super) fn break_sending(&mut self, link: LinkId, at: u64) {
        let it = &mut self.links[link];
        it.chosen = true;
        it.habits.reset_sent = Some(at);
    }

    /// This new connection breaks when so many bytes of the server have come.
    pub(super) fn break_receiving(&mut self, link: LinkId, at: u64) {
        let it = &mut self.links[link];
        it.chosen = true;
        it.habits.reset_received = Some(at);
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
        // A refusal is cut off where few may linger.
        let is_whole = it.let_in || !self.tight.lingering;
        it.habits.prompt
            && is_whole
            && it.generation == self.model.borrow().newest()
            && self.last_pause < since
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

    /// Whether the server ended the connection though it had been asked something: some of what the client sent at that time
    /// or later came strictly before the end.
    pub(super) fn was_asked(&self, link: LinkId, since: Instant) -> bool {
        let it = &self.links[link];
        it.came >= since && it.over.is_some_and(|over| it.came < over)
    }

    /// This connection, on which nothing was under way, was ended by the server before its time: it made room for somebody.
    pub(super) fn shed(&mut self, link: LinkId) -> Result<(), String> {
        let it = &self.links[link];
        self.doors.shed(it.machine, it.over.unwrap_or(self.now.instant))
    }

    /// Somebody was refused, as too much was under way on the server. Where there is much memory for it that cannot be.
    pub(super) fn no_room(&mut self, mark: &str) -> Result<(), String> {
        self.marks.hit(mark);
        self.faults.count(Fault::SmallBuffers);
        if self.tight.buffers {
            Ok(())
        } else {
            Err("too much is under way, and there is room for all of it".into())
        }
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
            let what = self.queue.pop(self.now.instant)?;
            self.happenings += 1;
            match what {
                Happening::Wake(actor) => return Some(Call::Wake(actor)),
                Happening::Stage(stage) => return Some(Call::Stage(stage)),
                Happening::Accept(link) => self.accept(link),
                Happening::Up(link, bytes, sent) => self.up(link, &bytes, sent),
                Happening::UpEnd(link) => {
                    self.release(link);
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
                        self.hash.write_many(&bytes);
                        if it.finished {
                            self.marks.hit("half-close: answered behind the client's end");
                        }
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
        let deadlines = self.machines.iter().filter_map(|machine| machine.sim.driver().deadline());
        deadlines.chain(self.queue.next()).min()
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
        self.queue.push(at.max(self.now.instant), what);
    }
}

/// Bytes for the transcript.
pub(super) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 300;
    let more =
        if bytes.len() > MOST { format!("\" and {} bytes more", bytes.len() - MOST) } else { String::new() };
    format!("{}{more}", bytes[..bytes.len().min(MOST)].escape_ascii())
}
