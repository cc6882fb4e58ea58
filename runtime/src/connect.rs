//! Connections that are being made.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};

use keepwatch_protocol::Instant;

use crate::Options;
use crate::options;

/// The sockets of a runtime that are not connected yet, and which of them may be.
#[derive(Debug)]
pub struct Connecting<C> {
    /// By their places in [`Options::connect`].
    attempts: Vec<Attempt<C>>,
    /// How many are under way.
    open: usize,
    by: Instant,
}

#[derive(Debug)]
struct Attempt<C> {
    address: SocketAddr,
    /// `None`: it is over.
    socket: Option<C>,
    ready: bool,
}

impl<C> Default for Connecting<C> {
    /// None.
    fn default() -> Self {
        Self { attempts: Vec::new(), open: 0, by: Instant::NEVER }
    }
}

impl<C> Connecting<C> {
    /// Begins to connect to the addresses of the options, and waits for none. `register` is given each socket, and its place, to
    /// have [`ready`](Self::ready) called when it can be written to. All may be connected already.
    ///
    /// # Errors
    ///
    /// An address cannot be connected to: the error names it.
    pub fn begin(
        options: &Options,
        now: Instant,
        mut register: impl FnMut(usize, TcpStream) -> io::Result<C>,
    ) -> io::Result<Self> {
        let mut begin = |(index, &address): (usize, &SocketAddr)| {
            let socket = options::connect(address, options).and_then(|socket| register(index, socket));
            let socket = Some(socket.map_err(|error| name(address, &error))?);
            Ok(Attempt { address, socket, ready: true })
        };
        let attempts: io::Result<Vec<_>> = options.connect.iter().enumerate().map(&mut begin).collect();
        let attempts = attempts?;
        Ok(Self { open: attempts.len(), attempts, by: now + options.connect_timeout })
    }

    /// The system says that this one, by its place in the order, may be connected.
    pub fn ready(&mut self, index: usize) {
        if let Some(attempt) = self.attempts.get_mut(index) {
            attempt.ready = true;
        }
    }

    /// The next one that is connected, and to whom. Each that may be is shown to `check`, which says whether it is:
    /// [`is_connected`].
    ///
    /// # Errors
    ///
    /// One cannot be connected, or took too long: the error names its address.
    pub fn next(
        &mut self,
        now: Instant,
        mut check: impl FnMut(&mut C) -> io::Result<bool>,
    ) -> io::Result<Option<(SocketAddr, C)>> {
        if self.open == 0 {
            return Ok(None);
        }
        let late = self.by <= now;
        for attempt in &mut self.attempts {
            let address = attempt.address;
            let Some(socket) = attempt.socket.as_mut().filter(|_| attempt.ready || late) else { continue };
            attempt.ready = false;
            if check(socket).map_err(|error| name(address, &error))? {
                self.open -= 1;
                return Ok(attempt.socket.take().map(|socket| (address, socket)));
            }
            if late {
                return Err(name(address, &ErrorKind::TimedOut.into()));
            }
        }
        Ok(None)
    }

    /// When to call [`next`](Self::next) at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        (self.open > 0).then_some(self.by)
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Gives them all up.
    pub fn close(&mut self) {
        *self = Self::default();
    }
}

/// Whether a socket is connected, by what it says of its error and its peer. `false`: it is still under way.
///
/// # Errors
///
/// Why it will never be.
pub fn is_connected(error: io::Result<Option<io::Error>>, peer: io::Result<SocketAddr>) -> io::Result<bool> {
    if let Some(error) = error? {
        return Err(error);
    }
    match peer {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

fn name(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot connect to {address}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// Two connections to somebody who listens, under way since 1 s and for 1 s.
    fn two() -> (std::net::TcpListener, Connecting<usize>) {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connect_timeout = Duration::from_secs(1);
        let options = Options { connect: vec![address, address], connect_timeout, ..Options::default() };
        (listener, Connecting::begin(&options, at(1000), |index, _| Ok(index)).unwrap())
    }

    #[test]
    fn each_is_given_once_when_it_is_connected() {
        let (listener, mut connecting) = two();
        let address = listener.local_addr().unwrap();
        let next = |connecting: &mut Connecting<usize>, done| {
            connecting.next(at(1000), |index| Ok(*index == done)).unwrap()
        };
        assert_eq!(connecting.deadline(), Some(at(2000)));
        assert_eq!(next(&mut connecting, 1), Some((address, 1)));
        assert_eq!(next(&mut connecting, 0), None, "nothing said that it might be");
        connecting.ready(1);
        connecting.ready(0);
        assert_eq!(next(&mut connecting, 0), Some((address, 0)));
        assert!(connecting.is_empty() && connecting.deadline().is_none());
        assert_eq!(next(&mut connecting, 0), None);
    }

    #[test]
    fn what_took_too_long_is_looked_at_once_more_and_is_an_error() {
        let (listener, mut connecting) = two();
        assert_eq!(connecting.next(at(1999), |_| Ok(false)).unwrap(), None);
        assert!(connecting.next(at(2000), |_| Ok(true)).unwrap().is_some());
        let error = connecting.next(at(2000), |_| Ok(false)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains(&listener.local_addr().unwrap().to_string()), "{error}");
    }

    #[test]
    fn a_refusal_names_the_address() {
        let (listener, mut connecting) = two();
        let refused =
            |_: &mut usize| is_connected(Ok(Some(ErrorKind::ConnectionRefused.into())), two().0.local_addr());
        let error = connecting.next(at(1000), refused).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&listener.local_addr().unwrap().to_string()), "{error}");
    }

    #[test]
    fn a_socket_without_an_error_and_without_a_peer_is_under_way() {
        assert!(!is_connected(Ok(None), Err(ErrorKind::NotConnected.into())).unwrap());
        assert!(is_connected(Ok(None), Ok(([127, 0, 0, 1], 1).into())).unwrap());
        assert!(is_connected(Ok(None), Err(ErrorKind::InvalidInput.into())).is_err());
    }
}
