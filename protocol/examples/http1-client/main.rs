//! An HTTP client over a blocking socket: all that it takes to embed [`ClientConnection`].
//!
//! `http1-client METHOD URL [OPTION VALUE]..`: `-H 'NAME: VALUE'` adds a field, `-d FILE` sends content with its length, `-c FILE` in
//! chunks, `-e FILE` not before the server says `100 Continue`; `-u PROTOCOL` offers an upgrade; `-n TIMES` asks again, on the
//! same connection as long as that can be used. Content goes to standard output, everything else to standard error.
#![expect(clippy::print_stderr, reason = "telling is what it is for")]

mod options;

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keepwatch_protocol::http1::client::{ClientConnection, ClientEvent, ClientExpired, Request};
use keepwatch_protocol::http1::{Disposition, Fields};
use keepwatch_protocol::{Input, Now, UnixMillis};
use options::Options;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Client {
    stream: TcpStream,
    machine: ClientConnection,
    /// What came and is not taken yet.
    received: Vec<u8>,
    started: Instant,
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "who has the socket reads the clock")]
    fn connect(authority: &str) -> Result<Self> {
        eprintln!("* connecting to {authority}");
        let (stream, machine) = (TcpStream::connect(authority)?, ClientConnection::new(Arc::default()));
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, machine, received: Vec::new(), started: Instant::now() })
    }

    fn now(&self) -> Now {
        let nanos = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Now::new(keepwatch_protocol::Instant::from_nanos(nanos), UnixMillis(0)) // a client sends no date
    }

    fn exchange(&mut self, request: &Request<'_>, mut content: &[u8]) -> Result<()> {
        let (mut out, mut length) = (Vec::new(), 0);
        let mut body = Some(self.machine.request(request, &mut out, self.now())?);
        loop {
            // A part of the content, and then a look at what came: the server may answer before it has seen the end.
            if let Some(mut tx) = body.take_if(|_| self.machine.takes_content()) {
                let (part, rest) = content.split_at(content.len().min(16 << 10));
                self.machine.data(&mut tx, part, &mut out)?;
                content = rest;
                match rest {
                    [] => self.machine.finish(tx, &mut out, self.now())?,
                    _ => body = Some(tx),
                }
            }
            if let Err(error) = self.stream.write_all(&out) {
                eprintln!("* not all was sent: {error}"); // there may be an answer all the same
                body.take().into_iter().for_each(|tx| self.machine.abandon(tx, self.now()));
            }
            out.clear();
            let hung_up = self.read(body.is_none() || !self.machine.takes_content())?;
            let now = self.now();
            let mut input =
                if hung_up { Input::last(&mut self.received) } else { Input::new(&mut self.received) };
            let done = loop {
                match self.machine.recv(&mut input, now)? {
                    ClientEvent::NeedMore => break false,
                    ClientEvent::Informational(head)
                    | ClientEvent::Response(head)
                    | ClientEvent::Upgraded(head) => {
                        eprintln!("< {} {}", head.code(), head.reason().escape_ascii());
                        tell("", head.fields());
                    }
                    ClientEvent::Data(data) => {
                        length += data.len();
                        io::stdout().write_all(data)?;
                    }
                    ClientEvent::Trailers(fields) => tell("trailer ", fields),
                    ClientEvent::EndOfResponse { .. } | ClientEvent::Closed => break true,
                }
            };
            let taken = input.consumed();
            self.received.drain(..taken);
            if done || self.machine.disposition() == Disposition::Upgraded {
                if let Some(tx) = body {
                    self.machine.abandon(tx, now);
                }
                eprintln!("* {length} bytes of content; the connection again: {:?}", self.machine.reuse());
                return Ok(());
            }
        }
    }

    /// Reads once, and waits for it up to the machine's deadline or not at all. Whether the server has ended its side.
    fn read(&mut self, wait: bool) -> Result<bool> {
        let left = self.machine.deadline().map(|by| by.since(self.now().instant) + Duration::from_millis(1));
        self.stream.set_nonblocking(!wait)?;
        self.stream.set_read_timeout(left)?;
        let mut buffer = [0; 16 << 10];
        let read = self.stream.read(&mut buffer);
        self.stream.set_nonblocking(false)?;
        match read {
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(count == 0)
            }
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(error.into())
            }
            Err(_) => match self.machine.on_deadline(self.now()) {
                Some(ClientExpired::Failed(error)) => Err(error.into()),
                Some(ClientExpired::SendContent) | None => Ok(false),
            },
        }
    }
}

fn tell(what: &str, fields: Fields<'_>) {
    for field in fields {
        eprintln!("< {what}{}: {}", field.name, String::from_utf8_lossy(field.value)); // no control characters
    }
}

fn main() -> Result<()> {
    let options = Options::from_command_line()?;
    let fields = options.fields();
    let mut client = Client::connect(&options.authority)?;
    for _ in 0..options.times {
        if client.machine.reuse().is_err() {
            client = Client::connect(&options.authority)?;
        }
        client.exchange(&options.request(&fields), &options.content)?;
    }
    Ok(())
}
