//! A client of HTTP/1.1 that shows what the server sent: which framing, which parts, when the end.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    address: SocketAddr,
    /// What was read and not yet looked at.
    pub(crate) unread: Vec<u8>,
    framing: Framing,
    asked_for_head: bool,
}

/// How the rest of the body under way is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    fields: Vec<(String, String)>,
}

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(stream: TcpStream, address: SocketAddr) -> Self {
        Self { stream, address, unread: Vec::new(), framing: Framing::None, asked_for_head: false }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends a request; `fields` are whole lines without their end.
    pub(crate) fn request(&mut self, method: &str, target: &str, fields: &[&str], body: &[u8]) {
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for field in fields {
            bytes.extend([field, "\r\n"]);
        }
        if !body.is_empty() || method == "PUT" {
            bytes.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        bytes.push_str("\r\n");
        self.asked_for_head = method == "HEAD";
        self.send([bytes.as_bytes(), body].concat());
    }

    /// A request and its whole answer.
    pub(crate) fn call(&mut self, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Response {
        self.request(method, target, fields, body);
        self.response()
    }

    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.call("GET", target, &[], b"")
    }

    /// Begins to put 5 bytes. The server has the head when this returns.
    pub(crate) fn begin_to_put(&mut self, key: &str) {
        let (length, expect) = ("Content-Length: 5", "Expect: 100-continue");
        self.send(format!("PUT /v1/kv/{key} HTTP/1.1\r\nHost: a\r\n{length}\r\n{expect}\r\n\r\n"));
        assert_eq!(self.head().status, 100);
    }

    /// Puts a value, and gives its revision.
    pub(crate) fn put(&mut self, key: &str, value: impl AsRef<[u8]>) -> u64 {
        let response = self.call("PUT", &format!("/v1/kv/{key}"), &[], value.as_ref());
        assert!(matches!(response.status, 200 | 201), "{}", response.text());
        response.revision()
    }

    pub(crate) fn delete(&mut self, key: &str) -> u64 {
        let response = self.call("DELETE", &format!("/v1/kv/{key}"), &[], b"");
        assert_eq!(response.status, 200, "{}", response.text());
        response.revision()
    }

    /// The revision that the server is at.
    pub(crate) fn revision(&mut self) -> u64 {
        self.get("/v1/kv?limit=1").revision()
    }

    pub(crate) fn response(&mut self) -> Response {
        let head = self.head();
        let body = self.rest();
        Response { status: head.status, head, body }
    }

    /// The head of the next answer. Its body is read with [`Client::part`].
    pub(crate) fn head(&mut self) -> Head {
        let end = self.find(b"\r\n\r\n");
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = Head::parse(std::str::from_utf8(&head).unwrap(), self.asked_for_head);
        self.framing = head.framing;
        head
    }

    /// The next part of the body, a whole chunk if it is chunked; `None` at its end, which is clean.
    pub(crate) fn part(&mut self) -> Option<Vec<u8>> {
        match self.framing {
            Framing::None | Framing::Length(0) => None,
            Framing::Length(left) => {
                self.need(1);
                let count = left.min(self.unread.len());
                self.framing = Framing::Length(left - count);
                Some(self.unread.drain(..count).collect())
            }
            Framing::Chunked => {
                let line = self.find(b"\r\n");
                let size = std::str::from_utf8(&self.unread[..line - 2]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                self.need(line + size + 2);
                assert_eq!(self.unread[line + size..line + size + 2], *b"\r\n");
                let chunk = self.unread[line..line + size].to_vec();
                self.unread.drain(..line + size + 2);
                if size == 0 {
                    self.framing = Framing::None;
                    return None;
                }
                Some(chunk)
            }
            Framing::UntilClose => {
                if self.unread.is_empty() && self.fill() == 0 {
                    self.framing = Framing::None;
                    return None;
                }
                Some(std::mem::take(&mut self.unread))
            }
        }
    }

    pub(crate) fn rest(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.part()).collect::<Vec<_>>().concat()
    }

    /// Reads until the server ends the connection; nothing but that is to come.
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.fill(), 0, "{:?}", String::from_utf8_lossy(&self.unread));
        assert!(self.unread.is_empty(), "{:?}", String::from_utf8_lossy(&self.unread));
    }

    pub(crate) fn shut_down_writing(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The local address: another one is another connection.
    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Reads what there is, at least a byte; 0 at the end.
    pub(crate) fn fill(&mut self) -> usize {
        let mut part = vec![0; 64 << 10];
        let count = loop {
            match self.stream.read(&mut part) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.unwrap(),
            }
        };
        self.unread.extend_from_slice(&part[..count]);
        count
    }

    /// Reads until so many bytes are there.
    fn need(&mut self, count: usize) {
        while self.unread.len() < count {
            assert_ne!(self.fill(), 0, "the connection ended within an answer");
        }
    }

    /// Reads until these bytes are there, and says where they end.
    fn find(&mut self, what: &[u8]) -> usize {
        let mut from = 0;
        loop {
            if let Some(at) = self.unread[from..].windows(what.len()).position(|window| window == what) {
                return from + at + what.len();
            }
            from = self.unread.len().saturating_sub(what.len() - 1);
            let all = self.unread.len();
            self.need(all + 1);
        }
    }
}

impl Head {
    fn parse(text: &str, asked_for_head: bool) -> Self {
        let mut lines = text.strip_suffix("\r\n\r\n").unwrap().split("\r\n");
        let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        let mut head = Self { status, framing: Framing::None, fields: fields.collect() };
        head.framing = if asked_for_head || matches!(status, 100..200 | 204 | 304) {
            Framing::None
        } else {
            match (head.field("content-length"), head.field("transfer-encoding")) {
                (Some(length), None) => Framing::Length(length.parse().unwrap()),
                (None, Some("chunked")) => Framing::Chunked,
                (None, None) => Framing::UntilClose,
                both => panic!("{both:?}"),
            }
        };
        head
    }

    /// The field's value; it must not be there twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields().filter(|field| field.0 == name).map(|field| field.1);
        let first = found.next();
        assert_eq!(found.next(), None, "{name}");
        first
    }

    /// Names in lower case, and values.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.field("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.json()["revision"].as_u64().unwrap()
    }

    /// The status of a refusal, which says why in one shape.
    pub(crate) fn refused(&self) -> u16 {
        let why = self.json();
        assert!(why["error"].as_str().is_some_and(|why| !why.is_empty()), "{why}");
        self.status
    }
}
