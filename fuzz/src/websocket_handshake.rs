//! Both checks of the opening handshake against ones that are written the plainest way: what is accepted, these accept too.

use keepwatch_protocol::websocket::handshake::{self, Offered};

/// More fields than this meet the same code again.
const FIELDS: usize = 24;

/// Lines `name: value`, the first of them a method or a status.
///
/// Where a value is `$`, it is one that fits: few mutations would find the answer to a key.
pub fn websocket_handshake(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let key = handshake::request_key(*b"the sample nonce");
    let accept = handshake::accept_key(&key);
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
    for line in lines.take(FIELDS) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = String::from_utf8_lossy(&line[..colon]).into_owned();
        let mut value = line.get(colon + 1..).unwrap_or_default().trim_ascii().to_vec();
        if value == b"$" {
            value =
                if name.eq_ignore_ascii_case("Sec-WebSocket-Key") { key.to_vec() } else { accept.to_vec() };
        }
        fields.push((name, value));
    }
    let given = fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let naive = Naive(&fields);

    match handshake::check(&first, true, given.clone()) {
        Ok(accepted) => {
            assert!(naive.is_request(&first), "{first:?} {fields:?}");
            let key = naive.values("sec-websocket-key").remove(0);
            assert_eq!(accepted.accept_key().as_slice(), naive_accept(key));
            assert_eq!(accepted.origin(), naive.values("origin").first().copied());
            // In quotes a comma does not end an element; the plain way has none.
            if !naive.values("sec-websocket-protocol").iter().any(|value| value.contains(&b'"')) {
                let offered: Vec<&[u8]> = accepted.protocols().map(str::as_bytes).collect();
                assert_eq!(offered, naive.list("sec-websocket-protocol"));
            }
            for extension in accepted.extensions() {
                assert!(!extension.is_empty() && extension.trim_ascii() == extension);
            }
        }
        Err(rejected) => {
            assert!((400..500).contains(&rejected.status()), "{rejected}");
            assert_eq!(rejected.status() == 405, first != "GET");
        }
    }
    assert!(handshake::check(&first, false, given.clone()).is_err(), "HTTP/1.0 has no upgrade");

    let status = first.parse().unwrap_or(101);
    let protocols = ["chat", "superchat"];
    let offered = Offered { protocols: &protocols, extension: None };
    if let Ok(chosen) = handshake::check_answer(status, given, &key, &offered) {
        assert!(naive.is_answer(status, &accept, &protocols), "{status} {fields:?}");
        let named = naive.values("sec-websocket-protocol");
        assert_eq!(chosen.protocol.map(str::as_bytes), named.first().copied());
        assert_eq!(chosen.extension, None);
    }
}

struct Naive<'a>(&'a [(String, Vec<u8>)]);

impl<'a> Naive<'a> {
    fn values(&self, name: &str) -> Vec<&'a [u8]> {
        let fields = self.0.iter().filter(|(other, _)| other.to_ascii_lowercase() == name);
        fields.map(|(_, value)| value.as_slice()).collect()
    }

    fn list(&self, name: &str) -> Vec<&'a [u8]> {
        let values = self.values(name);
        let elements = values.iter().flat_map(|value| value.split(|byte| *byte == b','));
        elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty()).collect()
    }

    fn says(&self, name: &str, token: &str) -> bool {
        self.list(name).iter().any(|element| element.to_ascii_lowercase() == token.as_bytes())
    }

    /// RFC 6455 section 4.2.1.
    fn is_request(&self, method: &str) -> bool {
        let keys = self.values("sec-websocket-key");
        method == "GET"
            && self.values("host").len() == 1
            && self.says("upgrade", "websocket")
            && self.says("connection", "upgrade")
            && self.values("sec-websocket-version") == [b"13"]
            && keys.len() == 1
            && is_base64_of_16(keys[0])
            && self.values("origin").len() <= 1
    }

    /// RFC 6455 section 4.1.
    fn is_answer(&self, status: u16, accept: &[u8], offered: &[&str]) -> bool {
        let upgrade = self.values("upgrade");
        let protocols = self.values("sec-websocket-protocol");
        status == 101
            && upgrade.len() == 1
            && upgrade[0].eq_ignore_ascii_case(b"websocket")
            && self.says("connection", "upgrade")
            && self.values("sec-websocket-accept") == [accept]
            && self.list("sec-websocket-extensions").is_empty()
            && protocols.len() <= 1
            && protocols.iter().all(|chosen| offered.iter().any(|offer| offer.as_bytes() == *chosen))
    }
}

/// 22 characters, of which the last has four bits that are zero, and the padding.
fn is_base64_of_16(key: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key[..22].iter().all(digit) && b"AQgw".contains(&key[21]) && key.ends_with(b"==")
}

/// By tungstenite, which has another base64 and another SHA-1.
fn naive_accept(key: &[u8]) -> Vec<u8> {
    tungstenite::handshake::derive_accept_key(key).into_bytes()
}
