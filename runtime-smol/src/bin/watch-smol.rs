//! The watch server on smol.
fn main() {}
