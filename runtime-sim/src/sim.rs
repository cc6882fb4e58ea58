//! The runtime itself: a driver, a network in memory, and a clock that moves only when it is told to.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use keepwatch_protocol::driver::Transform;
use keepwatch_protocol::{ConnectionId, Driver, DriverConfig, Instant, Now, Peer, Server, UnixMillis};

use crate::client::Client;
use crate::network::{Calls, Meanwhile, Network, Wire};
use crate::random::Random;
use crate::trace::{Step, Trace};

/// How a [`Sim`] behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SimConfig {
    /// The driver's limits and times.
    pub driver: DriverConfig,
    /// The time at the start. Default: 1994-11-06 08:49:37 UTC, the date in the examples of RFC 9110, so that a `Date` field
    /// reads `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub start: Now,
    /// Bytes that the network holds in each connection that the server wrote and the client has not read. Default: 64 KiB.
    pub window: usize,
    /// Whether the server side hears at once that a client ended its stream, even behind unread bytes, as with epoll; if
    /// not, only by reading. Default: `true`.
    pub reports_hang_up: bool,
    /// In which order the driver hears of events that happened together.
    pub order: Order,
    /// How many turns of the driver one call may take, and how many of them in a row may move nothing, before it is taken
    /// for spinning. Default: 1,000,000 and 1,000.
    pub turns: (u64, u64),
    /// How many steps the [`Trace`] keeps. Default: 100,000.
    pub trace_steps: usize,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            driver: DriverConfig::default(),
            start: Now::new(Instant::START, UnixMillis(784_111_777_000)),
            window: 64 << 10,
            reports_hang_up: true,
            order: Order::default(),
            turns: (1_000_000, 1_000),
            trace_steps: 100_000,
        }
    }
}

/// In which order the driver hears of events that happened together.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Order {
    /// As they happened.
    #[default]
    AsTheyCame,
    /// Drawn from a seed.
    Drawn(Random),
}

/// Why a simulation could not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SimError {
    /// Turn followed turn and nothing moved, or there was no end of it: a real runtime would burn a processor.
    Spinning {
        /// How many turns this call took.
        turns: u64,
    },
    /// Everything due was done, and the driver's deadline still lies in the past: a real runtime would never wait.
    DeadlinePassed {
        /// The deadline.
        deadline: Instant,
    },
    /// What was waited for did not happen in the given time.
    TimeOver {
        /// When the wait ended.
        at: Instant,
    },
    /// The driver used an id after it had closed the socket.
    StaleId(ConnectionId),
    /// The driver wrote to a socket whose writing side it had shut down.
    WroteAfterEnd(ConnectionId),
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spinning { turns } => write!(f, "the server spins: {turns} turns, and not idle"),
            Self::DeadlinePassed { deadline } => {
                write!(f, "the deadline {deadline:?} has passed and is not moved")
            }
            Self::TimeOver { at } => write!(f, "what was waited for had not happened at {at:?}"),
            Self::StaleId(id) => write!(f, "the driver used {id:?} after its socket was closed"),
            Self::WroteAfterEnd(id) => write!(f, "the driver wrote to {id:?} after it had shut it down"),
        }
    }
}

impl std::error::Error for SimError {}

/// A server running in memory, in virtual time. See the [crate](crate) for an example.
///
/// Nothing happens by itself: [`run`](Sim::run) does what can be done now, [`advance`](Sim::advance) lets time pass.
pub struct Sim<S> {
    driver: Driver<S>,
    network: Rc<RefCell<Network>>,
    now: Now,
    woken: Arc<Woken>,
    trace: Trace,
    misuse: Option<SimError>,
    meanwhile: Option<Box<Meanwhile>>,
    config: SimConfig,
}

impl<S: Server> Sim<S> {
    /// Starts a server.
    pub fn new(server: S) -> Self {
        Self::with_config(server, SimConfig::default())
    }

