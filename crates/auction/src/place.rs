//! Decides one batch: the order of its jobs, and the winner of each.

use crate::cell::{Cell, Demand, Shortage};
use crate::constraint::{Constraint, Mismatch};
use crate::score::{self, Score};
use ids::{CellId, ProcessGuid};
use std::collections::BTreeMap;

pub use crate::score::Weights;

/// The jobs of a batch, without duplicates.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub lrps: Vec<LrpAuction>,
    pub tasks: Vec<TaskAuction>,
}

#[derive(Clone, Debug)]
pub struct LrpAuction {
    pub process: ProcessGuid,
    pub index: i32,
    pub constraint: Constraint,
    pub memory_mb: i64,
    pub disk_mb: i64,
}

#[derive(Clone, Debug)]
pub struct TaskAuction {
    pub constraint: Constraint,
    pub memory_mb: i64,
    pub disk_mb: i64,
}

/// A member of the batch, by its position there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    Lrp(usize),
    Task(usize),
}

/// The decisions of a batch, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Placements {
    pub won: Vec<(Job, CellId)>,
    pub failed: Vec<(Job, PlacementError)>,
}

/// The reason why no cell was found. `cf app` shows the texts to users, and the Cloud Controller compares them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    #[error("unable to communicate to compatible cells")]
    NoCells,
    #[error("found no compatible cell for required rootfs")]
    RootFs,
    #[error("found no compatible cell with required volume drivers")]
    VolumeDrivers,
    #[error("found no compatible cell with {}", show_tags(.0))]
    PlacementTags(Vec<String>),
    #[error("insufficient resources{0}")]
    Insufficient(Shortage),
    /// Every matching cell is too small even when it is empty, so waiting does not help.
    #[error("insufficient resources{0} (no cell is that large)")]
    TooLarge(Shortage),
    #[error("waiting to start instance: reached in-flight start limit")]
    TooManyStarting,
}

fn show_tags(tags: &[String]) -> String {
    match tags {
        [] => "no placement tags".to_owned(),
        [tag] => format!("placement tag \"{tag}\""),
        [tags @ .., last] => {
            let tags: Vec<_> = tags.iter().map(|tag| format!("\"{tag}\"")).collect();
            format!("placement tags {} and \"{last}\"", tags.join(", "))
        }
    }
}

/// Decides the whole batch. `cells` are those that can accept work; afterwards they contain the reservations.
pub fn place(cells: &mut [Cell], batch: &Batch, weights: &Weights) -> Placements {
    let mut placements = Placements::default();
    let mut starting: u32 = cells.iter().map(|cell| cell.starting_containers).sum();
    for job in order(batch) {
        let limit = weights.starting_container_maximum;
        let winner = if cells.is_empty() {
            Err(PlacementError::NoCells)
        } else if limit > 0 && starting >= limit {
            Err(PlacementError::TooManyStarting)
        } else {
            match job {
                Job::Lrp(at) => place_lrp(cells, &batch.lrps[at], weights),
                Job::Task(at) => place_task(cells, &batch.tasks[at], weights),
            }
        };
        match winner {
            Ok(cell) => {
                starting += 1;
                placements.won.push((job, cell));
            }
            Err(error) => placements.failed.push((job, error)),
        }
    }
    placements
}

/// Returns the order of the jobs: the first instance of every process, then tasks, then all other instances by index; within
/// each, the largest first.
fn order(batch: &Batch) -> Vec<Job> {
    let mut lrps: Vec<usize> = (0..batch.lrps.len()).collect();
    lrps.sort_by_key(|at| (batch.lrps[*at].index, -batch.lrps[*at].memory_mb));
    let mut tasks: Vec<usize> = (0..batch.tasks.len()).collect();
    tasks.sort_by_key(|at| -batch.tasks[*at].memory_mb);
    let firsts = lrps
        .iter()
        .take_while(|at| batch.lrps[**at].index <= 0)
        .count();
    let (before, after) = lrps.split_at(firsts);
    let lrp = |at: &usize| Job::Lrp(*at);
    before
        .iter()
        .map(lrp)
        .chain(tasks.into_iter().map(Job::Task))
        .chain(after.iter().map(lrp))
        .collect()
}

