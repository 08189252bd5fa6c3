//! A rep with its peers, and the definitions that tests use.

use crate::stand_in_bbs::StandInBbs;
use clients::loggregator::Emitter;
use garden::api::Garden;
use kit::CancellationToken;
use kit::metrics::Observed;
use kit::tls::Identity;
use rep::{Config, Handle, InstanceCa, Rep, Timing};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use testkit::certs::Ca;
use testkit::sim_garden::SimGarden;
use wire::bbs::*;
use wire::rep as json;

pub(crate) const CELL: &str = "cell-1";

pub(crate) struct Certificates {
    pub(crate) identity: Identity,
    pub(crate) ca: InstanceCa,
}

fn certificates() -> Certificates {
    let ca = Ca::new();
    Certificates {
        identity: ca.issue(&["127.0.0.1"]),
        ca: InstanceCa {
            cert_pem: ca.pem.clone(),
            key_pem: ca.key_pem().to_owned(),
        },
    }
}

/// The peers of a rep. They live through restarts of the rep.
pub(crate) struct Fixture {
    pub(crate) garden: SimGarden,
    pub(crate) bbs: StandInBbs,
    pub(crate) certificates: Certificates,
    pub(crate) client: clients::rep::Client,
    pub(crate) bulk: Duration,
    dir: tempfile::TempDir,
}

/// A running rep.
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) handle: Handle,
    pub(crate) observed: Observed,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Stops the rep as SIGTERM does: containers keep running.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let certificates = certificates();
        let bbs = StandInBbs::start(&certificates.identity, CancellationToken::new()).await;
        let dir = tempfile::tempdir().unwrap();
        for program in ["inside", "envoy"] {
            std::fs::write(dir.path().join(program), "program").unwrap();
        }
        let client = clients::rep::Client::new(&certificates.identity).unwrap();
        Self {
            garden: SimGarden::default(),
            bbs,
            client,
            bulk: Duration::from_millis(200),
            dir,
            certificates,
        }
    }

    pub(crate) fn work_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("rep")
    }

    pub(crate) async fn rep(&self) -> Running {
        let program = |name: &str| Path::new(self.dir.path()).join(name);
        self.rep_on(
            Arc::new(self.garden.clone()),
            program("inside"),
            program("envoy"),
        )
        .await
    }

    pub(crate) async fn rep_on(
        &self,
        garden: Arc<dyn Garden>,
        inside: PathBuf,
        envoy: PathBuf,
    ) -> Running {
        let listener = kit::http::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let rep = Rep::build(Config {
            listener,
            cell_id: CELL.into(),
            zone: "z1".into(),
            rep_url: url.clone(),
            identity: self.certificates.identity.clone(),
            bbs_url: self.bbs.url.clone(),
            // No locket listens there: a presence that cannot be set must not matter.
            locket_url: "https://127.0.0.1:1".into(),
            policies_url: None,
            garden,
            loggregator: Emitter::discard(),
            stacks: vec!["cflinuxfs4".into()],
            placement_tags: vec![],
            optional_placement_tags: vec![],
            work_dir: self.work_dir(),
            instance_ca: self.certificates.ca.clone(),
            instance_validity: Duration::from_secs(3600),
            envoy: Some(envoy),
            inside,
            router_ca_pem: self.certificates.ca.cert_pem.clone(),
            trusted_ca_pems: Vec::new(),
            route_integrity: true,
            cache_bytes: 1 << 30,
            timing: Timing {
                bulk: self.bulk,
                route_drain: Duration::from_millis(1),
                grace: Duration::from_millis(300),
                refresh: Duration::from_millis(100),
                repair: Duration::from_millis(100),
                advice: Duration::from_millis(50),
                ..Timing::default()
            },
        })
        .unwrap();
        let (handle, shutdown) = (rep.handle(), CancellationToken::new());
        let observed = rep.observed();
        let task = tokio::spawn(rep.run(shutdown.clone()));
        Running {
            url,
            handle,
            observed,
            shutdown,
            task,
        }
    }

    /// Places one instance on the rep and waits until its container exists. Returns its guid.
    pub(crate) async fn place(&self, rep: &Running, lrp: DesiredLrp) -> String {
        let work = json::Lrp {
            process_guid: lrp.process_guid.clone(),
            index: 0,
            domain: "cf-apps".into(),
            resource: resource(),
            ..json::Lrp::default()
        };
        self.bbs
            .rows
            .lock()
            .unwrap()
            .desired
            .insert(lrp.process_guid.clone(), lrp);
        let refused = self
            .client
            .perform(
                &rep.url,
                &json::Work {
                    lrps: vec![work],
                    tasks: vec![],
                    cell_id: CELL.into(),
                },
            )
            .await
            .unwrap();
        assert!(refused.is_empty());
        self.bbs
            .wait_for(|call| {
                if let crate::stand_in_bbs::Call::Claim(claim) = call {
                    claim.instance_key.clone()
                } else {
                    None
                }
            })
            .await
            .instance_guid
    }
}

pub(crate) fn resource() -> json::Resource {
    json::Resource {
        memory_mb: 64,
        disk_mb: 128,
        max_pids: 0,
    }
}

pub(crate) fn run(path: &str) -> Action {
    Action {
        run: Some(RunAction {
            path: path.into(),
            user: "vcap".into(),
            log_source: "APP/PROC/WEB".into(),
            ..RunAction::default()
        }),
        ..Action::default()
    }
}

/// Returns an app as Cloud Controller desires it.
pub(crate) fn app() -> DesiredLrp {
    DesiredLrp {
        process_guid: "process-1".into(),
        domain: "cf-apps".into(),
        root_fs: "preloaded:cflinuxfs4".into(),
        instances: 1,
        memory_mb: 64,
        disk_mb: 128,
        action: Some(Action {
            codependent: Some(CodependentAction {
                actions: vec![run("/tmp/lifecycle/launcher")],
                log_source: String::new(),
            }),
            ..Action::default()
        }),
        ports: vec![8080, 2222],
        log_guid: "app-1".into(),
        log_source: "CELL".into(),
        start_timeout_ms: 60_000,
        check_definition: Some(CheckDefinition {
            checks: vec![Check {
                tcp_check: Some(TcpCheck {
                    port: 8080,
                    ..TcpCheck::default()
                }),
                http_check: None,
            }],
            log_source: "HEALTH".into(),
            readiness_checks: vec![],
        }),
        certificate_properties: Some(CertificateProperties {
            organizational_unit: vec!["organization:o".into(), "space:s".into(), "app:a".into()],
        }),
        routes: Some(ProtoRoutes {
            routes: [(
                "internal-router".to_owned(),
                br#"[{"hostname":"a.apps.internal"}]"#.to_vec(),
            )]
            .into(),
        }),
        metric_tags: [(
            "process_id".to_owned(),
            MetricTagValue {
                static_value: "p".into(),
                dynamic: 0,
            },
        )]
        .into(),
        ..DesiredLrp::default()
    }
}
