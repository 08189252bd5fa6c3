//! Tests of cfdot against a real BBS and locket: what an operator types, sees and gets as exit code.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod commands;
mod fixture;
