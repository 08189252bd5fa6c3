//! The question of a job to a broker, and the reply. It is asked outside of any change.

use cc_rules::broker_operations::{Answer, Polling, Report, Stage};
use cc_rules::ordered_json::OrderedJson;
use osb::{ErrorKind, OperationState};
use serde_json::Value;
use std::time::Duration;

/// A request to a broker.
pub(crate) enum Question {
    Provision(osb::Provision),
    Update(osb::Update),
    Deprovision(osb::Deprovision),
    Bind(osb::Bind),
    Unbind(osb::Unbind),
    Poll { poll: osb::Poll, fetch: Fetch },
}

/// The resource that is fetched when an operation has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetch {
    Nothing,
    Instance,
    Binding,
}

/// A question to one broker.
pub(crate) struct Call {
    pub broker_guid: String,
    pub request_id: String,
    pub(super) broker: osb::Broker,
    pub(super) caller: osb::Caller,
    pub(super) question: Question,
    /// The stage before the question.
    pub(in crate::actions) stage: Stage,
    pub(super) polling: Polling,
}

/// The reply of a broker.
pub(crate) struct Reply {
    pub(in crate::actions) content: Content,
    /// The text of the broker for its users.
    pub(in crate::actions) description: Option<String>,
    pub(in crate::actions) made: Made,
}

/// The content of a reply.
#[derive(Debug)]
pub(crate) enum Content {
    Answer(Answer),
    Report {
        report: Report,
        demanded: Option<Duration>,
    },
}

impl Content {
    /// Returns whether the broker refused because it is busy with the same instance or binding.
    pub(in crate::actions) fn is_busy(&self) -> bool {
        matches!(self, Self::Answer(Answer::Busy { .. }))
    }

    pub(in crate::actions) fn is_report(&self) -> bool {
        matches!(self, Self::Report { .. })
    }
}

/// The values of an instance or binding that the broker returned.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(in crate::actions) dashboard_url: Option<String>,
    pub(in crate::actions) metadata: Option<Value>,
    pub(in crate::actions) binding: Option<osb::Binding>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self {
            content: Content::Answer(answer),
            description: None,
            made: Made::default(),
        }
    }
}

/// Sorts an error by what it leaves at the broker.
impl From<osb::Error> for Reply {
    fn from(error: osb::Error) -> Self {
        let leaves_orphan = error.leaves_orphan();
        let text = error.message;
        match error.kind {
            ErrorKind::Concurrency => Answer::Busy { text },
            _ if leaves_orphan => Answer::Unclear { text },
            _ => Answer::Refused { text },
        }
        .into()
    }
}

fn answer(progress: osb::Progress) -> Answer {
    match progress {
        osb::Progress::Done => Answer::Done,
        osb::Progress::Started { operation } => Answer::Accepted { operation },
    }
}

/// Sends a question and returns the reply. An error is a reply as well.
pub(crate) async fn send(client: &osb::Client, call: &Call) -> Reply {
    let calls = client.at(&call.broker, &call.caller);
    match &call.question {
        Question::Provision(wish) => changed(calls.provision(wish).await),
        Question::Update(wish) => changed(calls.update(wish).await),
        Question::Deprovision(wish) => changed(calls.deprovision(wish).await),
        Question::Bind(wish) => {
            let named = wish_of_key(wish, client.key_client());
            bound(calls.bind(named.as_ref().unwrap_or(wish)).await)
        }
        Question::Unbind(wish) => match calls.unbind(wish).await {
            Ok(progress) => answer(progress).into(),
            Err(error) => error.into(),
        },
        Question::Poll { poll, fetch } => poll_and_fetch(calls, poll, *fetch).await,
    }
}

/// Returns the wish for a key with the client of the UAA that services may trust, if there is one.
fn wish_of_key(wish: &osb::Bind, client: Option<&str>) -> Option<osb::Bind> {
    // The resource of another binding is an app or a route.
    let client = client.filter(|_| wish.resource.is_empty())?;
    let name = "credential_client_id".to_owned();
    let resource = OrderedJson::Object(vec![(name, OrderedJson::Text(client.to_owned()))]);
    Some(osb::Bind {
        resource,
        ..wish.clone()
    })
}

