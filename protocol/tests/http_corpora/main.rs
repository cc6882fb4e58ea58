//! Requests that other projects test their parsers with, given to a [`ServerConnection`] under every cut.
//!
//! The corpora are not part of this repository. `KEEPWATCH_CONFORMANCE` names the folder that has them in `corpora`; without
//! it the tests are skipped. Each case is run whole, cut in two everywhere, and byte by byte, with the same result; then it
//! is judged by what its corpus expects, or by [`disputed`] where RFC 9110 and RFC 9112, strictly read, say otherwise.
//!
//! Many cases were written without `Host`, which none of these parsers asks for: those get one, see [`mended`].
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "all of this is a test, and the corpora have the shape that they have"
)]

mod disputed;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keepwatch_protocol::http1::{
    Config, Disposition, Event, Exchange, Fault, Limits, ResponseHead, ServerConnection, StatusCode, Version,
};
use keepwatch_protocol::{Input, Now};
use keepwatch_sim::cuts;
use serde_json::Value;

// ---- What a connection makes of bytes -------------------------------------------------------------------------------

/// What was heard on a connection, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    requests: Vec<Request>,
    end: End,
    /// What was answered. A refusal answers nothing but itself.
    out: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Request {
    method: String,
    target: String,
    http10: bool,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    complete: bool,
}

/// Where a connection stands when all bytes have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Between two requests, with nothing left over.
    Ready,
    /// Within a request, or within the line before one.
    Within,
    /// After the last request: it said so, and what follows it was not looked at.
    Closed,
    /// Another protocol has taken over.
    Switched,
    Refused(Fault),
}

/// How a case is played.
#[derive(Clone, Copy)]
struct Play {
    /// The bytes are followed by the end of the input.
    ends: bool,
    /// A CONNECT is answered 200, and not 405.
    tunnels: bool,
}

/// A server that answers each request when it is complete.
struct Server {
    connection: ServerConnection,
    exchange: Option<Exchange>,
    requests: Vec<Request>,
    out: Vec<u8>,
    play: Play,
}

impl Server {
    /// Takes what can be taken. `Some` if that was the end.
    fn take(&mut self, input: &mut Input<'_>) -> Option<End> {
        loop {
            let event = match self.connection.recv(input, &mut self.out, Now::default()) {
                Ok(event) => event,
                Err(error) => {
                    assert!(self.out.windows(9).any(|part| part == b"HTTP/1.1 "), "a refusal is answered");
                    return Some(End::Refused(error.fault));
                }
            };
            match event {
                Event::NeedMore => return None,
                Event::Paused if self.connection.disposition() == Disposition::Upgraded => {
                    return Some(End::Switched);
                }
                Event::Paused => return None,
                Event::Closed => return Some(End::Closed),
                Event::HungUp | Event::Refused(_) => {}
                Event::Request(head, exchange) => {
                    self.exchange = Some(exchange);
                    self.requests.push(Request {
                        method: head.method().to_owned(),
                        target: head.target().to_owned(),
                        http10: head.version() == Version::Http10,
                        fields: head.fields().iter().map(|f| (f.name.to_owned(), f.value.to_vec())).collect(),
                        ..Request::default()
                    });
                }
                Event::Data(data) => self.requests.last_mut().unwrap().body.extend_from_slice(data),
                Event::Trailers(fields) => {
                    self.requests.last_mut().unwrap().trailers =
                        fields.iter().map(|f| (f.name.to_owned(), f.value.to_vec())).collect();
                }
                Event::EndOfRequest => {
                    let request = self.requests.last_mut().unwrap();
                    request.complete = true;
                    let status = match &*request.method {
                        "CONNECT" if !self.play.tunnels => StatusCode::METHOD_NOT_ALLOWED,
                        _ => StatusCode::OK,
                    };
                    let (exchange, head) = (self.exchange.take().unwrap(), ResponseHead::empty(status, &[]));
                    self.connection.answer(exchange, &head, b"", &mut self.out, Now::default()).unwrap();
                }
            }
        }
    }
}

