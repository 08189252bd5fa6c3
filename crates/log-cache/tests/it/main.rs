//! Tests of log-cache between the real log emitter, a real UAA and a minimal Cloud Controller.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod drained;
mod fixture;
mod logs;
mod observed;
