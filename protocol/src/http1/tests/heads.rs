//! Request lines and field lines.

use super::*;

#[test]
fn row_1_1_values_are_octets() {
    let head = head(b"GET / HTTP/1.1\r\nHost: x\r\nX: \x80\xff\ta\r\n\r\n");
    assert_eq!(head.as_head().fields().first("x"), Some(&b"\x80\xff\ta"[..]));
}

#[test]
fn row_1_2_lines_do_not_end_with_lf_alone() {
    bad("GET / HTTP/1.1\n", Fault::BareLf);
    bad("GET / HTTP/1.1\r\nHost: x\n", Fault::BareLf);
    bad("GET / HTTP/1.1\r\nHost:\n", Fault::BareLf);
    bad("GET / HTTP/1.1\r\nHost: x\r\n\n", Fault::BareLf);
    bad("GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n", Fault::BareLf);
    bad("GET / HTTP/1.1\r\n\n", Fault::BareLf);
}

#[test]
fn row_1_3_cr_stands_only_before_lf() {
    bad("GET / HTTP/1.1\rX", Fault::BareCr);
    bad("GET / HTTP/1.1\r\nHost: x\rX", Fault::BareCr);
    bad("GET / HTTP/1.1\r\nHost: x\r\r", Fault::BareCr);
    bad("GET / HTTP/1.1\r\nHost: x\r\n\rX", Fault::BareCr); // CVE-2025-23167
    bad("\rGET / HTTP/1.1\r\n", Fault::BareCr);
    bad("GET /\rx HTTP/1.1\r\n", Fault::RequestLine);
}

