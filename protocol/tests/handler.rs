//! Servers made of a handler, in memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use keepwatch_protocol::handler::{Handler, HandlerConfig, HandlerServer, Request, Response, Socket};
use keepwatch_protocol::http1::StatusCode;
use keepwatch_protocol::websocket::{Close, CloseCode, Message};
use keepwatch_protocol::{ConnectionId, Input, Instant, Now, Peer, SendQueue, Server};
use keepwatch_sim::{Conversation, every_split};

/// Answers with what it was asked, greets each WebSocket, and echoes until it hears "bye".
#[derive(Default)]
struct Parrot {
    open: Vec<ConnectionId>,
}

impl Handler for Parrot {
    fn request(&mut self, request: Request<'_>) -> Response {
        match request.head.path() {
            "/bad" => Response::ok("x").with_field("Content-Length", "5"),
            "/none" => Response::new(StatusCode::NO_CONTENT),
            path => Response::ok([path.as_bytes(), b":", request.body].concat()).with_field("X-A", "b"),
        }
    }

    fn accepts_websocket(&mut self, request: Request<'_>) -> bool {
        request.head.path() == "/socket"
    }

    fn opened(&mut self, socket: &mut Socket<'_>) {
        self.open.push(socket.id());
        socket.send(Message::Text("hi")).unwrap();
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        if message.as_bytes() == b"bye" {
            socket.close(CloseCode::NORMAL, "as you say").unwrap();
        } else {
            socket.send(message).unwrap();
        }
    }

    fn closed(&mut self, id: ConnectionId, _: Close<'_>) {
        self.open.retain(|open| *open != id);
    }
}

fn parrot() -> HandlerServer<Parrot> {
    HandlerServer::new(Parrot::default())
}

const HANDSHAKE: &str = "Host: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\u{81}\u{2}hi";

fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| c as u8).collect()
}

