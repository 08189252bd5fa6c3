//! The keys about TLS: certificates, authorities, versions and cipher suites. What the TLS library does not have (TLS below 1.2,
//! suites without forward secrecy or with CBC) is dropped with a warning; if nothing is left, that is an error.

use super::keys::Keys;
use super::settings::FORWARDED_CLIENT_CERT;
use kit::tls::Identity;
use router::{
    Certificate, CertificateRule, ClientCertValidation, ForwardedClientCert, FrontTls, MtlsDomain,
    Subject, TlsTerms, XfccFormat,
};
use rustls::version::{TLS12, TLS13};

/// The TLS towards clients and towards backends.
pub(super) struct Tls {
    pub(super) certificates: Vec<Certificate>,
    pub(super) tls: FrontTls,
    pub(super) backend_tls: Identity,
    /// The versions and suites towards backends. gorouter uses its suites towards backends, and its versions towards route
    /// services alone.
    pub(super) backend_terms: TlsTerms,
    pub(super) service_terms: TlsTerms,
}

/// The TLS 1.2 suites by their names: OpenSSL's, IANA's.
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

/// Reads the TLS towards clients. `https`: whether there is an HTTPS listener, without which none of it is required; `own`: the
/// certificate that is presented to backends.
pub(super) fn front(keys: &mut Keys<'_>, https: bool, own: Option<Certificate>) -> Tls {
    let mut certificates = Vec::new();
    for mut pem in keys.sections("tls_pem") {
        if !https {
            // No client is presented this certificate.
            pem.without_effect(&["cert_chain", "private_key"]);
            continue;
        }
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
    let validation = keys.choice_or_empty(
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
    let certificate_rules = certificate_rules(keys, &client_ca);
    let domains = domains(keys);
    if !https && !domains.is_empty() {
        keys.problem("domains", "is given, but enable_ssl is not true: clients could show no certificate; set enable_ssl to true");
    }
    let mut versions = versions(keys);
    let suites = cipher_suites(keys, &mut versions);
    let terms = TlsTerms {
        versions,
        cipher_suites: suites,
    };
    // Without `enable_ssl` the two keys about versions have no effect.
    let service_terms = if https {
        terms.clone()
    } else {
        TlsTerms::default()
    };
    Tls {
        certificates,
        backend_terms: TlsTerms {
            versions: Vec::new(),
            ..service_terms.clone()
        },
        service_terms,
        tls: FrontTls {
            terms,
            client_cert_validation: validation.unwrap_or(ClientCertValidation::None),
            // `ca_certs` sign backends alone: a deployment's template copies them into `client_ca_certs` where it wants them
            // there.
            client_cas: vec![client_ca],
            system_client_cas: !only_client_ca,
            certificate_rules,
            domains,
        },
        backend_tls: Identity {
            cert_pem: own.as_ref().map_or("", |own| &own.cert_pem).to_owned(),
            key_pem: own.map_or_else(String::new, |own| own.key_pem),
            ca_pem: ca,
        },
    }
}

/// Reads the rules. Each must be about one of the client authorities; otherwise a typing error would switch it off.
fn certificate_rules(keys: &mut Keys<'_>, client_ca: &str) -> Vec<CertificateRule> {
    let enabled = keys.flag("enable_verify_client_certificate_metadata", false);
    let authorities: Vec<Subject> = kit::tls::certs(client_ca)
        .unwrap_or_default()
        .iter()
        .filter_map(|certificate| Subject::of(certificate))
        .collect();
    let mut rules = Vec::new();
    for mut rule in keys.sections("verify_client_certificate_metadata") {
        let issuer = subject(&mut rule.section("issuer_in_chain"));
        let valid_subjects = rule.sections("valid_cert_subjects");
        let valid_subjects = valid_subjects
            .into_iter()
            .map(|mut keys| subject(&mut keys));
        let valid_subjects: Vec<Subject> = valid_subjects.collect();
        if enabled && !authorities.contains(&issuer) {
            rule.problem("issuer_in_chain", "is no subject of a certificate in client_ca_certs: write every part of its name as it is there");
        }
        rules.push(CertificateRule {
            issuer,
            valid_subjects,
        });
    }
    rules.retain(|_| enabled);
    rules
}

fn subject(keys: &mut Keys<'_>) -> Subject {
    let mut list = |key: &str| {
        let mut values = keys.texts(key).unwrap_or_default();
        values.sort();
        values
    };
    Subject {
        country: list("country"),
        organisation: list("organization"),
        organisation_unit: list("organizational_unit"),
        locality: list("locality"),
        province: list("province"),
        street_address: list("street_address"),
        postal_code: list("postal_code"),
        common_name: keys.text("common_name").unwrap_or_default(),
        serial_number: keys.text("serial_number").unwrap_or_default(),
    }
}

/// Reads RFC-0055's identity-aware domains.
fn domains(keys: &mut Keys<'_>) -> Vec<MtlsDomain> {
    let mut domains: Vec<MtlsDomain> = Vec::new();
    for mut domain in keys.sections("domains") {
        let name = domain.text("name").or_else(|| domain.text("domain"));
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let bare = name.strip_prefix("*.").unwrap_or(&name);
        if bare.is_empty() || bare.contains(['*', '/', ':', ' ']) {
            domain.problem("name", "is missing or is no host: write a host, or *. and a domain, e.g. \"*.apps.identity\"");
        }
        if domains.iter().any(|other| other.name == name) {
            domain.problem("name", &format!("{name:?} is there twice: remove one"));
        }
        let client_cas = authorities(&mut domain, "ca_certs");
        if client_cas.trim().is_empty() {
            domain.problem(
                "ca_certs",
                "is missing: give the authorities of its clients' certificates as PEM",
            );
        }
        let mode = domain.choice("forwarded_client_cert", FORWARDED_CLIENT_CERT);
        let formats = [("raw", XfccFormat::Raw), ("envoy", XfccFormat::Envoy)];
        domains.push(MtlsDomain {
            name,
            client_cas,
            forwarded_client_cert: mode.unwrap_or(ForwardedClientCert::SanitizeSet),
            xfcc_format: domain.choice("xfcc_format", &formats).unwrap_or_default(),
        });
    }
    domains
}

fn versions(keys: &mut Keys<'_>) -> Vec<&'static rustls::SupportedProtocolVersion> {
    const NAMES: &[(&str, u8)] = &[
        ("TLSv1.0", 10),
        ("TLSv1.1", 11),
        ("TLSv1.2", 12),
        ("TLSv1.3", 13),
    ];
    let min = keys.choice_or_empty("min_tls_version", NAMES);
    let min = min.unwrap_or(12);
    let max = keys.choice_or_empty("max_tls_version", NAMES);
    let max = max.unwrap_or(12);
    if min < 12 {
        keys.warn(
            "min_tls_version",
            "is below TLSv1.2, which this router does not support: raised to TLSv1.2",
        );
    }
    let versions: Vec<_> = [(12, &TLS12), (13, &TLS13)]
        .into_iter()
        .filter(|(number, _)| (min..=max).contains(number))
        .map(|(_, version)| version)
        .collect();
    if versions.is_empty() {
        keys.problem("max_tls_version", "leaves no version of TLS that this router supports: write TLSv1.2 or TLSv1.3, not below min_tls_version");
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
                &format!("has {name}, which this router does not support: dropped"),
            );
        }
    }
    if usable.is_empty() && !list.is_empty() {
        versions.retain(|version| tls13 && version.version == TLS13.version);
        if versions.is_empty() {
            keys.problem("cipher_suites", "has no suite that this router supports: add e.g. ECDHE-RSA-AES128-GCM-SHA256 and ECDHE-ECDSA-AES128-GCM-SHA256");
        }
    }
    usable
}

/// Reads a PEM certificate chain and its key; `None` when neither is there.
pub(super) fn pair(keys: &mut Keys<'_>, chain: &str, key: &str) -> Option<Certificate> {
    let half = |keys: &Keys<'_>| {
        keys.problem(
            chain,
            &format!("and {key} belong together: give both, or none"),
        );
    };
    pair_or(keys, chain, key, half)
}

