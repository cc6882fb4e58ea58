//! How long a response is, and whether all of it came.

use super::*;

#[test]
fn row_2_1_some_responses_have_no_body_whatever_the_fields() {
    for lines in
        ["", "Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip\r\n"]
    {
        for status in ["204 No Content", "304 Not Modified"] {
            let wire = format!("HTTP/1.1 {status}\r\n{lines}\r\n");
            assert_eq!(good(&wire), [&status[..3], "end"]);
        }
        assert_eq!(good_to(&HEAD, &ok(lines)), ["200", "end"]);
        let interim = format!("HTTP/1.1 103 Early Hints\r\n{lines}\r\n{}", ok("Content-Length: 0\r\n"));
        assert_eq!(good(&interim), ["(103)", "200", "end"]);
    }
}

#[test]
fn a_faulty_length_of_a_response_without_body_ends_the_connection() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
    ] {
        let events = last_to(&HEAD, &ok(lines), NotReusable::FaultyLength);
        assert_eq!(events, ["200", "end"], "{lines}");
    }
    // The length that a GET would have is not the HEAD's to limit.
    let mut setting = Setting::new(&HEAD);
    setting.config.limits.body_bytes = 1;
    assert_eq!(good_with(&setting, ok("Content-Length: 10\r\n").as_bytes()), ["200", "end"]);
}

#[test]
fn row_2_2_a_2xx_to_connect_makes_a_tunnel() {
    for lines in ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: x\r\n"] {
        let seen = Setting::new(&CONNECT).split(format!("{}rest", ok(lines)).as_bytes());
        assert_eq!(seen.events, ["upgraded 200"]);
        assert_eq!((seen.failure, seen.reuse), (None, Err(NotReusable::Upgraded)));
        assert_eq!(seen.rest, b"rest");
    }
    let refused = "HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno";
    assert_eq!(good_to(&CONNECT, refused), ["407", "data no", "end"]);
}

#[test]
fn rows_2_6_and_3_6_chunks_are_put_together() {
    assert_eq!(good(&chunked("0\r\n\r\n")), ["200", "end"]);
    assert_eq!(
        good(&chunked("5\r\nhello\r\n00006\r\n world\r\n000\r\n\r\n")),
        ["200", "data hello world", "end"]
    );
    let wire = ok("transfer-encoding: CHUNKED\r\n") + "0\r\n\r\n";
    assert_eq!(good(&wire), ["200", "end"]);
}

#[test]
fn row_2_8_codings_that_do_not_end_in_chunked_end_with_the_connection() {
    for lines in [
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, deflate\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunkedchunked\r\n",
    ] {
        let wire = ok(lines) + "2\r\nOK\r\n0\r\n\r\n";
        assert_eq!(until_close(&wire), ["200", r"data 2\r\nOK\r\n0\r\n\r\n", "unverified end"], "{lines}");
        let head = head(&wire);
        assert!(head.as_response().is_coded() && head.as_response().body() == ResponseBody::UntilClose);
    }
    assert!(!head(&ok("")).as_response().is_coded());
}

#[test]
fn row_3_7_codings_that_are_not_undone_or_not_understood_are_refused() {
    bad(&ok("Transfer-Encoding: gzip, chunked\r\n"), Fault::Coding);
    bad(&ok("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"), Fault::Coding);
    for value in
        ["chunked, chunked", "", "chunked;a=b", ", chunked", "chunked,", "\"chunked\"", "chunked gzip"]
    {
        bad(&ok(&format!("Transfer-Encoding: {value}\r\n")), Fault::TransferEncoding);
    }
}

