//! Status lines and field lines.

use super::*;

const EMPTY: &str = "Content-Length: 0\r\n\r\n";

fn lenient() -> Setting<'static> {
    let config = ClientConfig { lenient_lf: true, ..ClientConfig::default() };
    Setting { config, ..Setting::new(&GET) }
}

#[test]
fn row_1_2_a_line_ends_with_cr_lf_unless_lf_is_let_pass() {
    for wire in [
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n",
        "\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        bad(wire, Fault::BareLf);
        assert_eq!(good_with(&lenient(), wire.as_bytes()), ["200", "end"], "{wire}");
    }
}

#[test]
fn row_1_2_lf_is_let_pass_in_trailers_but_never_around_chunks() {
    let head = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n";
    let events = good_with(&lenient(), format!("{head}1\r\na\r\n0\r\nX: y\n\n").as_bytes());
    assert_eq!(events, ["200", "data a", "trailers [X: y]", "end"]);
    for (body, fault) in
        [("1\na\r\n", Fault::ChunkSize), ("1\r\na\n", Fault::ChunkEnd), ("0\n", Fault::ChunkSize)]
    {
        bad_with(&lenient(), format!("{head}{body}").as_bytes(), Failure::Malformed(fault));
    }
}

#[test]
fn row_1_3_no_cr_without_lf() {
    for wire in [
        "HTTP/1.1 200 OK\rContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200\r\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n\rX: b\r\n\r\n", // CVE-2025-23167
        "HTTP/1.1 200 OK\r\nX: a\r\r\n",
        "\rHTTP/1.1 200 OK\r\n",
    ] {
        bad(wire, Fault::BareCr);
        bad_with(&lenient(), wire.as_bytes(), Failure::Malformed(Fault::BareCr));
    }
}

#[test]
fn row_1_6_no_whitespace_before_the_first_field() {
    bad("HTTP/1.1 200 OK\r\n X: a\r\n\r\n", Fault::Fold);
    bad("HTTP/1.1 200 OK\r\n\tX: a\r\n\r\n", Fault::Fold);
}

#[test]
fn row_1_8_a_minor_version_above_1_counts_as_1() {
    for minor in 1..=9 {
        assert_eq!(good(&format!("HTTP/1.{minor} 200 OK\r\n{EMPTY}")), ["200", "end"]);
    }
    assert_eq!(head(&format!("HTTP/1.2 200 OK\r\n{EMPTY}")).as_response().version(), Version::Http11);
    assert_eq!(head(&format!("HTTP/1.0 200 OK\r\n{EMPTY}")).as_response().version(), Version::Http10);
}

#[test]
fn row_1_10_a_version_is_two_digits() {
    for start in
        ["http/1.1", "HTP/1.1", "HTTPER/1.1", "HTTP/11.1", "HTTP/ 1.1", "ICY", " HTTP/1.1", "\0", "2"]
    {
        bad(&format!("{start} 200 OK\r\n{EMPTY}"), Fault::VersionGrammar);
    }
    for start in ["HTTP/1.10", "HTTP/1.1\t", "HTTP/1.1x", "HTTP/1.1\r\n"] {
        bad(&format!("{start} 200 OK\r\n{EMPTY}"), Fault::StatusLine);
    }
    for start in ["HTTP/2.0", "HTTP/0.9", "HTTP/5.6"] {
        bad(&format!("{start} 200 OK\r\n{EMPTY}"), Fault::Version);
    }
    bad("\x15\x03\x01\0\x02", Fault::Tls);
}

#[test]
fn row_1_23_a_reason_means_nothing_and_may_be_missing() {
    for (line, reason) in [
        ("HTTP/1.1 200", &b""[..]),
        ("HTTP/1.1 200 ", b""),
        ("HTTP/1.1 200 Not Found", b"Not Found"),
        ("HTTP/1.1 200  two \t", b" two \t"),
        ("HTTP/1.1 200 Ori\u{eb}ntatie", "Ori\u{eb}ntatie".as_bytes()),
    ] {
        let wire = format!("{line}\r\n{EMPTY}");
        assert_eq!(good(&wire), ["200", "end"]);
        assert_eq!(head(&wire).as_response().reason(), reason);
    }
    for line in ["HTTP/1.1 200 a\0", "HTTP/1.1 200 a\x7f", "HTTP/1.1 200OK", "HTTP/1.1 200\tOK"] {
        bad(&format!("{line}\r\n{EMPTY}"), Fault::StatusLine);
    }
}

