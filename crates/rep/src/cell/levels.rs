//! The levels that operators see of the cell. They are read from its table when the page is read.

use crate::cell::Cell;
use crate::instance::container::Phase;
use kit::metrics::Registry;
use std::sync::Arc;

const MIB: f64 = 1_048_576.0;

/// The name, help and value of each level.
type Level = (&'static str, &'static str, fn(&Cell) -> f64);

const LEVELS: &[Level] = &[
    (
        "rep_capacity_total_memory_bytes",
        "The cell's memory",
        |cell| cell.resources().0.memory_mb as f64 * MIB,
    ),
    (
        "rep_capacity_total_disk_bytes",
        "The cell's disk space",
        |cell| cell.resources().0.disk_mb as f64 * MIB,
    ),
    (
        "rep_capacity_total_containers",
        "Containers that the cell may have",
        |cell| cell.resources().0.containers as f64,
    ),
    (
        "rep_capacity_remaining_memory_bytes",
        "The cell's memory that is left for further work",
        |cell| cell.resources().1.memory_mb as f64 * MIB,
    ),
    (
        "rep_capacity_remaining_disk_bytes",
        "The cell's disk space that is left for further work",
        |cell| cell.resources().1.disk_mb as f64 * MIB,
    ),
    (
        "rep_capacity_remaining_containers",
        "Containers that the cell may have besides its present ones",
        |cell| cell.resources().1.containers as f64,
    ),
    (
        "rep_capacity_allocated_memory_bytes",
        "The cell's memory that is booked",
        |cell| {
            let (total, left) = cell.resources();
            total.memory_mb.saturating_sub(left.memory_mb) as f64 * MIB
        },
    ),
    (
        "rep_capacity_allocated_disk_bytes",
        "The cell's disk space that is booked",
        |cell| {
            let (total, left) = cell.resources();
            total.disk_mb.saturating_sub(left.disk_mb) as f64 * MIB
        },
    ),
    (
        "rep_container_usage_memory_bytes",
        "Memory that the containers use, as last measured",
        |cell| usage(cell, |(memory, _)| memory),
    ),
    (
        "rep_container_usage_disk_bytes",
        "Disk space that the containers use, as last measured",
        |cell| usage(cell, |(_, disk)| disk),
    ),
    ("rep_container_count", "Containers of the cell", |cell| {
        cell.containers().len() as f64
    }),
    (
        "rep_starting_container_count",
        "Containers of the cell that do not run yet",
        |cell| {
            let containers = cell.containers();
            let starting = containers.iter().filter(|c| c.phase() < Phase::Running);
            starting.count() as f64
        },
    ),
];

/// Returns the sum over the containers that were measured.
fn usage(cell: &Cell, part: fn((u64, u64)) -> u64) -> f64 {
    let containers = cell.containers();
    let measured = containers.iter().filter_map(|container| container.usage());
    measured.map(part).sum::<u64>() as f64
}

/// Adds the levels of the cell.
pub(crate) fn add(registry: &mut Registry, cell: &Arc<Cell>) {
    for &(name, help, value) in LEVELS {
        let cell = cell.clone();
        registry.read(name, help, move || Some(value(&cell)));
    }
}
