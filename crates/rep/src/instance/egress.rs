//! Applies changed egress rules to a running container. The owners of LRP instances and of tasks call it.

use crate::cell::Cell;
use crate::instance::container::Container;
use crate::instance::spec;
use anyhow::Result;
use std::sync::Arc;
use wire::bbs::SecurityGroupRule;

/// Replaces the container's rules `applied` by `wanted`, in one step. Returns whether there was a difference.
///
/// Rules that cannot be read are logged, and the container keeps its old rules: the next version may be readable.
pub(crate) async fn apply(
    cell: &Arc<Cell>,
    container: &Container,
    applied: &mut Vec<SecurityGroupRule>,
    wanted: &[SecurityGroupRule],
) -> Result<bool> {
    if wanted == applied.as_slice() {
        return Ok(false);
    }
    match spec::egress(wanted) {
        Ok(rules) => {
            let (garden, handle) = (cell.garden.clone(), container.guid.clone());
            cell.whole(async move { garden.set_egress(&handle, rules).await })
                .await??;
            tracing::info!(container = container.guid, "egress-changed");
        }
        Err(error) => tracing::error!(
            container = container.guid,
            error = format!("{error:#}"),
            "egress-not-understood"
        ),
    }
    *applied = wanted.to_vec();
    Ok(true)
}
