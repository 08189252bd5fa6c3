//! Verbs of the bindings of managed instances, to apps and as keys: make and remove them at their brokers, by jobs.
//!
//! A binding belongs to the space of its app, a key to that of its instance. Whatever is deleted with its bindings waits for the jobs that
//! remove them ([`Removal`]). The texts are those of the original.

mod call;

pub(super) use call::{prepare_create, prepare_delete, settle_create, settle_delete};

use super::audit::{self, Target};
use super::broker_call::progress::note;
use super::broker_call::{Subject, Task};
use super::job::{
    CREATE_SERVICE_BINDING, CREATE_SERVICE_KEY, DELETE_SERVICE_BINDING, DELETE_SERVICE_KEY,
    enqueue_for,
};
use super::managed_instance::space_of;
use super::{orphan, security_group, service_credential_binding as verbs};
use crate::change::Change;
use crate::controller::Settings;
use crate::db::app::{self, App};
use crate::db::service_credential_binding::{self, BindingType, ServiceCredentialBinding};
use crate::db::service_instance::{
    CREATE, DELETE, FAILED, IN_PROGRESS, LastOperation, ServiceInstance,
};
use crate::db::space::Space;
use crate::db::{self, Connection, Json, job};
use crate::error::{ApiError, ApiResult};
use crate::quota;
use cc_rules::manifest::AppManifest;
use serde_json::Value;

/// The type of a binding as the resource of a job.
const RESOURCE: &str = "service_credential_binding";

/// How far the removal of something has come that is removed with something above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    Gone,
    /// A job removes it.
    Waiting,
    /// Its broker refused. The text is the reason.
    Failed(String),
}

impl Removal {
    /// Returns how far two removals have come together.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Waiting, _) | (_, Self::Waiting) => Self::Waiting,
            (Self::Failed(one), Self::Failed(other)) => Self::Failed(format!("{one}\n\n\t{other}")),
            (failed @ Self::Failed(_), Self::Gone) | (Self::Gone, failed) => failed,
        }
    }
}

/// Returns the operations of the jobs that make and remove a binding.
fn operations(binding: &ServiceCredentialBinding) -> (&'static str, &'static str) {
    match binding.r#type {
        BindingType::App => (CREATE_SERVICE_BINDING, DELETE_SERVICE_BINDING),
        BindingType::Key => (CREATE_SERVICE_KEY, DELETE_SERVICE_KEY),
    }
}

/// Refuses a binding of an instance that has none now. The texts of keys end with a dot.
pub(super) fn check_instance(subject: &Subject, kind: BindingType) -> ApiResult<()> {
    let operation = &subject.instance.last_operation.0;
    let dot = match kind {
        BindingType::App => "",
        BindingType::Key => ".",
    };
    let text = if !subject.plan.is_bindable(&subject.offering) {
        format!("Service plan does not allow bindings{dot}")
    } else if kind == BindingType::App && subject.offering.requires("volume_mount") {
        "Support for volume mount services is disabled".to_owned()
    } else if operation.is(CREATE, FAILED) {
        "Service instance not found".to_owned()
    } else if operation.is_under_way() {
        "There is an operation in progress for the service instance".to_owned()
    } else {
        return Ok(());
    };
    Err(ApiError::unprocessable(text))
}

/// Refuses a key whose name is taken, and removes one of this name whose creation failed.
pub(super) async fn check_key(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (subject, key): (&Subject, &ServiceCredentialBinding),
) -> ApiResult<()> {
    let name = key.name.as_deref().unwrap_or_default();
    let guid = subject.instance.guid.as_str();
    let taken = "The binding name is invalid. Key binding names must be unique. The service instance already has";
    match service_credential_binding::key_by_name(tx, guid, name).await? {
        None => {}
        Some(old) if old.last_operation.0.is(CREATE, FAILED) => {
            replace(tx, settings, actor, (subject, &old)).await?;
        }
        Some(old) if old.last_operation.0.r#type == DELETE => {
            return Err(ApiError::unprocessable(format!(
                "{taken} a key binding with the name '{name}' that is getting deleted or its deletion failed."
            )));
        }
        Some(_) => {
            return Err(ApiError::unprocessable(format!(
                "{taken} a key binding with name '{name}'."
            )));
        }
    }
    quota::services::check_key(tx, &subject.space).await
}

