//! HTTP/1.1, server-sent events and WebSocket as pure state machines, and the driver that runs a server made of them.
#![forbid(unsafe_code)]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod driver;
pub mod http1;
mod input;
pub mod long_poll;
mod output;
mod server;
pub mod sse;
mod time;
pub mod timer;
pub mod websocket;

pub use driver::{Driver, DriverConfig};
pub use input::Input;
pub use output::{Lease, Leases, SendQueue, Sink, Slices};
pub use server::{Admission, After, Closed, ConnectionId, Fill, Peer, Server};
pub use time::{Instant, Now, UnixMillis, earliest};
