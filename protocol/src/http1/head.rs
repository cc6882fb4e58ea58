//! Request heads: found, validated and seen as views (RFC 9112 sections 2 to 5).
//!
//! ```text
//!   decode ──► whole at first sight? ──► httparse, and what it lets pass ──┬─ valid ──► what the fields mean ──► RequestHead
//!                                                                        └─ else ┐         ▲
//!              seen in part before ─────────────────────────────────────────────► Scan ─────┘
//! ```
//!
//! [`Scan`] knows where it stopped, and alone decides what is wrong. The way through httparse is only quicker: it
//! accepts nothing that the other does not, and tests hold them to it.

use alloc::boxed::Box;
use core::fmt;
use core::mem::MaybeUninit;

use super::config::Limits;
use super::error::Fault;
use super::fields::{Field, Fields};
use super::framing::{Facts, absolute};
use super::scan::{Scan, SectionKind, SectionLimits, TARGET, Tolerance, is};
use crate::input::Input;

/// Finds a request's head in bytes that come in parts: each byte is looked at once, and the first that is impossible is
/// an error.
///
/// This is the part of [`ServerConnection`](super::ServerConnection) that reads heads, for use by itself. It takes no
/// empty lines before a head.
///
/// ```
/// use keepwatch_protocol::Input;
/// use keepwatch_protocol::http1::{HeadDecoder, Limits};
///
/// let mut wire = *b"GET /a?b HTTP/1.1\r\nHost: example\r\n\r\nrest";
/// let (limits, mut decoder) = (Limits::default(), HeadDecoder::new());
/// assert!(decoder.decode(&mut Input::new(&mut wire[..20]), &limits)?.is_none());
/// let mut input = Input::new(&mut wire);
/// let head = decoder.decode(&mut input, &limits)?.expect("it is whole");
/// assert_eq!((head.method(), head.path(), head.query()), ("GET", "/a", Some("b")));
/// assert_eq!(input.bytes(), b"rest");
/// # Ok::<(), keepwatch_protocol::http1::Fault>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadDecoder {
    scan: Scan,
}

impl Default for HeadDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl HeadDecoder {
    /// Before the first byte of a head.
    pub const fn new() -> Self {
        Self { scan: Scan::request() }
    }

    /// Whether no byte of the head was seen yet.
    pub const fn is_fresh(&self) -> bool {
        self.scan.is_fresh()
    }

    /// Takes the head, once it is whole; until then nothing is taken, and the same bytes are to be given again with
    /// more behind them. After a head, or a fault, the decoder is of no further use.
    ///
    /// # Errors
    ///
    /// What is wrong with the head, or which limit it passes.
    pub fn decode<'b>(
        &mut self,
        input: &mut Input<'b>,
        limits: &Limits,
    ) -> Result<Option<RequestHead<'b>>, Fault> {
        match self.decode_any(input, limits)? {
            Some(head) if head.facts.expects_other => Err(Fault::Expectation),
            head => Ok(head),
        }
    }

    /// The same, also of a head that expects what cannot be met: its connection may go on.
    pub(super) fn decode_any<'b>(
        &mut self,
        input: &mut Input<'b>,
        limits: &Limits,
    ) -> Result<Option<RequestHead<'b>>, Fault> {
        let layout = Layout::find(input.bytes(), &mut self.scan, limits)?;
        Ok(layout.map(|layout| layout.view(input.take(layout.length))))
    }
}

/// The version of a message. A minor version above 1 counts as 1.1 (RFC 9110 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How a request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// There is none.
    None,
    /// So many bytes follow. May be 0.
    Length(u64),
    /// Chunks follow; how much they hold is not known before the last.
    Chunked,
}

/// The head of a request: views over the bytes that came. It borrows the input and not the connection, so it can be
/// read while the request is answered.
#[derive(Clone, Copy)]
pub struct RequestHead<'b> {
    method: &'b str,
    target: &'b str,
    fields: Fields<'b>,
    facts: Facts,
}

