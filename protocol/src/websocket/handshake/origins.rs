//! Whose pages may open a WebSocket (RFC 6455 section 10.2).

use alloc::string::String;
use alloc::vec::Vec;

/// Which pages may open a WebSocket. There is no preflight: without a policy, any page that somebody looks at could speak, in
/// that person's name, to every server that the person can reach.
///
/// A request without `Origin` is not a page's, and always allowed: it could say what it likes.
///
/// ```
/// use keepwatch_protocol::websocket::handshake::Origins;
///
/// let origins = Origins::OwnAnd(vec!["https://app.example".to_owned()]);
/// assert!(origins.allow(Some(b"https://app.example"), Some("api.example")));
/// assert!(origins.allow(Some(b"http://api.example:8080"), Some("api.example:8080")));
/// assert!(!origins.allow(Some(b"https://other.example"), Some("api.example")));
/// assert!(!Origins::Own.allow(Some(b"null"), Some("api.example")));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// The server's own: the request's host and port.
    #[default]
    Own,
    /// Its own, and these, spelled as browsers spell them: `https://example.org`, in lower case, with a port only where it is
    /// not the scheme's, and nothing behind it.
    OwnAnd(Vec<String>),
    /// All. For servers that ask for something that a page cannot know.
    Any,
}

impl Origins {
    /// Whether a request with this `Origin`, for this host and port
    /// ([`RequestHead::authority`](crate::http1::RequestHead::authority)), may open a WebSocket.
    #[must_use]
    pub fn allow(&self, origin: Option<&[u8]>, authority: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        match self {
            Self::Any => true,
            Self::Own => is_own_origin(origin, authority),
            Self::OwnAnd(others) => {
                others.iter().any(|other| other.as_bytes() == origin) || is_own_origin(origin, authority)
            }
        }
    }
}

/// Whether an origin's host and port are the request's own (RFC 6454 section 7.1, RFC 9110 section 7.2). Which scheme the request
/// came by is not known here, so it is not compared.
#[must_use]
pub fn is_own_origin(origin: &[u8], authority: Option<&str>) -> bool {
    let (Ok(origin), Some(authority)) = (core::str::from_utf8(origin), authority) else { return false };
    let Some((scheme, host)) = origin.split_once("://") else { return false };
    let default = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => ":80",
        _ if scheme.eq_ignore_ascii_case("https") => ":443",
        _ => return false,
    };
    let strip = |host| str::strip_suffix(host, default).unwrap_or(host);
    strip(host).eq_ignore_ascii_case(strip(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_the_server_s_own_by_host_and_port() {
        let own = |origin: &str, authority| Origins::Own.allow(Some(origin.as_bytes()), authority);
        for (origin, authority) in [
            ("http://example.com", "example.com"),
            ("HTTPS://Example.com", "example.COM:443"),
            ("http://example.com:80", "example.com"),
            ("https://example.com:443", "example.com"),
            ("http://[::1]:80", "[::1]"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(own(origin, Some(authority)), "{origin} of {authority}");
        }
        for (origin, authority) in [
            ("http://example.com", "example.com:8080"),
            ("https://example.com", "example.com:80"),
            ("https://example.com:80", "example.com"),
            ("http://example.com:443", "example.com"),
            ("http://example.com.evil.example", "example.com"),
            ("ftp://example.com", "example.com"),
            ("example.com", "example.com"),
            ("null", "null"),
            ("", ""),
        ] {
            assert!(!own(origin, Some(authority)), "{origin} of {authority}");
        }
        assert!(!own("http://example.com", None) && !Origins::Own.allow(Some(b"\xff"), Some("x")));
    }

    #[test]
    fn others_are_allowed_as_they_are_spelled() {
        let origins = Origins::OwnAnd(vec!["https://a.example".into()]);
        assert!(origins.allow(Some(b"https://a.example"), Some("b.example")));
        assert!(!origins.allow(Some(b"https://a.example:443"), Some("b.example")));
        assert!(Origins::Any.allow(Some(b"\xff"), None));
    }

    #[test]
    fn who_is_no_page_is_allowed() {
        assert!(Origins::Own.allow(None, Some("example.com")));
    }
}
