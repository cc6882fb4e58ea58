//! The command line of this echo server over sockets: `[--listen ADDRESS:PORT]`.

use std::net::SocketAddr;

/// Where to listen; port 0 lets the system choose.
pub(crate) fn address() -> Result<SocketAddr, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(SocketAddr::from(([127, 0, 0, 1], 9001))),
        ["--listen", address] => address.parse().map_err(|error| format!("{address}: {error}")),
        _ => Err("usage: echo [--listen ADDRESS:PORT]".to_owned()),
    }
}

/// Tells where it listens, for people and for scripts.
#[expect(clippy::print_stdout, reason = "it is the one line of output")]
pub(crate) fn announce(address: SocketAddr) {
    println!("listening on http://{address}"); // standard output is flushed at the end of each line
}
