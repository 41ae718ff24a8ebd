//! See the crate's documentation.
pub mod archive_file;
pub mod backend;
#[cfg(test)]
mod conformance;
mod integrity;
pub mod memory;
pub mod overlay;
mod record;
pub mod seal;
pub mod sled;
#[cfg(test)]
mod sled_damage;
pub mod verify;
