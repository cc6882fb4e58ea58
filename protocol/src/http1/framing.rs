//! What a request's head means for its connection: how long the body is, whether the connection goes on, what is
//! expected.
//!
//! The length of a request's body (RFC 9112 section 6.3), decided by these fields alone and never by the method:
//!
//! | `Transfer-Encoding` | `Content-Length` | body |
//! | --- | --- | --- |
//! | none | none | none |
//! | none | one line, digits only | so many bytes |
//! | `chunked` alone, in HTTP/1.1 | none | chunks |
//! | others and then `chunked` | none | 501 |
//! | anything else, or any in HTTP/1.0 | none | 400 |
//! | any | any | 400 |

use core::net::Ipv6Addr;

use super::config::Limits;
use super::error::Fault;
use super::fields::{Field, members};
use super::head::{RequestBody, Version};
use super::scan::is_token;

/// More empty members of a list than this are an attack (RFC 9110 section 5.6.1.2).
const EMPTY_MEMBERS: usize = 16;

/// What the fields of a request say about the message and the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) version: Version,
    pub(super) body: RequestBody,
    /// The client lets the connection go on after this exchange.
    pub(super) persistent: bool,
    /// `Expect: 100-continue` in HTTP/1.1.
    pub(super) expects_continue: bool,
    /// Another `Expect` in HTTP/1.1, which cannot be met.
    pub(super) expects_other: bool,
    /// `Connection: upgrade` in HTTP/1.1, so that `Upgrade` counts.
    pub(super) upgrade: bool,
    /// `websocket` is among what `Upgrade` lists.
    pub(super) websocket: bool,
}

impl Facts {
    pub(super) fn of<'b>(
        method: &str,
        target: &str,
        version: Version,
        fields: impl IntoIterator<Item = Field<'b>>,
        limits: &Limits,
    ) -> Result<Self, Fault> {
        check_target(method, target)?;
        let mut hosts = 0_u32;
        let mut length = None;
        let mut codings = Codings::default();
        let mut connection = Connection::default();
        let (mut expects_continue, mut expects_other, mut websocket) = (false, false, false);
        let mut empty = 0;
        for field in fields {
            match field.name.len() {
                4 if field.is("host") => {
                    hosts += 1;
                    if hosts > 1 || !is_host(field.value) {
                        return Err(Fault::Host);
                    }
                }
                6 if field.is("expect") => {
                    for member in members(field.value) {
                        if member.is_empty() {
                            count_empty(&mut empty, Fault::List)?;
                        } else if member.eq_ignore_ascii_case(b"100-continue") {
                            expects_continue = true;
                        } else {
                            expects_other = true;
                        }
                    }
                }
                7 if field.is("upgrade") => {
                    for member in members(field.value) {
                        if member.is_empty() {
                            count_empty(&mut empty, Fault::List)?;
                        }
                        websocket |= member.eq_ignore_ascii_case(b"websocket");
                    }
                }
                10 if field.is("connection") => connection.add(field.value)?,
                14 if field.is("content-length") => {
                    let number = decimal(field.value).ok_or(Fault::ContentLength)?;
                    if length.replace(number).is_some() {
                        return Err(Fault::ContentLength);
                    }
                }
                17 if field.is("transfer-encoding") => codings.add(field.value)?,
                _ => {}
            }
        }
        let http11 = version == Version::Http11;
        if http11 && hosts == 0 {
            return Err(Fault::Host);
        }
        let body = match (codings.seen(), length) {
            (true, Some(_)) => return Err(Fault::BothLengths),
            (true, None) if !http11 => return Err(Fault::TransferEncodingInHttp10),
            (true, None) => match codings.framing() {
                CodingFraming::Chunked => RequestBody::Chunked,
                CodingFraming::CodedChunked => return Err(Fault::Coding),
                CodingFraming::ChunkedTwice | CodingFraming::NotChunked => {
                    return Err(Fault::TransferEncoding);
                }
            },
            (false, Some(bytes)) if bytes > limits.body_bytes => return Err(Fault::BodyTooLarge),
            (false, Some(bytes)) => RequestBody::Length(bytes),
            (false, None) => RequestBody::None,
        };
        let upgrade = http11 && connection.upgrade;
        Ok(Self {
            version,
            body,
            persistent: !connection.close && (http11 || connection.keep_alive),
            expects_continue: http11 && expects_continue,
            expects_other: http11 && expects_other,
            upgrade,
            websocket: upgrade && websocket,
        })
    }
}

/// Counts an empty member of a list, of which there may be a few.
fn count_empty(empty: &mut usize, fault: Fault) -> Result<(), Fault> {
    *empty += 1;
    if *empty > EMPTY_MEMBERS { Err(fault) } else { Ok(()) }
}

/// What all `Connection` lines say together (RFC 9112 section 9.3); `close` wins.
#[derive(Default)]
pub(super) struct Connection {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    empty: usize,
}

