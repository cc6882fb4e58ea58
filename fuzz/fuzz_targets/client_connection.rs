//! See `keepwatch_fuzz::client_connection`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepwatch_fuzz::client_connection(data));

#[cfg(not(fuzzing))]
fn main() {}
