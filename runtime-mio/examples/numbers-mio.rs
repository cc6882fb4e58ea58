//! A server on mio that pushes: `numbers-mio [--listen ADDRESS:PORT]`. Each WebSocket is sent a number every second, and gets back
//! what it says: see `numbers.rs`.

use std::error::Error;
use std::net::SocketAddr;

use keepwatch_mio::{Options, bind};
use keepwatch_protocol::handler::HandlerServer;

#[path = "../../runtime/examples-support/numbers.rs"]
mod numbers;

#[expect(clippy::print_stdout, reason = "it says where it listens, for people and for scripts")]
fn main() -> Result<(), Box<dyn Error>> {
    let server = HandlerServer::new(numbers::Numbers::default());
    let (runtime, handle) = bind(Options::new([address()?]))?;
    for address in handle.local_addresses() {
        println!("listening on http://{address}"); // standard output is flushed at the end of each line
    }
    runtime.serve(server)?;
    Ok(())
}

/// Where to listen; port 0 lets the system choose.
fn address() -> Result<SocketAddr, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => Ok(SocketAddr::from(([127, 0, 0, 1], 9001))),
        [flag, address] if flag == "--listen" => Ok(address.parse()?),
        _ => Err("usage: numbers-mio [--listen ADDRESS:PORT]".into()),
    }
}
