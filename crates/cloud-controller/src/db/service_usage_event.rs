//! Usage events of services: which instances existed in which time, for billing.
//!
//! No verb writes them. Triggers note every instance that was made, renamed, moved to another plan or removed, and the commit compares
//! each with its last event, as it does for apps ([`super::usage_event`]).

use super::{Arg, Condition, Connection, execute, insert, rows, spelled};
use kit::db::{FromRow, Row, query, query_as, query_scalar};

spelled! {
    UsageState { Created = "CREATED", Updated = "UPDATED", Deleted = "DELETED" }
}

rows! {
    /// A usage event. An instance that a user provides has no plan, no offering and no broker.
    ServiceUsageEvent in "service_usage_events" {
        state: UsageState, service_instance_guid: String, service_instance_name: String, service_instance_type: String,
        space_guid: String, space_name: String, organization_guid: String, service_plan_guid: Option<String>, service_plan_name: Option<String>,
        service_offering_guid: Option<String>, service_offering_name: Option<String>, service_broker_guid: Option<String>,
        service_broker_name: Option<String>,
    }
}

/// The use of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Footprint {
    guid: String,
    name: String,
    kind: String,
    space_guid: String,
    space_name: String,
    organization_guid: String,
    plan: Option<(String, String)>,
    offering: Option<(String, String)>,
    broker: Option<(String, String)>,
}

impl FromRow for Footprint {
    fn from_row(row: &Row) -> sqlx::Result<Self> {
        let pair = |guid: &str, name: &str| -> sqlx::Result<Option<(String, String)>> {
            let guid: Option<String> = row.try_get(guid)?;
            let name: Option<String> = row.try_get(name)?;
            Ok(guid.zip(name))
        };
        Ok(Self {
            guid: row.try_get("service_instance_guid")?,
            name: row.try_get("service_instance_name")?,
            kind: row.try_get("service_instance_type")?,
            space_guid: row.try_get("space_guid")?,
            space_name: row.try_get("space_name")?,
            organization_guid: row.try_get("organization_guid")?,
            plan: pair("service_plan_guid", "service_plan_name")?,
            offering: pair("service_offering_guid", "service_offering_name")?,
            broker: pair("service_broker_guid", "service_broker_name")?,
        })
    }
}

impl Footprint {
    /// Returns the part of the use whose change is an event.
    fn billed(&self) -> (&str, Option<&str>) {
        let plan = self.plan.as_ref().map(|(guid, _)| guid.as_str());
        (&self.name, plan)
    }

    fn event(&self, state: UsageState) -> ServiceUsageEvent {
        let split = |pair: &Option<(String, String)>| pair.clone().unzip();
        let (service_plan_guid, service_plan_name) = split(&self.plan);
        let (service_offering_guid, service_offering_name) = split(&self.offering);
        let (service_broker_guid, service_broker_name) = split(&self.broker);
        ServiceUsageEvent {
            state,
            service_instance_guid: self.guid.clone(),
            service_instance_name: self.name.clone(),
            service_instance_type: self.kind.clone(),
            space_guid: self.space_guid.clone(),
            space_name: self.space_name.clone(),
            organization_guid: self.organization_guid.clone(),
            service_plan_guid,
            service_plan_name,
            service_offering_guid,
            service_offering_name,
            service_broker_guid,
            service_broker_name,
            ..ServiceUsageEvent::fresh()
        }
    }
}

/// Returns the state of the event that a change causes, if it causes one.
fn state(before: Option<&Footprint>, after: Option<&Footprint>) -> Option<UsageState> {
    match (before, after) {
        (None, Some(_)) => Some(UsageState::Created),
        (Some(_), None) => Some(UsageState::Deleted),
        (Some(before), Some(after)) if before.billed() != after.billed() => {
            Some(UsageState::Updated)
        }
        _ => None,
    }
}

macro_rules! present {
    () => {
        "SELECT i.guid AS service_instance_guid, i.name AS service_instance_name,
            CASE WHEN i.type = 'managed' THEN 'managed_service_instance' ELSE 'user_provided_service_instance' END AS service_instance_type,
            s.guid AS space_guid, s.name AS space_name, s.organization_guid AS organization_guid,
            p.guid AS service_plan_guid, p.name AS service_plan_name, o.guid AS service_offering_guid, o.name AS service_offering_name,
            b.guid AS service_broker_guid, b.name AS service_broker_name
         FROM service_instances i JOIN spaces s ON s.guid = i.space_guid
            LEFT JOIN service_plans p ON p.guid = i.service_plan_guid
            LEFT JOIN service_offerings o ON o.guid = p.service_offering_guid
            LEFT JOIN service_brokers b ON b.guid = o.service_broker_guid"
    };
}

