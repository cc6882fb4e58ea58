//! How long a request's body is.

use super::*;

fn post(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
}

#[test]
fn row_2_9_unknown_codings_are_501() {
    for value in ["gzip, chunked", "x,\tchunked", "gzip\r\nTransfer-Encoding: chunked"] {
        bad(&post(&format!("Transfer-Encoding: {value}\r\n")), Fault::Coding);
    }
}

#[test]
fn rows_2_10_and_3_7_codings_must_end_in_one_chunked() {
    for value in [
        "",
        "xchunked",
        "identity",
        "chunked, identity",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;a=b",
        "gzip",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "chunked\r\nTransfer-Encoding:",
        "\"chunked\"",
        "chunked\u{b}",
    ] {
        let fault = if value.contains('\u{b}') { Fault::FieldValue } else { Fault::TransferEncoding };
        bad(&post(&format!("Transfer-Encoding: {value}\r\n")), fault);
    }
    for value in ["chunked", "CHUNKED", "\tChunked \t"] {
        let wire = post(&format!("Transfer-Encoding: {value}\r\n")) + "1\r\na\r\n0\r\n\r\n";
        assert_eq!(good(&wire), ["POST /", "data a", "end"]);
    }
}

#[test]
fn row_2_11_both_lengths_are_refused_in_either_order() {
    bad(&post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), Fault::BothLengths);
    bad(&post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), Fault::BothLengths);
    bad(&post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), Fault::BothLengths);
}

#[test]
fn row_2_12_no_transfer_encoding_in_http_1_0() {
    bad("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::TransferEncodingInHttp10);
}

#[test]
fn row_2_15_a_length_is_digits() {
    for value in ["+5", "-1", "0x5", "5_0", "5 5", "", "5;", "5.0", "\u{665}", "18446744073709551616"] {
        bad(&post(&format!("Content-Length: {value}\r\n")), Fault::ContentLength);
    }
    assert_eq!(good(&(post("Content-Length: 0005\r\n") + "hello")), ["POST /", "data hello", "end"]);
}

#[test]
fn row_2_16_two_lengths_are_refused_even_if_equal() {
    bad(&post("Content-Length: 5, 5\r\n"), Fault::ContentLength);
    bad(&post("Content-Length: 5\r\nContent-Length: 5\r\n"), Fault::ContentLength);
    bad(&post("Content-Length: 5\r\ncontent-length: 6\r\n"), Fault::ContentLength);
}

#[test]
fn row_2_17_a_body_over_the_limit_is_413_before_it_comes() {
    bad(&post("Content-Length: 18446744073709551615\r\n"), Fault::BodyTooLarge);
    let config = Config { limits: Limits { body_bytes: 5, ..Limits::default() }, ..Config::default() };
    bad_with(&post("Content-Length: 6\r\n"), Fault::BodyTooLarge, &config);
    bad_with(&chunked("3\r\nabc\r\n3\r\n"), Fault::BodyTooLarge, &config);
    for within in [post("Content-Length: 5\r\n") + "abcde", chunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")] {
        assert_eq!(split_with(within.as_bytes(), &config).events, ["POST /", "data abcde", "end"]);
    }
}

#[test]
fn rows_2_18_2_26_and_3_19_an_end_within_a_request_is_an_error() {
    for wire in [
        post("Content-Length: 5\r\n") + "hell",
        post("Content-Length: 5\r\n"),
        chunked("5\r\nhello\r\n"),
        chunked("5\r\nhello\r\n0\r\n"),
        chunked("5\r\nhello\r\n0\r\n\r"),
        "\r".into(),
        "\r\n\r".into(),
        "GET / HT".into(),
        "GET / HTTP/1.1\r\nHost: x\r\n".into(),
    ] {
        let mut peer = Peer::new(&Arc::default());
        peer.receive(wire.as_bytes(), true);
        assert_eq!(peer.transcript.fault, Some(Fault::Incomplete), "{wire}");
        assert!(peer.transcript.out.starts_with("HTTP/1.1 400 "));
        // The same when the end becomes known later.
        let mut later = Peer::new(&Arc::default());
        later.receive(wire.as_bytes(), false);
        later.receive(b"", true);
        assert_eq!(later.transcript, peer.transcript, "{wire}");
    }
}

#[test]
fn row_2_19_a_request_with_neither_length_has_no_body() {
    assert_eq!(good("POST / HTTP/1.1\r\nHost: x\r\n\r\n"), ["POST /", "end"]);
    let seen = split_with(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nhello", &Config::default());
    assert_eq!((seen.events, &seen.rest[..]), (["POST /", "end"].map(String::from).to_vec(), &b"hello"[..]));
}

#[test]
fn row_2_28_the_method_does_not_decide() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "X"] {
        let wire = format!("{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nGET");
        assert_eq!(good(&wire), [format!("{method} /"), "data GET".into(), "end".into()]);
    }
}
