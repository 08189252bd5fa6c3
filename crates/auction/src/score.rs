//! How good a cell is for a job.

use crate::cell::{Cell, Demand};
use ids::CellId;

/// Lower wins. Fields are compared top to bottom: their order *is* the placement policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// Instances of the process in the cell's zone (0 for tasks): spread over zones first…
    pub zone_instances: u32,
    /// …then over cells: instances of the process, or tasks, on the cell…
    pub co_located: u32,
    /// …then by load, in billionths: used share after the placement, plus the weights.
    pub load: i64,
    /// Makes the auction deterministic.
    pub cell: CellId,
}

/// Tuning of the score, in units of a whole cell's load. CF's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of each container that is still starting: spreads a burst.
    pub starting_container: f64,
    /// Of the cell's index: fills cells one after another. 0 spreads.
    pub bin_pack_first_fit: f64,
    /// Stop placing when so many containers are starting; 0: no limit.
    pub starting_container_maximum: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            starting_container: 0.25,
            bin_pack_first_fit: 0.0,
            starting_container_maximum: 0,
        }
    }
}

const BILLION: f64 = 1e9;

pub(crate) fn load(cell: &Cell, demand: Demand, weights: &Weights, bin_pack: bool) -> i64 {
    let used = |available: i64, demand: i64, total: i64| {
        if total == 0 {
            0.0
        } else {
            1.0 - (available - demand) as f64 / total as f64
        }
    };
    let share = (used(
        cell.available.memory_mb,
        demand.memory_mb,
        cell.total.memory_mb,
    ) + used(cell.available.disk_mb, demand.disk_mb, cell.total.disk_mb)
        + used(cell.available.containers, 1, cell.total.containers))
        / 3.0;
    let starting = f64::from(cell.starting_containers) * weights.starting_container;
    let packing = if bin_pack {
        f64::from(cell.index) * weights.bin_pack_first_fit
    } else {
        0.0
    };
    ((share + starting + packing) * BILLION).round() as i64
}
