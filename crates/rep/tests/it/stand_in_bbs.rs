//! A stand-in for the BBS. It answers the calls that a rep makes and records them. It accepts everything unless it is configured
//! to refuse.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use clients::request_id;
use kit::CancellationToken;
use kit::tls::Identity;
use prost::Message;
use rand::Rng as _;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use testkit::http::serve_on;
use testkit::net::listener;
use testkit::wait::BOUND;
use tokio::sync::watch;
use wire::bbs::*;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Claim(ClaimActualLrpRequest),
    Start(StartActualLrpRequest),
    Crash(CrashActualLrpRequest),
    Remove(RemoveActualLrpRequest),
    StartTask(StartTaskRequest),
    CompleteTask(CompleteTaskRequest),
    RejectTask(RejectTaskRequest),
}

#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) desired: BTreeMap<String, DesiredLrp>,
    pub(crate) actual: Vec<ActualLrp>,
    pub(crate) tasks: BTreeMap<String, Task>,
    /// Whether starts are refused, as if another instance ran.
    pub(crate) refuse_start: bool,
    /// A generator of delays in milliseconds. Each response is delayed after it was made.
    pub(crate) jitter: Option<StdRng>,
    /// The path of every call, and the id of the request that it was made for.
    pub(crate) request_ids: Vec<(String, String)>,
}

#[derive(Clone)]
pub(crate) struct StandInBbs {
    pub(crate) rows: Arc<Mutex<Rows>>,
    calls: watch::Sender<Vec<Call>>,
    pub(crate) url: String,
}

