//! What a client checks in an answer (RFC 6455 section 4.1).

use core::fmt;

use super::fields::{Count, has_token, list, one, text};
use super::{KEY_BYTES, verify_accept};

/// What a client offered in its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered<'o> {
    /// The subprotocols.
    pub protocols: &'o [&'o str],
    /// The name of the extension.
    pub extension: Option<&'o str>,
}

/// What a server chose of what was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chosen<'a> {
    /// The subprotocol.
    pub protocol: Option<&'a str>,
    /// The extension with its parameters, as they were written. Whether those answer the offer is the extension's to say.
    pub extension: Option<&'a str>,
}

/// Checks a server's answer to a request with this key and these offers (RFC 6455 section 4.1).
///
/// # Errors
///
/// The connection is no WebSocket. After [`RefusedAnswer::Status`] it is still HTTP: the answer has a body, and may be a
/// redirect or ask for authentication. After the others there is nothing to do but close.
pub fn check_answer<'a>(
    status: u16,
    fields: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    key: &[u8; KEY_BYTES],
    offered: &Offered<'_>,
) -> Result<Chosen<'a>, RefusedAnswer> {
    if status != 101 {
        return Err(RefusedAnswer::Status);
    }
    if !one(&fields, "Upgrade").is_ok_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(RefusedAnswer::Upgrade);
    }
    if !has_token(&fields, "Connection", "upgrade") {
        return Err(RefusedAnswer::Connection);
    }
    if !one(&fields, "Sec-WebSocket-Accept").is_ok_and(|accept| verify_accept(key, accept)) {
        return Err(RefusedAnswer::Accept);
    }
    let mut extensions = list(&fields, "Sec-WebSocket-Extensions");
    let extension = match (extensions.next(), extensions.next()) {
        (None, _) => None,
        (Some(one), None) => {
            Some(text(one).filter(|one| names(one, offered)).ok_or(RefusedAnswer::Extension)?)
        }
        (Some(_), Some(_)) => return Err(RefusedAnswer::Extension),
    };
    let protocol = match one(&fields, "Sec-WebSocket-Protocol") {
        Err(Count::None) => None,
        Err(Count::Several) => return Err(RefusedAnswer::Protocol),
        Ok(value) => {
            let chosen = text(value).filter(|chosen| offered.protocols.contains(chosen));
            Some(chosen.ok_or(RefusedAnswer::Protocol)?)
        }
    };
    Ok(Chosen { protocol, extension })
}

/// Whether an extension is the one that was offered.
fn names(extension: &str, offered: &Offered<'_>) -> bool {
    let name = extension.split(';').next().unwrap_or_default().trim_ascii();
    offered.extension == Some(name)
}

/// Why an answer does not open a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedAnswer {
    /// The status is not 101.
    Status,
    /// `Upgrade` is not `websocket`.
    Upgrade,
    /// No `upgrade` in `Connection`.
    Connection,
    /// Not exactly one `Sec-WebSocket-Accept` that answers the key.
    Accept,
    /// An extension that was not offered, several, or parameters that do not answer the offer.
    Extension,
    /// A subprotocol that was not offered, or several.
    Protocol,
}

impl fmt::Display for RefusedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "the status is not 101",
            Self::Upgrade => "Upgrade is not websocket",
            Self::Connection => "Connection does not say upgrade",
            Self::Accept => "Sec-WebSocket-Accept does not answer the key",
            Self::Extension => "an extension that was not offered so",
            Self::Protocol => "a subprotocol that was not offered",
        })
    }
}

impl core::error::Error for RefusedAnswer {}

#[cfg(test)]
mod tests {
    use super::*;

    type Field = (&'static str, &'static [u8]);

    const ANSWER: [Field; 3] = [
        ("Upgrade", b"websocket"),
        ("Connection", b"Upgrade"),
        ("Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];

    /// The answer with one field changed, left out or repeated, to a request that offered `chat` and `mqtt`.
    fn answer(
        status: u16,
        name: &'static str,
        values: &[&'static [u8]],
    ) -> Result<Option<&'static str>, RefusedAnswer> {
        let others = ANSWER.into_iter().filter(|(other, _)| *other != name);
        let fields: Vec<Field> = others.chain(values.iter().map(|value| (name, *value))).collect();
        checked(status, &fields, Some("permessage-deflate")).map(|chosen| chosen.protocol)
    }

    fn checked<'a>(
        status: u16,
        fields: &[(&'a str, &'a [u8])],
        extension: Option<&str>,
    ) -> Result<Chosen<'a>, RefusedAnswer> {
        let offered = Offered { protocols: &["chat", "mqtt"], extension };
        check_answer(status, fields.iter().copied(), b"dGhlIHNhbXBsZSBub25jZQ==", &offered)
    }

