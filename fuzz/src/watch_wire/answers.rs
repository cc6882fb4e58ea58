//! What comes back on a connection, in the order in which it comes, each answer held to its request.

use std::collections::BTreeMap;

use keepwatch_protocol::websocket::Compression;
use keepwatch_watch::Config;
use serde_json::{Value, json};

use super::asked::{Asked, Message as Said, Requests};
use super::cursor::Cursor;
use crate::history::{Entry, History};
use crate::reader::{End, Kind, Message};

#[derive(Default)]
pub(super) struct Answers {
    /// What came and is not understood.
    bytes: Vec<u8>,
    state: State,
    /// Where the last list goes on.
    pub(super) token: Option<String>,
}

#[derive(Default)]
enum State {
    /// Before an answer, or in one that is not whole.
    #[default]
    Answers,
    /// In a watch over HTTP, of whose body so much is understood.
    Stream(Cursor, usize),
    Socket(Socket),
    /// The last answer, or a Close frame, has come.
    Over,
}

/// A WebSocket.
#[derive(Default)]
struct Socket {
    /// The watch of the URL.
    only: Option<Cursor>,
    /// Those with an id; `None` where it cannot be known what it is of, as two were asked for at a time.
    watches: BTreeMap<u64, Option<Cursor>>,
    closing: bool,
}

impl Answers {
    /// This came.
    pub(super) fn hear(&mut self, came: &[u8], requests: &mut Requests, history: &History, config: &Config) {
        if came.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(came);
        loop {
            match &mut self.state {
                State::Over => {
                    return assert!(self.bytes.is_empty(), "behind the end: {}", self.bytes.escape_ascii());
                }
                State::Socket(socket) => {
                    let taken = socket.frames(&self.bytes, requests, history, config);
                    self.bytes.drain(..taken);
                    return;
                }
                State::Answers | State::Stream(..) => {
                    let asked = requests.next();
                    // To a connection beyond the limit it is said whatever is asked.
                    let full = self.bytes.ends_with(b"{\"error\":\"too many connections: try later\"}\n");
                    let head = !full && asked.is_some_and(|asked| asked.method == "HEAD");
                    let kind = if head { Kind::Bodiless } else { Kind::Response };
                    let Some(message) = Message::read(&self.bytes, kind) else { return };
                    let (status, length) = (message.status(), message.length);
                    if status == 100 {
                        self.bytes.drain(..length);
                        continue;
                    }
                    let end = self.answer(&message, asked, requests.malformed, history, config);
                    if end != End::Complete {
                        return;
                    }
                    self.bytes.drain(..length);
                    if message.closes() {
                        self.state = State::Over;
                    }
                    requests.answered(status);
                }
            }
        }
    }

    /// Whether a watch that goes on was told everything.
    pub(super) fn assert_told(&self, history: &History) {
        match &self.state {
            State::Answers | State::Over => {}
            State::Stream(cursor, _) => cursor.assert_told(history),
            State::Socket(socket) if socket.closing => {}
            State::Socket(socket) => {
                let watches = socket.watches.values().flatten();
                watches.chain(&socket.only).for_each(|cursor| cursor.assert_told(history));
            }
        }
    }

    fn answer(
        &mut self,
        message: &Message,
        asked: Option<&Asked>,
        malformed: bool,
        history: &History,
        config: &Config,
    ) -> End {
        let status = message.status();
        let Some(asked) = asked.filter(|asked| asked.complete) else {
            // Nobody waits for it: it says why it is the last one. (A request of which a part is refused may not be.)
            let partly = asked.is_some();
            assert!(status >= 400 && (message.closes() || partly), "{message:?}");
            assert!(malformed || partly || matches!(status, 408 | 503), "{message:?}");
            return message.end;
        };
        let kind = message.fields.iter().find(|(name, _)| name == "content-type");
        let kind = kind.map_or("", |(_, value)| std::str::from_utf8(value).expect("a media type"));
        let streams = matches!(kind, "application/x-ndjson" | "text/event-stream");
        if streams && status == 200 && asked.method == "GET" {
            if !matches!(self.state, State::Stream(..)) {
                let cursor = Cursor::new(asked.filter(), asked.watch_since(), asked.initial(), asked.since);
                self.state = State::Stream(cursor, 0);
            }
            let State::Stream(cursor, understood) = &mut self.state else { return message.end };
            let rest = &message.content[*understood..];
            *understood += if kind == "text/event-stream" {
                events(cursor, rest, history)
            } else {
                lines(cursor, rest, history)
            };
            if message.end == End::Complete {
                assert_eq!(*understood, message.content.len(), "the stream ends in the middle");
                self.state = State::Answers;
            }
            return message.end;
        }
        if status == 101 {
            let watches = asked.parameter("key").or(asked.parameter("prefix")).is_some();
            let only = watches
                .then(|| Cursor::new(asked.filter(), asked.watch_since(), asked.initial(), asked.since));
            self.state = State::Socket(Socket { only, ..Socket::default() });
        } else if message.end == End::Complete && asked.method != "HEAD" {
            let json = (kind == "application/json" && status != 304).then(|| {
                serde_json::from_slice::<Value>(&message.content)
                    .unwrap_or_else(|error| panic!("{error}: {message:?}"))
            });
            self.check(asked, message, json.as_ref(), history, config);
        }
        message.end
    }

