//! Watches: what is seen, from where on, by which transport.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Framing;
use super::process::{Process, pause, spawn};
use super::watcher::{EVENTS, LINES, Stream, Transport, Watch, WebSocket, revision_of, value_of};

#[test]
fn one_put_is_received_alike_by_every_transport() {
    let server = Process::start();
    let mut client = server.connect();
    let created = client.put("app/a", "first");
    let mut watchers =
        Transport::ALL.map(|transport| (transport, server.watch(transport, &Watch::of("app/"))));
    let large: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let text = "\u{0}\u{1f}\"\\/\u{7f}ü\u{2028}😀\r\ndata: x\r\n\r\n";
    for (value, member) in [
        (text.as_bytes(), "value"),
        (b"", "value"),
        (b"\xff\x00 is not UTF-8", "value64"),
        (&large, "value64"),
        (&vec![b'x'; 1 << 20], "value"),
    ] {
        let revision = client.put("app/a", value);
        for (transport, watcher) in &mut watchers {
            let event = watcher.change();
            let about = format!("{transport:?}, {} bytes", value.len());
            assert!(value_of(&event) == value, "{about}");
            let mut event = event;
            assert!(event.as_object_mut().unwrap().remove(member).is_some(), "{about}");
            let rest =
                json!({"type": "put", "key": "app/a", "revision": revision, "createRevision": created});
            assert_eq!(event, rest, "{about}");
        }
        assert!(client.get("/v1/kv/app/a").body == value);
    }
}

#[test]
fn a_delete_is_received_alike_by_every_transport() {
    let server = Process::start();
    let mut client = server.connect();
    client.put("app/a", "1");
    let mut watchers = Transport::ALL.map(|transport| server.watch(transport, &Watch::of("app/")));
    let revision = client.delete("app/a");
    for watcher in &mut watchers {
        let event = json!({"type": "delete", "key": "app/a", "revision": revision});
        assert_eq!(watcher.change(), event);
    }
}

#[test]
fn a_key_that_is_made_again_has_a_new_create_revision() {
    let server = Process::start();
    let mut client = server.connect();
    client.put("a", "1");
    client.delete("a");
    let revision = client.put("a", "2");
    assert_eq!(client.get("/v1/kv").json()["items"][0]["createRevision"], revision);
}

#[test]
fn only_what_was_asked_for_is_seen() {
    let server = Process::start();
    let mut client = server.connect();
    let mut key = Stream::open(server.connect(), "/v1/watch?key=app/a", LINES, false);
    let mut prefix = Stream::open(server.connect(), "/v1/watch?prefix=app/a", LINES, false);
    let mut encoded = Stream::open(server.connect(), "/v1/watch?key=a+%2B%26", LINES, false);
    let other = [client.put("app/", "x"), client.put("app/b", "x"), client.put("APP/A", "x")];
    let (longer, exact) = (client.put("app/ab", "x"), client.put("app/a", "x"));
    let odd = client.put("a%20+&", "x");
    let revisions = |stream: &mut Stream, count: usize| -> Vec<u64> {
        stream.line(); // the bookmark
        let events = (0..count).map(|_| serde_json::from_slice::<Value>(&stream.line().unwrap()).unwrap());
        events.map(|event| revision_of(&event)).collect()
    };
    assert_eq!(revisions(&mut key, 1), [exact]);
    assert_eq!(revisions(&mut prefix, 2), [longer, exact]);
    assert_eq!(revisions(&mut encoded, 1), [odd]);
    assert!(other.iter().all(|revision| *revision < longer));
}

#[test]
fn a_watch_since_the_newest_revision_sees_only_what_follows() {
    let server = Process::start();
    let mut client = server.connect();
    for transport in Transport::ALL {
        let since = client.put("a", format!("before {transport:?}"));
        let mut watcher = server.watch(transport, &Watch { since: Some(since), ..Watch::of("") });
        let later = client.put("a", format!("after {transport:?}"));
        assert_eq!(revision_of(&watcher.change()), later, "{transport:?}");
    }
}

/// A revision before the first, and one that is not reached.
fn lost(server: &Process) -> (u64, [u64; 2]) {
    let revision = server.connect().put("a", "1");
    (revision, [1, revision + 1000])
}

#[test]
fn a_lost_revision_is_410_on_long_polls_and_lines() {
    let server = Process::start();
    let (revision, lost) = lost(&server);
    let mut client = server.connect();
    for since in lost {
        for field in ["Accept: application/json", "Accept: application/x-ndjson"] {
            let target = format!("/v1/watch?prefix=&since={since}");
            let refused = client.call("GET", &target, &[field], b"");
            assert_eq!((refused.refused(), refused.revision()), (410, revision), "{field}");
        }
    }
}

