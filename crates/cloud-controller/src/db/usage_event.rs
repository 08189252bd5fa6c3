//! Usage events: what every app, task and staging used in which time, for billing.
//!
//! No verb writes them. Triggers note every process, task and build whose use may have changed, and the commit compares each
//! with its previously recorded use ([`write_events`]). So no path can change the use without an event. Service instances have events
//! of their own ([`service_usage_event`]), which the same commit writes.

use super::app::AppState;
use super::build::BuildState;
use super::task::TaskState;
use super::{Arg, Condition, Connection, execute, rows, service_usage_event};
use kit::db::{FromRow, Row, query, query_as, query_scalar};

rows! {
    /// A usage event. Memory is in MB per instance, beside the number of instances.
    AppUsageEvent in "app_usage_events" {
        state: String, previous_state: Option<String>, app_guid: String, app_name: String, process_guid: Option<String>, process_type: Option<String>,
        space_guid: String, space_name: String, organization_guid: String, buildpack_guid: Option<String>, buildpack_name: Option<String>,
        task_guid: Option<String>, task_name: Option<String>, memory_in_mb: i64, previous_memory_in_mb: Option<i64>, instances: i64,
        previous_instances: Option<i64>,
    }
}

/// The use of one process, task or build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Footprint {
    kind: String,
    guid: String,
    /// The state from its row. For a process it is the app's state.
    state: String,
    instances: i64,
    memory_in_mb: i64,
    /// The process type or task name.
    name: String,
    app_guid: String,
    app_name: String,
    space_guid: String,
    space_name: String,
    organization_guid: String,
    buildpack: Option<String>,
}

impl FromRow for Footprint {
    fn from_row(row: &Row) -> sqlx::Result<Self> {
        Ok(Self {
            kind: row.try_get("kind")?,
            guid: row.try_get("guid")?,
            state: row.try_get("state")?,
            instances: row.try_get("instances")?,
            memory_in_mb: row.try_get("memory_in_mb")?,
            name: row.try_get("name")?,
            app_guid: row.try_get("app_guid")?,
            app_name: row.try_get("app_name")?,
            space_guid: row.try_get("space_guid")?,
            space_name: row.try_get("space_name")?,
            organization_guid: row.try_get("organization_guid")?,
            buildpack: row.try_get("buildpack")?,
        })
    }
}

/// One row states what a process, task or build uses now, as the queries of [`present`] return it.
struct Present(Footprint);

impl FromRow for Present {
    fn from_row(row: &Row) -> sqlx::Result<Self> {
        let mut footprint = Footprint::from_row(row)?;
        footprint.buildpack = footprint.buildpack.and_then(|list| first_name(&list));
        Ok(Self(footprint))
    }
}

/// Returns the name of the first of a droplet's buildpacks. A droplet that cannot be read has none.
fn first_name(buildpacks: &str) -> Option<String> {
    let buildpacks: serde_json::Value = serde_json::from_str(buildpacks).ok()?;
    Some(buildpacks.get(0)?.get("name")?.as_str()?.to_owned())
}

impl Footprint {
    fn runs(&self) -> bool {
        match self.kind.as_str() {
            "process" => self.state == AppState::Started.as_str(),
            "task" => self.state == TaskState::Running.as_str(),
            _ => self.state == BuildState::Staging.as_str(),
        }
    }

    /// Returns whether it is a task that is being cancelled. Such a task still uses what it used before.
    fn is_canceling(&self) -> bool {
        self.kind == "task" && self.state == TaskState::Canceling.as_str()
    }
}

/// Returns the states and previous states of the events that a change causes.
fn events(
    before: Option<&Footprint>,
    after: Option<&Footprint>,
) -> Vec<(&'static str, Option<String>)> {
    let Some(subject) = after.or(before) else {
        return Vec::new();
    };
    let was = before.is_some_and(Footprint::runs);
    let is = after.is_some_and(Footprint::runs);
    let previous = before.map(|before| before.state.clone());
    match (subject.kind.as_str(), was, is) {
        ("process", false, true) => vec![("STARTED", previous)],
        ("process", true, false) => vec![("STOPPED", previous)],
        ("process", true, true) if size(before) != size(after) => vec![("STARTED", previous)],
        ("task", false, true) => vec![("TASK_STARTED", Some("PENDING".to_owned()))],
        ("task", true, false) => vec![("TASK_STOPPED", previous)],
        ("build", false, true) => vec![("STAGING_STARTED", Some("STAGING".to_owned()))],
        ("build", true, false) => {
            let mut events = vec![("STAGING_STOPPED", previous)];
            if after.is_some_and(|after| after.state == BuildState::Staged.as_str()) {
                events.push(("BUILDPACK_SET", Some("STAGED".to_owned())));
            }
            events
        }
        _ => Vec::new(),
    }
}

fn size(footprint: Option<&Footprint>) -> Option<(i64, i64)> {
    footprint.map(|footprint| (footprint.instances, footprint.memory_in_mb))
}