impl<'b> RequestHead<'b> {
    /// The method, which is case-sensitive.
    pub fn method(&self) -> &'b str {
        self.method
    }

    /// The request-target as it came: visible ASCII without `#`.
    pub fn target(&self) -> &'b str {
        self.target
    }

    /// The path of the target, not decoded: from the first slash up to `?`. An absolute-form without a path has `/`,
    /// and `*` and the authority of a CONNECT are given as they are.
    pub fn path(&self) -> &'b str {
        let path = self.path_and_query().split('?').next().unwrap_or_default();
        if path.is_empty() { "/" } else { path }
    }

    /// What follows the target's first `?`, not decoded.
    pub fn query(&self) -> Option<&'b str> {
        self.path_and_query().split_once('?').map(|(_, query)| query)
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.facts.version
    }

    /// The field lines.
    pub fn fields(&self) -> Fields<'b> {
        self.fields
    }

    /// The host and port that are asked: those of the target if it has them, otherwise those of `Host` (RFC 9112
    /// section 3.2.2). `None` only in an HTTP/1.0 request with neither.
    pub fn authority(&self) -> Option<&'b str> {
        if self.method == "CONNECT" {
            return Some(self.target);
        }
        match self.absolute() {
            Some((authority, _)) => Some(authority),
            None => self.host(),
        }
    }

    /// The `Host` field, which may differ from the target's authority.
    pub fn host(&self) -> Option<&'b str> {
        self.fields.first("host").and_then(|host| core::str::from_utf8(host).ok())
    }

    /// How the body is framed.
    pub fn body(&self) -> RequestBody {
        self.facts.body
    }

    /// Whether the client waits for [`proceed`](super::ServerConnection::proceed), or for a final answer, before it
    /// sends the body (RFC 9110 section 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.facts.expects_continue && !matches!(self.facts.body, RequestBody::None | RequestBody::Length(0))
    }

    /// Whether the client lets the connection go on after this exchange (RFC 9112 section 9.3).
    pub fn keep_alive(&self) -> bool {
        self.facts.persistent
    }

    /// Whether the client would switch to this protocol: `Upgrade` lists it, `Connection` says `upgrade`, and the
    /// version is 1.1 (RFC 9110 section 7.8).
    pub fn wants_upgrade_to(&self, protocol: &str) -> bool {
        self.facts.upgrade && self.fields.has_token("upgrade", protocol)
    }

    /// A copy that outlives the input. Allocates.
    pub fn to_owned(&self) -> OwnedRequestHead {
        let parts = [self.method.as_bytes(), self.target.as_bytes(), self.fields.lines()];
        OwnedRequestHead {
            bytes: parts.concat().into_boxed_slice(),
            method: self.method.len(),
            target: self.target.len(),
            facts: self.facts,
        }
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    fn absolute(&self) -> Option<(&'b str, &'b str)> {
        if self.target.starts_with('/') { None } else { absolute(self.target) }
    }

    fn path_and_query(&self) -> &'b str {
        self.absolute().map_or(self.target, |(_, rest)| rest)
    }
}

impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("fields", &self.fields)
            .field("facts", &self.facts)
            .finish()
    }
}

/// A request head with bytes of its own, for an answer that is given later.
#[derive(Clone)]
pub struct OwnedRequestHead {
    /// The method, the target and the field lines.
    bytes: Box<[u8]>,
    method: usize,
    target: usize,
    facts: Facts,
}

impl OwnedRequestHead {
    /// The head itself.
    pub fn as_head(&self) -> RequestHead<'_> {
        let part = |from: usize, to: usize| self.bytes.get(from..to).unwrap_or_default();
        let fields_from = self.method + self.target;
        RequestHead {
            method: text(part(0, self.method)),
            target: text(part(self.method, fields_from)),
            fields: Fields::of_head(part(fields_from, self.bytes.len())),
            facts: self.facts,
        }
    }
}

impl fmt::Debug for OwnedRequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_head().fmt(f)
    }
}

/// Where the parts of a complete head lie, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    method: usize,
    target: usize,
    /// The length of the whole head.
    length: usize,
    facts: Facts,
}

/// `HTTP/1.1`
const VERSION_LENGTH: usize = 8;

impl Layout {
    /// Looks for a complete head at the front of `bytes`, going on from `scan`.
    fn find(bytes: &[u8], scan: &mut Scan, limits: &Limits) -> Result<Option<Self>, Fault> {
        if scan.is_fresh() {
            if let Some(found) = Self::with_httparse(bytes, limits) {
                return found.map(Some);
            }
        }
        Self::with_scan(bytes, scan, limits)
    }

