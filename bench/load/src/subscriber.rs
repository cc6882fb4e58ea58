//! A connection that watches. It is small, and allocates nothing while it waits: there are thousands.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Fault;
use crate::decode::{Decoder, Unit, field};
use crate::options::{Keys, Options};
use crate::publisher::revision;
use crate::transport::Transport;
use crate::value::{Values, Wrong};

/// What all subscribers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Where the server is.
    pub server: SocketAddr,
    /// The same, as `Host` says it.
    pub authority: String,
    /// How changes come.
    pub transport: Transport,
    /// What is watched.
    pub keys: Keys,
    /// What they are.
    pub values: Values,
    /// Fields of every request.
    pub fields: String,
    /// Whether polls go on by the fields of the answer before.
    pub poll_by_tag: bool,
    /// From a change of a subscriber to its next one.
    pub step: u32,
}

impl Shared {
    /// What the options say.
    pub fn new(options: &Options) -> Self {
        Self {
            server: options.server,
            authority: options.server.to_string(),
            transport: options.transport,
            keys: options.keys,
            values: Values::new(options.value),
            fields: options.fields(),
            poll_by_tag: options.poll_by_tag,
            step: options.step(),
        }
    }

    /// The change that a subscriber sees first.
    pub fn first(&self, number: u32) -> u32 {
        if self.keys == Keys::Shared { 0 } else { number }
    }
}

/// Whoever watches: [`Subscriber`], which is cheap, or the library's own client, which believes nothing.
pub trait Watcher: Sized {
    /// Watches this key. A poller begins behind `since`.
    ///
    /// # Errors
    ///
    /// Those of [`connect`].
    fn new(number: u32, key: &str, since: Option<u64>, shared: &Shared) -> Result<Self, Fault>;

    /// Tells the poll of its socket, under this token, which is its number.
    ///
    /// # Errors
    ///
    /// The system does not let it.
    fn register(&mut self, registry: &Registry, token: Token) -> Result<(), Fault>;

    /// Whether the server said that the subscription stands. A poll says nothing.
    fn is_held(&self) -> bool;

    /// The change that comes next.
    fn next(&self) -> u32;

    /// Reads what is there, and says of each change that it came, with what was [`next`](Self::next), which `came` moves on. A
    /// poller asks again.
    ///
    /// # Errors
    ///
    /// A change came twice, was left out or came early, or what came is no answer to what was asked.
    fn receive(
        &mut self,
        buffer: &mut [u8],
        at: (&Registry, Token),
        shared: &Shared,
        came: impl FnMut(u32, &mut u32) -> Result<(), Wrong>,
    ) -> Result<(), Fault>;
}

/// One that watches at little cost: it takes the framing apart and compares values.
#[derive(Debug)]
pub struct Subscriber {
    stream: TcpStream,
    decoder: Decoder,
    next: u32,
    held: bool,
}

/// Connects from this address, and writes the first request. Neither waits for the server's program: the system does both.
///
/// # Errors
///
/// The server is not there, or there is no port or descriptor left.
pub fn connect(server: SocketAddr, from: Ipv4Addr, request: &[u8]) -> Result<TcpStream, Fault> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&server.into()).map_err(|error| format!("{server}: {error}"))?;
    socket.set_tcp_nodelay(true)?;
    (&socket).write_all(request)?;
    socket.set_nonblocking(true)?;
    Ok(TcpStream::from_std(socket.into()))
}

/// The source address of a subscriber: 200 of them, so that no one has more than 100 connections.
pub fn source(subscriber: u32) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + (subscriber % 200) as u8)
}

impl Watcher for Subscriber {
    fn new(number: u32, key: &str, since: Option<u64>, shared: &Shared) -> Result<Self, Fault> {
        let since = since.filter(|_| !shared.poll_by_tag);
        let request = shared.transport.request(&shared.authority, key, since, &shared.fields);
        Ok(Self {
            stream: connect(shared.server, source(number), &request)?,
            decoder: Decoder::new(shared.transport),
            next: shared.first(number),
            held: shared.transport == Transport::Poll,
        })
    }

    fn register(&mut self, registry: &Registry, token: Token) -> Result<(), Fault> {
        Ok(registry.register(&mut self.stream, token, Interest::READABLE)?)
    }

    fn is_held(&self) -> bool {
        self.held
    }

    fn next(&self) -> u32 {
        self.next
    }

    #[inline]
    fn receive(
        &mut self,
        buffer: &mut [u8],
        at: (&Registry, Token),
        shared: &Shared,
        mut came: impl FnMut(u32, &mut u32) -> Result<(), Wrong>,
    ) -> Result<(), Fault> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err("the server hung up".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let (stream, next, held) = (&mut self.stream, &mut self.next, &mut self.held);
            self.decoder.take(&buffer[..count], |unit| match unit {
                Unit::Head => {
                    *held = true;
                    Ok(())
                }
                Unit::Payload { head, body } => {
                    shared.values.find(body, |change| came(change, next))?;
                    if shared.transport == Transport::Poll {
                        let key = shared.keys.key(at.1.0 as u32);
                        let request = again(head, body, &key, shared);
                        write(stream, &request.ok_or(Wrong("an answer does not say where it is"))?)?;
                    }
                    Ok(())
                }
                Unit::Ping(payload) => {
                    // RFC 6455 section 5.3 wants a mask that nobody can guess, for the sake of proxies. Here is none.
                    let mut pong = vec![0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0];
                    pong.extend(payload);
                    write(stream, &pong)
                }
            })?;
            // Less than was asked for: there is no more, and what comes is told by a new edge.
            if count < buffer.len() {
                return Ok(());
            }
        }
    }
}

/// The next poll, behind this answer.
fn again(head: &[u8], body: &[u8], key: &str, shared: &Shared) -> Option<Vec<u8>> {
    let (authority, fields) = (&*shared.authority, &*shared.fields);
    if !shared.poll_by_tag {
        return Some(Transport::Poll.request(authority, key, Some(revision(body)?), fields));
    }
    let [modified, tag] = ["last-modified", "etag"]
        .map(|name| field(head, name).and_then(|value| std::str::from_utf8(value).ok()));
    let fields = format!("{fields}If-Modified-Since: {}\r\nIf-None-Match: {}\r\n", modified?, tag?);
    Some(Transport::Poll.request(authority, key, None, &fields))
}

/// A few bytes, which a socket always has room for when its peer reads.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), Wrong> {
    match stream.write(bytes) {
        Ok(count) if count == bytes.len() => Ok(()),
        _ => Err(Wrong("the server does not read")),
    }
}
