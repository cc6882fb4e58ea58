//! What requests and answers under way may hold together.

use std::time::Duration;

use keepwatch_protocol::websocket::frame::{FrameHead, Opcode};
use keepwatch_sim::{Client, Sim};
use keepwatch_watch::{Config, Handle, LogLimits, WatchServer};

use crate::support::{
    UPGRADE, UPGRADED, closes, config, get, level, message, nothing_is_left, put, put_request, request, says,
    server,
};

/// A server with so many bytes for what comes, and for what goes.
fn with_buffers(bytes: usize) -> (Sim<WatchServer>, Handle) {
    let (server, handle) = server(config(|config: &mut Config| config.buffers = 2 * bytes));
    (Sim::new(server), handle)
}

fn hear(sim: &mut Sim<WatchServer>, client: &Client) -> String {
    sim.run().unwrap();
    String::from_utf8(client.receive()).unwrap()
}

fn say(sim: &mut Sim<WatchServer>, client: &Client, bytes: impl AsRef<[u8]>) -> String {
    client.send(bytes);
    hear(sim, client)
}

/// The first part of an upload of 40,000 bytes.
fn begun(key: &str, bytes: usize) -> String {
    let body = "x".repeat(bytes);
    format!("PUT /v1/kv/{key} HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n{body}")
}

fn used(sim: &mut Sim<WatchServer>) -> u64 {
    level(sim, "keepwatch_buffered_bytes")
}

fn all_leave<const N: usize>(sim: &mut Sim<WatchServer>, clients: [Client; N]) {
    clients.iter().for_each(Client::shutdown_write);
    sim.run().unwrap();
    assert_eq!(used(sim), 0);
    nothing_is_left(sim);
}

#[test]
fn an_upload_that_finds_no_room_is_told_to_come_later_and_no_other_is_hurt() {
    let (mut sim, _handle) = with_buffers(64_000);
    let [first, second] = [(); 2].map(|()| sim.connect());
    assert_eq!(say(&mut sim, &first, begun("a", 38_000)), "");
    let refused = say(&mut sim, &second, begun("b", 28_000));
    assert!(is_refused(&refused) && refused.contains("\r\nConnection: close\r\n"), "{refused}");
    assert!(refused.ends_with("{\"error\":\"too much is under way: try later\"}\n"));
    assert!(say(&mut sim, &first, "x".repeat(2000)).starts_with("HTTP/1.1 201 "));
    assert_eq!(used(&mut sim), 0);
    let third = sim.connect();
    assert!(say(&mut sim, &third, put_request("b", &"x".repeat(40_000), "")).starts_with("HTTP/1.1 201 "));
    all_leave(&mut sim, [first, second, third]);
}

#[test]
fn what_is_under_way_is_counted_and_given_back_when_it_is_given_up() {
    let (mut sim, _handle) = with_buffers(64_000);
    let clients = [("a", 20_000), ("b", 16_384)].map(|(key, bytes)| {
        let client = sim.connect();
        say(&mut sim, &client, begun(key, bytes));
        client
    });
    // What is small is its connection's.
    assert_eq!(used(&mut sim), 20_000);
    clients.iter().for_each(Client::reset);
    sim.run().unwrap();
    assert_eq!(used(&mut sim), 0);
}