/// Removes the row of a binding whose creation failed. Its broker may have the binding.
pub(super) async fn replace(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (subject, old): (&Subject, &ServiceCredentialBinding),
) -> ApiResult<()> {
    orphan::of_binding(tx, &settings.keys, actor, (subject, &old.guid)).await?;
    db::delete::<ServiceCredentialBinding>(tx, &old.guid).await?;
    Ok(())
}

/// Stores a new binding that was checked, and the job that makes it. Returns the job.
pub(super) async fn create(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    binding: &mut ServiceCredentialBinding,
    task: Task,
) -> ApiResult<String> {
    binding.last_operation = Json(LastOperation::initial(CREATE));
    db::insert(tx, binding).await?;
    let guid = binding.guid.as_str();
    let input = task.sealed(&settings.keys, guid)?;
    let (operation, _) = operations(binding);
    enqueue_for(tx, actor, operation, (RESOURCE, guid), input).await
}

/// Begins to remove a binding. Returns the job.
pub(crate) async fn begin_delete(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    binding: &mut ServiceCredentialBinding,
) -> ApiResult<String> {
    let guid = binding.guid.clone();
    let (creation, deletion) = operations(binding);
    if let Some(job) = job::open_of(tx, deletion, &guid).await? {
        return Ok(job.guid);
    }
    note(tx, binding, (DELETE, IN_PROGRESS), None).await?;
    follow(tx, binding).await?;
    job::hasten(tx, creation, &guid).await?;
    let input = Task::new(Value::Null, None).sealed(&settings.keys, &guid)?;
    enqueue_for(tx, actor, deletion, (RESOURCE, &guid), input).await
}

/// Removes a binding with something above it. It is called again until the binding is gone. A removal that has failed since `since`
/// counts.
async fn remove(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (mut binding, since): (ServiceCredentialBinding, i64),
) -> ApiResult<Removal> {
    let (_, deletion) = operations(&binding);
    if job::open_of(tx, deletion, &binding.guid).await?.is_some() {
        return Ok(Removal::Waiting);
    }
    let operation = &binding.last_operation.0;
    if operation.is(DELETE, FAILED) && operation.updated_at >= since {
        let text = operation.description.clone().unwrap_or_default();
        return Ok(Removal::Failed(text));
    }
    begin_delete(tx, settings, actor, &mut binding).await?;
    Ok(Removal::Waiting)
}

/// Removes the bindings of an instance and its keys.
pub(super) async fn remove_of_instance(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (instance, since): (&ServiceInstance, i64),
) -> ApiResult<Removal> {
    let bindings = service_credential_binding::of_instance(tx, &instance.guid).await?;
    remove_all(tx, settings, actor, (bindings, since)).await
}

/// Removes the bindings of a managed instance to the apps of a space.
pub(crate) async fn remove_of_space(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (instance, space, since): (&ServiceInstance, &str, i64),
) -> ApiResult<Removal> {
    let guid = instance.guid.as_str();
    let bindings = service_credential_binding::of_instance_in_space(tx, guid, space).await?;
    remove_all(tx, settings, actor, (bindings, since)).await
}

/// Removes the bindings of an app: those of managed instances by jobs, the others at once.
pub(crate) async fn remove_of_app(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (app, space, since): (&App, &Space, i64),
) -> ApiResult<Removal> {
    let mut managed = Vec::new();
    for binding in service_credential_binding::of_app(tx, &app.guid).await? {
        match is_of_managed(tx, &binding).await? {
            true => managed.push(binding),
            false => audit::also(verbs::delete(tx, actor, &binding, space).await?),
        }
    }
    remove_all(tx, settings, actor, (managed, since)).await
}

