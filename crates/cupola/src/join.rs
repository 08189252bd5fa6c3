//! `cupola certs` and `cupola join-bundle`: what other machines need to be part of this foundation, issued by its CAs.
//!
//! Both run where the foundation was made, whether or not it runs. `certs` writes a certificate and its key for any component;
//! `join-bundle` writes one file with all that the roles of another machine need ([`crate::bundle`]).

use crate::addresses::{Service, is_host_name, is_loopback};
use crate::bundle::{self, Bundle, JOINING};
use crate::certs::Certificates;
use crate::config::{self, Overrides};
use crate::plan::{Plan, PlanLock};
use crate::role::{self, Role};
use crate::terminal::print;
use anyhow::{Context as _, Result, bail, ensure};
use kit::private_file;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Runs `cupola certs NAME --host … --out DIR`.
pub(crate) async fn certs(data: &Path, name: &str, hosts: &[String], out: &Path) -> Result<()> {
    ensure!(
        is_host_name(name) && !name.contains('.'),
        "{name:?} is no name of a component: use letters, digits and dashes, e.g. bbs"
    );
    check_hosts(hosts)?;
    let (_, certificates) = open(data).await?;
    let identity = certificates.component(name, hosts)?;
    let file = |ending: &str| out.join(format!("{name}.{ending}"));
    for path in [file("crt"), file("key")] {
        ensure!(
            !path.exists(),
            "{} exists already: remove it, or name another directory with --out",
            path.display()
        );
    }
    std::fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    private_file::replace(&file("key"), &identity.key_pem)?;
    private_file::replace(&file("crt"), &identity.cert_pem)?;
    private_file::replace(&out.join("components_ca.crt"), &identity.ca_pem)?;
    print(&format!(
        "{}, {} and {} are written; the certificate is valid for {}.\n",
        file("crt").display(),
        file("key").display(),
        out.join("components_ca.crt").display(),
        hosts.join(", ")
    ))
}

/// The machine for which a bundle is made.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) roles: Vec<Role>,
    pub(crate) hosts: Vec<String>,
    /// The configuration file that has the foundation's identity domains.
    pub(crate) config: Option<PathBuf>,
}

/// Runs `cupola join-bundle --roles … --host … --out FILE`.
pub(crate) async fn bundle(data: &Path, machine: &Machine, out: &Path) -> Result<()> {
    if let Some(other) = machine.roles.iter().find(|role| !JOINING.contains(role)) {
        bail!(
            "the role {} cannot join from another machine, because its data is in databases of this one: the roles that can are {}",
            other.name(),
            role::names(JOINING)
        );
    }
    check_hosts(&machine.hosts)?;
    let (plan, certificates) = open(data).await?;
    let config = config::load(Overrides {
        file: machine.config.clone(),
        domain: Some(plan.domain.clone()),
        ..Overrides::default()
    })?;
    let made = make(
        &plan,
        &certificates,
        machine,
        &config.identity_domain_names(),
    )?;
    made.write(out)?;
    print(&format!(
        "{} is written. It has secrets: copy it to the machine with {} so that only root may read it, name it there with the key `join` of the configuration, and run `cupola serve --roles {} -c cupola.yml`.\n",
        out.display(),
        machine.hosts.join(", "),
        role::names(&machine.roles).replace(", ", ",")
    ))
}

