//! Criterion benches of this kind of kernel.
fn main() {}
