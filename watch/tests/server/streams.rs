//! Streams of lines and server-sent events.

use std::time::Duration;

use keepwatch_sim::{Sim, every_split};
use keepwatch_watch::Config;

use crate::support::{
    chunk, config, get, keeping, nothing_is_left, put, request, server, server_of_defaults, stream_head,
    talk_in_process,
};

const LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";

fn watch(kind: &str, query: &str) -> String {
    request("GET", &format!("/v1/watch?{query}"), &format!("Accept: {kind}\r\n"))
}

fn event(key: &str, revision: u64, created: u64, value: &str) -> String {
    format!(
        r#"{{"type":"put","key":"{key}","revision":{revision},"createRevision":{created},"value":"{value}"}}"#
    )
}

#[test]
fn a_line_is_an_event_and_silence_a_bookmark() {
    let (conversation, handle) = talk_in_process(Config::default());
    let mut sim = conversation
        .client(watch(LINES, "prefix=a"))
        .server(stream_head(LINES))
        .server(chunk("{\"type\":\"bookmark\",\"revision\":100}\n"))
        .with(|sim, _| {
            put(sim, &handle, "a", "1");
            put(sim, &handle, "b", "1");
            let _deleted = handle.delete("a");
        })
        .server(chunk(&(event("a", 101, 101, "1") + "\n")))
        .server(chunk("{\"type\":\"delete\",\"key\":\"a\",\"revision\":103}\n"))
        .wait_secs(24)
        .silence()
        .wait_secs(2)
        .server(chunk("{\"type\":\"bookmark\",\"revision\":103}\n"))
        .wait_secs(26)
        .server(chunk("{\"type\":\"bookmark\",\"revision\":103}\n"))
        .client_ends()
        .server("0\r\n\r\n")
        .server_closes()
        .end();
    nothing_is_left(&mut sim);
}

#[test]
fn an_event_has_its_revision_as_id_and_a_heartbeat_is_an_id_alone() {
    let (conversation, handle) = talk_in_process(Config::default());
    conversation
        .client(watch(EVENTS, "key=a"))
        .server(stream_head(EVENTS))
        .server(chunk("id: 100\n\n"))
        .with(|sim, _| {
            put(sim, &handle, "a", "1");
        })
        .server(chunk(&format!("id: 101\nevent: put\ndata: {}\n\n", event("a", 101, 101, "1"))))
        .wait_secs(26)
        .server(chunk("id: 101\n\n"))
        .end();
}

#[test]
fn the_last_event_id_wins_over_since_and_may_be_odd() {
    let (conversation, handle) = talk_in_process(Config::default());
    let with_id = |id: &str| {
        request("GET", "/v1/watch?key=a&since=100", &format!("Accept: {EVENTS}\r\nLast-Event-ID: {id}\r\n"))
    };
    conversation
        .with(|sim, _| {
            put(sim, &handle, "a", "1");
            put(sim, &handle, "a", "2");
        })
        .client(with_id("101"))
        .server(stream_head(EVENTS))
        .server(chunk(&format!("id: 102\nevent: put\ndata: {}\n\n", event("a", 102, 101, "2"))))
        .server(chunk("id: 102\n\n"))
        .speaker("odd")
        .client(with_id("-1") + &with_id("1e3") + &with_id("99999999999999999999"))
        .server("HTTP/1.1 400 Bad Request\r\n*\r\n*\r\n*\r\n\r\n{\"error\":\"since and Last-Event-ID are a revision\"}\n")
        .server("HTTP/1.1 400 Bad Request\r\n*\r\n*\r\n*\r\n\r\n*\n")
        .server("HTTP/1.1 400 Bad Request\r\n*\r\n*\r\n*\r\n\r\n*\n")
        .speaker("empty")
        .client(with_id(""))
        .server(stream_head(EVENTS))
        .server(chunk(&format!("id: 101\nevent: put\ndata: {}\n\n", event("a", 101, 101, "1"))))
        .server(chunk(&format!("id: 102\nevent: put\ndata: {}\n\n", event("a", 102, 101, "2"))))
        .server(chunk("id: 102\n\n"))
        .end();
}

#[test]
fn an_event_source_is_told_of_compaction_on_the_stream() {
    talk_in_process(Config::default())
        .0
        .client(watch(EVENTS, "key=a&since=7") + &get("/healthz"))
        .server(stream_head(EVENTS))
        .server(chunk(
            "id: 100\nevent: compacted\nretry: 2000\ndata: {\"type\":\"compacted\",\"revision\":100}\n\n",
        ))
        .server("0\r\n\r\nHTTP/1.1 200 OK\r\n*\r\n*\r\n*\r\n*\r\n\r\nok\n")
        .end();
}

