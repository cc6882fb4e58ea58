//! See `keepwatch_fuzz::trailers`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepwatch_fuzz::trailers(data));

#[cfg(not(fuzzing))]
fn main() {}