fn bound(result: Result<osb::Bound, osb::Error>) -> Reply {
    match result {
        Ok(osb::Bound::Done(binding)) => Reply {
            made: Made {
                binding: Some(binding),
                ..Made::default()
            },
            ..Reply::from(Answer::Done)
        },
        Ok(osb::Bound::Started { operation }) => Answer::Accepted { operation }.into(),
        Err(error) => error.into(),
    }
}

fn changed(result: Result<osb::Outcome, osb::Error>) -> Reply {
    match result {
        Ok(outcome) => Reply {
            description: outcome.description,
            made: Made {
                dashboard_url: outcome.dashboard_url,
                metadata: outcome.metadata,
                binding: None,
            },
            ..Reply::from(answer(outcome.progress))
        },
        Err(error) => error.into(),
    }
}

fn reported(report: Report, demanded: Option<Duration>) -> Reply {
    Reply {
        content: Content::Report { report, demanded },
        description: None,
        made: Made::default(),
    }
}

/// Asks how far an operation has come. When it has succeeded, what it made is fetched as well.
async fn poll_and_fetch(calls: osb::Calls<'_>, poll: &osb::Poll, fetch: Fetch) -> Reply {
    let found = match calls.last_operation(poll).await {
        Ok(found) => found,
        Err(error) => {
            tracing::info!(%error, instance = poll.instance_guid, "broker-silent");
            return reported(Report::Silent, None);
        }
    };
    let report = match found.state {
        OperationState::InProgress => Report::InProgress,
        OperationState::Succeeded => Report::Succeeded,
        OperationState::Gone => Report::Gone,
        OperationState::Failed => Report::Failed {
            text: found.description.clone().unwrap_or_default(),
        },
    };
    let has_succeeded = report == Report::Succeeded;
    let mut reply = Reply {
        description: found.description,
        ..reported(report, found.retry_after)
    };
    match fetch {
        _ if !has_succeeded => {}
        Fetch::Nothing => {}
        Fetch::Instance => match calls.fetch_instance(&poll.instance_guid, &poll.ids).await {
            Ok(instance) => reply.made.dashboard_url = instance.dashboard_url,
            Err(error) => {
                tracing::info!(%error, instance = poll.instance_guid, "instance-not-fetched")
            }
        },
        Fetch::Binding => {
            let binding = poll.binding_guid.as_deref().unwrap_or_default();
            let fetched = calls.fetch_binding(&poll.instance_guid, binding, &poll.ids);
            match fetched.await {
                Ok(fetched) => reply.made.binding = Some(fetched.binding),
                // The credentials are fetched with the next report.
                Err(error) if error.kind.may_pass() => {
                    return reported(Report::Silent, None);
                }
                Err(error) => {
                    let text = error.message;
                    return reported(Report::Failed { text }, None);
                }
            }
        }
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_the_client_that_services_may_trust() {
        let key = osb::Bind {
            instance_guid: "i".to_owned(),
            binding_guid: "b".to_owned(),
            ids: osb::Ids::default(),
            context: osb::Context::default(),
            app_guid: None,
            resource: OrderedJson::Object(Vec::new()),
            parameters: None,
            predecessor: None,
            accepts_incomplete: true,
            requires: Vec::new(),
        };
        let named = wish_of_key(&key, Some("keys")).unwrap();
        assert_eq!(named.resource.text(), r#"{"credential_client_id":"keys"}"#);
        assert_eq!(wish_of_key(&key, None), None);
        let route = ("route".to_owned(), OrderedJson::Text("a.test".to_owned()));
        let of_route = osb::Bind {
            resource: OrderedJson::Object(vec![route]),
            ..key
        };
        assert_eq!(wish_of_key(&of_route, Some("keys")), None);
    }
}
