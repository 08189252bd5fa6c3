//! Jobs that call a service broker: what each of them remembers, what it asks, and what follows from the reply.
//!
//! `crate::jobs::operation` looks at a job: [`prepare`] within a change, [`send`] outside of any, [`settle`] within another change. The
//! verbs are in `managed_instance`, `managed_update`, `managed_binding`, `managed_route_binding` and `orphan`; the
//! decisions are in `cc_rules::broker_operations`.

pub(super) mod progress;
mod question;
mod subject;

pub(crate) use question::{Call, Content, Fetch, Made, Question, Reply, send};
pub(crate) use subject::{Subject, ids};

use super::audit::Target;
use super::job::{
    CREATE_ROUTE_BINDING, CREATE_SERVICE_BINDING, CREATE_SERVICE_INSTANCE, CREATE_SERVICE_KEY,
    DELETE_ROUTE_BINDING, DELETE_SERVICE_BINDING, DELETE_SERVICE_INSTANCE, DELETE_SERVICE_KEY,
    REMOVE_ORPHANED_BINDING, REMOVE_ORPHANED_INSTANCE, UPDATE_SERVICE_INSTANCE, waiting_pause,
};
use super::managed_update::InstanceChange;
use super::orphan::Orphan;
use super::{managed_binding, managed_instance, managed_route_binding, managed_update, orphan};
use crate::change::Change;
use crate::clock;
use crate::controller::Settings;
use crate::db::job::Job;
use crate::db::service_broker::ServiceBroker;
use crate::db::service_credential_binding::ServiceCredentialBinding;
use crate::db::service_instance::ServiceInstance;
use crate::db::service_route_binding::ServiceRouteBinding;
use crate::error::{ApiError, ApiResult};
use crate::sealing::{Keyring, Sealed};
use cc_rules::broker_operations::{self, Polling, Stage, Step, Verb};
use cc_rules::ordered_json::OrderedJson;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// The work of a job that calls a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    CreateInstance,
    UpdateInstance,
    DeleteInstance,
    CreateBinding,
    DeleteBinding,
    CreateRouteBinding,
    DeleteRouteBinding,
    RemoveOrphan,
}

impl Operation {
    /// Returns the work of a job by the name of its operation. Other jobs call no broker.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            CREATE_SERVICE_INSTANCE => Self::CreateInstance,
            UPDATE_SERVICE_INSTANCE => Self::UpdateInstance,
            DELETE_SERVICE_INSTANCE => Self::DeleteInstance,
            CREATE_SERVICE_BINDING | CREATE_SERVICE_KEY => Self::CreateBinding,
            DELETE_SERVICE_BINDING | DELETE_SERVICE_KEY => Self::DeleteBinding,
            CREATE_ROUTE_BINDING => Self::CreateRouteBinding,
            DELETE_ROUTE_BINDING => Self::DeleteRouteBinding,
            REMOVE_ORPHANED_INSTANCE | REMOVE_ORPHANED_BINDING => Self::RemoveOrphan,
            _ => return None,
        })
    }
}

/// The memory of a job between its calls. It is sealed, because parameters may be secret.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Task {
    pub stage: Stage,
    /// The time at which the first request was sent, in microseconds since the epoch; 0 before.
    pub(super) began: i64,
    /// The number of failures to remove an orphan.
    pub(super) failures: u32,
    /// The id of the user's request.
    pub(super) request_id: String,
    /// The user's request as its event has it.
    pub(super) request: Value,
    pub(super) parameters: Option<OrderedJson>,
    pub(super) change: Option<InstanceChange>,
    pub(super) orphan: Option<Orphan>,
    pub(super) is_of_manifest: bool,
}

impl Task {
    /// Creates the task of a request. `request` is its body as the event of the operation has it.
    pub(crate) fn new(request: Value, parameters: Option<OrderedJson>) -> Self {
        Self {
            request,
            parameters,
            request_id: clients::request_id::current(),
            ..Self::default()
        }
    }

    /// Returns the task as a job stores it.
    pub(super) fn sealed(&self, keys: &Keyring, resource: &str) -> ApiResult<Option<Sealed>> {
        Ok(Some(keys.seal_as(resource, self)?))
    }

    fn of(keys: &Keyring, job: &Job) -> ApiResult<Self> {
        match &job.input {
            Some(input) => Ok(keys.open_as(&job.resource_guid, input)?),
            None => Ok(Self::default()),
        }
    }

