//! Decides which names are the foundation's. Pure; the time is an argument.

use crate::internal::Internal;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// The highest number of learned hosts: senders of arbitrary messages must not be able to fill the memory.
const MAX_LEARNED: usize = 100_000;

#[derive(Debug)]
pub(crate) struct Names {
    /// The configured domains in lower case, without dots at either end.
    domains: Vec<String>,
    ttl: Duration,
    /// The endpoints of each host (or `*.rest`), with the time of the last registration of each.
    learned: BTreeMap<String, HashMap<String, Instant>>,
    pub(crate) internal: Internal,
}

impl Names {
    pub(crate) fn new(domains: &[String], internal_domains: &[String], ttl: Duration) -> Self {
        Self {
            domains: domains.iter().filter_map(|domain| host(domain)).collect(),
            ttl,
            learned: BTreeMap::new(),
            internal: Internal::new(internal_domains, ttl),
        }
    }

    /// Returns the number of learned hosts.
    pub(crate) fn len(&self) -> usize {
        self.learned.len()
    }

    /// Returns whether `name` is below one of the configured domains, which belong to the foundation alone.
    pub(crate) fn is_configured(&self, name: &str) -> bool {
        let Some(name) = host(name) else { return false };
        self.domains.iter().any(|domain| {
            name == *domain
                || name
                    .strip_suffix(domain.as_str())
                    .is_some_and(|rest| rest.ends_with('.'))
        })
    }

    /// Returns whether `name` is answered with the router's address.
    pub(crate) fn owns(&self, name: &str) -> bool {
        let configured = self.is_configured(name);
        let Some(name) = host(name) else { return false };
        if configured || self.learned.contains_key(&name) {
            return true;
        }
        // A wildcard route matches at any depth, as in the router.
        let mut rest = name.as_str();
        while let Some((_, parent)) = rest.split_once('.') {
            if self.learned.contains_key(&format!("*.{parent}")) {
                return true;
            }
            rest = parent;
        }
        false
    }

    /// Registers a route's URI at an endpoint. Returns true if its host is new.
    pub(crate) fn register(&mut self, uri: &str, endpoint: &str, now: Instant) -> bool {
        let Some(host) = host(uri) else { return false };
        let new = !self.learned.contains_key(&host);
        if new && self.learned.len() >= MAX_LEARNED {
            return false;
        }
        self.learned
            .entry(host)
            .or_default()
            .insert(endpoint.to_owned(), now);
        new
    }

    /// Unregisters a URI at an endpoint. Returns true if it was the host's last endpoint.
    pub(crate) fn unregister(&mut self, uri: &str, endpoint: &str) -> bool {
        let Some(host) = host(uri) else { return false };
        let Some(endpoints) = self.learned.get_mut(&host) else {
            return false;
        };
        endpoints.remove(endpoint);
        let last = endpoints.is_empty();
        if last {
            self.learned.remove(&host);
        }
        last
    }

    /// Sets the time of every registration to now: while the bus is away no emitter can repeat one.
    pub(crate) fn refresh_all(&mut self, now: Instant) {
        self.learned
            .values_mut()
            .flat_map(HashMap::values_mut)
            .for_each(|refreshed| *refreshed = now);
        self.internal.refresh_all(now);
    }

    /// Forgets the registrations that were not repeated within their time to live. Returns true if a host disappeared.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        self.internal.expire(now);
        let before = self.learned.len();
        let ttl = self.ttl;
        self.learned.retain(|_, endpoints| {
            endpoints.retain(|_, refreshed| now.duration_since(*refreshed) < ttl);
            !endpoints.is_empty()
        });
        self.learned.len() != before
    }

    /// Returns the learned hosts that can be in a hosts file.
    pub(crate) fn exact_hosts(&self) -> BTreeSet<String> {
        self.learned
            .keys()
            .filter(|host| !host.starts_with("*."))
            .cloned()
            .collect()
    }
}

/// Returns the host of a URI or a name: in lower case, without path, port and final dot. `None` means that it is not a host name
/// with a dot (or a wildcard of one).
pub(crate) fn host(uri: &str) -> Option<String> {
    let host = uri
        .split(['/', '?', ':'])
        .next()
        .unwrap_or("")
        .trim_end_matches('.')
        .to_ascii_lowercase();
    let name = host.strip_prefix("*.").unwrap_or(&host);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // An IP address is not a name.
    let address = name.parse::<std::net::IpAddr>().is_ok();
    (host.len() <= 253 && name.contains('.') && !address && name.split('.').all(label))
        .then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_with_a_dot() {
        assert_eq!(host("A.Example.com./path"), Some("a.example.com".into()));
        assert_eq!(host("*.x.com:80"), Some("*.x.com".into()));
        for wrong in [
            "",
            "localhost",
            "a..b",
            "10.0.0.1",
            "a b.c",
            "*.x",
            "x\n1.2.3.4 evil.com",
            "a.*.b",
        ] {
            assert_eq!(host(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn names_below_the_domains_and_learned_hosts_are_ours() {
        let (mut names, now) = (
            Names::new(&["cupola.test".into()], &[], Duration::from_secs(120)),
            Instant::now(),
        );
        assert!(
            names.owns("cupola.test.")
                && names.owns("API.cupola.test")
                && names.owns("a.b.cupola.test")
        );
        assert!(!names.owns("notcupola.test") && !names.owns("example.com") && !names.owns("test"));
        assert!(names.register("shop.example.com/cart", "10.0.0.1:61001", now));
        assert!(!names.register("shop.example.com", "10.0.0.1:61002", now));
        names.register("*.wild.example.com", "10.0.0.1:61001", now);
        assert!(
            names.owns("shop.example.com")
                && names.owns("a.b.wild.example.com")
                && !names.owns("wild.example.com")
        );
        assert_eq!(
            names.exact_hosts().into_iter().collect::<Vec<_>>(),
            ["shop.example.com"]
        );
        assert!(!names.unregister("shop.example.com", "10.0.0.1:61001"));
        assert!(names.owns("shop.example.com"));
        assert!(
            names.unregister("shop.example.com", "10.0.0.1:61002")
                && !names.owns("shop.example.com")
        );
        assert!(
            !names.expire(now + Duration::from_secs(119))
                && names.expire(now + Duration::from_secs(120))
        );
        assert!(!names.owns("a.wild.example.com"));
    }
}
