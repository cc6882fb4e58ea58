//! What a watcher says and hears on a WebSocket.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::check::{self, Cursor, Known};
use super::super::core::{Core, LinkId};
use super::super::model::{Entry, Filter};
use super::super::peer::{Deflater, Frame, frame_of};
use super::super::writer::KEYS;
use super::{Begin, Operation, Transport, Watcher};

/// The list before a watch has an id that is so much higher.
const LIST: u64 = 1 << 32;

impl Watcher {
    fn operate(&mut self, mut message: Value, what: &'static str, key: &'static str, core: &mut Core) {
        let Some(link) = self.link else { return };
        let id = match message.get("id").and_then(Value::as_u64) {
            Some(id) => id,
            None => {
                self.next_id += 1;
                self.next_id
            }
        };
        message["id"] = id.into();
        core.say(|| format!("#{link} says {message}"));
        let bytes = self.message_bytes(message.to_string().as_bytes(), link, core);
        let known = Known::behind(link, bytes.len(), core);
        self.operations.push(Operation { id, what, key, known });
        core.send(link, &bytes);
    }

    /// A message as this client says it: compressed or not, whole or in fragments with other frames between them.
    fn message_bytes(&mut self, text: &[u8], link: LinkId, core: &mut Core) -> Vec<u8> {
        let compresses = !self.speech.is_plain && !core.calm && self.random.chance(800);
        let deflater = self.speech.deflater.as_mut().filter(|_| compresses);
        let deflated = deflater.and_then(|deflater| deflater.message(text));
        let (first, payload) = match &deflated {
            Some(payload) => {
                core.marks.hit("deflate: said");
                (0x41, &payload[..])
            }
            None => (0x01, text),
        };
        if !self.random.chance(self.speech.fragments) {
            return frame_of(0x80 | first, payload, self.key());
        }
        core.marks.hit("socket: fragments");
        let mut bytes = Vec::new();
        let mut rest = payload;
        let mut opcode = first;
        loop {
            let count = self.random.below(rest.len() + 1);
            let (part, behind) = rest.split_at(count);
            bytes.extend(frame_of(opcode, part, self.key()));
            (rest, opcode) = (behind, 0);
            if self.random.chance(400) {
                bytes.extend(self.ping());
            } else if self.random.chance(200) {
                bytes.extend(frame_of(0x8a, b"unasked", self.key()));
            }
            if self.random.chance(400) {
                // What follows comes later: others are served in the middle of this message.
                core.send(link, &std::mem::take(&mut bytes));
                core.hesitate(link, Duration::from_millis(1 + self.random.below(400) as u64));
            }
            if rest.is_empty() || self.random.chance(300) {
                break;
            }
        }
        bytes.extend(frame_of(0x80, rest, self.key()));
        bytes
    }

    /// A ping, whose pong is awaited.
    fn ping(&mut self) -> Vec<u8> {
        let payload = format!("ping {}", self.random.below(1000)).into_bytes();
        let bytes = frame_of(0x89, &payload, self.key());
        self.speech.pings.push(payload);
        bytes
    }

    fn key(&mut self) -> [u8; 4] {
        (self.random.next_u64() as u32).to_be_bytes()
    }

    pub(super) fn say(&mut self, opcode: u8, payload: &[u8], link: LinkId, core: &mut Core) {
        core.send(link, &frame_of(0x80 | opcode, payload, self.key()));
    }

    /// The upgrade is answered.
    pub(super) fn switched(&mut self, core: &mut Core) {
        if self.speech.offer.is_some() {
            let agreed = self.reader.agreed();
            core.marks.hit(if agreed.is_some() { "deflate: agreed" } else { "deflate: declined" });
            self.speech.deflater = agreed.map(Deflater::new);
        }
    }

    /// Starts each watch of the socket that is not there: lists first, if it is to.
    pub(super) fn start_watches(&mut self, core: &mut Core) {
        for index in 0..self.watches.len() {
            self.start_watch(index, core);
        }
    }

