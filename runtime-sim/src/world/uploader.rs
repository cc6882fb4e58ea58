//! Uploads and messages that come in parts, with pauses between them, and long polls whose answers are large and not read at
//! once, many at a time: together they may be more than the server holds of what is under way. Each write is done in whole, or
//! it is refused and not done at all.

use std::time::Duration;

use keepwatch_protocol::Instant;
use serde_json::{Value, json};

use super::core::{Actor, Core, End, LinkId};
use super::faults::Fault;
use super::model::UPLOADS;
use super::peer::{Asked, Head, Piece, Reader, frame_of};
use super::watcher::UPGRADE;
use crate::random::Random;

pub(super) struct Uploader {
    random: Random,
    /// What the server holds at most of what comes: half of its buffers.
    budget: usize,
    open: Vec<Upload>,
    sent: usize,
    next: Instant,
    left: bool,
}

struct Upload {
    link: LinkId,
    reader: Reader,
    head: Option<Head>,
    body: Vec<u8>,
    value: Vec<u8>,
    way: Way,
    /// What is to be sent, and when the next of it.
    parts: Vec<Vec<u8>>,
    next: Instant,
    heard: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Put,
    /// On a WebSocket.
    Message,
    /// It reads what was written.
    Poll,
    /// It asks for that, and does not read it.
    Hold,
}

/// The most that are under way at once.
const MOST: usize = 8;

/// How long an answer may take behind the last part.
const PATIENCE: Duration = Duration::from_secs(5);

impl Uploader {
    pub(super) fn new(random: Random, buffers: usize) -> Self {
        Self { random, budget: buffers / 2, open: Vec::new(), sent: 0, next: Instant::START, left: false }
    }

    fn begin(&mut self, core: &mut Core) {
        let random = &mut self.random;
        self.sent += 1;
        // Several of these are too many, and one of the last kind is.
        let size = match random.below(8) {
            0 => self.budget + 1 + random.below(8 << 10),
            1..4 => 20 << 10,
            _ => 1 + random.below(24 << 10),
        };
        let mut value = format!("upload {} ", self.sent).into_bytes();
        value.resize(size.max(value.len()), b'u');
        let key = format!("{UPLOADS}{}", random.below(3));
        let way = random.one_of(&[Way::Put, Way::Put, Way::Message, Way::Poll, Way::Hold]);
        let link = core.connect();
        let mut reader = Reader::new();
        match way {
            Way::Message => reader.ask_to_upgrade(None),
            Way::Put | Way::Poll | Way::Hold => reader.ask(Asked::default()),
        }
        let parts = match way {
            Way::Put => put(&key, &value, random),
            Way::Message => message(&key, &value, random),
            Way::Poll | Way::Hold => {
                let mut model = core.model.borrow_mut();
                let generation = model.generation(core.generation_of(link));
                vec![poll(generation.floor_revision(core.machine_of(link)))]
            }
        };
        if way == Way::Hold {
            core.never_reads(link);
        }
        core.say(|| format!("#{link}: {way:?} of {} bytes, in {} parts", value.len(), parts.len()));
        core.model.borrow_mut().generation(core.generation_of(link)).upload(&value);
        let now = core.now.instant;
        self.open.push(Upload {
            link,
            reader,
            head: None,
            body: Vec::new(),
            value,
            way,
            parts,
            next: now,
            heard: now,
        });
    }
}

/// What was written since then, without waiting for more.
fn poll(since: u64) -> Vec<u8> {
    format!("GET /v1/watch?prefix={UPLOADS}&wait=0s&since={since} HTTP/1.1\r\nHost: sim\r\n\r\n").into_bytes()
}

/// An upload as parts of its request.
fn put(key: &str, value: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let chunked = random.chance(500);
    let framing = if chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {}", value.len())
    };
    let mut parts = vec![format!("PUT /v1/kv/{key} HTTP/1.1\r\nHost: sim\r\n{framing}\r\n\r\n").into_bytes()];
    for part in pieces(value, random) {
        parts.push(if chunked {
            [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()
        } else {
            part.to_vec()
        });
    }
    if chunked {
        parts.push(b"0\r\n\r\n".to_vec());
    }
    parts
}

