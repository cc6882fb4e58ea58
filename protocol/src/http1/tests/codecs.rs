//! The parts of the codec by themselves, held to plainer ones.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::chunked::ChunkHead;
use super::date::imf_fixdate;
use super::fields::{members, trim};
use super::framing::{Codings, Facts, decimal};
use super::head::{RequestBody, Version};
use super::mend::mend;
use super::*;
use crate::time::UnixMillis;

type OwnedField = (&'static str, String);

/// Lines that say how a request is framed, good ones and bad ones.
fn framing_fields() -> impl Strategy<Value = Vec<OwnedField>> {
    let coding = select(vec!["chunked", "Chunked", "gzip", "chunked2", "", "a b", "identity"]);
    let field = prop_oneof![
        2 => "[0-9]{0,3}".prop_map(|length| ("Content-Length", length)),
        1 => select(vec!["+5", "5, 5", "5 5", "0x5", "99999999999999999999"])
            .prop_map(|length| ("content-length", length.to_string())),
        3 => vec(coding, 1..3).prop_map(|codings| ("Transfer-Encoding", codings.join(","))),
        2 => Just(("X", "y".to_string())),
    ];
    vec(field, 0..4)
}

/// The table of RFC 9112 section 6.3 as it stands in the documentation, one row after the other.
fn body_by_table(fields: &[OwnedField], http11: bool, most: u64) -> Result<RequestBody, Fault> {
    let named = |name: &str| {
        let values = fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    let lengths = named("Content-Length");
    let codings = named("Transfer-Encoding").join(",");
    let has_codings = !named("Transfer-Encoding").is_empty();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if has_codings && !codings.split(',').all(|coding| is_token(coding.trim().as_bytes())) {
        return Err(Fault::TransferEncoding);
    }
    match (has_codings, &lengths[..]) {
        (false, []) => Ok(RequestBody::None),
        (false, [length]) if is_number(length) => match length.parse() {
            Ok(length) if length <= most => Ok(RequestBody::Length(length)),
            Ok(_) => Err(Fault::BodyTooLarge),
            Err(_) => Err(Fault::ContentLength),
        },
        (false, _) => Err(Fault::ContentLength),
        (true, []) if !http11 => Err(Fault::TransferEncodingInHttp10),
        (true, []) => {
            let chunked = |coding: &&str| coding.eq_ignore_ascii_case("chunked");
            let all: Vec<&str> = codings.split(',').map(str::trim).collect();
            match (all.last().is_some_and(chunked), all.iter().filter(|coding| chunked(coding)).count()) {
                (true, 1) if all.len() == 1 => Ok(RequestBody::Chunked),
                (true, 1) => Err(Fault::Coding),
                _ => Err(Fault::TransferEncoding),
            }
        }
        (true, _) => Err(Fault::BothLengths),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn how_long_a_body_is_stands_in_the_table(
        fields in framing_fields(),
        http11: bool,
        most in select(vec![10, 1 << 40]),
    ) {
        let version = if http11 { Version::Http11 } else { Version::Http10 };
        let host = Field { name: "Host", value: b"x" };
        let lines = fields.iter().map(|(name, value)| Field { name, value: value.as_bytes() });
        let limits = Limits { body_bytes: most, ..Limits::default() };
        let facts = Facts::of("GET", "/", version, [host].into_iter().chain(lines), &limits);
        let by_table = body_by_table(&fields, http11, most);
        // Of several things that are wrong, whichever is met first is told.
        prop_assert_eq!(facts.as_ref().ok().map(|facts| facts.body), by_table.ok());
        let faults = [
            Fault::TransferEncoding, Fault::ContentLength, Fault::BothLengths, Fault::BodyTooLarge, Fault::Coding,
            Fault::TransferEncodingInHttp10,
        ];
        prop_assert!(facts.is_ok() || facts.is_err_and(|fault| faults.contains(&fault)));
    }

    #[test]
    fn the_connection_goes_on_as_its_options_say(
        options in vec(select(vec!["close", "keep-alive", "upgrade", "x", "KEEP-ALIVE", "Close", "", "closed"]), 0..5),
        lines in 1_usize..4,
        http11: bool,
    ) {
        let version = if http11 { Version::Http11 } else { Version::Http10 };
        let values: Vec<_> = options.chunks(lines).map(|options| options.join(", ")).collect();
        let host = Field { name: "Host", value: b"x" };
        let lines = values.iter().map(|value| Field { name: "Connection", value: value.as_bytes() });
        let facts = Facts::of("GET", "/", version, [host].into_iter().chain(lines), &Limits::default()).unwrap();
        let has = |option: &str| options.iter().any(|other| other.eq_ignore_ascii_case(option));
        prop_assert_eq!(facts.persistent, !has("close") && (http11 || has("keep-alive")));
        prop_assert_eq!(facts.upgrade, http11 && has("upgrade"));
    }

    #[test]
    fn a_number_is_what_std_reads_of_digits_alone(text in "[0-9]{0,21}|[0-9+ _x-]{0,5}") {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        prop_assert_eq!(decimal(text.as_bytes()), text.parse().ok().filter(|_| digits));
    }

    #[test]
    fn codings_are_counted_over_all_lines_alike(codings in vec(select(vec!["chunked", "gzip", "CHUNKED"]), 1..5), at in 0_usize..5) {
        let (front, back) = codings.split_at(at.min(codings.len()));
        let mut in_lines = Codings::default();
        for line in [front, back].into_iter().filter(|line| !line.is_empty()) {
            in_lines.add(line.join(" ,\t").as_bytes()).unwrap();
        }
        let mut in_one = Codings::default();
        in_one.add(codings.join(",").as_bytes()).unwrap();
        prop_assert_eq!(in_lines.framing(), in_one.framing());
        prop_assert!(in_lines.seen());
    }

    #[test]
    fn a_chunk_s_head_is_its_length_in_hex(length: usize) {
        let (head, text) = (ChunkHead::new(length), format!("{length:x}\r\n"));
        // No chunk of no bytes is written: that would be the last one.
        prop_assert_eq!(head.as_bytes(), if length == 0 { b"" } else { text.as_bytes() });
    }

    #[test]
    fn a_date_tells_the_time_of_day_and_its_day(millis in 0..253_402_300_800_000_u64) {
        let date = imf_fixdate(UnixMillis(millis));
        let text = core::str::from_utf8(&date).unwrap();
        let number = |from: usize, to: usize| text[from..to].parse::<u64>().unwrap();
        let seconds = millis / 1000;
        prop_assert_eq!(number(17, 19) * 3600 + number(20, 22) * 60 + number(23, 25), seconds % 86_400);
        prop_assert_eq!(&text[..3], ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(seconds / 86_400 % 7) as usize]);
        prop_assert_eq!(&text[25..], " GMT");
    }

    #[test]
    fn fields_are_found_as_by_looking_at_every_line(
        lines in vec((select(vec!["a", "A", "b", "x-long", "Content-Type"]), "[ \t]{0,2}[!-~]?[ -~\t]{0,6}[ \t]{0,2}"), 0..8),
        name in select(vec!["a", "B", "X-LONG", "c"]),
        token in select(vec!["x", "close", ""]),
    ) {
        let wire: Vec<String> = lines.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
        let wire = wire.concat();
        let fields = Fields::of_head(wire.as_bytes());
        let value = |value: &str| value.trim_matches([' ', '\t']).as_bytes().to_vec();
        let all: Vec<_> = lines.iter().map(|(name, text)| ((*name).to_string(), value(text))).collect();
        let seen: Vec<_> = fields.iter().map(|field| (field.name.to_string(), field.value.to_vec())).collect();
        prop_assert_eq!(&seen, &all);
        let named: Vec<_> = all.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..]).collect();
        prop_assert_eq!(fields.first(name), named.first().copied());
        prop_assert_eq!(fields.all(name).collect::<Vec<_>>(), named.clone());
        let has = named.iter().any(|value| plain_members(value).iter().any(|member| member.eq_ignore_ascii_case(token.as_bytes())));
        prop_assert_eq!(fields.has_token(name, token), has);
    }

    #[test]
    fn a_list_is_cut_at_commas_outside_quotes(value in "([a-c]|,|\"|\\\\| |\t){0,12}") {
        let seen: Vec<_> = members(value.as_bytes()).map(<[u8]>::to_vec).collect();
        prop_assert_eq!(seen, plain_members(value.as_bytes()));
    }

    #[test]
    fn what_is_mended_is_what_was_meant(
        lines in vec((
            select(vec!["X", "Long-Name", "connection", "Content-Length"]),
            "[ \t]{0,2}",
            "[a-c:]{0,4}",
            vec(("\r?\n[ \t]{1,3}", "[a-c:]{0,3}"), 0..3),
        ), 0..5),
    ) {
        let mut wire: Vec<u8> = Vec::new();
        let (mut meant, mut framing_is_folded) = (Vec::new(), false);
        for (name, blanks, value, folds) in &lines {
            let mut text = value.clone();
            wire.extend(format!("{name}{blanks}: {value}").bytes());
            for (fold, more) in folds {
                wire.extend(format!("{fold}{more}").bytes());
                text.push_str(&" ".repeat(fold.len()));
                text.push_str(more);
            }
            wire.extend(b"\r\n");
            framing_is_folded |= !folds.is_empty() && name.to_ascii_lowercase().starts_with("con");
            meant.push((*name, text.trim_matches([' ', '\t']).as_bytes().to_vec()));
        }
        let length = wire.len();
        let mended = mend(&mut wire);
        if framing_is_folded {
            prop_assert_eq!(mended, Err(Fault::Fold));
            return Ok(());
        }
        prop_assert_eq!((mended, wire.len()), (Ok(()), length));
        let seen: Vec<_> = Fields::of_head(&wire).iter().map(|field| (field.name, field.value.to_vec())).collect();
        prop_assert_eq!(seen, meant);
        let mut again = wire.clone();
        prop_assert_eq!((mend(&mut again), &again), (Ok(()), &wire));
    }
}

/// The members of a list, a byte at a time.
fn plain_members(value: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut member, mut quoted, mut bytes) = (Vec::new(), Vec::new(), false, value.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b',' if !quoted => all.push(core::mem::take(&mut member)),
            b'\\' if quoted => {
                member.push(*byte);
                member.extend(bytes.next());
            }
            byte => {
                quoted ^= *byte == b'"';
                member.push(*byte);
            }
        }
    }
    all.push(member);
    all.iter().map(|member| trim(member).to_vec()).collect()
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}
