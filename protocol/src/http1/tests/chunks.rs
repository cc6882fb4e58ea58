//! Bodies in chunks.

use super::*;

#[test]
fn rows_3_1_and_3_2_a_size_is_hex_digits() {
    for line in
        ["\r\n", ";x\r\n", "+5", "-5", "0x5", "5_0", " 5", "\t5", "g", "\n", "5\u{a0}", "5\0", "5.", "\""]
    {
        bad(&chunked(line), Fault::ChunkSize);
    }
    assert_eq!(
        good(&chunked(
            "aA\r\n0123456789\
        0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\
        012345678901234567890123456789012345678901234567890123456789\r\n0\r\n\r\n"
        ))[0],
        "POST /"
    );
}

#[test]
fn row_3_3_huge_sizes_do_not_overflow() {
    bad(&chunked("10000000000000000"), Fault::ChunkSizeTooLarge);
    bad(&chunked("fffffffffffffffff"), Fault::ChunkSizeTooLarge);
    bad(&chunked("ffffffffffffffff\r\n"), Fault::BodyTooLarge);
    bad(&chunked("1\r\na\r\nffffffffffffffff\r\n"), Fault::BodyTooLarge);
    bad(&chunked(&"0".repeat(33)), Fault::ChunkSizeTooLarge);
    assert_eq!(good(&chunked("00000000000000000005\r\nhello\r\n0\r\n\r\n")), ["POST /", "data hello", "end"]);
}

#[test]
fn row_3_4_lines_and_data_end_with_cr_lf() {
    for (body, fault) in [
        ("5\n", Fault::ChunkSize),
        ("5\rh", Fault::ChunkSize),
        ("5\r\r", Fault::ChunkSize),
        ("5\r\nhelloXX", Fault::ChunkEnd), // CVE-2025-43859
        ("5\r\nhello\n", Fault::ChunkEnd),
        ("5\r\nhello\rX", Fault::ChunkEnd),
        ("5\r\nhello\r\r", Fault::ChunkEnd),
        ("5\r\nhello0", Fault::ChunkEnd),
        ("5;x\n", Fault::ChunkExtension), // CVE-2025-55315
        ("5;x\rX", Fault::ChunkSize),
        ("0\r\n\n", Fault::BareLf),
        ("0\r\n\rX", Fault::BareCr),
        ("0\r\nX: y\n", Fault::BareLf),
    ] {
        bad(&chunked(body), fault);
    }
}

#[test]
fn row_3_5_no_whitespace_after_a_size_without_extension() {
    bad(&chunked("5 \r"), Fault::ChunkExtension);
    bad(&chunked("5\t\r"), Fault::ChunkExtension);
    bad(&chunked("5;x \r"), Fault::ChunkExtension);
    bad(&chunked("5 5"), Fault::ChunkExtension);
}

#[test]
fn row_3_6_the_last_chunk_is_any_number_of_zeros() {
    assert_eq!(good(&chunked("000\r\n\r\n")), ["POST /", "end"]);
    assert_eq!(good(&chunked("0;last\r\n\r\n")), ["POST /", "end"]);
}

#[test]
fn row_3_9_extensions_are_limited_by_line_and_by_message() {
    bad(&chunked(&format!("5;{}", "x".repeat(256))), Fault::ExtensionsTooLarge);
    good(&chunked(&format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(255))));
    let limits = Limits { extension_bytes: 10, ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    bad_with(&chunked("1;234\r\na\r\n1;234\r\na\r\n1;23"), Fault::ExtensionsTooLarge, &config);
    let within = chunked("1;234\r\na\r\n1;234\r\na\r\n1;2\r\na\r\n0\r\n\r\n");
    assert_eq!(split_with(within.as_bytes(), &config).events, ["POST /", "data aaa", "end"]);
}

