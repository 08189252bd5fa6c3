//! The enforcement of quotas of organizations and spaces: [`Meter`] measures before a change, and refuses it when something
//! grows beyond its limit. What is in use may stay, even under a lower quota; a reduction is always allowed.
//!
//! Every verb in `actions` that uses something up creates a meter. The texts of refusals are those that clients know.

use crate::db::app::App;
use crate::db::organization::Organization;
use crate::db::organization_quota::OrganizationQuota;
use crate::db::space::Space;
use crate::db::space_quota::SpaceQuota;
use crate::db::usage::{self, AppUsage, RouteUsage, Scope};
use crate::db::{self, Connection, process};
use crate::error::{ApiError, ApiResult};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;

pub(crate) mod services;

/// The limits of one quota; `None` means unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub memory_in_mb: Option<i64>,
    pub instance_memory_in_mb: Option<i64>,
    pub instances: Option<i64>,
    pub tasks: Option<i64>,
    pub log_rate: Option<i64>,
    pub routes: Option<i64>,
    pub reserved_ports: Option<i64>,
    pub domains: Option<i64>,
}

impl Limits {
    /// Reads the limits from the API's object.
    pub(crate) fn read(json: &Value) -> Self {
        let limit = |path: &str| json.pointer(path).and_then(Value::as_i64);
        Self {
            memory_in_mb: limit("/apps/total_memory_in_mb"),
            instance_memory_in_mb: limit("/apps/per_process_memory_in_mb"),
            instances: limit("/apps/total_instances"),
            tasks: limit("/apps/per_app_tasks"),
            log_rate: limit("/apps/log_rate_limit_in_bytes_per_second"),
            routes: limit("/routes/total_routes"),
            reserved_ports: limit("/routes/total_reserved_ports"),
            domains: limit("/domains/total_domains"),
        }
    }
}

/// The limits of the quota that organizations have at first; `None` means unlimited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DefaultQuota {
    pub total_memory_in_mb: Option<u32>,
    pub per_process_memory_in_mb: Option<u32>,
    pub total_instances: Option<u32>,
    pub per_app_tasks: Option<u32>,
    pub log_rate_limit_in_bytes_per_second: Option<u64>,
    pub total_service_instances: Option<u32>,
    pub total_routes: Option<u32>,
    pub total_reserved_ports: Option<u32>,
    pub total_domains: Option<u32>,
}

impl Default for DefaultQuota {
    fn default() -> Self {
        Self {
            total_memory_in_mb: Some(100 << 10),
            per_process_memory_in_mb: None,
            total_instances: Some(1000),
            per_app_tasks: Some(200),
            log_rate_limit_in_bytes_per_second: None,
            total_service_instances: Some(100),
            total_routes: Some(1000),
            total_reserved_ports: Some(100),
            total_domains: Some(100),
        }
    }
}

impl DefaultQuota {
    /// Returns the limits as the API's object.
    pub(crate) fn json(&self) -> Value {
        json!({
            "apps": {
                "total_memory_in_mb": self.total_memory_in_mb,
                "per_process_memory_in_mb": self.per_process_memory_in_mb,
                "total_instances": self.total_instances,
                "per_app_tasks": self.per_app_tasks,
                "log_rate_limit_in_bytes_per_second": self.log_rate_limit_in_bytes_per_second,
            },
            "services": {
                "paid_services_allowed": true,
                "total_service_instances": self.total_service_instances,
                "total_service_keys": null,
            },
            "routes": {
                "total_routes": self.total_routes,
                "total_reserved_ports": self.total_reserved_ports,
            },
            "domains": { "total_domains": self.total_domains },
        })
    }
}

