//! messenger-bridge: see the library.

fn main() {}
