//! Verbs of the bindings of routes to managed instances: make and remove them at their brokers, by jobs. The broker names the address of the
//! service.
//!
//! `service_route_binding` decides what may be bound. Whatever is deleted with its bindings waits for the jobs that remove them
//! ([`Removal`]). The texts are those of the original.

use super::audit::{self, Target};
use super::broker_call::progress::{NotBound, found, not_unbound, note};
use super::broker_call::{After, Call, Errand, Fetch, Next, Question, Reply, Subject, Task};
use super::job::{
    CREATE_ROUTE_BINDING, DELETE_DOMAIN, DELETE_ROUTE, DELETE_ROUTE_BINDING,
    DELETE_SERVICE_INSTANCE, DELETE_SPACE, enqueue_for,
};
use super::managed_binding::Removal;
use super::route::{self, mark_processes_of};
use super::service_route_binding::Terms;
use super::{orphan, service_route_binding as verbs};
use crate::change::Change;
use crate::controller::Settings;
use crate::db::domain::Domain;
use crate::db::route::Route;
use crate::db::service_instance::{
    CREATE, DELETE, FAILED, IN_PROGRESS, LastOperation, SUCCEEDED, ServiceInstance,
};
use crate::db::service_route_binding::{self, ServiceRouteBinding};
use crate::db::{self, Connection, Json, job};
use crate::error::{ApiError, ApiResult};
use cc_rules::broker_operations::{Stage, Step, Verb};
use cc_rules::ordered_json::OrderedJson;
use cc_rules::route_rules;
use serde_json::Value;

/// The type of a binding as the resource of a job.
const RESOURCE: &str = "service_route_binding";

/// Stores a new binding, and the job that makes it. Returns the job.
pub(crate) async fn create(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (route, instance): (&Route, &ServiceInstance),
    (binding, task): (&mut ServiceRouteBinding, Task),
) -> ApiResult<String> {
    let subject = Subject::of(tx, instance.clone()).await?;
    let terms = Terms {
        forwards: subject.offering.requires("route_forwarding"),
        binds: subject.plan.is_bindable(&subject.offering),
    };
    if let Some(failed) = verbs::admit(tx, settings, (route, instance), terms).await? {
        // Its broker may have the binding.
        orphan::of_binding(tx, &settings.keys, actor, (&subject, &failed.guid)).await?;
        db::delete::<ServiceRouteBinding>(tx, &failed.guid).await?;
    }
    binding.last_operation = Json(LastOperation::initial(CREATE));
    db::insert(tx, binding).await?;
    let guid = binding.guid.as_str();
    let input = task.sealed(&settings.keys, guid)?;
    enqueue_for(tx, actor, CREATE_ROUTE_BINDING, (RESOURCE, guid), input).await
}

/// Begins to remove a binding. Returns the job.
pub(crate) async fn begin_delete(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    binding: &mut ServiceRouteBinding,
) -> ApiResult<String> {
    let guid = binding.guid.clone();
    if let Some(job) = job::open_of(tx, DELETE_ROUTE_BINDING, &guid).await? {
        return Ok(job.guid);
    }
    note(tx, binding, (DELETE, IN_PROGRESS), None).await?;
    job::hasten(tx, CREATE_ROUTE_BINDING, &guid).await?;
    let input = Task::new(Value::Null, None).sealed(&settings.keys, &guid)?;
    enqueue_for(tx, actor, DELETE_ROUTE_BINDING, (RESOURCE, &guid), input).await
}

