//! A watch by any transport: to a test they are alike.

use std::collections::VecDeque;
use std::io::BufRead;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keepwatch_protocol::websocket::{
    self, Assembler, CloseCode, Connection, Event, FrameHead, Message, MessageKind, Opcode, Role, handshake,
};
use keepwatch_protocol::{Input, Now};
use serde_json::{Value, json};

use super::client::{Client, Framing, Response};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    LongPoll,
    Lines,
    Events,
    /// The same for a client that speaks HTTP/1.0.
    LinesHttp10,
    EventsHttp10,
    /// A WebSocket whose URL names the watch.
    Socket,
    /// A watch on a WebSocket that could carry others.
    SocketWithId,
}

impl Transport {
    pub(crate) const ALL: [Self; 7] = [
        Self::LongPoll,
        Self::Lines,
        Self::Events,
        Self::LinesHttp10,
        Self::EventsHttp10,
        Self::Socket,
        Self::SocketWithId,
    ];
    /// Those that carry one change after the other.
    pub(crate) const STREAMS: [Self; 6] =
        [Self::Lines, Self::Events, Self::LinesHttp10, Self::EventsHttp10, Self::Socket, Self::SocketWithId];
}

/// What is watched: every key with the prefix.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) since: Option<u64>,
    pub(crate) initial: bool,
}

impl<'a> Watch<'a> {
    pub(crate) fn of(prefix: &'a str) -> Self {
        Self { prefix, ..Self::default() }
    }

    fn target(&self) -> String {
        let since = self.since.map(|since| format!("&since={since}")).unwrap_or_default();
        let initial = if self.initial { "&initial=true" } else { "" };
        format!("/v1/watch?prefix={}{since}{initial}", self.prefix)
    }

    fn message(&self) -> Value {
        let mut message = json!({"op": "watch", "id": ID, "prefix": self.prefix});
        if let Some(since) = self.since {
            message["since"] = since.into();
        }
        if self.initial {
            message["initial"] = true.into();
        }
        message
    }
}

const ID: u64 = 7;

/// One watch.
pub(crate) struct Watcher(Carrier);

enum Carrier {
    Polls { client: Client, prefix: String, since: u64, events: VecDeque<Value> },
    Lines(Stream),
    Events(Stream),
    Socket { socket: WebSocket, id: Option<u64> },
}

impl Watcher {
    /// A watch that is on. Without `since` and `initial` its first bookmark is read already.
    pub(crate) fn open(mut client: Client, transport: Transport, watch: &Watch<'_>) -> Self {
        let carrier = match transport {
            Transport::LongPoll => {
                let since = watch.since.unwrap_or_else(|| client.revision());
                Carrier::Polls { client, prefix: watch.prefix.into(), since, events: VecDeque::new() }
            }
            Transport::Lines => Carrier::Lines(Stream::open(client, &watch.target(), LINES, false)),
            Transport::Events => Carrier::Events(Stream::open(client, &watch.target(), EVENTS, false)),
            Transport::LinesHttp10 => Carrier::Lines(Stream::open(client, &watch.target(), LINES, true)),
            Transport::EventsHttp10 => Carrier::Events(Stream::open(client, &watch.target(), EVENTS, true)),
            Transport::Socket => {
                Carrier::Socket { socket: WebSocket::open(client, &watch.target()), id: None }
            }
            Transport::SocketWithId => {
                let mut socket = WebSocket::open(client, "/v1/watch");
                socket.say(&watch.message());
                let answer = socket.message().unwrap();
                assert_eq!((&answer["id"], &answer["type"]), (&json!(ID), &json!("watching")), "{answer}");
                // The newest there is, whatever the watch goes on from.
                if let Some(since) = watch.since {
                    assert!(answer["revision"].as_u64().is_some_and(|newest| newest >= since), "{answer}");
                }
                Carrier::Socket { socket, id: Some(ID) }
            }
        };
        let mut watcher = Self(carrier);
        let says_where_it_is = !matches!(transport, Transport::LongPoll | Transport::SocketWithId);
        if says_where_it_is && watch.since.is_none() && !watch.initial {
            assert_eq!(watcher.next().unwrap()["type"], "bookmark");
        }
        watcher
    }

    /// The next event; `None` when the stream has ended, and cleanly.
    pub(crate) fn next(&mut self) -> Option<Value> {
        match &mut self.0 {
            Carrier::Polls { client, prefix, since, events } => loop {
                if let Some(event) = events.pop_front() {
                    return Some(event);
                }
                let response = client.get(&format!("/v1/watch?prefix={prefix}&since={since}&wait=60s"));
                assert_eq!(response.status, 200, "{}", response.text());
                let mut body = response.json();
                *since = body["revision"].as_u64().unwrap();
                let Value::Array(all) = body["events"].take() else { panic!("{body}") };
                events.extend(all);
            },
            Carrier::Lines(stream) => Some(serde_json::from_slice(&stream.line()?).unwrap()),
            Carrier::Events(stream) => stream.event().map(ServerSent::shape),
            Carrier::Socket { socket, id } => match socket.message() {
                Ok(mut event) => {
                    let given = event.as_object_mut().unwrap().remove("id");
                    assert_eq!(given, id.map(Value::from));
                    Some(event)
                }
                Err(_closed) => None,
            },
        }
    }

