//! The same bytes, cut differently.

use keepwatch_protocol::Server;

use crate::cuts;
use crate::sim::{Sim, SimError};

/// What came back when bytes were sent to a server.
#[derive(Clone, PartialEq, Eq)]
pub struct Replayed {
    /// All bytes that the server sent.
    pub bytes: Vec<u8>,
    /// Whether it ended its side of the stream.
    pub ended: bool,
}

impl std::fmt::Debug for Replayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = if self.ended { ", then the end" } else { "" };
        write!(f, "\"{}\"{end}", self.bytes.escape_ascii())
    }
}

/// Sends bytes to a new server in the pieces that `splits` cuts (positions, ascending), and lets it do all that it can
/// after each piece. No time passes.
///
/// # Errors
///
/// As [`Sim::run`] has them.
pub fn replay<S: Server>(server: S, bytes: &[u8], splits: &[usize]) -> Result<Replayed, SimError> {
    let mut parts = Vec::new();
    let mut from = 0;
    for &to in splits.iter().chain([&bytes.len()]) {
        let to = to.clamp(from, bytes.len());
        parts.push(&bytes[from..to]);
        from = to;
    }
    replay_parts(server, &parts)
}

fn replay_parts<S: Server>(server: S, parts: &[&[u8]]) -> Result<Replayed, SimError> {
    let mut sim = Sim::new(server);
    let client = sim.connect();
    for part in parts {
        client.send(part);
        sim.run()?;
    }
    Ok(Replayed { bytes: client.receive(), ended: client.is_ended() })
}

/// Replays bytes under every cut (see [`cuts::every`]), each time to a new server, and returns what came back.
///
/// Bytes behind the end of the server's side are sent all the same.
///
/// # Panics
///
/// This is an assertion: it panics when a split gives an answer other than that of the whole, or an error.
#[track_caller]
#[expect(clippy::panic, reason = "an assertion for tests")]
pub fn every_split<S: Server>(mut server: impl FnMut() -> S, bytes: &[u8]) -> Replayed {
    cuts::every(bytes, |parts| match replay_parts(server(), parts) {
        Ok(replayed) => replayed,
        Err(error) => panic!("in {} parts: {error}", parts.len()),
    })
}