    /// The way of a head that is whole and has nothing unusual in its grammar; `None` for every other.
    pub(super) fn with_httparse(bytes: &[u8], limits: &Limits) -> Option<Result<Self, Fault>> {
        let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; 100];
        let mut request = httparse::Request::new(&mut []);
        let httparse::Status::Complete(length) =
            request.parse_with_uninit_headers(bytes, &mut fields).ok()?
        else {
            return None;
        };
        let (method, target) = (request.method?, request.path?);
        let version = if request.version? == 0 { Version::Http10 } else { Version::Http11 };
        let head = bytes.get(..length)?;
        let within = method.len() <= limits.method_bytes
            && target.len() <= limits.target_bytes
            && length <= limits.head_bytes
            && length <= limits.field_bytes // then so is each line
            && request.headers.len() <= limits.fields as usize;
        // It takes LF alone for a line's end, but CR only before LF: the counts differ if one stands alone.
        let strict = as_many_lf_as_cr(head)
            && head.starts_with(method.as_bytes()) // it skips empty lines
            && target.bytes().all(|byte| is(TARGET, byte));
        if !within || !strict {
            return None;
        }
        let fields = request.headers.iter().map(|field| Field { name: field.name, value: field.value });
        let facts = Facts::of(method, target, version, fields, limits);
        Some(facts.map(|facts| Self { method: method.len(), target: target.len(), length, facts }))
    }

    /// The way of all others.
    pub(super) fn with_scan(bytes: &[u8], scan: &mut Scan, limits: &Limits) -> Result<Option<Self>, Fault> {
        let section = SectionLimits {
            method: limits.method_bytes,
            target: limits.target_bytes,
            section: limits.head_bytes,
            field: limits.field_bytes,
            fields: limits.fields,
            kind: SectionKind::Request,
            tolerance: Tolerance::NONE,
        };
        let Some(length) = scan.scan(bytes, &section)? else { return Ok(None) };
        let head = bytes.get(..length).unwrap_or_default();
        let mut words = head.split(|byte| *byte == b' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let minor = head.get(method.len() + target.len() + 1 + VERSION_LENGTH);
        let version = if minor == Some(&b'0') { Version::Http10 } else { Version::Http11 };
        let (method, target) = (text(method), text(target));
        let mut layout = Self {
            method: method.len(),
            target: target.len(),
            length,
            facts: Facts {
                version,
                body: RequestBody::None,
                persistent: false,
                expects_continue: false,
                expects_other: false,
                upgrade: false,
                websocket: false,
            },
        };
        let fields = Fields::of_head(layout.lines(head));
        layout.facts = Facts::of(method, target, version, fields, limits)?;
        Ok(Some(layout))
    }

    /// The head itself, of the bytes that were looked at.
    fn view<'b>(&self, head: &'b [u8]) -> RequestHead<'b> {
        let target_at = self.method + 1;
        RequestHead {
            method: text(head.get(..self.method).unwrap_or_default()),
            target: text(head.get(target_at..target_at + self.target).unwrap_or_default()),
            fields: Fields::of_head(self.lines(head)),
            facts: self.facts,
        }
    }

    /// The field lines, without the empty line.
    fn lines<'b>(&self, head: &'b [u8]) -> &'b [u8] {
        let start = self.method + 1 + self.target + 1 + VERSION_LENGTH + 2;
        head.get(start..self.length.saturating_sub(2)).unwrap_or_default()
    }
}

/// Counts in bytes, which the compiler makes vector code of, and so in parts whose count fits a byte.
fn as_many_lf_as_cr(bytes: &[u8]) -> bool {
    let (mut lf, mut cr) = (0_usize, 0_usize);
    for part in bytes.chunks(usize::from(u8::MAX)) {
        lf += usize::from(part.iter().fold(0_u8, |count, byte| count + u8::from(*byte == b'\n')));
        cr += usize::from(part.iter().fold(0_u8, |count, byte| count + u8::from(*byte == b'\r')));
    }
    lf == cr
}

/// ASCII that was validated.
pub(super) fn text(ascii: &[u8]) -> &str {
    core::str::from_utf8(ascii).unwrap_or_default()
}