/// Gives a connection these pieces.
fn hear(pieces: &[&[u8]], play: Play) -> Heard {
    // The limit on bodies is a policy of ours; what is judged here is the framing.
    let limits = Limits { body_bytes: u64::MAX, ..Limits::default() };
    let config = Arc::new(Config { limits, ..Config::default() });
    let connection = ServerConnection::new(config, Now::default());
    let mut server = Server { connection, exchange: None, requests: Vec::new(), out: Vec::new(), play };
    let mut unread = Vec::new();
    for piece in pieces {
        unread.extend_from_slice(piece);
        let mut input = Input::new(&mut unread);
        let end = server.take(&mut input);
        if let Some(end) = end {
            return Heard { requests: server.requests, end, out: server.out };
        }
        let taken = input.consumed();
        unread.drain(..taken);
    }
    let idle = server.connection.is_idle() && unread.is_empty();
    let mut end = if idle { End::Ready } else { End::Within };
    if play.ends {
        end = server.take(&mut Input::last(&mut unread)).unwrap_or(end);
    }
    Heard { requests: server.requests, end, out: server.out }
}

/// What is heard of these bytes: the same under every cut, or under many where they are long.
fn under_every_cut(id: &str, bytes: &[u8], play: Play) -> Heard {
    cuts::many(bytes, |parts| (id, hear(parts, play))).1
}

/// The same bytes, with `Host: x` in each request that is refused for having no `Host` at all.
fn with_hosts(mut bytes: Vec<u8>, play: Play) -> Vec<u8> {
    loop {
        // The request that lacks it is the one behind those that were complete: as many bytes as may come before it is refused.
        if hear(&[&bytes[..]], play).end != End::Refused(Fault::Host) {
            return bytes;
        }
        let refused = (1..=bytes.len()).find(|&len| {
            matches!(hear(&[&bytes[..len]], Play { ends: false, ..play }).end, End::Refused(Fault::Host))
        });
        let head_ends = refused.unwrap();
        let head_starts = (0..head_ends)
            .rev()
            .find(|&at| hear(&[&bytes[..at]], Play { ends: false, ..play }).end == End::Ready)
            .unwrap_or(0);
        let head = bytes[head_starts..head_ends].to_ascii_lowercase();
        if head.windows(6).any(|line| line == b"\nhost:") {
            return bytes; // it is about Host
        }
        let line = head.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let after_line = head_starts + line + 2;
        bytes.splice(after_line..after_line, *b"Host: x\r\n");
    }
}

/// The same bytes without the fragment in a target, for which the request is refused (RFC 9112 section 3.2). Several parsers
/// take it, in cases that are about something else.
fn without_fragment(mut bytes: Vec<u8>, play: Play) -> Vec<u8> {
    let line = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let Some(from) = bytes[..line].iter().position(|&byte| byte == b'#') else { return bytes };
    assert_eq!(hear(&[&bytes[..]], play).end, End::Refused(Fault::Target));
    let fragment = bytes[from..line].iter().position(|&byte| byte == b' ').unwrap();
    bytes.drain(from..from + fragment);
    bytes
}

/// What is judged of a case: see [`without_fragment`] and [`with_hosts`].
fn mended(bytes: Vec<u8>, play: Play) -> Vec<u8> {
    with_hosts(without_fragment(bytes, play), play)
}

// ---- What the corpora expect ----------------------------------------------------------------------------------------

/// The verdicts on a corpus.
#[derive(Default)]
struct Verdicts {
    judged: usize,
    disputed: BTreeSet<String>,
    wrong: String,
}

impl Verdicts {
    /// A case that its corpus and this server judge alike, or one that is disputed and ends as the table says.
    fn judge(&mut self, id: &str, bytes: &[u8], heard: &Heard, agreed: bool) {
        self.judged += 1;
        let ends_as_listed = disputed::end(id).map(|end| end == heard.end);
        if ends_as_listed.is_some() {
            self.disputed.insert(id.to_owned());
        }
        // A dispute that is settled has no place in the table.
        if agreed == ends_as_listed.is_none() && ends_as_listed != Some(false) {
            return;
        }
        let heads: Vec<String> =
            heard.requests.iter().map(|r| format!("{} {}", r.method, r.target)).collect();
        writeln!(self.wrong, "{id}: {:?} after {heads:?}: {}", heard.end, bytes.escape_ascii()).unwrap();
    }

