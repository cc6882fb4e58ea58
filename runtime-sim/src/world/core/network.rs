//! The network between clients and machines, with all its faults.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use keepwatch_protocol::{Instant, Peer};

use super::super::breaker::Cut;
use super::super::faults::Fault;
use super::super::others::LastByte;
use super::doors::{Refused, is_refusal};
use super::queue::Happening;
use super::{Core, End, LinkId};
use crate::client::Client;
use crate::random::Random;

/// A connection between a client and a machine.
pub(super) struct Link {
    pub(super) owner: usize,
    pub(super) machine: usize,
    pub(super) address: IpAddr,
    /// The server let it in, and has not ended it.
    pub(super) let_in: bool,
    /// The server did not, and said this.
    pub(super) refusal: Option<Vec<u8>>,
    /// When bytes of the client came last.
    pub(super) came: Instant,
    /// When the server ended its side, or all of it.
    pub(super) over: Option<Instant>,
    pub(super) generation: usize,
    pub(super) client: Option<Client>,
    pub(super) random: Random,
    pub(super) habits: Habits,
    pub(super) opened: Instant,
    pub(super) accepted: Instant,
    /// Nothing arrives before what was sent before it.
    pub(super) last_up: Instant,
    pub(super) last_down: Instant,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// The client hears no more of it.
    pub(super) deaf: bool,
    /// The client was told, or will be, how it ended.
    pub(super) end_told: bool,
    /// The client closed it for good: what still arrives is answered with a reset.
    pub(super) closed: bool,
    /// The client does not close when the server has.
    pub(super) stubborn: bool,
    /// The client ended its side, and reads on.
    pub(super) finished: bool,
    /// Where it breaks was chosen, and not drawn.
    pub(super) chosen: bool,
    pub(super) gone: bool,
}

/// How a connection behaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Habits {
    pub(super) delay: Option<Duration>,
    pub(super) coalesced: bool,
    /// Bytes that the client reads in a fifth of a second.
    pub(super) rate: Option<usize>,
    pub(super) reset_sent: Option<u64>,
    pub(super) reset_received: Option<u64>,
    pub(super) spurious: bool,
    pub(super) stalls: bool,
    pub(super) vanishes: bool,
    pub(super) vanished: bool,
    pub(super) never_reads: bool,
    /// Nothing of it can delay an answer by more than moments.
    pub(super) prompt: bool,
}

