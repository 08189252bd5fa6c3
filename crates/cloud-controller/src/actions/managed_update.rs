//! Changes managed service instances: their names and tags, and with their brokers their plans, parameters and versions.
//!
//! A change that the broker need not know is done at once. Another one is done by a job, and is visible when the broker has done it. The
//! texts and their order are those of the original.

mod call;

pub(super) use call::{prepare, settle};

use super::audit::Target;
use super::broker_call::progress::note;
use super::broker_call::{Subject, Task};
use super::job::{UPDATE_SERVICE_INSTANCE, enqueue_for};
use super::managed_instance::{RESOURCE, record};
use super::service_instance;
use crate::change::Change;
use crate::controller::Settings;
use crate::db::app::App;
use crate::db::service_credential_binding as bindings;
use crate::db::service_instance::{
    CREATE, FAILED, IN_PROGRESS, LastOperation, ServiceInstance, UPDATE,
};
use crate::db::service_plan::ServicePlan;
use crate::db::{self, Connection, Json, Trail, service_instance_share as shares};
use crate::error::{ApiError, ApiResult};
use crate::quota;
use cc_rules::limits::Limits;
use cc_rules::ordered_json::OrderedJson;
use osb::MaintenanceInfo;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The wanted values of an instance. Absent ones stay as they are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct InstanceChange {
    pub name: Option<String>,
    pub tags: Option<Vec<String>>,
    /// The guid of the plan, also if it is the present one.
    pub plan: Option<String>,
    /// The version of the plan to which the instance is upgraded.
    pub version: Option<String>,
    pub metadata: Option<Value>,
}

/// A request to change an instance.
#[derive(Clone, Default)]
pub(crate) struct Wish {
    pub change: InstanceChange,
    pub parameters: Option<OrderedJson>,
    /// The request as its event has it.
    pub request: Value,
}

/// The result of a request.
#[derive(Debug)]
pub(crate) enum Updated {
    Now(Trail),
    ByJob(String),
}

impl InstanceChange {
    fn has_only_metadata(&self) -> bool {
        let has_others = self.name.is_some()
            || self.tags.is_some()
            || self.plan.is_some()
            || self.version.is_some();
        self.metadata.is_some() && !has_others
    }

    /// Returns the plan to which an instance moves, if it is another one.
    fn new_plan<'a>(&'a self, instance: &ServiceInstance) -> Option<&'a str> {
        let plan = self.plan.as_deref();
        plan.filter(|plan| instance.service_plan_guid.as_deref() != Some(plan))
    }

    /// Changes an instance. `version` is the one that it gets with the change, if the change concerns its version.
    fn apply(
        &self,
        limits: &Limits,
        instance: &mut ServiceInstance,
        version: Option<MaintenanceInfo>,
    ) -> ApiResult<()> {
        if let Some(name) = &self.name {
            instance.name.clone_from(name);
        }
        if let Some(tags) = &self.tags {
            instance.tags.0.clone_from(tags);
        }
        if let Some(metadata) = &self.metadata {
            instance.metadata.0.merge(limits, metadata)?;
        }
        if self.plan.is_some() {
            instance.service_plan_guid.clone_from(&self.plan);
        }
        if let Some(version) = version {
            instance.maintenance_info = Some(Json(version));
        }
        Ok(())
    }

    /// Returns the version that an instance has after the change to a plan, if the change concerns its version.
    fn version_after(
        &self,
        instance: &ServiceInstance,
        plan: &ServicePlan,
    ) -> Option<MaintenanceInfo> {
        let version = match self.new_plan(instance) {
            Some(_) => plan.maintenance_info.as_ref()?.0.version.clone(),
            None => self.version.clone()?,
        };
        Some(MaintenanceInfo {
            version,
            description: None,
        })
    }
}