    /// What is said of a corpus at its end; the names of its cases begin with `prefix`.
    fn conclude(self, corpus: &str, prefix: &str, least: usize) {
        println!("{corpus}: {} cases, {} of them disputed", self.judged, self.disputed.len());
        assert!(self.wrong.is_empty(), "judged otherwise than {corpus} expects:\n{}", self.wrong);
        assert!(self.judged >= least, "{corpus}: only {} cases were found", self.judged);
        let listed: BTreeSet<String> = disputed::DISPUTES
            .iter()
            .flat_map(|dispute| dispute.ids)
            .filter(|id| id.starts_with(prefix))
            .map(|&id| id.to_owned())
            .collect();
        assert_eq!(self.disputed, listed, "disputed, but not a case of {corpus}");
    }
}

/// The cases of a corpus; `None` (and a word about it) if it is not at hand.
fn cases(file: &str) -> Option<Vec<Value>> {
    let Ok(folder) = std::env::var("KEEPWATCH_CONFORMANCE") else {
        println!("skipped: KEEPWATCH_CONFORMANCE names no folder");
        return None;
    };
    let path = Path::new(&folder).join("corpora").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let Value::Array(cases) = serde_json::from_str(&text).unwrap() else { panic!("{file} is no list") };
    Some(cases)
}

