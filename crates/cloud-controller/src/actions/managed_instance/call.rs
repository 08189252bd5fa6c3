//! The jobs that make and remove managed instances at their brokers: what is asked, and what follows from the replies.

use super::{keep, record, space_of, unshare_all, version_json};
use crate::actions::broker_call::progress::{fail, found, note};
use crate::actions::broker_call::{After, Call, Errand, Fetch, Next, Question, Reply, Subject};
use crate::actions::job::CREATE_SERVICE_INSTANCE;
use crate::actions::managed_binding::{self, Removal};
use crate::actions::{audit, managed_route_binding, orphan};
use crate::change::Change;
use crate::db::service_instance::{
    CREATE, DELETE, FAILED, IN_PROGRESS, SUCCEEDED, ServiceInstance,
};
use crate::db::{self, job};
use crate::error::{ApiError, ApiResult};
use cc_rules::broker_operations::{Stage, Step, Verb};

pub(in crate::actions) async fn prepare_create(
    tx: &mut Change,
    errand: Errand<'_>,
) -> ApiResult<Next> {
    let instance = match found(tx, errand, CREATE).await? {
        Ok(instance) => instance,
        Err(error) => return Ok(Next::After(After::Failed(error))),
    };
    let subject = Subject::of(tx, instance).await?;
    let fetch = match subject.offering.instances_retrievable {
        true => Fetch::Instance,
        false => Fetch::Nothing,
    };
    let question = match errand.accepted() {
        Some(operation) => subject.poll(operation, None, fetch),
        None => {
            let annotations = subject.instance.metadata.0.public_annotations();
            let version = subject.plan.maintenance_info.as_ref();
            Question::Provision(osb::Provision {
                instance_guid: subject.instance.guid.clone(),
                ids: subject.ids(),
                context: osb::Context {
                    instance_annotations: Some(annotations),
                    ..subject.context_of(&subject.instance.name)
                },
                parameters: errand.task.parameters.clone(),
                maintenance_info: version.map(|info| version_json(&info.0)),
                accepts_incomplete: true,
            })
        }
    };
    let longest = subject.plan.maximum_polling_duration;
    errand.call(&subject.broker, longest, question)
}

pub(in crate::actions) async fn settle_create(
    tx: &mut Change,
    errand: Errand<'_>,
    call: &Call,
    reply: Reply,
) -> ApiResult<After> {
    let mut instance = match found(tx, errand, CREATE).await? {
        Ok(instance) => instance,
        // The job that deletes the instance waits for this one, and then removes what the broker has made.
        Err(error) => return Ok(After::Failed(error)),
    };
    let Reply {
        content,
        description,
        made,
    } = reply;
    let is_report = content.is_report();
    let description = description.unwrap_or_default();
    match errand.step(Verb::Provision, call, content) {
        Step::Succeed => {
            keep(&mut instance, made);
            note(tx, &mut instance, (CREATE, SUCCEEDED), Some(&description)).await?;
            recorded(tx, errand, "create", &instance).await?;
            Ok(After::Done)
        }
        Step::Poll { stage, after } => {
            keep(&mut instance, made);
            note(tx, &mut instance, (CREATE, IN_PROGRESS), Some(&description)).await?;
            if !is_report {
                recorded(tx, errand, "start_create", &instance).await?;
            }
            let pause = after;
            Ok(After::Again { stage, pause })
        }
        Step::Resend { after } => Ok(After::resend(after)),
        Step::Fail {
            text,
            leaves_something,
        } => {
            note(tx, &mut instance, (CREATE, FAILED), Some(&text)).await?;
            leave(tx, errand, instance, leaves_something).await?;
            let verb = match is_report {
                true => "create managed",
                false => "provision",
            };
            Ok(After::Failed(ApiError::unable(verb, text)))
        }
        Step::Expire {
            text,
            leaves_something,
        } => {
            note(tx, &mut instance, (CREATE, FAILED), Some(&text)).await?;
            leave(tx, errand, instance, leaves_something).await?;
            Ok(After::Failed(ApiError::job_timeout()))
        }
    }
}

/// Enqueues the removal of an instance at its broker, if the broker may have it.
async fn leave(
    tx: &mut Change,
    errand: Errand<'_>,
    instance: ServiceInstance,
    leaves_something: bool,
) -> ApiResult<()> {
    if !leaves_something {
        return Ok(());
    }
    let subject = Subject::of(tx, instance).await?;
    orphan::of_instance(tx, &errand.settings.keys, errand.actor(), &subject).await
}