fn make(
    plan: &Plan,
    certificates: &Certificates,
    machine: &Machine,
    identity_domains: &[String],
) -> Result<Bundle> {
    let Machine { roles, hosts, .. } = machine;
    let mut components = BTreeMap::new();
    for name in roles.iter().flat_map(|role| bundle::components(*role)) {
        components.insert((*name).to_owned(), certificates.issue(name, hosts)?);
    }
    let is_router = roles.contains(&Role::Router);
    let has_identity = is_router && !identity_domains.is_empty();
    let key = certificates.instances_ca_key();
    Ok(Bundle {
        version: Bundle::VERSION,
        domain: plan.domain.clone(),
        roles: roles.clone(),
        hosts: hosts.clone(),
        peers: peers(plan, roles)?,
        nats_servers: nats_servers(plan)?,
        nats_password: plan.nats_password.clone(),
        status_password: is_router.then(|| plan.status_password.clone()),
        route_services_secret: Some(plan.route_services_secret.clone())
            .filter(|secret| is_router && !secret.is_empty()),
        admin_user: plan.admin_user.clone(),
        components_ca: certificates.components_ca().to_owned(),
        instances_ca: certificates.instances_ca().to_owned(),
        instances_ca_key: match roles.contains(&Role::Cell) {
            true => Some(key?.to_owned()),
            false => None,
        },
        edge_ca: certificates.edge_ca().to_owned(),
        components,
        edge: match is_router {
            true => Some(certificates.edge_for(&plan.domain, hosts)?),
            false => None,
        },
        identity: match has_identity {
            true => Some(certificates.identity_domains(identity_domains)?),
            false => None,
        },
        identity_domains: if has_identity {
            identity_domains.to_vec()
        } else {
            Vec::new()
        },
    })
}

/// Returns where the services are reached that the roles connect to. A service on loopback is refused.
fn peers(plan: &Plan, roles: &[Role]) -> Result<BTreeMap<Service, String>> {
    let mut found = BTreeMap::new();
    for service in roles.iter().flat_map(|role| bundle::peers(*role)) {
        // The servers of the bus are a list of their own.
        if *service == Service::Nats {
            continue;
        }
        let address = plan.reach(*service);
        let section = service.section();
        ensure!(
            !is_loopback(&address),
            "{section} is advertised at {address}, which another machine cannot reach: set {section}.listen to an address of this machine, e.g. 10.0.0.2:8889, and start the foundation with that configuration first"
        );
        found.insert(*service, address);
    }
    Ok(found)
}

fn nats_servers(plan: &Plan) -> Result<Vec<String>> {
    let servers = plan.nats_servers();
    if let Some(near) = servers.iter().find(|server| is_loopback(server)) {
        bail!(
            "the message bus is advertised at {near}, which another machine cannot reach: set nats.listen to an address of this machine, e.g. 10.0.0.2:4222, and start the foundation with that configuration first"
        );
    }
    Ok(servers)
}

async fn open(data: &Path) -> Result<(Plan, Certificates)> {
    let plan = Plan::read(data)?;
    ensure!(
        !plan.joined,
        "data directory {} belongs to a machine that joined a foundation and has no CA: run this where the foundation was made",
        data.display()
    );
    let _lock = PlanLock::acquire(data).await?;
    Ok((plan, Certificates::open(&data.join("certs"))?))
}