fn base64(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

/// Two corpora have escapes (`\x07`, `\t`, `\u017f`) where their originals have the byte or letter that the case is about.
fn unescaped(bytes: Vec<u8>) -> Vec<u8> {
    let hex = |digits: Option<&[u8]>| u32::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok();
    let (mut plain, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let digits = |count| hex(bytes.get(at + 2..at + 2 + count));
        match (&bytes[at..], digits(2), digits(4)) {
            ([b'\\', b'x', ..], Some(byte), _) => {
                plain.push(u8::try_from(byte).unwrap());
                at += 4;
            }
            ([b'\\', b'u', ..], _, Some(letter)) => {
                plain.extend(char::from_u32(letter).unwrap().to_string().bytes());
                at += 6;
            }
            ([b'\\', b't', ..], _, _) => {
                plain.push(b'\t');
                at += 2;
            }
            (rest, _, _) => {
                plain.push(rest[0]);
                at += 1;
            }
        }
    }
    plain
}

fn complete(heard: &Heard) -> usize {
    heard.requests.iter().filter(|request| request.complete).count()
}

fn body_bytes(heard: &Heard) -> usize {
    heard.requests.iter().map(|request| request.body.len()).sum()
}

/// A peer that is at fault, by its bytes: not by their end.
fn refused(heard: &Heard) -> bool {
    matches!(heard.end, End::Refused(fault) if fault != Fault::Incomplete)
}

#[test]
fn llhttp() {
    let Some(cases) = cases("llhttp.json") else { return };
    let mut verdicts = Verdicts::default();
    for case in &cases {
        let (id, role) = (case["id"].as_str().unwrap(), case["role"].as_str().unwrap());
        if !role.starts_with("request") {
            continue;
        }
        let play = Play { ends: false, tunnels: true };
        let bytes = mended(with_last_line_end(base64(&case["bytes"]), &case["log"]), play);
        let heard = under_every_cut(id, &bytes, play);
        let expected = case["complete"].as_u64().unwrap() as usize;
        let same =
            complete(&heard) == expected && body_bytes(&heard) as u64 == case["bodylen"].as_u64().unwrap();
        let agreed = match case["error"][0].as_str() {
            None => same && !refused(&heard),
            // There it is an error, here what follows the last request is not looked at (RFC 9112 section 9.6).
            Some("5") => same && heard.end == End::Closed,
            // There it pauses, for the caller to switch protocols. Here the caller did not switch, except to a tunnel, and in
            // what follows there is no other request.
            Some("22") => same && heard.requests.len() == expected,
            Some(_) => refused(&heard) && complete(&heard) == expected,
        };
        verdicts.judge(id, &bytes, &heard, agreed);
    }
    verdicts.conclude("llhttp", "llhttp:", 166);
}

/// The corpus lost the line end at the end of many cases. Their logs, where they go so far, count it.
fn with_last_line_end(mut bytes: Vec<u8>, log: &Value) -> Vec<u8> {
    let numbers = |line: &Value| {
        let mut words = line.as_str().unwrap().split(' ');
        let number = |word: Option<&str>, name: &str| word?.strip_prefix(name)?.parse::<usize>().ok();
        let at = number(words.next(), "off=").unwrap_or(0);
        at + number(words.next(), "len=").unwrap_or(0)
    };
    let logged = log.as_array().unwrap().iter().map(numbers).max().unwrap_or(0);
    if logged == bytes.len() + 2 || bytes.ends_with(b"\r\n") && !bytes.ends_with(b"\r\n\r\n") {
        bytes.extend_from_slice(b"\r\n");
    }
    assert!(logged <= bytes.len(), "the log goes on");
    bytes
}

#[test]
fn gunicorn() {
    let Some(cases) = cases("gunicorn.json") else { return };
    let mut verdicts = Verdicts::default();
    for case in &cases {
        let id = case["id"].as_str().unwrap();
        let play = Play { ends: true, tunnels: true };
        let bytes = mended(unescaped(base64(&case["bytes"])), play);
        let heard = under_every_cut(id, &bytes, play);
        let agreed = match case["expect"].as_str().unwrap() {
            "ok" => {
                let expected = case["requests"].as_array().unwrap();
                let same = |(heard, expected): (&Request, &Value)| {
                    heard.complete
                        && heard.method == expected["method"]
                        && Some(&*heard.target) == expected["target"].as_str().unwrap().split('#').next()
                        && heard.http10 == (expected["version"][1] == 0)
                        && heard.body == base64(&expected["body"])
                        && lower(&fields(&expected["headers"]))
                            .iter()
                            .all(|f| lower(&heard.fields).contains(f))
                        && lower(&fields(&expected["trailers"]))
                            .iter()
                            .all(|f| lower(&heard.trailers).contains(f))
                };
                !refused(&heard)
                    && heard.requests.len() == expected.len()
                    && heard.requests.iter().zip(expected).all(same)
            }
            error => matches!(heard.end, End::Refused(fault) if is_of_class(fault, error)),
        };
        verdicts.judge(id, &bytes, &heard, agreed);
    }
    verdicts.conclude("gunicorn", "gunicorn:", 137);
}

/// Whether a fault is what gunicorn's error says, so that nothing is refused for another reason than there.
fn is_of_class(fault: Fault, error: &str) -> bool {
    match error {
        "error:NoMoreData" | "error:ChunkMissingTerminator" => fault == Fault::Incomplete,
        "error:InvalidRequestLine" => matches!(fault, Fault::RequestLine | Fault::Target),
        "error:InvalidRequestMethod" => fault == Fault::RequestLine,
        "error:InvalidHTTPVersion" => matches!(fault, Fault::Version | Fault::VersionGrammar),
        "error:InvalidProxyLine" => fault == Fault::VersionGrammar, // it is a request line here
        "error:InvalidHeaderName" => matches!(fault, Fault::FieldName | Fault::SpaceBeforeColon),
        "error:ObsoleteFolding" => fault == Fault::Fold,
        "error:LimitRequestHeaders" => matches!(fault, Fault::TooManyFields | Fault::FieldTooLarge),
        "error:InvalidHeader" => matches!(
            fault,
            Fault::FieldValue
                | Fault::BareLf
                | Fault::Host
                | Fault::ContentLength
                | Fault::TransferEncoding
                | Fault::TransferEncodingInHttp10
                | Fault::BothLengths
        ),
        "error:InvalidChunkSize" => matches!(fault, Fault::ChunkSize | Fault::ChunkExtension),
        "error:InvalidChunkExtension" => fault == Fault::ChunkSize, // a CR ends the extension, and LF is missing
        _ => false,
    }
}

fn fields(list: &Value) -> Vec<(String, Vec<u8>)> {
    let field = |pair: &Value| {
        // A letter stands for a byte.
        let bytes = |text: &str| text.chars().map(|letter| u8::try_from(letter).unwrap()).collect();
        (pair[0].as_str().unwrap().to_owned(), bytes(pair[1].as_str().unwrap()))
    };
    list.as_array().unwrap().iter().map(field).collect()
}

/// Field lines with their names in one case.
fn lower(fields: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}

#[test]
fn picohttpparser() {
    let Some(cases) = cases("picohttpparser.json") else { return };
    let mut verdicts = Verdicts::default();
    for case in &cases {
        let (id, role) = (case["id"].as_str().unwrap(), case["role"].as_str().unwrap());
        let mut bytes = base64(&case["bytes"]);
        match role {
            "server" => {}
            "test_headers" => drop(bytes.splice(..0, *b"GET / HTTP/1.1\r\n")),
            _ => continue, // responses
        }
        let play = Play { ends: false, tunnels: true };
        let bytes = mended(bytes, play);
        let heard = under_every_cut(id, &bytes, play);
        let agreed = match case["expect"].as_str().unwrap() {
            "ok" => matches!(heard.end, End::Ready | End::Closed) && complete(&heard) == 1,
            "partial" => heard.end == End::Within && heard.requests.is_empty(),
            _ => refused(&heard) && heard.requests.is_empty(),
        };
        verdicts.judge(id, &bytes, &heard, agreed);
    }
    verdicts.conclude("picohttpparser", "pico:", 38);
}

#[test]
fn desync_guardian() {
    let Some(cases) = cases("desync_guardian.json") else { return };
    let mut verdicts = Verdicts::default();
    for case in &cases {
        let id = case["id"].as_str().unwrap();
        let play = Play { ends: false, tunnels: true };
        let bytes = mended(unescaped(base64(&case["bytes"])), play);
        let heard = under_every_cut(id, &bytes, play);
        // Heads alone: the bodies that they announce do not follow. A proxy lets pass what it can make harmless; here, what is
        // not compliant is refused.
        let agreed = match case["expect"]["tier"].as_str().unwrap() {
            "Compliant" => !refused(&heard) && heard.requests.len() == 1,
            _ => refused(&heard) && heard.requests.is_empty(),
        };
        verdicts.judge(id, &bytes, &heard, agreed);
    }
    verdicts.conclude("http-desync-guardian", "guardian:", 159);
}

#[test]
fn h11() {
    let Some(cases) = cases("h11_connections.json") else { return };
    let mut verdicts = Verdicts::default();
    for (index, case) in cases.iter().enumerate() {
        if case["role"] != "server" {
            continue;
        }
        let id = format!("h11:{index}:{}", case["test"].as_str().unwrap());
        let (mut bytes, mut ends, mut expected, mut error) =
            (Vec::new(), false, Vec::<Request>::new(), false);
        for step in case["ops"].as_array().unwrap() {
            match (step[0].as_str().unwrap(), &step[1]) {
                ("in", Value::String(text)) if text.is_empty() => ends = true,
                ("in", piece) if !ends => bytes.extend(base64(piece)),
                ("err", _) => error = true,
                ("ev", event) => expect(&mut expected, event),
                _ => {}
            }
        }
        // Whether a CONNECT became a tunnel does not stand in the records, but what came of the bytes behind it does.
        let connects = expected.iter().position(|request| request.method == "CONNECT");
        let tunnels = connects.is_some_and(|at| at + 1 == expected.len());
        let play = Play { ends, tunnels };
        let heard = under_every_cut(&id, &bytes, play);
        let same = |(heard, expected): (&Request, &Request)| {
            Request { fields: lower(&heard.fields), trailers: lower(&heard.trailers), ..heard.clone() }
                == *expected
        };
        let agreed = matches!(heard.end, End::Refused(_)) == error
            && heard.requests.len() == expected.len()
            && heard.requests.iter().zip(&expected).all(same);
        verdicts.judge(&id, &bytes, &heard, agreed);
    }
    verdicts.conclude("h11", "h11:", 85);
}

/// Adds a recorded event to the requests that are expected.
fn expect(requests: &mut Vec<Request>, event: &Value) {
    let text = |name: &str| event[name].as_str().unwrap().to_owned();
    match event["t"].as_str() {
        Some("Request") => requests.push(Request {
            method: text("method"),
            target: text("target"),
            http10: event["http_version"] == "1.0",
            fields: fields(&event["headers"]),
            ..Request::default()
        }),
        Some("Data") => requests.last_mut().unwrap().body.extend(base64(&event["data"])),
        Some("EndOfMessage") => {
            let request = requests.last_mut().unwrap();
            request.trailers = fields(&event["headers"]);
            request.complete = true;
        }
        _ => {}
    }
}
