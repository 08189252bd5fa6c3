//! An authority that lives as long as a test, and certificates from it. All keys are P-256.

use kit::tls::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::sync::OnceLock;

/// A certificate authority with a name of its own.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    name: String,
    key_pem: String,
    /// Its certificate.
    pub pem: String,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Default for Ca {
    fn default() -> Self {
        Self::new()
    }
}

impl Ca {
    /// Returns an authority whose name no other one has.
    pub fn new() -> Self {
        Self::named(&format!("ca {}", rand::random::<u64>()), None)
    }

    /// Returns an authority whose subject has this common name and, if there is one, this organization.
    pub fn named(name: &str, organization: Option<&str>) -> Self {
        let mut params = params(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(organization) = organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        let key = key();
        let certificate = params.self_signed(&key).expect("the parameters are valid");
        Self {
            name: name.to_owned(),
            key_pem: key.serialize_pem(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Returns a self-signed certificate that calls itself an authority; its holder trusts it alone.
    pub fn alone(names: &[&str]) -> Identity {
        let mut params = params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        signed_by_itself(params)
    }

    /// Returns the common name of its subject.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its private key, for a component that issues certificates itself.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Issues a certificate with these names; its holder trusts this authority.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.sign(params(names))
    }

    /// Issues a certificate that calls itself an authority.
    pub fn issue_authority(&self, names: &[&str]) -> Identity {
        let mut params = params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.sign(params)
    }

    /// Issues a certificate that names its holder by units (two at most: the library keeps one value of each kind).
    pub fn issue_to(&self, units: &[&str]) -> Identity {
        let mut params = params(&["instance"]);
        params.distinguished_name = DistinguishedName::new();
        let kinds = [
            DnType::OrganizationalUnitName,
            DnType::CustomDnType(vec![2, 5, 4, 11]),
        ];
        for (kind, unit) in kinds.into_iter().zip(units) {
            params.distinguished_name.push(kind, *unit);
        }
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = key();
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the parameters are valid");
        Identity {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.pem.clone(),
        }
    }
}

/// Returns the identity of a peer on 127.0.0.1 whose authority nobody else has. Its certificate serves for servers and for clients.
pub fn identity() -> Identity {
    Ca::new().issue(&["127.0.0.1"])
}

/// Returns the identity on 127.0.0.1 that all parties of this process have in common.
pub fn shared_identity() -> Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(identity).clone()
}

/// Returns a self-signed certificate, which nobody trusts who was not given it.
pub fn self_signed(names: &[&str]) -> Identity {
    signed_by_itself(params(names))
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    CertificateParams::new(names).expect("the names are DNS names or IP addresses")
}

/// Creates a key. It also selects the crypto of this process, which every user of a certificate needs.
fn key() -> KeyPair {
    kit::tls::install_crypto();
    KeyPair::generate().expect("the machine has random numbers")
}

fn signed_by_itself(params: CertificateParams) -> Identity {
    let key = key();
    let certificate = params.self_signed(&key).expect("the parameters are valid");
    Identity {
        cert_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
        ca_pem: certificate.pem(),
    }
}
