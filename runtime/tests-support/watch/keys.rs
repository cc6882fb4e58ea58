//! Keys: reads and writes over HTTP.

use std::time::Duration;

use serde_json::json;

use super::process::{Process, pause};
use super::watcher::{Transport, Watch, WebSocket, revision_of};

#[test]
fn a_key_is_put_read_and_deleted() {
    let server = Process::start();
    let mut client = server.connect();
    let put = client.call("PUT", "/v1/kv/app/a", &[], b"x");
    let revision = put.revision();
    assert_eq!((put.status, put.json()), (201, json!({"revision": revision})));
    let tag = format!("\"{revision}\"");
    assert_eq!(put.field("etag"), Some(&*tag));

    let got = client.get("/v1/kv/app/a");
    assert_eq!((got.status, &*got.body), (200, &b"x"[..]));
    assert_eq!(got.field("etag"), Some(&*tag));
    assert_eq!(got.field("content-type"), Some("application/octet-stream"));
    assert_eq!(got.field("x-content-type-options"), Some("nosniff"));

    let again = client.call("PUT", "/v1/kv/app/a", &[], b"y");
    assert_eq!(again.status, 200);
    assert!(again.revision() > revision);

    let deleted = client.call("DELETE", "/v1/kv/app/a", &[], b"");
    assert_eq!(deleted.status, 200);
    assert!(deleted.revision() > again.revision());
    assert_eq!(client.get("/v1/kv/app/a").refused(), 404);
    assert_eq!(client.call("DELETE", "/v1/kv/app/a", &[], b"").refused(), 404);
}

#[test]
fn revisions_are_microseconds_that_javascript_reads_exactly() {
    let server = Process::start();
    let mut client = server.connect();
    let first = client.put("a", "1");
    assert!((1_600_000_000_000_000..1 << 53).contains(&first), "{first}");
}

#[test]
fn a_server_that_is_started_again_does_not_repeat_revisions() {
    let before = Process::start().connect().put("a", "1");
    pause(Duration::from_millis(2)); // the clock has to move on by more than was written
    assert!(Process::start().connect().put("a", "1") > before);
}

#[test]
fn any_bytes_are_a_value() {
    let server = Process::start();
    let mut client = server.connect();
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let large: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for value in [&b""[..], b"\r\n0\r\n\r\n", &all, &large[..8193], &large] {
        client.put("a", value);
        let got = client.get("/v1/kv/a");
        assert!(got.body == value, "{} bytes of {}", got.body.len(), value.len());
    }
}

#[test]
fn a_value_may_come_in_chunks() {
    let server = Process::start();
    let mut client = server.connect();
    client.send("PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("4\r\nkeep\r\n5;x=\"y\"\r\nwatch\r\n0\r\nX-Trailer: 1\r\n\r\n");
    assert_eq!(client.response().status, 201);
    assert_eq!(client.get("/v1/kv/a").body, b"keepwatch");
}

#[test]
fn the_same_value_again_is_no_change() {
    let server = Process::start();
    let mut client = server.connect();
    let revision = client.put("a", "same");
    let mut watchers = Transport::ALL.map(|transport| server.watch(transport, &Watch::of("")));
    assert_eq!(client.put("a", "same"), revision);
    let after = client.put("b", "other");
    for watcher in &mut watchers {
        assert_eq!(revision_of(&watcher.change()), after);
    }
}

#[test]
fn a_value_that_the_client_has_is_304() {
    let server = Process::start();
    let mut client = server.connect();
    let (old, new) = (client.put("a", "1"), client.put("a", "2"));
    for (tags, status) in [
        (format!("\"{new}\""), 304),
        (format!("W/\"{new}\""), 304),
        (format!("\"{old}\", \"{new}\""), 304),
        ("*".into(), 304),
        (format!("\"{old}\""), 200),
        ("\"made-up\"".into(), 200),
    ] {
        let got = client.call("GET", "/v1/kv/a", &[&format!("If-None-Match: {tags}")], b"");
        assert_eq!(got.status, status, "{tags}");
        assert_eq!(got.field("etag"), Some(&*format!("\"{new}\"")));
        assert_eq!(got.body, if status == 200 { &b"2"[..] } else { b"" });
    }
}

