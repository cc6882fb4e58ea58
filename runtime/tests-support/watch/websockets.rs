//! WebSockets: operations, watches, and frames of every kind.

use keepwatch_protocol::websocket::Opcode;
use serde_json::{Value, json};

use super::process::Process;
use super::watcher::WebSocket;

fn open(server: &Process) -> WebSocket {
    WebSocket::open(server.connect(), "/v1/watch")
}

#[test]
fn keys_are_put_read_listed_and_deleted() {
    let server = Process::start();
    let mut socket = open(&server);
    let put = socket.ask(&json!({"op": "put", "id": 1, "key": "app/a", "value": "text"}));
    let a = put["revision"].as_u64().unwrap();
    assert_eq!(put, json!({"id": 1, "type": "result", "revision": a}));
    let put = socket.ask(&json!({"op": "put", "id": 2, "key": "app/b", "value64": "/wA="}));
    let b = put["revision"].as_u64().unwrap();
    assert_eq!(server.connect().get("/v1/kv/app/b").body, b"\xff\x00");

    let got = socket.ask(&json!({"op": "get", "id": 3, "key": "app/a"}));
    let item_a = json!({"key": "app/a", "revision": a, "createRevision": a, "value": "text"});
    let mut expected = item_a.clone();
    expected["id"] = 3.into();
    expected["type"] = "result".into();
    assert_eq!(got, expected);

    let item_b = json!({"key": "app/b", "revision": b, "createRevision": b, "value64": "/wA="});
    let listed = socket.ask(&json!({"op": "list", "id": 4, "prefix": "app/"}));
    assert_eq!(listed, json!({"id": 4, "type": "result", "revision": b, "items": [item_a, item_b]}));

    let deleted = socket.ask(&json!({"op": "delete", "id": 5, "key": "app/a"}));
    assert!(deleted["revision"].as_u64().unwrap() > b);
    let gone = socket.ask(&json!({"op": "get", "id": 6, "key": "app/a"}));
    assert_eq!((&gone["type"], &gone["status"], &gone["id"]), (&json!("error"), &json!(404), &json!(6)));
}

#[test]
fn a_large_value_is_put_and_read_back() {
    let server = Process::start();
    let mut socket = open(&server);
    let value = "v\u{fc}\n".repeat((1 << 20) / 4);
    assert_eq!(value.len(), 1 << 20);
    let put = socket.ask(&json!({"op": "put", "id": 1, "key": "a", "value": value}));
    assert_eq!(put["type"], "result");
    assert!(socket.ask(&json!({"op": "get", "id": 2, "key": "a"}))["value"] == *value);
    assert!(server.connect().get("/v1/kv/a").body == value.as_bytes());
}

#[test]
fn a_list_goes_on_at_its_revision() {
    let server = Process::start();
    let mut socket = open(&server);
    for key in ["a", "b", "c"] {
        socket.ask(&json!({"op": "put", "id": 1, "key": key, "value": "1"}));
    }
    let first = socket.ask(&json!({"op": "list", "id": 2, "limit": 2}));
    socket.ask(&json!({"op": "delete", "id": 3, "key": "c"}));
    let second = socket.ask(&json!({"op": "list", "id": 4, "limit": 2, "continue": first["continue"]}));
    assert_eq!(second["revision"], first["revision"]);
    assert_eq!(second["items"][0]["key"], "c");
    assert_eq!(second["continue"], Value::Null);
}

#[test]
fn writes_compare_and_swap() {
    let server = Process::start();
    let mut socket = open(&server);
    let mut put = |condition: Value, value: &str| {
        let answer =
            socket.ask(&json!({"op": "put", "id": 1, "key": "a", "value": value, "ifRevision": condition}));
        (answer["status"].as_u64(), answer["revision"].as_u64())
    };
    let (None, Some(first)) = put(json!(0), "1") else { panic!("it does not exist yet") };
    assert_eq!(put(json!(0), "2"), (Some(412), Some(first)));
    let (None, Some(second)) = put(json!(first), "3") else { panic!("{first}") };
    assert_eq!(put(json!(first), "4"), (Some(412), Some(second)));
    let delete = |revision| json!({"op": "delete", "id": 2, "key": "a", "ifRevision": revision});
    assert_eq!(socket.ask(&delete(first))["status"], 412);
    assert_eq!(socket.ask(&delete(second))["type"], "result");
}

