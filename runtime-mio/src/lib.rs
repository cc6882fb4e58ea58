//! Drives keepwatch servers over sockets with mio: one thread, one poll, edge-triggered.
//!
//! ```no_run
//! use keepwatch_mio::{Options, bind};
//! use keepwatch_protocol::Server;
//!
//! fn run(server: impl Server) -> std::io::Result<()> {
//!     let (runtime, handle) = bind(Options::new([([127, 0, 0, 1], 8080).into()]))?;
//!     println!("listening on {}", handle.local_addresses()[0]);
//!     runtime.serve(server) // until handle.shutdown(..)
//! }
//! ```
//!
//! [`connect`] runs a client, such as a `WebSocketClient`, over connections that it makes: the same loop, the other way round.
//!
//! Several threads serve the same addresses, each with a server of its own, when the runtime is [split](Runtime::split).
//!
//! All logic that is no system call is in the [`Driver`]. What is here maps its ids to sockets, makes the calls and waits:
//! one turn takes the events, accepts and makes some connections, and lets the driver take its turn.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use keepwatch_protocol::driver::{Io, Sockets};
use keepwatch_protocol::{ConnectionId, Driver, Now, Peer, Server, earliest};
use keepwatch_runtime::{Clock, Connecting, Control, Intake, Table, Turn, is_connected};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

pub use keepwatch_runtime::{Handle, Options};

/// The most connections accepted in one turn.
const ACCEPTS: usize = 256;
/// The most events taken in one turn.
const EVENTS: usize = 1024;

/// The token of the waker. Connections have their slots as tokens. Listeners count down from here, and behind them the sockets
/// that are being connected.
const WAKE: Token = Token(usize::MAX);

const fn token_below(index: usize) -> Token {
    Token(WAKE.0 - 1 - index)
}

/// Connects to each of the addresses, runs the server on these connections on this thread until they are gone, and gives it back.
/// For machines that are clients, such as [`WebSocketClient`](keepwatch_protocol::handler::WebSocketClient).
///
/// This is [`bind`] and [`Runtime::run`] with [`Options::connect`]; they have a [`Handle`] to stop it early.
///
/// While more than [`output_mark`](keepwatch_protocol::DriverConfig::output_mark) waits to be written on a connection, nothing is
/// read from it. Where both sides do that, and both send more than everything between them holds, neither goes on: a client of
/// large messages to a server that answers before it has read them to their end needs a mark above what it sends at once.
///
/// # Errors
///
/// An address cannot be connected to, or not within [`Options::connect_timeout`]: the error says which, and everything is
/// closed.
pub fn connect<S: Server>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    options: Options,
    server: S,
) -> io::Result<S> {
    let connect = addresses.into_iter().collect();
    let (runtime, _handle) = bind(Options { connect, ..options })?;
    runtime.run(server)
}

/// Listens on the addresses of the options. Connections wait until [`Runtime::serve`] takes them.
///
/// # Errors
///
/// An address cannot be listened on: the error says which.
pub fn bind(options: Options) -> io::Result<(Runtime, Handle)> {
    let poll = Poll::new()?;
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for (index, listener) in keepwatch_runtime::listen(&options)?.into_iter().enumerate() {
        addresses.push(listener.local_addr()?);
        let mut listener = TcpListener::from_std(listener);
        poll.registry().register(&mut listener, token_below(index), Interest::READABLE)?;
        listeners.push(listener);
    }
    let alarm = Alarm::of(&poll)?;
    let (handle, control) = Handle::new(addresses, Waker::from(Arc::clone(&alarm)));
    let clock = Clock::new();
    let (intake, connecting) = (Intake::new(listeners), Connecting::default());
    Ok((Runtime { poll, intake, connecting, alarm, control, clock, options }, handle))
}

/// Listening sockets, and what is needed to serve their connections.
#[derive(Debug)]
pub struct Runtime {
    poll: Poll,
    intake: Intake<TcpListener, Accepted>,
    connecting: Connecting<TcpStream>,
    alarm: Arc<Alarm>,
    control: Control,
    clock: Clock,
    options: Options,
}

type Accepted = (TcpStream, SocketAddr);

