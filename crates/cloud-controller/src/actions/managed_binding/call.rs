//! The jobs that make and remove bindings at their brokers: what is asked, and what follows from the replies.

use super::{follow, operations, place};
use crate::actions::broker_call::progress::{NotBound, found, not_unbound, note};
use crate::actions::broker_call::{After, Call, Errand, Fetch, Next, Question, Reply, Subject};
use crate::actions::job::DELETE_SERVICE_INSTANCE;
use crate::actions::{audit, orphan, service_credential_binding as verbs};
use crate::change::Change;
use crate::controller::Settings;
use crate::db::app::App;
use crate::db::service_credential_binding::ServiceCredentialBinding;
use crate::db::service_instance::{
    CREATE, DELETE, FAILED, IN_PROGRESS, SUCCEEDED, ServiceInstance,
};
use crate::db::{self, Connection, job};
use crate::error::{ApiError, ApiResult};
use cc_rules::broker_operations::{Stage, Step, Verb};
use cc_rules::ordered_json::OrderedJson;
use cc_rules::services;

async fn subject_of(
    conn: &mut Connection,
    binding: &ServiceCredentialBinding,
) -> ApiResult<Subject> {
    let guid = &binding.service_instance_guid;
    let instance = db::by_guid::<ServiceInstance>(conn, guid).await?;
    let instance = instance.ok_or_else(|| ApiError::not_found("Service instance"))?;
    Subject::of(conn, instance).await
}

pub(in crate::actions) async fn prepare_create(
    tx: &mut Change,
    errand: Errand<'_>,
) -> ApiResult<Next> {
    let binding = match found(tx, errand, CREATE).await? {
        Ok(binding) => binding,
        Err(error) => return Ok(Next::After(After::Failed(error))),
    };
    let subject = subject_of(tx, &binding).await?;
    let app = match &binding.app_guid {
        Some(guid) => db::by_guid::<App>(tx, guid).await?,
        None => None,
    };
    let question = match errand.accepted() {
        Some(operation) => subject.poll(operation, Some(binding.guid.clone()), Fetch::Binding),
        None => Question::Bind(osb::Bind {
            instance_guid: subject.instance.guid.clone(),
            binding_guid: binding.guid.clone(),
            ids: subject.ids(),
            context: subject.context(),
            app_guid: binding.app_guid.clone(),
            resource: resource(app.as_ref()),
            parameters: errand.task.parameters.clone(),
            predecessor: None,
            accepts_incomplete: true,
            requires: subject.offering.requires.0.clone(),
        }),
    };
    let longest = subject.plan.maximum_polling_duration;
    errand.call(&subject.broker, longest, question)
}

/// Returns the `bind_resource` of a request: the app, or nothing for a key.
fn resource(app: Option<&App>) -> OrderedJson {
    let text = |text: &str| OrderedJson::Text(text.to_owned());
    let Some(app) = app else {
        return OrderedJson::Object(Vec::new());
    };
    let annotations = app.metadata.0.public_annotations();
    let annotations = annotations
        .iter()
        .map(|(key, value)| (key.clone(), text(value)));
    OrderedJson::Object(vec![
        ("app_guid".to_owned(), text(&app.guid)),
        ("space_guid".to_owned(), text(&app.space_guid)),
        (
            "app_annotations".to_owned(),
            OrderedJson::Object(annotations.collect()),
        ),
    ])
}