    /// Notes that a request is sent now.
    pub(crate) fn begin(&mut self, now: i64) {
        if self.began == 0 {
            self.began = now;
        }
        if self.stage == Stage::Unsent {
            self.stage = Stage::Sent;
        }
    }
}

/// A job that calls a broker, with its task.
#[derive(Clone, Copy)]
pub(crate) struct Errand<'a> {
    pub(super) settings: &'a Settings,
    pub(super) job: &'a Job,
    pub(super) task: &'a Task,
}

impl<'a> Errand<'a> {
    /// Returns the user in whose name the job works.
    pub(super) fn actor(&self) -> Target<'a> {
        let job = self.job;
        (&job.actor_guid, &job.actor_type, &job.actor_name)
    }

    /// Returns the guid of what the job makes, changes or removes.
    pub(super) fn resource(&self) -> &'a str {
        &self.job.resource_guid
    }

    fn elapsed(&self) -> Duration {
        let micros = match self.task.began {
            0 => 0,
            began => clock::now().saturating_sub(began),
        };
        Duration::from_micros(u64::try_from(micros).unwrap_or_default())
    }

    /// Returns the step of a job that waits for jobs below it. The pause grows with the age of the job; a job below it that ends makes it
    /// due at once.
    pub(super) fn wait(&self) -> Next {
        Next::After(After::Wait(waiting_pause(self.job.created_at)))
    }

    /// Returns the call of a broker with a question.
    pub(super) fn call(
        &self,
        broker: &ServiceBroker,
        maximum_polling_duration: Option<i64>,
        question: Question,
    ) -> ApiResult<Next> {
        Ok(Next::Call(Box::new(Call {
            broker_guid: broker.guid.clone(),
            request_id: self.task.request_id.clone(),
            broker: address(&self.settings.keys, broker)?,
            caller: osb::Caller {
                user_guid: (self.job.actor_type == "user").then(|| self.job.actor_guid.clone()),
                request_id: Some(self.task.request_id.clone()).filter(|id| !id.is_empty()),
            },
            question,
            stage: self.task.stage.clone(),
            polling: Polling::default().of_plan(maximum_polling_duration),
        })))
    }

    /// Returns the operation's name at the broker, once the broker has accepted the operation.
    pub(super) fn accepted(&self) -> Option<Option<String>> {
        match &self.task.stage {
            Stage::Accepted { operation, .. } => Some(operation.clone()),
            Stage::Unsent | Stage::Sent => None,
        }
    }

    /// Returns the step that follows from a reply.
    pub(super) fn step(&self, verb: Verb, call: &Call, content: Content) -> Step {
        let (stage, polling, elapsed) = (&call.stage, &call.polling, self.elapsed());
        let step = match content {
            Content::Answer(answer) => {
                broker_operations::after_answer(verb, stage, answer, polling)
            }
            Content::Report { report, demanded } => {
                let times = (elapsed, demanded);
                broker_operations::after_report(verb, stage, report, times, polling)
            }
        };
        match step {
            Step::Resend { .. } if elapsed > polling.patience => broker_operations::expired(verb),
            step => step,
        }
    }
}

/// Returns the error of a request whose broker did not answer it.
pub(crate) fn refused(error: &osb::Error) -> ApiError {
    let status = error.kind.platform_status();
    ApiError::new(status, 10001, error.kind.title(), error.to_string())
}

/// Returns where a broker is, with its password.
pub(crate) fn address(keys: &Keyring, broker: &ServiceBroker) -> ApiResult<osb::Broker> {
    Ok(osb::Broker {
        url: broker.url.clone(),
        username: broker.username.clone(),
        password: keys.open(&broker.guid, &broker.password)?,
    })
}

/// The step that a look at a job begins with.
pub(crate) enum Next {
    Call(Box<Call>),
    After(After),
}

/// The end of a look at a job.
#[derive(Debug)]
pub(crate) enum After {
    Done,
    /// The job fails. What has become of its resource is stored already.
    Failed(ApiError),
    /// The job looks again after a pause, at the same stage.
    Wait(Duration),
    Again {
        stage: Stage,
        pause: Duration,
    },
}

impl After {
    /// The pause of a job that waits for another one.
    pub(super) const WAIT: Self = Self::Wait(Duration::from_millis(400));

    /// Sends the request again after a pause.
    pub(super) fn resend(pause: Duration) -> Self {
        let stage = Stage::Sent;
        Self::Again { stage, pause }
    }
}

