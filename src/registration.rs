//! The registration file.