/// Changes an instance, or begins to change it at its broker. `plan` is the wanted plan, which the caller has found.
pub(crate) async fn update(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (instance, plan): (&ServiceInstance, Option<&ServicePlan>),
    wish: Wish,
) -> ApiResult<Updated> {
    let subject = Subject::of(tx, instance.clone()).await?;
    let change = &wish.change;
    check(tx, &subject, plan, &wish).await?;
    let mut changed = instance.clone();
    if !needs_broker(&subject, &wish) {
        if !change.has_only_metadata() || instance.last_operation.0.does("delete") {
            must_be_idle(tx, instance).await?;
            changed.last_operation = Json(LastOperation::done(UPDATE, None));
        }
        change.apply(&settings.limits, &mut changed, None)?;
        changed.touch();
        db::update(tx, &changed).await?;
        let place = (instance, &subject.space);
        let trail = record(tx, actor, "update", place, &wish.request).await?;
        return Ok(Updated::Now(trail));
    }
    must_be_idle(tx, instance).await?;
    // The metadata is checked before the broker does anything.
    change.apply(&settings.limits, &mut changed.clone(), None)?;
    note(tx, &mut changed, (UPDATE, IN_PROGRESS), None).await?;
    let task = Task {
        change: Some(wish.change.clone()),
        ..Task::new(wish.request, wish.parameters)
    };
    let guid = instance.guid.as_str();
    let input = task.sealed(&settings.keys, guid)?;
    let resource = (RESOURCE, guid);
    let job = enqueue_for(tx, actor, UPDATE_SERVICE_INSTANCE, resource, input).await?;
    Ok(Updated::ByJob(job))
}

/// Refuses a change of an instance with which something else is done.
async fn must_be_idle(conn: &mut Connection, instance: &ServiceInstance) -> ApiResult<()> {
    if instance.last_operation.0.is_under_way() {
        return Err(ApiError::instance_busy(&instance.name));
    }
    for binding in bindings::of_instance(conn, &instance.guid).await? {
        if !binding.last_operation.0.is_under_way() {
            continue;
        }
        let Some(app) = &binding.app_guid else {
            continue;
        };
        let app = db::by_guid::<App>(conn, app).await?;
        let app = app.map(|app| app.name).unwrap_or_default();
        return Err(ApiError::new(
            409,
            90008,
            "AsyncServiceBindingOperationInProgress",
            format!(
                "An operation for the service binding between app {app} and service instance {} is in progress.",
                instance.name
            ),
        ));
    }
    Ok(())
}

/// Returns whether the broker must know of a change.
fn needs_broker(subject: &Subject, wish: &Wish) -> bool {
    let (instance, change) = (&subject.instance, &wish.change);
    let renames = change.name.is_some() && subject.offering.allow_context_updates;
    let upgrades = change.version.is_some() && change.version.as_deref() != instance.version();
    renames || wish.parameters.is_some() || change.new_plan(instance).is_some() || upgrades
}

/// Checks a change in the order of the original.
async fn check(
    conn: &mut Connection,
    subject: &Subject,
    plan: Option<&ServicePlan>,
    wish: &Wish,
) -> ApiResult<()> {
    let (instance, change) = (&subject.instance, &wish.change);
    if instance.last_operation.0.is(CREATE, FAILED) {
        return Err(ApiError::new(
            404,
            60004,
            "ServiceInstanceNotFound",
            format!("The service instance could not be found: {}", instance.name),
        ));
    }
    if let Some(name) = &change.name {
        let renamed = ServiceInstance {
            name: name.clone(),
            ..instance.clone()
        };
        service_instance::check_name(conn, &renamed).await?;
    }
    if let Some(plan) = plan {
        quota::services::check_plan(conn, &subject.space, plan).await?;
    }
    if change.name.is_some() && !shares::spaces(conn, &instance.guid).await?.is_empty() {
        return Err(ApiError::unprocessable(
            "Service instances that have been shared cannot be renamed",
        ));
    }
    if let Some(plan) = plan {
        if !subject.plan.is_updateable(&subject.offering) {
            return Err(ApiError::unprocessable(
                "The service does not support changing plans.",
            ));
        }
        if !plan.is_bindable(&subject.offering) && bindings::is_bound(conn, &instance.guid).await? {
            return Err(ApiError::unprocessable(
                "The service plan is invalid: cannot switch to non-bindable plan when service bindings exist",
            ));
        }
    }
    check_version(subject, change)?;
    check_inactive(subject, wish)
}

