//! tokio-tungstenite: `peer-tokio-tungstenite ADDR:PORT [small]`. By default it has buffers of 128 KiB for each connection, as it
//! comes; `small` is 4 KiB.
#![forbid(unsafe_code)]

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use keepwatch_peers::{Fault, accept};
use tokio::net::TcpStream;
use tokio::sync::broadcast::Receiver;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let config = match std::env::args().nth(2).as_deref() {
        Some("small") => WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(4096),
        _ => WebSocketConfig::default(),
    };
    accept(move |stream, changes| watch(stream, changes, config)).await
}

async fn watch(
    stream: TcpStream,
    mut changes: Receiver<Bytes>,
    config: WebSocketConfig,
) -> Result<(), Fault> {
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    loop {
        tokio::select! {
            change = changes.recv() => socket.send(Message::Text(change?.try_into()?)).await?,
            message = socket.next() => match message {
                Some(message) => drop(message?),
                None => return Ok(()),
            },
        }
    }
}
