//! What a request asks for: the path, the query and the fields of its head, understood once and owned.
//!
//! ```text
//!   /v1/kv/{key}   Get  Put  Delete        /hello       Hello       /healthz  Health
//!   /v1/kv         List                    /ok/{id}     Announce    /readyz   Ready
//!   /v1/watch      Watch                   /count       Count       /metrics  Metrics      /  Page
//! ```
//!
//! A path that is none of these is 404; a method that a path does not have is 405 with `Allow`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use keepwatch_protocol::http1::{Fields, RequestHead, StatusCode};
use keepwatch_protocol::websocket::handshake;

use crate::config::Config;
use crate::index::Filter;
use crate::key::{Key, Revision};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Get {
        key: Key,
        unless: Option<EntityTags>,
    },
    Put {
        key: Key,
        only_if: Precondition,
    },
    Delete {
        key: Key,
        only_if: Precondition,
    },
    List {
        prefix: String,
        limit: usize,
        from: Option<Continue>,
    },
    Watch {
        watch: Watch,
        hold: Hold,
    },
    /// With the extensions that are offered, in the client's order.
    Upgrade {
        accept: [u8; 28],
        offers: Vec<String>,
        watch: Option<Watch>,
    },
    Hello,
    Announce {
        id: String,
    },
    Count,
    Health,
    Ready,
    Metrics,
    Page,
}

impl Call {
    /// Whether it looks at what is stored.
    pub(crate) fn reads(&self) -> bool {
        match self {
            Self::Put { only_if, .. } | Self::Delete { only_if, .. } => *only_if != Precondition::default(),
            Self::Get { .. }
            | Self::List { .. }
            | Self::Watch { .. }
            | Self::Upgrade { .. }
            | Self::Metrics => true,
            Self::Hello | Self::Announce { .. } | Self::Count | Self::Health | Self::Ready | Self::Page => {
                false
            }
        }
    }
}

/// A watch, by whatever transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) filter: Filter,
    /// Every change with a greater revision; `None`: from now on.
    pub(crate) since: Option<Revision>,
    /// The state comes first.
    pub(crate) initial: bool,
}

/// The transport of a watch that is no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// One answer, held for so long.
    LongPoll(Duration),
    /// A chunked stream of lines.
    Lines,
    /// Server-sent events.
    Events,
}

/// Where a list goes on: behind a key, at the revision of its first page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Continue {
    pub(crate) at: Revision,
    pub(crate) after: Key,
}

impl Continue {
    pub(crate) const WHAT: &'static str = "continue is what the page before this one said";

    pub(crate) fn parse(token: &str, config: &Config) -> Option<Self> {
        let (at, after) = token.split_once('.')?;
        let at = decimal(at.as_bytes()).and_then(Revision::new)?;
        Some(Self { at, after: Key::new(after, config.key_bytes).ok()? })
    }
}

/// The condition of a write (RFC 9110 section 13.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Precondition {
    pub(crate) if_match: Option<EntityTags>,
    pub(crate) if_none_match: Option<EntityTags>,
}

/// The value of `If-Match` or `If-None-Match`, as far as it can match: an entity tag is a key's revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntityTags {
    Any,
    Revisions(Vec<Revision>),
}

impl EntityTags {
    pub(crate) fn has(&self, revision: Revision) -> bool {
        match self {
            Self::Any => true,
            Self::Revisions(revisions) => revisions.contains(&revision),
        }
    }

    /// `weak` says whether weak tags count (RFC 9110 section 13.1.2), `None` if there is no such field.
    fn parse(fields: Fields<'_>, name: &str, weak: bool) -> Option<Self> {
        let mut revisions = Vec::new();
        let mut found = false;
        for value in fields.all(name) {
            found = true;
            for tag in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if tag == b"*" {
                    return Some(Self::Any);
                }
                let strong = if weak { tag.strip_prefix(b"W/").unwrap_or(tag) } else { tag };
                let number = strong.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\""));
                // A tag that this server never gave matches nothing.
                revisions.extend(number.and_then(decimal).and_then(Revision::new));
            }
        }
        found.then_some(Self::Revisions(revisions))
    }
}

/// Why a request can't be done: the status, what and why, and what the answer's fields say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) why: String,
    pub(crate) fields: Vec<(&'static str, String)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, why: impl fmt::Display) -> Self {
        Self { status, why: why.to_string(), fields: Vec::new() }
    }

    pub(crate) fn with_field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

fn bad(why: impl fmt::Display) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, why)
}

/// Understands a request's head.
pub(crate) fn parse(head: &RequestHead<'_>, config: &Config) -> Result<Call, Refusal> {
    let path = head.path();
    if let Some(key) = path.strip_prefix("/v1/kv/") {
        return key_call(head, key, config);
    }
    if let Some(id) = path.strip_prefix("/ok/") {
        method(head, &["GET", "POST"])?;
        if head.method() == "POST" {
            same_origin(head, config)?;
        }
        return announce(id);
    }
    let call = match path {
        "/v1/watch" => {
            method(head, &["GET"])?;
            return watch_call(head, config);
        }
        "/v1/kv" => {
            method(head, &["GET", "HEAD"])?;
            return list_call(head, config);
        }
        "/" => Call::Page,
        "/hello" => Call::Hello,
        "/count" => Call::Count,
        "/healthz" => Call::Health,
        "/readyz" => Call::Ready,
        "/metrics" => Call::Metrics,
        _ => return Err(Refusal::new(StatusCode::NOT_FOUND, "no such path")),
    };
    method(head, &["GET", "HEAD"])?;
    Ok(call)
}