#[test]
fn a_lost_revision_is_compacted_on_server_sent_events() {
    let server = Process::start();
    let (revision, lost) = lost(&server);
    for since in lost {
        for http_10 in [false, true] {
            let target = format!("/v1/watch?prefix=&since={since}");
            let mut stream = Stream::open(server.connect(), &target, EVENTS, http_10);
            let event = stream.event().unwrap();
            assert_eq!((event.id, event.event.as_deref()), (Some(revision), Some("compacted")));
            assert!(event.retry.is_some(), "an EventSource comes back, and when");
            assert_eq!(event.data, Some(json!({"type": "compacted", "revision": revision})));
            assert!(stream.event().is_none());
        }
    }
}

#[test]
fn a_lost_revision_is_compacted_on_a_websocket_and_closes_it() {
    let server = Process::start();
    let (revision, lost) = lost(&server);
    for since in lost {
        let target = format!("/v1/watch?prefix=&since={since}");
        let mut socket = WebSocket::open(server.connect(), &target);
        assert_eq!(socket.message(), Ok(json!({"type": "compacted", "revision": revision})));
        assert_eq!(socket.message(), Err(Some(4410)));
    }
}

#[test]
fn a_lost_revision_ends_that_watch_alone_on_a_websocket_with_several() {
    let server = Process::start();
    let (_, lost) = lost(&server);
    for since in lost {
        let revision = server.connect().revision();
        let mut socket = WebSocket::open(server.connect(), "/v1/watch");
        socket.ask(&json!({"op": "watch", "id": 1, "prefix": ""}));
        let compacted = socket.ask(&json!({"op": "watch", "id": 2, "prefix": "", "since": since}));
        assert_eq!(compacted, json!({"id": 2, "type": "compacted", "revision": revision}));
        let put = json!({"op": "put", "id": 3, "key": "b", "value": since.to_string()});
        socket.say(&put);
        let mut messages = [socket.message().unwrap(), socket.message().unwrap()];
        messages.sort_by_key(|message| message["id"].as_u64());
        assert_eq!((&messages[0]["id"], &messages[0]["type"]), (&json!(1), &json!("put")));
        assert_eq!((&messages[1]["id"], &messages[1]["type"]), (&json!(3), &json!("result")));
    }
}

#[test]
fn the_last_event_id_wins_over_since() {
    let server = Process::start();
    let mut client = server.connect();
    let revisions: Vec<u64> = (0..4).map(|n| client.put("a", n.to_string())).collect();
    let last = format!("Last-Event-ID: {}", revisions[2]);
    let accept = format!("Accept: {EVENTS}");
    let target = format!("/v1/watch?prefix=&since={}", revisions[0]);
    client.request("GET", &target, &[&accept, &last], b"");
    client.head();
    let first = String::from_utf8(client.part().unwrap()).unwrap();
    assert!(first.starts_with(&format!("id: {}\n", revisions[3])), "{first}");
}

#[test]
fn an_event_source_that_comes_back_goes_on_where_it_was() {
    let server = Process::start();
    let mut client = server.connect();
    let mut stream = Stream::open(server.connect(), "/v1/watch?prefix=", EVENTS, false);
    // Before any change it has an id, too: what happens before it comes back is not lost.
    let id = stream.event().unwrap().id.unwrap();
    drop(stream);
    let missed = client.put("a", "1");
    let accept = format!("Accept: {EVENTS}");
    client.request("GET", "/v1/watch?prefix=", &[&accept, &format!("Last-Event-ID: {id}")], b"");
    client.head();
    let first = String::from_utf8(client.part().unwrap()).unwrap();
    assert!(first.starts_with(&format!("id: {missed}\n")), "{first}");
}

#[test]
fn initial_gives_the_state_then_a_bookmark_then_changes() {
    let server = Process::start();
    let mut client = server.connect();
    client.put("other", "x");
    let (a, b) = (client.put("app/a", "1"), client.put("app/b", b"\xff"));
    for transport in Transport::STREAMS {
        let revision = client.revision();
        let mut watcher = server.watch(transport, &Watch { initial: true, ..Watch::of("app/") });
        let state = [watcher.next().unwrap(), watcher.next().unwrap()];
        let expected = [
            json!({"type": "put", "key": "app/a", "revision": a, "createRevision": a, "value": "1"}),
            json!({"type": "put", "key": "app/b", "revision": b, "createRevision": b, "value64": "/w=="}),
        ];
        assert_eq!(state, expected, "{transport:?}");
        assert_eq!(watcher.next().unwrap(), json!({"type": "bookmark", "revision": revision}));
        let changed = client.put("app/c", format!("{transport:?}"));
        assert_eq!(revision_of(&watcher.next().unwrap()), changed, "{transport:?}");
        client.delete("app/c");
    }
}