impl Runtime {
    /// Makes so many runtimes of this one, each to [serve](Self::serve) on a thread of its own, with a server of its own.
    ///
    /// The first listens. It hands each connection to the one that has the fewest, and serves its own share. All are stopped by
    /// the same [`Handle`], and each by itself if waiting fails: a program then has the handle stop the others. The options are
    /// those of each: [`connections`](keepwatch_protocol::DriverConfig::connections) too. Of one that listens nowhere the first
    /// has all connections, and the others end at once.
    ///
    /// ```no_run
    /// use std::num::NonZeroUsize;
    /// use std::thread;
    ///
    /// use keepwatch_mio::{Options, bind};
    /// use keepwatch_protocol::Server;
    ///
    /// fn run<S: Server + Send>(machine: impl Fn() -> S, threads: NonZeroUsize) -> std::io::Result<()> {
    ///     let (runtime, handle) = bind(Options::new([([127, 0, 0, 1], 8080).into()]))?;
    ///     thread::scope(|scope| {
    ///         let serve = |runtime: keepwatch_mio::Runtime| {
    ///             let server = machine();
    ///             let handle = &handle;
    ///             scope.spawn(move || runtime.serve(server).inspect_err(|_| handle.abort()))
    ///         };
    ///         let threads: Vec<_> = runtime.split(threads)?.into_iter().map(serve).collect();
    ///         threads.into_iter().try_for_each(|thread| thread.join().expect("no server panics"))
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// The system has no further poll.
    pub fn split(self, count: NonZeroUsize) -> io::Result<Vec<Self>> {
        let mut all = vec![self];
        for _ in 1..count.get() {
            let poll = Poll::new()?;
            let alarm = Alarm::of(&poll)?;
            let first = &all[0];
            let control = first.control.another(Waker::from(Arc::clone(&alarm)));
            let options = Options { listen: Vec::new(), connect: Vec::new(), ..first.options.clone() };
            let (intake, connecting) = (Intake::new([]), Connecting::default());
            let clock = first.clock;
            all.push(Self { poll, intake, connecting, alarm, control, clock, options });
        }
        Intake::share(all.iter_mut().map(|one| (&mut one.intake, Waker::from(Arc::clone(&one.alarm)))));
        Ok(all)
    }

    /// Runs the server on this thread until its [`Handle`] says stop and all connections are gone. One that listens nowhere also
    /// ends when all connections that it [made](Options::connect) are gone.
    ///
    /// # Errors
    ///
    /// The system cannot be waited on, or an address cannot be connected to.
    pub fn serve<S: Server>(self, server: S) -> io::Result<()> {
        self.run(server).map(drop)
    }

    /// The same, and gives the server back.
    ///
    /// # Errors
    ///
    /// Those of [`serve`](Self::serve).
    pub fn run<S: Server>(mut self, server: S) -> io::Result<S> {
        let mut driver = Driver::new(server, self.options.driver.clone());
        let mut connections = Connections::new(self.clock);
        let mut events = Events::with_capacity(EVENTS);
        let mut busy = true;
        driver.start(&Waker::from(Arc::clone(&self.alarm)), self.clock.now());
        self.begin_to_connect()?;
        loop {
            let timeout = if busy { Some(Duration::ZERO) } else { self.until_deadline(&driver) };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = self.clock.now();
            for event in &events {
                self.take(event, &connections, &mut driver, now);
            }
            self.accept(&mut connections, &mut driver, now);
            self.adopt(&mut connections, &mut driver, now)?;
            connections.turn.begin();
            let more = driver.turn(&mut connections, now);
            self.intake.released(std::mem::take(&mut connections.released));
            let none_comes = self.intake.is_empty() && self.connecting.is_empty();
            if driver.is_drained() || (none_comes && driver.connections() == 0) {
                return Ok(driver.into_server());
            }
            busy = more || self.intake.is_ready(now.instant);
        }
    }

    fn until_deadline<S: Server>(&self, driver: &Driver<S>) -> Option<Duration> {
        let deadline = earliest(driver.deadline(), self.intake.deadline());
        let deadline = earliest(deadline, self.connecting.deadline())?;
        Some(deadline.since(self.clock.instant()))
    }