#[test]
fn row_2_11_both_lengths_are_refused_in_either_order() {
    bad(&ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Fault::BothLengths);
    bad(&ok("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), Fault::BothLengths);
    bad(&ok("Transfer-Encoding: identity\r\nContent-Length: 5\r\n"), Fault::BothLengths);
}

#[test]
fn row_2_12_no_transfer_encoding_in_http_1_0() {
    let wire = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    bad(wire, Fault::TransferEncodingInHttp10);
}

#[test]
fn rows_2_15_2_16_and_2_17_a_length_is_one_number() {
    for value in ["+5", "-1", "0x5", "5_0", "5 5", "", "5, 5", "18446744073709551616", "5;", "\u{665}"] {
        bad(&ok(&format!("Content-Length: {value}\r\n")), Fault::ContentLength);
    }
    bad(&ok("Content-Length: 5\r\nContent-Length: 5\r\n"), Fault::ContentLength);
    assert_eq!(good(&(ok("Content-Length:\t003\t\r\n") + "abc")), ["200", "data abc", "end"]);
    let head = head(&ok("Content-Length: 18446744073709551615\r\n"));
    assert_eq!(head.as_response().body(), ResponseBody::Length(u64::MAX));
}

#[test]
fn row_2_17_a_body_has_the_limit_that_it_is_given() {
    let mut setting = Setting::new(&GET);
    setting.config.limits.body_bytes = 4;
    let failure = Failure::Malformed(Fault::BodyTooLarge);
    for (wire, taken) in [
        (ok("Content-Length: 5\r\n") + "hello", false),
        (ok("Content-Length: 4\r\n") + "hell", true),
        (chunked("4\r\nhell\r\n1\r\no\r\n"), false),
        (chunked("4\r\nhell\r\n0\r\n\r\n"), true),
        (ok("") + "hello", false),
    ] {
        if taken {
            assert_eq!(good_with(&setting, wire.as_bytes()), ["200", "data hell", "end"]);
        } else {
            bad_with(&setting, wire.as_bytes(), failure);
        }
    }
}

#[test]
fn row_2_20_neither_length_means_up_to_the_end() {
    assert_eq!(until_close(&ok("")), ["200", "unverified end"]);
    assert_eq!(until_close(&(ok("Connection: keep-alive\r\n") + "HTTP/1.1 200 OK\r\n\r\n")).len(), 3);
    assert_eq!(until_close("HTTP/1.0 200 OK\r\n\r\nabc"), ["200", "data abc", "unverified end"]);
    assert_eq!(until_close("HTTP/1.1 205 Reset Content\r\n\r\n"), ["205", "unverified end"]);
    assert_eq!(good("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"), ["205", "end"]);
}

#[test]
fn rows_2_18_and_2_27_a_response_that_was_cut_is_not_complete() {
    cut("", Failure::NoResponse);
    cut("\r\n", Failure::NoResponse);
    cut("HTTP/1.1 100 Continue\r\n\r\n", Failure::NoResponse);
    for wire in ["H", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r"] {
        cut(wire, Failure::TruncatedHead);
    }
    let length = ok("Content-Length: 5\r\n");
    cut(&length, Failure::TruncatedLength { got: 0, want: 5 });
    cut(&(length + "hell"), Failure::TruncatedLength { got: 4, want: 5 });
    for body in
        ["", "5", "5\r\nhel", "5\r\nhello", "5\r\nhello\r\n", "0", "0\r\n", "0\r\n\r", "0\r\nX: y\r\n"]
    {
        cut(&chunked(body), Failure::TruncatedChunks);
    }
}

#[test]
fn row_3_19_the_last_line_of_chunks_may_miss_only_when_let_pass() {
    let config = ClientConfig { missing_final_crlf: true, ..ClientConfig::default() };
    let setting = Setting { config, ends: true, ..Setting::new(&GET) };
    let seen = setting.split(chunked("1\r\na\r\n0\r\n").as_bytes());
    assert_eq!((seen.failure, seen.reuse), (None, Err(NotReusable::HungUp)));
    assert_eq!(seen.events, ["200", "data a", "end", "closed"]);
    for body in ["0", "0\r", "0\r\n\r", "0\r\nX: y\r\n", "1\r\na\r\n"] {
        assert_eq!(setting.split(chunked(body).as_bytes()).failure, Some(Failure::TruncatedChunks), "{body}");
    }
}

#[test]
fn rows_3_1_3_2_3_3_and_3_4_sizes_and_data_are_strict() {
    for line in ["\r\n", ";x\r\n", "+5", "-5", "0x5", "5_0", " 5", "g", "\n", "5\u{a0}", "5\0"] {
        bad(&chunked(line), Fault::ChunkSize);
    }
    bad(&chunked("10000000000000000"), Fault::ChunkSizeTooLarge);
    bad(&chunked("5\n"), Fault::ChunkSize);
    bad(&chunked("5\r\nhelloXX"), Fault::ChunkEnd); // CVE-2025-43859
    bad(&chunked("5\r\nhello\n"), Fault::ChunkEnd);
    bad(&chunked("0\r\n\n"), Fault::BareLf);
}

#[test]
fn row_3_5_whitespace_behind_a_size_is_let_pass() {
    let events = good(&chunked("5 \t \r\nhello\r\n0 \r\n\r\n"));
    assert_eq!(events, ["200", "data hello", "end"]);
    assert_eq!(good(&chunked("5 ; a\r\nhello\r\n0\r\n\r\n")), ["200", "data hello", "end"]);
    for line in ["5 x\r\n", "5;a \r\n", "5;a=b \r\n", "5 \n", "5 ;\r\n"] {
        bad(&chunked(line), Fault::ChunkExtension);
    }
}

#[test]
fn rows_1_39_3_8_3_9_and_3_10_extensions_are_checked_and_ignored() {
    let events = good(&chunked("5;a;b=c;d=\"e;\\\"\";f\r\nhello\r\n0;x\r\n\r\n"));
    assert_eq!(events, ["200", "data hello", "end"]);
    for line in ["5;\r\n", "5;=\r\n", "5;a=\"\r\n", "5;a=\x01"] {
        bad(&chunked(line), Fault::ChunkExtension);
    }
    bad(&chunked(&format!("5;{}", "a".repeat(257))), Fault::ExtensionsTooLarge);
}

#[test]
fn rows_3_11_and_3_12_trailers_are_kept_apart() {
    let events =
        good(&chunked("0\r\nX: y\r\nContent-Length: 5\r\nSet-Cookie: a\r\nContent-Digest: z\r\n\r\n"));
    assert_eq!(events, ["200", "trailers [X: y, Content-Digest: z]", "end"]);
}

#[test]
fn row_3_17_trailers_have_limits() {
    bad(&chunked(&format!("0\r\n{}", "X: y\r\n".repeat(33))), Fault::TrailersTooLarge);
    let mut setting = Setting::new(&GET);
    setting.config.limits.trailer_bytes = 20;
    let wire = chunked("0\r\nX: 0123456789\r\nY: z\r\n\r\n");
    bad_with(&setting, wire.as_bytes(), Failure::Malformed(Fault::TrailersTooLarge));
}

#[test]
fn row_5_17_only_content_that_the_connection_ends_is_in_doubt() {
    for (wire, end) in [
        (ok("Content-Length: 2\r\n") + "ab", "end"),
        (chunked("2\r\nab\r\n0\r\n\r\n"), "end"),
        (ok("") + "ab", "unverified end"),
        (ok("Transfer-Encoding: gzip\r\n") + "ab", "unverified end"),
    ] {
        let seen = Setting { ends: true, ..Setting::new(&GET) }.split(wire.as_bytes());
        assert_eq!(
            (seen.events, seen.failure),
            (["200", "data ab", end, "closed"].map(String::from).to_vec(), None)
        );
    }
}

#[test]
fn row_3_18_tiny_chunks_are_taken_and_padding_is_not() {
    for (chunk, failure) in
        [("1\r\nx\r\n", None), ("0000000000000001\r\nx\r\n", Some(Failure::Malformed(Fault::ChunkOverhead)))]
    {
        let config = Arc::default();
        let mut peer = Peer::new(&GET, &config);
        peer.receive(chunked(&format!("{}0\r\n\r\n", chunk.repeat(2000))).as_bytes(), false);
        assert_eq!(peer.failure, failure);
    }
}
