//! The bundle: one file with which another machine joins a foundation. `cupola join-bundle` writes it (mode 0600, it has secrets), and
//! the key `join` of the configuration names it.
//!
//! A bundle has only what its roles need. The keys of the components' CA and of the edge CA never leave the machine that has them, so
//! a bundle holds certificates that were issued for the hosts of the machine that joins. The key of the instances' CA is in the
//! bundles of cells, because each cell issues the identities of its instances.

use crate::addresses::{Service, host, is_loopback};
use crate::role::{self, Role};
use anyhow::{Context as _, Result, bail, ensure};
use kit::private_file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The form of the file. A bundle of another form is refused.
const VERSION: u32 = 1;

/// The roles that can run on a machine that joins. Each other role keeps its data in a database of one machine.
pub(crate) const JOINING: &[Role] = &[Role::Nats, Role::Cell, Role::Dns, Role::Router];

/// A certificate chain and its key, as PEM.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issued {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

/// The values that a machine needs in order to join.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bundle {
    pub(crate) version: u32,
    pub(crate) domain: String,
    pub(crate) roles: Vec<Role>,
    /// The hosts for which the certificates were issued.
    pub(crate) hosts: Vec<String>,
    /// Where the services that the roles need are reached.
    pub(crate) peers: BTreeMap<Service, String>,
    pub(crate) nats_servers: Vec<String>,
    pub(crate) nats_password: String,
    /// The password of the pages of routers; only in bundles of routers.
    pub(crate) status_password: Option<String>,
    /// The secret of the notes for route services; only in bundles of routers. Bundles of earlier versions have none.
    #[serde(default)]
    pub(crate) route_services_secret: Option<String>,
    pub(crate) admin_user: String,
    pub(crate) components_ca: String,
    pub(crate) instances_ca: String,
    /// Only in bundles of cells.
    pub(crate) instances_ca_key: Option<String>,
    pub(crate) edge_ca: String,
    /// The components' certificates, by their names.
    pub(crate) components: BTreeMap<String, Issued>,
    /// The certificate that a router presents to clients.
    pub(crate) edge: Option<Issued>,
    /// The identity domains, and the certificate that a router presents on them.
    pub(crate) identity_domains: Vec<String>,
    pub(crate) identity: Option<Issued>,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle")
            .field("domain", &self.domain)
            .field("roles", &self.roles)
            .field("hosts", &self.hosts)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

impl Bundle {
    pub(crate) const VERSION: u32 = VERSION;

    /// Reads a bundle. A file that others may read is refused.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let place = path.display();
        let again =
            "create one with `cupola join-bundle` where the foundation was made, and copy it here";
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read the bundle {place} of the key join: {again}"))?;
        let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
        ensure!(
            mode & 0o077 == 0,
            "the bundle {place} has secrets, and others may read it (mode {mode:o}): run `chmod 600 {place}`"
        );
        let version =
            serde_json::from_str::<serde_json::Value>(&text).map(|v| v["version"].clone());
        if let Some(other) = version.ok().filter(|version| *version != VERSION) {
            bail!(
                "the bundle {place} has version {other}, and this cupola reads version {VERSION}: {again}"
            );
        }
        serde_json::from_str(&text)
            .with_context(|| format!("the bundle {place} is damaged: {again}"))
    }

    /// Writes the bundle to a file that only its owner may read. An existing file is never replaced.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let is_new = private_file::create(path, &serde_json::to_string_pretty(self)?)?;
        ensure!(
            is_new,
            "{} exists already: remove it, or name another file with --out",
            path.display()
        );
        Ok(())
    }

    /// Checks that the bundle was made for these roles. `served` has the services of this machine for which the bundle's certificates
    /// are used, and where each is advertised.
    pub(crate) fn check(&self, chosen: &[Role], served: &[(Service, String)]) -> Result<()> {
        if let Some(other) = chosen.iter().find(|role| !self.roles.contains(role)) {
            bail!(
                "the bundle was made for {} and not for the role {}: create one with `cupola join-bundle --roles {}`",
                role::names(&self.roles),
                other.name(),
                role::names(chosen).replace(", ", ",")
            );
        }
        for (service, address) in served {
            let section = service.section();
            ensure!(
                !is_loopback(address),
                "the role of {section} is advertised at {address}, which other machines cannot reach: set {section}.listen to an address of this machine, e.g. {}:{}",
                self.hosts.first().map_or("10.0.0.3", String::as_str),
                address.rsplit(':').next().unwrap_or_default()
            );
            ensure!(
                self.hosts.iter().any(|own| own == host(address)),
                "the role of {section} is advertised at {address}, and the bundle's certificates are valid for {}: create one with `cupola join-bundle --host {}`, or change {section}.advertise",
                self.hosts.join(", "),
                host(address)
            );
        }
        Ok(())
    }
}

