//! See `keepwatch_fuzz::watch_wire`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepwatch_fuzz::watch_wire(data));

#[cfg(not(fuzzing))]
fn main() {}
