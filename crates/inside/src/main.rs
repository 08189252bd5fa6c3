//! inside
fn main() {}
