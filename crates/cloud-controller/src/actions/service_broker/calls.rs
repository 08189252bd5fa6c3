//! The calls of a broker's jobs, and what follows from their results.
//!
//! The catalog is fetched first. If it has dashboards, their clients are claimed in the database in a part of their own, before the
//! UAA gets them: a process that dies in between leaves no client that belongs to nobody.

use super::catalog::{self, Stored};
use super::{BrokerWish, check_name, check_removable, record_client, remove};
use crate::actions::audit::{self, Target};
use crate::actions::job::{Outside, Step};
use crate::change::Change;
use crate::controller::Cc;
use crate::dashboards::{self, Dashboards};
use crate::db;
use crate::db::job::Job;
use crate::db::service_broker::{self, BrokerState, ServiceBroker};
use crate::error::{ApiError, ApiResult};
use osb::{Catalog, CatalogErrors};
use serde_json::json;

/// Fetches the catalog of a broker that was registered.
#[derive(Debug)]
pub(crate) struct Synchronize;

/// Changes a broker, and fetches its catalog unless only its name changes.
#[derive(Debug)]
pub(crate) struct Update;

/// Removes a broker.
#[derive(Debug)]
pub(crate) struct Delete;

/// The result of the calls about a catalog.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// The broker was removed meanwhile.
    Gone,
    /// The job needs no catalog.
    NotNeeded,
    Refused(osb::Error),
    Invalid(CatalogErrors),
    /// The UAA did not accept the clients of dashboards. The text is for users.
    DashboardsFailed(String),
    Catalog {
        catalog: Box<Catalog>,
        clients: Clients,
    },
}

/// How far the clients of a catalog's dashboards are.
#[derive(Debug)]
pub(crate) enum Clients {
    /// The catalog has none, and the broker had none.
    None,
    /// The foundation creates none.
    Ignored,
    /// They are not claimed yet. The list has those that exist at the UAA.
    Unclaimed(Vec<String>),
    /// The UAA has them, and no longer those that the catalog has no more.
    Done(dashboards::Changes),
}

/// Returns a broker's row.
async fn read(cc: &Cc, guid: &str) -> ApiResult<Option<ServiceBroker>> {
    let mut conn = cc.db.read_own().await?;
    Ok(db::by_guid(&mut conn, guid).await?)
}

/// Returns the actor of a job.
fn actor(job: &Job) -> Target<'_> {
    (&job.actor_guid, &job.actor_type, &job.actor_name)
}

/// Returns the caller of a job as brokers see it.
fn caller(job: &Job) -> osb::Caller {
    osb::Caller {
        user_guid: (job.actor_type == "user").then(|| job.actor_guid.clone()),
        request_id: None,
    }
}

/// Returns how a broker is called.
pub(crate) fn access(cc: &Cc, broker: &ServiceBroker) -> ApiResult<osb::Broker> {
    Ok(osb::Broker {
        url: broker.url.clone(),
        username: broker.username.clone(),
        password: cc.settings.keys.open(&broker.guid, &broker.password)?,
    })
}

/// Fetches a catalog and brings the clients of its dashboards as far as possible.
async fn fetch(cc: &Cc, job: &Job, access: &osb::Broker) -> ApiResult<Fetched> {
    let caller = caller(job);
    let answer = match cc.brokers.at(access, &caller).catalog().await {
        Ok(answer) => answer,
        Err(error) => return Ok(Fetched::Refused(error)),
    };
    let catalog = match Catalog::check(&answer) {
        Ok(catalog) => Box::new(catalog),
        Err(errors) => return Ok(Fetched::Invalid(errors)),
    };
    let owned = {
        let mut conn = cc.db.read_own().await?;
        service_broker::dashboard_clients(&mut conn, &job.resource_guid).await?
    };
    let requested = catalog.dashboard_clients();
    let clients = match Dashboards::of(cc) {
        None if requested.is_empty() => Ok(Clients::None),
        None => Ok(Clients::Ignored),
        Some(_) if requested.is_empty() && owned.is_empty() => Ok(Clients::None),
        Some(uaa) if requested.iter().all(|client| owned.contains(&client.id)) => {
            uaa.replace(&requested, &owned).await.map(Clients::Done)
        }
        Some(uaa) => uaa.existing(&requested).await.map(Clients::Unclaimed),
    };
    Ok(match clients {
        Ok(clients) => Fetched::Catalog { catalog, clients },
        Err(text) => Fetched::DashboardsFailed(text),
    })
}

