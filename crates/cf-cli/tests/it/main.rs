//! Tests of the client against a small platform over real HTTP: what a person types, sees and gets as exit code.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod commands;
mod fixture;
mod flags;
mod managed_services;
mod market;
mod output;
mod platform;
mod pushes;
mod route_policies;
mod services;
