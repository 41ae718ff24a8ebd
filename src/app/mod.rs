//! The program: what is started, in which order, and how it ends.

pub mod cli;
pub mod exit;
pub mod health;
pub mod logging;