#[test]
fn what_is_wrong_is_said_with_the_id_and_the_connection_goes_on() {
    let server = Process::start();
    let mut socket = open(&server);
    for message in [
        json!({"id": 1}),
        json!({"id": 1, "op": "post"}),
        json!({"id": 1, "op": 5}),
        json!({"id": 1, "op": "watch"}),
        json!({"id": 1, "op": "watch", "key": "a", "prefix": "a"}),
        json!({"id": 1, "op": "watch", "key": ""}),
        json!({"id": 1, "op": "watch", "key": "a", "since": "1"}),
        json!({"id": 1, "op": "watch", "key": "a", "since": -1}),
        json!({"id": 1, "op": "watch", "key": "a", "initial": "true"}),
        json!({"id": 1, "op": "put", "key": "a"}),
        json!({"id": 1, "op": "put", "value": "a"}),
        json!({"id": 1, "op": "put", "key": "a", "value": "a", "value64": ""}),
        json!({"id": 1, "op": "put", "key": "a", "value64": "*"}),
        json!({"id": 1, "op": "put", "key": "a", "value": 1}),
        json!({"id": 1, "op": "put", "key": "a", "value": "1", "ifRevision": "0"}),
        json!({"id": 1, "op": "put", "key": "a", "value": "1", "ifrevision": 0}),
        json!({"id": 1, "op": "put", "key": "x".repeat(1025), "value": "1"}),
        json!({"id": 1, "op": "list", "limit": 0}),
        json!({"id": 1, "op": "list", "continue": "x"}),
    ] {
        let answer = socket.ask(&message);
        let about = message.to_string().chars().take(80).collect::<String>();
        assert_eq!((&answer["type"], &answer["status"]), (&json!("error"), &json!(400)), "{about}");
        assert!(answer["error"].is_string(), "{about}");
    }
    for text in
        ["", "{", "[]", "1", "{\"op\":\"get\",\"key\":\"a\"}", "{\"id\":-1,\"op\":\"get\",\"key\":\"a\"}"]
    {
        socket.say_text(text);
        let answer = socket.message().unwrap();
        assert_eq!((&answer["type"], &answer["status"]), (&json!("error"), &json!(400)), "{text}");
        assert_eq!(answer.get("id"), None, "{text}");
    }
    let large = json!({"id": 1, "op": "put", "key": "a", "value": "x".repeat((1 << 20) + 1)});
    let answer = socket.ask(&large);
    assert_eq!((&answer["type"], &answer["status"]), (&json!("error"), &json!(413)), "{answer}");
    assert_eq!(socket.ask(&json!({"op": "put", "id": 2, "key": "a", "value": "1"}))["type"], "result");
    assert_eq!(socket.ask(&json!({"op": "delete", "id": 3, "key": "none"}))["status"], 404);
}

#[test]
fn a_watch_is_canceled_and_its_id_can_be_used_again() {
    let server = Process::start();
    let mut socket = open(&server);
    let watch = json!({"op": "watch", "id": 1, "key": "a"});
    assert_eq!(socket.ask(&watch)["type"], "watching");
    assert_eq!(socket.ask(&watch)["status"], 409);
    let cancel = json!({"op": "cancel", "id": 1});
    assert_eq!(socket.ask(&cancel), json!({"id": 1, "type": "canceled"}));
    assert_eq!(socket.ask(&cancel)["status"], 404);
    // No event of the canceled watch comes before this result.
    socket.say(&json!({"op": "put", "id": 2, "key": "a", "value": "1"}));
    assert_eq!(socket.message().unwrap()["type"], "result");
    assert_eq!(socket.ask(&watch)["type"], "watching");
    socket.say(&json!({"op": "put", "id": 3, "key": "a", "value": "2"}));
    let kinds = [(); 2].map(|()| socket.message().unwrap()["type"].as_str().unwrap().to_owned());
    assert!(kinds.contains(&"put".to_owned()), "{kinds:?}");
}

#[test]
fn two_watches_each_see_their_own_changes_in_order() {
    let server = Process::start();
    let mut socket = open(&server);
    socket.ask(&json!({"op": "watch", "id": 1, "prefix": "a/"}));
    socket.ask(&json!({"op": "watch", "id": 2, "prefix": ""}));
    let mut client = server.connect();
    let (mut of_a, mut of_all) = (Vec::new(), Vec::new());
    for n in 0..50 {
        let revision = client.put(if n % 3 == 0 { "a/x" } else { "b/x" }, n.to_string());
        of_all.push(revision);
        if n % 3 == 0 {
            of_a.push(revision);
        }
    }
    let mut seen = [Vec::new(), Vec::new()];
    for _ in 0..of_a.len() + of_all.len() {
        let event = socket.message().unwrap();
        let id = usize::try_from(event["id"].as_u64().unwrap()).unwrap();
        seen[id - 1].push(event["revision"].as_u64().unwrap());
    }
    assert_eq!(seen, [of_a, of_all]);
}

#[test]
fn a_watch_in_the_url_and_others_share_the_connection() {
    let server = Process::start();
    let mut socket = WebSocket::open(server.connect(), "/v1/watch?key=a");
    assert_eq!(socket.message().unwrap()["type"], "bookmark");
    socket.ask(&json!({"op": "watch", "id": 1, "key": "a"}));
    let revision = server.connect().put("a", "1");
    let mut events = [socket.message().unwrap(), socket.message().unwrap()];
    events.sort_by_key(|event| event["id"].as_u64());
    assert_eq!((events[0].get("id"), &events[1]["id"]), (None, &json!(1)));
    assert!(events.iter().all(|event| event["revision"] == revision), "{events:?}");
}