/// Refuses a version that the plan does not have.
fn check_version(subject: &Subject, change: &InstanceChange) -> ApiResult<()> {
    let Some(version) = change.version.as_deref() else {
        return Ok(());
    };
    let text = match &subject.plan.maintenance_info {
        _ if change.new_plan(&subject.instance).is_some() => {
            "maintenance_info should not be changed when switching to different plan."
        }
        None => {
            "The service broker does not support upgrades for service instances created from this plan."
        }
        Some(info) if info.0.version == version => return Ok(()),
        Some(_) if subject.instance.version() == Some(version) => return Ok(()),
        Some(_) => {
            "maintenance_info.version requested is invalid. Please ensure the catalog is up to date and you are providing a version supported by this service plan."
        }
    };
    Err(ApiError::unprocessable(text))
}

/// Refuses changes that need the broker, of an instance whose plan the catalog does not have any more.
fn check_inactive(subject: &Subject, wish: &Wish) -> ApiResult<()> {
    if subject.plan.active {
        return Ok(());
    }
    let change = &wish.change;
    let what = if wish.parameters.is_some() {
        "parameters"
    } else if subject.offering.allow_context_updates && change.name.is_some() {
        "name"
    } else if change.version.is_some() && change.version.as_deref() != subject.instance.version() {
        "maintenance_info"
    } else {
        return Ok(());
    };
    Err(ApiError::unprocessable(format!(
        "Cannot update {what} of a service instance that belongs to inaccessible plan"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> ServiceInstance {
        ServiceInstance {
            service_plan_guid: Some("small".to_owned()),
            maintenance_info: Some(Json(version("1.0.0"))),
            ..ServiceInstance::default()
        }
    }

    fn version(text: &str) -> MaintenanceInfo {
        MaintenanceInfo {
            version: text.to_owned(),
            description: None,
        }
    }

    #[test]
    fn the_version_follows_the_plan_or_the_request() {
        let plan = ServicePlan {
            guid: "large".to_owned(),
            maintenance_info: Some(Json(MaintenanceInfo {
                description: Some("new disks".to_owned()),
                ..version("3.0.0")
            })),
            ..ServicePlan::default()
        };
        let moved = InstanceChange {
            plan: Some("large".to_owned()),
            ..InstanceChange::default()
        };
        let upgraded = InstanceChange {
            plan: Some("small".to_owned()),
            version: Some("2.0.0".to_owned()),
            ..InstanceChange::default()
        };
        let after = |change: &InstanceChange| change.version_after(&instance(), &plan);
        assert_eq!(after(&moved), Some(version("3.0.0")));
        assert_eq!(after(&upgraded), Some(version("2.0.0")));
        assert_eq!(after(&InstanceChange::default()), None);
        assert_eq!(moved.new_plan(&instance()), Some("large"));
        assert_eq!(upgraded.new_plan(&instance()), None);
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let mut changed = instance();
        changed.name = "db".to_owned();
        changed.tags.0 = vec!["sql".to_owned()];
        let change = InstanceChange {
            tags: Some(Vec::new()),
            ..InstanceChange::default()
        };
        assert!(!change.has_only_metadata());
        change
            .apply(&Limits::default(), &mut changed, None)
            .unwrap();
        assert_eq!((changed.name.as_str(), changed.tags.0.len()), ("db", 0));
        assert_eq!(changed.version(), Some("1.0.0"));
        let change = InstanceChange {
            metadata: Some(serde_json::json!({ "labels": { "a": "b" } })),
            ..InstanceChange::default()
        };
        assert!(change.has_only_metadata());
        change
            .apply(&Limits::default(), &mut changed, Some(version("2.0.0")))
            .unwrap();
        assert_eq!(changed.version(), Some("2.0.0"));
        assert_eq!(changed.metadata.0.labels["a"], "b");
    }
}