fn check_hosts(hosts: &[String]) -> Result<()> {
    for host in hosts {
        ensure!(
            host.parse::<IpAddr>().is_ok() || is_host_name(host),
            "--host {host:?} is neither an IP address nor a name: use e.g. 10.0.0.3 or cell-2.example.com"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"{"tag": "a", "domain": "a.test", "cell_ip": "10.0.0.1", "http_port": 80, "https_port": 443,
        "ports": {"nats": 1, "bbs": 2, "locket": 3, "auctioneer": 4, "rep": 5, "cloud_controller": 6,
            "cloud_controller_internal": 7, "uaa": 8, "log_cache": 9, "log_ingress": 10, "router_status": 11},
        "nats_password": "n", "status_password": "s", "client_secret": "c", "route_services_secret": "r",
        "admin_user": "admin"}"#;

    fn plan(advertised: &[(Service, &str)]) -> Plan {
        let mut plan: Plan = serde_json::from_str(PLAN).unwrap();
        for (service, address) in advertised {
            let mut own = plan.address(*service);
            own.advertise = (*address).to_owned();
            plan.addresses.insert(*service, own);
        }
        plan
    }

    fn machine(roles: &[Role]) -> Machine {
        Machine {
            roles: roles.to_vec(),
            hosts: vec!["10.0.0.3".into(), "cell.example".into()],
            config: None,
        }
    }

    #[test]
    fn a_bundle_has_what_its_roles_need_and_no_more() {
        kit::tls::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::open(folder.path()).unwrap();
        let plan = plan(&[
            (Service::Nats, "10.0.0.2:4222"),
            (Service::Bbs, "10.0.0.2:8889"),
            (Service::Locket, "10.0.0.2:8891"),
            (Service::CloudControllerInternal, "10.0.0.2:9023"),
            (Service::LogIngress, "10.0.0.2:3458"),
        ]);
        let identities = ["apps.identity".to_owned()];
        let of = |roles: &[Role]| make(&plan, &certificates, &machine(roles), &identities).unwrap();

        let cell = of(&[Role::Cell]);
        let names: Vec<&str> = cell.components.keys().map(String::as_str).collect();
        assert_eq!(names, ["cell", "metron", "operator"]);
        assert!(cell.instances_ca_key.is_some() && cell.edge.is_none());
        assert!(cell.status_password.is_none() && cell.identity.is_none());
        assert!(cell.route_services_secret.is_none());
        assert_eq!(cell.peers.len(), 4);
        assert_eq!(cell.nats_servers, ["10.0.0.2:4222"]);

        let router = of(&[Role::Router]);
        let names: Vec<&str> = router.components.keys().map(String::as_str).collect();
        assert_eq!(names, ["gorouter", "metron"]);
        assert!(router.instances_ca_key.is_none() && router.edge.is_some());
        assert_eq!(router.status_password.as_deref(), Some("s"));
        assert_eq!(router.route_services_secret.as_deref(), Some("r"));
        assert_eq!(router.identity_domains, identities);
        let keys = std::fs::read_to_string(folder.path().join("components_ca.key")).unwrap();
        let text = serde_json::to_string(&router).unwrap();
        let first = keys.lines().nth(1).unwrap();
        assert!(!text.contains(first), "the CA's key stays where it is");
    }

    #[test]
    fn a_joined_machine_uses_the_bundle_alone() {
        kit::tls::install_crypto();
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let certificates = Certificates::open(here.path()).unwrap();
        let plan = plan(&[
            (Service::Nats, "10.0.0.2:4222"),
            (Service::LogIngress, "10.0.0.2:3458"),
        ]);
        let identities = ["apps.identity".to_owned()];
        let made = make(&plan, &certificates, &machine(&[Role::Router]), &identities).unwrap();
        let joined = Certificates::joined(there.path(), made.clone()).unwrap();
        let own = joined.component("gorouter", &[]).unwrap();
        kit::tls::check_pair(&own.cert_pem, &own.key_pem).unwrap();
        assert_eq!(own.ca_pem, certificates.components_ca());
        let edge = joined.edge("a.test", &[]).unwrap();
        assert_eq!(edge.cert_pem, made.edge.unwrap().cert_pem);
        joined.identity_domains(&identities).unwrap();
        let error = joined.component("cell", &[]).unwrap_err().to_string();
        assert!(
            error.contains("no certificate of the component cell"),
            "{error}"
        );
        let error = joined.instances_ca_key().unwrap_err().to_string();
        assert!(error.contains("--roles cell"), "{error}");
        let other = joined.identity_domains(&["b.identity".to_owned()]);
        let error = other.err().unwrap().to_string();
        assert!(
            error.contains("\"b.identity\"") && error.contains("--config FILE"),
            "{error}"
        );
    }

    #[test]
    fn services_on_loopback_are_refused_by_name() {
        let error = peers(&plan(&[]), &[Role::Cell]).unwrap_err().to_string();
        assert!(
            error.starts_with("bbs is advertised at 127.0.0.1:2"),
            "{error}"
        );
        let error = nats_servers(&plan(&[])).unwrap_err().to_string();
        assert!(error.contains("set nats.listen"), "{error}");
    }
}
