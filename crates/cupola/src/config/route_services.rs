//! The keys `router.route_services`: how requests reach the services to which routes are bound, and which addresses they never reach.

use super::values::is_domain;
use router::AddressRange;
use serde::Deserialize;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The addresses at which no service may be, unless the operator names others: those of private networks, as routing-release 0.387 has
/// them, those of the machine itself, and the same of IPv6.
const BLOCKED: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::",
    "::1",
    "fc00::/7",
    "fe80::/10",
];

const ROTATION_HOURS: u32 = 24;
const MOST_ROTATION_HOURS: u32 = 365 * 24;
const TIMEOUT: u32 = 60;
const MOST_TIMEOUT: u32 = 3600;
const ATTEMPTS: u32 = 3;
const MOST_ATTEMPTS: u32 = 10;
/// The minimum length of a secret.
const SHORTEST_SECRET: usize = 16;

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RouteServicesSection {
    /// A file with the secret of the notes, for routers beside those of this foundation; a second line is the previous secret. Default: the
    /// foundation has a secret of its own.
    secret_file: Option<PathBuf>,
    /// The hours after which the routers use the next key of the foundation's own secret.
    rotation_hours: Option<u32>,
    /// The seconds that a service may take to send a request back.
    timeout: Option<u32>,
    /// The number of attempts to reach a service.
    attempts: Option<u32>,
    /// Whether WebSockets pass services.
    websockets: Option<bool>,
    /// The hosts of services that are apps here, which the router reaches by its own table; default: all hosts on the foundation's domain.
    hairpinning: Option<Vec<String>>,
    /// The addresses at which no service may be.
    egress_blocklist: Option<Vec<String>>,
    /// A PEM file with the authorities of services, beside those of the machine and the foundation's own.
    ca: Option<PathBuf>,
    /// Whether the certificates of services are accepted without a check.
    skip_ssl_validation: bool,
}

/// The checked section.
#[derive(Clone)]
pub(crate) struct RouteServices {
    /// The secret that other routers have too, and the previous one. `None`: the foundation has a secret of its own.
    pub(crate) shared: Option<(String, Option<String>)>,
    /// The time after which routers use the next key of the foundation's own secret.
    pub(crate) rotation: Duration,
    pub(crate) timeout: Duration,
    pub(crate) attempts: usize,
    pub(crate) websockets: bool,
    /// The hosts of services that are reached by the router's own table. `None`: all hosts one label below the foundation's domain.
    pub(crate) hairpinning: Option<Vec<String>>,
    pub(crate) egress_blocklist: Vec<AddressRange>,
    /// Further authorities of services, as PEM.
    pub(crate) authorities: String,
    pub(crate) skip_ssl_validation: bool,
}

/// Prints no secret.
impl fmt::Debug for RouteServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteServices")
            .field("is_shared", &self.shared.is_some())
            .field("rotation", &self.rotation)
            .field("timeout", &self.timeout)
            .field("hairpinning", &self.hairpinning)
            .field("egress_blocklist", &self.egress_blocklist)
            .finish_non_exhaustive()
    }
}

pub(super) fn check(section: RouteServicesSection, problems: &mut Vec<String>) -> RouteServices {
    if section.secret_file.is_some() && section.rotation_hours.is_some() {
        problems.push("router.route_services.rotation_hours has no effect with secret_file, whose secret stands for one key: remove one of them".into());
    }
    let shared = section
        .secret_file
        .and_then(|path| secrets(&path, problems));
    let mut number = |key: &str, value: Option<u32>, default: u32, most: u32| {
        let value = value.unwrap_or(default);
        if !(1..=most).contains(&value) {
            problems.push(format!(
                "router.route_services.{key} {value} is not between 1 and {most}"
            ));
        }
        value
    };
    let hours = number(
        "rotation_hours",
        section.rotation_hours,
        ROTATION_HOURS,
        MOST_ROTATION_HOURS,
    );
    let timeout = number("timeout", section.timeout, TIMEOUT, MOST_TIMEOUT);
    let attempts = number("attempts", section.attempts, ATTEMPTS, MOST_ATTEMPTS);
    RouteServices {
        shared,
        rotation: Duration::from_secs(u64::from(hours) * 3600),
        timeout: Duration::from_secs(timeout.into()),
        attempts: usize::try_from(attempts).unwrap_or(usize::MAX),
        websockets: section.websockets.unwrap_or(true),
        hairpinning: section
            .hairpinning
            .map(|hosts| hairpinning(hosts, problems)),
        egress_blocklist: ranges(section.egress_blocklist, problems),
        authorities: authorities(section.ca.as_deref(), problems),
        skip_ssl_validation: section.skip_ssl_validation,
    }
}

/// Reads the secret and the previous one. A file that others may read is refused.
fn secrets(path: &Path, problems: &mut Vec<String>) -> Option<(String, Option<String>)> {
    let place = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(format!(
                "router.route_services.secret_file {place}: the file cannot be read ({error}): does it exist, and may this process read it?"
            ));
            return None;
        }
    };
    let mode = std::fs::metadata(path).map(|data| data.permissions().mode() & 0o777);
    if let Some(open) = mode.ok().filter(|mode| mode & 0o077 != 0) {
        problems.push(format!(
            "router.route_services.secret_file {place} has a secret, and others may read it (mode {open:o}): run `chmod 600 {place}`"
        ));
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (secret, previous) = (lines.next().unwrap_or_default(), lines.next());
    let is_short = |secret: &str| secret.len() < SHORTEST_SECRET;
    if is_short(secret) || previous.is_some_and(is_short) || lines.next().is_some() {
        problems.push(format!(
            "router.route_services.secret_file {place} must have one or two lines of at least {SHORTEST_SECRET} characters: the secret, and the previous one"
        ));
        return None;
    }
    Some((secret.to_owned(), previous.map(str::to_owned)))
}

