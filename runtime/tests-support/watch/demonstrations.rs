//! What is there to try first, and what is there to operate.

use serde_json::json;

use super::client::Framing;
use super::process::Process;

#[test]
fn get_set_and_watch_with_a_timeout() {
    let server = Process::start();
    let mut client = server.connect();
    let revision = client.put("greeting", "hello");
    assert_eq!(client.get("/v1/kv/greeting").body, b"hello");

    let nothing = client.get("/v1/watch?key=greeting&wait=100ms");
    assert_eq!(nothing.json(), json!({"revision": revision, "events": []}));

    let mut watch = server.connect();
    watch.request("GET", &format!("/v1/watch?key=greeting&wait=60s&since={revision}"), &[], b"");
    let changed = client.put("greeting", "goodbye");
    let event = json!({
        "type": "put", "key": "greeting", "revision": changed, "createRevision": revision, "value": "goodbye"
    });
    assert_eq!(watch.response().json(), json!({"revision": changed, "events": [event]}));
}

#[test]
fn hello_tells_every_reader_who_said_ok() {
    let server = Process::start();
    let mut readers = [server.connect(), server.connect()];
    for reader in &mut readers {
        reader.request("GET", "/hello", &[], b"");
        let head = reader.head();
        assert_eq!((head.status, head.framing), (200, Framing::Chunked));
        assert_eq!(head.field("content-type"), Some("text/plain"));
        assert_eq!(head.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(reader.part().unwrap(), b"wait:\n");
    }
    let mut client = server.connect();
    for id in ["haha", "a%20b", "%C3%BC"] {
        let answer = client.get(&format!("/ok/{id}"));
        assert_eq!((answer.status, answer.text()), (200, "OK".into()));
    }
    for reader in &mut readers {
        let lines: Vec<u8> = (0..3).flat_map(|_| reader.part().unwrap()).collect();
        assert_eq!(String::from_utf8(lines).unwrap(), "id: haha\nid: a b\nid: ü\n");
    }
}

#[test]
fn ok_is_answered_with_no_reader_there_and_none_is_told_of_it_later() {
    let server = Process::start();
    let mut client = server.connect();
    assert_eq!(client.get("/ok/early").text(), "OK");
    assert_eq!(client.call("POST", "/ok/early", &[], b"").text(), "OK");
    client.request("GET", "/hello", &[], b"");
    client.head();
    server.connect().get("/ok/late");
    assert_eq!([client.part().unwrap(), client.part().unwrap()].concat(), b"wait:\nid: late\n");
}

#[test]
fn an_id_that_is_no_line_is_refused() {
    let server = Process::start();
    let mut client = server.connect();
    for id in ["", "a%0Ab", "%00", "%ff", &"x".repeat(1025)] {
        assert_eq!(client.get(&format!("/ok/{id}")).refused(), 400, "{id}");
    }
}

#[test]
fn count_ends_and_the_connection_is_used_again() {
    let server = Process::start();
    let mut client = server.connect();
    client.request("GET", "/count", &[], b"");
    assert_eq!(client.head().framing, Framing::Chunked);
    let chunks: Vec<Vec<u8>> = std::iter::from_fn(|| client.part()).collect();
    assert_eq!(chunks, [b"world1\n", b"world2\n", b"world3\n", b"world4\n"]);
    // On the same connection: the client has no other.
    assert_eq!(client.get("/healthz").text(), "ok\n");
}

#[test]
fn operations_are_answered() {
    let server = Process::start();
    let mut client = server.connect();
    assert_eq!(client.get("/healthz").text(), "ok\n");
    assert_eq!(client.get("/readyz").text(), "ready\n");
    client.put("a", "1");
    let metrics = client.get("/metrics");
    assert!(metrics.field("content-type").unwrap().starts_with("application/openmetrics-text"));
    let metrics = metrics.text();
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(metrics.contains("keys 1\n"), "{metrics}");
}

#[test]
fn the_page_is_whole_and_runs_nothing_from_elsewhere() {
    let server = Process::start();
    let page = server.connect().get("/");
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.field("content-security-policy").unwrap().contains("default-src 'none'"));
    assert!(page.text().trim_end().ends_with("</html>"));
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    let server = Process::start();
    let mut client = server.connect();
    client.put("a", "value");
    for target in ["/", "/healthz", "/readyz", "/v1/kv/a", "/v1/kv", "/hello", "/count"] {
        let head = client.call("HEAD", target, &[], b"");
        assert_eq!((head.status, &*head.body), (200, &b""[..]), "{target}");
        assert!(head.field("content-type").is_some(), "{target}");
    }
    // Had one sent a body, this would not be an answer.
    let (head, get) = (client.call("HEAD", "/v1/kv/a", &[], b""), client.get("/v1/kv/a"));
    for field in ["content-length", "content-type", "etag"] {
        assert_eq!(head.field(field), get.field(field), "{field}");
    }
}
