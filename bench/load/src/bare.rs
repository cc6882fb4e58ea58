//! What the bare programs share: as little of a watch server as can be driven by the same load.
//!
//! They believe their clients (a request comes in one read, heads are not checked), keep no keys, time nothing out, and hold
//! bytes for nobody: a socket that is full is an error. What is left is what no server gets around: a system call to read a PUT,
//! one to read a poll, and one `send` for each delivery, with bytes that are the same as those of the watch server and are made
//! once. Their sockets have the watch server's options, and PUTs that came in one read are one delivery.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use keepwatch_runtime::{Options, listen};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::Fault;
use crate::decode::content_length;
use crate::transport::{Transport, WEBSOCKET_ACCEPT};

/// A change: the revision, and the event as JSON.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its revision.
    pub revision: u64,
    /// `{"type":"put",…}`.
    pub event: Vec<u8>,
}

/// What a bare program does.
pub trait Bare {
    /// A request that is no PUT came on the connection.
    ///
    /// # Errors
    ///
    /// The socket is full.
    fn request(&mut self, slot: usize, stream: &mut TcpStream, head: &[u8]) -> Result<(), Fault>;

    /// These were written since the last time.
    ///
    /// # Errors
    ///
    /// A socket is full.
    fn changes(&mut self, changes: &[Change], streams: &mut Streams) -> Result<(), Fault>;

    /// The connection is gone.
    fn closed(&mut self, slot: usize);
}

/// The sockets, by their slots.
#[derive(Debug, Default)]
pub struct Streams(Vec<Option<TcpStream>>);

impl Streams {
    /// Sends all of it to one.
    ///
    /// # Errors
    ///
    /// The socket is full.
    #[inline]
    pub fn send(&mut self, slot: usize, bytes: &[u8]) -> Result<(), Fault> {
        match self.0.get_mut(slot) {
            Some(Some(stream)) => send(stream, bytes),
            _ => Ok(()),
        }
    }

    fn insert(&mut self, stream: TcpStream) -> usize {
        let free = self.0.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.0.len());
        if free.is_none() {
            self.0.push(None);
        }
        self.0[slot] = Some(stream);
        slot
    }
}

/// Sends all of it.
///
/// # Errors
///
/// The socket is full.
#[inline]
pub fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), Fault> {
    match stream.write(bytes) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err("a socket is full, and a bare program keeps nothing".into()),
        // Whoever is gone is told by reading.
        Err(error) if error.kind() != ErrorKind::WouldBlock => Ok(()),
        Err(_) => Err("a socket is full, and a bare program keeps nothing".into()),
    }
}

const LISTENER: Token = Token(usize::MAX - 1);

/// Listens, says where, and serves until it is ended.
///
/// # Errors
///
/// The system does not let it, or a socket was full.
pub fn serve(address: SocketAddr, mut bare: impl Bare) -> Result<(), Fault> {
    let listener = listen(&Options::new([address]))?.remove(0);
    println!("listening on http://{}", listener.local_addr()?);
    let (mut poll, mut listener) = (Poll::new()?, TcpListener::from_std(listener));
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut events, mut streams) = (Events::with_capacity(1024), Streams::default());
    let mut revision = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64;
    let (mut buffer, mut changes) = (vec![0; 64 << 10], Vec::new());
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let slot = streams.insert(stream);
                    if let Some(Some(stream)) = streams.0.get_mut(slot) {
                        poll.registry().register(stream, Token(slot), Interest::READABLE)?;
                    }
                }
                continue;
            }
            let slot = event.token().0;
            let Some(Some(stream)) = streams.0.get_mut(slot) else { continue };
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    let request = &buffer[..count];
                    if request.starts_with(b"PUT ") {
                        let answers = puts(request, &mut revision, &mut changes)?;
                        send(stream, &answers)?;
                    } else if request.starts_with(b"GET ") {
                        bare.request(slot, stream, request)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => {
                    streams.0[slot] = None;
                    bare.closed(slot);
                }
            }
        }
        if !changes.is_empty() {
            bare.changes(&changes, &mut streams)?;
            changes.clear();
        }
    }
}

/// The changes of the PUTs in one read, and what they are answered.
fn puts(mut requests: &[u8], revision: &mut u64, changes: &mut Vec<Change>) -> Result<Vec<u8>, Fault> {
    let mut answers = Vec::new();
    while !requests.is_empty() {
        let head = memchr::memmem::find(requests, b"\r\n\r\n").ok_or("a PUT is cut")? + 4;
        let (head, rest) = requests.split_at(head);
        let key = head.strip_prefix(b"PUT /v1/kv/").ok_or("a PUT is of something else")?;
        let key = std::str::from_utf8(key.split(|&byte| byte == b' ').next().unwrap_or_default())?;
        let length = content_length(head).ok_or("a PUT has no length")?;
        let (value, rest) = rest.split_at_checked(length).ok_or("a PUT is cut")?;
        requests = rest;
        *revision += 1;
        let body = format!("{{\"revision\":{revision}}}");
        answers.extend(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        // What the load writes where nobody looks is no change.
        if value.starts_with(b"~") {
            let mut event = format!(
                "{{\"type\":\"put\",\"key\":\"{key}\",\"revision\":{revision},\"createRevision\":{revision},\"value\":\""
            )
            .into_bytes();
            event.extend(value);
            event.extend(b"\"}");
            changes.push(Change { revision: *revision, event });
        }
    }
    Ok(answers)
}

/// The head that a stream or a WebSocket begins with, as long as the watch server's.
pub fn head(transport: Transport) -> Vec<u8> {
    let media = if transport == Transport::Sse { "text/event-stream" } else { "application/x-ndjson" };
    match transport {
        Transport::Websocket => format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {WEBSOCKET_ACCEPT}\r\n\r\n"
        ),
        _ => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n"
        ),
    }
    .into_bytes()
}

/// Puts a change as the watch server frames it.
pub fn frame(transport: Transport, change: &Change, out: &mut Vec<u8>) {
    let event = &change.event;
    match transport {
        Transport::Websocket => {
            match u8::try_from(event.len()) {
                Ok(length @ 0..126) => out.extend([0x81, length]),
                _ => {
                    out.extend([0x81, 126]);
                    out.extend((event.len() as u16).to_be_bytes());
                }
            }
            out.extend(event);
        }
        Transport::Sse => {
            let mut data = format!("id: {}\nevent: put\ndata: ", change.revision).into_bytes();
            data.extend(event);
            data.extend(b"\n\n");
            chunk(&data, out);
        }
        Transport::Chunked | Transport::Poll => chunk(&[event, &b"\n"[..]].concat(), out),
    }
}

fn chunk(data: &[u8], out: &mut Vec<u8>) {
    out.extend(format!("{:x}\r\n", data.len()).as_bytes());
    out.extend(data);
    out.extend(b"\r\n");
}
