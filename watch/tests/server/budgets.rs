//! What requests and answers under way may hold together.

use keepwatch_protocol::websocket::frame::{FrameHead, Opcode};
use keepwatch_sim::{Client, Sim};
use keepwatch_watch::{Config, Handle, WatchServer};

use crate::support::{
    UPGRADE, UPGRADED, closes, config, get, level, message, nothing_is_left, put, put_request, request, says,
    server,
};

fn with_buffers(bytes: usize) -> (Sim<WatchServer>, Handle) {
    let (server, handle) = server(config(|config: &mut Config| config.buffers = bytes));
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

/// The first part of an upload of 10,000 bytes.
fn begun(key: &str, bytes: usize) -> String {
    let body = "x".repeat(bytes);
    format!("PUT /v1/kv/{key} HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n{body}")
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
    let (mut sim, _handle) = with_buffers(16_000);
    let [first, second] = [(); 2].map(|()| sim.connect());
    assert_eq!(say(&mut sim, &first, begun("a", 9500)), "");
    let refused = say(&mut sim, &second, begun("b", 7000));
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("\r\nRetry-After: 1\r\n") && refused.contains("\r\nConnection: close\r\n"));
    assert!(refused.ends_with("{\"error\":\"too much is under way: try later\"}\n"));
    assert!(say(&mut sim, &first, "x".repeat(500)).starts_with("HTTP/1.1 201 "));
    assert_eq!(used(&mut sim), 0);
    let third = sim.connect();
    assert!(say(&mut sim, &third, put_request("b", &"x".repeat(10_000), "")).starts_with("HTTP/1.1 201 "));
    all_leave(&mut sim, [first, second, third]);
}

#[test]
fn what_is_under_way_is_counted_and_given_back_when_it_is_given_up() {
    let (mut sim, _handle) = with_buffers(16_000);
    let client = sim.connect();
    say(&mut sim, &client, begun("a", 5000));
    assert_eq!(used(&mut sim), 5000);
    client.reset();
    sim.run().unwrap();
    assert_eq!(used(&mut sim), 0);
}

#[test]
fn a_message_in_parts_that_finds_no_room_closes_with_1013() {
    let (mut sim, _handle) = with_buffers(2000);
    let clients = [(); 2].map(|()| sim.connect());
    for client in &clients {
        assert_eq!(say(&mut sim, client, request("GET", "/v1/watch", UPGRADE)), UPGRADED);
    }
    let part = |fin, opcode, bytes: usize| {
        let head = FrameHead::new(fin, opcode, bytes as u64, Some([0; 4]));
        [head.as_ref(), &vec![b' '; bytes]].concat()
    };
    assert_eq!(say(&mut sim, &clients[0], part(false, Opcode::Text, 600)), "");
    clients[1].send(part(false, Opcode::Text, 1401));
    sim.run().unwrap();
    assert_eq!(clients[1].receive(), closes(1013, "too much is under way"));
    // A message that comes in one part is collected nowhere.
    let ask = r#"{"op":"get","id":1,"key":"a"}"#;
    let rest = part(true, Opcode::Continuation, 400);
    clients[0].send(rest);
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
    let (mut sim, _handle) = with_buffers(2000);
    let client = sim.connect();
    assert_eq!(say(&mut sim, &client, request("GET", "/v1/watch", UPGRADE)), UPGRADED);
    let part = |opcode, bytes: usize| {
        let head = FrameHead::new(false, opcode, bytes as u64, Some([0; 4]));
        [head.as_ref(), &vec![b' '; bytes]].concat()
    };
    client.send(part(Opcode::Text, 1500));
    sim.run().unwrap();
    client.send(part(Opcode::Continuation, 600));
    sim.run().unwrap();
    assert_eq!(client.receive(), closes(1013, "too much is under way"));
    assert_eq!(used(&mut sim), 0);
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
