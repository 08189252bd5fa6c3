//! Verbs of service credential bindings: bind an app to an instance, and unbind it. A binding changes nothing that runs: instances
//! that start afterwards have it in their environment. Bindings of managed instances are made and removed by `managed_binding`.

use super::audit::{self, Target};
use super::broker_call::{Subject, Task};
use super::managed_binding;
use crate::change::Change;
use crate::controller::Settings;
use crate::db::app::App;
use crate::db::service_credential_binding::{self, BindingType, ServiceCredentialBinding};
use crate::db::service_instance::{
    self, CREATE, DELETE, FAILED, LastOperation, SUCCEEDED, ServiceInstance,
};
use crate::db::space::Space;
use crate::db::{self, Connection, Json, Trail, service_instance_share as shares};
use crate::diego::spec;
use crate::error::{ApiError, ApiResult};
use crate::sealing::Keyring;
use cc_rules::manifest::ServiceManifest;
use cc_rules::services;
use serde_json::{Value, json};

/// A request to bind.
pub(crate) struct Order {
    /// Whether the app may have other bindings to the same instance.
    pub is_multiple: bool,
    pub task: Task,
}

/// The result of a request to bind.
#[derive(Debug)]
pub(crate) enum Bound {
    Now,
    /// A job makes the binding.
    ByJob(String),
}

/// Binds an app to an instance.
pub(crate) async fn create(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (app, instance): (&App, &ServiceInstance),
    (binding, order): (&mut ServiceCredentialBinding, Order),
) -> ApiResult<Bound> {
    let shared = shares::spaces(tx, &instance.guid).await?;
    if app.space_guid != instance.space_guid && !shared.contains(&app.space_guid) {
        return Err(ApiError::unprocessable(
            "The service instance and the app are in different spaces",
        ));
    }
    let subject = match instance.is_managed() {
        true => Some(Subject::of(tx, instance.clone()).await?),
        false => None,
    };
    if let Some(subject) = &subject {
        managed_binding::check_instance(subject, BindingType::App)?;
    }
    let mut siblings = Vec::new();
    for sibling in service_credential_binding::of_app(tx, &app.guid).await? {
        let is_failed = sibling.last_operation.0.is(CREATE, FAILED);
        match &subject {
            Some(subject) if is_failed && sibling.service_instance_guid == instance.guid => {
                let old = (subject, &sibling);
                managed_binding::replace(tx, settings, actor, old).await?;
            }
            _ => siblings.push(sibling),
        }
    }
    let limits = &settings.limits;
    let most = Most {
        of_app: limits.service_bindings_per_app as usize,
        of_pair: limits.service_bindings_per_app_and_instance as usize,
    };
    check_siblings(binding, &siblings, most, order.is_multiple).map_err(ApiError::unprocessable)?;
    if subject.is_some() {
        let job = managed_binding::create(tx, settings, actor, binding, order.task).await?;
        return Ok(Bound::ByJob(job));
    }
    let keys = &settings.keys;
    fill(keys, instance, binding)?;
    binding.last_operation = Json(LastOperation::done("create", None));
    db::insert(tx, binding).await?;
    check_delivery(tx, keys, app).await?;
    Ok(Bound::Now)
}

/// Creates a key of an instance. Returns the job that makes it.
pub(crate) async fn create_key(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    instance: &ServiceInstance,
    (key, task): (&mut ServiceCredentialBinding, Task),
) -> ApiResult<String> {
    if !instance.is_managed() {
        return Err(ApiError::unprocessable(
            "Service credential bindings of type 'key' are not supported for user-provided service instances.",
        ));
    }
    let subject = Subject::of(tx, instance.clone()).await?;
    managed_binding::check_instance(&subject, BindingType::Key)?;
    managed_binding::check_key(tx, settings, actor, (&subject, key)).await?;
    managed_binding::create(tx, settings, actor, key, task).await
}

