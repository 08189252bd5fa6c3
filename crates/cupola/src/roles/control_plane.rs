//! Wires bbs, auctioneer, uaa, log-cache and cloud-controller.

use super::edge::signed_in_url;
use super::postgres::CLIENT as POSTGRES_BROKER;
use super::{Setting, public_addresses};
use crate::addresses::{self, Service};
use crate::assets;
use crate::supervisor::{Run, run};
use anyhow::{Context as _, Result};
use clients::uaa::ResourceServer;
use kit::reach::{Range, Reach};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

/// The Cloud Controller's client at the UAA that manages the clients of service brokers' dashboards.
const DASHBOARDS: &str = "cc-service-dashboards";

/// Log-cache's client at the UAA, which may introspect tokens.
const LOG_CACHE: &str = "log_cache";

pub(crate) async fn bbs(setting: Setting) -> Result<Run> {
    let bbs = bbs::Bbs::build(bbs::Config {
        listener: setting.listen(Service::Bbs).await?,
        locket_listener: setting.listen(Service::Locket).await?,
        data_dir: setting.folder("bbs")?,
        database: setting.config.database.clone(),
        identity: setting.identity("bbs")?,
        auctioneer_url: setting.https(Service::Auctioneer),
        convergence_interval: bbs::CONVERGENCE_INTERVAL,
    })
    .await?;
    setting.monitor.show("bbs", bbs.observed());
    Ok(run(|shutdown| bbs.run(shutdown)))
}

pub(crate) async fn auctioneer(setting: Setting) -> Result<Run> {
    let listener = setting.listen(Service::Auctioneer).await?;
    let auctioneer = auctioneer::Auctioneer::build(auctioneer::Config::new(
        listener,
        setting.identity("auctioneer")?,
        setting.https(Service::Bbs),
        setting.https(Service::Locket),
    ))
    .await?;
    setting.monitor.show("auctioneer", auctioneer.observed());
    Ok(run(|shutdown| auctioneer.run(shutdown)))
}

pub(crate) async fn uaa(setting: Setting) -> Result<Run> {
    let plan = &setting.plan;
    let mut clients = vec![
        uaa::Client::component(
            "cloud_controller",
            &plan.client_secret,
            &["scim.read", "uaa.resource"],
        ),
        uaa::Client::component(DASHBOARDS, &plan.client_secret, &["clients.admin"]),
        uaa::Client::component(LOG_CACHE, &plan.client_secret, &["uaa.resource"]),
        uaa::Client::dashboard(&plan.client_secret, &signed_in_url(plan)),
        uaa::Client::ssh_proxy(&plan.client_secret, &format!("{}/login", plan.url("login"))),
    ];
    if setting.config.postgres.is_some() {
        let authorities = &["cloud_controller.admin"];
        let client = uaa::Client::component(POSTGRES_BROKER, &plan.client_secret, authorities);
        clients.push(client);
    }
    let uaa = uaa::Uaa::build(uaa::Config {
        listener: setting.listen(Service::Uaa).await?,
        data_dir: setting.folder("uaa")?,
        database: setting.config.database.clone(),
        external_url: plan.url("uaa"),
        login_url: plan.url("login"),
        admin_user: plan.admin_user.clone(),
        admin_password: setting.admin_password.to_string(),
        reset_admin_password: false,
        clients,
        access_token_validity: Duration::from_secs(10 * 60),
        refresh_token_validity: Duration::from_secs(30 * 24 * 3600),
    })
    .await?;
    setting.monitor.show("uaa", uaa.observed());
    Ok(run(|shutdown| uaa.run(shutdown)))
}

pub(crate) async fn log_cache(setting: Setting) -> Result<Run> {
    let dropsonde = match setting.config.dropsonde {
        Some(address) => Some(UdpSocket::bind(address).await.with_context(|| {
            format!("listen on {address} by UDP: choose another address with log_cache.dropsonde")
        })?),
        None => None,
    };
    let log_cache = log_cache::LogCache::build(log_cache::Config {
        listener: setting.listen(Service::LogCache).await?,
        grpc_listener: setting.listen(Service::LogIngress).await?,
        dropsonde,
        identity: setting.identity("log-cache")?,
        uaa_url: setting.http(Service::Uaa),
        uaa_client: Some(ResourceServer {
            client_id: LOG_CACHE.into(),
            secret: setting.plan.client_secret.clone(),
        }),
        cc_url: setting.http(Service::CloudController),
        limits: log_cache::Limits::default(),
        drains: Some(drains(&setting)?),
    })?;
    setting.monitor.show("log-cache", log_cache.observed());
    Ok(run(|shutdown| log_cache.run(shutdown)))
}

