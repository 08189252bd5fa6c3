//! The foundation's certificate authorities and component certificates, created at the first start in files of mode 0600.
//!
//! There are three CAs with three purposes. `components` signs the certificates of the control plane. `instances` signs the
//! instance identities, which Envoy presents. `edge` signs the certificates that the router presents to clients.

use crate::edge_certificate::StoredCertificate;
use anyhow::{Context as _, Result};
use kit::tls::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A CA's certificate and key, as PEM.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

/// All certificates of a foundation.
pub(crate) struct Certificates {
    directory: PathBuf,
    components: Authority,
    pub(crate) instances: Authority,
    edge: Authority,
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
                let made = make_authority(subject)?;
                write_private(&key, &made.key_pem)?;
                write_private(&cert, &made.cert_pem)?;
            }
            let authority = Authority {
                cert_pem: read(&cert)?,
                key_pem: read(&key)?,
            };
            kit::tls::check_pair(&authority.cert_pem, &authority.key_pem).with_context(|| {
                format!(
                    "{} or {} is damaged: replace both with a backup",
                    cert.display(),
                    key.display()
                )
            })?;
            Ok(authority)
        };
        Ok(Self {
            components: authority("components", "Cupola components CA")?,
            instances: authority("instances", "Cupola instance identity CA")?,
            edge: authority("edge", "Cupola edge CA")?,
            directory: directory.to_owned(),
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
        let operator = self.component("operator", &[Ipv4Addr::LOCALHOST])?;
        write_private(&key, &operator.key_pem)?;
        write_private(&cert, &operator.cert_pem)
    }

    /// Issues a certificate for one component, valid for its addresses. The identity trusts the components' CA.
    pub(crate) fn component(&self, name: &str, addresses: &[Ipv4Addr]) -> Result<Identity> {
        let mut names = vec![
            name.to_owned(),
            format!("{name}.service.cf.internal"),
            "localhost".to_owned(),
        ];
        names.dedup();
        let ips: Vec<IpAddr> = addresses.iter().copied().map(IpAddr::V4).collect();
        let (cert_pem, key_pem) = issue(&self.components, name, &names, &ips)?;
        Ok(Identity {
            cert_pem,
            key_pem,
            ca_pem: self.components.cert_pem.clone(),
        })
    }

    /// Returns the certificate that the router presents to clients for the domain and everything below it. It is kept in
    /// `edge.crt` as long as it is valid, so that browsers' exceptions stay valid too. A file that we did not write belongs to
    /// the operator: it is used and never overwritten.
    pub(crate) fn edge(&self, domain: &str, addresses: &[Ipv4Addr]) -> Result<Identity> {
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
                let (cert_pem, key_pem) = issue(&self.edge, domain, &names, &ips)?;
                if let StoredCertificate::Unusable(why) = kept {
                    // The file may be the operator's, so it stays unchanged.
                    tracing::error!(file = %cert.display(), why, "edge-certificate-unusable: another is used until it is corrected or removed");
                } else {
                    write_private(&key, &key_pem)?;
                    write_private(&cert, &cert_pem)?;
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
    pub(crate) fn identity_domains(&self, domains: &[String]) -> Result<(String, String)> {
        let names: Vec<String> = domains.iter().map(|name| format!("*.{name}")).collect();
        let subject = domains.first().map_or("", String::as_str);
        issue(&self.edge, subject, &names, &[])
    }

    /// Returns the CA certificate that signs the certificates presented to clients.
    pub(crate) fn edge_ca(&self) -> &str {
        &self.edge.cert_pem
    }

    /// Returns the components' CA certificate. Only clients with a certificate from this CA may connect to an instance's Envoy.
    pub(crate) fn components_ca(&self) -> &str {
        &self.components.cert_pem
    }
}

fn make_authority(subject: &str) -> Result<Authority> {
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
    Ok(Authority {
        cert_pem: cert.pem(),
        key_pem: key.serialize_pem(),
    })
}

fn issue(
    authority: &Authority,
    subject: &str,
    names: &[String],
    addresses: &[IpAddr],
) -> Result<(String, String)> {
    let ca_key = KeyPair::from_pem(&authority.key_pem).context("read the key of a CA")?;
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
    (params.not_before, params.not_after) = validity(820);
    let cert = params
        .signed_by(&key, &issuer)
        .with_context(|| format!("sign the certificate of {subject}"))?;
    Ok((cert.pem(), key.serialize_pem()))
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

/// Writes a file that only its owner may read. It is written as a whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