/// Binds an app to an instance that a manifest names: one of its space, or one that is shared with it. An app that is bound already
/// stays as it is. Returns whether the app is bound now, and not by a job. The event is recorded in the name of `actor`.
pub(crate) async fn apply(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (app, space): (&App, &Space),
    wanted: &ServiceManifest,
) -> ApiResult<bool> {
    let name = &wanted.name;
    let Some(instance) = service_instance::usable_by_name(tx, &space.guid, name).await? else {
        return Err(ApiError::not_found(&format!("Service instance '{name}'")));
    };
    let mut bound = service_credential_binding::of_app(tx, &app.guid).await?;
    bound.retain(|binding| binding.service_instance_guid == instance.guid);
    let is_bound = bound.iter().any(ServiceCredentialBinding::is_made);
    if is_bound || bound.iter().any(|b| b.last_operation.0.does(CREATE)) {
        return Ok(is_bound);
    }
    let mut binding = ServiceCredentialBinding {
        name: wanted.binding_name.clone(),
        app_guid: Some(app.guid.clone()),
        service_instance_guid: instance.guid.clone(),
        ..ServiceCredentialBinding::fresh()
    };
    let request = json!({
        "type": "app",
        "name": binding.name,
        "relationships": {
            "app": { "data": { "guid": app.guid } },
            "service_instance": { "data": { "guid": instance.guid } },
        },
    });
    if wanted.parameters.is_some() && !instance.is_managed() {
        return Err(ApiError::unprocessable(format!(
            "For service '{name}': Binding parameters are not supported for user-provided service instances"
        )));
    }
    let order = Order {
        is_multiple: false,
        task: Task {
            is_of_manifest: true,
            ..Task::new(request.clone(), wanted.parameters.clone())
        },
    };
    let pair = (app, &instance);
    let made = create(tx, settings, actor, pair, (&mut binding, order)).await;
    let bound = made.map_err(|error| error.prefixed(&format!("For service '{name}': ")))?;
    if let Bound::ByJob(_) = bound {
        return Ok(false);
    }
    let data = json!({ "manifest_triggered": true, "request": request });
    audit::also(record(tx, actor, "create", (&binding, space), data).await?);
    Ok(true)
}

/// Returns whether an app is bound to an instance that a manifest names. It fails if the broker has refused.
pub(crate) async fn is_applied(
    conn: &mut Connection,
    (app, space): (&App, &Space),
    wanted: &ServiceManifest,
) -> ApiResult<bool> {
    let name = &wanted.name;
    let Some(instance) = service_instance::usable_by_name(conn, &space.guid, name).await? else {
        return Err(ApiError::not_found(&format!("Service instance '{name}'")));
    };
    let mut bindings = service_credential_binding::of_app(conn, &app.guid).await?;
    bindings.retain(|binding| binding.service_instance_guid == instance.guid);
    if bindings.iter().any(ServiceCredentialBinding::is_made) {
        return Ok(true);
    }
    if bindings.iter().any(|b| b.last_operation.0.does(CREATE)) {
        return Ok(false);
    }
    let last = bindings.pop();
    let text = last.and_then(|binding| binding.last_operation.0.description);
    let text = text.unwrap_or_else(|| "The binding was removed".to_owned());
    let error = ApiError::unprocessable(text);
    Err(error.prefixed(&format!("For service '{name}': ")))
}

/// The maximum numbers of bindings of one app, and of one app to one instance.
#[derive(Clone, Copy, Debug)]
struct Most {
    of_app: usize,
    of_pair: usize,
}

/// Checks a new binding beside those that the app has.
fn check_siblings(
    binding: &ServiceCredentialBinding,
    siblings: &[ServiceCredentialBinding],
    most: Most,
    is_multiple: bool,
) -> Result<(), String> {
    let instance = &binding.service_instance_guid;
    let (pair, others): (Vec<_>, Vec<_>) = siblings
        .iter()
        .partition(|other| other.service_instance_guid == *instance);
    for other in &pair {
        check_pair(binding, other, most, is_multiple)?;
    }
    let already = || Err("The app is already bound to the service instance".to_owned());
    if is_multiple && pair.len() >= most.of_pair {
        return match most.of_pair {
            1 => already(),
            most => Err(format!(
                "The app has too many bindings to this service instance (limit: {most}). Consider deleting existing/orphaned bindings."
            )),
        };
    }
    if !is_multiple && !pair.is_empty() {
        return already();
    }
    let name = binding.name.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = name {
        if let Some(problem) = services::binding_name_problem(name) {
            return Err(problem.to_owned());
        }
        if others
            .iter()
            .any(|other| other.name.as_deref() == Some(name))
        {
            return Err(format!(
                "The binding name is invalid. Binding names must be unique for a given service instance and app. The app already has a binding with name '{name}'."
            ));
        }
    }
    if siblings.len() >= most.of_app {
        let most = most.of_app;
        return Err(format!(
            "The app has {most} service bindings already; an app may have at most {most}"
        ));
    }
    Ok(())
}

