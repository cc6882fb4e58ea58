//! Fields as both sides look at them: names and values, in the order of the message.

/// Why there is no single field of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    None,
    Several,
}

/// The value of the one field with this name, in any case.
pub(super) fn one<'a>(
    fields: &(impl Iterator<Item = (&'a str, &'a [u8])> + Clone),
    name: &str,
) -> Result<&'a [u8], Count> {
    let mut values = lines(fields, name);
    let first = values.next().ok_or(Count::None)?;
    if values.next().is_some() { Err(Count::Several) } else { Ok(first) }
}

pub(super) fn lines<'a, 'n, F>(fields: &F, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n, F>
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    fields.clone().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The elements of a list over all lines of its field (RFC 9110 section 5.6.1). Empty ones are passed over.
pub(super) fn list<'a, 'n, F>(fields: &F, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n, F>
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    lines(fields, name).flat_map(Elements)
}

pub(super) fn has_token<'a>(
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
            let end = outside_quotes(self.0, b',').unwrap_or(self.0.len());
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

/// Where the first such byte is that is not in a quoted string (RFC 9110 section 5.6.4).
pub(in super::super) fn outside_quotes(bytes: &[u8], wanted: u8) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    bytes.iter().position(|byte| {
        let found = *byte == wanted && !quoted;
        if *byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && *byte == b'\\' && !escaped;
        found
    })
}

/// A token (RFC 9110 section 5.6.2).
pub(super) fn is_token(element: &[u8]) -> bool {
    element.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

pub(super) fn text(element: &[u8]) -> Option<&str> {
    core::str::from_utf8(element).ok()
}
