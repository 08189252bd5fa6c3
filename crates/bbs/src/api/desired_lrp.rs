//! Desired LRPs. Revision r2 is served in the format of r3 (image layers are not folded into actions), because Cloud Controller
//! reads only routes and annotation from it.

use super::{Api, Bbs, Trace, call, done};
use crate::convert;
use crate::failure::Failure;
use crate::state::State;
use std::collections::BTreeSet;
use std::sync::Arc;
use wire::bbs::{self as m, path};

pub(super) fn routes() -> Api {
    Api::new()
        .route(path::DESIRE_LRP, call(desire))
        .route(path::UPDATE_DESIRED_LRP, call(update))
        .route(path::REMOVE_DESIRED_LRP, call(remove))
        .route(path::DESIRED_LRPS_LIST, call(list))
        .route(path::DESIRED_LRPS_LIST_R2, call(list))
        .route(path::DESIRED_LRP_BY_GUID, call(by_process_guid))
        .route(path::DESIRED_LRP_BY_GUID_R2, call(by_process_guid))
        .route(path::SCHEDULING_INFOS_LIST, call(scheduling_infos))
        .route(path::SCHEDULING_INFO_BY_GUID, call(scheduling_info))
        .route(path::ROUTING_INFOS_LIST, call(routing_infos))
}

async fn desire(
    bbs: Bbs,
    trace: Trace,
    request: m::DesireLrpRequest,
) -> Result<m::LifecycleResponse, Failure> {
    let lrp = request
        .desired_lrp
        .ok_or_else(|| Failure::invalid("Invalid field: desired_lrp"))?;
    done(
        bbs.store
            .write(&trace.0, |state, journal| state.desire_lrp(journal, lrp))
            .await,
    )
}

async fn update(
    bbs: Bbs,
    trace: Trace,
    request: m::UpdateDesiredLrpRequest,
) -> Result<m::LifecycleResponse, Failure> {
    let update = request
        .update
        .ok_or_else(|| Failure::invalid("Invalid field: update"))?;
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.update_desired_lrp(journal, &request.process_guid, update)
            })
            .await,
    )
}

async fn remove(
    bbs: Bbs,
    trace: Trace,
    request: m::RemoveDesiredLrpRequest,
) -> Result<m::LifecycleResponse, Failure> {
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.remove_desired_lrp(journal, &request.process_guid)
            })
            .await,
    )
}

async fn list(
    bbs: Bbs,
    _: Trace,
    request: m::DesiredLrpsRequest,
) -> Result<m::DesiredLrpsResponse, Failure> {
    let lrps = bbs.store.read(|state| select(state, &request)).await?;
    Ok(m::DesiredLrpsResponse {
        error: None,
        desired_lrps: lrps.iter().map(|lrp| m::DesiredLrp::clone(lrp)).collect(),
    })
}

async fn by_process_guid(
    bbs: Bbs,
    _: Trace,
    request: m::DesiredLrpByProcessGuidRequest,
) -> Result<m::DesiredLrpResponse, Failure> {
    let lrp = find(&bbs, &request.process_guid).await?;
    Ok(m::DesiredLrpResponse {
        error: None,
        desired_lrp: Some(m::DesiredLrp::clone(&lrp)),
    })
}

async fn scheduling_infos(
    bbs: Bbs,
    _: Trace,
    request: m::DesiredLrpsRequest,
) -> Result<m::DesiredLrpSchedulingInfosResponse, Failure> {
    let lrps = bbs.store.read(|state| select(state, &request)).await?;
    Ok(m::DesiredLrpSchedulingInfosResponse {
        error: None,
        desired_lrp_scheduling_infos: lrps
            .iter()
            .map(|lrp| convert::scheduling_info(lrp))
            .collect(),
    })
}

async fn scheduling_info(
    bbs: Bbs,
    _: Trace,
    request: m::DesiredLrpByProcessGuidRequest,
) -> Result<m::DesiredLrpSchedulingInfoResponse, Failure> {
    let lrp = find(&bbs, &request.process_guid).await?;
    Ok(m::DesiredLrpSchedulingInfoResponse {
        error: None,
        desired_lrp_scheduling_info: Some(convert::scheduling_info(&lrp)),
    })
}

async fn routing_infos(
    bbs: Bbs,
    _: Trace,
    request: m::DesiredLrpsRequest,
) -> Result<m::DesiredLrpsResponse, Failure> {
    let lrps = bbs.store.read(|state| select(state, &request)).await?;
    Ok(m::DesiredLrpsResponse {
        error: None,
        desired_lrps: lrps.iter().map(|lrp| convert::routing_info(lrp)).collect(),
    })
}

/// Returns the desired LRPs that match the domain, the process guids and the app guids of the request. A filter that is empty
/// matches all.
fn select(state: &State, request: &m::DesiredLrpsRequest) -> Vec<Arc<m::DesiredLrp>> {
    let app_guids: BTreeSet<&String> = request.app_guids.iter().collect();
    let wanted = |lrp: &m::DesiredLrp| {
        (request.domain.is_empty() || lrp.domain == request.domain)
            && (app_guids.is_empty() || app_guids.contains(&lrp.log_guid))
    };
    if request.process_guids.is_empty() {
        return state
            .desired
            .values()
            .map(|d| &d.wire)
            .filter(|lrp| wanted(lrp))
            .cloned()
            .collect();
    }
    let guids: BTreeSet<&String> = request.process_guids.iter().collect();
    guids
        .into_iter()
        .filter_map(|guid| Some(&state.desired.get(guid.as_str())?.wire))
        .filter(|lrp| wanted(lrp))
        .cloned()
        .collect()
}

async fn find(bbs: &Bbs, process_guid: &str) -> Result<Arc<m::DesiredLrp>, Failure> {
    bbs.store
        .read(|state| state.desired.get(process_guid).map(|d| d.wire.clone()))
        .await?
        .ok_or_else(Failure::not_found)
}
