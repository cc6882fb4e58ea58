//! Fuzz targets: each a plain function of bytes that panics when something does not hold.
//!
//! The binaries in `fuzz_targets` give them to libFuzzer; the test `replay` runs them over the committed corpora and past
//! crashes, on stable and without it.
#![forbid(unsafe_code)]

mod chunked;
mod request_head;
mod timer_wheel;

pub use chunked::chunked;
pub use request_head::request_head;
pub use timer_wheel::timer_wheel;

/// A target: it returns, or it panics.
pub type Target = fn(&[u8]);

/// Every target, by the name of its binary and of its folder in `corpus`.
pub const TARGETS: &[(&str, Target)] =
    &[("chunked", chunked), ("request_head", request_head), ("timer_wheel", timer_wheel)];