#[test]
fn operations_that_came_with_the_handshake_are_not_lost() {
    let server = Process::start();
    let mut client = server.connect();
    let message = json!({"op": "put", "id": 1, "key": "a", "value": "1"}).to_string();
    let mut bytes = format!(
        "GET /v1/watch HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address()
    )
    .into_bytes();
    bytes.extend([0x81, 0x80 | u8::try_from(message.len()).unwrap(), 0, 0, 0, 0]);
    bytes.extend(message.bytes());
    client.send(bytes);
    let head = client.head();
    assert_eq!(head.status, 101);
    assert_eq!(head.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    while client.unread.len() < 2 || client.unread.len() < 2 + usize::from(client.unread[1]) {
        assert_ne!(client.fill(), 0);
    }
    let answer: Value = serde_json::from_slice(&client.unread[2..]).unwrap();
    assert_eq!(answer["type"], "result");
}

#[test]
fn a_message_may_come_in_fragments_with_pings_between() {
    let server = Process::start();
    let mut socket = open(&server);
    let message = json!({"op": "put", "id": 1, "key": "a", "value": "ü"}).to_string().into_bytes();
    let (last, rest) = message.split_last().unwrap();
    for (index, byte) in rest.iter().enumerate() {
        let opcode = if index == 0 { Opcode::Text } else { Opcode::Continuation };
        socket.send_frame(false, opcode, &[*byte]);
        if index % 10 == 0 {
            socket.send_frame(true, Opcode::Ping, format!("ping {index}").as_bytes());
            assert_eq!(socket.pong(), format!("ping {index}").as_bytes());
        }
    }
    socket.send_frame(true, Opcode::Continuation, &[*last]);
    assert_eq!(socket.message().unwrap()["type"], "result");
    assert_eq!(server.connect().get("/v1/kv/a").body, "ü".as_bytes());
}

#[test]
fn what_breaks_the_rules_is_closed_with_its_code() {
    let server = Process::start();
    let mut other = open(&server);
    other.ask(&json!({"op": "watch", "id": 1, "key": "a"}));
    let broken: [(u16, &[u8]); 8] = [
        (1003, b"\x82\x82\0\0\0\0{}"),                 // binary
        (1007, b"\x81\x83\0\0\0\0\"\xff\""),           // not UTF-8
        (1007, b"\x88\x83\0\0\0\0\x03\xe8\xff"),       // a reason that is not UTF-8
        (1002, b"\x81\x02{}"),                         // not masked
        (1002, b"\xc1\x82\0\0\0\0{}"),                 // a reserved bit
        (1002, b"\x80\x82\0\0\0\0{}"),                 // goes on with nothing
        (1002, b"\x09\x80\0\0\0\0"),                   // a ping in fragments
        (1009, b"\x81\xff\0\0\0\0\x40\0\0\0\0\0\0\0"), // a GiB
    ];
    for (code, frame) in broken {
        let mut socket = open(&server);
        socket.send_raw(frame);
        assert_eq!(socket.message(), Err(Some(code)), "{frame:?}");
    }
    server.connect().put("a", "1");
    assert_eq!(other.message().unwrap()["key"], "a", "the others go on");
}

#[test]
fn a_close_is_answered_with_a_close() {
    let server = Process::start();
    let mut socket = open(&server);
    socket.ask(&json!({"op": "watch", "id": 1, "key": "a"}));
    socket.close();
    assert_eq!(socket.message(), Err(Some(1000)));
}

#[test]
fn a_handshake_that_is_none_is_refused() {
    let server = Process::start();
    let mut client = server.connect();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let (connection, upgrade, version) =
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13");
    for (fields, status) in [
        (&[connection, upgrade, "Sec-WebSocket-Version: 12", key][..], 426),
        (&[connection, upgrade, version], 400),
        (&[connection, upgrade, version, "Sec-WebSocket-Key: short"], 400),
        (&[connection, upgrade, version, key, key], 400),
    ] {
        let refused = client.call("GET", "/v1/watch?key=a", fields, b"");
        assert_eq!(refused.refused(), status, "{fields:?}");
        if status == 426 {
            assert_eq!(refused.field("sec-websocket-version"), Some("13"));
        }
        client = server.connect();
    }
    // Without an upgrade it is a long poll: it needs a key.
    assert_eq!(client.call("GET", "/v1/watch", &[upgrade, version, key], b"").refused(), 400);
}

#[test]
fn many_operations_at_once_are_each_answered() {
    const COUNT: u64 = 2000;
    let server = Process::start();
    let mut socket = open(&server);
    for id in 0..COUNT {
        socket.say(&json!({"op": "put", "id": id, "key": format!("k{id}"), "value": "x"}));
    }
    let mut ids: Vec<u64> = (0..COUNT)
        .map(|_| {
            let answer = socket.message().unwrap();
            assert_eq!(answer["type"], "result", "{answer}");
            answer["id"].as_u64().unwrap()
        })
        .collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..COUNT));
}