/// Writes the events of all that changed in the transaction. It is called before the commit.
pub(super) async fn write_events(conn: &mut Connection) -> sqlx::Result<()> {
    let changed = query("SELECT kind, guid FROM usage_changes ORDER BY id")
        .fetch_all(&mut *conn)
        .await?;
    if changed.is_empty() {
        return Ok(());
    }
    let changed: Vec<(String, String)> =
        super::readable_rows(&changed, |row| Ok((row.try_get(0)?, row.try_get(1)?)));
    for (kind, guid) in changed {
        let written = match kind.as_str() {
            "service_instance" => service_usage_event::write_event_of(conn, &guid).await,
            _ => write_events_of(conn, &kind, &guid).await,
        };
        match written {
            // A row that cannot be read has no events, so that the changes of others are committed.
            Err(error @ (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))) => {
                tracing::warn!(kind, guid, %error, "row-damaged");
            }
            written => written?,
        }
    }
    execute(conn, "DELETE FROM usage_changes", &[])
        .await
        .map(drop)
}

async fn write_events_of(conn: &mut Connection, kind: &str, guid: &str) -> sqlx::Result<()> {
    let before: Option<Footprint> =
        query_as("SELECT kind, guid, state, instances, memory_in_mb, name, app_guid, app_name, space_guid, space_name, organization_guid, buildpack
         FROM usage_footprints WHERE kind = $1 AND guid = $2")
            .bind(kind)
            .bind(guid)
            .fetch_optional(&mut *conn)
            .await?;
    let after: Option<Present> = query_as(present(kind))
        .bind(guid)
        .fetch_optional(&mut *conn)
        .await?;
    let after = after.map(|Present(footprint)| footprint);
    if after.as_ref().is_some_and(Footprint::is_canceling) {
        return Ok(());
    }
    for (state, previous) in events(before.as_ref(), after.as_ref()) {
        if let Some(subject) = after.as_ref().or(before.as_ref()) {
            let mut event = event(subject, state, previous);
            if let Some(before) = before.as_ref().filter(|_| subject.kind == "process") {
                event.previous_instances = Some(before.instances);
                event.previous_memory_in_mb = Some(before.memory_in_mb);
            }
            event.buildpack_guid = buildpack_guid(conn, subject.buildpack.as_deref()).await?;
            super::insert(conn, &event).await?;
        }
    }
    execute(
        conn,
        "DELETE FROM usage_footprints WHERE kind = $1 AND guid = $2",
        &[kind.into(), guid.into()],
    )
    .await?;
    match after {
        // After something has ended, its use cannot change any more.
        Some(after) if after.kind == "process" || after.runs() => {
            store_footprint(conn, &after).await
        }
        _ => Ok(()),
    }
}

fn event(subject: &Footprint, state: &str, previous_state: Option<String>) -> AppUsageEvent {
    let of = |kind: &str, text: &str| (subject.kind == kind).then(|| text.to_owned());
    AppUsageEvent {
        state: state.to_owned(),
        previous_state,
        app_guid: subject.app_guid.clone(),
        app_name: subject.app_name.clone(),
        process_guid: of("process", &subject.guid),
        process_type: of("process", &subject.name),
        space_guid: subject.space_guid.clone(),
        space_name: subject.space_name.clone(),
        organization_guid: subject.organization_guid.clone(),
        buildpack_name: subject.buildpack.clone(),
        task_guid: of("task", &subject.guid),
        task_name: of("task", &subject.name),
        memory_in_mb: subject.memory_in_mb,
        previous_memory_in_mb: Some(subject.memory_in_mb),
        instances: subject.instances,
        previous_instances: Some(subject.instances),
        ..AppUsageEvent::fresh()
    }
}

async fn buildpack_guid(conn: &mut Connection, name: Option<&str>) -> sqlx::Result<Option<String>> {
    query_scalar("SELECT guid FROM buildpacks WHERE name = $1 ORDER BY id LIMIT 1")
        .bind(name.unwrap_or_default().to_owned())
        .fetch_optional(conn)
        .await
}

async fn store_footprint(conn: &mut Connection, footprint: &Footprint) -> sqlx::Result<()> {
    let args = [
        Arg::from(&footprint.kind),
        (&footprint.guid).into(),
        (&footprint.state).into(),
        footprint.instances.into(),
        footprint.memory_in_mb.into(),
        (&footprint.name).into(),
        (&footprint.app_guid).into(),
        (&footprint.app_name).into(),
        (&footprint.space_guid).into(),
        (&footprint.space_name).into(),
        (&footprint.organization_guid).into(),
        footprint.buildpack.clone().unwrap_or_default().into(),
    ];
    let sql = "INSERT INTO usage_footprints (kind, guid, state, instances, memory_in_mb, name, app_guid, app_name, space_guid, space_name, organization_guid, buildpack)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, NULLIF($12, ''))";
    execute(conn, sql, &args).await.map(drop)
}

macro_rules! place {
    () => {
        "a.guid AS app_guid, a.name AS app_name, s.guid AS space_guid, s.name AS space_name, s.organization_guid AS organization_guid"
    };
}

macro_rules! processes {
    () => {
        concat!(
            "SELECT 'process' AS kind, p.guid AS guid, a.state AS state, p.instances AS instances, p.memory_in_mb AS memory_in_mb, p.type AS name, ",
            place!(),
            ", d.buildpacks AS buildpack FROM processes p JOIN apps a ON a.guid = p.app_guid JOIN spaces s ON s.guid = a.space_guid LEFT JOIN droplets d ON d.guid = a.droplet_guid"
        )
    };
}

/// Returns the query of what the row of a kind and guid (`$1`) uses now.
fn present(kind: &str) -> &'static str {
    match kind {
        "process" => concat!(processes!(), " WHERE p.guid = $1"),
        "task" => concat!(
            "SELECT 'task' AS kind, t.guid AS guid, t.state AS state, 1 AS instances, t.memory_in_mb AS memory_in_mb, t.name AS name, ",
            place!(),
            ", NULL AS buildpack FROM tasks t JOIN apps a ON a.guid = t.app_guid JOIN spaces s ON s.guid = a.space_guid WHERE t.guid = $1"
        ),
        _ => concat!(
            "SELECT 'build' AS kind, b.guid AS guid, b.state AS state, 1 AS instances, b.memory_in_mb AS memory_in_mb, '' AS name, ",
            place!(),
            ", d.buildpacks AS buildpack FROM builds b JOIN apps a ON a.guid = b.app_guid JOIN spaces s ON s.guid = a.space_guid LEFT JOIN droplets d ON d.guid = b.droplet_guid WHERE b.guid = $1"
        ),
    }
}

