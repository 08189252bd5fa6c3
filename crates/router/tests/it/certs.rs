//! A throw-away authority and certificates from it.

use kit::tls::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use router::Subject;

pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    name: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        kit::tls::install_crypto();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = format!("ca {}", rand::random::<u64>());
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, name.as_str());
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
            name,
        }
    }

    /// Returns a self-signed certificate that calls itself an authority; its holder trusts it alone.
    pub(crate) fn alone(names: &[&str]) -> Identity {
        kit::tls::install_crypto();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Identity {
            cert_pem: pem.clone(),
            key_pem: key.serialize_pem(),
            ca_pem: pem,
        }
    }

    pub(crate) fn subject(&self) -> Subject {
        Subject {
            common_name: self.name.clone(),
            ..Subject::default()
        }
    }

    /// Issues a certificate that names its holder by units (two at most: the library keeps one value of each kind).
    pub(crate) fn issue_to(&self, units: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["instance".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        let kinds = [
            DnType::OrganizationalUnitName,
            DnType::CustomDnType(vec![2, 5, 4, 11]),
        ];
        for (kind, unit) in kinds.into_iter().zip(units) {
            params.distinguished_name.push(kind, *unit);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.pem.clone(),
        }
    }

    /// Issues a certificate with these names; its holder trusts this authority.
    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        self.issue_as(names, IsCa::NoCa)
    }

    /// Issues a certificate that calls itself an authority.
    pub(crate) fn issue_authority(&self, names: &[&str]) -> Identity {
        self.issue_as(names, IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn issue_as(&self, names: &[&str], is_ca: IsCa) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = is_ca;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.pem.clone(),
        }
    }
}
