//! Scenarios, simulation, fault injection and benches across the crates of Waypost.

pub mod sim;
