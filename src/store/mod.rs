//! See the crate's documentation.
pub mod backend;
#[cfg(test)]
mod conformance;
pub mod memory;
pub mod overlay;
pub mod verify;
