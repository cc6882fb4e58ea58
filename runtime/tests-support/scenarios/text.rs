//! What one side says, as a script writes it: bytes, revisions that are known when it is played, and what may be anything.

/// A text of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    /// So many revisions behind the one at the start.
    Revision(u64),
    /// Any bytes of one line.
    Any,
}

/// A part of what is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Bytes(Vec<u8>),
    /// Any bytes up to what follows, line breaks excepted.
    Any,
}

impl Text {
    /// What a client says: a `*` is a `*`.
    pub(crate) fn said(text: &str) -> Self {
        Self::parse(text, false)
    }

    /// What is expected: a `*` is any bytes.
    pub(crate) fn expected(text: &str) -> Self {
        Self::parse(text, true)
    }

    pub(crate) fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(vec![Piece::Bytes(bytes.into())])
    }

    pub(crate) fn any() -> Self {
        Self(vec![Piece::Any])
    }

    /// One behind the other.
    pub(crate) fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    pub(crate) fn has_any(&self) -> bool {
        self.0.contains(&Piece::Any)
    }

    /// What it is for a server that began at this revision.
    pub(crate) fn parts(&self, start: u64) -> Vec<Part> {
        let mut parts = vec![];
        for piece in &self.0 {
            let bytes = match piece {
                Piece::Bytes(bytes) => bytes.clone(),
                Piece::Revision(behind) => (start + behind).to_string().into_bytes(),
                Piece::Any => {
                    parts.push(Part::Any);
                    continue;
                }
            };
            match parts.last_mut() {
                Some(Part::Bytes(before)) => before.extend(bytes),
                _ => parts.push(Part::Bytes(bytes)),
            }
        }
        parts
    }

    /// The same where nothing is left open.
    pub(crate) fn whole(&self, start: u64) -> Vec<u8> {
        match &self.parts(start)[..] {
            [] => vec![],
            [Part::Bytes(bytes)] => bytes.clone(),
            parts => panic!("what is sent or counted is known: {parts:?}"),
        }
    }

    fn parse(text: &str, stars: bool) -> Self {
        let mut pieces = vec![];
        let mut rest = text.chars();
        let mut bytes = vec![];
        while let Some(next) = rest.next() {
            let piece = match next {
                '\\' => {
                    bytes.extend(escaped(&mut rest));
                    continue;
                }
                '@' => {
                    let digits = rest.as_str().chars().take_while(char::is_ascii_digit).count();
                    let number = rest.as_str()[..digits].parse().expect("a number behind @");
                    rest = rest.as_str()[digits..].chars();
                    Piece::Revision(number)
                }
                '*' if stars => Piece::Any,
                plain => {
                    bytes.extend(plain.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            pieces.extend([Piece::Bytes(std::mem::take(&mut bytes)), piece]);
        }
        pieces.push(Piece::Bytes(bytes));
        pieces.retain(|piece| *piece != Piece::Bytes(vec![]));
        Self(pieces)
    }
}

/// What stands behind a backslash.
fn escaped(rest: &mut std::str::Chars<'_>) -> Vec<u8> {
    match rest.next() {
        Some('r') => vec![b'\r'],
        Some('n') => vec![b'\n'],
        Some('x') => {
            let digits = rest.as_str().get(..2).expect("two digits behind \\x");
            *rest = rest.as_str()[2..].chars();
            vec![u8::from_str_radix(digits, 16).expect("hexadecimal digits")]
        }
        Some('[') => {
            let (inside, behind) = rest.as_str().split_once(']').expect("the end of \\[");
            *rest = behind.chars();
            let (times, what) = inside.split_once(' ').expect("\\[TIMES TEXT]");
            Text::said(what).whole(0).repeat(times.parse().expect("how often"))
        }
        Some(itself @ ('\\' | '@' | '*')) => vec![itself as u8],
        other => panic!("{other:?} behind a backslash"),
    }
}

/// How what came compares to what is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// So many bytes are what is expected.
    Same(usize),
    /// So far it is, and more is to come.
    SoFar,
    /// It is not, from this byte on.
    Differs(usize),
}

/// Compares the start of what came.
pub(crate) fn compare(expected: &[Part], came: &[u8]) -> Compared {
    let (mut at, mut open) = (0, false);
    for part in expected {
        let bytes = match part {
            Part::Any => {
                open = true;
                continue;
            }
            Part::Bytes(bytes) => bytes,
        };
        loop {
            let same = bytes.iter().zip(&came[at..]).take_while(|(a, b)| a == b).count();
            if same == bytes.len() {
                at += same;
                break;
            }
            if at + same == came.len() {
                return Compared::SoFar;
            }
            if !open || b"\r\n".contains(&came[at]) {
                return Compared::Differs(at + same);
            }
            at += 1;
        }
        open = false;
    }
    assert!(!open, "what follows a * says where it ends");
    Compared::Same(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(expected: &str, came: &str) -> Compared {
        compare(&Text::expected(expected).parts(100), came.as_bytes())
    }

    #[test]
    fn a_text_is_bytes_and_revisions() {
        assert_eq!(Text::said(r"a\r\n\x00\\\@7*").whole(0), b"a\r\n\0\\@7*");
        assert_eq!(Text::said(r#"{"revision":@12}"#).whole(100), br#"{"revision":112}"#);
        assert_eq!(Text::said(r"<\[3 a\n]>").whole(0), b"<a\na\na\n>");
    }

    #[test]
    fn what_came_is_the_same_or_may_become_so_or_differs() {
        assert_eq!(compared("ab@1", "ab101c"), Compared::Same(5));
        assert_eq!(compared("ab@1", "ab10"), Compared::SoFar);
        assert_eq!(compared("ab@1", "ab102"), Compared::Differs(4));
        assert_eq!(compared("ab", ""), Compared::SoFar);
    }

    #[test]
    fn a_star_is_the_rest_of_its_line() {
        assert_eq!(compared(r"a: *\r\nb", "a: 1\r\nb"), Compared::Same(7));
        assert_eq!(compared(r"a: *\r\nb", "a: \r\nb"), Compared::Same(6));
        assert_eq!(compared(r"a: *\r\nb", "a: 1\r"), Compared::SoFar);
        assert_eq!(compared(r"a: *\r\nb", "a: 1\r\nc"), Compared::Differs(6));
        assert_eq!(compared("a*z", "a1\nz"), Compared::Differs(2));
    }
}