impl Core {
    /// What the faults make of a new connection.
    pub(super) fn habits(&mut self, random: &mut Random) -> Habits {
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

    pub(super) fn accept(&mut self, link: LinkId) {
        let it = &self.links[link];
        if !self.accepts || it.generation != self.model.borrow().newest() || it.closed {
            return self.end(link, End::Refused);
        }
        if self.calm {
            // It was drawn in the storm.
            let it = &mut self.links[link];
            it.habits = Habits { never_reads: it.habits.never_reads, ..Habits::default() };
        }
        let Some(client) = self.enter(link) else {
            self.marks.hit("driver: refused");
            return self.end(link, End::Refused);
        };
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

    /// It comes to its machine, which lets it in as long as there is room, or refuses it with an answer. `None`: the driver has
    /// no room for so much.
    fn enter(&mut self, link: LinkId) -> Option<Client> {
        let it = &self.links[link];
        let (address, index) = (it.address, it.machine);
        let sim = &mut self.machines[index].sim;
        let before = sim.server().usage().connections;
        let client = sim.connect_from(&Peer::at(SocketAddr::new(address, 1024)));
        let let_in = sim.server().usage().connections > before;
        if client.is_closed() {
            // It may have been refused, without an answer as so many linger.
            self.doors.wants_room(index, self.now.instant);
            return None;
        }
        let expected = self.doors.come(address, index, self.now.instant);
        if let_in != expected.is_ok() {
            let taken = self.doors.taken();
            self.fail(format!(
                "#{link} from {address} is let in: {let_in}, and with {taken} there it is {expected:?}"
            ));
        }
        let it = &mut self.links[link];
        it.let_in = let_in;
        if let Err(why) = expected {
            it.refusal = Some(Vec::new());
            let (mark, tight, fault) = match why {
                Refused::All => ("refused: of all", self.tight.places, Fault::FewPlaces),
                Refused::Address => ("refused: of an address", self.tight.of_address, Fault::FewOfAddress),
            };
            self.marks.hit(mark);
            if tight {
                self.faults.count(fault);
            }
            self.say(|| format!("#{link} is refused: {why:?}"));
        }
        Some(client)
    }

    pub(super) fn up(&mut self, link: LinkId, bytes: &[u8], sent: u64) {
        self.release(link);
        let it = &mut self.links[link];
        let Some(client) = &it.client else { return };
        if it.gone || it.habits.vanished {
            return;
        }
        it.came = self.now.instant;
        self.came = self.now.instant;
        let withheld = !self.calm && bytes.len() > 1 && self.faults.looms(Fault::LastByte, &mut it.random);
        if let (true, Some((last, rest))) = (withheld, bytes.split_last()) {
            client.send(rest);
            let last = LastByte { link, byte: *last, at: sent };
            self.model.borrow_mut().others.withhold(it.machine, client.number(), last);
            self.withheld.push(link);
        } else {
            client.send(bytes);
        }
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

    /// What did not come in the middle of a turn comes now.
    pub(super) fn release(&mut self, link: LinkId) {
        let it = &self.links[link];
        if let Some(client) = &it.client {
            let last = self.model.borrow_mut().others.release(it.machine, client.number());
            if let Some(byte) = last {
                client.send([byte]);
            }
        }
    }

    /// The same for all connections. Returns whether there were any.
    pub(in super::super) fn release_all(&mut self) -> bool {
        let withheld = std::mem::take(&mut self.withheld);
        for link in &withheld {
            self.release(*link);
        }
        !withheld.is_empty()
    }

    /// Takes what the server wrote off the network, and sends it on its way to the clients.
    pub(in super::super) fn collect(&mut self) {
        for machine in &mut self.machines {
            let activity = machine.sim.activity();
            machine.is_fresh = std::mem::replace(&mut machine.collected, activity) != activity;
        }
        let mut index = 0;
        while let Some(&link) = self.live.get(index) {
            // Where nothing happened there is nothing to take.
            let machine = self.machines.get(self.links[link].machine);
            let is_fresh = machine.is_none_or(|machine| machine.is_fresh);
            if !is_fresh || self.collect_one(link) {
                index += 1;
            } else {
                self.links[link].gone = true;
                self.live.remove(index);
            }
        }
    }

    /// Returns whether there may be more to come.
    fn collect_one(&mut self, link: LinkId) -> bool {
        let it = &mut self.links[link];
        let Some(client) = it.client.clone() else { return false };
        let mut bytes = client.receive();
        let is_over = client.is_closed();
        if it.over.is_none() && client.is_ending() {
            it.over = Some(self.now.instant);
            if std::mem::take(&mut it.let_in) {
                self.doors.leave(it.address);
            }
        }
        if let Some(refusal) = &mut it.refusal {
            refusal.extend(&bytes);
            if client.is_ended() && !client.was_reset() && !client.is_broken() {
                let result = is_refusal(&it.refusal.take().unwrap_or_default(), self.tight.lingering);
                self.check(result);
            }
        }
        let it = &mut self.links[link];
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
            let arrival = self.arrival(link, false);
            self.push(arrival, Happening::Down(link, bytes));
            if cut.is_some() {
                let it = &mut self.links[link];
                let at = it.habits.reset_received.take().unwrap_or_default();
                self.faults.count(if it.chosen { Fault::ResetAtAnswer } else { Fault::ResetReceiving });
                self.marks.byte(Cut::Receiving, at);
                client.reset();
                self.end_at(link, arrival, End::Reset);
            }
        }
        // Said once, so that nothing is drawn for it again.
        let how =
            if client.was_reset() { Some(End::Reset) } else { client.is_ended().then_some(End::Finished) };
        if let (Some(how), false) = (how, self.links[link].end_told) {
            let at = self.arrival(link, false);
            self.end_at(link, at, how);
        }
        !is_over || !(self.links[link].end_told || self.links[link].deaf)
    }

    /// From now on every connection behaves, and those that are dead are known to be.
    pub(in super::super) fn calm_down(&mut self) {
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

    /// All connections break, as their server is gone.
    pub(in super::super) fn lose_all(&mut self) {
        self.release_all();
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

    /// Tells the client how its connection ended.
    pub(super) fn end(&mut self, link: LinkId, how: End) {
        let it = &mut self.links[link];
        if !std::mem::replace(&mut it.end_told, true) {
            let at = self.now.instant + Duration::from_micros(100);
            self.push(at, Happening::DownEnd(link, how));
        }
    }

    fn end_at(&mut self, link: LinkId, at: Instant, how: End) {
        if !std::mem::replace(&mut self.links[link].end_told, true) {
            self.push(at, Happening::DownEnd(link, how));
        }
    }

    /// When what is sent now arrives.
    pub(super) fn arrival(&mut self, link: LinkId, up: bool) -> Instant {
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
