//! The BBS over its real protocols: mTLS HTTP and gRPC, a file on disk; the auctioneer, the cells and Cloud Controller are peers of the test.

#![allow(clippy::unwrap_used, reason = "tests")]

mod convergence;
mod fixture;
mod golden;
mod locket;
mod lrps;
mod speed;
mod store;
mod tasks;
