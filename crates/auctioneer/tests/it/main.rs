//! Tests the auctioneer over its real protocols: mTLS, with a fake BBS, locket and reps.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use auctioneer::{Auctioneer, Config};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use clients::rep::AuctioneerClient;
use http_body::Frame;
use http_body_util::StreamBody;
use kit::CancellationToken;
use prost::Message;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::certs::identity;
use testkit::http::serve_on;
use testkit::net::listener;
use testkit::wait::until;
use wire::bbs as m;
use wire::rep::{
    CellState, LrpStartRequest, PlacementConstraint, Resource, Resources, RootFsProvider, Task,
    Work,
};

/// The requests that the peers of the auctioneer received, and the answers that they give.
#[derive(Default)]
struct Peers {
    cells: Vec<m::CellPresence>,
    states: Vec<(CellState, bool)>,
    /// The cells that refuse all work.
    refusing: Vec<String>,
    work: Vec<Work>,
    failed: Vec<m::FailActualLrpRequest>,
    rejected: Vec<m::RejectTaskRequest>,
}

type Shared = Arc<Mutex<Peers>>;

struct Foundation {
    peers: Shared,
    client: AuctioneerClient,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

/// Returns an answer of the BBS: protobuf, always with status 200.
fn protobuf(message: &impl Message) -> Response {
    Response::builder()
        .header("content-type", "application/x-protobuf")
        .body(Body::from(message.encode_to_vec()))
        .unwrap()
}

/// Returns an empty gRPC answer, which grants every lock.
fn granted() -> Response {
    let trailers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("0"),
    )]);
    let frames = [
        Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(&[0; 5]))),
        Ok(Frame::trailers(trailers)),
    ];
    Response::builder()
        .header("content-type", "application/grpc")
        .body(Body::new(StreamBody::new(futures::stream::iter(frames))))
        .unwrap()
}

fn router(peers: Shared) -> Router {
    Router::new()
        .route("/models.Locket/Lock", post(async || granted()))
        .route("/models.Locket/Release", post(async || granted()))
        .route(
            m::path::CELLS_LIST,
            post(async |State(peers): State<Shared>| {
                protobuf(&m::CellsResponse {
                    error: None,
                    cells: peers.lock().unwrap().cells.clone(),
                })
            }),
        )
        .route(
            m::path::ACTUAL_LRPS_FAIL,
            post(async |State(peers): State<Shared>, body: Bytes| {
                peers
                    .lock()
                    .unwrap()
                    .failed
                    .push(Message::decode(body).unwrap());
                protobuf(&m::LifecycleResponse::default())
            }),
        )
        .route(
            m::path::REJECT_TASK,
            post(async |State(peers): State<Shared>, body: Bytes| {
                peers
                    .lock()
                    .unwrap()
                    .rejected
                    .push(Message::decode(body).unwrap());
                protobuf(&m::LifecycleResponse::default())
            }),
        )
        .route(
            "/{cell}/state",
            get(
                async |State(peers): State<Shared>,
                       axum::extract::Path(cell): axum::extract::Path<String>| {
                    let (state, healthy) = peers
                        .lock()
                        .unwrap()
                        .states
                        .iter()
                        .find(|(state, _)| state.cell_id == cell)
                        .unwrap()
                        .clone();
                    let status = if healthy {
                        http::StatusCode::OK
                    } else {
                        http::StatusCode::SERVICE_UNAVAILABLE
                    };
                    (status, axum::Json(state))
                },
            ),
        )
        .route(
            "/{cell}/work",
            post(
                async |State(peers): State<Shared>, axum::Json(work): axum::Json<Work>| {
                    let mut peers = peers.lock().unwrap();
                    let refused = if peers.refusing.contains(&work.cell_id) {
                        work.clone()
                    } else {
                        Work::default()
                    };
                    peers.work.push(work);
                    axum::Json(refused)
                },
            ),
        )
        .with_state(peers)
}

impl Foundation {
    /// Starts the foundation. Cells answer on the peers' listener, below their names.
    async fn start(cells: &[(CellState, bool)]) -> Self {
        let identity = identity();
        let peers_listener = listener().await;
        let url = format!("https://{}", peers_listener.local_addr().unwrap());
        let presence = |state: &CellState| m::CellPresence {
            cell_id: state.cell_id.clone(),
            rep_url: format!("{url}/{}", state.cell_id),
            ..Default::default()
        };
        let peers = Shared::new(Mutex::new(Peers {
            cells: cells.iter().map(|(state, _)| presence(state)).collect(),
            states: cells.to_vec(),
            ..Peers::default()
        }));
        let shutdown = CancellationToken::new();
        let app = router(peers.clone());
        serve_on(peers_listener, app, Some(&identity), shutdown.clone());

        let config = Config {
            first_cell_grace: Duration::ZERO,
            ..Config::new(listener().await, identity.clone(), &url, &url)
        };
        let auctioneer = Auctioneer::build(config).await.unwrap();
        let client =
            AuctioneerClient::new(format!("https://{}", auctioneer.addr()), &identity).unwrap();
        let running = tokio::spawn(auctioneer.run(shutdown.clone()));
        Self {
            peers,
            client,
            shutdown,
            running,
        }
    }

