//! The watch server.
#![forbid(unsafe_code)]

pub mod change;
#[cfg(feature = "command-line")]
pub mod command_line;
mod config;
pub mod encoding;
pub mod handle;
pub mod index;
pub mod key;
pub mod log;
mod request;
mod room;
mod server;
mod shapes;
pub mod store;
mod surface;
pub mod view;

pub use config::Config;
pub use handle::{Event, Handle, Pending, Subscription, Unavailable};
pub use index::Filter;
pub use key::{Key, Revision};
pub use server::{Shared, WatchServer};
