//! An echo server on smol: `echo-smol [--listen ADDRESS:PORT]`. Each request is answered with its body, each WebSocket message with
//! itself, compressed if the client can do that.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use keepwatch_protocol::handler::{Handler, HandlerConfig, HandlerServer, Request, Response, Socket};
use keepwatch_protocol::websocket::deflate::DeflateConfig;
use keepwatch_protocol::websocket::{Compression, Message};
use keepwatch_runtime::daemon;
use keepwatch_smol::{Options, bind};

/// The largest body, and the largest message, in bytes.
const LARGEST: u64 = 16 << 20;

/// How long open connections may take to say farewell when the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

struct Echo;

impl Handler for Echo {
    fn request(&mut self, request: Request<'_>) -> Response {
        let kind = request.head.fields().first("content-type").unwrap_or(b"application/octet-stream");
        Response::ok(request.body).with_field("Content-Type", kind)
    }

    fn accepts_websocket(&mut self, _: Request<'_>) -> bool {
        true
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        // Refused only if it is closing.
        let _closing = socket.send(message);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut config = HandlerConfig::default();
    config.http.limits.body_bytes = LARGEST;
    config.websocket.message_bytes = LARGEST;
    config.websocket.compression = Compression::deflate(DeflateConfig::default());
    let server = HandlerServer::with_config(Echo, config);

    let (runtime, handle) = bind(Options::new([address()?]))?;
    daemon::stop_on_signals(handle.clone(), GRACE)?;
    daemon::announce(&handle)?;
    smol::block_on(runtime.serve(server))?;
    Ok(())
}

/// Where to listen; port 0 lets the system choose.
fn address() -> Result<SocketAddr, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => Ok(SocketAddr::from(([127, 0, 0, 1], 9001))),
        [flag, address] if flag == "--listen" => Ok(address.parse()?),
        _ => Err("usage: echo-smol [--listen ADDRESS:PORT]".into()),
    }
}
