//! Quotas of organizations and of spaces: both kinds have the same limits and nearly the same commands.

use crate::api::Request;
use crate::api::types::Quota;
use crate::args::{Flag, Parsed, Spec, Usage, switch, value};
use crate::session::Session;
use crate::units;
use anyhow::{Context as _, Result, bail, ensure};
use go_values::quantity;
use reqwest::Method;
use serde_json::{Map, Value, json};

const ORG_GROUP: &str = "Org quotas";
const SPACE_GROUP: &str = "Space quotas";

const MEMORY: Flag = value(
    Some('m'),
    "memory",
    "MEMORY",
    "Memory of all apps together (1G; -1: no limit; a new quota without it: 0)",
);
const INSTANCE_MEMORY: Flag = value(
    Some('i'),
    "instance-memory",
    "MEMORY",
    "Memory of one instance (1G; -1: no limit)",
);
const INSTANCES: Flag = value(
    Some('a'),
    "app-instances",
    "N",
    "App instances together (-1: no limit)",
);
const ROUTES: Flag = value(
    Some('r'),
    "routes",
    "N",
    "Routes (-1: no limit; a new quota without it: 0)",
);
const SERVICES: Flag = value(
    Some('s'),
    "services",
    "N",
    "Service instances (-1: no limit; a new quota without it: 0)",
);
const PORTS: Flag = value(
    None,
    "reserved-route-ports",
    "N",
    "Ports reserved by routes (-1: no limit; a new quota without it: 0)",
);
const LOG_RATE: Flag = value(
    Some('l'),
    "log-rate-limit",
    "RATE",
    "Log bytes per second of all apps together (64K; -1: no limit)",
);
const PAID: Flag = switch(
    None,
    "allow-paid-service-plans",
    "Allow instances of paid service plans",
);
const NOT_PAID: Flag = switch(
    None,
    "disallow-paid-service-plans",
    "Forbid instances of paid service plans",
)
.not_with(&["allow-paid-service-plans"]);
const NAME: Flag = value(Some('n'), "name", "NEW_NAME", "New name");
const FORCE: Flag = switch(Some('f'), "force", "Delete without asking");

const CREATE: &[Flag] = &[
    MEMORY,
    INSTANCE_MEMORY,
    INSTANCES,
    ROUTES,
    SERVICES,
    PORTS,
    LOG_RATE,
    PAID,
];
const UPDATE: &[Flag] = &[
    MEMORY,
    INSTANCE_MEMORY,
    INSTANCES,
    ROUTES,
    SERVICES,
    PORTS,
    LOG_RATE,
    PAID,
    NOT_PAID,
    NAME,
];

const fn spec(
    (name, alias): (&'static str, &'static str),
    group: &'static str,
    about: &'static str,
    args: &'static [&'static str],
    flags: &'static [Flag],
    examples: &'static [&'static str],
) -> Spec {
    Spec {
        name,
        alias,
        group,
        about,
        args,
        flags,
        examples,
    }
}

pub(super) const ORGANIZATION: &[Spec] = &[
    spec(
        ("org-quotas", "quotas"),
        ORG_GROUP,
        "List all org quotas",
        &[],
        &[],
        &["cf org-quotas"],
    ),
    spec(
        ("org-quota", "quota"),
        ORG_GROUP,
        "Show an org quota",
        &["QUOTA"],
        &[],
        &["cf org-quota default"],
    ),
    spec(
        ("create-org-quota", "create-quota"),
        ORG_GROUP,
        "Define a new quota for orgs",
        &["QUOTA"],
        CREATE,
        &["cf create-org-quota small -m 2G -r 20 -a 10"],
    ),
    spec(
        ("update-org-quota", "update-quota"),
        ORG_GROUP,
        "Change an org quota",
        &["QUOTA"],
        UPDATE,
        &["cf update-org-quota small -m 4G"],
    ),
    spec(
        ("delete-org-quota", "delete-quota"),
        ORG_GROUP,
        "Delete an org quota",
        &["QUOTA"],
        &[FORCE],
        &["cf delete-org-quota small -f"],
    ),
    spec(
        ("set-org-quota", "set-quota"),
        ORG_GROUP,
        "Assign a quota to an org",
        &["ORG", "QUOTA"],
        &[],
        &["cf set-org-quota my-org small"],
    ),
];

