//! The command line of `load`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

use crate::transport::Transport;
use crate::value::LEAST;

/// Holds subscribers on a watch server, publishes changes, checks that everyone gets each once and in order, and prints what it
/// cost as a line of JSON.
///
/// One thread, and loopback alone. Delays are from the write of a PUT (with --rate: from when it was due) until the change was
/// read here, so they have in them how long this program takes to come to it.
#[derive(Clone, Debug, Parser)]
#[command(version, max_term_width = 110)]
pub struct Options {
    /// The server, on 127.0.0.0/8
    #[arg(value_name = "ADDR:PORT", value_parser = loopback)]
    pub server: SocketAddr,

    /// How changes come
    #[arg(long, value_enum, default_value = "websocket")]
    pub transport: Transport,

    /// How many are held
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=19_900))]
    pub subscribers: u32,

    /// How many changes are published and measured
    #[arg(long, value_name = "M", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub changes: u32,

    /// Changes before those, that are not measured
    #[arg(long, value_name = "M", default_value_t = 50)]
    pub warm_up: u32,

    /// Changes written at once; the next ones go when everyone has all of these
    #[arg(long, value_name = "CHANGES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub burst: u32,

    /// Connections that changes are written on, in turn. On one they are behind each other, and their order is known; of several
    /// the server decides, and everyone has to be told in the same order
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub writers: u32,

    /// Changes a second, each when it is due, whoever has the ones before
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "burst")]
    pub rate: Option<f64>,

    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = bytes)]
    pub value: usize,

    /// What is watched
    #[arg(long, value_enum, default_value = "shared", conflicts_with = "writers")]
    pub keys: Keys,

    /// The process whose processor time and memory are measured
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,

    /// Counts system calls too, with `perf stat`, over so many changes before those (counting costs time, so they are not measured)
    #[arg(long, value_name = "M", default_value_t = 0, requires = "server_pid")]
    pub system_calls: u32,

    /// PUTs a second of a key that nobody watches, on a connection of their own, to see how long they take meanwhile
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0.0)]
    pub probe: f64,

    /// A field for every subscriber's request: `TE: chunked`. May be given several times
    #[arg(long, value_name = "FIELD")]
    pub field: Vec<String>,

    /// Polls go on with the Last-Modified and Etag of the answer before, and not with a revision (nchan)
    #[arg(long)]
    pub poll_by_tag: bool,

    /// Subscribers are the library's watching clients: every byte is checked, and the figures are theirs as well
    #[arg(long)]
    pub check: bool,
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Keys {
    /// One key, by everyone: each change goes to all.
    Shared,
    /// A key of 16 bytes each: each change goes to one.
    Distinct,
}

impl Keys {
    /// The key that a subscriber watches, of 16 bytes.
    pub fn key(self, subscriber: u32) -> String {
        match self {
            Self::Shared => "load/shared-key1".into(),
            Self::Distinct => format!("load/{subscriber:011}"),
        }
    }
}

/// A load that gets no further for so long is over.
pub const PATIENCE: Duration = Duration::from_secs(10);

impl Options {
    /// How many subscribers a change goes to.
    pub fn audience(&self) -> u64 {
        match self.keys {
            Keys::Shared => u64::from(self.subscribers),
            Keys::Distinct => 1,
        }
    }

    /// From a change of a subscriber to its next one.
    pub fn step(&self) -> u32 {
        match self.keys {
            Keys::Shared => 1,
            Keys::Distinct => self.subscribers,
        }
    }

    /// Everything that is published.
    pub fn all_changes(&self) -> u32 {
        self.warm_up + self.changes + self.system_calls
    }

    /// The fields that every subscriber sends.
    pub fn fields(&self) -> String {
        self.field.iter().map(|field| format!("{field}\r\n")).collect()
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|error| format!("{error}"))?;
    match address {
        SocketAddr::V4(four) if four.ip().is_loopback() => Ok(address),
        _ => Err("it is an address of 127.0.0.0/8: loads are for this machine".into()),
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().map_err(|error| format!("{error}"))?;
    if (LEAST..=60_000).contains(&bytes) { Ok(bytes) } else { Err(format!("it is {LEAST} to 60000")) }
}
