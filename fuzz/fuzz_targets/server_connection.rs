//! See `keepwatch_fuzz::server_connection`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepwatch_fuzz::server_connection(data));

#[cfg(not(fuzzing))]
fn main() {}
