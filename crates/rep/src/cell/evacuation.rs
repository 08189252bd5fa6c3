//! Evacuation: the cell hands its instances over to other cells. Each instance stays until its replacement runs elsewhere; then
//! the rep ends.

use crate::cell::Cell;
use crate::instance::container::{Container, Phase, StopReason, Work};
use crate::instance::report;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wire::bbs::{
    ActualLrpInternalRoute, EvacuateActualLrpRequest, EvacuateRunningActualLrpRequest,
};

/// Begins the evacuation: from now on the cell accepts no work and hands over what it has. Further calls change nothing.
pub(crate) fn begin(cell: &Arc<Cell>) {
    cell.closed.store(true, Ordering::SeqCst);
    if cell.evacuating.swap(true, Ordering::SeqCst) {
        return;
    }
    tracing::info!("evacuation-begun");
    let evacuation = run(cell.clone());
    let cell = cell.clone();
    cell.clone().tasks.spawn(async move {
        tokio::select! {
            () = cell.detach.cancelled() => {}
            () = evacuation => {
                tracing::info!("evacuation-done");
                cell.evacuated.cancel();
            }
        }
    });
}

async fn run(cell: Arc<Cell>) {
    let timing = cell.settings.timing;
    let end = tokio::time::Instant::now() + timing.evacuation_limit;
    loop {
        let containers = cell.containers();
        if containers.is_empty() {
            return;
        }
        for container in containers
            .iter()
            .filter(|c| matches!(c.work, Work::Lrp { .. }) && c.status().stopping.is_none())
        {
            if !must_keep_running(&cell, container).await {
                container.request_stop(StopReason::Replaced);
            }
        }
        if tokio::time::Instant::now() >= end {
            let stranded = containers
                .iter()
                .filter(|c| matches!(c.work, Work::Lrp { .. }) && c.status().stopping.is_none());
            cell.metrics.stranded.add(stranded.count() as u64);
            tracing::warn!(stranded = containers.len(), "evacuation-limit-reached");
            containers
                .iter()
                .for_each(|c| c.request_stop(StopReason::Requested));
        }
        let left = cell.left.notified();
        let _ = tokio::time::timeout(timing.evacuation_poll, left).await;
    }
}

/// Reports the instance to the BBS as evacuating. Returns whether the container must keep running, which is also so if the BBS
/// does not answer.
async fn must_keep_running(cell: &Cell, container: &Container) -> bool {
    let Some((key, instance_key)) = container.lrp_keys(&cell.settings.cell_id) else {
        return true;
    };
    let status = container.status();
    let phase = status.phase;
    let answer = if phase == Phase::Running {
        let Some(net_info) = container.net_info() else {
            return true;
        };
        let request = EvacuateRunningActualLrpRequest {
            key: Some(key),
            instance_key: Some(instance_key),
            net_info: Some(net_info),
            internal_routes: status
                .internal_routes
                .into_iter()
                .map(|hostname| ActualLrpInternalRoute { hostname })
                .collect(),
            metric_tags: status.metric_tags,
            routable: Some(status.routable),
            availability_zone: cell.settings.zone.clone(),
        };
        report::until_answered(cell.settings.timing.evacuation_poll, || {
            cell.bbs.evacuate_running(&request)
        })
        .await
    } else {
        let request = EvacuateActualLrpRequest {
            key: Some(key),
            instance_key: Some(instance_key),
        };
        report::until_answered(cell.settings.timing.evacuation_poll, || {
            cell.bbs.evacuate_claimed(&request)
        })
        .await
    };
    match answer {
        Some(Ok(keep)) => keep,
        // The instance became RUNNING while the BBS was asked about a CLAIMED one. The next round asks again.
        Some(Err(_)) if container.phase() != phase => true,
        Some(Err(error)) => {
            tracing::info!(
                container = container.guid,
                error = format!("{:#}", anyhow::Error::from(error)),
                "evacuation-refused"
            );
            false
        }
        None => true,
    }
}
