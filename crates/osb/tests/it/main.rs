//! The client against a real HTTP server, which is a broker with every fault.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod faults;
mod fixture;
mod places;
