//! The command line that every binary of the watch server shares.

use core::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};

use keepwatch_protocol::UnixMillis;
#[cfg(feature = "deflate")]
use keepwatch_protocol::websocket::Compression;

use crate::config::Config;
use crate::key::Revision;
use crate::log::LogLimits;
use crate::request::{decimal, duration};
use crate::server::{Shared, WatchServer};

/// List keys, then be told of every change: by short poll, long poll, chunked stream, server-sent events or WebSocket.
///
/// When it is ready it prints one line, `listening on http://ADDR:PORT`, for each address. SIGINT and SIGTERM end it: held
/// requests are answered and streams are ended, for at most 5 s. A second signal ends it at once.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = "Try:\n  curl -N localhost:8080/hello           and, elsewhere: curl localhost:8080/ok/haha\n  curl -X PUT -d text localhost:8080/v1/kv/app/a\n  curl 'localhost:8080/v1/watch?key=app/a&wait=60s'\nor open http://localhost:8080/ in a browser."
)]
#[non_exhaustive]
pub struct Arguments {
    /// Where to listen; port 0 lets the system choose one. May be given several times
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub listen: Vec<SocketAddr>,

    /// How long a long poll is held at most, and if it does not say: digits and ms, s or m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = hold)]
    pub hold: Duration,

    /// Threads that serve, each with a machine of its own over the one store
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads)]
    pub threads: NonZeroUsize,

    /// Connections at once, on all threads. More are answered 503; when few places are left, idle ones are closed to make room
    #[arg(long, value_name = "N", default_value = "10000", value_parser = count)]
    pub connections: usize,

    /// Connections of one address at once (for IPv6, of one /64): more are answered 503. Not for a server behind a proxy, which
    /// is one address. [default: no limit]
    #[arg(long, value_name = "N", value_parser = count)]
    pub connections_per_address: Option<usize>,

    /// Memory that requests which have not come to their end, and what is sent and not read, may take together, half for each:
    /// digits and KiB, MiB or GiB. Beyond it requests are answered 503, a WebSocket that sends a message in parts is closed with
    /// 1013, and large changes wait
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = buffers)]
    pub buffers: usize,

    /// Memory for the changes of the past, from which watchers resume: digits and KiB, MiB or GiB. The newest stays whatever its size
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = memory)]
    pub log: usize,

    /// How long a change is kept for those who resume, though there is room: digits and ms, s or m [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub log_age: Option<Duration>,

    /// An origin other than the server's own whose pages may write and open a WebSocket. May be given several times
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub allow_origin: Vec<String>,

    /// Memory for compressing WebSocket messages: digits and KiB, MiB or GiB. Beyond it messages go uncompressed, and a client
    /// that sends a compressed one is sent away; 0: there is no compression
    #[cfg(feature = "deflate")]
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = memory_or_none)]
    pub compression_budget: usize,
}

impl Arguments {
    /// What was given on the command line of the binary with this name. Prints help, the version, or what is wrong, and ends
    /// the process where that is due.
    pub fn from_command_line(name: &'static str) -> Self {
        let matches = Self::command().name(name).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// How long farewells may take after a signal.
    pub const GRACE: Duration = Duration::from_secs(5);

    /// A machine for each of these seeds, which are entropy: as many as there are [threads](Self::threads). They share an empty
    /// store in memory. Its revisions begin at the wall clock in microseconds, so that a server that is started again does not
    /// repeat numbers.
    pub fn machines(&self, started: UnixMillis, seeds: impl IntoIterator<Item = u64>) -> Vec<WatchServer> {
        let first = Revision::new(started.0.saturating_mul(1000)).unwrap_or(Revision::ZERO);
        let shared = Shared::new(self.config(), first);
        seeds.into_iter().map(|seed| shared.machine(seed).0).collect()
    }

    /// The configuration that was asked for.
    pub fn config(&self) -> Config {
        #[cfg_attr(not(feature = "deflate"), expect(unused_mut, reason = "the rest is about compression"))]
        let mut config = Config {
            hold: self.hold,
            connections: self.connections,
            buffers: self.buffers,
            log: LogLimits { bytes: self.log, age: self.log_age, ..LogLimits::default() },
            connections_per_address: self.connections_per_address.unwrap_or(usize::MAX),
            origins: self.allow_origin.clone(),
            ..Config::default()
        };
        #[cfg(feature = "deflate")]
        {
            config.websocket.compression = match self.compression_budget {
                0 => Compression::OFF,
                budget => Config::compression(budget),
            };
        }
        config
    }
}

/// The least memory that is worth it: a compressor, some inflaters and their buffers; a value.
const LEAST_MEMORY: usize = 1 << 20;

fn memory(text: &str) -> Result<usize, String> {
    let bytes = size(text).ok_or("it is digits and KiB, MiB or GiB, such as 64MiB")?;
    if bytes < LEAST_MEMORY { Err("it is at least 1MiB".into()) } else { Ok(bytes) }
}

/// In half of it the longest answer has to fit: a page, and one item more. A value of 1 MiB may be 6 MiB of JSON.
fn buffers(text: &str) -> Result<usize, String> {
    let bytes = memory(text)?;
    if bytes < 16 << 20 { Err("it is at least 16MiB".into()) } else { Ok(bytes) }
}

#[cfg(feature = "deflate")]
fn memory_or_none(text: &str) -> Result<usize, String> {
    match size(text) {
        Some(0) => Ok(0),
        _ => memory(text).map_err(|why| why + ", or 0"),
    }
}

fn size(text: &str) -> Option<usize> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "" if number == "0" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(decimal(number.as_bytes())?).ok()?.checked_mul(unit)
}

