//! Verbs of apps: create, change, start, stop and remove.

use super::audit::{self, Target};
use super::job::Progress;
use super::managed_binding::{self, Removal};
use super::{process as verbs, sidecar};
use crate::change::Change;
use crate::controller::Settings;
use crate::db::app::{self, App, AppState, BindingDelivery};
use crate::db::buildpack;
use crate::db::deployment::{self, Deployment, DeploymentReason};
use crate::db::droplet::{Droplet, DropletState};
use crate::db::process;
use crate::db::space::Space;
use crate::db::stack;
use crate::db::{self, Connection};
use crate::error::{ApiError, ApiResult};
use crate::quota::{Meter, Subject};
use crate::sealing::Keyring;
use cc_rules::limits::Limits;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Creates an app with its web process.
pub(crate) async fn create(conn: &mut Connection, settings: &Settings, app: &App) -> ApiResult<()> {
    check(conn, app).await?;
    db::insert(conn, app).await?;
    db::insert(conn, &verbs::fresh(settings, app, "web")).await?;
    Ok(())
}

/// Changes an app, and marks its processes, because their LRPs contain the app's name and place.
pub(crate) async fn update(tx: &mut Change, app: &mut App) -> ApiResult<()> {
    for process in update_unmarked(tx, app).await? {
        tx.reconcile(process);
    }
    Ok(())
}

/// Changes an app, and leaves its LRPs to the sync. Returns its processes.
pub(super) async fn update_unmarked(
    conn: &mut Connection,
    app: &mut App,
) -> ApiResult<Vec<String>> {
    check(conn, app).await?;
    app.touch();
    db::update(conn, app).await?;
    let mut touched = Vec::new();
    for mut process in process::of_app(conn, &app.guid).await? {
        process.touch();
        db::update(conn, &process).await?;
        touched.push(process.guid);
    }
    Ok(touched)
}

async fn check(conn: &mut Connection, app: &App) -> ApiResult<()> {
    if let Some(other) = app::by_name(conn, &app.space_guid, &app.name).await?
        && other.guid != app.guid
    {
        return Err(ApiError::unprocessable(format!(
            "App with the name '{}' already exists.",
            app.name
        )));
    }
    if let Some(stack) = &app.stack
        && stack::by_name(conn, stack).await?.is_none()
    {
        return Err(ApiError::unprocessable(format!(
            "Stack must be an existing stack (got '{stack}'; see 'cf stacks')"
        )));
    }
    let known = buildpack::all(conn).await?;
    for name in &app.buildpacks.0 {
        if !known.iter().any(|buildpack| &buildpack.name == name) {
            return Err(ApiError::unprocessable(format!(
                "Buildpack \"{name}\" must be an existing admin buildpack or a valid git URI"
            )));
        }
    }
    Ok(())
}

/// Switches bindings as files on or off. Only one kind of files can be on.
pub(crate) fn set_delivery(
    app: &mut App,
    delivery: BindingDelivery,
    enabled: bool,
) -> ApiResult<()> {
    if !enabled {
        if app.delivery == delivery {
            app.delivery = BindingDelivery::Variable;
        }
        return Ok(());
    }
    if app.delivery != BindingDelivery::Variable && app.delivery != delivery {
        return Err(ApiError::unprocessable(
            "'file-based-vcap-services' and 'service-binding-k8s' features cannot be enabled at the same time.",
        ));
    }
    app.delivery = delivery;
    Ok(())
}

/// Sets the features that a manifest names. Those that it switches off come first.
pub(crate) fn set_features(app: &mut App, features: &BTreeMap<String, bool>) -> ApiResult<()> {
    for wanted in [false, true] {
        for (name, enabled) in features.iter().filter(|(_, enabled)| **enabled == wanted) {
            match (name.as_str(), name.parse::<BindingDelivery>()) {
                ("ssh", _) => app.enable_ssh = *enabled,
                ("revisions", _) => app.revisions_enabled = *enabled,
                (_, Ok(delivery)) => set_delivery(app, delivery, *enabled)?,
                (_, Err(error)) => return Err(ApiError::unprocessable(error.to_string())),
            }
        }
    }
    Ok(())
}

/// Returns the features of an app as its manifest names them: ssh, and the kind of files of its bindings if there is one.
pub(super) fn features(app: &App) -> Value {
    let mut features = json!({ "ssh": app.enable_ssh });
    if app.delivery != BindingDelivery::Variable {
        features[app.delivery.as_str()] = json!(true);
    }
    features
}

/// Merges `{"K": "V"|null}` into the variables of an app.
pub(crate) fn set_environment(
    settings: &Settings,
    app: &mut App,
    var: &serde_json::Map<String, Value>,
) -> ApiResult<()> {
    if var.is_empty() {
        return Ok(());
    }
    let mut variables = environment(&settings.keys, app)?;
    merge_variables(&settings.limits, &mut variables, var)?;
    app.environment = settings.keys.seal_as(&app.guid, &variables)?;
    Ok(())
}

