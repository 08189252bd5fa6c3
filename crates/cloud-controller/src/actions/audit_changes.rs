//! Writes the audit events of changes that affect several resources: the further effects of a manifest, a deletion or a new
//! droplet.

use super::audit::{
    Place, Target, also, of_app, of_app_by, of_app_in, of_route_by, record, record_of,
};
use crate::auth::Principal;
use crate::clock;
use crate::db::app::{self, App};
use crate::db::destination::{self, Destination};
use crate::db::domain::Domain;
use crate::db::organization::Organization;
use crate::db::process::{self, Process};
use crate::db::route::Route;
use crate::db::space::Space;
use crate::db::space_quota::SpaceQuota;
use crate::db::{self, Connection, Trail, Unrecorded};
use crate::error::ApiResult;
use serde_json::{Value, json};

/// Writes an event for each process of an app that did not exist before.
pub(crate) async fn new_processes(
    conn: &mut Connection,
    who: &Principal,
    app: &App,
    before: &[Process],
) -> ApiResult<()> {
    for process in process::of_app(conn, &app.guid).await? {
        if !before.iter().any(|other| other.guid == process.guid) {
            let data = json!({ "process_guid": process.guid, "process_type": process.r#type });
            also(of_app(conn, who, "audit.app.process.create", app, data).await?);
        }
    }
    Ok(())
}

/// Writes an event of the app for each destination that was added or removed.
pub(crate) async fn mappings(
    conn: &mut Connection,
    actor: Target<'_>,
    before: &[Destination],
    after: &[Destination],
    by_manifest: bool,
) -> ApiResult<Trail> {
    let absent = |destination: &&Destination, from: &[Destination]| {
        !from.iter().any(|other| other.guid == destination.guid)
    };
    let gone = before.iter().filter(|row| absent(row, after));
    let new = after.iter().filter(|row| absent(row, before));
    let events = gone
        .map(|row| ("audit.app.unmap-route", row))
        .chain(new.map(|row| ("audit.app.map-route", row)));
    let mut trail = Trail::from(Unrecorded::NothingChanged);
    for (kind, row) in events {
        let Some((app, space)) = app::with_space(conn, &row.app_guid).await? else {
            continue;
        };
        let mut data = json!({
            "route_guid": row.route_guid,
            "app_port": row.port.unwrap_or(8080),
            "destination_guid": row.guid,
            "process_type": row.process_type,
            "weight": row.weight,
            "protocol": row.protocol,
        });
        mark(&mut data, by_manifest);
        trail = of_app_in(conn, actor, kind, &app, &space, data).await?;
    }
    Ok(trail)
}

fn mark(data: &mut Value, by_manifest: bool) {
    if by_manifest {
        data["manifest_triggered"] = json!(true);
    }
}

/// Writes the event of an app that a job removes with its space. It is called before the removal.
pub(crate) async fn deleted_app(
    conn: &mut Connection,
    actor: Target<'_>,
    app: &App,
    space: &Space,
) -> ApiResult<Trail> {
    let kind = "audit.app.delete-request";
    of_app_in(conn, actor, kind, app, space, recursive()).await
}

/// Writes the event of a route that a job removes, in the space that owns the route. It is called before the removal.
pub(crate) async fn deleted_route(
    conn: &mut Connection,
    actor: Target<'_>,
    route: &Route,
) -> ApiResult<Trail> {
    let kind = "audit.route.delete-request";
    of_route_by(conn, actor, kind, route, recursive()).await
}

/// Writes the event of a domain that a job removes. It is called before the removal.
pub(crate) async fn deleted_domain(
    conn: &mut Connection,
    actor: Target<'_>,
    domain: &Domain,
) -> ApiResult<Trail> {
    let target = (domain.guid.as_str(), "domain", domain.name.as_str());
    let kind = "audit.domain.delete-request";
    let place = match &domain.organization_guid {
        Some(organization) => Place::Organization(organization),
        None => Place::Platform,
    };
    record_of(conn, actor, kind, target, place, json!({})).await
}

/// Writes the event of a space that a job removes. It is called before the removal.
pub(crate) async fn deleted_space(
    conn: &mut Connection,
    actor: Target<'_>,
    space: &Space,
) -> ApiResult<Trail> {
    let target = (space.guid.as_str(), "space", space.name.as_str());
    let kind = "audit.space.delete-request";
    record_of(conn, actor, kind, target, space, recursive()).await
}

/// Writes the event of an organization that a job removes. It is called before the removal.
pub(crate) async fn deleted_organization(
    conn: &mut Connection,
    actor: Target<'_>,
    organization: &Organization,
) -> ApiResult<Trail> {
    let (guid, name) = (organization.guid.as_str(), organization.name.as_str());
    let (kind, target) = (
        "audit.organization.delete-request",
        (guid, "organization", name),
    );
    record_of(conn, actor, kind, target, organization, json!({})).await
}

fn recursive() -> Value {
    json!({ "request": { "recursive": true } })
}

fn target_of(quota: &SpaceQuota) -> Target<'_> {
    (&quota.guid, "space_quota", &quota.name)
}

/// Writes an event of a space quota itself, which is seen in its organization.
pub(crate) async fn space_quota(
    conn: &mut Connection,
    who: &Principal,
    verb: &str,
    quota: &SpaceQuota,
) -> ApiResult<Trail> {
    let (kind, target) = (format!("audit.space_quota.{verb}"), target_of(quota));
    let place = Place::Organization(&quota.organization_guid);
    record(conn, who, &kind, target, place, json!({})).await
}

/// Writes an event for each space to which a space quota is applied, or from which it is removed. It is seen in that space.
pub(crate) async fn space_quota_of(
    conn: &mut Connection,
    who: &Principal,
    verb: &str,
    quota: &SpaceQuota,
    spaces: &[String],
) -> ApiResult<Trail> {
    let mut trail = Trail::from(Unrecorded::NothingChanged);
    for guid in spaces {
        if let Some(space) = db::by_guid::<Space>(conn, guid).await? {
            let (kind, target) = (format!("audit.space_quota.{verb}"), target_of(quota));
            trail = record(conn, who, &kind, target, &space, json!({})).await?;
        }
    }
    Ok(trail)
}

/// The state of an app before a manifest is applied to it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    exists: bool,
    at: i64,
    processes: Vec<Process>,
    destinations: Vec<Destination>,
}

