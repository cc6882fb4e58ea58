//! The negotiation (RFC 7692 section 7.1): what is offered, what is answered, and what is agreed to.
//!
//! An offer that is malformed, or that asks for what cannot be done, is passed over, as if the client had not made it. An
//! answer that is malformed, or that grants what was not offered, ends the handshake.

use alloc::string::String;
use core::fmt::{self, Write as _};
use core::num::NonZeroU8;

use super::super::Role;
use super::super::handshake::outside_quotes;

/// The extension's name.
pub(in super::super) const NAME: &str = "permessage-deflate";

/// The windows that can be used, in bits. A window of 8 is in the RFC, and no common compressor has it.
const WINDOW_BITS: core::ops::RangeInclusive<u8> = 9..=15;

/// What an endpoint would have, in either role. The peer may make it less.
///
/// ```
/// use keepwatch_protocol::websocket::deflate::Terms;
///
/// let terms = Terms { receive_takeover: false, ..Terms::default() };
/// let offers = ["permessage-deflate; server_max_window_bits=8", "permessage-deflate; client_max_window_bits"];
/// let (parameters, answer) = terms.answer(offers).expect("the second offer can be accepted");
/// assert_eq!(answer, "permessage-deflate; client_no_context_takeover");
/// assert!(parameters.client_no_context_takeover() && !parameters.server_no_context_takeover());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The largest window for what is sent, 9 to 15 bits; what is beyond becomes the nearest.
    pub send_window_bits: u8,
    /// The largest window for what is received, 9 to 15 bits. It spares the peer's memory: an inflater of ours takes the same
    /// with any. So a client that cannot limit its window is served all the same, and a larger one than agreed to is no
    /// error.
    pub receive_window_bits: u8,
    /// Whether what is sent may refer to the messages before (context takeover): smaller messages, and a compressor that
    /// stays with the connection.
    pub send_takeover: bool,
    /// Whether what is received may: an inflater stays with the connection.
    pub receive_takeover: bool,
}

impl Default for Terms {
    /// The largest windows, and context takeover both ways.
    fn default() -> Self {
        Self { send_window_bits: 15, receive_window_bits: 15, send_takeover: true, receive_takeover: true }
    }
}

impl Terms {
    /// For a server: takes the first offer that can be accepted, of the list elements of `Sec-WebSocket-Extensions`, and
    /// says what to answer in that field. `None` if there is no such offer: the field is left away.
    pub fn answer<'a>(&self, offers: impl IntoIterator<Item = &'a str>) -> Option<(Parameters, String)> {
        let terms = self.in_range();
        offers.into_iter().filter_map(Asked::read).find_map(|asked| terms.accept_offer(&asked))
    }

    /// For a client: the value of `Sec-WebSocket-Extensions`.
    pub fn offer(&self) -> String {
        let terms = self.in_range();
        let client = match terms.send_window_bits {
            15 => Bits::Bare,
            bits => Bits::Some(bits),
        };
        let server = match terms.receive_window_bits {
            15 => None,
            bits => Some(bits),
        };
        let asked = Asked {
            server_no_context_takeover: !terms.receive_takeover,
            client_no_context_takeover: !terms.send_takeover,
            server_max_window_bits: server,
            client_max_window_bits: client,
        };
        asked.write()
    }

    /// For a client: reads the answer to [`offer`](Self::offer), the list elements of `Sec-WebSocket-Extensions`. `None` if
    /// there is none: the server does not compress.
    ///
    /// # Errors
    ///
    /// The answer does not fit the offer (RFC 7692 section 7.1): the handshake fails.
    pub fn accept<'a>(
        &self,
        answers: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Parameters>, RefusedExtension> {
        let terms = self.in_range();
        let mut answers = answers.into_iter();
        let Some(answer) = answers.next() else { return Ok(None) };
        if answers.next().is_some() {
            return Err(RefusedExtension::Several);
        }
        if element_name(answer) != NAME {
            return Err(RefusedExtension::NotOffered);
        }
        let answer = Asked::read(answer).ok_or(RefusedExtension::Malformed)?;
        if !terms.receive_takeover && !answer.server_no_context_takeover {
            return Err(RefusedExtension::Beyond);
        }
        let server = match answer.server_max_window_bits {
            None => 15,
            // Only an upper bound of what will be received: a window of 8 is one of 9 that is not used up.
            Some(bits) => bits.max(*WINDOW_BITS.start()),
        };
        let client = match answer.client_max_window_bits {
            Bits::None => terms.send_window_bits,
            Bits::Bare => return Err(RefusedExtension::Malformed),
            Bits::Some(bits) => bits,
        };
        if server > terms.receive_window_bits || client > terms.send_window_bits {
            return Err(RefusedExtension::Beyond);
        }
        if !WINDOW_BITS.contains(&client) {
            return Err(RefusedExtension::Window);
        }
        let no_takeover =
            (answer.server_no_context_takeover, answer.client_no_context_takeover || !terms.send_takeover);
        Parameters::new(no_takeover, (server, client)).map(Some).ok_or(RefusedExtension::Window)
    }

    fn accept_offer(self, offer: &Asked) -> Option<(Parameters, String)> {
        let server = match offer.server_max_window_bits {
            None => self.send_window_bits,
            Some(bits) => bits.min(self.send_window_bits),
        };
        // A client that does not name this parameter cannot be told to limit its window.
        let client = match offer.client_max_window_bits {
            Bits::None => 15,
            Bits::Bare => self.receive_window_bits,
            Bits::Some(bits) => bits.min(self.receive_window_bits),
        };
        let answer = Asked {
            server_no_context_takeover: offer.server_no_context_takeover || !self.send_takeover,
            client_no_context_takeover: offer.client_no_context_takeover || !self.receive_takeover,
            server_max_window_bits: match (server, offer.server_max_window_bits) {
                (15, None) => None,
                _ => Some(server),
            },
            client_max_window_bits: match (client, offer.client_max_window_bits) {
                (_, Bits::None) | (15, Bits::Bare) => Bits::None,
                _ => Bits::Some(client),
            },
        };
        let no_takeover = (answer.server_no_context_takeover, answer.client_no_context_takeover);
        Some((Parameters::new(no_takeover, (server, client))?, answer.write()))
    }

    pub(super) fn in_range(self) -> Self {
        let clamp = |bits: u8| bits.clamp(*WINDOW_BITS.start(), *WINDOW_BITS.end());
        Self {
            send_window_bits: clamp(self.send_window_bits),
            receive_window_bits: clamp(self.receive_window_bits),
            ..self
        }
    }
}

