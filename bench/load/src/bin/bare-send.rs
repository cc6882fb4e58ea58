//! The least that pushes: `bare-send [ADDR:PORT]`. For each change, one `send` of prepared bytes to each subscriber.
#![forbid(unsafe_code)]

use keepwatch_load::Fault;
use keepwatch_load::bare::{Bare, Change, Streams, frame, head, send, serve};
use keepwatch_load::transport::Transport;
use mio::net::TcpStream;

const TRANSPORTS: [Transport; 3] = [Transport::Websocket, Transport::Sse, Transport::Chunked];

/// The subscribers of each transport.
#[derive(Default)]
struct BareSend {
    subscribers: [Vec<usize>; 3],
}

impl Bare for BareSend {
    fn request(&mut self, slot: usize, stream: &mut TcpStream, request: &[u8]) -> Result<(), Fault> {
        let transport = Transport::of(request);
        let index = TRANSPORTS.iter().position(|&one| one == transport).ok_or("it answers no polls")?;
        self.subscribers[index].push(slot);
        send(stream, &head(transport))
    }

    fn changes(&mut self, changes: &[Change], streams: &mut Streams) -> Result<(), Fault> {
        for (transport, subscribers) in TRANSPORTS.into_iter().zip(&self.subscribers) {
            let mut bytes = Vec::new();
            for change in changes {
                frame(transport, change, &mut bytes);
            }
            for &slot in subscribers {
                streams.send(slot, &bytes)?;
            }
        }
        Ok(())
    }

    fn closed(&mut self, slot: usize) {
        for subscribers in &mut self.subscribers {
            subscribers.retain(|&one| one != slot);
        }
    }
}

fn main() -> Result<(), Fault> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".into());
    serve(address.parse()?, BareSend::default())
}