/// Checks a new binding beside one of the same app to the same instance. Whoever wants one binding and has it, by whatever name, is
/// bound already: clients take this answer for success.
fn check_pair(
    binding: &ServiceCredentialBinding,
    other: &ServiceCredentialBinding,
    most: Most,
    is_multiple: bool,
) -> Result<(), String> {
    let operation = &other.last_operation.0;
    let is_being_made = operation.does(CREATE);
    let wants_one = most.of_pair == 1 || !is_multiple;
    let text = if wants_one && (is_being_made || operation.is(CREATE, SUCCEEDED)) {
        "The app is already bound to the service instance".to_owned()
    } else if is_being_made {
        format!(
            "There is already a binding in progress for this service instance and app (binding guid: {})",
            other.guid
        )
    } else if operation.r#type == DELETE {
        match most.of_pair {
            1 => "The binding is getting deleted or its deletion failed".to_owned(),
            _ => "A binding for this service instance and app is getting deleted or its deletion failed".to_owned(),
        }
    } else if other.name != binding.name {
        "The binding name cannot be changed for the same app and service instance".to_owned()
    } else {
        return Ok(());
    };
    Err(text)
}

/// Copies what an instance has into a binding of it.
fn fill(
    keys: &Keyring,
    instance: &ServiceInstance,
    binding: &mut ServiceCredentialBinding,
) -> ApiResult<()> {
    let credentials = keys.open_json(&instance.guid, instance.credentials.as_ref())?;
    binding.credentials = keys.seal_json(&binding.guid, credentials.as_ref())?;
    let url = instance.syslog_drain_url.as_deref();
    binding.syslog_drain_url = url.map(services::stored_drain_url);
    Ok(())
}

/// Passes a change of an instance on to its bindings.
pub(crate) async fn follow(
    conn: &mut Connection,
    keys: &Keyring,
    instance: &ServiceInstance,
) -> ApiResult<()> {
    for mut binding in service_credential_binding::of_instance(conn, &instance.guid).await? {
        fill(keys, instance, &mut binding)?;
        binding.touch();
        db::update(conn, &binding).await?;
        let Some(app) = &binding.app_guid else {
            continue;
        };
        if let Some(app) = db::by_guid::<App>(conn, app).await? {
            check_delivery(conn, keys, &app).await?;
        }
    }
    Ok(())
}

/// Refuses bindings that an app cannot get: a variable or files that are too large, or names that no file can have.
pub(crate) async fn check_delivery(
    conn: &mut Connection,
    keys: &Keyring,
    app: &App,
) -> ApiResult<()> {
    let bindings = spec::bindings(conn, keys, app).await?;
    services::deliver(&bindings, app.delivery.into()).map_err(|error| {
        let name = &app.name;
        ApiError::unprocessable(format!(
            "Cannot deliver service bindings to app '{name}': {error}"
        ))
    })?;
    Ok(())
}

/// Returns a binding as the target of an event.
fn target(binding: &ServiceCredentialBinding) -> Target<'_> {
    let name = binding.name.as_deref().unwrap_or_default();
    (&binding.guid, noun(binding), name)
}

/// Returns the noun of a binding in events.
fn noun(binding: &ServiceCredentialBinding) -> &'static str {
    match binding.r#type {
        BindingType::App => "service_binding",
        BindingType::Key => "service_key",
    }
}

/// Records what was done with a binding.
pub(crate) async fn record(
    conn: &mut Connection,
    actor: Target<'_>,
    verb: &str,
    (binding, space): (&ServiceCredentialBinding, &Space),
    data: Value,
) -> ApiResult<Trail> {
    let kind = format!("audit.{}.{verb}", noun(binding));
    audit::record_of(conn, actor, &kind, target(binding), space, data).await
}