impl Snapshot {
    /// Returns whether the app existed before the manifest.
    pub(crate) fn exists(&self) -> bool {
        self.exists
    }

    pub(crate) async fn of_name(
        conn: &mut Connection,
        space: &Space,
        name: &str,
    ) -> ApiResult<Self> {
        let app = app::by_name(conn, &space.guid, name).await?;
        let guid = app.as_ref().map_or("", |app| app.guid.as_str());
        Ok(Self {
            exists: app.is_some(),
            at: clock::now(),
            processes: process::of_app(conn, guid).await?,
            destinations: destination::of_app(conn, guid).await?,
        })
    }
}

/// Writes the events of what a manifest changed in an app.
pub(crate) async fn manifest(
    conn: &mut Connection,
    actor: Target<'_>,
    app: &App,
    before: &Snapshot,
) -> ApiResult<Trail> {
    let data = json!({ "manifest_triggered": true, "request": { "name": app.name } });
    let kind = if before.exists {
        "audit.app.update"
    } else {
        "audit.app.create"
    };
    also(of_app_by(conn, actor, kind, app, data).await?);
    manifest_processes(conn, actor, app, &before.processes).await?;
    let after = destination::of_app(conn, &app.guid).await?;
    for destination in &after {
        let route = db::by_guid::<Route>(conn, &destination.route_guid).await?;
        if let Some(route) = route.filter(|route| route.created_at >= before.at) {
            let data = json!({ "manifest_triggered": true });
            also(of_route_by(conn, actor, "audit.route.create", &route, data).await?);
        }
    }
    also(mappings(conn, actor, &before.destinations, &after, true).await?);
    of_app_by(conn, actor, "audit.app.apply_manifest", app, json!({})).await
}

async fn manifest_processes(
    conn: &mut Connection,
    actor: Target<'_>,
    app: &App,
    before: &[Process],
) -> ApiResult<()> {
    for process in process::of_app(conn, &app.guid).await? {
        let was = before.iter().find(|other| other.guid == process.guid);
        for verb in verbs(was, &process) {
            let mut data = json!({
                "manifest_triggered": true,
                "process_guid": process.guid,
                "process_type": process.r#type,
            });
            if verb == "scale" {
                data["request"] = json!({
                    "instances": process.instances,
                    "memory_in_mb": process.memory_in_mb,
                    "disk_in_mb": process.disk_in_mb,
                });
            }
            let kind = format!("audit.app.process.{verb}");
            also(of_app_by(conn, actor, &kind, app, data).await?);
        }
    }
    Ok(())
}

fn verbs(was: Option<&Process>, is: &Process) -> Vec<&'static str> {
    let Some(was) = was else {
        return vec!["create"];
    };
    let size = |process: &Process| {
        (
            process.instances,
            process.memory_in_mb,
            process.disk_in_mb,
            process.log_rate_limit,
        )
    };
    let mut verbs = Vec::new();
    if size(was) != size(is) {
        verbs.push("scale");
    }
    if was.command != is.command
        || was.health_check != is.health_check
        || was.readiness_health_check != is.readiness_health_check
    {
        verbs.push("update");
    }
    verbs
}
