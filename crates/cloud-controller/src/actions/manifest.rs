//! Applies manifests to a space, and generates the manifest of an app.

use super::audit::{self, Target};
use super::job::Progress;
use super::process::Wish;
use super::{
    app as apps_verbs, managed_binding, process as process_verbs, route as route_verbs,
    service_credential_binding as bindings, sidecar as sidecar_verbs,
};
use crate::change::Change;
use crate::controller::Settings;
use crate::db::app::{self, App, AppState};
use crate::db::buildpack;
use crate::db::destination::{self, Destination};
use crate::db::domain::{self, Domain};
use crate::db::job::Job;
use crate::db::process;
use crate::db::route::{self, Route};
use crate::db::service_instance;
use crate::db::sidecar;
use crate::db::space::Space;
use crate::db::{self, Connection, Json};
use crate::error::{ApiError, ApiResult};
use crate::flags::Flag;
use crate::quota::{Meter, Subject};
use crate::sealing::{Keyring, Sealed};
use cc_rules::manifest::{self, AppManifest, ProcessManifest, RouteManifest, megabytes_text};
use cc_rules::route_rules;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The input of a job that applies a manifest.
#[derive(Default, Serialize, Deserialize)]
struct Input {
    /// The text as it was posted. It contains the values of environment variables.
    manifest: String,
    /// Whether the caller is an administrator.
    admin: bool,
}

/// Returns the input of a job as it is stored.
pub(crate) fn input(
    keys: &Keyring,
    space_guid: &str,
    manifest: &[u8],
    admin: bool,
) -> ApiResult<Sealed> {
    let manifest = std::str::from_utf8(manifest)
        .map_err(|_| ApiError::unprocessable("Manifest must be in UTF-8"))?;
    let input = Input {
        manifest: manifest.to_owned(),
        admin,
    };
    Ok(keys.seal_as(space_guid, &input)?)
}

/// Applies the manifest of the next app. A job calls it until all apps are done. An app waits until the brokers have made the bindings
/// of the app before it. If an app fails, nothing of it is changed, and those before it stay as they are. Events are recorded in the
/// name of `actor`.
pub(crate) async fn apply_part(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    job: &Job,
) -> ApiResult<Progress> {
    let (space_guid, input) = (&job.resource_guid, job.input.as_ref());
    let unreadable = || ApiError::unprocessable("The manifest of the job cannot be read");
    let opened = settings
        .keys
        .open_as(space_guid, input.ok_or_else(unreadable)?);
    let input: Input = opened.map_err(|_| unreadable())?;
    let manifests = manifest::parse(&settings.limits, input.manifest.as_bytes())?;
    let at = usize::try_from(job.parts).unwrap_or(usize::MAX);
    let space = db::by_guid::<Space>(tx, space_guid)
        .await?
        .ok_or_else(|| ApiError::not_found("Space"))?;
    if let Some(previous) = at.checked_sub(1).and_then(|at| manifests.get(at))
        && !managed_binding::is_applied(tx, &space, previous).await?
    {
        return Ok(Progress::WAIT);
    }
    let Some(wanted) = manifests.get(at) else {
        return Ok(Progress::Done);
    };
    let before = audit::Snapshot::of_name(tx, &space, &wanted.name).await?;
    let of_app = |error: ApiError| match error.status.is_server_error() {
        true => error,
        false => error.prefixed(&format!("For application '{}': ", wanted.name)),
    };
    let app = apply(tx, settings, &space, input.admin, wanted).await;
    let app = app.map_err(of_app)?;
    let mut is_bound = true;
    for service in &wanted.services {
        let bound = bindings::apply(tx, settings, actor, (&app, &space), service).await;
        is_bound &= bound.map_err(of_app)?;
    }
    let deliverable = bindings::check_delivery(tx, &settings.keys, &app).await;
    deliverable.map_err(of_app)?;
    audit::also(audit::manifest(tx, actor, &app, &before).await?);
    if !before.exists() {
        tx.log_creation(&app.guid);
    }
    Ok((is_bound && at + 1 == manifests.len()).into())
}

