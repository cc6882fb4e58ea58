//! What every runtime over sockets shares, so that it is said once.
//!
//! A [`Driver`](keepwatch_protocol::Driver) holds all logic of a server that is no system call. A runtime makes the calls and
//! waits: `keepwatch-mio` with mio, `keepwatch-smol` with smol, and one of your own with whatever you have (see
//! `examples/echo-tokio.rs`). These are the parts that do not depend on how it waits:
//!
//! | part | what for |
//! | --- | --- |
//! | [`Options`], [`listen`] | which addresses, and the options of the sockets |
//! | [`Intake`] | accepting in bounded turns, alone or for several runtimes |
//! | [`AcceptBackoff`] | what to do when accepting fails |
//! | [`Connecting`] | making connections, each with its end |
//! | [`Table`], [`read()`], [`write()`] | from ids to sockets, and the two calls that move bytes |
//! | [`Clock`], [`Turn`] | the one place that reads a clock; how long a turn may take |
//! | [`Handle`], [`Control`] | how other threads stop a runtime |
#![forbid(unsafe_code)]

mod accept;
mod clock;
mod connect;
mod control;
#[cfg(feature = "daemon")]
pub mod daemon;
mod intake;
mod io;
mod options;
mod share;
mod turn;

pub use accept::{AcceptBackoff, Retry};
pub use clock::Clock;
pub use connect::{Connecting, is_connected};
pub use control::{Control, Handle};
pub use intake::Intake;
pub use io::{Table, read, write};
pub use options::{Options, listen};
pub use turn::Turn;