    fn take<S: Server>(
        &mut self,
        event: &Event,
        connections: &Connections,
        driver: &mut Driver<S>,
        now: Now,
    ) {
        let token = event.token();
        if token == WAKE {
            // Before anything is looked at: who rings from here on is heard at the next turn. It is a swap because it must
            // see what was done before each ring that it takes away.
            self.alarm.rung.swap(false, Ordering::AcqRel);
            if let Some(grace) = self.control.take() {
                self.intake.close();
                self.connecting.close();
                driver.drain(now.instant + grace, now);
            }
            return driver.woken(now);
        }
        // Sockets are closed and accepted only after all events were taken, so the event is of the slot's owner.
        let Some(id) = connections.table.owner(token.0) else {
            let index = WAKE.0 - 1 - token.0;
            return match index.checked_sub(self.options.listen.len()) {
                None => self.intake.ready(index),
                Some(index) => self.connecting.ready(index),
            };
        };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            driver.readable(id);
        }
        if event.is_writable() || event.is_write_closed() || event.is_error() {
            driver.writable(id);
        }
        // The end is known, even if unread bytes are in front of it.
        if event.is_read_closed() {
            driver.hung_up(id, now);
        }
    }

    fn accept<S: Server>(&mut self, connections: &mut Connections, driver: &mut Driver<S>, now: Now) {
        let registry = self.poll.registry();
        self.intake.turn(ACCEPTS, now.instant, TcpListener::accept, |(mut stream, address)| {
            // One that is not taken is closed as it is dropped.
            let Some(id) = driver.accept(&Peer::at(address), now) else { return false };
            if let Err(error) = registry.register(&mut stream, Token(id.slot()), EDGES) {
                log::warn!("cannot wait for a connection: {error}");
                driver.failed(id, now);
            }
            connections.table.insert(id, stream);
            true
        });
    }

    fn begin_to_connect(&mut self) -> io::Result<()> {
        let (registry, first) = (self.poll.registry(), self.options.listen.len());
        let begun = Connecting::begin(&self.options, self.clock.instant(), |index, stream| {
            let mut stream = TcpStream::from_std(stream);
            registry.register(&mut stream, token_below(first + index), EDGES)?;
            Ok(stream)
        });
        self.connecting = begun?;
        Ok(())
    }

    /// Takes over the connections that are made.
    fn adopt<S: Server>(
        &mut self,
        connections: &mut Connections,
        driver: &mut Driver<S>,
        now: Now,
    ) -> io::Result<()> {
        let check = |stream: &mut TcpStream| is_connected(stream.take_error(), stream.peer_addr());
        while let Some((address, mut stream)) = self.connecting.next(now.instant, check)? {
            let Some(id) = driver.accept(&Peer::at(address), now) else { continue };
            // From here on its events are the connection's; one that came before is told again.
            self.poll.registry().reregister(&mut stream, Token(id.slot()), EDGES)?;
            connections.table.insert(id, stream);
            self.intake.joined();
        }
        Ok(())
    }
}

/// Once for the connection's whole life: edges of both kinds are kept by the driver until it wants them.
const EDGES: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Whether a read that leaves room says that the socket was empty, so that whatever comes later is an edge of its own: epoll(7)
/// says so of streams, and kqueue clears an event when it is taken. Elsewhere mio arms a socket again only when a call blocks.
/// (Behind urgent data, which HTTP does not know, a read may end early: what is left then comes with the next bytes.)
const TELLS_ALL_EDGES: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
));

/// The driver's way to the sockets.
#[derive(Debug)]
struct Connections {
    table: Table<TcpStream>,
    /// How many were closed in this turn.
    released: usize,
    turn: Turn,
}

impl Connections {
    fn new(clock: Clock) -> Self {
        Self { table: Table::default(), released: 0, turn: Turn::new(clock) }
    }
}

impl Sockets for Connections {
    fn read(&mut self, id: ConnectionId, into: &mut [u8]) -> Io {
        let Some(stream) = self.table.get_mut(id) else { return Io::Failed };
        match keepwatch_runtime::read(stream, into) {
            Io::Done(count @ 1..) if TELLS_ALL_EDGES && count < into.len() => Io::Drained(count),
            io => io,
        }
    }

    fn write(&mut self, id: ConnectionId, parts: &[&[u8]]) -> Io {
        self.table.get_mut(id).map_or(Io::Failed, |stream| keepwatch_runtime::write(stream, parts))
    }

    fn shutdown(&mut self, id: ConnectionId) {
        if let Some(stream) = self.table.get_mut(id) {
            // It fails only if the peer is gone, which reading will tell.
            let _gone = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.released += usize::from(self.table.remove(id).is_some());
    }

    fn turn_is_over(&mut self) -> bool {
        self.turn.is_over()
    }
}

/// Wakes the poll. Many wake-ups between two turns are one system call.
#[derive(Debug)]
struct Alarm {
    waking: mio::Waker,
    rung: AtomicBool,
}

impl Alarm {
    fn of(poll: &Poll) -> io::Result<Arc<Self>> {
        let waking = mio::Waker::new(poll.registry(), WAKE)?;
        Ok(Arc::new(Self { waking, rung: AtomicBool::new(false) }))
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            if let Err(error) = self.waking.wake() {
                self.rung.store(false, Ordering::Release);
                log::error!("cannot wake the server: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_costs_the_table_its_socket_and_its_id() {
        // In debug builds mio remembers which poll a socket is registered with.
        let expected = if cfg!(debug_assertions) { 24 } else { 12 };
        assert_eq!(Table::<TcpStream>::ENTRY, expected);
    }
}

/// The programs in the repository's pages, which compile and run with the tests.
#[cfg(all(doctest, feature = "watch"))]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/embedding.md")]
    struct Embedding;
}
