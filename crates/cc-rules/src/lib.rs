//! The Cloud Controller's rules: which requests are right, and what follows from them.
//!
//! It is pure: no IO, no clock, no randomness, no database. Every function takes what it needs and returns what follows, or what is
//! wrong. The `cloud-controller` fetches the facts, answers errors in the API's form, and performs the effects.
//!
//! [`manifest`], [`route_rules`], [`policy_source`], [`label_selector`] and [`metadata`] read and check what users send, within
//! [`limits`]; [`names`] has the names that no user may have. [`recipe`] builds what Diego gets from what users want;
//! [`buildpacks`] lists the built-in buildpacks, which stage apps. [`services`] writes what apps see of their service instances, with
//! [`ordered_json`]. [`broker_operations`] decides what follows from the answers of service brokers. [`propagation`] judges which routers have a change of a route.

pub mod broker_operations;
pub mod buildpacks;
pub mod label_selector;
pub mod limits;
pub mod manifest;
pub mod metadata;
pub mod names;
pub mod ordered_json;
pub mod policy_source;
pub mod propagation;
pub mod recipe;
pub mod route_rules;
pub mod services;
