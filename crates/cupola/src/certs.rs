//! The foundation's certificate authorities and component certificates, created at the first start in files of mode 0600.
//!
//! There are three CAs with three purposes. `components` signs the certificates of the control plane. `instances` signs the
//! instance identities, which Envoy presents. `edge` signs the certificates that the router presents to clients.
//!
//! A machine that joined a foundation has no keys of CAs, except that of `instances` if it runs a cell: its bundle has certificates.

use crate::bundle::{Bundle, Issued};
use crate::edge_certificate::StoredCertificate;
use crate::files::keep_private;
use anyhow::{Context as _, Result, bail};
use kit::private_file;
use kit::tls::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// A CA's certificate and key, as PEM. A machine that joined may lack the key.
#[derive(Clone)]
struct Authority {
    cert_pem: String,
    key_pem: Option<String>,
}

/// All certificates of a foundation.
pub(crate) struct Certificates {
    directory: PathBuf,
    components: Authority,
    instances: Authority,
    edge: Authority,
    /// The bundle of a machine that joined. It has the certificates that this machine cannot issue.
    bundle: Option<Bundle>,
}

impl Certificates {
    /// Reads the CAs under `directory`. At the first start it creates them.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let authority = |name: &str, subject: &str| -> Result<Authority> {
            let (cert, key) = (
                directory.join(format!("{name}_ca.crt")),
                directory.join(format!("{name}_ca.key")),
            );
            if !cert.exists() {
                let (cert_pem, key_pem) = make_authority(subject)?;
                private_file::replace(&key, &key_pem)?;
                private_file::replace(&cert, &cert_pem)?;
            }
            let (cert_pem, key_pem) = (read(&cert)?, read(&key)?);
            kit::tls::check_pair(&cert_pem, &key_pem).with_context(|| {
                format!(
                    "{} or {} is damaged: replace both with a backup",
                    cert.display(),
                    key.display()
                )
            })?;
            Ok(Authority {
                cert_pem,
                key_pem: Some(key_pem),
            })
        };
        Ok(Self {
            components: authority("components", "Cupola components CA")?,
            instances: authority("instances", "Cupola instance identity CA")?,
            edge: authority("edge", "Cupola edge CA")?,
            directory: directory.to_owned(),
            bundle: None,
        })
    }

    /// Takes the certificates of a bundle over. Those that operator commands need are written to `directory`.
    pub(crate) fn joined(directory: &Path, bundle: Bundle) -> Result<Self> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let authority = |cert_pem: &str, key_pem: Option<&String>| Authority {
            cert_pem: cert_pem.to_owned(),
            key_pem: key_pem.cloned(),
        };
        keep_private(&directory.join("components_ca.crt"), &bundle.components_ca)?;
        keep_private(&directory.join("edge_ca.crt"), &bundle.edge_ca)?;
        if let Some(operator) = bundle.components.get("operator") {
            keep_private(&directory.join("operator.key"), &operator.key_pem)?;
            keep_private(&directory.join("operator.crt"), &operator.cert_pem)?;
        }
        Ok(Self {
            components: authority(&bundle.components_ca, None),
            instances: authority(&bundle.instances_ca, bundle.instances_ca_key.as_ref()),
            edge: authority(&bundle.edge_ca, None),
            directory: directory.to_owned(),
            bundle: Some(bundle),
        })
    }

    /// Writes the certificate of operator commands to files; an existing one is replaced when it is a day old. The caller must
    /// hold the plan's lock.
    pub(crate) fn write_operator_certificate(&self) -> Result<()> {
        let (cert, key) = (
            self.directory.join("operator.crt"),
            self.directory.join("operator.key"),
        );
        let fresh = std::fs::metadata(&cert)
            .and_then(|m| m.modified())
            .is_ok_and(|at| {
                at.elapsed()
                    .is_ok_and(|age| age < std::time::Duration::from_secs(24 * 3600))
            });
        if fresh && key.exists() {
            return Ok(());
        }
        let operator = self.component("operator", &[Ipv4Addr::LOCALHOST.to_string()])?;
        private_file::replace(&key, &operator.key_pem)?;
        private_file::replace(&cert, &operator.cert_pem)
    }

    /// Issues a certificate for one component, valid for its hosts, which are names or IP addresses. The identity trusts the
    /// components' CA. A machine that joined takes the certificate of its bundle.
    pub(crate) fn component(&self, name: &str, hosts: &[String]) -> Result<Identity> {
        let Issued { cert_pem, key_pem } = self.issue(name, hosts)?;
        Ok(self.identity(cert_pem, key_pem))
    }

    /// Does the same as [`Self::component`], without the CA.
    pub(crate) fn issue(&self, name: &str, hosts: &[String]) -> Result<Issued> {
        let Some(bundle) = &self.bundle else {
            return issue_component(&self.components, name, hosts);
        };
        bundle.components.get(name).cloned().with_context(|| {
            format!(
                "the bundle has no certificate of the component {name}: create one with `cupola join-bundle` for all roles of this machine"
            )
        })
    }

    /// Returns the identity of a component that has this certificate. It trusts the components' CA.
    pub(crate) fn identity(&self, cert_pem: String, key_pem: String) -> Identity {
        Identity {
            cert_pem,
            key_pem,
            ca_pem: self.components.cert_pem.clone(),
        }
    }

    /// Returns the certificate that the router presents to clients for the domain and everything below it. It is kept in
    /// `edge.crt` as long as it is valid, so that browsers' exceptions stay valid too. A file that we did not write belongs to
    /// the operator: it is used and never overwritten.
    pub(crate) fn edge(&self, domain: &str, addresses: &[Ipv4Addr]) -> Result<Identity> {
        if let Some(edge) = self.bundle.as_ref().and_then(|bundle| bundle.edge.clone()) {
            return Ok(Identity {
                cert_pem: edge.cert_pem,
                key_pem: edge.key_pem,
                ca_pem: self.edge.cert_pem.clone(),
            });
        }
        let (cert, key) = (
            self.directory.join("edge.crt"),
            self.directory.join("edge.key"),
        );
        let names = [
            domain.to_owned(),
            format!("*.{domain}"),
            "localhost".to_owned(),
        ];
        let kept = StoredCertificate::inspect(&cert, &key, &self.edge.cert_pem, &names, addresses);
        let (cert_pem, key_pem) = match kept {
            StoredCertificate::Good(pair) => pair,
            StoredCertificate::Operators(pair) => {
                tracing::info!(file = %cert.display(), "edge-certificate-of-the-operator");
                pair
            }
            kept => {
                let ips: Vec<IpAddr> = addresses.iter().copied().map(IpAddr::V4).collect();
                let Issued { cert_pem, key_pem } = issue(&self.edge, domain, &names, &ips)?;
                if let StoredCertificate::Unusable(why) = kept {
                    // The file may be the operator's, so it stays unchanged.
                    tracing::error!(file = %cert.display(), why, "edge-certificate-unusable: another is used until it is corrected or removed");
                } else {
                    private_file::replace(&key, &key_pem)?;
                    private_file::replace(&cert, &cert_pem)?;
                }
                (cert_pem, key_pem)
            }
        };
        Ok(Identity {
            cert_pem,
            key_pem,
            ca_pem: self.edge.cert_pem.clone(),
        })
    }

    /// Issues the certificate that the router presents to apps that call each other by their identities. It is issued at each
    /// start of the router, and the edge CA signs it even if the operator has a certificate for all other names.
    pub(crate) fn identity_domains(&self, domains: &[String]) -> Result<Issued> {
        if let Some(bundle) = &self.bundle {
            let known = &bundle.identity_domains;
            let own = bundle.identity.clone();
            let other = domains.iter().find(|domain| !known.contains(domain));
            return match (other, own) {
                (None, Some(own)) => Ok(own),
                (other, _) => bail!(
                    "identity_domains has {:?}, and the bundle's certificate is valid for {known:?}: create a bundle with `cupola join-bundle --config FILE`, where FILE has these identity_domains",
                    other.unwrap_or(&domains[0])
                ),
            };
        }
        let names: Vec<String> = domains.iter().map(|name| format!("*.{name}")).collect();
        let subject = domains.first().map_or("", String::as_str);
        issue(&self.edge, subject, &names, &[])
    }

    /// Issues a certificate that a router on another machine presents to clients, for the domain and everything below it.
    pub(crate) fn edge_for(&self, domain: &str, hosts: &[String]) -> Result<Issued> {
        let mut names = vec![domain.to_owned(), format!("*.{domain}")];
        let ips = split_hosts(hosts, &mut names);
        issue(&self.edge, domain, &names, &ips)
    }

    /// Issues a certificate of a server to which apps connect, valid for its hosts. The edge CA signs it, because apps trust that one.
    pub(crate) fn for_apps(&self, name: &str, hosts: &[String]) -> Result<Identity> {
        let mut names = vec![name.to_owned(), "localhost".to_owned()];
        let ips = split_hosts(hosts, &mut names);
        let Issued { cert_pem, key_pem } = issue(&self.edge, name, &names, &ips)?;
        Ok(Identity {
            cert_pem,
            key_pem,
            ca_pem: self.edge.cert_pem.clone(),
        })
    }

    /// Returns the CA certificate that signs the certificates presented to clients.
    pub(crate) fn edge_ca(&self) -> &str {
        &self.edge.cert_pem
    }

    /// Returns the components' CA certificate. Only clients with a certificate from this CA may connect to an instance's Envoy.
    pub(crate) fn components_ca(&self) -> &str {
        &self.components.cert_pem
    }

    /// Returns the bundle of a machine that joined.
    pub(crate) fn bundle(&self) -> Option<&Bundle> {
        self.bundle.as_ref()
    }

    /// Returns the certificate of the CA of instances.
    pub(crate) fn instances_ca(&self) -> &str {
        &self.instances.cert_pem
    }

    /// Issues a certificate of an instance that expired an hour ago, for an exercise of the lesson.
    pub(crate) fn expired_instance(&self, guid: &str, address: IpAddr) -> Result<Issued> {
        let end = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
        let valid = (end - time::Duration::hours(24), end);
        issue_for(&self.instances, guid, &[guid.to_owned()], &[address], valid)
    }

    /// Returns the key of the CA of instances, as PEM.
    pub(crate) fn instances_ca_key(&self) -> Result<&str> {
        let key = self.instances.key_pem.as_deref();
        key.context("this machine has no key of the CA of instances, which a cell needs: create a bundle with `cupola join-bundle --roles cell`")
    }
}

