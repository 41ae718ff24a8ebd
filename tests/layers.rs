//! The layer test.
