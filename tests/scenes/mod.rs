//! Bilingual plays against the engine alone.