pub(super) const SPACE: &[Spec] = &[
    spec(
        ("space-quotas", ""),
        SPACE_GROUP,
        "List the space quotas of the targeted org",
        &[],
        &[],
        &["cf space-quotas"],
    ),
    spec(
        ("space-quota", ""),
        SPACE_GROUP,
        "Show a space quota of the targeted org",
        &["QUOTA"],
        &[],
        &["cf space-quota small"],
    ),
    spec(
        ("create-space-quota", ""),
        SPACE_GROUP,
        "Define a new quota for spaces of the targeted org",
        &["QUOTA"],
        CREATE,
        &["cf create-space-quota small -m 1G -r 10"],
    ),
    spec(
        ("update-space-quota", ""),
        SPACE_GROUP,
        "Change a space quota of the targeted org",
        &["QUOTA"],
        UPDATE,
        &["cf update-space-quota small -m 2G"],
    ),
    spec(
        ("delete-space-quota", ""),
        SPACE_GROUP,
        "Delete a space quota of the targeted org",
        &["QUOTA"],
        &[FORCE],
        &["cf delete-space-quota small -f"],
    ),
    spec(
        ("set-space-quota", ""),
        SPACE_GROUP,
        "Assign a quota to a space of the targeted org",
        &["SPACE", "QUOTA"],
        &[],
        &["cf set-space-quota my-space small"],
    ),
    spec(
        ("unset-space-quota", ""),
        SPACE_GROUP,
        "Remove the quota of a space of the targeted org",
        &["SPACE", "QUOTA"],
        &[],
        &["cf unset-space-quota my-space small"],
    ),
];

pub(super) fn is_of(command: &str) -> bool {
    let mut all = ORGANIZATION.iter().chain(SPACE);
    all.any(|spec| spec.name == command)
}

/// One of the two kinds of quotas, and the user who calls the command.
struct Kind {
    path: &'static str,
    noun: &'static str,
    /// The org of the space quotas; `None` for organization quotas.
    org: Option<crate::config::Organization>,
    user: String,
}

impl Kind {
    fn of(s: &Session, spec: &Spec) -> Result<Self> {
        if spec.group == ORG_GROUP {
            return Ok(Self {
                path: "/v3/organization_quotas",
                noun: "org quota",
                org: None,
                user: s.require_login()?,
            });
        }
        let target = s.require_org()?;
        Ok(Self {
            path: "/v3/space_quotas",
            noun: "space quota",
            org: Some(target.org),
            user: target.user,
        })
    }

    /// Returns the filters of a list.
    fn place(&self) -> Vec<(&str, &str)> {
        let org = self.org.iter();
        org.map(|org| ("organization_guids", org.guid.as_str()))
            .collect()
    }

    async fn find(&self, s: &Session, name: &str) -> Result<Option<Quota>> {
        let name = crate::api::filter(name);
        let mut query = self.place();
        query.push(("names", &name));
        s.first(self.path, &query).await
    }

    async fn get(&self, s: &Session, name: &str) -> Result<Quota> {
        let noun = match self.org {
            Some(_) => "Space quota",
            None => "Organization quota",
        };
        self.find(s, name)
            .await?
            .with_context(|| format!("{noun} with name '{name}' not found."))
    }

    fn announce(&self, s: &Session, doing: &str, name: &str) {
        let text = format!("{doing} {} {{}} as {{}}...", self.noun);
        s.ui.flavor(&text, &[name, &self.user]);
    }
}

pub(super) async fn run(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let kind = Kind::of(s, spec)?;
    match spec.name.split_once('-').map_or("", |(verb, _)| verb) {
        "create" => create(s, &kind, p).await,
        "update" => update(s, &kind, p).await,
        "delete" => delete(s, &kind, p).await,
        "set" => set(s, &kind, p).await,
        "unset" => unset(s, &kind, p).await,
        _ if spec.args.is_empty() => list(s, &kind).await,
        _ => show(s, &kind, p).await,
    }
}

/// Parses a count; -1 and `unlimited` mean no limit.
fn count(flag: &str, text: &str) -> Result<Value> {
    if matches!(text, "-1" | "unlimited") {
        return Ok(Value::Null);
    }
    let number = text.parse::<u32>().ok().with_context(|| {
        Usage(format!(
            "invalid argument for flag `--{flag}' ({text:?}): it must be a whole number, or -1 for no limit"
        ))
    })?;
    Ok(number.into())
}

