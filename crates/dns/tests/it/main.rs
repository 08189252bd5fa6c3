//! Tests the DNS server over real sockets, with a resolver behind it and a real nats-server beside it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;
mod names;
mod observed;
