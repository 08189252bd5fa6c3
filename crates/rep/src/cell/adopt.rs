//! Adoption at start: takes over the containers that an earlier rep left running, and removes those that cannot be taken over.

use crate::cell::{Cell, OWNER_PROPERTY};
use crate::instance::container::Work;
use crate::instance::lrp;
use crate::instance::record::{self, ContainerDir, HEALTHY, containers_dir};
use crate::instance::task;
use anyhow::{Context as _, Result, anyhow};
use garden::api;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) fn is_ours(container: &api::Container) -> bool {
    container
        .properties
        .get(OWNER_PROPERTY.0)
        .is_some_and(|owner| owner == OWNER_PROPERTY.1)
}

/// Books and resumes every container that has a record, destroys containers of ours that have none, and removes records without a
/// container.
pub(crate) async fn adopt(cell: &Arc<Cell>) -> Result<()> {
    let existing = cell
        .garden
        .containers()
        .await
        .map_err(|error| anyhow!("list containers: {error}"))?;
    let mut adopted = BTreeSet::new();
    for container in existing.into_iter().filter(is_ours) {
        // An earlier pass may have failed half way.
        if cell.container(&container.handle).is_some() {
            adopted.insert(container.handle);
            continue;
        }
        match ContainerDir::record(&cell.settings.work_dir, &container.handle) {
            Ok(record) => {
                let guid = container.handle.clone();
                let ours = cell.adopt(
                    &guid,
                    record.work.clone(),
                    record.constraint,
                    record.resource,
                );
                ours.begin_routing(record.internal_routes, record.metric_tags);
                tracing::info!(container = guid, work = ?record.work, "container-adopted");
                match record.work {
                    Work::Lrp { .. } => {
                        cell.own(ours.clone(), lrp::resume(cell.clone(), ours, container))
                    }
                    Work::Task { .. } => {
                        cell.own(ours.clone(), task::resume(cell.clone(), ours, container))
                    }
                }
                adopted.insert(guid);
            }
            Err(error) => {
                tracing::warn!(
                    container = container.handle,
                    error = format!("{error:#}"),
                    "container-without-record-destroyed"
                );
                lrp::destroy(cell, &container.handle).await;
            }
        }
    }
    let dir = containers_dir(&cell.settings.work_dir);
    for entry in std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
        let guid = entry?.file_name().to_string_lossy().into_owned();
        if !adopted.contains(&guid) {
            record::remove(&cell.settings.work_dir, &guid);
        }
    }
    tracing::debug!(adopted = adopted.len(), marker = HEALTHY, "adoption-done");
    Ok(())
}
