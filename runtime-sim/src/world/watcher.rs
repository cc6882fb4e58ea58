//! Clients that list, watch, lose their connection, resume, and are held to the log of what was committed: every
//! transport that the server speaks.

use std::time::Duration;

use keepwatch_protocol::Instant;
use serde_json::{Value, json};

use super::check::{self, Cursor};
use super::core::{Actor, Core, End, LinkId};
use super::faults::Fault;
use super::model::{Entry, Filter};
use super::peer::{Block, Blocks, Frame, Head, Lines, Piece, Reader, escaped, frame};
use super::writer::KEYS;
use crate::random::Random;

/// How a watcher watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    LongPoll,
    Lines,
    Events,
    /// A WebSocket whose watch is in the URL.
    Messages,
    /// A WebSocket with operations, and two watches.
    Socket,
}

impl Transport {
    pub(super) const ALL: [Self; 5] = [Self::LongPoll, Self::Lines, Self::Events, Self::Messages, Self::Socket];

    fn name(self) -> &'static str {
        match self {
            Self::LongPoll => "poll",
            Self::Lines => "lines",
            Self::Events => "sse",
            Self::Messages => "messages",
            Self::Socket => "socket",
        }
    }
}

/// Where a watcher that knows nothing begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// With a list.
    List,
    /// With what changes from now on.
    Now,
    /// With the state, in the same stream.
    State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Resting,
    Listing,
    Watching,
    Left,
}

pub(super) struct Watcher {
    random: Random,
    transport: Transport,
    begin: Begin,
    watches: Vec<Watch>,
    doing: Doing,
    link: Option<LinkId>,
    reader: Reader,
    lines: Lines,
    blocks: Blocks,
    head: Option<Head>,
    body: Vec<u8>,
    /// What was known when it asked.
    told: u64,
    /// The token of the next page, and the revision that the list is at.
    page: Option<(String, u64)>,
    next: Instant,
    heard: Instant,
    asked: Instant,
    /// Of a long poll.
    wait: Duration,
    /// The most that the server grants.
    hold: Duration,
    patience: Duration,
    /// Operations on a WebSocket whose answer has not come: the id, and what was asked.
    operations: Vec<(u64, &'static str)>,
    next_id: u64,
    closing: bool,
    /// It ended its side: nothing more can be asked on this connection.
    finished: bool,
}

/// One watch. All transports have one, a WebSocket with operations has several.
struct Watch {
    id: u64,
    filter: Filter,
    cursor: Option<Cursor>,
    /// The state comes first, and these are the keys of it that came.
    state: Option<Vec<Entry>>,
    /// Nothing was said of it since it was asked for.
    fresh: bool,
    listing: bool,
    /// The server may tell of it.
    active: bool,
    /// It was told `compacted` then, before anything else: the state follows, or the watch has ended. Who has several on one
    /// connection learns which by waiting.
    restating: Option<Instant>,
}

impl Watcher {
    pub(super) fn new(mut random: Random, transport: Transport, hold: Duration, patience: Duration) -> Self {
        let begin = match (transport, random.below(4)) {
            (Transport::LongPoll, _) | (_, 0 | 1) => Begin::List,
            (_, 2) => Begin::Now,
            _ => Begin::State,
        };
        let watches = if transport == Transport::Socket { 2 } else { 1 };
        let watches = (0..watches).map(|index| {
            let filter = match random.below(3) {
                0 => Filter::Key(random.one_of(&KEYS).to_owned()),
                _ => Filter::Prefix(random.one_of(&["", "a/", "b", "a/\u{e9}", "none"]).to_owned()),
            };
            Watch { id: 1 + index, filter, cursor: None, state: None, fresh: true, listing: false, active: false, restating: None }
        });
        Self {
            watches: watches.collect(),
            random,
            transport,
            begin,
            doing: Doing::Resting,
            link: None,
            reader: Reader::new(),
            lines: Lines::default(),
            blocks: Blocks::default(),
            head: None,
            body: Vec::new(),
            told: 0,
            page: None,
            next: Instant::START,
            heard: Instant::START,
            asked: Instant::START,
            wait: Duration::ZERO,
            hold,
            patience,
            operations: Vec::new(),
            next_id: 10,
            closing: false,
            finished: false,
        }
    }

    // ---- Asking ----

