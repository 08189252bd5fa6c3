//! Tests the route-emitter between a BBS over mTLS and a real nats-server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod digests;
mod fake_bbs;
mod fixture;
mod observed;
mod routes;
mod starting;
