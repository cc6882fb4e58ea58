//! Reading scripts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::text::Text;

/// One script.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// The file's.
    pub(crate) name: String,
    pub(super) steps: Vec<Line>,
}

/// A step, and where it stands.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) text: String,
    pub(super) step: Step,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Speaker(String),
    Send(Text),
    /// A body behind its head, which is to say its length.
    SendCounted(Text, Text),
    Say(Text),
    SayDeflated(Text),
    Expect(Text),
    /// A head up to `Content-Length`, the rest of it, and a body.
    ExpectCounted(Text, Text, Text),
    ExpectChunk(Text),
    ExpectMessage(Text),
    ExpectDeflated(Text),
    HalfClose,
    Reset,
    Ended,
    Silence,
    Wait(Duration),
    Drain,
    Exits,
}

/// All scripts, by name.
pub(crate) fn all() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime-sim/scenarios");
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut scenarios: Vec<Scenario> = files
        .map(|file| file.expect("an entry of the folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let script =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            Scenario::parse(&path.file_stem().unwrap_or_default().to_string_lossy(), &script)
        })
        .collect();
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    scenarios
}

impl Scenario {
    pub(crate) fn parse(name: &str, script: &str) -> Self {
        let lines = script.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let steps = lines.map(|(index, line)| Line {
            number: index + 1,
            text: line.to_owned(),
            step: Step::parse(line).unwrap_or_else(|why| panic!("{name}, line {}: {why}: {line}", index + 1)),
        });
        Self { name: name.to_owned(), steps: steps.collect() }
    }

    /// How long it takes at least, on a clock that nobody moves.
    #[allow(dead_code, reason = "in virtual time nobody asks")]
    pub(crate) fn takes(&self) -> Duration {
        let waits = self
            .steps
            .iter()
            .map(|line| if let Step::Wait(time) = line.step { time } else { Duration::ZERO });
        waits.sum()
    }

    /// How many bytes its clients send, about.
    pub(crate) fn bytes_sent(&self) -> usize {
        let sent = self.steps.iter().map(|line| match &line.step {
            Step::Send(text) | Step::Say(text) | Step::SayDeflated(text) => text.whole(0).len(),
            Step::SendCounted(head, body) => head.whole(0).len() + body.whole(0).len(),
            _ => 0,
        });
        sent.sum()
    }
}

const CRLF: &str = r"\r\n";

impl Step {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        Ok(match word {
            "client" => Self::Speaker(rest.to_owned()),
            ">" => Self::Send(Text::said(rest).and(Text::bytes("\r\n"))),
            ">>" => Self::Send(Text::said(rest)),
            "<" => Self::Expect(Text::expected(rest).and(Text::bytes("\r\n"))),
            "<<" => Self::Expect(Text::expected(rest)),
            "answer" => answer(rest, "", ""),
            "json" => answer(rest, r"Content-Type: application/json\r\n", r"\n"),
            "stream" => Self::Expect(Text::expected(&format!(
                r"HTTP/1.1 200 OK\r\nDate: *\r\nContent-Type: {rest}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"
            ))),
            "chunk" => Self::ExpectChunk(Text::expected(rest)),
            "line" => Self::ExpectChunk(Text::expected(rest).and(Text::bytes("\n"))),
            "last" if rest == "chunk" => Self::Expect(Text::bytes("0\r\n\r\n")),
            "socket" => Self::Send(request("GET", &format!("{rest} ; {HANDSHAKE}"))?),
            "accepted" => {
                let (_, fields, _) = parts(line);
                Self::Expect(Text::expected(&format!(
                    r"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{}\r\n",
                    fields.concat()
                )))
            }
            "say" => match rest.split_once(' ') {
                Some(("deflated", text)) => Self::SayDeflated(Text::said(text)),
                Some(("close", code)) => Self::Send(Text::bytes(masked(0x88, &close(code, "")?))),
                _ => Self::Say(Text::said(rest)),
            },
            "message" => match rest.split_once(' ') {
                Some(("deflated", text)) => Self::ExpectDeflated(Text::said(text)),
                Some(("close", why)) => {
                    let (code, reason) = why.split_once(' ').unwrap_or((why, ""));
                    let payload = close(code, reason)?;
                    Self::Expect(Text::bytes([&[0x88, payload.len() as u8], &payload[..]].concat()))
                }
                _ => Self::ExpectMessage(Text::said(rest)),
            },
            "half-close" => Self::HalfClose,
            "reset" => Self::Reset,
            "ended" => Self::Ended,
            "silence" => Self::Silence,
            "wait" => Self::Wait(time(rest).ok_or("a time is digits and ms or s")?),
            "drain" => Self::Drain,
            "exits" => Self::Exits,
            method if method.bytes().all(|byte| byte.is_ascii_uppercase()) => {
                let (_, _, body) = parts(rest);
                match body {
                    None => Self::Send(request(method, rest)?),
                    Some(body) => Self::SendCounted(request(method, rest)?, Text::said(body)),
                }
            }
            _ => return Err("there is no such step"),
        })
    }
}

