//! The validator for heads that arrive in parts: it looks at each byte once, and fails at the first that is impossible.
//!
//! ```text
//!   Method ─SP─► Target ─SP─► Version ─CR─► LineLf ─LF─► FieldStart ─CR─► LastLf ─LF─► complete
//!        (a response:) Version ─SP─► Status ─SP─► Reason ─CR─┘   ▲   │ token
//!                                                      ValueLf ──┘   ▼
//!                                                         ▲──CR── Value ◄─:── Name
//! ```
//!
//! A trailer section is the same from `FieldStart` on. What a [`Tolerance`] lets pass goes from `Value` or `Reason` to
//! `FieldStart` with LF alone, from `FieldStart` back to `Value` with a space (a fold), and from `Name` to the colon over
//! spaces (`Colon`). The bytes stay with the caller until the section is complete;
//! the validator remembers how far it has looked.

use super::error::Fault;

/// A byte of a token (RFC 9110 section 5.6.2).
pub(super) const TOKEN: u8 = 1;
/// A byte of a request-target: visible ASCII but `#`.
pub(super) const TARGET: u8 = 2;
/// A byte of a field value: visible, space, tab, or from 0x80 on (RFC 9110 section 5.5).
pub(super) const VALUE: u8 = 4;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let visible = b > 0x20 && b < 0x7f;
        if b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
            || matches!(b, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
        {
            table[byte] |= TOKEN;
        }
        if visible && b != b'#' {
            table[byte] |= TARGET;
        }
        if visible || b == b' ' || b == b'\t' || b >= 0x80 {
            table[byte] |= VALUE;
        }
        byte += 1;
    }
    table
}

/// Whether a byte is of a class.
pub(super) fn is(class: u8, byte: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// Whether these bytes are a token.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is(TOKEN, *byte))
}

/// The first place from `from` on, and before `end`, with a byte that is not of the class; `end` if there is none.
fn run(bytes: &[u8], from: usize, end: usize, class: u8) -> usize {
    let part = bytes.get(from..end).unwrap_or_default();
    from + part.iter().position(|byte| !is(class, *byte)).unwrap_or(part.len())
}

/// What a section may hold, and what it is called when it holds more.
#[derive(Clone, Copy, Debug)]
pub(super) struct SectionLimits {
    pub(super) method: usize,
    pub(super) target: usize,
    pub(super) section: usize,
    pub(super) field: usize,
    pub(super) fields: u16,
    pub(super) kind: SectionKind,
    pub(super) tolerance: Tolerance,
}

impl SectionLimits {
    fn or_trailers(&self, fault: Fault) -> Fault {
        if self.kind == SectionKind::Trailers { Fault::TrailersTooLarge } else { fault }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SectionKind {
    Request,
    Response,
    Trailers,
}

/// What is let pass although the grammar does not have it. A server lets nothing pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tolerance {
    /// Lines of heads and trailer sections that end with LF alone (RFC 9112 section 2.2).
    pub(super) bare_lf: bool,
    /// Whitespace between a field's name and the colon (RFC 9112 section 5.1).
    pub(super) space_before_colon: bool,
    /// Fields over several lines (RFC 9112 section 5.2).
    pub(super) folds: bool,
    /// Whitespace after a chunk's size (RFC 9112 section 7.1).
    pub(super) space_after_size: bool,
}

impl Tolerance {
    /// Of a server, and of parts that are used by themselves.
    pub(super) const NONE: Self =
        Self { bare_lf: false, space_before_colon: false, folds: false, space_after_size: false };
}

/// How far a head or a trailer section was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Everything before was looked at.
    at: u32,
    /// Where the current target or field line began.
    start: u32,
    fields: u16,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Method,
    Target,
    /// So many bytes of `HTTP/1.1` were seen.
    Version(u8),
    /// So many digits of the status were seen.
    Status(u8),
    Reason,
    LineLf,
    FieldStart,
    Name,
    /// In whitespace between a name and its colon.
    Colon,
    Value,
    ValueLf,
    LastLf,
}

impl Scan {
    /// Before a request head.
    pub(super) const fn request() -> Self {
        Self { at: 0, start: 0, fields: 0, state: State::Method }
    }

    /// Before a response head.
    pub(super) const fn response() -> Self {
        Self { at: 0, start: 0, fields: 0, state: State::Version(0) }
    }

    /// Before a trailer section.
    pub(super) const fn trailers() -> Self {
        Self { at: 0, start: 0, fields: 0, state: State::FieldStart }
    }

    /// Whether nothing was looked at yet.
    pub(super) const fn is_fresh(&self) -> bool {
        self.at == 0
    }

