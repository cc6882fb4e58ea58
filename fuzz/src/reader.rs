//! A reader of HTTP/1.1 messages that is too simple to be wrong: it has the whole message before it, reads from the front, and
//! knows no limits, no times and no connection. It is for bytes that a machine wrote, or took for good; it panics where it is in
//! doubt.

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
    /// To a HEAD, or a 2xx to a CONNECT: without content, whatever the fields say.
    Bodiless,
}

/// Where a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Where it says itself.
    Complete,
    /// With the connection.
    UntilClose,
    /// It says where, and that is not there.
    Unfinished,
}

/// A message whose head is whole.
#[derive(Debug)]
pub(crate) struct Message {
    /// The start line.
    pub(crate) line: String,
    /// Names in lower case, and values.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) content: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    pub(crate) end: End,
    /// How many bytes it has.
    pub(crate) length: usize,
}

impl Message {
    /// The first message in the bytes; `None` if its head is not whole.
    pub(crate) fn read(wire: &[u8], kind: Kind) -> Option<Self> {
        let mut at = 0;
        let line = String::from_utf8_lossy(take_line(wire, &mut at)?).into_owned();
        let fields = take_fields(wire, &mut at)?;
        let mut message =
            Self { line, fields, content: Vec::new(), trailers: Vec::new(), end: End::Complete, length: at };
        message.read_content(wire, kind);
        Some(message)
    }

    /// Of a response.
    pub(crate) fn status(&self) -> u16 {
        let version = &self.line.get(..9);
        assert!(matches!(version, Some("HTTP/1.0 " | "HTTP/1.1 ")) || self.line.starts_with("HTTP/1."));
        self.line.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_default()
    }

    /// The words of the start line.
    pub(crate) fn word(&self, index: usize) -> &str {
        self.line.split(' ').nth(index).unwrap_or_default()
    }

    /// The members of a list.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let named = self.fields.iter().filter(|(field, _)| field == name);
        let text = named.map(|(_, value)| String::from_utf8_lossy(value).to_ascii_lowercase());
        let members =
            text.flat_map(|value| value.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>());
        members.filter(|member| !member.is_empty()).collect()
    }

    /// Whether it says that its connection ends.
    pub(crate) fn closes(&self) -> bool {
        self.list("connection").iter().any(|option| option == "close")
    }

    fn read_content(&mut self, wire: &[u8], kind: Kind) {
        let (codings, lengths) = (self.list("transfer-encoding"), self.list("content-length"));
        if kind == Kind::Bodiless
            || kind == Kind::Response && (self.status() < 200 || matches!(self.status(), 204 | 304))
        {
            return;
        }
        match (&codings[..], &lengths[..]) {
            ([], []) if kind == Kind::Request => {}
            ([], [length]) => {
                let length = length.parse().unwrap_or(usize::MAX);
                let rest = &wire[self.length..];
                self.content.extend(&rest[..rest.len().min(length)]);
                self.length += self.content.len();
                if self.content.len() < length {
                    self.end = End::Unfinished;
                }
            }
            ([chunked], []) if chunked == "chunked" => {
                let mut at = self.length;
                if self.read_chunks(wire, &mut at).is_none() {
                    self.end = End::Unfinished;
                    at = wire.len();
                }
                self.length = at;
            }
            ([.., last], []) if last == "chunked" => panic!("content that is coded and in chunks"),
            (_, []) if kind == Kind::Response => {
                self.content.extend(&wire[self.length..]);
                self.length = wire.len();
                self.end = End::UntilClose;
            }
            _ => panic!("nobody knows where {self:?} ends"),
        }
    }

    /// `None` if they are not whole.
    fn read_chunks(&mut self, wire: &[u8], at: &mut usize) -> Option<()> {
        loop {
            let line = String::from_utf8_lossy(take_line(wire, at)?).into_owned();
            let digits = line.split(|letter: char| !letter.is_ascii_hexdigit()).next().unwrap_or_default();
            let size = u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("a chunk of {line:?}"));
            if size == 0 {
                self.trailers = take_fields(wire, at)?;
                return Some(());
            }
            let there = (wire.len() - *at).min(usize::try_from(size).unwrap_or(usize::MAX));
            self.content.extend(&wire[*at..*at + there]);
            *at += there;
            let end = wire.get(*at..*at + 2).filter(|_| there as u64 == size)?;
            assert_eq!(end, b"\r\n", "behind a chunk");
            *at += 2;
        }
    }
}

/// Field lines up to the empty one. A folded line belongs to the one before.
fn take_fields(wire: &[u8], at: &mut usize) -> Option<Vec<(String, Vec<u8>)>> {
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
    loop {
        let line = take_line(wire, at)?;
        match (line, fields.last_mut()) {
            ([], _) => return Some(fields),
            ([b' ' | b'\t', ..], Some((_, value))) => value.extend(line),
            _ => {
                let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
                let (name, value) = line.split_at(colon);
                assert!(
                    !name.is_empty() && name.iter().all(|&byte| is_token(byte)),
                    "{}",
                    line.escape_ascii()
                );
                fields.push((
                    String::from_utf8_lossy(name).to_ascii_lowercase(),
                    value[1..].trim_ascii().to_vec(),
                ));
            }
        }
    }
}

/// A line that ends with CR LF and has no control characters.
fn take_line<'a>(wire: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = wire.get(*at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    assert!(
        line.iter().all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f),
        "{}",
        line.escape_ascii()
    );
    *at += end + 2;
    Some(line)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The bytes behind the empty lines in front, which stand before no message.
pub(crate) fn without_empty_lines(mut wire: &[u8]) -> &[u8] {
    while let [b'\r', b'\n', rest @ ..] = wire {
        wire = rest;
    }
    wire
}
