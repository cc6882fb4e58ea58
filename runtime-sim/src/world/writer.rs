//! Clients that write, with conditions and without, and read what they and others wrote: over HTTP, many requests at a
//! time on one connection, which they lose now and then.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use keepwatch_protocol::Instant;

use super::check::{self, Known};
use super::core::{Actor, Core, End, LinkId};
use super::faults::Fault;
use super::model::Entry;
use super::peer::{self, Head, Piece, Reader, escaped};
use super::uploader;
use crate::random::Random;

/// The keys of a world: few, so that writers meet.
pub(super) const KEYS: &[&str] = &["a/1", "a/2", "a/\u{e9} %", "b", "b/1/2", "c"];

pub(super) struct Writer {
    random: Random,
    name: String,
    link: Option<LinkId>,
    reader: Reader,
    /// Sent, and not answered.
    asked: VecDeque<Asked>,
    head: Option<Head>,
    body: Vec<u8>,
    /// The revision that each key was last seen at.
    known: BTreeMap<&'static str, u64>,
    writes: usize,
    /// For values that no other write has.
    written: usize,
    next: Instant,
    heard: Instant,
    /// It ended its side: nothing more can be asked on this connection.
    finished: bool,
    /// A body that is not sent before the server says that it waits for it, or this time has come.
    held: Option<(Vec<u8>, Instant)>,
    left: bool,
    last: bool,
}

struct Asked {
    key: &'static str,
    what: What,
    known: Known,
    generation: usize,
}

#[derive(Clone, Debug)]
enum What {
    Put {
        value: Vec<u8>,
        unique: bool,
        only: Only,
    },
    Delete {
        only: Only,
    },
    Get {
        unless: Option<u64>,
        head_only: bool,
    },
    /// Must be refused with this status.
    Wrong(u16),
    /// Is answered 200, and nothing about it is known.
    Other,
}

/// On what condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    Always,
    At(u64),
    /// At one of these.
    AnyOf([u64; 2]),
    Exists,
    Absent,
}

impl Only {
    fn holds(self, current: Option<&Entry>) -> bool {
        match self {
            Self::Always => true,
            Self::At(revision) => current.is_some_and(|entry| entry.revision == revision),
            Self::AnyOf(these) => current.is_some_and(|entry| these.contains(&entry.revision)),
            Self::Exists => current.is_some(),
            Self::Absent => current.is_none(),
        }
    }

    fn field(self) -> String {
        match self {
            Self::Always => String::new(),
            Self::At(revision) => format!("If-Match: \"{revision}\"\r\n"),
            Self::AnyOf([one, other]) => format!("If-Match: \"{one}\", \"{other}\"\r\n"),
            Self::Exists => "If-Match: *\r\n".into(),
            Self::Absent => "If-None-Match: *\r\n".into(),
        }
    }
}

impl Writer {
    pub(super) fn new(name: &str, random: Random, writes: usize) -> Self {
        Self {
            random,
            name: name.to_owned(),
            link: None,
            reader: Reader::new(),
            asked: VecDeque::new(),
            head: None,
            body: Vec::new(),
            known: BTreeMap::new(),
            writes,
            written: 0,
            next: Instant::START,
            heard: Instant::START,
            finished: false,
            held: None,
            left: false,
            last: false,
        }
    }

    fn rest(&mut self, millis: usize, core: &mut Core) {
        self.next = core.now.instant + Duration::from_millis(1 + self.random.below(millis) as u64);
        if self.random.chance(500) {
            self.next = Instant::from_nanos(self.next.as_nanos().div_ceil(BEAT) * BEAT);
        }
        core.wake_at(self.next);
    }

    fn ask(&mut self, core: &mut Core) {
        let link = *self.link.get_or_insert_with(|| {
            self.reader = Reader::new();
            core.connect()
        });
        let mut bytes = Vec::new();
        let burst = if self.random.chance(250) { 1 + self.random.below(5) } else { 1 };
        for _ in 0..burst {
            let beat = core.now.instant.as_nanos() / BEAT;
            // On a beat all writers are at the same key, at the same moment, and each knows what the others know.
            let is_race = core.now.instant.as_nanos() % BEAT == 0;
            let key = if is_race { KEYS[beat as usize % KEYS.len()] } else { self.random.one_of(KEYS) };
            let generation = core.generation_of(link);
            let newest = {
                let mut model = core.model.borrow_mut();
                let generation = model.generation(generation);
                generation.at(key, generation.log.len()).map(|entry| entry.revision)
            };
            let known = if is_race { newest } else { self.known.get(key).copied() };
            let what = self.choose(known, is_race);
            let head_only = matches!(what, What::Get { head_only: true, .. });
            let expects = self.put_request(key, &what, core.now.instant, &mut bytes);
            let known = Known::behind(link, bytes.len(), core);
            self.reader.ask(peer::Asked { head_only, expects, ..peer::Asked::default() });
            self.asked.push_back(Asked { key, what, known, generation });
            if expects {
                // Nothing may stand between the head and its body.
                core.wake_at(core.now.instant + CONTINUE);
                break;
            }
        }
        self.heard = core.now.instant;
        core.send(link, &bytes);
        let mut random = self.random.clone();
        if core.strikes(Fault::EndUnread, &mut random) {
            core.close(link);
            self.lose(core);
        } else if self.held.is_none() && core.strikes(Fault::HalfClose, &mut random) {
            core.finish(link);
            self.finished = true;
        }
        self.random = random;
        core.wake_at(core.now.instant + PATIENCE);
    }

