//! A client over a blocking socket, with a thread that reads.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use keepwatch_protocol::websocket::handshake::{Answer, ClientHandshake, HandshakeError, Opening};
use keepwatch_protocol::websocket::{Assembler, Connection, Event, Role};
use keepwatch_protocol::{Input, Now, UnixMillis};

use crate::lines::{self, Command, Part, say, say_closed, say_message};
use crate::{Happening, entropy};

/// One WebSocket after the other.
pub fn run(happens: &Receiver<Happening>, tell: &Sender<Happening>) -> io::Result<()> {
    let started = Instant::now();
    let now = || {
        Now::new(keepwatch_protocol::Instant::from_nanos(started.elapsed().as_nanos() as u64), UnixMillis(0))
    };
    while let Ok(happening) = happens.recv() {
        let Happening::Told(Command::Open(opening)) = happening else { panic!("nothing is open") };
        let mut stream = TcpStream::connect(&opening.authority)?;
        stream.set_nodelay(true)?;
        let (mut reading, received) = (stream.try_clone()?, tell.clone());
        let reader = thread::spawn(move || read(&mut reading, &received));
        let talked = talk(&opening, happens, &mut stream, &now);
        if let Err(error) = talked {
            say(&format!("failed {error}"));
            stream.shutdown(Shutdown::Both)?;
            while !matches!(happens.recv(), Ok(Happening::End) | Err(_)) {}
        }
        reader.join().unwrap();
    }
    Ok(())
}

fn read(stream: &mut TcpStream, tell: &Sender<Happening>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        tell.send(Happening::Received(buffer[..count].to_vec())).unwrap();
    }
    tell.send(Happening::End).unwrap();
}

/// Up to the end of the stream.
fn talk(
    opening: &lines::Opening,
    happens: &Receiver<Happening>,
    stream: &mut TcpStream,
    now: &dyn Fn() -> Now,
) -> Result<(), HandshakeError> {
    let mut client =
        Client { asked: ask(opening, stream, now()), connection: None, assembler: Assembler::new(64 << 20) };
    let (mut received, mut ended) = (Vec::new(), false);
    while !ended {
        let deadline =
            client.connection.as_ref().map_or_else(|| client.asked.deadline(), Connection::deadline);
        let left = deadline.map_or(Duration::MAX, |by| by.since(now().instant));
        let mut out = Vec::new();
        match happens.recv_timeout(left) {
            Ok(Happening::Told(command)) => client.obey(command, &mut out, now()),
            Ok(Happening::Received(bytes)) => received.extend_from_slice(&bytes),
            Ok(Happening::End) | Err(RecvTimeoutError::Disconnected) => ended = true,
            Err(RecvTimeoutError::Timeout) => client.on_deadline(&mut out, now())?,
        }
        let mut input = if ended { Input::last(&mut received) } else { Input::new(&mut received) };
        client.receive(opening, &mut input, &mut out, now())?;
        let taken = input.consumed();
        received.drain(..taken);
        // What cannot be written is missed by the peer, which ends the stream.
        let _broken = stream.write_all(&out);
    }
    // An error when the peer has reset it.
    let _ended = stream.shutdown(Shutdown::Both);
    Ok(())
}

fn ask(opening: &lines::Opening, stream: &mut TcpStream, now: Now) -> ClientHandshake {
    let protocols: Vec<&str> = opening.protocols.iter().map(String::as_str).collect();
    let asked = Opening {
        protocols: &protocols,
        compression: Some(&opening.config.compression),
        ..Opening::new(&opening.authority, &opening.target)
    };
    let mut out = Vec::new();
    let handshake =
        ClientHandshake::start(&asked, Arc::default(), entropy().unwrap(), &mut out, now).unwrap();
    stream.write_all(&out).unwrap();
    handshake
}

struct Client {
    asked: ClientHandshake,
    connection: Option<Connection>,
    assembler: Assembler,
}

impl Client {
    fn receive(
        &mut self,
        opening: &lines::Opening,
        input: &mut Input<'_>,
        out: &mut Vec<u8>,
        now: Now,
    ) -> Result<(), HandshakeError> {
        loop {
            let Some(connection) = &mut self.connection else {
                match self.asked.recv(input, now)? {
                    Answer::NeedMore => return Ok(()),
                    Answer::Opened(agreed) => {
                        let deflate = if agreed.compression.is_some() { "deflate" } else { "-" };
                        say(&format!("open {} {deflate}", agreed.protocol.unwrap_or("-")));
                        let seed = u64::from_ne_bytes(entropy().unwrap());
                        let config = Arc::new(opening.config.clone());
                        self.connection = Some(agreed.connection(Role::Client, config, seed, now));
                    }
                    Answer::Refused(_) | Answer::Body(_) => {}
                    Answer::End => say("failed another answer than 101"),
                }
                continue;
            };
            match connection.recv(input, out, now) {
                Ok(Event::NeedMore) => return Ok(()),
                Ok(Event::Data { kind, bytes, first, last }) => {
                    if let Ok(Some(message)) = self.assembler.push(kind, &bytes, first, last) {
                        say_message(message.kind(), message.as_bytes());
                    }
                }
                Ok(Event::Ping(_) | Event::Pong(_)) => {}
                Ok(Event::Closed(close)) => say_closed(&close),
                Err(error) => {
                    say(&format!("broken {error}"));
                    return Ok(());
                }
            }
        }
    }

    fn obey(&mut self, command: Command, out: &mut Vec<u8>, now: Now) {
        let connection = self.connection.as_mut().expect("it is open");
        let done = match command {
            Command::Open(_) => panic!("one is open"),
            Command::Send(kind, bytes) => connection.send(kind, &bytes, out),
            Command::Parts(kind, parts) => {
                let last = parts.len() - 1;
                parts.iter().enumerate().try_for_each(|(at, part)| match part {
                    Part::Fragment(bytes) => connection.send_part(kind, bytes, at == last, out),
                    Part::Ping(payload) => connection.ping(payload, out, now),
                })
            }
            Command::Ping(payload) => connection.ping(&payload, out, now),
            Command::Close(code, reason) => connection.close(code, &reason, out, now),
        };
        if let Err(error) = done {
            say(&format!("refused {error}"));
        }
    }

    fn on_deadline(&mut self, out: &mut Vec<u8>, now: Now) -> Result<(), HandshakeError> {
        match &mut self.connection {
            None => self.asked.on_deadline(now).map_or(Ok(()), Err),
            Some(connection) => {
                if let Some(expired) = connection.on_deadline(out, now) {
                    say(&format!("broken {expired:?}"));
                }
                Ok(())
            }
        }
    }
}
