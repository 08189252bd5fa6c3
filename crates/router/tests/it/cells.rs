//! The part of a foundation behind the router: a BBS, the emitters of two cells, and instances that answer with their guids.

use crate::certs::Ca;
use bytes::Bytes;
use clients::locket::Presence;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kit::CancellationToken;
use kit::tls::{ClientAuth, server_config};
use route_emitter::RouteEmitter;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::certs::shared_identity;
use testkit::components::Bbs;
use testkit::http::serve;
use testkit::net::listener;
use testkit::wait::wait_for;
use tokio_rustls::TlsAcceptor;
use wire::bbs as m;
use wire::lrp_routes::{CF_ROUTER, CfRoute};

pub(crate) const CELLS: [&str; 2] = ["cell-1", "cell-2"];

/// An interval that no test outlives, so that no timer repairs anything.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

const DOMAIN: &str = "cf-apps";
/// The port of the app in its container.
const PORT: u32 = 8080;

pub(crate) struct Cells {
    pub(crate) bbs: clients::bbs::Client,
    _running: Bbs,
    _data: tempfile::TempDir,
    stop: CancellationToken,
}

impl Drop for Cells {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Cells {
    /// Starts a BBS, and an emitter for each cell on this bus.
    pub(crate) async fn start(bus: &clients::nats::Config) -> Self {
        let (stop, identity) = (CancellationToken::new(), shared_identity());
        // The auctioneer and the reps accept whatever the BBS requests of them.
        let accepting = axum::Router::new().fallback(async || "{}");
        let peer = serve(accepting, Some(&identity), stop.clone()).await;
        let data = tempfile::tempdir().unwrap();
        let running = Bbs::start(data.path(), &identity, &peer.url).await;
        let bbs = running.client();
        for cell in CELLS {
            let presence = m::CellPresence {
                cell_id: cell.to_owned(),
                rep_url: peer.url.clone(),
                zone: "z1".to_owned(),
                ..m::CellPresence::default()
            };
            tokio::spawn(Presence::cell(running.locket(), &presence).run(stop.clone()));
            let mut config =
                route_emitter::Config::new(cell, &running.url, identity.clone(), bus.clone());
            config.sync_interval = NEVER;
            config.emission_interval = NEVER;
            config.unregistration_interval = NEVER;
            let emitter = RouteEmitter::build(config).unwrap();
            tokio::spawn(emitter.run(stop.clone()));
        }
        wait_for("the presence of the cells", async || {
            bbs.cells().await.is_ok_and(|cells| cells.len() == 2)
        })
        .await;
        Self {
            bbs,
            _running: running,
            _data: data,
            stop,
        }
    }

    pub(crate) async fn desire(&self, process: &str) {
        let run = m::RunAction {
            path: "/app".to_owned(),
            user: "vcap".to_owned(),
            ..m::RunAction::default()
        };
        let desired = m::DesiredLrp {
            process_guid: process.to_owned(),
            domain: DOMAIN.to_owned(),
            root_fs: "preloaded:cflinuxfs4".to_owned(),
            instances: 1,
            action: Some(m::Action {
                run: Some(run),
                ..m::Action::default()
            }),
            memory_mb: 64,
            disk_mb: 64,
            log_guid: process.to_owned(),
            ports: vec![PORT],
            routes: Some(routes([])),
            ..m::DesiredLrp::default()
        };
        self.bbs.desire_lrp(desired).await.unwrap();
    }

    /// Sets the routes of a process, each with its generation.
    pub(crate) async fn route(
        &self,
        process: &str,
        hosts: impl IntoIterator<Item = (String, u64)>,
    ) {
        let update = m::DesiredLrpUpdate {
            routes: Some(routes(hosts)),
            ..m::DesiredLrpUpdate::default()
        };
        self.bbs.update_desired_lrp(process, update).await.unwrap();
    }

