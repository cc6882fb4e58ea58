//! Scripted conversations, which read like a transcript.

use std::fmt::Write as _;
use std::time::Duration;

use keepwatch_protocol::Server;

use crate::client::Client;
use crate::sim::{Sim, SimConfig, SimError};

/// A conversation with a simulated server: each line says what one side says, and is checked as it is reached.
///
/// What the server sends is compared byte for byte. It must have been said by [`server`](Conversation::server) lines when
/// the conversation goes on with something else, and when it [ends](Conversation::end).
///
/// # Panics
///
/// Every method is an assertion: it panics where the transcript is not what happens, and shows what was expected, what came
/// and where they part.
#[must_use = "end() checks that the server said no more"]
pub struct Conversation<S: Server> {
    sim: Sim<S>,
    speakers: Vec<Speaker>,
    current: usize,
    transcript: String,
}

struct Speaker {
    name: String,
    client: Client,
    /// Received, and not said by the transcript yet.
    unsaid: Vec<u8>,
    /// The last line was the server's: what is unsaid now is too much.
    answered: bool,
}

impl<S: Server> Conversation<S> {
    /// A client connects to a new server.
    #[track_caller]
    pub fn new(server: S) -> Self {
        Self::with_config(server, SimConfig::default())
    }

    /// The same under these limits and habits.
    #[track_caller]
    pub fn with_config(server: S, config: SimConfig) -> Self {
        Self::on(Sim::with_config(server, config))
    }

    /// A client connects to the server of a simulation that has been set up already.
    #[track_caller]
    pub fn on(sim: Sim<S>) -> Self {
        let conversation = Self { sim, speakers: Vec::new(), current: 0, transcript: String::new() };
        conversation.speaker("client")
    }

    /// From here on, this client speaks and is spoken to. A name that was not used yet is a new client, which connects now.
    /// The first is called `client`.
    #[track_caller]
    pub fn speaker(mut self, name: &str) -> Self {
        if let Some(at) = self.speakers.iter().position(|speaker| speaker.name == name) {
            self.current = at;
            return self;
        }
        let client = self.sim.connect();
        self.current = self.speakers.len();
        self.speakers.push(Speaker { name: name.to_owned(), client, unsaid: Vec::new(), answered: false });
        self.note(&format!("({name} connects)"));
        self.run();
        self
    }

    /// The client sends these bytes.
    #[track_caller]
    pub fn client(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.go_on();
        let line = format!("{}: {}", self.speakers[self.current].name, bytes.as_ref().escape_ascii());
        self.note(&line);
        self.speakers[self.current].client.send(bytes);
        self.run();
        self
    }

    /// The client ends its side of the stream.
    #[track_caller]
    pub fn client_ends(mut self) -> Self {
        self.go_on();
        self.note("(it ends its side)");
        self.speakers[self.current].client.shutdown_write();
        self.run();
        self
    }

    /// The client breaks the connection.
    #[track_caller]
    pub fn client_resets(mut self) -> Self {
        self.go_on();
        self.note("(it resets)");
        self.speakers[self.current].client.reset();
        self.run();
        self
    }

    /// The server has sent this. A `*` stands for any bytes up to what follows it, line breaks excepted: `Date: *\r\n`.
    #[track_caller]
    pub fn server(mut self, expected: impl AsRef<str>) -> Self {
        let expected = expected.as_ref();
        self.expect(expected.as_bytes(), |came| match_pattern(expected.as_bytes(), came));
        self
    }

    /// The server has sent exactly these bytes; `*` means itself.
    #[track_caller]
    pub fn server_bytes(mut self, expected: impl AsRef<[u8]>) -> Self {
        let expected = expected.as_ref();
        self.expect(expected, |came| match_literal(expected, came));
        self
    }

    /// The server has ended its side of the stream, and everything that it sent was said.
    #[track_caller]
    pub fn server_ends(mut self) -> Self {
        self.speakers[self.current].answered = true;
        self.go_on();
        let ended = self.speakers[self.current].client.is_ended();
        self.check(ended, "the server should have ended its side, and has not");
        self.note("(the server ends its side)");
        self
    }

    /// The server has closed the socket, with nothing left unread in it, and everything that it sent was said.
    #[track_caller]
    pub fn server_closes(mut self) -> Self {
        self.speakers[self.current].answered = true;
        self.go_on();
        let client = self.speakers[self.current].client.clone();
        self.check(client.is_closed(), "the server should have closed the socket, and has not");
        self.check(!client.was_reset(), "the server closed the socket with bytes of the client unread");
        self.note("(the server closes)");
        self
    }

    /// The server has sent nothing that was not said, and the connection is open in both directions.
    #[track_caller]
    pub fn silence(mut self) -> Self {
        self.speakers[self.current].answered = true;
        self.go_on();
        let open = !self.speakers[self.current].client.is_ended();
        self.check(open, "the server should not have ended the stream yet");
        self
    }

