//! PUTs on one connection, one behind the other, and how long their answers take.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use hdrhistogram::Histogram;
use mio::net::TcpStream;

use crate::decode::{content_length, status};
use crate::run::histogram;
use crate::{Fault, subscriber};

/// A connection that writes.
#[derive(Debug)]
pub struct Publisher {
    /// Registered by whoever waits for it.
    pub stream: TcpStream,
    host: String,
    unsent: Vec<u8>,
    unread: Vec<u8>,
    /// When each PUT that is not answered was due.
    waiting: VecDeque<Instant>,
    /// Microseconds from when a PUT was due to its answer.
    pub answers: Histogram<u64>,
    /// The revision that was answered last, of a server that says it.
    pub revision: Option<u64>,
}

impl Publisher {
    /// Connects.
    ///
    /// # Errors
    ///
    /// The server is not there.
    pub fn new(server: SocketAddr) -> Result<Self, Fault> {
        Ok(Self {
            stream: subscriber::connect(server, [127, 0, 0, 1].into(), &[])?,
            host: server.to_string(),
            unsent: Vec::new(),
            unread: Vec::new(),
            waiting: VecDeque::new(),
            answers: histogram()?,
            revision: None,
        })
    }

    /// Puts a write behind those that wait to be sent: [`flush`](Self::flush) sends them, in as few calls as the system lets it.
    pub fn put(&mut self, key: &str, bytes: usize, value: impl FnOnce(&mut Vec<u8>), due: Instant) {
        let host = &self.host;
        let head = format!("PUT /v1/kv/{key} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {bytes}\r\n\r\n");
        self.unsent.extend(head.as_bytes());
        value(&mut self.unsent);
        self.waiting.push_back(due);
    }

    /// Sends what the socket takes.
    ///
    /// # Errors
    ///
    /// The server is gone.
    pub fn flush(&mut self) -> Result<(), Fault> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("the publisher: {error}").into()),
            }
        }
        Ok(())
    }

    /// Whether every PUT was answered.
    pub fn is_answered(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the answers that are there, without waiting, and sends on. Costs one system call if there are none.
    ///
    /// # Errors
    ///
    /// A PUT was refused, or the server is gone.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("the server hung up on the publisher".into()),
                Ok(count) => {
                    self.unread.extend(&buffer[..count]);
                    self.answered()?;
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("the publisher: {error}").into()),
            }
        }
        self.flush()
    }

    fn answered(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        while let Some(at) = memchr::memmem::find(&self.unread, b"\r\n\r\n") {
            let head = &self.unread[..at + 4];
            if !matches!(status(head), Some(200..=299)) {
                return Err(format!("a PUT was refused: {}", String::from_utf8_lossy(head)).into());
            }
            let end = at + 4 + content_length(head).ok_or("a PUT's answer has no length")?;
            let Some(body) = self.unread.get(at + 4..end) else { break };
            self.revision = revision(body).or(self.revision);
            self.unread.drain(..end);
            let due = self.waiting.pop_front().ok_or("there are more answers than PUTs")?;
            self.answers.saturating_record(now.duration_since(due).as_micros() as u64);
        }
        Ok(())
    }
}

/// The revision that a body of JSON begins with.
pub fn revision(body: &[u8]) -> Option<u64> {
    let rest = body.strip_prefix(b"{\"revision\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}