/// A message as fragments behind its handshake.
fn message(key: &str, value: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(value);
    let text = json!({"id": 1, "op": "put", "key": key, "value": text}).to_string().into_bytes();
    let mut parts = vec![format!("GET /v1/watch HTTP/1.1\r\nHost: sim\r\n{UPGRADE}\r\n").into_bytes()];
    let pieces: Vec<&[u8]> = pieces(&text, random).collect();
    for (at, piece) in pieces.iter().enumerate() {
        let first = u8::from(at == 0) | if at + 1 == pieces.len() { 0x80 } else { 0 };
        parts.push(frame_of(first, piece, (random.next_u64() as u32).to_be_bytes()));
    }
    parts
}

/// Two or more.
fn pieces<'a>(bytes: &'a [u8], random: &mut Random) -> std::slice::Chunks<'a, u8> {
    bytes.chunks(bytes.len().div_ceil(2 + random.below(4)))
}

impl Upload {
    /// The next part leaves, or it was waited for too long. Returns whether it goes on.
    fn go_on(&mut self, random: &mut Random, core: &mut Core) -> bool {
        let now = core.now.instant;
        if self.parts.is_empty() {
            if self.way != Way::Hold && core.is_prompt(self.link, self.heard) {
                core.fail(format!("#{}: no answer for {PATIENCE:?}", self.link));
            }
            core.reset(self.link);
            return false;
        }
        core.send(self.link, &self.parts.remove(0));
        self.heard = now;
        let pause = Duration::from_millis(random.below(4000) as u64);
        self.next = now + if self.parts.is_empty() { PATIENCE } else { pause };
        core.wake_at(self.next);
        true
    }

    /// Returns whether it goes on.
    fn hear(&mut self, piece: Piece, budget: usize, core: &mut Core) -> Result<bool, String> {
        match piece {
            Piece::Head(head) => self.head = Some(head),
            Piece::Body(bytes) => self.body.extend(bytes),
            Piece::End => {
                self.answered(budget, core)?;
                core.close(self.link);
                return Ok(false);
            }
            Piece::Frame(frame) => match frame.opcode {
                8 => {
                    self.closed(&frame.payload, core)?;
                    core.close(self.link);
                    return Ok(false);
                }
                1 => {
                    let value: Value =
                        serde_json::from_slice(&frame.payload).map_err(|error| error.to_string())?;
                    self.told(&value, budget, core)?;
                    core.close(self.link);
                    return Ok(false);
                }
                _ => {}
            },
            Piece::Continue => return Err("that was not asked for".into()),
        }
        Ok(true)
    }

    /// An answer to a PUT, or to a handshake that came to nothing.
    fn answered(&self, budget: usize, core: &mut Core) -> Result<(), String> {
        let Some(head) = &self.head else { return Err("an end without a head".into()) };
        core.marks.hit(&format!("status: {}", head.status));
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        match head.status {
            200 | 201 if self.way == Way::Put => self.written(&body, budget, core),
            // What is read is the business of others. It may have left the log by now.
            200 | 410 if self.way == Way::Poll => Ok(()),
            503 => {
                if is_too_much(head, &body)? {
                    let read = self.way == Way::Poll;
                    core.no_room(if read {
                        "buffers: a poll refused"
                    } else {
                        "buffers: an upload refused"
                    })?;
                }
                self.refused(core)
            }
            408 | 507 => self.refused(core),
            other => Err(format!("it is answered {other}: {body}")),
        }
    }

