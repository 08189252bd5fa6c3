//! Delivers the results of tasks to the callback URLs of their owners: the task is marked as resolving, the result is posted, and
//! then the task is deleted.
//!
//! A result counts as delivered if the receiver answers with any status but 5xx and 429. Otherwise this module retries for
//! [`PATIENCE`], and after that convergence retries until the task expires: a receiver that is down for some minutes loses
//! nothing.

use crate::state::State;
use crate::store::Store;
use anyhow::{Context as _, Result};
use clients::request_id;
use ids::TaskGuid;
use kit::backoff::Backoff;
use kit::tls::Identity;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use wire::bbs as m;

/// The time limit of one call.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The time after which a failed call is not retried. Together with the last call it is shorter than the time after which
/// convergence considers a delivery stuck (30 s).
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Callbacks {
    store: Arc<Store>,
    http: reqwest::Client,
    /// The tasks whose results are being delivered. No result is delivered twice at the same time.
    under_way: Mutex<BTreeSet<TaskGuid>>,
}

impl Callbacks {
    pub(super) fn new(store: Arc<Store>, identity: &Identity) -> Result<Self> {
        Ok(Self {
            store,
            http: clients::http::client(identity, Some(TIMEOUT))?,
            under_way: Mutex::default(),
        })
    }

    pub(super) async fn deliver(self: Arc<Self>, guid: TaskGuid) {
        if !self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(guid.clone())
        {
            return;
        }
        if let Err(error) = self.try_to_deliver(&guid).await {
            tracing::warn!(task_guid = %guid, error = format!("{error:#}"), "task-result-not-delivered");
        }
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&guid);
    }

    async fn try_to_deliver(&self, guid: &TaskGuid) -> Result<()> {
        let Some((url, body)) = self.store.peek(|state| callback(state, guid)) else {
            return Ok(());
        };
        if self
            .store
            .write("", |state, journal| state.resolve_task(journal, guid))
            .await
            .is_err()
        {
            return Ok(()); // Somebody else resolves it, or deleted it.
        }
        let start = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            match self.post(&url, &body).await {
                Ok(()) => {
                    let _ = self
                        .store
                        .write("", |state, journal| state.delete_task(journal, guid))
                        .await;
                    return Ok(());
                }
                Err(error) if start.elapsed() >= PATIENCE => {
                    let _ = self
                        .store
                        .write("", |state, journal| state.unresolve_task(journal, guid))
                        .await;
                    return Err(error);
                }
                Err(error) => {
                    tracing::info!(task_guid = %guid, error = format!("{error:#}"), "task-callback-failed")
                }
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn post(&self, url: &str, body: &m::TaskCallback) -> Result<()> {
        // The URL may carry a token, so it is never logged.
        let response = request_id::attach(self.http.post(url).json(body))
            .send()
            .await
            .map_err(reqwest::Error::without_url)
            .context("call the task's callback")?;
        let status = response.status();
        anyhow::ensure!(
            !status.is_server_error() && status != http::StatusCode::TOO_MANY_REQUESTS,
            "the task's callback answered {status}"
        );
        if !status.is_success() {
            tracing::warn!(task_guid = body.task_guid, %status, "task-callback-refused");
        }
        Ok(())
    }
}

/// Returns the callback URL of a task and the body to send. Returns `None` if the task has no callback.
fn callback(state: &State, guid: &TaskGuid) -> Option<(String, m::TaskCallback)> {
    let task = &state.tasks.get(guid)?.wire;
    let definition = task.task_definition.as_ref()?;
    let body = m::TaskCallback {
        task_guid: task.task_guid.clone(),
        failed: task.failed,
        failure_reason: task.failure_reason.clone(),
        result: task.result.clone(),
        annotation: definition.annotation.clone(),
        created_at: task.created_at,
    };
    (!definition.completion_callback_url.is_empty())
        .then(|| (definition.completion_callback_url.clone(), body))
}
