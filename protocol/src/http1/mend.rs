//! What a client lets pass in field lines is put right where it stands, so that whoever reads them meets the grammar.
//!
//! Everything is overwritten in the caller's own bytes and keeps its length: nothing is copied.
//!
//! | comes | becomes | RFC 9112 |
//! | --- | --- | --- |
//! | `X: a\r\n\tb` | `X: a` and three spaces and `b` | section 5.2: "one or more SP" |
//! | `X : a` | `X:  a` | section 5.1 |

use super::error::Fault;

/// Puts right the lines of a section that was validated.
///
/// # Errors
///
/// [`Fault::Fold`] if a field that frames the message is folded: two readers could see two values.
pub(super) fn mend(lines: &mut [u8]) -> Result<(), Fault> {
    let (mut at, mut frames) = (0, false);
    while let Some(first) = lines.get(at) {
        let rest = lines.get(at..).unwrap_or_default();
        let next = at + rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        if !is_blank(*first) {
            frames = mend_name(lines.get_mut(at..next).unwrap_or_default());
        } else if frames {
            return Err(Fault::Fold);
        } else {
            let (before, fold) = lines.split_at_mut(at);
            before.iter_mut().rev().take_while(|byte| matches!(byte, b'\r' | b'\n')).for_each(blank);
            fold.iter_mut().take_while(|byte| is_blank(**byte)).for_each(blank);
        }
        at = next;
    }
    Ok(())
}

/// The lines of a section without the empty one that ends it.
pub(super) fn without_last_line(section: &mut [u8]) -> &mut [u8] {
    let end = if section.ends_with(b"\r\n") { 2 } else { 1 };
    let length = section.len().saturating_sub(end);
    section.get_mut(..length).unwrap_or_default()
}

/// Puts the colon right behind the name. Returns whether the field frames the message.
fn mend_name(line: &mut [u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let name = line.iter().take(colon).take_while(|byte| !is_blank(**byte)).count();
    if let Some([first, rest @ ..]) = line.get_mut(name..=colon) {
        *first = b':';
        rest.iter_mut().for_each(blank);
    }
    let name = line.get(..name).unwrap_or_default();
    ["connection", "content-length", "transfer-encoding", "upgrade"]
        .iter()
        .any(|framing| name.eq_ignore_ascii_case(framing.as_bytes()))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn blank(byte: &mut u8) {
    *byte = b' ';
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(lines: &[u8]) -> Result<alloc::vec::Vec<u8>, Fault> {
        let mut lines = lines.to_vec();
        mend(&mut lines).map(|()| lines)
    }

    #[test]
    fn what_follows_the_grammar_stays() {
        for lines in [&b""[..], b"A: b\r\nC: d : e\tf\r\n", b"A:\nB: \n"] {
            assert_eq!(mended(lines).unwrap(), lines);
        }
    }

    #[test]
    fn folds_become_spaces() {
        assert_eq!(mended(b"A: b\r\n c\r\n").unwrap(), b"A: b   c\r\n");
        assert_eq!(mended(b"A: b\n\t \tc\nB: d\n").unwrap(), b"A: b    c\nB: d\n");
        assert_eq!(mended(b"A:\r\n \r\n\t\r\nB: :\r\n").unwrap(), b"A:      \r\nB: :\r\n");
    }

    #[test]
    fn a_fold_in_what_frames_is_refused() {
        for name in ["Content-Length", "TRANSFER-ENCODING ", "connection", "Upgrade\t"] {
            let lines = alloc::format!("X: y\r\n{name}: 1\r\n 2\r\n");
            assert_eq!(mended(lines.as_bytes()), Err(Fault::Fold), "{name}");
        }
    }

    #[test]
    fn a_colon_goes_behind_its_name() {
        assert_eq!(mended(b"A \t: b\r\nC: d :e\r\n").unwrap(), b"A:   b\r\nC: d :e\r\n");
    }

    #[test]
    fn the_last_line_ends_either_way() {
        assert_eq!(without_last_line(&mut b"A: b\r\n\r\n".to_vec()), b"A: b\r\n");
        assert_eq!(without_last_line(&mut b"A: b\n\n".to_vec()), b"A: b\n");
        assert_eq!(without_last_line(&mut b"\n".to_vec()), b"");
    }
}