    fn rest(&mut self, millis: usize, core: &mut Core) {
        self.doing = Doing::Resting;
        self.next = core.now.instant + Duration::from_millis(1 + self.random.below(millis) as u64);
        core.wake_at(self.next);
    }

    /// The connection is of no use any more.
    fn drop_link(&mut self) {
        self.link = None;
        self.head = None;
        self.body.clear();
        self.operations.clear();
        self.closing = false;
        self.finished = false;
    }

    fn link(&mut self, core: &mut Core) -> LinkId {
        if let (Some(link), true) = (self.link, self.finished) {
            core.close(link);
            self.link = None;
        }
        match self.link {
            Some(link) => link,
            None => {
                self.drop_link();
                self.reader = Reader::new();
                *self.link.insert(core.connect())
            }
        }
    }

    /// Asks for what is next: the state, its next page, the changes.
    fn ask(&mut self, core: &mut Core) {
        let link = self.link(core);
        for watch in &mut self.watches {
            watch.restating = None;
        }
        if let Some(cursor) = &mut self.watches[0].cursor {
            cursor.begin(link, core);
        }
        if self.page.is_none() {
            self.told = check::told(core.generation_of(link), core);
        }
        (self.heard, self.asked) = (core.now.instant, core.now.instant);
        self.lines = Lines::default();
        self.blocks = Blocks::default();
        let socket = matches!(self.transport, Transport::Messages | Transport::Socket);
        let lists = self.begin == Begin::List && self.watches[0].cursor.is_none();
        let request = if self.transport == Transport::Socket {
            self.doing = Doing::Watching;
            format!("GET /v1/watch HTTP/1.1\r\nHost: sim\r\n{UPGRADE}\r\n")
        } else if lists {
            self.doing = Doing::Listing;
            self.list_request()
        } else {
            self.doing = Doing::Watching;
            let target = self.watch_target();
            let fields = match self.transport {
                Transport::LongPoll => String::new(),
                Transport::Lines => "Accept: application/x-ndjson\r\n".into(),
                Transport::Events => "Accept: text/event-stream\r\n".into(),
                Transport::Messages | Transport::Socket => UPGRADE.into(),
            };
            let mut fields = fields;
            let mut target = target;
            if let (Transport::Events, Some(cursor), true) =
                (self.transport, &self.watches[0].cursor, self.random.chance(700))
            {
                fields.push_str(&format!("Last-Event-ID: {}\r\n", cursor.revision));
            } else if let Some(cursor) = &self.watches[0].cursor {
                target.push_str(&format!("&since={}", cursor.revision));
            }
            if self.watches[0].cursor.is_some() {
                core.marks.hit(&format!("{}: resumed", self.transport.name()));
            }
            format!("GET {target} HTTP/1.1\r\nHost: sim\r\n{fields}\r\n")
        };
        self.reader.ask(false);
        core.send(link, request.as_bytes());
        let mut random = self.random.clone();
        if !socket && core.strikes(Fault::HalfClose, &mut random) {
            core.finish(link);
            self.finished = true;
        }
        self.random = random;
        core.wake_at(core.now.instant + self.patience());
    }

    fn list_request(&mut self) -> String {
        let prefix = match &self.watches[0].filter {
            Filter::Key(key) => key,
            Filter::Prefix(prefix) => prefix,
        };
        let mut target = format!("/v1/kv?prefix={}", escaped(prefix));
        if self.random.chance(500) {
            target.push_str(&format!("&limit={}", 1 + self.random.below(3)));
        }
        match &self.page {
            Some((token, _)) => target.push_str(&format!("&continue={}", escaped(token))),
            None => self.watches[0].state = Some(Vec::new()),
        }
        format!("GET {target} HTTP/1.1\r\nHost: sim\r\n\r\n")
    }

    fn watch_target(&mut self) -> String {
        let watch = &mut self.watches[0];
        let mut target = match &watch.filter {
            Filter::Key(key) => format!("/v1/watch?key={}", escaped(key)),
            Filter::Prefix(prefix) => format!("/v1/watch?prefix={}", escaped(prefix)),
        };
        watch.fresh = true;
        watch.active = true;
        watch.state = None;
        if self.begin == Begin::State {
            target.push_str("&initial=true");
            if watch.cursor.is_none() {
                watch.state = Some(Vec::new());
            }
        }
        if self.transport == Transport::LongPoll {
            self.wait = Duration::from_millis(self.random.one_of(&[0, 300, 4000, 90_000]));
            target.push_str(&format!("&wait={}ms", self.wait.as_millis()));
        }
        target
    }