    /// So much time passes.
    #[track_caller]
    pub fn wait(mut self, time: Duration) -> Self {
        self.go_on();
        self.note(&format!("({time:?} pass)"));
        let result = self.sim.advance(time);
        self.hear(result);
        self
    }

    /// So many seconds pass.
    #[track_caller]
    pub fn wait_secs(self, secs: u64) -> Self {
        self.wait(Duration::from_secs(secs))
    }

    /// Anything else: something is done with the simulation and the client that is speaking, and everything runs until it
    /// is idle.
    #[track_caller]
    pub fn with(mut self, action: impl FnOnce(&mut Sim<S>, &Client)) -> Self {
        action(&mut self.sim, &self.speakers[self.current].client);
        self.run();
        self
    }

    /// The conversation is over: everything that the server sent was said. Returns the simulation.
    #[track_caller]
    pub fn end(mut self) -> Sim<S> {
        for speaker in &mut self.speakers {
            speaker.answered = true;
        }
        self.go_on();
        self.sim
    }

    #[track_caller]
    fn run(&mut self) {
        let result = self.sim.run();
        self.hear(result);
    }

    #[track_caller]
    fn hear(&mut self, result: Result<(), SimError>) {
        if let Err(error) = result {
            self.check(false, &error.to_string());
        }
        for speaker in &mut self.speakers {
            speaker.unsaid.extend(speaker.client.receive());
        }
    }

    /// The transcript goes on with something that is not the server's: all that it sent must have been said.
    #[track_caller]
    fn go_on(&mut self) {
        let too_much = self.speakers.iter().find(|speaker| speaker.answered && !speaker.unsaid.is_empty());
        if let Some(Speaker { name, unsaid, .. }) = too_much {
            let problem = format!("to {name} the server also sent\n{}", lines(unsaid));
            self.check(false, &problem);
        }
        for speaker in &mut self.speakers {
            speaker.answered = false;
        }
    }

    #[track_caller]
    fn expect(&mut self, expected: &[u8], matched: impl FnOnce(&[u8]) -> Result<usize, Differs>) {
        let speaker = &mut self.speakers[self.current];
        match matched(&speaker.unsaid) {
            Ok(length) => {
                let said: Vec<u8> = speaker.unsaid.drain(..length).collect();
                speaker.answered = true;
                self.note(&format!("server: {}", said.escape_ascii()));
            }
            Err(Differs { expected: at, came }) => {
                let problem = format!(
                    "expected from the server\n{}what it sent\n{}they part before\n  expected: \"{}\"\n  it sent:  \"{}\"",
                    lines(expected),
                    lines(&speaker.unsaid),
                    start(&expected[at.min(expected.len())..]),
                    start(&speaker.unsaid[came.min(speaker.unsaid.len())..]),
                );
                self.check(false, &problem);
            }
        }
    }

    fn note(&mut self, line: &str) {
        let _infallible = writeln!(self.transcript, "  {line}");
    }

    #[track_caller]
    fn check(&self, holds: bool, problem: &str) {
        assert!(holds, "{problem}\nthe conversation so far\n{}", self.transcript);
    }
}

/// Where an expectation and what came part: an offset into each.
#[derive(Debug, PartialEq, Eq)]
struct Differs {
    expected: usize,
    came: usize,
}

/// Matches bytes at the start of what came. Returns how many that were.
fn match_literal(expected: &[u8], came: &[u8]) -> Result<usize, Differs> {
    let same = expected.iter().zip(came).take_while(|(a, b)| a == b).count();
    if same == expected.len() { Ok(same) } else { Err(Differs { expected: same, came: same }) }
}

/// The same where a `*` stands for any bytes but line breaks, as few as are possible.
fn match_pattern(expected: &[u8], came: &[u8]) -> Result<usize, Differs> {
    let Some(star) = expected.iter().position(|&byte| byte == b'*') else {
        return match_literal(expected, came);
    };
    let from = match_literal(&expected[..star], came)?;
    let line =
        came[from..].iter().position(|byte| b"\r\n".contains(byte)).map_or(came.len(), |end| from + end);
    let rest = &expected[star + 1..];
    if rest.is_empty() {
        return Ok(line);
    }
    let mut furthest = Differs { expected: star, came: from };
    for at in from..=line {
        match match_pattern(rest, &came[at..]) {
            Ok(length) => return Ok(at + length),
            Err(Differs { expected, came }) if expected > 0 && star + 1 + expected > furthest.expected => {
                furthest = Differs { expected: star + 1 + expected, came: at + came };
            }
            Err(_) => {}
        }
    }
    Err(furthest)
}

/// Bytes as a person reads them: one line each, line breaks shown.
fn lines(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "  (nothing)\n".to_owned();
    }
    bytes.split_inclusive(|&byte| byte == b'\n').fold(String::new(), |mut text, line| {
        let _infallible = writeln!(text, "  {}", line.escape_ascii());
        text
    })
}

/// The start of what may be long.
fn start(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(60)];
    let more = if cut.len() < bytes.len() { ".." } else { "" };
    format!("{}{more}", cut.escape_ascii())
}