/// Decides what a job does next, and stores what must be stored before.
pub(crate) async fn prepare(
    tx: &mut Change,
    settings: &Settings,
    job: &Job,
) -> ApiResult<(Task, Next)> {
    let task = Task::of(&settings.keys, job)?;
    let errand = Errand {
        settings,
        job,
        task: &task,
    };
    let next = match operation(job)? {
        Operation::CreateInstance => managed_instance::prepare_create(tx, errand).await?,
        Operation::UpdateInstance => managed_update::prepare(tx, errand).await?,
        Operation::DeleteInstance => managed_instance::prepare_delete(tx, errand).await?,
        Operation::CreateBinding => managed_binding::prepare_create(tx, errand).await?,
        Operation::DeleteBinding => managed_binding::prepare_delete(tx, errand).await?,
        Operation::CreateRouteBinding => managed_route_binding::prepare_create(tx, errand).await?,
        Operation::DeleteRouteBinding => managed_route_binding::prepare_delete(tx, errand).await?,
        Operation::RemoveOrphan => orphan::prepare(tx, errand).await?,
    };
    Ok((task, next))
}

/// Stores what follows from the reply to a call.
pub(crate) async fn settle(
    tx: &mut Change,
    settings: &Settings,
    job: &Job,
    (call, reply): (&Call, Reply),
) -> ApiResult<(Task, After)> {
    let mut task = Task::of(&settings.keys, job)?;
    let errand = Errand {
        settings,
        job,
        task: &task,
    };
    let after = match operation(job)? {
        Operation::CreateInstance => {
            managed_instance::settle_create(tx, errand, call, reply).await?
        }
        Operation::UpdateInstance => managed_update::settle(tx, errand, call, reply).await?,
        Operation::DeleteInstance => {
            managed_instance::settle_delete(tx, errand, call, reply).await?
        }
        Operation::CreateBinding => managed_binding::settle_create(tx, errand, call, reply).await?,
        Operation::DeleteBinding => managed_binding::settle_delete(tx, errand, call, reply).await?,
        Operation::CreateRouteBinding => {
            managed_route_binding::settle_create(tx, errand, call, reply).await?
        }
        Operation::DeleteRouteBinding => {
            managed_route_binding::settle_delete(tx, errand, call, reply).await?
        }
        Operation::RemoveOrphan => {
            let (failures, after) = orphan::settle(errand, call, reply);
            task.failures = failures;
            after
        }
    };
    Ok((task, after))
}

fn operation(job: &Job) -> ApiResult<Operation> {
    Operation::of(&job.operation).ok_or_else(|| {
        let name = &job.operation;
        ApiError::unprocessable(format!("The operation '{name}' calls no broker"))
    })
}

/// Stores that the resource of a job has failed, because the job fails for a reason of its own.
pub(crate) async fn give_up(tx: &mut Change, job: &Job, text: &str) -> ApiResult<()> {
    let guid = &job.resource_guid;
    match operation(job)? {
        Operation::CreateInstance | Operation::UpdateInstance | Operation::DeleteInstance => {
            progress::fail::<ServiceInstance>(tx, guid, text).await
        }
        Operation::CreateBinding | Operation::DeleteBinding => {
            progress::fail::<ServiceCredentialBinding>(tx, guid, text).await
        }
        Operation::CreateRouteBinding | Operation::DeleteRouteBinding => {
            progress::fail::<ServiceRouteBinding>(tx, guid, text).await
        }
        Operation::RemoveOrphan => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_its_work() {
        for (name, wanted) in [
            ("service_instance.create", Some(Operation::CreateInstance)),
            ("service_keys.create", Some(Operation::CreateBinding)),
            ("service_bindings.delete", Some(Operation::DeleteBinding)),
            (
                "service_route_bindings.delete",
                Some(Operation::DeleteRouteBinding),
            ),
            (
                "service_binding.remove_orphan",
                Some(Operation::RemoveOrphan),
            ),
            ("space.delete", None),
        ] {
            assert_eq!(Operation::of(name), wanted, "{name}");
        }
    }

    #[test]
    fn a_task_is_stored_and_read_and_remembers_when_it_began() {
        let mut task = Task::new(serde_json::json!({ "name": "db" }), None);
        task.begin(5);
        task.begin(7);
        assert_eq!((task.began, &task.stage), (5, &Stage::Sent));
        let text = serde_json::to_string(&task).unwrap();
        let read: Task = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (read.began, read.stage, read.request),
            (5, Stage::Sent, task.request)
        );
        let empty: Task = serde_json::from_str("{}").unwrap();
        assert_eq!(empty.stage, Stage::Unsent);
    }
}
