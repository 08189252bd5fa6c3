//! The reports of the rep to the BBS about one container. Each report is repeated until the BBS answers.

use crate::cell::Cell;
use crate::instance::container::{Container, Phase, StopReason};
use crate::instance::create::Made;
use clients::bbs::BbsError;
use clients::request_id;
use kit::backoff::Backoff;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wire::bbs::{
    ActualLrpInternalRoute, ActualLrpNetInfo, CrashActualLrpRequest, ErrorType,
    EvacuateActualLrpRequest, PortMapping, PreferredAddress, RemoveActualLrpRequest,
    StartActualLrpRequest,
};

/// The time after which the periodic comparison with the BBS's rows takes over.
const LIMIT: Duration = Duration::from_secs(60);
/// The length in bytes at which reasons are cut, as in Diego.
const MAX_REASON: usize = 10_000;

/// Repeats the call until the BBS answers, for at most `limit`. Returns `None` if the BBS was never reached.
pub(crate) async fn until_answered<T, F: Future<Output = Result<T, BbsError>>>(
    limit: Duration,
    mut call: impl FnMut() -> F,
) -> Option<Result<T, BbsError>> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));
    let end = tokio::time::Instant::now() + limit;
    loop {
        match call().await {
            Err(error @ BbsError::Unreachable { .. }) => {
                if tokio::time::Instant::now() >= end {
                    tracing::warn!(
                        error = format!("{:#}", anyhow::Error::from(error)),
                        "bbs-not-reached"
                    );
                    return None;
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
            answered => return Some(answered),
        }
    }
}

/// Returns the addresses and ports of an instance.
pub(crate) fn net_info(cell: &Cell, made: &Made) -> ActualLrpNetInfo {
    let ports = made.mappings.iter().map(|m| PortMapping {
        container_port: m.container.into(),
        host_port: m.host.into(),
        container_tls_proxy_port: m.container_tls.into(),
        host_tls_proxy_port: m.host_tls.into(),
    });
    ActualLrpNetInfo {
        address: cell.garden.cell_ip().to_string(),
        ports: ports.collect(),
        instance_address: made.ip.to_string(),
        preferred_address: PreferredAddress::Host as i32,
        instance_ipv6_address: String::new(),
    }
}

/// Reports the instance as RUNNING whenever `container.report` requests it. It returns only when the BBS refuses the report,
/// after requesting the stop of the instance.
pub(crate) async fn running(cell: &Cell, container: &Container, net_info: ActualLrpNetInfo) {
    let Some((key, instance_key)) = container.lrp_keys(&cell.settings.cell_id) else {
        return;
    };
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));
    loop {
        container.report.notified().await;
        loop {
            let status = container.status();
            if status.phase != Phase::Running {
                break;
            }
            let routable = status.reachable();
            let request = StartActualLrpRequest {
                key: Some(key.clone()),
                instance_key: Some(instance_key.clone()),
                net_info: Some(net_info.clone()),
                internal_routes: status
                    .internal_routes
                    .into_iter()
                    .map(|hostname| ActualLrpInternalRoute { hostname })
                    .collect(),
                metric_tags: status.metric_tags,
                routable: Some(routable),
                availability_zone: cell.settings.zone.clone(),
            };
            match cell.bbs.start(&request).await {
                Ok(()) => {
                    backoff.reset();
                    container.reported.send_replace(Some(routable));
                    // The instance runs. What happens to it later is not the doing of the request that started it.
                    request_id::forget();
                    break;
                }
                Err(error) if error.kind() == Some(ErrorType::ActualLrpCannotBeStarted) => {
                    tracing::info!(container = container.guid, "instance-replaced");
                    container.request_stop(StopReason::Replaced);
                    return;
                }
                Err(error) => {
                    tracing::warn!(
                        container = container.guid,
                        error = format!("{:#}", anyhow::Error::from(error)),
                        "start-not-reported"
                    );
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }
}

/// Reports to the BBS that the instance is not routable any more, if it ever was, and waits briefly for the acknowledgement.
pub(crate) async fn unroutable(container: &Container) {
    let mut reported = container.reported.subscribe();
    if reported.borrow().is_none() {
        return;
    }
    container.report.notify_one();
    let _ = tokio::time::timeout(
        Duration::from_secs(2),
        reported.wait_for(|routable| *routable == Some(false)),
    )
    .await;
}

/// Reports that the instance has stopped as requested.
pub(crate) async fn removed(cell: &Cell, container: &Container) {
    let Some((key, instance_key)) = container.lrp_keys(&cell.settings.cell_id) else {
        return;
    };
    let answer = if cell.evacuating.load(Ordering::SeqCst) {
        let request = EvacuateActualLrpRequest {
            key: Some(key),
            instance_key: Some(instance_key),
        };
        until_answered(LIMIT, || cell.bbs.evacuate_stopped(&request))
            .await
            .map(|answer| answer.map(drop))
    } else {
        let request = RemoveActualLrpRequest {
            process_guid: key.process_guid,
            index: key.index,
            instance_key: Some(instance_key),
        };
        until_answered(LIMIT, || cell.bbs.remove(&request)).await
    };
    log_refusal(container, "instance-not-removed", answer);
}

/// Reports that the instance has crashed.
pub(crate) async fn crashed(cell: &Cell, container: &Container, reason: &str) {
    let Some((key, instance_key)) = container.lrp_keys(&cell.settings.cell_id) else {
        return;
    };
    let request = CrashActualLrpRequest {
        key: Some(key),
        instance_key: Some(instance_key),
        error_message: cut(reason),
    };
    let answer = if cell.evacuating.load(Ordering::SeqCst) {
        until_answered(LIMIT, || cell.bbs.evacuate_crashed(&request))
            .await
            .map(|answer| answer.map(drop))
    } else {
        until_answered(LIMIT, || cell.bbs.crash(&request)).await
    };
    log_refusal(container, "crash-not-reported", answer);
}

/// Logs a refusal: the BBS has forgotten the row or assigned it to another instance, which is no error here.
pub(crate) fn log_refusal(
    container: &Container,
    event: &'static str,
    answer: Option<Result<(), BbsError>>,
) {
    if let Some(Err(error)) = answer {
        tracing::info!(
            container = container.guid,
            error = format!("{:#}", anyhow::Error::from(error)),
            "{event}"
        );
    }
}

/// Cuts the reason to at most [`MAX_REASON`] bytes.
pub(crate) fn cut(reason: &str) -> String {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}
