//! Measures how long a change of a route takes until clients see it, at any Cloud Foundry.

pub mod statistics;
