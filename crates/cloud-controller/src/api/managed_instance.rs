//! The part of `/v3/service_instances` that concerns managed instances: their plans, and the requests that their brokers get.
//!
//! Creating, changing and removing one are jobs, because a broker may be slow. A request waits a moment for its job, so that a client
//! whose broker is fast finds it ended.

use super::body::Body;
use super::lookup::Found;
use super::prelude::*;
use super::present::ok_ordered;
use super::service_instance::{Wish, present, read_name};
use crate::actions::broker_call::{self, Subject, Task};
use crate::actions::managed_update::{self, InstanceChange, Updated};
use crate::actions::{audit, managed_instance as verbs};
use crate::change::Change;
use crate::db::service_instance::{CREATE, FAILED, ServiceInstance};
use crate::db::service_plan::{self, ServicePlan};
use crate::db::service_plan_visibility;
use crate::db::space::Space;
use crate::jobs;
use axum::response::Response;
use cc_rules::ordered_json::OrderedJson;
use serde_json::Map;
use std::collections::BTreeMap;

/// The plans of some instances, by guid.
pub(super) type Plans = BTreeMap<String, ServicePlan>;

/// The text that an event has instead of parameters.
const HIDDEN: &str = "[PRIVATE DATA HIDDEN]";

const UNUSABLE: &str = "Invalid service plan. Ensure that the service plan exists, is available, and you have access to it.";

/// Returns the plans of some instances.
pub(super) async fn plans_of(
    conn: &mut Connection,
    instances: &[ServiceInstance],
) -> ApiResult<Plans> {
    let plans = service_plan::of_instances(conn, instances).await?;
    Ok(plans
        .into_iter()
        .map(|plan| (plan.guid.clone(), plan))
        .collect())
}

/// Adds what only managed instances show.
pub(super) fn add(cc: &Cc, instance: &ServiceInstance, plans: &Plans, shown: &mut Value) {
    let path = format!("/v3/service_instances/{}", instance.guid);
    let plan = instance.service_plan_guid.as_deref();
    let offered = plan.and_then(|guid| plans.get(guid));
    let offered = offered.and_then(|plan| plan.maintenance_info.as_ref());
    let version = offered.map(|info| info.0.version.as_str());
    let info = instance.maintenance_info.as_ref();
    shown["maintenance_info"] = info.map_or_else(|| json!({}), |info| json!(info.0));
    shown["upgrade_available"] = json!(instance.version() != version);
    shown["dashboard_url"] = json!(instance.dashboard_url);
    if let Some(metadata) = &instance.broker_metadata {
        shown["broker_provided_metadata"] = metadata.0.clone();
    }
    shown["relationships"]["service_plan"] = to_one(plan);
    let plan = plan.unwrap_or_default();
    for (name, path) in [
        ("service_plan", format!("/v3/service_plans/{plan}")),
        ("parameters", format!("{path}/parameters")),
        (
            "shared_spaces",
            format!("{path}/relationships/shared_spaces"),
        ),
    ] {
        shown["links"][name] = cc.link(&path);
    }
}

/// A request to create an instance.
pub(super) struct Order {
    plan: String,
    parameters: Option<OrderedJson>,
}

impl Order {
    pub(super) fn read(body: &mut Body) -> ApiResult<Self> {
        Ok(Self {
            plan: body.required_relationship("service_plan"),
            parameters: parameters_of(body)?,
        })
    }
}

/// Returns the parameters in the order of their keys. Those that are no object were noted by `Body`.
pub(super) fn parameters_of(body: &mut Body) -> ApiResult<Option<OrderedJson>> {
    let parameters = body.ordered("parameters")?;
    Ok(parameters.filter(|json| matches!(json, OrderedJson::Object(_))))
}

/// Returns a request as its event has it, without parameters.
pub(super) fn recorded(mut request: Map<String, Value>) -> Value {
    if let Some(parameters) = request.get_mut("parameters") {
        *parameters = json!(HIDDEN);
    }
    request.into()
}

/// Returns a plan that the caller sees and that may be used in a space.
async fn plan_for(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
    space: &Space,
) -> ApiResult<ServicePlan> {
    let found = who.named::<ServicePlan>(conn, guid, Right::Read, UNUSABLE);
    let plan = found.await?.row;
    let name = &plan.name;
    if !plan.active {
        return Err(ApiError::unprocessable(format!(
            "Invalid service plan. The service plan '{name}' with guid '{guid}' has been removed from the service broker's catalog. It is not possible to create new service instances using this plan."
        )));
    }
    let organization = &space.organization_guid;
    let is_usable =
        service_plan_visibility::is_usable_in(conn, guid, &space.guid, organization).await?;
    if is_usable {
        return Ok(plan);
    }
    Err(ApiError::unprocessable(format!(
        "Invalid service plan. This could be due to a space-scoped broker which is offering the service plan '{name}' with guid '{guid}' in another space or that the plan is not enabled in this organization. Ensure that the service plan is visible in your current space '{}' with guid '{}'.",
        space.name, space.guid
    )))
}

/// Stores an instance and the job that makes it.
pub(super) async fn create(
    cc: &Cc,
    who: &Principal,
    mut tx: Change,
    (instance, space): (&mut ServiceInstance, &Space),
    (order, request): (Order, Map<String, Value>),
) -> ApiResult<Response> {
    let plan = plan_for(&mut tx, who, &order.plan, space).await?;
    instance.service_plan_guid = Some(plan.guid);
    let task = Task::new(recorded(request), order.parameters);
    let actor = audit::actor(who);
    let job = verbs::create(&mut tx, &cc.settings, actor, instance, task).await?;
    tx.commit(Unrecorded::ByJob).await?;
    jobs::wait_briefly(cc, &job).await;
    Ok(cc.accepted(&job))
}

