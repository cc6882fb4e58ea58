//! Response heads: validated, seen as views, and what they mean for the connection.
//!
//! The length of a response's body (RFC 9112 section 6.3), in this order:
//!
//! | response | body |
//! | --- | --- |
//! | to HEAD; 1xx, 204, 304 | none, whatever the fields say |
//! | 2xx to CONNECT | none: a tunnel follows |
//! | `Transfer-Encoding` and `Content-Length` | refused |
//! | any `Transfer-Encoding` in HTTP/1.0 | refused |
//! | `chunked` alone | chunks |
//! | others and then `chunked` | refused: none was asked for, and none is undone here |
//! | `Transfer-Encoding` that does not end in `chunked` | up to the end of the connection, still coded |
//! | one `Content-Length`, digits only | so many bytes |
//! | any other `Content-Length` | refused |
//! | neither | up to the end of the connection |
//!
//! A 205 is no exception: it has no content, but it is framed like any other (RFC 9110 section 15.3.6).

use alloc::boxed::Box;
use core::fmt;

use super::config::ClientConfig;
use crate::http1::config::Limits;
use crate::http1::error::Fault;
use crate::http1::fields::{Fields, members};
use crate::http1::framing::{CodingFraming, Codings, Connection, decimal};
use crate::http1::head::Version;
use crate::http1::mend::{mend, without_last_line};
use crate::http1::scan::{Scan, SectionKind, SectionLimits};
use crate::http1::status::StatusCode;
use crate::input::Input;

/// How a response's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// There is none.
    None,
    /// So many bytes follow. May be 0.
    Length(u64),
    /// Chunks follow; how much they hold is not known before the last.
    Chunked,
    /// Everything up to the end of the connection.
    UntilClose,
}

/// The head of a response: views over the bytes that came. It borrows the input and not the connection.
#[derive(Clone, Copy)]
pub struct Response<'b> {
    reason: &'b [u8],
    fields: Fields<'b>,
    facts: Facts,
}

impl<'b> Response<'b> {
    /// The status. One from 600 to 999, which means nothing, counts as 500 (RFC 9110 section 15): [`code`](Self::code)
    /// has the number.
    pub fn status(&self) -> StatusCode {
        StatusCode::new(self.facts.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The three digits as they came: 100 to 999.
    pub fn code(&self) -> u16 {
        self.facts.code
    }

    /// The reason phrase as it came, perhaps empty. It means nothing (RFC 9112 section 4).
    pub fn reason(&self) -> &'b [u8] {
        self.reason
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.facts.version
    }

    /// The field lines. Those that were folded are in one piece.
    pub fn fields(&self) -> Fields<'b> {
        self.fields
    }

    /// How the body is framed.
    pub fn body(&self) -> ResponseBody {
        self.facts.body
    }

    /// Whether the body is under a transfer coding that is not undone here: it ends with the connection, and
    /// `Transfer-Encoding` says what it is.
    pub fn is_coded(&self) -> bool {
        self.facts.coded
    }

    /// Whether the server lets the connection go on after this response (RFC 9112 section 9.3).
    pub fn keep_alive(&self) -> bool {
        self.facts.persistent
    }

    /// Whether it came before the request was put to its end. The content may be sent on (RFC 9110 section 7.5), unless
    /// [`takes_content`](super::ClientConnection::takes_content) says that the server wants no more of it.
    pub fn is_early(&self) -> bool {
        self.facts.early
    }

    /// Whether the response names this protocol in `Upgrade` (RFC 9110 section 7.8): in a 101 the one that was chosen, in
    /// any other one that could be asked for.
    pub fn upgrades_to(&self, protocol: &str) -> bool {
        self.facts.upgrade && self.fields.has_token("upgrade", protocol)
    }

    /// A copy that outlives the input. Allocates.
    pub fn to_owned(&self) -> OwnedResponse {
        OwnedResponse {
            bytes: [self.reason, self.fields.lines()].concat().into_boxed_slice(),
            reason: self.reason.len(),
            facts: self.facts,
        }
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) fn with_early(mut self, early: bool) -> Self {
        self.facts.early = early;
        self
    }

    /// Whether this `101` chooses among the protocols that were offered.
    pub(super) fn accepts_upgrade(&self, offered: &str) -> bool {
        let is_offered =
            |chosen: &[u8]| members(offered.as_bytes()).any(|protocol| protocol.eq_ignore_ascii_case(chosen));
        let mut chosen = self.fields.all("upgrade").flat_map(members).filter(|member| !member.is_empty());
        self.facts.upgrade && chosen.next().is_some_and(is_offered) && chosen.all(is_offered)
    }
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("reason", &self.reason.escape_ascii())
            .field("fields", &self.fields)
            .field("facts", &self.facts)
            .finish()
    }
}

/// A response head with bytes of its own.
#[derive(Clone)]
pub struct OwnedResponse {
    /// The reason and the field lines.
    bytes: Box<[u8]>,
    reason: usize,
    facts: Facts,
}

impl OwnedResponse {
    /// The head itself.
    pub fn as_response(&self) -> Response<'_> {
        let (reason, lines) = self.bytes.split_at_checked(self.reason).unwrap_or_default();
        Response { reason, fields: Fields::of_head(lines), facts: self.facts }
    }
}

