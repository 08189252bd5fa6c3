//! The rep over its real protocols, on a simulated garden and a small stand-in for the BBS.

mod fixture;
mod lrp;
mod machine;
mod restart;
mod stand_in_bbs;
mod task;
