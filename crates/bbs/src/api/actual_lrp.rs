//! Actual LRPs: the calls that list them, and the reports of reps and of the auctioneer about them.

use super::{Api, Bbs, Trace, call, done};
use crate::convert;
use crate::failure::Failure;
use crate::state::State;
use crate::validate;
use lrp::{ActualLrp, Presence, Slot};
use std::collections::BTreeSet;
use wire::bbs::{self as m, path};

pub(super) fn routes() -> Api {
    Api::new()
        .route(path::ACTUAL_LRPS_LIST, call(list))
        .route(path::ACTUAL_LRPS_BY_GUIDS, call(list_by_process_guids))
        .route(path::ACTUAL_LRPS_CLAIM, call(claim))
        .route(path::ACTUAL_LRPS_START, call(start))
        .route(path::ACTUAL_LRPS_CRASH, call(crash))
        .route(path::ACTUAL_LRPS_FAIL, call(fail))
        .route(path::ACTUAL_LRPS_REMOVE, call(remove))
        .route(path::ACTUAL_LRPS_RETIRE, call(retire))
}

async fn list(
    bbs: Bbs,
    _: Trace,
    request: m::ActualLrpsRequest,
) -> Result<m::ActualLrpsResponse, Failure> {
    let wanted = |row: &ActualLrp| {
        (request.domain.is_empty() || *row.key.domain == *request.domain)
            && (request.cell_id.is_empty()
                || row
                    .instance()
                    .is_some_and(|i| *i.cell_id == *request.cell_id))
            && request.index.is_none_or(|index| row.key.index == index)
    };
    let select = |state: &State| -> Vec<ActualLrp> {
        let rows = |slots: &mut dyn Iterator<Item = &Slot>| {
            slots
                .flat_map(ordered)
                .filter(|row| wanted(row))
                .cloned()
                .collect()
        };
        match request.process_guid.as_str() {
            "" => rows(&mut state.slots()),
            guid => rows(
                &mut state
                    .actual
                    .get(guid)
                    .into_iter()
                    .flat_map(|slots| slots.values()),
            ),
        }
    };
    let rows = bbs.store.read(select).await?;
    Ok(m::ActualLrpsResponse {
        error: None,
        actual_lrps: rows.iter().map(convert::actual).collect(),
    })
}

async fn list_by_process_guids(
    bbs: Bbs,
    _: Trace,
    request: m::ActualLrpsByProcessGuidsRequest,
) -> Result<m::ActualLrpsResponse, Failure> {
    let guids: BTreeSet<String> = request.process_guids.into_iter().collect();
    let select = |state: &State| -> Vec<ActualLrp> {
        let slots = guids
            .iter()
            .filter_map(|guid| state.actual.get(guid.as_str()))
            .flat_map(|slots| slots.values());
        slots.flat_map(ordered).cloned().collect()
    };
    let rows = bbs.store.read(select).await?;
    Ok(m::ActualLrpsResponse {
        error: None,
        actual_lrps: rows.iter().map(convert::actual).collect(),
    })
}

/// Returns the rows of one index in the order in which they are sent: the running row comes last, and of two running rows the
/// ordinary one, because Cloud Controller takes the last row of an index.
fn ordered(slot: &Slot) -> Vec<&ActualLrp> {
    let mut rows: Vec<&ActualLrp> = slot.rows().collect();
    rows.sort_by_key(|row| (row.running().is_some(), row.presence == Presence::Ordinary));
    rows
}

async fn claim(
    bbs: Bbs,
    trace: Trace,
    request: m::ClaimActualLrpRequest,
) -> Result<m::LifecycleResponse, Failure> {
    validate::present(&request.process_guid, "process_guid")?;
    let instance = validate::instance_key(request.instance_key.as_ref())?;
    let guid = request.process_guid.into();
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.claim(journal, &guid, request.index, &instance)
            })
            .await,
    )
}

async fn start(
    bbs: Bbs,
    trace: Trace,
    r: m::StartActualLrpRequest,
) -> Result<m::LifecycleResponse, Failure> {
    let key = validate::actual_key(r.key.as_ref())?;
    let instance = validate::instance_key(r.instance_key.as_ref())?;
    let details = convert::running(
        r.net_info.as_ref(),
        &r.internal_routes,
        &r.metric_tags,
        r.routable,
        &r.availability_zone,
    );
    validate::present(&details.net_info.address, "address")?;
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.start(journal, &key, &instance, details)
            })
            .await,
    )
}

async fn crash(
    bbs: Bbs,
    trace: Trace,
    request: m::CrashActualLrpRequest,
) -> Result<m::LifecycleResponse, Failure> {
    let key = validate::actual_key(request.key.as_ref())?;
    let instance = validate::instance_key(request.instance_key.as_ref())?;
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.crash(journal, &key, &instance, &request.error_message)
            })
            .await,
    )
}

async fn fail(
    bbs: Bbs,
    trace: Trace,
    request: m::FailActualLrpRequest,
) -> Result<m::LifecycleResponse, Failure> {
    let key = validate::actual_key(request.key.as_ref())?;
    validate::present(&request.error_message, "error_message")?;
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.fail(journal, &key, &request.error_message)
            })
            .await,
    )
}

async fn remove(
    bbs: Bbs,
    trace: Trace,
    request: m::RemoveActualLrpRequest,
) -> Result<m::LifecycleResponse, Failure> {
    validate::present(&request.process_guid, "process_guid")?;
    let instance = request
        .instance_key
        .as_ref()
        .map(|i| validate::instance_key(Some(i)))
        .transpose()?;
    let guid = request.process_guid.into();
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.remove(journal, &guid, request.index, instance.as_ref())
            })
            .await,
    )
}

async fn retire(
    bbs: Bbs,
    trace: Trace,
    request: m::RetireActualLrpRequest,
) -> Result<m::LifecycleResponse, Failure> {
    let key = validate::actual_key(request.key.as_ref())?;
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.retire_actual(journal, &key)
            })
            .await,
    )
}
