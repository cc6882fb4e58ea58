//! See `keepwatch_fuzz::websocket_inflate`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepwatch_fuzz::websocket_inflate(data));

#[cfg(not(fuzzing))]
fn main() {}
