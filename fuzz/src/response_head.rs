//! Reading a response's head in one piece and in parts: what is made of the same bytes is the same, whatever was asked and
//! whatever is let pass; and what is accepted keeps the rules that smuggling breaks (RFC 9112 sections 2.2, 4, 5 and 6.3).

use std::sync::Arc;

use keepwatch_protocol::http1::client::{Failure, Request, Response, ResponseBody};
use keepwatch_protocol::http1::{ClientConfig, ClientConnection, ClientEvent, Version};
use keepwatch_protocol::{Input, Now};

/// Longer heads meet the same code again.
const LONGEST: usize = 4 * 1024;

/// The first byte says what was asked, what is let pass, and how large the parts are.
pub fn response_head(data: &[u8]) {
    let Some((&seed, wire)) = data.split_first() else { return };
    if wire.len() > LONGEST {
        return;
    }
    let asked = match seed & 3 {
        0 => Request::get("x", "/"),
        1 => Request::new("HEAD", "x", "/"),
        2 => Request::connect("x:80"),
        _ => Request { upgrade: Some("websocket, h2c"), ..Request::get("x", "/") },
    };
    let config = Arc::new(ClientConfig {
        lenient_lf: seed & 4 != 0,
        space_before_colon: seed & 8 != 0,
        ..ClientConfig::default()
    });
    let whole = read(wire, wire.len().max(1), &asked, &config);
    assert_eq!(whole, read(wire, 1, &asked, &config), "byte by byte");
    assert_eq!(whole, read(wire, usize::from(seed / 16) + 2, &asked, &config), "in parts");
}

/// What came of a head.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Head(Summary),
    Unfinished,
    Refused(Failure),
}

/// All that a head says.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    /// Where it ends.
    length: usize,
    upgraded: bool,
    code: u16,
    reason: Vec<u8>,
    version: Version,
    fields: Vec<(String, Vec<u8>)>,
    body: ResponseBody,
    coded: bool,
    keep_alive: bool,
    upgrades: bool,
}

/// Gives the connection so many bytes more each time, as a socket would. Empty lines in front are taken before the head.
fn read(wire: &[u8], step: usize, asked: &Request<'_>, config: &Arc<ClientConfig>) -> Outcome {
    let mut connection = ClientConnection::new(Arc::clone(config));
    assert_eq!(connection.send(asked, b"", &mut Vec::new(), Now::default()), Ok(()));
    let mut bytes = wire.to_vec();
    let (mut taken, mut end) = (0, 0);
    while end < bytes.len() {
        end = (end + step).min(bytes.len());
        let mut input = Input::new(&mut bytes[taken..end]);
        let event = connection.recv(&mut input, Now::default());
        let upgraded = matches!(event, Ok(ClientEvent::Upgraded(_)));
        let length = taken + input.consumed();
        match event {
            Ok(ClientEvent::NeedMore) => {
                assert!(
                    wire[taken..length].iter().all(|byte| b"\r\n".contains(byte)),
                    "a part of a head was taken"
                );
                taken = length;
            }
            Ok(
                ClientEvent::Informational(head) | ClientEvent::Response(head) | ClientEvent::Upgraded(head),
            ) => {
                check(&wire[taken..length], &head, asked, config);
                return Outcome::Head(summary(&head, length, upgraded));
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => return Outcome::Refused(error.failure),
        }
    }
    Outcome::Unfinished
}

fn summary(head: &Response<'_>, length: usize, upgraded: bool) -> Summary {
    Summary {
        length,
        upgraded,
        code: head.code(),
        reason: head.reason().into(),
        version: head.version(),
        fields: head.fields().iter().map(|field| (field.name.into(), field.value.into())).collect(),
        body: head.body(),
        coded: head.is_coded(),
        keep_alive: head.keep_alive(),
        upgrades: head.upgrades_to("websocket"),
    }
}

/// What holds for every head that is accepted, looked up in the bytes in the plainest way.
fn check(wire: &[u8], head: &Response<'_>, asked: &Request<'_>, config: &ClientConfig) {
    let text = String::from_utf8_lossy(wire).into_owned(); // what is not ASCII has no part in this
    let lines: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let lines: Vec<&str> = lines.into_iter().skip_while(|line| line.is_empty()).collect();
    for line in &lines {
        assert!(!line.contains(['\r', '\0']), "a control character in a line");
    }
    assert!(config.lenient_lf || text.matches('\n').count() == text.matches("\r\n").count(), "LF alone");
    assert_eq!(lines.first().and_then(|line| line.get(9..12)), Some(&*head.code().to_string()));
    assert!(
        config.space_before_colon
            || head.fields().iter().all(|field| text.contains(&format!("{}:", field.name)))
    );
    // But for whitespace, the lines say what they said: what was folded, too.
    let told = head.fields().iter().flat_map(|field| [field.name.as_bytes(), b":", field.value].concat());
    let said =
        wire.iter().copied().skip_while(|byte| b"\r\n".contains(byte)).skip_while(|byte| *byte != b'\n');
    assert!(
        told.filter(|byte| !is_blank(*byte)).eq(said.filter(|byte| !is_blank(*byte))),
        "{:?}",
        head.fields()
    );
    for field in head.fields() {
        assert!(!field.value.iter().any(|byte| b"\r\n\0".contains(byte)), "{field:?}");
    }
    let all = |name: &str| {
        let values = head.fields().all(name).map(|value| String::from_utf8_lossy(value).to_ascii_lowercase());
        values.collect::<Vec<_>>()
    };
    let (codings, lengths) = (all("transfer-encoding"), all("content-length"));
    let bodiless = asked.method == "HEAD"
        || head.code() < 200
        || matches!(head.code(), 204 | 304)
        || asked.method == "CONNECT" && head.code() < 300;
    match head.body() {
        ResponseBody::None => assert!(bodiless),
        _ if bodiless => panic!("content where there is none"),
        ResponseBody::Length(length) => {
            assert!(codings.is_empty());
            assert!(lengths.len() == 1 && lengths[0].bytes().all(|byte| byte.is_ascii_digit()));
            assert_eq!(lengths[0].parse(), Ok(length));
        }
        ResponseBody::Chunked => {
            assert_eq!(
                (&codings[..], lengths.len(), head.version()),
                (&["chunked".to_owned()][..], 0, Version::Http11)
            );
        }
        ResponseBody::UntilClose => {
            assert!(lengths.is_empty());
            assert!(!codings.last().is_some_and(|value| value.ends_with("chunked") && value.len() == 7));
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
