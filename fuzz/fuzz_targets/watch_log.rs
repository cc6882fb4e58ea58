//! See `keepwatch_fuzz::watch_log`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepwatch_fuzz::watch_log(data));

#[cfg(not(fuzzing))]
fn main() {}
