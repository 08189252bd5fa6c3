//! The authority of a run, and three P-256 certificates from it: that of the front, that of the router (a client of backends),
//! and that of an instance.

use anyhow::Result;
use kit::tls::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use std::path::{Path, PathBuf};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        kit::tls::install_crypto();
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "benchmark");
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// Issues a P-256 certificate for one name, valid for servers and for clients.
    pub(crate) fn issue(&self, name: &str) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.pem.clone(),
        })
    }
}

/// The certificate files in the form that the peers need.
pub(crate) struct Files {
    pub(crate) authority: Authority,
    pub(crate) folder: PathBuf,
    pub(crate) front: Identity,
    pub(crate) client: Identity,
}

impl Files {
    pub(crate) fn write(folder: &Path, host: &str, instance: &str) -> Result<Self> {
        let authority = Authority::new()?;
        let front = authority.issue(host)?;
        let client = authority.issue("router")?;
        let files = Self {
            folder: folder.to_owned(),
            authority,
            front,
            client,
        };
        let instance = files.authority.issue(instance)?;
        std::fs::write(files.path("ca.pem"), &files.authority.pem)?;
        for (name, identity) in [
            ("front", &files.front),
            ("client", &files.client),
            ("instance", &instance),
        ] {
            let both = format!("{}{}", identity.cert_pem, identity.key_pem);
            std::fs::write(files.path(&format!("{name}.crt")), &identity.cert_pem)?;
            std::fs::write(files.path(&format!("{name}.key")), &identity.key_pem)?;
            std::fs::write(files.path(&format!("{name}.pem")), both)?;
        }
        Ok(files)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }
}