/// Sets limits on a default quota that an older version stored without limits. The limits leave room for all that is in use.
pub(crate) async fn make_finite(
    conn: &mut Connection,
    quota: &mut OrganizationQuota,
    wanted: &DefaultQuota,
) -> ApiResult<()> {
    if quota.limits.0 != unlimited() {
        return Ok(());
    }
    let mut limits = wanted.json();
    for organization in db::organization::of_quota(conn, &quota.guid).await? {
        let scope = Scope::Organization(&organization.guid);
        let apps = usage::of_apps(conn, scope).await?;
        let routes = usage::of_routes(conn, scope).await?;
        let domains = usage::private_domains(conn, scope).await?;
        for (path, used) in [
            ("/apps/total_memory_in_mb", apps.memory_in_mb),
            ("/apps/total_instances", apps.instances),
            ("/apps/per_app_tasks", apps.tasks),
            ("/routes/total_routes", routes.routes),
            ("/routes/total_reserved_ports", routes.reserved_ports),
            ("/domains/total_domains", domains),
        ] {
            if let Some(limit) = limits.pointer_mut(path)
                && limit.as_i64().is_some_and(|limit| limit < used)
            {
                *limit = json!(used.min(i64::from(i32::MAX)));
            }
        }
    }
    quota.limits.0 = limits;
    quota.touch();
    db::update(conn, quota).await?;
    Ok(())
}

/// Returns the API's object without limits.
pub(crate) fn unlimited() -> Value {
    json!({
        "apps": { "total_memory_in_mb": null, "per_process_memory_in_mb": null, "total_instances": null, "per_app_tasks": null, "log_rate_limit_in_bytes_per_second": null },
        "services": { "paid_services_allowed": true, "total_service_instances": null, "total_service_keys": null },
        "routes": { "total_routes": null, "total_reserved_ports": null },
        "domains": { "total_domains": null },
    })
}

/// Refuses a limit on logs for places in which something runs whose logs are not limited.
pub(crate) async fn must_limit_logs<'a>(
    conn: &mut Connection,
    limits: &Limits,
    places: impl Iterator<Item = Scope<'a>>,
) -> ApiResult<()> {
    if limits.log_rate.is_none() {
        return Ok(());
    }
    for place in places {
        if usage::of_apps(conn, place).await?.unlimited_logs > 0 {
            return Err(ApiError::unprocessable(
                "Current usage exceeds new quota values. The quota limits logs and is applied to a place with apps running with an unlimited log rate limit.",
            ));
        }
    }
    Ok(())
}

/// The kind of resource that a change uses up. It decides which limits are checked and which text a refusal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Process,
    Task,
    Route,
    Domain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Space,
    Organization,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Space => "space",
            Self::Organization => "organization",
        }
    }
    /// Returns the prefix that turns `quota_exceeded` into `space_quota_exceeded`.
    fn prefix(self) -> &'static str {
        match self {
            Self::Space => "space_",
            Self::Organization => "",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    apps: AppUsage,
    routes: RouteUsage,
    domains: i64,
}

/// A place with a quota, and what was in use there before the change.
#[derive(Clone, Debug)]
struct Place {
    kind: Kind,
    guid: String,
    name: String,
    limits: Limits,
    before: Usage,
}

impl Place {
    fn scope(&self) -> Scope<'_> {
        match self.kind {
            Kind::Space => Scope::Space(&self.guid),
            Kind::Organization => Scope::Organization(&self.guid),
        }
    }

    async fn measure(&self, conn: &mut Connection) -> ApiResult<Usage> {
        Ok(Usage {
            apps: usage::of_apps(conn, self.scope()).await?,
            routes: usage::of_routes(conn, self.scope()).await?,
            domains: usage::private_domains(conn, self.scope()).await?,
        })
    }
}

/// A measurement before a change, with which the change is checked against the quotas of its place.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    places: Vec<Place>,
    /// The guid of the app, and the memory of one instance of each of its started processes, before the change.
    app: Option<(String, HashMap<String, i64>)>,
}

impl Meter {
    pub(crate) async fn of_space(conn: &mut Connection, space: &Space) -> ApiResult<Self> {
        let mut meter = Self::of_organization(conn, &space.organization_guid).await?;
        let quota = match &space.quota_guid {
            Some(guid) => db::by_guid::<SpaceQuota>(conn, guid).await?,
            None => None,
        };
        if let Some(quota) = quota {
            let limits = Limits::read(&quota.limits.0);
            meter
                .add(conn, Kind::Space, &space.guid, &space.name, limits)
                .await?;
            meter.places.reverse();
        }
        Ok(meter)
    }