fn size(flag: &str, text: &str, in_bytes: bool) -> Result<Value> {
    match text {
        "-1" | "unlimited" => return Ok(Value::Null),
        "0" => return Ok(0.into()),
        _ => {}
    }
    let size = if in_bytes {
        quantity::bytes(text)
    } else {
        units::megabytes(text)
    };
    let size = size.with_context(|| {
        Usage(format!(
            "invalid argument for flag `--{flag}' ({text:?}): {}; -1 is no limit",
            units::QUANTITY
        ))
    })?;
    Ok(size.into())
}

/// Returns the limits that the flags set, by the API's groups `apps`, `services` and `routes`.
fn limits(p: &Parsed) -> Result<Map<String, Value>> {
    let mut groups = json!({"apps": {}, "services": {}, "routes": {}});
    let mut note = |group: &str, key: &str, value: Value| groups[group][key] = value;
    for (key, text) in [
        ("total_memory_in_mb", ("memory", p.get("memory"))),
        (
            "per_process_memory_in_mb",
            ("instance-memory", p.get("instance-memory")),
        ),
    ] {
        if let (flag, Some(text)) = text {
            note("apps", key, size(flag, text, false)?);
        }
    }
    if let Some(text) = p.get("log-rate-limit") {
        let rate = size("log-rate-limit", text, true)?;
        note("apps", "log_rate_limit_in_bytes_per_second", rate);
    }
    for (group, key, flag, text) in [
        (
            "apps",
            "total_instances",
            "app-instances",
            p.get("app-instances"),
        ),
        ("routes", "total_routes", "routes", p.get("routes")),
        (
            "routes",
            "total_reserved_ports",
            "reserved-route-ports",
            p.get("reserved-route-ports"),
        ),
        (
            "services",
            "total_service_instances",
            "services",
            p.get("services"),
        ),
    ] {
        if let Some(text) = text {
            note(group, key, count(flag, text)?);
        }
    }
    match (
        p.has("allow-paid-service-plans"),
        p.has("disallow-paid-service-plans"),
    ) {
        (true, _) => note("services", "paid_services_allowed", true.into()),
        (_, true) => note("services", "paid_services_allowed", false.into()),
        _ => {}
    }
    let groups = groups.as_object().cloned().unwrap_or_default();
    Ok(groups
        .into_iter()
        .filter(|(_, group)| group.as_object().is_some_and(|group| !group.is_empty()))
        .collect())
}

async fn create(s: &Session, kind: &Kind, p: &Parsed) -> Result<()> {
    let given = limits(p)?;
    let mut body = json!({
        "name": p.arg(0),
        "apps": {"total_memory_in_mb": 0},
        "services": {"total_service_instances": 0, "paid_services_allowed": false},
        "routes": {"total_routes": 0, "total_reserved_ports": 0},
    });
    for (group, values) in given {
        for (key, value) in values.as_object().into_iter().flatten() {
            body[&group][key] = value.clone();
        }
    }
    if let Some(org) = &kind.org {
        body["relationships"] = json!({"organization": {"data": {"guid": org.guid}}});
    }
    kind.announce(s, "Creating", p.arg(0));
    if kind.find(s, p.arg(0)).await?.is_some() {
        s.ui.warn(format!(
            "{} '{}' already exists; it was not changed.",
            kind.noun,
            p.arg(0)
        ));
        s.ui.ok();
        return p.end_early();
    }
    let _: Quota = s.post(kind.path, &body).await?;
    s.ui.ok();
    Ok(())
}

async fn update(s: &Session, kind: &Kind, p: &Parsed) -> Result<()> {
    let mut body = limits(p)?;
    if let Some(name) = p.get("name") {
        body.insert("name".to_owned(), name.into());
    }
    ensure!(
        !body.is_empty(),
        Usage("nothing to change: set a limit or --name".into())
    );
    let quota = kind.get(s, p.arg(0)).await?;
    kind.announce(s, "Updating", p.arg(0));
    let path = format!("{}/{}", kind.path, quota.guid);
    let _: Quota = s.patch(&path, &body).await?;
    s.ui.ok();
    Ok(())
}

