//! The watch server from outside: its binary as a process, talked to through sockets. Each runtime's `tests/watch.rs` says
//! which binary that is, and includes this.
//!
//! | | |
//! | --- | --- |
//! | [`process`] | a server that is started for a test and always ended |
//! | [`client`] | requests and answers, byte by byte where a test needs it |
//! | [`watcher`] | one watch, the same to a test by whatever transport |
//! | [`follower`] | the library's own client, in a thread or as a process |
//! | [`scenarios`] | the scripts that the simulator plays, too |
//! | the others | the tests, by what they are about |
//!
//! Every wait ends: reads and writes after [`process::PATIENCE`]. Nothing is asserted on how long anything takes.

mod client;
mod follower;
mod process;
#[path = "../scenarios/mod.rs"]
mod scenarios;
mod watcher;

mod demonstrations;
mod drain;
mod faults;
mod http;
mod keys;
mod lists;
mod loopback;
mod slow;
mod threads;
mod together;
mod watches;
mod websockets;
