//! The opening handshake (RFC 6455 section 4): what a server checks in a request, what a client checks in the answer.
//!
//! Both checks work over plain fields (names and values, in the order of the message), so any HTTP implementation can use
//! them. Neither writes a head: that is HTTP's work. The bytes behind the heads belong to the WebSocket.
//!
//! ```
//! use keepwatch_protocol::websocket::handshake;
//!
//! let fields: [(&str, &[u8]); 5] = [
//!     ("Host", b"example.com"),
//!     ("Upgrade", b"websocket"),
//!     ("Connection", b"keep-alive, Upgrade"),
//!     ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
//!     ("Sec-WebSocket-Version", b"13"),
//! ];
//! let accepted = handshake::check("GET", true, fields.into_iter()).unwrap();
//! assert_eq!(accepted.accept_key(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
//!
//! // Without the version: 426, and the field that says which one is spoken.
//! let rejected = handshake::check("GET", true, fields.into_iter().take(4)).unwrap_err();
//! assert_eq!((rejected.status(), rejected.fields()[0]), (426, ("Sec-WebSocket-Version", "13")));
//! ```

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// The size of a `Sec-WebSocket-Key`: 16 bytes in base64.
pub const KEY_BYTES: usize = 24;
/// The size of a `Sec-WebSocket-Accept`: 20 bytes in base64.
pub const ACCEPT_BYTES: usize = 28;

/// What a server puts behind the key before it hashes it (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 section 4.2.2), whatever that is: see [`is_key`].
pub fn accept_key(key: &[u8]) -> [u8; ACCEPT_BYTES] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [b'='; ACCEPT_BYTES];
    encode(&digest, &mut accept);
    accept
}

/// Whether a `Sec-WebSocket-Key` is the base64 of 16 bytes (RFC 6455 section 4.2.1).
///
/// ```
/// use keepwatch_protocol::websocket::handshake;
///
/// assert!(handshake::is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
/// assert!(!handshake::is_key(b"dGhlIHNhbXBsZQ=="));
/// ```
pub fn is_key(key: &[u8]) -> bool {
    let mut nonce = [0; KEY_BYTES]; // the decoder wants room for as much as the text could hold
    key.len() == KEY_BYTES && STANDARD.decode_slice(key, &mut nonce) == Ok(16)
}

/// The `Sec-WebSocket-Key` that a client makes of 16 random bytes (RFC 6455 section 4.1).
pub fn request_key(nonce: [u8; 16]) -> [u8; KEY_BYTES] {
    let mut key = [b'='; KEY_BYTES];
    encode(&nonce, &mut key);
    key
}

/// Whether a `Sec-WebSocket-Accept` answers this key (RFC 6455 section 4.1).
pub fn verify_accept(key: &[u8; KEY_BYTES], accept: &[u8]) -> bool {
    accept == accept_key(key)
}

/// Base64 into an array of the right size, where no error is possible.
fn encode(bytes: &[u8], to: &mut [u8]) {
    let written = STANDARD.encode_slice(bytes, to);
    debug_assert!(written.is_ok(), "the array has the size that RFC 4648 says");
}

/// Checks a client's request (RFC 6455 section 4.2.1). `fields` are names and values without the white space around them.
///
/// # Errors
///
/// What to answer instead.
pub fn check<'a, F>(method: &str, is_http_1_1: bool, fields: F) -> Result<Accepted<F>, Rejected>
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    if method != "GET" {
        return Err(Rejected::Method);
    }
    if !is_http_1_1 {
        return Err(Rejected::HttpVersion);
    }
    if one(&fields, "Host").is_err() {
        return Err(Rejected::Host);
    }
    if !has_token(&fields, "Upgrade", "websocket") {
        return Err(Rejected::Upgrade);
    }
    if !has_token(&fields, "Connection", "upgrade") {
        return Err(Rejected::Connection);
    }
    if one(&fields, "Sec-WebSocket-Version") != Ok(b"13") {
        return Err(Rejected::Version);
    }
    let key = one(&fields, "Sec-WebSocket-Key").ok().filter(|key| is_key(key)).ok_or(Rejected::Key)?;
    if one(&fields, "Origin") == Err(Count::Several) {
        return Err(Rejected::Origin);
    }
    if !list(&fields, "Sec-WebSocket-Protocol").all(is_token) {
        return Err(Rejected::Protocol);
    }
    Ok(Accepted { accept: accept_key(key), fields })
}

