//! The page for signing in, in a headless Chromium.

mod browser;
mod by_hand;
mod gallery;
mod real;