/// Returns the variables of an app.
pub(crate) fn environment(keys: &Keyring, app: &App) -> ApiResult<BTreeMap<String, String>> {
    Ok(keys.open_as(&app.guid, &app.environment)?)
}

/// Merges `{"K": "V"|null}` into variables.
pub(crate) fn merge_variables(
    limits: &Limits,
    variables: &mut BTreeMap<String, String>,
    var: &serde_json::Map<String, Value>,
) -> ApiResult<()> {
    for (name, value) in var {
        let text = match value {
            Value::Null => {
                variables.remove(name);
                continue;
            }
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => value.to_string(),
        };
        if name.is_empty() {
            return Err(ApiError::unprocessable(
                "Environment variable names must not be empty",
            ));
        }
        if name.starts_with("VCAP_") {
            return Err(ApiError::unprocessable(format!(
                "Environment variable '{name}' is reserved: names cannot start with VCAP_"
            )));
        }
        if name == "PORT" {
            return Err(ApiError::unprocessable(
                "Environment variable 'PORT' is reserved: cannot set PORT",
            ));
        }
        if name.contains(['=', '\0']) || text.contains('\0') {
            return Err(ApiError::unprocessable(format!(
                "Environment variable '{name}' must not contain '=' or NUL"
            )));
        }
        variables.insert(name.clone(), text);
    }
    let most = limits.environment_bytes as usize;
    match serde_json::to_string(variables) {
        Ok(text) if text.len() > most => Err(ApiError::unprocessable(format!(
            "Environment variables must be at most {most} bytes together, as JSON (got {})",
            text.len()
        ))),
        _ => Ok(()),
    }
}

/// Makes a droplet the current one of its app. Replaces the sidecars of the previous droplet, and creates the missing processes,
/// so that every process type of the droplet has one.
pub(crate) async fn assign_droplet(
    conn: &mut Connection,
    settings: &Settings,
    app: &mut App,
    droplet: &Droplet,
) -> ApiResult<()> {
    if droplet.app_guid != app.guid || droplet.state != DropletState::Staged {
        return Err(ApiError::unprocessable(
            "Unable to assign current droplet. Ensure the droplet exists and belongs to this app.",
        ));
    }
    app.droplet_guid = Some(droplet.guid.clone());
    app.touch();
    db::update(conn, app).await?;
    sidecar::replace_with_droplets(conn, &settings.limits, app, droplet).await?;
    let existing = process::of_app(conn, &app.guid).await?;
    let most = settings.limits.processes_per_app as usize;
    if droplet.process_types.0.len() > most {
        return Err(ApiError::unprocessable(format!(
            "The droplet has {} process types; an app may have at most {most}",
            droplet.process_types.0.len()
        )));
    }
    for kind in droplet.process_types.0.keys() {
        if !existing.iter().any(|process| &process.r#type == kind) {
            let process = verbs::fresh(settings, app, kind);
            sidecar::check_room_for_new(conn, &process).await?;
            db::insert(conn, &process).await?;
        }
    }
    verbs::check_types(conn, settings, app).await
}

pub(crate) fn must_have_droplet(app: &App) -> ApiResult<()> {
    if app.droplet_guid.is_some() {
        return Ok(());
    }
    Err(ApiError::unprocessable(
        "Assign a droplet before starting this app.",
    ))
}

/// Starts an app, and marks its processes. A started app stays unchanged.
pub(crate) async fn start(tx: &mut Change, app: &mut App) -> ApiResult<()> {
    must_have_droplet(app)?;
    if !app.is_started() {
        return start_stopped(tx, app).await;
    }
    for process in process::of_app(tx, &app.guid).await? {
        tx.reconcile(process.guid);
    }
    Ok(())
}

/// Starts a stopped app, if the quotas have room for it.
async fn start_stopped(tx: &mut Change, app: &mut App) -> ApiResult<()> {
    let meter = Meter::of_app(tx, app).await?;
    set_state(tx, app, AppState::Started).await?;
    give_new_versions(tx, app).await?;
    meter.check(tx, Subject::Process).await
}

/// Stops an app, ends its active deployment, and marks its processes.
pub(crate) async fn stop(tx: &mut Change, app: &mut App) -> ApiResult<()> {
    end_deployment(tx, app).await?;
    set_state(tx, app, AppState::Stopped).await?;
    for process in process::of_app(tx, &app.guid).await? {
        process::retire_lrp(tx, &process.guid, &process.lrp_guid()).await?;
        tx.reconcile(process.guid);
    }
    Ok(())
}