/// What both sides agreed to. One byte, and one with `Option` around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parameters(NonZeroU8);

impl Parameters {
    /// Of (server, client) each. `None` where a window is not of 9 to 15 bits.
    pub(super) fn new((server, client): (bool, bool), windows: (u8, u8)) -> Option<Self> {
        if !WINDOW_BITS.contains(&windows.0) || !WINDOW_BITS.contains(&windows.1) {
            return None;
        }
        let packed = (windows.0 - 8) | (windows.1 - 8) << 3 | u8::from(server) << 6 | u8::from(client) << 7;
        NonZeroU8::new(packed).map(Self)
    }

    /// Whether no message of the server refers to those before (RFC 7692 section 7.1.1.1).
    pub const fn server_no_context_takeover(self) -> bool {
        self.0.get() & 0x40 != 0
    }

    /// Whether no message of the client does (section 7.1.1.2).
    pub const fn client_no_context_takeover(self) -> bool {
        self.0.get() & 0x80 != 0
    }

    /// The bits of the server's window, 9 to 15 (section 7.1.2.1).
    pub const fn server_max_window_bits(self) -> u8 {
        (self.0.get() & 7) + 8
    }

    /// The bits of the client's window, 9 to 15 (section 7.1.2.2).
    pub const fn client_max_window_bits(self) -> u8 {
        (self.0.get() >> 3 & 7) + 8
    }

    /// Whether what this role sends may refer to the messages before.
    pub const fn takeover(self, sender: Role) -> bool {
        match sender {
            Role::Server => !self.server_no_context_takeover(),
            Role::Client => !self.client_no_context_takeover(),
        }
    }

    /// The window of what this role may compress once for many: none with context takeover, where each message depends on those
    /// before.
    pub fn shared_window_bits(self, sender: Role) -> Option<u8> {
        (!self.takeover(sender)).then_some(self.window_bits(sender))
    }

    /// The bits of this role's window.
    pub const fn window_bits(self, sender: Role) -> u8 {
        match sender {
            Role::Server => self.server_max_window_bits(),
            Role::Client => self.client_max_window_bits(),
        }
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters")
            .field("server_no_context_takeover", &self.server_no_context_takeover())
            .field("client_no_context_takeover", &self.client_no_context_takeover())
            .field("server_max_window_bits", &self.server_max_window_bits())
            .field("client_max_window_bits", &self.client_max_window_bits())
            .finish()
    }
}

