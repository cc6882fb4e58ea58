//! Drives keepwatch servers over sockets with smol: the whole server is one future.
//!
//! ```no_run
//! use keepwatch_protocol::Server;
//! use keepwatch_smol::{Options, bind};
//!
//! fn run(server: impl Server) -> std::io::Result<()> {
//!     let (runtime, handle) = bind(Options::new([([127, 0, 0, 1], 8080).into()]))?;
//!     println!("listening on {}", handle.local_addresses()[0]);
//!     smol::block_on(runtime.serve(server)) // until handle.shutdown(..)
//! }
//! ```
//!
//! [`connect`] runs a client, such as a `WebSocketClient`, over connections that it makes: the same future, the other way round.
//!
//! Nothing is spawned, so any executor can run it, and dropping it closes everything. Each connection has a waker of its own,
//! which notes whose it is and wakes the one future; the future notes all that were woken, and lets the [`Driver`], which holds
//! all logic that is no system call, take its turn. That costs less than a task for each connection, and the server needs no
//! lock.
//!
//! smol's reactor arms a socket anew for each wait, so a read or a write is tried first, and waited for only if it would block.
#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use keepwatch_protocol::driver::{Io, Sockets};
use keepwatch_protocol::{ConnectionId, Driver, Instant, Now, Peer, Server, earliest};
use keepwatch_runtime::{Clock, Connecting, Control, Intake, Table, Turn, is_connected};
use smol::io::{AsyncRead, AsyncWrite};
use smol::{Async, Timer};

pub use keepwatch_runtime::{Handle, Options};

/// The most connections accepted in one turn.
const ACCEPTS: usize = 256;

/// Connects to each of the addresses, runs the server on these connections until they are gone, and gives it back. For machines
/// that are clients, such as [`WebSocketClient`](keepwatch_protocol::handler::WebSocketClient).
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
pub async fn connect<S: Server>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    options: Options,
    server: S,
) -> io::Result<S> {
    let connect = addresses.into_iter().collect();
    let (runtime, _handle) = bind(Options { connect, ..options })?;
    runtime.run(server).await
}

/// Listens on the addresses of the options. Connections wait until [`Runtime::serve`] takes them.
///
/// # Errors
///
/// An address cannot be listened on: the error says which.
pub fn bind(options: Options) -> io::Result<(Runtime, Handle)> {
    let news = Arc::new(News::default());
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for (index, listener) in keepwatch_runtime::listen(&options)?.into_iter().enumerate() {
        addresses.push(listener.local_addr()?);
        listeners.push(Waited { socket: Async::new(listener)?, waker: news.waker(Of::Listener(index)) });
    }
    let (handle, control) = Handle::new(addresses, news.waker(Of::Handle));
    let (intake, connecting) = (Intake::new(listeners), Connecting::default());
    Ok((Runtime { intake, connecting, news, control, clock: Clock::new(), options }, handle))
}

/// Listening sockets, and what is needed to serve their connections.
#[derive(Debug)]
pub struct Runtime {
    intake: Intake<Waited<TcpListener>, Accepted>,
    connecting: Connecting<Waited<TcpStream>>,
    news: Arc<News>,
    control: Control,
    clock: Clock,
    options: Options,
}

type Accepted = (TcpStream, SocketAddr);

impl Runtime {
    /// Makes so many runtimes of this one, each to [serve](Self::serve) a server of its own, on a thread of its own.
    ///
    /// The first listens. It hands each connection to the one that has the fewest, and serves its own share. All are stopped by
    /// the same [`Handle`]. The options are those of each: [`connections`](keepwatch_protocol::DriverConfig::connections) too. Of
    /// one that listens nowhere the first has all connections, and the others end at once.
    ///
    /// The reactor stays one for the process: all wait for their sockets there, and the threads take turns in waiting for it.
    #[must_use]
    pub fn split(self, count: NonZeroUsize) -> Vec<Self> {
        let mut all = vec![self];
        for _ in 1..count.get() {
            let first = &all[0];
            let news = Arc::new(News::default());
            let control = first.control.another(news.waker(Of::Handle));
            let options = Options { listen: Vec::new(), connect: Vec::new(), ..first.options.clone() };
            let (intake, connecting) = (Intake::new([]), Connecting::default());
            let clock = first.clock;
            all.push(Self { intake, connecting, news, control, clock, options });
        }
        Intake::share(all.iter_mut().map(|one| (&mut one.intake, one.news.waker(Of::Handle))));
        all
    }

    /// Runs the server until its [`Handle`] says stop and all connections are gone. One that listens nowhere also ends when all
    /// connections that it [made](Options::connect) are gone. Dropped earlier, it closes everything at once, and the server with
    /// it.
    ///
    /// # Errors
    ///
    /// An address cannot be connected to.
    pub async fn serve<S: Server>(self, server: S) -> io::Result<()> {
        self.run(server).await.map(drop)
    }

