//! Playing a script in some world.

use std::fmt::Write as _;
use std::time::Duration;

use keepwatch_protocol::websocket::deflate::{DeflateConfig, Terms};
use keepwatch_protocol::websocket::{
    Assembler, Compression, Config, Connection, Event, Message, Opcode, Role, frame,
};
use keepwatch_protocol::{Input, Now};

use super::script::{Line, Scenario, Step, masked};
use super::text::{Compared, Part, Text, compare};

/// Where a script is played: a server that runs, and clients that talk to it, by number.
pub(crate) trait World {
    /// The revision that the server began at.
    fn start(&self) -> u64;
    /// The next client connects.
    fn connect(&mut self);
    fn send(&mut self, client: usize, bytes: &[u8]);
    fn half_close(&mut self, client: usize);
    fn reset(&mut self, client: usize);
    /// What the client is sent next: waits for it for as long as an answer may take.
    fn hear(&mut self, client: usize) -> Heard;
    /// The same, and waits only until it is likely that nothing comes.
    fn overhear(&mut self, client: usize) -> Heard;
    fn pass(&mut self, time: Duration);
    fn drain(&mut self);
    /// Waits for the end of the server, which must be a good one.
    fn exits(&mut self) -> Result<(), String>;
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Bytes(Vec<u8>),
    /// The server has ended its side, or the connection.
    End,
    /// The connection broke.
    Reset,
    Nothing,
}

/// Plays a script. Where something else happens than it says, that is an error, and `how` it was played stands in it.
pub(crate) fn play(scenario: &Scenario, world: impl World, how: &str) -> Result<(), String> {
    let start = world.start();
    let mut player = Player {
        world,
        start,
        speakers: vec![],
        current: 0,
        transcript: String::new(),
        drains: false,
        exited: false,
    };
    let steps = scenario.steps.iter().map(Some).chain([None]);
    for line in steps {
        let played = match line {
            Some(line) => player.step(line),
            None => player.nothing_is_unsaid().and_then(|()| player.exits()),
        };
        played.map_err(|problem| {
            let place =
                line.map_or("at its end".into(), |line| format!("line {}: {}", line.number, line.text));
            format!("{}, {how}, {place}\n{problem}\nuntil then\n{}", scenario.name, player.transcript)
        })?;
    }
    Ok(())
}

struct Player<W> {
    world: W,
    start: u64,
    speakers: Vec<Speaker>,
    current: usize,
    transcript: String,
    drains: bool,
    exited: bool,
}

struct Speaker {
    name: String,
    /// Sent to it, and not expected yet.
    unsaid: Vec<u8>,
    end: Option<Heard>,
    left: bool,
}

type Played = Result<(), String>;

impl<W: World> Player<W> {
    fn step(&mut self, line: &Line) -> Played {
        let start = self.start;
        match &line.step {
            Step::Speaker(name) => self.speaker(name),
            Step::Send(text) => self.send(&text.whole(start)),
            Step::SendCounted(head, body) => {
                let (mut request, body) = (head.whole(start), body.whole(start));
                request.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
                request.extend(body);
                self.send(&request);
            }
            Step::Say(text) => self.send(&masked(0x81, &text.whole(start))),
            Step::SayDeflated(text) => self.send(&deflated(&text.whole(start))),
            Step::Expect(text) => self.expect(text)?,
            Step::ExpectCounted(first, last, body) => {
                let length = if body.has_any() {
                    Text::any()
                } else {
                    Text::bytes(body.whole(start).len().to_string())
                };
                let length = Text::bytes("Content-Length: ").and(length).and(Text::bytes("\r\n"));
                self.expect(&first.clone().and(length).and(last.clone()).and(body.clone()))?;
            }
            Step::ExpectChunk(text) => {
                let length = if text.has_any() {
                    Text::any()
                } else {
                    Text::bytes(format!("{:x}", text.whole(start).len()))
                };
                self.expect(&length.and(Text::bytes("\r\n")).and(text.clone()).and(Text::bytes("\r\n")))?;
            }
            Step::ExpectMessage(text) => {
                let payload = text.whole(start);
                let head = frame::FrameHead::new(true, Opcode::Text, payload.len() as u64, None);
                self.expect(&Text::bytes([head.as_ref(), &payload].concat()))?;
            }
            Step::ExpectDeflated(text) => self.expect_deflated(&text.whole(start))?,
            Step::HalfClose => self.world.half_close(self.current),
            Step::Reset => {
                self.world.reset(self.current);
                self.speakers[self.current].left = true;
            }
            Step::Ended => self.ended()?,
            Step::Silence => {
                self.nothing_is_unsaid()?;
                if let Some(end) = &self.speakers[self.current].end {
                    return Err(format!("it came to {end:?}"));
                }
            }
            Step::Wait(time) => self.world.pass(*time),
            Step::Drain => self.drain(),
            Step::Exits => self.exits()?,
        }
        let _infallible = writeln!(self.transcript, "  {}", line.text);
        Ok(())
    }

    fn speaker(&mut self, name: &str) {
        self.current = self.speakers.iter().position(|speaker| speaker.name == name).unwrap_or_else(|| {
            self.world.connect();
            let name = name.to_owned();
            self.speakers.push(Speaker { name, unsaid: vec![], end: None, left: false });
            self.speakers.len() - 1
        });
    }

    fn drain(&mut self) {
        if !self.drains {
            self.drains = true;
            self.world.drain();
        }
    }

