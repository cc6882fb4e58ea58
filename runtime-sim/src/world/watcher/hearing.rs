//! What a watcher hears over HTTP: lists, answers to polls, the events of streams.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::check::{self, Cursor};
use super::super::core::{Core, LinkId};
use super::super::model::Filter;
use super::super::peer::{Block, Head, Piece};
use super::super::uploader;
use super::{Begin, Doing, Transport, Watcher};

impl Watcher {
    pub(super) fn piece(&mut self, piece: Piece, link: LinkId, core: &mut Core) -> Result<(), String> {
        match piece {
            Piece::Head(head) => {
                core.marks.hit(&format!("status: {}", head.status));
                let switched = head.status == 101;
                self.finished |= self.reader.is_last();
                if switched {
                    self.switched(core);
                } else if self.old.is_some() {
                    core.marks.hit(if self.finished { "http/1.0: closed" } else { "http/1.0: kept" });
                }
                self.head = Some(head);
                if switched && self.transport == Transport::Socket {
                    self.start_watches(core);
                }
                Ok(())
            }
            Piece::Body(bytes) => {
                let streams = matches!(self.transport, Transport::Lines | Transport::Events);
                let status = self.head.as_ref().map(|head| head.status);
                if self.doing != Doing::Watching || !streams || status != Some(200) {
                    self.body.extend(bytes);
                    return Ok(());
                }
                if self.transport == Transport::Lines {
                    for line in self.lines.push(&bytes) {
                        let value: Value =
                            serde_json::from_slice(&line).map_err(|error| error.to_string())?;
                        self.told(0, &value, link, core)?;
                    }
                } else {
                    for block in self.blocks.push(&bytes)? {
                        self.block(&block, link, core)?;
                    }
                }
                Ok(())
            }
            Piece::End => {
                let head = self.head.take().ok_or("an end without a head")?;
                let body = std::mem::take(&mut self.body);
                self.answered(&head, &body, link, core)
            }
            Piece::Frame(frame) => self.frame(&frame, link, core),
            Piece::Continue => Err("it is to continue".into()),
        }
    }

    fn answered(&mut self, head: &Head, body: &[u8], link: LinkId, core: &mut Core) -> Result<(), String> {
        let json = || serde_json::from_slice::<Value>(body).map_err(|error| format!("{error} in an answer"));
        match (head.status, self.doing) {
            (200, Doing::Listing) => {
                let value = json()?;
                self.listed(0, &value, link, core)?;
                if self.page.is_some() && self.random.chance(400) && !core.calm {
                    self.rest(8000, core);
                } else {
                    self.ask(core);
                }
            }
            (200, Doing::Watching) if self.transport == Transport::LongPoll => {
                let value = json()?;
                self.polled(&value, link, core)?;
                let pause = self.random.one_of(&[1, 1, 3000]);
                // Where answers are short, many of them bring the last changes.
                self.rest(if core.calm { pause.min(500) } else { pause }, core);
            }
            (200, Doing::Watching) => {
                // The stream ended: drained, or compacted.
                core.marks.hit(&format!("{}: ended", self.transport.name()));
                self.rest(2000, core);
            }
            (410, Doing::Listing) => {
                let Some((_, revision)) = self.page.take() else {
                    return Err("a first page is refused".into());
                };
                core.marks.hit("list: 410");
                let mut model = core.model.borrow_mut();
                let generation = model.generation(core.generation_of(link));
                let floor = generation.floor_revision(core.machine_of(link));
                let known = generation.first <= revision && revision <= generation.revision();
                drop(model);
                if known && revision >= floor {
                    return Err(format!("a page at {revision} is refused, and the floor is {floor}"));
                }
                self.rest(500, core);
            }
            (410, _) => {
                self.refused(0, link, core)?;
                self.rest(500, core);
            }
            (408 | 503, _) => {
                let wait = head.field("Retry-After").and_then(|text| text.parse::<usize>().ok());
                if head.status == 503 && wait.is_none() {
                    return Err("503, and no word when to come back".into());
                }
                if head.status == 503 && uploader::is_too_much(head, &json()?)? {
                    core.no_room("buffers: a poll refused")?;
                }
                self.page = None;
                self.rest(1 + wait.unwrap_or(1) * 1000, core);
            }
            (other, doing) => {
                return Err(format!("{doing:?} and {other}: {}", String::from_utf8_lossy(body)));
            }
        }
        Ok(())
    }

