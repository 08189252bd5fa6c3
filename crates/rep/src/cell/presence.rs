//! The cell's presence in locket, through which the BBS and the auctioneer find the cell.

use crate::cell::Cell;
use wire::bbs::{CellCapacity, CellPresence, Provider};

pub(crate) const PRELOADED: &str = "preloaded";

pub(crate) fn cell_presence(cell: &Cell) -> CellPresence {
    let (total, _) = cell.resources();
    let amount = |n: u64| i32::try_from(n).unwrap_or(i32::MAX);
    CellPresence {
        cell_id: cell.settings.cell_id.clone(),
        rep_address: cell.settings.rep_url.clone(),
        zone: cell.settings.zone.clone(),
        capacity: Some(CellCapacity {
            memory_mb: amount(total.memory_mb),
            disk_mb: amount(total.disk_mb),
            containers: amount(total.containers),
        }),
        rootfs_providers: vec![Provider {
            name: PRELOADED.to_owned(),
            properties: cell.settings.stacks.clone(),
        }],
        placement_tags: cell.settings.placement_tags.clone(),
        optional_placement_tags: cell.settings.optional_placement_tags.clone(),
        rep_url: cell.settings.rep_url.clone(),
        annotations: std::collections::HashMap::new(),
    }
}
