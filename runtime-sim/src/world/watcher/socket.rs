//! What a watcher says and hears on a WebSocket.

use serde_json::{Value, json};

use super::super::check::{self, Cursor};
use super::super::core::{Core, LinkId};
use super::super::model::Filter;
use super::super::peer::{Frame, frame};
use super::super::writer::KEYS;
use super::{Begin, Transport, Watcher};

impl Watcher {
    fn operate(&mut self, mut message: Value, what: &'static str, core: &mut Core) {
        let Some(link) = self.link else { return };
        let id = match message.get("id").and_then(Value::as_u64) {
            Some(id) => id,
            None => {
                self.next_id += 1;
                self.next_id
            }
        };
        message["id"] = id.into();
        self.operations.push((id, what));
        core.say(|| format!("#{link} says {message}"));
        self.say(1, message.to_string().as_bytes(), link, core);
    }

    pub(super) fn say(&mut self, opcode: u8, payload: &[u8], link: LinkId, core: &mut Core) {
        let key = (self.random.next_u64() as u32).to_be_bytes();
        core.send(link, &frame(opcode, payload, key));
    }

    /// Starts each watch of the socket that is not there: lists first, if it is to.
    pub(super) fn start_watches(&mut self, core: &mut Core) {
        let Some(link) = self.link else { return };
        self.told = check::told(core.generation_of(link), core);
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
            let message = json!({"op": "list", "prefix": text, "id": 100 + watch.id});
            return self.operate(message, "list", core);
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
        self.operate(message, "watch", core);
    }

    /// Something that a client of a socket does beside watching.
    pub(super) fn dabble(&mut self, core: &mut Core) {
        let key = self.random.one_of(KEYS);
        let known = self.watches[0].cursor.as_ref().map_or(0, |cursor| cursor.revision);
        match self.random.below(6) {
            0 => self.operate(json!({"op": "put", "key": key, "value": format!("by {known}")}), "put", core),
            1 => {
                let message = json!({"op": "put", "key": key, "value": "if", "ifRevision": known});
                self.operate(message, "put", core);
            }
            2 => self.operate(json!({"op": "delete", "key": key}), "delete", core),
            3 => self.operate(json!({"op": "get", "key": key}), "get", core),
            4 => {
                let id = self.watches[1].id;
                if !self.operations.iter().any(|(known, _)| *known == id) {
                    self.operate(json!({"op": "cancel", "id": id}), "cancel", core);
                }
            }
            _ => self.operate(json!({"op": "nonsense"}), "nonsense", core),
        }
    }

    pub(super) fn frame(&mut self, frame: &Frame, link: LinkId, core: &mut Core) -> Result<(), String> {
        match frame.opcode {
            9 => {
                core.marks.hit("socket: ping");
                self.say(10, &frame.payload, link, core);
                Ok(())
            }
            10 => Ok(()),
            8 => {
                let code = frame.payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                core.marks.hit(&format!("socket: closed {code}"));
                let expected = match code {
                    1001 | 4410 | 1011 | 1013 => true,
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
        let operation = self.operations.iter().position(|(known, what)| {
            *known == id
                && match *what {
                    "watch" => matches!(kind, "watching" | "compacted" | "error"),
                    "cancel" => matches!(kind, "canceled" | "error"),
                    _ => matches!(kind, "result" | "error"),
                }
        });
        let what = operation.map(|index| self.operations.remove(index).1);
        let index = self.watches.iter().position(|watch| watch.id == id || 100 + watch.id == id);
        let Some(index) = index else { return Self::operated(what, kind, value, link, core) };
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
            (what, _) => Err(format!("{what:?} is answered {value}")),
        }
    }

    fn operated(
        what: Option<&str>,
        kind: &str,
        value: &Value,
        link: LinkId,
        core: &mut Core,
    ) -> Result<(), String> {
        let status = value.get("status").and_then(Value::as_u64);
        let revision = value.get("revision").and_then(Value::as_u64);
        match (what, kind, status) {
            (Some("put" | "delete" | "get"), "result", None) => {
                let revision = revision.ok_or("a result without a revision")?;
                core.marks.hit("socket: result");
                let mut model = core.model.borrow_mut();
                let generation = model.generation(core.generation_of(link));
                let Some(entry) = generation.find(revision) else {
                    return Err(format!("{value} is no change"));
                };
                if what == Some("get") && !entry.is_told_as(&check::entry(value)?) {
                    return Err(format!("{value} and it is {entry:?}"));
                }
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