async fn remove_all(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (bindings, since): (Vec<ServiceCredentialBinding>, i64),
) -> ApiResult<Removal> {
    let mut all = Removal::Gone;
    for binding in bindings {
        let one = remove(tx, settings, actor, (binding, since)).await?;
        all = all.and(one);
    }
    Ok(all)
}

pub(crate) async fn is_of_managed(
    conn: &mut Connection,
    binding: &ServiceCredentialBinding,
) -> ApiResult<bool> {
    let guid = &binding.service_instance_guid;
    let instance = db::by_guid::<ServiceInstance>(conn, guid).await?;
    Ok(instance.is_some_and(|instance| instance.is_managed()))
}

/// Returns whether something is done with the instance of a binding.
pub(crate) async fn has_busy_instance(
    conn: &mut Connection,
    binding: &ServiceCredentialBinding,
) -> ApiResult<bool> {
    let guid = &binding.service_instance_guid;
    let instance = db::by_guid::<ServiceInstance>(conn, guid).await?;
    Ok(instance.is_some_and(|instance| instance.last_operation.0.is_under_way()))
}

/// Returns whether an app has a binding that only its broker can remove.
pub(crate) async fn has_managed(conn: &mut Connection, app: &App) -> ApiResult<bool> {
    for binding in service_credential_binding::of_app(conn, &app.guid).await? {
        if is_of_managed(conn, &binding).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether an app has all bindings that its manifest names. An app that is gone needs none.
pub(super) async fn is_applied(
    conn: &mut Connection,
    space: &Space,
    wanted: &AppManifest,
) -> ApiResult<bool> {
    if wanted.services.is_empty() {
        return Ok(true);
    }
    let Some(app) = app::by_name(conn, &space.guid, &wanted.name).await? else {
        return Ok(true);
    };
    for service in &wanted.services {
        match verbs::is_applied(conn, (&app, space), service).await {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) if error.status.is_server_error() => return Err(error),
            Err(error) => {
                return Err(error.prefixed(&format!("For application '{}': ", wanted.name)));
            }
        }
    }
    Ok(true)
}

/// Removes the rows of all bindings of an instance, and leaves its broker alone.
pub(super) async fn purge_of_instance(
    tx: &mut Change,
    actor: Target<'_>,
    instance: &ServiceInstance,
    space: &Space,
) -> ApiResult<()> {
    for binding in service_credential_binding::of_instance(tx, &instance.guid).await? {
        let own = match &binding.app_guid {
            Some(_) => place(tx, &binding, instance).await?,
            None => space.clone(),
        };
        audit::also(verbs::delete(tx, actor, &binding, &own).await?);
        follow(tx, &binding).await?;
    }
    Ok(())
}

/// Passes a binding that was made, or is being removed, on to the running instances of its app: it may open or close addresses.
async fn follow(tx: &mut Change, binding: &ServiceCredentialBinding) -> ApiResult<()> {
    match &binding.app_guid {
        Some(app) => security_group::apply_to_app(tx, app).await,
        None => Ok(()),
    }
}

/// Returns the space to which a binding belongs.
async fn place(
    conn: &mut Connection,
    binding: &ServiceCredentialBinding,
    instance: &ServiceInstance,
) -> ApiResult<Space> {
    let app = match &binding.app_guid {
        Some(guid) => db::by_guid::<App>(conn, guid).await?,
        None => None,
    };
    let guid = app.map_or_else(|| instance.space_guid.clone(), |app| app.space_guid);
    space_of(conn, &guid).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_end_together() {
        let failed = |text: &str| Removal::Failed(text.to_owned());
        for (one, other, wanted) in [
            (Removal::Gone, Removal::Gone, Removal::Gone),
            (Removal::Gone, Removal::Waiting, Removal::Waiting),
            (failed("a"), Removal::Waiting, Removal::Waiting),
            (failed("a"), Removal::Gone, failed("a")),
            (Removal::Gone, failed("b"), failed("b")),
            (failed("a"), failed("b"), failed("a\n\n\tb")),
        ] {
            assert_eq!(one.clone().and(other.clone()), wanted, "{one:?} {other:?}");
        }
    }
}
