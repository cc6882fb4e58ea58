//! What a client asked for. Where its requests begin and end another target sees to (`server_connection`), so our own connection
//! says it here; what they mean is read again, in the plainest way.

use std::collections::VecDeque;
use std::sync::Arc;

use keepwatch_protocol::http1::{
    Config, Event, Exchange, RequestHead, ResponseHead, ServerConnection, StatusCode,
};
use keepwatch_protocol::websocket::{self, Compression, Role};
use keepwatch_protocol::{Input, Now};
use serde_json::Value;

use crate::history::Filter;
use crate::reader::without_empty_lines;
use crate::websocket_connection::naive::{self, Item, Reading};

/// The requests of a connection that are not answered yet, and behind an upgrade its messages.
pub(super) struct Requests {
    connection: ServerConnection,
    websocket: websocket::Config,
    unread: Vec<u8>,
    /// How many changes had been committed when the first of these was sent.
    unread_since: usize,
    hung_up: bool,
    /// The request that is being read, and those before it.
    asked: VecDeque<Asked>,
    exchange: Option<Exchange>,
    /// The last one wants another protocol: what follows is understood when it is answered.
    upgrading: bool,
    /// Bytes that are no request came, which have an answer of their own.
    pub(super) malformed: bool,
    /// What came behind the upgrade, and how many of its messages were understood.
    frames: Option<(Vec<u8>, usize)>,
    pub(super) messages: Vec<Message>,
    /// There may be compressed ones, which are not among these.
    pub(super) compressed: bool,
}

/// A request.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    /// `None`: it cannot be decoded.
    pub(super) query: Option<Vec<(String, String)>>,
    last_event_id: Option<String>,
    upgrades: bool,
    pub(super) body: Vec<u8>,
    /// It is whole, and nothing of it was refused.
    pub(super) complete: bool,
    /// How many changes had been committed before its end.
    pub(super) since: usize,
}

/// A message on a WebSocket that has an id.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: u64,
    pub(super) json: Value,
    /// How many changes had been committed before.
    pub(super) since: usize,
}

impl Requests {
    pub(super) fn new(config: &keepwatch_watch::Config) -> Self {
        let mut http: Config = config.http.clone();
        http.limits.body_bytes = config.value_bytes as u64;
        Self {
            connection: ServerConnection::new(Arc::new(http), Now::default()),
            websocket: config.websocket.clone(),
            unread: Vec::new(),
            unread_since: 0,
            hung_up: false,
            asked: VecDeque::new(),
            exchange: None,
            upgrading: false,
            malformed: false,
            frames: None,
            messages: Vec::new(),
            compressed: false,
        }
    }

    /// The client sent this, when so many changes had been committed.
    pub(super) fn sent(&mut self, bytes: &[u8], committed: usize) {
        if self.hung_up {
            return;
        }
        if self.unread.is_empty() {
            self.unread_since = committed;
        }
        self.unread.extend_from_slice(bytes);
        self.read();
    }

    /// The client ended its side.
    pub(super) fn ended(&mut self) {
        self.hung_up = true;
        self.read();
    }

    /// Whose answer is the next one.
    pub(super) fn next(&self) -> Option<&Asked> {
        self.asked.front()
    }

    /// It was answered.
    pub(super) fn answered(&mut self, status: u16) {
        let last = self.asked.pop_front().is_some() && self.asked.is_empty();
        if status == 101 {
            assert!(self.upgrading && last, "101, and nobody asked for another protocol");
            self.frames = Some((Vec::new(), 0));
            self.read();
        } else if self.upgrading && last {
            self.upgrading = false;
            self.respond();
            self.read();
        }
    }