fn count(text: &str) -> Result<usize, String> {
    let count = decimal(text.as_bytes()).and_then(|number| usize::try_from(number).ok());
    count.filter(|&count| (1..=1_000_000).contains(&count)).ok_or_else(|| "it is from 1 to 1000000".into())
}

fn age(text: &str) -> Result<Duration, String> {
    let age = duration(text).filter(|age| *age >= Duration::from_secs(1));
    age.ok_or_else(|| "it is digits and ms, s or m, such as 60m, and at least 1s".into())
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let threads = decimal(text.as_bytes()).and_then(|number| usize::try_from(number).ok());
    let threads = threads.filter(|&threads| threads <= 256).and_then(NonZeroUsize::new);
    threads.ok_or_else(|| "it is from 1 to 256".into())
}

fn hold(text: &str) -> Result<Duration, String> {
    let hold = duration(text).ok_or("it is digits and ms, s or m, such as 60s")?;
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(3600));
    if hold < least || hold > most {
        return Err("it is from 1s to 60m".into());
    }
    Ok(hold)
}

/// As a browser writes it (RFC 6454 section 6.2): it is compared byte for byte.
fn origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let plain = |host: &str| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
    match host {
        Some(host) if plain(host) && text == text.to_ascii_lowercase() => Ok(text.into()),
        _ => Err("it is a scheme and a host, in lower case, such as https://example.org".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use keepwatch_protocol::{Now, Server};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["watch"], arguments].concat())
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let arguments = parse(&[]).unwrap();
        assert_eq!(arguments.listen, ["127.0.0.1:8080".parse().unwrap()]);
        let (given, default) = (arguments.config(), Config::default());
        assert_eq!(given.hold, default.hold);
        assert_eq!(given.connections, default.connections);
        assert_eq!(given.buffers, default.buffers);
        assert_eq!(given.log, default.log);
        assert_eq!(given.connections_per_address, default.connections_per_address);
    }

    #[test]
    #[cfg(feature = "deflate")]
    fn compression_is_on_unless_it_has_no_memory() {
        let shown = |arguments: &[&str]| {
            format!(
                "{:?}",
                parse(arguments).map(|arguments| arguments.config().websocket.compression).unwrap()
            )
        };
        assert_eq!(shown(&[]), format!("{:?}", Config::default().websocket.compression));
        assert!(shown(&["--compression-budget", "2048KiB"]).contains("budget: 2097152"));
        for off in ["0", "0MiB"] {
            assert_eq!(shown(&["--compression-budget", off]), "Off");
        }
    }

    #[test]
    fn a_wrong_value_says_which_and_why() {
        for (arguments, why) in [
            (["--hold", "60"], "digits and ms, s or m"),
            (["--hold", "0s"], "from 1s to 60m"),
            (["--hold", "2000m"], "from 1s to 60m"),
            (["--connections", "0"], "from 1 to"),
            (["--connections-per-address", "x"], "from 1 to"),
            (["--buffers", "15MiB"], "at least 16MiB"),
            (["--buffers", "64"], "digits and KiB, MiB or GiB"),
            (["--log", "1KiB"], "at least 1MiB"),
            (["--log-age", "999ms"], "at least 1s"),
            (["--threads", "0"], "from 1 to 256"),
            (["--threads", "257"], "from 1 to 256"),
            (["--threads", "two"], "from 1 to 256"),
            (["--listen", "localhost"], "invalid socket address"),
            (["--allow-origin", "example.org"], "a scheme and a host"),
            (["--allow-origin", "https://Example.org"], "in lower case"),
            (["--allow-origin", "https://example.org/"], "a scheme and a host"),
            #[cfg(feature = "deflate")]
            (["--compression-budget", "64"], "digits and KiB, MiB or GiB"),
            #[cfg(feature = "deflate")]
            (["--compression-budget", "MiB"], "digits and KiB, MiB or GiB"),
            #[cfg(feature = "deflate")]
            (["--compression-budget", "99999999999GiB"], "digits and KiB, MiB or GiB"),
            #[cfg(feature = "deflate")]
            (["--compression-budget", "16KiB"], "at least 1MiB"),
        ] {
            let error = parse(&arguments).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(arguments[0]), "{error}");
        }
    }

    #[test]
    fn origins_are_taken_as_they_stand() {
        let arguments = parse(&["--allow-origin", "https://example.org:8443"]).unwrap();
        assert_eq!(arguments.config().origins, ["https://example.org:8443"]);
    }

    #[test]
    fn revisions_begin_at_the_clock() {
        // Beyond what JavaScript reads exactly, there is nothing better than to begin at 0.
        for (clock, first) in [(1_700_000_000_000, 1_700_000_000_000_000), (u64::MAX, 0)] {
            let mut server = parse(&[]).unwrap().machines(UnixMillis(clock), [0]).remove(0);
            server.start(Waker::noop(), Now::default());
            assert_eq!(server.next_ready(Now::default()), None);
            assert_eq!(server.revision().as_u64(), first);
        }
    }

    #[test]
    fn machines_share_the_store() {
        let mut machines = parse(&[]).unwrap().machines(UnixMillis(1), [1, 2]);
        assert_eq!(machines.len(), 2);
        for machine in &mut machines {
            machine.start(Waker::noop(), Now::default());
            assert_eq!(machine.next_ready(Now::default()), None);
            assert_eq!(machine.revision().as_u64(), 1000);
        }
    }

    #[test]
    fn several_addresses_are_taken() {
        let arguments = parse(&["--listen", "127.0.0.1:0", "--listen", "[::1]:0"]).unwrap();
        assert_eq!(arguments.listen.len(), 2);
    }
}
