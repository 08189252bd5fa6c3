//! Holds the names for containers alone: internal routes, each with the addresses of its running instances. Pure; the time is an
//! argument.
//!
//! A name below an internal domain is answered here or does not exist. Its queries are never forwarded to the machine's
//! resolvers, which could not know it.

use crate::names::host;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// The highest number of learned names, and of addresses of one name.
const MAX_NAMES: usize = 100_000;
const MAX_ADDRESSES: usize = 4096;

#[derive(Debug)]
pub(crate) struct Internal {
    /// The internal domains in lower case, without dots at either end.
    domains: Vec<String>,
    ttl: Duration,
    /// The addresses of each name, with the time of the last registration of each.
    names: BTreeMap<String, HashMap<Ipv4Addr, Instant>>,
}

/// The result of a look-up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The addresses, in no particular order.
    Addresses(Vec<Ipv4Addr>),
    /// The name is below an internal domain, and no instance has it.
    Missing,
    NotInternal,
}

impl Internal {
    pub(crate) fn new(domains: &[String], ttl: Duration) -> Self {
        Self {
            domains: domains.iter().filter_map(|domain| host(domain)).collect(),
            ttl,
            names: BTreeMap::new(),
        }
    }

    /// Returns the number of names.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn lookup(&self, name: &str) -> Lookup {
        let Some(name) = host(name) else {
            return Lookup::NotInternal;
        };
        if let Some(addresses) = self.names.get(&name) {
            return Lookup::Addresses(addresses.keys().copied().collect());
        }
        let below = self.domains.iter().any(|domain| {
            name == *domain
                || name
                    .strip_suffix(domain.as_str())
                    .is_some_and(|rest| rest.ends_with('.'))
        });
        if below {
            Lookup::Missing
        } else {
            Lookup::NotInternal
        }
    }

    /// Registers the name of an instance at `address`.
    pub(crate) fn register(&mut self, name: &str, address: Ipv4Addr, now: Instant) {
        let Some(name) = host(name).filter(|name| !name.starts_with("*.")) else {
            return;
        };
        if !self.names.contains_key(&name) && self.names.len() >= MAX_NAMES {
            return;
        }
        let addresses = self.names.entry(name).or_default();
        if addresses.len() < MAX_ADDRESSES || addresses.contains_key(&address) {
            addresses.insert(address, now);
        }
    }

    pub(crate) fn unregister(&mut self, name: &str, address: Ipv4Addr) {
        let Some(name) = host(name) else { return };
        if let Some(addresses) = self.names.get_mut(&name) {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.names.remove(&name);
            }
        }
    }

    /// Sets the time of every registration to now: while the bus is away no emitter can repeat one.
    pub(crate) fn refresh_all(&mut self, now: Instant) {
        self.names
            .values_mut()
            .flat_map(HashMap::values_mut)
            .for_each(|registered| *registered = now);
    }

    /// Forgets the registrations that were not repeated within their time to live.
    pub(crate) fn expire(&mut self, now: Instant) {
        let ttl = self.ttl;
        self.names.retain(|_, addresses| {
            addresses.retain(|_, registered| now.duration_since(*registered) < ttl);
            !addresses.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_added_removed_and_expire() {
        let now = Instant::now();
        let mut internal = Internal::new(&["apps.internal".into()], Duration::from_secs(120));
        let (one, two) = (Ipv4Addr::new(10, 255, 0, 1), Ipv4Addr::new(10, 255, 0, 2));
        let sorted = |internal: &Internal, name: &str| match internal.lookup(name) {
            Lookup::Addresses(mut addresses) => {
                addresses.sort();
                addresses
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(internal.lookup("a.apps.internal"), Lookup::Missing);
        assert_eq!(internal.lookup("apps.internal."), Lookup::Missing);
        for other in ["myapps.internal", "example.com", "internal", ""] {
            assert_eq!(internal.lookup(other), Lookup::NotInternal, "{other}");
        }
        internal.register("A.apps.internal", one, now);
        internal.register("a.apps.internal", two, now);
        internal.register("*.apps.internal", two, now);
        assert_eq!(sorted(&internal, "a.APPS.internal."), [one, two]);
        assert_eq!(internal.lookup("b.apps.internal"), Lookup::Missing);
        // A name of another internal domain is known once it is registered.
        internal.register("x.other.internal", one, now);
        assert_eq!(sorted(&internal, "x.other.internal"), [one]);
        internal.unregister("a.apps.internal", one);
        assert_eq!(sorted(&internal, "a.apps.internal"), [two]);
        internal.refresh_all(now + Duration::from_secs(60));
        internal.expire(now + Duration::from_secs(179));
        assert_eq!(sorted(&internal, "a.apps.internal"), [two]);
        internal.expire(now + Duration::from_secs(180));
        assert_eq!(internal.lookup("a.apps.internal"), Lookup::Missing);
    }
}
