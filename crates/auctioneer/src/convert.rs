//! Converts wire values to those of the auction.

use auction::{Cell, Constraint, LrpAuction, Resources, RootFsProvider, TaskAuction};
use std::collections::BTreeMap;
use wire::rep::{self, CellState, Lrp, Task};

pub(crate) fn cell(state: &CellState) -> Cell {
    let mut instances = BTreeMap::new();
    for lrp in &state.lrps {
        *instances
            .entry(lrp.process_guid.as_str().into())
            .or_default() += 1;
    }
    let provider = |provider: &rep::RootFsProvider| match provider {
        rep::RootFsProvider::Arbitrary => RootFsProvider::Arbitrary,
        rep::RootFsProvider::FixedSet { set } => {
            RootFsProvider::FixedSet(set.keys().cloned().collect())
        }
    };
    Cell {
        id: state.cell_id.as_str().into(),
        zone: state.zone.clone(),
        index: state.cell_index,
        root_fs_providers: state
            .root_fs_providers
            .iter()
            .map(|(scheme, offered)| (scheme.clone(), provider(offered)))
            .collect(),
        volume_drivers: state.volume_drivers.clone(),
        placement_tags: state.placement_tags.clone(),
        optional_placement_tags: state.optional_placement_tags.clone(),
        available: resources(state.available_resources),
        total: resources(state.total_resources),
        proxy_memory_mb: state.proxy_memory_allocation_mb.into(),
        starting_containers: u32::try_from(state.starting_container_count).unwrap_or_default(),
        instances,
        tasks: u32::try_from(state.tasks.len()).unwrap_or(u32::MAX),
    }
}

pub(crate) fn lrp(lrp: &Lrp) -> LrpAuction {
    LrpAuction {
        process: lrp.process_guid.as_str().into(),
        index: lrp.index,
        constraint: constraint(&lrp.constraint),
        memory_mb: lrp.resource.memory_mb.into(),
        disk_mb: lrp.resource.disk_mb.into(),
    }
}

pub(crate) fn task(task: &Task) -> TaskAuction {
    TaskAuction {
        constraint: constraint(&task.constraint),
        memory_mb: task.resource.memory_mb.into(),
        disk_mb: task.resource.disk_mb.into(),
    }
}

fn constraint(constraint: &rep::PlacementConstraint) -> Constraint {
    Constraint {
        root_fs: constraint.root_fs.clone(),
        volume_drivers: constraint.volume_drivers.clone(),
        placement_tags: constraint.placement_tags.clone(),
    }
}

fn resources(resources: rep::Resources) -> Resources {
    Resources {
        memory_mb: resources.memory_mb.into(),
        disk_mb: resources.disk_mb.into(),
        containers: resources.containers.into(),
    }
}