pub(super) fn gone() -> ApiError {
    ApiError::new(
        422,
        270_011,
        "ServiceBrokerGone",
        "The service broker was removed before the synchronization completed",
    )
}

/// Sets the state of a broker that a job has marked, unless another verb has marked it meanwhile.
async fn unmark(tx: &mut Change, guid: &str, state: BrokerState) -> ApiResult<()> {
    if let Some(mut broker) = db::by_guid::<ServiceBroker>(tx, guid).await?
        && broker.state == BrokerState::Synchronizing
    {
        broker.state = state;
        broker.touch();
        db::update(tx, &broker).await?;
    }
    Ok(())
}

impl Outside for Synchronize {
    type Called = Fetched;

    async fn call(cc: &Cc, job: &Job) -> ApiResult<Fetched> {
        match read(cc, &job.resource_guid).await? {
            Some(broker) => fetch(cc, job, &access(cc, &broker)?).await,
            None => Ok(Fetched::Gone),
        }
    }

    async fn apply(cc: &Cc, tx: &mut Change, job: &mut Job, called: Fetched) -> ApiResult<Step> {
        let guid = job.resource_guid.clone();
        let Some(broker) = db::by_guid::<ServiceBroker>(tx, &guid).await? else {
            return Ok(Step::Failed(gone()));
        };
        match catalog::store(cc, tx, &broker, job, called).await? {
            Stored::Done => {
                unmark(tx, &guid, BrokerState::Available).await?;
                Ok(Step::Done)
            }
            Stored::Again => Ok(Step::Again { due_at: 0 }),
            Stored::Failed(error) => {
                unmark(tx, &guid, BrokerState::SynchronizationFailed).await?;
                Ok(Step::Failed(error))
            }
        }
    }

    async fn give_up(_: &Cc, tx: &mut Change, job: &Job) -> ApiResult<()> {
        unmark(tx, &job.resource_guid, BrokerState::SynchronizationFailed).await
    }
}

/// Opens the wish of a job that changes a broker.
fn wish(cc: &Cc, job: &Job) -> ApiResult<BrokerWish> {
    match &job.input {
        Some(input) => Ok(cc.settings.keys.open_as(&job.resource_guid, input)?),
        None => Ok(BrokerWish::default()),
    }
}

/// Returns a broker as a wish wants it.
fn changed(cc: &Cc, broker: &ServiceBroker, wish: &BrokerWish) -> ApiResult<ServiceBroker> {
    let mut broker = broker.clone();
    if let Some(name) = &wish.name {
        broker.name.clone_from(name);
    }
    if let Some(url) = &wish.url {
        broker.url.clone_from(url);
    }
    if let Some((username, password)) = &wish.credentials {
        broker.username.clone_from(username);
        broker.password = cc.settings.keys.seal(&broker.guid, password)?;
    }
    if let Some(metadata) = &wish.metadata {
        broker.metadata.0.merge(&cc.settings.limits, metadata)?;
    }
    Ok(broker)
}

impl Outside for Update {
    type Called = Fetched;

    async fn call(cc: &Cc, job: &Job) -> ApiResult<Fetched> {
        let wish = wish(cc, job)?;
        let Some(broker) = read(cc, &job.resource_guid).await? else {
            return Ok(Fetched::Gone);
        };
        if !wish.needs_catalog() {
            return Ok(Fetched::NotNeeded);
        }
        let broker = changed(cc, &broker, &wish)?;
        fetch(cc, job, &access(cc, &broker)?).await
    }

