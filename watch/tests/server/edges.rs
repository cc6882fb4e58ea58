//! What comes seldom: a store that takes nothing, a reader that misses lines, trailers, a list that is cut for its bytes.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use keepwatch_sim::Sim;
use keepwatch_watch::key::Position;
use keepwatch_watch::store::{Busy, Operation, Outcome, Snapshot, Store, Ticket};
use keepwatch_watch::{Config, Event, Filter, KeyError, Revision, Unavailable};

use crate::support::{
    START, UPGRADE, UPGRADED, chunk, config, get, json, keeping, level, message, put, put_request, request,
    says, server, shared, talk, talk_in_process,
};

/// A store that never has room for a write.
struct Full(Option<Snapshot>);

impl Store for Full {
    fn start(&mut self, _: &Waker) {}

    fn submit(&mut self, _: Ticket, _: Operation) -> Result<(), Busy> {
        Err(Busy)
    }

    fn poll(&mut self) -> Option<Outcome> {
        self.0.take().map(Outcome::Snapshot)
    }
}

#[test]
fn a_store_that_takes_nothing_is_told_to_every_writer() {
    let revision = Revision::new(START).unwrap();
    let snapshot = Snapshot { revision, position: Position::START, items: Vec::new() };
    let (server, handle) = shared(Config::default()).machine_over(Full(Some(snapshot)), 1);
    let mut sim = Sim::new(server);
    let (http, socket, pending) = (sim.connect(), sim.connect(), handle.put("a", *b"x"));
    http.send(put_request("a", "x", ""));
    socket.send(request("GET", "/v1/watch", UPGRADE));
    socket.send(says(r#"{"op":"delete","id":7,"key":"a"}"#));
    sim.run().unwrap();
    let answer = String::from_utf8(http.receive()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    let refused = r#"{"id":7,"type":"error","status":503,"error":"too many writes are waiting"}"#;
    assert_eq!(socket.receive(), [UPGRADED.as_bytes(), &message(refused)].concat());
    assert_eq!(pending.wait(), Err(Unavailable::Busy));
}

#[test]
fn a_process_that_names_no_key_is_told_at_once() {
    let (_server, handle) = server(Config::default());
    assert_eq!(handle.put("", *b"x").wait(), Err(Unavailable::Key(KeyError::Empty)));
    assert_eq!(handle.delete("").wait(), Err(Unavailable::Key(KeyError::Empty)));
}

#[test]
fn a_subscription_can_be_awaited() {
    let (server, handle) = server(Config::default());
    let mut sim = Sim::new(server);
    let pending = handle.watch(Filter::prefix("", 10).unwrap(), None);
    sim.run().unwrap();
    let mut subscription = pending.wait().unwrap().unwrap();
    let mut next = pin!(subscription.next());
    let mut context = Context::from_waker(Waker::noop());
    assert!(next.as_mut().poll(&mut context).is_pending());
    let revision = put(&mut sim, &handle, "a", "x");
    let Poll::Ready(Some(Event::Change(change))) = next.poll(&mut context) else { unreachable!() };
    assert_eq!(change.revision.as_u64(), revision);
}

#[test]
fn a_subscription_behind_many_changes_of_others_is_served_in_turns() {
    let (server, handle) = server(Config::default());
    let mut sim = Sim::new(server);
    put(&mut sim, &handle, "b", "1");
    let pending = handle.watch(Filter::prefix("b", 10).unwrap(), Revision::new(START));
    let writes: Vec<_> = (0..600).map(|index| handle.put(&format!("a/{index}"), *b"x")).collect();
    let last = handle.put("b", *b"2");
    sim.run().unwrap();
    assert!(writes.into_iter().all(|pending| pending.wait().is_ok()) && last.wait().is_ok());
    let mut subscription = pending.wait().unwrap().unwrap();
    sim.run().unwrap();
    let mut heard = Vec::new();
    while let Some(Event::Change(change)) = subscription.try_next() {
        heard.push(change.revision.as_u64());
    }
    assert_eq!(heard, [START + 1, START + 602]);
}

#[test]
fn messages_of_another_shape_are_answered_with_what_is_wrong() {
    let refused = |id: &str, why: &str| format!(r#"{{{id}"type":"error","status":400,"error":"{why}"}}"#);
    for (question, answer) in [
        ("{", refused("", "the message is not JSON: EOF while parsing an object at line 1 column 1")),
        (r#"{"id":1,"op":"watch","key":"a","initial":1}"#, refused(r#""id":1,"#, "initial is true or false")),
        (r#"{"id":1,"op":"get","key":7}"#, refused(r#""id":1,"#, "key is a string")),
    ] {
        talk(Config::default())
            .client(request("GET", "/v1/watch", UPGRADE))
            .server(UPGRADED)
            .client(says(question))
            .server_bytes(message(&answer))
            .end();
    }
}

#[test]
fn a_list_on_a_websocket_is_cut_where_its_bytes_are_too_many() {
    let (conversation, handle) = talk_in_process(config(|config| config.list_bytes = 1));
    let page = r#"{"id":1,"type":"result","revision":102,"items":[{"key":"a","revision":101,"createRevision":101,"value":"x"}],"continue":"102.a"}"#;
    conversation
        .with(|sim, _| {
            put(sim, &handle, "a", "x");
            put(sim, &handle, "b", "x");
        })
        .client(request("GET", "/v1/watch", UPGRADE))
        .server(UPGRADED)
        .client(says(r#"{"id":1,"op":"list"}"#))
        .server_bytes(message(page))
        .end();
}

#[test]
fn trailers_behind_a_value_are_passed_over() {
    talk(Config::default())
        .client("PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n")
        .server(json("201 Created", "ETag: \"101\"\r\n", r#"{"revision":101}"#))
        .end();
}

#[test]
fn an_expectation_that_cannot_be_met_is_counted_as_malformed() {
    let (server, _handle) = server(Config::default());
    let mut sim = Sim::new(server);
    let client = sim.connect();
    client.send(request("GET", "/healthz", "Expect: a-miracle\r\n"));
    sim.run().unwrap();
    assert!(client.receive().starts_with(b"HTTP/1.1 417 "));
    assert_eq!(level(&mut sim, "keepwatch_requests_malformed_total"), 1);
}

#[test]
fn a_write_that_may_only_create_and_only_change_does_neither() {
    let refused = r#"{"error":"the key exists","revision":101}"#;
    talk(Config::default())
        .client(put_request("a", "1", ""))
        .server(json("201 Created", "ETag: \"101\"\r\n", r#"{"revision":101}"#))
        .client(put_request("a", "2", "If-Match: \"101\"\r\nIf-None-Match: *\r\n"))
        .server(json("412 Precondition Failed", "ETag: \"101\"\r\n", refused))
        // A tag that the key does not have stands against nothing.
        .client(put_request("a", "2", "If-None-Match: \"7\"\r\n"))
        .server(json("200 OK", "ETag: \"102\"\r\n", r#"{"revision":102}"#))
        .end();
}

#[test]
fn a_server_that_drains_is_not_ready() {
    let (server, _handle) = server(Config::default());
    let mut sim = Sim::new(server);
    let client = sim.connect();
    client.send("GET /readyz HTTP/1.1\r\n");
    sim.run().unwrap();
    sim.start_drain(Duration::from_secs(5));
    client.send("Host: x\r\n\r\n");
    sim.advance(Duration::from_secs(1)).unwrap();
    let answer = String::from_utf8(client.receive()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\ndraining\n"), "{answer}");
}

#[test]
fn a_reader_of_hello_that_misses_lines_is_ended() {
    let (server, _handle) = server(config(|config| config.hello_lines = 1));
    let mut sim = Sim::new(server);
    let (reader, speaker) = (sim.connect(), sim.connect());
    reader.send(get("/hello"));
    sim.run().unwrap();
    reader.window(1);
    reader.read_limit(0);
    let mut said = Vec::new();
    for number in 0..300 {
        let id = format!("{number}-{}", "x".repeat(1000));
        speaker.send(get(&format!("/ok/{id}")));
        sim.run().unwrap();
        said.push(chunk(&format!("id: {id}\n")));
    }
    reader.window(1 << 20);
    reader.read_limit(usize::MAX);
    sim.run().unwrap();
    let text = String::from_utf8(reader.receive()).unwrap();
    let (_, lines) = text.split_once("wait:\n\r\n").unwrap();
    let lines = lines.strip_suffix("0\r\n\r\n").unwrap();
    assert!(said.concat().starts_with(lines) && lines.len() < said.concat().len());
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_count_goes_on_for_a_client_that_has_said_all() {
    let (server, _handle) = server(Config::default());
    let mut sim = Sim::new(server);
    let client = sim.connect();
    client.send(get("/count"));
    sim.run().unwrap();
    client.shutdown_write();
    sim.advance(Duration::from_secs(5)).unwrap();
    let text = String::from_utf8(client.receive()).unwrap();
    assert!(text.contains("world4") && text.ends_with("0\r\n\r\n") && client.is_ended(), "{text}");
}

#[test]
fn who_is_behind_many_changes_of_others_is_served_in_turns() {
    let (server, handle) = server(keeping(100_000));
    let mut sim = Sim::new(server);
    for _ in 0..40 {
        let writes: Vec<_> =
            (0..500_u32).map(|number| handle.put("a", number.to_string().into_bytes())).collect();
        sim.run().unwrap();
        assert!(writes.into_iter().all(|pending| pending.wait().is_ok()));
    }
    let last = put(&mut sim, &handle, "b", "x");
    let (poll, stream) = (sim.connect(), sim.connect());
    poll.send(get("/v1/watch?prefix=b&since=100&wait=1s"));
    stream.send(request("GET", "/v1/watch?prefix=b&since=100", "Accept: application/x-ndjson\r\n"));
    sim.advance(Duration::from_secs(1)).unwrap();
    let event =
        format!(r#"{{"type":"put","key":"b","revision":{last},"createRevision":{last},"value":"x"}}"#);
    for client in [poll, stream] {
        let text = String::from_utf8(client.receive()).unwrap();
        assert_eq!(text.matches(&event).count(), 1, "{text}");
        assert!(!text.contains(r#""key":"a""#), "{text}");
    }
}