/// Creates a CA. Returns its certificate and its key.
fn make_authority(subject: &str) -> Result<(String, String)> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("generate the key of a CA")?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name(subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    (params.not_before, params.not_after) = validity(3650);
    let cert = params
        .self_signed(&key)
        .context("sign the certificate of a CA")?;
    Ok((cert.pem(), key.serialize_pem()))
}

/// Issues a component's certificate. Each is also valid for the component's own names.
fn issue_component(authority: &Authority, name: &str, hosts: &[String]) -> Result<Issued> {
    let mut names = vec![
        name.to_owned(),
        format!("{name}.service.cf.internal"),
        "localhost".to_owned(),
    ];
    let ips = split_hosts(hosts, &mut names);
    issue(authority, name, &names, &ips)
}

/// Adds the names among the hosts to `names`, without repeats. Returns the IP addresses.
fn split_hosts(hosts: &[String], names: &mut Vec<String>) -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for host in hosts {
        match host.parse::<IpAddr>() {
            Ok(ip) if !ips.contains(&ip) => ips.push(ip),
            Err(_) if !names.contains(host) => names.push(host.clone()),
            Ok(_) | Err(_) => {}
        }
    }
    ips
}

fn issue(
    authority: &Authority,
    subject: &str,
    names: &[String],
    addresses: &[IpAddr],
) -> Result<Issued> {
    issue_for(authority, subject, names, addresses, validity(820))
}