    fn start_watch(&mut self, index: usize, core: &mut Core) {
        let Some(link) = self.link else { return };
        let begin = self.begin;
        let watch = &mut self.watches[index];
        watch.fresh = true;
        watch.state = None;
        watch.listing = false;
        watch.active = false;
        watch.restating = None;
        let (name, text) = match &watch.filter {
            Filter::Key(key) => ("key", key.clone()),
            Filter::Prefix(prefix) => ("prefix", prefix.clone()),
        };
        if begin == Begin::List && watch.cursor.is_none() {
            watch.listing = true;
            let message = json!({"op": "list", "prefix": text, "id": LIST + watch.id});
            return self.operate(message, "list", "", core);
        }
        let mut message = json!({"op": "watch", name: text, "id": watch.id});
        if let Some(cursor) = &mut watch.cursor {
            cursor.begin(link, core);
            message["since"] = cursor.revision.into();
            core.marks.hit("socket: resumed");
        }
        if begin == Begin::State {
            message["initial"] = true.into();
            if watch.cursor.is_none() {
                watch.state = Some(Vec::new());
            }
        }
        self.operate(message, "watch", "", core);
    }

    /// Something that a client of a socket does beside watching.
    pub(super) fn dabble(&mut self, core: &mut Core) {
        let key = self.random.one_of(KEYS);
        let known = self.watches[0].cursor.as_ref().map_or(0, |cursor| cursor.revision);
        match self.random.below(8) {
            0 => {
                // Long enough to be compressed, every other time.
                let text = format!("by {known} ").repeat(self.random.one_of(&[1, 1, 100, 400]));
                self.operate(json!({"op": "put", "key": key, "value": text}), "put", key, core);
            }
            1 => {
                let message = json!({"op": "put", "key": key, "value": "if", "ifRevision": known});
                self.operate(message, "put", key, core);
            }
            2 => self.operate(json!({"op": "delete", "key": key}), "delete", key, core),
            3 | 4 => self.operate(json!({"op": "get", "key": key}), "get", key, core),
            5 => {
                let id = self.watches[1].id;
                if !self.operations.iter().any(|known| known.id == id) {
                    self.operate(json!({"op": "cancel", "id": id}), "cancel", "", core);
                }
            }
            6 => {
                if let Some(link) = self.link {
                    let ping = self.ping();
                    core.send(link, &ping);
                }
            }
            _ => self.operate(json!({"op": "nonsense"}), "nonsense", "", core),
        }
    }

    pub(super) fn frame(&mut self, frame: &Frame, link: LinkId, core: &mut Core) -> Result<(), String> {
        match frame.opcode {
            9 => {
                core.marks.hit("socket: ping");
                self.say(10, &frame.payload, link, core);
                Ok(())
            }
            // Of several pings only the last need be answered (RFC 6455 section 5.5.3).
            10 => match self.speech.pings.iter().position(|ping| *ping == frame.payload) {
                Some(at) => {
                    core.marks.hit("socket: pong");
                    self.speech.pings.drain(..=at);
                    Ok(())
                }
                None => Err(format!("a pong to no ping: {:?}", frame.payload.escape_ascii().to_string())),
            },
            8 => {
                let code = frame.payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                core.marks.hit(&format!("socket: closed {code}"));
                let expected = match code {
                    1001 | 4410 | 1011 => true,
                    1013 if frame.payload.ends_with(b"too much is under way") => {
                        core.no_room("buffers: a message refused")?;
                        true
                    }
                    1013 => {
                        self.speech.is_plain = true;
                        self.speech.deflater.is_some()
                    }
                    1000 => self.closing,
                    _ => false,
                };
                if !self.closing {
                    self.say(8, &code.to_be_bytes(), link, core);
                    self.closing = true;
                }
                if expected { Ok(()) } else { Err(format!("closed with {code}")) }
            }
            _ => {
                if frame.inflated {
                    core.marks.hit("deflate: heard");
                }
                let value: Value = serde_json::from_slice(&frame.payload)
                    .map_err(|error| format!("{error} in a message"))?;
                if self.transport == Transport::Messages {
                    return self.told(0, &value, link, core);
                }
                self.message(&value, link, core)
            }
        }
    }

