//! Verbs of service credential bindings: bind an app to an instance, and unbind it. A binding changes nothing that runs: instances
//! that start afterwards have it in their environment.

use super::audit::{self, Target};
use crate::controller::Settings;
use crate::db::app::App;
use crate::db::service_credential_binding::{self, ServiceCredentialBinding};
use crate::db::service_instance::{self, LastOperation, ServiceInstance};
use crate::db::space::Space;
use crate::db::{self, Connection, Json, Trail};
use crate::diego::spec;
use crate::error::{ApiError, ApiResult};
use crate::sealing::Keyring;
use cc_rules::manifest::ServiceManifest;
use cc_rules::services;
use serde_json::json;

/// Binds an app to an instance.
pub(crate) async fn create(
    conn: &mut Connection,
    settings: &Settings,
    (app, instance): (&App, &ServiceInstance),
    binding: &mut ServiceCredentialBinding,
) -> ApiResult<()> {
    if app.space_guid != instance.space_guid {
        return Err(ApiError::unprocessable(
            "The service instance and the app are in different spaces",
        ));
    }
    let siblings = service_credential_binding::of_app(conn, &app.guid).await?;
    let most = settings.limits.service_bindings_per_app as usize;
    check_siblings(binding, &siblings, most).map_err(ApiError::unprocessable)?;
    check_drain(instance)?;
    let keys = &settings.keys;
    fill(keys, instance, binding)?;
    binding.last_operation = Json(LastOperation::done("create", None));
    db::insert(conn, binding).await?;
    check_delivery(conn, keys, app).await
}

/// Binds an app to an instance of its space that a manifest names. An app that is bound already stays as it is. The event is
/// recorded in the name of `actor`.
pub(crate) async fn apply(
    conn: &mut Connection,
    settings: &Settings,
    actor: Target<'_>,
    (app, space): (&App, &Space),
    wanted: &ServiceManifest,
) -> ApiResult<()> {
    let name = &wanted.name;
    let Some(instance) = service_instance::by_name(conn, &space.guid, name).await? else {
        return Err(ApiError::not_found(&format!("Service instance '{name}'")));
    };
    let bound = service_credential_binding::of_app(conn, &app.guid).await?;
    if bound
        .iter()
        .any(|b| b.service_instance_guid == instance.guid)
    {
        return Ok(());
    }
    let mut binding = ServiceCredentialBinding {
        name: wanted.binding_name.clone(),
        app_guid: Some(app.guid.clone()),
        service_instance_guid: instance.guid.clone(),
        ..ServiceCredentialBinding::fresh()
    };
    let made = create(conn, settings, (app, &instance), &mut binding).await;
    made.map_err(|error| error.prefixed(&format!("For service '{name}': ")))?;
    let request = json!({
        "type": "app",
        "name": binding.name,
        "relationships": {
            "app": { "data": { "guid": app.guid } },
            "service_instance": { "data": { "guid": instance.guid } },
        },
    });
    let data = json!({ "manifest_triggered": true, "request": request });
    let kind = "audit.service_binding.create";
    audit::also(audit::record_of(conn, actor, kind, target(&binding), space, data).await?);
    Ok(())
}

/// Checks a new binding beside those that the app has.
fn check_siblings(
    binding: &ServiceCredentialBinding,
    siblings: &[ServiceCredentialBinding],
    most: usize,
) -> Result<(), String> {
    let instance = &binding.service_instance_guid;
    if siblings
        .iter()
        .any(|other| other.service_instance_guid == *instance)
    {
        return Err("The app is already bound to the service instance".to_owned());
    }
    let name = binding.name.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = name {
        if let Some(problem) = services::binding_name_problem(name) {
            return Err(problem.to_owned());
        }
        if siblings
            .iter()
            .any(|other| other.name.as_deref() == Some(name))
        {
            return Err(format!(
                "The binding name is invalid. Binding names must be unique for a given service instance and app. The app already has a binding with name '{name}'."
            ));
        }
    }
    if siblings.len() >= most {
        return Err(format!(
            "The app has {most} service bindings already; an app may have at most {most}"
        ));
    }
    Ok(())
}

/// Refuses the logs' drain of a bound instance, because nothing sends logs there yet.
fn check_drain(instance: &ServiceInstance) -> ApiResult<()> {
    let url = instance.syslog_drain_url.as_deref().unwrap_or_default();
    if url.is_empty() {
        return Ok(());
    }
    Err(ApiError::unprocessable(format!(
        "The service instance '{}' has a syslog_drain_url, and this foundation does not drain the logs of apps yet: remove the URL before the instance is bound to an app",
        instance.name
    )))
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
    let bindings = service_credential_binding::of_instance(conn, &instance.guid).await?;
    if !bindings.is_empty() {
        check_drain(instance)?;
    }
    for mut binding in bindings {
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
pub(crate) fn target(binding: &ServiceCredentialBinding) -> Target<'_> {
    let name = binding.name.as_deref().unwrap_or_default();
    (&binding.guid, "service_binding", name)
}

/// Removes a binding. The event is recorded in the space of the app, in the name of `actor`.
pub(crate) async fn delete(
    conn: &mut Connection,
    actor: Target<'_>,
    binding: &ServiceCredentialBinding,
    space: &Space,
) -> ApiResult<Trail> {
    db::delete::<ServiceCredentialBinding>(conn, &binding.guid).await?;
    let request = json!({
        "app_guid": binding.app_guid,
        "route_guid": null,
        "service_instance_guid": binding.service_instance_guid,
    });
    let (kind, data) = (
        "audit.service_binding.delete",
        json!({ "request": request }),
    );
    audit::record_of(conn, actor, kind, target(binding), space, data).await
}

/// Removes all bindings of an app, which is removed next.
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

/// Removes all bindings of an instance, which is removed next. Their apps are in its space.
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
            ..ServiceCredentialBinding::fresh()
        }
    }

    #[test]
    fn an_app_is_bound_once_to_an_instance_and_names_differ() {
        let siblings = [binding("a", Some("db")), binding("b", None)];
        for (new, wanted) in [
            (binding("c", None), None),
            (binding("c", Some("")), None),
            (binding("c", Some("other")), None),
            (binding("a", None), Some("already bound")),
            (binding("b", Some("x")), Some("already bound")),
            (binding("c", Some("db")), Some("a binding with name 'db'.")),
            (binding("c", Some("a b")), Some("Valid characters")),
        ] {
            let checked = check_siblings(&new, &siblings, 3);
            match wanted {
                None => assert_eq!(checked, Ok(()), "{new:?}"),
                Some(text) => assert!(checked.unwrap_err().contains(text), "{new:?}"),
            }
        }
        let full = check_siblings(&binding("c", None), &siblings, 2).unwrap_err();
        assert!(full.contains("at most 2"), "{full}");
    }

    #[test]
    fn a_drain_is_refused_until_logs_are_drained() {
        let with = |url: Option<&str>| ServiceInstance {
            syslog_drain_url: url.map(str::to_owned),
            ..ServiceInstance::fresh()
        };
        assert!(check_drain(&with(None)).is_ok());
        assert!(check_drain(&with(Some(""))).is_ok());
        assert!(check_drain(&with(Some("syslog://h:1"))).is_err());
    }
}