/// Reads such a pair where gorouter presents no certificate when only one of them is there.
pub(super) fn pair_or_none(keys: &mut Keys<'_>, chain: &str, key: &str) -> Option<Certificate> {
    let half = |keys: &Keys<'_>| {
        let what = format!("and {key} are not both there: no certificate is shown; give both");
        keys.warn(chain, &what);
    };
    pair_or(keys, chain, key, half)
}

fn pair_or(
    keys: &mut Keys<'_>,
    chain: &str,
    key: &str,
    half: impl FnOnce(&Keys<'_>),
) -> Option<Certificate> {
    let mut pem = |key: &str| keys.text(key).filter(|text| !text.trim().is_empty());
    match (pem(chain), pem(key)) {
        (None, None) => None,
        (Some(cert_pem), Some(key_pem)) => {
            let certificate = Certificate { cert_pem, key_pem };
            if let Err(error) = certificate.check() {
                keys.problem(
                    chain,
                    &format!("and {key} are not a PEM certificate and its key: {error:#}"),
                );
            }
            Some(certificate)
        }
        _ => {
            half(keys);
            None
        }
    }
}

/// Reads PEM certificates: a text, or a list of texts.
pub(super) fn authorities(keys: &mut Keys<'_>, key: &str) -> String {
    let given = keys.texts(key).unwrap_or_default();
    for pem in given.iter().filter(|pem| !pem.trim().is_empty()) {
        if let Err(error) = kit::tls::Authorities::from_pem(pem) {
            keys.problem(
                key,
                &format!("is not PEM text with certificates: {error:#}; correct it"),
            );
        }
    }
    given.join("\n")
}