/// Removes a binding with something above it. It is called again until the binding is gone. A removal that has failed since `since`
/// counts.
async fn remove(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (mut binding, since): (ServiceRouteBinding, i64),
) -> ApiResult<Removal> {
    let deleting = job::open_of(tx, DELETE_ROUTE_BINDING, &binding.guid).await?;
    if deleting.is_some() {
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

/// Removes the bindings of an instance.
pub(super) async fn remove_of_instance(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (instance, since): (&ServiceInstance, i64),
) -> ApiResult<Removal> {
    let mut all = Removal::Gone;
    for binding in service_route_binding::of_instance(tx, &instance.guid).await? {
        let one = remove(tx, settings, actor, (binding, since)).await?;
        all = all.and(one);
    }
    Ok(all)
}

/// Removes the binding of a route, which is removed next: that of a managed instance by a job, another one at once.
pub(crate) async fn remove_of_route(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (route, since): (&Route, i64),
) -> ApiResult<Removal> {
    let Some(binding) = of_managed(tx, &route.guid).await? else {
        verbs::delete_of_route(tx, actor, route).await?;
        return Ok(Removal::Gone);
    };
    remove(tx, settings, actor, (binding, since)).await
}

/// Returns the binding of a route that only its broker can remove.
pub(crate) async fn of_managed(
    conn: &mut Connection,
    route: &str,
) -> ApiResult<Option<ServiceRouteBinding>> {
    let Some(binding) = service_route_binding::of_route(conn, route).await? else {
        return Ok(None);
    };
    let instance = instance_of(conn, &binding).await?;
    Ok(instance.is_managed().then_some(binding))
}

/// Returns the instance of a binding.
pub(crate) async fn instance_of(
    conn: &mut Connection,
    binding: &ServiceRouteBinding,
) -> ApiResult<ServiceInstance> {
    let guid = &binding.service_instance_guid;
    let instance = db::by_guid::<ServiceInstance>(conn, guid).await?;
    instance.ok_or_else(|| ApiError::not_found("Service instance"))
}

async fn subject_of(conn: &mut Connection, binding: &ServiceRouteBinding) -> ApiResult<Subject> {
    let instance = instance_of(conn, binding).await?;
    Subject::of(conn, instance).await
}

/// Returns the `bind_resource` of a request: the route.
async fn resource(conn: &mut Connection, binding: &ServiceRouteBinding) -> ApiResult<OrderedJson> {
    let route: Route = db::by_guid(conn, &binding.route_guid)
        .await?
        .ok_or_else(|| ApiError::not_found("Route"))?;
    let domain: Domain = db::by_guid(conn, &route.domain_guid)
        .await?
        .ok_or_else(|| ApiError::not_found("Domain"))?;
    let url = route_rules::url(&route.host, &domain.name, &route.path, route.port);
    let pair = ("route".to_owned(), OrderedJson::Text(url));
    Ok(OrderedJson::Object(vec![pair]))
}

pub(super) async fn prepare_create(tx: &mut Change, errand: Errand<'_>) -> ApiResult<Next> {
    let binding = match found(tx, errand, CREATE).await? {
        Ok(binding) => binding,
        Err(error) => return Ok(Next::After(After::Failed(error))),
    };
    let subject = subject_of(tx, &binding).await?;
    let question = match errand.accepted() {
        Some(operation) => subject.poll(operation, Some(binding.guid.clone()), Fetch::Binding),
        None => Question::Bind(osb::Bind {
            instance_guid: subject.instance.guid.clone(),
            binding_guid: binding.guid.clone(),
            ids: subject.ids(),
            context: subject.context(),
            app_guid: None,
            resource: resource(tx, &binding).await?,
            parameters: errand.task.parameters.clone(),
            predecessor: None,
            accepts_incomplete: true,
            requires: subject.offering.requires.0.clone(),
        }),
    };
    let longest = subject.plan.maximum_polling_duration;
    errand.call(&subject.broker, longest, question)
}

pub(super) async fn settle_create(
    tx: &mut Change,
    errand: Errand<'_>,
    call: &Call,
    reply: Reply,
) -> ApiResult<After> {
    let mut binding = match found(tx, errand, CREATE).await? {
        Ok(binding) => binding,
        // The job that removes the binding waits for this one.
        Err(error) => return Ok(After::Failed(error)),
    };
    let subject = subject_of(tx, &binding).await?;
    let Reply {
        content,
        description,
        made,
    } = reply;
    let is_report = content.is_report();
    let description = description.as_deref();
    let not_bound = match errand.step(Verb::Bind, call, content) {
        Step::Succeed => {
            let made = made.binding.unwrap_or_default();
            binding.route_service_url = made.route_service_url;
            note(tx, &mut binding, (CREATE, SUCCEEDED), description).await?;
            recorded(tx, errand, "create", (&binding, &subject)).await?;
            mark_processes_of(tx, &binding.route_guid).await?;
            return Ok(After::Done);
        }
        Step::Poll { .. } if !subject.offering.bindings_retrievable => NotBound::not_retrievable(),
        Step::Poll { stage, after } => {
            note(tx, &mut binding, (CREATE, IN_PROGRESS), description).await?;
            if !is_report {
                recorded(tx, errand, "start_create", (&binding, &subject)).await?;
            }
            let pause = after;
            return Ok(After::Again { stage, pause });
        }
        Step::Resend { after } => return Ok(After::resend(after)),
        Step::Fail {
            text,
            leaves_something,
        } => NotBound::refused(is_report, text, leaves_something),
        Step::Expire {
            text,
            leaves_something,
        } => NotBound::expired(text, leaves_something),
    };
    let failed = (CREATE, FAILED);
    note(tx, &mut binding, failed, Some(&not_bound.text)).await?;
    if not_bound.leaves_something {
        let orphan = (&subject, binding.guid.as_str());
        orphan::of_binding(tx, &errand.settings.keys, errand.actor(), orphan).await?;
    }
    Ok(After::Failed(not_bound.error))
}

/// Records what a job did with a binding.
async fn recorded(
    tx: &mut Change,
    errand: Errand<'_>,
    verb: &str,
    (binding, subject): (&ServiceRouteBinding, &Subject),
) -> ApiResult<()> {
    let request = errand.task.request.clone();
    let place = (binding, &subject.space);
    audit::also(verbs::record(tx, errand.actor(), verb, place, request).await?);
    Ok(())
}

/// Removes the route of a binding that was removed because the route is removed. So no request reaches its apps without the service in
/// between.
async fn follow(tx: &mut Change, errand: Errand<'_>, route: &str) -> ApiResult<()> {
    let Some(route) = db::by_guid::<Route>(tx, route).await? else {
        return Ok(());
    };
    for (operation, guid) in [
        (DELETE_ROUTE, &route.guid),
        (DELETE_DOMAIN, &route.domain_guid),
        (DELETE_SPACE, &route.space_guid),
    ] {
        if job::open_of(tx, operation, guid).await?.is_some() {
            audit::also(audit::deleted_route(tx, errand.actor(), &route).await?);
            return route::delete(tx, &route).await;
        }
    }
    Ok(())
}

pub(super) async fn prepare_delete(tx: &mut Change, errand: Errand<'_>) -> ApiResult<Next> {
    let guid = errand.resource();
    let Some(binding) = db::by_guid::<ServiceRouteBinding>(tx, guid).await? else {
        return Ok(Next::After(After::Done));
    };
    // The broker may have the request to make the binding, and must not get the one to remove it first.
    let is_being_made = job::open_of(tx, CREATE_ROUTE_BINDING, guid).await?;
    if errand.task.stage == Stage::Unsent && is_being_made.is_some() {
        return Ok(Next::After(After::WAIT));
    }
    let subject = subject_of(tx, &binding).await?;
    let question = match errand.accepted() {
        Some(operation) => subject.poll(operation, Some(binding.guid.clone()), Fetch::Nothing),
        None => Question::Unbind(osb::Unbind {
            instance_guid: subject.instance.guid.clone(),
            binding_guid: binding.guid.clone(),
            ids: subject.ids(),
            accepts_incomplete: true,
        }),
    };
    let longest = subject.plan.maximum_polling_duration;
    errand.call(&subject.broker, longest, question)
}

pub(super) async fn settle_delete(
    tx: &mut Change,
    errand: Errand<'_>,
    call: &Call,
    reply: Reply,
) -> ApiResult<After> {
    let found = db::by_guid::<ServiceRouteBinding>(tx, errand.resource()).await?;
    let Some(mut binding) = found else {
        return Ok(After::Done);
    };
    let subject = subject_of(tx, &binding).await?;
    let Reply {
        content,
        description,
        ..
    } = reply;
    let (is_report, is_busy) = (content.is_report(), content.is_busy());
    let after = match errand.step(Verb::Unbind, call, content) {
        Step::Succeed => {
            let space = &subject.space;
            audit::also(verbs::delete(tx, errand.actor(), &binding, space).await?);
            follow(tx, errand, &binding.route_guid).await?;
            After::Done
        }
        Step::Poll { stage, after } => {
            let state = (DELETE, IN_PROGRESS);
            note(tx, &mut binding, state, description.as_deref()).await?;
            if !is_report {
                let (place, request) = ((&binding, &subject.space), verbs::removal(&binding));
                let trail =
                    verbs::record(tx, errand.actor(), "start_delete", place, request).await?;
                audit::also(trail);
            }
            let pause = after;
            After::Again { stage, pause }
        }
        Step::Resend { after } => After::resend(after),
        Step::Fail { text, .. } => {
            let name = &subject.instance.name;
            let (text, error) = not_unbound((is_report, is_busy), name, text);
            note(tx, &mut binding, (DELETE, FAILED), Some(&text)).await?;
            After::Failed(error)
        }
        Step::Expire { text, .. } => {
            note(tx, &mut binding, (DELETE, FAILED), Some(&text)).await?;
            After::Failed(ApiError::job_timeout())
        }
    };
    if matches!(after, After::Done | After::Failed(_)) {
        ended(tx, &binding).await?;
    }
    Ok(after)
}

/// Makes the jobs due that delete the instance and the route of a binding, because they wait for this end.
async fn ended(tx: &mut Change, binding: &ServiceRouteBinding) -> ApiResult<()> {
    job::hasten(tx, DELETE_SERVICE_INSTANCE, &binding.service_instance_guid).await?;
    job::hasten(tx, DELETE_ROUTE, &binding.route_guid).await?;
    Ok(())
}
