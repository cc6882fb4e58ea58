//! Any operations, over HTTP and over a WebSocket in turns, against a map.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use keepwatch_protocol::websocket::{Assembler, Connection, Event, Role};
use keepwatch_protocol::{Input, Now};
use keepwatch_sim::{Client, Sim, cuts};
use keepwatch_watch::WatchServer;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::support::{START, UPGRADE, UPGRADED, request, says, server_of_defaults};

const KEYS: [&str; 4] = ["a", "a/b", "b", "\u{e9} ?"];

#[derive(Clone, Debug)]
enum Act {
    Put(&'static str, Vec<u8>, Only),
    Delete(&'static str, Only),
    Get(&'static str),
    List(&'static str, Option<usize>),
}

/// The condition of a write.
#[derive(Clone, Copy, Debug)]
enum Only {
    Always,
    Absent,
    /// At its revision, or one that is off by so many.
    At(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let only =
        || prop_oneof![3 => Just(Only::Always), 1 => Just(Only::Absent), 2 => (0..2_u64).prop_map(Only::At)];
    let value = select(vec![&b""[..], b"x", b"y\"\n", b"\xff\0"]).prop_map(<[u8]>::to_vec);
    prop_oneof![
        5 => (select(&KEYS[..]), value, only()).prop_map(|(key, value, only)| Act::Put(key, value, only)),
        2 => (select(&KEYS[..]), only()).prop_map(|(key, only)| Act::Delete(key, only)),
        2 => select(&KEYS[..]).prop_map(Act::Get),
        2 => (select(vec!["", "a", "a/", "c"]), prop::option::of(1..4_usize)).prop_map(|(prefix, limit)| Act::List(prefix, limit)),
    ]
}

/// What an operation came to, however it was said.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Written(u64),
    Refused { status: u64, revision: Option<u64> },
    Value { value: Vec<u8>, revision: u64 },
    Items { revision: u64, keys: Vec<(String, u64, u64)>, goes_on: Option<String> },
}

/// A key's value, its revision, and that of its creation.
type Item = (Vec<u8>, u64, u64);

struct Model {
    items: BTreeMap<&'static str, Item>,
    revision: u64,
}

impl Model {
    /// The revision that a condition names, and whether it holds.
    fn condition(&self, key: &str, only: Only) -> (Option<u64>, bool) {
        let at = self.items.get(key).map(|item| item.1);
        match only {
            Only::Always => (None, true),
            Only::Absent => (Some(0), at.is_none()),
            Only::At(off) => {
                let named = at.unwrap_or(START) + off;
                (Some(named), at == Some(named))
            }
        }
    }

    fn play(&mut self, act: &Act) -> Outcome {
        match act {
            Act::Put(key, _, only) | Act::Delete(key, only) if !self.condition(key, *only).1 => {
                Outcome::Refused { status: 412, revision: self.items.get(key).map(|item| item.1) }
            }
            Act::Put(key, value, _) => {
                let before = self.items.get(key);
                if let Some((_, revision, _)) = before.filter(|item| item.0 == *value) {
                    return Outcome::Written(*revision);
                }
                self.revision += 1;
                let created = before.map_or(self.revision, |item| item.2);
                self.items.insert(key, (value.clone(), self.revision, created));
                Outcome::Written(self.revision)
            }
            Act::Delete(key, _) if self.items.remove(key).is_none() => {
                Outcome::Refused { status: 404, revision: None }
            }
            Act::Delete(..) => {
                self.revision += 1;
                Outcome::Written(self.revision)
            }
            Act::Get(key) => match self.items.get(key) {
                Some((value, revision, _)) => Outcome::Value { value: value.clone(), revision: *revision },
                None => Outcome::Refused { status: 404, revision: Some(self.revision) },
            },
            Act::List(prefix, limit) => {
                let all: Vec<_> = self.items.iter().filter(|(key, _)| key.starts_with(prefix)).collect();
                let count = limit.unwrap_or(usize::MAX).min(all.len());
                let key = |(key, item): &(&&str, &Item)| ((**key).to_owned(), item.1, item.2);
                let keys: Vec<_> = all[..count].iter().map(key).collect();
                let last = keys.last().filter(|_| count < all.len());
                let goes_on = last.map(|(key, ..)| format!("{}.{key}", self.revision));
                Outcome::Items { revision: self.revision, keys, goes_on }
            }
        }
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "%{byte:02x}").unwrap();
        out
    })
}

/// The bytes of a request, whose parts come as these sizes say.
fn send(sim: &mut Sim<WatchServer>, client: &Client, bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
    for part in cuts::by(bytes, sizes) {
        client.send(part);
        sim.run().unwrap();
    }
    client.receive()
}

fn over_http(
    sim: &mut Sim<WatchServer>,
    client: &Client,
    model: &Model,
    act: &Act,
    sizes: &[usize],
) -> Outcome {
    let condition = |key: &str, only: Only| match model.condition(key, only).0 {
        None => String::new(),
        Some(0) => "If-None-Match: *\r\n".to_owned(),
        Some(revision) => format!("If-Match: \"{revision}\"\r\n"),
    };
    let bytes = match act {
        Act::Put(key, value, only) => {
            let fields = format!("Content-Length: {}\r\n{}", value.len(), condition(key, *only));
            [request("PUT", &format!("/v1/kv/{}", encoded(key)), &fields).as_bytes(), value].concat()
        }
        Act::Delete(key, only) => {
            request("DELETE", &format!("/v1/kv/{}", encoded(key)), &condition(key, *only)).into_bytes()
        }
        Act::Get(key) => request("GET", &format!("/v1/kv/{}", encoded(key)), "").into_bytes(),
        Act::List(prefix, limit) => {
            let limit = limit.map_or_else(String::new, |limit| format!("&limit={limit}"));
            request("GET", &format!("/v1/kv?prefix={}{limit}", encoded(prefix)), "").into_bytes()
        }
    };
    let answer = send(sim, client, &bytes, sizes);
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let (head, body) = (std::str::from_utf8(&answer[..end]).unwrap(), &answer[end..]);
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    assert_eq!(field("Content-Length"), Some(&*body.len().to_string()), "{head}");
    let tag = field("ETag").map(|tag| tag.trim_matches('"').parse::<u64>().unwrap());
    let status = head[9..12].parse::<u64>().unwrap();
    if let (200, Act::Get(_)) = (status, act) {
        return Outcome::Value { value: body.to_vec(), revision: tag.unwrap() };
    }
    let body: Value = serde_json::from_slice(body).unwrap();
    if matches!(act, Act::Put(..) | Act::Delete(..)) {
        assert_eq!(tag, body["revision"].as_u64(), "{head}");
    }
    outcome(act, status, &body)
}

fn over_websocket(
    sim: &mut Sim<WatchServer>,
    client: &Client,
    model: &Model,
    act: &Act,
    id: u64,
    sizes: &[usize],
) -> Outcome {
    let mut message = match act {
        Act::Put(key, value, _) => match std::str::from_utf8(value) {
            Ok(text) => json!({ "op": "put", "key": key, "value": text }),
            Err(_) => json!({ "op": "put", "key": key, "value64": "/wA=" }),
        },
        Act::Delete(key, _) => json!({ "op": "delete", "key": key }),
        Act::Get(key) => json!({ "op": "get", "key": key }),
        Act::List(prefix, limit) => match limit {
            Some(limit) => json!({ "op": "list", "prefix": prefix, "limit": limit }),
            None => json!({ "op": "list", "prefix": prefix }),
        },
    };
    message["id"] = json!(id);
    if let Act::Put(key, _, only) | Act::Delete(key, only) = act {
        if let Some(revision) = model.condition(key, *only).0 {
            message["ifRevision"] = json!(revision);
        }
    }
    let answer = heard(send(sim, client, &says(&message.to_string()), sizes));
    assert_eq!(answer["id"], json!(id), "{answer}");
    if answer["type"] == "error" {
        let status = answer["status"].as_u64().unwrap();
        return Outcome::Refused { status, revision: answer["revision"].as_u64() };
    }
    assert_eq!(answer["type"], "result", "{answer}");
    if let Act::Get(_) = act {
        let value = match &answer["value"] {
            Value::String(text) => text.clone().into_bytes(),
            _ => vec![0xff, 0],
        };
        return Outcome::Value { value, revision: answer["revision"].as_u64().unwrap() };
    }
    outcome(act, 200, &answer)
}

/// The one message that a server said.
fn heard(mut bytes: Vec<u8>) -> Value {
    let (mut input, mut assembler) = (Input::new(&mut bytes), Assembler::new(1 << 20));
    let mut socket = Connection::new(Role::Client, std::sync::Arc::default(), 1, Now::default());
    let mut messages = Vec::new();
    while let Event::Data { kind, bytes, first, last } =
        socket.recv(&mut input, &mut Vec::new(), Now::default()).unwrap()
    {
        if let Some(message) = assembler.push(kind, &bytes, first, last).unwrap() {
            messages.push(serde_json::from_slice(message.as_bytes()).unwrap());
        }
    }
    assert_eq!((messages.len(), input.len()), (1, 0));
    messages.remove(0)
}

fn outcome(act: &Act, status: u64, body: &Value) -> Outcome {
    let revision = body["revision"].as_u64();
    match act {
        _ if status > 299 => Outcome::Refused { status, revision },
        Act::List(..) => {
            let item = |item: &Value| {
                let number = |name: &str| item[name].as_u64().unwrap();
                (item["key"].as_str().unwrap().to_owned(), number("revision"), number("createRevision"))
            };
            Outcome::Items {
                revision: revision.unwrap(),
                keys: body["items"].as_array().unwrap().iter().map(item).collect(),
                goes_on: body.get("continue").map(|token| token.as_str().unwrap().to_owned()),
            }
        }
        _ => Outcome::Written(revision.unwrap()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_operation_comes_to_what_it_comes_to_on_a_map(
        acts in prop::collection::vec((act(), any::<bool>()), 1..30), sizes in cuts::sizes(),
    ) {
        let mut sim = Sim::new(server_of_defaults());
        let (http, socket) = (sim.connect(), sim.connect());
        let opened = send(&mut sim, &socket, request("GET", "/v1/watch", UPGRADE).as_bytes(), &sizes);
        prop_assert_eq!(opened, UPGRADED.as_bytes());
        let mut model = Model { items: BTreeMap::new(), revision: START };
        for (id, (act, by_http)) in (1..).zip(acts) {
            let outcome = if by_http {
                over_http(&mut sim, &http, &model, &act, &sizes)
            } else {
                over_websocket(&mut sim, &socket, &model, &act, id, &sizes)
            };
            prop_assert_eq!(outcome, model.play(&act), "{:?} by {}", act, if by_http { "HTTP" } else { "WebSocket" });
        }
    }
}
