//! The program: what is started, in which order, and how it ends.

pub mod check;
pub mod cli;
pub mod describe;
pub mod doors;
pub mod driver;
pub mod exit;
pub mod files;
pub mod hardening;
pub mod health;
pub mod logging;
pub mod meter;
pub mod metrics;
pub mod public_media;
pub mod recover;
pub mod run;
pub mod settings;
pub mod store;
pub mod trace;
pub mod upgrade;
