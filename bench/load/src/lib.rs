//! A load of watchers, held by one thread, and the bare programs beside it.
//!
//! ```text
//!   load ──┬─ publisher    PUTs on one connection, and what they are answered after
//!          ├─ subscriber   a connection that watches: decode takes its framing apart, value says which change it was
//!          ├─ process      what the server spends: processor time, system calls, resident memory
//!          ├─ run          the loop: hold so many, publish so much, wait until everyone has everything
//!          ├─ check        the same with the library's own watching client, which believes nothing
//!          └─ report       figures as a line of JSON
//!
//!   bare-send, bare-poll ─ bare   the least that a server can do and still deliver
//! ```
//!
//! Everything goes to 127.0.0.0/8 and ends by itself: [`Options`](options::Options) bounds the subscribers, and a load that gets
//! no further for ten seconds is an error.
#![forbid(unsafe_code)]

pub mod bare;
pub mod check;
pub mod decode;
pub mod options;
pub mod process;
pub mod publisher;
pub mod report;
pub mod run;
pub mod subscriber;
pub mod transport;
pub mod value;

/// What went wrong, as it is printed. A load that saw one fault has no figures.
pub type Fault = Box<dyn std::error::Error>;