/// Applies one app's manifest, and marks the processes whose instances or routes change. Returns the app.
async fn apply(
    tx: &mut Change,
    settings: &Settings,
    space: &Space,
    admin: bool,
    manifest: &AppManifest,
) -> ApiResult<App> {
    let mut app = match app::by_name(tx, &space.guid, &manifest.name).await? {
        Some(app) => app,
        None => {
            let app = apps_new(&manifest.name, space);
            apps_verbs::create(tx, settings, &app).await?;
            app
        }
    };
    let meter = Meter::of_app(tx, &app).await?;
    apps_verbs::set_features(&mut app, &manifest.features)?;
    for wanted in &manifest.processes {
        apply_process(tx, settings, &app, wanted).await?;
    }
    process_verbs::check_types(tx, settings, &app).await?;
    for wanted in &manifest.sidecars {
        sidecar_verbs::apply(tx, &settings.limits, &app, wanted.into()).await?;
    }
    if let Some(buildpacks) = &manifest.buildpacks {
        must_be_known(tx, buildpacks).await?;
        app.buildpacks.0.clone_from(buildpacks);
    }
    app.stack = manifest.stack.clone().or(app.stack);
    if let Some(metadata) = &manifest.metadata {
        app.metadata.0.merge(&settings.limits, metadata)?;
    }
    apps_verbs::set_environment(settings, &mut app, &manifest.env)?;
    apps_verbs::update_unmarked(tx, &mut app).await?;
    apply_routes(tx, settings, space, admin, &app, manifest).await?;
    meter.check(tx, Subject::Process).await?;
    meter.check(tx, Subject::Route).await?;
    Ok(app)
}

/// Refuses an unknown buildpack with the error text that clients know from manifests. Other requests have a different text.
async fn must_be_known(conn: &mut Connection, buildpacks: &[String]) -> ApiResult<()> {
    let known = buildpack::all(conn).await?;
    let is_known = |name: &&String| known.iter().any(|buildpack| &buildpack.name == *name);
    match buildpacks.iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => Err(ApiError::unprocessable(format!(
            "Specified unknown buildpack name: \"{name}\""
        ))),
    }
}

fn apps_new(name: &str, space: &Space) -> App {
    App {
        name: name.to_owned(),
        space_guid: space.guid.clone(),
        state: AppState::Stopped,
        lifecycle_type: "buildpack".to_owned(),
        enable_ssh: true,
        ..App::fresh()
    }
}

async fn apply_process(
    tx: &mut Change,
    settings: &Settings,
    app: &App,
    wanted: &ProcessManifest,
) -> ApiResult<()> {
    let mut process = match process::of_type(tx, &app.guid, &wanted.kind).await? {
        Some(process) => process,
        None => {
            let process = process_verbs::fresh(settings, app, &wanted.kind);
            db::insert(tx, &process).await?;
            process
        }
    };
    let check = |json: &Option<Value>, before: &Json<process::HealthCheck>, readiness| {
        json.as_ref()
            .map(|json| process_verbs::health_check(&before.0, json, readiness))
            .transpose()
    };
    let wish = Wish {
        command: wanted.command.clone(),
        user: wanted.user.clone(),
        instances: wanted.instances,
        memory_in_mb: wanted.memory_in_mb,
        disk_in_mb: wanted.disk_in_mb,
        log_rate_limit: wanted.log_rate_limit,
        health_check: check(&wanted.health_check, &process.health_check, false)?,
        readiness: check(&wanted.readiness, &process.readiness_health_check, true)?,
    };
    if process_verbs::change_unmetered(tx, settings, app, &mut process, wish).await? {
        tx.reconcile(process.guid);
    }
    Ok(())
}

async fn apply_routes(
    tx: &mut Change,
    settings: &Settings,
    space: &Space,
    admin: bool,
    app: &App,
    manifest: &AppManifest,
) -> ApiResult<()> {
    if manifest.no_route {
        return route_verbs::unmap_all(tx, app).await;
    }
    if let Some(routes) = &manifest.routes {
        for wanted in routes {
            let mapped = apply_route(tx, settings, space, admin, app, wanted).await;
            mapped.map_err(|error| error.prefixed(&format!("For route '{}': ", wanted.route)))?;
        }
        return Ok(());
    }
    if !(manifest.random_route || manifest.default_route)
        || !destination::of_app(tx, &app.guid).await?.is_empty()
    {
        return Ok(());
    }
    let domain = domain::default_for(tx, &space.organization_guid)
        .await?
        .ok_or_else(|| ApiError::unprocessable("No default domains available"))?;
    let host = if manifest.random_route {
        random_host(&app.name)
    } else {
        default_host(&app.name)?
    };
    let wanted = RouteManifest {
        route: route_rules::url(&host, &domain.name, "", 0),
        ..RouteManifest::default()
    };
    apply_route(tx, settings, space, admin, app, &wanted).await
}