fn place_lrp(
    cells: &mut [Cell],
    lrp: &LrpAuction,
    weights: &Weights,
) -> Result<CellId, PlacementError> {
    let zones = zone_instances(cells, &lrp.process);
    let demand = |cell: &Cell| cell.lrp_demand(lrp.memory_mb, lrp.disk_mb);
    let score = |cell: &Cell| Score {
        zone_instances: zones[&cell.zone],
        co_located: cell.instances_of(&lrp.process),
        load: score::load(cell, demand(cell), weights, true),
        cell: cell.id.clone(),
    };
    let winner = best(cells, &lrp.constraint, demand, score)?;
    let cell = &mut cells[winner];
    cell.reserve(cell.lrp_demand(lrp.memory_mb, lrp.disk_mb));
    *cell.instances.entry(lrp.process.clone()).or_default() += 1;
    Ok(cell.id.clone())
}

fn place_task(
    cells: &mut [Cell],
    task: &TaskAuction,
    weights: &Weights,
) -> Result<CellId, PlacementError> {
    let demand = Demand {
        memory_mb: task.memory_mb,
        disk_mb: task.disk_mb,
    };
    let score = |cell: &Cell| Score {
        zone_instances: 0,
        co_located: cell.tasks,
        load: score::load(cell, demand, weights, false),
        cell: cell.id.clone(),
    };
    let winner = best(cells, &task.constraint, |_| demand, score)?;
    let cell = &mut cells[winner];
    cell.reserve(demand);
    cell.tasks += 1;
    Ok(cell.id.clone())
}

/// Returns the position of the cell that matches, has room and has the lowest score, or the reason that came closest to a
/// placement.
fn best(
    cells: &[Cell],
    constraint: &Constraint,
    demand: impl Fn(&Cell) -> Demand,
    score: impl Fn(&Cell) -> Score,
) -> Result<usize, PlacementError> {
    let mut winner: Option<(Score, usize)> = None;
    let mut furthest = Mismatch::RootFs;
    let mut shortage: Option<Shortage> = None;
    let mut too_large = true;
    for (at, cell) in cells.iter().enumerate() {
        if let Err(mismatch) = constraint.check(cell) {
            furthest = furthest.max(mismatch);
            continue;
        }
        let short = cell.shortage(demand(cell));
        if short.any() {
            shortage = Some(shortage.map_or(short, |all| all.and(short)));
            too_large &= cell.lasting_shortage(demand(cell)).any();
            continue;
        }
        let score = score(cell);
        if winner.as_ref().is_none_or(|(least, _)| score < *least) {
            winner = Some((score, at));
        }
    }
    match (winner, shortage, furthest) {
        (Some((_, at)), _, _) => Ok(at),
        (None, Some(shortage), _) if too_large => Err(PlacementError::TooLarge(shortage)),
        (None, Some(shortage), _) => Err(PlacementError::Insufficient(shortage)),
        (None, None, Mismatch::RootFs) => Err(PlacementError::RootFs),
        (None, None, Mismatch::VolumeDrivers) => Err(PlacementError::VolumeDrivers),
        (None, None, Mismatch::PlacementTags) => Err(PlacementError::PlacementTags(
            constraint.placement_tags.clone(),
        )),
    }
}

/// Returns the number of instances of a process per zone, on all cells there, whether they match or not.
fn zone_instances(cells: &[Cell], process: &ProcessGuid) -> BTreeMap<String, u32> {
    let mut zones = BTreeMap::new();
    for cell in cells {
        *zones.entry(cell.zone.clone()).or_default() += cell.instances_of(process);
    }
    zones
}

#[cfg(test)]
mod tests;