    /// Starts a server under these limits and habits.
    pub fn with_config(server: S, config: SimConfig) -> Self {
        let mut driver = Driver::new(server, config.driver.clone());
        let woken = Arc::new(Woken::default());
        driver.start(&Waker::from(Arc::clone(&woken)), config.start);
        Self {
            driver,
            network: Rc::default(),
            now: config.start,
            woken,
            trace: Trace::new(config.trace_steps),
            misuse: None,
            meanwhile: None,
            config,
        }
    }

    /// A client connects, from no address.
    pub fn connect(&mut self) -> Client {
        self.connect_from(&Peer::default())
    }

    /// A client connects from an address. If the driver does not take it, the client [is closed](Client::is_closed).
    pub fn connect_from(&mut self, peer: &Peer) -> Client {
        self.connect_transformed(peer, None)
    }

    /// A client connects, and there is a transformation (TLS) between the network and the server.
    pub fn connect_transformed(&mut self, peer: &Peer, transform: Option<Box<dyn Transform>>) -> Client {
        let mut network = self.network.borrow_mut();
        let index = network.wires.len();
        network.wires.push(Wire::new(self.config.window));
        drop(network);
        let accepted = self.driver.accept_transformed(peer, transform, self.now);
        let mut network = self.network.borrow_mut();
        network.progress += 1;
        match accepted {
            Some(id) => network.bind(index, id),
            None => network.wires[index].to_client.ended = true,
        }
        drop(network);
        self.trace.push(Step::Connect { client: index, accepted: accepted.is_some() });
        Client::new(Rc::clone(&self.network), index)
    }

    /// Does all that can be done at this time, until everything is idle.
    ///
    /// # Errors
    ///
    /// The driver spins: it never becomes idle. Or a deadline stays in the past.
    pub fn run(&mut self) -> Result<(), SimError> {
        let (most, most_idle) = self.config.turns;
        let (mut turns, mut idle_since) = (0, 0);
        let mut progress = self.network.borrow().progress;
        loop {
            let more = self.turn();
            turns += 1;
            let network = self.network.borrow();
            if network.progress != progress {
                (progress, idle_since) = (network.progress, turns);
            }
            let idle = !more && network.events.is_empty() && !self.woken.0.load(Ordering::Acquire);
            drop(network);
            if let Some(misuse) = self.misuse {
                return Err(misuse);
            }
            if idle {
                break;
            }
            if turns >= most || turns - idle_since >= most_idle {
                return Err(SimError::Spinning { turns });
            }
        }
        match self.driver.deadline() {
            Some(deadline) if deadline <= self.now.instant => Err(SimError::DeadlinePassed { deadline }),
            _ => Ok(()),
        }
    }

    /// Lets so much time pass, and does what is due on the way: the clock jumps from deadline to deadline.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run) has them, at any moment on the way.
    pub fn advance(&mut self, by: Duration) -> Result<(), SimError> {
        let end = self.now.instant + by;
        self.run_to(end, |_| false).map(|_held| ())
    }

    /// Lets time pass until the condition holds, which is looked at whenever everything is idle. Returns how long it took.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run) has them, and [`SimError::TimeOver`] when the condition did not hold within the limit.
    pub fn run_until(
        &mut self,
        condition: impl FnMut(&Self) -> bool,
        limit: Duration,
    ) -> Result<Duration, SimError> {
        let start = self.now.instant;
        if self.run_to(start + limit, condition)? {
            Ok(self.now.instant.since(start))
        } else {
            Err(SimError::TimeOver { at: self.now.instant })
        }
    }

    /// Moves the clock and lets the server do nothing meanwhile: as a step between two calls of [`run`](Sim::run) for whoever
    /// runs several servers on one clock, or as a process that was stopped for a while.
    pub fn skip(&mut self, by: Duration) {
        self.now = self.now.later(by);
        self.trace.push(Step::Time(self.now.instant));
    }