    /// The same, and gives the server back.
    ///
    /// # Errors
    ///
    /// Those of [`serve`](Self::serve).
    pub async fn run<S: Server>(self, server: S) -> io::Result<S> {
        let mut serving = Serving {
            driver: Driver::new(server, self.options.driver.clone()),
            connections: Connections::new(self.clock),
            woken: Vec::new(),
            timer: Timer::never(),
            armed: None,
            runtime: self,
        };
        let waker = serving.runtime.news.waker(Of::Handle);
        serving.driver.start(&waker, serving.runtime.clock.now());
        serving.begin_to_connect()?;
        poll_fn(|task| serving.turn(task)).await?;
        Ok(serving.driver.into_server())
    }
}

/// The future's state.
struct Serving<S> {
    runtime: Runtime,
    driver: Driver<S>,
    connections: Connections,
    /// Whose wakers were woken; empty between turns.
    woken: Vec<Of>,
    timer: Timer,
    /// When the timer fires: never later than the next deadline.
    armed: Option<Instant>,
}

impl<S: Server> Serving<S> {
    fn turn(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = self.runtime.clock.now();
        self.runtime.news.take(&mut self.woken, task.waker());
        let mut woken = std::mem::take(&mut self.woken);
        for of in woken.drain(..) {
            self.hear(of, now);
        }
        self.woken = woken;
        self.accept(now);
        self.adopt(now)?;
        self.connections.turn.begin();
        let more = self.driver.turn(&mut self.connections, now);
        let Runtime { intake, connecting, .. } = &mut self.runtime;
        intake.released(std::mem::take(&mut self.connections.released));
        let none_comes = intake.is_empty() && connecting.is_empty();
        if self.driver.is_drained() || (none_comes && self.driver.connections() == 0) {
            return Poll::Ready(Ok(()));
        }
        let due = self.wait_for_deadline(task);
        if more || due || self.runtime.intake.is_ready(now.instant) {
            // The executor looks for events in between, and lets others have their turn.
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn hear(&mut self, of: Of, now: Now) {
        match of {
            // One waker for both: an attempt that was not due is one more call, a second waker would be memory for ever.
            Of::Connection(id) => {
                self.driver.readable(id);
                self.driver.writable(id);
            }
            Of::Listener(index) => self.runtime.intake.ready(index),
            Of::Connecting(index) => self.runtime.connecting.ready(index),
            Of::Handle => {
                if let Some(grace) = self.runtime.control.take() {
                    self.runtime.intake.close();
                    self.runtime.connecting.close();
                    self.driver.drain(now.instant + grace, now);
                }
                self.driver.woken(now);
            }
        }
    }

    fn accept(&mut self, now: Now) {
        let Self { runtime: Runtime { intake, news, .. }, driver, connections, .. } = self;
        intake.turn(ACCEPTS, now.instant, Waited::accept, |(stream, address)| {
            // One that is not taken is closed as it is dropped.
            let Some(id) = driver.accept(&Peer::at(address), now) else { return false };
            match Async::new(stream) {
                Ok(socket) => {
                    let waker = news.waker(Of::Connection(id));
                    connections.table.insert(id, Waited { socket, waker });
                }
                Err(error) => {
                    log::warn!("cannot wait for a connection: {error}");
                    driver.failed(id, now);
                    connections.released += 1;
                }
            }
            true
        });
    }

    fn begin_to_connect(&mut self) -> io::Result<()> {
        let Runtime { news, options, clock, .. } = &self.runtime;
        let begun = Connecting::begin(options, clock.instant(), |index, stream| {
            Ok(Waited { socket: Async::new(stream)?, waker: news.waker(Of::Connecting(index)) })
        });
        self.runtime.connecting = begun?;
        Ok(())
    }

    /// Takes over the connections that are made.
    fn adopt(&mut self, now: Now) -> io::Result<()> {
        while let Some((address, made)) = self.runtime.connecting.next(now.instant, Waited::is_connected)? {
            let Some(id) = self.driver.accept(&Peer::at(address), now) else { continue };
            let waker = self.runtime.news.waker(Of::Connection(id));
            self.connections.table.insert(id, Waited { waker, ..made });
            self.runtime.intake.joined();
        }
        Ok(())
    }

    /// Has the timer wake the task at the next deadline at the latest, and says whether it fired. Deadlines mostly move away,
    /// and each move of a timer takes a lock of the whole process: one that fires early is moved then.
    fn wait_for_deadline(&mut self, task: &mut Context<'_>) -> bool {
        let deadline = earliest(self.driver.deadline(), self.runtime.intake.deadline());
        let deadline = earliest(deadline, self.runtime.connecting.deadline());
        if let Some(at) = deadline.filter(|&at| self.armed.is_none_or(|armed| at < armed)) {
            if let Some(std) = self.runtime.clock.to_std(at) {
                self.timer.set_at(std);
                self.armed = Some(at);
            }
        }
        let fired = self.armed.is_some() && Pin::new(&mut self.timer).poll(task).is_ready();
        if fired {
            self.armed = None;
        }
        fired
    }
}

/// The driver's way to the sockets.
struct Connections {
    table: Table<Waited<TcpStream>>,
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
        match keepwatch_runtime::read(&mut *stream, into) {
            // The socket was empty. It is waited for at once, without the read that would only say so.
            Io::Done(count @ 1..) if count < into.len() && stream.waits_to_be_readable() => {
                Io::Drained(count)
            }
            io => io,
        }
    }

    fn write(&mut self, id: ConnectionId, parts: &[&[u8]]) -> Io {
        self.table.get_mut(id).map_or(Io::Failed, |stream| keepwatch_runtime::write(stream, parts))
    }

    fn shutdown(&mut self, id: ConnectionId) {
        if let Some(stream) = self.table.get_mut(id) {
            // It fails only if the peer is gone, which reading will tell.
            let _gone = stream.socket.get_ref().shutdown(std::net::Shutdown::Write);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.released += usize::from(self.table.remove(id).is_some());
    }

    fn turn_is_over(&mut self) -> bool {
        self.turn.is_over()
    }
}

/// A socket, and the waker that names it. A call that would block leaves the waker with the reactor.
#[derive(Debug)]
struct Waited<T> {
    socket: Async<T>,
    waker: Waker,
}

impl Waited<TcpListener> {
    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let result = self.socket.get_ref().accept();
            let blocks = result.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            if !blocks || self.socket.poll_readable(&mut Context::from_waker(&self.waker)).is_pending() {
                return result;
            }
        }
    }
}

