//! What handlers say of their own accord: to one WebSocket, to all, from other threads; in memory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Waker;
use std::time::Duration;

use keepwatch_protocol::ConnectionId;
use keepwatch_protocol::handler::{
    ClientHandler, Handler, HandlerServer, Request, Response, Socket, SocketError, WebSocketClient,
    WebSocketClientConfig,
};
use keepwatch_protocol::http1::StatusCode;
use keepwatch_protocol::websocket::handshake;
use keepwatch_protocol::websocket::{Close, Expired, Message, Prepared, SendError};
use keepwatch_sim::{Client, Sim};

/// A room: what one says, and what comes from outside, everyone gets, in order.
#[derive(Default)]
struct Room {
    waker: Option<Waker>,
    outside: Option<Receiver<String>>,
    said: Vec<Prepared>,
    /// How much of it each was sent.
    heard: BTreeMap<ConnectionId, usize>,
    due: VecDeque<ConnectionId>,
    woken: usize,
    failed: Vec<SocketError>,
}

impl Room {
    fn say(&mut self, message: Message<'_>) {
        self.said.push(Prepared::new(message));
        self.due = self.heard.keys().copied().collect();
    }
}

impl Handler for Room {
    fn start(&mut self, waker: &Waker) {
        self.waker = Some(waker.clone());
    }

    fn request(&mut self, _: Request<'_>) -> Response {
        Response::new(StatusCode::NOT_FOUND)
    }

    fn accepts_websocket(&mut self, request: Request<'_>) -> bool {
        assert_eq!(request.body, b"");
        self.heard.insert(request.id, self.said.len());
        true
    }

    fn opened(&mut self, socket: &mut Socket<'_>) {
        assert!(self.heard.contains_key(&socket.id()), "its request had the same id");
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        match message.as_bytes() {
            b"ping" => socket.ping(b"there?").unwrap(),
            b"later" => socket.wake_after(Duration::from_secs(1)),
            b"close" => socket.close(keepwatch_protocol::websocket::CloseCode::NORMAL, "").unwrap(),
            _ => self.say(message),
        }
    }

    fn woken(&mut self, socket: &mut Socket<'_>) {
        self.woken += 1;
        let heard = self.heard.get_mut(&socket.id()).unwrap();
        for message in &self.said[*heard..] {
            socket.send_prepared(message).unwrap();
        }
        *heard = self.said.len();
    }

    fn next_to_wake(&mut self) -> Option<ConnectionId> {
        while let Some(said) = self.outside.as_ref().and_then(|outside| outside.try_recv().ok()) {
            self.say(Message::Text(&said));
        }
        self.due.pop_front()
    }

    fn failed(&mut self, _: ConnectionId, error: SocketError) {
        self.failed.push(error);
    }

    fn closed(&mut self, id: ConnectionId, _: Close<'_>) {
        self.heard.remove(&id);
    }
}

const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn room() -> Sim<HandlerServer<Room>> {
    Sim::new(HandlerServer::new(Room::default()))
}

fn enter(sim: &mut Sim<HandlerServer<Room>>) -> Client {
    let client = sim.connect();
    client.send(HANDSHAKE);
    sim.run().unwrap();
    assert!(client.receive().starts_with(b"HTTP/1.1 101 "));
    client
}

