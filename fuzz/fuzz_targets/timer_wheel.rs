//! See `keepwatch_fuzz::timer_wheel`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepwatch_fuzz::timer_wheel(data));

#[cfg(not(fuzzing))]
fn main() {}
