//! An echo client on smol: `echo-client-smol --connect ADDRESS:POsmol`. It runs the client's cases of the Autobahn Testsuite, whose
//! server listens there: asks how many there are, gives back each message of each, and asks for the report.

use std::error::Error;
use std::net::SocketAddr;

use keepwatch_protocol::handler::{ClientHandler, Socket, WebSocketClient, WebSocketClientConfig};
use keepwatch_protocol::websocket::Message;
use keepwatch_smol::{Options, connect};

/// The largest message, in bytes.
const LARGEST: u64 = 16 << 20;
/// The name of this client in the report.
const AGENT: &str = "keepwatch-smol";

/// Gives back each message.
struct Echo;

impl ClientHandler for Echo {
    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        // Refused only if it is closing.
        let _closing = socket.send(message);
    }
}

/// Keeps the last message.
struct Listen(String);

impl ClientHandler for Listen {
    fn message(&mut self, message: Message<'_>, _: &mut Socket<'_>) {
        self.0 = String::from_utf8_lossy(message.as_bytes()).into_owned();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = address()?;
    let Listen(count) = talk(server, "/getCaseCount", Listen(String::new()))?;
    for case in 1..=count.parse::<u32>()? {
        talk(server, &format!("/runCase?case={case}&agent={AGENT}"), Echo)?;
    }
    talk(server, &format!("/updateReports?agent={AGENT}"), Echo)?;
    Ok(())
}

/// One WebSocket, until it is closed.
fn talk<H: ClientHandler>(server: SocketAddr, target: &str, handler: H) -> Result<H, Box<dyn Error>> {
    let mut config = WebSocketClientConfig::new(server.to_string(), target);
    config.websocket.message_bytes = LARGEST;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let client = WebSocketClient::new(handler, config, seed)?;
    Ok(smol::block_on(connect([server], Options::default(), client))?.into_handler())
}

fn address() -> Result<SocketAddr, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [flag, address] if flag == "--connect" => Ok(address.parse()?),
        _ => Err("usage: echo-client-smol --connect ADDRESS:POsmol".into()),
    }
}
