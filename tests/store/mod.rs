//! Stores as they are on disk: one of every schema that ever was, and what damage does to one.

#![allow(clippy::unwrap_used, reason = "in a test, that is how one says what must hold")]

mod damage;
mod everything;
mod schemas;
