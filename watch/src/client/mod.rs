//! The watching client.

mod backoff;
mod config;
mod cursor;
mod event;
mod http;
mod lines;
mod machine;
mod parse;
mod progress;
mod routes;
mod socket;

pub use config::{Backoff, ClientConfig, ClientLimits, WatchTimeouts};
pub use event::{Event, Failure, Item, Transport};
pub use machine::{Next, Start, Target, WatchClient};
