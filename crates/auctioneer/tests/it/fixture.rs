//! An auctioneer between peers that the test plays: a BBS, locket and reps.

use auctioneer::{Auctioneer, Config};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use clients::rep::AuctioneerClient;
use clients::request_id;
use http_body::Frame;
use http_body_util::StreamBody;
use kit::CancellationToken;
use kit::metrics::Observed;
use prost::Message;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::certs::identity;
use testkit::http::serve_on;
use testkit::net::listener;
use testkit::wait::until;
use wire::bbs as m;
use wire::rep::{
    CellState, LrpStartRequest, PlacementConstraint, Resource, Resources, RootFsProvider, Work,
};

/// The requests that the peers of the auctioneer received, and the answers that they give.
#[derive(Default)]
pub(crate) struct Peers {
    cells: Vec<m::CellPresence>,
    states: Vec<(CellState, bool)>,
    /// The cells that refuse all work.
    pub(crate) refusing: Vec<String>,
    pub(crate) work: Vec<Work>,
    /// The ids of requests that came with the work.
    pub(crate) request_ids: Vec<String>,
    pub(crate) failed: Vec<m::FailActualLrpRequest>,
    pub(crate) rejected: Vec<m::RejectTaskRequest>,
}

pub(crate) type Shared = Arc<Mutex<Peers>>;

pub(crate) struct Foundation {
    pub(crate) peers: Shared,
    pub(crate) client: AuctioneerClient,
    pub(crate) observed: Observed,
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
                async |State(peers): State<Shared>,
                       headers: http::HeaderMap,
                       axum::Json(work): axum::Json<Work>| {
                    let mut peers = peers.lock().unwrap();
                    let refused = if peers.refusing.contains(&work.cell_id) {
                        work.clone()
                    } else {
                        Work::default()
                    };
                    peers.request_ids.push(request_id::of(&headers));
                    peers.work.push(work);
                    axum::Json(refused)
                },
            ),
        )
        .with_state(peers)
}

impl Foundation {
    /// Starts the foundation. Cells answer on the peers' listener, below their names.
    pub(crate) async fn start(cells: &[(CellState, bool)]) -> Self {
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
        let observed = auctioneer.observed();
        let running = tokio::spawn(auctioneer.run(shutdown.clone()));
        Self {
            peers,
            client,
            observed,
            shutdown,
            running,
        }
    }

    /// Waits until the peers have received what `look` searches.
    pub(crate) async fn until<T>(&self, what: &str, look: impl Fn(&Peers) -> Option<T>) -> T {
        until(what, || look(&self.peers.lock().unwrap())).await
    }

    /// Waits until the auctioneer has reported an instance that it could not place.
    pub(crate) async fn failure(&self) -> m::FailActualLrpRequest {
        let first = |peers: &Peers| peers.failed.first().cloned();
        self.until("the instance's failure", first).await
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

pub(crate) fn cell(id: &str, zone: &str, memory_mb: i32) -> (CellState, bool) {
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

pub(crate) fn lrp(process: &str, indices: &[i32], memory_mb: i32) -> LrpStartRequest {
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

pub(crate) fn constraint() -> PlacementConstraint {
    PlacementConstraint {
        root_fs: "preloaded:cflinuxfs4".into(),
        ..Default::default()
    }
}

/// Returns where the cells have received instances of a process, as (cell, index).
pub(crate) fn placements(peers: &Peers, process: &str) -> Vec<(String, i32)> {
    let mut placed = Vec::new();
    for work in &peers.work {
        let ours = work.lrps.iter().filter(|lrp| lrp.process_guid == process);
        placed.extend(ours.map(|lrp| (work.cell_id.clone(), lrp.index)));
    }
    placed.sort_unstable();
    placed
}
