//! The calls of a draining cell.

use super::{Api, Bbs, Trace, call, done};
use crate::failure::Failure;
use crate::{convert, validate};
use lrp::{ActualLrpKey, InstanceKey};
use wire::bbs::{self as m, path};

pub(super) fn routes() -> Api {
    Api::new()
        .route(path::REMOVE_EVACUATING, call(remove_evacuating))
        .route(path::EVACUATE_CLAIMED, call(claimed))
        .route(path::EVACUATE_CRASHED, call(crashed))
        .route(path::EVACUATE_STOPPED, call(stopped))
        .route(path::EVACUATE_RUNNING, call(running))
}

const LET_GO: m::EvacuationResponse = m::EvacuationResponse { error: None, keep_container: false };

async fn remove_evacuating(bbs: Bbs, trace: Trace, request: m::EvacuateActualLrpRequest) -> Result<m::LifecycleResponse, Failure> {
    let (key, instance) = keys(&request)?;
    done(bbs.store.write(&trace.0, |state, journal| state.remove_evacuating(journal, &key, &instance)).await)
}

async fn claimed(bbs: Bbs, trace: Trace, request: m::EvacuateActualLrpRequest) -> Result<m::EvacuationResponse, Failure> {
    let (key, instance) = keys(&request)?;
    bbs.store.write(&trace.0, |state, journal| state.evacuate_claimed(journal, &key, &instance)).await?;
    Ok(LET_GO)
}

async fn crashed(bbs: Bbs, trace: Trace, request: m::CrashActualLrpRequest) -> Result<m::EvacuationResponse, Failure> {
    let key = validate::actual_key(request.key.as_ref())?;
    let instance = validate::instance_key(request.instance_key.as_ref())?;
    bbs.store.write(&trace.0, |state, journal| state.evacuate_crashed(journal, &key, &instance, &request.error_message)).await?;
    Ok(LET_GO)
}

async fn stopped(bbs: Bbs, trace: Trace, request: m::EvacuateActualLrpRequest) -> Result<m::EvacuationResponse, Failure> {
    let (key, instance) = keys(&request)?;
    bbs.store.write(&trace.0, |state, journal| state.evacuate_stopped(journal, &key, &instance)).await?;
    Ok(LET_GO)
}

async fn running(bbs: Bbs, trace: Trace, r: m::EvacuateRunningActualLrpRequest) -> Result<m::EvacuationResponse, Failure> {
    let key = validate::actual_key(r.key.as_ref())?;
    let instance = validate::instance_key(r.instance_key.as_ref())?;
    let details = convert::running(r.net_info.as_ref(), &r.internal_routes, &r.metric_tags, r.routable, &r.availability_zone);
    let keep_container = bbs.store.write(&trace.0, |state, journal| state.evacuate_running(journal, &key, &instance, details)).await?;
    Ok(m::EvacuationResponse { error: None, keep_container })
}

fn keys(request: &m::EvacuateActualLrpRequest) -> Result<(ActualLrpKey, InstanceKey), Failure> {
    Ok((validate::actual_key(request.key.as_ref())?, validate::instance_key(request.instance_key.as_ref())?))
}
