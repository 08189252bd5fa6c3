//! routing

pub mod emission;
