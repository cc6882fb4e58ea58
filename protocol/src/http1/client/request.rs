//! The heads of requests: what may stand in them, and how they are written.

use crate::http1::config::Limits;
use crate::http1::encode::{
    BodyLength, ConnectionField, LengthField, Section, Size, check_fields, put_connection, put_fields,
    put_length,
};
use crate::http1::error::SendError;
use crate::http1::fields::members;
use crate::http1::framing::is_authority;
use crate::http1::scan::{TARGET, is, is_token};
use crate::output::Sink;

/// What stands behind the method (RFC 9112 section 3.2). The authority is the [request's](Request::authority), so that the
/// target and `Host` cannot differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// origin-form: a path, which begins with `/`, and perhaps a query.
    Origin(&'a str),
    /// absolute-form, for a proxy: `scheme://authority`, and then the path and query. The path may be empty.
    Absolute {
        /// `http` or another scheme.
        scheme: &'a str,
        /// What follows the authority.
        path: &'a str,
    },
    /// authority-form: with CONNECT, and no other.
    Authority,
    /// `*`: with OPTIONS, and no other.
    Asterisk,
}

/// A request, as its author sees it.
///
/// `Host`, `Content-Length`, `Transfer-Encoding`, `Connection`, `TE`, `Expect` and `Upgrade` are the machine's and must not
/// be among the fields.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, a token. It is case-sensitive.
    pub method: &'a str,
    /// What is asked for.
    pub target: Target<'a>,
    /// Host and port, without user information: what `Host` says.
    pub authority: &'a str,
    /// Names and values, in the order in which they are sent, after `Host`.
    pub fields: &'a [(&'a str, &'a [u8])],
    /// How long the content is.
    pub length: BodyLength,
    /// Waits with the content until the server says `100 Continue`, or takes too long to say it (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// Tells that trailer fields are welcome: `TE: trailers` (RFC 9110 section 10.1.4).
    pub trailers: bool,
    /// The protocols that the connection would be switched to, as a list: `websocket` (RFC 9110 section 7.8).
    pub upgrade: Option<&'a str>,
    /// Says that this is the last request of its connection.
    pub close: bool,
}

impl<'a> Request<'a> {
    /// A request for a path, and perhaps a query, of this host. It has no content and no fields.
    pub const fn new(method: &'a str, authority: &'a str, path: &'a str) -> Self {
        Self {
            method,
            target: Target::Origin(path),
            authority,
            fields: &[],
            length: BodyLength::Empty,
            expect_continue: false,
            trailers: false,
            upgrade: None,
            close: false,
        }
    }

    /// A GET.
    pub const fn get(authority: &'a str, path: &'a str) -> Self {
        Self::new("GET", authority, path)
    }

    /// A CONNECT to this host and port, which makes the connection a tunnel (RFC 9110 section 9.3.6).
    pub const fn connect(authority: &'a str) -> Self {
        Self { target: Target::Authority, ..Self::new("CONNECT", authority, "") }
    }

    pub(super) fn is_connect(&self) -> bool {
        self.method == "CONNECT"
    }

    /// Whether there is content to come.
    pub(super) fn has_content(&self) -> bool {
        !matches!(self.length, BodyLength::Empty | BodyLength::Known(0))
    }

