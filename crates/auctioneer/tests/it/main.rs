//! Tests of the auctioneer over its real protocols: mTLS, with a fake BBS, locket and reps.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auctions;
mod fixture;
mod observed;
