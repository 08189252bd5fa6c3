//! A Cloud Controller beside its peers.

use crate::wait::within;
use crate::{net, postgres};
use kit::CancellationToken;
use kit::metrics::Observed;
use kit::reconcile::LastPass;
use kit::tls::Identity;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The domain of the system and of its apps.
pub const DOMAIN: &str = "apps.test";

/// The peers of a Cloud Controller.
#[derive(Clone, Debug)]
pub struct Peers {
    pub bbs_url: String,
    pub uaa_url: String,
    /// The identity that it presents to its peers and on its internal listener.
    pub identity: Identity,
}

/// A running Cloud Controller. It stops when it is dropped.
#[derive(Debug)]
pub struct CloudController {
    pub url: String,
    /// The URL that reps use.
    pub internal_url: String,
    pub last_sync: LastPass,
    /// Its metrics and its readiness.
    pub observed: Observed,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl CloudController {
    /// Starts a Cloud Controller on the files in `data` and the database that belongs to it. `data` is a folder of its own below one that the test owns. It has the organization
    /// `demo` with the space `dev`, a quota that no test exceeds by chance, and a sync that hardly ever runs, so that a test sees the
    /// effects of requests only. `change` may change all of that.
    pub async fn start(
        data: &Path,
        peers: &Peers,
        change: impl FnOnce(&mut cloud_controller::Config),
    ) -> Self {
        let inside = data.with_file_name("inside");
        std::fs::write(&inside, "#!program").expect("the folder above the data can be written");
        let internal_listener = net::listener().await;
        let address = internal_listener
            .local_addr()
            .expect("the listener is bound");
        let internal_url = format!("https://{address}");
        let mut config = cloud_controller::Config {
            listener: net::listener().await,
            internal_listener,
            internal_url: internal_url.clone(),
            data_dir: data.to_owned(),
            database: postgres::server(data),
            bucket: None,
            key_file: None,
            api_url: "http://api.test".to_owned(),
            login_url: "http://login.test".to_owned(),
            uaa_url: "http://uaa.test".to_owned(),
            log_cache_url: "http://log-cache.test".to_owned(),
            uaa_internal_url: peers.uaa_url.clone(),
            log_cache_internal_url: None,
            uaa_client: None,
            dashboards: None,
            // Tests run their brokers on this address; all others of the machine stay refused.
            brokers: cloud_controller::BrokerSettings {
                reach: kit::reach::Reach {
                    allow: vec!["127.0.0.1".parse().unwrap()],
                    deny: vec![],
                },
                timeout: Duration::from_secs(20),
                api_info_location: "api.test/".to_owned(),
                ..cloud_controller::BrokerSettings::default()
            },
            bound_egress: Vec::new(),
            app_ssh: Some(cloud_controller::AppSsh {
                endpoint: "ssh.apps.test:2222".to_owned(),
                host_key_fingerprint: "bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8".to_owned(),
                oauth_client: "ssh-proxy".to_owned(),
            }),
            system_domain: DOMAIN.to_owned(),
            apps_domain: DOMAIN.to_owned(),
            identity_domains: Vec::new(),
            reserved_hosts: vec!["api".to_owned(), "login".to_owned()],
            routers: Vec::new(),
            bbs_url: peers.bbs_url.clone(),
            nats: None,
            identity: peers.identity.clone(),
            loggregator: clients::loggregator::Emitter::discard(),
            inside_binary: inside,
            default_memory_mb: 256,
            default_disk_mb: 1024,
            staging_memory_mb: 1024,
            staging_disk_mb: 4096,
            staging_timeout: Duration::from_secs(900),
            sync_interval: Duration::from_secs(3600),
            max_package_bytes: 1 << 30,
            disk_reserve: Some(0),
            limits: cloud_controller::Limits::default(),
            default_quota: cloud_controller::DefaultQuota {
                total_memory_in_mb: Some(10_000_000),
                total_instances: Some(100_000),
                per_app_tasks: Some(100_000),
                total_routes: Some(100_000),
                total_domains: Some(100_000),
                ..cloud_controller::DefaultQuota::default()
            },
            reserved_private_domains: vec!["co.test".to_owned()],
            private_hosts_in_one_space: false,
            retention: cloud_controller::Retention::default(),
            first_target: Some(cloud_controller::FirstTarget {
                organization: "demo".to_owned(),
                space: "dev".to_owned(),
            }),
        };
        change(&mut config);
        let built = cloud_controller::CloudController::build(config)
            .await
            .expect("the Cloud Controller starts");
        let url = format!("http://{}", built.addr());
        let (last_sync, observed) = (built.last_sync(), built.observed());
        let stop = CancellationToken::new();
        let running = tokio::spawn(built.run(stop.clone()));
        Self {
            url,
            internal_url,
            last_sync,
            observed,
            stop,
            running,
        }
    }

    /// Stops the Cloud Controller, and checks that it ends well. It must not be stopped again.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        let ended = within("the end of the Cloud Controller", &mut self.running).await;
        ended
            .expect("the Cloud Controller does not panic")
            .expect("the Cloud Controller ends well");
    }
}

impl Drop for CloudController {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
