//! The keys about TLS: certificates, authorities, versions and cipher suites. What the TLS library does not have (TLS
//! below 1.2, suites without forward secrecy or with CBC) is dropped with a warning; nothing left is a problem.

use super::keys::Keys;
use crate::backend::tls::certified;
use crate::config::{Certificate, ClientCertValidation, FrontTls};
use kit::tls::Identity;
use rustls::version::{TLS12, TLS13};

/// TLS towards clients and towards backends.
pub(super) struct Tls {
    pub(super) certificates: Vec<Certificate>,
    pub(super) tls: FrontTls,
    pub(super) backend_tls: Identity,
}

/// TLS 1.2 suites by their names: OpenSSL's, IANA's.
const SUITES: [(&str, &str); 6] = [
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
];

/// `https`: whether there is an HTTPS listener, without which nothing of it is required; `own`: what backends are shown.
pub(super) fn front(keys: &mut Keys<'_>, https: bool, own: Option<Certificate>) -> Tls {
    let mut certificates = Vec::new();
    for mut pem in keys.sections("tls_pem") {
        match pair(&mut pem, "cert_chain", "private_key") {
            Some(certificate) => certificates.push(certificate),
            None => pem.problem(
                "cert_chain",
                "and private_key are not both there: give both as PEM",
            ),
        }
    }
    if https && certificates.is_empty() {
        keys.problem("tls_pem", "has no certificate, but enable_ssl is true: give at least one pair of cert_chain and private_key");
    }
    let ca = authorities(keys, "ca_certs");
    let client_ca = authorities(keys, "client_ca_certs");
    let only_client_ca = keys.flag("only_trust_client_ca_certs", false);
    let validation = keys.choice(
        "client_cert_validation",
        &[
            ("none", ClientCertValidation::None),
            ("request", ClientCertValidation::Request),
            ("require", ClientCertValidation::Require),
        ],
    );
    if https && validation.is_none() {
        keys.problem(
            "client_cert_validation",
            "is not set, but enable_ssl is true: write none, request or require",
        );
    }
    let mut versions = versions(keys);
    let suites = cipher_suites(keys, &mut versions);
    let mut client_cas = vec![client_ca];
    if !only_client_ca {
        client_cas.push(ca.clone());
    }
    Tls {
        certificates,
        tls: FrontTls {
            versions,
            cipher_suites: suites,
            client_cert_validation: validation.unwrap_or(ClientCertValidation::None),
            client_cas,
            system_client_cas: !only_client_ca,
        },
        backend_tls: Identity {
            cert_pem: own.as_ref().map_or("", |own| &own.cert_pem).to_owned(),
            key_pem: own.map_or_else(String::new, |own| own.key_pem),
            ca_pem: ca,
        },
    }
}

fn versions(keys: &mut Keys<'_>) -> Vec<&'static rustls::SupportedProtocolVersion> {
    const NAMES: &[(&str, u8)] = &[
        ("TLSv1.0", 10),
        ("TLSv1.1", 11),
        ("TLSv1.2", 12),
        ("TLSv1.3", 13),
    ];
    let min = keys.choice("min_tls_version", NAMES).unwrap_or(12);
    let max = keys.choice("max_tls_version", NAMES).unwrap_or(12);
    if min < 12 {
        keys.warn(
            "min_tls_version",
            "is below TLSv1.2, which this router does not speak: raised to TLSv1.2",
        );
    }
    let versions: Vec<_> = [(12, &TLS12), (13, &TLS13)]
        .into_iter()
        .filter(|(number, _)| (min..=max).contains(number))
        .map(|(_, version)| version)
        .collect();
    if versions.is_empty() {
        keys.problem("max_tls_version", "leaves no version of TLS that this router speaks: write TLSv1.2 or TLSv1.3, not below min_tls_version");
    }
    versions
}

fn cipher_suites(
    keys: &mut Keys<'_>,
    versions: &mut Vec<&'static rustls::SupportedProtocolVersion>,
) -> Vec<String> {
    let list = keys.text("cipher_suites").unwrap_or_default();
    let (mut usable, mut tls13) = (Vec::new(), false);
    for name in list.split(':').map(str::trim).filter(|n| !n.is_empty()) {
        let known = SUITES.iter().find(|(openssl, iana)| {
            name == *openssl
                || name == *iana
                || Some(name) == iana.strip_suffix("_SHA256").filter(|n| n.ends_with("1305"))
        });
        if let Some((_, iana)) = known {
            usable.push((*iana).to_owned());
        } else if name.starts_with("TLS_AES_") || name.starts_with("TLS_CHACHA20_") {
            tls13 = true;
        } else {
            keys.warn(
                "cipher_suites",
                &format!("has {name}, which this router does not speak: dropped"),
            );
        }
    }
    if usable.is_empty() && !list.is_empty() {
        versions.retain(|version| tls13 && version.version == TLS13.version);
        if versions.is_empty() {
            keys.problem("cipher_suites", "has nothing that this router speaks: add e.g. ECDHE-RSA-AES128-GCM-SHA256 and ECDHE-ECDSA-AES128-GCM-SHA256");
        }
    }
    usable
}

/// A PEM certificate chain and its key; `None` when neither is there.
pub(super) fn pair(keys: &mut Keys<'_>, chain: &str, key: &str) -> Option<Certificate> {
    let mut pem = |key: &str| keys.text(key).filter(|text| !text.trim().is_empty());
    match (pem(chain), pem(key)) {
        (None, None) => None,
        (Some(cert_pem), Some(key_pem)) => {
            if let Err(error) = certified(&cert_pem, &key_pem) {
                keys.problem(
                    chain,
                    &format!("and {key} are not a PEM certificate and its key: {error:#}"),
                );
            }
            Some(Certificate { cert_pem, key_pem })
        }
        _ => {
            keys.problem(
                chain,
                &format!("and {key} belong together: give both, or none"),
            );
            None
        }
    }
}

/// A text, or a list of texts, of PEM certificates.
pub(super) fn authorities(keys: &mut Keys<'_>, key: &str) -> String {
    let given = keys.texts(key).unwrap_or_default();
    for pem in given.iter().filter(|pem| !pem.trim().is_empty()) {
        if let Err(error) = kit::tls::roots(pem) {
            keys.problem(
                key,
                &format!("is not PEM text with certificates: {error:#}; correct it"),
            );
        }
    }
    given.join("\n")
}