/// Records what a job did with an instance.
pub(in crate::actions) async fn recorded(
    tx: &mut Change,
    errand: Errand<'_>,
    verb: &str,
    instance: &ServiceInstance,
) -> ApiResult<()> {
    let space = space_of(tx, &instance.space_guid).await?;
    let request = &errand.task.request;
    let trail = record(tx, errand.actor(), verb, (instance, &space), request).await?;
    audit::also(trail);
    Ok(())
}

pub(in crate::actions) async fn prepare_delete(
    tx: &mut Change,
    errand: Errand<'_>,
) -> ApiResult<Next> {
    let guid = errand.resource();
    let Some(instance) = db::by_guid::<ServiceInstance>(tx, guid).await? else {
        return Ok(Next::After(After::Done));
    };
    if errand.task.stage == Stage::Unsent {
        let (settings, actor) = (errand.settings, errand.actor());
        let since = errand.job.created_at;
        let what = (&instance, since);
        let bound = managed_binding::remove_of_instance(tx, settings, actor, what).await?;
        let routed = managed_route_binding::remove_of_instance(tx, settings, actor, what).await?;
        match bound.and(routed) {
            Removal::Gone => {}
            Removal::Waiting => return Ok(errand.wait()),
            Removal::Failed(text) => {
                fail::<ServiceInstance>(tx, guid, &text).await?;
                let error = ApiError::unable(DELETE, text);
                return Ok(Next::After(After::Failed(error)));
            }
        }
        // The broker may have the request to make the instance, and must not get the one to remove it first.
        if job::open_of(tx, CREATE_SERVICE_INSTANCE, guid)
            .await?
            .is_some()
        {
            return Ok(Next::After(After::WAIT));
        }
        let space = space_of(tx, &instance.space_guid).await?;
        unshare_all(tx, actor, &instance, &space).await?;
    }
    let subject = Subject::of(tx, instance).await?;
    let question = match errand.accepted() {
        Some(operation) => subject.poll(operation, None, Fetch::Nothing),
        None => Question::Deprovision(osb::Deprovision {
            instance_guid: subject.instance.guid.clone(),
            ids: subject.ids(),
            accepts_incomplete: true,
        }),
    };
    let longest = subject.plan.maximum_polling_duration;
    errand.call(&subject.broker, longest, question)
}

pub(in crate::actions) async fn settle_delete(
    tx: &mut Change,
    errand: Errand<'_>,
    call: &Call,
    reply: Reply,
) -> ApiResult<After> {
    let found = db::by_guid::<ServiceInstance>(tx, errand.resource()).await?;
    let Some(mut instance) = found else {
        return Ok(After::Done);
    };
    let Reply {
        content,
        description,
        ..
    } = reply;
    let (is_report, is_busy) = (content.is_report(), content.is_busy());
    match errand.step(Verb::Deprovision, call, content) {
        Step::Succeed => {
            recorded(tx, errand, "delete", &instance).await?;
            db::delete::<ServiceInstance>(tx, &instance.guid).await?;
            Ok(After::Done)
        }
        Step::Poll { stage, after } => {
            let state = (DELETE, IN_PROGRESS);
            note(tx, &mut instance, state, description.as_deref()).await?;
            if !is_report {
                recorded(tx, errand, "start_delete", &instance).await?;
            }
            let pause = after;
            Ok(After::Again { stage, pause })
        }
        Step::Resend { after } => Ok(After::resend(after)),
        Step::Fail { text, .. } => {
            let name = instance.name.clone();
            let error = match (is_busy, is_report) {
                (true, _) => ApiError::instance_busy(&name),
                (false, true) => ApiError::unable(DELETE, &text),
                (false, false) => {
                    ApiError::unable(DELETE, format!("Service instance {name}: {text}"))
                }
            };
            let text = match is_report || is_busy {
                true => text,
                false => format!("Service instance {name}: {text}"),
            };
            note(tx, &mut instance, (DELETE, FAILED), Some(&text)).await?;
            Ok(After::Failed(error))
        }
        Step::Expire { text, .. } => {
            note(tx, &mut instance, (DELETE, FAILED), Some(&text)).await?;
            Ok(After::Failed(ApiError::job_timeout()))
        }
    }
}