impl Waited<TcpStream> {
    /// Leaves the waker with the reactor; what came meanwhile wakes it too. `false` if it could not.
    fn waits_to_be_readable(&self) -> bool {
        // The first look may only find the event that led here.
        let context = &mut Context::from_waker(&self.waker);
        (0..2).any(|_| self.socket.poll_readable(context).is_pending())
    }

    fn is_connected(&mut self) -> io::Result<bool> {
        loop {
            let stream = self.socket.get_ref();
            if is_connected(stream.take_error(), stream.peer_addr())? {
                return Ok(true);
            }
            match self.socket.poll_writable(&mut Context::from_waker(&self.waker)) {
                Poll::Ready(waited) => waited?,
                Poll::Pending => return Ok(false),
            }
        }
    }
}

impl Read for Waited<TcpStream> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let context = &mut Context::from_waker(&self.waker);
        or_would_block(Pin::new(&mut self.socket).poll_read(context, into))
    }
}

impl Write for Waited<TcpStream> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let context = &mut Context::from_waker(&self.waker);
        or_would_block(Pin::new(&mut self.socket).poll_write(context, bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let context = &mut Context::from_waker(&self.waker);
        or_would_block(Pin::new(&mut self.socket).poll_write_vectored(context, parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

/// What a waker is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Connection(ConnectionId),
    Listener(usize),
    /// A socket that is being connected.
    Connecting(usize),
    /// The runtime's handles, and the server's other threads.
    Handle,
}

/// What was woken since the future was polled last, and how to have it polled.
#[derive(Debug, Default)]
struct News {
    state: Mutex<NewsState>,
}

#[derive(Debug, Default)]
struct NewsState {
    woken: Vec<Of>,
    /// Other threads may wake any number of times between two turns.
    handle: bool,
    /// Taken by the first that wakes.
    task: Option<Waker>,
}

impl News {
    fn waker(self: &Arc<Self>, of: Of) -> Waker {
        Waker::from(Arc::new(Named { of, news: Arc::clone(self) }))
    }

    /// Moves what was woken into an empty list; what is woken from here on has the task polled again.
    fn take(&self, into: &mut Vec<Of>, task: &Waker) {
        let mut state = self.lock();
        std::mem::swap(&mut state.woken, into);
        if std::mem::take(&mut state.handle) {
            into.push(Of::Handle);
        }
        if !state.task.as_ref().is_some_and(|kept| kept.will_wake(task)) {
            state.task = Some(task.clone());
        }
    }

    fn woken(&self, of: Of) {
        let mut state = self.lock();
        match of {
            Of::Handle => state.handle = true,
            Of::Connection(_) | Of::Listener(_) | Of::Connecting(_) => state.woken.push(of),
        }
        if let Some(task) = state.task.take() {
            drop(state);
            task.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, NewsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the future, and says for whom.
struct Named {
    of: Of,
    news: Arc<News>,
}

impl Wake for Named {
    fn wake(self: Arc<Self>) {
        self.news.woken(self.of);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.news.woken(self.of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_costs_the_table_its_socket_and_its_id() {
        assert_eq!(Table::<Waited<TcpStream>>::ENTRY, 40);
    }

    /// Beside what the reactor has for each socket: its source, and a place in its table.
    #[test]
    fn a_waker_costs_what_it_says_and_two_counters() {
        assert_eq!(size_of::<Named>(), 24);
    }
}