#[test]
fn rows_1_39_3_8_and_3_10_extensions_have_the_whole_grammar() {
    for extension in [
        ";a",
        ";a=b",
        ";a=\"b\"",
        ";a;b=c;d",
        " ; a = b ; c",
        ";a=b \t ;c",
        "\t;a",
        ";a=\"\\\"; \\\r\"",
        ";a=\"\"",
        ";a=\"\u{e9};\t\"",
    ] {
        let wire = chunked(&format!("5{extension}\r\nhello\r\n0\r\n\r\n"));
        if extension.contains('\r') {
            bad(&wire, Fault::ChunkExtension);
        } else {
            assert_eq!(good(&wire), ["POST /", "data hello", "end"], "{extension}");
        }
    }
    for extension in [
        ";\r",
        ";;",
        ";=",
        ";a=\r",
        ";a=;",
        ";a b",
        ";a=b c",
        ";a=\"b\nc",
        ";a=\"b\0",
        ";a=\"b\"c",
        ";a\n",
        ";\u{e9}",
    ] {
        bad(&chunked(&format!("5{extension}")), Fault::ChunkExtension);
    }
}

#[test]
fn rows_3_11_and_3_14_trailers_are_apart_and_need_not_be_announced() {
    assert_eq!(
        good(&chunked("1\r\na\r\n0\r\nX: 1\r\nDigest:  d \r\n\r\n")),
        ["POST /", "data a", "trailers [X: 1, Digest: d]", "end"]
    );
    let wire = chunked("0\r\nX: 1\r\n\r\n").replace("\r\nTransfer", "\r\nTrailer: Y\r\nTransfer");
    assert_eq!(good(&wire), ["POST /", "trailers [X: 1]", "end"]);
    assert_eq!(head(wire).as_head().fields().first("x"), None); // never among the head's
}

#[test]
fn row_3_12_fields_that_frame_or_route_are_no_trailers() {
    let lines =
        "Transfer-Encoding: x\r\nContent-Length: 9\r\nHost: y\r\nX: 1\r\nCookie: c\r\nCache-Control: no\r\n";
    assert_eq!(good(&chunked(&format!("0\r\n{lines}\r\n"))), ["POST /", "trailers [X: 1]", "end"]);
    for name in [
        "Authorization",
        "Connection",
        "Content-Encoding",
        "Content-Range",
        "Content-Type",
        "Expect",
        "Range",
        "SET-COOKIE",
        "TE",
        "trailer",
        "Upgrade",
    ] {
        let mut wire = chunked(&format!("0\r\n{name}: a\r\nX: 1\r\n\r\n")).into_bytes();
        let seen = transcript(&[&wire[..]], &Arc::default());
        assert_eq!(seen.events, ["POST /", "trailers [X: 1]", "end"], "{name}");
        wire.extend_from_slice(NEXT);
        assert_eq!(transcript(&[&wire[..]], &Arc::default()).events.len(), 5, "{name} changes nothing");
    }
}

