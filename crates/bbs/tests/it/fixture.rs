//! One BBS with simulated peers.

use axum::extract::{Path, State};
use axum::routing::{post, put};
use axum::{Json, Router};
use clients::locket::{Client as Locket, Presence};
use kit::CancellationToken;
use kit::metrics::Observed;
use kit::reconcile::Pass;
use std::sync::OnceLock;
use testkit::certs::shared_identity;
use testkit::components::Bbs;
use testkit::http::serve;
use testkit::metrics::value;
use testkit::wait::{wait_for, within};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wire::bbs as m;
use wire::rep::{LrpStartRequest, LrpUpdate, TaskStartRequest};

/// A request that a peer received.
#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    Lrps(Vec<LrpStartRequest>),
    Tasks(Vec<TaskStartRequest>),
    Stop(String),
    Update(LrpUpdate),
    Cancel(String),
    Callback(m::TaskCallback),
}

pub(crate) struct Foundation {
    pub(crate) bbs: clients::bbs::Client,
    pub(crate) locket: Locket,
    /// The URL on which the auctioneer, the rep and the callback receiver listen.
    pub(crate) peer_url: String,
    data: tempfile::TempDir,
    requests: mpsc::UnboundedReceiver<Request>,
    stop_peer: CancellationToken,
    running: Bbs,
}

impl Foundation {
    pub(crate) async fn start() -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let (peer_url, stop_peer) = peer(sender).await;
        Self::start_on(tempfile::tempdir().unwrap(), peer_url, requests, stop_peer).await
    }

    async fn start_on(
        data: tempfile::TempDir,
        peer_url: String,
        requests: mpsc::UnboundedReceiver<Request>,
        stop_peer: CancellationToken,
    ) -> Self {
        let running = Bbs::start(data.path(), &shared_identity(), &peer_url).await;
        Self {
            bbs: running.client(),
            locket: running.locket(),
            running,
            peer_url,
            data,
            requests,
            stop_peer,
        }
    }

    /// Starts another BBS on a copy of the files as they are at this moment: what a power failure would leave.
    pub(crate) async fn after_power_cut(&self) -> Self {
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(self.data.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        testkit::postgres::copy(self.data.path(), copy.path());
        let (sender, requests) = mpsc::unbounded_channel();
        let (peer_url, stop_peer) = peer(sender).await;
        Self::start_on(copy, peer_url, requests, stop_peer).await
    }

    /// Stops the BBS and starts it on the same data.
    pub(crate) async fn restart(self) -> Self {
        self.running.stop().await;
        Self::start_on(self.data, self.peer_url, self.requests, self.stop_peer).await
    }

    /// Stops the BBS, lets `prepare` put its files in place, changes its database by `statement`, and starts it. Returns `false`
    /// if the statement was refused or changed nothing.
    pub(crate) async fn restart_damaged(
        self,
        prepare: impl FnOnce(&std::path::Path),
        statement: &str,
    ) -> (Self, bool) {
        self.running.stop().await;
        prepare(self.data.path());
        let database = testkit::sqlite::open(&self.data.path().join("bbs.db"));
        let damaged = database.execute(statement, []).is_ok_and(|rows| rows > 0);
        drop(database);
        let started = Self::start_on(self.data, self.peer_url, self.requests, self.stop_peer).await;
        (started, damaged)
    }

    /// Returns the directory of `bbs.db`.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.data.path()
    }

    /// Returns the last pass of convergence.
    pub(crate) fn last_convergence(&self) -> Option<Pass> {
        self.running.last_convergence.read()
    }

    /// Returns a metric of the BBS; `None` if it has no value.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        value(&self.observed().metrics.text(), name)
    }

    pub(crate) fn observed(&self) -> &Observed {
        &self.running.observed
    }

    pub(crate) fn bbs_url(&self) -> &str {
        &self.running.url
    }

    pub(crate) async fn finish(self) {
        self.running.stop().await;
        self.stop_peer.cancel();
    }

    /// Returns the next request that a peer received.
    pub(crate) async fn next_request(&mut self) -> Request {
        within("a request at a peer", self.requests.recv())
            .await
            .unwrap()
    }

    /// Returns the process guids and indexes of the next auction request.
    pub(crate) async fn auction(&mut self) -> Vec<(String, Vec<i32>)> {
        match self.next_request().await {
            Request::Lrps(requests) => requests
                .into_iter()
                .map(|r| (r.process_guid, r.indices))
                .collect(),
            other => panic!("wanted an auction, got {other:?}"),
        }
    }

    /// Registers a cell whose rep is the test's peer. The cell disappears when the token is cancelled.
    pub(crate) async fn cell(&self, id: &str) -> (CancellationToken, JoinHandle<()>) {
        let cell = m::CellPresence {
            cell_id: id.into(),
            rep_url: self.peer_url.clone(),
            zone: "z1".into(),
            ..m::CellPresence::default()
        };
        let stop = CancellationToken::new();
        let keeper = tokio::spawn(Presence::cell(self.locket.clone(), &cell).run(stop.clone()));
        self.wait_for_cells(&[id]).await;
        (stop, keeper)
    }

    /// Waits until the BBS knows the listed cells.
    pub(crate) async fn wait_for_cells(&self, ids: &[&str]) {
        wait_for("the presence of the cells", async || {
            let cells = self.bbs.cells().await.unwrap();
            ids.iter().all(|id| cells.iter().any(|c| c.cell_id == *id))
        })
        .await;
    }

    /// Returns `presence STATE instance` for every row of the process, in the order of the response.
    pub(crate) async fn rows(&self, process_guid: &str) -> Vec<String> {
        let request = m::ActualLrpsRequest {
            process_guid: process_guid.into(),
            ..m::ActualLrpsRequest::default()
        };
        let rows = self.bbs.actual_lrps(&request).await.unwrap();
        rows.iter()
            .map(|row| {
                format!(
                    "{} {:?} {} {}",
                    index(row),
                    m::Presence::try_from(row.presence).unwrap(),
                    row.state,
                    row.instance_key.as_ref().unwrap().instance_guid
                )
                .trim()
                .to_owned()
            })
            .collect()
    }
}

