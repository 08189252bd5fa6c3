//! Reads the BBS's state: a whole snapshot, or the routes of single processes.

use crate::convert;
use anyhow::{Context as _, Result};
use clients::bbs::{BbsError, Client};
use route_table::emission::{Desired, Snapshot};
use std::collections::{BTreeSet, HashSet};
use wire::bbs::{ActualLrpsRequest, DesiredLrp, DesiredLrpsRequest, state};

pub(crate) async fn snapshot(bbs: &Client, cell_id: &str) -> Result<Snapshot> {
    let request = ActualLrpsRequest {
        cell_id: cell_id.to_owned(),
        ..ActualLrpsRequest::default()
    };
    let (actuals, domains) = tokio::join!(bbs.actual_lrps(&request), bbs.domains());
    let actuals: Vec<_> = actuals
        .context("list actual LRPs")?
        .iter()
        .filter_map(convert::actual)
        .collect();
    let fresh_domains = domains.context("list domains")?.into_iter().collect();
    let desired = if cell_id.is_empty() {
        infos(bbs, Vec::new()).await?
    } else {
        let guids: BTreeSet<_> = actuals
            .iter()
            .map(|actual| actual.process_guid.clone())
            .collect();
        routes(bbs, guids.into_iter().collect()).await?
    };
    Ok(Snapshot {
        desired,
        actuals,
        fresh_domains,
    })
}

/// Returns the routes of these processes. Without guids it returns none, and calls nothing.
pub(crate) async fn routes(bbs: &Client, process_guids: Vec<String>) -> Result<Vec<Desired>> {
    if process_guids.is_empty() {
        Ok(Vec::new())
    } else {
        infos(bbs, process_guids).await
    }
}

/// Returns which of these processes have an instance that waits for a cell, and none that runs. An instance for which no cell was
/// found no longer waits.
pub(crate) async fn waiting(
    bbs: &Client,
    process_guids: Vec<String>,
) -> Result<HashSet<String>, BbsError> {
    let actuals = bbs.actual_lrps_by_process_guids(process_guids).await?;
    let (mut waiting, mut running) = (HashSet::new(), HashSet::new());
    for actual in actuals {
        let Some(key) = actual.key else { continue };
        if actual.state == state::RUNNING {
            running.insert(key.process_guid);
        } else if actual.state == state::UNCLAIMED && actual.placement_error.is_empty() {
            waiting.insert(key.process_guid);
        }
    }
    waiting.retain(|guid| !running.contains(guid));
    Ok(waiting)
}

async fn infos(bbs: &Client, process_guids: Vec<String>) -> Result<Vec<Desired>> {
    let request = DesiredLrpsRequest {
        process_guids,
        ..DesiredLrpsRequest::default()
    };
    let infos = match bbs.routing_infos(&request).await {
        // A BBS that is older than the routing infos does not know that path.
        Err(error) if error.is_unknown_path() => bbs.desired_lrps(&request).await,
        infos => infos,
    };
    let known = |lrp: &DesiredLrp| match convert::desired(lrp) {
        Ok(desired) => Some(desired),
        Err(error) => {
            tracing::warn!(
                process_guid = lrp.process_guid,
                error = format!("{error:#}"),
                "desired-lrp-not-understood"
            );
            None
        }
    };
    Ok(infos
        .context("list desired LRPs' routes")?
        .iter()
        .filter_map(known)
        .collect())
}
