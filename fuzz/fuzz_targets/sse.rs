//! See `keepwatch_fuzz::sse`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepwatch_fuzz::sse(data));

#[cfg(not(fuzzing))]
fn main() {}