/// Denies what users must not reach through a component: the sockets of all components, the cell's address, where apps have host ports, and
/// the range of its containers.
fn deny_components(setting: &Setting, deny: &mut Vec<Range>) -> Result<()> {
    let (config, plan) = (&setting.config, &setting.plan);
    for service in Service::ALL {
        let address = plan.address(*service);
        let advertised = address.advertise.parse::<SocketAddr>().ok();
        let own = std::iter::once(address.listen).chain(advertised);
        deny.extend(own.map(Range::from));
    }
    let containers = match config.cell.overlay {
        Some(overlay) => overlay.to_string(),
        None => format!("{}/24", plan.cell_ip),
    };
    for range in [containers, plan.cell_ip.to_string()] {
        let range: Range = range.parse().with_context(|| format!("read {range}"))?;
        deny.push(range);
    }
    Ok(())
}

/// Returns the settings of log drains. Users may send logs to no component and to no container, but to the router, behind which an app may
/// receive them.
fn drains(setting: &Setting) -> Result<drains::Config> {
    let (config, plan) = (&setting.config, &setting.plan);
    let Reach {
        mut allow,
        mut deny,
    } = config.drains.reach.clone();
    for (configured, port) in [
        (config.http, plan.http_port),
        (config.https, plan.https_port),
    ] {
        for address in public_addresses(configured, port, Some(plan.cell_ip)) {
            if address.ip().is_unspecified() {
                let own = [Ipv4Addr::LOCALHOST, plan.cell_ip];
                allow.extend(own.map(|ip| Range::from(SocketAddr::from((ip, port)))));
            } else {
                allow.push(address.into());
            }
        }
    }
    deny_components(setting, &mut deny)?;
    let authorities = [setting.certificates.edge_ca(), &config.drains.authorities];
    Ok(drains::Config {
        cloud_controller_url: setting.https(Service::CloudControllerInternal),
        identity: setting.identity("log-cache")?,
        interval: drains::Config::INTERVAL,
        reach: Reach { allow, deny },
        router: Some(drains::Router {
            domain: plan.domain.to_ascii_lowercase(),
            host: router_host(setting),
            https_port: plan.https_port,
        }),
        authorities: authorities.join("\n"),
        has_tags: config.drains.metadata,
        per_app: config.drains.per_app,
        aggregate: config.drains.aggregate.clone(),
    })
}

/// Returns what the API says about the ssh-proxy; `None` if the configuration permits no SSH.
fn app_ssh(setting: &Setting) -> Result<Option<cloud_controller::AppSsh>> {
    let (config, plan) = (&setting.config, &setting.plan);
    if !config.ssh.is_permitted {
        return Ok(None);
    }
    let configured = config.addresses.get(&Service::SshProxy);
    let advertised = configured.and_then(|address| address.advertise.as_deref());
    Ok(Some(cloud_controller::AppSsh {
        endpoint: plan.ssh_endpoint(advertised),
        host_key_fingerprint: ssh_proxy::host_key::fingerprint(&plan.ssh_host_key)?,
        oauth_client: super::edge::SSH_PROXY.to_owned(),
    }))
}

/// Returns the host at which the router listens for requests: that of its pages, unless these are on loopback and it has an address of its
/// own.
fn router_host(setting: &Setting) -> String {
    let status = setting.plan.reach(Service::RouterStatus);
    let own = setting.config.http.map(|address| address.ip());
    let own = own.filter(|ip| addresses::is_loopback(&status) && !ip.is_unspecified());
    own.map_or_else(|| addresses::host(&status).to_owned(), |ip| ip.to_string())
}

