//! See `keepwatch_fuzz::request_head`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepwatch_fuzz::request_head(data));

#[cfg(not(fuzzing))]
fn main() {}