/// Writes the event of an instance that changed in the transaction, if the change is one.
pub(super) async fn write_event_of(conn: &mut Connection, guid: &str) -> sqlx::Result<()> {
    let before: Option<Footprint> = query_as(
        "SELECT service_instance_guid, service_instance_name, service_instance_type, space_guid, space_name, organization_guid, service_plan_guid,
            service_plan_name, service_offering_guid, service_offering_name, service_broker_guid, service_broker_name
         FROM service_usage_footprints WHERE service_instance_guid = $1",
    )
    .bind(guid)
    .fetch_optional(&mut *conn)
    .await?;
    let after: Option<Footprint> = query_as(concat!(present!(), " WHERE i.guid = $1"))
        .bind(guid)
        .fetch_optional(&mut *conn)
        .await?;
    let Some(state) = state(before.as_ref(), after.as_ref()) else {
        return Ok(());
    };
    if let Some(subject) = after.as_ref().or(before.as_ref()) {
        insert(conn, &subject.event(state)).await?;
    }
    let forget = "DELETE FROM service_usage_footprints WHERE service_instance_guid = $1";
    execute(conn, forget, &[guid.into()]).await?;
    match after {
        Some(after) => store_footprint(conn, &after).await,
        None => Ok(()),
    }
}

async fn store_footprint(conn: &mut Connection, footprint: &Footprint) -> sqlx::Result<()> {
    let texts = |pair: &Option<(String, String)>| {
        let (guid, name) = pair.clone().unwrap_or_default();
        [Arg::from(guid), name.into()]
    };
    let [plan, plan_name] = texts(&footprint.plan);
    let [offering, offering_name] = texts(&footprint.offering);
    let [broker, broker_name] = texts(&footprint.broker);
    let args = [
        Arg::from(&footprint.guid),
        (&footprint.name).into(),
        (&footprint.kind).into(),
        (&footprint.space_guid).into(),
        (&footprint.space_name).into(),
        (&footprint.organization_guid).into(),
        plan,
        plan_name,
        offering,
        offering_name,
        broker,
        broker_name,
    ];
    let sql = "INSERT INTO service_usage_footprints (service_instance_guid, service_instance_name, service_instance_type, space_guid, space_name,
            organization_guid, service_plan_guid, service_plan_name, service_offering_guid, service_offering_name, service_broker_guid, service_broker_name)
        VALUES ($1, $2, $3, $4, $5, $6, NULLIF($7, ''), NULLIF($8, ''), NULLIF($9, ''), NULLIF($10, ''), NULLIF($11, ''), NULLIF($12, ''))";
    execute(conn, sql, &args).await.map(drop)
}

/// Deletes all events and writes one for each instance that exists.
pub(crate) async fn purge_and_reseed(conn: &mut Connection) -> sqlx::Result<()> {
    execute(conn, "DELETE FROM service_usage_events", &[]).await?;
    let existing = query(concat!(present!(), " ORDER BY i.id"))
        .fetch_all(&mut *conn)
        .await?;
    for footprint in super::readable_rows(&existing, Footprint::from_row) {
        insert(conn, &footprint.event(UsageState::Created)).await?;
    }
    Ok(())
}

/// Selects the events that follow a place in the order of events.
pub(crate) fn is_after(place: i64) -> Condition {
    Condition::new("id > ?", [place.into()])
}

/// Returns the place of an event in the order of all events.
pub(crate) async fn place_of(conn: &mut Connection, guid: &str) -> sqlx::Result<Option<i64>> {
    query_scalar("SELECT id FROM service_usage_events WHERE guid = $1")
        .bind(guid)
        .fetch_optional(conn)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(name: &str, plan: Option<&str>) -> Footprint {
        Footprint {
            name: name.to_owned(),
            plan: plan.map(|guid| (guid.to_owned(), "small".to_owned())),
            ..Footprint::default()
        }
    }

    #[test]
    fn an_instance_is_made_renamed_moved_and_removed() {
        let (small, renamed, large) = (
            footprint("a", Some("p")),
            footprint("b", Some("p")),
            footprint("a", Some("q")),
        );
        let created = Some(UsageState::Created);
        let updated = Some(UsageState::Updated);
        let deleted = Some(UsageState::Deleted);
        for (before, after, wanted) in [
            (None, Some(&small), created),
            (Some(&small), Some(&renamed), updated),
            (Some(&small), Some(&large), updated),
            (Some(&small), Some(&small), None),
            (Some(&small), None, deleted),
            (None, None, None),
        ] {
            assert_eq!(state(before, after), wanted, "{before:?} {after:?}");
        }
    }

    #[test]
    fn an_event_has_the_names_of_the_plan_and_of_what_is_above_it() {
        let event = footprint("a", Some("p")).event(UsageState::Created);
        assert_eq!(event.service_plan_guid.as_deref(), Some("p"));
        assert_eq!(event.service_plan_name.as_deref(), Some("small"));
        assert_eq!(event.service_broker_guid, None);
    }
}