/// Replaces all instances of an app, and marks its processes.
pub(crate) async fn restart(tx: &mut Change, app: &mut App) -> ApiResult<()> {
    must_have_droplet(app)?;
    end_deployment(tx, app).await?;
    // The restart is measured as a stop and a start, so that an app that no longer fits its quota is not started again.
    set_state(tx, app, AppState::Stopped).await?;
    start_stopped(tx, app).await
}

async fn set_state(conn: &mut Connection, app: &mut App, state: AppState) -> ApiResult<()> {
    app.state = state;
    app.touch();
    db::update(conn, app).await?;
    Ok(())
}

/// Gives every process a new version, and marks it.
async fn give_new_versions(tx: &mut Change, app: &App) -> ApiResult<()> {
    for mut process in process::of_app(tx, &app.guid).await? {
        verbs::new_version(tx, &mut process).await?;
        process.touch();
        db::update(tx, &process).await?;
        tx.reconcile(process.guid);
    }
    Ok(())
}

/// Ends the deployment of an app that is stopped or restarted: only the newest web process stays. Marks the removed ones.
async fn end_deployment(tx: &mut Change, app: &App) -> ApiResult<()> {
    let Some(mut active): Option<Deployment> = deployment::active_of_app(tx, &app.guid).await?
    else {
        return Ok(());
    };
    super::deployment::finalize(tx, &mut active, DeploymentReason::Canceled).await?;
    let webs = process::webs_newest_first(tx, &app.guid).await?;
    for old in webs.iter().skip(1) {
        verbs::delete(tx, old).await?;
        tx.reconcile(&old.guid);
    }
    if let Some(mut newest) = webs.into_iter().next() {
        newest.instances = active.instances;
        newest.touch();
        db::update(tx, &newest).await?;
    }
    Ok(())
}

/// Removes an app, and marks its processes and its files. Its routes stay, without the app as a destination.
pub(crate) async fn delete(tx: &mut Change, app: &App) -> ApiResult<()> {
    for process in process::of_app(tx, &app.guid).await? {
        process::retire_lrp(tx, &process.guid, &process.lrp_guid()).await?;
        tx.reconcile(process.guid);
    }
    db::delete::<App>(tx, &app.guid).await?;
    tx.clean_up();
    Ok(())
}

/// Removes an app together with its bindings. A job calls it until the app is gone; it waits for the jobs that remove bindings at their
/// brokers. A removal that has failed since `since` ends it. The events are recorded in the name of `actor`.
pub(crate) async fn delete_part(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (guid, since): (&str, i64),
) -> ApiResult<Progress> {
    let Some(app) = db::by_guid::<App>(tx, guid).await? else {
        return Ok(Progress::Done);
    };
    let space = db::by_guid::<Space>(tx, &app.space_guid).await?;
    let space = space.ok_or_else(|| ApiError::not_found("Space"))?;
    let bound = (&app, &space, since);
    match managed_binding::remove_of_app(tx, settings, actor, bound).await? {
        Removal::Gone => {}
        Removal::Waiting => return Ok(Progress::waiting(since)),
        Removal::Failed(text) => return Err(ApiError::unprocessable(text)),
    }
    audit::also(audit::deleted_app(tx, actor, &app, &space).await?);
    delete(tx, &app).await?;
    Ok(Progress::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use BindingDelivery::{Folders, Variable, VcapFile};

    #[test]
    fn one_kind_of_files_is_on_at_a_time() {
        for (was, feature, enabled, wanted) in [
            (Variable, Folders, true, Some(Folders)),
            (Folders, Folders, true, Some(Folders)),
            (Folders, Folders, false, Some(Variable)),
            (Folders, VcapFile, false, Some(Folders)),
            (Folders, VcapFile, true, None),
            (VcapFile, Folders, true, None),
        ] {
            let mut app = App {
                delivery: was,
                ..App::fresh()
            };
            let set = set_delivery(&mut app, feature, enabled);
            let got = set.is_ok().then_some(app.delivery);
            assert_eq!(got, wanted, "{was} {feature} {enabled}");
        }
    }

    #[test]
    fn a_manifest_changes_from_one_kind_of_files_to_the_other() {
        let mut app = App {
            delivery: VcapFile,
            ..App::fresh()
        };
        let (on, off) = (Folders.as_str().to_owned(), VcapFile.as_str().to_owned());
        let wanted = BTreeMap::from([(on.clone(), true), (off, false), ("ssh".to_owned(), true)]);
        set_features(&mut app, &wanted).unwrap();
        assert_eq!(features(&app), json!({ "ssh": true, on: true }));
        let unknown = BTreeMap::from([("fast".to_owned(), true)]);
        assert!(set_features(&mut app, &unknown).is_err());
    }
}