#[test]
fn row_1_24_a_status_is_three_digits_from_100_on() {
    for status in ["2", "20", "2000", "2x0", "+20", "0x2", "", " 200", "-20"] {
        let fault = if status.starts_with('0') { Fault::Status } else { Fault::StatusLine };
        bad(&format!("HTTP/1.1 {status} OK\r\n{EMPTY}"), fault);
    }
    for status in ["000", "099", "020"] {
        bad(&format!("HTTP/1.1 {status} OK\r\n{EMPTY}"), Fault::Status);
    }
    for (code, status) in [
        (200, StatusCode::OK),
        (599, StatusCode::new(599).unwrap()),
        (600, StatusCode::INTERNAL_SERVER_ERROR),
        (999, StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let wire = format!("HTTP/1.1 {code} X\r\n{EMPTY}");
        assert_eq!(good(&wire), [code.to_string(), "end".to_string()]);
        let head = head(&wire);
        assert_eq!((head.as_response().code(), head.as_response().status()), (code, status));
    }
}

#[test]
fn row_1_26_whitespace_before_a_colon_is_dropped_only_when_let_pass() {
    let config = ClientConfig { space_before_colon: true, ..ClientConfig::default() };
    let setting = Setting { config: config.clone(), ..Setting::new(&GET) };
    for lines in ["X : a\r\n", "X \t : a\r\n", "Content-Length : 1\r\n"] {
        let wire = ok(&format!("{lines}Transfer-Encoding\t: chunked\r\n")) + "0\r\n\r\n";
        bad(&wire, Fault::SpaceBeforeColon);
        if lines.starts_with('X') {
            assert_eq!(good_with(&setting, wire.as_bytes()), ["200", "end"]);
            let head = head_with(&wire, config.clone());
            let fields: Vec<_> =
                head.as_response().fields().iter().map(|f| (f.name.to_string(), f.value)).collect();
            assert_eq!(fields, [("X".into(), &b"a"[..]), ("Transfer-Encoding".into(), b"chunked")]);
        } else {
            bad_with(&setting, wire.as_bytes(), Failure::Malformed(Fault::BothLengths));
        }
    }
    for lines in ["X y: a\r\n", "X \r\n", " X: a\r\n"] {
        let seen = setting.split(ok(lines).as_bytes());
        assert!(
            matches!(seen.failure, Some(Failure::Malformed(Fault::SpaceBeforeColon | Fault::Fold))),
            "{lines}"
        );
    }
}

#[test]
fn row_1_28_folds_become_spaces() {
    for (lines, value) in [
        ("X: a\r\n b\r\n", "a   b"),
        ("X: a \r\n\t\tb\r\n \r\n c\r\n", "a     b      c"),
        ("X:\r\n a\r\n", "a"),
        ("X: a\r\n \r\n", "a"),
    ] {
        let wire = ok(&format!("{lines}{}", EMPTY.trim_end())) + "\r\n";
        assert_eq!(good(&wire), ["200", "end"]);
        let head = head(&wire);
        assert_eq!(
            head.as_response().fields().first("x").unwrap().escape_ascii().to_string(),
            value,
            "{lines}"
        );
    }
    let events = good(&chunked("0\r\nX: a\r\n b\r\n\r\n"));
    assert_eq!(events, ["200", "trailers [X: a   b]", "end"]);
}

#[test]
fn row_1_28_what_frames_is_not_folded() {
    for lines in [
        "Content-Length:\r\n 5\r\n",
        "Content-Length: 5\r\n 6\r\n",
        "Transfer-Encoding: chunked\r\n \r\n",
        "Transfer-Encoding: gzip,\r\n\tchunked\r\n",
        "connection: x\r\n close\r\n",
    ] {
        bad(&ok(lines), Fault::Fold);
    }
}

#[test]
fn rows_1_1_1_30_1_31_1_32_and_1_33_field_lines_follow_the_grammar() {
    for line in [": a", "X", "X\r\n", "X(: a", "\u{e9}: a", "X\0: a", "\"X\": a", "X;: a"] {
        bad(&ok(&format!("{line}\r\n")), Fault::FieldName);
    }
    for value in ["a\0", "\x01", "a\x7fb", "\x0b", "\x0c"] {
        bad(&ok(&format!("X: {value}\r\n")), Fault::FieldValue);
    }
    let head = head(&ok("X:\t \u{a0}a\u{85} \t\r\nY:\r\n"));
    assert_eq!(head.as_response().fields().first("x"), Some("\u{a0}a\u{85}".as_bytes()));
    assert_eq!(head.as_response().fields().first("y"), Some(&b""[..]));
}

#[test]
fn row_1_34_order_and_repeats_stay() {
    let head = head(&ok("Set-Cookie: a\r\nX: 1\r\nset-cookie: b,c\r\n"));
    let fields = format!("{:?}", head.as_response().fields());
    assert_eq!(fields, "[Set-Cookie: a, X: 1, set-cookie: b,c]");
}

#[test]
fn row_1_36_heads_have_limits() {
    let mut setting = Setting::new(&GET);
    setting.config.limits.head_bytes = 100;
    setting.config.limits.field_bytes = 60;
    setting.config.limits.fields = 3;
    let line = |bytes: usize| format!("X: {}\r\n", "a".repeat(bytes - 3));
    assert_eq!(good_with(&setting, ok(&(line(57) + EMPTY.trim_end() + "\r\n")).as_bytes()), ["200", "end"]);
    for (lines, fault) in [
        (line(61), Fault::FieldTooLarge),
        (format!("X: a\r\n {}\r\n", "a".repeat(60)), Fault::FieldTooLarge),
        (line(40) + &line(40), Fault::HeadTooLarge),
        ("X: a\r\n".repeat(4), Fault::TooManyFields),
    ] {
        bad_with(&setting, ok(&lines).as_bytes(), Failure::Malformed(fault));
    }
    let reason = format!("HTTP/1.1 200 {}\r\n", "a".repeat(100));
    bad_with(&setting, reason.as_bytes(), Failure::Malformed(Fault::HeadTooLarge));
}

#[test]
fn empty_lines_before_a_response_are_passed_over_up_to_a_limit() {
    assert_eq!(good(&format!("{}HTTP/1.1 200 OK\r\n{EMPTY}", "\r\n".repeat(4))), ["200", "end"]);
    bad(&"\r\n".repeat(5), Fault::EmptyLines);
}

#[test]
fn row_1_43_it_fails_at_the_first_impossible_byte() {
    for wire in [
        "HTTX",
        "HTTP/1.1 0",
        "HTTP/1.1 2x",
        "HTTP/1.1 200x",
        "HTTP/1.1 200\n",
        "HTTP/1.1 200 a\0",
        "HTTP/1.1 200 OK\n",
        "HTTP/1.1 200 OK\rx",
        "HTTP/1.1 200 OK\r\n ",
        "HTTP/1.1 200 OK\r\n\n",
        "HTTP/1.1 200 OK\r\nX ",
        "HTTP/1.1 200 OK\r\nX: a\n",
        "HTTP/1.1 200 OK\r\n:",
        "HTTP/1.1 200 OK\r\n\rx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhellox",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nh",
    ] {
        let config = Arc::default();
        let mut peer = Peer::new(&GET, &config);
        let (last, before) = wire.as_bytes().split_last().unwrap();
        peer.receive(before, false);
        assert_eq!(peer.failure, None, "{wire}");
        peer.receive(&[*last], false);
        assert!(peer.failure.is_some(), "{wire}");
    }
}

#[test]
fn row_1_38_empty_members_of_lists_are_bounded() {
    assert_eq!(good(&ok("Connection: , keep-alive,, \r\nContent-Length: 0\r\n")), ["200", "end"]);
    bad(&ok(&format!("Connection: {}close\r\n", ",".repeat(17))), Fault::Connection);
    bad(&ok("Connection: a b\r\n"), Fault::Connection);
}

#[test]
fn a_field_is_known_by_its_whole_name() {
    // As long as Connection, Content-Length and Transfer-Encoding, whose values these could not be.
    for line in ["Set-Cookie: a b", "X-Frame-Policy: x", "X-Forwarded-Proto: a b"] {
        assert_eq!(good(&ok(&format!("{line}\r\nContent-Length: 0\r\n"))), ["200", "end"], "{line}");
    }
}

#[test]
fn row_1_42_a_slow_head_is_looked_at_once() {
    // Byte by byte, 60 KB of head would take minutes if each byte meant a look at all.
    let lines = format!("X: {}\r\n", "v".repeat(1000)).repeat(60);
    let wire = ok(&lines);
    let mut connection = ClientConnection::new(Arc::default());
    connection.send(&GET, b"", &mut Vec::new(), Now::default()).unwrap();
    let mut buffer = wire.clone().into_bytes();
    for length in 1..wire.len() {
        let event = connection.recv(&mut Input::new(&mut buffer[..length]), Now::default());
        assert!(matches!(event, Ok(ClientEvent::NeedMore)));
    }
    let event = connection.recv(&mut Input::new(&mut buffer), Now::default());
    assert!(matches!(event, Ok(ClientEvent::Response(_))));
}
