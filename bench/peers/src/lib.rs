//! What the peers share: where they listen, how they are published to, and the event that they send.
//!
//! Each is the server that its own documentation would have one write: a task for each subscriber, a
//! [`broadcast`] channel to all of them, a message that is made once and shared where its types let it be.
//! They do less than a watch server (nothing is kept, so nothing can be resumed), and as much as it takes to be driven by the same
//! load: `PUT /v1/kv/{key}`, `GET /v1/watch`. One thread, as they are pinned to one core; `TCP_NODELAY`.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, Receiver, Sender};

/// What went wrong.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Changes that a subscriber may be behind.
const CHANGES: usize = 1024;

/// To everyone who watches.
#[derive(Clone, Debug)]
pub struct Hub(Sender<Bytes>);

impl Default for Hub {
    fn default() -> Self {
        Self(broadcast::channel(CHANGES).0)
    }
}

impl Hub {
    /// From now on.
    pub fn watch(&self) -> Receiver<Bytes> {
        self.0.subscribe()
    }

    /// Tells a change, as the watch server's JSON has it, and says what the PUT is answered. What the load writes where nobody
    /// looks is no change.
    pub fn put(&self, key: &str, value: &[u8]) -> String {
        let revision = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        if value.starts_with(b"~") {
            let mut event = format!(
                "{{\"type\":\"put\",\"key\":\"{key}\",\"revision\":{revision},\"createRevision\":{revision},\"value\":\""
            )
            .into_bytes();
            event.extend(value);
            event.extend(b"\"}");
            // Nobody may be there.
            let _receivers = self.0.send(event.into());
        }
        format!("{{\"revision\":{revision}}}")
    }
}

/// Listens on the address of the command line, and says where.
///
/// # Errors
///
/// The system does not let it.
pub async fn listen() -> Result<TcpListener, Fault> {
    let listener = TcpListener::bind(std::env::args().nth(1).unwrap_or("127.0.0.1:0".into())).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(listener)
}

/// Accepts for ever: what is published goes to the hub, and every other connection to `watch`, with its request unread.
///
/// For libraries that are no HTTP servers.
///
/// # Errors
///
/// The system does not let it.
pub async fn accept<F>(
    watch: impl Fn(TcpStream, Receiver<Bytes>) -> F + Clone + Send + 'static,
) -> Result<(), Fault>
where
    F: Future<Output = Result<(), Fault>> + Send + 'static,
{
    let (listener, hub) = (listen().await?, Hub::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(begin(stream, hub.clone(), watch.clone()));
    }
}

async fn begin<F>(
    stream: TcpStream,
    hub: Hub,
    watch: impl Fn(TcpStream, Receiver<Bytes>) -> F,
) -> Result<(), Fault>
where
    F: Future<Output = Result<(), Fault>>,
{
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first == *b"P" {
        publish(stream, hub).await
    } else {
        // Not inside this future, which would then be as large as both.
        Box::pin(watch(stream, hub.watch())).await
    }
}

/// Answers PUTs until the connection ends.
async fn publish(mut stream: TcpStream, hub: Hub) -> Result<(), Fault> {
    let (mut unread, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        unread.extend(&buffer[..count]);
        let mut answers = String::new();
        while let Some(at) = memchr::memmem::find(&unread, b"\r\n\r\n") {
            let head = std::str::from_utf8(&unread[..at])?;
            let length = head.split_once("Content-Length: ").ok_or("a PUT has no length")?.1;
            let length: usize = length.split("\r\n").next().unwrap_or_default().parse()?;
            let key = head.strip_prefix("PUT /v1/kv/").ok_or("it is no PUT")?;
            let key = key.split(' ').next().unwrap_or_default();
            let Some(value) = unread.get(at + 4..at + 4 + length) else { break };
            let body = hub.put(key, value);
            answers += &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            unread.drain(..at + 4 + length);
        }
        stream.write_all(answers.as_bytes()).await?;
    }
}

/// Reads a WebSocket's handshake and answers it: for libraries that leave that to an HTTP server.
///
/// # Errors
///
/// It is none.
pub async fn handshake(stream: &mut TcpStream) -> Result<(), Fault> {
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await? {
            0 => return Err("it hung up".into()),
            count => head.extend(&buffer[..count]),
        }
    }
    let key = std::str::from_utf8(&head)?.split_once("Sec-WebSocket-Key: ").ok_or("it has no key")?.1;
    let mut digest = Sha1::new();
    digest.update(key.split("\r\n").next().unwrap_or_default());
    digest.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(digest.finalize());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Ok(stream.write_all(answer.as_bytes()).await?)
}
