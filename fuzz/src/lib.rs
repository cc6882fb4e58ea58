//! Fuzz targets: each a plain function of bytes that panics when something does not hold.
//!
//! The binaries in `fuzz_targets` give them to libFuzzer; the test `replay` runs them over the committed corpora and past
//! crashes, on stable and without it.
//!
//! | target | is held to |
//! | --- | --- |
//! | [`request_head`], [`response_head`] | the head whole, in parts, and encoded again |
//! | [`chunked`], [`trailers`] | readers written as the grammar is, at the byte; what our encoder made |
//! | [`server_connection`], [`client_connection`] | a reader of whole messages, and what was sent; by events and by operations |
//! | [`sse`] | the standard's algorithm, for events that we encode and for any bytes |
//! | [`websocket_frames`], [`websocket_handshake`] | tungstenite; a check of either side's head that is written from the RFC |
//! | [`websocket_connection`] | a plain decoder that has everything at once; either role |
//! | [`websocket_deflate`], [`websocket_inflate`] | what was sent; `miniz_oxide` and a plain inflater |
//! | [`timer_wheel`] | a map |
//! | [`watch_log`] | a log that keeps everything: what subscriptions, lists and polls are told |
//! | [`watch_wire`] | the same, for every byte that the watch server sends over any transport |
//!
//! # Seeds
//!
//! Some are written by hand, for what is rare. Others are what clients and the watch server said to each other in the worlds of the
//! simulator: `cargo test --release -p keepwatch-fuzz --test record -- --ignored` plays some and writes them into the corpora,
//! in the formats of the targets. Then, and after a run, `cargo fuzz cmin -s none <target> -- -use_counters=0` keeps
//! those that reach something that no other does.
#![forbid(unsafe_code)]
#![expect(clippy::panic, clippy::expect_used, reason = "that is how a target says what does not hold")]

mod chunked;
mod client_connection;
mod history;
mod reader;
mod request_head;
mod response_head;
mod server_connection;
mod sse;
mod timer_wheel;
mod trailers;
mod watch_log;
mod watch_wire;
mod websocket_connection;
mod websocket_deflate;
mod websocket_frames;
mod websocket_handshake;
mod websocket_inflate;

pub use chunked::chunked;
pub use client_connection::client_connection;
pub use request_head::request_head;
pub use response_head::response_head;
pub use server_connection::server_connection;
pub use sse::sse;
pub use timer_wheel::timer_wheel;
pub use trailers::trailers;
pub use watch_log::watch_log;
pub use watch_wire::watch_wire;
pub use websocket_connection::websocket_connection;
pub use websocket_deflate::websocket_deflate;
pub use websocket_frames::websocket_frames;
pub use websocket_handshake::websocket_handshake;
pub use websocket_inflate::websocket_inflate;

/// A target: it returns, or it panics.
pub type Target = fn(&[u8]);

/// Every target, by the name of its binary and of its folder in `corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("chunked", chunked),
    ("client_connection", client_connection),
    ("request_head", request_head),
    ("response_head", response_head),
    ("server_connection", server_connection),
    ("sse", sse),
    ("timer_wheel", timer_wheel),
    ("trailers", trailers),
    ("watch_log", watch_log),
    ("watch_wire", watch_wire),
    ("websocket_connection", websocket_connection),
    ("websocket_deflate", websocket_deflate),
    ("websocket_frames", websocket_frames),
    ("websocket_handshake", websocket_handshake),
    ("websocket_inflate", websocket_inflate),
];