/// A request that a server can answer with 101. Its own rules for origins and subprotocols come on top.
#[derive(Clone)]
pub struct Accepted<F> {
    accept: [u8; ACCEPT_BYTES],
    fields: F,
}

impl<'a, F> Accepted<F>
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    /// The value of the answer's `Sec-WebSocket-Accept`. Beside it the answer has `Upgrade: websocket` and `Connection:
    /// Upgrade`.
    pub fn accept_key(&self) -> &[u8; ACCEPT_BYTES] {
        &self.accept
    }

    /// The `Origin`, for a policy: browsers send it, and any page can ask for any WebSocket (RFC 6455 section 10.2).
    pub fn origin(&self) -> Option<&'a [u8]> {
        one(&self.fields, "Origin").ok()
    }

    /// The subprotocols that the client offers, what it likes best first. One of them, spelled the same, may be answered in
    /// `Sec-WebSocket-Protocol`.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + use<'a, F> {
        list(&self.fields, "Sec-WebSocket-Protocol").filter_map(text)
    }

    /// The extensions that the client offers, each with its parameters as it was written, what it likes best first. An
    /// offer may be declined by not answering it.
    pub fn extensions(&self) -> impl Iterator<Item = &'a str> + use<'a, F> {
        list(&self.fields, "Sec-WebSocket-Extensions").filter_map(text)
    }
}

impl<F> fmt::Debug for Accepted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("accept", &self.accept.escape_ascii()).finish_non_exhaustive()
    }
}

/// Why a request is no handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejected {
    /// The method is not GET.
    Method,
    /// HTTP/1.0, which has no upgrade.
    HttpVersion,
    /// Not exactly one `Host`.
    Host,
    /// No `websocket` in `Upgrade`.
    Upgrade,
    /// No `upgrade` in `Connection`.
    Connection,
    /// `Sec-WebSocket-Version` is not 13.
    Version,
    /// Not exactly one `Sec-WebSocket-Key` of 16 bytes in base64.
    Key,
    /// More than one `Origin`.
    Origin,
    /// A subprotocol that is not a token.
    Protocol,
}

impl Rejected {
    /// The status to answer with: 400, 405 or 426.
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::Upgrade | Self::Version => 426,
            Self::HttpVersion | Self::Host | Self::Connection | Self::Key | Self::Origin | Self::Protocol => {
                400
            }
        }
    }

    /// What is wrong, for the answer's body.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Method => "a WebSocket begins with GET",
            Self::HttpVersion => "a WebSocket needs HTTP/1.1",
            Self::Host => "exactly one Host is needed",
            Self::Upgrade => "this is a WebSocket: Upgrade: websocket is needed",
            Self::Connection => "Connection: upgrade is needed",
            Self::Version => "WebSocket version 13 is needed",
            Self::Key => "exactly one Sec-WebSocket-Key of 16 bytes in base64 is needed",
            Self::Origin => "more than one Origin",
            Self::Protocol => "a subprotocol that is not a token",
        }
    }

    /// Fields that the answer must have. One with `Upgrade` has `Connection: Upgrade` too (RFC 9110 section 7.8), which is
    /// not in this list: `Connection` belongs to whoever frames the answer.
    pub const fn fields(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &[("Allow", "GET")],
            Self::Version => &[("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")],
            Self::Upgrade => &[("Upgrade", "websocket")],
            Self::HttpVersion | Self::Host | Self::Connection | Self::Key | Self::Origin | Self::Protocol => {
                &[]
            }
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl core::error::Error for Rejected {}

/// Checks a server's answer to a request with this key and these offered subprotocols (RFC 6455 section 4.1). Returns the
/// subprotocol agreed to, if one was.
///
/// # Errors
///
/// The connection is no WebSocket. After [`RefusedAnswer::Status`] it is still HTTP: the answer has a body, and may be a redirect
/// or ask for authentication. After the others there is nothing to do but close.
pub fn check_answer<'a>(
    status: u16,
    fields: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    key: &[u8; KEY_BYTES],
    offered: &[&str],
) -> Result<Option<&'a str>, RefusedAnswer> {
    if status != 101 {
        return Err(RefusedAnswer::Status);
    }
    if !one(&fields, "Upgrade").is_ok_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(RefusedAnswer::Upgrade);
    }
    if !has_token(&fields, "Connection", "upgrade") {
        return Err(RefusedAnswer::Connection);
    }
    if !one(&fields, "Sec-WebSocket-Accept").is_ok_and(|accept| verify_accept(key, accept)) {
        return Err(RefusedAnswer::Accept);
    }
    if list(&fields, "Sec-WebSocket-Extensions").next().is_some() {
        return Err(RefusedAnswer::Extension);
    }
    match one(&fields, "Sec-WebSocket-Protocol") {
        Err(Count::None) => Ok(None),
        Err(Count::Several) => Err(RefusedAnswer::Protocol),
        Ok(value) => match text(value).filter(|chosen| offered.contains(chosen)) {
            Some(chosen) => Ok(Some(chosen)),
            None => Err(RefusedAnswer::Protocol),
        },
    }
}

