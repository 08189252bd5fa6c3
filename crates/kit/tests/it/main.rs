//! Tests the kit from outside: how our HTTP server treats clients that misbehave.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod http;
