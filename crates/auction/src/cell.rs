//! A cell during one batch.

use crate::constraint::RootFsProvider;
use ids::{CellId, ProcessGuid};
use std::collections::BTreeMap;
use std::fmt;

/// Remaining or total; negative when a cell is over-committed.
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
    /// Position among the cells, for packing them one after another.
    pub index: i32,
    pub root_fs_providers: BTreeMap<String, RootFsProvider>,
    pub volume_drivers: Vec<String>,
    /// A job must want all of these.
    pub placement_tags: Vec<String>,
    pub optional_placement_tags: Vec<String>,
    pub available: Resources,
    pub total: Resources,
    /// What the sidecar proxy of an instance takes in addition.
    pub proxy_memory_mb: i64,
    pub starting_containers: u32,
    /// How many instances of each process run here.
    pub instances: BTreeMap<ProcessGuid, u32>,
    pub tasks: u32,
}

/// What one job takes of a cell.
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

    /// What is too little here.
    pub(crate) fn shortage(&self, demand: Demand) -> Shortage {
        Shortage {
            containers: self.available.containers < 1,
            disk: self.available.disk_mb < demand.disk_mb,
            memory: self.available.memory_mb < demand.memory_mb,
        }
    }

    /// What would be too little here even if nothing else ran.
    pub(crate) fn lasting_shortage(&self, demand: Demand) -> Shortage {
        Shortage {
            containers: self.total.containers < 1,
            disk: self.total.disk_mb < demand.disk_mb,
            memory: self.total.memory_mb < demand.memory_mb,
        }
    }

    /// The proxy's memory is part of it: the original leaves it out here, and a batch may promise more than there is.
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

/// Resources that no matching cell has enough of.
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

    /// What is short on both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            containers: self.containers && other.containers,
            disk: self.disk && other.disk,
            memory: self.memory && other.memory,
        }
    }
}

/// `: disk, memory`; nothing when every cell lacks something else.
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