/// Returns the settings of the calls to service brokers. Those that are apps of this foundation are reached through its router.
fn brokers(setting: &Setting) -> Result<cloud_controller::BrokerSettings> {
    let (config, plan) = (&setting.config, &setting.plan);
    let mut authorities_pem = setting.certificates.edge_ca().to_owned();
    if let Some(file) = &config.brokers.ca {
        let more = std::fs::read_to_string(file).with_context(|| {
            format!(
                "cloud_controller.brokers.ca: read {}: does it exist, and may this process read it?",
                file.display()
            )
        })?;
        authorities_pem.push_str(&more);
    }
    let router = cloud_controller::BrokerRouter {
        host: router_host(setting),
        http_port: plan.http_port,
        https_port: Some(plan.https_port),
    };
    let mut reach = config.brokers.reach.clone();
    deny_components(setting, &mut reach.deny)?;
    // The broker of databases is a role of this foundation, at an address that other brokers may not have.
    let own = plan.reach(Service::PostgresBroker).parse::<SocketAddr>();
    if let (Some(_), Ok(own)) = (&config.postgres, own) {
        reach.allow.push(own.into());
    }
    Ok(cloud_controller::BrokerSettings {
        timeout: config.brokers.timeout,
        reach,
        own_domains: vec![plan.domain.clone()],
        router: Some(router),
        authorities_pem,
        skip_ssl_validation: config.brokers.skip_ssl_validation,
        api_info_location: format!("{}/", plan.api_url().trim_start_matches("https://")),
        ..cloud_controller::BrokerSettings::default()
    })
}

pub(crate) async fn cloud_controller(setting: Setting) -> Result<Run> {
    let loggregator = setting.logs()?;
    let (plan, config) = (&setting.plan, &setting.config);
    let cloud_controller = cloud_controller::CloudController::build(cloud_controller::Config {
        listener: setting.listen(Service::CloudController).await?,
        internal_listener: setting.listen(Service::CloudControllerInternal).await?,
        internal_url: setting.https(Service::CloudControllerInternal),
        data_dir: setting.folder("cloud-controller")?,
        database: config.database.clone(),
        bucket: config.bucket.clone(),
        key_file: None,
        api_url: plan.api_url(),
        login_url: plan.url("login"),
        uaa_url: plan.url("uaa"),
        log_cache_url: plan.url("log-cache"),
        uaa_internal_url: setting.http(Service::Uaa),
        log_cache_internal_url: Some(setting.http(Service::LogCache)),
        uaa_client: Some(cloud_controller::UaaClient {
            id: "cloud_controller".into(),
            secret: plan.client_secret.clone(),
        }),
        dashboards: Some(cloud_controller::UaaClient {
            id: DASHBOARDS.into(),
            secret: plan.client_secret.clone(),
        }),
        brokers: brokers(&setting)?,
        app_ssh: app_ssh(&setting)?,
        bound_egress: super::postgres::bound_egress(&setting),
        system_domain: plan.domain.clone(),
        apps_domain: plan.domain.clone(),
        identity_domains: config.identity_domains.clone(),
        reserved_hosts: super::edge::COMPONENT_HOSTS
            .iter()
            .chain(super::edge::RESERVED_HOSTS)
            .map(ToString::to_string)
            .collect(),
        routers: crate::explain::own_routers(plan),
        bbs_url: setting.https(Service::Bbs),
        nats: Some(setting.nats("cloud-controller-ng")?),
        identity: setting.identity("cloud-controller-ng")?,
        loggregator,
        inside_binary: assets::inside()?,
        default_memory_mb: 256,
        default_disk_mb: 1024,
        staging_memory_mb: 512,
        staging_disk_mb: 1024,
        staging_timeout: Duration::from_secs(15 * 60),
        sync_interval: Duration::from_secs(30),
        disk_reserve: config.disk_reserve,
        max_package_bytes: u64::from(config.limits.package_mb) << 20,
        limits: config.limits.clone(),
        default_quota: config.default_quota.clone(),
        reserved_private_domains: config.reserved_private_domains.clone(),
        private_hosts_in_one_space: config.private_hosts_in_one_space,
        retention: config.retention,
        first_target: Some(cloud_controller::FirstTarget {
            organization: config.first_org.clone(),
            space: config.first_space.clone(),
        }),
    })
    .await?;
    setting
        .monitor
        .show("cloud-controller", cloud_controller.observed());
    Ok(run(|shutdown| cloud_controller.run(shutdown)))
}