impl fmt::Debug for OwnedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_response().fmt(f)
    }
}

/// What has to be known of a request to read its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    pub(super) is_connect: bool,
}

/// What a head says about the message and the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) code: u16,
    pub(super) version: Version,
    pub(super) body: ResponseBody,
    coded: bool,
    /// The server lets the connection go on after this exchange.
    pub(super) persistent: bool,
    pub(super) says_close: bool,
    /// There is no body, and the fields about its length are faulty.
    pub(super) faulty_length: bool,
    /// `Connection: upgrade`, so that `Upgrade` counts.
    upgrade: bool,
    early: bool,
    /// A 2xx to a CONNECT.
    pub(super) tunnel: bool,
}

impl Facts {
    fn of(
        code: u16,
        version: Version,
        fields: Fields<'_>,
        asked: Asked,
        limits: &Limits,
    ) -> Result<Self, Fault> {
        let mut connection = Connection::default();
        let mut length = Length::default();
        for field in fields {
            match field.name.len() {
                10 if field.is("connection") => connection.add(field.value)?,
                14 if field.is("content-length") => length.add_number(field.value),
                17 if field.is("transfer-encoding") => length.add_codings(field.value),
                _ => {}
            }
        }
        let tunnel = asked.is_connect && (200..300).contains(&code);
        let bodiless = asked.is_head || code < 200 || matches!(code, 204 | 304) || tunnel;
        let body = length.body(version);
        let faulty_length = bodiless && body.is_err();
        let body = if bodiless { ResponseBody::None } else { body? };
        if matches!(body, ResponseBody::Length(bytes) if bytes > limits.body_bytes) {
            return Err(Fault::BodyTooLarge);
        }
        let http11 = version == Version::Http11;
        Ok(Self {
            code,
            version,
            body,
            coded: body == ResponseBody::UntilClose && length.codings.seen(),
            persistent: !connection.close && (http11 || connection.keep_alive),
            says_close: connection.close,
            faulty_length,
            upgrade: http11 && connection.upgrade,
            early: false,
            tunnel,
        })
    }
}

/// What the fields say about the body's length. A fault in them is kept, as it counts only if there is a body.
#[derive(Default)]
struct Length {
    number: Option<u64>,
    codings: Codings,
    fault: Option<Fault>,
}

impl Length {
    fn add_number(&mut self, value: &[u8]) {
        match decimal(value) {
            Some(number) if self.number.is_none() => self.number = Some(number),
            _ => self.fault = self.fault.or(Some(Fault::ContentLength)),
        }
    }

    fn add_codings(&mut self, value: &[u8]) {
        if let Err(fault) = self.codings.add(value) {
            self.fault = self.fault.or(Some(fault));
        }
    }

    fn body(&self, version: Version) -> Result<ResponseBody, Fault> {
        match (self.fault, self.codings.seen(), self.number) {
            (Some(fault), _, _) => Err(fault),
            (None, true, Some(_)) => Err(Fault::BothLengths),
            (None, true, None) if version == Version::Http10 => Err(Fault::TransferEncodingInHttp10),
            (None, true, None) => match self.codings.framing() {
                CodingFraming::Chunked => Ok(ResponseBody::Chunked),
                CodingFraming::NotChunked => Ok(ResponseBody::UntilClose),
                CodingFraming::CodedChunked => Err(Fault::Coding),
                CodingFraming::ChunkedTwice => Err(Fault::TransferEncoding),
            },
            (None, false, Some(bytes)) => Ok(ResponseBody::Length(bytes)),
            (None, false, None) => Ok(ResponseBody::UntilClose),
        }
    }
}

/// Takes a response's head, once it is whole. `scan` knows how far it was looked at.
pub(super) fn decode<'b>(
    input: &mut Input<'b>,
    scan: &mut Scan,
    asked: Asked,
    config: &ClientConfig,
) -> Result<Option<Response<'b>>, Fault> {
    let limits = &config.limits;
    let section = SectionLimits {
        method: 0,
        target: 0,
        section: limits.head_bytes,
        field: limits.field_bytes,
        fields: limits.fields,
        kind: SectionKind::Response,
        tolerance: config.tolerance(),
    };
    let Some(length) = scan.scan(input.bytes(), &section)? else { return Ok(None) };
    let head = input.take(length);
    let status_line = head.iter().position(|byte| *byte == b'\n').map_or(head.len(), |end| end + 1);
    let (status_line, lines) = head.split_at_mut(status_line);
    let lines = without_last_line(lines);
    mend(lines)?;
    let fields = Fields::of_head(lines);
    // `HTTP/1.1 200 OK`
    let status_line = status_line.strip_suffix(b"\n").unwrap_or(status_line);
    let status_line = status_line.strip_suffix(b"\r").unwrap_or(status_line);
    let version = if status_line.get(7) == Some(&b'0') { Version::Http10 } else { Version::Http11 };
    let code = status_line.get(9..12).and_then(decimal).unwrap_or_default() as u16;
    let facts = Facts::of(code, version, fields, asked, limits)?;
    Ok(Some(Response { reason: status_line.get(13..).unwrap_or_default(), fields, facts }))
}
