//! Everything at once.

use std::time::Duration;

use serde_json::json;

use super::process::{Process, pause, spawn};
use super::watcher::{Transport, Watch, WebSocket, value_of};

const WRITERS: u64 = 20;
const EACH: u64 = 10;

#[test]
fn no_write_is_lost_and_none_is_seen_twice() {
    count_together(&Process::start());
}

#[test]
fn the_same_on_several_threads() {
    count_together(&Process::with(&["--threads", "3"]));
}

/// 20 writers count one key up, by HTTP and by WebSocket, each only over the revision that it has read; 7 watchers see every
/// number once and in order.
fn count_together(server: &Process) {
    let mut client = server.connect();
    client.put("counter", "0");
    let watchers = Transport::ALL.map(|transport| {
        let mut watcher = server.watch(transport, &Watch::of("count"));
        spawn(move || {
            for expected in 1..=WRITERS * EACH {
                assert_eq!(value_of(&watcher.change()), expected.to_string().into_bytes(), "{transport:?}");
            }
        })
    });
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let client = server.connect();
            spawn(move || if writer % 2 == 0 { count_by_http(client) } else { count_by_websocket(client) })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    for watcher in watchers {
        watcher.join().unwrap();
    }
    assert_eq!(client.get("/v1/kv/counter").text(), (WRITERS * EACH).to_string());
}

fn count_by_http(mut client: super::client::Client) {
    for _ in 0..EACH {
        loop {
            let current = client.get("/v1/kv/counter");
            let next = current.text().parse::<u64>().unwrap() + 1;
            let only_if = format!("If-Match: {}", current.field("etag").unwrap());
            let put = client.call("PUT", "/v1/kv/counter", &[&only_if], next.to_string().as_bytes());
            match put.status {
                200 => break,
                status => assert_eq!(status, 412),
            }
            pause(Duration::from_millis(1));
        }
    }
}

fn count_by_websocket(client: super::client::Client) {
    let mut socket = WebSocket::open(client, "/v1/watch");
    for _ in 0..EACH {
        loop {
            let current = socket.ask(&json!({"op": "get", "id": 1, "key": "counter"}));
            let next = current["value"].as_str().unwrap().parse::<u64>().unwrap() + 1;
            let put = socket.ask(&json!({
                "op": "put", "id": 2, "key": "counter", "value": next.to_string(), "ifRevision": current["revision"]
            }));
            if put["type"] == "result" {
                break;
            }
            assert_eq!(put["status"], 412, "{put}");
            pause(Duration::from_millis(1));
        }
    }
}