/// Why a server's answer about extensions is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedExtension {
    /// An extension that was not offered.
    NotOffered,
    /// The extension is named more than once.
    Several,
    /// A parameter that is unknown, twice there, or has a wrong value.
    Malformed,
    /// More than was offered: a larger window, or context takeover that was excluded.
    Beyond,
    /// A window that cannot be used: 8 bits for what a client sends.
    Window,
}

impl fmt::Display for RefusedExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOffered => "an extension that was not offered",
            Self::Several => "more than one extension",
            Self::Malformed => "malformed parameters of permessage-deflate",
            Self::Beyond => "more of permessage-deflate than was offered",
            Self::Window => "a compression window of 8 bits",
        })
    }
}

impl core::error::Error for RefusedExtension {}

/// An element of `Sec-WebSocket-Extensions`, offer or answer.
#[derive(Debug, Default)]
struct Asked {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Bits,
}

/// The parameter of the client's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Bits {
    /// It is not there.
    #[default]
    None,
    /// There without a value, which only an offer's `client_max_window_bits` may be.
    Bare,
    Some(u8),
}

impl Asked {
    /// Reads an element; `None` if it is another extension, or is not in order.
    fn read(element: &str) -> Option<Self> {
        let mut parts = Parts(Some(element));
        if parts.next()? != NAME {
            return None;
        }
        let mut asked = Self::default();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (part, None),
            };
            match name {
                "server_no_context_takeover" => flag(&mut asked.server_no_context_takeover, value)?,
                "client_no_context_takeover" => flag(&mut asked.client_no_context_takeover, value)?,
                "server_max_window_bits" if asked.server_max_window_bits.is_none() => {
                    asked.server_max_window_bits = Some(number(value?)?);
                }
                "client_max_window_bits" if asked.client_max_window_bits == Bits::None => {
                    asked.client_max_window_bits = match value {
                        None => Bits::Bare,
                        Some(value) => Bits::Some(number(value)?),
                    };
                }
                // Another one, or one for the second time.
                _ => return None,
            }
        }
        Some(asked)
    }

    fn write(&self) -> String {
        let mut text = String::from(NAME);
        for (there, name) in [
            (self.server_no_context_takeover, "; server_no_context_takeover"),
            (self.client_no_context_takeover, "; client_no_context_takeover"),
        ] {
            if there {
                text.push_str(name);
            }
        }
        for (bits, name) in [
            (self.server_max_window_bits.map_or(Bits::None, Bits::Some), "; server_max_window_bits"),
            (self.client_max_window_bits, "; client_max_window_bits"),
        ] {
            // Writing into a string does not fail.
            let _infallible = match bits {
                Bits::None => Ok(()),
                Bits::Bare => text.write_str(name),
                Bits::Some(bits) => write!(text, "{name}={bits}"),
            };
        }
        text
    }
}

/// `None` if the flag has a value, or is there twice.
fn flag(to: &mut bool, value: Option<&str>) -> Option<()> {
    let in_order = value.is_none() && !*to;
    *to = true;
    in_order.then_some(())
}

/// A window's size, 8 to 15: a token, or one in quotes (RFC 6455 section 9.1), without leading zeros.
fn number(value: &str) -> Option<u8> {
    let token = match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"')?,
        None => value,
    };
    let mut digits = [0; 2];
    let mut count = 0;
    let mut bytes = token.bytes();
    while let Some(byte) = bytes.next() {
        // In quotes any character may stand behind a backslash.
        let byte = if byte == b'\\' && token.len() < value.len() { bytes.next()? } else { byte };
        *digits.get_mut(count)? = byte;
        count += 1;
    }
    match (digits, count) {
        ([digit @ b'8'..=b'9', _], 1) => Some(digit - b'0'),
        ([b'1', digit @ b'0'..=b'5'], 2) => Some(10 + digit - b'0'),
        _ => None,
    }
}

fn element_name(element: &str) -> &str {
    Parts(Some(element)).next().unwrap_or_default()
}

/// The parts of an element, between semicolons that are not in a quoted string.
struct Parts<'a>(Option<&'a str>);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0?;
        let (part, rest) = match outside_quotes(rest.as_bytes(), b';') {
            Some(end) => (rest.get(..end)?, rest.get(end + 1..)),
            None => (rest, None),
        };
        self.0 = rest;
        Some(part.trim_matches([' ', '\t']))
    }
}