impl Connection {
    pub(super) fn add(&mut self, value: &[u8]) -> Result<(), Fault> {
        for member in members(value) {
            if member.is_empty() {
                count_empty(&mut self.empty, Fault::Connection)?;
            } else if !is_token(member) {
                return Err(Fault::Connection);
            }
            self.close |= member.eq_ignore_ascii_case(b"close");
            self.keep_alive |= member.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= member.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(())
    }
}

/// The codings of all `Transfer-Encoding` lines, in order.
#[derive(Default)]
pub(super) struct Codings {
    count: usize,
    chunked: usize,
    chunked_is_last: bool,
}

/// What a list of codings says about the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodingFraming {
    /// `chunked` alone.
    Chunked,
    /// Others, and then `chunked`.
    CodedChunked,
    /// `chunked` last, and before that too.
    ChunkedTwice,
    /// Another coding is last.
    NotChunked,
}

impl Codings {
    /// Strict on purpose: every lenience here let two servers see different ends of a message.
    pub(super) fn add(&mut self, value: &[u8]) -> Result<(), Fault> {
        for member in members(value) {
            if !is_token(member) {
                return Err(Fault::TransferEncoding);
            }
            self.count += 1;
            self.chunked_is_last = member.eq_ignore_ascii_case(b"chunked");
            self.chunked += usize::from(self.chunked_is_last);
        }
        Ok(())
    }

    pub(super) fn seen(&self) -> bool {
        self.count > 0
    }

    pub(super) fn framing(&self) -> CodingFraming {
        match (self.chunked_is_last, self.chunked, self.count) {
            (false, _, _) => CodingFraming::NotChunked,
            (true, 1, 1) => CodingFraming::Chunked,
            (true, 1, _) => CodingFraming::CodedChunked,
            (true, _, _) => CodingFraming::ChunkedTwice,
        }
    }
}

/// A number of digits alone, that fits 64 bits.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Which form a target has to have (RFC 9112 section 3.2). That its bytes are visible ASCII is known.
fn check_target(method: &str, target: &str) -> Result<(), Fault> {
    let valid = if method == "CONNECT" {
        is_authority(target.as_bytes(), true)
    } else if target == "*" {
        method == "OPTIONS"
    } else {
        target.starts_with('/')
            || absolute(target).is_some_and(|(authority, _)| is_authority(authority.as_bytes(), false))
    };
    if valid { Ok(()) } else { Err(Fault::Target) }
}

/// The authority of a target in absolute-form, and what follows it.
pub(super) fn absolute(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    let mut letters = scheme.bytes();
    let valid = letters.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    valid.then(|| rest.split_at(end))
}

/// `uri-host [ ":" port ]` with a host that is not empty, and without user information.
fn is_host(value: &[u8]) -> bool {
    is_authority(value, false)
}

/// The same, with a port that has to be there or not.
pub(super) fn is_authority(value: &[u8], needs_port: bool) -> bool {
    let (host_is_valid, rest) = if let [b'[', literal @ ..] = value {
        let Some(end) = literal.iter().position(|byte| *byte == b']') else { return false };
        let (address, rest) = literal.split_at(end);
        let valid = core::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
        (valid, rest.get(1..).unwrap_or_default())
    } else {
        let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
        let (name, rest) = value.split_at(end);
        (is_registered_name(name), rest)
    };
    let port_is_valid = match rest {
        [] => !needs_port,
        [b':'] => !needs_port, // RFC 3986 section 3.2.3 allows an empty port
        [b':', digits @ ..] => {
            decimal(digits).is_some_and(|port| port <= 65_535 && !(needs_port && port == 0))
        }
        _ => false,
    };
    host_is_valid && port_is_valid
}

/// `reg-name` (RFC 3986 section 3.2.2) that is not empty, and has no comma: two values that were joined are no host.
fn is_registered_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
            (b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'', _) => tail,
            (b'(' | b')' | b'*' | b'+' | b';' | b'=', _) => tail,
            _ if first.is_ascii_alphanumeric() => tail,
            _ => return false,
        };
    }
    !name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for good in ["a", "a.b:80", "127.0.0.1", "[::1]", "[::1]:443", "a:", "a%20b", "x_y", "a:65535"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in
            ["", ":80", "u@a", "a/b", "a,b", "a b", "[::1", "[::g]", "[]", "a:65536", "a:+1", "a:8o", "a%2"]
        {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_name_has_a_few_marks_and_escapes_of_two_hex_digits() {
        for good in ["a-b.c_d~e", "!$&'()*+;=", "%af", "%0A"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in ["\"", "<", ">", "\\", "^", "`", "{", "|", "}", "%", "%a", "%ag", "%ga"] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn numbers_are_digits_alone() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"007"), Some(7));
        for bad in ["18446744073709551616", "+5", "-1", "0x5", "5_0", "5 5", "", " 5"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
    }
}