async fn delete(s: &Session, kind: &Kind, p: &Parsed) -> Result<()> {
    let name = p.arg(0);
    let question = format!("Really delete the {} {}?", kind.noun, s.ui.named(name));
    if !p.has("force") && !s.ui.confirm(&question)? {
        s.ui.line(format!("{} '{name}' has not been deleted.", kind.noun));
        return p.end_early();
    }
    kind.announce(s, "Deleting", name);
    match kind.find(s, name).await? {
        None => s.ui.warn(format!("{} '{name}' does not exist.", kind.noun)),
        Some(quota) => s.delete(&format!("{}/{}", kind.path, quota.guid)).await?,
    }
    s.ui.ok();
    Ok(())
}

async fn set(s: &Session, kind: &Kind, p: &Parsed) -> Result<()> {
    let quota = kind.get(s, p.arg(1)).await?;
    let (guid, places) = match &kind.org {
        Some(org) => (s.space(p.arg(0), &org.guid).await?.guid, "spaces"),
        None => (s.org(p.arg(0)).await?.guid, "organizations"),
    };
    let text = format!("Setting {} {{}} to {{}} as {{}}...", kind.noun);
    s.ui.flavor(&text, &[&quota.name, p.arg(0), &kind.user]);
    let path = format!("{}/{}/relationships/{places}", kind.path, quota.guid);
    let _: Value = s.post(&path, &json!({"data": [{"guid": guid}]})).await?;
    s.ui.ok();
    Ok(())
}

async fn unset(s: &Session, kind: &Kind, p: &Parsed) -> Result<()> {
    let Some(org) = &kind.org else {
        bail!("an org always has a quota; use 'cf set-org-quota' to assign another");
    };
    let quota = kind.get(s, p.arg(1)).await?;
    let space = s.space(p.arg(0), &org.guid).await?;
    s.ui.flavor(
        "Unassigning space quota {} from space {} as {}...",
        &[&quota.name, &space.name, &kind.user],
    );
    let path = format!(
        "{}/{}/relationships/spaces/{}",
        kind.path, quota.guid, space.guid
    );
    s.call(Request::new(Method::DELETE, path)).await?;
    s.ui.ok();
    Ok(())
}

/// Returns the limits for people, in the order of [`HEADER`].
fn shown(quota: &Quota) -> Vec<String> {
    let megabytes = |value: Option<&Value>| match value.and_then(Value::as_u64) {
        Some(number) => quantity::show(number << 20),
        None => "unlimited".to_owned(),
    };
    let number = |value: Option<&Value>| match value.and_then(Value::as_u64) {
        Some(number) => number.to_string(),
        None => "unlimited".to_owned(),
    };
    let paid = quota
        .services
        .get("paid_services_allowed")
        .and_then(Value::as_bool)
        .unwrap_or_default();
    let rate = quota.apps.get("log_rate_limit_in_bytes_per_second");
    vec![
        quota.name.clone(),
        megabytes(quota.apps.get("total_memory_in_mb")),
        megabytes(quota.apps.get("per_process_memory_in_mb")),
        number(quota.routes.get("total_routes")),
        number(quota.services.get("total_service_instances")),
        if paid { "allowed" } else { "disallowed" }.to_owned(),
        number(quota.apps.get("total_instances")),
        number(quota.routes.get("total_reserved_ports")),
        units::log_rate_limit(rate.and_then(Value::as_i64).unwrap_or(-1)),
    ]
}

const HEADER: [&str; 9] = [
    "name",
    "total memory",
    "instance memory",
    "routes",
    "service instances",
    "paid service plans",
    "app instances",
    "route ports",
    "log volume per second",
];

async fn list(s: &Session, kind: &Kind) -> Result<()> {
    s.ui.flavor(&format!("Getting {}s as {{}}...", kind.noun), &[&kind.user]);
    s.ui.blank();
    let quotas: Vec<Quota> = s.list(kind.path, &kind.place()).await?;
    if quotas.is_empty() {
        s.ui.line(format!("No {}s found.", kind.noun));
        return Ok(());
    }
    s.ui.table("", &HEADER, quotas.iter().map(shown).collect());
    Ok(())
}

async fn show(s: &Session, kind: &Kind, p: &Parsed) -> Result<()> {
    kind.announce(s, "Getting", p.arg(0));
    s.ui.blank();
    let quota = kind.get(s, p.arg(0)).await?;
    let rows: Vec<(&str, String)> = HEADER.into_iter().zip(shown(&quota)).collect();
    s.ui.key_values(&rows);
    Ok(())
}