fn method(head: &RequestHead<'_>, allowed: &[&str]) -> Result<(), Refusal> {
    if allowed.contains(&head.method()) {
        return Ok(());
    }
    let allowed = allowed.join(", ");
    let why = format_args!("this path takes {allowed}").to_string();
    Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, why).with_field("Allow", allowed))
}

fn key_call(head: &RequestHead<'_>, key: &str, config: &Config) -> Result<Call, Refusal> {
    method(head, &["GET", "HEAD", "PUT", "DELETE"])?;
    let key = percent_decode(key, false).map_err(bad)?;
    let key = Key::new(&key, config.key_bytes).map_err(bad)?;
    let only_if = || Precondition {
        if_match: EntityTags::parse(head.fields(), "if-match", false),
        if_none_match: EntityTags::parse(head.fields(), "if-none-match", true),
    };
    Ok(match head.method() {
        "PUT" => {
            same_origin(head, config)?;
            if head.fields().first("content-range").is_some() {
                return Err(bad("a part of a value cannot be put (RFC 9110 section 14.4)"));
            }
            Call::Put { key, only_if: only_if() }
        }
        "DELETE" => {
            same_origin(head, config)?;
            Call::Delete { key, only_if: only_if() }
        }
        _ => Call::Get { key, unless: EntityTags::parse(head.fields(), "if-none-match", true) },
    })
}

fn list_call(head: &RequestHead<'_>, config: &Config) -> Result<Call, Refusal> {
    let mut query = Query::parse(head.query())?;
    let prefix = query.take("prefix").unwrap_or_default();
    let limit = match query.take("limit") {
        None => config.list_items,
        Some(text) => match decimal(text.as_bytes()) {
            Some(limit) if limit > 0 => usize::try_from(limit).unwrap_or(usize::MAX).min(config.list_items),
            _ => return Err(bad("limit is a number of items, from 1")),
        },
    };
    let from = match query.take("continue") {
        None => None,
        Some(token) => Some(Continue::parse(&token, config).ok_or_else(|| bad(Continue::WHAT))?),
    };
    query.end()?;
    Ok(Call::List { prefix: prefix.into_owned(), limit, from })
}

fn announce(id: &str) -> Result<Call, Refusal> {
    let id = percent_decode(id, false).map_err(bad)?;
    if id.is_empty() || id.len() > 1024 {
        return Err(bad("an id has 1 to 1024 bytes"));
    }
    if id.chars().any(char::is_control) {
        return Err(bad("an id has no control characters: it is shown as a line"));
    }
    Ok(Call::Announce { id: id.into_owned() })
}

fn watch_call(head: &RequestHead<'_>, config: &Config) -> Result<Call, Refusal> {
    let mut query = Query::parse(head.query())?;
    let (key, prefix) = (query.take("key"), query.take("prefix"));
    let since = query.take("since");
    let initial = match query.take("initial").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(bad("initial is true or false")),
    };
    let wait = match query.take("wait") {
        None => None,
        Some(text) => Some(duration(&text).ok_or_else(|| bad("wait is digits and ms, s or m: 30s"))?),
    };
    query.end()?;
    // Last-Event-ID wins: an EventSource that reconnects keeps the URL that it first had.
    let last = head.fields().first("last-event-id").filter(|value| !value.is_empty());
    let since = match (last, &since) {
        (Some(id), _) => Some(decimal(id).and_then(Revision::new)),
        (None, Some(text)) => Some(decimal(text.as_bytes()).and_then(Revision::new)),
        (None, None) => None,
    };
    let since = match since {
        Some(None) => return Err(bad("since and Last-Event-ID are a revision")),
        Some(revision) => revision,
        None => None,
    };
    let upgrade = head.wants_upgrade_to("websocket");
    let filter = match (&key, &prefix) {
        (Some(_), Some(_)) => return Err(bad("a watch has a key or a prefix, not both")),
        (None, None) => None,
        (Some(key), None) => Some(Filter::key(key, config.key_bytes).map_err(bad)?),
        (None, Some(prefix)) => Some(Filter::prefix(prefix, config.key_bytes).map_err(bad)?),
    };
    let watch = filter.map(|filter| Watch { filter, since, initial });
    if upgrade {
        same_origin(head, config)?;
        if watch.is_none() && (since.is_some() || initial) {
            return Err(bad("since and initial need a key or a prefix"));
        }
        return upgrade_call(head, watch);
    }
    let Some(watch) = watch else {
        return Err(bad("a watch needs a key or a prefix (which may be empty: everything)"));
    };
    let hold = match wait {
        Some(wait) => Hold::LongPoll(wait.min(config.hold)),
        None => accepted(head.fields()).unwrap_or(Hold::LongPoll(config.hold)),
    };
    if initial && matches!(hold, Hold::LongPoll(_)) {
        return Err(bad("initial is for streams: before a long poll, list"));
    }
    Ok(Call::Watch { watch, hold })
}

