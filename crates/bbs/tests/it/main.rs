//! Tests of the BBS over its real protocols: mTLS HTTP and gRPC, and a file on disk. The test plays the auctioneer, the cells and
//! Cloud Controller.

#![allow(clippy::unwrap_used, reason = "tests")]

mod convergence;
mod fixture;
mod golden;
mod locket;
mod lrps;
mod speed;
mod store;
mod tasks;