    /// A whole answer.
    fn check(
        &mut self,
        asked: &Asked,
        message: &Message,
        json: Option<&Value>,
        history: &History,
        config: &Config,
    ) {
        let (status, content) = (message.status(), &message.content);
        if status >= 400 {
            let json = json.unwrap_or(&Value::Null);
            // What the protocol refuses, and a server that goes, have no JSON.
            assert!(json["error"].is_string() || asked.path == "/readyz" || message.closes(), "{message:?}");
            match (status, asked.key()) {
                (410, _) => assert_gone(asked, history),
                (404, Some(key)) => {
                    let (before, after) = history.log.split_at(asked.since);
                    let was = before.iter().rfind(|entry| entry.key == key);
                    let absent = was.is_none_or(|entry| entry.value.is_none())
                        || after.iter().any(|entry| entry.key == key && entry.value.is_none());
                    assert!(absent, "{key:?} was there: {message:?}");
                }
                _ => {}
            }
            return;
        }
        let field = |wanted: &str| message.fields.iter().find(|(name, _)| name == wanted);
        let tag = field("etag").and_then(|(_, tag)| {
            let tag = std::str::from_utf8(tag).ok()?;
            tag.strip_prefix('"')?.strip_suffix('"')?.parse::<u64>().ok()
        });
        let number = |name: &str| json.and_then(|json| json[name].as_u64());
        let key = asked.key();
        let entry = |revision: Option<u64>| {
            let mut entries = history.log.iter().enumerate();
            entries.find(|(_, entry)| Some(entry.revision) == revision && Some(&entry.key) == key.as_ref())
        };
        match (asked.path.as_str(), asked.method.as_str(), status) {
            ("/v1/kv", "GET", 200) => {
                let json = json.unwrap_or_else(|| panic!("no list: {message:?}"));
                let (at, after) = asked.parameter("continue").and_then(|token| token.split_once('.')).unzip();
                let limit = asked.parameter("limit").and_then(|limit| limit.parse().ok());
                let limit = config.list_items.min(limit.unwrap_or(usize::MAX));
                let prefix = asked.parameter("prefix").unwrap_or_default();
                history.assert_page(prefix, after, limit, json);
                let revision = json["revision"].as_u64().unwrap_or_default();
                match at.and_then(|at| at.parse::<u64>().ok()) {
                    Some(at) => assert_eq!(revision, at),
                    None => assert!(history.after(revision) >= asked.since, "an old list: {json}"),
                }
                self.token = json["continue"].as_str().map(str::to_owned);
            }
            ("/v1/watch", "GET", 200) => {
                let json = json.unwrap_or_else(|| panic!("no poll: {message:?}"));
                assert_poll(asked, json, history);
            }
            (path, "GET", 200 | 304) if path.starts_with("/v1/kv/") => {
                let (place, entry) = entry(tag).unwrap_or_else(|| panic!("never so: {message:?}"));
                assert!(status == 304 || entry.value.as_ref() == Some(content), "{entry:?}: {message:?}");
                let later = history.log[place + 1..asked.since.max(place + 1)].iter();
                assert!(later.filter(|later| later.key == entry.key).count() == 0, "too old: {message:?}");
            }
            (path, "PUT", 200 | 201) if path.starts_with("/v1/kv/") => {
                assert_eq!(tag, number("revision"));
                let (_, entry) = entry(tag).unwrap_or_else(|| panic!("not done: {message:?}"));
                assert_eq!(entry.value.as_ref(), Some(&asked.body), "{message:?}");
                assert!(status == 200 || entry.created == entry.revision, "{entry:?} is not new");
            }
            (path, "DELETE", 200) if path.starts_with("/v1/kv/") => {
                let (_, entry) = entry(number("revision")).unwrap_or_else(|| panic!("not done: {message:?}"));
                assert_eq!(entry.value, None, "{message:?}");
            }
            ("/count", "GET", 200) => assert!(b"world1\nworld2\nworld3\nworld4\n".starts_with(content)),
            ("/hello", "GET", 200) => assert!(content.starts_with(b"wait:\n") && content.ends_with(b"\n")),
            ("/healthz", "GET", 200) => assert_eq!(content, b"ok\n"),
            ("/readyz", "GET", 200) => assert_eq!(content, b"ready\n"),
            ("/metrics", "GET", 200) => assert!(content.ends_with(b"# EOF\n")),
            ("/", "GET", 200) => assert!(content.ends_with(b"</html>\n")),
            (path, "GET" | "POST", 200) if path.starts_with("/ok/") => assert_eq!(content, b"OK"),
            _ => panic!("{message:?} to {asked:?}"),
        }
    }
}

