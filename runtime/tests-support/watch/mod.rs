//! The watch server from outside: its binary as a process, talked to through sockets. Each runtime's `tests/watch.rs` says
//! which binary that is, and includes this.
//!
//! | | |
//! | --- | --- |
//! | [`process`] | a server that is started for a test and always ended |
//! | [`client`] | requests and answers, byte by byte where a test needs it |
//! | [`watcher`] | one watch, the same to a test by whatever transport |
//! | the others | the tests, by what they are about |
//!
//! Every wait ends: reads and writes after [`process::PATIENCE`]. Nothing is asserted on how long anything takes.

mod client;
mod process;
mod watcher;

mod demonstrations;
mod drain;
mod http;
mod keys;
mod lists;
mod slow;
mod threads;
mod together;
mod watches;
mod websockets;