    /// A message of a socket: an event of one of its watches, or the answer to an operation.
    fn message(&mut self, value: &Value, link: LinkId, core: &mut Core) -> Result<(), String> {
        let id = value.get("id").and_then(Value::as_u64).ok_or_else(|| format!("no id in {value}"))?;
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        let operation = self.operations.iter().position(|operation| {
            operation.id == id
                && match operation.what {
                    "watch" => matches!(kind, "watching" | "compacted" | "error"),
                    "cancel" => matches!(kind, "canceled" | "error"),
                    _ => matches!(kind, "result" | "error"),
                }
        });
        let operation = operation.map(|index| self.operations.remove(index));
        let what = operation.as_ref().map(|operation| operation.what);
        let index = self.watches.iter().position(|watch| watch.id == id || LIST + watch.id == id);
        let Some(index) = index else { return Self::operated(operation, kind, value, link, core) };
        if let (Some(Operation { known, .. }), "result" | "watching") = (&operation, kind) {
            self.watches[index].known = *known;
        }
        match (what, kind) {
            (Some("list"), "result") => {
                self.watches[index].listing = false;
                self.page = None;
                let more = value.get("continue").and_then(Value::as_str).map(str::to_owned);
                let result = if more.is_some() {
                    // Pages are the business of others: it watches from the page's revision on.
                    let revision =
                        value.get("revision").and_then(Value::as_u64).ok_or("a list without a revision")?;
                    let watch = &mut self.watches[index];
                    watch.state = None;
                    watch.cursor = Some(Cursor::new(&watch.filter, core.generation_of(link), revision, core));
                    Ok(())
                } else {
                    self.watches[index].state = Some(Vec::new());
                    self.listed(index, value, link, core)
                };
                result?;
                self.start_watch(index, core);
                Ok(())
            }
            (Some("cancel"), "canceled") => {
                core.marks.hit("socket: canceled");
                self.watches[index].active = false;
                self.start_watch(index, core);
                Ok(())
            }
            // It was compacted meanwhile, or is only listed yet.
            (Some("cancel"), "error") => Ok(()),
            (Some("watch"), "compacted") => {
                self.told(index, value, link, core)?;
                self.watches[index].state = None;
                self.watches[index].cursor = None;
                self.start_watch(index, core);
                Ok(())
            }
            (_, "put" | "delete" | "bookmark" | "watching") => self.told(index, value, link, core),
            (None, "compacted") => {
                let goes_on = self.begin == Begin::State && self.watches[index].fresh;
                self.told(index, value, link, core)?;
                if goes_on {
                    self.watches[index].restating = Some(core.now.instant);
                } else {
                    self.start_watch(index, core);
                }
                Ok(())
            }
            (Some("list" | "watch"), "error") if value.get("status").and_then(Value::as_u64) == Some(503) => {
                core.no_room("buffers: a list refused")?;
                // It comes back later.
                if !self.closing {
                    self.say(8, &1000_u16.to_be_bytes(), link, core);
                    self.closing = true;
                }
                Ok(())
            }
            (what, _) => Err(format!("{what:?} is answered {value}")),
        }
    }

    fn operated(
        operation: Option<Operation>,
        kind: &str,
        value: &Value,
        link: LinkId,
        core: &mut Core,
    ) -> Result<(), String> {
        let status = value.get("status").and_then(Value::as_u64);
        let revision = value.get("revision").and_then(Value::as_u64);
        let (key, known) = operation.as_ref().map(|asked| (asked.key, asked.known)).unwrap_or_default();
        let what = operation.map(|asked| asked.what);
        if what == Some("get") {
            // It was so at some time since it was asked for.
            let item = if status == Some(404) { None } else { Some(check::entry(value)?) };
            let was = |entry: Option<&Entry>| match (&item, entry) {
                (None, None) => true,
                (Some(item), Some(entry)) => entry.is_told_as(item),
                _ => false,
            };
            if status != Some(503) && !check::was(key, core.generation_of(link), known, core, was) {
                return Err(format!("{key:?} was never so: {value}"));
            }
        }
        match (what, kind, status) {
            (Some("put" | "delete" | "get"), "result", None) => {
                let revision = revision.ok_or("a result without a revision")?;
                core.marks.hit("socket: result");
                let mut model = core.model.borrow_mut();
                let generation = model.generation(core.generation_of(link));
                let Some(entry) = generation.find(revision) else {
                    return Err(format!("{value} is no change"));
                };
                if (what == Some("delete")) != entry.value.is_none() {
                    return Err(format!("{value} and it is {entry:?}"));
                }
                generation.tell(revision);
                Ok(())
            }
            (Some("put"), "error", Some(412)) => {
                core.marks.hit("socket: conflict");
                Ok(())
            }
            (Some("put"), "error", Some(503 | 507))
            | (Some("delete" | "get"), "error", Some(404 | 503))
            | (Some("nonsense"), "error", Some(400)) => Ok(()),
            _ => Err(format!("{what:?} is answered {value}")),
        }
    }
}