const HANDSHAKE: &str = "Upgrade: websocket ; Connection: upgrade ; Sec-WebSocket-Version: 13 ; Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// `WHAT ; FIELD ; .. = BODY`: the first, lines of fields, and the body.
fn parts(text: &str) -> (&str, Vec<String>, Option<&str>) {
    let (head, body) = match text.split_once(" = ") {
        Some((head, body)) => (head, Some(body)),
        None => match text.strip_suffix(" =") {
            Some(head) => (head, Some("")),
            None => (text, None),
        },
    };
    let mut of_head = head.split(" ; ");
    let what = of_head.next().unwrap_or_default();
    (what, of_head.map(|field| format!("{field}{CRLF}")).collect(), body)
}

/// The head of a request; with a body it ends where the length is to stand.
fn request(method: &str, rest: &str) -> Result<Text, &'static str> {
    let (target, fields, body) = parts(rest);
    if !target.starts_with('/') {
        return Err("a target begins with /");
    }
    let end = if body.is_none() { CRLF } else { "" };
    Ok(Text::said(&format!(r"{method} {target} HTTP/1.1\r\nHost: x\r\n{}{end}", fields.concat())))
}

fn answer(rest: &str, kind: &str, end: &str) -> Step {
    let (status, fields, body) = parts(rest);
    // What is said of the connection stands behind the length.
    let (last, first): (Vec<_>, Vec<_>) =
        fields.into_iter().partition(|field| field.starts_with("Connection:"));
    let head = format!(r"HTTP/1.1 {status}\r\nDate: *\r\n{kind}{}", first.concat());
    let last = format!(r"{}\r\n", last.concat());
    match body {
        None => Step::Expect(Text::expected(&(head + &last))),
        Some(body) => Step::ExpectCounted(
            Text::expected(&head),
            Text::expected(&last),
            Text::expected(&format!("{body}{end}")),
        ),
    }
}

/// A frame of a client, masked with zeros, so that it can be read in a dump.
pub(super) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        short @ 0..=125 => vec![0x80 | short as u8],
        long => [&[0xfe][..], &(long as u16).to_be_bytes()].concat(),
    };
    [&[first][..], &length, &[0; 4], payload].concat()
}

fn close(code: &str, reason: &str) -> Result<Vec<u8>, &'static str> {
    let code: u16 = code.parse().map_err(|_| "a code is a number")?;
    Ok([&code.to_be_bytes(), reason.as_bytes()].concat())
}

fn time(text: &str) -> Option<Duration> {
    match text.strip_suffix("ms") {
        Some(millis) => millis.parse().ok().map(Duration::from_millis),
        None => text.strip_suffix('s')?.parse().ok().map(Duration::from_secs),
    }
}
