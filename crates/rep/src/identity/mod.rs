//! Instance identity: makes an instance's certificates and writes them to where the app and its Envoy look for them.
//!
//! Files are replaced by rename, which is the change that Envoy's watch of the directory detects. `cell_plan::credentials`
//! decides the names in a certificate and the time of its rotation.

mod der;

use crate::config::InstanceCa;
use crate::files::{replace, set_mode};
use anyhow::{Context as _, Result};
use base64::Engine as _;
use cell_plan::credentials::CertificatePlan;
use cell_plan::envoy;
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, SigningKey as _,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directory in the container at which the credentials are mounted.
pub(crate) const CREDENTIALS_DIR: &str = "/etc/cf-instance-credentials";

/// A CA that signs certificates for instances.
pub(crate) struct InstanceIssuer {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    validity: Duration,
}

impl std::fmt::Debug for InstanceIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstanceIssuer")
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// The leaf certificate followed by the CA's, and the leaf's key (PKCS#8).
#[derive(Clone)]
pub(crate) struct Credential {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
}

impl InstanceIssuer {
    pub(crate) fn new(ca: &InstanceCa, validity: Duration) -> Result<Self> {
        let key = KeyPair::from_pem(&ca.key_pem).context("read the instance CA's key")?;
        let issuer = Issuer::from_ca_cert_pem(&ca.cert_pem, key)
            .context("read the instance CA's certificate")?;
        Ok(Self {
            issuer,
            ca_pem: ca.cert_pem.clone(),
            validity,
        })
    }

    pub(crate) fn validity(&self) -> Duration {
        self.validity
    }

    pub(crate) fn issue(&self, plan: &CertificatePlan) -> Result<Credential> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make an instance key")?;
        let mut params = CertificateParams::new(plan.dns_names.clone())
            .context("name an instance certificate")?;
        params
            .subject_alt_names
            .extend(plan.ip.map(|ip| SanType::IpAddress(ip.into())));
        let now = time::OffsetDateTime::now_utc();
        // Clocks of peers may be behind.
        params.not_before = now - time::Duration::minutes(5);
        params.not_after = now + self.validity;
        params.serial_number = Some(SerialNumber::from_slice(uuid::Uuid::new_v4().as_bytes()));
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyAgreement,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .context("sign an instance certificate")?;
        let subject = der::name(&plan.organizational_units, &plan.common_name);
        let leaf = der::with_subject(certificate.der(), subject, |body| {
            self.issuer
                .key()
                .sign(body)
                .context("sign an instance certificate")
        })?;
        Ok(Credential {
            chain_pem: pem(&leaf) + &self.ca_pem,
            key_pem: key.serialize_pem(),
        })
    }
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

/// The host directories of one container's credentials, bind-mounted into it.
#[derive(Clone, Debug)]
pub(crate) struct CredentialFiles {
    pub(crate) credentials: PathBuf,
    pub(crate) envoy_config: PathBuf,
}

impl CredentialFiles {
    pub(crate) fn at(container_dir: &Path) -> Self {
        Self {
            credentials: container_dir.join("credentials"),
            envoy_config: container_dir.join("envoy"),
        }
    }

    /// Creates the directories, readable by the container's (shifted) users.
    pub(crate) fn make(&self) -> Result<()> {
        for dir in [&self.credentials, &self.envoy_config] {
            std::fs::create_dir_all(dir)
                .with_context(|| format!("make directory {}", dir.display()))?;
            set_mode(dir, 0o755)?;
        }
        Ok(())
    }

    /// Writes the instance's identity for the app and, if `proxy` is set, for its Envoy.
    pub(crate) fn write_identity(&self, credential: &Credential, proxy: bool) -> Result<()> {
        replace(
            &self.credentials.join("instance.key"),
            credential.key_pem.as_bytes(),
        )?;
        replace(
            &self.credentials.join("instance.crt"),
            credential.chain_pem.as_bytes(),
        )?;
        if proxy {
            let secret =
                envoy::certificate_secret(false, &credential.chain_pem, &credential.key_pem);
            replace(
                &self.envoy_config.join(envoy::ID_SECRET_FILE),
                secret.to_string().as_bytes(),
            )?;
        }
        Ok(())
    }

    pub(crate) fn write_c2c(&self, credential: &Credential) -> Result<()> {
        let secret = envoy::certificate_secret(true, &credential.chain_pem, &credential.key_pem);
        replace(
            &self.envoy_config.join(envoy::C2C_SECRET_FILE),
            secret.to_string().as_bytes(),
        )
    }

    pub(crate) fn write_envoy(
        &self,
        bootstrap: &serde_json::Value,
        router_ca_pem: &str,
    ) -> Result<()> {
        replace(
            &self.envoy_config.join(envoy::VALIDATION_SECRET_FILE),
            envoy::validation_secret(router_ca_pem)
                .to_string()
                .as_bytes(),
        )?;
        replace(
            &self.envoy_config.join(envoy::BOOTSTRAP_FILE),
            format!("{bootstrap:#}\n").as_bytes(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca() -> InstanceCa {
        let ca = testkit::certs::Ca::new();
        InstanceCa {
            cert_pem: ca.pem.clone(),
            key_pem: ca.key_pem().to_owned(),
        }
    }

    /// Tests that the chain verifies for the instance's name under the CA, with the TLS library that the router uses.
    #[test]
    fn certificates_verify() {
        let ca = ca();
        let issuer = InstanceIssuer::new(&ca, Duration::from_secs(3600)).unwrap();
        let units: Vec<String> = ["organization:o", "space:s", "app:a"]
            .map(String::from)
            .to_vec();
        let credential = issuer
            .issue(&cell_plan::credentials::identity(
                "guid-1",
                &units,
                "10.255.0.2".parse().unwrap(),
            ))
            .unwrap();
        kit::tls::install_crypto();
        let identity = kit::tls::Identity {
            cert_pem: credential.chain_pem.clone(),
            key_pem: credential.key_pem.clone(),
            ca_pem: ca.cert_pem,
        };
        kit::tls::server_config(&identity, kit::tls::ClientAuth::Required, &[]).unwrap();
        let chain = kit::tls::certs(&credential.chain_pem).unwrap();
        assert_eq!(chain.len(), 2);
        let text: Vec<u8> = chain[0].to_vec();
        for unit in &units {
            assert!(
                text.windows(unit.len()).any(|w| w == unit.as_bytes()),
                "{unit}"
            );
        }
    }
}