#[test]
fn who_does_not_read_keeps_nobody_from_writing_and_the_other_way_round() {
    let (mut sim, handle) = with_buffers(32_000);
    put(&mut sim, &handle, "a", "x".repeat(30_000));
    let stalled = slow(&mut sim, get("/v1/kv/a"));
    let client = sim.connect();
    assert!(say(&mut sim, &client, put_request("b", &"x".repeat(30_000), "")).starts_with("HTTP/1.1 201 "));
    stalled.reset();
    let upload = sim.connect();
    say(&mut sim, &upload, begun("c", 30_000));
    assert!(say(&mut sim, &client, get("/v1/kv/a")).ends_with(&"x".repeat(30_000)));
    // What is small finds room in any case.
    assert!(say(&mut sim, &client, put_request("b", &"x".repeat(16_000), "")).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_message_in_parts_that_finds_no_room_closes_with_1013() {
    let (mut sim, _handle) = with_buffers(60_000);
    let clients = [(); 2].map(|()| sim.connect());
    for client in &clients {
        assert_eq!(say(&mut sim, client, request("GET", "/v1/watch", UPGRADE)), UPGRADED);
    }
    clients[0].send(part(false, Opcode::Text, 20_000));
    clients[1].send(part(false, Opcode::Text, 40_001));
    sim.run().unwrap();
    assert_eq!(clients[1].receive(), closes(1013, "too much is under way"));
    // A message that comes in one part is collected nowhere.
    let ask = r#"{"op":"get","id":1,"key":"a"}"#;
    clients[0].send(part(true, Opcode::Continuation, 400));
    sim.run().unwrap();
    let not_json = String::from_utf8_lossy(&clients[0].receive()).into_owned();
    assert!(not_json.contains("\"status\":400"), "{not_json}");
    clients[0].send(says(ask));
    sim.run().unwrap();
    let answer = message(r#"{"id":1,"type":"error","status":404,"error":"no such key","revision":100}"#);
    assert_eq!(clients[0].receive(), answer);
    clients.iter().for_each(Client::reset);
    sim.run().unwrap();
    assert_eq!(used(&mut sim), 0);
}

#[test]
fn a_message_in_parts_that_found_no_room_holds_none() {
    let (mut sim, _handle) = with_buffers(60_000);
    let client = sim.connect();
    assert_eq!(say(&mut sim, &client, request("GET", "/v1/watch", UPGRADE)), UPGRADED);
    client.send(part(false, Opcode::Text, 45_000));
    sim.run().unwrap();
    assert!(used(&mut sim) >= 45_000);
    client.send(part(false, Opcode::Continuation, 18_000));
    sim.run().unwrap();
    assert_eq!(client.receive(), closes(1013, "too much is under way"));
    assert_eq!(used(&mut sim), 0);
}

/// A part of a message.
fn part(last: bool, opcode: Opcode, bytes: usize) -> Vec<u8> {
    let head = FrameHead::new(last, opcode, bytes as u64, Some([0; 4]));
    [head.as_ref(), &vec![b' '; bytes]].concat()
}

#[test]
fn an_answer_to_a_long_poll_that_finds_no_room_is_told_to_come_later() {
    let (mut sim, handle) = with_buffers(25_000);
    put(&mut sim, &handle, "a", "x".repeat(20_000));
    let clients = [(); 2].map(|()| sim.connect());
    for client in &clients {
        client.read_limit(0);
        client.window(1000);
        client.send(get("/v1/watch?key=a&since=100"));
    }
    sim.run().unwrap();
    assert!(used(&mut sim) > 20_000);
    for client in &clients {
        client.read_limit(usize::MAX);
    }
    let answers = [0, 1].map(|index| hear(&mut sim, &clients[index]));
    assert!(answers[0].starts_with("HTTP/1.1 200 ") && answers[0].len() > 20_000);
    assert!(answers[1].starts_with("HTTP/1.1 503 ") && answers[1].contains("\r\nRetry-After: 1\r\n"));
    assert_eq!(used(&mut sim), 0);
    // It asks again, on the same connection.
    let again = say(&mut sim, &clients[1], get("/v1/watch?key=a&since=100"));
    assert!(again.starts_with("HTTP/1.1 200 ") && again.len() > 20_000);
    all_leave(&mut sim, clients);
}

/// A reader that takes nothing beyond the first bytes.
fn slow(sim: &mut Sim<WatchServer>, request: impl AsRef<[u8]>) -> Client {
    let client = sim.connect();
    client.read_limit(0);
    client.window(1000);
    client.send(request);
    sim.run().unwrap();
    client
}

/// It reads all there is, and what comes when there is room.
fn reads(sim: &mut Sim<WatchServer>, client: &Client) -> String {
    client.read_limit(usize::MAX);
    let mut text = String::new();
    for _ in 0..10 {
        sim.advance(Duration::from_millis(50)).unwrap();
        text.push_str(&String::from_utf8_lossy(&client.receive()));
    }
    text
}

fn is_refused(answer: &str) -> bool {
    let [status, retry] = ["HTTP/1.1 503 ", "\r\nRetry-After: 1\r\n"];
    answer.starts_with(status) && answer.contains(retry) && answer.contains("too much is under way")
}

fn stream(kind: &str, target: &str) -> String {
    request("GET", target, &format!("Accept: {kind}\r\n"))
}

const LINES: &str = "application/x-ndjson";

#[test]
fn the_limit_stands_beside_what_is_used() {
    let (mut sim, _handle) = with_buffers(16_000);
    assert_eq!(level(&mut sim, "keepwatch_buffered_limit_bytes"), 32_000);
    assert_eq!(level(&mut sim, "keepwatch_buffered_bytes"), 0);
}

#[test]
fn a_value_is_counted_once_for_all_who_read_it_and_as_long_as_one_does() {
    let (mut sim, handle) = with_buffers(70_000);
    put(&mut sim, &handle, "a", "x".repeat(30_000));
    let readers = [(); 3].map(|()| slow(&mut sim, get("/v1/kv/a")));
    assert_eq!(used(&mut sim), 30_000);
    // It is another now, and the old one is still being read.
    put(&mut sim, &handle, "a", "y".repeat(30_000));
    let later = slow(&mut sim, get("/v1/kv/a"));
    assert_eq!(used(&mut sim), 60_000);
    for reader in &readers {
        assert!(reads(&mut sim, reader).ends_with(&"x".repeat(30_000)));
    }
    assert_eq!(used(&mut sim), 30_000);
    assert!(reads(&mut sim, &later).ends_with(&"y".repeat(30_000)));
    assert_eq!(used(&mut sim), 0);
}

#[test]
fn a_value_that_finds_no_room_is_refused_and_one_that_is_small_is_not() {
    let (mut sim, handle) = with_buffers(50_000);
    put(&mut sim, &handle, "a", "x".repeat(30_000));
    put(&mut sim, &handle, "b", "y".repeat(30_000));
    put(&mut sim, &handle, "small", "z".repeat(16_000));
    let first = slow(&mut sim, get("/v1/kv/a"));
    let second = sim.connect();
    let refused = say(&mut sim, &second, get("/v1/kv/b"));
    assert!(is_refused(&refused), "{refused}");
    assert!(say(&mut sim, &second, get("/v1/kv/small")).starts_with("HTTP/1.1 200 "));
    assert_eq!(level(&mut sim, "keepwatch_buffers_exhausted_total"), 1);
    first.reset();
    assert!(say(&mut sim, &second, get("/v1/kv/b")).ends_with(&"y".repeat(30_000)));
}

#[test]
fn what_is_larger_than_all_there_is_goes_alone() {
    let (mut sim, handle) = with_buffers(20_000);
    put(&mut sim, &handle, "a", "x".repeat(30_000));
    put(&mut sim, &handle, "b", "y".repeat(30_000));
    let [first, second] = ["a", "b"].map(|key| (key, sim.connect()));
    let targets = |key| {
        [format!("/v1/kv/{key}"), format!("/v1/kv?prefix={key}"), format!("/v1/watch?key={key}&since=100")]
    };
    for (key, client) in [first, second] {
        for target in targets(key) {
            let answer = say(&mut sim, &client, get(&target));
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.len() > 30_000, "{target}");
        }
    }
    let stalled = slow(&mut sim, get("/v1/kv/a"));
    let other = sim.connect();
    for target in targets("b") {
        assert!(is_refused(&say(&mut sim, &other, get(&target))), "{target}");
    }
    assert!(reads(&mut sim, &stalled).ends_with(&"x".repeat(30_000)));
}

#[test]
fn a_list_whose_next_item_finds_no_room_ends_its_page_there_and_goes_on_with_another() {
    let (mut sim, handle) = with_buffers(50_000);
    put(&mut sim, &handle, "a", "small");
    put(&mut sim, &handle, "b", "x".repeat(30_000));
    put(&mut sim, &handle, "c", "\"".repeat(15_000));
    let stalled = slow(&mut sim, get("/v1/kv/b"));
    let lister = sim.connect();
    let begun = say(&mut sim, &lister, get("/v1/kv"));
    assert!(begun.contains(r#"[{"key":"a""#) && !begun.contains("xxx"), "{begun}");
    assert!(begun.ends_with("],\"continue\":\"103.a\"}\n\r\n0\r\n\r\n"), "{begun}");
    let next = get("/v1/kv?continue=103.a");
    assert!(is_refused(&say(&mut sim, &lister, &next)));
    stalled.reset();
    let rest = say(&mut sim, &lister, &next);
    assert!(rest.contains(&"x".repeat(30_000)) && rest.contains(&"\\\"".repeat(15_000)));
    assert!(rest.ends_with("]}\n\r\n0\r\n\r\n"), "{}", &rest[rest.len() - 50..]);
    assert_eq!(used(&mut sim), 0);
}

#[test]
fn who_waits_for_room_is_silent_no_longer_than_a_heartbeat_and_comes_back() {
    let (mut sim, handle) = with_buffers(50_000);
    put(&mut sim, &handle, "a", "x".repeat(30_000));
    let _stalled = slow(&mut sim, get("/v1/kv/a"));
    let target = "/v1/watch?key=a&since=100";
    let clients = [
        (stream(LINES, target), b"0\r\n\r\n".to_vec()),
        (stream("text/event-stream", target), b"\r\n0\r\n\r\n".to_vec()),
        (request("GET", target, UPGRADE), closes(1013, "too much is under way")),
        (stream(LINES, "/v1/watch?key=a&initial=true"), b"0\r\n\r\n".to_vec()),
    ]
    .map(|(request, end)| {
        let client = sim.connect();
        assert!(say(&mut sim, &client, request).ends_with("\r\n\r\n"));
        (client, end)
    });
    put(&mut sim, &handle, "a", "y".repeat(30_000));
    sim.advance(Duration::from_secs(24)).unwrap();
    for (client, _) in &clients {
        assert!(client.receive().is_empty());
    }
    sim.advance(Duration::from_secs(2)).unwrap();
    for (client, end) in &clients {
        let said = client.receive();
        assert!(said.ends_with(end), "{}", said.escape_ascii());
        let is_events = end.starts_with(b"\r\n0");
        assert!(!is_events || said.windows(6).any(|field| field == b"retry:"), "{}", said.escape_ascii());
    }
}

#[test]
fn an_item_that_is_larger_than_its_value_waits_too() {
    let (mut sim, handle) = with_buffers(100_000);
    put(&mut sim, &handle, "a", "\u{1}".repeat(15_000));
    let stalled = slow(&mut sim, get("/v1/watch?key=a&since=100"));
    assert!(used(&mut sim) > 90_000);
    let watcher = sim.connect();
    let heard = say(&mut sim, &watcher, stream(LINES, "/v1/watch?key=a&initial=true"));
    assert!(!heard.contains("\\u0001"));
    let lister = sim.connect();
    assert!(is_refused(&say(&mut sim, &lister, get("/v1/kv"))));
    stalled.reset();
    assert!(reads(&mut sim, &watcher).contains(&"\\u0001".repeat(15_000)));
    assert_eq!(used(&mut sim), 0);
}

#[test]
fn a_state_that_finds_no_room_waits_on_every_transport_and_is_whole() {
    let (mut sim, handle) = with_buffers(50_000);
    put(&mut sim, &handle, "a", "x".repeat(30_000));
    put(&mut sim, &handle, "b", "y".repeat(30_000));
    let stalled = slow(&mut sim, get("/v1/kv/a"));
    let target = "/v1/watch?prefix=&initial=true";
    let mut clients = Vec::new();
    for request in
        [stream(LINES, target), stream("text/event-stream", target), request("GET", target, UPGRADE)]
    {
        let client = sim.connect();
        let head = say(&mut sim, &client, request);
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        clients.push(client);
    }
    let shared = sim.connect();
    assert_eq!(say(&mut sim, &shared, request("GET", "/v1/watch", UPGRADE)), UPGRADED);
    shared.send(says(r#"{"op":"watch","id":1,"prefix":"","initial":true}"#));
    sim.run().unwrap();
    assert_eq!(shared.receive(), message(r#"{"id":1,"type":"watching","revision":102}"#));
    clients.push(shared);
    // What changes meanwhile comes behind the state.
    put(&mut sim, &handle, "c", "later");
    stalled.reset();
    for client in &clients {
        let heard = reads(&mut sim, client);
        let places = ["x".repeat(30_000), "y".repeat(30_000), "later".into()].map(|text| heard.find(&text));
        assert!(places.is_sorted() && places[0].is_some(), "{places:?}");
        assert_eq!(heard.matches("\"key\"").count(), 3);
    }
    assert_eq!(used(&mut sim), 0);
}

#[test]
fn a_frame_that_finds_no_room_waits_and_small_ones_of_others_do_not() {
    let (mut sim, handle) = with_buffers(50_000);
    put(&mut sim, &handle, "a", "x".repeat(30_000));
    let [large, small] = ["a", "b"].map(|key| {
        let client = sim.connect();
        say(&mut sim, &client, stream(LINES, &format!("/v1/watch?key={key}")));
        client
    });
    let stalled = slow(&mut sim, get("/v1/kv/a"));
    put(&mut sim, &handle, "a", "y".repeat(30_000));
    put(&mut sim, &handle, "b", "small");
    assert_eq!(hear(&mut sim, &large), "");
    assert!(hear(&mut sim, &small).contains("small"));
    stalled.reset();
    assert!(reads(&mut sim, &large).contains(&"y".repeat(30_000)));
    assert_eq!(used(&mut sim), 0);
}

#[test]
fn a_frame_that_is_not_begun_holds_nothing() {
    let (mut sim, handle) = with_buffers(50_000);
    put(&mut sim, &handle, "a", "x".repeat(30_000));
    let watcher = sim.connect();
    say(&mut sim, &watcher, stream(LINES, "/v1/watch?key=a"));
    watcher.read_limit(0);
    watcher.window(0);
    put(&mut sim, &handle, "a", "y".repeat(30_000));
    assert_eq!(used(&mut sim), 0);
    watcher.window(1000);
    assert!(reads(&mut sim, &watcher).contains(&"y".repeat(30_000)));
}

#[test]
fn a_watcher_that_waited_for_longer_than_the_log_is_told() {
    let (server, handle) = server(config(|config: &mut Config| {
        config.buffers = 100_000;
        config.log = LogLimits { changes: 2, ..config.log };
    }));
    let mut sim = Sim::new(server);
    put(&mut sim, &handle, "a", "x".repeat(30_000));
    let watcher = sim.connect();
    say(&mut sim, &watcher, stream(LINES, "/v1/watch?prefix="));
    let stalled = slow(&mut sim, get("/v1/kv/a"));
    for text in ["1", "2", "3", "4"] {
        put(&mut sim, &handle, "a", text.repeat(30_000));
    }
    stalled.reset();
    let heard = reads(&mut sim, &watcher);
    assert!(heard.starts_with("24\r\n{\"type\":\"compacted\",\"revision\":105}\n"), "{heard:.100}");
    assert_eq!(used(&mut sim), 0);
}

#[test]
fn the_rest_of_a_frame_is_counted_once_for_all_and_outlives_the_log() {
    let (server, handle) = server(config(|config: &mut Config| {
        config.buffers = 200_000;
        config.log = LogLimits { changes: 1, ..config.log };
    }));
    let mut sim = Sim::new(server);
    let watch = stream(LINES, "/v1/watch?key=a");
    let watchers = [(); 3].map(|()| slow(&mut sim, &watch));
    put(&mut sim, &handle, "a", "x".repeat(30_000));
    assert!((30_000..30_200).contains(&used(&mut sim)));
    put(&mut sim, &handle, "b", "the log has moved on");
    for (index, watcher) in watchers.iter().enumerate() {
        assert!((30_000..30_200).contains(&used(&mut sim)), "{index}");
        assert!(reads(&mut sim, watcher).contains(&"x".repeat(30_000)));
    }
    assert_eq!(used(&mut sim), 0);
}

#[test]
fn a_large_answer_on_a_websocket_that_finds_no_room_is_refused_by_its_id() {
    let (mut sim, handle) = with_buffers(200_000);
    for key in ["a", "b"] {
        put(&mut sim, &handle, key, key.repeat(70_000));
    }
    let [first, second] = [(); 2].map(|()| {
        let client = sim.connect();
        assert_eq!(say(&mut sim, &client, request("GET", "/v1/watch", UPGRADE)), UPGRADED);
        client
    });
    first.read_limit(0);
    first.window(1000);
    first.send(says(r#"{"op":"list","id":1}"#));
    sim.run().unwrap();
    assert!((140_000..141_000).contains(&used(&mut sim)));
    for ask in [r#"{"op":"list","id":2}"#, r#"{"op":"get","id":2,"key":"b"}"#] {
        second.send(says(ask));
        sim.run().unwrap();
        let answer = second.receive();
        let refused = r#"{"id":2,"type":"error","status":503,"error":"too much is under way: try later"}"#;
        assert!(answer == message(refused) || ask.contains("get") && answer.len() > 70_000, "{ask}");
    }
    let heard = reads(&mut sim, &first);
    assert!(heard.contains(&"a".repeat(70_000)) && heard.contains(&"b".repeat(70_000)));
    assert_eq!(used(&mut sim), 0);
    let again = say_bytes(&mut sim, &second, says(r#"{"op":"list","id":3}"#));
    assert!(again.len() > 140_000);
    assert_eq!(used(&mut sim), 0);
}

#[test]
fn many_watches_of_one_websocket_are_counted_and_those_that_find_no_room_refused() {
    let (mut sim, _handle) = with_buffers(32_000);
    let client = sim.connect();
    assert_eq!(say(&mut sim, &client, request("GET", "/v1/watch", UPGRADE)), UPGRADED);
    let key = |id: usize| format!("{id:0>1000}");
    let mut watch = |id: usize| {
        let ask = format!(r#"{{"op":"watch","id":{id},"key":"{}"}}"#, key(id));
        String::from_utf8_lossy(&say_bytes(&mut sim, &client, says(&ask))).into_owned()
    };
    let granted = (0..100).take_while(|&id| watch(id).contains("\"watching\"")).count();
    assert!((20..32).contains(&granted), "{granted}");
    let refused = r#""type":"error","status":503,"error":"too much is under way: try later"}"#;
    assert!(watch(100).ends_with(&format!("{{\"id\":100,{refused}")));
    assert!((24_000..=32_000).contains(&used(&mut sim)));
    assert!(say_bytes(&mut sim, &client, says(r#"{"op":"cancel","id":3}"#)).ends_with(b"\"canceled\"}"));
    let again = format!(r#"{{"op":"watch","id":3,"key":"{}"}}"#, key(3));
    let granted_again = say_bytes(&mut sim, &client, says(&again));
    assert_eq!(granted_again, message(r#"{"id":3,"type":"watching","revision":100}"#));
    for id in 0..granted - 5 {
        say_bytes(&mut sim, &client, says(&format!(r#"{{"op":"cancel","id":{id}}}"#)));
    }
    assert_eq!(used(&mut sim), 0, "these few are its connection's");
    client.reset();
    sim.run().unwrap();
    nothing_is_left(&mut sim);
}

fn say_bytes(sim: &mut Sim<WatchServer>, client: &Client, bytes: Vec<u8>) -> Vec<u8> {
    client.send(bytes);
    sim.run().unwrap();
    client.receive()
}

#[test]
fn hostile_readers_of_everything_hold_no_more_than_the_budget_and_nothing_when_they_are_gone() {
    const BUDGET: usize = 900_000;
    let (server, handle) = server(config(|config: &mut Config| {
        config.buffers = 2 * BUDGET;
        config.log = LogLimits { bytes: 300_000, ..config.log };
    }));
    let mut sim = Sim::new(server);
    let value = |number: usize| format!("{number}").repeat(20_000 / format!("{number}").len());
    for number in 0..60 {
        put(&mut sim, &handle, &format!("k{number}"), value(number));
    }
    let socket = |ask: &str| [request("GET", "/v1/watch", UPGRADE).into_bytes(), says(ask)].concat();
    let attacks = |number: usize| match number % 8 {
        0 => get("/v1/kv").into_bytes(),
        1 => get(&format!("/v1/kv/k{}", number % 60)).into_bytes(),
        2 => stream(LINES, "/v1/watch?prefix=&initial=true").into_bytes(),
        3 => stream("text/event-stream", "/v1/watch?prefix=").into_bytes(),
        4 => socket(r#"{"op":"list","id":1}"#),
        5 => socket(r#"{"op":"watch","id":1,"prefix":"","initial":true}"#),
        6 => get("/v1/watch?prefix=&since=100").into_bytes(),
        _ => begun("upload", 39_000).into_bytes(),
    };
    let mut hostile = Vec::new();
    let mut most = 0;
    for number in 0..200 {
        hostile.push(slow(&mut sim, attacks(number)));
        // The state goes on under them: what they are sent is no longer anybody else's.
        put(&mut sim, &handle, &format!("k{}", number % 60), value(100 + number));
        // They read a little now and then, so that nobody gives them up.
        for client in &hostile {
            client.read_limit(1);
        }
        sim.advance(Duration::from_millis(100)).unwrap();
        let buffered = sim.server().usage().buffered_bytes;
        assert!(buffered <= 2 * BUDGET, "{buffered} after {number}");
        most = most.max(buffered);
    }
    assert!(most > BUDGET * 19 / 10, "{most}: they take what they get");
    // Those who are not hostile are told so, and what is small goes its way.
    let client = sim.connect();
    assert!(say(&mut sim, &client, get("/healthz")).starts_with("HTTP/1.1 200 "));
    assert!(say(&mut sim, &client, put_request("k1", "small", "")).starts_with("HTTP/1.1 200 "));
    assert!(say(&mut sim, &client, get("/v1/kv/k1")).ends_with("small"));
    hostile.iter().for_each(Client::reset);
    sim.run().unwrap();
    assert_eq!(sim.server().usage().buffered_bytes, 0);
    client.shutdown_write();
    sim.run().unwrap();
    nothing_is_left(&mut sim);
}
