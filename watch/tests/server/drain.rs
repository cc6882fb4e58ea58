//! Drains: every kind of connection hears a farewell of its own, spread over the time, and nothing is cut.

use std::time::Duration;

use keepwatch_protocol::Server;
use keepwatch_protocol::websocket::Opcode;
use keepwatch_sim::{Client, Sim};
use keepwatch_watch::{Config, WatchServer};

use crate::support::{UPGRADE, UPGRADED, closes, get, masked, nothing_is_left, put, request, server};

fn came(client: &Client) -> String {
    String::from_utf8_lossy(&client.receive()).into_owned()
}

#[test]
fn an_idle_connection_is_ended_and_a_request_under_way_is_answered() {
    let (server, _handle) = server(Config::default());
    let mut sim = Sim::new(server);
    let clients: Vec<_> = (0..8).map(|_| sim.connect()).collect();
    let [idle, poll, lines, events, hello, socket, upload, head] = &clients[..] else { unreachable!() };
    idle.send(get("/healthz"));
    poll.send(get("/v1/watch?prefix="));
    lines.send(request("GET", "/v1/watch?prefix=&since=100", "Accept: application/x-ndjson\r\n"));
    events.send(request("GET", "/v1/watch?prefix=&since=100", "Accept: text/event-stream\r\n"));
    hello.send(get("/hello"));
    socket.send(request("GET", "/v1/watch?prefix=&since=100", UPGRADE));
    upload.send("PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n");
    head.send("GET /v1/watch?prefix= HTTP/1.1\r\nHo");
    sim.run().unwrap();
    let heads: Vec<String> = clients.iter().map(came).collect();
    let mut told = false;
    let took = drain_with(&mut sim, Duration::from_secs(10), |now| {
        if now >= Duration::from_secs(1) && !told {
            told = true;
            // All have heard their farewell; these go on with what they had begun.
            upload.send("v".repeat(20_000));
            head.send("st: x\r\n\r\n");
            socket.send(masked(Opcode::Close, &1001u16.to_be_bytes()));
        }
        for client in clients.iter().filter(|client| client.is_ended()) {
            client.shutdown_write();
        }
    });
    let left: Vec<_> = clients.iter().filter(|client| !client.is_closed()).map(Client::number).collect();
    assert!(took < Duration::from_secs(9), "{took:?}, {left:?} {:?} {}", came(upload), upload.is_ended());
    assert!(heads[0].ends_with("ok\n") && came(idle).is_empty() && idle.is_ended());
    let poll = came(poll);
    assert!(
        poll.contains("\r\nConnection: close\r\n") && poll.ends_with("{\"revision\":100,\"events\":[]}\n"),
        "{poll}"
    );
    assert_eq!((came(lines).as_str(), came(hello).as_str()), ("0\r\n\r\n", "0\r\n\r\n"));
    let events = came(events);
    let retry: u64 = events.lines().nth(1).unwrap().strip_prefix("retry: ").unwrap().parse().unwrap();
    assert!((2_000..=10_000).contains(&retry) && events.ends_with("\n\n\r\n0\r\n\r\n"), "{events}");
    assert_eq!(socket.receive(), closes(1001, "the server is going away"));
    let upload = came(upload);
    assert!(
        upload.starts_with("HTTP/1.1 201 Created\r\n") && upload.contains("Connection: close"),
        "{upload}"
    );
    // Its watch began after its farewell was due.
    let head = came(head);
    assert!(head.contains("Connection: close\r\n") && head.ends_with("\"events\":[]}\n"), "{head}");
    assert!(heads[5].starts_with(UPGRADED) && heads[5].ends_with(r#"{"type":"bookmark","revision":100}"#));
    nothing_is_left(&mut sim);
}

/// Drains, and calls this at every moment at which something happens. Returns how long it took.
fn drain_with(sim: &mut Sim<WatchServer>, grace: Duration, mut each: impl FnMut(Duration)) -> Duration {
    let start = sim.now().instant;
    let now = sim.now();
    sim.server_mut().drain(start + grace, now);
    loop {
        let now = sim.now().instant.since(start);
        each(now);
        sim.run().unwrap();
        if sim.driver().connections() == 0 || now > grace {
            return now;
        }
        sim.advance(Duration::from_millis(100)).unwrap();
    }
}

#[test]
fn farewells_are_spread() {
    let (server, handle) = server(Config::default());
    let mut sim = Sim::new(server);
    put(&mut sim, &handle, "a", "");
    let clients: Vec<_> = (0..1000).map(|_| sim.connect()).collect();
    for client in &clients {
        client.send(request("GET", "/v1/watch?prefix=&since=101", "Accept: text/event-stream\r\n"));
    }
    sim.run().unwrap();
    let mut ends = Vec::new();
    drain_with(&mut sim, Duration::from_secs(5), |_| {
        let ended = clients.iter().filter(|client| client.is_ended()).count();
        clients.iter().filter(|client| client.is_ended()).for_each(Client::shutdown_write);
        ends.push(ended);
    });
    // A second for a thousand: about a tenth of them in each of ten steps.
    let most = ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(ends.last() == Some(&1000) && (80..200).contains(&most), "{ends:?}");
}

#[test]
fn nothing_is_left_behind() {
    let (server, _) = server(Config::default());
    let mut sim = Sim::new(server);
    let client = sim.connect();
    client.send(get("/v1/watch?prefix="));
    sim.run().unwrap();
    client.reset();
    sim.run().unwrap();
    nothing_is_left(&mut sim);
}
