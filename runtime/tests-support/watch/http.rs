//! HTTP that is unusual, and HTTP that is wrong.

use super::process::{Process, spawn};
use super::watcher::{Transport, Watch, revision_of};

#[test]
fn paths_that_are_not_there_are_404() {
    let server = Process::start();
    let mut client = server.connect();
    for path in ["/nothing", "/v1", "/v1/", "/v1/watch/", "/v2/kv/a", "//", "/hello/", "/ok", "/V1/kv"] {
        for method in ["GET", "PUT"] {
            assert_eq!(client.call(method, path, &[], b"").refused(), 404, "{method} {path}");
        }
    }
}

#[test]
fn a_method_that_a_path_does_not_have_is_405_and_those_it_has_are_named() {
    let server = Process::start();
    let mut client = server.connect();
    for (method, path, allowed) in [
        ("POST", "/v1/kv/a", "GET, HEAD, PUT, DELETE"),
        ("PATCH", "/v1/kv/a", "GET, HEAD, PUT, DELETE"),
        ("PUT", "/v1/kv", "GET, HEAD"),
        ("POST", "/v1/watch?prefix=", "GET"),
        ("PUT", "/hello", "GET, HEAD"),
        ("DELETE", "/count", "GET, HEAD"),
        ("PUT", "/ok/a", "GET, POST"),
        ("OPTIONS", "/", "GET, HEAD"),
        ("get", "/healthz", "GET, HEAD"),
    ] {
        let refused = client.call(method, path, &[], b"");
        assert_eq!(refused.refused(), 405, "{method} {path}");
        assert_eq!(refused.field("allow"), Some(allowed), "{method} {path}");
    }
}

#[test]
fn malformed_input_gets_its_status_and_closes_only_its_own_connection() {
    let server = Process::start();
    let mut watchers = Transport::STREAMS.map(|transport| server.watch(transport, &Watch::of("")));
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9000));
    let long_field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(17 << 10));
    let many_fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    let put = "PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\n";
    let cases: &[(&[u8], u16)] = &[
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        (&[put, "Content-Length: 1\r\nExpect: a miracle\r\n\r\n"].concat().into_bytes(), 417),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (long_target.as_bytes(), 414),
        (long_field.as_bytes(), 431),
        (many_fields.as_bytes(), 431),
        (&[put, "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"].concat().into_bytes(), 400),
        (&[put, "Content-Length: +1\r\n\r\nx"].concat().into_bytes(), 400),
        (&[put, "Content-Length: 99999999999999999999999\r\n\r\n"].concat().into_bytes(), 400),
        (&[put, "Content-Length: 1048577\r\n\r\n"].concat().into_bytes(), 413),
        (
            &[put, "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"].concat().into_bytes(),
            400,
        ),
        (&[put, "Transfer-Encoding: gzip, chunked\r\n\r\n"].concat().into_bytes(), 501),
        (&[put, "Transfer-Encoding: chunked\r\n\r\nx\r\n"].concat().into_bytes(), 400),
        (&[put, "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n"].concat().into_bytes(), 400),
        (&[put, "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"].concat().into_bytes(), 400),
    ];
    for (bytes, status) in cases {
        let mut client = server.connect();
        client.send(bytes);
        let answer = client.response();
        let about = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
        assert_eq!(answer.status, *status, "{about}");
        assert_eq!(answer.field("connection"), Some("close"), "{about}");
        client.expect_end();
    }
    let revision = server.connect().put("b", "still here");
    for watcher in &mut watchers {
        assert_eq!(revision_of(&watcher.change()), revision);
    }
    assert_eq!(server.connect().get("/v1/kv/a").status, 404, "nothing malformed was put");
}

#[test]
fn a_connection_is_used_for_many_requests() {
    let server = Process::start();
    let mut client = server.connect();
    let local = client.local();
    for n in 0..50 {
        client.put("a", n.to_string());
        assert_eq!(client.get("/v1/kv/a").body, n.to_string().into_bytes());
        assert_eq!(client.get("/v1/watch?key=a&wait=0s").status, 200);
        assert_eq!(client.get("/nothing").status, 404);
    }
    assert_eq!(client.local(), local);
}

#[test]
fn unusual_requests_are_understood() {
    let server = Process::start();
    let mut client = server.connect();
    for request in [
        "\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a:80/healthz HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /healthz? HTTP/1.1\r\nHOST:a\r\nX:\t y \t\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ] {
        client.send(request);
        assert_eq!(client.response().text(), "ok\n", "{request}");
    }
}

