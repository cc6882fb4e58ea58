//! Other projects' cases of HTTP/1.1 responses, given to a client's connection whole, byte by byte and at every cut.
//!
//! The corpora are not part of this repository. `KEEPWATCH_CONFORMANCE` names the folder that has `corpora/llhttp.json` and
//! `corpora/h11_connections.json`; without it the tests are skipped. Where a case and RFC 9112 disagree, the table of its
//! test says so, and why; all others are judged strictly.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "all of this is a test, and the corpora have the shape that they have"
)]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keepwatch_protocol::http1::client::{
    ClientConfig, ClientConnection, ClientEvent, Failure, NotReusable, Request,
};
use keepwatch_protocol::{Input, Now};
use keepwatch_sim::cuts;
use serde_json::Value;

/// What a connection made of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    heads: Vec<u16>,
    /// Final responses that are complete.
    complete: usize,
    body: Vec<u8>,
    failure: Option<Failure>,
    /// The connection is another protocol's.
    upgraded: bool,
    /// Bytes came behind a response that was the last.
    left_over: bool,
}

/// A client that sends the request again whenever it was answered, so many times.
struct Client<'a> {
    requests: usize,
    connection: ClientConnection,
    request: Request<'a>,
    unread: Vec<u8>,
    outcome: Outcome,
}

impl<'a> Client<'a> {
    fn new(request: Request<'a>, requests: usize, config: &ClientConfig) -> Self {
        let connection = ClientConnection::new(Arc::new(config.clone()));
        let (unread, outcome) = (Vec::new(), Outcome::default());
        let mut client = Self { requests, connection, request, unread, outcome };
        client.ask();
        client
    }

    fn ask(&mut self) {
        if self.requests > 0 && self.connection.reuse().is_ok() {
            self.requests -= 1;
            self.connection.send(&self.request, b"", &mut Vec::new(), Now::default()).unwrap();
        }
    }

    fn receive(&mut self, bytes: &[u8], last: bool) {
        self.unread.extend_from_slice(bytes);
        let mut unread = std::mem::take(&mut self.unread);
        let mut input = if last { Input::last(&mut unread) } else { Input::new(&mut unread) };
        while self.outcome.failure.is_none() {
            match self.connection.recv(&mut input, Now::default()) {
                Ok(ClientEvent::NeedMore | ClientEvent::Closed) => break,
                Ok(ClientEvent::Informational(head) | ClientEvent::Response(head)) => {
                    self.outcome.heads.push(head.code());
                }
                Ok(ClientEvent::Upgraded(head)) => {
                    self.outcome.heads.push(head.code());
                    self.outcome.upgraded = true;
                }
                Ok(ClientEvent::Data(data)) => self.outcome.body.extend_from_slice(data),
                Ok(ClientEvent::Trailers(_)) => {}
                Ok(ClientEvent::EndOfResponse { .. }) => {
                    self.outcome.complete += 1;
                    self.ask();
                }
                Err(error) => self.outcome.failure = Some(error.failure),
            }
        }
        let taken = input.consumed();
        self.unread = unread.split_off(taken);
        let closed =
            !matches!(self.connection.reuse(), Ok(()) | Err(NotReusable::Busy | NotReusable::Upgraded));
        self.outcome.left_over |= closed && self.outcome.failure.is_none() && !self.unread.is_empty();
    }
}

/// The outcome of these bytes, the same under every cut.
fn outcome(
    request: Request<'_>,
    requests: usize,
    config: &ClientConfig,
    bytes: &[u8],
    ends: bool,
) -> Outcome {
    cuts::every(bytes, |parts| {
        let mut client = Client::new(request, requests, config);
        for part in parts {
            client.receive(part, false);
        }
        if ends {
            client.receive(b"", true);
        }
        client.outcome
    })
}

fn cases(file: &str) -> Option<Vec<Value>> {
    let Ok(folder) = std::env::var("KEEPWATCH_CONFORMANCE") else {
        println!("skipped: KEEPWATCH_CONFORMANCE names no folder");
        return None;
    };
    let path = std::path::Path::new(&folder).join("corpora").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases: Value = serde_json::from_str(&text).unwrap();
    Some(cases.as_array().unwrap().clone())
}

fn bytes_of(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

/// What we make of a case of llhttp where that is not what llhttp makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disputed {
    Refused,
    Taken,
}

/// Case, what is done with it here, why.
const LLHTTP_DISPUTED: &[(&str, Disputed, &str)] = &[
    ("sample.md:43", Disputed::Refused, "RTSP is not HTTP (RFC 9112 section 2.3)"),
    ("sample.md:63", Disputed::Refused, "ICE is not HTTP (RFC 9112 section 2.3)"),
    (
        "sample.md:648",
        Disputed::Refused,
        "the major version is 1, and HTTP/0.9 has no status line at all (RFC 9110 section 2.5)",
    ),
    (
        "transfer-encoding.md:7",
        Disputed::Taken,
        "a client lets spaces after a chunk's size pass, as some servers pad with them; RFC 9112 section 7.1 has none",
    ),
];