    fn read(&mut self) {
        let since = self.unread_since;
        if let Some((frames, understood)) = &mut self.frames {
            frames.append(&mut self.unread);
            let Reading { items, error, .. } = naive::read(Role::Server, &self.websocket, frames);
            self.compressed |= error.is_some() && self.websocket.compression != Compression::OFF;
            for item in &items[*understood..] {
                let Item::Text(text) = item else { continue };
                let Ok(json) = serde_json::from_slice::<Value>(text) else { continue };
                if let Some(id) = json["id"].as_u64() {
                    self.messages.push(Message { id, json, since });
                }
            }
            *understood = items.len();
            return;
        }
        let mut unread = std::mem::take(&mut self.unread);
        let mut input = if self.hung_up { Input::last(&mut unread) } else { Input::new(&mut unread) };
        while !self.upgrading {
            let method = without_empty_lines(input.bytes()).split(|byte| *byte == b' ').next();
            let method = method.map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            match self.connection.recv(&mut input, &mut Vec::new(), Now::default()) {
                Ok(Event::Request(head, exchange)) => {
                    self.asked.push_back(Asked::new(&head));
                    self.exchange = Some(exchange);
                }
                Ok(Event::Data(data)) => {
                    if let Some(asked) = self.asked.back_mut() {
                        asked.body.extend_from_slice(data);
                    }
                }
                Ok(Event::EndOfRequest) => {
                    let Some(asked) = self.asked.back_mut() else { continue };
                    (asked.complete, asked.since) = (true, since);
                    self.upgrading = asked.upgrades;
                    if !self.upgrading {
                        self.respond();
                    }
                }
                // A whole one, of which nothing was told.
                Ok(Event::Refused(_)) => self.asked.push_back(Asked { method, ..Asked::default() }),
                Ok(Event::NeedMore | Event::Paused | Event::Closed) => break,
                Ok(_) => {}
                Err(_) => {
                    self.malformed = true;
                    break;
                }
            }
        }
        let taken = input.consumed();
        unread.drain(..taken);
        self.unread = unread;
    }

    /// As far as this connection knows, it is answered.
    fn respond(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        let mut out = Vec::new();
        let head = ResponseHead::empty(StatusCode::OK, &[]);
        if let Ok(body) = self.connection.respond(exchange, &head, &mut out, Now::default()) {
            let _finished = self.connection.finish(body, &mut out, Now::default());
        }
    }
}

impl Asked {
    fn new(head: &RequestHead<'_>) -> Self {
        let last_event_id = head.fields().first("last-event-id").filter(|value| !value.is_empty());
        let query = head.query().unwrap_or_default();
        let query = query.split('&').filter(|part| !part.is_empty()).map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decoded(&name.replace('+', " "))?, decoded(&value.replace('+', " "))?))
        });
        Self {
            method: head.method().to_owned(),
            path: head.path().to_owned(),
            query: query.collect(),
            upgrades: head.wants_upgrade_to("websocket"),
            last_event_id: last_event_id.map(|id| String::from_utf8_lossy(id).into_owned()),
            body: Vec::new(),
            complete: false,
            since: 0,
        }
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let mut parameters = self.query.iter().flatten();
        parameters.find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The key in the path.
    pub(super) fn key(&self) -> Option<String> {
        decoded(self.path.strip_prefix("/v1/kv/")?)
    }

    /// What a watch is of.
    pub(super) fn filter(&self) -> Filter {
        match (self.parameter("key"), self.parameter("prefix")) {
            (Some(key), None) => Filter::Key(key.to_owned()),
            (None, Some(prefix)) => Filter::Prefix(prefix.to_owned()),
            _ => panic!("{self:?} is answered as a watch"),
        }
    }

    /// From which revision on.
    pub(super) fn watch_since(&self) -> Option<u64> {
        let since = self.last_event_id.as_deref().or(self.parameter("since"))?;
        Some(since.parse().unwrap_or_else(|_| panic!("{self:?} is answered as a watch")))
    }

    /// Whether it wants the state first.
    pub(super) fn initial(&self) -> bool {
        self.parameter("initial") == Some("true")
    }
}

impl Message {
    /// What a watch is of, from which revision on, and whether it wants the state first.
    pub(super) fn watch(&self) -> Option<(Filter, Option<u64>, bool)> {
        let text = |name: &str| self.json[name].as_str().map(str::to_owned);
        let filter = match (text("key"), text("prefix")) {
            _ if self.json["op"] != "watch" => return None,
            (Some(key), None) => Filter::Key(key),
            (None, Some(prefix)) => Filter::Prefix(prefix),
            _ => return None,
        };
        Some((filter, self.json["since"].as_u64(), self.json["initial"] == true))
    }
}

/// RFC 3986 section 2.1, once.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}