#[test]
fn an_expectation_that_is_not_met_ends_no_connection_without_a_body() {
    let server = Process::start();
    let mut client = server.connect();
    client.send(
        "GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\n\r\n\
         GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(client.response().status, 417);
    assert_eq!(client.response().text(), "ok\n");
}

#[test]
fn a_connection_that_is_to_be_closed_is() {
    let server = Process::start();
    for request in
        ["GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET /healthz HTTP/1.0\r\n\r\n"]
    {
        let mut client = server.connect();
        client.send(request);
        assert_eq!(client.response().text(), "ok\n");
        client.expect_end();
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_see_each_other() {
    let server = Process::start();
    let mut client = server.connect();
    let put = |value: &str| {
        format!("PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{value}", value.len())
    };
    let (get, delete) =
        ("GET /v1/kv/a HTTP/1.1\r\nHost: a\r\n\r\n", "DELETE /v1/kv/a HTTP/1.1\r\nHost: a\r\n\r\n");
    let large = "x".repeat(100_000);
    client.send([&put("1"), get, &put("2"), get, &put(&large), get, get, delete, get].concat());
    let answers: Vec<(u16, String)> =
        (0..9).map(|_| client.response()).map(|answer| (answer.status, answer.text())).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.0).collect();
    assert_eq!(statuses, [201, 200, 200, 200, 200, 200, 200, 200, 404]);
    for (index, value) in [(1, "1"), (3, "2"), (5, &large), (6, &large)] {
        assert!(answers[index].1 == value, "{index}");
    }
}

#[test]
fn hundreds_of_pipelined_requests_are_all_answered() {
    let server = Process::start();
    let mut client = server.connect();
    let requests: Vec<String> = (0..1000)
        .map(|n| format!("PUT /v1/kv/{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"))
        .collect();
    client.send(requests.concat());
    let revisions: Vec<u64> = (0..1000).map(|_| client.response().revision()).collect();
    assert!(revisions.is_sorted());
}

#[test]
fn a_request_behind_a_held_one_is_answered_behind_it() {
    let server = Process::start();
    let mut client = server.connect();
    let since = client.put("a", "1");
    client.send(format!("GET /v1/watch?key=a&since={since}&wait=60s HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.send("GET /v1/kv/a HTTP/1.1\r\nHost: a\r\n\r\n");
    server.connect().put("a", "2");
    assert_eq!(client.response().json()["events"][0]["value"], "2");
    assert_eq!(client.response().body, b"2");
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = Process::start();
    let mut client = server.connect();
    for byte in b"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    {
        client.send([*byte]);
    }
    assert_eq!(client.response().status, 201);
    assert_eq!(client.get("/v1/kv/a").body, b"abc");
}

#[test]
fn a_client_that_waits_to_continue_is_told_to() {
    let server = Process::start();
    let mut client = server.connect();
    client.send("PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().status, 100);
    client.send("value");
    assert_eq!(client.response().status, 201);
    assert_eq!(client.get("/v1/kv/a").body, b"value");
}

#[test]
fn a_client_that_waits_to_continue_is_refused_before_it_sends() {
    let server = Process::start();
    for (target, length, status) in
        [("/v1/kv/a", 2 << 20, 413), ("/v1/kv/%ff", 5, 400), ("/nothing", 5, 404), ("/v1/kv", 5, 405)]
    {
        let mut client = server.connect();
        client.send(format!(
            "PUT {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        ));
        assert_eq!(client.head().status, status, "{target}");
    }
}

#[test]
fn a_client_that_has_ended_its_side_is_answered() {
    let server = Process::start();
    let mut client = server.connect();
    client.put("a", "x".repeat(100_000));
    for (request, status) in [
        ("GET /v1/kv/a HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("PUT /v1/kv/b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 201),
        ("GET /v1/watch?prefix=&wait=0s HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ] {
        let mut client = server.connect();
        client.send(request);
        client.shut_down_writing();
        assert_eq!(client.response().status, status, "{request}");
        client.expect_end();
    }
    let mut client = server.connect();
    client.send("PUT /v1/kv/c HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx");
    client.shut_down_writing();
    assert_eq!(client.response().status, 400);
    client.expect_end();
    assert_eq!(server.connect().get("/v1/kv/c").status, 404, "half a value was put");
}

#[test]
fn a_held_poll_is_given_up_when_its_client_has_ended_its_side() {
    let server = Process::start();
    let mut client = server.connect();
    client.request("GET", "/v1/watch?prefix=&wait=60s", &[], b"");
    client.shut_down_writing();
    client.expect_end();
}

#[test]
fn a_stream_ends_cleanly_when_its_client_has_ended_its_side() {
    let server = Process::start();
    for (target, accept) in [
        ("/hello", "*/*"),
        ("/v1/watch?prefix=", "application/x-ndjson"),
        ("/v1/watch?prefix=", "text/event-stream"),
    ] {
        let mut client = server.connect();
        client.request("GET", target, &[&format!("Accept: {accept}")], b"");
        client.head();
        client.part();
        client.shut_down_writing();
        while client.part().is_some() {}
        client.expect_end();
    }
}

#[test]
fn an_early_413_reaches_a_client_that_is_still_uploading() {
    let server = Process::start();
    for framing in ["Content-Length: 16777216", "Transfer-Encoding: chunked"] {
        let mut client = server.connect();
        client.send(format!("PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        let part = [b"10000\r\n", &*vec![0; 65536], b"\r\n"].concat();
        for _ in 0..256 {
            client.send(&part);
        }
        assert_eq!(client.response().status, 413, "{framing}");
        client.shut_down_writing();
        client.expect_end();
    }
}

#[test]
fn clients_that_vanish_leave_the_others_alone() {
    let server = Process::start();
    let mut watcher = server.watch(Transport::Lines, &Watch::of(""));
    for transport in Transport::ALL {
        drop(server.watch(transport, &Watch::of("")));
    }
    let halves = ["GET / HT", "PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"];
    for half in halves {
        server.connect().send(half);
    }
    let mut client = server.connect();
    client.request("GET", "/v1/watch?prefix=&wait=60s", &[], b"");
    drop(client);
    let writers = [0, 1, 2].map(|n| {
        let mut client = server.connect();
        spawn(move || (0..20).map(|value| client.put("a", format!("{n} {value}"))).collect::<Vec<_>>())
    });
    let mut written: Vec<u64> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    written.sort_unstable();
    let seen: Vec<u64> = (0..60).map(|_| revision_of(&watcher.change())).collect();
    assert_eq!(seen, written);
}
