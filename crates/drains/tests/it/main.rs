//! Tests of drains between a Cloud Controller's list, which is served over mutual TLS, and real servers of every kind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod delivery;
mod fixture;
mod list;
mod peers;
mod trouble;
