//! Simulates edges of the machine for tests. The components themselves are always the real ones.

pub mod sim_garden;
