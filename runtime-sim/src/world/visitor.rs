//! A client that asks for everything that the wire has, in every way that is allowed and in many that are not: all routes and
//! methods, HTTP/1.0 with and without keep-alive, several requests at a time, and what each must be answered.

use std::collections::VecDeque;
use std::time::Duration;

use keepwatch_protocol::Instant;

use super::core::{Actor, Core, End, LinkId};
use super::peer::{Asked, Head, Piece, Reader};
use crate::random::Random;

/// A request, and what it must come to.
pub(super) struct Case {
    /// What it is called among the marks.
    pub(super) name: &'static str,
    line: &'static str,
    fields: &'static str,
    body: &'static str,
    status: u16,
    holds: Holds,
}

/// What holds of an answer beside its status.
#[derive(Clone, Copy, Debug)]
enum Holds {
    /// The body is this.
    Text(&'static str),
    /// The body ends with this.
    Ends(&'static str),
    /// The body is JSON with this member.
    Member(&'static str),
    /// There is no body, and a field says what there would be.
    NoBody(&'static str),
    /// It is refused with an error in JSON, and with this field.
    Error(&'static str),
    /// It is refused by HTTP itself, and the connection ends.
    Fatal,
}

use Holds::{Ends, Error, Fatal, Member, NoBody, Text};

macro_rules! cases {
    ($($name:literal: $line:literal, $fields:literal, $body:literal => $status:literal, $holds:expr;)*) => {
        /// All of them.
        pub(super) const CASES: &[Case] = &[$(Case {
            name: concat!("ask: ", $name),
            line: $line,
            fields: $fields,
            body: $body,
            status: $status,
            holds: $holds,
        },)*];
    };
}

cases! {
    "GET /": "GET /", "", "" => 200, Ends("</html>\n");
    "HEAD /": "HEAD /", "", "" => 200, NoBody("Content-Length");
    "GET /healthz": "GET /healthz", "", "" => 200, Text("ok\n");
    "HEAD /healthz": "HEAD /healthz", "", "" => 200, NoBody("Content-Length");
    "GET /readyz": "GET /readyz", "", "" => 200, Text("ready\n");
    "HEAD /readyz": "HEAD /readyz", "", "" => 200, NoBody("Content-Length");
    "GET /metrics": "GET /metrics", "", "" => 200, Ends("# EOF\n");
    "HEAD /metrics": "HEAD /metrics", "", "" => 200, NoBody("Content-Length");
    "GET /ok": "GET /ok/someone%20", "", "" => 200, Text("OK");
    "POST /ok": "POST /ok/there", "Content-Length: 3\r\n", "any" => 200, Text("OK");
    "GET /count": "GET /count", "", "" => 200, Text(COUNTED);
    "HEAD /count": "HEAD /count", "", "" => 200, NoBody("Content-Type");
    "HEAD /hello": "HEAD /hello", "", "" => 200, NoBody("Content-Type");
    "GET /v1/kv": "GET /v1/kv?prefix=nothing", "", "" => 200, Member("items");
    "HEAD /v1/kv": "HEAD /v1/kv?prefix=&limit=2", "", "" => 200, NoBody("Content-Type");
    "GET with a body": "GET /healthz", "Transfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n" => 200, Text("ok\n");
    "PUT of the same origin": "PUT /v1/kv/visited", "Origin: http://sim\r\nContent-Length: 4\r\n", "seen" => 200, Member("revision");
    "PUT of another origin": "PUT /v1/kv/visited", "Origin: http://elsewhere\r\nContent-Length: 0\r\n", "" => 403, Error("");
    "PUT of a part": "PUT /v1/kv/visited", "Content-Range: bytes 0-1/2\r\nContent-Length: 0\r\n", "" => 400, Error("");
    "DELETE that is refused": "DELETE /v1/kv/nobody", "If-Match: \"1\"\r\n", "" => 412, Error("");
    "POST of another origin": "POST /ok/there", "Origin: null\r\nContent-Length: 0\r\n", "" => 403, Error("");
    "no such path": "GET /v1/kvs", "", "" => 404, Error("");
    "POST /": "POST /", "Content-Length: 2\r\n", "ab" => 405, Error("Allow");
    "HEAD /v1/watch": "HEAD /v1/watch?prefix=", "", "" => 405, NoBody("Allow");
    "no key": "GET /v1/watch", "", "" => 400, Error("");
    "a limit of none": "GET /v1/kv?limit=0", "", "" => 400, Error("");
    "a parameter twice": "GET /v1/kv?prefix=a&prefix=b", "", "" => 400, Error("");
    "an empty key": "GET /v1/kv/", "", "" => 400, Error("");
    "a control character": "GET /ok/%07", "", "" => 400, Error("");
    "a revision to come": "GET /v1/watch?prefix=&since=9007199254740990", "", "" => 410, Error("Cache-Control");
    "WebSocket 12": "GET /v1/watch", "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 12\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "" => 426, Error("Sec-WebSocket-Version");
    "WebSocket without a key": "GET /v1/watch", "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "" => 400, Error("");
    "WebSocket of another origin": "GET /v1/watch", "Origin: http://elsewhere\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "" => 403, Error("");
    "an expectation": "GET /healthz", "Expect: the-best\r\n", "" => 417, Error("");
    "too much is announced": "PUT /v1/kv/large", "Expect: 100-continue\r\nContent-Length: 99999999\r\n", "" => 413, Fatal;
    "a long target": "GET /LONG", "", "" => 414, Fatal;
    "a long field": "GET /", "X: LONGLONGLONG\r\n", "" => 431, Fatal;
    "a long method": "METHODMETHODMETHODMETHODMETHODMETHOD /", "", "" => 501, Fatal;
    "a transfer coding": "PUT /v1/kv/x", "Transfer-Encoding: gzip, chunked\r\n", "" => 501, Fatal;
    "two lengths": "PUT /v1/kv/x", "Content-Length: 1\r\nContent-Length: 2\r\n", "" => 400, Fatal;
    "two hosts": "GET /healthz", "Host: other\r\n", "" => 400, Fatal;
}

const COUNTED: &str = "world1\nworld2\nworld3\nworld4\n";

/// Which HTTP it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Zero,
    ZeroKept,
}

pub(super) struct Visitor {
    random: Random,
    link: Option<LinkId>,
    version: Version,
    reader: Reader,
    asked: VecDeque<&'static Case>,
    head: Option<Head>,
    body: Vec<u8>,
    heard: Instant,
    /// When the answer that is being read began: a count says its lines at seconds from then.
    began: Instant,
    next: Instant,
    left: bool,
}

/// How long an answer may take: a count is done after three seconds.
const PATIENCE: Duration = Duration::from_secs(5);

impl Visitor {
    pub(super) fn new(random: Random) -> Self {
        Self {
            random,
            link: None,
            version: Version::One,
            reader: Reader::new(),
            asked: VecDeque::new(),
            head: None,
            body: Vec::new(),
            heard: Instant::START,
            began: Instant::START,
            next: Instant::START,
            left: false,
        }
    }

    fn rest(&mut self, core: &mut Core) {
        self.next = core.now.instant + Duration::from_millis(1 + self.random.below(6000) as u64);
        core.wake_at(self.next);
    }

    fn lose(&mut self) {
        self.link = None;
        self.asked.clear();
        self.head = None;
        self.body.clear();
    }

    fn ask(&mut self, core: &mut Core) {
        let link = match self.link {
            Some(link) => link,
            None => {
                self.version =
                    self.random.one_of(&[Version::One, Version::One, Version::Zero, Version::ZeroKept]);
                self.reader = Reader::new();
                *self.link.insert(core.connect())
            }
        };
        let most = if self.version == Version::Zero { 1 } else { self.random.one_of(&[1, 1, 2, 5]) };
        let mut bytes = Vec::new();
        for _ in 0..most {
            let case = &CASES[self.random.below(CASES.len())];
            if self.version != Version::One && !case.is_for_old() {
                continue;
            }
            self.put(case, &mut bytes);
            self.asked.push_back(case);
            let old = self.version != Version::One;
            self.reader.ask(Asked { head_only: case.line.starts_with("HEAD"), old, expects: false });
            if matches!(case.holds, Fatal) {
                break;
            }
        }
        if self.asked.is_empty() {
            return;
        }
        (self.heard, self.began) = (core.now.instant, core.now.instant);
        core.send(link, &bytes);
        core.wake_at(core.now.instant + PATIENCE);
    }

    fn put(&self, case: &Case, bytes: &mut Vec<u8>) {
        let line = case.line.replace("LONG", &"long".repeat(2100));
        let fields = case.fields.replace("LONG", &"long".repeat(2100));
        let (version, more) = match self.version {
            Version::One => ("1.1", "Host: sim\r\n"),
            Version::Zero => ("1.0", ""),
            Version::ZeroKept => ("1.0", "Connection: keep-alive\r\n"),
        };
        bytes.extend(format!("{line} HTTP/{version}\r\n{more}{fields}\r\n{}", case.body).into_bytes());
    }

    fn answered(&mut self, link: LinkId, core: &mut Core) -> Result<(), String> {
        let (Some(head), body) = (self.head.take(), std::mem::take(&mut self.body)) else {
            return Err("an end without a head".into());
        };
        core.marks.hit(&format!("status: {}", head.status));
        let Some(case) = self.asked.pop_front() else {
            return match head.status {
                408 | 503 => Ok(()),
                other => Err(format!("nobody asked, and it is answered {other}")),
            };
        };
        self.began = core.now.instant;
        let text = String::from_utf8_lossy(&body);
        let wrong = |why: &str| Err(format!("{:?} was answered {}, {text:?}: {why}", case.name, head.status));
        let has = |name: &str| name.is_empty() || head.field(name).is_some();
        match (head.status, case.line, case.status) {
            // There are too many, it came too slowly, or the server stops.
            (408 | 503, ..) => return Ok(()),
            (201 | 507, "PUT /v1/kv/visited", 200) => {}
            (status, _, expected) if status == expected => {}
            _ => return wrong("another status was to come"),
        }
        let json = || serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
        let holds = match case.holds {
            Text(expected) => text == expected,
            Ends(expected) => text.ends_with(expected),
            Member(name) => json().get(name).is_some() || head.status == 507,
            NoBody(field) => body.is_empty() && has(field),
            Error(field) => json().get("error").is_some() && has(field),
            Fatal => true,
        };
        if !holds {
            return wrong("it is not as it must be");
        }
        core.marks.hit(case.name);
        let version = match self.version {
            Version::One => "1.1",
            Version::Zero => "1.0",
            Version::ZeroKept => "1.0, kept",
        };
        core.marks.hit(&format!("visit: {version}"));
        if self.reader.is_last() || matches!(case.holds, Fatal) {
            if !self.reader.is_last() {
                return wrong("it is not the last");
            }
            core.close(link);
            self.lose();
            self.rest(core);
        } else if self.version == Version::Zero {
            return wrong("it is not the last to a client of HTTP/1.0");
        } else if self.asked.is_empty() {
            self.rest(core);
        }
        Ok(())
    }

    /// The lines of a count come when they are to come.
    fn counted(&self, link: LinkId, core: &Core) -> Result<(), String> {
        let lines = String::from_utf8_lossy(&self.body).matches('\n').count() as u64;
        // Whole lines: the next may have begun.
        let counts = self.body.ends_with(b"\n")
            && self.asked.front().is_some_and(|case| matches!(case.holds, Text(COUNTED)));
        let after = core.now.instant.since(self.began);
        // From the request on its way, to the answer on its way; a timer is up to 4 ms late.
        let late = Duration::from_secs(lines.saturating_sub(1)) + core.lag(link) + Duration::from_millis(5);
        if counts && after > late && core.is_prompt(link, self.began) {
            return Err(format!("{lines} lines after {after:?}, and they were to come within {late:?}"));
        }
        Ok(())
    }
}

impl Case {
    /// Whether HTTP/1.0 has the same: no chunks, no upgrade, no expectation, no need of a host.
    fn is_for_old(&self) -> bool {
        let none = ["Transfer-Encoding", "pgrade", "Expect", "Host", "Origin"];
        !none.iter().any(|name| self.fields.contains(name))
    }
}

impl Actor for Visitor {
    fn wake(&mut self, core: &mut Core) {
        if self.left {
            return;
        }
        let now = core.now.instant;
        match self.link {
            Some(link) if !self.asked.is_empty() => {
                if now >= self.heard + PATIENCE {
                    if core.is_prompt(link, self.heard) {
                        return core.fail(format!("#{link}: no answer for {PATIENCE:?}"));
                    }
                    core.reset(link);
                    self.lose();
                    self.rest(core);
                } else {
                    core.wake_at(self.heard + PATIENCE);
                }
            }
            _ if now >= self.next && !core.calm => {
                self.ask(core);
                if self.asked.is_empty() {
                    self.rest(core);
                }
            }
            _ => {}
        }
    }

    fn heard(&mut self, link: LinkId, bytes: &[u8], core: &mut Core) {
        if self.link != Some(link) || self.left {
            return;
        }
        self.heard = core.now.instant;
        self.reader.push(bytes);
        loop {
            let result = match self.reader.next() {
                Ok(None) => return,
                Ok(Some(Piece::Head(head))) => {
                    self.head = Some(head);
                    Ok(())
                }
                Ok(Some(Piece::Body(bytes))) => {
                    self.body.extend(bytes);
                    self.counted(link, core)
                }
                Ok(Some(Piece::End)) => self.answered(link, core),
                Ok(Some(Piece::Continue | Piece::Frame(_))) => Err("that was not asked for".into()),
                Err(problem) => Err(problem),
            };
            if let Err(problem) = result {
                return core.fail(format!("#{link}: {problem}"));
            }
            if self.link != Some(link) {
                return;
            }
        }
    }

    fn ended(&mut self, link: LinkId, how: End, core: &mut Core) {
        if self.link != Some(link) || self.left {
            return;
        }
        // A count may be under way when the time of a drain is over: what is left then is closed.
        let is_whole = how == End::Finished && core.is_prompt(link, core.opened(link)) && core.accepts;
        if is_whole && self.reader.is_to_end() && self.head.is_some() {
            let result = self.answered(link, core);
            core.check(result);
        } else if is_whole && !self.reader.is_between() {
            core.fail(format!("#{link}: an answer is cut"));
        }
        self.lose();
        self.rest(core);
    }

    fn settled(&self, _: &Core) -> Result<(), String> {
        if self.asked.is_empty() {
            Ok(())
        } else {
            Err(format!("{} requests are not answered", self.asked.len()))
        }
    }

    fn leave(&mut self, core: &mut Core) {
        self.left = true;
        if let Some(link) = self.link.take() {
            core.close(link);
        }
    }
}