#[test]
fn a_write_can_ask_for_the_revision_that_it_replaces() {
    let server = Process::start();
    let mut client = server.connect();
    let first = client.put("a", "1");
    let second = client.put("a", "2");
    let old = format!("If-Match: \"{first}\"");
    for method in ["PUT", "DELETE"] {
        let refused = client.call(method, "/v1/kv/a", &[&old], b"");
        assert_eq!(refused.refused(), 412, "{method}");
        // So that the client can go on from there without another read.
        assert_eq!(refused.revision(), second);
        assert_eq!(refused.field("etag"), Some(&*format!("\"{second}\"")));
    }
    let third = client.call("PUT", "/v1/kv/a", &[&format!("If-Match: \"{second}\"")], b"3");
    assert_eq!(third.status, 200);
    let gone = client.call("DELETE", "/v1/kv/a", &[&format!("If-Match: \"{}\"", third.revision())], b"");
    assert_eq!(gone.status, 200);
}

#[test]
fn a_write_can_ask_for_a_key_to_be_there_or_not() {
    let server = Process::start();
    let mut client = server.connect();
    let mut put = |field: &str, body: &[u8]| client.call("PUT", "/v1/kv/a", &[field], body).status;
    assert_eq!(put("If-Match: *", b"0"), 412);
    assert_eq!(put("If-None-Match: *", b"1"), 201);
    assert_eq!(put("If-None-Match: *", b"2"), 412);
    assert_eq!(put("If-Match: *", b"3"), 200);
    assert_eq!(client.get("/v1/kv/a").body, b"3");
}

#[test]
fn a_key_is_decoded_once() {
    let server = Process::start();
    let mut client = server.connect();
    for (path, key) in [
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("%2541", "%41"),
        ("a%2Fb", "a/b"),
        ("a//b/", "a//b/"),
        ("%C3%BC", "ü"),
        ("..%2f..", "../.."),
        ("%00%0D%0A", "\0\r\n"),
    ] {
        client.put(path, "x");
        let list = client.get("/v1/kv").json();
        assert_eq!(list["items"][0]["key"], key, "{path}");
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{path}");
        client.delete(path);
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let server = Process::start();
    let mut client = server.connect();
    for path in ["", "%", "%4", "%zz", "%+1", "%ff", "%C3", "%ED%A0%80", &"x".repeat(1025)] {
        for method in ["GET", "PUT", "DELETE"] {
            assert_eq!(client.call(method, &format!("/v1/kv/{path}"), &[], b"").refused(), 400, "{path:?}");
        }
    }
    client.put(&"x".repeat(1024), "the longest");
}

#[test]
fn a_part_of_a_value_is_not_put_as_the_whole() {
    let server = Process::start();
    let put = server.connect().call("PUT", "/v1/kv/a", &["Content-Range: bytes 0-0/2"], b"x");
    assert_eq!(put.refused(), 400);
    assert_eq!(server.connect().get("/v1/kv/a").status, 404);
}

#[test]
fn pages_of_other_origins_cannot_write() {
    let server = Process::start();
    for origin in ["http://example.org", "null", "https://127.0.0.1", "http://127.0.0.1:1"] {
        let origin = format!("Origin: {origin}");
        assert_eq!(server.connect().call("PUT", "/v1/kv/a", &[&origin], b"x").refused(), 403, "{origin}");
        assert_eq!(server.connect().call("DELETE", "/v1/kv/a", &[&origin], b"").refused(), 403, "{origin}");
        assert_eq!(server.connect().call("POST", "/ok/a", &[&origin], b"").refused(), 403, "{origin}");
        let refused = WebSocket::try_open(server.connect(), "/v1/watch", &[&origin]).err().unwrap();
        assert_eq!(refused.refused(), 403, "{origin}");
    }
    assert_eq!(server.connect().get("/v1/kv/a").status, 404);
}

#[test]
fn pages_of_its_own_origin_can_write() {
    let server = Process::start();
    let mut client = server.connect();
    let origin = format!("Origin: http://{}", server.address());
    assert_eq!(client.call("PUT", "/v1/kv/a", &[&origin], b"x").status, 201);
    assert!(WebSocket::try_open(server.connect(), "/v1/watch", &[&origin]).is_ok());
    assert_eq!(client.call("DELETE", "/v1/kv/a", &[&origin], b"").status, 200);
}
