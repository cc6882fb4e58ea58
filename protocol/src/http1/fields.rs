//! Field lines, as a view over the bytes that came (RFC 9110 section 5).

use core::fmt;

/// One field line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'b> {
    /// The name as it came, a token. Names are compared without regard to case: see [`Field::is`].
    pub name: &'b str,
    /// The value without the whitespace around it: visible ASCII, spaces, tabs and bytes from 0x80 on.
    pub value: &'b [u8],
}

impl Field<'_> {
    /// Whether this is its name, in whatever case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.value.escape_ascii())
    }
}

/// The field lines of a head or a trailer section: all, in the order in which they came, repeated ones included.
///
/// It is a view over validated bytes, made a field at a time as it is walked through; copying it costs nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Fields<'b> {
    /// Valid field lines, each with its CR LF, or with LF alone where that was let pass.
    lines: &'b [u8],
    /// Fields that a trailer section must not carry are passed over.
    trailers: bool,
}

impl<'b> Fields<'b> {
    /// Of lines that were validated, each with its end.
    pub(super) const fn of_head(lines: &'b [u8]) -> Self {
        Self { lines, trailers: false }
    }

    /// The same, of a trailer section.
    pub(super) const fn of_trailers(lines: &'b [u8]) -> Self {
        Self { lines, trailers: true }
    }

    /// The lines themselves.
    pub(super) const fn lines(self) -> &'b [u8] {
        self.lines
    }

    /// Each field line, in order.
    pub fn iter(&self) -> FieldsIter<'b> {
        FieldsIter(*self)
    }

    /// The value of the first line with this name.
    pub fn first(&self, name: &str) -> Option<&'b [u8]> {
        self.all(name).next()
    }

    /// The values of all lines with this name, in order.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.iter().filter(move |field| field.is(name)).map(|field| field.value)
    }

    /// Whether the lists in all lines with this name have this member, in whatever case (RFC 9110 section 5.6.1).
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).any(|value| members(value).any(|member| member.eq_ignore_ascii_case(token.as_bytes())))
    }
}

impl<'b> IntoIterator for Fields<'b> {
    type Item = Field<'b>;
    type IntoIter = FieldsIter<'b>;

    fn into_iter(self) -> FieldsIter<'b> {
        FieldsIter(self)
    }
}

impl<'b> IntoIterator for &Fields<'b> {
    type Item = Field<'b>;
    type IntoIter = FieldsIter<'b>;

    fn into_iter(self) -> FieldsIter<'b> {
        self.iter()
    }
}

/// Walks through [`Fields`].
#[derive(Clone, Debug)]
pub struct FieldsIter<'b>(Fields<'b>);

impl<'b> Iterator for FieldsIter<'b> {
    type Item = Field<'b>;

    fn next(&mut self) -> Option<Field<'b>> {
        loop {
            let end = self.0.lines.iter().position(|byte| *byte == b'\n')?;
            let (line, rest) = self.0.lines.split_at(end);
            self.0.lines = rest.get(1..).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let colon = line.iter().position(|byte| *byte == b':')?;
            let field = Field {
                name: core::str::from_utf8(&line[..colon]).ok()?,
                value: trim(line.get(colon + 1..).unwrap_or_default()),
            };
            if !(self.0.trailers && forbidden_in_trailers(field.name)) {
                return Some(field);
            }
        }
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// The value without the spaces and tabs around it, and without other bytes that some take for whitespace.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The members of a list, trimmed; empty ones are among them. A comma within a quoted string separates nothing.
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(move |byte| {
            if escaped {
                escaped = false;
            } else if *byte == b'"' {
                quoted = !quoted;
            } else if quoted && *byte == b'\\' {
                escaped = true;
            }
            *byte == b',' && !quoted
        })
        .map(trim)
}

/// Whether a field frames, routes or authenticates the message, modifies the request, controls the response or tells the
/// content's format, so that it must be known before the content and has no place behind it (RFC 9110 section 6.5.1). Of
/// the fields named `Content-` one is defined to have a place there: `Content-Digest` (RFC 9530 section 2).
pub(super) fn forbidden_in_trailers(name: &str) -> bool {
    const NAMES: [&str; 29] = [
        "age",
        "authorization",
        "connection",
        "cookie",
        "date",
        "expect",
        "expires",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "location",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authorization",
        "range",
        "retry-after",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "warning",
        "www-authenticate",
    ];
    let starts_with =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    NAMES.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
        || starts_with("cache-")
        || starts_with("content-") && !name.eq_ignore_ascii_case("content-digest")
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn lines_keep_their_order_and_repeats() {
        let fields = Fields::of_head(b"A: 1\r\nb:\t 2 \t\r\na:\xa03\r\nEmpty:\r\n");
        let all: Vec<_> = fields.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!(all, [("A", &b"1"[..]), ("b", b"2"), ("a", b"\xa03"), ("Empty", b"")]);
        assert_eq!(fields.first("B"), Some(&b"2"[..]));
        assert_eq!(fields.all("a").collect::<Vec<_>>(), [&b"1"[..], b"\xa03"]);
        assert_eq!(fields.first("c"), None);
    }

    #[test]
    fn lines_may_end_with_lf_alone() {
        let fields = Fields::of_head(b"A: 1\nB:\nC: 3\r\n");
        let all: Vec<_> = fields.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!(all, [("A", &b"1"[..]), ("B", b""), ("C", b"3")]);
    }

    #[test]
    fn lists_run_over_lines_and_know_quotes() {
        let fields = Fields::of_head(b"C: a , ,B\r\nC: \"x, close, \\\", close\" ,\td\r\n");
        for (token, there) in
            [("A", true), ("b", true), ("D", true), ("close", false), ("", true), ("a ", false)]
        {
            assert_eq!(fields.has_token("c", token), there, "{token:?}");
        }
    }

    #[test]
    fn trailers_hide_what_they_must_not_carry() {
        let lines =
            b"Content-Length: 3\r\nX: 1\r\nhost: a\r\nContent-Digest: d\r\nCache-Control: no-store\r\n";
        let names: Vec<_> = Fields::of_trailers(lines).iter().map(|field| field.name).collect();
        assert_eq!(names, ["X", "Content-Digest"]);
        assert_eq!(Fields::of_head(lines).iter().count(), 5);
    }

    #[test]
    fn what_must_be_known_before_the_content_is_no_trailer() {
        // RFC 9110 section 6.5.1, kind by kind.
        for kind in [
            &["Transfer-Encoding", "Content-Length", "Trailer", "Connection", "TE", "Upgrade"][..], // framing
            &["Host", "Max-Forwards"],
            &["Authorization", "Proxy-Authenticate", "Proxy-Authorization", "Set-Cookie", "WWW-Authenticate"],
            &["Expect", "If-Match", "Pragma", "Range"], // modifiers of requests
            &["Age", "Cache-Control", "Date", "Expires", "Location", "Retry-After", "Vary", "Warning"],
            &["Content-Encoding", "Content-Type", "Content-Range", "Content-X"],
        ] {
            for name in kind {
                assert!(forbidden_in_trailers(name), "{name}");
                assert!(forbidden_in_trailers(&name.to_ascii_uppercase()), "{name}");
            }
        }
        // Their definitions allow it: RFC 9530 section 2, RFC 9110 sections 8.8.3 and 11.6.3.
        for name in ["Content-Digest", "Repr-Digest", "ETag", "Authentication-Info", "X", "Contents"] {
            assert!(!forbidden_in_trailers(name), "{name}");
        }
    }
}
