//! A client's certificate: the parts of its subject, the Cloud Foundry identity in it, and whether the operator's rules for its
//! authority permit it.

use crate::config::{CertificateRule, FrontTls, Subject};
use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fmt::Write as _;
use std::sync::Arc;
use x509_parser::oid_registry::{
    OID_X509_COMMON_NAME, OID_X509_COUNTRY_NAME, OID_X509_LOCALITY_NAME,
    OID_X509_ORGANIZATION_NAME, OID_X509_ORGANIZATIONAL_UNIT, OID_X509_POSTAL_CODE,
    OID_X509_SERIALNUMBER, OID_X509_STATE_OR_PROVINCE_NAME, OID_X509_STREET_ADDRESS,
};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

/// An app instance that sends a request, as its identity certificate names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallingInstance {
    pub(crate) app: String,
    pub(crate) space: String,
    pub(crate) organization: String,
}

impl CallingInstance {
    /// Reads the instance from its certificate; `None`: this is not an instance's certificate.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
        let mut caller = Self::default();
        for unit in Subject::of(der)?.organisation_unit {
            match unit.split_once(':') {
                Some(("app", guid)) => caller.app = guid.into(),
                Some(("space", guid)) => caller.space = guid.into(),
                Some(("organization", guid)) => caller.organization = guid.into(),
                _ => {}
            }
        }
        (!caller.app.is_empty()).then_some(caller)
    }
}

impl Subject {
    /// Reads the subject of a certificate; `None`: this is not a certificate.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(parts(certificate.subject()))
    }
}

fn issuer_of(der: &[u8]) -> Option<Subject> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(parts(certificate.issuer()))
}

fn parts(name: &X509Name<'_>) -> Subject {
    let mut subject = Subject::default();
    for attribute in name.iter_attributes() {
        let Ok(value) = attribute.as_str().map(str::to_owned) else {
            continue;
        };
        let kind = attribute.attr_type();
        if *kind == OID_X509_COMMON_NAME {
            subject.common_name = value;
        } else if *kind == OID_X509_SERIALNUMBER {
            subject.serial_number = value;
        } else if let Some(list) = list_of(&mut subject, kind) {
            list.push(value);
            list.sort();
        }
    }
    subject
}

fn list_of<'s>(
    subject: &'s mut Subject,
    kind: &x509_parser::der_parser::Oid<'_>,
) -> Option<&'s mut Vec<String>> {
    let lists = [
        (OID_X509_COUNTRY_NAME, &mut subject.country),
        (OID_X509_ORGANIZATION_NAME, &mut subject.organisation),
        (OID_X509_ORGANIZATIONAL_UNIT, &mut subject.organisation_unit),
        (OID_X509_LOCALITY_NAME, &mut subject.locality),
        (OID_X509_STATE_OR_PROVINCE_NAME, &mut subject.province),
        (OID_X509_STREET_ADDRESS, &mut subject.street_address),
        (OID_X509_POSTAL_CODE, &mut subject.postal_code),
    ];
    lists
        .into_iter()
        .find_map(|(known, list)| (known == *kind).then_some(list))
}

/// Returns Envoy's short form: fingerprint and name.
pub(super) fn envoy_form(der: &[u8]) -> String {
    let mut text = "Hash=".to_owned();
    for byte in digest(&SHA256, der).as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    let subject = X509Certificate::from_der(der).map(|(_, c)| rfc_2253(c.subject()));
    let subject = subject.unwrap_or_default().replace('"', "\\\"");
    let _ = write!(text, ";Subject=\"{subject}\"");
    text
}

/// Formats a name with its last part first, as `CN=…,OU=app:…`.
fn rfc_2253(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for attribute in name.iter_attributes() {
        let known = x509_parser::objects::oid2abbrev(
            attribute.attr_type(),
            x509_parser::objects::oid_registry(),
        );
        let (Ok(name), Ok(value)) = (known, attribute.as_str()) else {
            continue;
        };
        let mut escaped = String::new();
        for c in value.chars().map(|c| if c.is_control() { ' ' } else { c }) {
            if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        parts.push(format!("{name}={escaped}"));
    }
    parts.reverse();
    parts.join(",")
}

/// A verifier that also applies the operator's rules.
#[derive(Debug)]
pub(super) struct WithRules {
    inner: Arc<dyn ClientCertVerifier>,
    rules: Vec<CertificateRule>,
    /// The subject and issuer of the client authorities, which clients need not send.
    authorities: Vec<(Subject, Subject)>,
}

impl WithRules {
    pub(super) fn around(
        inner: Arc<dyn ClientCertVerifier>,
        front: &FrontTls,
    ) -> Arc<dyn ClientCertVerifier> {
        let pems = front.client_cas.iter().filter(|pem| !pem.trim().is_empty());
        let certificates = pems.flat_map(|pem| kit::tls::certs(pem).unwrap_or_default());
        let authorities = certificates.filter_map(|c| Some((Subject::of(&c)?, issuer_of(&c)?)));
        Arc::new(Self {
            inner,
            rules: front.certificate_rules.clone(),
            authorities: authorities.collect(),
        })
    }

    /// Returns the names of every authority that may be in the chain. A superfluous name makes the rules only stricter.
    fn issuers(&self, leaf: &[u8], others: &[CertificateDer<'_>]) -> Vec<Subject> {
        let mut issuers: Vec<Subject> = issuer_of(leaf).into_iter().collect();
        for other in others {
            issuers.extend(Subject::of(other));
            issuers.extend(issuer_of(other));
        }
        let mut at = 0;
        while at < issuers.len() {
            for (subject, issuer) in &self.authorities {
                if *subject == issuers[at] && !issuers.contains(issuer) {
                    issuers.push(issuer.clone());
                }
            }
            at += 1;
        }
        issuers
    }

    fn check(&self, leaf: &[u8], others: &[CertificateDer<'_>]) -> Result<(), Error> {
        let issuers = self.issuers(leaf, others);
        let subject = Subject::of(leaf).unwrap_or_default();
        let mut applying = self
            .rules
            .iter()
            .filter(|rule| issuers.contains(&rule.issuer));
        if applying.all(|rule| rule.valid_subjects.contains(&subject)) {
            return Ok(());
        }
        tracing::warn!(?subject, "invalid-subject");
        Err(Error::InvalidCertificate(
            rustls::CertificateError::ApplicationVerificationFailure,
        ))
    }
}

impl ClientCertVerifier for WithRules {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(leaf, others, now)?;
        self.check(leaf, others)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn instance(units: &[&str]) -> Vec<u8> {
        kit::tls::install_crypto();
        let mut params = CertificateParams::new(vec!["instance".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "guid, \"x\"");
        for unit in units {
            params
                .distinguished_name
                .push(DnType::OrganizationalUnitName, *unit);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn instances_are_known_by_their_units() {
        // rcgen keeps one value of each kind only.
        let caller = CallingInstance::of(&instance(&["app:a-guid"])).unwrap();
        assert_eq!((caller.app.as_str(), caller.space.as_str()), ("a-guid", ""));
        assert_eq!(CallingInstance::of(&instance(&["space:s"])), None);
        assert_eq!(CallingInstance::of(b"nonsense"), None);
    }

    #[test]
    fn the_short_form_is_one_safe_line() {
        let text = envoy_form(&instance(&["app:a"]));
        let (hash, subject) = text.split_once(';').unwrap();
        assert_eq!(hash.len(), "Hash=".len() + 64);
        assert!(
            subject.starts_with("Subject=\"OU=app:a,CN=guid\\, "),
            "{subject}"
        );
    }
}
