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
//! All logic that is no system call is in the [`Driver`]. What is here maps its ids to sockets, makes the calls and waits:
//! one turn takes the events, accepts some connections, and lets the driver take its turn.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use keepwatch_protocol::driver::{Io, Sockets};
use keepwatch_protocol::{ConnectionId, Driver, DriverConfig, Now, Peer, Server, earliest};
use keepwatch_runtime::{Clock, Control, Listeners, Table};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

pub use keepwatch_runtime::{Handle, Options};

/// The most connections accepted in one turn.
const ACCEPTS: usize = 256;
/// The most events taken in one turn.
const EVENTS: usize = 1024;

/// The token of the waker. Connections have their slots as tokens, and listeners count down from here.
const WAKE: Token = Token(usize::MAX);

const fn listener_token(index: usize) -> Token {
    Token(WAKE.0 - 1 - index)
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
        poll.registry().register(&mut listener, listener_token(index), Interest::READABLE)?;
        listeners.push(listener);
    }
    let waking = mio::Waker::new(poll.registry(), WAKE)?;
    let alarm = Arc::new(Alarm { waking, rung: AtomicBool::new(false) });
    let (handle, control) = Handle::new(addresses, Waker::from(Arc::clone(&alarm)));
    let clock = Clock::new();
    let listeners = Listeners::new(listeners);
    Ok((Runtime { poll, listeners, alarm, control, clock, config: options.driver }, handle))
}

/// Listening sockets, and what is needed to serve their connections.
#[derive(Debug)]
pub struct Runtime {
    poll: Poll,
    listeners: Listeners<TcpListener>,
    alarm: Arc<Alarm>,
    control: Control,
    clock: Clock,
    config: DriverConfig,
}

impl Runtime {
    /// Runs the server on this thread until its [`Handle`] says stop and all connections are gone.
    ///
    /// # Errors
    ///
    /// The system cannot be waited on.
    pub fn serve<S: Server>(mut self, server: S) -> io::Result<()> {
        let mut driver = Driver::new(server, self.config.clone());
        let mut connections = Connections::default();
        let mut events = Events::with_capacity(EVENTS);
        let mut busy = true;
        driver.start(&Waker::from(Arc::clone(&self.alarm)), self.clock.now());
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
            let more = driver.turn(&mut connections, now);
            if connections.released {
                connections.released = false;
                self.listeners.released();
            }
            if driver.is_drained() {
                return Ok(());
            }
            busy = more || self.listeners.is_ready(now.instant);
        }
    }

    fn until_deadline<S: Server>(&self, driver: &Driver<S>) -> Option<Duration> {
        let deadline = earliest(driver.deadline(), self.listeners.deadline())?;
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
                self.listeners.close();
                driver.drain(now.instant + grace, now);
            }
            return driver.woken(now);
        }
        // Sockets are closed and accepted only after all events were taken, so the event is of the slot's owner.
        let Some(id) = connections.table.owner(token.0) else {
            return self.listeners.ready(WAKE.0 - 1 - token.0);
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
        for _ in 0..ACCEPTS {
            let accepted = self.listeners.accept(now.instant, |listener, _| listener.accept());
            let Some((mut stream, address)) = accepted else { return };
            // One that is not taken is closed as it is dropped.
            let Some(id) = driver.accept(&Peer::at(address), now) else { continue };
            if let Err(error) = register(self.poll.registry(), &mut stream, id) {
                log::warn!("cannot wait for a connection: {error}");
                driver.failed(id, now);
            }
            connections.table.insert(id, stream);
        }
    }
}

/// Once for the connection's whole life: edges of both kinds are kept by the driver until it wants them.
fn register(registry: &Registry, stream: &mut TcpStream, id: ConnectionId) -> io::Result<()> {
    registry.register(stream, Token(id.slot()), Interest::READABLE | Interest::WRITABLE)
}

/// The driver's way to the sockets.
#[derive(Debug, Default)]
struct Connections {
    table: Table<TcpStream>,
    /// Whether one was closed in this turn.
    released: bool,
}

impl Sockets for Connections {
    fn read(&mut self, id: ConnectionId, into: &mut [u8]) -> Io {
        self.table.get_mut(id).map_or(Io::Failed, |stream| keepwatch_runtime::read(stream, into))
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
        self.released |= self.table.remove(id).is_some();
    }
}

/// Wakes the poll. Many wake-ups between two turns are one system call.
#[derive(Debug)]
struct Alarm {
    waking: mio::Waker,
    rung: AtomicBool,
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

/// The programs in the repository's pages, which compile and run with the tests.
#[cfg(all(doctest, feature = "watch"))]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/embedding.md")]
    struct Embedding;
}
