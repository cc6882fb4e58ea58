//! See `keepwatch_fuzz::websocket_deflate`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepwatch_fuzz::websocket_deflate(data));

#[cfg(not(fuzzing))]
fn main() {}
