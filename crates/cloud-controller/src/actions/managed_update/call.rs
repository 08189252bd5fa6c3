//! The job that changes a managed instance at its broker: what is asked, and what follows from the replies.

use super::InstanceChange;
use crate::actions::broker_call::progress::{fail, found, note};
use crate::actions::broker_call::{
    After, Call, Errand, Fetch, Next, Question, Reply, Subject, Task, ids,
};
use crate::actions::managed_instance::{keep, recorded, version_json};
use crate::actions::service_instance;
use crate::change::Change;
use crate::db::service_instance::{FAILED, IN_PROGRESS, SUCCEEDED, ServiceInstance, UPDATE};
use crate::db::service_plan::ServicePlan;
use crate::db::{self, Connection};
use crate::error::{ApiError, ApiResult};
use cc_rules::broker_operations::{Step, Verb};
use cc_rules::limits::Limits;
use cc_rules::ordered_json::OrderedJson;

/// Returns the plan that an instance has after a change.
async fn plan_after(
    conn: &mut Connection,
    subject: &Subject,
    change: &InstanceChange,
) -> ApiResult<Option<ServicePlan>> {
    match change.new_plan(&subject.instance) {
        Some(guid) => Ok(db::by_guid(conn, guid).await?),
        None => Ok(Some(subject.plan.clone())),
    }
}

pub(in crate::actions) async fn prepare(tx: &mut Change, errand: Errand<'_>) -> ApiResult<Next> {
    let instance = match found(tx, errand, UPDATE).await? {
        Ok(instance) => instance,
        Err(error) => return Ok(Next::After(After::Failed(error))),
    };
    let subject = Subject::of(tx, instance).await?;
    let change = errand.task.change.clone().unwrap_or_default();
    let Some(plan) = plan_after(tx, &subject, &change).await? else {
        let guid = change.plan.unwrap_or_default();
        let text = format!("The service plan could not be found: {guid}");
        fail::<ServiceInstance>(tx, errand.resource(), &text).await?;
        let error = ApiError::new(404, 110_003, "ServicePlanNotFound", text);
        return Ok(Next::After(After::Failed(error)));
    };
    let question = match errand.accepted() {
        Some(operation) => {
            let fetch = match subject.offering.instances_retrievable {
                true => Fetch::Instance,
                false => Fetch::Nothing,
            };
            subject.poll(operation, None, fetch)
        }
        None => Question::Update(request(&subject, &plan, &change, errand.task)),
    };
    let longest = plan.maximum_polling_duration;
    errand.call(&subject.broker, longest, question)
}

fn request(
    subject: &Subject,
    plan: &ServicePlan,
    change: &InstanceChange,
    task: &Task,
) -> osb::Update {
    let instance = &subject.instance;
    let version = change.version_after(instance, plan);
    let before = instance.maintenance_info.as_ref();
    let name = change.name.as_deref().unwrap_or(&instance.name);
    let nothing = OrderedJson::Object(Vec::new());
    osb::Update {
        instance_guid: instance.guid.clone(),
        ids: ids(&subject.offering, plan),
        context: subject.context_of(name),
        parameters: Some(task.parameters.clone().unwrap_or(nothing)),
        maintenance_info: version.as_ref().map(version_json),
        previous: osb::PreviousValues {
            ids: subject.ids(),
            organization_guid: subject.organization.guid.clone(),
            space_guid: subject.space.guid.clone(),
            maintenance_info: before.map(|info| version_json(&info.0)),
        },
        accepts_incomplete: true,
    }
}

pub(in crate::actions) async fn settle(
    tx: &mut Change,
    errand: Errand<'_>,
    call: &Call,
    reply: Reply,
) -> ApiResult<After> {
    let mut instance = match found(tx, errand, UPDATE).await? {
        Ok(instance) => instance,
        Err(error) => return Ok(After::Failed(error)),
    };
    let Reply {
        content,
        description,
        made,
    } = reply;
    let is_report = content.is_report();
    let description = description.unwrap_or_default();
    match errand.step(Verb::Update, call, content) {
        Step::Succeed => {
            keep(&mut instance, made);
            let limits = &errand.settings.limits;
            if let Err(error) = complete(tx, limits, errand.task, &mut instance).await? {
                let text = error.to_string();
                note(tx, &mut instance, (UPDATE, FAILED), Some(&text)).await?;
                return Ok(After::Failed(ApiError::unable(UPDATE, text)));
            }
            note(tx, &mut instance, (UPDATE, SUCCEEDED), Some(&description)).await?;
            recorded(tx, errand, "update", &instance).await?;
            Ok(After::Done)
        }
        Step::Poll { stage, after } => {
            keep(&mut instance, made);
            note(tx, &mut instance, (UPDATE, IN_PROGRESS), Some(&description)).await?;
            if !is_report {
                recorded(tx, errand, "start_update", &instance).await?;
            }
            let pause = after;
            Ok(After::Again { stage, pause })
        }
        Step::Resend { after } => Ok(After::resend(after)),
        Step::Fail { text, .. } => {
            note(tx, &mut instance, (UPDATE, FAILED), Some(&text)).await?;
            Ok(After::Failed(ApiError::unable(UPDATE, text)))
        }
        Step::Expire { text, .. } => {
            note(tx, &mut instance, (UPDATE, FAILED), Some(&text)).await?;
            Ok(After::Failed(ApiError::job_timeout()))
        }
    }
}

/// Changes an instance as its broker has done. A name that was taken meanwhile is an error, and the instance stays as it was.
async fn complete(
    conn: &mut Connection,
    limits: &Limits,
    task: &Task,
    instance: &mut ServiceInstance,
) -> ApiResult<Result<(), ApiError>> {
    let change = task.change.clone().unwrap_or_default();
    let subject = Subject::of(conn, instance.clone()).await?;
    let plan = plan_after(conn, &subject, &change).await?;
    let version = plan.and_then(|plan| change.version_after(instance, &plan));
    let mut changed = instance.clone();
    change.apply(limits, &mut changed, version)?;
    if changed.name != instance.name
        && let Err(error) = service_instance::check_name(conn, &changed).await
    {
        return Ok(Err(error));
    }
    *instance = changed;
    Ok(Ok(()))
}