pub(in crate::actions) async fn settle_create(
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
            match keep(tx, errand.settings, &mut binding, made).await? {
                Ok(()) => {
                    note(tx, &mut binding, (CREATE, SUCCEEDED), description).await?;
                    follow(tx, &binding).await?;
                    recorded(tx, errand, "create", (&binding, &subject.instance)).await?;
                    return Ok(After::Done);
                }
                Err(text) => NotBound::unusable(text),
            }
        }
        Step::Poll { .. } if !subject.offering.bindings_retrievable => NotBound::not_retrievable(),
        Step::Poll { stage, after } => {
            note(tx, &mut binding, (CREATE, IN_PROGRESS), description).await?;
            if !is_report {
                recorded(tx, errand, "start_create", (&binding, &subject.instance)).await?;
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

/// Stores what a broker returned for a binding, and returns what is wrong with it.
async fn keep(
    tx: &mut Change,
    settings: &Settings,
    binding: &mut ServiceCredentialBinding,
    made: osb::Binding,
) -> ApiResult<Result<(), String>> {
    let nothing = OrderedJson::Object(Vec::new());
    let credentials = made.credentials.unwrap_or(nothing);
    let (most, size) = (
        settings.limits.credentials_bytes as usize,
        credentials.text().len(),
    );
    if size > most {
        return Ok(Err(format!(
            "The service broker returned credentials of {size} bytes, and a binding may have at most {most}"
        )));
    }
    binding.credentials = settings.keys.seal_json(&binding.guid, Some(&credentials))?;
    let app = match &binding.app_guid {
        Some(guid) => db::by_guid::<App>(tx, guid).await?,
        None => return Ok(Ok(())),
    };
    let drain = made.syslog_drain_url.as_deref();
    binding.syslog_drain_url = drain.map(services::stored_drain_url);
    let Some(app) = app else {
        return Ok(Ok(()));
    };
    // Whether the app can get its bindings is checked with the new one among them.
    let before = binding.last_operation.clone();
    note(tx, binding, (CREATE, SUCCEEDED), None).await?;
    let delivered = verbs::check_delivery(tx, &settings.keys, &app).await;
    binding.last_operation = before;
    match delivered {
        Ok(()) => Ok(Ok(())),
        Err(error) if error.status.is_server_error() => Err(error),
        Err(error) => {
            binding.credentials = None;
            binding.syslog_drain_url = None;
            Ok(Err(error.to_string()))
        }
    }
}

/// Records what a job did with a binding.
async fn recorded(
    tx: &mut Change,
    errand: Errand<'_>,
    verb: &str,
    (binding, instance): (&ServiceCredentialBinding, &ServiceInstance),
) -> ApiResult<()> {
    let space = place(tx, binding, instance).await?;
    let request = errand.task.request.clone();
    let data = match errand.task.is_of_manifest {
        true => serde_json::json!({ "manifest_triggered": true, "request": request }),
        false => serde_json::json!({ "request": request }),
    };
    let trail = verbs::record(tx, errand.actor(), verb, (binding, &space), data).await?;
    audit::also(trail);
    Ok(())
}

pub(in crate::actions) async fn prepare_delete(
    tx: &mut Change,
    errand: Errand<'_>,
) -> ApiResult<Next> {
    let guid = errand.resource();
    let Some(binding) = db::by_guid::<ServiceCredentialBinding>(tx, guid).await? else {
        return Ok(Next::After(After::Done));
    };
    let (creation, _) = operations(&binding);
    // The broker may have the request to make the binding, and must not get the one to remove it first.
    let is_being_made = job::open_of(tx, creation, guid).await?.is_some();
    if errand.task.stage == Stage::Unsent && is_being_made {
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

pub(in crate::actions) async fn settle_delete(
    tx: &mut Change,
    errand: Errand<'_>,
    call: &Call,
    reply: Reply,
) -> ApiResult<After> {
    let found = db::by_guid::<ServiceCredentialBinding>(tx, errand.resource()).await?;
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
    match errand.step(Verb::Unbind, call, content) {
        Step::Succeed => {
            let space = place(tx, &binding, &subject.instance).await?;
            audit::also(verbs::delete(tx, errand.actor(), &binding, &space).await?);
            ended(tx, &binding).await?;
            Ok(After::Done)
        }
        Step::Poll { stage, after } => {
            let state = (DELETE, IN_PROGRESS);
            note(tx, &mut binding, state, description.as_deref()).await?;
            if !is_report {
                let space = place(tx, &binding, &subject.instance).await?;
                let data = verbs::removal(&binding);
                let place = (&binding, &space);
                let trail = verbs::record(tx, errand.actor(), "start_delete", place, data).await?;
                audit::also(trail);
            }
            let pause = after;
            Ok(After::Again { stage, pause })
        }
        Step::Resend { after } => Ok(After::resend(after)),
        Step::Fail { text, .. } => {
            let name = &subject.instance.name;
            let (text, error) = not_unbound((is_report, is_busy), name, text);
            note(tx, &mut binding, (DELETE, FAILED), Some(&text)).await?;
            ended(tx, &binding).await?;
            Ok(After::Failed(error))
        }
        Step::Expire { text, .. } => {
            note(tx, &mut binding, (DELETE, FAILED), Some(&text)).await?;
            ended(tx, &binding).await?;
            Ok(After::Failed(ApiError::job_timeout()))
        }
    }
}

/// Makes the job due that deletes the instance of a binding, because it waits for this end.
async fn ended(tx: &mut Change, binding: &ServiceCredentialBinding) -> ApiResult<()> {
    let instance = &binding.service_instance_guid;
    job::hasten(tx, DELETE_SERVICE_INSTANCE, instance).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_gets_the_app_of_a_binding() {
        let app = App {
            guid: "a".to_owned(),
            space_guid: "s".to_owned(),
            ..App::default()
        };
        assert_eq!(
            resource(Some(&app)).text(),
            r#"{"app_guid":"a","space_guid":"s","app_annotations":{}}"#
        );
        assert_eq!(resource(None).text(), "{}");
    }
}
