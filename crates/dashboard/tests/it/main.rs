//! Tests of the dashboard beside a real UAA, Cloud Controller, BBS and nats-server, with pages of a router and lines of log-cache that
//! the test makes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changes;
mod fixture;
mod lists;
mod observed;
mod rights;
mod sign_in;
mod tap;