    /// A page of a list.
    pub(super) fn listed(
        &mut self,
        index: usize,
        value: &Value,
        link: LinkId,
        core: &mut Core,
    ) -> Result<(), String> {
        let revision = value.get("revision").and_then(Value::as_u64).ok_or("a list without a revision")?;
        let items = value.get("items").and_then(Value::as_array).ok_or("a list without items")?;
        let watch = &mut self.watches[index];
        let state = watch.state.get_or_insert_with(Vec::new);
        for item in items {
            state.push(check::entry(item)?);
        }
        if let Some((_, at)) = &self.page {
            if *at != revision {
                return Err(format!("a page at {revision} follows one at {at}"));
            }
        }
        if let Some(token) = value.get("continue").and_then(Value::as_str) {
            if items.is_empty() {
                return Err("a page without items is not the last".into());
            }
            self.page = Some((token.to_owned(), revision));
            return Ok(());
        }
        if self.page.take().is_some() {
            core.marks.hit("list: continued");
        }
        let state = watch.state.take().unwrap_or_default();
        let prefix = match &watch.filter {
            Filter::Key(text) | Filter::Prefix(text) => Filter::Prefix(text.clone()),
        };
        check::list(&prefix, core.generation_of(link), revision, &state, watch.known, core)?;
        watch.cursor = Some(Cursor::new(&watch.filter, core.generation_of(link), revision, core));
        Ok(())
    }

    /// The answer to a long poll.
    fn polled(&mut self, value: &Value, link: LinkId, core: &mut Core) -> Result<(), String> {
        let revision = value.get("revision").and_then(Value::as_u64).ok_or("a poll without a revision")?;
        let events = value.get("events").and_then(Value::as_array).ok_or("a poll without events")?;
        let known = self.watches[0].known;
        let Some(cursor) = &mut self.watches[0].cursor else { return Err("a poll since nothing".into()) };
        if cursor.generation != core.generation_of(link) {
            return Err(format!("a poll since {} of another server is answered", cursor.revision));
        }
        for event in events {
            cursor.change(&check::entry(event)?, core)?;
        }
        cursor.bookmark(revision, core)?;
        let told = known.told(core);
        if revision < told && events.is_empty() {
            return Err(format!("a poll at {revision}, and {told} was known"));
        }
        let after = core.now.instant.since(self.asked);
        // Cut by up to a tenth.
        let is_early = after + Duration::from_millis(1) < self.wait.min(self.hold) * 9 / 10;
        // A timer fires up to 4 ms late, and what came at the end of the hold is waited for no longer than that.
        let latest = self.wait.min(self.hold) + core.lag(link) + Duration::from_millis(5);
        if after > latest && core.is_prompt(link, self.asked) {
            return Err(format!("an answer after {after:?}, and it was to come within {latest:?}"));
        }
        if events.is_empty() {
            core.marks.hit("poll: timed out");
            // A drain answers early.
            if is_early && core.accepts {
                return Err(format!("nothing after {after:?}, and it was to wait {:?}", self.wait));
            }
        } else {
            core.marks.hit("poll: events");
            if revision < core.model.borrow_mut().generation(cursor.generation).revision() {
                core.marks.hit("poll: cut");
            }
        }
        Ok(())
    }

    /// The revision that it asked from cannot be answered.
    fn refused(&mut self, index: usize, link: LinkId, core: &mut Core) -> Result<(), String> {
        core.marks.hit(&format!("{}: compacted", self.transport.name()));
        if self.watches[index].cursor.as_ref().is_some_and(|cursor| cursor.is_too_old(link, core)) {
            core.marks.hit(match self.transport {
                Transport::LongPoll => "too old: a poll",
                Transport::Lines | Transport::Events | Transport::Messages => "too old: a stream",
                Transport::Socket => "too old: a watch of several",
            });
        }
        let watch = &mut self.watches[index];
        let result = match watch.cursor.take() {
            Some(cursor) => match cursor.refused(link, core) {
                Err(_) if watch.state.is_some() || !watch.fresh => cursor.compacted(link, core),
                // Of what came since it asked, nothing was said yet.
                Err(why) => cursor.compacted(link, core).map_err(|_| why),
                Ok(()) => Ok(()),
            },
            // The state was not said to its end.
            None if watch.state.is_some() => Ok(()),
            None => Err("it asked from nowhere, and is refused".into()),
        };
        watch.state = None;
        result
    }

