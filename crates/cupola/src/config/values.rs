//! Checks of single values of the configuration file. Each adds what is wrong to the list of problems.

use super::file::CloudControllerSection;
use cloud_controller::IdentityDomain;
use router::Rotation;
use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

/// The default identity domain, on which apps call each other by their identities, and the scope of its callers.
const IDENTITY_DOMAIN: (&str, &str) = ("apps.identity", "any");

/// Returns the shared domains of callers with instance identities.
pub(super) fn identity_domains(
    section: Option<BTreeMap<String, String>>,
    system_domain: &str,
    problems: &mut Vec<String>,
) -> Vec<IdentityDomain> {
    let default = || {
        let (name, scope) = IDENTITY_DOMAIN;
        BTreeMap::from([(name.to_owned(), scope.to_owned())])
    };
    let mut domains = Vec::new();
    for (name, scope) in section.unwrap_or_else(default) {
        let name = name.to_ascii_lowercase();
        if !is_domain(&name) {
            problems.push(format!(
                "identity_domains has {name:?}, which is not a domain name: use e.g. apps.identity"
            ));
        } else if name == system_domain {
            problems.push(format!("identity_domains has {name:?}, the foundation's own domain, whose clients have no instance identities: use e.g. apps.identity"));
        } else if name == cloud_controller::INTERNAL_DOMAIN {
            problems.push(format!("identity_domains has {name:?}, whose routes bypass the router: use e.g. apps.identity"));
        }
        if !["any", "org", "space"].contains(&scope.as_str()) {
            problems.push(format!(
                "identity_domains.{name} {scope:?} is unknown: use any, org or space"
            ));
        }
        domains.push(IdentityDomain { name, scope });
    }
    domains
}

/// Returns how long the Cloud Controller keeps what it does not need any more.
pub(super) fn retention(
    section: &CloudControllerSection,
    problems: &mut Vec<String>,
) -> cloud_controller::Retention {
    let default = cloud_controller::Retention::default();
    let mut at_least_one = |key: &str, value: Option<u32>, default: u32| match value {
        Some(0) => {
            problems.push(format!("cloud_controller.{key} must be at least 1"));
            default
        }
        value => value.unwrap_or(default),
    };
    const DAY: u64 = 24 * 3600;
    let days = u32::try_from(default.records.as_secs() / DAY).unwrap_or(u32::MAX);
    let days = at_least_one("keep_days", section.keep_days, days);
    cloud_controller::Retention {
        droplets_per_app: at_least_one(
            "keep_droplets",
            section.keep_droplets,
            default.droplets_per_app,
        ),
        packages_per_app: at_least_one(
            "keep_packages",
            section.keep_packages,
            default.packages_per_app,
        ),
        records: Duration::from_secs(u64::from(days) * DAY),
        ..default
    }
}

/// Returns the rotation at this size; `None` for 0 megabytes.
pub(super) fn rotation(megabytes: u64, keep: u32) -> Option<Rotation> {
    (megabytes > 0).then(|| Rotation {
        max_bytes: megabytes.saturating_mul(1 << 20),
        keep,
    })
}

/// Returns an address with a port. `:80` is port 80 of all addresses.
pub(super) fn address(
    key: &str,
    text: Option<String>,
    problems: &mut Vec<String>,
) -> Option<SocketAddr> {
    let text = text?;
    let full = if text.starts_with(':') {
        format!("0.0.0.0{text}")
    } else {
        text.clone()
    };
    match full.parse() {
        Ok(addr) => Some(addr),
        Err(_) => {
            problems.push(format!("{key} {text:?} is not an address with a port: use e.g. 0.0.0.0:80 or 127.0.0.1:8080"));
            None
        }
    }
}

/// Returns an IPv4 address with a port other than 0.
pub(super) fn address_v4(text: &str) -> Option<SocketAddrV4> {
    let address: Option<SocketAddrV4> = text.parse().ok();
    address.filter(|address| address.port() > 0)
}

/// Returns whether the text is a domain name with at least two labels.
pub(super) fn is_domain(domain: &str) -> bool {
    domain.len() <= 200
        && domain.contains('.')
        && domain.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// Returns a value that must be parsed. `wanted` completes the sentence about a text that cannot be.
pub(super) fn parsed<T: std::str::FromStr>(
    key: &str,
    text: Option<String>,
    wanted: &str,
    problems: &mut Vec<String>,
) -> Option<T> {
    let text = text?;
    let value = text.parse().ok();
    if value.is_none() {
        problems.push(format!("{key} {text:?} is not {wanted}"));
    }
    value
}