    /// Waits until the peers have received what `look` searches.
    async fn until<T>(&self, what: &str, look: impl Fn(&Peers) -> Option<T>) -> T {
        until(what, || look(&self.peers.lock().unwrap())).await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn cell(id: &str, zone: &str, memory_mb: i32) -> (CellState, bool) {
    let resources = Resources {
        memory_mb,
        disk_mb: 10_000,
        containers: 100,
    };
    let state = CellState {
        cell_id: id.into(),
        zone: zone.into(),
        root_fs_providers: [(
            "preloaded".to_owned(),
            RootFsProvider::fixed_set(["cflinuxfs4"]),
        )]
        .into(),
        available_resources: resources,
        total_resources: resources,
        ..CellState::default()
    };
    (state, true)
}

fn lrp(process: &str, indices: &[i32], memory_mb: i32) -> LrpStartRequest {
    LrpStartRequest {
        process_guid: process.into(),
        domain: "cf-apps".into(),
        indices: indices.to_vec(),
        constraint: constraint(),
        resource: Resource {
            memory_mb,
            disk_mb: 10,
            max_pids: 0,
        },
    }
}

fn constraint() -> PlacementConstraint {
    PlacementConstraint {
        root_fs: "preloaded:cflinuxfs4".into(),
        ..Default::default()
    }
}

/// Returns where the cells have received instances of a process, as (cell, index).
fn placements(peers: &Peers, process: &str) -> Vec<(String, i32)> {
    let mut placed = Vec::new();
    for work in &peers.work {
        let ours = work.lrps.iter().filter(|lrp| lrp.process_guid == process);
        placed.extend(ours.map(|lrp| (work.cell_id.clone(), lrp.index)));
    }
    placed.sort_unstable();
    placed
}

#[tokio::test]
async fn instances_and_tasks_reach_cells() {
    let evacuating = (
        CellState {
            evacuating: true,
            ..cell("leaving", "z0", 9000).0
        },
        true,
    );
    let unhealthy = (cell("ill", "z0", 9000).0, false);
    let foundation = Foundation::start(&[
        cell("a", "z1", 1000),
        cell("b", "z2", 1000),
        evacuating,
        unhealthy,
    ])
    .await;
    // A cell that answers a second later than another one is left out, so a busy machine may need several auctions.
    let wanted = [("a".to_owned(), 0), ("b".to_owned(), 1)];
    let mut placed = Vec::new();
    for round in 0..5 {
        let process = format!("p{round}");
        foundation
            .client
            .request_lrp_auctions(&[lrp(&process, &[0, 1], 100)])
            .await
            .unwrap();
        placed = foundation
            .until("two instances at cells", |peers| {
                Some(placements(peers, &process)).filter(|placed| placed.len() == 2)
            })
            .await;
        if placed == wanted {
            break;
        }
    }
    assert_eq!(placed, wanted);
    foundation
        .client
        .request_task_auctions(&[Task {
            task_guid: "t".into(),
            constraint: constraint(),
            ..Default::default()
        }])
        .await
        .unwrap();
    let task = foundation
        .until("the task at a cell", |peers| {
            peers
                .work
                .iter()
                .find_map(|work| work.tasks.first().cloned())
        })
        .await;
    assert_eq!(task.task_guid, "t");
    assert!(foundation.peers.lock().unwrap().failed.is_empty());
    foundation.stop().await;
}

#[tokio::test]
async fn work_without_room_is_reported() {
    let foundation = Foundation::start(&[cell("a", "z1", 100)]).await;
    foundation
        .client
        .request_lrp_auctions(&[lrp("big", &[3], 500)])
        .await
        .unwrap();
    let failed = foundation
        .until("the instance's failure", |peers| {
            peers.failed.first().cloned()
        })
        .await;
    assert_eq!(
        failed.error_message,
        "insufficient resources: memory (no cell is that large)"
    );
    assert_eq!(
        failed.key,
        Some(m::ActualLrpKey {
            process_guid: "big".into(),
            index: 3,
            domain: "cf-apps".into()
        })
    );
    let constraint = PlacementConstraint {
        root_fs: "preloaded:other".into(),
        ..Default::default()
    };
    foundation
        .client
        .request_task_auctions(&[Task {
            task_guid: "t".into(),
            constraint,
            ..Default::default()
        }])
        .await
        .unwrap();
    let rejected = foundation
        .until("the task's rejection", |peers| {
            peers.rejected.first().cloned()
        })
        .await;
    assert_eq!(
        (
            rejected.task_guid.as_str(),
            rejected.rejection_reason.as_str()
        ),
        ("t", "found no compatible cell for required rootfs")
    );
    foundation.stop().await;
}

#[tokio::test]
async fn a_missing_cell_is_named_in_the_error() {
    let foundation = Foundation::start(&[]).await;
    foundation
        .client
        .request_lrp_auctions(&[lrp("p", &[0], 1)])
        .await
        .unwrap();
    assert_eq!(
        foundation
            .until("the instance's failure", |peers| {
                peers.failed.first().cloned()
            })
            .await
            .error_message,
        "unable to communicate to compatible cells"
    );
    foundation.stop().await;
}

#[tokio::test]
async fn refused_work_is_auctioned_once_more() {
    let foundation = Foundation::start(&[cell("a", "z1", 1000)]).await;
    foundation.peers.lock().unwrap().refusing.push("a".into());
    foundation
        .client
        .request_lrp_auctions(&[lrp("p", &[0], 1)])
        .await
        .unwrap();
    let failed = foundation
        .until("the instance's failure", |peers| {
            peers.failed.first().cloned()
        })
        .await;
    assert_eq!(
        failed.error_message,
        "insufficient resources: cell a refused the work"
    );
    assert_eq!(foundation.peers.lock().unwrap().work.len(), 2);
    foundation.stop().await;
}
