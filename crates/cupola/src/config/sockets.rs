//! The addresses of the file: where each service listens, where it is reached, the servers of the bus and their cluster.

use super::certificates::CertificateFiles;
use super::file::{ConfigFile, NatsSection, SocketSection, TlsSection};
use super::values::address;
use crate::addresses::{Configured, Service, is_host_and_port, is_loopback};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The message bus as the configuration describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bus {
    /// The client addresses of all servers. If there is none, the advertised one is the only server.
    pub(crate) servers: Vec<String>,
    pub(crate) cluster: Option<Cluster>,
}

/// The cluster that this machine's server forms with those of other machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) listen: SocketAddr,
    /// The cluster addresses of the other servers.
    pub(crate) peers: Vec<String>,
}

/// Returns the addresses of every service that the file names.
pub(super) fn addresses(
    file: &ConfigFile,
    problems: &mut Vec<String>,
) -> BTreeMap<Service, Configured> {
    let mut found = BTreeMap::new();
    for service in Service::ALL {
        let (listen, advertise) = texts(file, *service);
        let section = service.section();
        let listen = address(&format!("{section}.listen"), listen.clone(), problems);
        if let Some(listen) = listen.filter(|listen| listen.port() == 0) {
            problems.push(format!(
                "{section}.listen {listen} has no fixed port: others could not know it; use e.g. 10.0.0.2:8889"
            ));
        }
        let advertise = advertise.clone();
        if let Some(wrong) = advertise.as_ref().filter(|text| !is_host_and_port(text)) {
            problems.push(format!(
                "{section}.advertise {wrong:?} is not a host with a port: use e.g. 10.0.0.2:8889 or bbs.example.com:8889"
            ));
        }
        if let (Some(all), None) = (listen.filter(|l| l.ip().is_unspecified()), &advertise) {
            problems.push(format!(
                "{section}.listen {all} does not say at which address others reach it: set {section}.advertise too"
            ));
        }
        if listen.is_some() || advertise.is_some() {
            found.insert(*service, Configured { listen, advertise });
        }
    }
    found
}

/// The text of a key of a section that is not there.
static NOTHING: Option<String> = None;

fn texts(file: &ConfigFile, service: Service) -> (&Option<String>, &Option<String>) {
    match service {
        Service::Nats => (&file.nats.listen, &file.nats.advertise),
        Service::Bbs => (&file.bbs.listen, &file.bbs.advertise),
        Service::Locket => pair(&file.bbs.locket),
        Service::Auctioneer => (&file.auctioneer.listen, &file.auctioneer.advertise),
        Service::Rep => (&file.cell.listen, &file.cell.advertise),
        Service::CloudController => (
            &file.cloud_controller.listen,
            &file.cloud_controller.advertise,
        ),
        Service::CloudControllerInternal => pair(&file.cloud_controller.internal),
        Service::Uaa => pair(&file.uaa),
        Service::LogCache => (&file.log_cache.listen, &file.log_cache.advertise),
        Service::LogIngress => pair(&file.log_cache.ingress),
        Service::RouterStatus => pair(&file.router.status),
        Service::Dashboard => (&file.dashboard.listen, &file.dashboard.advertise),
        Service::SshProxy => (&file.ssh_proxy.listen, &file.ssh_proxy.advertise),
        Service::PostgresBroker => match &file.postgres {
            Some(postgres) => (&postgres.listen, &postgres.advertise),
            None => (&NOTHING, &NOTHING),
        },
        Service::Postgres => match &file.postgres {
            Some(postgres) => (&postgres.server.listen, &postgres.server.advertise),
            None => (&NOTHING, &NOTHING),
        },
    }
}

fn pair(socket: &SocketSection) -> (&Option<String>, &Option<String>) {
    (&socket.listen, &socket.advertise)
}

/// Returns the addresses of the operators' pages of further routers, which the dashboard reads.
pub(super) fn routers(file: &ConfigFile, problems: &mut Vec<String>) -> Vec<String> {
    let routers = &file.dashboard.routers;
    for router in routers.iter().filter(|router| !is_host_and_port(router)) {
        problems.push(format!(
            "dashboard.routers has {router:?}, which is not a host with a port: use the address of router.status there, e.g. 10.0.0.6:8082"
        ));
    }
    routers.clone()
}

/// Returns the servers of the bus and the cluster.
pub(super) fn bus(section: &NatsSection, problems: &mut Vec<String>) -> Bus {
    for server in section.servers.iter().filter(|s| !is_host_and_port(s)) {
        problems.push(format!(
            "nats.servers has {server:?}, which is not a host with a port: use e.g. 10.0.0.2:4222"
        ));
    }
    let Some(cluster) = &section.cluster else {
        return Bus {
            servers: section.servers.clone(),
            cluster: None,
        };
    };
    for peer in cluster.peers.iter().filter(|p| !is_host_and_port(p)) {
        problems.push(format!(
            "nats.cluster.peers has {peer:?}, which is not a host with a port: use e.g. 10.0.0.3:6222"
        ));
    }
    if cluster.peers.is_empty() {
        problems.push(
            "nats.cluster.peers is empty: name the cluster addresses of the other servers, e.g. [10.0.0.3:6222, 10.0.0.4:6222]"
                .to_owned(),
        );
    }
    if cluster.listen.is_none() {
        problems.push(
            "nats.cluster.listen is missing: set the address for the other servers, e.g. 10.0.0.2:6222"
                .to_owned(),
        );
    }
    let listen = address("nats.cluster.listen", cluster.listen.clone(), problems);
    let far = cluster.peers.iter().find(|peer| !is_loopback(peer));
    if let (Some(near), Some(far)) = (listen.filter(|l| l.ip().is_loopback()), far) {
        problems.push(format!(
            "nats.cluster.listen {near} is on loopback, where {far} cannot reach it: use an address of this machine"
        ));
    }
    Bus {
        servers: section.servers.clone(),
        cluster: listen.map(|listen| Cluster {
            listen,
            peers: cluster.peers.clone(),
        }),
    }
}

/// Returns the components' own certificates, by the name that each component has in its certificate.
pub(super) fn certificates(
    file: &ConfigFile,
    problems: &mut Vec<String>,
) -> BTreeMap<&'static str, CertificateFiles> {
    let sections: [(&'static str, Service, &TlsSection); 6] = [
        ("bbs.tls", Service::Bbs, &file.bbs.tls),
        ("auctioneer.tls", Service::Auctioneer, &file.auctioneer.tls),
        ("log_cache.tls", Service::LogCache, &file.log_cache.tls),
        (
            "cloud_controller.tls",
            Service::CloudController,
            &file.cloud_controller.tls,
        ),
        ("cell.tls", Service::Rep, &file.cell.tls),
        ("router.tls", Service::RouterStatus, &file.router.tls),
    ];
    let mut found = BTreeMap::new();
    for (section, service, tls) in sections {
        let files = CertificateFiles::check(section, tls.cert.clone(), tls.key.clone(), problems);
        if let Some(files) = files {
            found.insert(service.component(), files);
        }
    }
    found
}