impl StandInBbs {
    pub(crate) async fn start(identity: &Identity, shutdown: CancellationToken) -> Self {
        let listener = listener().await;
        let url = format!("https://{}", listener.local_addr().unwrap());
        let bbs = Self {
            rows: Arc::default(),
            calls: watch::Sender::new(Vec::new()),
            url,
        };
        let app = Router::new()
            .route("/{*path}", axum::routing::post(answer))
            .with_state(bbs.clone());
        serve_on(listener, app, Some(identity), shutdown);
        bbs
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    /// Waits for a call that `found` accepts. It also considers calls that were made already.
    pub(crate) async fn wait_for<T>(&self, mut found: impl FnMut(&Call) -> Option<T>) -> T {
        let mut calls = self.calls.subscribe();
        let wait = async {
            loop {
                if let Some(found) = calls.borrow_and_update().iter().find_map(&mut found) {
                    return found;
                }
                calls.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(BOUND, wait).await {
            Ok(found) => found,
            Err(_) => panic!("no such call among {:#?}", self.calls()),
        }
    }

    fn record(&self, call: Call) {
        self.calls.send_modify(|calls| calls.push(call));
    }
}

fn refusal(kind: ErrorType, message: &str) -> Option<Error> {
    Some(Error {
        kind: kind as i32,
        message: message.to_owned(),
    })
}

fn absent() -> Option<Error> {
    refusal(
        ErrorType::ResourceNotFound,
        "the requested resource could not be found",
    )
}

async fn answer(
    State(bbs): State<StandInBbs>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Vec<u8> {
    let id = (path.clone(), request_id::of(&headers));
    bbs.rows.lock().unwrap().request_ids.push(id);
    let answer = answer_now(&bbs, &path, &body);
    let millis = {
        let mut rows = bbs.rows.lock().unwrap();
        rows.jitter.as_mut().map(|rng| rng.random_range(0..25))
    };
    if let Some(millis) = millis {
        tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
    }
    answer
}

fn answer_now(bbs: &StandInBbs, path: &str, body: &Bytes) -> Vec<u8> {
    fn read<M: Message + Default>(body: &Bytes) -> M {
        M::decode(body.clone()).unwrap()
    }
    let done = LifecycleResponse { error: None }.encode_to_vec();
    let mut rows = bbs.rows.lock().unwrap();
    match format!("/{path}").as_str() {
        path::ACTUAL_LRPS_CLAIM => {
            let request: ClaimActualLrpRequest = read(body);
            rows.actual.push(ActualLrp {
                key: Some(ActualLrpKey {
                    process_guid: request.process_guid.clone(),
                    index: request.index,
                    domain: "cf-apps".into(),
                }),
                instance_key: request.instance_key.clone(),
                state: state::CLAIMED.to_owned(),
                ..ActualLrp::default()
            });
            bbs.record(Call::Claim(request));
        }
        path::ACTUAL_LRPS_START => {
            let request: StartActualLrpRequest = read(body);
            if rows.refuse_start {
                // The row belongs to the other instance.
                rows.actual
                    .retain(|row| row.instance_key != request.instance_key);
                return LifecycleResponse {
                    error: refusal(
                        ErrorType::ActualLrpCannotBeStarted,
                        "cannot start actual LRP",
                    ),
                }
                .encode_to_vec();
            }
            rows.actual
                .retain(|row| row.instance_key != request.instance_key);
            rows.actual.push(ActualLrp {
                key: request.key.clone(),
                instance_key: request.instance_key.clone(),
                net_info: request.net_info.clone(),
                state: state::RUNNING.to_owned(),
                routable: request.routable,
                ..ActualLrp::default()
            });
            bbs.record(Call::Start(request));
        }
        path::ACTUAL_LRPS_CRASH => {
            let request: CrashActualLrpRequest = read(body);
            rows.actual
                .retain(|row| row.instance_key != request.instance_key);
            bbs.record(Call::Crash(request));
        }
        path::ACTUAL_LRPS_REMOVE => {
            let request: RemoveActualLrpRequest = read(body);
            rows.actual
                .retain(|row| row.instance_key != request.instance_key);
            bbs.record(Call::Remove(request));
        }
        path::ACTUAL_LRPS_LIST => {
            return ActualLrpsResponse {
                error: None,
                actual_lrps: rows.actual.clone(),
            }
            .encode_to_vec();
        }
        path::DESIRED_LRP_BY_GUID => {
            let request: DesiredLrpByProcessGuidRequest = read(body);
            let desired_lrp = rows.desired.get(&request.process_guid).cloned();
            let error = if desired_lrp.is_some() {
                None
            } else {
                absent()
            };
            return DesiredLrpResponse { error, desired_lrp }.encode_to_vec();
        }
        path::SCHEDULING_INFOS_LIST => {
            let request: DesiredLrpsRequest = read(body);
            let known = rows.desired.values();
            let asked = known.filter(|lrp| request.process_guids.contains(&lrp.process_guid));
            let infos = asked.map(|lrp| DesiredLrpSchedulingInfo {
                key: Some(DesiredLrpKey {
                    process_guid: lrp.process_guid.clone(),
                    ..DesiredLrpKey::default()
                }),
                modification_tag: lrp.modification_tag.clone(),
                ..DesiredLrpSchedulingInfo::default()
            });
            return DesiredLrpSchedulingInfosResponse {
                error: None,
                desired_lrp_scheduling_infos: infos.collect(),
            }
            .encode_to_vec();
        }
        path::TASKS_LIST => {
            return TasksResponse {
                error: None,
                tasks: rows.tasks.values().cloned().collect(),
            }
            .encode_to_vec();
        }
        path::TASK_BY_GUID => {
            let request: TaskByGuidRequest = read(body);
            return TaskResponse {
                error: None,
                task: rows.tasks.get(&request.task_guid).cloned(),
            }
            .encode_to_vec();
        }
        path::START_TASK => {
            let request: StartTaskRequest = read(body);
            let Some(task) = rows.tasks.get_mut(&request.task_guid) else {
                return StartTaskResponse {
                    error: absent(),
                    should_start: false,
                }
                .encode_to_vec();
            };
            task.state = TaskState::Running as i32;
            bbs.record(Call::StartTask(request));
            return StartTaskResponse {
                error: None,
                should_start: true,
            }
            .encode_to_vec();
        }
        path::COMPLETE_TASK => {
            let request: CompleteTaskRequest = read(body);
            let error = match rows.tasks.get(&request.task_guid) {
                None => absent(),
                Some(task) if task.state != TaskState::Running as i32 => refusal(
                    ErrorType::InvalidStateTransition,
                    "the task does not run: it cannot be completed",
                ),
                Some(_) => {
                    rows.tasks.remove(&request.task_guid);
                    bbs.record(Call::CompleteTask(request));
                    None
                }
            };
            return LifecycleResponse { error }.encode_to_vec();
        }
        path::REJECT_TASK => bbs.record(Call::RejectTask(read(body))),
        other => panic!("unexpected call {other}"),
    }
    done
}