fn say(sim: &mut Sim<HandlerServer<Room>>, client: &Client, text: &str) {
    client.send([&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat());
    sim.run().unwrap();
}

#[test]
fn what_one_says_all_hear_at_once() {
    let mut sim = room();
    let clients: Vec<Client> = (0..3).map(|_| enter(&mut sim)).collect();
    say(&mut sim, &clients[1], "a");
    say(&mut sim, &clients[2], "b");
    for client in &clients {
        assert_eq!(client.receive(), b"\x81\x01a\x81\x01b");
    }
}

#[test]
fn what_is_outside_is_heard_when_it_has_woken_the_server() {
    let mut sim = room();
    let clients = [enter(&mut sim), enter(&mut sim)];
    let (sender, outside): (Sender<String>, _) = channel();
    let room = sim.server_mut().handler();
    room.outside = Some(outside);
    let waker = room.waker.clone().unwrap();
    sim.run().unwrap();
    // As another thread would.
    sender.send("news".into()).unwrap();
    waker.wake();
    sim.run().unwrap();
    assert_eq!(clients.map(|client| client.receive()), [b"\x81\x04news", b"\x81\x04news"]);
}

#[test]
fn an_id_whose_websocket_is_gone_or_never_was_names_nothing() {
    let mut sim = room();
    let (gone, stays) = (enter(&mut sim), enter(&mut sim));
    gone.reset();
    sim.run().unwrap();
    let unknown = [ConnectionId::new(0, 7), ConnectionId::new(99, 0)];
    sim.server_mut().handler().due.extend(unknown);
    sim.run().unwrap();
    assert_eq!(sim.server_mut().handler().woken, 0);
    say(&mut sim, &stays, "a");
    assert_eq!(stays.receive(), b"\x81\x01a");
}

#[test]
fn an_earlier_wake_up_leaves_that_by_time_as_it_is() {
    let mut sim = room();
    let client = enter(&mut sim);
    say(&mut sim, &client, "later");
    say(&mut sim, &client, "a");
    assert_eq!(sim.server_mut().handler().woken, 1);
    sim.advance(Duration::from_millis(1010)).unwrap();
    assert_eq!(sim.server_mut().handler().woken, 2);
}

#[test]
fn a_socket_that_closes_is_not_named() {
    let mut sim = room();
    let (closes, stays) = (enter(&mut sim), enter(&mut sim));
    say(&mut sim, &closes, "close");
    say(&mut sim, &stays, "a");
    assert_eq!((closes.receive(), stays.receive()), (b"\x88\x02\x03\xe8".to_vec(), b"\x81\x01a".to_vec()));
    assert_eq!(sim.server_mut().handler().woken, 1);
}

/// Whoever reads nothing is not woken, so nothing grows but what the handler itself keeps.
#[test]
fn a_reader_that_stops_is_named_in_vain_and_catches_up() {
    let mut sim = room();
    let (slow, quick) = (enter(&mut sim), enter(&mut sim));
    slow.read_limit(0);
    let large = "x".repeat(60_000);
    for _ in 0..20 {
        let room = sim.server_mut().handler();
        room.say(Message::Text(&large));
        sim.run().unwrap();
    }
    assert!(sim.driver().buffered().output < 200_000, "{:?}", sim.driver().buffered());
    let frames = 20 * (large.len() + 4);
    assert_eq!(quick.receive().len(), frames);
    slow.read_limit(usize::MAX);
    sim.run().unwrap();
    assert_eq!(slow.receive().len(), frames);
}

#[test]
fn a_ping_of_the_handler_has_to_be_answered() {
    let mut sim = room();
    let client = enter(&mut sim);
    say(&mut sim, &client, "ping");
    assert_eq!(client.receive(), b"\x89\x06there?");
    sim.advance(Duration::from_millis(20_020)).unwrap();
    assert_eq!(sim.server_mut().handler().failed, [SocketError::Expired(Expired::PongMissing)]);
}

/// A client that says what it is given, and tries what only servers can.
#[derive(Default)]
struct Speaker {
    open: Option<ConnectionId>,
    due: Option<ConnectionId>,
    refused: Option<SendError>,
}

impl ClientHandler for Speaker {
    fn opened(&mut self, socket: &mut Socket<'_>) {
        self.open = Some(socket.id());
    }

    fn woken(&mut self, socket: &mut Socket<'_>) {
        self.refused = socket.send_prepared(&Prepared::new(Message::Text("a"))).err();
        socket.send(Message::Text("b")).unwrap();
    }

    fn next_to_wake(&mut self) -> Option<ConnectionId> {
        self.due.take()
    }
}

#[test]
fn a_client_is_woken_as_well_and_shares_no_frames() {
    let config = WebSocketClientConfig::new("a", "/");
    let mut sim = Sim::new(WebSocketClient::new(Speaker::default(), config, [7; 32]).unwrap());
    let server = sim.connect();
    sim.run().unwrap();
    let request = String::from_utf8(server.receive()).unwrap();
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = String::from_utf8(handshake::accept_key(key.as_bytes()).to_vec()).unwrap();
    server.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ));
    sim.run().unwrap();
    let speaker = sim.server_mut().handler();
    speaker.due = speaker.open;
    sim.run().unwrap();
    assert_eq!(sim.server_mut().handler().refused, Some(SendError::MustMask));
    let sent = server.receive();
    assert_eq!((&sent[..2], sent.len()), (&b"\x81\x81"[..], 7));
}

/// The window that browsers offer, and what they are sent of a message that many get.
#[cfg(feature = "deflate")]
#[test]
fn what_many_get_is_compressed_where_that_was_agreed_to() {
    use keepwatch_protocol::handler::HandlerConfig;
    use keepwatch_protocol::websocket::Compression;
    use keepwatch_protocol::websocket::deflate::{DeflateConfig, Terms};

    let mut config = HandlerConfig::default();
    let terms = Terms { send_takeover: false, ..Terms::default() };
    config.websocket.compression = Compression::deflate(DeflateConfig { terms, ..DeflateConfig::default() });
    let mut sim = Sim::new(HandlerServer::with_config(Room::default(), config));
    let plain = enter(&mut sim);
    let compressing = sim.connect();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    compressing.send(HANDSHAKE.replace("\r\n\r\n", &format!("\r\n{offer}")));
    sim.run().unwrap();
    assert!(compressing.receive().windows(18).any(|part| part == b"permessage-deflate"));
    sim.server_mut().handler().say(Message::Text(&"to and fro, ".repeat(100)));
    sim.run().unwrap();
    assert_eq!(plain.receive().len(), 4 + 1200);
    let compressed = compressing.receive();
    assert!(compressed[0] == 0xc1 && compressed.len() < 50, "{compressed:?}");
}