/// Returns the services that a role connects to.
pub(crate) fn peers(role: Role) -> &'static [Service] {
    match role {
        Role::Cell => &[
            Service::Bbs,
            Service::Locket,
            Service::CloudControllerInternal,
            Service::LogIngress,
            Service::Nats,
        ],
        Role::Router => &[Service::LogIngress, Service::Nats],
        Role::Dns => &[Service::Nats],
        Role::Nats
        | Role::Bbs
        | Role::Auctioneer
        | Role::Uaa
        | Role::LogCache
        | Role::CloudController
        | Role::Dashboard
        | Role::SshProxy
        | Role::PostgresBroker => &[],
    }
}

/// Returns the names of the certificates that a role presents to other components.
pub(crate) fn components(role: Role) -> &'static [&'static str] {
    match role {
        // Operators run `cupola exec` and `cupola cfdot` where the containers are.
        Role::Cell => &["cell", "metron", "operator"],
        Role::Router => &["gorouter", "metron"],
        Role::Nats => &["nats"],
        Role::Dns => &["dns"],
        Role::Bbs
        | Role::Auctioneer
        | Role::Uaa
        | Role::LogCache
        | Role::CloudController
        | Role::Dashboard
        | Role::SshProxy
        | Role::PostgresBroker => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(roles: &[Role]) -> Bundle {
        Bundle {
            version: VERSION,
            domain: "a.test".into(),
            roles: roles.to_vec(),
            hosts: vec!["10.0.0.3".into()],
            peers: BTreeMap::from([(Service::Bbs, "10.0.0.2:8889".into())]),
            nats_servers: vec!["10.0.0.2:4222".into()],
            nats_password: "a-secret".into(),
            status_password: None,
            route_services_secret: None,
            admin_user: "admin".into(),
            components_ca: String::new(),
            instances_ca: String::new(),
            instances_ca_key: None,
            edge_ca: String::new(),
            components: BTreeMap::new(),
            edge: None,
            identity_domains: Vec::new(),
            identity: None,
        }
    }

    #[test]
    fn a_bundle_is_for_its_roles_and_hosts() {
        let bundle = bundle(&[Role::Cell, Role::Dns]);
        let at = |address: &str| vec![(Service::Rep, address.to_owned())];
        bundle
            .check(&[Role::Cell], &at("10.0.0.3:1801"))
            .expect("the role and the host are in the bundle");
        let error = |roles: &[Role], served: &[(Service, String)]| {
            bundle.check(roles, served).unwrap_err().to_string()
        };
        let text = error(&[Role::Router], &[]);
        assert!(
            text.contains("made for cell, dns and not for the role router"),
            "{text}"
        );
        let text = error(&[Role::Cell], &at("127.0.0.1:1801"));
        assert!(text.contains("set cell.listen to"), "{text}");
        let text = error(&[Role::Cell], &at("10.0.0.4:1801"));
        assert!(text.contains("--host 10.0.0.4"), "{text}");
    }

    #[test]
    fn a_file_is_private_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cell.bundle");
        let written = bundle(&[Role::Cell]);
        written.write(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = Bundle::read(&path).unwrap();
        assert_eq!(read.peers, written.peers);
        assert!(!format!("{read:?}").contains("a-secret"));
        let text = written.write(&path).unwrap_err().to_string();
        assert!(text.contains("exists already"), "{text}");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let text = Bundle::read(&path).unwrap_err().to_string();
        assert!(
            text.contains("mode 640") && text.contains("chmod 600"),
            "{text}"
        );

        for (text, reason) in [
            (r#"{"version": 2}"#, "has version 2"),
            (r#"{"version": 1}"#, "is damaged"),
            ("no json", "is damaged"),
        ] {
            std::fs::remove_file(&path).unwrap();
            private_file::replace(&path, text).unwrap();
            let error = format!("{:#}", Bundle::read(&path).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
        let error = Bundle::read(&folder.path().join("none")).unwrap_err();
        assert!(
            format!("{error:#}").contains("cupola join-bundle"),
            "{error:#}"
        );
    }
}
