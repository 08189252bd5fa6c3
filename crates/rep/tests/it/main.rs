//! Tests of the rep over its real protocols, with a simulated garden and a small stand-in for the BBS.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod damage;
mod diego;
mod fixture;
mod inspection;
mod interleaving;
mod lrp;
mod machine;
mod observed;
mod request_ids;
mod restart;
mod stand_in_bbs;
mod task;
