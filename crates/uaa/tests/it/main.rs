//! Tests of the UAA over HTTP, as the CLI, cloud-controller and the ssh proxy use it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clients_api;
mod database;
mod ending;
mod fixture;
mod forged;
mod logins;
mod observed;
mod refusals;
mod service_dashboards;
mod shared;
mod sign_in;
