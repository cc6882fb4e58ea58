//! Our WebSocket clients, as told by `../lines.py`: `websocket-client machine`.
//!
//! `machine` is the handshake's machine and the connection's over a blocking socket.

mod lines;
mod machine;

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{Sender, channel};
use std::thread;

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
    match std::env::args().nth(1).as_deref() {
        Some("machine") => {
            let told = tell.clone();
            thread::spawn(move || listen(&told));
            machine::run(&happens, &tell)
        }
        _ => panic!("machine?"),
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
