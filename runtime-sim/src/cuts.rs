//! The same bytes, cut differently. Where the cuts are is chance, so what a parser or a machine makes of the bytes may not
//! depend on them: [`every`] is the one place that says which cuts a case is tried with.
//!
//! ```
//! use keepwatch_sim::cuts;
//!
//! // A "parser" of lines, and the parts that it is given.
//! fn lines(parts: &[&[u8]]) -> usize {
//!     parts.iter().map(|part| part.iter().filter(|byte| **byte == b'\n').count()).sum()
//! }
//!
//! assert_eq!(cuts::every(b"one\ntwo\n", lines), 2);
//! // With other bytes behind: what is behind a line is not a part of it.
//! assert_eq!(cuts::every_and_behind(b"one\ntwo\n", b"three", lines, |_| {}), 2);
//! ```

use std::fmt::Debug;

/// Gives the bytes to `run` whole, cut in two at every point (so that a part is empty, too), and byte by byte. Returns what it
/// made of the whole.
///
/// # Panics
///
/// This is an assertion: it panics when `run` makes something else of the parts than of the whole.
#[track_caller]
pub fn every<T: Debug + PartialEq>(bytes: &[u8], run: impl FnMut(&[&[u8]]) -> T) -> T {
    cut_at(bytes, |_| true, run)
}

/// The same for bytes that may be many, where every cut takes too long: beyond some 1500 only near both ends, and now and then
/// between.
///
/// # Panics
///
/// As [`every`] does.
#[track_caller]
pub fn many<T: Debug + PartialEq>(bytes: &[u8], run: impl FnMut(&[&[u8]]) -> T) -> T {
    let len = bytes.len();
    cut_at(bytes, |at| len <= 1500 || at <= 300 || at + 300 >= len || at % 61 == 0, run)
}

/// Gives the bytes to `run` in all ways of cutting them that there are: for few bytes, as each more doubles them. Returns what
/// it made of the whole.
///
/// # Panics
///
/// As [`every`] does; and for more than 20 bytes.
#[track_caller]
pub fn all<T: Debug + PartialEq>(bytes: &[u8], mut run: impl FnMut(&[&[u8]]) -> T) -> T {
    assert!(bytes.len() <= 20, "that would take for ever");
    let whole = run(&[bytes]);
    let mut parts = Vec::new();
    for cuts in 1..1_u32 << bytes.len().saturating_sub(1) {
        parts.clear();
        let mut rest = bytes;
        for at in (1..bytes.len()).filter(|at| cuts & (1 << (at - 1)) != 0) {
            let (part, behind) = rest.split_at(at + rest.len() - bytes.len());
            parts.push(part);
            rest = behind;
        }
        parts.push(rest);
        same(&run(&parts), &whole, bytes, || format!("by {cuts:b}"));
    }
    whole
}

#[track_caller]
fn cut_at<T: Debug + PartialEq>(
    bytes: &[u8],
    at: impl Fn(usize) -> bool,
    mut run: impl FnMut(&[&[u8]]) -> T,
) -> T {
    let whole = run(&[bytes]);
    for at in (0..=bytes.len()).filter(|point| at(*point)) {
        let (front, back) = bytes.split_at(at);
        same(&run(&[front, back]), &whole, bytes, || format!("at {at}"));
    }
    same(&run(&by(bytes, &[1])), &whole, bytes, || "everywhere".to_owned());
    whole
}

/// As [`every`]; and once more with other bytes behind, of which has to come what `then` makes of that without them.
///
/// # Panics
///
/// This is an assertion: it panics when there is a difference.
#[track_caller]
pub fn every_and_behind<T: Clone + Debug + PartialEq>(
    bytes: &[u8],
    behind: &[u8],
    mut run: impl FnMut(&[&[u8]]) -> T,
    then: impl FnOnce(&mut T),
) -> T {
    let alone = every(bytes, &mut run);
    let mut expected = alone.clone();
    then(&mut expected);
    let both = [bytes, behind].concat();
    same(&every(&both, run), &expected, &both, || format!("not at all, with {} bytes behind", behind.len()));
    alone
}