fn upgrade_call(head: &RequestHead<'_>, watch: Option<Watch>) -> Result<Call, Refusal> {
    let fields = head.fields().iter().map(|field| (field.name, field.value));
    match handshake::check(head.method(), true, fields) {
        Ok(accepted) => {
            let offers = accepted.extensions().map(str::to_owned).collect();
            Ok(Call::Upgrade { accept: *accepted.accept_key(), offers, watch })
        }
        Err(rejected) => {
            let status = StatusCode::new(rejected.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let refusal = Refusal::new(status, rejected.reason());
            Err(rejected
                .fields()
                .iter()
                .fold(refusal, |refusal, (name, value)| refusal.with_field(name, *value)))
        }
    }
}

/// The stream that `Accept` prefers, if it prefers one to a long poll's answer (RFC 9110 section 12.5.1). What it does not
/// name, or only by a range, is no wish for a stream.
fn accepted(fields: Fields<'_>) -> Option<Hold> {
    let mut best: Option<(u16, Hold)> = None;
    let mut plain = 0;
    for member in fields.all("accept").flat_map(|value| value.split(|byte| *byte == b',')) {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let range = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| {
            let (name, value) = (part.get(..2)?, part.get(2..)?);
            name.eq_ignore_ascii_case(b"q=").then(|| quality(value)).flatten()
        });
        let weight = weight.unwrap_or(1000);
        let hold = if range.eq_ignore_ascii_case(b"application/x-ndjson") {
            Hold::Lines
        } else if range.eq_ignore_ascii_case(b"text/event-stream") {
            Hold::Events
        } else {
            if range.eq_ignore_ascii_case(b"application/json") {
                plain = plain.max(weight);
            }
            continue;
        };
        if weight > 0 && best.is_none_or(|(other, _)| weight > other) {
            best = Some((weight, hold));
        }
    }
    best.filter(|(weight, _)| *weight >= plain).map(|(_, hold)| hold)
}

/// A weight in thousandths: `0`, `0.5`, `1.000`.
fn quality(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text {
        [b'0' | b'1'] => (text[0], &[][..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
        _ => return None,
    };
    let mut thousandths = u16::from(whole - b'0') * 1000;
    for (digit, scale) in fraction.iter().zip([100, 10, 1]) {
        thousandths += u16::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?) * scale;
    }
    (thousandths <= 1000).then_some(thousandths)
}

/// Refuses a request that a page of another origin sent: a WebSocket has no preflight, and a simple write none either.
/// A request without `Origin` is not from a page.
fn same_origin(head: &RequestHead<'_>, config: &Config) -> Result<(), Refusal> {
    let mut origins = head.fields().all("origin");
    let Some(origin) = origins.next() else { return Ok(()) };
    let one = origins.next().is_none();
    let own = handshake::is_own_origin(origin, head.authority());
    if one && (own || config.origins.iter().any(|other| other.as_bytes() == origin)) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::FORBIDDEN, "the Origin is not this server's"))
}

/// The parameters of a query, each at most once, decoded.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// More than any path takes.
    const MOST: usize = 16;

    fn parse(query: Option<&'a str>) -> Result<Self, Refusal> {
        let mut parameters: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = percent_decode(name, true).map_err(bad)?;
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(bad(format_args!("the parameter {name:?} stands there twice")));
            }
            if parameters.len() == Self::MOST {
                return Err(bad("too many parameters"));
            }
            parameters.push((name, percent_decode(value, true).map_err(bad)?));
        }
        Ok(Self(parameters))
    }

    fn take(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let found = self.0.iter().position(|(other, _)| other == name);
        found.map(|index| self.0.swap_remove(index).1)
    }

    /// What is left is a parameter that the path does not have: more likely a typing error than meant to be ignored.
    fn end(self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(bad(format_args!("there is no parameter {name:?} here"))),
        }
    }
}

/// Decodes once (RFC 3986 section 2.1); the result is UTF-8. In a query, `+` is a space, as forms write it.
fn percent_decode(text: &str, query: bool) -> Result<Cow<'_, str>, &'static str> {
    if !text.bytes().any(|byte| byte == b'%' || (query && byte == b'+')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err("a % is followed by two hexadecimal digits"),
                }
            }
            b'+' if query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| "what is percent-encoded is UTF-8")
}

/// Digits, and nothing else: no sign, no space.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Digits and `ms`, `s` or `m`. What is too long for the type is as long as it can be: the caller cuts it anyway.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return None;
    }
    let number = decimal(number.as_bytes()).unwrap_or(u64::MAX);
    let millis = match unit {
        "ms" => number,
        "s" => number.saturating_mul(1000),
        "m" => number.saturating_mul(60_000),
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