async fn apply_route(
    tx: &mut Change,
    settings: &Settings,
    space: &Space,
    admin: bool,
    app: &App,
    wanted: &RouteManifest,
) -> ApiResult<()> {
    let text = route_rules::parse(&wanted.route)?;
    let (host, domain) = find_domain(tx, &text.authority, &wanted.route).await?;
    let mut route = match route::find(tx, &host, &domain.guid, &text.path, text.port).await? {
        Some(route) => route,
        None => {
            Flag::RouteCreation.must_be_on_for_all(tx).await?;
            if host == "*" && domain.organization_guid.is_none() {
                return Err(ApiError::not_authorized());
            }
            let (space_guid, domain_guid) = (space.guid.clone(), domain.guid.clone());
            let route = Route {
                host,
                path: text.path,
                port: text.port,
                domain_guid,
                space_guid,
                ..Route::fresh()
            };
            route_verbs::create_unmetered(tx, settings, &route, &domain, space, admin).await?;
            route
        }
    };
    if let Some(options) = &wanted.options {
        route_verbs::set_options(tx, &mut route, options).await?;
        route.touch();
        db::update(tx, &route).await?;
    }
    let before = destination::of_route(tx, &route.guid).await?;
    let is_here = |other: &&Destination| other.app_guid == app.guid && other.process_type == "web";
    match before.iter().find(is_here).cloned() {
        None => {
            let target = route_verbs::Target {
                app: app.clone(),
                process_type: "web".to_owned(),
                port: None,
                protocol: wanted.protocol.clone(),
                weight: None,
            };
            route_verbs::map(tx, settings, &route, &before, vec![target]).await?;
        }
        // Only the destination of this app changes; other apps keep their destinations of the route.
        Some(mut destination) => {
            let protocol = wanted.protocol.as_deref().map(route_verbs::protocol);
            let protocol = protocol.transpose()?;
            if let Some(protocol) = protocol.filter(|other| *other != destination.protocol) {
                route_verbs::set_protocol(tx, &mut destination, protocol).await?;
            }
        }
    }
    Ok(())
}

async fn find_domain(
    conn: &mut Connection,
    authority: &str,
    text: &str,
) -> ApiResult<(String, Domain)> {
    for (host, name) in route_rules::candidates(authority) {
        if let Some(domain) = domain::by_name(conn, &name).await? {
            return Ok((host, domain));
        }
    }
    Err(ApiError::unprocessable(format!(
        "No domains exist for route {text}"
    )))
}

fn default_host(app: &str) -> ApiResult<String> {
    let fits = app.len() <= 63
        && !app.is_empty()
        && app
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if fits {
        return Ok(app.to_owned());
    }
    Err(ApiError::unprocessable(format!(
        "Failed to create default route from app name: '{app}' is no host (letters, digits, '-' and '_', at most 63); name a route or use random-route"
    )))
}

fn random_host(app: &str) -> String {
    use rand::seq::IndexedRandom as _;
    const ADJECTIVES: &[&str] = &[
        "amber", "brave", "calm", "clever", "eager", "fair", "glad", "keen", "lively", "noble",
        "quick", "quiet", "rapid", "solid", "sunny", "warm",
    ];
    const NOUNS: &[&str] = &[
        "anvil", "badger", "crane", "dolphin", "ember", "falcon", "forge", "heron", "ingot",
        "kestrel", "ladle", "otter", "raven", "spark", "tiger", "wren",
    ];
    let mut rng = rand::rng();
    let word: String = app
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_')
        .take(36)
        .collect();
    let (adjective, noun) = (
        ADJECTIVES.choose(&mut rng).unwrap_or(&"calm"),
        NOUNS.choose(&mut rng).unwrap_or(&"otter"),
    );
    let tail: String = (0..2)
        .map(|_| char::from(b'a' + rand::random_range(0..26_u8)))
        .collect();
    format!(
        "{}-{adjective}-{noun}-{tail}",
        if word.is_empty() {
            "app"
        } else {
            word.as_str()
        }
    )
}

