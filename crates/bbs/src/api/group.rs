//! Deprecated: actual LRPs in groups of an instance and its evacuating predecessor. cfdot's `actual-lrp-groups` asks for them.

use super::{Api, Bbs, Trace, call};
use crate::convert;
use crate::failure::Failure;
use lrp::{ActualLrp, Slot};
use wire::bbs::{self as m, path};

pub(super) fn routes() -> Api {
    Api::new()
        .route(path::GROUPS_LIST, call(list))
        .route(path::GROUPS_BY_GUID, call(by_process_guid))
        .route(
            path::GROUP_BY_GUID_AND_INDEX,
            call(by_process_guid_and_index),
        )
}

async fn list(
    bbs: Bbs,
    _: Trace,
    request: m::ActualLrpGroupsRequest,
) -> Result<m::ActualLrpGroupsResponse, Failure> {
    let wanted = |row: &ActualLrp| {
        (request.domain.is_empty() || *row.key.domain == *request.domain)
            && (request.cell_id.is_empty()
                || row
                    .instance()
                    .is_some_and(|i| *i.cell_id == *request.cell_id))
    };
    let actual_lrp_groups = bbs
        .store
        .read(|state| {
            state
                .slots()
                .filter_map(|slot| group(slot, wanted))
                .collect()
        })
        .await?;
    Ok(m::ActualLrpGroupsResponse {
        error: None,
        actual_lrp_groups,
    })
}

async fn by_process_guid(
    bbs: Bbs,
    _: Trace,
    request: m::ActualLrpGroupsByProcessGuidRequest,
) -> Result<m::ActualLrpGroupsResponse, Failure> {
    let groups = bbs.store.read(|state| {
        let slots = state
            .actual
            .get(request.process_guid.as_str())
            .into_iter()
            .flat_map(|slots| slots.values());
        slots.filter_map(|slot| group(slot, |_| true)).collect()
    });
    Ok(m::ActualLrpGroupsResponse {
        error: None,
        actual_lrp_groups: groups.await?,
    })
}

async fn by_process_guid_and_index(
    bbs: Bbs,
    _: Trace,
    request: m::ActualLrpGroupByProcessGuidAndIndexRequest,
) -> Result<m::ActualLrpGroupResponse, Failure> {
    let group = bbs
        .store
        .read(|state| {
            state
                .slot(&request.process_guid, request.index)
                .and_then(|slot| group(slot, |_| true))
        })
        .await?;
    Ok(m::ActualLrpGroupResponse {
        error: None,
        actual_lrp_group: Some(group.ok_or_else(Failure::not_found)?),
    })
}

/// Returns the group of one index. A suspect instance that is still running stands for the index until its replacement runs.
fn group(slot: &Slot, wanted: impl Fn(&ActualLrp) -> bool) -> Option<m::ActualLrpGroup> {
    let ordinary = slot.ordinary.as_ref().filter(|row| row.running().is_some());
    let instance = ordinary
        .or(slot.suspect.as_ref())
        .or(slot.ordinary.as_ref())
        .filter(|row| wanted(row));
    let evacuating = slot.evacuating.as_ref().filter(|row| wanted(row));
    (instance.is_some() || evacuating.is_some()).then(|| m::ActualLrpGroup {
        instance: instance.map(convert::actual),
        evacuating: evacuating.map(convert::actual),
    })
}
