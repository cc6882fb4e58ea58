//! The lines of `../../lines.py`.

use std::io::{Write, stdout};

use keepwatch_protocol::websocket::deflate::{DeflateConfig, Terms};
use keepwatch_protocol::websocket::{Close, CloseCode, Compression, Config, MessageKind};

/// What is to be done.
pub enum Command {
    Open(Opening),
    Send(MessageKind, Vec<u8>),
    Parts(MessageKind, Vec<Part>),
    Ping(Vec<u8>),
    Close(CloseCode, String),
}

pub struct Opening {
    pub authority: String,
    pub target: String,
    pub protocols: Vec<String>,
    pub config: Config,
}

/// Of a message in fragments.
pub enum Part {
    Fragment(Vec<u8>),
    Ping(Vec<u8>),
}

impl Command {
    /// Lines come from a script that is tested with what it tests: what is none is its fault.
    pub fn read(line: &str) -> Self {
        let (word, rest) = line.split_once(' ').unwrap();
        match word {
            "open" => Self::Open(opening(rest)),
            "text" => Self::Send(MessageKind::Text, unhex(rest)),
            "binary" => Self::Send(MessageKind::Binary, unhex(rest)),
            "text-parts" => Self::Parts(MessageKind::Text, rest.split(',').map(part).collect()),
            "binary-parts" => Self::Parts(MessageKind::Binary, rest.split(',').map(part).collect()),
            "ping" => Self::Ping(unhex(rest)),
            "close" => {
                let (code, reason) = rest.split_once(' ').unwrap();
                let reason = String::from_utf8(unhex(reason)).unwrap();
                Self::Close(CloseCode::new(code.parse().unwrap()).unwrap(), reason)
            }
            _ => panic!("no command: {word}"),
        }
    }
}

fn opening(words: &str) -> Opening {
    let mut words = words.split(' ');
    let url = words.next().unwrap().strip_prefix("ws://").unwrap();
    let (authority, path) = url.split_once('/').unwrap();
    let mut opening = Opening {
        authority: authority.to_owned(),
        target: format!("/{path}"),
        protocols: Vec::new(),
        config: Config { message_bytes: 64 << 20, ..Config::default() },
    };
    for word in words {
        match word.split_once('=').unwrap() {
            ("protocols", names) => opening.protocols = names.split(',').map(str::to_owned).collect(),
            ("deflate", parameters) => opening.config.compression = compression(parameters),
            _ => panic!("no option: {word}"),
        }
    }
    opening
}

/// As a client offers them: the server's are about what is received.
fn compression(parameters: &str) -> Compression {
    let mut terms = Terms::default();
    for parameter in parameters.split(';').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=').unwrap_or((parameter, "15")) {
            ("server_no_context_takeover", _) => terms.receive_takeover = false,
            ("client_no_context_takeover", _) => terms.send_takeover = false,
            ("server_max_window_bits", bits) => terms.receive_window_bits = bits.parse().unwrap(),
            ("client_max_window_bits", bits) => terms.send_window_bits = bits.parse().unwrap(),
            _ => panic!("no parameter: {parameter}"),
        }
    }
    Compression::deflate(DeflateConfig { terms, ..DeflateConfig::default() })
}

fn part(word: &str) -> Part {
    match word.strip_prefix('!') {
        Some(ping) => Part::Ping(unhex(ping)),
        None => Part::Fragment(unhex(word)),
    }
}

pub fn say(line: &str) {
    let mut out = stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

pub fn say_message(kind: MessageKind, bytes: &[u8]) {
    let word = match kind {
        MessageKind::Text => "text",
        MessageKind::Binary => "binary",
    };
    say(&format!("{word} {}", hex(bytes)));
}

pub fn say_closed(close: &Close<'_>) {
    let code = close.code.map_or(if close.clean { 1005 } else { 1006 }, CloseCode::get);
    say(&format!("closed {code} {}", hex(close.reason.as_bytes())));
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
