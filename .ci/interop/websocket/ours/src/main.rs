//! Our WebSocket clients, as told by `../lines.py`: `websocket-client machine | mio | smol`.
//!
//! `machine` is the handshake's machine and then the connection's, over a blocking socket; the others are a handler on a runtime.
#![expect(clippy::disallowed_methods, reason = "a program has threads and a clock")]

mod handler;
mod lines;
mod machine;

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use handler::Runtime;
use lines::Command;

/// What happens.
enum Happening {
    Told(Command),
    Received(Vec<u8>),
    /// The stream ended.
    End,
}

fn main() -> io::Result<()> {
    let (tell, happens) = channel();
    let told = tell.clone();
    thread::spawn(move || listen(&told));
    match std::env::args().nth(1).as_deref() {
        Some("machine") => machine::run(&happens, &tell),
        Some("mio") => handler::run(&happens.into(), Runtime::Mio),
        Some("smol") => handler::run(&happens.into(), Runtime::Smol),
        _ => panic!("machine, mio or smol?"),
    }
}

fn listen(tell: &Sender<Happening>) {
    for line in io::stdin().lines().map_while(Result::ok) {
        if tell.send(Happening::Told(Command::read(&line))).is_err() {
            return;
        }
    }
    std::process::exit(0);
}

fn entropy<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
