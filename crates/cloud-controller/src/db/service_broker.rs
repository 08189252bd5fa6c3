//! Service brokers: servers that create services for apps, by the Open Service Broker API.

use super::service_instance::ServiceInstance;
use super::{Arg, Condition, Connection, Json, Select, execute, readable_rows, rows, spelled};
use crate::sealing::Sealed;
use cc_rules::metadata::Metadata;
use kit::db::query;

spelled! {
    /// The state of a broker. While its catalog is fetched or while it is deleted, nothing else changes it.
    BrokerState {
        Available = "AVAILABLE",
        Synchronizing = "SYNCHRONIZING",
        SynchronizationFailed = "SYNCHRONIZATION_FAILED",
        DeleteInProgress = "DELETE_IN_PROGRESS",
        DeleteFailed = "DELETE_FAILED",
    }
}

impl BrokerState {
    /// Returns whether a job works on the broker.
    pub(crate) fn is_busy(self) -> bool {
        matches!(self, Self::Synchronizing | Self::DeleteInProgress)
    }
}

rows! {
    ServiceBroker in "service_brokers" {
        name: String, url: String, username: String, password: Sealed,
        /// The space whose members alone use the broker. `None`: the broker belongs to the platform.
        space_guid: Option<String>, state: BrokerState, metadata: Json<Metadata>,
    }
}

/// The condition for instances of a broker's plans. `?` is the broker.
const OF_BROKER: &str = "service_plan_guid IN (SELECT p.guid FROM service_plans p JOIN service_offerings o ON o.guid = p.service_offering_guid WHERE o.service_broker_guid = ?)";

pub(crate) async fn is_name_taken(
    conn: &mut Connection,
    broker: &ServiceBroker,
) -> sqlx::Result<bool> {
    Select::new()
        .is("name", &broker.name)
        .and("guid <> ?", [(&broker.guid).into()])
        .exists::<ServiceBroker>(conn)
        .await
}

/// Returns the broker of an offering.
pub(crate) async fn of_offering(
    conn: &mut Connection,
    offering: &str,
) -> sqlx::Result<Option<ServiceBroker>> {
    let owns = "guid IN (SELECT service_broker_guid FROM service_offerings WHERE guid = ?)";
    Select::new().and(owns, [offering.into()]).first(conn).await
}

/// Returns the oldest broker of a space.
pub(crate) async fn first_of_space(
    conn: &mut Connection,
    space: &str,
) -> sqlx::Result<Option<ServiceBroker>> {
    Select::new().is("space_guid", space).first(conn).await
}

pub(crate) async fn count_in_space(
    conn: &mut Connection,
    space: Option<&str>,
) -> sqlx::Result<i64> {
    let select = match space {
        Some(space) => Select::new().is("space_guid", space),
        None => Select::new().that(Condition::new("space_guid IS NULL", [])),
    };
    select.count::<ServiceBroker>(conn).await
}

/// Returns whether an instance of one of the broker's plans exists.
pub(crate) async fn has_instances(conn: &mut Connection, broker: &str) -> sqlx::Result<bool> {
    Select::new()
        .and(OF_BROKER, [broker.into()])
        .exists::<ServiceInstance>(conn)
        .await
}

/// Returns the ids of the clients of the UAA that a broker owns.
pub(crate) async fn dashboard_clients(
    conn: &mut Connection,
    broker: &str,
) -> sqlx::Result<Vec<String>> {
    let rows = query(
        "SELECT uaa_id FROM service_dashboard_clients WHERE service_broker_guid = $1 ORDER BY id",
    )
    .bind(broker)
    .fetch_all(conn)
    .await?;
    Ok(readable_rows(&rows, |row| row.try_get("uaa_id")))
}

/// Returns which of some clients of the UAA belong to the Cloud Controller, and which of them to another broker that exists.
pub(crate) async fn owned_clients(
    conn: &mut Connection,
    broker: &str,
    clients: &[String],
) -> sqlx::Result<Vec<(String, bool)>> {
    let sql = "SELECT c.uaa_id, (SELECT COUNT(*) FROM service_brokers b WHERE b.guid = c.service_broker_guid AND b.guid <> $1)
        FROM service_dashboard_clients c WHERE c.uaa_id IN LIST($2) ORDER BY c.id";
    let rows = query(sql)
        .bind(broker)
        .bind(clients)
        .fetch_all(conn)
        .await?;
    Ok(readable_rows(&rows, |row| {
        let others: i64 = row.try_get(1)?;
        Ok((row.try_get(0)?, others > 0))
    }))
}

/// Makes a broker the owner of a client of the UAA.
pub(crate) async fn claim_client(
    conn: &mut Connection,
    broker: &str,
    client: &str,
) -> sqlx::Result<()> {
    let sql = "INSERT INTO service_dashboard_clients (uaa_id, service_broker_guid) VALUES ($1, $2)
        ON CONFLICT (uaa_id) DO UPDATE SET service_broker_guid = excluded.service_broker_guid";
    execute(conn, sql, &[Arg::from(client), broker.into()])
        .await
        .map(drop)
}

pub(crate) async fn release_client(
    conn: &mut Connection,
    broker: &str,
    client: &str,
) -> sqlx::Result<()> {
    let sql =
        "DELETE FROM service_dashboard_clients WHERE uaa_id = $1 AND service_broker_guid = $2";
    execute(conn, sql, &[Arg::from(client), broker.into()])
        .await
        .map(drop)
}
