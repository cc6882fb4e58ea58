//! A subscriber that believes nothing: the library's own watching client over a socket.
//!
//! It lists, watches, checks every head, frame, chunk and JSON, keys and revisions. That costs several times what
//! [`Subscriber`](crate::subscriber::Subscriber) does, so what is measured with it is more the load than the server.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use keepwatch_protocol::Input;
use keepwatch_runtime::Clock;
use keepwatch_watch::client::{ClientConfig, Event, Next, Start, Target, Transport as Way, WatchClient};
use keepwatch_watch::{Filter, Key};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::Fault;
use crate::subscriber::{Shared, Watcher, connect, source};
use crate::transport::Transport;
use crate::value::Wrong;

/// A watching client and its connection.
#[derive(Debug)]
pub struct Checker {
    client: WatchClient,
    clock: Clock,
    number: u32,
    stream: TcpStream,
    unread: Vec<u8>,
    key: Key,
    way: Way,
    next: u32,
    listed: bool,
}

impl Watcher for Checker {
    fn new(number: u32, key: &str, _: Option<u64>, shared: &Shared) -> Result<Self, Fault> {
        let way = match shared.transport {
            Transport::Websocket => Way::WebSocket,
            Transport::Sse => Way::ServerSentEvents,
            Transport::Chunked => Way::Lines,
            Transport::Poll => Way::LongPoll,
        };
        let config = Arc::new(ClientConfig { transports: vec![way], ..ClientConfig::default() });
        let filter = Filter::key(key, config.limits.key_bytes)?;
        let target = Target { authority: shared.authority.clone(), filter, start: Start::List };
        let mut client = WatchClient::new(target, config, getrandom::u64()?)?;
        let (clock, mut out) = (Clock::new(), Vec::new());
        client.connected(&mut out, clock.now());
        let stream = connect(shared.server, source(number), &out)?;
        let key = Key::new(key, Key::DEFAULT_MAX)?;
        let next = shared.first(number);
        Ok(Self { client, clock, number, stream, unread: Vec::new(), key, way, next, listed: false })
    }

    fn register(&mut self, registry: &Registry, token: Token) -> Result<(), Fault> {
        Ok(registry.register(&mut self.stream, token, Interest::READABLE)?)
    }

    fn is_held(&self) -> bool {
        self.listed
    }

    fn next(&self) -> u32 {
        self.next
    }

    fn receive(
        &mut self,
        buffer: &mut [u8],
        at: (&Registry, Token),
        shared: &Shared,
        mut came: impl FnMut(u32, &mut u32) -> Result<(), Wrong>,
    ) -> Result<(), Fault> {
        let now = self.clock.now();
        let mut ended = false;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => {
                    ended = true;
                    break;
                }
                Ok(count) => self.unread.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let mut out = Vec::new();
        let mut input = if ended { Input::last(&mut self.unread) } else { Input::new(&mut self.unread) };
        let next = self.client.receive(&mut input, &mut out, now);
        let taken = input.consumed();
        self.unread.drain(..taken);
        self.stream.write_all(&out)?;
        while let Some(event) = self.client.next_event() {
            self.hear(event, shared, &mut came)?;
        }
        if ended && next == Next::Open {
            self.client.disconnected(now);
        }
        if ended || next == Next::Close {
            self.connect_again(at, shared)?;
        }
        Ok(())
    }
}

impl Checker {
    fn hear(
        &mut self,
        event: Event,
        shared: &Shared,
        came: &mut impl FnMut(u32, &mut u32) -> Result<(), Wrong>,
    ) -> Result<(), Fault> {
        match event {
            Event::Listing | Event::Item(_) if !self.listed => {}
            Event::Listed(_) if !self.listed => self.listed = true,
            Event::Bookmark(_) => {}
            Event::Transport(way) if way == self.way => {}
            Event::Put(item) if self.listed && item.key == self.key => {
                let mut changes = Vec::new();
                shared.values.find(&item.value, |change| {
                    changes.push(change);
                    Ok(())
                })?;
                let [change] = changes[..] else { return Err("a value is not what was written".into()) };
                if item.value.len() != shared.values.bytes() {
                    return Err("a value is longer than what was written".into());
                }
                came(change, &mut self.next)?;
            }
            event => return Err(format!("{event:?}").into()),
        }
        Ok(())
    }

    /// Where a connection ended with nothing wrong: between a list and a watch, say.
    fn connect_again(&mut self, (registry, token): (&Registry, Token), shared: &Shared) -> Result<(), Fault> {
        let now = self.clock.now();
        if !self.client.wants_connection(now) {
            return Err("the connection failed".into());
        }
        registry.deregister(&mut self.stream)?;
        let mut out = Vec::new();
        self.client.connected(&mut out, now);
        self.unread.clear();
        self.stream = connect(shared.server, source(self.number), &out)?;
        self.register(registry, token)
    }
}
