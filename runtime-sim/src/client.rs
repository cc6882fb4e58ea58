//! The other end of a connection, in the hands of a test.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::network::{Network, Wire};

/// A client of a simulated server. It may be cloned; all clones are the same client.
///
/// What it does takes effect in the network at once, and is seen by the server when the simulation runs
/// ([`Sim::run`](crate::Sim::run)). By default it reads all that the server writes as it is written.
#[derive(Clone)]
pub struct Client {
    network: Rc<RefCell<Network>>,
    index: usize,
}

impl Client {
    pub(crate) fn new(network: Rc<RefCell<Network>>, index: usize) -> Self {
        Self { network, index }
    }

    /// Its number: clients are numbered from 0 in the order in which they connected. The [`Trace`](crate::Trace) uses it.
    pub fn number(&self) -> usize {
        self.index
    }

    /// Sends bytes. After [`shutdown_write`](Client::shutdown_write) or [`reset`](Client::reset) they are dropped; if the
    /// server has closed the socket, they reset the connection, as in a real network.
    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        self.change(|wire| {
            if wire.id.is_none() {
                wire.reset_by_server = true;
                wire.to_client.bytes.clear();
            } else if !wire.to_server.ended && !wire.reset_by_client {
                wire.to_server.bytes.extend(bytes.as_ref());
            }
        });
    }

    /// Takes what was received since the last call.
    pub fn receive(&self) -> Vec<u8> {
        self.look(|wire| std::mem::take(&mut wire.received)).unwrap_or_default()
    }

    /// How many bytes were received and not taken yet.
    pub fn received(&self) -> usize {
        self.look(|wire| wire.received.len()).unwrap_or_default()
    }

    /// Ends the client's side of the stream; it still receives.
    pub fn shutdown_write(&self) {
        self.change(|wire| wire.to_server.ended = true);
    }

    /// Breaks the connection: what is on its way in either direction is lost, and the server's next call fails.
    pub fn reset(&self) {
        self.change(|wire| {
            wire.reset_by_client = true;
            wire.to_server.bytes.clear();
            wire.to_client.bytes.clear();
        });
    }

    /// From now on the client reads so many bytes, and then no more; 0 is a client that does not read, [`usize::MAX`] one
    /// that reads everything. What it does not read fills its [`window`](Client::window).
    pub fn read_limit(&self, bytes: usize) {
        self.change(|wire| wire.reads = bytes);
        self.network.borrow_mut().client_reads(self.index);
    }

    /// How many bytes the network holds that the server wrote and the client has not read: the two sockets' buffers.
    /// Default: [`SimConfig::window`](crate::SimConfig::window).
    pub fn window(&self, bytes: usize) {
        self.change(|wire| wire.to_client.capacity = bytes);
    }

    /// The server's reads return at most these numbers of bytes, one after the other and from the start again. No sizes: as
    /// many as there are. A size of 0 counts as 1.
    pub fn deliver_in(&self, sizes: &[usize]) {
        self.change(|wire| wire.to_server.move_in(sizes));
    }

    /// The server's writes take at most these numbers of bytes, one after the other and from the start again. No sizes: as
    /// many as there is room for. A size of 0 counts as 1.
    pub fn accept_in(&self, sizes: &[usize]) {
        self.change(|wire| wire.to_client.move_in(sizes));
    }

    /// The server hears that it may read and write, whether or not it may: systems wake without need now and then.
    pub fn poke(&self) {
        self.change(|wire| wire.poked = true);
    }

    /// Whether the server ended its side of the stream and everything before that was read by the client.
    pub fn is_ended(&self) -> bool {
        self.look(|wire| wire.to_client.ended && wire.to_client.bytes.is_empty()).unwrap_or(true)
    }

    /// Whether the server's socket is closed.
    pub fn is_closed(&self) -> bool {
        self.look(|wire| wire.id.is_none()).unwrap_or(true)
    }

    /// Whether the server ended its side of the stream, whatever of it the client has read.
    #[cfg(feature = "watch")]
    pub(crate) fn is_ending(&self) -> bool {
        self.look(|wire| wire.to_client.ended).unwrap_or(true)
    }

    /// Whether the client broke the connection.
    #[cfg(feature = "watch")]
    pub(crate) fn is_broken(&self) -> bool {
        self.look(|wire| wire.reset_by_client).unwrap_or(false)
    }

    /// Whether the server closed its socket with bytes of this client unread, so that a real system would have reset the
    /// connection and the client may have lost what it was sent.
    pub fn was_reset(&self) -> bool {
        self.look(|wire| wire.reset_by_server).unwrap_or(false)
    }

    fn look<T>(&self, at: impl FnOnce(&mut Wire) -> T) -> Option<T> {
        self.network.borrow_mut().wires.get_mut(self.index).map(at)
    }

    fn change(&self, with: impl FnOnce(&mut Wire)) {
        let _done = self.look(with);
        self.network.borrow_mut().note(self.index);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.index)
    }
}
