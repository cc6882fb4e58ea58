//! What a handler, or a server, that does not say otherwise does.
#![allow(clippy::unwrap_used, reason = "tests")]

use keepwatch_protocol::handler::{
    ClientHandler, Handler, HandlerServer, Request, Response, Socket, WebSocketClient, WebSocketClientConfig,
};
use keepwatch_protocol::http1::StatusCode;
use keepwatch_protocol::websocket::Message;
use keepwatch_protocol::{
    Admission, After, Closed, ConnectionId, Fill, Input, Leases, Now, Peer, SendQueue, Server, Slices,
};
use keepwatch_sim::{Client, Conversation, Sim};

const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Says only what a handler has to say.
struct Deaf {
    accepts: bool,
}

impl Handler for Deaf {
    fn request(&mut self, _: Request<'_>) -> Response {
        Response::new(StatusCode::NO_CONTENT)
    }

    fn accepts_websocket(&mut self, _: Request<'_>) -> bool {
        self.accepts
    }
}

#[test]
fn a_websocket_that_nobody_listens_to_is_open_and_closes() {
    let server = Conversation::new(HandlerServer::new(Deaf { accepts: true }))
        .client(HANDSHAKE)
        .server(SWITCHED)
        .client(b"\x81\x82\0\0\0\0hi")
        .silence()
        .client(b"\x89\x81\0\0\0\0?")
        .server_bytes(b"\x8a\x01?")
        .client(b"\x88\x82\0\0\0\0\x03\xe8")
        .server_bytes(b"\x88\x02\x03\xe8")
        .server_ends()
        .end();
    assert_eq!(server.driver().connections(), 1, "the client has not ended its side");
}

#[test]
fn a_handler_sees_no_trailers() {
    Conversation::new(HandlerServer::new(Deaf { accepts: false }))
        .client("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n")
        .server("HTTP/1.1 204 No Content\r\nDate: *\r\n\r\n")
        .end();
}

/// Answers every message with one that is not compressed, and is asked for again at once.
struct Plain;

impl Handler for Plain {
    fn request(&mut self, _: Request<'_>) -> Response {
        Response::new(StatusCode::NOT_FOUND)
    }

    fn accepts_websocket(&mut self, request: Request<'_>) -> bool {
        request.head.path() == "/"
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        socket.send_uncompressed(message).unwrap();
        socket.wake_at(socket.now().instant);
    }
}

#[test]
fn a_message_may_go_uncompressed_and_nobody_need_be_woken() {
    Conversation::new(HandlerServer::new(Plain))
        .client(HANDSHAKE)
        .server(SWITCHED)
        .client(b"\x81\x82\0\0\0\0hi")
        .server_bytes(b"\x81\x02hi")
        .wait_secs(1)
        .silence()
        .client(b"\x81\x82\0\0\0\0hi")
        .server_bytes(b"\x81\x02hi")
        .end();
}

/// Says nothing, and hears nothing.
struct Mute;

impl ClientHandler for Mute {}

fn asking(target: &str) -> (Sim<WebSocketClient<Mute>>, Client) {
    let config = WebSocketClientConfig::new("x", target);
    let mut sim = Sim::new(WebSocketClient::new(Mute, config, [7; 32]).unwrap());
    let server = sim.connect();
    sim.run().unwrap();
    (sim, server)
}

#[test]
fn a_client_that_nobody_speaks_for_answers_pings_and_the_close() {
    let mut served = Sim::new(HandlerServer::new(Deaf { accepts: true }));
    let to_server = served.connect();
    let (mut sim, to_client) = asking("/");
    to_server.send(to_client.receive());
    served.run().unwrap();
    to_client.send(to_server.receive());
    to_client.send(b"\x81\x02hi\x89\x00\x88\x02\x03\xe8");
    sim.run().unwrap();
    let said = to_client.receive();
    assert_eq!((said.len(), said[0], said[6]), (6 + 8, 0x8a, 0x88), "{said:x?}");
}

#[test]
fn a_client_that_nobody_speaks_for_takes_a_refusal_and_what_is_no_answer() {
    for answer in ["HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "no HTTP\r\n\r\n"] {
        let (mut sim, server) = asking("/none");
        server.send(answer);
        server.shutdown_write();
        sim.run().unwrap();
        assert_eq!(sim.driver().connections(), 0, "{answer}");
    }
}

#[test]
fn a_handler_comes_back_when_its_server_is_done() {
    let server = HandlerServer::new(Deaf { accepts: true });
    assert!(server.into_handler().accepts);
}

/// Lends the same few bytes again and again, and keeps no count of what was written.
struct Lends;

impl Server for Lends {
    fn open(&mut self, _: ConnectionId, _: &Peer, _: Now) -> Admission {
        Admission::Admit
    }

    fn receive(&mut self, _: ConnectionId, _: &mut Input<'_>, _: &mut SendQueue, _: Now) -> After {
        After::Open
    }

    fn resume(&mut self, _: ConnectionId, _: &mut SendQueue, _: Now) -> After {
        After::Open
    }

    fn fill<'a>(&'a mut self, _: ConnectionId, to: &mut Slices<'a>, _: Now) -> Fill {
        assert!(!to.has_room(1) || (to.push(b"some ") && to.push(b"bytes")));
        Fill::All
    }

    fn closed(&mut self, _: ConnectionId, _: Closed, _: Now) {}
}

#[test]
fn what_a_server_lends_for_a_moment_is_copied_where_it_has_to_last() {
    /// Notes its connections.
    struct Opened(Lends, Vec<ConnectionId>);
    impl Server for Opened {
        fn open(&mut self, id: ConnectionId, peer: &Peer, now: Now) -> Admission {
            self.1.push(id);
            self.0.open(id, peer, now)
        }
        fn receive(
            &mut self,
            id: ConnectionId,
            input: &mut Input<'_>,
            out: &mut SendQueue,
            now: Now,
        ) -> After {
            self.0.receive(id, input, out, now)
        }
        fn resume(&mut self, id: ConnectionId, out: &mut SendQueue, now: Now) -> After {
            self.0.resume(id, out, now)
        }
        fn closed(&mut self, id: ConnectionId, why: Closed, now: Now) {
            self.0.closed(id, why, now);
        }
    }
    let mut sim = Sim::new(Opened(Lends, Vec::new()));
    let _client = sim.connect();
    sim.run().unwrap();
    let Opened(server, ids) = sim.server_mut();
    let (id, now, mut leases) = (ids[0], Now::default(), Leases::new(100));
    assert_eq!(server.lease(id, &mut leases, now), Fill::All);
    assert_eq!(leases.parts().iter().map(|part| &**part).collect::<Vec<_>>(), [b"some bytes"]);
    assert_eq!(server.sent(id, 10, now), After::Open);
    let mut none = Leases::new(0);
    assert_eq!((server.lease(id, &mut none, now), none.is_empty()), (Fill::All, true));
}