fn index(row: &m::ActualLrp) -> i32 {
    row.key.as_ref().unwrap().index
}

/// Serves as auctioneer, rep and callback receiver in one. The first callback of a task whose guid contains `flaky` is answered
/// with 503.
async fn peer(requests: mpsc::UnboundedSender<Request>) -> (String, CancellationToken) {
    type Requests = mpsc::UnboundedSender<Request>;
    let app = Router::new()
        .route(
            "/v1/lrps",
            post(
                async |State(requests): State<Requests>, Json(body): Json<Vec<LrpStartRequest>>| {
                    drop(requests.send(Request::Lrps(body)))
                },
            ),
        )
        .route(
            "/v1/tasks",
            post(
                async |State(requests): State<Requests>,
                       Json(body): Json<Vec<TaskStartRequest>>| {
                    drop(requests.send(Request::Tasks(body)))
                },
            ),
        )
        .route(
            "/v1/lrps/{guid}/instances/{instance}/stop",
            post(
                async |State(requests): State<Requests>,
                       Path((_, instance)): Path<(String, String)>| {
                    drop(requests.send(Request::Stop(instance)))
                },
            ),
        )
        .route(
            "/v2/lrps/{guid}/instances/{instance}",
            put(
                async |State(requests): State<Requests>, Json(body): Json<LrpUpdate>| {
                    drop(requests.send(Request::Update(body)))
                },
            ),
        )
        .route(
            "/v1/tasks/{guid}/cancel",
            post(
                async |State(requests): State<Requests>, Path(guid): Path<String>| {
                    drop(requests.send(Request::Cancel(guid)))
                },
            ),
        )
        .route(
            "/done",
            post(
                async |State(requests): State<Requests>, Json(body): Json<m::TaskCallback>| {
                    static REFUSED: OnceLock<()> = OnceLock::new();
                    if body.task_guid.contains("flaky") && REFUSED.set(()).is_ok() {
                        return http::StatusCode::SERVICE_UNAVAILABLE;
                    }
                    let _ = requests.send(Request::Callback(body));
                    http::StatusCode::OK
                },
            ),
        )
        .with_state(requests);
    let stop = CancellationToken::new();
    let peer = serve(app, Some(&shared_identity()), stop.clone()).await;
    (peer.url, stop)
}

pub(crate) fn desired(guid: &str, instances: i32) -> m::DesiredLrp {
    m::DesiredLrp {
        process_guid: guid.into(),
        domain: "cf-apps".into(),
        root_fs: "preloaded:cflinuxfs4".into(),
        instances,
        action: Some(run_action()),
        memory_mb: 64,
        disk_mb: 128,
        log_guid: "app".into(),
        ports: vec![8080, 2222],
        routes: Some(routes("a.example")),
        ..m::DesiredLrp::default()
    }
}

pub(crate) fn run_action() -> m::Action {
    let run = m::RunAction {
        path: "/tmp/lifecycle/launcher".into(),
        user: "vcap".into(),
        ..m::RunAction::default()
    };
    m::Action {
        run: Some(run),
        ..m::Action::default()
    }
}

pub(crate) fn routes(host: &str) -> m::ProtoRoutes {
    m::ProtoRoutes {
        routes: [(
            "cf-router".to_owned(),
            format!(r#"[{{"hostnames":["{host}"],"port":8080}}]"#).into_bytes(),
        )]
        .into(),
    }
}

pub(crate) fn key(guid: &str, index: i32) -> m::ActualLrpKey {
    m::ActualLrpKey {
        process_guid: guid.into(),
        index,
        domain: "cf-apps".into(),
    }
}

pub(crate) fn on(instance: &str, cell: &str) -> m::ActualLrpInstanceKey {
    m::ActualLrpInstanceKey {
        instance_guid: instance.into(),
        cell_id: cell.into(),
    }
}

pub(crate) fn claim(
    guid: &str,
    index: i32,
    instance: &m::ActualLrpInstanceKey,
) -> m::ClaimActualLrpRequest {
    m::ClaimActualLrpRequest {
        process_guid: guid.into(),
        index,
        instance_key: Some(instance.clone()),
    }
}

pub(crate) fn start(
    guid: &str,
    index: i32,
    instance: &m::ActualLrpInstanceKey,
) -> m::StartActualLrpRequest {
    let port = m::PortMapping {
        container_port: 8080,
        host_port: 61001,
        container_tls_proxy_port: 61001,
        host_tls_proxy_port: 61002,
    };
    m::StartActualLrpRequest {
        key: Some(key(guid, index)),
        instance_key: Some(instance.clone()),
        net_info: Some(m::ActualLrpNetInfo {
            address: "10.0.0.1".into(),
            ports: vec![port],
            instance_address: "10.255.0.2".into(),
            ..m::ActualLrpNetInfo::default()
        }),
        routable: Some(true),
        availability_zone: "z1".into(),
        ..m::StartActualLrpRequest::default()
    }
}

pub(crate) fn crash(
    guid: &str,
    index: i32,
    instance: &m::ActualLrpInstanceKey,
) -> m::CrashActualLrpRequest {
    m::CrashActualLrpRequest {
        key: Some(key(guid, index)),
        instance_key: Some(instance.clone()),
        error_message: "Exited with status 1".into(),
    }
}
