//! Tests of the BBS over its real protocols: mTLS HTTP and gRPC, and a file on disk. The test plays the auctioneer, the cells and
//! Cloud Controller.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod convergence;
mod database;
mod fixture;
mod golden;
mod locket;
mod lrps;
mod observed;
mod replay;
mod request_ids;
mod speed;
mod store;
mod tasks;
