//! Models a cell during one batch.

use crate::constraint::RootFsProvider;
use ids::{CellId, ProcessGuid};
use std::collections::BTreeMap;
use std::fmt;

/// The remaining or total resources of a cell; negative when a cell is over-committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub memory_mb: i64,
    pub disk_mb: i64,
    pub containers: i64,
}

#[derive(Clone, Debug)]
pub struct Cell {
    pub id: CellId,
    pub zone: String,
    /// The position among the cells, for filling them one after another.
    pub index: i32,
    pub root_fs_providers: BTreeMap<String, RootFsProvider>,
    pub volume_drivers: Vec<String>,
    /// The placement tags of the cell. A job must require all of them.
    pub placement_tags: Vec<String>,
    pub optional_placement_tags: Vec<String>,
    pub available: Resources,
    pub total: Resources,
    /// The memory that the sidecar proxy of an instance needs in addition.
    pub proxy_memory_mb: i64,
    pub starting_containers: u32,
    /// The number of instances of each process that run here.
    pub instances: BTreeMap<ProcessGuid, u32>,
    pub tasks: u32,
}

/// The resources of a cell that one job needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub memory_mb: i64,
    pub disk_mb: i64,
}

impl Cell {
    pub(crate) fn lrp_demand(&self, memory_mb: i64, disk_mb: i64) -> Demand {
        Demand {
            memory_mb: memory_mb + self.proxy_memory_mb,
            disk_mb,
        }
    }

    /// Returns the resources that do not suffice here.
    pub(crate) fn shortage(&self, demand: Demand) -> Shortage {
        Shortage {
            containers: self.available.containers < 1,
            disk: self.available.disk_mb < demand.disk_mb,
            memory: self.available.memory_mb < demand.memory_mb,
        }
    }

    /// Returns the resources that would not suffice here even if nothing else ran.
    pub(crate) fn lasting_shortage(&self, demand: Demand) -> Shortage {
        Shortage {
            containers: self.total.containers < 1,
            disk: self.total.disk_mb < demand.disk_mb,
            memory: self.total.memory_mb < demand.memory_mb,
        }
    }

    /// Reserves the resources, including the proxy's memory. The original leaves that out here, so that a batch may exceed a
    /// cell's memory.
    pub(crate) fn reserve(&mut self, demand: Demand) {
        self.available.memory_mb -= demand.memory_mb;
        self.available.disk_mb -= demand.disk_mb;
        self.available.containers -= 1;
        self.starting_containers += 1;
    }

    pub(crate) fn instances_of(&self, process: &ProcessGuid) -> u32 {
        self.instances.get(process).copied().unwrap_or_default()
    }
}

/// The resources of which no matching cell has enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub containers: bool,
    pub disk: bool,
    pub memory: bool,
}

impl Shortage {
    pub(crate) fn any(self) -> bool {
        self.containers || self.disk || self.memory
    }

    /// Returns the resources that both lack.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            containers: self.containers && other.containers,
            disk: self.disk && other.disk,
            memory: self.memory && other.memory,
        }
    }
}

/// Formats the shortage as `: disk, memory`, or as nothing when no resource is short on every cell.
impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.containers, "containers"),
            (self.disk, "disk"),
            (self.memory, "memory"),
        ];
        let names: Vec<_> = names
            .iter()
            .filter(|(short, _)| *short)
            .map(|(_, name)| *name)
            .collect();
        if names.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", names.join(", "))
        }
    }
}