#[test]
fn row_1_4_a_few_empty_lines_may_come_first() {
    assert_eq!(good("\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), ["GET /", "end"]);
    bad("\r\n\r\n\r\n\r\n\r\n", Fault::EmptyLines);
    bad("\nGET / HTTP/1.1\r\n", Fault::BareLf);
    bad("\r\n\nGET", Fault::BareLf);
}

#[test]
fn row_1_6_no_whitespace_before_the_first_field() {
    bad("GET / HTTP/1.1\r\n ", Fault::Fold);
    bad("GET / HTTP/1.1\r\n\tHost: x\r\n", Fault::Fold);
}

#[test]
fn row_1_7_other_protocols_are_told_early() {
    bad(b"\x16\x03\x01\x02\x00\x01", Fault::Tls);
    bad("PRI * HTTP/2.0", Fault::Version);
    bad("G\x16", Fault::RequestLine);
    bad("{", Fault::RequestLine);
    bad("@", Fault::RequestLine);
    bad(" GET", Fault::RequestLine);
}

#[test]
fn row_1_8_a_minor_version_above_1_counts_as_1() {
    for minor in 1..=9 {
        assert_eq!(good(&format!("GET / HTTP/1.{minor}\r\nHost: x\r\n\r\n")), ["GET /", "end"]);
    }
    bad("GET / HTTP/1.2\r\n\r\n", Fault::Host);
}

#[test]
fn row_1_9_other_major_versions_are_505() {
    for version in ["0.9", "2.0", "3.1", "9.9"] {
        bad(&format!("GET / HTTP/{version}"), Fault::Version);
    }
}

#[test]
fn row_1_10_a_version_is_a_digit_a_dot_and_a_digit() {
    for version in [
        "http/1.1",
        "HTTP/1.10",
        "HTTP/1.32",
        "HTTP/ 1.1",
        "HTTP/1,1",
        "HTTP/11",
        "HTTP/x.1",
        "HTTPS/1.1",
        "\x16",
        "",
    ] {
        bad(&format!("GET / {version}\r\n"), Fault::VersionGrammar);
    }
}

#[test]
fn row_1_11_words_have_one_space_between_them() {
    bad("GET  /", Fault::RequestLine);
    bad("GET\t/", Fault::RequestLine);
    bad("GET /  HTTP/1.1\r\n", Fault::VersionGrammar);
    bad("GET /\tHTTP", Fault::Target);
    bad("GET /\x0b", Fault::Target);
    bad("GET / HTTP/1.1 ", Fault::RequestLine);
    bad("GET / HTTP/1.1\t", Fault::RequestLine);
    bad("GET /a b HTTP/1.1\r\n", Fault::VersionGrammar);
}

#[test]
fn row_1_12_a_long_method_is_501() {
    let method = "M".repeat(32);
    assert_eq!(
        good(&format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n")),
        [format!("{method} /"), "end".into()]
    );
    bad(&format!("{method}M"), Fault::MethodTooLong);
}

#[test]
fn row_1_13_a_long_target_is_414() {
    let config = Config { limits: Limits { target_bytes: 10, ..Limits::default() }, ..Config::default() };
    bad_with("GET /0123456789", Fault::TargetTooLong, &config);
    let within = split_with(b"GET /012345678 HTTP/1.1\r\nHost: x\r\n\r\n", &config);
    assert_eq!(within.events, ["GET /012345678", "end"]);
    assert!(Limits::default().target_bytes >= 8000);
}

#[test]
fn row_1_14_targets_are_visible_ascii_without_a_fragment() {
    for target in ["/#", "/a#b", "/\x7f", "/\0", "/\u{e9}", "/\x01"] {
        bad(&format!("GET {target} HTTP/1.1\r\n"), Fault::Target);
    }
    assert_eq!(good("GET /%00|{}\"<>? HTTP/1.1\r\nHost: x\r\n\r\n"), ["GET /%00|{}\"<>?", "end"]);
}

#[test]
fn row_1_15_targets_have_one_of_the_forms() {
    for target in ["x", "x/y", "http:/x", "://x", "1http://x/", "http://", "http:///x", "?x", "x:80"] {
        bad(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"), Fault::Target);
    }
}

#[test]
fn row_1_16_an_absolute_target_overrides_host() {
    for (target, authority, path, query) in [
        ("http://a:80/p?q", "a:80", "/p", Some("q")),
        ("HTTPS://a", "a", "/", None),
        ("http://[::1]?q?r", "[::1]", "/", Some("q?r")),
        ("/p/http://b?", "x", "/p/http://b", Some("")),
    ] {
        let wire = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        good(&wire);
        let mut wire = wire.into_bytes();
        let mut connection = ServerConnection::new(Arc::default(), Now::default());
        let event = connection.recv(&mut Input::new(&mut wire), &mut Vec::new(), Now::default()).unwrap();
        let Event::Request(head, _) = event else { panic!("{event:?}") };
        let owned = head.to_owned();
        for head in [head, owned.as_head()] {
            assert_eq!((head.authority(), head.host()), (Some(authority), Some("x")));
            assert_eq!((head.target(), head.path(), head.query()), (target, path, query));
            assert_eq!(format!("{:?}", head.fields()), "[Host: x]");
        }
    }
    bad("GET http://a/ HTTP/1.1\r\n\r\n", Fault::Host);
    bad("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Target);
}

#[test]
fn row_1_17_connect_needs_host_and_port() {
    for target in ["a:80", "[::1]:65535"] {
        let wire = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(split_with(wire.as_bytes(), &Config::default()).events[1], "end");
    }
    for target in ["a", "a:", "a:0", "a:65536", "a:x", ":80", "/", "http://a:80/", "u@a:80", "*"] {
        bad(&format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n"), Fault::Target);
    }
}

#[test]
fn row_1_18_an_asterisk_is_for_options() {
    assert_eq!(good("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"), ["OPTIONS *", "end"]);
    bad("GET * HTTP/1.1\r\nHost: x\r\n\r\n", Fault::Target);
    bad("OPTIONS ** HTTP/1.1\r\nHost: x\r\n\r\n", Fault::Target);
}

#[test]
fn row_1_19_host_must_be_one_and_valid() {
    for host in ["x", "x:80", "[::1]:80", "127.0.0.1"] {
        good(&format!("GET / HTTP/1.1\r\nhOST:{host} \r\n\r\n"));
    }
    for host in ["", " ", "a b", "a,b", "a/b", "u@a", "[::1", "a:b", "\u{e9}"] {
        bad(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Fault::Host);
    }
    bad("GET / HTTP/1.1\r\n\r\n", Fault::Host);
    bad("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", Fault::Host);
    bad("GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", Fault::Host);
}

#[test]
fn row_1_21_http_1_0_needs_no_host() {
    let seen = split_with(b"GET / HTTP/1.0\r\n\r\n", &Config::default());
    assert_eq!(seen.events, ["GET /", "end", "closed"]);
}

#[test]
fn row_1_25_no_whitespace_before_a_colon() {
    bad("GET / HTTP/1.1\r\nHost : x\r\n", Fault::SpaceBeforeColon);
    bad("GET / HTTP/1.1\r\nHost\t: x\r\n", Fault::SpaceBeforeColon);
}

#[test]
fn row_1_27_no_folded_lines() {
    bad("GET / HTTP/1.1\r\nHost: x\r\n y", Fault::Fold);
    bad("GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n\tb\r\n\r\n", Fault::Fold);
}

#[test]
fn row_1_30_names_are_tokens() {
    for line in [":x", "a\u{e9}: x", "a(: x", "a", "a\0: x", "\"a\": x", "a/b: c"] {
        bad(&format!("GET / HTTP/1.1\r\n{line}\r\n"), Fault::FieldName);
    }
}

#[test]
fn rows_1_31_and_1_32_no_control_characters_in_values() {
    for control in (0..0x20).chain([0x7f]).map(char::from).filter(|c| !"\t\r\n".contains(*c)) {
        bad(&format!("GET / HTTP/1.1\r\nX: a{control}"), Fault::FieldValue);
        bad(&format!("GET / HTTP/1.1\r\nX:{control}"), Fault::FieldValue);
    }
}

#[test]
fn row_1_33_only_spaces_and_tabs_are_stripped() {
    bad(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\xa0\r\n\r\n", Fault::ContentLength);
    bad(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x85chunked\r\n\r\n", Fault::TransferEncoding);
    assert_eq!(
        good("POST / HTTP/1.1\r\nHost:\tx\r\nContent-Length: \t 1\t \r\n\r\na"),
        ["POST /", "data a", "end"]
    );
}

#[test]
fn row_1_36_large_heads_are_431() {
    let limits = Limits { head_bytes: 100, field_bytes: 20, fields: 3, ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    bad_with("GET / HTTP/1.1\r\nX: 345678901234567890", Fault::FieldTooLarge, &config);
    bad_with("GET / HTTP/1.1\r\nX34567890123456789012", Fault::FieldTooLarge, &config);
    bad_with("GET / HTTP/1.1\r\nA:\r\nB:\r\nC:\r\nD", Fault::TooManyFields, &config);
    let exactly = b"GET / HTTP/1.1\r\nX: 34567890123456789\r\nHost: x\r\n\r\n";
    assert_eq!(split_with(exactly, &config).events, ["GET /", "end"]);
    let limits = Limits { head_bytes: 40, ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    let exactly = b"GET / HTTP/1.1\r\nHost: x\r\nABCDEFGH: \r\n\r\n";
    assert_eq!(exactly.len(), 39);
    assert_eq!(split_with(exactly, &config).events, ["GET /", "end"]);
    bad_with("GET / HTTP/1.1\r\nHost: x\r\nABCDEFGHIJ: \r\n\r\n", Fault::HeadTooLarge, &config);
    bad_with("GET /0123456789012345678901234567890123456789", Fault::TargetTooLong, &config);
    let limits = Limits { head_bytes: 20, ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    bad_with(&"M".repeat(20), Fault::MethodTooLong, &config);
}

#[test]
fn row_1_38_empty_members_of_lists_are_bounded() {
    good(&get("Connection: , keep-alive,, \r\n"));
    bad(&get("Connection: a b\r\n"), Fault::Connection);
    for (name, member, fault) in [
        ("Connection", "close", Fault::Connection),
        ("Upgrade", "websocket", Fault::List),
        ("Expect", "100-continue", Fault::List),
    ] {
        let line = |empty: usize| format!("{name}: {}{member}\r\n", ",".repeat(empty));
        assert_eq!(split_with(get(&line(16)).as_bytes(), &Config::default()).fault, None, "{name}");
        bad(&get(&line(17)), fault);
        bad(&get(&(line(9) + &line(8))), fault);
    }
}

#[test]
fn row_1_42_a_slow_head_is_looked_at_once() {
    // Byte by byte, 60 KB of head would take minutes if each byte meant a look at all.
    let lines = format!("X: {}\r\n", "v".repeat(1000)).repeat(60);
    let wire = get(&lines);
    let mut connection = ServerConnection::new(Arc::default(), Now::default());
    let mut buffer = wire.clone().into_bytes();
    for length in 1..wire.len() {
        let mut input = Input::new(&mut buffer[..length]);
        let event = connection.recv(&mut input, &mut Vec::new(), Now::default());
        assert!(matches!(event, Ok(Event::NeedMore)));
    }
    let mut input = Input::new(&mut buffer);
    assert!(matches!(connection.recv(&mut input, &mut Vec::new(), Now::default()), Ok(Event::Request(..))));
}

#[test]
fn row_1_34_order_and_repeats_stay() {
    let head = head(get("Cookie: a\r\nX: 1\r\ncookie: b,c\r\nX: 2\r\n"));
    assert_eq!(format!("{:?}", head.as_head().fields()), "[Host: x, Cookie: a, X: 1, cookie: b,c, X: 2]");
}

#[test]
fn row_1_35_nothing_is_told_of_half_a_head() {
    let wire = get("Content-Length: 1\r\nExpect: 100-continue\r\n");
    for length in 0..wire.len() {
        let mut connection = ServerConnection::new(Arc::default(), Now::default());
        let mut bytes = wire.as_bytes()[..length].to_vec();
        let (mut input, mut out) = (Input::new(&mut bytes), Vec::new());
        let event = connection.recv(&mut input, &mut out, Now::default());
        assert!(matches!(event, Ok(Event::NeedMore)), "{event:?} after {length} bytes");
        assert_eq!((input.consumed(), &out[..]), (0, &b""[..]));
    }
}

#[test]
fn row_1_41_an_underscore_is_no_hyphen() {
    let wire = get("X_A: 1\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\nX-A: 2\r\n");
    assert_eq!(good(&wire), ["GET /", "end"]);
    let head = head(wire);
    assert_eq!(head.as_head().fields().first("x_a"), Some(&b"1"[..]));
    assert_eq!(head.as_head().fields().all("x-a").collect::<Vec<_>>(), [b"2"]);
}

#[test]
fn a_field_is_known_by_its_whole_name() {
    // As long as Host, Expect, Upgrade, Connection, Content-Length and Transfer-Encoding, whose values these could not be.
    let many = format!("Referer: {}\r\n", ",".repeat(20));
    for line in [
        "Link: </a>\r\n",
        "Accept: */*\r\n",
        &many,
        "User-Agent: a b\r\n",
        "Accept-Charset: x\r\n",
        "If-Modified-Since: a b\r\n",
    ] {
        assert_eq!(good(&get(line)), ["GET /", "end"], "{line}");
    }
}

#[test]
fn row_1_43_it_fails_at_the_first_impossible_byte() {
    for wire in [
        "\x16",
        "G{",
        "GET /a#",
        "GET /\x7f",
        "GET / X",
        "GET / HTTP/2.0",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r\n ",
        "GET / HTTP/1.1\r\nHost ",
        "GET / HTTP/1.1\r\nHost: x\0",
        "GET / HTTP/1.1\r\nHost: x\r\r",
        "GET / HTTP/1.1\r\nHost: x\r\n\rX",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    ] {
        fails_at_the_last_byte(wire);
    }
    // Where others waited for a line's end that never came.
    for body in ["h", "+", "5\n", "5;x\n", "5\r\nhellox", "5\r\nhello\n", "0\r\n\n", "0\r\n "] {
        fails_at_the_last_byte(&chunked(body));
    }
}

fn fails_at_the_last_byte(wire: &str) {
    let mut peer = Peer::new(&Arc::default());
    let (before, last) = wire.as_bytes().split_at(wire.len() - 1);
    peer.receive(before, false);
    assert_eq!(peer.transcript.fault, None, "{wire}");
    peer.receive(last, false);
    assert!(peer.transcript.fault.is_some(), "{wire}");
}
