//! The watch server on mio.
fn main() {}
