//! What a handler of WebSockets that a client opens is told, and how they end.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::mpsc::{Receiver, channel};
use std::task::Waker;
use std::time::Duration;

use keepwatch_protocol::handler::{ClientHandler, Socket, WebSocketClient, WebSocketClientConfig};
use keepwatch_protocol::websocket::Message;
use keepwatch_protocol::websocket::handshake;
use keepwatch_protocol::{After, ConnectionId, Input, SendQueue, Server};
use keepwatch_sim::{Client, Sim};

/// Says on its one WebSocket what comes from outside.
#[derive(Default)]
struct Relay {
    waker: Option<Waker>,
    outside: Option<Receiver<String>>,
    open: Option<ConnectionId>,
    says: Option<String>,
}

impl ClientHandler for Relay {
    fn start(&mut self, waker: &Waker) {
        self.waker = Some(waker.clone());
    }

    fn opened(&mut self, socket: &mut Socket<'_>) {
        self.open = Some(socket.id());
    }

    fn woken(&mut self, socket: &mut Socket<'_>) {
        socket.send(Message::Text(&self.says.take().unwrap())).unwrap();
    }

    fn next_to_wake(&mut self) -> Option<ConnectionId> {
        self.says = Some(self.outside.as_ref()?.try_recv().ok()?);
        self.open
    }
}

const CLOSE: &[u8] = b"\x88\x02\x03\xe8";

/// A WebSocket that is open, and the server at its other end.
fn opened() -> (Sim<WebSocketClient<Relay>>, Client) {
    let config = WebSocketClientConfig::new("a", "/");
    let mut sim = Sim::new(WebSocketClient::new(Relay::default(), config, [7; 32]).unwrap());
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
    (sim, server)
}

#[test]
fn what_is_outside_is_said_when_it_has_woken_the_client() {
    let (mut sim, server) = opened();
    let (sender, outside) = channel();
    let relay = sim.server_mut().handler();
    relay.outside = Some(outside);
    let waker = relay.waker.clone().unwrap();
    sim.run().unwrap();
    // As another thread would.
    sender.send("news".to_owned()).unwrap();
    waker.wake();
    sim.run().unwrap();
    assert_eq!(server.receive().len(), 6 + 4);
}

#[test]
fn a_peer_has_time_to_say_something() {
    let (sim, _server) = opened();
    assert!(sim.server().deadline() > Some(sim.now().instant + Duration::from_secs(1)));
}

#[test]
fn a_client_that_said_farewell_waits_for_the_server_to_end_the_stream() {
    let (mut sim, server) = opened();
    server.send(CLOSE);
    sim.run().unwrap();
    assert_eq!(server.receive()[0], 0x88);
    server.send("what is said after a farewell");
    sim.run().unwrap();
    assert!(!server.is_ended());
    server.shutdown_write();
    sim.run().unwrap();
    assert_eq!(sim.driver().connections(), 0);
}

#[test]
fn a_client_that_hears_the_farewell_and_the_end_together_waits_for_nothing() {
    let after = |ended: bool| {
        let (mut sim, _server) = opened();
        let (id, now) = (sim.server_mut().handler().open.unwrap(), sim.now());
        let mut said = CLOSE.to_vec();
        let mut input = if ended { Input::last(&mut said) } else { Input::new(&mut said) };
        sim.server_mut().receive(id, &mut input, &mut SendQueue::new(100), now)
    };
    assert_eq!((after(false), after(true)), (After::Open, After::Finish));
}
