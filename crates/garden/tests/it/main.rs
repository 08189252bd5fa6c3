//! Tests of garden on the real machine. They need root: `CUPOLA_ROOT_TESTS=1 cargo test -p garden --test it`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod container;
mod fixture;
mod network;
mod shared;
mod survival;