#[test]
fn the_state_comes_first_where_it_is_asked_for() {
    let (conversation, handle) = talk_in_process(Config::default());
    let item = |value: &str| format!("event: put\ndata: {}\n\n", event("a", 101, 101, value));
    conversation
        .with(|sim, _| {
            put(sim, &handle, "a", "1");
            put(sim, &handle, "ab", "2");
        })
        .client(watch(LINES, "key=a&initial=true"))
        .server(stream_head(LINES))
        .server(chunk(&(event("a", 101, 101, "1") + "\n")))
        .server(chunk("{\"type\":\"bookmark\",\"revision\":102}\n"))
        .speaker("late")
        // Until the state is there, there is no id to come back with.
        .client(watch(EVENTS, "key=a&initial=true&since=7"))
        .server(stream_head(EVENTS))
        .server(chunk("id: \nevent: compacted\ndata: {\"type\":\"compacted\",\"revision\":102}\n\n"))
        .server(chunk(&item("1")))
        .server(chunk("id: 102\n\n"))
        .speaker("has it")
        .client(watch(LINES, "prefix=&initial=true&since=101"))
        .server(stream_head(LINES))
        .server(chunk(&(event("ab", 102, 102, "2") + "\n")))
        .server(chunk("{\"type\":\"bookmark\",\"revision\":102}\n"))
        .end();
}

#[test]
fn a_stream_that_has_caught_up_says_so_once_however_little_is_read() {
    for window in [1, 30, 4096] {
        let (server, handle) = server(Config::default());
        let mut sim = Sim::new(server);
        for key in ["a", "b", "a"] {
            put(&mut sim, &handle, key, key.repeat(200));
        }
        let told = |query: &str, sim: &mut Sim<_>| {
            let client = sim.connect();
            client.window(window);
            client.send(watch(LINES, query));
            sim.run().unwrap();
            let text = String::from_utf8(client.receive()).unwrap();
            (text.matches("\"put\"").count(), text.matches("\"bookmark\",\"revision\":102").count())
        };
        // The last put changed nothing.
        for (query, puts) in
            [("prefix=&since=100", 2), ("key=a&since=100", 1), ("key=a&since=101", 0), ("key=a&since=102", 0)]
        {
            assert_eq!(told(query, &mut sim), (puts, 1), "{query}");
        }
    }
}

#[test]
fn a_client_of_http_1_0_has_no_chunks() {
    let (conversation, handle) = talk_in_process(Config::default());
    conversation
        .client("GET /v1/watch?prefix= HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n")
        .server("HTTP/1.1 200 OK\r\n*\r\n*\r\n*\r\n*\r\n*\r\nConnection: close\r\n\r\nid: 100\n\n")
        .with(|sim, _| {
            put(sim, &handle, "a", "1");
        })
        .server(format!("id: 101\nevent: put\ndata: {}\n\n", event("a", 101, 101, "1")))
        .client_ends()
        .server_ends()
        .end();
}

#[test]
fn a_key_cannot_forge_an_event() {
    let (conversation, handle) = talk_in_process(Config::default());
    conversation
        .client(watch(EVENTS, "prefix="))
        .server(stream_head(EVENTS))
        .server(chunk("id: 100\n\n"))
        .with(|sim, _| {
            put(sim, &handle, "k\n\nid: 7\r\"\0\u{2028}", "\r\ndata: x");
        })
        .server(chunk(&format!(
            "id: 101\nevent: put\ndata: {}\n\n",
            event("k\\n\\nid: 7\\r\\\"\\u0000\u{2028}", 101, 101, "\\r\\ndata: x")
        )))
        .end();
}

#[test]
fn a_slow_reader_is_told_of_compaction_behind_the_frame_that_was_begun() {
    for window in 1..400 {
        let (server, handle) = server(keeping(2));
        let mut sim = Sim::new(server);
        let client = sim.connect();
        client.send(watch(LINES, "prefix=") + &get("/v1/kv/big"));
        sim.run().unwrap();
        let head = client.receive();
        client.window(window);
        client.read_limit(0);
        for round in 0..5 {
            put(&mut sim, &handle, "a", format!("{round}{}", "v".repeat(100)));
        }
        put(&mut sim, &handle, "big", "x".repeat(20_000));
        sim.advance(Duration::from_secs(26)).unwrap();
        client.read_limit(usize::MAX);
        sim.run().unwrap();
        let mut text = String::from_utf8(client.receive()).unwrap();
        assert!(head.ends_with(b"}\n\r\n"));
        // Whole chunks up to the last, and behind them the next answer, whole.
        let mut last = String::new();
        loop {
            let (size, rest) = text.split_once("\r\n").unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            assert_eq!(&rest[size..size + 2], "\r\n", "{window}");
            if size == 0 {
                text = rest[2..].to_owned();
                break;
            }
            last = rest[..size].to_owned();
            text = rest[size + 2..].to_owned();
        }
        assert_eq!(last, "{\"type\":\"compacted\",\"revision\":106}\n", "{window}");
        let (answer, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && body == "x".repeat(20_000), "{window}");
    }
}