#[test]
fn row_3_17_trailers_are_limited_and_strict() {
    let limits = Limits { trailer_fields: 2, trailer_bytes: 40, ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    bad_with(&chunked("0\r\nA: 1\r\nB: 2\r\nC"), Fault::TrailersTooLarge, &config);
    bad_with(&chunked(&format!("0\r\nA: {}", "v".repeat(37))), Fault::TrailersTooLarge, &config);
    bad(&chunked("0\r\nA : 1"), Fault::SpaceBeforeColon);
    bad(&chunked("0\r\n A: 1"), Fault::Fold);
    bad(&chunked("0\r\nA: \0"), Fault::FieldValue);
    bad(&chunked("0\r\n: x"), Fault::FieldName);
    bad(&chunked("0\r\nGET / HTTP/1.1\r\n"), Fault::SpaceBeforeColon);
}

/// The transcript of a body too long for every split: whole, and in pieces of a few lengths.
fn long(wire: &str, limits: Limits) -> Transcript {
    let config = Arc::new(Config { limits, ..Config::default() });
    let whole = transcript(&[wire.as_bytes()], &config);
    for length in [1, 7, 1000, 4096] {
        assert_eq!(
            transcript(&cuts::by(wire.as_bytes(), &[length]), &config),
            whole,
            "in pieces of {length}"
        );
    }
    whole
}

#[test]
fn row_3_18_tiny_chunks_are_taken_and_padding_is_not() {
    let tiny = "1\r\nx\r\n".repeat(20_000);
    let seen = long(&chunked(&format!("{tiny}0\r\n\r\n")), Limits::default());
    assert_eq!((seen.fault, seen.events.len(), seen.events[1].len()), (None, 3, "data ".len() + 20_000));
    let padded = "0000000000000001\r\nx\r\n".repeat(2000);
    assert_eq!(long(&chunked(&padded), Limits::default()).fault, Some(Fault::ChunkOverhead));
}

#[test]
fn framing_is_limited_by_the_payload() {
    // 17 bytes of framing for a byte of payload: one of them is earned by it, and 1024 times the others are the 16 KiB that
    // are free.
    let limits = Limits { chunk_overhead: 1, ..Limits::default() };
    let within = chunked(&"0000000000001\r\nx\r\n".repeat(1024));
    assert_eq!(long(&within, limits.clone()).fault, None);
    assert_eq!(long(&(within + "1"), limits).fault, Some(Fault::ChunkOverhead));
}

#[test]
fn small_chunks_come_as_one_and_large_ones_stay_in_place() {
    let large = "L".repeat(2000);
    let mut wire = format!("1\r\na\r\n2;x\r\nbc\r\n7d0\r\n{large}\r\n1\r\nd\r\n0\r\n\r\n").into_bytes();
    let mut input = Input::new(&mut wire);
    let (limits, mut decoder) = (Limits::default(), chunked::Decoder::new());
    let mut next = || decoder.decode(&mut input, &limits).map(|chunk| format!("{chunk:?}"));
    assert_eq!(next().unwrap(), format!("{:?}", chunked::Chunk::Data(&mut b"abc".to_vec())));
    assert_eq!(next().unwrap(), format!("{:?}", chunked::Chunk::Data(&mut (large + "d").into_bytes())));
    assert_eq!(next().unwrap(), "End");
    assert_eq!(next().unwrap(), "End");
}

#[test]
fn a_decoder_is_small() {
    assert!(size_of::<chunked::Decoder>() <= 32, "{}", size_of::<chunked::Decoder>());
}

#[test]
fn chunk_heads_are_hex_and_never_end_a_body() {
    for (length, head) in [(0, ""), (1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0xabcde, "abcde\r\n")] {
        let made = chunked::ChunkHead::new(length);
        assert_eq!((made.as_bytes(), made.as_ref()), (head.as_bytes(), head.as_bytes()));
        assert_eq!(made.is_empty(), head.is_empty());
    }
    assert_eq!(chunked::ChunkHead::new(usize::MAX).len(), size_of::<usize>() * 2 + 2);
}

#[test]
fn row_2_6_chunks_are_put_together() {
    assert_eq!(
        good(&chunked("5\r\nhello\r\n00006\r\n world\r\n000\r\n\r\n")),
        ["POST /", "data hello world", "end"]
    );
}

#[test]
fn row_3_15_the_caller_sees_whether_trailers_are_welcome() {
    for (lines, welcome) in [
        ("TE: trailers\r\nConnection: TE\r\n", true),
        ("TE: deflate;q=0.5, Trailers\r\nConnection: TE\r\n", true),
        ("TE: xtrailers\r\nConnection: TE\r\n", false),
        ("", false),
    ] {
        let wire = get(lines);
        good(&wire);
        assert_eq!(head(wire).as_head().fields().has_token("te", "trailers"), welcome, "{lines}");
    }
}