/// Returns an app as an entry of a manifest.
pub(crate) async fn generate(conn: &mut Connection, keys: &Keyring, app: &App) -> ApiResult<Value> {
    let mut entry = Map::new();
    entry.insert("name".to_owned(), json!(app.name));
    let stack = app.stack.as_deref().unwrap_or(cc_rules::buildpacks::STACK);
    entry.insert("stack".to_owned(), json!(stack));
    if !app.buildpacks.0.is_empty() {
        entry.insert("buildpacks".to_owned(), json!(app.buildpacks.0));
    }
    let variables = apps_verbs::environment(keys, app)?;
    if !variables.is_empty() {
        entry.insert("env".to_owned(), json!(variables));
    }
    if app.metadata.0 != cc_rules::metadata::Metadata::default() {
        entry.insert("metadata".to_owned(), app.metadata.0.present());
    }
    entry.insert("features".to_owned(), apps_verbs::features(app));
    let mut routes = Vec::new();
    for mapping in route::mappings(conn, &app.guid, "web").await? {
        let mut route = json!({ "route": route_rules::url(&mapping.host, &mapping.domain, &mapping.path, 0), "protocol": mapping.protocol });
        if let Some(options) = mapping.options {
            route["options"] = Value::Object(options);
        }
        routes.push(route);
    }
    if !routes.is_empty() {
        entry.insert("routes".to_owned(), Value::Array(routes));
    }
    let services = service_instance::names_of_app(conn, &app.guid).await?;
    if !services.is_empty() {
        entry.insert("services".to_owned(), json!(services));
    }
    let sidecars = sidecar::of_app(conn, &app.guid).await?;
    if !sidecars.is_empty() {
        let list = sidecars.iter().map(generate_sidecar).collect();
        entry.insert("sidecars".to_owned(), Value::Array(list));
    }
    let mut processes = Vec::new();
    for process in process::of_app(conn, &app.guid).await? {
        processes.push(generate_process(&process));
    }
    entry.insert("processes".to_owned(), Value::Array(processes));
    Ok(Value::Object(entry))
}

fn generate_sidecar(sidecar: &sidecar::Sidecar) -> Value {
    let mut entry = json!({
        "name": sidecar.name,
        "process_types": sidecar.process_types.0,
        "command": sidecar.command,
    });
    if let Some(memory) = sidecar.memory_in_mb {
        entry["memory"] = json!(megabytes_text(memory));
    }
    entry
}

fn generate_process(process: &process::Process) -> Value {
    let mut entry = json!({
        "type": process.r#type,
        "instances": process.instances,
        "memory": megabytes_text(process.memory_in_mb),
        "disk_quota": megabytes_text(process.disk_in_mb),
        "log-rate-limit-per-second": if process.log_rate_limit < 0 { json!(-1) } else { json!(format!("{}B", process.log_rate_limit)) },
        "health-check-type": process.health_check.0.r#type,
        "readiness-health-check-type": process.readiness_health_check.0.r#type,
    });
    let optional = [
        ("command", process.command.clone().map(Value::String)),
        ("user", process.user.clone().map(Value::String)),
        ("timeout", process.health_check.0.timeout.map(Value::from)),
        (
            "health-check-http-endpoint",
            process.health_check.0.endpoint.clone().map(Value::String),
        ),
        (
            "health-check-invocation-timeout",
            process.health_check.0.invocation_timeout.map(Value::from),
        ),
        (
            "health-check-interval",
            process.health_check.0.interval.map(Value::from),
        ),
        (
            "readiness-health-check-http-endpoint",
            process
                .readiness_health_check
                .0
                .endpoint
                .clone()
                .map(Value::String),
        ),
        (
            "readiness-health-check-invocation-timeout",
            process
                .readiness_health_check
                .0
                .invocation_timeout
                .map(Value::from),
        ),
        (
            "readiness-health-check-interval",
            process.readiness_health_check.0.interval.map(Value::from),
        ),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            entry[key] = value;
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_generated_routes_are_valid() {
        assert_eq!(default_host("My-App").unwrap(), "My-App");
        assert!(default_host("my app").is_err());
        assert!(random_host("my app!").starts_with("myapp-"));
        assert!(random_host(&"a".repeat(80)).len() <= 63);
    }
}
