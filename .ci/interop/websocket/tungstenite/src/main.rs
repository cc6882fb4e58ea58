//! Rust's tungstenite, as told by `../lines.py`: `peer-tungstenite client | server [NAME=VALUE]..`. It knows no extension.

use std::io::{ErrorKind, Write, stdin, stdout};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

fn main() {
    let (tell, told) = channel();
    thread::spawn(move || stdin().lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((role, _)) if role == "client" => client(&told),
        Some((role, options)) if role == "server" => server(&told, option(options, "protocol=")),
        _ => panic!("client or server?"),
    }
}

fn client(told: &Receiver<String>) {
    while let Ok(line) = told.recv() {
        let words: Vec<&str> = line.split(' ').collect();
        let url = words[1];
        let mut request = url.into_client_request().unwrap();
        if let Some(protocols) = option(&words[2..], "protocols=") {
            request
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", HeaderValue::from_str(&protocols).unwrap());
        }
        let stream = TcpStream::connect(request.uri().authority().unwrap().as_str()).unwrap();
        stream.set_nodelay(true).unwrap();
        match tungstenite::client::client_with_config(request, stream, Some(config())) {
            Ok((socket, answer)) => {
                let protocol = answer
                    .headers()
                    .get("Sec-WebSocket-Protocol")
                    .map_or("-", |value| value.to_str().unwrap());
                talk(socket, protocol, told, false);
            }
            Err(error) => say(&format!("failed {error}")),
        }
    }
}

fn server(told: &Receiver<String>, protocol: Option<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    say(&format!("listening on http://{}", listener.local_addr().unwrap()));
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut chosen = "-";
        #[expect(clippy::result_large_err, reason = "tungstenite's own")]
        let choose = |request: &Request, mut response: Response| {
            let offered = request
                .headers()
                .get("Sec-WebSocket-Protocol")
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            if let Some(protocol) =
                protocol.as_deref().filter(|protocol| offered.split(',').any(|name| name.trim() == *protocol))
            {
                chosen = protocol;
                response
                    .headers_mut()
                    .insert("Sec-WebSocket-Protocol", HeaderValue::from_str(protocol).unwrap());
            }
            Ok(response)
        };
        match tungstenite::accept_hdr_with_config(stream, choose, Some(config())) {
            Ok(socket) => talk(socket, chosen, told, true),
            Err(error) => say(&format!("failed {error}")),
        }
    }
}

/// Up to the end of the connection.
fn talk(mut socket: WebSocket<TcpStream>, protocol: &str, told: &Receiver<String>, echoes: bool) {
    say(&format!("open {protocol} -"));
    socket.get_ref().set_nonblocking(true).unwrap();
    let mut closed = "closed 1006 ".to_owned();
    loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) if echoes => send(&mut socket, message),
            Ok(Message::Text(text)) => say(&format!("text {}", hex(text.as_bytes()))),
            Ok(Message::Binary(bytes)) => say(&format!("binary {}", hex(&bytes))),
            Ok(Message::Close(Some(frame))) => {
                closed = format!("closed {} {}", u16::from(frame.code), hex(frame.reason.as_bytes()))
            }
            Ok(Message::Close(None)) => "closed 1005 ".clone_into(&mut closed),
            Ok(_) => {}
            Err(error) if would_block(&error) => match told.recv_timeout(Duration::from_millis(1)) {
                Ok(line) => tell(&mut socket, &line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            },
            Err(_) => return say(&closed),
        }
    }
}

fn tell(socket: &mut WebSocket<TcpStream>, line: &str) {
    let (word, rest) = line.split_once(' ').unwrap();
    match word {
        "text" => send(socket, Message::Text(unhex(rest).try_into().unwrap())),
        "binary" => send(socket, Message::Binary(unhex(rest).into())),
        "ping" => send(socket, Message::Ping(unhex(rest).into())),
        "close" => {
            let (code, reason) = rest.split_once(' ').unwrap();
            let frame = code
                .parse::<u16>()
                .ok()
                .map(|code| CloseFrame { code: code.into(), reason: unhex(reason).try_into().unwrap() });
            finish(socket, |socket| socket.close(frame.clone()));
        }
        _ => {
            let mut opcode = OpCode::Data(if word == "text-parts" { Data::Text } else { Data::Binary });
            let mut parts = rest.split(',').peekable();
            while let Some(part) = parts.next() {
                if let Some(ping) = part.strip_prefix('!') {
                    send(socket, Message::Ping(unhex(ping).into()));
                    continue;
                }
                send(socket, Message::Frame(Frame::message(unhex(part), opcode, parts.peek().is_none())));
                opcode = OpCode::Data(Data::Continue);
            }
        }
    }
}

fn send(socket: &mut WebSocket<TcpStream>, message: Message) {
    finish(socket, |socket| socket.write(message.clone()));
    finish(socket, WebSocket::flush);
}

/// Until it is done; what it would block on is gone soon: whoever is at the other end reads.
fn finish(
    socket: &mut WebSocket<TcpStream>,
    mut act: impl FnMut(&mut WebSocket<TcpStream>) -> tungstenite::Result<()>,
) {
    let mut act: &mut dyn FnMut(&mut WebSocket<TcpStream>) -> tungstenite::Result<()> = &mut act;
    let mut flush = WebSocket::flush;
    loop {
        match act(socket) {
            Err(error) if would_block(&error) => {
                act = &mut flush; // what it was given is in its buffer
                thread::sleep(Duration::from_millis(1));
            }
            _ => return,
        }
    }
}

fn would_block(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().max_frame_size(Some(64 << 20))
}

fn option(words: &[impl AsRef<str>], name: &str) -> Option<String> {
    words.iter().find_map(|word| Some(word.as_ref().strip_prefix(name)?.to_owned()))
}

fn say(line: &str) {
    let mut out = stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