    pub(crate) async fn of_organization(conn: &mut Connection, guid: &str) -> ApiResult<Self> {
        let mut meter = Self {
            places: Vec::new(),
            app: None,
        };
        let Some(organization) = db::by_guid::<Organization>(conn, guid).await? else {
            return Ok(meter);
        };
        let quota: Option<OrganizationQuota> = db::by_guid(conn, &organization.quota_guid).await?;
        let limits = quota.map_or_else(Limits::default, |quota| Limits::read(&quota.limits.0));
        meter
            .add(conn, Kind::Organization, guid, &organization.name, limits)
            .await?;
        Ok(meter)
    }

    /// Measures the app's space, and also the memory of one instance of each of the app's processes.
    pub(crate) async fn of_app(conn: &mut Connection, app: &App) -> ApiResult<Self> {
        let Some(space) = db::by_guid::<Space>(conn, &app.space_guid).await? else {
            return Err(ApiError::not_found("Space"));
        };
        let mut meter = Self::of_space(conn, &space).await?;
        let memory = started_memory(conn, &app.guid).await?;
        meter.app = Some((app.guid.clone(), memory));
        Ok(meter)
    }

    async fn add(
        &mut self,
        conn: &mut Connection,
        kind: Kind,
        guid: &str,
        name: &str,
        limits: Limits,
    ) -> ApiResult<()> {
        let mut place = Place {
            kind,
            guid: guid.to_owned(),
            name: name.to_owned(),
            limits,
            before: Usage::default(),
        };
        place.before = place.measure(conn).await?;
        self.places.push(place);
        Ok(())
    }

    /// Refuses the change if it exceeds a limit. Callers call it after the change and before the commit.
    pub(crate) async fn check(&self, conn: &mut Connection, subject: Subject) -> ApiResult<()> {
        self.check_with(conn, subject, AppUsage::default()).await
    }

    /// Refuses the change if it exceeds a limit, like `check`. `more` is what this change will use in addition later.
    pub(crate) async fn check_with(
        &self,
        conn: &mut Connection,
        subject: Subject,
        more: AppUsage,
    ) -> ApiResult<()> {
        let largest = self.largest_new_instance(conn).await?;
        let mut problems = Vec::new();
        for place in &self.places {
            let mut after = place.measure(conn).await?;
            after.apps.memory_in_mb = after.apps.memory_in_mb.saturating_add(more.memory_in_mb);
            after.apps.instances = after.apps.instances.saturating_add(more.instances);
            after.apps.log_rate = after.apps.log_rate.saturating_add(more.log_rate);
            problems.extend(exceeded(place, &after, subject, largest));
        }
        refuse(problems)
    }

    /// Refuses a task whose container needs more memory than one instance may have.
    pub(crate) fn check_container(&self, memory_in_mb: i64) -> ApiResult<()> {
        let problems = self
            .places
            .iter()
            .filter(|place| exceeds(place.limits.instance_memory_in_mb, memory_in_mb, 0))
            .map(|place| {
                let kind = place.kind.name();
                format!(
                    "memory_in_mb exceeds {kind} instance memory quota{}",
                    limit_text(place, place.limits.instance_memory_in_mb, "MB")
                )
            })
            .collect();
        refuse(problems)
    }

    /// Refuses a build whose container has no room beside what runs and what is already being staged.
    pub(crate) fn check_staging(&self, memory_in_mb: i64) -> ApiResult<()> {
        for place in &self.places {
            let used = place
                .before
                .apps
                .memory_in_mb
                .saturating_add(place.before.apps.staging_in_mb);
            if exceeds(
                place.limits.memory_in_mb,
                used.saturating_add(memory_in_mb),
                used,
            ) {
                return Err(ApiError::unprocessable(format!(
                    "{}'s memory limit exceeded: staging requires {memory_in_mb}M memory{}",
                    place.kind.name(),
                    limit_text(place, place.limits.memory_in_mb, "MB")
                )));
            }
        }
        Ok(())
    }

