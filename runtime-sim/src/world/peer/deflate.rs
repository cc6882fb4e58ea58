//! permessage-deflate (RFC 7692) as a client has it, without a line of the server's: what it offers, whether the answer fits,
//! and messages both ways by `miniz_oxide`.

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::random::Random;

/// What a client asks for, of one offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Offer {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: Option<u8>,
    client_bits: Window,
}

/// What an offer says of the client's window (RFC 7692 section 7.1.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Window {
    /// Nothing: the server cannot limit it.
    #[default]
    Unsaid,
    /// The server may limit it.
    Free,
    /// It has so many bits, and the server may say fewer.
    Bits(u8),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Agreed {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: u8,
    client_bits: u8,
}

impl Offer {
    /// As browsers do it, or with any of the parameters.
    pub(in super::super) fn draw(random: &mut Random) -> Self {
        if random.chance(400) {
            return Self { client_bits: Window::Free, ..Self::default() };
        }
        let bits = |random: &mut Random| 9 + random.below(7) as u8;
        Self {
            server_no_takeover: random.chance(300),
            client_no_takeover: random.chance(300),
            server_bits: random.chance(400).then(|| bits(random)),
            client_bits: match random.below(5) {
                0 | 1 => Window::Unsaid,
                2 | 3 => Window::Free,
                _ => Window::Bits(bits(random)),
            },
        }
    }

    /// An element of `Sec-WebSocket-Extensions`.
    pub(in super::super) fn element(self) -> String {
        let mut text = "permessage-deflate".to_owned();
        let mut put = |there: bool, part: String| {
            if there {
                text.push_str(&part);
            }
        };
        put(self.server_no_takeover, "; server_no_context_takeover".into());
        put(self.client_no_takeover, "; client_no_context_takeover".into());
        put(
            self.server_bits.is_some(),
            format!("; server_max_window_bits={}", self.server_bits.unwrap_or(15)),
        );
        match self.client_bits {
            Window::Unsaid => {}
            Window::Free => put(true, "; client_max_window_bits".into()),
            Window::Bits(bits) => put(true, format!("; client_max_window_bits={bits}")),
        }
        text
    }

    /// Reads the server's answer: it grants what was offered, and says no more than that (RFC 7692 section 7.1).
    pub(in super::super) fn accept(self, answer: &str) -> Result<Agreed, String> {
        let wrong =
            |why: &str| Err(format!("{:?} was offered, and {answer:?} is answered: {why}", self.element()));
        let mut parts = answer.split(';').map(str::trim);
        if parts.next() != Some("permessage-deflate") {
            return wrong("another extension");
        }
        let mut found: Vec<(&str, Option<u8>)> = Vec::new();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (part, None),
            };
            let bits = match value.map(str::parse::<u8>) {
                None => None,
                Some(Ok(bits)) if (8..=15).contains(&bits) => Some(bits),
                Some(_) => return wrong("a value"),
            };
            if found.iter().any(|(known, _)| *known == name) {
                return wrong("a parameter twice");
            }
            let is_window = match name {
                "server_no_context_takeover" | "client_no_context_takeover" => false,
                "server_max_window_bits" | "client_max_window_bits" => true,
                _ => return wrong("a parameter"),
            };
            if is_window != bits.is_some() {
                return wrong("a value, or none");
            }
            found.push((name, bits));
        }
        let get = |name: &str| found.iter().find(|(known, _)| *known == name).map(|(_, bits)| *bits);
        let agreed = Agreed {
            server_no_takeover: get("server_no_context_takeover").is_some(),
            client_no_takeover: get("client_no_context_takeover").is_some() || self.client_no_takeover,
            server_bits: get("server_max_window_bits").flatten().unwrap_or(15),
            client_bits: get("client_max_window_bits").flatten().unwrap_or(15),
        };
        if self.server_no_takeover && !agreed.server_no_takeover {
            return wrong("context takeover was excluded");
        }
        if agreed.server_bits > self.server_bits.unwrap_or(15) {
            return wrong("the server's window is larger");
        }
        match (self.client_bits, get("client_max_window_bits")) {
            (Window::Unsaid, Some(_)) => wrong("the client's window cannot be limited"),
            (Window::Bits(most), Some(Some(bits))) if bits > most => wrong("the client's window is larger"),
            _ => Ok(agreed),
        }
    }
}

/// Inflates the messages of a server in a window that is no larger than was agreed on.
pub(in super::super) struct Inflater {
    takeover: bool,
    state: Box<DecompressorOxide>,
    window: Vec<u8>,
    at: usize,
}

/// What a sender takes off the end of a message, and a receiver puts back (RFC 7692 section 7.2).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// No message of a world is longer.
const MESSAGE_BYTES: usize = 1 << 20;

impl Inflater {
    pub(in super::super) fn new(agreed: Agreed) -> Self {
        let takeover = !agreed.server_no_takeover;
        // What is not text shows that something was referred to that had not been there.
        Self { takeover, state: Box::default(), window: vec![0xff; 1 << agreed.server_bits], at: 0 }
    }

