//! Cells, and the locks and presences in locket.

use super::{Object, each};
use std::collections::BTreeMap;
use wire::bbs as m;
use wire::locket;

/// Returns a present cell.
pub fn cell_presence(cell: &m::CellPresence) -> Object {
    let capacity = |c: &m::CellCapacity| {
        Object::new()
            .put("memory_mb", c.memory_mb)
            .put("disk_mb", c.disk_mb)
            .put("containers", c.containers)
    };
    Object::new()
        .put("cell_id", &cell.cell_id)
        .put("rep_address", &cell.rep_address)
        .put("zone", &cell.zone)
        .some("capacity", cell.capacity.as_ref().map(capacity))
        .list(
            "rootfs_provider_list",
            each(&cell.rootfs_providers, |p| {
                Object::new()
                    .put("name", &p.name)
                    .list("properties", p.properties.clone())
            }),
        )
        .list("placement_tags", cell.placement_tags.clone())
        .list(
            "optional_placement_tags",
            cell.optional_placement_tags.clone(),
        )
        .put("rep_url", &cell.rep_url)
        .put(
            "annotations",
            cell.annotations.iter().collect::<BTreeMap<_, _>>(),
        )
}

/// Returns a lock or presence.
pub fn resource(resource: &locket::Resource) -> Object {
    Object::new()
        .text("key", &resource.key)
        .text("owner", &resource.owner)
        .text("value", &resource.value)
        .text("type", &resource.type_name)
        .number("type_code", resource.type_code)
}
