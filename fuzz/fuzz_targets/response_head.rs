//! See `keepwatch_fuzz::response_head`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepwatch_fuzz::response_head(data));

#[cfg(not(fuzzing))]
fn main() {}
