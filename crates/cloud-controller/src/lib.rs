//! cloud-controller

pub mod bits;
pub mod buildpacks;
pub mod diego;