#[test]
fn responses_of_llhttp() {
    let Some(cases) = cases("llhttp.json") else { return };
    let (mut judged, mut lenient, mut wrong) = (0, 0, Vec::new());
    for case in &cases {
        let role = case["role"].as_str().unwrap();
        let config = match role {
            "response" | "response-finish" => ClientConfig::default(),
            "response-lenient-optional-cr-before-lf" => {
                ClientConfig { lenient_lf: true, ..ClientConfig::default() }
            }
            _ if role.starts_with("response") => {
                lenient += 1; // a lenience that there is no knob for
                continue;
            }
            _ => continue,
        };
        let id = case["id"].as_str().unwrap().trim_start_matches("llhttp:response/");
        let mut bytes = bytes_of(&case["bytes"]);
        if case["error"].is_null() && bytes.ends_with(b"\r\n") {
            bytes.extend_from_slice(b"\r\n"); // the corpus has lost the last empty line of each case
        }
        let skips_body = case["meta"]["skipBody"] == true;
        let request = match () {
            () if skips_body => Request::new("HEAD", "x", "/"),
            () => Request { upgrade: Some("h2c"), ..Request::get("x", "/") },
        };
        let seen = outcome(request, usize::MAX, &config, &bytes, false);
        let error = case["error"][1].as_str();
        let disputed = LLHTTP_DISPUTED.iter().find(|(name, ..)| *name == id).map(|(_, done, _)| *done);
        let right = match (disputed, error) {
            (Some(Disputed::Refused), _) => seen.failure.is_some(),
            (Some(Disputed::Taken), _) => seen.failure.is_none(),
            (None, Some("Pause on CONNECT/Upgrade")) => seen.upgraded,
            (None, Some("Data after `Connection: close`")) => seen.failure.is_none() && seen.left_over,
            (None, Some(_)) => seen.failure.is_some(),
            (None, None) => {
                let body = case["bodylen"].as_u64().unwrap() as usize;
                let interim = seen.heads.iter().filter(|code| **code < 200).count();
                let complete = case["complete"].as_u64().unwrap() as usize;
                seen.failure.is_none() && seen.body.len() == body && seen.complete + interim == complete
            }
        };
        if !right {
            wrong.push(format!("{id} {:?}: {} gave {seen:?}", case["name"], bytes.escape_ascii()));
        }
        judged += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{judged} cases judged, {lenient} need a lenience that does not exist here");
    assert!(judged >= 75, "only {judged} cases were found");
}

/// What h11 says and we do not, by the test that it was recorded in and the bytes that are looked at.
const H11_DISPUTED: &[(&str, &str, &str)] = &[
    (
        "test_empty_response",
        "\r\n",
        "an empty line before a response is passed over, as it may belong to the one before",
    ),
    ("test_close_simple", "123", "recorded without an outcome"),
];

/// A recording: what was given, and what h11 made of it.
#[derive(Default)]
struct Recording {
    bytes: Vec<u8>,
    ends: bool,
    heads: Vec<u16>,
    body: Vec<u8>,
    complete: usize,
    fails: bool,
    paused: bool,
}

impl Recording {
    fn of(case: &Value) -> Self {
        let mut recording = Self::default();
        for step in case["ops"].as_array().unwrap() {
            match step[0].as_str().unwrap() {
                "in" if step[1] == "" => recording.ends = true,
                "in" => recording.bytes.extend(bytes_of(&step[1])),
                "err" => recording.fails = true,
                _ if step[1] == "PAUSED" => recording.paused = true,
                _ => match step[1]["t"].as_str().unwrap_or_default() {
                    "Response" | "InformationalResponse" => {
                        recording.heads.push(step[1]["status_code"].as_u64().unwrap() as u16);
                    }
                    "Data" => recording.body.extend(bytes_of(&step[1]["data"])),
                    "EndOfMessage" => recording.complete += 1,
                    _ => {}
                },
            }
        }
        recording
    }

    /// The request that it answers: h11 is told of it by means that were not recorded.
    fn request(&self) -> Request<'static> {
        match self.heads.last() {
            Some(200) if self.paused => Request::connect("x:443"),
            _ => Request { upgrade: Some("a, b"), ..Request::get("x", "/") },
        }
    }
}

#[test]
fn connections_of_h11() {
    let Some(cases) = cases("h11_connections.json") else { return };
    let (mut judged, mut wrong) = (0, Vec::new());
    for case in cases.iter().filter(|case| case["role"] == "client") {
        let test = case["test"].as_str().unwrap();
        let mut recording = Recording::of(case);
        let shown = recording.bytes.escape_ascii().to_string();
        let disputed =
            H11_DISPUTED.iter().any(|(name, bytes, _)| *name == test && bytes.as_bytes() == recording.bytes);
        if disputed {
            continue;
        }
        if recording.heads == [101] {
            // It takes a 101 without the option that RFC 9110 section 7.8 has servers send.
            let head = String::from_utf8(recording.bytes).unwrap();
            recording.bytes = head.replacen("\r\n\r\n", "\r\nConnection: upgrade\r\n\r\n", 1).into_bytes();
        }
        // What came without any request is among the recordings too.
        let idle = recording.heads.is_empty() && !recording.fails;
        let requests = if idle { 0 } else { recording.complete.max(1) };
        let config = ClientConfig::default();
        let seen = outcome(recording.request(), requests, &config, &recording.bytes, recording.ends);
        let right = seen.failure.is_some() == recording.fails
            && seen.heads == recording.heads
            && seen.body == recording.body
            && seen.complete == recording.complete
            && seen.upgraded == recording.paused;
        if !right {
            wrong.push(format!("{test}: {shown} gave {seen:?}"));
        }
        judged += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{judged} recordings judged");
    assert!(judged >= 41, "only {judged} recordings were found");
}
