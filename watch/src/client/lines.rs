//! Lines of a stream that comes in parts.

/// The memory that is kept from one line, or one answer, for the next.
pub(super) const KEPT_BYTES: usize = 16 << 10;

/// Splits at LF. A line without its end is not given.
#[derive(Debug, Default)]
pub(super) struct Lines {
    part: Vec<u8>,
}

/// A line is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineTooLong;

impl Lines {
    /// Takes bytes up to the end of the next line, and calls `with` with the line; takes all, if there is no end.
    pub(super) fn next<T>(
        &mut self,
        bytes: &mut &[u8],
        limit: usize,
        with: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, LineTooLong> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        if line.len() > limit.saturating_sub(self.part.len()) {
            return Err(LineTooLong);
        }
        *bytes = rest.get(1..).unwrap_or_default();
        if end.is_none() {
            self.part.extend_from_slice(line);
            return Ok(None);
        }
        if self.part.is_empty() {
            return Ok(Some(with(line)));
        }
        self.part.extend_from_slice(line);
        let made = with(&self.part);
        self.part.clear();
        self.part.shrink_to(KEPT_BYTES);
        Ok(Some(made))
    }
}

#[cfg(test)]
mod tests {
    use keepwatch_sim::cuts;

    use super::*;

    fn lines(parts: &[&[u8]], limit: usize) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for part in parts {
            let mut rest = *part;
            while let Some(line) = lines.next(&mut rest, limit, <[u8]>::to_vec)? {
                all.push(line);
            }
            assert!(rest.is_empty());
        }
        Ok(all)
    }

    #[test]
    fn the_same_lines_however_they_are_cut() {
        let text = b"one\n\nthree\nfour";
        let seen = cuts::every_and_behind(
            text,
            b"5\n",
            |parts| lines(parts, 5),
            |lines| lines.as_mut().unwrap().push(b"four5".to_vec()),
        );
        assert_eq!(seen, Ok(vec![b"one".to_vec(), b"".to_vec(), b"three".to_vec()]));
    }

    #[test]
    fn the_memory_of_a_long_line_is_not_kept() {
        let mut lines = Lines::default();
        let long = vec![b'x'; 2 * KEPT_BYTES];
        assert_eq!(lines.next(&mut &long[..], usize::MAX, <[u8]>::len), Ok(None));
        assert_eq!(lines.next(&mut &b"\n"[..], usize::MAX, <[u8]>::len), Ok(Some(long.len())));
        assert!((1..=KEPT_BYTES).contains(&lines.part.capacity()), "{}", lines.part.capacity());
    }

    #[test]
    fn a_line_over_the_limit_is_refused_before_its_end_comes() {
        assert_eq!(lines(&[b"1234"], 4), Ok(vec![]));
        assert_eq!(lines(&[b"12345"], 4), Err(LineTooLong));
        assert_eq!(lines(&[b"123", b"45"], 4), Err(LineTooLong));
        assert_eq!(lines(&[b"12345\n"], 4), Err(LineTooLong));
    }
}