#[test]
fn initial_gives_no_state_to_whoever_has_it() {
    let server = Process::start();
    let mut client = server.connect();
    let since = client.put("a", "1");
    let later = client.put("a", "2");
    for transport in Transport::STREAMS {
        let mut watcher =
            server.watch(transport, &Watch { since: Some(since), initial: true, ..Watch::of("") });
        assert_eq!(revision_of(&watcher.next().unwrap()), later, "{transport:?}");
    }
}

#[test]
fn initial_misses_nothing_that_is_written_meanwhile() {
    let server = Process::start();
    let mut client = server.connect();
    // More than is sent in one piece.
    let filler = "f".repeat(2000);
    for n in 0..40 {
        client.put(&format!("app/{n}"), format!("{filler}{n}"));
    }
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let writing = spawn(move || {
        let mut written = Vec::new();
        for n in 0.. {
            let key = format!("app/{}", n % 50);
            written.push(if n % 7 == 3 && client.get(&format!("/v1/kv/{key}")).status == 200 {
                client.delete(&key)
            } else {
                client.put(&key, format!("{filler} again {n}"))
            });
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        let state = client.get("/v1/kv?prefix=app/").json();
        (written, state, client.put("app/~", "the end"))
    });
    let watching = Transport::STREAMS.map(|transport| {
        let mut watcher = server.watch(transport, &Watch { initial: true, ..Watch::of("app/") });
        spawn(move || {
            let mut state = BTreeMap::new();
            let mut changes = Vec::new();
            let mut bookmark = None;
            loop {
                let event = watcher.next().unwrap();
                let (kind, revision) = (event["type"].as_str().unwrap(), revision_of(&event));
                match (kind, bookmark) {
                    ("bookmark", None) => bookmark = Some(revision),
                    ("bookmark", Some(_)) => panic!("{transport:?}: {event}"),
                    (_, Some(_)) => changes.push(revision),
                    ("put", None) => {}
                    (_, None) => panic!("{transport:?}: {event}"),
                }
                if event["key"] == "app/~" {
                    return (transport, bookmark.unwrap(), changes, state);
                }
                match kind {
                    "put" => state.insert(event["key"].as_str().unwrap().to_owned(), value_of(&event)),
                    "delete" => state.remove(event["key"].as_str().unwrap()),
                    _ => None,
                };
            }
        })
    });
    // The last one opened has seen its state when others are long in their changes.
    pause(Duration::from_millis(200));
    done.store(true, Ordering::Relaxed);
    let (mut written, listed, end) = writing.join().unwrap();
    written.push(end);
    let listed: BTreeMap<String, Vec<u8>> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["key"].as_str().unwrap().to_owned(), value_of(item)))
        .collect();
    for watcher in watching {
        let (transport, bookmark, changes, state) = watcher.join().unwrap();
        let from = written.partition_point(|revision| *revision <= bookmark);
        assert_eq!(changes, written[from..], "{transport:?}");
        assert!(state == listed, "{transport:?}");
    }
}

#[test]
fn accept_chooses_the_transport_by_its_weights() {
    let server = Process::start();
    let mut client = server.connect();
    let since = client.put("a", "1");
    client.put("a", "2"); // so that a long poll is answered at once
    let json = "application/json";
    for (accept, kind) in [
        (&[LINES][..], LINES),
        (&[EVENTS], EVENTS),
        (&["Text/Event-Stream; Q=1.0"], EVENTS),
        (&["text/event-stream;q=0.5, application/x-ndjson"], LINES),
        (&["text/event-stream;q=0.501,application/x-ndjson;q=0.5"], EVENTS),
        (&["text/event-stream;q=0.5", "application/x-ndjson;q=0.6"], LINES),
        (&["text/event-stream;q=0"], json),
        (&["text/event-stream;q=0.000, application/x-ndjson;q=0.001"], LINES),
        (&["application/json, text/event-stream;q=0.9"], json),
        (&["text/event-stream, application/json;q=0.9, */*;q=0.1"], EVENTS),
        (&["*/*"], json),
        (&["text/html"], json),
        (&[], json),
    ] {
        let fields: Vec<String> = accept.iter().map(|value| format!("Accept: {value}")).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let mut client = server.connect();
        client.request("GET", &format!("/v1/watch?prefix=&since={since}"), &fields, b"");
        let head = client.head();
        assert_eq!((head.status, head.field("content-type")), (200, Some(kind)), "{accept:?}");
    }
}

#[test]
fn wait_makes_it_a_long_poll_whatever_accept_says() {
    let server = Process::start();
    let accept = format!("Accept: {EVENTS}");
    let poll = server.connect().call("GET", "/v1/watch?prefix=&wait=0s", &[&accept], b"");
    assert_eq!(poll.json()["events"], json!([]));
}

