//! Wires the router, the ssh-proxy, the components' own routes, the dashboard, and names (DNS and /etc/hosts).

use super::{Setting, public_addresses};
use crate::addresses::{self, Service};
use crate::bundle::Issued;
use crate::explain;
use crate::plan::{Plan, STATUS_USER};
use crate::role::Role;
use crate::sockets;
use crate::supervisor::{Run, run};
use anyhow::{Context as _, Result};
use kit::CancellationToken;
use kit::metrics::{Observed, Registry};
use kit::readiness::Readiness;
use route_registrar::{HttpRoute, Registrar};
use router::ComponentHosts;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The client of the ssh-proxy at the UAA.
pub(crate) const SSH_PROXY: &str = "ssh-proxy";

/// The second part of the role, which registers the components' own routes.
pub(crate) const ROUTE_REGISTRAR: &str = "route-registrar";

/// The hosts on the system domain at which components are reached.
pub(crate) const COMPONENT_HOSTS: &[&str] = &["api", "uaa", "login", "log-cache", DASHBOARD, "ssh"];
/// The host of the picture, which is also the name of its client at the UAA.
pub(crate) const DASHBOARD: &str = "dashboard";
/// The hosts on the system domain at which other Cloud Foundry foundations have components that this one lacks.
pub(crate) const RESERVED_HOSTS: &[&str] = &["doppler", "loggregator"];

/// Returns the hosts that apps cannot have: the two lists above, and everything below them.
pub(crate) fn component_hosts(domain: &str) -> ComponentHosts {
    let hosts = COMPONENT_HOSTS.iter().chain(RESERVED_HOSTS);
    let patterns: Vec<String> = hosts
        .flat_map(|host| [format!("{host}.{domain}"), format!("*.{host}.{domain}")])
        .collect();
    ComponentHosts::new(patterns.iter().map(String::as_str))
}

/// Checks that the public ports are free, before anything is made on the machine. The error names the port.
pub(crate) async fn check_public_ports(setting: &Setting, router: bool) -> Result<()> {
    if !router {
        return Ok(());
    }
    let (config, plan) = (&setting.config, &setting.plan);
    for (configured, port, key) in [
        (config.http, plan.http_port, "--http"),
        (config.https, plan.https_port, "--https"),
    ] {
        for address in public_addresses(configured, port, None) {
            drop(bind(address, key).await?);
        }
    }
    Ok(())
}

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener> {
    sockets::listen(address).with_context(|| format!("the router cannot listen on {address}: is another program using it? choose another address with {key} 127.0.0.1:PORT"))
}

/// How long a request waits for an app whose instances are starting.
const HOLD_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn router(setting: Setting) -> Result<Run> {
    let loggregator = setting.logs()?;
    let (config, plan) = (&setting.config, &setting.plan);
    let cell_ip = Some(plan.cell_ip);
    let (mut http, mut https) = (Vec::new(), Vec::new());
    for address in public_addresses(config.http, plan.http_port, cell_ip) {
        http.push(bind(address, "--http").await?);
    }
    for address in public_addresses(config.https, plan.https_port, cell_ip) {
        https.push(bind(address, "--https").await?);
    }
    let (cert_pem, key_pem) = match &config.edge {
        Some(files) => files.read()?,
        None => {
            let addresses = [Ipv4Addr::LOCALHOST, plan.cell_ip];
            let edge = setting.certificates.edge(&plan.domain, &addresses)?;
            (edge.cert_pem, edge.key_pem)
        }
    };
    // The router presents its component certificate to instances and trusts the instances' CA.
    let own = setting.identity("gorouter")?;
    let backend_tls = kit::tls::Identity {
        ca_pem: setting.certificates.instances_ca().to_owned(),
        ..own
    };
    let mut certificates = vec![router::Certificate { cert_pem, key_pem }];
    certificates.extend(identity_certificate(&setting)?);
    let router = router::Router::build(router::Config {
        http,
        https,
        certificates,
        status: router::Status {
            listener: setting.listen(Service::RouterStatus).await?,
            user: STATUS_USER.into(),
            password: plan.status_password.clone(),
        },
        nats: setting.nats("gorouter")?,
        routing_api: None,
        backend_tls,
        access_log: Some(setting.folder("log")?.join("access.log")),
        loggregator,
        settings: router::Settings {
            ip: router_ip(&setting),
            start_delay: Duration::ZERO,
            register_interval: config.register_interval,
            hold_timeout: HOLD_TIMEOUT,
            error_help: true,
            component_hosts: Some(component_hosts(&plan.domain)),
            log_format: router::LogFormat {
                redact_query: router::RedactQuery::Credentials,
                ..router::LogFormat::default()
            },
            access_log_rotation: config.access_log_rotation,
            zipkin: config.tracing.zipkin,
            w3c: config.tracing.w3c,
            otlp: config.tracing.otlp.clone(),
            front_tls: router::FrontTls {
                domains: identity_domains(&setting),
                ..router::FrontTls::default()
            },
            route_services: route_services(&setting),
            ..router::Settings::default()
        },
    })
    .await?;
    let handle = router.handle();
    setting.monitor.show("router", handle.observed());
    let mut hangups = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    Ok(run(|shutdown| async move {
        let running = router.run(shutdown);
        tokio::pin!(running);
        loop {
            tokio::select! {
                ended = running.as_mut() => return ended,
                // Whoever rotates logs has renamed the file.
                _ = hangups.recv() => handle.reopen_access_log(),
            }
        }
    }))
}