fn issue_for(
    authority: &Authority,
    subject: &str,
    names: &[String],
    addresses: &[IpAddr],
    (begin, end): (time::OffsetDateTime, time::OffsetDateTime),
) -> Result<Issued> {
    let ca_key = authority.key_pem.as_ref().context(
        "this machine joined a foundation and has no key of a CA: issue certificates where the foundation was made",
    )?;
    let ca_key = KeyPair::from_pem(ca_key).context("read the key of a CA")?;
    let issuer = Issuer::from_ca_cert_pem(&authority.cert_pem, ca_key)
        .context("read the certificate of a CA")?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("generate a key")?;
    let mut params = CertificateParams::new(names.to_vec())
        .with_context(|| format!("use the certificate names {names:?}"))?;
    params
        .subject_alt_names
        .extend(addresses.iter().copied().map(SanType::IpAddress));
    params.distinguished_name = name(subject);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    (params.not_before, params.not_after) = (begin, end);
    let cert = params
        .signed_by(&key, &issuer)
        .with_context(|| format!("sign the certificate of {subject}"))?;
    Ok(Issued {
        cert_pem: cert.pem(),
        key_pem: key.serialize_pem(),
    })
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Cupola");
    name.push(DnType::CommonName, common_name);
    name
}

fn validity(days: i64) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let now = time::OffsetDateTime::now_utc();
    (
        now - time::Duration::hours(1),
        now + time::Duration::days(days),
    )
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