    async fn apply(cc: &Cc, tx: &mut Change, job: &mut Job, called: Fetched) -> ApiResult<Step> {
        let guid = job.resource_guid.clone();
        let wish = wish(cc, job)?;
        let Some(broker) = db::by_guid::<ServiceBroker>(tx, &guid).await? else {
            return Ok(Step::Failed(gone()));
        };
        let mut broker = changed(cc, &broker, &wish)?;
        // The name may have been free when the request came, and be taken now.
        if let Err(error) = check_name(tx, &broker).await {
            unmark(tx, &guid, wish.previous).await?;
            return Ok(Step::Failed(error));
        }
        match catalog::store(cc, tx, &broker, job, called).await? {
            Stored::Done => {
                if broker.state == BrokerState::Synchronizing {
                    broker.state = BrokerState::Available;
                }
                broker.touch();
                db::update(tx, &broker).await?;
                Ok(Step::Done)
            }
            Stored::Again => Ok(Step::Again { due_at: 0 }),
            Stored::Failed(error) => {
                unmark(tx, &guid, wish.previous).await?;
                Ok(Step::Failed(error))
            }
        }
    }

    async fn give_up(cc: &Cc, tx: &mut Change, job: &Job) -> ApiResult<()> {
        // A wish that cannot be opened must not keep the broker marked.
        let previous = wish(cc, job).map_or(BrokerState::Available, |wish| wish.previous);
        unmark(tx, &job.resource_guid, previous).await
    }
}

impl Outside for Delete {
    /// The ids of the clients that the UAA no longer has, or why that is unknown.
    type Called = Result<Vec<String>, String>;

    async fn call(cc: &Cc, job: &Job) -> ApiResult<Self::Called> {
        let (is_used, owned) = {
            let mut conn = cc.db.read_own().await?;
            let guid = &job.resource_guid;
            (
                service_broker::has_instances(&mut conn, guid).await?,
                service_broker::dashboard_clients(&mut conn, guid).await?,
            )
        };
        match Dashboards::of(cc) {
            Some(uaa) if !is_used && !owned.is_empty() => {
                let removed = uaa.replace(&[], &owned).await;
                Ok(removed.map(|changes| changes.removed))
            }
            _ => Ok(Ok(Vec::new())),
        }
    }

    async fn apply(
        _: &Cc,
        tx: &mut Change,
        job: &mut Job,
        called: Self::Called,
    ) -> ApiResult<Step> {
        let guid = job.resource_guid.clone();
        let broker = db::by_guid::<ServiceBroker>(tx, &guid).await?;
        let removed = match called {
            Ok(removed) => removed,
            // The broker is gone with its space, so nobody else would remove the clients: the job tries it again.
            Err(text) if broker.is_none() => return Err(dashboards::failure(&text)),
            Err(text) => {
                fail_delete(tx, &guid).await?;
                return Ok(Step::Failed(dashboards::failure(&text)));
            }
        };
        for client in &removed {
            service_broker::release_client(tx, &guid, client).await?;
        }
        let Some(broker) = broker else {
            return Ok(Step::Done);
        };
        if let Err(error) = check_removable(tx, &broker).await {
            fail_delete(tx, &guid).await?;
            return Ok(Step::Failed(error));
        }
        for client in &removed {
            audit::also(record_client(tx, &broker, "delete", client, json!({})).await?);
        }
        audit::also(remove(tx, actor(job), &broker).await?);
        Ok(Step::Done)
    }

    async fn give_up(_: &Cc, tx: &mut Change, job: &Job) -> ApiResult<()> {
        fail_delete(tx, &job.resource_guid).await
    }
}

/// Marks a broker that could not be removed.
async fn fail_delete(tx: &mut Change, guid: &str) -> ApiResult<()> {
    if let Some(mut broker) = db::by_guid::<ServiceBroker>(tx, guid).await?
        && broker.state == BrokerState::DeleteInProgress
    {
        broker.state = BrokerState::DeleteFailed;
        broker.touch();
        db::update(tx, &broker).await?;
    }
    Ok(())
}
