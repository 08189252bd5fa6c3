//! The certificate in `edge.crt`: whether it is ours or the operator's, and whether it can still be used.

use anyhow::{Context as _, Result};
use std::net::Ipv4Addr;
use std::path::Path;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

/// The remaining lifetime in days at which our own certificate is replaced.
const RENEW_BEFORE_DAYS: i64 = 30;

type Pair = (String, String);

/// The content of the files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StoredCertificate {
    Nothing,
    /// Our own certificate, with all names.
    Good(Pair),
    /// Our own certificate, but with other names or about to expire.
    Outdated,
    /// A certificate that another CA signed, with a matching key.
    Operators(Pair),
    /// Files that are not a certificate with its key. The text is the reason.
    Unusable(String),
}

impl StoredCertificate {
    /// Examines the files. A certificate counts as ours if the CA in `ca_pem` signed it.
    pub(crate) fn inspect(
        cert: &Path,
        key: &Path,
        ca_pem: &str,
        names: &[String],
        addresses: &[Ipv4Addr],
    ) -> Self {
        if !cert.exists() {
            return Self::Nothing;
        }
        let read = |path: &Path| {
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
        };
        let inspect = || -> Result<Self> {
            let pair = (read(cert)?, read(key)?);
            kit::tls::check_pair(&pair.0, &pair.1)?;
            let (chain, ca) = (kit::tls::certs(&pair.0)?, kit::tls::certs(ca_pem)?);
            let (_, leaf) = X509Certificate::from_der(&chain[0])?;
            let (_, ca) = X509Certificate::from_der(&ca[0])?;
            Ok(if !is_signed_by(&leaf, &ca) {
                Self::Operators(pair)
            } else if lives(&leaf) && has(&leaf, names, addresses) {
                Self::Good(pair)
            } else {
                Self::Outdated
            })
        };
        inspect().unwrap_or_else(|error| Self::Unusable(format!("{error:#}")))
    }
}

/// Returns whether the CA signed the certificate, judged by the issuer's name and the identifier of its key.
fn is_signed_by(leaf: &X509Certificate<'_>, ca: &X509Certificate<'_>) -> bool {
    let signer = leaf
        .extensions()
        .iter()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0)
            }
            _ => None,
        });
    let key = ca
        .extensions()
        .iter()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        });
    leaf.issuer().as_raw() == ca.subject().as_raw() && signer.is_some() && signer == key
}

fn lives(leaf: &X509Certificate<'_>) -> bool {
    let left = leaf.validity().time_to_expiration();
    left.is_some_and(|left| left.whole_days() > RENEW_BEFORE_DAYS)
}

fn has(leaf: &X509Certificate<'_>, names: &[String], addresses: &[Ipv4Addr]) -> bool {
    let Ok(Some(alternatives)) = leaf.subject_alternative_name() else {
        return false;
    };
    let general = &alternatives.value.general_names;
    names
        .iter()
        .all(|name| general.contains(&GeneralName::DNSName(name)))
        && addresses
            .iter()
            .all(|ip| general.contains(&GeneralName::IPAddress(&ip.octets())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::Certificates;

    fn names(domain: &str) -> Vec<String> {
        vec![domain.to_owned(), format!("*.{domain}"), "localhost".into()]
    }

    #[test]
    fn ours_is_kept_and_an_operator_s_is_never_written() {
        kit::tls::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (
            folder.path().join("edge.crt"),
            folder.path().join("edge.key"),
        );
        let certificates = Certificates::open(folder.path()).unwrap();
        let ip = [Ipv4Addr::LOCALHOST];
        let read = || {
            (
                std::fs::read_to_string(&cert).unwrap(),
                std::fs::read_to_string(&key).unwrap(),
            )
        };
        let shown = |domain: &str, ip: &[Ipv4Addr]| {
            let edge = certificates.edge(domain, ip).unwrap();
            (edge.cert_pem, edge.key_pem)
        };

        let first = shown("a.test", &ip);
        assert_eq!(first, read());
        assert_eq!(shown("a.test", &ip), first, "it is kept over restarts");
        let moved = shown("a.test", &[Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 1, 2, 3)]);
        assert!(moved != first && moved == read(), "a new address is put in");

        let own = testkit::certs::self_signed(&["shop.example"]);
        let own = (own.cert_pem, own.key_pem);
        std::fs::write(&cert, &own.0).unwrap();
        let other = shown("a.test", &ip);
        assert!(other.0 != own.0, "its key is missing: it cannot be shown");
        assert_eq!(read(), (own.0.clone(), moved.1), "and is left alone");
        std::fs::write(&key, &own.1).unwrap();
        assert_eq!(shown("a.test", &ip), own);
        assert_eq!(read(), own);

        std::fs::write(&cert, "damaged").unwrap();
        assert!(shown("a.test", &ip).0.contains("BEGIN CERTIFICATE"));
        assert_eq!(read().0, "damaged");
        let kept = StoredCertificate::inspect(&cert, &key, &first.0, &names("a.test"), &ip);
        assert!(matches!(kept, StoredCertificate::Unusable(_)), "{kept:?}");
    }

    #[test]
    fn damaged_authorities_are_named() {
        kit::tls::install_crypto();
        for file in ["components_ca.crt", "instances_ca.key", "edge_ca.crt"] {
            let folder = tempfile::tempdir().unwrap();
            Certificates::open(folder.path()).unwrap();
            let path = folder.path().join(file);
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text.replace('M', "N")).unwrap();
            let error = Certificates::open(folder.path()).err().unwrap();
            let text = format!("{error:#}");
            assert!(text.contains(file) && text.contains("damaged"), "{text}");
        }
    }
}
