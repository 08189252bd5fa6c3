//! Removes what a failed request may have left at a broker: an instance or a binding that the broker may have made and that no row has.
//!
//! Callers: `managed_instance`, `managed_binding` and `managed_route_binding` enqueue a job for each possible orphan, in the change that
//! notes the failure. The job repeats its request ever more rarely until the broker has removed the orphan, or has none.

use super::audit::Target;
use super::broker_call::{After, Call, Errand, Fetch, Next, Question, Reply, Subject, Task};
use super::job::{REMOVE_ORPHANED_BINDING, REMOVE_ORPHANED_INSTANCE, enqueue_for};
use crate::change::Change;
use crate::clock;
use crate::db::service_broker::ServiceBroker;
use crate::db::{self, job};
use crate::error::{ApiError, ApiResult};
use crate::sealing::Keyring;
use cc_rules::broker_operations::{Polling, Stage, Step, Verb, removal_pause};
use serde::{Deserialize, Serialize};

/// An instance or binding that may be at a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Orphan {
    broker_guid: String,
    /// The ids of the offering and the plan in the broker's catalog. The rows may be gone.
    offering: String,
    plan: String,
    instance_guid: String,
    binding_guid: Option<String>,
}

impl Orphan {
    fn of(subject: &Subject, binding_guid: Option<&str>) -> Self {
        let ids = subject.ids();
        Self {
            broker_guid: subject.broker.guid.clone(),
            offering: ids.offering,
            plan: ids.plan,
            instance_guid: subject.instance.guid.clone(),
            binding_guid: binding_guid.map(str::to_owned),
        }
    }

    fn ids(&self) -> osb::Ids {
        osb::Ids {
            offering: self.offering.clone(),
            plan: self.plan.clone(),
        }
    }

    fn verb(&self) -> Verb {
        match self.binding_guid {
            Some(_) => Verb::Unbind,
            None => Verb::Deprovision,
        }
    }

    fn question(&self, accepted: Option<Option<String>>) -> Question {
        let instance_guid = self.instance_guid.clone();
        match (accepted, &self.binding_guid) {
            (Some(operation), binding_guid) => Question::Poll {
                poll: osb::Poll {
                    instance_guid,
                    binding_guid: binding_guid.clone(),
                    ids: self.ids(),
                    operation,
                },
                fetch: Fetch::Nothing,
            },
            (None, Some(binding_guid)) => Question::Unbind(osb::Unbind {
                instance_guid,
                binding_guid: binding_guid.clone(),
                ids: self.ids(),
                accepts_incomplete: true,
            }),
            (None, None) => Question::Deprovision(osb::Deprovision {
                instance_guid,
                ids: self.ids(),
                accepts_incomplete: true,
            }),
        }
    }
}

/// Enqueues the removal of an instance that its broker may have.
pub(super) async fn of_instance(
    tx: &mut Change,
    keys: &Keyring,
    actor: Target<'_>,
    subject: &Subject,
) -> ApiResult<()> {
    let orphan = Orphan::of(subject, None);
    let resource = ("service_instance", subject.instance.guid.as_str());
    enqueue(
        tx,
        keys,
        actor,
        (REMOVE_ORPHANED_INSTANCE, resource),
        orphan,
    )
    .await
}

/// Enqueues the removal of a binding that its broker may have.
pub(super) async fn of_binding(
    tx: &mut Change,
    keys: &Keyring,
    actor: Target<'_>,
    (subject, binding): (&Subject, &str),
) -> ApiResult<()> {
    let orphan = Orphan::of(subject, Some(binding));
    let resource = ("service_credential_binding", binding);
    enqueue(tx, keys, actor, (REMOVE_ORPHANED_BINDING, resource), orphan).await
}

async fn enqueue(
    tx: &mut Change,
    keys: &Keyring,
    actor: Target<'_>,
    (operation, resource): (&str, (&str, &str)),
    orphan: Orphan,
) -> ApiResult<()> {
    let guid = resource.1;
    if job::open_of(tx, operation, guid).await?.is_some() {
        return Ok(());
    }
    tracing::info!(operation, guid, "orphan-possible");
    let task = Task {
        orphan: Some(orphan),
        ..Task::new(serde_json::Value::Null, None)
    };
    let input = task.sealed(keys, guid)?;
    enqueue_for(tx, actor, operation, resource, input).await?;
    Ok(())
}

pub(super) async fn prepare(tx: &mut Change, errand: Errand<'_>) -> ApiResult<Next> {
    let Some(orphan) = &errand.task.orphan else {
        let text = "The job does not say what it removes";
        return Ok(Next::After(After::Failed(ApiError::unprocessable(text))));
    };
    // A broker that was removed is not asked any more.
    let Some(broker) = db::by_guid::<ServiceBroker>(tx, &orphan.broker_guid).await? else {
        return Ok(Next::After(After::Done));
    };
    errand.call(&broker, None, orphan.question(errand.accepted()))
}

/// Returns the number of failures so far, and what follows.
pub(super) fn settle(errand: Errand<'_>, call: &Call, reply: Reply) -> (u32, After) {
    let failures = errand.task.failures;
    let verb = errand
        .task
        .orphan
        .as_ref()
        .map_or(Verb::Unbind, Orphan::verb);
    match errand.step(verb, call, reply.content) {
        Step::Succeed => (failures, After::Done),
        Step::Poll { stage, after } => {
            let pause = after;
            (failures, After::Again { stage, pause })
        }
        Step::Resend { after } => (failures, After::resend(after)),
        Step::Fail { text, .. } | Step::Expire { text, .. } => {
            let guid = errand.resource();
            tracing::warn!(guid, failures, text, "orphan-not-removed");
            let after = match is_hopeless(errand.job.created_at, clock::now()) {
                true => After::Failed(ApiError::unable(verb.word(), text)),
                // The request is a new one, also for a broker that had accepted the last one.
                false => After::Again {
                    stage: Stage::Sent,
                    pause: removal_pause(failures),
                },
            };
            (failures.saturating_add(1), after)
        }
    }
}

/// Returns whether an orphan is left at its broker after all, because the broker has refused for as long as any operation may take.
fn is_hopeless(since: i64, now: i64) -> bool {
    let patience = Polling::default().patience.as_micros();
    u128::try_from(now.saturating_sub(since)).is_ok_and(|passed| passed > patience)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orphan_is_removed_as_what_it_is() {
        let instance = Orphan {
            instance_guid: "i".to_owned(),
            ..Orphan::default()
        };
        let binding = Orphan {
            binding_guid: Some("b".to_owned()),
            ..instance.clone()
        };
        assert_eq!(instance.verb(), Verb::Deprovision);
        assert_eq!(binding.verb(), Verb::Unbind);
        assert!(matches!(instance.question(None), Question::Deprovision(_)));
        assert!(matches!(binding.question(None), Question::Unbind(_)));
        let Question::Poll { poll, fetch } = binding.question(Some(Some("op".to_owned()))) else {
            panic!("an accepted removal is polled");
        };
        assert_eq!(poll.binding_guid.as_deref(), Some("b"));
        assert_eq!(poll.operation.as_deref(), Some("op"));
        assert_eq!(fetch, Fetch::Nothing);
    }

    #[test]
    fn removal_ends_after_a_week() {
        let week = 7 * 24 * 3600 * 1_000_000;
        assert!(!is_hopeless(5, 5 + week));
        assert!(is_hopeless(5, 6 + week));
        assert!(!is_hopeless(5, 0));
    }
}
