//! The BBS client, with one method per call, and event streams.

mod events;

pub use events::{Events, GroupEvents, StreamEnded};

use crate::request_id;
use anyhow::{Context as _, Result};
use kit::tls::Identity;
use prost::Message;
use std::time::Duration;
use wire::bbs::{self as m, path};

/// The error of a failed call: the BBS returned an error, or it could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum BbsError {
    #[error("{message}")]
    Answer { kind: m::ErrorType, message: String },
    #[error("call BBS {path}")]
    Unreachable {
        path: &'static str,
        #[source]
        source: anyhow::Error,
    },
}

/// The status of an answer that is no protobuf message: the BBS is starting, or it does not know the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("status {0}")]
pub struct Status(pub http::StatusCode);

impl BbsError {
    /// Returns whether the BBS is older than the call, which means that it answered 404 to the path.
    pub fn is_unknown_path(&self) -> bool {
        match self {
            Self::Answer { .. } => false,
            Self::Unreachable { source, .. } => {
                source.downcast_ref() == Some(&Status(http::StatusCode::NOT_FOUND))
            }
        }
    }
    /// Returns the kind of error that the BBS returned, or `None` when it could not be reached.
    pub fn kind(&self) -> Option<m::ErrorType> {
        match self {
            Self::Answer { kind, .. } => Some(*kind),
            Self::Unreachable { .. } => None,
        }
    }
    pub fn is_not_found(&self) -> bool {
        self.kind() == Some(m::ErrorType::ResourceNotFound)
    }
    pub fn is_exists(&self) -> bool {
        self.kind() == Some(m::ErrorType::ResourceExists)
    }
}

/// The highest number of concurrent calls where an older BBS needs one call per process.
const CALLS_AT_ONCE: usize = 16;

/// A client of one BBS. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    calls: reqwest::Client,
    streams: reqwest::Client,
}

impl Client {
    /// Makes a client of the BBS at `url`, for example `https://127.0.0.1:8889`.
    pub fn new(url: impl Into<String>, identity: &Identity) -> Result<Self> {
        Ok(Self {
            url: url.into().trim_end_matches('/').to_owned(),
            calls: crate::http::client(identity, Some(Duration::from_secs(30)))?,
            streams: crate::http::client(identity, None)?,
        })
    }

    /// Makes a client, as [`new`](Self::new), with the caller's TLS configuration. `timeout` bounds each request; event streams
    /// have no bound.
    pub fn with_tls(
        url: impl Into<String>,
        tls: rustls::ClientConfig,
        timeout: Option<Duration>,
    ) -> Result<Self> {
        Ok(Self {
            url: url.into().trim_end_matches('/').to_owned(),
            calls: crate::http::client_of(tls.clone(), timeout)?,
            streams: crate::http::client_of(tls, None)?,
        })
    }

    async fn call<Q: Message, A: Message + Default>(
        &self,
        path: &'static str,
        request: &Q,
        error: fn(&A) -> Option<&m::Error>,
    ) -> Result<A, BbsError> {
        let answer: A = self
            .send(path, request)
            .await
            .map_err(|source| BbsError::Unreachable { path, source })?;
        match error(&answer) {
            None => Ok(answer),
            Some(error) => Err(BbsError::Answer {
                kind: m::ErrorType::try_from(error.kind).unwrap_or(m::ErrorType::UnknownError),
                message: error.message.clone(),
            }),
        }
    }

    async fn send<Q: Message, A: Message + Default>(&self, path: &str, request: &Q) -> Result<A> {
        let request = self
            .calls
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/x-protobuf")
            .body(request.encode_to_vec());
        let response = request_id::attach(request).send().await?;
        if !response.status().is_success() {
            return Err(Status(response.status()).into());
        }
        A::decode(response.bytes().await?).context("decode answer")
    }

    async fn lifecycle<Q: Message>(&self, path: &'static str, request: &Q) -> Result<(), BbsError> {
        self.call::<_, m::LifecycleResponse>(path, request, |a| a.error.as_ref())
            .await
            .map(drop)
    }

