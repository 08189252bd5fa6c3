//! Verbs of service brokers: register, change, remove. Each only marks the broker and enqueues a job, which calls the broker
//! ([`calls`]) and then stores its catalog ([`catalog`]).
//!
//! ```text
//!  create          ──▶ SYNCHRONIZING ──▶ AVAILABLE, or SYNCHRONIZATION_FAILED
//!  request_update  ──▶ SYNCHRONIZING ──▶ AVAILABLE, or the state before
//!  request_delete  ──▶ DELETE_IN_PROGRESS ──▶ gone, or DELETE_FAILED
//! ```

mod calls;
mod catalog;

pub(crate) use calls::{Delete, Synchronize, Update};

use super::audit::{self, Place, Target};
use super::job;
use crate::auth::Principal;
use crate::change::Change;
use crate::controller::Settings;
use crate::db::service_broker::{self, BrokerState, ServiceBroker};
use crate::db::service_offering::{self, ServiceOffering};
use crate::db::service_plan::{self, ServicePlan};
use crate::db::{self, Connection, Trail};
use crate::error::{ApiError, ApiResult};
use cc_rules::limits::Limits;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The type of the jobs' resource, as the API's paths spell it.
const RESOURCE: &str = "service_brokers";

/// The wish of a request that changes a broker. It is the input of the job, and absent values stay as they are.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct BrokerWish {
    pub name: Option<String>,
    pub url: Option<String>,
    /// The user and the password.
    pub credentials: Option<(String, String)>,
    /// The change of labels and annotations.
    pub metadata: Option<Value>,
    /// The state of the broker before the request.
    pub previous: BrokerState,
}

/// Prints no password.
impl std::fmt::Debug for BrokerWish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerWish")
            .field("name", &self.name)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl BrokerWish {
    /// Returns whether the broker must be called, because it is another one or is called in another way.
    fn needs_catalog(&self) -> bool {
        self.url.is_some() || self.credentials.is_some() || self.name.is_none()
    }
}

/// Registers a broker. Returns the guid of the job that fetches its catalog.
pub(crate) async fn create(
    tx: &mut Change,
    who: &Principal,
    limits: &Limits,
    broker: &mut ServiceBroker,
) -> ApiResult<String> {
    check_name(tx, broker).await?;
    if let Some(space) = &broker.space_guid {
        let most = limits.service_brokers_per_space;
        let count = service_broker::count_in_space(tx, Some(space)).await?;
        if count >= i64::from(most) {
            return Err(ApiError::unprocessable(format!(
                "The space has {count} service brokers already; a space may have at most {most}"
            )));
        }
    }
    broker.state = BrokerState::Synchronizing;
    db::insert(tx, broker).await?;
    let resource = (RESOURCE, broker.guid.as_str());
    job::enqueue(tx, who, job::SYNCHRONIZE_BROKER, resource).await
}

async fn check_name(conn: &mut Connection, broker: &ServiceBroker) -> ApiResult<()> {
    match service_broker::is_name_taken(conn, broker).await? {
        true => Err(ApiError::unprocessable("Name must be unique")),
        false => Ok(()),
    }
}

/// Accepts a change of a broker. Returns the guid of the job that makes it. Until then the broker stays as it is.
pub(crate) async fn request_update(
    tx: &mut Change,
    who: &Principal,
    settings: &Settings,
    broker: &mut ServiceBroker,
    mut wish: BrokerWish,
) -> ApiResult<String> {
    if let Some(name) = &wish.name {
        let named = ServiceBroker {
            name: name.clone(),
            ..broker.clone()
        };
        check_name(tx, &named).await?;
    }
    if broker.state.is_busy() {
        return Err(ApiError::unprocessable(
            "Cannot update a broker when other operation is already in progress",
        ));
    }
    wish.previous = broker.state;
    let input = settings.keys.seal_as(&broker.guid, &wish)?;
    broker.state = BrokerState::Synchronizing;
    broker.touch();
    db::update(tx, broker).await?;
    let resource = (RESOURCE, broker.guid.as_str());
    job::enqueue_with(tx, who, job::UPDATE_BROKER, resource, Some(input)).await
}

