//! The auction: which cell gets which instance or task. Pure; the auctioneer gathers the cells' states, calls [`place`],
//! and sends the work out.
//!
//! ```text
//! order the batch ─▶ for each job:  cells that match ─▶ that have room ─▶ the least Score wins ─▶ reserve there
//! ```
//! - [`constraint`]: may this cell run it at all (root file system, volume drivers, placement tags)?
//! - [`cell`]: a cell's resources, and what is left after each reservation
//! - [`score`]: how good a cell is; its order of fields is the placement policy
//! - [`place`]: the batch

pub mod cell;
pub mod constraint;
pub mod place;
pub mod score;

pub use cell::{Cell, Resources};
pub use constraint::{Constraint, RootFsProvider};
pub use place::{Batch, Job, LrpAuction, PlacementError, Placements, TaskAuction, Weights, place};
pub use score::Score;
