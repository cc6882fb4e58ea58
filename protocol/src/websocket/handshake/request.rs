//! What a server checks in a request (RFC 6455 section 4.2.1).

use core::fmt;

use super::fields::{Count, has_token, is_token, list, one, text};
use super::{ACCEPT_BYTES, accept_key, is_key};

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

/// A request that a server can answer with 101. Its own rules for origins and subprotocols come on top: [`answer`](super::answer)
/// has both.
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
    /// A page of this origin may not open the WebSocket. [`check`] leaves that to a policy: [`Origins`](super::Origins).
    ForeignOrigin,
}

impl Rejected {
    /// The status to answer with: 400, 403, 405 or 426.
    pub const fn status(self) -> u16 {
        match self {
            Self::ForeignOrigin => 403,
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
            Self::ForeignOrigin => "the Origin is not allowed here",
        }
    }

    /// Fields that the answer must have. One with `Upgrade` has `Connection: Upgrade` too (RFC 9110 section 7.8), which is
    /// not in this list: `Connection` belongs to whoever frames the answer.
    pub const fn fields(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &[("Allow", "GET")],
            Self::Version => &[("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")],
            Self::Upgrade => &[("Upgrade", "websocket")],
            Self::HttpVersion
            | Self::Host
            | Self::Connection
            | Self::Key
            | Self::Origin
            | Self::Protocol
            | Self::ForeignOrigin => &[],
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl core::error::Error for Rejected {}

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
            (Rejected::ForeignOrigin, 403, &[]),
        ];
        for (rejected, status, fields) in all {
            assert_eq!((rejected.status(), rejected.fields()), (status, fields), "{rejected}");
        }
    }
}