    fn choose(&mut self, known: Option<u64>, is_race: bool) -> What {
        let random = &mut self.random;
        let only = match (random.below(8), known) {
            (0..6, Some(revision)) if is_race => Only::At(revision),
            (0, _) => Only::Absent,
            (1, _) => Only::Exists,
            (2..5, Some(revision)) => Only::At(revision),
            (5, Some(revision)) => random.one_of(&[
                Only::At(revision - 1),
                Only::AnyOf([revision - 1, revision]),
                Only::AnyOf([revision, 1]),
            ]),
            _ => Only::Always,
        };
        match random.below(if is_race { 13 } else { 20 }) {
            0..11 => {
                self.writes = self.writes.saturating_sub(1);
                self.written += 1;
                let number = self.written;
                let text = format!("{} {number}", self.name);
                let (value, unique) = match random.below(24) {
                    0 => ([text.as_bytes(), &[0xff]].concat(), true),
                    1 => (text.repeat(1200).into_bytes(), true),
                    2 => (format!("\"{text}\"\n\\\u{1F980}\u{7}").into_bytes(), true),
                    3 | 4 => (b"again".to_vec(), false),
                    _ => (text.into_bytes(), true),
                };
                What::Put { value, unique, only }
            }
            11..14 => {
                self.writes = self.writes.saturating_sub(1);
                What::Delete { only: if only == Only::Absent { Only::Always } else { only } }
            }
            14..18 => {
                What::Get { unless: known.filter(|_| random.chance(700)), head_only: random.chance(200) }
            }
            18 => match random.below(6) {
                0 => What::Wrong(404),
                1 => What::Wrong(413),
                2 => What::Wrong(405),
                _ => What::Wrong(400),
            },
            _ => What::Other,
        }
    }

