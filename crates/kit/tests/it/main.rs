//! The kit from outside: what a server of ours does with clients that misbehave.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod http;
