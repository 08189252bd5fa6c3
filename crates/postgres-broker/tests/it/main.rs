//! Tests of the broker with a real PostgreSQL server, over real HTTP.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dumps;
mod fixture;
mod instances;
mod registration;
mod server;