/// Cuts bytes into parts of these sizes, over and over; what has no bytes is one empty part. A size of 0 counts as 1.
pub fn by<'a>(bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let (mut rest, mut parts) = (bytes, Vec::new());
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
        let (part, behind) = rest.split_at(size);
        parts.push(part);
        rest = behind;
    }
    if parts.is_empty() {
        parts.push(bytes);
    }
    parts
}

/// Sizes for [`by`]: mostly small, so that heads are cut as well, and some that take much at once.
#[cfg(feature = "proptest")]
pub fn sizes() -> impl proptest::strategy::Strategy<Value = Vec<usize>> {
    proptest::collection::vec(
        proptest::prop_oneof![3 => 1..10_usize, 2 => 1..80_usize, 1 => 1..5000_usize],
        1..12,
    )
}

#[track_caller]
fn same<T: Debug + PartialEq>(parts: &T, whole: &T, bytes: &[u8], cut: impl FnOnce() -> String) {
    assert!(
        parts == whole,
        "cut {}, it is\n  {parts:?}\nand should be\n  {whole:?}\nof \"{}\"",
        cut(),
        bytes.escape_ascii()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_run_whole_cut_at_every_point_and_everywhere() {
        let mut seen = Vec::new();
        every(b"abc", |parts| seen.push(parts.join(&b'|')));
        assert_eq!(seen, [&b"abc"[..], b"|abc", b"a|bc", b"ab|c", b"abc|", b"a|b|c"]);
    }

    #[test]
    fn all_ways_of_cutting_are_tried_once() {
        let mut seen = Vec::new();
        all(b"abc", |parts| seen.push(parts.join(&b'|')));
        assert_eq!(seen, [&b"abc"[..], b"a|bc", b"ab|c", b"a|b|c"]);
    }

    #[test]
    fn what_is_long_is_cut_near_its_ends_and_now_and_then_between() {
        let mut seen = Vec::new();
        many(&[0; 1501], |parts| seen.push(parts[0].len()));
        let points: Vec<usize> = (0..=300).chain([305, 366, 427]).collect();
        assert_eq!((seen[0], &seen[1..305]), (1501, &points[..]));
        seen.clear();
        many(&[0; 1500], |parts| seen.push(parts[0].len()));
        assert_eq!(seen.len(), 1 + 1501 + 1);
    }

    #[test]
    fn with_bytes_behind_it_is_run_once_more() {
        let mut seen = 0;
        let mut longest = |parts: &[&[u8]]| {
            seen += 1;
            parts.concat().len()
        };
        assert_eq!(every_and_behind(b"ab", b"c", &mut longest, |len| *len += 1), 2);
        assert_eq!(seen, 5 + 6);
    }

    #[test]
    #[should_panic(expected = "cut at 1, it is\n  2\nand should be\n  1\nof \"ab\"")]
    fn what_depends_on_a_cut_is_found() {
        every(b"ab", |parts| parts.iter().filter(|part| !part.is_empty()).count());
    }

    #[test]
    #[should_panic(expected = "cut everywhere, it is\n  3")]
    fn what_depends_on_many_cuts_is_found() {
        every(b"abc", |parts| parts.len().max(2));
    }

    #[test]
    #[should_panic(expected = "cut not at all, with 2 bytes behind, it is\n  3\nand should be\n  1")]
    fn what_depends_on_the_bytes_behind_is_found() {
        every_and_behind(b"a", b"bc", |parts| parts.concat().len(), |_| {});
    }

    #[test]
    fn parts_have_their_sizes_over_and_over() {
        assert_eq!(by(b"abcdefg", &[1, 2]), [&b"a"[..], b"bc", b"d", b"ef", b"g"]);
        assert_eq!(by(b"abc", &[0]), [b"a", b"b", b"c"]);
        assert_eq!(by(b"abc", &[]), [b"abc"]);
        assert_eq!(by(b"", &[1]), [b""]);
    }
}