/// Returns the data of the event of a binding's removal.
pub(super) fn removal(binding: &ServiceCredentialBinding) -> Value {
    json!({ "request": {
        "app_guid": binding.app_guid,
        "route_guid": null,
        "service_instance_guid": binding.service_instance_guid,
    } })
}

/// Removes the row of a binding. The event is recorded in the space of the binding, in the name of `actor`.
pub(crate) async fn delete(
    conn: &mut Connection,
    actor: Target<'_>,
    binding: &ServiceCredentialBinding,
    space: &Space,
) -> ApiResult<Trail> {
    db::delete::<ServiceCredentialBinding>(conn, &binding.guid).await?;
    record(conn, actor, "delete", (binding, space), removal(binding)).await
}

/// Removes all bindings of an app, which is removed next. None of them needs a broker.
pub(crate) async fn delete_of_app(
    conn: &mut Connection,
    actor: Target<'_>,
    app: &App,
    space: &Space,
) -> ApiResult<()> {
    for binding in service_credential_binding::of_app(conn, &app.guid).await? {
        audit::also(delete(conn, actor, &binding, space).await?);
    }
    Ok(())
}

/// Removes all bindings of a user-provided instance, which is removed next. Their apps are in its space.
pub(super) async fn delete_of_instance(
    conn: &mut Connection,
    actor: Target<'_>,
    instance: &ServiceInstance,
    space: &Space,
) -> ApiResult<()> {
    for binding in service_credential_binding::of_instance(conn, &instance.guid).await? {
        audit::also(delete(conn, actor, &binding, space).await?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(instance: &str, name: Option<&str>) -> ServiceCredentialBinding {
        ServiceCredentialBinding {
            service_instance_guid: instance.to_owned(),
            name: name.map(str::to_owned),
            last_operation: Json(LastOperation::done(CREATE, None)),
            ..ServiceCredentialBinding::fresh()
        }
    }

    fn most(of_app: usize, of_pair: usize) -> Most {
        Most { of_app, of_pair }
    }

    #[test]
    fn an_app_is_bound_once_to_an_instance_and_names_differ() {
        let siblings = [binding("a", Some("db")), binding("b", None)];
        for (new, wanted) in [
            (binding("c", None), None),
            (binding("c", Some("")), None),
            (binding("c", Some("other")), None),
            (binding("a", Some("db")), Some("already bound")),
            (binding("b", None), Some("already bound")),
            (binding("b", Some("x")), Some("already bound")),
            (binding("c", Some("db")), Some("a binding with name 'db'.")),
            (binding("c", Some("a b")), Some("Valid characters")),
        ] {
            let checked = check_siblings(&new, &siblings, most(3, 5), false);
            match wanted {
                None => assert_eq!(checked, Ok(()), "{new:?}"),
                Some(text) => assert!(checked.unwrap_err().contains(text), "{new:?}"),
            }
        }
        let full = check_siblings(&binding("c", None), &siblings, most(2, 5), false);
        assert!(full.unwrap_err().contains("at most 2"));
    }

    #[test]
    fn an_app_has_several_bindings_to_an_instance_while_credentials_are_rotated() {
        let pair = [binding("a", Some("db")), binding("a", Some("db"))];
        let new = binding("a", Some("db"));
        let checked = |most| check_siblings(&new, &pair, most, true);
        assert_eq!(checked(most(9, 3)), Ok(()));
        let renamed = check_siblings(&binding("a", Some("x")), &pair, most(9, 3), true);
        assert!(renamed.unwrap_err().contains("name cannot be changed"));
        let full = checked(most(9, 2)).unwrap_err();
        assert!(full.contains("too many bindings") && full.contains("(limit: 2)"));
        let only = checked(most(9, 1)).unwrap_err();
        assert_eq!(only, "The app is already bound to the service instance");
        for (kind, state, text) in [
            (CREATE, "initial", "There is already a binding in progress"),
            (DELETE, "in progress", "is getting deleted"),
            (DELETE, FAILED, "its deletion failed"),
        ] {
            let mut old = binding("a", Some("db"));
            old.last_operation.0.note(kind, state, None);
            let refused = check_siblings(&new, &[old], most(9, 3), true);
            assert!(refused.unwrap_err().contains(text), "{kind} {state}");
        }
    }
}