    /// Returns whether its body waits for the server's word.
    fn put_request(&mut self, key: &str, what: &What, now: Instant, bytes: &mut Vec<u8>) -> bool {
        let key = escaped(key);
        let (method, target, fields, body): (_, _, _, &[u8]) = match what {
            What::Put { value, only, .. } => ("PUT", format!("/v1/kv/{key}"), only.field(), value),
            What::Delete { only } => ("DELETE", format!("/v1/kv/{key}"), only.field(), b""),
            What::Get { unless, head_only } => {
                let field = unless.map(|revision| match self.random.below(3) {
                    0 => format!("If-None-Match: W/\"{revision}\", \"1\"\r\n"),
                    1 => format!("If-None-Match: \"other\"\r\nIf-None-Match: \"{revision}\"\r\n"),
                    _ => format!("If-None-Match: \"{revision}\"\r\n"),
                });
                let method = if *head_only { "HEAD" } else { "GET" };
                (method, format!("/v1/kv/{key}"), field.unwrap_or_default(), b"")
            }
            What::Wrong(404) => ("GET", "/nowhere".into(), String::new(), b""),
            What::Wrong(405) => ("POST", format!("/v1/kv/{key}"), String::new(), b""),
            What::Wrong(413) => ("PUT", format!("/v1/kv/{key}"), "Content-Length: 99999999\r\n".into(), b""),
            What::Wrong(_) => ("GET", "/v1/watch?since=x".into(), String::new(), b""),
            What::Other => {
                let targets = ["/healthz", "/metrics", "/ok/there", "/"];
                ("GET", self.random.one_of(&targets).into(), String::new(), b"")
            }
        };
        bytes.extend(format!("{method} {target} HTTP/1.1\r\nHost: sim\r\n{fields}").into_bytes());
        if method == "PUT" && !body.is_empty() {
            if self.random.chance(200) {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for part in body.chunks(1 + self.random.below(body.len())) {
                    bytes.extend(format!("{:x}\r\n", part.len()).into_bytes());
                    bytes.extend_from_slice(part);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
                return false;
            }
            bytes.extend(format!("Content-Length: {}\r\n", body.len()).into_bytes());
            if self.random.chance(100) {
                bytes.extend_from_slice(b"Expect: 100-continue\r\n\r\n");
                self.held = Some((body.to_vec(), now + CONTINUE));
                return true;
            }
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        false
    }

    /// The body follows that was held back.
    fn go_on(&mut self, core: &mut Core) {
        if let (Some((body, _)), Some(link)) = (self.held.take(), self.link) {
            if let Some(asked) = self.asked.back_mut() {
                asked.known = Known::behind(link, body.len(), core);
            }
            self.heard = core.now.instant;
            core.send(link, &body);
        }
    }

    /// The connection is gone. What was asked may have happened or not.
    fn lose(&mut self, core: &mut Core) {
        if self.asked.iter().any(|asked| matches!(asked.what, What::Put { .. } | What::Delete { .. })) {
            core.marks.hit("write: unanswered");
        }
        self.link = None;
        self.finished = false;
        self.held = None;
        self.asked.clear();
        self.head = None;
        self.body.clear();
    }

    fn answered(&mut self, head: &Head, link: LinkId, core: &mut Core) -> Result<(), String> {
        core.marks.hit(&format!("status: {}", head.status));
        let body = std::mem::take(&mut self.body);
        let Some(asked) = self.asked.pop_front() else {
            return match head.status {
                408 | 503 => Ok(()),
                other => Err(format!("nobody asked, and it is answered {other}")),
            };
        };
        let Asked { key, what, known, generation } = asked;
        if generation != core.generation_of(link) {
            return Err("an answer of another server".into());
        }
        let json = || -> Option<u64> {
            serde_json::from_slice::<serde_json::Value>(&body).ok()?.get("revision")?.as_u64()
        };
        let length = head.field("Content-Length").and_then(|text| text.parse::<usize>().ok());
        let wrong = |why: &str| {
            let body = String::from_utf8_lossy(&body).chars().take(100).collect::<String>();
            Err(format!("{what:?} of {key:?} was answered {}, {:?}: {why}", head.status, body))
        };
        match (&what, head.status) {
            (What::Put { value, unique: true, .. }, 503) => {
                core.model.borrow_mut().generation(generation).refuse(value)?;
                turned_away(head, &body, core)
            }
            (_, 503) => turned_away(head, &body, core),
            // It was too slow for the server.
            (_, 408) | (What::Other, 200) => Ok(()),
            (What::Wrong(status), answered) if *status == answered => Ok(()),
            (What::Put { .. } | What::Delete { .. }, 200 | 201) => {
                let Some(revision) = json().filter(|_| json() == head.tag()) else {
                    return wrong("no revision");
                };
                self.known.insert(key, revision);
                let mut model = core.model.borrow_mut();
                let generation = model.generation(generation);
                generation.tell(revision);
                let Some(entry) = generation.find(revision).filter(|entry| entry.key == key) else {
                    return wrong("that is no change of it");
                };
                let at = generation.position_after(revision) - 1;
                let before = generation.at(key, at);
                let (value, unique, only) = match &what {
                    What::Put { value, unique, only } => (Some(value), *unique, *only),
                    What::Delete { only } => (None, true, *only),
                    _ => (None, true, Only::Always),
                };
                if entry.value.as_ref() != value {
                    return wrong("that is another value");
                }
                let fresh = entry.created == revision && value.is_some();
                if unique {
                    if !only.holds(before) {
                        return wrong("its condition did not hold");
                    }
                    if fresh != (head.status == 201) {
                        return wrong("created or not");
                    }
                } else if !only.holds(before) && !only.holds(Some(entry)) {
                    return wrong("its condition did not hold");
                }
                if !unique && head.status == 200 && fresh {
                    drop(model);
                    core.marks.hit("write: unchanged");
                }
                Ok(())
            }
            (What::Delete { .. } | What::Get { .. }, 404) => {
                if check::was(key, generation, known, core, |entry| entry.is_none()) {
                    core.marks.hit("short poll: 404");
                    self.known.remove(key);
                    return Ok(());
                }
                wrong("it was there")
            }
            (What::Put { only, .. } | What::Delete { only }, 412) => {
                let current = json();
                if current != head.tag() {
                    return wrong("the tag is another");
                }
                match current {
                    Some(revision) => self.known.insert(key, revision),
                    None => self.known.remove(key),
                };
                let was = check::was(key, generation, known, core, |entry| {
                    entry.map(|entry| entry.revision) == current && !only.holds(entry)
                });
                if was { Ok(()) } else { wrong("its condition held") }
            }
            (What::Put { .. }, 507) => Ok(()),
            (What::Get { unless, head_only }, 200) => {
                let Some(tag) = head.tag().filter(|tag| Some(*tag) != *unless) else {
                    return wrong("no new tag");
                };
                self.known.insert(key, tag);
                let was = check::was(key, generation, known, core, |entry| {
                    entry.is_some_and(|entry| {
                        let value = entry.value.as_deref().unwrap_or_default();
                        let same = if *head_only { length == Some(value.len()) } else { value == body };
                        entry.revision == tag && same
                    })
                });
                if *head_only {
                    core.marks.hit("short poll: HEAD");
                }
                core.model.borrow_mut().generation(generation).tell(tag);
                core.marks.hit("short poll: 200");
                if was { Ok(()) } else { wrong("it was never so") }
            }
            (What::Get { unless: Some(revision), .. }, 304) => {
                core.marks.hit("short poll: 304");
                let was = check::was(key, generation, known, core, |entry| {
                    entry.is_some_and(|entry| entry.revision == *revision)
                });
                if was && body.is_empty() { Ok(()) } else { wrong("it was another") }
            }
            _ => wrong("that is no answer to it"),
        }
    }
}

/// There are too many connections or writes, or too much is under way.
fn turned_away(head: &Head, body: &[u8], core: &mut Core) -> Result<(), String> {
    if head.field("Retry-After").is_none() {
        return Err("503, and no word when to come back".into());
    }
    // An answer to HEAD has no reason.
    match serde_json::from_slice(body) {
        Ok(body) if uploader::is_too_much(head, &body)? => core.no_room("buffers: an upload refused"),
        _ => Ok(()),
    }
}

/// Nanoseconds from one beat to the next.
const BEAT: u64 = 2_000_000_000;

/// How long a body is held back before it is sent all the same (RFC 9110 section 10.1.1).
const CONTINUE: Duration = Duration::from_secs(1);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Actor for Writer {
    fn wake(&mut self, core: &mut Core) {
        if self.left {
            return;
        }
        if let (Some(link), false) = (self.link, self.asked.is_empty()) {
            if core.now.instant >= self.heard + PATIENCE {
                if core.is_prompt(link, self.heard) {
                    return core.fail(format!("#{link}: no answer for {PATIENCE:?}"));
                }
                core.reset(link);
                self.lose(core);
                return self.rest(1000, core);
            }
        }
        if self.held.as_ref().is_some_and(|(_, at)| core.now.instant >= *at) {
            self.go_on(core);
        }
        if core.now.instant < self.next || (self.writes == 0 && self.asked.is_empty()) {
            return;
        }
        if self.finished && self.asked.is_empty() {
            if let Some(link) = self.link.take() {
                core.close(link);
            }
            self.lose(core);
        }
        if self.asked.len() < 4 && !self.finished && self.held.is_none() {
            self.ask(core);
            let most = self.random.one_of(&[10, 500, 4000]);
            self.rest(most, core);
        } else {
            self.rest(1000, core);
        }
    }

    fn heard(&mut self, link: LinkId, bytes: &[u8], core: &mut Core) {
        if self.link != Some(link) {
            return;
        }
        self.heard = core.now.instant;
        self.reader.push(bytes);
        loop {
            match self.reader.next() {
                Ok(None) => return,
                Ok(Some(Piece::Head(head))) => self.head = Some(head),
                Ok(Some(Piece::Body(bytes))) => self.body.extend(bytes),
                Ok(Some(Piece::End)) => {
                    let Some(head) = self.head.take() else { return };
                    let result = self.answered(&head, link, core);
                    core.check(result);
                    if self.held.is_some() && self.asked.is_empty() {
                        // It was refused before its body, which nobody waits for now.
                        core.marks.hit("expect: refused");
                        core.close(link);
                        self.lose(core);
                        return self.rest(1000, core);
                    }
                }
                Ok(Some(Piece::Continue)) => {
                    core.marks.hit("expect: continued");
                    self.go_on(core);
                }
                Ok(Some(Piece::Frame(_))) => return core.fail("a frame without an upgrade"),
                Err(problem) => return core.fail(format!("#{link}: {problem}")),
            }
        }
    }

    fn ended(&mut self, link: LinkId, how: End, core: &mut Core) {
        if self.link != Some(link) {
            return;
        }
        if how == End::Finished && !self.reader.is_between() && core.is_prompt(link, core.opened(link)) {
            core.fail(format!("#{link}: an answer is cut"));
        }
        self.lose(core);
        self.rest(if core.calm { 300 } else { 3000 }, core);
    }

    fn calm(&mut self, core: &mut Core) {
        if self.last {
            return;
        }
        self.last = true;
        // What follows is seen by everyone at once.
        self.writes = 4;
        self.rest(1000, core);
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