    pub async fn ping(&self) -> Result<bool, BbsError> {
        Ok(self
            .call::<_, m::PingResponse>(path::PING, &m::EmptyRequest {}, |_| None)
            .await?
            .available)
    }
    pub async fn domains(&self) -> Result<Vec<String>, BbsError> {
        Ok(self
            .call::<_, m::DomainsResponse>(path::DOMAINS_LIST, &m::EmptyRequest {}, |a| {
                a.error.as_ref()
            })
            .await?
            .domains)
    }
    /// Sets a domain's freshness. `ttl` is in seconds; with 0 it never ends.
    pub async fn upsert_domain(&self, domain: &str, ttl: u32) -> Result<(), BbsError> {
        self.lifecycle(
            path::DOMAINS_UPSERT,
            &m::UpsertDomainRequest {
                domain: domain.into(),
                ttl,
            },
        )
        .await
    }
    pub async fn actual_lrps(
        &self,
        request: &m::ActualLrpsRequest,
    ) -> Result<Vec<m::ActualLrp>, BbsError> {
        Ok(self
            .call::<_, m::ActualLrpsResponse>(path::ACTUAL_LRPS_LIST, request, |a| a.error.as_ref())
            .await?
            .actual_lrps)
    }
    /// Returns the actual LRPs of some processes. A BBS that is older than this call is called once for each process.
    pub async fn actual_lrps_by_process_guids(
        &self,
        process_guids: Vec<String>,
    ) -> Result<Vec<m::ActualLrp>, BbsError> {
        let request = m::ActualLrpsByProcessGuidsRequest { process_guids };
        let answer = self
            .call::<_, m::ActualLrpsResponse>(path::ACTUAL_LRPS_BY_GUIDS, &request, |a| {
                a.error.as_ref()
            })
            .await;
        match answer {
            Err(error) if error.is_unknown_path() => self.one_by_one(request.process_guids).await,
            answer => Ok(answer?.actual_lrps),
        }
    }
    async fn one_by_one(&self, process_guids: Vec<String>) -> Result<Vec<m::ActualLrp>, BbsError> {
        use futures::{StreamExt as _, TryStreamExt as _};
        let lists: Vec<Vec<m::ActualLrp>> = futures::stream::iter(process_guids)
            .map(async |process_guid| {
                let request = m::ActualLrpsRequest {
                    process_guid,
                    ..m::ActualLrpsRequest::default()
                };
                self.actual_lrps(&request).await
            })
            .buffered(CALLS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(lists.into_iter().flatten().collect())
    }
    /// Returns instances in groups with their evacuating rows. This call is deprecated, as are the two below.
    pub async fn actual_lrp_groups(
        &self,
        request: &m::ActualLrpGroupsRequest,
    ) -> Result<Vec<m::ActualLrpGroup>, BbsError> {
        Ok(self
            .call::<_, m::ActualLrpGroupsResponse>(path::GROUPS_LIST, request, |a| a.error.as_ref())
            .await?
            .actual_lrp_groups)
    }
    pub async fn actual_lrp_groups_of(
        &self,
        process_guid: &str,
    ) -> Result<Vec<m::ActualLrpGroup>, BbsError> {
        let request = m::ActualLrpGroupsByProcessGuidRequest {
            process_guid: process_guid.into(),
        };
        Ok(self
            .call::<_, m::ActualLrpGroupsResponse>(path::GROUPS_BY_GUID, &request, |a| {
                a.error.as_ref()
            })
            .await?
            .actual_lrp_groups)
    }
    pub async fn actual_lrp_group(
        &self,
        process_guid: &str,
        index: i32,
    ) -> Result<m::ActualLrpGroup, BbsError> {
        let request = m::ActualLrpGroupByProcessGuidAndIndexRequest {
            process_guid: process_guid.into(),
            index,
        };
        Ok(self
            .call::<_, m::ActualLrpGroupResponse>(path::GROUP_BY_GUID_AND_INDEX, &request, |a| {
                a.error.as_ref()
            })
            .await?
            .actual_lrp_group
            .unwrap_or_default())
    }
    pub async fn claim(&self, request: &m::ClaimActualLrpRequest) -> Result<(), BbsError> {
        self.lifecycle(path::ACTUAL_LRPS_CLAIM, request).await
    }
    pub async fn start(&self, request: &m::StartActualLrpRequest) -> Result<(), BbsError> {
        self.lifecycle(path::ACTUAL_LRPS_START, request).await
    }
    pub async fn crash(&self, request: &m::CrashActualLrpRequest) -> Result<(), BbsError> {
        self.lifecycle(path::ACTUAL_LRPS_CRASH, request).await
    }
    /// Sets the placement error of an unclaimed actual LRP.
    pub async fn fail(&self, request: &m::FailActualLrpRequest) -> Result<(), BbsError> {
        self.lifecycle(path::ACTUAL_LRPS_FAIL, request).await
    }
    pub async fn remove(&self, request: &m::RemoveActualLrpRequest) -> Result<(), BbsError> {
        self.lifecycle(path::ACTUAL_LRPS_REMOVE, request).await
    }
    pub async fn retire(&self, key: m::ActualLrpKey) -> Result<(), BbsError> {
        self.lifecycle(
            path::ACTUAL_LRPS_RETIRE,
            &m::RetireActualLrpRequest { key: Some(key) },
        )
        .await
    }
    pub async fn remove_evacuating(
        &self,
        request: &m::EvacuateActualLrpRequest,
    ) -> Result<(), BbsError> {
        self.lifecycle(path::REMOVE_EVACUATING, request).await
    }
    /// Reports the evacuation of a claimed instance. The result of the evacuation calls is whether to keep the container.
    pub async fn evacuate_claimed(
        &self,
        request: &m::EvacuateActualLrpRequest,
    ) -> Result<bool, BbsError> {
        Ok(self
            .call::<_, m::EvacuationResponse>(path::EVACUATE_CLAIMED, request, |a| a.error.as_ref())
            .await?
            .keep_container)
    }
    pub async fn evacuate_stopped(
        &self,
        request: &m::EvacuateActualLrpRequest,
    ) -> Result<bool, BbsError> {
        Ok(self
            .call::<_, m::EvacuationResponse>(path::EVACUATE_STOPPED, request, |a| a.error.as_ref())
            .await?
            .keep_container)
    }
    pub async fn evacuate_crashed(
        &self,
        request: &m::CrashActualLrpRequest,
    ) -> Result<bool, BbsError> {
        Ok(self
            .call::<_, m::EvacuationResponse>(path::EVACUATE_CRASHED, request, |a| a.error.as_ref())
            .await?
            .keep_container)
    }
    pub async fn evacuate_running(
        &self,
        request: &m::EvacuateRunningActualLrpRequest,
    ) -> Result<bool, BbsError> {
        Ok(self
            .call::<_, m::EvacuationResponse>(path::EVACUATE_RUNNING, request, |a| a.error.as_ref())
            .await?
            .keep_container)
    }
    pub async fn scheduling_infos(
        &self,
        request: &m::DesiredLrpsRequest,
    ) -> Result<Vec<m::DesiredLrpSchedulingInfo>, BbsError> {
        let answer = self
            .call::<_, m::DesiredLrpSchedulingInfosResponse>(
                path::SCHEDULING_INFOS_LIST,
                request,
                |a| a.error.as_ref(),
            )
            .await?;
        Ok(answer.desired_lrp_scheduling_infos)
    }
    pub async fn routing_infos(
        &self,
        request: &m::DesiredLrpsRequest,
    ) -> Result<Vec<m::DesiredLrp>, BbsError> {
        Ok(self
            .call::<_, m::DesiredLrpsResponse>(path::ROUTING_INFOS_LIST, request, |a| {
                a.error.as_ref()
            })
            .await?
            .desired_lrps)
    }
    pub async fn desired_lrps(
        &self,
        request: &m::DesiredLrpsRequest,
    ) -> Result<Vec<m::DesiredLrp>, BbsError> {
        Ok(self
            .call::<_, m::DesiredLrpsResponse>(path::DESIRED_LRPS_LIST, request, |a| {
                a.error.as_ref()
            })
            .await?
            .desired_lrps)
    }
    /// Returns a desired LRP, or an error of the kind `ResourceNotFound` when there is none.
    pub async fn desired_lrp(&self, process_guid: &str) -> Result<m::DesiredLrp, BbsError> {
        let request = m::DesiredLrpByProcessGuidRequest {
            process_guid: process_guid.into(),
        };
        Ok(self
            .call::<_, m::DesiredLrpResponse>(path::DESIRED_LRP_BY_GUID, &request, |a| {
                a.error.as_ref()
            })
            .await?
            .desired_lrp
            .unwrap_or_default())
    }
    pub async fn desire_lrp(&self, desired_lrp: m::DesiredLrp) -> Result<(), BbsError> {
        self.lifecycle(
            path::DESIRE_LRP,
            &m::DesireLrpRequest {
                desired_lrp: Some(desired_lrp),
            },
        )
        .await
    }
    pub async fn update_desired_lrp(
        &self,
        process_guid: &str,
        update: m::DesiredLrpUpdate,
    ) -> Result<(), BbsError> {
        self.lifecycle(
            path::UPDATE_DESIRED_LRP,
            &m::UpdateDesiredLrpRequest {
                process_guid: process_guid.into(),
                update: Some(update),
            },
        )
        .await
    }
    pub async fn remove_desired_lrp(&self, process_guid: &str) -> Result<(), BbsError> {
        self.lifecycle(
            path::REMOVE_DESIRED_LRP,
            &m::RemoveDesiredLrpRequest {
                process_guid: process_guid.into(),
            },
        )
        .await
    }
    pub async fn tasks(&self, request: &m::TasksRequest) -> Result<Vec<m::Task>, BbsError> {
        Ok(self
            .call::<_, m::TasksResponse>(path::TASKS_LIST, request, |a| a.error.as_ref())
            .await?
            .tasks)
    }
    pub async fn task(&self, task_guid: &str) -> Result<m::Task, BbsError> {
        let request = m::TaskByGuidRequest {
            task_guid: task_guid.into(),
        };
        Ok(self
            .call::<_, m::TaskResponse>(path::TASK_BY_GUID, &request, |a| a.error.as_ref())
            .await?
            .task
            .unwrap_or_default())
    }
    pub async fn desire_task(
        &self,
        task_guid: &str,
        domain: &str,
        definition: m::TaskDefinition,
    ) -> Result<(), BbsError> {
        let request = m::DesireTaskRequest {
            task_definition: Some(definition),
            task_guid: task_guid.into(),
            domain: domain.into(),
        };
        self.lifecycle(path::DESIRE_TASK, &request).await
    }
    /// Starts a task. Returns whether the caller's cell should run it; false means that the cell already does.
    pub async fn start_task(&self, task_guid: &str, cell_id: &str) -> Result<bool, BbsError> {
        let request = m::StartTaskRequest {
            task_guid: task_guid.into(),
            cell_id: cell_id.into(),
        };
        Ok(self
            .call::<_, m::StartTaskResponse>(path::START_TASK, &request, |a| a.error.as_ref())
            .await?
            .should_start)
    }
    pub async fn cancel_task(&self, task_guid: &str) -> Result<(), BbsError> {
        self.lifecycle(
            path::CANCEL_TASK,
            &m::TaskGuidRequest {
                task_guid: task_guid.into(),
            },
        )
        .await
    }
    /// Replaces the egress rules of a pending or running task.
    pub async fn update_task_egress(
        &self,
        task_guid: &str,
        rules: Vec<m::SecurityGroupRule>,
    ) -> Result<(), BbsError> {
        let request = m::UpdateTaskRequest {
            task_guid: task_guid.into(),
            egress: Some(m::EgressUpdate { rules }),
        };
        self.lifecycle(path::UPDATE_TASK, &request).await
    }
    pub async fn resolve_task(&self, task_guid: &str) -> Result<(), BbsError> {
        self.lifecycle(
            path::RESOLVE_TASK,
            &m::TaskGuidRequest {
                task_guid: task_guid.into(),
            },
        )
        .await
    }
    pub async fn delete_task(&self, task_guid: &str) -> Result<(), BbsError> {
        self.lifecycle(
            path::DELETE_TASK,
            &m::TaskGuidRequest {
                task_guid: task_guid.into(),
            },
        )
        .await
    }
    pub async fn reject_task(&self, task_guid: &str, reason: &str) -> Result<(), BbsError> {
        self.lifecycle(
            path::REJECT_TASK,
            &m::RejectTaskRequest {
                task_guid: task_guid.into(),
                rejection_reason: reason.into(),
            },
        )
        .await
    }
    pub async fn complete_task(&self, request: &m::CompleteTaskRequest) -> Result<(), BbsError> {
        self.lifecycle(path::COMPLETE_TASK, request).await
    }
    pub async fn cells(&self) -> Result<Vec<m::CellPresence>, BbsError> {
        Ok(self
            .call::<_, m::CellsResponse>(path::CELLS_LIST, &m::EmptyRequest {}, |a| {
                a.error.as_ref()
            })
            .await?
            .cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::post;
    use http::StatusCode;

    /// Answers each process's list with one LRP of that process.
    async fn list(body: bytes::Bytes) -> Vec<u8> {
        let request = m::ActualLrpsRequest::decode(body).unwrap();
        let key = m::ActualLrpKey {
            process_guid: request.process_guid,
            ..m::ActualLrpKey::default()
        };
        let lrp = m::ActualLrp {
            key: Some(key),
            ..m::ActualLrp::default()
        };
        m::ActualLrpsResponse {
            actual_lrps: vec![lrp],
            ..m::ActualLrpsResponse::default()
        }
        .encode_to_vec()
    }

    async fn client(routes: Router, stop: &kit::CancellationToken) -> Client {
        kit::tls::install_crypto();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(kit::http::serve(listener, None, routes, stop.clone()));
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Client::with_tls(url, tls, Some(Duration::from_secs(60))).unwrap()
    }

    #[tokio::test]
    async fn an_older_bbs_is_queried_for_each_process_separately() {
        let stop = kit::CancellationToken::new();
        let old = Router::new().route(path::ACTUAL_LRPS_LIST, post(list));
        let client = client(old, &stop).await;
        let guids: Vec<String> = (0..40).map(|n| format!("p{n}")).collect();
        let lrps = client
            .actual_lrps_by_process_guids(guids.clone())
            .await
            .unwrap();
        let found: Vec<String> = lrps
            .into_iter()
            .filter_map(|lrp| Some(lrp.key?.process_guid))
            .collect();
        assert_eq!(found, guids);
        let refused = client.tasks(&m::TasksRequest::default()).await.unwrap_err();
        assert!(refused.is_unknown_path(), "{refused:?}");
        stop.cancel();
    }

    #[tokio::test]
    async fn a_bbs_that_cannot_answer_now_is_not_treated_as_an_older_one() {
        let stop = kit::CancellationToken::new();
        let starting = Router::new()
            .route(
                path::ACTUAL_LRPS_BY_GUIDS,
                post(async || StatusCode::SERVICE_UNAVAILABLE),
            )
            .route(path::ACTUAL_LRPS_LIST, post(list));
        let client = client(starting, &stop).await;
        let refused = client.actual_lrps_by_process_guids(vec!["p".into()]).await;
        let error = refused.unwrap_err();
        assert!(!error.is_unknown_path(), "{error:?}");
        stop.cancel();
    }
}