    /// Others who do something in the middle of the server's turns.
    #[cfg(feature = "watch")]
    pub(crate) fn set_meanwhile(&mut self, meanwhile: Box<Meanwhile>) {
        self.meanwhile = Some(meanwhile);
    }

    /// Grows whenever something happens on any connection, at either end.
    #[cfg(feature = "watch")]
    pub(crate) fn activity(&self) -> u64 {
        let network = self.network.borrow();
        network.progress + network.touches
    }

    /// Whether [`run`](Sim::run) would find nothing to do before the next deadline.
    pub fn is_idle(&self) -> bool {
        self.network.borrow().events.is_empty() && !self.woken.0.load(Ordering::Acquire)
    }

    /// Begins to drain the server, as SIGTERM does; time is for the caller to move.
    pub fn start_drain(&mut self, grace: Duration) {
        self.driver.drain(self.now.instant + grace, self.now);
    }

    /// Drains the server, as SIGTERM does, and runs it until it has no connections or the time is over.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run) has them, and [`SimError::TimeOver`] when connections are left.
    pub fn drain(&mut self, grace: Duration) -> Result<Duration, SimError> {
        self.start_drain(grace);
        // The driver closes at the end of the time what is left; that takes it a moment.
        self.run_until(|sim| sim.driver.is_drained(), grace + Duration::from_secs(1))
    }

    /// The wall clock jumps; deadlines do not depend on it.
    pub fn set_unix(&mut self, unix: UnixMillis) {
        self.now.unix = unix;
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The server.
    pub fn server(&self) -> &S {
        self.driver.server()
    }

    /// The server, to talk to it as the rest of its program would. Afterwards, [`run`](Sim::run).
    pub fn server_mut(&mut self) -> &mut S {
        self.driver.server_mut()
    }

    /// The driver.
    pub fn driver(&self) -> &Driver<S> {
        &self.driver
    }

    /// What has happened.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Runs, jumping from deadline to deadline, until the condition holds or the time has come. Returns whether it held.
    fn run_to(&mut self, end: Instant, mut condition: impl FnMut(&Self) -> bool) -> Result<bool, SimError> {
        loop {
            self.run()?;
            if condition(self) {
                return Ok(true);
            }
            if self.now.instant >= end {
                return Ok(false);
            }
            let next = self.driver.deadline().map_or(end, |next| next.min(end));
            self.now = self.now.later(next.since(self.now.instant));
            self.trace.push(Step::Time(self.now.instant));
        }
    }

    /// Tells the driver what happened, and lets it take a turn. Returns whether it has more to do.
    fn turn(&mut self) -> bool {
        if self.woken.0.swap(false, Ordering::AcqRel) {
            self.driver.woken(self.now);
        }
        // Only those that are there now: what the driver is told changes nothing in the network.
        let events = self.network.borrow().events.len();
        for left in (1..=events).rev() {
            let index = match &mut self.config.order {
                Order::AsTheyCame => 0,
                Order::Drawn(random) => random.below(left),
            };
            let event = self.network.borrow_mut().take_event(index);
            let Some(event) = event else { continue };
            if event.readable {
                self.driver.readable(event.id);
            }
            if event.writable {
                self.driver.writable(event.id);
            }
            if event.hung_up && self.config.reports_hang_up {
                self.driver.hung_up(event.id, self.now);
            }
        }
        let mut calls = Calls {
            network: &self.network,
            trace: &mut self.trace,
            misuse: &mut self.misuse,
            meanwhile: self.meanwhile.as_deref_mut(),
            reports_hang_up: self.config.reports_hang_up,
        };
        self.driver.turn(&mut calls, self.now)
    }
}

impl<S> fmt::Debug for Sim<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = self.network.borrow().wires.len();
        write!(f, "Sim({clients} clients, at {:?})", self.now.instant)
    }
}

/// What the server's waker wakes.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}
