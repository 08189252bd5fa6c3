//! Simulates edges of the machine for tests, and feeds changed inputs to parsers. The components themselves are always the real
//! ones.

pub mod fuzz;
pub mod sim_garden;
