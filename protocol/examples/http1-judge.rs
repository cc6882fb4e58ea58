//! What the server's machine makes of bytes, for a script to compare with what other parsers make of them.
//!
//! Standard input has byte strings, each behind its length (4 bytes, big-endian). Each is taken for all that a client has sent so
//! far, and answered with a line of JSON on standard output: the requests, each with its content in hex and with the number of
//! bytes up to its end, and what came then.
//!
//! ```text
//! {"requests":[{"method":"PUT","target":"/a","body":"6869","end":59}],"then":"idle"}
//! ```
//!
//! `then` is `idle` (nothing, not even a part of a request), `partial` (a request without its end), `closed` (the last request
//! said that it is the last) or the name of a fault, with its `status`.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;

use keepwatch_protocol::http1::{Config, Event, Exchange, ResponseHead, ServerConnection, StatusCode};
use keepwatch_protocol::{Input, Now};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut stdin, mut stdout) = (io::stdin().lock(), BufWriter::new(io::stdout().lock()));
    let config = Arc::new(Config::default());
    let mut length = [0; 4];
    while stdin.read_exact(&mut length).is_ok() {
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        stdin.read_exact(&mut bytes)?;
        writeln!(stdout, "{}", judge(&config, &mut bytes)?)?;
    }
    Ok(stdout.flush()?)
}

fn judge(config: &Arc<Config>, bytes: &mut [u8]) -> Result<String, Box<dyn Error>> {
    let now = Now::default();
    let mut machine = ServerConnection::new(Arc::clone(config), now);
    let mut input = Input::new(bytes);
    let mut out = Vec::new();
    let mut requests = Vec::new();
    let mut current: Option<(String, String, Vec<u8>, Exchange)> = None;
    let then = loop {
        match machine.recv(&mut input, &mut out, now) {
            Ok(Event::Request(head, exchange)) => {
                current = Some((head.method().into(), head.target().into(), Vec::new(), exchange));
            }
            Ok(Event::Data(data)) => {
                if let Some((_, _, body, _)) = &mut current {
                    body.extend_from_slice(data);
                }
            }
            Ok(Event::Trailers(_)) => {}
            Ok(Event::EndOfRequest) => {
                let Some((method, target, body, exchange)) = current.take() else { continue };
                let body = hex(&body);
                requests.push(format!(
                    r#"{{"method":"{}","target":"{}","body":"{body}","end":{}}}"#,
                    escaped(&method),
                    escaped(&target),
                    input.consumed()
                ));
                // No 2xx, which would make a tunnel of a CONNECT.
                machine.answer(
                    exchange,
                    &ResponseHead::empty(StatusCode::NOT_FOUND, &[]),
                    b"",
                    &mut out,
                    now,
                )?;
            }
            Ok(Event::Closed) => break r#""closed""#.to_owned(),
            Ok(Event::Refused(fault)) => break format!(r#""{fault:?}","status":{}"#, fault.status().code()),
            Ok(Event::NeedMore | Event::Paused | Event::HungUp) if machine.is_idle() => {
                break r#""idle""#.to_owned();
            }
            Ok(Event::NeedMore | Event::Paused | Event::HungUp) => break r#""partial""#.to_owned(),
            Err(error) => break format!(r#""{:?}","status":{}"#, error.fault, error.status.code()),
        }
    };
    Ok(format!(r#"{{"requests":[{}],"then":{then}}}"#, requests.join(",")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Methods and targets are visible ASCII.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
