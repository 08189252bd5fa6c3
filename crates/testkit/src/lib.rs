//! Simulates edges of the machine for tests, feeds changed inputs to parsers, and boots a foundation for stories and benchmarks.
//! The components themselves are always the real ones.

pub mod foundation;
pub mod fuzz;
pub mod sim_garden;
