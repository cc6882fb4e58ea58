//! See `keepwatch_fuzz::chunked`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepwatch_fuzz::chunked(data));

#[cfg(not(fuzzing))]
fn main() {}
