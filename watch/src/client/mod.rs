//! The watching client.

mod config;
mod event;
mod machine;

pub use config::{Backoff, ClientConfig, ClientLimits, WatchTimeouts};
pub use event::{Event, Failure, Item, Transport};
pub use machine::{Next, Start, Target, WatchClient};
