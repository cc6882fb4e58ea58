//! Where a corpus and this server differ, with the reason. Everything else is judged as its corpus says.

use keepwatch_protocol::http1::Fault;

use crate::End;

/// Cases that end otherwise here than in their corpus.
pub(crate) struct Dispute {
    #[expect(dead_code, reason = "it is for the reader")]
    pub(crate) reason: &'static str,
    pub(crate) end: End,
    pub(crate) ids: &'static [&'static str],
}

/// How a case ends here, if that is disputed.
pub(crate) fn end(id: &str) -> Option<End> {
    DISPUTES.iter().find(|dispute| dispute.ids.contains(&id)).map(|dispute| dispute.end)
}

pub(crate) const DISPUTES: &[Dispute] = &[
    // ---- Taken there, refused here: leniency that has to be asked for there, and cannot be had here ----
    Dispute {
        reason: "a folded line is refused, or unfolded: here it is refused (RFC 9112 section 5.2)",
        end: End::Refused(Fault::Fold),
        ids: &[
            "llhttp:request/connection.md:484",
            "llhttp:request/connection.md:579",
            "llhttp:request/invalid.md:690",
            "llhttp:request/sample.md:336",
            "llhttp:request/sample.md:576",
            "gunicorn:valid/compat_obs_fold",
            "gunicorn:valid/compat_obs_fold_huge",
            "gunicorn:invalid/013", // and there the field is too long
            "pico:test_request:4",
        ],
    },
    Dispute {
        reason: "whitespace before a colon is refused (RFC 9112 section 5.1)",
        end: End::Refused(Fault::SpaceBeforeColon),
        ids: &[
            "llhttp:request/connection.md:640",
            "llhttp:request/content-length.md:192",
            "gunicorn:valid/028",
        ],
    },
    Dispute {
        reason: "a CR without LF is invalid (RFC 9112 section 2.2)",
        end: End::Refused(Fault::BareCr),
        ids: &[
            "llhttp:request/content-length.md:522",
            "llhttp:request/invalid.md:184",
            "llhttp:request/lenient-headers.md:112",
            "llhttp:request/sample.md:458",
        ],
    },
    Dispute {
        reason: "a line ends with CR LF: a recipient may take LF alone, and need not (RFC 9112 section 2.2)",
        end: End::Refused(Fault::BareLf),
        ids: &["llhttp:request/invalid.md:571"],
    },
    Dispute {
        reason: "a control character in a value is invalid: a recipient may retain it, and need not (RFC 9110 section 5.5)",
        end: End::Refused(Fault::FieldValue),
        ids: &[
            "llhttp:request/lenient-header-value-relaxed.md:13",
            "llhttp:request/lenient-headers.md:9",
            "llhttp:request/lenient-headers.md:37",
        ],
    },
    Dispute {
        reason: "another major version is answered 505 (RFC 9110 section 15.6.6)",
        end: End::Refused(Fault::Version),
        ids: &["llhttp:request/lenient-version.md:7"],
    },
    Dispute {
        reason: "both lengths at once may be refused; and by the coding alone this is refused too, as it does not end in \
                 chunked (RFC 9112 sections 6.1 and 6.3)",
        end: End::Refused(Fault::BothLengths),
        ids: &[
            "llhttp:request/content-length.md:232",
            "llhttp:request/transfer-encoding.md:539",
            "gunicorn:valid/009",
        ],
    },
    Dispute {
        reason: "a request's last coding is chunked (RFC 9112 section 6.3)",
        end: End::Refused(Fault::TransferEncoding),
        ids: &["llhttp:request/transfer-encoding.md:683", "llhttp:request/transfer-encoding.md:716"],
    },
    Dispute {
        reason: "a chunk's size is digits, and CR LF (RFC 9112 section 7.1)",
        end: End::Refused(Fault::ChunkSize),
        ids: &["llhttp:request/transfer-encoding.md:1029"],
    },
    Dispute {
        reason: "a chunk's data end with CR LF (RFC 9112 section 7.1)",
        end: End::Refused(Fault::ChunkEnd),
        ids: &["llhttp:request/transfer-encoding.md:1144"],
    },
    Dispute {
        reason: "whitespace after a chunk's size stands only before an extension (RFC 9112 section 7.1.1)",
        end: End::Refused(Fault::ChunkExtension),
        ids: &["llhttp:request/transfer-encoding.md:1218"],
    },
    // ---- Taken there, refused here, by the letter ----
    Dispute {
        reason: "a transfer coding that is not implemented is answered 501 (RFC 9112 section 6.1)",
        end: End::Refused(Fault::Coding),
        ids: &[
            "llhttp:request/transfer-encoding.md:754",
            "llhttp:request/transfer-encoding.md:796",
            "gunicorn:valid/025",
            "gunicorn:valid/025_line",
            "gunicorn:valid/029",
            "gunicorn:valid/030",
            "gunicorn:valid/rfc9112_smuggle_gzip_chunked_01",
            "gunicorn:valid/rfc9112_smuggle_te_identity_chunked_01",
            "guardian:more-compliant-tests:5",
            "guardian:more-compliant-tests:7",
            "guardian:more-compliant-tests:8",
            "guardian:rfc-compliant:8",
            "guardian:rfc-compliant:9",
        ],
    },
    Dispute {
        reason: "the chunked coding has no parameters, and a parameter has a value (RFC 9112 section 7.1, RFC 9110 section \
                 10.1.4)",
        end: End::Refused(Fault::TransferEncoding),
        ids: &["guardian:more-compliant-tests:9", "guardian:rfc-compliant:10"],
    },
    Dispute {
        reason: "userinfo should be treated as an error (RFC 9110 section 4.2.4)",
        end: End::Refused(Fault::Target),
        ids: &["llhttp:request/uri.md:225", "gunicorn:valid/rfc9112_target_absolute_userinfo_01"],
    },
    Dispute {
        reason: "a target is a URI or a part of one, and so ASCII (RFC 9112 section 3.2, RFC 3986 section 2)",
        end: End::Refused(Fault::Target),
        ids: &["gunicorn:valid/027", "pico:test_request:29", "guardian:rfc-compliant:12"],
    },
    Dispute {
        reason: "the target * is for OPTIONS (RFC 9112 section 3.2.4); SSDP is another protocol",
        end: End::Refused(Fault::Target),
        ids: &["llhttp:request/method.md:138"],
    },
    Dispute {
        reason: "ICE and RTSP are other protocols, and so is the PROXY line: a version begins with HTTP/ (RFC 9112 section 2.3)",
        end: End::Refused(Fault::VersionGrammar),
        ids: &[
            "llhttp:request/method.md:375",
            "llhttp:request/method.md:405",
            "llhttp:request/method.md:433",
            "gunicorn:valid/pp_01",
            "gunicorn:valid/pp_02",
        ],
    },
    Dispute {
        reason: "the binary PROXY protocol is another one",
        end: End::Refused(Fault::RequestLine),
        ids: &["gunicorn:valid/pp_04", "gunicorn:valid/pp_05"],
    },
    Dispute {
        reason: "a request line is a method, a target and a version with one space between; more may be let pass, and is not \
                 (RFC 9112 section 3)",
        end: End::Refused(Fault::RequestLine),
        ids: &["llhttp:request/sample.md:317", "pico:test_request:33", "guardian:rfc-compliant:13"],
    },
    // ---- Refused there, taken here ----
    Dispute {
        reason: "any token is a method (RFC 9110 section 9.1)",
        end: End::Ready,
        ids: &["llhttp:request/invalid.md:359"],
    },
    Dispute {
        reason: "any token is a method, and is told as it is written (RFC 9110 section 9.1)",
        end: End::Closed,
        ids: &["llhttp:request/invalid.md:69", "gunicorn:invalid/003c", "gunicorn:valid/031compat"],
    },
    Dispute {
        reason: "a length is judged when the head is whole, and this one is not (RFC 9110 section 5.3)",
        end: End::Within,
        ids: &["llhttp:request/content-length.md:78", "llhttp:request/content-length.md:103"],
    },
    Dispute {
        reason: "the limit there is lower; here a target has 8 KiB, a field 16 KiB, a head 64 KiB and 100 fields",
        end: End::Closed,
        ids: &[
            "gunicorn:invalid/006",
            "gunicorn:invalid/007",
            "gunicorn:invalid/008",
            "gunicorn:invalid/010",
            "gunicorn:invalid/011",
            "gunicorn:invalid/012",
            "gunicorn:invalid/017",
            "gunicorn:invalid/limit_header_default_01",
        ],
    },
    Dispute {
        reason: "the limit there is lower, and the head is not whole",
        end: End::Within,
        ids: &["h11:28:test_max_incomplete_event_size_countermeasure"],
    },
    Dispute {
        reason: "what these fields mean is the application's to say; none of them frames a message",
        end: End::Closed,
        ids: &["gunicorn:invalid/019", "gunicorn:invalid/041"],
    },
    Dispute {
        reason: "an underscore makes another name, which means nothing here (RFC 9110 section 5.1)",
        end: End::Closed,
        ids: &["gunicorn:invalid/040", "gunicorn:invalid/chunked_07"],
    },
    Dispute {
        reason: "an underscore, or a hyphen more, makes another name, which means nothing here (RFC 9110 section 5.1)",
        end: End::Ready,
        ids: &[
            "guardian:ambiguous:7",
            "guardian:ambiguous:8",
            "guardian:ambiguous:30",
            "guardian:ambiguous:31",
        ],
    },
    Dispute {
        reason: "what must not stand in a trailer is dropped, neither told nor refused (RFC 9112 section 7.1.2)",
        end: End::Closed,
        ids: &[
            "gunicorn:valid/012",
            "gunicorn:invalid/rfc9110_trailer_forbidden_cl_01",
            "gunicorn:invalid/rfc9110_trailer_forbidden_host_01",
            "gunicorn:invalid/rfc9110_trailer_forbidden_te_01",
        ],
    },
    Dispute {
        reason: "a length of 0 is a length, for any method (RFC 9112 section 6.3)",
        end: End::Ready,
        ids: &["guardian:acceptable:4", "guardian:acceptable:5"],
    },
    Dispute {
        reason: "a higher minor version is processed as 1.1 (RFC 9110 section 2.5)",
        end: End::Ready,
        ids: &["guardian:acceptable:8"],
    },
    Dispute {
        reason: "a body is framed by its fields and not by the method (RFC 9112 section 6)",
        end: End::Within,
        ids: &[
            "guardian:ambiguous:12",
            "guardian:ambiguous:13",
            "guardian:ambiguous:14",
            "guardian:ambiguous:15",
            "guardian:real-life-test-cases:0",
            "guardian:real-life-test-cases:1",
        ],
    },
    // ---- Taken in both, and otherwise ----
    Dispute {
        reason: "a body that ends before its length is incomplete (RFC 9112 section 8); there what came is told, and no more \
                 is asked for",
        end: End::Refused(Fault::Incomplete),
        ids: &["gunicorn:valid/099"],
    },
    Dispute {
        reason: "a body is framed by its fields and not by the method (RFC 9112 section 6): the tunnel begins behind it",
        end: End::Switched,
        ids: &["llhttp:request/method.md:99"],
    },
    Dispute {
        reason: "the caller skips the body there; here what the length announces is the body",
        end: End::Within,
        ids: &["llhttp:request/content-length.md:447"],
    },
    Dispute {
        reason: "the application there does not read on; here a fourth request begins, and its end does not come",
        end: End::Refused(Fault::Incomplete),
        ids: &["h11:33:test_pipelining"],
    },
    Dispute {
        reason: "the application there had closed; here a request begins",
        end: End::Within,
        ids: &["h11:89:test_close_simple"],
    },
    Dispute {
        reason: "an empty line before a request is passed over (RFC 9112 section 2.2)",
        end: End::Ready,
        ids: &["h11:112:test_empty_request"],
    },
];
