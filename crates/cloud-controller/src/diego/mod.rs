//! Driving Diego: what the Cloud Controller asks of the BBS.

pub mod recipe;
pub mod recipe_egress;
pub mod recipe_environment;
pub mod recipe_routes;
pub mod recipe_staging;
