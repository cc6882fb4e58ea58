//! Routes that answer at once: values, lists, the demonstrations, operations.

use std::time::Duration;

use keepwatch_protocol::Server;
use keepwatch_protocol::websocket::Opcode;
use keepwatch_sim::{Client, Sim, SimConfig, Step, every_split};
use keepwatch_watch::{Config, WatchServer};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{
    UPGRADE, chunk, config, get, json, keeping, masked, nothing_is_left, put, put_request, request, says,
    server, server_of_defaults, talk, talk_in_process,
};

#[test]
fn a_value_is_put_got_and_deleted() {
    let value = "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Type: application/octet-stream\r\n\
        X-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\nETag: \"101\"\r\nContent-Length: 2\r\n\r\n";
    let sim = talk(Config::default())
        .client(put_request("app/a", "hi", ""))
        .server(json("201 Created", "ETag: \"101\"\r\n", r#"{"revision":101}"#))
        .client(put_request("app/a", "hi", ""))
        .server(json("200 OK", "ETag: \"101\"\r\n", r#"{"revision":101}"#))
        .client(get("/v1/kv/app%2Fa"))
        .server(format!("{value}hi"))
        .client(request("HEAD", "/v1/kv/app/a", ""))
        .server(value)
        .client(request("GET", "/v1/kv/app/a", "If-None-Match: \"101\"\r\n"))
        .server("HTTP/1.1 304 Not Modified\r\nDate: *\r\nETag: \"101\"\r\nCache-Control: no-cache\r\n\r\n")
        .client(request("DELETE", "/v1/kv/app/a", ""))
        .server(json("200 OK", "ETag: \"102\"\r\n", r#"{"revision":102}"#))
        .client(request("DELETE", "/v1/kv/app/a", ""))
        .server(json("404 Not Found", "", r#"{"error":"no such key"}"#))
        .client(get("/v1/kv/app/a"))
        .server(json(
            "404 Not Found",
            "Cache-Control: no-cache\r\n",
            r#"{"error":"no such key","revision":102}"#,
        ))
        .end();
    assert_eq!(sim.driver().connections(), 1);
}

#[test]
fn a_refused_write_says_what_stands_against_it() {
    let refused = |why: &str, revision: &str| {
        let (tag, member) = match revision {
            "" => (String::new(), String::new()),
            revision => (format!("ETag: \"{revision}\"\r\n"), format!(",\"revision\":{revision}")),
        };
        json("412 Precondition Failed", &tag, &format!("{{\"error\":\"{why}\"{member}}}"))
    };
    talk(Config::default())
        .client(put_request("a", "1", "If-Match: *\r\n"))
        .server(refused("the key does not exist", ""))
        .client(put_request("a", "1", "If-None-Match: *\r\n"))
        .server(json("201 Created", "ETag: \"101\"\r\n", r#"{"revision":101}"#))
        .client(put_request("a", "2", "If-None-Match: *\r\n"))
        .server(refused("the key exists", "101"))
        .client(put_request("a", "2", "If-None-Match: \"7\", W/\"101\"\r\n"))
        .server(refused("the key exists", "101"))
        .client(put_request("a", "2", "If-Match: \"100\"\r\n"))
        .server(refused("the key is at another revision", "101"))
        .client(request("DELETE", "/v1/kv/a", "If-Match: \"100\"\r\n"))
        .server(refused("the key is at another revision", "101"))
        .client(put_request("a", "2", "If-Match: \"100\", \"101\"\r\n"))
        .server(json("200 OK", "ETag: \"102\"\r\n", r#"{"revision":102}"#))
        .end();
}

#[test]
fn a_value_over_the_limit_is_413_and_a_key_over_it_is_told_to_the_process() {
    talk(config(|config| config.value_bytes = 4))
        .client("PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        .server("HTTP/1.1 413 Content Too Large\r\n*\r\n*\r\n*\r\nConnection: close\r\n\r\n*")
        .server_ends()
        .end();
    let (mut conversation, handle) = talk_in_process(Config::default());
    // The process may give any key, and a store says what it takes.
    conversation = conversation.with(|sim, _| {
        let pending = handle.put(&"k".repeat(2000), "v".as_bytes());
        sim.run().unwrap();
        assert!(matches!(pending.wait(), Ok(keepwatch_watch::store::Reply::Full { .. })));
    });
    conversation.end();
}

#[test]
fn a_store_that_is_full_takes_no_further_key() {
    let full = r#"{"error":"the store has no room for it"}"#;
    talk(config(|config| config.store.keys = 1))
        .client(put_request("a", "1", ""))
        .server(json("201 Created", "ETag: \"101\"\r\n", r#"{"revision":101}"#))
        .client(put_request("b", "1", ""))
        .server(json("507 Insufficient Storage", "", full))
        .client(put_request("a", "2", ""))
        .server(json("200 OK", "ETag: \"102\"\r\n", r#"{"revision":102}"#))
        .end();
}

#[test]
fn a_list_has_pages_at_one_revision() {
    let (conversation, handle) = talk_in_process(Config::default());
    let page = |body: &str| json("200 OK", "Cache-Control: no-cache\r\n", body);
    conversation
        .with(|sim, _| {
            put(sim, &handle, "a/1", "x");
            put(sim, &handle, "a/2.", [0xff]);
            put(sim, &handle, "b", "z");
        })
        .client(get("/v1/kv?prefix=a/&limit=1"))
        .server(page(r#"{"revision":103,"items":[{"key":"a/1","revision":101,"createRevision":101,"value":"x"}],"continue":"103.a/1"}"#))
        .with(|sim, _| {
            put(sim, &handle, "a/2.", "later");
        })
        .client(get("/v1/kv?prefix=a/&limit=1&continue=103.a/1"))
        .server(page(r#"{"revision":103,"items":[{"key":"a/2.","revision":102,"createRevision":102,"value64":"/w=="}]}"#))
        .client(get("/v1/kv?prefix=a/&continue=103.a/2."))
        .server(page(r#"{"revision":103,"items":[]}"#))
        .client(get("/v1/kv?continue=999.a"))
        .server(json("410 Gone", "Cache-Control: no-store\r\n", r#"{"error":"the newest revision is 104","revision":104}"#))
        .end();
}

#[test]
fn continue_with_odd_content_is_refused() {
    for token in
        ["", ".", "5", "5.", ".a", "-1.a", "+5.a", "5a.a", "99999999999999999999.a", "9007199254740992.a"]
    {
        talk(Config::default())
            .client(get(&format!("/v1/kv?continue={}", token.replace('+', "%2b"))))
            .server(json(
                "400 Bad Request",
                "",
                r#"{"error":"continue is what the page before this one said"}"#,
            ))
            .end();
    }
}

#[test]
fn values_of_all_sizes_come_whole_through_all_windows() {
    for size in [0, 1, 8191, 8192, 8193, 20_000] {
        for (window, writes) in [(1 << 20, vec![]), (100, vec![]), (1 << 20, vec![1]), (300, vec![150, 7])] {
            let (server, handle) = server(Config::default());
            let mut sim = Sim::new(server);
            put(&mut sim, &handle, "k", "v".repeat(size));
            let client = sim.connect();
            client.window(window);
            client.accept_in(&writes);
            client.read_limit(0);
            client.send(get("/v1/kv/k") + &request("HEAD", "/v1/kv/k", "") + &get("/healthz"));
            sim.run().unwrap();
            let mut came = Vec::new();
            while came.len() < size {
                client.read_limit(97);
                sim.run().unwrap();
                came.extend(client.receive());
            }
            client.read_limit(usize::MAX);
            sim.run().unwrap();
            came.extend(client.receive());
            let text = String::from_utf8(came).unwrap();
            let parts: Vec<_> = text.split("\r\n\r\n").collect();
            let length = format!("Content-Length: {size}");
            assert!(parts[0].ends_with(&length), "{size} {window}: {}", parts[0]);
            let (value, second) = parts[1].split_at(size);
            assert!(value.bytes().all(|byte| byte == b'v'), "{size} {window} {writes:?}");
            assert!(second.starts_with("HTTP/1.1 200 OK\r\n") && second.ends_with(&length), "{second}");
            assert!(parts[2].starts_with("HTTP/1.1 200 OK\r\n"), "{size} {window}");
            assert_eq!(parts[3], "ok\n");
        }
    }
}

#[test]
fn many_requests_at_once_are_answered_in_order_over_the_mark() {
    let (server, handle) = server(Config::default());
    let mut sim = Sim::new(server);
    for key in 0..4 {
        put(&mut sim, &handle, &key.to_string(), key.to_string().repeat(8000));
    }
    let client = sim.connect();
    client.window(1000);
    let requests: String = (0..400).map(|index| get(&format!("/v1/kv/{}", index % 4))).collect();
    client.send(requests);
    sim.run().unwrap();
    let text = String::from_utf8(client.receive()).unwrap();
    let bodies: Vec<_> = text.split("\r\n\r\n").skip(1).map(|part| &part[..1]).collect();
    assert_eq!(bodies.concat(), "0123".repeat(100));
}

/// A server with so many watchers of everything, who were told that they watch.
fn with_watchers(count: usize) -> (Sim<WatchServer>, Vec<Client>) {
    let mut config = SimConfig::default();
    config.trace_steps = 100_000;
    let mut sim = Sim::with_config(server_of_defaults(), config);
    let watch = request("GET", "/v1/watch?prefix=", "Accept: application/x-ndjson\r\n");
    let clients: Vec<_> = (0..count).map(|_| sim.connect()).collect();
    for client in &clients {
        client.send(&watch);
    }
    sim.run().unwrap();
    for client in &clients {
        client.receive();
    }
    (sim, clients)
}

/// To whom it was written from that step on, in order.
fn written(sim: &Sim<WatchServer>, from: usize) -> Vec<usize> {
    let to = |step: &Step| match step {
        Step::Write { client, .. } => Some(*client),
        _ => None,
    };
    sim.trace().steps()[from..].iter().filter_map(to).collect()
}

#[test]
fn pipelined_writes_are_told_in_one_write() {
    let (mut sim, watchers) = with_watchers(3);
    let writer = sim.connect();
    let writes: String = (0..16).map(|number| put_request("a", &number.to_string(), "")).collect();
    let before = sim.trace().steps().len();
    writer.send(&writes);
    sim.run().unwrap();
    let answers = String::from_utf8(writer.receive()).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 20").count(), 16);
    for watcher in watchers {
        let told = String::from_utf8(watcher.receive()).unwrap();
        assert_eq!(told.matches(r#""type":"put""#).count(), 16);
    }
    assert_eq!(written(&sim, before).len(), 4);
}

#[test]
fn more_pipelined_writes_than_are_decided_at_once_are_answered_all_the_same() {
    let (mut sim, watchers) = with_watchers(1);
    let writer = sim.connect();
    let writes: String = (0..100).map(|number| put_request("a", &number.to_string(), "")).collect();
    writer.send(&writes);
    sim.run().unwrap();
    let answers = String::from_utf8(writer.receive()).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 20").count(), 100);
    let told = String::from_utf8(watchers[0].receive()).unwrap();
    assert_eq!(told.matches(r#""type":"put""#).count(), 100);
}

#[test]
fn a_write_is_answered_before_everyone_was_told_of_it() {
    let (mut sim, _watchers) = with_watchers(1_000);
    let writer = sim.connect();
    sim.run().unwrap();
    let before = sim.trace().steps().len();
    writer.send(put_request("a", "1", ""));
    sim.run().unwrap();
    let position = written(&sim, before).iter().position(|client| *client == 1_000);
    assert!(position < Some(10), "it was answered behind {position:?} deliveries");
}

#[test]
fn a_list_larger_than_a_piece_is_chunks_and_breaks_off_when_its_revision_is_gone() {
    let (server, handle) = server(keeping(50));
    let mut sim = Sim::new(server);
    for key in 0..40 {
        put(&mut sim, &handle, &format!("{key:02}"), "v".repeat(2000));
    }
    let whole = sim.connect();
    whole.send(get("/v1/kv"));
    sim.run().unwrap();
    let text = String::from_utf8(whole.receive()).unwrap();
    assert!(text.contains("Transfer-Encoding: chunked\r\n") && text.ends_with("\r\n0\r\n\r\n"));
    assert!((0..40).all(|key| text.contains(&format!("\"key\":\"{key:02}\""))));

    let slow = sim.connect();
    slow.window(100);
    slow.read_limit(0);
    slow.send(get("/v1/kv"));
    sim.run().unwrap();
    for _ in 0..60 {
        let value = sim.now().unix.0.to_string() + &handle_counter();
        put(&mut sim, &handle, "x", value);
    }
    slow.read_limit(usize::MAX);
    sim.run().unwrap();
    let text = String::from_utf8(slow.receive()).unwrap();
    assert!(!text.ends_with("0\r\n\r\n") && slow.is_ended(), "broken off");
    assert!(!text.contains("\"key\":\"39\""));
    whole.shutdown_write();
    sim.run().unwrap();
    nothing_is_left(&mut sim);
}

/// Another text at each call.
fn handle_counter() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string()
}

#[test]
fn hello_reaches_every_reader_and_ok_needs_none() {
    let head = "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Type: text/plain\r\nX-Content-Type-Options: nosniff\r\n\
        Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Type: text/plain; charset=utf-8\r\n\
        X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nOK";
    let mut sim = talk(Config::default())
        .client(get("/ok/nobody"))
        .server(ok)
        .speaker("reader")
        .client(get("/hello"))
        .server(head)
        .server(chunk("wait:\n"))
        .speaker("client")
        .client(get("/ok/haha") + &get("/ok/%C3%A9"))
        .server(format!("{ok}{ok}"))
        .speaker("reader")
        .server(chunk("id: haha\n"))
        .server(chunk("id: \u{e9}\n"))
        .client_ends()
        .server("0\r\n\r\n")
        .server_ends()
        .speaker("client")
        .client_ends()
        .server_closes()
        .end();
    nothing_is_left(&mut sim);
}

#[test]
fn count_says_a_line_a_second_and_the_connection_goes_on() {
    talk(Config::default())
        .client(get("/count") + &get("/healthz"))
        .server("HTTP/1.1 200 OK\r\n*\r\n*\r\n*\r\n*\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nworld1\n\r\n")
        .wait(std::time::Duration::from_millis(1004))
        .server(chunk("world2\n"))
        .wait_secs(1)
        .server(chunk("world3\n"))
        .wait_secs(1)
        .server(chunk("world4\n"))
        .server("0\r\n\r\nHTTP/1.1 200 OK\r\n*\r\n*\r\n*\r\n*\r\n\r\nok\n")
        .end();
}

#[test]
fn head_has_no_body_on_any_path() {
    for path in [
        "/",
        "/hello",
        "/count",
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/kv",
        "/v1/kv/none",
        "/v1/watch?prefix=",
        "/ok/a",
        "/none",
    ] {
        let (server, _) = server(Config::default());
        let mut sim = Sim::new(server);
        let client = sim.connect();
        client.send(request("HEAD", path, ""));
        sim.run().unwrap();
        let text = String::from_utf8(client.receive()).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 ") && text.find("\r\n\r\n") == Some(text.len() - 4),
            "{path}: {text}"
        );
        client.shutdown_write();
        sim.run().unwrap();
        assert!(client.is_closed());
        nothing_is_left(&mut sim);
    }
}

#[test]
fn a_wrong_version_of_websocket_is_426_with_the_right_one() {
    let upgrade = UPGRADE.replace("Version: 13", "Version: 8");
    talk(Config::default())
        .client(request("GET", "/v1/watch", &upgrade))
        .server("HTTP/1.1 426 Upgrade Required\r\nDate: *\r\nContent-Type: application/json\r\n\
            Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nContent-Length: *\r\nConnection: upgrade\r\n\r\n\
            {\"error\":\"WebSocket version 13 is needed\"}\n")
        .client(get("/healthz"))
        .server("HTTP/1.1 200 OK\r\n*\r\n*\r\n*\r\n*\r\n\r\nok\n")
        .end();
}

#[test]
fn a_connection_too_many_is_told_to_come_later() {
    talk(config(|config| config.connections = 1))
        .speaker("second")
        .server(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 44\r\n\
            Retry-After: 10\r\nConnection: close\r\n\r\n{\"error\":\"too many connections: try later\"}\n",
        )
        .server_ends()
        .client_ends()
        .server_closes()
        .speaker("client")
        .client_ends()
        .server_closes()
        .speaker("third")
        .client(get("/healthz"))
        .server("HTTP/1.1 200 OK\r\n*\r\n*\r\n*\r\n*\r\n\r\nok\n")
        .end();
}

#[test]
fn the_same_requests_have_the_same_answers_at_every_split() {
    let requests = [
        put_request("a", "one", ""),
        get("/v1/kv/a"),
        put_request("a", "two", "If-Match: \"101\"\r\n"),
        "PUT /v1/kv/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            .to_owned(),
        request("GET", "/v1/watch?prefix=&since=100&wait=1s", ""),
        get("/v1/kv?limit=1"),
        get("/v1/watch?since=5&key=a"),
        get("/v1/watch"),
        request("GET", "/v1/watch?prefix=&since=100", "Accept: text/event-stream\r\n"),
    ];
    let replayed = every_split(server_of_defaults, requests.concat().as_bytes());
    let text = String::from_utf8(replayed.bytes).unwrap();
    assert_eq!(text.matches("HTTP/1.1 ").count(), requests.len());
    assert!(!replayed.ended);
}

/// What a client may say, sensibly or not.
fn utterance() -> impl Strategy<Value = Vec<u8>> {
    let lines = vec![
        "GET / HTTP/1.1",
        "HEAD /hello HTTP/1.1",
        "GET /hello HTTP/1.0",
        "GET /count HTTP/1.1",
        "GET /count HTTP/1.0",
        "POST /ok/a HTTP/1.1",
        "GET /ok/b HTTP/1.1",
        "GET /metrics HTTP/1.0",
        "OPTIONS * HTTP/1.1",
        "CONNECT x:80 HTTP/1.1",
        "TRACE / HTTP/1.1",
        "PUT /v1/kv/a HTTP/1.1",
        "PUT /v1/kv/b HTTP/1.0",
        "PUT /v1/kv/ HTTP/1.1",
        "DELETE /v1/kv/a HTTP/1.1",
        "GET /v1/kv/big HTTP/1.1",
        "HEAD /v1/kv/big HTTP/1.1",
        "GET /v1/kv?limit=1 HTTP/1.1",
        "GET /v1/kv HTTP/1.0",
        "GET http://x/v1/kv HTTP/1.1",
        "GET /v1/watch?prefix= HTTP/1.1",
        "GET /v1/watch?prefix=&since=100 HTTP/1.1",
        "GET /v1/watch HTTP/1.1",
        "GET /v1/watch?key=a&wait=0s HTTP/1.1",
        "GET /v1/watch?prefix=&initial=true HTTP/1.1",
        "GET /v1/watch?prefix=&initial=true&since=1 HTTP/1.0",
        "GET /v1/watch?key=a&since=5 HTTP/1.1",
    ];
    let fields = vec![
        "",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 99999999\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "Accept: text/event-stream\r\n",
        "Accept: application/x-ndjson\r\n",
        "If-None-Match: *\r\n",
        "If-Match: \"101\"\r\n",
        "Origin: http://evil\r\n",
        "Last-Event-ID: 7\r\n",
        UPGRADE,
        "Upgrade: websocket\r\nConnection: upgrade\r\n",
        "Upgrade: h2c\r\nConnection: upgrade\r\n",
        "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 7\r\n",
    ];
    let bodies = vec!["", "abc", "3\r\nabc\r\n0\r\n\r\n", "0\r\n\r\n", "\r\n", "x"];
    let messages = vec![
        says(r#"{"op":"put","id":1,"key":"a","value":"x"}"#),
        says(r#"{"op":"watch","id":1,"prefix":"","initial":true}"#),
        says(r#"{"op":"cancel","id":1}"#),
        says(r#"{"op":"list","id":1}"#),
        says("["),
        masked(Opcode::Ping, b"x"),
        masked(Opcode::Binary, b"x"),
        masked(Opcode::Close, &[3, 232]),
    ];
    prop_oneof![
        4 => (select(lines), prop::collection::vec(select(fields), 0..3), select(bodies))
            .prop_map(|(line, fields, body)| format!("{line}\r\nHost: x\r\n{}\r\n{body}", fields.concat()).into_bytes()),
        3 => select(messages),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_said_nothing_is_left_of_it(
        said in prop::collection::vec((utterance(), 0..40u64), 1..8),
        window in select(vec![3usize, 500, 1 << 20]),
        how in 0..4,
    ) {
        let (server, handle) = server(keeping(4));
        let mut sim = Sim::new(server);
        put(&mut sim, &handle, "big", "v".repeat(9000));
        let client = sim.connect();
        client.window(window);
        for (bytes, seconds) in said {
            client.send(bytes);
            sim.run().unwrap();
            put(&mut sim, &handle, "tick", handle_counter());
            sim.advance(Duration::from_secs(seconds)).unwrap();
        }
        match how {
            0 => client.reset(),
            1 => client.shutdown_write(),
            2 => client.read_limit(0),
            _ => {
                let now = sim.now();
                sim.server_mut().drain(now.instant + Duration::from_secs(1), now);
            }
        }
        sim.advance(Duration::from_secs(1)).unwrap();
        put(&mut sim, &handle, "tick", "the last");
        sim.advance(Duration::from_secs(3600)).unwrap();
        client.reset();
        sim.run().unwrap();
        nothing_is_left(&mut sim);
    }
}

#[test]
fn a_peer_whose_requests_are_not_taken_yet_is_not_idle() {
    let (server, handle) = server(Config::default());
    let mut sim = Sim::new(server);
    put(&mut sim, &handle, "a", "x".repeat(8000));
    let client = sim.connect();
    client.window(1024);
    client.read_limit(0);
    client.send(get("/v1/kv/a").repeat(40));
    for _ in 0..250 {
        client.read_limit(100);
        sim.advance(Duration::from_secs(1)).unwrap();
    }
    client.read_limit(usize::MAX);
    client.window(10_000_000);
    sim.advance(Duration::from_secs(1)).unwrap();
    assert!(client.received() > 320_000, "{}", client.received());
}
