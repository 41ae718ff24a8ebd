//! Every test that is not beside the code it tests, in one binary.
mod docs;
mod end_to_end;
mod features;
mod fuzz;
mod layers;
mod messenger_service;
mod promises;
mod recipes;
mod scenes;
mod simulation;
mod store;
mod wire;