    /// The answer to a message.
    fn told(&self, value: &Value, budget: usize, core: &mut Core) -> Result<(), String> {
        match (value.get("type").and_then(Value::as_str), value.get("status").and_then(Value::as_u64)) {
            (Some("result"), None) => self.written(value, budget, core),
            (Some("error"), Some(503 | 507)) => self.refused(core),
            _ => Err(format!("it is told {value}")),
        }
    }

    fn closed(&self, payload: &[u8], core: &mut Core) -> Result<(), String> {
        let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
        core.marks.hit(&format!("socket: closed {code}"));
        match code {
            1013 => {
                core.no_room("buffers: a message refused")?;
                self.refused(core)
            }
            // It stops, or something was lost on the way.
            1001 | 1011 => Ok(()),
            other => Err(format!("closed with {other}")),
        }
    }

    fn written(&self, answer: &Value, budget: usize, core: &mut Core) -> Result<(), String> {
        let length = self.value.len();
        if length > budget {
            return Err(format!("{length} bytes are taken, and no more than {budget} are to be held"));
        }
        let revision = answer.get("revision").and_then(Value::as_u64).ok_or("no revision")?;
        let mut model = core.model.borrow_mut();
        let generation = model.generation(core.generation_of(self.link));
        generation.tell(revision);
        match generation.find(revision) {
            Some(entry) if entry.value.as_ref() == Some(&self.value) => {
                drop(model);
                core.marks.hit("upload: written");
                Ok(())
            }
            other => Err(format!("it is said to be written at {revision}, and there is {other:?}")),
        }
    }

    fn refused(&self, core: &mut Core) -> Result<(), String> {
        core.model.borrow_mut().generation(core.generation_of(self.link)).refuse(&self.value)
    }
}

/// Whether it is refused as too much is under way; if so, it is told to come back in a second.
pub(super) fn is_too_much(head: &Head, body: &Value) -> Result<bool, String> {
    let why =
        body.get("error").and_then(Value::as_str).ok_or_else(|| format!("503, and no reason in {body}"))?;
    let too_much = why.starts_with("too much is under way");
    if too_much && head.field("Retry-After") != Some("1") {
        return Err("503, and it is not to come back in a second".into());
    }
    Ok(too_much)
}

impl Actor for Uploader {
    fn wake(&mut self, core: &mut Core) {
        if self.left || core.calm {
            return;
        }
        let now = core.now.instant;
        if now >= self.next {
            self.next = now + Duration::from_millis(500 + self.random.below(4000) as u64);
            core.wake_at(self.next);
            let mut random = self.random.clone();
            let strikes = core.strikes(Fault::Parts, &mut random);
            let count = 1 + random.below(7);
            self.random = random;
            for _ in 0..count {
                if strikes && self.open.len() < MOST {
                    self.begin(core);
                }
            }
        }
        let random = &mut self.random;
        self.open.retain_mut(|upload| now < upload.next || upload.go_on(random, core));
    }

    fn heard(&mut self, link: LinkId, bytes: &[u8], core: &mut Core) {
        let Some(at) = self.open.iter().position(|upload| upload.link == link) else { return };
        let upload = &mut self.open[at];
        upload.heard = core.now.instant;
        upload.reader.push(bytes);
        loop {
            let goes_on = match upload.reader.next() {
                Ok(None) => return,
                Ok(Some(piece)) => upload.hear(piece, self.budget, core),
                Err(problem) => Err(problem),
            };
            match goes_on {
                Ok(true) => {}
                Ok(false) => {
                    self.open.swap_remove(at);
                    return;
                }
                Err(problem) => return core.fail(format!("#{link}: {problem}")),
            }
        }
    }

    fn ended(&mut self, link: LinkId, _: End, _: &mut Core) {
        self.open.retain(|upload| upload.link != link);
    }

    /// What is under way breaks off: in the calm the memory is that of the others.
    fn calm(&mut self, core: &mut Core) {
        for upload in self.open.drain(..) {
            core.reset(upload.link);
        }
    }

    fn leave(&mut self, core: &mut Core) {
        self.left = true;
        self.calm(core);
    }
}
