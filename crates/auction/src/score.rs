//! Measures how good a cell is for a job.

use crate::cell::{Cell, Demand};
use ids::CellId;

/// The score of a cell; the lowest wins. Fields are compared from top to bottom, so their order *is* the placement policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// The instances of the process in the cell's zone (0 for tasks). Instances are spread over zones first.
    pub zone_instances: u32,
    /// The instances of the process, or the tasks, on the cell. Instances are spread over cells next.
    pub co_located: u32,
    /// The load in billionths: the used share after the placement, plus the weights. It decides last.
    pub load: i64,
    /// The cell's id, which makes the auction deterministic.
    pub cell: CellId,
}

/// The weights of the score, in units of a whole cell's load. The names are CF's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// The weight of each container that is still starting. It spreads a burst.
    pub starting_container: f64,
    /// The weight of the cell's index. It fills cells one after another; 0 spreads instances.
    pub bin_pack_first_fit: f64,
    /// The number of starting containers at which placing stops; 0 means no limit.
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