    pub(in super::super) fn message(&mut self, payload: &[u8]) -> Result<Vec<u8>, String> {
        if !self.takeover {
            self.begin();
        }
        let mut message = Vec::new();
        for part in [payload, &TAIL] {
            self.part(part, &mut message)?;
        }
        Ok(message)
    }

    fn begin(&mut self) {
        self.state.init();
        if self.at > 0 {
            self.window.fill(0xff);
        }
        self.at = 0;
    }

    fn part(&mut self, mut rest: &[u8], message: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let (status, taken, given) =
                decompress(&mut self.state, rest, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            message.extend(&self.window[self.at..self.at + given]);
            self.at = (self.at + given) % self.window.len();
            rest = &rest[taken..];
            match status {
                TINFLStatus::NeedsMoreInput if rest.is_empty() => return Ok(()),
                TINFLStatus::HasMoreOutput if message.len() <= MESSAGE_BYTES => {}
                // A last block: behind it a new stream begins, which knows the window.
                TINFLStatus::Done => self.state.init(),
                other => {
                    return Err(format!("a message cannot be inflated: {other:?} behind {}", message.len()));
                }
            }
        }
    }
}

/// Compresses the messages of a client.
pub(in super::super) struct Deflater {
    state: Option<Box<CompressorOxide>>,
    /// Of a message beyond the window that was agreed on, nothing is compressed: `miniz_oxide` has but one.
    most: usize,
}

impl Deflater {
    pub(in super::super) fn new(agreed: Agreed) -> Self {
        let takeover = !agreed.client_no_takeover && agreed.client_bits == 15;
        Self { state: takeover.then(compressor), most: 1 << agreed.client_bits }
    }

    /// `None`: it goes as it is.
    pub(in super::super) fn message(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        if message.len() > self.most || message.is_empty() {
            return None;
        }
        let mut fresh = None;
        let state = match &mut self.state {
            Some(state) => state,
            None => fresh.insert(compressor()),
        };
        let mut out = vec![0; 2 * message.len() + 64];
        let (status, taken, given) = compress(state, message, &mut out, TDEFLFlush::Sync);
        if status != TDEFLStatus::Okay || taken != message.len() {
            return None;
        }
        out.truncate(given);
        out.ends_with(&TAIL).then(|| {
            out.truncate(given - TAIL.len());
            out
        })
    }
}

fn compressor() -> Box<CompressorOxide> {
    // No zlib around it, and quick.
    Box::new(CompressorOxide::new(create_comp_flags_from_zip_params(1, -15, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(takeover: bool, server_bits: u8) -> Agreed {
        Agreed { server_no_takeover: !takeover, client_no_takeover: !takeover, server_bits, client_bits: 15 }
    }

    #[test]
    fn the_examples_of_the_rfc_are_inflated() {
        // Section 7.2.3: a message, a stored one, one with a last block, and the second of two that share a context.
        let mut inflater = Inflater::new(agreed(false, 15));
        let hello: [&[u8]; 3] = [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        ];
        for payload in hello {
            assert_eq!(inflater.message(payload).as_deref(), Ok(&b"Hello"[..]), "{payload:02x?}");
        }
        let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
        let mut inflater = Inflater::new(agreed(true, 15));
        assert_eq!(inflater.message(hello[0]).as_deref(), Ok(&b"Hello"[..]));
        assert_eq!(inflater.message(&second).as_deref(), Ok(&b"Hello"[..]));
        let mut apart = Inflater::new(agreed(false, 15));
        assert_ne!(apart.message(&second).as_deref(), Ok(&b"Hello"[..]), "it refers to what is not there");
    }

    #[test]
    fn what_refers_beyond_the_window_is_no_message() {
        let mut text: Vec<u8> = (0..1200_u32).map(|at| (at * at % 251) as u8).collect();
        text.extend_from_within(..600);
        let payload = Deflater::new(agreed(false, 15)).message(&text).unwrap();
        assert_eq!(Inflater::new(agreed(false, 15)).message(&payload).as_deref(), Ok(&text[..]));
        assert_ne!(Inflater::new(agreed(false, 9)).message(&payload).as_deref(), Ok(&text[..]));
    }

    #[test]
    fn messages_that_share_a_context_become_smaller() {
        let mut sender = Deflater::new(agreed(true, 15));
        let mut receiver = Inflater::new(agreed(true, 15));
        let text = b"{\"op\":\"put\",\"key\":\"a\",\"value\":\"something or other\"}";
        let lengths: Vec<usize> = (0..3)
            .map(|_| {
                let payload = sender.message(text).unwrap();
                assert_eq!(receiver.message(&payload).as_deref(), Ok(&text[..]));
                payload.len()
            })
            .collect();
        assert!(lengths[1] < lengths[0] / 2, "{lengths:?}");
    }

    #[test]
    fn an_answer_beyond_the_offer_is_refused() {
        let offer = Offer { server_bits: Some(10), ..Offer::default() };
        assert!(offer.accept("permessage-deflate; server_max_window_bits=10").is_ok());
        for answer in [
            "permessage-deflate",
            "permessage-deflate; server_max_window_bits=11",
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=10; server_no_context_takeover=1",
            "permessage-bzip2",
        ] {
            assert!(offer.accept(answer).is_err(), "{answer}");
        }
    }
}
