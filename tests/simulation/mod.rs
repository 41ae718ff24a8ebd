//! The engine in a seeded world that fails.
