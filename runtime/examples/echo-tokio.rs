//! A runtime of one's own: the echo server on tokio, with nothing of keepwatch knowing about tokio.
//!
//! One task owns the [`Driver`], and with it the whole server. It tells the driver which sockets are ready, lets it take its
//! turn, and waits until something happens. Two things are left to do for that: make the driver's system calls
//! ([`Sockets`]), and find out whose socket became ready. The latter is what wakers are for: each connection's sends its id
//! through a channel.

#[path = "../../protocol/examples/echo/listen.rs"]
mod listen;
#[path = "../../protocol/examples/echo/machine.rs"]
mod machine;

use std::error::Error;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use keepwatch_protocol::driver::{Io, Sockets};
use keepwatch_protocol::{ConnectionId, Driver, Peer};
use keepwatch_runtime::{Clock, Options, Table};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::sleep_until;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::new([listen::address()?]);
    let listener = TcpListener::from_std(keepwatch_runtime::listen(&options)?.remove(0))?;
    listen::announce(listener.local_addr()?);

    let clock = Clock::new();
    let (news, mut ready) = unbounded_channel();
    let mut sockets = Connections { table: Table::default(), news };
    let mut driver = Driver::new(machine::Echo::new(), options.driver);
    // No other thread has anything to tell an echo server. For one that is published to, this waker would wake the loop
    // below, which would then call `driver.woken`.
    driver.start(Waker::noop(), clock.now());
    loop {
        let more = driver.turn(&mut sockets, clock.now());
        let deadline = driver.deadline().and_then(|at| clock.to_std(at));
        tokio::select! {
            // If accepting fails (no descriptors are left), it is tried again when something else has happened.
            Ok((stream, address)) = listener.accept() => {
                if let Some(id) = driver.accept(&Peer::at(address), clock.now()) {
                    sockets.insert(id, stream);
                }
            }
            Some(first) = ready.recv() => {
                let mut next = Some(first);
                while let Some(id) = next {
                    // It is not known which of both it is; an attempt that was not due is one call.
                    driver.readable(id);
                    driver.writable(id);
                    next = ready.try_recv().ok();
                }
            }
            () = until(deadline) => {}
            // The driver has more to do, and only let others have their turn.
            () = tokio::task::yield_now(), if more => {}
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// The sockets, by id.
struct Connections {
    table: Table<(TcpStream, Waker)>,
    news: UnboundedSender<ConnectionId>,
}

/// Sends whose it is.
struct Named {
    id: ConnectionId,
    news: UnboundedSender<ConnectionId>,
}

impl Wake for Named {
    fn wake(self: Arc<Self>) {
        let _stopping = self.news.send(self.id);
    }
}

impl Connections {
    fn insert(&mut self, id: ConnectionId, stream: TcpStream) {
        let waker = Waker::from(Arc::new(Named { id, news: self.news.clone() }));
        self.table.insert(id, (stream, waker));
    }
}

impl Sockets for Connections {
    fn read(&mut self, id: ConnectionId, into: &mut [u8]) -> Io {
        let Some((stream, waker)) = self.table.get_mut(id) else { return Io::Failed };
        attempt(waker, || stream.try_read(into), |context| stream.poll_read_ready(context))
    }

    fn write(&mut self, id: ConnectionId, parts: &[&[u8]]) -> Io {
        let Some((stream, waker)) = self.table.get_mut(id) else { return Io::Failed };
        let slices: Vec<_> = parts.iter().map(|part| io::IoSlice::new(part)).collect();
        attempt(waker, || stream.try_write_vectored(&slices), |context| stream.poll_write_ready(context))
    }

    fn shutdown(&mut self, id: ConnectionId) {
        if let Some((stream, _)) = self.table.get_mut(id) {
            let _gone = socket2::SockRef::from(&*stream).shutdown(std::net::Shutdown::Write);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.table.remove(id);
    }
}

/// Makes the call, and only if it would block leaves the waker with tokio.
fn attempt(
    waker: &Waker,
    mut call: impl FnMut() -> io::Result<usize>,
    mut wait: impl FnMut(&mut Context<'_>) -> Poll<io::Result<()>>,
) -> Io {
    loop {
        match call() {
            Ok(count) => return Io::Done(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Io::Failed,
        }
        match wait(&mut Context::from_waker(waker)) {
            Poll::Pending => return Io::Blocked,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Io::Failed,
        }
    }
}