/// Why an answer does not open a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedAnswer {
    /// The status is not 101.
    Status,
    /// `Upgrade` is not `websocket`.
    Upgrade,
    /// No `upgrade` in `Connection`.
    Connection,
    /// Not exactly one `Sec-WebSocket-Accept` that answers the key.
    Accept,
    /// An extension; none was offered.
    Extension,
    /// A subprotocol that was not offered, or several.
    Protocol,
}

impl fmt::Display for RefusedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "the status is not 101",
            Self::Upgrade => "Upgrade is not websocket",
            Self::Connection => "Connection does not say upgrade",
            Self::Accept => "Sec-WebSocket-Accept does not answer the key",
            Self::Extension => "an extension that was not offered",
            Self::Protocol => "a subprotocol that was not offered",
        })
    }
}

impl core::error::Error for RefusedAnswer {}

/// Why there is no single field of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    None,
    Several,
}

/// The value of the one field with this name, in any case.
fn one<'a>(
    fields: &(impl Iterator<Item = (&'a str, &'a [u8])> + Clone),
    name: &str,
) -> Result<&'a [u8], Count> {
    let mut values = lines(fields, name);
    let first = values.next().ok_or(Count::None)?;
    if values.next().is_some() { Err(Count::Several) } else { Ok(first) }
}

fn lines<'a, 'n, F>(fields: &F, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n, F>
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    fields.clone().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The elements of a list over all lines of its field (RFC 9110 section 5.6.1). Empty ones are passed over.
fn list<'a, 'n, F>(fields: &F, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n, F>
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    lines(fields, name).flat_map(Elements)
}

fn has_token<'a>(
    fields: &(impl Iterator<Item = (&'a str, &'a [u8])> + Clone),
    name: &str,
    token: &str,
) -> bool {
    list(fields, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The elements of one line: between commas that are not in a quoted string.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.0.is_empty() {
            let (mut quoted, mut escaped) = (false, false);
            let ends = |byte: &u8| {
                let comma = *byte == b',' && !quoted;
                if *byte == b'"' && !escaped {
                    quoted = !quoted;
                }
                escaped = quoted && *byte == b'\\' && !escaped;
                comma
            };
            let end = self.0.iter().position(ends).unwrap_or(self.0.len());
            let (element, rest) = self.0.split_at(end);
            self.0 = rest.get(1..).unwrap_or_default();
            let element = element.trim_ascii();
            if !element.is_empty() {
                return Some(element);
            }
        }
        None
    }
}