    /// Whether it can be sent, as [`put`](Self::put) does.
    pub(super) fn check(&self, keep_alive: bool, limits: &Limits) -> Result<(), SendError> {
        if !is_token(self.method.as_bytes()) {
            return Err(SendError::Method);
        }
        if !is_authority(self.authority.as_bytes(), self.is_connect()) {
            return Err(SendError::Authority);
        }
        let target_length = self.check_target()?;
        check_fields(self.fields, Section::Request, limits)?;
        let host_length = self.authority.len().saturating_add("Host: \r\n".len());
        let upgrade_length = self.upgrade.map_or(0, str::len).saturating_add("Upgrade: \r\n".len());
        let mut head = Size::default();
        self.put(keep_alive, &mut head);
        if self.method.len() > limits.method_bytes
            || target_length > limits.target_bytes
            || host_length.max(upgrade_length) > limits.field_bytes
            || head.bytes > limits.head_bytes
            || head.lines > usize::from(limits.fields) + 2
        {
            return Err(SendError::HeadTooLarge);
        }
        if (self.is_connect() || self.method == "TRACE") && self.length != BodyLength::Empty {
            return Err(SendError::NoContent);
        }
        if self.expect_continue && !self.has_content() {
            return Err(SendError::ExpectWithoutContent);
        }
        match self.upgrade {
            Some(protocols) if !members(protocols.as_bytes()).all(is_protocol) => {
                Err(SendError::UpgradeMalformed)
            }
            _ => Ok(()),
        }
    }

    /// The length of the target, if it has the form that the method needs.
    fn check_target(&self) -> Result<usize, SendError> {
        let visible = |part: &str| part.bytes().all(|byte| is(TARGET, byte));
        match self.target {
            Target::Authority if self.is_connect() => Ok(self.authority.len()),
            _ if self.is_connect() => Err(SendError::Target),
            Target::Asterisk if self.method == "OPTIONS" => Ok(1),
            Target::Origin(path) if path.starts_with('/') && visible(path) => Ok(path.len()),
            Target::Absolute { scheme, path }
                if is_scheme(scheme)
                    && (path.is_empty() || path.starts_with(['/', '?']))
                    && visible(path) =>
            {
                let around = scheme.len().saturating_add("://".len()).saturating_add(self.authority.len());
                Ok(around.saturating_add(path.len()))
            }
            _ => Err(SendError::Target),
        }
    }

    /// Writes the head, which was checked. `keep_alive` is said to a server that does not take it for granted.
    pub(super) fn put(&self, keep_alive: bool, out: &mut impl Sink) {
        out.put(self.method.as_bytes());
        out.put(b" ");
        let parts = match self.target {
            Target::Origin(path) => [path, "", "", ""],
            Target::Absolute { scheme, path } => [scheme, "://", self.authority, path],
            Target::Authority => [self.authority, "", "", ""],
            Target::Asterisk => ["*", "", "", ""],
        };
        for part in parts {
            out.put(part.as_bytes());
        }
        out.put(b" HTTP/1.1\r\nHost: ");
        out.put(self.authority.as_bytes());
        out.put(b"\r\n");
        put_fields(out, self.fields);
        put_length(out, self.length_field());
        if self.expect_continue {
            out.put(b"Expect: 100-continue\r\n");
        }
        if self.trailers {
            out.put(b"TE: trailers\r\n");
        }
        if let Some(protocols) = self.upgrade {
            out.put(b"Upgrade: ");
            out.put(protocols.as_bytes());
            out.put(b"\r\n");
        }
        let connection = ConnectionField {
            close: self.close,
            keep_alive: keep_alive && !self.close,
            upgrade: self.upgrade.is_some(),
            te: self.trailers,
        };
        put_connection(out, connection);
        out.put(b"\r\n");
    }

    /// RFC 9110 section 8.6: no content is told of only where there could be some.
    fn length_field(&self) -> LengthField {
        match self.length {
            BodyLength::Empty if matches!(self.method, "PATCH" | "POST" | "PUT") => LengthField::Bytes(0),
            BodyLength::Empty => LengthField::None,
            BodyLength::Known(bytes) => LengthField::Bytes(bytes),
            BodyLength::Unknown => LengthField::Chunked,
        }
    }
}

/// `scheme` of RFC 3986 section 3.1.
fn is_scheme(scheme: &str) -> bool {
    let mut letters = scheme.bytes();
    letters.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// `protocol-name [ "/" protocol-version ]` of RFC 9110 section 7.8.
fn is_protocol(protocol: &[u8]) -> bool {
    let mut parts = protocol.splitn(2, |byte| *byte == b'/');
    parts.next().is_some_and(is_token) && parts.next().is_none_or(is_token)
}
