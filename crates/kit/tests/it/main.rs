//! Tests the kit from outside: how our HTTP server treats clients that misbehave.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod http;
