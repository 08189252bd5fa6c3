//! For tests: simulated edges of the machine. The components themselves are always the real ones.

pub mod sim_garden;