    /// Returns the largest memory that an instance of the app has now and did not have before.
    async fn largest_new_instance(&self, conn: &mut Connection) -> ApiResult<i64> {
        let Some((app, before)) = &self.app else {
            return Ok(0);
        };
        let now = started_memory(conn, app).await?;
        Ok(now
            .into_iter()
            .filter(|(guid, memory)| before.get(guid).is_none_or(|before| memory > before))
            .map(|(_, memory)| memory)
            .max()
            .unwrap_or_default())
    }
}

async fn started_memory(conn: &mut Connection, app: &str) -> ApiResult<HashMap<String, i64>> {
    let started = db::by_guid::<App>(conn, app)
        .await?
        .is_some_and(|app| app.is_started());
    if !started {
        return Ok(HashMap::new());
    }
    Ok(process::of_app(conn, app)
        .await?
        .into_iter()
        .filter(|process| process.instances > 0)
        .map(|process| (process.guid, process.memory_in_mb))
        .collect())
}

fn refuse(problems: Vec<String>) -> ApiResult<()> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ApiError::unprocessable(problems.join(", ")))
    }
}

/// Returns whether something grew and now exceeds its limit.
fn exceeds(limit: Option<i64>, after: i64, before: i64) -> bool {
    limit.is_some_and(|limit| after > limit) && after > before
}

/// Formats the limit for a refusal: ` (the quota of organization 'demo' allows 1024 MB)`.
fn limit_text(place: &Place, limit: Option<i64>, unit: &str) -> String {
    let limit = limit.unwrap_or_default();
    let unit = if unit.is_empty() {
        String::new()
    } else {
        format!(" {unit}")
    };
    format!(
        " (the quota of {} '{}' allows {limit}{unit})",
        place.kind.name(),
        place.name
    )
}