    /// Reports that the only instance of a process runs at an address of a cell.
    pub(crate) async fn start_instance(
        &self,
        process: &str,
        instance: &str,
        cell: &str,
        address: SocketAddr,
    ) {
        let port = u32::from(address.port());
        let mapping = m::PortMapping {
            container_port: PORT,
            host_port: port,
            container_tls_proxy_port: 61001,
            host_tls_proxy_port: port,
        };
        let request = m::StartActualLrpRequest {
            key: Some(m::ActualLrpKey {
                process_guid: process.to_owned(),
                index: 0,
                domain: DOMAIN.to_owned(),
            }),
            instance_key: Some(instance_key(instance, cell)),
            net_info: Some(m::ActualLrpNetInfo {
                address: address.ip().to_string(),
                ports: vec![mapping],
                instance_address: "10.255.0.2".to_owned(),
                ..m::ActualLrpNetInfo::default()
            }),
            routable: Some(true),
            availability_zone: "z1".to_owned(),
            ..m::StartActualLrpRequest::default()
        };
        self.bbs.start(&request).await.unwrap();
    }

    /// Reports that the instance of a process is gone.
    pub(crate) async fn remove_instance(&self, process: &str, instance: &str, cell: &str) {
        let request = m::RemoveActualLrpRequest {
            process_guid: process.to_owned(),
            index: 0,
            instance_key: Some(instance_key(instance, cell)),
        };
        self.bbs.remove(&request).await.unwrap();
    }
}

fn instance_key(instance: &str, cell: &str) -> m::ActualLrpInstanceKey {
    m::ActualLrpInstanceKey {
        instance_guid: instance.to_owned(),
        cell_id: cell.to_owned(),
    }
}

fn routes(hosts: impl IntoIterator<Item = (String, u64)>) -> m::ProtoRoutes {
    let route = |(host, generation)| CfRoute {
        hostnames: vec![host],
        port: PORT,
        generation: Some(generation),
        ..CfRoute::default()
    };
    let routes: Vec<CfRoute> = hosts.into_iter().map(route).collect();
    let json = serde_json::to_vec(&routes).unwrap();
    m::ProtoRoutes {
        routes: [(CF_ROUTER.to_owned(), json)].into(),
    }
}

/// An address of a cell. The instance that has it answers every request with its guid, over TLS with a certificate of this guid, as an
/// instance behind its Envoy does. Without an instance every connection is closed.
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    tenant: Arc<Mutex<Option<Tenant>>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Tenant {
    guid: String,
    tls: TlsAcceptor,
    end: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Place {
    pub(crate) async fn new() -> Self {
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let tenant: Arc<Mutex<Option<Tenant>>> = Arc::default();
        let tenants = tenant.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let tenant = tenants.lock().unwrap().clone();
                if let Some(tenant) = tenant {
                    let end = tenant.end.clone();
                    tokio::spawn(end.run_until_cancelled_owned(answer(tenant, stream)));
                }
            }
        });
        Self {
            address,
            tenant,
            task,
        }
    }

    /// Ends the instance here with its connections, and begins another one.
    pub(crate) fn occupy(&self, guid: &str, ca: &Ca) {
        let tls = server_config(&ca.issue(&[guid]), ClientAuth::None, &["http/1.1"]);
        self.set(Some(Tenant {
            guid: guid.to_owned(),
            tls: TlsAcceptor::from(tls.unwrap()),
            end: CancellationToken::new(),
        }));
    }

    /// Ends the instance here with its connections.
    pub(crate) fn leave(&self) {
        self.set(None);
    }

    fn set(&self, tenant: Option<Tenant>) {
        let before = std::mem::replace(&mut *self.tenant.lock().unwrap(), tenant);
        if let Some(before) = before {
            before.end.cancel();
        }
    }
}

async fn answer(tenant: Tenant, stream: tokio::net::TcpStream) {
    let Ok(stream) = tenant.tls.accept(stream).await else {
        return;
    };
    let guid = Bytes::from(tenant.guid);
    let service = service_fn(move |_: Request<Incoming>| {
        let guid = guid.clone();
        async move { Ok::<_, Infallible>(Response::new(Full::new(guid))) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    drop(connection.await);
}