    /// The next event that is no bookmark.
    pub(crate) fn change(&mut self) -> Value {
        loop {
            let event = self.next().expect("the stream has ended");
            if event["type"] != "bookmark" {
                return event;
            }
        }
    }

    /// Reads to the end of the stream, and of the connection.
    pub(crate) fn end(mut self) {
        assert_eq!(self.next(), None);
        match self.0 {
            Carrier::Lines(mut stream) | Carrier::Events(mut stream) => stream.client.expect_end(),
            Carrier::Socket { socket, .. } => assert_eq!(socket.closed, Some(1001)),
            Carrier::Polls { .. } => panic!("a poll is answered"),
        }
    }

    /// Why the WebSocket was closed.
    pub(crate) fn close_code(self) -> Option<u16> {
        match self.0 {
            Carrier::Socket { socket, .. } => socket.closed,
            _ => panic!("it is no WebSocket"),
        }
    }
}

/// The value of an event or an item, as bytes.
pub(crate) fn value_of(item: &Value) -> Vec<u8> {
    match (&item["value"], &item["value64"]) {
        (Value::String(text), Value::Null) => text.clone().into_bytes(),
        (Value::Null, Value::String(base64)) => STANDARD.decode(base64).unwrap(),
        _ => panic!("{item}"),
    }
}

pub(crate) fn revision_of(event: &Value) -> u64 {
    event["revision"].as_u64().unwrap()
}

pub(crate) const LINES: &str = "application/x-ndjson";
pub(crate) const EVENTS: &str = "text/event-stream";

/// A body without end.
pub(crate) struct Stream {
    pub(crate) client: Client,
    body: Vec<u8>,
}

impl Stream {
    pub(crate) fn open(mut client: Client, target: &str, kind: &str, http_10: bool) -> Self {
        if http_10 {
            client.send(format!("GET {target} HTTP/1.0\r\nAccept: {kind}\r\n\r\n"));
        } else {
            client.request("GET", target, &[&format!("Accept: {kind}")], b"");
        }
        let head = client.head();
        assert_eq!((head.status, head.field("content-type")), (200, Some(kind)));
        assert_eq!(head.framing, if http_10 { Framing::UntilClose } else { Framing::Chunked });
        Self { client, body: Vec::new() }
    }

    /// The next line and its end; `None` at the end of the stream.
    pub(crate) fn line(&mut self) -> Option<Vec<u8>> {
        let mut line = 0;
        loop {
            line += (&self.body[line..]).skip_until(b'\n').unwrap();
            if self.body[..line].ends_with(b"\n") {
                return Some(self.body.drain(..line).collect());
            }
            let Some(part) = self.client.part() else {
                assert!(self.body.is_empty(), "the stream ended within a line");
                return None;
            };
            self.body.extend(part);
        }
    }

    /// The next server-sent event. One that only says when to come back is none.
    pub(crate) fn event(&mut self) -> Option<ServerSent> {
        loop {
            let mut lines = vec![self.line()?];
            while lines.last().is_some_and(|line| line != b"\n") {
                lines.push(self.line().expect("the stream ended within an event"));
            }
            let event = ServerSent::parse(&lines.concat());
            if event.id.is_some() || event.data.is_some() {
                return Some(event);
            }
        }
    }
}

/// One server-sent event, its fields as they stand there.
#[derive(Debug, Default)]
pub(crate) struct ServerSent {
    pub(crate) id: Option<u64>,
    pub(crate) event: Option<String>,
    pub(crate) retry: Option<u64>,
    pub(crate) data: Option<Value>,
}

impl ServerSent {
    fn parse(event: &[u8]) -> Self {
        let mut this = Self::default();
        for line in std::str::from_utf8(event).unwrap().lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            match name {
                "id" => this.id = Some(value.parse().unwrap()),
                "event" => this.event = Some(value.into()),
                "retry" => this.retry = Some(value.parse().unwrap()),
                "data" => {
                    assert_eq!(this.data, None, "JSON has no line ends");
                    this.data = Some(serde_json::from_str(value).unwrap());
                }
                _ => panic!("{line}"),
            }
        }
        this
    }

    /// The event that the other transports would show. What is said twice must agree.
    fn shape(self) -> Value {
        match (self.id, self.data) {
            (Some(id), None) => json!({"type": "bookmark", "revision": id}),
            (id, Some(data)) => {
                assert_eq!(self.event.as_deref(), data["type"].as_str());
                assert!(id.is_none_or(|id| data["revision"] == id), "{id:?}: {data}");
                data
            }
            (None, None) => panic!("an event without id and data"),
        }
    }
}