pub(crate) async fn ssh_proxy(setting: Setting) -> Result<Run> {
    let loggregator = setting.logs()?;
    let (config, plan) = (&setting.config, &setting.plan);
    let identity = setting.identity("ssh-proxy")?;
    // The proxy presents its component certificate to instances and trusts the instances' CA, as the router does.
    let backend_tls = kit::tls::Identity {
        ca_pem: setting.certificates.instances_ca().to_owned(),
        ..identity.clone()
    };
    let proxy = ssh_proxy::SshProxy::build(ssh_proxy::Config {
        listener: setting.listen(Service::SshProxy).await?,
        host_key: plan.ssh_host_key.clone(),
        access: clients::ssh_access::Config {
            uaa_url: setting.http(Service::Uaa),
            client_id: SSH_PROXY.into(),
            client_secret: plan.client_secret.clone(),
            cloud_controller_url: setting.http(Service::CloudController),
            authorities: String::new(),
        },
        bbs_url: setting.https(Service::Bbs),
        identity,
        backend_tls,
        loggregator,
        connections: config.ssh.connections,
        idle: config.ssh.idle,
    })?;
    setting.monitor.show("ssh-proxy", proxy.observed());
    Ok(run(|shutdown| proxy.run(shutdown)))
}

/// Issues one certificate for all identity domains; `None` if there is no such domain.
fn identity_certificate(setting: &Setting) -> Result<Option<router::Certificate>> {
    let names = setting.config.identity_domain_names();
    if names.is_empty() {
        return Ok(None);
    }
    let own = &setting.plan.domain;
    anyhow::ensure!(
        !names.contains(own),
        "identity_domains has {own:?}, the foundation's own domain, whose clients have no instance identities: use e.g. apps.identity"
    );
    let Issued { cert_pem, key_pem } = setting.certificates.identity_domains(&names)?;
    Ok(Some(router::Certificate { cert_pem, key_pem }))
}

/// Returns the identity domains. On them a caller presents its instance identity, and the called app receives it in a header.
fn identity_domains(setting: &Setting) -> Vec<router::MtlsDomain> {
    let domain = |name: &String| router::MtlsDomain {
        name: format!("*.{name}"),
        client_cas: setting.certificates.instances_ca().to_owned(),
        forwarded_client_cert: router::ForwardedClientCert::SanitizeSet,
        xfcc_format: router::XfccFormat::Envoy,
    };
    let names = setting.config.identity_domain_names();
    names.iter().map(domain).collect()
}

/// Returns the settings of route services; `None` if this machine joined by a bundle without their secret.
fn route_services(setting: &Setting) -> Option<router::RouteServices> {
    let (config, plan) = (&setting.config.route_services, &setting.plan);
    let (secret, secret_decrypt_only, rotation) = match &config.shared {
        Some((secret, previous)) => (secret.clone(), previous.clone(), None),
        None if plan.route_services_secret.is_empty() => {
            tracing::warn!(
                "route-services-off: the bundle of this machine has no secret of route services, so requests for bound routes are refused with 502: create a new one with `cupola join-bundle --roles router`"
            );
            return None;
        }
        None => {
            let secret = plan.route_services_secret.clone();
            (secret, None, Some(config.rotation))
        }
    };
    let all = || vec![format!("*.{}", plan.domain)];
    let hosts = config.hairpinning.clone().unwrap_or_else(all);
    Some(router::RouteServices {
        secret,
        secret_decrypt_only,
        rotation,
        timeout: config.timeout,
        recommend_https: true,
        return_port: (plan.https_port != 443).then_some(plan.https_port),
        max_attempts: config.attempts,
        strict_signature_validation: false,
        websockets: config.websockets,
        identity: None,
        tls_terms: router::TlsTerms::default(),
        skip_ssl_validation: config.skip_ssl_validation,
        // A service may also be behind the foundation's own HTTPS port.
        authorities: format!("{}\n{}", setting.certificates.edge_ca(), config.authorities),
        system_authorities: true,
        hairpinning: !hosts.is_empty(),
        hairpinning_allowlist: hosts,
        egress_blocklist: config.egress_blocklist.clone(),
    })
}

/// Returns the router's own address as others see it: that of a listener if it is configured, else the cell's.
fn router_ip(setting: &Setting) -> IpAddr {
    let configured = [setting.config.http, setting.config.https];
    let mut ips = configured.into_iter().flatten().map(|address| address.ip());
    let own = ips.find(|ip| !ip.is_unspecified() && !ip.is_loopback());
    own.unwrap_or_else(|| setting.plan.cell_ip.into())
}

