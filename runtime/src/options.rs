//! Where to listen, where to connect to, and how the sockets are set up.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use keepwatch_protocol::DriverConfig;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Where a runtime listens, and where it connects to, and the limits of its driver.
///
/// ```
/// use keepwatch_runtime::Options;
///
/// let mut options = Options::new([([127, 0, 0, 1], 8080).into()]);
/// options.send_buffer = None;
/// options.driver.connections = 10_000;
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The addresses to listen on. Port 0 lets the system choose; [`Handle::local_addresses`](crate::Handle::local_addresses)
    /// says what it chose. An IPv6 address takes IPv6 alone, so that `[::]` and `0.0.0.0` may stand side by side.
    pub listen: Vec<SocketAddr>,
    /// The addresses to connect to when serving begins: a connection for each, several for one that stands there several times.
    /// The server cannot tell them from those that come: for [`Server`](keepwatch_protocol::Server)s that are clients, such as
    /// [`WebSocketClient`](keepwatch_protocol::handler::WebSocketClient). Default: none.
    pub connect: Vec<SocketAddr>,
    /// How long making a connection may take. Default: 10 s.
    pub connect_timeout: Duration,
    /// Connections that may wait to be accepted; the system may hold this lower (`net.core.somaxconn`). Default: 1024.
    pub backlog: u32,
    /// Bytes that the system takes for a connection before the peer has acknowledged them (`SO_SNDBUF`; Linux doubles the
    /// figure, for its own needs). `None` leaves it to the system, which lets the buffer of one reader who does not read
    /// grow to megabytes. Less than a segment is a trap: the peer waits for more of it before it acknowledges, typically 40 ms,
    /// and on a loopback, where a segment has 64 KiB, large answers then crawl at 2 MB/s. Default: 64 KiB.
    pub send_buffer: Option<usize>,
    /// How long a connection is silent before the system asks whether its peer still exists; it asks again at a quarter of
    /// this, and gives up after as many attempts as the system likes. `None`: never. Default: 60 s.
    pub keepalive: Option<Duration>,
    /// The limits and times of the driver.
    pub driver: DriverConfig,
}

impl Options {
    /// The default options, for these addresses.
    pub fn new(listen: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            listen: listen.into_iter().collect(),
            connect: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            backlog: 1024,
            send_buffer: Some(64 << 10),
            keepalive: Some(Duration::from_secs(60)),
            driver: DriverConfig::default(),
        }
    }
}

impl Default for Options {
    /// The default options, without an address.
    fn default() -> Self {
        Self::new([])
    }
}

/// Binds every address, in order, and listens. The listeners do not block.
///
/// All that is asked for accepted connections is set on the listener: Linux, the BSDs and macOS copy it to each socket that it
/// accepts, so it costs no call per connection, and a send buffer must be set before the connection exists to take full
/// effect (tcp(7)). `TCP_NODELAY` is always set: a driver writes all that is due at once, so waiting for more only delays.
///
/// # Errors
///
/// An address cannot be listened on: the error names it. No address at all, neither to listen on nor to connect to, is an error
/// too.
pub fn listen(options: &Options) -> io::Result<Vec<TcpListener>> {
    if options.listen.is_empty() && options.connect.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no address to listen on"));
    }
    let name = |address| {
        move |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    };
    options.listen.iter().map(|&address| listen_on(address, options).map_err(name(address))).collect()
}

fn listen_on(address: SocketAddr, options: &Options) -> io::Result<TcpListener> {
    let socket = open(address, options)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Elsewhere this would let two servers listen on one port. Here it lets a restarted one listen at once.
    if cfg!(unix) {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Begins to connect, with the same options, and does not wait: [`is_connected`] says how it ended.
///
/// # Errors
///
/// It is known already that this address cannot be connected to.
pub(crate) fn connect(address: SocketAddr, options: &Options) -> io::Result<TcpStream> {
    let socket = open(address, options)?;
    match socket.connect(&address.into()) {
        Err(error) if !is_under_way(&error) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// A socket that does not block, with what is asked for of all.
fn open(address: SocketAddr, options: &Options) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(silence) = options.keepalive {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(silence).with_interval(silence / 4))?;
    }
    Ok(socket)
}

/// `EINPROGRESS` of connect(2), for which the standard library has no stable name; Windows says that it would block.
fn is_under_way(error: &io::Error) -> bool {
    let in_progress = if cfg!(any(target_os = "linux", target_os = "android")) { 115 } else { 36 };
    let unix = cfg!(unix) && error.raw_os_error() == Some(in_progress);
    unix || error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn any() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[test]
    fn accepted_sockets_inherit_what_was_set() {
        let options = Options::new([any()]);
        let listener = listen(&options).unwrap().remove(0);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = Socket::from(listener.accept().unwrap().0);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.keepalive().unwrap());
        let bytes = accepted.send_buffer_size().unwrap();
        assert!(bytes == 64 << 10 || bytes == 128 << 10, "{bytes}");
    }

    #[test]
    fn an_error_names_the_address() {
        let holder = TcpListener::bind(any()).unwrap();
        let taken = holder.local_addr().unwrap();
        let error = listen(&Options::new([any(), taken])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&taken.to_string()), "{error}");
    }

    #[test]
    fn listening_nowhere_is_an_error() {
        assert_eq!(listen(&Options::new([])).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn one_port_serves_both_families_side_by_side() {
        let Ok(six) = listen(&Options::new(["[::]:0".parse().unwrap()])) else { return }; // no IPv6 here
        let port = six[0].local_addr().unwrap().port();
        listen(&Options::new([([0, 0, 0, 0], port).into()])).unwrap();
    }
}