/// What was asked for is no longer, or not yet, there.
fn assert_gone(asked: &Asked, history: &History) {
    let known = history.log[..asked.since].last().map_or(0, |last| last.revision);
    let at = match asked.path.as_str() {
        "/v1/watch" => asked.watch_since(),
        _ => asked.parameter("continue").and_then(|token| token.split_once('.')?.0.parse().ok()),
    };
    let gone = at.is_some_and(|at| at > known || at < history.floor_revision());
    assert!(gone || history.floor > asked.since, "{asked:?} could be answered");
}

/// An answer to a poll.
fn assert_poll(asked: &Asked, json: &Value, history: &History) {
    let to = json["revision"].as_u64().unwrap_or_else(|| panic!("no revision in {json}"));
    assert!(to <= history.revision(), "{json}");
    let events = json["events"].as_array().unwrap_or_else(|| panic!("no events in {json}"));
    let events: Vec<Entry> = events.iter().map(Entry::of_json).collect();
    let filter = asked.filter();
    let changes = |from: usize| -> Vec<Entry> {
        let changes = history.changes(&filter, from).map(|(_, entry)| entry);
        changes.filter(|entry| entry.revision <= to).cloned().collect()
    };
    match asked.watch_since() {
        Some(since) => assert_eq!(events, changes(history.after(since)), "{json}"),
        // From when on is not said.
        None => assert!(changes(asked.since).ends_with(&events), "{json}"),
    }
}

/// Whole lines of JSON. Returns how many bytes they have.
fn lines(cursor: &mut Cursor, body: &[u8], history: &History) -> usize {
    let whole = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    for line in body[..whole].split_inclusive(|byte| *byte == b'\n') {
        let json = serde_json::from_slice(line);
        cursor.event(&json.unwrap_or_else(|error| panic!("{error}: {}", line.escape_ascii())), history);
    }
    whole
}

/// Whole server-sent events. Returns how many bytes they have.
fn events(cursor: &mut Cursor, body: &[u8], history: &History) -> usize {
    let end = body.windows(2).rposition(|pair| pair == b"\n\n").map_or(0, |at| at + 2);
    let text = std::str::from_utf8(&body[..end]).expect("UTF-8");
    for block in text.split_terminator("\n\n") {
        let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
        for line in block.lines() {
            let (name, value) = line.split_once(": ").or(line.split_once(':')).expect("a field");
            assert_eq!(fields.insert(name, value), None, "twice: {block:?}");
        }
        let [id, event, data, retry] = ["id", "event", "data", "retry"].map(|name| fields.remove(name));
        assert!(fields.is_empty(), "{block:?}");
        match (id, event, data) {
            (id, Some(event), Some(data)) => {
                let json: Value =
                    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
                assert_eq!(json["type"], event);
                // Who is cut off in the state has to get all of it again.
                let revision = json["revision"].to_string();
                let resumes = event != "compacted" && !cursor.tells_state();
                assert!(if resumes {
                    id == Some(&*revision)
                } else {
                    id.is_none_or(str::is_empty) || event == "compacted"
                });
                cursor.event(&json, history);
            }
            (Some(id), None, None) => {
                let revision: u64 = id.parse().unwrap_or_else(|_| panic!("{block:?}"));
                cursor.event(&json!({"type": "bookmark", "revision": revision}), history);
            }
            (None, None, None) => assert!(retry.is_some(), "{block:?}"),
            _ => panic!("{block:?}"),
        }
    }
    end
}

// ------------------------------------------------------------------------------------------------------- WebSocket

impl Socket {
    /// Takes whole frames. Returns how many bytes they have.
    fn frames(&mut self, bytes: &[u8], requests: &Requests, history: &History, config: &Config) -> usize {
        let mut at = 0;
        loop {
            let Some((&[first, second], rest)) = bytes[at..].split_first_chunk() else { return at };
            assert_eq!(second & 0x80, 0, "a server masks nothing");
            let (length, rest) = match (second, rest) {
                (126, [high, low, rest @ ..]) => (usize::from(*high) << 8 | usize::from(*low), rest),
                (126, _) => return at,
                (127, _) => panic!("a message that is too long for this"),
                (length, rest) => (usize::from(length), rest),
            };
            assert!(second != 126 || length > 125, "a length that is longer than it need be");
            let Some(payload) = rest.get(..length) else { return at };
            at = bytes.len() - rest.len() + length;
            assert!(!self.closing || first == 0x8a, "behind a Close frame: {first:02x}");
            match first {
                0x81 => self.message(payload, requests, history),
                0xc1 => self.message(&inflated(payload), requests, history),
                0x88 => self.closing = true,
                0x89 | 0x8a => {}
                other => panic!("a frame begins with {other:02x}"),
            }
            assert!(first != 0xc1 || config.websocket.compression != Compression::OFF, "compressed");
        }
    }

