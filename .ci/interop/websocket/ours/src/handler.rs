//! A client made of a handler, on a runtime that connects.

use std::io;
use std::rc::Rc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use keepwatch_protocol::ConnectionId;
use keepwatch_protocol::handler::{
    ClientHandler, Socket, SocketError, WebSocketClient, WebSocketClientConfig,
};
use keepwatch_protocol::websocket::{Close, Message, MessageKind};
use keepwatch_runtime::Options;

use crate::lines::{Command, say, say_closed, say_message};
use crate::{Happening, entropy};

/// How often it looks for what it is told.
const TURN: Duration = Duration::from_millis(10);

#[derive(Clone, Copy)]
pub enum Runtime {
    Mio,
    Smol,
}

/// One WebSocket after the other, each on a runtime of its own.
pub fn run(happens: &Rc<Receiver<Happening>>, runtime: Runtime) -> io::Result<()> {
    while let Ok(happening) = happens.recv() {
        let Happening::Told(Command::Open(opening)) = happening else { panic!("nothing is open") };
        let address = opening.authority.parse().unwrap();
        let mut config = WebSocketClientConfig::new(opening.authority, opening.target);
        config.websocket = opening.config;
        config.protocols = opening.protocols.into_iter().map(|name| &*name.leak()).collect();
        let client = WebSocketClient::new(Told(Rc::clone(happens)), config, entropy()?).unwrap();
        match runtime {
            Runtime::Mio => drop(keepwatch_mio::connect([address], Options::default(), client)?),
            Runtime::Smol => {
                drop(smol::block_on(keepwatch_smol::connect([address], Options::default(), client))?);
            }
        }
    }
    Ok(())
}

/// Does what it is told.
struct Told(Rc<Receiver<Happening>>);

impl ClientHandler for Told {
    fn opened(&mut self, socket: &mut Socket<'_>) {
        // Whether messages are compressed is not the handler's to know.
        say(&format!("open {} ?", socket.protocol().unwrap_or("-")));
        socket.wake_after(TURN);
    }

    fn message(&mut self, message: Message<'_>, _: &mut Socket<'_>) {
        say_message(message.kind(), message.as_bytes());
    }

    fn woken(&mut self, socket: &mut Socket<'_>) {
        while let Ok(Happening::Told(command)) = self.0.try_recv() {
            let done = match command {
                Command::Send(MessageKind::Text, bytes) => {
                    socket.send(Message::Text(std::str::from_utf8(&bytes).unwrap()))
                }
                Command::Send(MessageKind::Binary, bytes) => socket.send(Message::Binary(&bytes)),
                Command::Close(code, reason) => socket.close(code, &reason),
                Command::Open(_) | Command::Parts(..) | Command::Ping(_) => {
                    panic!("it has no way to do that")
                }
            };
            if let Err(error) = done {
                say(&format!("refused {error}"));
            }
        }
        socket.wake_after(TURN);
    }

    fn failed(&mut self, _: ConnectionId, error: SocketError) {
        say(&format!("failed {error}"));
    }

    fn closed(&mut self, _: ConnectionId, close: Close<'_>) {
        say_closed(&close);
    }
}
