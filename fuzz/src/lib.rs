//! The bridge's properties, for libFuzzer. They live with the tests (`tests/fuzz/properties.rs`), which try them too.
#![allow(dead_code, missing_docs)]

#[path = "../../tests/fuzz/properties.rs"]
pub mod properties;
#[path = "../../tests/scenes/stage.rs"]
pub mod stage;

pub mod scenes {
    pub use super::stage;
}