    /// Every script comes to a good end, whether it says so or not.
    fn exits(&mut self) -> Played {
        self.drain();
        if self.exited {
            return Ok(());
        }
        self.exited = true;
        self.world.exits()
    }

    fn send(&mut self, bytes: &[u8]) {
        self.world.send(self.current, bytes);
    }

    fn expect(&mut self, text: &Text) -> Played {
        let parts = text.parts(self.start);
        let length = self.await_that(&shown(&parts), |came| compare(&parts, came))?;
        self.speakers[self.current].unsaid.drain(..length);
        Ok(())
    }

    fn expect_deflated(&mut self, expected: &[u8]) -> Played {
        let length = self.await_that("a compressed message", |came| {
            match frame::decode_extended(came, Role::Client) {
                Ok(None) => Compared::SoFar,
                Ok(Some((head, size))) if head.rsv1 => match size + head.len as usize {
                    length if length <= came.len() => Compared::Same(length),
                    _ => Compared::SoFar,
                },
                _ => Compared::Differs(0),
            }
        })?;
        let mut frame: Vec<u8> = self.speakers[self.current].unsaid.drain(..length).collect();
        let message = inflated(&mut frame);
        if message == expected {
            return Ok(());
        }
        Err(format!("it is \"{}\"", message.escape_ascii()))
    }

    /// Hears more until it is known whether it is what is expected.
    fn await_that(&mut self, expected: &str, compared: impl Fn(&[u8]) -> Compared) -> Result<usize, String> {
        loop {
            let speaker = &mut self.speakers[self.current];
            let why = match (compared(&speaker.unsaid), &speaker.end) {
                (Compared::Same(length), _) => return Ok(length),
                (Compared::Differs(at), _) => {
                    format!("is other from byte {at} on: \"{}\"", shortened(&speaker.unsaid[at..]))
                }
                (Compared::SoFar, Some(end)) => format!("then comes to {end:?}"),
                (Compared::SoFar, None) => match self.world.hear(self.current) {
                    Heard::Bytes(bytes) => {
                        speaker.unsaid.extend(bytes);
                        continue;
                    }
                    Heard::Nothing => "is not followed by more in time".into(),
                    end => {
                        speaker.end = Some(end);
                        continue;
                    }
                },
            };
            return Err(format!(
                "expected \"{expected}\"\nwhat came \"{}\" {why}",
                shortened(&speaker.unsaid)
            ));
        }
    }

    fn ended(&mut self) -> Played {
        let speaker = &mut self.speakers[self.current];
        while speaker.end.is_none() {
            match self.world.hear(self.current) {
                Heard::Bytes(bytes) => speaker.unsaid.extend(bytes),
                Heard::Nothing => return Err("the connection goes on".into()),
                end => speaker.end = Some(end),
            }
        }
        speaker.left = true;
        if speaker.end != Some(Heard::End) || !speaker.unsaid.is_empty() {
            return Err(format!(
                "before its end {:?} there came \"{}\"",
                speaker.end,
                shortened(&speaker.unsaid)
            ));
        }
        self.world.half_close(self.current);
        Ok(())
    }

    fn nothing_is_unsaid(&mut self) -> Played {
        for (client, speaker) in self.speakers.iter_mut().enumerate() {
            while !speaker.left && speaker.end.is_none() {
                match self.world.overhear(client) {
                    Heard::Bytes(bytes) => speaker.unsaid.extend(bytes),
                    Heard::Nothing => break,
                    end => speaker.end = Some(end),
                }
            }
            if !speaker.unsaid.is_empty() {
                return Err(format!("{} was also sent \"{}\"", speaker.name, shortened(&speaker.unsaid)));
            }
        }
        Ok(())
    }
}

fn shown(parts: &[Part]) -> String {
    let parts = parts.iter().map(|part| match part {
        Part::Bytes(bytes) => shortened(bytes),
        Part::Any => "*".into(),
    });
    parts.collect()
}

fn shortened(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(1000)];
    let more = if cut.len() < bytes.len() { ".." } else { "" };
    format!("{}{more}", cut.escape_ascii())
}

/// The client's end of a WebSocket whose messages are compressed, none with what was before it: each may have one of its own.
fn compressing() -> Connection {
    let terms = Terms { send_takeover: false, receive_takeover: false, ..Terms::default() };
    let compression = Compression::deflate(DeflateConfig { terms, ..DeflateConfig::default() });
    let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let offer = compression.offer().expect("it compresses");
    let agreed = offer.accept([answer]).expect("a right answer").expect("an extension");
    let config = Config { compression, ..Config::default() };
    Connection::new(Role::Client, config.into(), 7, Now::default()).with_deflate(agreed)
}

fn deflated(message: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    let message = std::str::from_utf8(message).expect("messages are text");
    compressing().send_text(message, &mut out).expect("an open connection");
    assert!(out[0] & 0x40 != 0, "it is too short to be compressed");
    out
}

fn inflated(frame: &mut [u8]) -> Vec<u8> {
    let (mut connection, mut assembler) = (compressing(), Assembler::new(1 << 24));
    let mut input = Input::new(frame);
    loop {
        match connection.recv(&mut input, &mut vec![], Now::default()).expect("a right frame") {
            Event::Data { kind, bytes, first, last } => {
                if let Some(message) = assembler.push(kind, &bytes, first, last).expect("it fits") {
                    let Message::Text(text) = message else { panic!("the server sends text: {message:?}") };
                    return text.as_bytes().to_vec();
                }
            }
            other => panic!("{other:?}"),
        }
    }
}