/// Deletes all events and writes one for each process that is started.
pub(crate) async fn purge_and_reseed(conn: &mut Connection) -> sqlx::Result<()> {
    execute(conn, "DELETE FROM app_usage_events", &[]).await?;
    let started = query(concat!(
        processes!(),
        " WHERE a.state = 'STARTED' ORDER BY p.id"
    ))
    .fetch_all(&mut *conn)
    .await?;
    let started = super::readable_rows(&started, Present::from_row);
    for Present(footprint) in &started {
        let mut event = event(footprint, "STARTED", Some("STARTED".to_owned()));
        event.buildpack_guid = buildpack_guid(conn, footprint.buildpack.as_deref()).await?;
        super::insert(conn, &event).await?;
    }
    Ok(())
}

/// Selects the events that follow a place in the order of events.
pub(crate) fn is_after(place: i64) -> Condition {
    Condition::new("id > ?", [place.into()])
}

/// Returns the place of an event in the order of all events.
pub(crate) async fn place_of(conn: &mut Connection, guid: &str) -> sqlx::Result<Option<i64>> {
    query_scalar("SELECT id FROM app_usage_events WHERE guid = $1")
        .bind(guid)
        .fetch_optional(conn)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(kind: &str, state: &str, instances: i64) -> Footprint {
        Footprint {
            kind: kind.into(),
            state: state.into(),
            instances,
            ..Footprint::default()
        }
    }

    /// Returns the states of the events, each with its previous state.
    fn check(before: Option<(&str, &str, i64)>, after: Option<(&str, &str, i64)>) -> Vec<String> {
        let of = |row: Option<(&str, &str, i64)>| {
            row.map(|(kind, state, instances)| footprint(kind, state, instances))
        };
        events(of(before).as_ref(), of(after).as_ref())
            .into_iter()
            .map(|(state, previous)| format!("{state} after {}", previous.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn processes_start_scale_and_stop() {
        let (stopped, one, two) = (
            Some(("process", "STOPPED", 1)),
            Some(("process", "STARTED", 1)),
            Some(("process", "STARTED", 2)),
        );
        assert!(check(None, stopped).is_empty());
        assert_eq!(check(stopped, one), ["STARTED after STOPPED"]);
        assert_eq!(check(one, two), ["STARTED after STARTED"]);
        assert!(check(one, one).is_empty());
        assert_eq!(check(two, stopped), ["STOPPED after STARTED"]);
        assert_eq!(check(two, None), ["STOPPED after STARTED"]);
        assert_eq!(check(None, one), ["STARTED after "]);
        assert!(check(stopped, None).is_empty());
    }

    #[test]
    fn tasks_and_builds_start_and_stop() {
        let running = Some(("task", "RUNNING", 1));
        assert_eq!(check(None, running), ["TASK_STARTED after PENDING"]);
        assert_eq!(
            check(running, Some(("task", "FAILED", 1))),
            ["TASK_STOPPED after RUNNING"]
        );
        assert_eq!(check(running, None), ["TASK_STOPPED after RUNNING"]);
        assert!(check(None, Some(("task", "FAILED", 1))).is_empty());
        let staging = Some(("build", "STAGING", 1));
        assert_eq!(check(None, staging), ["STAGING_STARTED after STAGING"]);
        assert_eq!(
            check(staging, Some(("build", "STAGED", 1))),
            [
                "STAGING_STOPPED after STAGING",
                "BUILDPACK_SET after STAGED"
            ]
        );
        assert_eq!(
            check(staging, Some(("build", "FAILED", 1))),
            ["STAGING_STOPPED after STAGING"]
        );
    }
}