/// Accepts the removal of a broker without instances. Returns the guid of the job that removes it.
pub(crate) async fn request_delete(
    tx: &mut Change,
    who: &Principal,
    broker: &mut ServiceBroker,
) -> ApiResult<String> {
    check_removable(tx, broker).await?;
    broker.state = BrokerState::DeleteInProgress;
    broker.touch();
    db::update(tx, broker).await?;
    let resource = (RESOURCE, broker.guid.as_str());
    job::enqueue(tx, who, job::DELETE_BROKER, resource).await
}

async fn check_removable(conn: &mut Connection, broker: &ServiceBroker) -> ApiResult<()> {
    if !service_broker::has_instances(conn, &broker.guid).await? {
        return Ok(());
    }
    let name = &broker.name;
    Err(ApiError::new(
        422,
        270_010,
        "ServiceBrokerNotRemovable",
        format!("Can not remove brokers that have associated service instances: {name}"),
    ))
}

/// Removes a broker with its offerings and plans, and records that. Its clients at the UAA stay; see [`delete_of_space`].
async fn remove(
    conn: &mut Connection,
    actor: Target<'_>,
    broker: &ServiceBroker,
) -> ApiResult<Trail> {
    for offering in service_offering::of_broker(conn, &broker.guid).await? {
        for plan in service_plan::of_offering(conn, &offering.guid).await? {
            audit::also(record_plan(conn, broker, "delete", &plan, json!({})).await?);
        }
        audit::also(record_offering(conn, broker, "delete", &offering, json!({})).await?);
    }
    db::delete::<ServiceBroker>(conn, &broker.guid).await?;
    let kind = "audit.service_broker.delete";
    let data = json!({ "request": {} });
    audit::record_of(conn, actor, kind, target(broker), Place::Platform, data).await
}

/// Removes a broker together with its space. A job removes its clients at the UAA, if it has any.
pub(crate) async fn delete_of_space(
    tx: &mut Change,
    actor: Target<'_>,
    broker: &ServiceBroker,
) -> ApiResult<Trail> {
    check_removable(tx, broker).await?;
    let clients = service_broker::dashboard_clients(tx, &broker.guid).await?;
    if !clients.is_empty() {
        let resource = (RESOURCE, broker.guid.as_str());
        job::enqueue_for(tx, actor, job::DELETE_BROKER, resource, None).await?;
    }
    remove(tx, actor, broker).await
}

/// Returns a broker as the target of an event.
pub(crate) fn target(broker: &ServiceBroker) -> Target<'_> {
    (&broker.guid, "service_broker", &broker.name)
}

/// Writes an event of an offering, whose actor is its broker.
async fn record_offering(
    conn: &mut Connection,
    broker: &ServiceBroker,
    verb: &str,
    offering: &ServiceOffering,
    data: Value,
) -> ApiResult<Trail> {
    let kind = format!("audit.service.{verb}");
    let of = (offering.guid.as_str(), "service", offering.name.as_str());
    audit::record_of(conn, target(broker), &kind, of, Place::Platform, data).await
}

/// Writes an event of a plan, whose actor is its broker.
async fn record_plan(
    conn: &mut Connection,
    broker: &ServiceBroker,
    verb: &str,
    plan: &ServicePlan,
    data: Value,
) -> ApiResult<Trail> {
    let kind = format!("audit.service_plan.{verb}");
    let of = (plan.guid.as_str(), "service_plan", plan.name.as_str());
    audit::record_of(conn, target(broker), &kind, of, Place::Platform, data).await
}

/// Writes an event of a dashboard's client, whose actor is its broker.
async fn record_client(
    conn: &mut Connection,
    broker: &ServiceBroker,
    verb: &str,
    client: &str,
    data: Value,
) -> ApiResult<Trail> {
    let kind = format!("audit.service_dashboard_client.{verb}");
    let of = (client, "service_dashboard_client", client);
    audit::record_of(conn, target(broker), &kind, of, Place::Platform, data).await
}