    /// An event of the stream.
    pub(super) fn told(
        &mut self,
        index: usize,
        value: &Value,
        link: LinkId,
        core: &mut Core,
    ) -> Result<(), String> {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        let revision = value.get("revision").and_then(Value::as_u64);
        core.marks.hit(&format!("{}: {kind}", self.transport.name()));
        let generation = core.generation_of(link);
        let may_restate = self.begin == Begin::State;
        let watch = &mut self.watches[index];
        if !watch.active && kind != "watching" && !(watch.fresh && kind == "compacted") {
            return Err(format!("there is no such watch any more, and it is told {value}"));
        }
        match kind {
            "put" if watch.state.is_some() => {
                watch.state.get_or_insert_with(Vec::new).push(check::entry(value)?);
            }
            "put" | "delete" => {
                let Some(cursor) = &mut watch.cursor else { return Err("a change before a revision".into()) };
                if cursor.generation != generation {
                    return Err(format!(
                        "it asked since {} of another server, and is told changes",
                        cursor.revision
                    ));
                }
                cursor.change(&check::entry(value)?, core)?;
            }
            "bookmark" => {
                let revision = revision.ok_or("a bookmark without a revision")?;
                watch.restating = None;
                if let Some(items) = watch.state.take() {
                    core.marks.hit(&format!("{}: state", self.transport.name()));
                    if let Filter::Key(key) = &watch.filter {
                        if items.iter().any(|item| item.key != *key) {
                            return Err(format!("the state has {items:?}"));
                        }
                    }
                    check::list(&watch.filter, generation, revision, &items, watch.known, core)?;
                    let mut cursor = Cursor::new(&watch.filter, generation, revision, core);
                    cursor.begin(link, core);
                    watch.cursor = Some(cursor);
                } else if let Some(cursor) = &mut watch.cursor {
                    if cursor.generation != generation {
                        return Err(format!("a bookmark since {} of another server", cursor.revision));
                    }
                    cursor.bookmark(revision, core)?;
                } else {
                    let told = watch.known.told(core);
                    if revision < told {
                        return Err(format!("it begins at {revision}, and {told} was known"));
                    }
                    let mut cursor = Cursor::new(&watch.filter, generation, revision, core);
                    cursor.begin(link, core);
                    watch.cursor = Some(cursor);
                }
            }
            "watching" => {
                let revision = revision.ok_or("watching without a revision")?;
                let told = watch.known.told(core);
                if revision < told {
                    return Err(format!("it watches at {revision}, and {told} was known"));
                }
                watch.active = true;
                if watch.cursor.as_ref().is_some_and(|cursor| cursor.generation != generation) && !may_restate
                {
                    return Err("it watches since a revision of another server".into());
                }
                if watch.cursor.is_none() && watch.state.is_none() {
                    let mut cursor = Cursor::new(&watch.filter, generation, revision, core);
                    cursor.begin(link, core);
                    watch.cursor = Some(cursor);
                }
                // What may come next is the word that the state is said anew.
                return Ok(());
            }
            "compacted" => {
                let fresh = watch.fresh;
                self.refused(index, link, core)?;
                if fresh && may_restate {
                    core.marks.hit("state: restated");
                    if self.transport == Transport::Events {
                        core.marks.hit("sse: restated");
                    }
                    self.watches[index].state = Some(Vec::new());
                }
            }
            other => return Err(format!("an event of the type {other:?}")),
        }
        self.watches[index].fresh = false;
        Ok(())
    }

    /// A server-sent event: its fields say what its data says.
    fn block(&mut self, block: &Block, link: LinkId, core: &mut Core) -> Result<(), String> {
        let field =
            |name: &str| block.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        if field("retry").is_some() {
            core.marks.hit("sse: retry");
        }
        let id = field("id");
        let Some(data) = field("data") else {
            return match id {
                Some(id) => {
                    let revision: u64 = id.parse().map_err(|_| format!("the id is {id:?}"))?;
                    self.told(0, &json!({"type": "bookmark", "revision": revision}), link, core)
                }
                None => Ok(()),
            };
        };
        let value: Value = serde_json::from_str(data).map_err(|error| error.to_string())?;
        let kind = value.get("type").and_then(Value::as_str);
        if field("event") != kind {
            return Err(format!("the event {:?} has the data {data}", field("event")));
        }
        let in_state = self.watches[0].state.is_some();
        let revision = value.get("revision").map(Value::to_string);
        let restates = kind == Some("compacted") && self.begin == Begin::State && self.watches[0].fresh;
        let expected = match () {
            // The state follows, and only behind it is there a revision to resume from.
            () if restates && id == Some("") => Some(""),
            () if in_state && kind == Some("put") => None,
            () => revision.as_deref(),
        };
        if id != expected {
            return Err(format!("the id is {id:?} and the data {data}"));
        }
        self.told(0, &value, link, core)
    }
}