#[test]
fn a_hold_is_cut_to_the_limit_and_is_the_limit_if_it_is_not_said() {
    let server = Process::with(&["--hold", "1s"]);
    let polls =
        ["/v1/watch?prefix=", "/v1/watch?prefix=&wait=60m", "/v1/watch?key=a&wait=99999999999999999999m"];
    // Each is longer than the patience of these tests unless it is cut.
    let clients = polls.map(|target| {
        let mut client = server.connect();
        client.request("GET", target, &[], b"");
        client
    });
    for mut client in clients {
        assert_eq!(client.response().json()["events"], json!([]));
    }
}

#[test]
fn a_poll_that_goes_on_where_the_last_ended_misses_nothing() {
    let server = Process::start();
    let mut client = server.connect();
    let since = client.put("app/start", "x");
    let writing = spawn({
        let mut client = server.connect();
        move || (0..200).map(|n| client.put(&format!("app/{}", n % 3), n.to_string())).collect::<Vec<_>>()
    });
    let mut watcher = server.watch(Transport::LongPoll, &Watch { since: Some(since), ..Watch::of("app/") });
    let seen: Vec<u64> = (0..200).map(|_| revision_of(&watcher.change())).collect();
    assert_eq!(seen, writing.join().unwrap());
}

#[test]
fn a_poll_may_have_several_changes_and_says_how_far_it_looked() {
    let server = Process::start();
    let mut client = server.connect();
    let since = client.put("a", "1");
    let revisions = [client.put("a", "2"), client.put("a", "3")];
    let other = client.put("b", "4");
    let poll = client.get(&format!("/v1/watch?key=a&since={since}&wait=60s"));
    let body = poll.json();
    let seen: Vec<u64> = body["events"].as_array().unwrap().iter().map(revision_of).collect();
    assert_eq!(seen, revisions);
    assert_eq!(poll.revision(), other);
}

#[test]
fn chunks_hold_one_event_each() {
    let server = Process::start();
    let mut client = server.connect();
    let since = client.revision();
    for n in 0..5 {
        client.put("a", n.to_string());
    }
    for (kind, end) in [(LINES, "}\n"), (EVENTS, "}\n\n")] {
        let mut stream = server.connect();
        let accept = format!("Accept: {kind}");
        stream.request("GET", &format!("/v1/watch?prefix=&since={since}"), &[&accept], b"");
        assert_eq!(stream.head().framing, Framing::Chunked);
        for n in 0..5 {
            let chunk = String::from_utf8(stream.part().unwrap()).unwrap();
            assert!(chunk.contains(&format!("\"value\":\"{n}\"")) && chunk.ends_with(end), "{chunk}");
            assert_eq!(chunk.matches("\"value\"").count(), 1, "{chunk}");
        }
    }
}

#[test]
fn a_client_of_http_1_0_gets_streams_without_chunks() {
    let server = Process::start();
    for (target, kind) in
        [("/hello", "text/plain"), ("/v1/watch?prefix=", LINES), ("/v1/watch?prefix=", EVENTS)]
    {
        let mut stream = Stream::open(server.connect(), target, kind, true);
        stream.line().unwrap();
        server.connect().get("/ok/haha");
        server.connect().put("haha", kind);
        // A chunk's head would be a line of its own.
        let line = String::from_utf8(stream.line().unwrap()).unwrap();
        assert!(line.contains("haha") || line == "\n" || line.starts_with("id: "), "{line}");
        stream.client.shut_down_writing();
        while stream.line().is_some() {}
        stream.client.expect_end();
    }
}

#[test]
fn what_is_no_watch_is_refused() {
    let server = Process::start();
    let mut client = server.connect();
    for query in [
        "",
        "key=a&prefix=a",
        "key=",
        "key=%ff",
        "prefix=%4",
        "key=a&key=b",
        "prefix=&since=",
        "prefix=&since=-1",
        "prefix=&since=+1",
        "prefix=&since=1.0",
        "prefix=&since=9007199254740992",
        "prefix=&wait=5",
        "prefix=&wait=s",
        "prefix=&wait=1h",
        "prefix=&wait=1.5s",
        "prefix=&wait=-1s",
        "prefix=&initial=yes",
        "prefix=&initial=true",
        "prefix=&timeout=5s",
    ] {
        assert_eq!(client.get(&format!("/v1/watch?{query}")).refused(), 400, "{query}");
    }
    let last = client.call("GET", "/v1/watch?prefix=", &["Last-Event-ID: x"], b"");
    assert_eq!(last.refused(), 400);
    assert_eq!(client.get(&format!("/v1/watch?key={}", "x".repeat(1025))).refused(), 400);
}