    /// Silence for longer than this is the server's fault, or the connection is dead.
    fn patience(&self) -> Duration {
        match self.doing {
            Doing::Listing => Duration::from_secs(5),
            _ => self.patience,
        }
    }

    // ---- Operations on a WebSocket ----

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

    fn say(&mut self, opcode: u8, payload: &[u8], link: LinkId, core: &mut Core) {
        let key = (self.random.next_u64() as u32).to_be_bytes();
        core.send(link, &frame(opcode, payload, key));
    }

    /// Starts each watch of the socket that is not there: lists first, if it is to.
    fn start_watches(&mut self, core: &mut Core) {
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
    fn dabble(&mut self, core: &mut Core) {
        let key = self.random.one_of(&KEYS);
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

    // ---- Hearing ----

    fn piece(&mut self, piece: Piece, link: LinkId, core: &mut Core) -> Result<(), String> {
        match piece {
            Piece::Head(head) => {
                core.marks.hit(&format!("status: {}", head.status));
                let switched = head.status == 101;
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
                        let value: Value = serde_json::from_slice(&line).map_err(|error| error.to_string())?;
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
                self.rest(pause, core);
            }
            (200, Doing::Watching) => {
                // The stream ended: drained, or compacted.
                core.marks.hit(&format!("{}: ended", self.transport.name()));
                self.rest(2000, core);
            }
            (410, Doing::Listing) => {
                let Some((_, revision)) = self.page.take() else { return Err("a first page is refused".into()) };
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
    fn listed(&mut self, index: usize, value: &Value, link: LinkId, core: &mut Core) -> Result<(), String> {
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
        check::list(&prefix, core.generation_of(link), revision, &state, self.told, core)?;
        watch.cursor = Some(Cursor::new(&watch.filter, core.generation_of(link), revision, core));
        Ok(())
    }

    /// The answer to a long poll.
    fn polled(&mut self, value: &Value, link: LinkId, core: &mut Core) -> Result<(), String> {
        let revision = value.get("revision").and_then(Value::as_u64).ok_or("a poll without a revision")?;
        let events = value.get("events").and_then(Value::as_array).ok_or("a poll without events")?;
        let Some(cursor) = &mut self.watches[0].cursor else { return Err("a poll since nothing".into()) };
        if cursor.generation != core.generation_of(link) {
            return Err(format!("a poll since {} of another server is answered", cursor.revision));
        }
        for event in events {
            cursor.change(&check::entry(event)?, core)?;
        }
        cursor.bookmark(revision, core)?;
        if revision < self.told && events.is_empty() {
            return Err(format!("a poll at {revision}, and {} was known", self.told));
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
    fn told(&mut self, index: usize, value: &Value, link: LinkId, core: &mut Core) -> Result<(), String> {
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
                    return Err(format!("it asked since {} of another server, and is told changes", cursor.revision));
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
                    check::list(&watch.filter, generation, revision, &items, self.told, core)?;
                    let mut cursor = Cursor::new(&watch.filter, generation, revision, core);
                    cursor.begin(link, core);
                    watch.cursor = Some(cursor);
                } else if let Some(cursor) = &mut watch.cursor {
                    if cursor.generation != generation {
                        return Err(format!("a bookmark since {} of another server", cursor.revision));
                    }
                    cursor.bookmark(revision, core)?;
                } else {
                    if revision < self.told {
                        return Err(format!("it begins at {revision}, and {} was known", self.told));
                    }
                    let mut cursor = Cursor::new(&watch.filter, generation, revision, core);
                    cursor.begin(link, core);
                    watch.cursor = Some(cursor);
                }
            }
            "watching" => {
                let revision = revision.ok_or("watching without a revision")?;
                if revision < self.told {
                    return Err(format!("it watches at {revision}, and {} was known", self.told));
                }
                watch.active = true;
                if watch.cursor.as_ref().is_some_and(|cursor| cursor.generation != generation) && !may_restate {
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
        let field = |name: &str| block.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
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

    fn frame(&mut self, frame: &Frame, link: LinkId, core: &mut Core) -> Result<(), String> {
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
                let value: Value =
                    serde_json::from_slice(&frame.payload).map_err(|error| format!("{error} in a message"))?;
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
        let Some(index) = index else { return self.operated(what, kind, value, link, core) };
        match (what, kind) {
            (Some("list"), "result") => {
                self.watches[index].listing = false;
                self.page = None;
                let more = value.get("continue").and_then(Value::as_str).map(str::to_owned);
                let result = if more.is_some() {
                    // Pages are the business of others: it watches from the page's revision on.
                    let revision = value.get("revision").and_then(Value::as_u64).ok_or("a list without a revision")?;
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
        &mut self,
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

/// What an upgrade asks.
pub(super) const UPGRADE: &str = "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

impl Actor for Watcher {
    fn wake(&mut self, core: &mut Core) {
        match self.doing {
            Doing::Left => {}
            Doing::Resting => {
                if core.now.instant >= self.next {
                    self.ask(core);
                }
            }
            Doing::Listing | Doing::Watching => {
                let until = self.heard + self.patience();
                if core.now.instant < until {
                    if self.transport == Transport::Socket && !self.closing && self.random.chance(300) {
                        if self.head.as_ref().is_some_and(|head| head.status == 101) && !core.calm {
                            self.dabble(core);
                        }
                        let soon = core.now.instant + Duration::from_millis(1 + self.random.below(5000) as u64);
                        return core.wake_at(soon.min(until));
                    }
                    return core.wake_at(until);
                }
                if let Some(link) = self.link {
                    if core.is_prompt(link, self.heard) {
                        return core.fail(format!("#{link}: nothing was heard for {:?}", self.patience()));
                    }
                    core.reset(link);
                }
                self.page = None;
                self.drop_link();
                self.rest(1000, core);
            }
        }
    }

    fn heard(&mut self, link: LinkId, bytes: &[u8], core: &mut Core) {
        if self.link != Some(link) || self.doing == Doing::Left {
            return;
        }
        self.heard = core.now.instant;
        let waited = |at: Instant| core.now.instant.since(at) > Duration::from_secs(1);
        if self.watches.iter().any(|watch| watch.restating.is_some_and(waited)) {
            core.reset(link);
            self.drop_link();
            return self.rest(500, core);
        }
        if self.transport == Transport::Socket && self.random.chance(100) {
            core.wake_at(core.now.instant + Duration::from_millis(self.random.below(3000) as u64));
        }
        self.reader.push(bytes);
        loop {
            match self.reader.next() {
                Ok(None) => return,
                Ok(Some(piece)) => {
                    if let Err(problem) = self.piece(piece, link, core) {
                        return core.fail(format!("#{link}: {problem}"));
                    }
                }
                Err(problem) => return core.fail(format!("#{link}: {problem}")),
            }
        }
    }

    fn ended(&mut self, link: LinkId, how: End, core: &mut Core) {
        if self.link != Some(link) {
            return;
        }
        // A list whose revision left the log breaks off.
        let may_cut = self.doing == Doing::Listing;
        let prompt = core.is_prompt(link, core.opened(link));
        if how == End::Finished && !self.reader.is_between() && prompt && !may_cut {
            core.fail(format!("#{link}: an answer is cut"));
        }
        let left = self.doing == Doing::Left;
        self.page = None;
        self.drop_link();
        if !left {
            self.rest(if core.calm { 500 } else { 4000 }, core);
        }
    }

    fn calm(&mut self, core: &mut Core) {
        if self.doing == Doing::Resting {
            self.rest(1000, core);
        }
    }

    fn settled(&self, core: &Core) -> Result<(), String> {
        for watch in &self.watches {
            match &watch.cursor {
                None => return Err(format!("{:?} of {:?}: it knows nothing", watch.filter, self.transport)),
                Some(cursor) => cursor.settled(core)?,
            }
        }
        Ok(())
    }

    fn leave(&mut self, core: &mut Core) {
        self.doing = Doing::Left;
        if let Some(link) = self.link {
            let upgraded = self.head.as_ref().is_some_and(|head| head.status == 101);
            if upgraded && !self.closing && self.random.chance(700) {
                self.closing = true;
                self.say(8, &1000_u16.to_be_bytes(), link, core);
            }
            core.close(link);
        }
    }
}