#[test]
fn a_reader_that_is_too_slow_for_the_state_is_told_so() {
    let (server, handle) = server(keeping(300));
    let mut sim = Sim::new(server);
    for key in 0..100 {
        put(&mut sim, &handle, &format!("{key:03}"), "v".repeat(1000));
    }
    let client = sim.connect();
    client.window(100);
    client.read_limit(0);
    client.send(watch(LINES, "prefix=&initial=true"));
    sim.run().unwrap();
    for round in 0..400 {
        put(&mut sim, &handle, "x", round.to_string());
    }
    client.read_limit(usize::MAX);
    sim.run().unwrap();
    let text = String::from_utf8(client.receive()).unwrap();
    assert!(text.contains("\"key\":\"000\"") && !text.contains("\"key\":\"099\""));
    assert!(text.ends_with(&(chunk("{\"type\":\"compacted\",\"revision\":600}\n") + "0\r\n\r\n")), "{text}");
}

#[test]
fn streams_end_well_wherever_the_reader_stopped_and_hung_up() {
    for window in 1..300 {
        let (server, handle) = server(Config::default());
        let mut sim = Sim::new(server);
        let client = sim.connect();
        client.window(window);
        client.read_limit(0);
        client.send(watch(EVENTS, "prefix=&since=100"));
        sim.run().unwrap();
        for value in ["1", "2", "3"] {
            put(&mut sim, &handle, "a", value);
        }
        client.shutdown_write();
        sim.run().unwrap();
        client.read_limit(usize::MAX);
        sim.run().unwrap();
        let text = String::from_utf8(client.receive()).unwrap();
        assert!(text.ends_with("\r\n0\r\n\r\n"), "{window}: {text}");
        assert_eq!(text.matches("event: put").count(), text.matches("}\n\n\r\n").count(), "{window}: {text}");
        nothing_is_left(&mut sim);
    }
}

#[test]
fn every_split_of_a_request_has_the_same_stream() {
    let request = watch("application/json;q=0.4, text/event-stream;q=0.5", "prefix=");
    let replayed = every_split(server_of_defaults, request.as_bytes());
    assert!(replayed.bytes.ends_with(b"9\r\nid: 100\n\n\r\n"));
}

#[test]
fn silence_of_any_length_has_its_bookmarks() {
    let (conversation, handle) = talk_in_process(config(|config| config.heartbeat = Duration::from_secs(1)));
    let bookmark = chunk("{\"type\":\"bookmark\",\"revision\":100}\n");
    let later = chunk("{\"type\":\"bookmark\",\"revision\":101}\n");
    conversation
        .client(watch(LINES, "prefix=a"))
        .server(stream_head(LINES) + &bookmark)
        .wait(Duration::from_millis(3100))
        .server(bookmark.repeat(3))
        .with(|sim, _| {
            put(sim, &handle, "not concerned", "");
        })
        .wait_secs(1)
        .server(later)
        .end();
}

#[test]
fn a_reader_that_stalls_after_a_long_time_is_waited_for_and_then_given_up() {
    for request in [watch(LINES, "prefix="), get("/hello")] {
        let (server, handle) = server(Config::default());
        let mut sim = Sim::new(server);
        let client = sim.connect();
        client.send(request);
        sim.advance(Duration::from_secs(600)).unwrap();
        client.window(3);
        client.read_limit(0);
        put(&mut sim, &handle, "a", "1");
        let other = sim.connect();
        other.send(get("/ok/there"));
        other.shutdown_write();
        sim.run().unwrap();
        sim.advance(Duration::from_secs(59)).unwrap();
        assert!(!client.is_closed());
        sim.advance(Duration::from_secs(2)).unwrap();
        assert!(client.is_closed());
        nothing_is_left(&mut sim);
    }
}

#[test]
fn what_a_server_holds_is_told() {
    let (server, handle) = server(keeping(2));
    let mut sim = Sim::new(server);
    for value in ["1", "2", "3"] {
        put(&mut sim, &handle, "a", value);
    }
    let client = sim.connect();
    client.send(watch(LINES, "prefix=&since=101"));
    sim.run().unwrap();
    let usage = sim.server().usage();
    assert_eq!((usage.connections, usage.watchers, usage.writes), (1, 1, 0));
    assert_eq!(usage.log_changes, 2);
    assert!(usage.log_bytes > 0 && usage.encoded_bytes > 0);
    client.reset();
    sim.run().unwrap();
    assert_eq!((sim.server().usage().connections, sim.server().usage().watchers), (0, 0));
}
