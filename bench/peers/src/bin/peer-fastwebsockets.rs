//! fastwebsockets. Its reads may not be dropped half way, so reading and writing are two
//! futures in one task; it answers no pings here.
#![forbid(unsafe_code)]

use bytes::Bytes;
use fastwebsockets::{Frame, Payload, Role, WebSocketError, after_handshake_split};
use keepwatch_peers::{Fault, accept, handshake};
use tokio::net::TcpStream;
use tokio::sync::broadcast::Receiver;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    accept(watch).await
}

async fn watch(mut stream: TcpStream, mut changes: Receiver<Bytes>) -> Result<(), Fault> {
    handshake(&mut stream).await?;
    let (reading, writing) = stream.into_split();
    let (mut reading, mut writing) = after_handshake_split(reading, writing, Role::Server);
    let read = async {
        let mut answer = |_: Frame<'_>| async { Ok::<(), WebSocketError>(()) };
        while reading.read_frame(&mut answer).await.is_ok() {}
        Ok(())
    };
    let write = async {
        loop {
            writing.write_frame(Frame::text(Payload::Borrowed(&changes.recv().await?))).await?;
        }
    };
    tokio::select! {
        ended = read => ended,
        failed = write => failed,
    }
}
