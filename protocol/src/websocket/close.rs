//! Why a connection is closed, as the peers tell each other.

use core::fmt;

/// A status code that may stand in a Close frame (RFC 6455 section 7.4).
///
/// Only such codes can be made: 1005, 1006 and 1015 are for reports and never go over the wire, 1004 and the rest below 3000
/// are not assigned.
///
/// ```
/// use keepwatch_protocol::websocket::CloseCode;
///
/// assert_eq!(CloseCode::new(1000), Some(CloseCode::NORMAL));
/// assert_eq!(CloseCode::new(4410).map(CloseCode::get), Some(4410));
/// assert_eq!(CloseCode::new(1006), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The server goes down, or the page was left.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A kind of data that cannot be taken (say, binary where only text is understood).
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// Data that is not what its kind says: text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// Against the rules of this endpoint, where no other code fits.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// A message that is too big.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// From a client: the server did not agree to an extension that it needs.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// The server met something unexpected.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// The service is restarted. Registered with IANA after the RFC, as are the next two.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// Overload: try later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// A gateway got a bad answer.
    pub const BAD_GATEWAY: Self = Self(1014);

    /// The code, if it may stand in a Close frame: 1000 to 1003, 1007 to 1014, and 3000 to 4999.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How a connection was closed, as the peer said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'b> {
    /// The peer's code; `None` if its Close frame had none (reported as 1005 elsewhere) or never came (1006).
    pub code: Option<CloseCode>,
    /// The peer's reason; often empty.
    pub reason: &'b str,
    /// Whether Close frames went both ways. `false` if the stream ended without the peer's.
    pub clean: bool,
}

impl Close<'_> {
    /// The stream ended without a Close frame.
    pub(crate) const ABNORMAL: Self = Self { code: None, reason: "", clean: false };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_codes_for_the_wire_can_be_made() {
        let legal: Vec<u16> = (0..=u16::MAX).filter(|&code| CloseCode::new(code).is_some()).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(legal, expected);
    }
}