    #[test]
    fn row_handshake_client_checks_status_upgrade_connection_and_accept() {
        assert_eq!(answer(101, "", &[]), Ok(None));
        assert_eq!(answer(200, "", &[]), Err(RefusedAnswer::Status));
        assert_eq!(answer(101, "Upgrade", &[b"WebSocket"]), Ok(None));
        assert_eq!(answer(101, "Upgrade", &[b"h2c"]), Err(RefusedAnswer::Upgrade));
        assert_eq!(answer(101, "Upgrade", &[]), Err(RefusedAnswer::Upgrade));
        assert_eq!(answer(101, "Connection", &[b"close, upgrade"]), Ok(None));
        assert_eq!(answer(101, "Connection", &[b"close"]), Err(RefusedAnswer::Connection));
        assert_eq!(answer(101, "Sec-WebSocket-Accept", &[]), Err(RefusedAnswer::Accept));
        let accept: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert_eq!(answer(101, "Sec-WebSocket-Accept", &[accept, accept]), Err(RefusedAnswer::Accept));
    }

    #[test]
    fn row_handshake_client_checks_that_what_is_returned_was_offered() {
        assert_eq!(answer(101, "Sec-WebSocket-Protocol", &[b"mqtt"]), Ok(Some("mqtt")));
        let not_offered: [&[&[u8]]; 4] = [&[b"Chat"], &[b"chat, mqtt"], &[b"chat", b"mqtt"], &[b""]];
        for values in not_offered {
            assert_eq!(
                answer(101, "Sec-WebSocket-Protocol", values),
                Err(RefusedAnswer::Protocol),
                "{values:?}"
            );
        }
    }

    #[test]
    fn row_handshake_client_takes_the_extension_that_it_offered_and_no_other() {
        let extension = |value: &'static [u8], offered| {
            let fields = [&ANSWER[..], &[("Sec-WebSocket-Extensions", value)]].concat();
            checked(101, &fields, offered).map(|chosen| chosen.extension)
        };
        let deflate = Some("permessage-deflate");
        for value in ["permessage-deflate", "permessage-deflate ; server_max_window_bits=\"10\""] {
            assert_eq!(extension(value.as_bytes(), deflate), Ok(Some(value)));
            assert_eq!(extension(value.as_bytes(), None), Err(RefusedAnswer::Extension));
        }
        for value in [
            "permessage-deflate, permessage-deflate",
            "Permessage-Deflate",
            "x-other",
            "permessage-deflate-2",
            ";",
            "\u{ff}",
        ] {
            assert_eq!(extension(value.as_bytes(), deflate), Err(RefusedAnswer::Extension), "{value}");
        }
        assert_eq!(extension(b", ,", deflate), Ok(None));
    }

    #[test]
    fn row_accept_key_the_example_that_circulates_is_refused() {
        let fields: [Field; 4] = [
            ("Upgrade", b"websocket"),
            ("Connection", b"Upgrade"),
            ("Sec-WebSocket-Accept", b"HSmrc0sMlYUkAGmm5OPpG2HaGWk="),
            ("Sec-WebSocket-Protocol", b"chat"),
        ];
        let check = |fields: &[Field]| {
            let key = b"mg8LvEqrB2vLpyCNnCJV3Q==";
            check_answer(101, fields.iter().copied(), key, &Offered::default()).map(|chosen| chosen.protocol)
        };
        assert_eq!(check(&fields), Err(RefusedAnswer::Accept));
        let mut right = fields;
        right[2].1 = b"AYtwtwampsFjE0lu3kFQrmOCzLQ=";
        assert_eq!(check(&right), Err(RefusedAnswer::Protocol));
        assert_eq!(check(&right[..3]), Ok(None));
    }
}