/// Reads and begins a change of an instance.
pub(super) async fn update(
    cc: &Cc,
    who: &Principal,
    mut tx: Change,
    found: Found<ServiceInstance>,
    mut body: Body,
) -> ApiResult<Response> {
    let (mut instance, space) = (found.row, found.of.space);
    let name = body.has("name").then(|| read_name(&mut body));
    let tags = Wish::read(cc, &mut body)?.tags;
    let parameters = parameters_of(&mut body)?;
    let version = read_version(&mut body);
    let plan = body.relationship("service_plan");
    if plan.is_none() && body.at("relationships").is_some_and(|all| !all.is_null()) {
        body.problem("Relationships Service plan can't be blank");
    }
    let metadata = body.metadata().cloned();
    body.merge_metadata(&mut instance.metadata.clone())?;
    let request = body.finish()?;
    let wanted = match &plan {
        Some(guid) => Some(new_plan(&mut tx, who, guid, (&instance, &space)).await?),
        None => None,
    };
    let wish = managed_update::Wish {
        change: InstanceChange {
            name,
            tags,
            plan,
            version,
            metadata,
        },
        parameters,
        request: recorded(request),
    };
    let actor = audit::actor(who);
    let pair = (&instance, wanted.as_ref());
    match managed_update::update(&mut tx, &cc.settings, actor, pair, wish).await? {
        Updated::ByJob(job) => {
            tx.commit(Unrecorded::ByJob).await?;
            jobs::wait_briefly(cc, &job).await;
            Ok(cc.accepted(&job))
        }
        Updated::Now(trail) => {
            let guid = instance.guid.clone();
            instance = who
                .find::<ServiceInstance>(&mut tx, &guid, Right::Develop)
                .await?
                .row;
            let plans = plans_of(&mut tx, std::slice::from_ref(&instance)).await?;
            tx.commit(trail).await?;
            Ok(ok(present(cc, &instance, &plans)))
        }
    }
}

/// Returns the plan to which an instance moves: one of the same offering, or the present one.
async fn new_plan(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
    (instance, space): (&ServiceInstance, &Space),
) -> ApiResult<ServicePlan> {
    let plan = plan_for(conn, who, guid, space).await?;
    let present = plans_of(conn, std::slice::from_ref(instance)).await?;
    let is_of_another =
        |other: &ServicePlan| other.service_offering_guid != plan.service_offering_guid;
    if present.values().any(is_of_another) {
        return Err(ApiError::new(
            400,
            1002,
            "InvalidRelation",
            "service plan relates to a different service offering",
        ));
    }
    Ok(plan)
}

/// Reads the version to which an instance is upgraded.
fn read_version(body: &mut Body) -> Option<String> {
    let version = body.at("maintenance_info.version")?.clone();
    match version.as_str() {
        Some(version) if osb::is_semantic_version(version) => Some(version.to_owned()),
        _ if version.is_null() => None,
        Some(_) => {
            body.problem("Maintenance info Version must be a Semantic Version string");
            None
        }
        None => {
            body.problem("Maintenance info Version must be a string");
            None
        }
    }
}

/// Begins to remove an instance, or removes it here alone.
pub(super) async fn remove(
    cc: &Cc,
    who: &Principal,
    mut tx: Change,
    (mut instance, space): (ServiceInstance, Space),
    purge: bool,
) -> ApiResult<Response> {
    let actor = audit::actor(who);
    if !purge {
        let job = verbs::request_delete(&mut tx, &cc.settings, actor, &mut instance).await?;
        tx.commit(Unrecorded::ByJob).await?;
        jobs::wait_briefly(cc, &job).await;
        return Ok(cc.accepted(&job));
    }
    let plan = instance.service_plan_guid.clone().unwrap_or_default();
    let plan = who.known::<ServicePlan>(&mut tx, &plan).await?;
    plan.access.must(Right::Develop)?;
    let trail = verbs::purge(&mut tx, actor, &instance, &space).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}

/// Fetches the parameters of an instance from its broker. Readers of the spaces with which it is shared may not see them.
pub(super) async fn parameters(
    cc: &Cc,
    who: &Principal,
    found: Found<ServiceInstance>,
) -> ApiResult<Response> {
    let instance = found.row;
    let mut conn = cc.db.read().await?;
    let own = who.find::<Space>(&mut conn, &instance.space_guid, Right::Read);
    match own.await {
        Err(error) if error.status == http::StatusCode::NOT_FOUND => {
            return Err(ApiError::not_authorized());
        }
        found => found.map(drop)?,
    }
    if instance.last_operation.0.is(CREATE, FAILED) {
        return Err(ApiError::not_found("Service instance"));
    }
    let subject = Subject::of(&mut conn, instance).await?;
    drop(conn);
    if !subject.offering.instances_retrievable {
        return Err(not_supported());
    }
    let instance = &subject.instance;
    if instance.last_operation.0.is_under_way() {
        return Err(ApiError::instance_busy(&instance.name));
    }
    let broker = broker_call::address(&cc.settings.keys, &subject.broker)?;
    let caller = osb::Caller::default();
    let calls = cc.brokers.at(&broker, &caller);
    let fetched = calls.fetch_instance(&instance.guid, &subject.ids()).await;
    let fetched = fetched.map_err(|error| broker_call::refused(&error))?;
    let nothing = OrderedJson::Object(Vec::new());
    Ok(ok_ordered(&fetched.parameters.unwrap_or(nothing)))
}

/// Returns the refusal of parameters that nobody can fetch.
pub(super) fn not_supported() -> ApiError {
    ApiError::new(
        400,
        120_004,
        "ServiceFetchInstanceParametersNotSupported",
        "This service does not support fetching service instance parameters.",
    )
}