/// Returns the services among the roles that users reach by name, each with the hosts of its routes.
pub(crate) fn routed(chosen: &[Role]) -> Vec<(&'static str, Service)> {
    let routes = [
        (Role::CloudController, "api", Service::CloudController),
        (Role::Uaa, "uaa", Service::Uaa),
        (Role::Uaa, "login", Service::Uaa),
        (Role::LogCache, "log-cache", Service::LogCache),
        (Role::Dashboard, DASHBOARD, Service::Dashboard),
    ];
    let own = routes
        .into_iter()
        .filter(|(role, ..)| chosen.contains(role));
    own.map(|(_, host, service)| (host, service)).collect()
}

/// Registers the components' own routes over NATS, like all routes. The process that runs a component registers its routes.
pub(crate) async fn component_routes(
    setting: Setting,
    routed: &[(&'static str, Service)],
) -> Result<Run> {
    let plan = &setting.plan;
    let route = |host: &str, service: Service| -> Result<HttpRoute> {
        let address = plan.reach(service);
        let port = address
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        Ok(HttpRoute {
            uris: vec![format!("{host}.{}", plan.domain)],
            host: addresses::host(&address).to_owned(),
            port: port.with_context(|| format!("read the port of {address}"))?,
            tags: [("component".to_owned(), host.to_owned())].into(),
            ..HttpRoute::default()
        })
    };
    let routes = routed.iter().map(|(host, service)| route(host, *service));
    let routes = routes.collect::<Result<Vec<HttpRoute>>>()?;
    let (nats, interval) = (
        setting.nats(ROUTE_REGISTRAR)?,
        setting.config.register_interval,
    );
    let readiness = Readiness::default();
    let bus = readiness.need("the message bus");
    let metrics = Arc::new(Registry::default());
    let observed = Observed { metrics, readiness };
    setting.monitor.show(ROUTE_REGISTRAR, observed);
    Ok(run(async move |shutdown: CancellationToken| {
        let on_event = move |event| {
            clients::nats::report(&event, &bus);
            std::future::ready(())
        };
        let client = clients::nats::connect(&nats, ROUTE_REGISTRAR, on_event).await?;
        Registrar::new(client, &routes, interval)?
            .run(shutdown)
            .await
    }))
}

/// Returns the URI to which the UAA's page redirects with a code.
pub(crate) fn signed_in_url(plan: &Plan) -> String {
    format!("{}/signed-in", plan.url(DASHBOARD))
}

pub(crate) async fn dashboard(setting: Setting) -> Result<Run> {
    let (config, plan) = (&setting.config, &setting.plan);
    let further = config.dashboard_routers.iter();
    let mut routers = explain::own_routers(plan);
    routers.extend(further.map(|address| explain::router(plan, address)));
    let dashboard = dashboard::Dashboard::build(dashboard::Config {
        listener: setting.listen(Service::Dashboard).await?,
        external_url: plan.url(DASHBOARD),
        api_url: plan.api_url(),
        cloud_controller_url: setting.http(Service::CloudController),
        log_cache_url: setting.http(Service::LogCache),
        oauth: dashboard::OAuth {
            client_id: DASHBOARD.into(),
            client_secret: plan.client_secret.clone(),
            authorize_url: format!("{}/oauth/authorize", plan.url("login")),
            uaa_url: setting.http(Service::Uaa),
        },
        bbs_url: setting.https(Service::Bbs),
        identity: setting.identity("dashboard")?,
        nats: setting.nats("dashboard")?,
        routers,
    })?;
    setting.monitor.show("dashboard", dashboard.observed());
    Ok(run(|shutdown| dashboard.run(shutdown)))
}

pub(crate) async fn dns(setting: Setting) -> Result<Run> {
    let (config, plan) = (&setting.config, &setting.plan);
    let address = SocketAddr::from((plan.cell_ip, 53));
    let dns = dns::Dns::build(dns::Config {
        sockets: vec![sockets::name_server(address)?],
        domains: std::iter::once(plan.domain.clone())
            .chain(config.identity_domain_names())
            .collect(),
        internal_domains: vec![cloud_controller::INTERNAL_DOMAIN.to_owned()],
        router_ip: config.dns_router.unwrap_or(plan.cell_ip),
        nats: setting.nats("dns")?,
        learned_ttl: Duration::from_secs(120),
        resolv_conf: "/etc/resolv.conf".into(),
        hosts: config.hosts_file.then(|| dns::HostsConfig {
            path: "/etc/hosts".into(),
            // Without a configured router, one of this machine is reached on loopback.
            ip: config.dns_router.unwrap_or(Ipv4Addr::LOCALHOST).into(),
            names: COMPONENT_HOSTS
                .iter()
                .map(|host| format!("{host}.{}", plan.domain))
                .collect(),
        }),
    })?;
    setting.monitor.show("dns", dns.observed());
    Ok(run(|shutdown| dns.run(shutdown)))
}