/// A token (RFC 9110 section 5.6.2).
fn is_token(element: &[u8]) -> bool {
    element.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn text(element: &[u8]) -> Option<&str> {
    core::str::from_utf8(element).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Field = (&'static str, &'static [u8]);

    const REQUEST: [Field; 5] = [
        ("Host", b"example.com"),
        ("Upgrade", b"websocket"),
        ("Connection", b"Upgrade"),
        ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", b"13"),
    ];

    fn request(fields: &[Field]) -> Result<Accepted<impl Iterator<Item = Field> + Clone + '_>, Rejected> {
        check("GET", true, fields.iter().copied())
    }

    /// The request with one field changed, left out (no values) or repeated.
    fn with(name: &'static str, values: &[&'static [u8]]) -> Vec<Field> {
        let others = REQUEST.into_iter().filter(|(other, _)| *other != name);
        others.chain(values.iter().map(|value| (name, *value))).collect()
    }

    fn rejected(name: &'static str, values: &[&'static [u8]]) -> Option<Rejected> {
        request(&with(name, values)).err()
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(request(&REQUEST).unwrap().accept_key(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn row_accept_key() {
        assert_eq!(&accept_key(b"mg8LvEqrB2vLpyCNnCJV3Q=="), b"AYtwtwampsFjE0lu3kFQrmOCzLQ=");
    }

    #[test]
    fn row_handshake_server_method_and_version_of_http() {
        let method = |method| check(method, true, REQUEST.into_iter()).map(|_| ());
        assert_eq!(method("GET"), Ok(()));
        for other in ["POST", "CONNECT", "get", ""] {
            assert_eq!(method(other), Err(Rejected::Method));
        }
        assert_eq!(check("GET", false, REQUEST.into_iter()).err(), Some(Rejected::HttpVersion));
    }

    #[test]
    fn row_handshake_server_host_is_there_once() {
        assert_eq!(rejected("Host", &[]), Some(Rejected::Host));
        assert_eq!(rejected("Host", &[b"a", b"a"]), Some(Rejected::Host));
    }

    #[test]
    fn row_handshake_server_tokens_in_any_case_and_over_several_lines() {
        let upgrades: [&[&[u8]]; 3] = [&[b"WebSocket"], &[b"h2c", b"x, WEBSOCKET"], &[b", websocket ,"]];
        for values in upgrades {
            assert_eq!(rejected("Upgrade", values), None, "{values:?}");
        }
        for values in
            [&[] as &[&[u8]], &[b"websockets"], &[b"web, socket"], &[b"\"websocket\""], &[b"websocket/13"]]
        {
            assert_eq!(rejected("Upgrade", values), Some(Rejected::Upgrade), "{values:?}");
        }
        let connections: [&[&[u8]]; 2] = [&[b"keep-alive,\tUPGRADE"], &[b"keep-alive", b"upgrade"]];
        for values in connections {
            assert_eq!(rejected("Connection", values), None, "{values:?}");
        }
        for values in [&[] as &[&[u8]], &[b"close"], &[b"upgraded"]] {
            assert_eq!(rejected("Connection", values), Some(Rejected::Connection), "{values:?}");
        }
        let shouted = REQUEST.map(|(name, value)| (name.to_ascii_uppercase(), value));
        let shouted = shouted.iter().map(|(name, value)| (name.as_str(), *value));
        assert!(check("GET", true, shouted).is_ok());
    }

    #[test]
    fn row_handshake_server_another_version_is_426_and_names_13() {
        for values in [&[] as &[&[u8]], &[b"8"], &[b"13, 8"], &[b"13", b"13"], &[b"013"], &[b"+13"]] {
            let why = rejected("Sec-WebSocket-Version", values).unwrap();
            assert_eq!(why.status(), 426);
            assert!(why.fields().contains(&("Sec-WebSocket-Version", "13")));
        }
    }

    #[test]
    fn row_handshake_server_exactly_one_key_of_16_bytes() {
        let bad: [&[&'static [u8]]; 7] = [
            &[],
            &[b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ=="],
            &[b""],
            &[b"dGhlIHNhbXBsZSBub25jZQ"],
            &[b"dGhlIHNhbXBsZSBub25jZSE="],
            &[b"dGhlIHNhbXBsZSBub25jZR=="],
            &[b"dGhlIHNhbXBsZSBub25j!Q=="],
        ];
        for values in bad {
            assert_eq!(rejected("Sec-WebSocket-Key", values), Some(Rejected::Key), "{values:?}");
        }
    }

    #[test]
    fn row_handshake_server_subprotocols_in_the_client_s_order() {
        let fields = with("Sec-WebSocket-Protocol", &[b"chat.v2, chat", b"mqtt"]);
        let protocols: Vec<_> = request(&fields).unwrap().protocols().collect();
        assert_eq!(protocols, ["chat.v2", "chat", "mqtt"]);
        for bad in [b"a b" as &[u8], b"chat, {}", b"\xff", b"\"chat\""] {
            assert_eq!(rejected("Sec-WebSocket-Protocol", &[bad]), Some(Rejected::Protocol));
        }
    }

    #[test]
    fn row_handshake_server_origin_is_exposed() {
        let fields = with("Origin", &[b"https://example.com"]);
        assert_eq!(request(&fields).unwrap().origin(), Some(&b"https://example.com"[..]));
        assert_eq!(request(&REQUEST).unwrap().origin(), None);
        assert_eq!(rejected("Origin", &[b"https://a.example", b"https://b.example"]), Some(Rejected::Origin));
    }

    #[test]
    fn offers_of_extensions_are_cut_at_commas_outside_quotes() {
        let lines: &[&[u8]] = &[br#"a; p="1,\",2", permessage-deflate; client_max_window_bits"#, b"", b"c"];
        let fields = with("Sec-WebSocket-Extensions", lines);
        let offers: Vec<_> = request(&fields).unwrap().extensions().collect();
        assert_eq!(offers, [r#"a; p="1,\",2""#, "permessage-deflate; client_max_window_bits", "c"]);
    }

    #[test]
    fn a_rejection_says_what_to_answer() {
        let all = [
            (Rejected::Method, 405, &[("Allow", "GET")][..]),
            (Rejected::HttpVersion, 400, &[]),
            (Rejected::Host, 400, &[]),
            (Rejected::Upgrade, 426, &[("Upgrade", "websocket")]),
            (Rejected::Connection, 400, &[]),
            (Rejected::Version, 426, &[("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")]),
            (Rejected::Key, 400, &[]),
            (Rejected::Origin, 400, &[]),
            (Rejected::Protocol, 400, &[]),
        ];
        for (rejected, status, fields) in all {
            assert_eq!((rejected.status(), rejected.fields()), (status, fields), "{rejected}");
        }
    }

    #[test]
    fn a_request_key_is_a_key() {
        assert_eq!(&request_key(*b"the sample nonce"), b"dGhlIHNhbXBsZSBub25jZQ==");
        assert!(is_key(&request_key([0xff; 16])));
    }

    const ANSWER: [Field; 3] = [
        ("Upgrade", b"websocket"),
        ("Connection", b"Upgrade"),
        ("Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];

    /// The answer with one field changed, left out or repeated, to a request that offered `chat` and `mqtt`.
    fn answer(
        status: u16,
        name: &'static str,
        values: &[&'static [u8]],
    ) -> Result<Option<&'static str>, RefusedAnswer> {
        let others = ANSWER.into_iter().filter(|(other, _)| *other != name);
        let fields: Vec<Field> = others.chain(values.iter().map(|value| (name, *value))).collect();
        check_answer(status, fields.iter().copied(), b"dGhlIHNhbXBsZSBub25jZQ==", &["chat", "mqtt"])
    }

    #[test]
    fn row_handshake_client_checks_status_upgrade_connection_and_accept() {
        assert_eq!(answer(101, "", &[]), Ok(None));
        assert_eq!(answer(200, "", &[]), Err(RefusedAnswer::Status));
        assert_eq!(answer(101, "Upgrade", &[b"WebSocket"]), Ok(None));
        assert_eq!(answer(101, "Upgrade", &[b"h2c"]), Err(RefusedAnswer::Upgrade));
        assert_eq!(answer(101, "Upgrade", &[]), Err(RefusedAnswer::Upgrade));
        assert_eq!(answer(101, "Connection", &[b"close, upgrade"]), Ok(None));
        assert_eq!(answer(101, "Connection", &[b"close"]), Err(RefusedAnswer::Connection));
        assert_eq!(answer(101, "Sec-WebSocket-Accept", &[]), Err(RefusedAnswer::Accept));
        let accept: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert_eq!(answer(101, "Sec-WebSocket-Accept", &[accept, accept]), Err(RefusedAnswer::Accept));
    }

    #[test]
    fn row_handshake_client_checks_that_what_is_returned_was_offered() {
        assert_eq!(answer(101, "Sec-WebSocket-Protocol", &[b"mqtt"]), Ok(Some("mqtt")));
        let not_offered: [&[&[u8]]; 4] = [&[b"Chat"], &[b"chat, mqtt"], &[b"chat", b"mqtt"], &[b""]];
        for values in not_offered {
            assert_eq!(
                answer(101, "Sec-WebSocket-Protocol", values),
                Err(RefusedAnswer::Protocol),
                "{values:?}"
            );
        }
        let extension = answer(101, "Sec-WebSocket-Extensions", &[b"permessage-deflate"]);
        assert_eq!(extension, Err(RefusedAnswer::Extension));
    }

    #[test]
    fn row_accept_key_the_example_that_circulates_is_refused() {
        let fields: [Field; 4] = [
            ("Upgrade", b"websocket"),
            ("Connection", b"Upgrade"),
            ("Sec-WebSocket-Accept", b"HSmrc0sMlYUkAGmm5OPpG2HaGWk="),
            ("Sec-WebSocket-Protocol", b"chat"),
        ];
        let check =
            |fields: &[Field]| check_answer(101, fields.iter().copied(), b"mg8LvEqrB2vLpyCNnCJV3Q==", &[]);
        assert_eq!(check(&fields), Err(RefusedAnswer::Accept));
        let mut right = fields;
        right[2].1 = b"AYtwtwampsFjE0lu3kFQrmOCzLQ=";
        assert_eq!(check(&right), Err(RefusedAnswer::Protocol));
        assert_eq!(check(&right[..3]), Ok(None));
    }
}