    fn message(&mut self, text: &[u8], requests: &Requests, history: &History) {
        let json: Value = serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error} in a message"));
        let kind = json["type"].as_str().unwrap_or_else(|| panic!("no type in {json}")).to_owned();
        let Some(id) = json["id"].as_u64() else {
            match (&*kind, &mut self.only) {
                ("error", _) => assert!(json["error"].is_string() && json["status"].is_u64()),
                (_, Some(cursor)) => drop(cursor.event(&json, history)),
                _ => panic!("{json}, and nobody watches"),
            }
            return;
        };
        let said: Vec<&Said> = requests.messages.iter().filter(|said| said.id == id).collect();
        if requests.compressed {
            return; // it may be of a message that is not understood here
        }
        assert!(!said.is_empty(), "{json}, and nobody asked");
        match &*kind {
            "error" => assert!(json["error"].is_string() && json["status"].is_u64()),
            "result" => assert_result(&said, &json, history),
            "watching" => {
                let revision = json["revision"].as_u64().unwrap_or_else(|| panic!("{json}"));
                let mut cursor = watch(&said);
                if let Some(cursor) = &mut cursor {
                    cursor.watching(revision, history);
                }
                self.watches.insert(id, cursor);
            }
            "canceled" => assert!(self.watches.remove(&id).is_some(), "there was none: {json}"),
            _ => {
                // What cannot begin is told at once.
                let begins = kind == "compacted" && !self.watches.contains_key(&id);
                let mut beginning = begins.then(|| watch(&said));
                let cursor = beginning.as_mut().or_else(|| self.watches.get_mut(&id));
                let cursor = cursor.unwrap_or_else(|| panic!("{json}, and there is no watch"));
                let over = cursor.as_mut().is_some_and(|cursor| cursor.event(&json, history));
                if over {
                    self.watches.remove(&id);
                }
            }
        }
    }
}

/// The watch with this id, if it can be known which it is.
fn watch(said: &[&Said]) -> Option<Cursor> {
    let mut watches = said.iter().filter_map(|said| Some((said.watch()?, said.since)));
    let Some((first, asked)) = watches.next() else { panic!("nobody asked for a watch") };
    let same = watches.all(|(other, _)| other == first);
    let (filter, since, initial) = first;
    same.then(|| Cursor::new(filter, since, initial, asked))
}

/// Something was done, or looked at, under this id.
fn assert_result(said: &[&Said], json: &Value, history: &History) {
    let of = |op: &str| said.iter().filter(|said| said.json["op"] == op).collect::<Vec<_>>();
    let revision = json["revision"].as_u64().unwrap_or_else(|| panic!("no revision in {json}"));
    if json.get("items").is_some() {
        if let [list] = of("list")[..] {
            let token = list.json["continue"].as_str().and_then(|token| token.split_once('.'));
            let limit = list.json["limit"].as_u64().map_or(usize::MAX, |limit| limit as usize);
            let prefix = list.json["prefix"].as_str().unwrap_or_default();
            history.assert_page(prefix, token.map(|(_, after)| after), limit, json);
            assert!(token.is_some() || history.after(revision) >= list.since, "an old list: {json}");
        }
    } else if json.get("key").is_some() {
        let item = Entry::of_json(json);
        let asked = of("get").iter().filter(|get| get.json["key"] == *item.key).map(|get| get.since).min();
        let asked = asked.unwrap_or_else(|| panic!("nobody asked for {json}"));
        let place = history.log.iter().position(|entry| *entry == item);
        let place = place.unwrap_or_else(|| panic!("never so: {json}"));
        let later = history.log[place + 1..asked.max(place + 1)].iter().find(|later| later.key == item.key);
        assert_eq!(later, None, "too old: {json}");
    } else {
        let done = history.log.iter().any(|entry| {
            let key = |said: &&&Said| said.json["key"] == *entry.key;
            let op = if entry.value.is_some() { "put" } else { "delete" };
            entry.revision == revision && of(op).iter().any(key)
        });
        assert!(done, "not done: {json}");
    }
}

fn inflated(payload: &[u8]) -> Vec<u8> {
    // The end of an empty block, which is not sent, and a last block (RFC 7692 section 7.2.2).
    let stream = [payload, &[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff]].concat();
    miniz_oxide::inflate::decompress_to_vec(&stream).unwrap_or_else(|error| panic!("{error}"))
}