/// Returns the hosts in lower case.
fn hairpinning(hosts: Vec<String>, problems: &mut Vec<String>) -> Vec<String> {
    let hosts = hosts.into_iter().map(|host| host.to_ascii_lowercase());
    hosts
        .inspect(|host| {
            if !is_domain(host.strip_prefix("*.").unwrap_or(host)) {
                problems.push(format!(
                    "router.route_services.hairpinning has {host:?}, which is not a host: use e.g. gate.example.com or *.example.com"
                ));
            }
        })
        .collect()
}

fn ranges(section: Option<Vec<String>>, problems: &mut Vec<String>) -> Vec<AddressRange> {
    let Some(texts) = section else {
        let known = BLOCKED.iter().filter_map(|text| AddressRange::parse(text));
        return known.collect();
    };
    let mut ranges = Vec::new();
    for text in texts {
        match AddressRange::parse(&text) {
            Some(range) => ranges.push(range),
            None => problems.push(format!(
                "router.route_services.egress_blocklist has {text:?}, which is not a range of addresses: use e.g. 10.0.0.0/8"
            )),
        }
    }
    ranges
}

fn authorities(path: Option<&Path>, problems: &mut Vec<String>) -> String {
    let Some(path) = path else {
        return String::new();
    };
    let read = std::fs::read_to_string(path).map_err(anyhow::Error::from);
    let checked = read.and_then(|pem| kit::tls::certs(&pem).map(|_| pem));
    checked.unwrap_or_else(|error| {
        problems.push(format!(
            "router.route_services.ca {}: {error:#}: name a file with certificates in PEM, which this process may read",
            path.display()
        ));
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn checked(text: &str) -> (RouteServices, String) {
        let section: RouteServicesSection = yaml_serde::from_str(text).unwrap();
        let mut problems = Vec::new();
        let services = check(section, &mut problems);
        (services, problems.join("; "))
    }

    #[test]
    fn by_default_a_secret_rotates_and_no_private_address_is_reached() {
        let (services, problems) = checked("{}");
        assert_eq!(problems, "");
        assert_eq!(services.rotation, Duration::from_secs(86_400));
        assert_eq!((services.attempts, services.websockets), (3, true));
        assert!(services.shared.is_none() && services.hairpinning.is_none());
        assert_eq!(services.egress_blocklist.len(), BLOCKED.len());
        for (address, blocked) in [
            ("127.0.0.1", true),
            ("10.254.0.1", true),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
            ("192.168.7.7", true),
            ("169.254.169.254", true),
            ("0.0.0.0", true),
            ("::1", true),
            ("::", true),
            ("fd12::1", true),
            ("fe80::1", true),
            ("::ffff:10.0.0.1", true),
            ("203.0.113.7", false),
            ("2001:db8::1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let ranges = &services.egress_blocklist;
            let is_blocked = ranges.iter().any(|range| range.contains(address));
            assert_eq!(is_blocked, blocked, "{address}");
        }
        let (open, _) = checked("egress_blocklist: []");
        assert!(open.egress_blocklist.is_empty());
    }

    #[test]
    fn every_problem_is_named() {
        let (_, problems) = checked(
            "secret_file: /nowhere/secret\nrotation_hours: 0\ntimeout: 4000\nattempts: 11\nhairpinning: ['*.x', 'a b.test']\negress_blocklist: [10.0.0.0/33]\nca: /nowhere/ca.pem",
        );
        for part in [
            "secret_file /nowhere/secret: the file cannot be read",
            "rotation_hours has no effect with secret_file",
            "rotation_hours 0 is not between 1 and 8760",
            "timeout 4000 is not between 1 and 3600",
            "attempts 11 is not between 1 and 10",
            "hairpinning has \"*.x\"",
            "hairpinning has \"a b.test\"",
            "egress_blocklist has \"10.0.0.0/33\"",
            "ca /nowhere/ca.pem: ",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
        assert!(yaml_serde::from_str::<RouteServicesSection>("secret: x").is_err());
    }

    #[test]
    fn a_shared_secret_is_private_and_long_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let with = |content: &str, mode: u32| {
            // Not every user may write to a file of mode 0400.
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            checked(&format!("secret_file: {}", path.display()))
        };
        let (new, old) = ("a-new-shared-secret", "an-old-shared-secret");
        let (services, problems) = with(&format!("{new}\n\n{old}\n"), 0o600);
        assert_eq!(problems, "");
        assert!(!format!("{services:?}").contains("shared-secret"));
        let wanted = (new.to_owned(), Some(old.to_owned()));
        assert_eq!(services.shared, Some(wanted));
        let (services, _) = with(new, 0o400);
        assert_eq!(services.shared, Some((new.to_owned(), None)));
        for (content, mode, problem) in [
            (new, 0o640, "others may read it (mode 640)"),
            ("short", 0o600, "at least 16 characters"),
            ("", 0o600, "at least 16 characters"),
            (
                "a-new-shared-secret\nanother-shared-secret\na-third-shared-secret",
                0o600,
                "one or two lines",
            ),
        ] {
            let (_, problems) = with(content, mode);
            assert!(problems.contains(problem), "{content:?}: {problems}");
            assert!(!problems.contains("shared-secret"), "{problems}");
        }
    }
}