    /// Looks at what is new in `bytes`, which begin where the section begins. Returns the section's length once it is
    /// complete, with its last CR LF.
    pub(super) fn scan(&mut self, bytes: &[u8], limits: &SectionLimits) -> Result<Option<usize>, Fault> {
        let end = bytes.len().min(limits.section);
        let mut at = self.at as usize;
        let mut start = self.start as usize;
        let bare_lf = limits.tolerance.bare_lf;
        let response = limits.kind == SectionKind::Response;
        while let Some(&byte) = bytes.get(at..end).and_then(<[u8]>::first) {
            match self.state {
                State::Method => {
                    let stop = run(bytes, at, end.min(limits.method.saturating_add(1)), TOKEN);
                    if stop > limits.method {
                        return Err(Fault::MethodTooLong);
                    }
                    at = stop;
                    match bytes.get(at..end).and_then(<[u8]>::first) {
                        None => break,
                        Some(b' ') if at > 0 => {}
                        Some(0x16) if at == 0 => return Err(Fault::Tls),
                        Some(_) => return Err(Fault::RequestLine),
                    }
                    at += 1;
                    start = at;
                    self.state = State::Target;
                    continue;
                }
                State::Target => {
                    let most = start.saturating_add(limits.target);
                    at = run(bytes, at, end.min(most.saturating_add(1)), TARGET);
                    if at > most {
                        return Err(Fault::TargetTooLong);
                    }
                    match bytes.get(at..end).and_then(<[u8]>::first) {
                        None => break,
                        Some(b' ') if at > start => self.state = State::Version(0),
                        Some(b' ' | b'\r' | b'\n') => return Err(Fault::RequestLine),
                        Some(_) => return Err(Fault::Target),
                    }
                }
                State::Version(seen) => {
                    self.state = State::Version(seen + 1);
                    match (seen, byte) {
                        (0..=4, _) if Some(&byte) == b"HTTP/".get(seen as usize) => {}
                        (0, 0x15 | 0x16) if at == 0 => return Err(Fault::Tls),
                        (5, b'0'..=b'9') | (6, b'.') => {}
                        (7, b'0'..=b'9') => {
                            if at.checked_sub(2).and_then(|major| bytes.get(major)) != Some(&b'1') {
                                return Err(Fault::Version);
                            }
                        }
                        (8, b' ') if response => self.state = State::Status(0),
                        (8, _) if response => return Err(Fault::StatusLine),
                        (8, b'\r') => self.state = State::LineLf,
                        (8, b'\n') => return Err(Fault::BareLf),
                        (8, b' ' | b'\t') => return Err(Fault::RequestLine),
                        _ => return Err(Fault::VersionGrammar),
                    }
                }
                State::Status(digits) => {
                    self.state = match (digits, byte) {
                        (0, b'0') => return Err(Fault::Status),
                        (0..=2, b'0'..=b'9') => State::Status(digits + 1),
                        (3, b' ') => State::Reason,
                        (3, b'\r') => State::LineLf,
                        (3, b'\n') if bare_lf => State::FieldStart,
                        (3, b'\n') => return Err(Fault::BareLf),
                        _ => return Err(Fault::StatusLine),
                    };
                }
                State::Reason => {
                    at = run(bytes, at, end, VALUE);
                    self.state = match bytes.get(at..end).and_then(<[u8]>::first) {
                        None => break,
                        Some(b'\r') => State::LineLf,
                        Some(b'\n') if bare_lf => State::FieldStart,
                        Some(b'\n') => return Err(Fault::BareLf),
                        Some(_) => return Err(Fault::StatusLine),
                    };
                }
                State::LineLf | State::ValueLf if byte == b'\n' => self.state = State::FieldStart,
                State::LastLf if byte == b'\n' => return Ok(Some(at + 1)),
                State::LineLf | State::ValueLf | State::LastLf => return Err(Fault::BareCr),
                State::FieldStart => match byte {
                    b'\r' => self.state = State::LastLf,
                    b'\n' if bare_lf => return Ok(Some(at + 1)),
                    b'\n' => return Err(Fault::BareLf),
                    b' ' | b'\t' if limits.tolerance.folds && self.fields > 0 => self.state = State::Value,
                    b' ' | b'\t' => return Err(Fault::Fold),
                    _ if !is(TOKEN, byte) => return Err(Fault::FieldName),
                    _ if self.fields >= limits.fields => return Err(limits.or_trailers(Fault::TooManyFields)),
                    _ => {
                        self.fields += 1;
                        self.state = State::Name;
                        start = at;
                    }
                },
                State::Name | State::Value => {
                    let class = if self.state == State::Name { TOKEN } else { VALUE };
                    let most = start.saturating_add(limits.field);
                    at = run(bytes, at, end.min(most.saturating_add(1)), class);
                    if at > most {
                        return Err(limits.or_trailers(Fault::FieldTooLarge));
                    }
                    self.state = match (self.state, bytes.get(at..end).and_then(<[u8]>::first)) {
                        (_, None) => break,
                        (State::Name, Some(b':')) => State::Value,
                        (State::Name, Some(b' ' | b'\t')) if limits.tolerance.space_before_colon => {
                            State::Colon
                        }
                        (State::Name, Some(b' ' | b'\t')) => return Err(Fault::SpaceBeforeColon),
                        (State::Name, Some(_)) => return Err(Fault::FieldName),
                        (_, Some(b'\r')) => State::ValueLf,
                        (_, Some(b'\n')) if bare_lf => State::FieldStart,
                        (_, Some(b'\n')) => return Err(Fault::BareLf),
                        (_, Some(_)) => return Err(Fault::FieldValue),
                    };
                }
                State::Colon => match byte {
                    b' ' | b'\t' => {}
                    b':' => self.state = State::Value,
                    _ => return Err(Fault::SpaceBeforeColon),
                },
            }
            at += 1;
        }
        if at >= limits.section {
            return Err(limits.or_trailers(match self.state {
                State::Method => Fault::MethodTooLong,
                State::Target => Fault::TargetTooLong,
                _ => Fault::HeadTooLarge,
            }));
        }
        self.at = u32::try_from(at).map_err(|_| limits.or_trailers(Fault::HeadTooLarge))?;
        self.start = u32::try_from(start).unwrap_or(u32::MAX);
        Ok(None)
    }
}