/// Returns the limits of a place that the change exceeds, as texts. This function is pure.
fn exceeded(place: &Place, after: &Usage, subject: Subject, largest_instance: i64) -> Vec<String> {
    let (limits, before, kind) = (&place.limits, &place.before, place.kind);
    let (name, prefix) = (kind.name(), kind.prefix());
    let memory = exceeds(
        limits.memory_in_mb,
        after.apps.memory_in_mb,
        before.apps.memory_in_mb,
    );
    let log_rate = exceeds(limits.log_rate, after.apps.log_rate, before.apps.log_rate);
    let unlimited_logs =
        limits.log_rate.is_some() && after.apps.unlimited_logs > before.apps.unlimited_logs;
    let mut problems = Vec::new();
    let mut note = |exceeded: bool, text: String, limit: Option<i64>, unit: &str| {
        if exceeded {
            problems.push(format!("{text}{}", limit_text(place, limit, unit)));
        }
    };
    match subject {
        Subject::Process => {
            note(
                memory,
                format!("memory {prefix}quota_exceeded"),
                limits.memory_in_mb,
                "MB",
            );
            let instance = exceeds(limits.instance_memory_in_mb, largest_instance, 0);
            let text = format!("memory {prefix}instance_memory_limit_exceeded");
            note(instance, text, limits.instance_memory_in_mb, "MB");
            let instances = exceeds(
                limits.instances,
                after.apps.instances,
                before.apps.instances,
            );
            let text = format!("app_instance_limit {prefix}app_instance_limit_exceeded");
            note(instances, text, limits.instances, "instances");
        }
        Subject::Task => {
            let text = format!("memory_in_mb exceeds {name} memory quota");
            note(memory, text, limits.memory_in_mb, "MB");
            let tasks = exceeds(limits.tasks, after.apps.tasks, before.apps.tasks);
            note(
                tasks,
                "app_task_limit quota exceeded".to_owned(),
                limits.tasks,
                "tasks",
            );
        }
        Subject::Route => {
            let place_name = format!("{name} '{}'.", place.name);
            let routes = exceeds(limits.routes, after.routes.routes, before.routes.routes);
            let text = format!("Routes quota exceeded for {place_name}");
            note(routes, text, limits.routes, "routes");
            let ports = exceeds(
                limits.reserved_ports,
                after.routes.reserved_ports,
                before.routes.reserved_ports,
            );
            let text = format!("Reserved route ports quota exceeded for {place_name}");
            note(ports, text, limits.reserved_ports, "ports");
        }
        Subject::Domain => {
            let domains = exceeds(limits.domains, after.domains, before.domains);
            let text = format!(
                "The number of private domains exceeds the quota for {name} \"{}\"",
                place.name
            );
            note(domains, text, limits.domains, "domains");
        }
    }
    if matches!(subject, Subject::Process | Subject::Task) {
        let text = format!(
            "log_rate_limit cannot be unlimited in {name} '{}'.",
            place.name
        );
        note(unlimited_logs, text, limits.log_rate, "bytes per second");
        let text = format!("log_rate_limit exceeds {name} log rate quota");
        note(log_rate, text, limits.log_rate, "bytes per second");
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(kind: Kind, limits: Limits, before: Usage) -> Place {
        Place {
            kind,
            guid: "g".into(),
            name: "demo".into(),
            limits,
            before,
        }
    }

    fn apps(memory_in_mb: i64, instances: i64) -> Usage {
        Usage {
            apps: AppUsage {
                memory_in_mb,
                instances,
                ..AppUsage::default()
            },
            ..Usage::default()
        }
    }

    #[test]
    fn growth_beyond_a_limit_is_refused_and_what_is_there_stays() {
        let limits = Limits {
            memory_in_mb: Some(100),
            instances: Some(2),
            ..Limits::default()
        };
        let check = |before: Usage, after: Usage| {
            exceeded(
                &place(Kind::Organization, limits, before),
                &after,
                Subject::Process,
                0,
            )
        };
        assert_eq!(check(apps(0, 0), apps(100, 2)), [""; 0]);
        let problems = check(apps(50, 2), apps(150, 3));
        assert!(
            problems[0].starts_with("memory quota_exceeded"),
            "{problems:?}"
        );
        assert!(problems[0].contains("'demo' allows 100 MB"), "{problems:?}");
        assert!(problems[1].starts_with("app_instance_limit app_instance_limit_exceeded"));
        assert_eq!(check(apps(900, 9), apps(900, 9)), [""; 0]);
        assert_eq!(check(apps(900, 9), apps(800, 8)), [""; 0]);
        assert_eq!(check(apps(900, 9), apps(900, 10)).len(), 1);
    }

    #[test]
    fn every_limit_has_its_text() {
        let limits = Limits {
            memory_in_mb: Some(0),
            instance_memory_in_mb: Some(0),
            instances: Some(0),
            tasks: Some(0),
            log_rate: Some(0),
            routes: Some(0),
            reserved_ports: Some(0),
            domains: Some(0),
        };
        let after = Usage {
            apps: AppUsage {
                instances: 1,
                memory_in_mb: 1,
                log_rate: 1,
                unlimited_logs: 1,
                tasks: 1,
                staging_in_mb: 0,
            },
            routes: RouteUsage {
                routes: 1,
                reserved_ports: 1,
            },
            domains: 1,
        };
        let texts = |kind, subject| {
            exceeded(&place(kind, limits, Usage::default()), &after, subject, 1).join("|")
        };
        let of_space = texts(Kind::Space, Subject::Process);
        for text in [
            "memory space_quota_exceeded",
            "memory space_instance_memory_limit_exceeded",
            "app_instance_limit space_app_instance_limit_exceeded",
            "log_rate_limit cannot be unlimited in space 'demo'.",
            "log_rate_limit exceeds space log rate quota",
        ] {
            assert!(of_space.contains(text), "{text}: {of_space}");
        }
        let task = texts(Kind::Organization, Subject::Task);
        assert!(
            task.contains("memory_in_mb exceeds organization memory quota"),
            "{task}"
        );
        assert!(task.contains("app_task_limit quota exceeded"), "{task}");
        let route = texts(Kind::Organization, Subject::Route);
        assert!(
            route.contains("Routes quota exceeded for organization 'demo'."),
            "{route}"
        );
        assert!(
            route.contains("Reserved route ports quota exceeded"),
            "{route}"
        );
        let domain = texts(Kind::Organization, Subject::Domain);
        assert!(
            domain.contains("exceeds the quota for organization \"demo\""),
            "{domain}"
        );
    }
}