/// A client's end of a WebSocket.
pub(crate) struct WebSocket {
    client: Client,
    machine: Connection,
    assembler: Assembler,
    closed: Option<u16>,
}

impl WebSocket {
    pub(crate) fn open(client: Client, target: &str) -> Self {
        Self::try_open(client, target, &[]).unwrap_or_else(|refused| panic!("{}", refused.text()))
    }

    pub(crate) fn try_open(mut client: Client, target: &str, fields: &[&str]) -> Result<Self, Box<Response>> {
        let key = handshake::request_key(*b"keepwatch, tests");
        let key_field = format!("Sec-WebSocket-Key: {}", std::str::from_utf8(&key).unwrap());
        let handshake =
            ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key_field.as_str()];
        client.request("GET", target, &[&handshake, fields].concat(), b"");
        let head = client.head();
        if head.status != 101 {
            let body = client.rest();
            return Err(Box::new(Response { status: head.status, head, body }));
        }
        let answer = head.fields().map(|(name, value)| (name, value.as_bytes()));
        let chosen = handshake::check_answer(head.status, answer, &key, &handshake::Offered::default());
        assert_eq!(chosen.map(|chosen| (chosen.protocol, chosen.extension)), Ok((None, None)));
        let config = Arc::new(websocket::Config { message_bytes: 8 << 20, ..websocket::Config::default() });
        Ok(Self {
            client,
            machine: Connection::new(Role::Client, config, 1, Now::default()),
            assembler: Assembler::new(8 << 20),
            closed: None,
        })
    }

    pub(crate) fn say(&mut self, message: &Value) {
        self.say_text(&message.to_string());
    }

    pub(crate) fn say_text(&mut self, text: &str) {
        let mut out = Vec::new();
        self.machine.send(MessageKind::Text, text.as_bytes(), &mut out).unwrap();
        self.client.send(&out);
    }

    /// Says something, and gives the next message that has its id and is no event.
    pub(crate) fn ask(&mut self, message: &Value) -> Value {
        self.say(message);
        loop {
            let answer = self.message().unwrap();
            if answer["id"] == message["id"] && !matches!(answer["type"].as_str(), Some("put" | "delete")) {
                return answer;
            }
        }
    }

    /// Sends a frame that may break any rule, masked with zeros.
    pub(crate) fn send_frame(&mut self, fin: bool, opcode: Opcode, payload: &[u8]) {
        let head = FrameHead::new(fin, opcode, payload.len() as u64, Some([0; 4]));
        self.send_raw(&[head.as_ref(), payload].concat());
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.client.send(bytes);
    }

    pub(crate) fn close(&mut self) {
        let mut out = Vec::new();
        self.machine.close(CloseCode::NORMAL, "", &mut out, Now::default()).unwrap();
        self.client.send(&out);
    }

    /// The next message. An error is the code of the server's Close frame, after which the connection must end, too.
    pub(crate) fn message(&mut self) -> Result<Value, Option<u16>> {
        loop {
            match self.step() {
                Step::Message(message) => return Ok(message),
                Step::Pong(_) => {}
                Step::Closed => return Err(self.closed),
            }
        }
    }

    /// The payload of the next pong; messages before it are passed over.
    pub(crate) fn pong(&mut self) -> Vec<u8> {
        loop {
            match self.step() {
                Step::Message(_) => {}
                Step::Pong(payload) => return payload,
                Step::Closed => panic!("closed with {:?}", self.closed),
            }
        }
    }

    fn step(&mut self) -> Step {
        loop {
            let mut out = Vec::new();
            let mut input = Input::new(&mut self.client.unread);
            let step = match self.machine.recv(&mut input, &mut out, Now::default()).unwrap() {
                Event::NeedMore => None,
                Event::Data { kind, bytes, first, last } => {
                    let message = self.assembler.push(kind, &bytes, first, last).unwrap();
                    message.map(|message| match message {
                        Message::Text(text) => Step::Message(serde_json::from_str(text).unwrap()),
                        Message::Binary(_) => panic!("the server sends text"),
                    })
                }
                Event::Ping(_) => None,
                Event::Pong(payload) => Some(Step::Pong(payload.to_vec())),
                Event::Closed(close) => {
                    self.closed = close.code.map(CloseCode::get);
                    Some(Step::Closed)
                }
            };
            let consumed = input.consumed();
            self.client.unread.drain(..consumed);
            if !out.is_empty() {
                self.client.send(&out);
            }
            match step {
                Some(Step::Closed) => {
                    self.client.expect_end();
                    return Step::Closed;
                }
                Some(step) => return step,
                None if consumed > 0 => {}
                None => assert_ne!(self.client.fill(), 0, "the WebSocket ended without a Close frame"),
            }
        }
    }
}

enum Step {
    Message(Value),
    Pong(Vec<u8>),
    Closed,
}