#[test]
fn a_request_is_answered_when_it_is_whole() {
    Conversation::new(parrot())
        .client("POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .server("HTTP/1.1 100 Continue\r\n\r\n")
        .client("bo")
        .silence()
        .client("dy")
        .server("HTTP/1.1 200 OK\r\nDate: *\r\nX-A: b\r\nContent-Length: 7\r\n\r\n/a:body")
        .client(
            "HEAD /a HTTP/1.1\r\nHost: x\r\n\r\nGET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .server("HTTP/1.1 200 OK\r\nDate: *\r\nX-A: b\r\nContent-Length: 3\r\n\r\n")
        .server("HTTP/1.1 204 No Content\r\nDate: *\r\nConnection: close\r\n\r\n")
        .server_ends()
        .end();
}

#[test]
fn an_answer_that_is_none_becomes_a_500() {
    Conversation::new(parrot())
        .client("GET /bad HTTP/1.1\r\nHost: x\r\n\r\n")
        .server("HTTP/1.1 500 Internal Server Error\r\nDate: *\r\nContent-Length: 0\r\n\r\n")
        .end();
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let mut config = HandlerConfig::default();
    config.http.limits.body_bytes = 3;
    Conversation::new(HandlerServer::with_config(Parrot::default(), config))
        .client("PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
        .server("HTTP/1.1 413 Content Too Large\r\nDate: *\r\nContent-Type: application/json\r\nContent-Length: 29\r\nConnection: close\r\n\r\n{*}")
        .server_ends()
        .end();
}

#[test]
fn a_websocket_is_opened_heard_and_closed() {
    let mut sim = Conversation::new(parrot())
        .client(bytes(&format!("GET /socket HTTP/1.1\r\n{HANDSHAKE}\u{81}\u{81}\0\0\0\0?")))
        .server_bytes(bytes(&format!("{SWITCHED}\u{81}\u{1}?")))
        // In two fragments.
        .client(b"\x02\x81\0\0\0\0a\x80\x81\0\0\0\0b")
        .server_bytes(b"\x82\x02ab")
        .client(b"\x81\x83\0\0\0\0bye")
        .server_bytes(b"\x88\x0c\x03\xe8as you say")
        .client(b"\x88\x82\0\0\0\0\x03\xe8")
        .server_ends()
        .end();
    assert!(sim.server_mut().handler().open.is_empty());
}

#[test]
fn a_websocket_that_is_not_accepted_is_a_request() {
    Conversation::new(parrot())
        .client(format!("GET /other HTTP/1.1\r\n{HANDSHAKE}"))
        .server("HTTP/1.1 200 OK\r\nDate: *\r\nX-A: b\r\nContent-Length: 7\r\n\r\n/other:")
        .end();
}

/// A handler that only answers requests.
struct Plain;

impl Handler for Plain {
    fn request(&mut self, request: Request<'_>) -> Response {
        Response::ok(request.head.method())
    }
}

#[test]
fn a_handler_that_says_nothing_of_websockets_has_none() {
    Conversation::new(HandlerServer::new(Plain))
        .client(format!("GET / HTTP/1.1\r\n{HANDSHAKE}"))
        .server("HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 3\r\n\r\nGET")
        .end();
}

#[test]
fn no_tunnel_is_opened_whatever_the_handler_would_say() {
    Conversation::new(HandlerServer::new(Plain))
        .client("CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n")
        .server("HTTP/1.1 501 Not Implemented\r\nDate: *\r\nContent-Length: 0\r\n\r\n")
        .end();
}

/// Says how many seconds a WebSocket has been open, and sends other messages back as they are.
#[derive(Default)]
struct Clock(Instant);

impl Handler for Clock {
    fn request(&mut self, _: Request<'_>) -> Response {
        Response::new(StatusCode::NOT_FOUND)
    }

    fn accepts_websocket(&mut self, _: Request<'_>) -> bool {
        true
    }

    fn opened(&mut self, socket: &mut Socket<'_>) {
        self.0 = socket.now().instant;
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        if message.as_bytes() == b"time" {
            let seconds = socket.now().instant.since(self.0).as_secs().to_string();
            socket.send(Message::Text(&seconds)).unwrap();
        } else {
            socket.send_uncompressed(message).unwrap();
        }
    }
}

#[test]
fn a_handler_knows_the_time_and_may_send_without_compressing() {
    Conversation::new(HandlerServer::new(Clock::default()))
        .client(bytes(&format!("GET / HTTP/1.1\r\n{HANDSHAKE}")))
        .server_bytes(bytes(SWITCHED.strip_suffix("\u{81}\u{2}hi").unwrap()))
        .wait(Duration::from_secs(4))
        .client(b"\x81\x84\0\0\0\0time")
        .server_bytes(b"\x81\x014")
        .client(b"\x82\x81\0\0\0\0a")
        .server_bytes(b"\x82\x01a")
        .end();
}

#[test]
fn any_split_gives_the_same_answers() {
    let request = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    let replayed = every_split(
        parrot,
        &bytes(&format!("{request}GET /socket HTTP/1.1\r\n{HANDSHAKE}\u{81}\u{81}\0\0\0\0?")),
    );
    assert!(replayed.bytes.ends_with(b"\x81\x02hi\x81\x01?"));
}

#[test]
fn a_drain_closes_idle_connections_and_says_farewell_to_websockets() {
    let mut sim = Conversation::new(parrot())
        .client(format!("GET /socket HTTP/1.1\r\n{HANDSHAKE}"))
        .server_bytes(bytes(SWITCHED))
        .end();
    let idle = sim.connect();
    sim.run().unwrap();
    let took = sim.drain(Duration::from_secs(9)).unwrap();
    assert!(idle.is_closed());
    assert!(took >= Duration::from_secs(5), "the WebSocket's peer has that long to say farewell: {took:?}");
    assert!(sim.server_mut().handler().open.is_empty());
}

#[test]
fn silence_ends_a_connection() {
    Conversation::new(parrot()).wait(Duration::from_secs(11)).server_ends().end();
}

#[test]
fn a_drain_says_farewell_at_once() {
    let mut sim = Conversation::new(parrot())
        .client(format!("GET /socket HTTP/1.1\r\n{HANDSHAKE}"))
        .server_bytes(bytes(SWITCHED))
        .with(|sim, _| sim.start_drain(Duration::from_secs(9)))
        .server_bytes(b"\x88\x02\x03\xe9")
        .end();
    assert_eq!(sim.server_mut().handler().open.len(), 1, "its peer has not answered");
}

#[test]
fn a_drain_closes_an_idle_connection_at_once() {
    Conversation::new(parrot())
        .client("GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        .server("HTTP/1.1 204 No Content\r\nDate: *\r\n\r\n")
        .with(|sim, _| sim.start_drain(Duration::from_secs(9)))
        .server_ends()
        .end();
}

#[test]
fn a_peer_is_waited_for_while_it_does_not_wait_for_us() {
    let deadline_with = |mark| {
        let (mut server, now) = (parrot(), Now::default());
        let (id, mut out) = (ConnectionId::new(0, 0), SendQueue::new(mark));
        server.open(id, &Peer::default(), now);
        let mut request = b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
        server.receive(id, &mut Input::new(&mut request), &mut out, now);
        server.deadline()
    };
    assert!(deadline_with(1000) > Some(Instant::default() + Duration::from_secs(1)));
    assert_eq!(deadline_with(0), None, "the answer is over the mark");
}
