//! The auction decides which cell runs which instance or task. It is pure: the auctioneer collects the cells' states, calls
//! [`place`], and sends the work to the cells.
//!
//! ```text
//! order the batch ─▶ for each job:  cells that match ─▶ that have room ─▶ the least Score wins ─▶ reserve there
//! ```
//! - [`constraint`]: whether a cell may run a job at all (root file system, volume drivers, placement tags)
//! - [`cell`]: the resources of a cell, and what is left after each reservation
//! - [`score`]: how good a cell is; the order of its fields is the placement policy
//! - [`place`]: the decisions about a whole batch

pub mod cell;
pub mod constraint;
pub mod place;
pub mod score;

pub use cell::{Cell, Resources};
pub use constraint::{Constraint, RootFsProvider};
pub use place::{Batch, Job, LrpAuction, PlacementError, Placements, TaskAuction, Weights, place};
pub use score::Score;
