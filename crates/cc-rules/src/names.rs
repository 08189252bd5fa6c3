//! The names that belong to the platform. No domain and no route may have one, whoever requests it. A route that an older
//! version stored under such a name is not desired. This module is pure: the caller passes the name and whether its domain is
//! shared.
//!
//! Names are compared in lower case and without a trailing dot.

/// The hosts on the system domain that are components of a foundation, whether or not this foundation runs them.
const COMPONENTS: &[&str] = &[
    "api",
    "uaa",
    "login",
    "log-cache",
    "log-stream",
    "doppler",
    "loggregator",
    "ssh",
    "credhub",
];

/// The names with a meaning of their own: loopback, reverse look-ups, and the components' internal names.
const SPECIAL: &[&str] = &["localhost", "localdomain", "arpa", "cf.internal"];

/// The names of one foundation's components.
#[derive(Clone, Debug)]
pub struct PlatformNames {
    system_domain: String,
    /// The full names of the components: `api.sys.example.com`.
    components: Vec<String>,
}

/// The reason why a name is not available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The name is a component's name, lies below one, or could catch one with a wildcard.
    System,
    /// The name reads as an IP address.
    Address,
    /// The name has a meaning of its own.
    Special,
}

impl PlatformNames {
    /// Collects the names. `hosts` are further hosts on the system domain that are components.
    pub fn new(system_domain: &str, hosts: &[String]) -> Self {
        let system_domain = plain(system_domain);
        let hosts = COMPONENTS
            .iter()
            .map(|host| (*host).to_owned())
            .chain(hosts.iter().map(|host| plain(host)));
        let mut components: Vec<String> = hosts
            .map(|host| format!("{host}.{system_domain}"))
            .collect();
        components.sort();
        components.dedup();
        Self {
            system_domain,
            components,
        }
    }

    /// Refuses a reserved name for a domain. A domain above the system domain may be shared (the apps' domain often is), but not
    /// private, because its owner could catch the components' names with a wildcard.
    pub fn domain(&self, name: &str, shared: bool) -> Result<(), Reserved> {
        let name = plain(name);
        self.free(&name)?;
        if !shared && is_at_or_below(&self.system_domain, &name) {
            return Err(Reserved::System);
        }
        Ok(())
    }

    /// Refuses a reserved name for a route of this host (empty: none) on this domain.
    pub fn route(&self, host: &str, domain: &str, shared: bool) -> Result<(), Reserved> {
        let domain = plain(domain);
        if host == "*" {
            return self.domain(&domain, shared);
        }
        let name = if host.is_empty() {
            domain
        } else {
            format!("{}.{domain}", plain(host))
        };
        if name == self.system_domain {
            return Err(Reserved::System);
        }
        self.free(&name)
    }

    fn free(&self, name: &str) -> Result<(), Reserved> {
        if is_address(name) {
            return Err(Reserved::Address);
        }
        if SPECIAL.iter().any(|special| is_at_or_below(name, special)) {
            return Err(Reserved::Special);
        }
        if self
            .components
            .iter()
            .any(|component| is_at_or_below(name, component))
        {
            return Err(Reserved::System);
        }
        Ok(())
    }
}

impl Reserved {
    /// Returns the error text for a domain of this name.
    pub fn of_domain(self, name: &str) -> String {
        let why = match self {
            Self::System => format!("\"{name}\" is already reserved by the system"),
            Self::Address => format!("\"{name}\" is an IP address; use a name"),
            Self::Special => format!("\"{name}\" is reserved for special use; use another name"),
        };
        format!("The domain name \"{name}\" cannot be created because {why}")
    }

    /// Returns the error text for a route of this URL.
    pub fn of_route(self, url: &str) -> String {
        match self {
            Self::System => "Route conflicts with a reserved system route.".to_owned(),
            Self::Address => format!("Route '{url}' is an IP address; use a name."),
            Self::Special => {
                format!("Route '{url}' has a name that is reserved for special use.")
            }
        }
    }
}

fn plain(name: &str) -> String {
    name.trim().trim_end_matches('.').to_ascii_lowercase()
}

fn is_at_or_below(name: &str, above: &str) -> bool {
    name == above
        || name
            .strip_suffix(above)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// Returns whether a name reads as an IP address. Clients read it as an IPv4 address if its last label is a number, decimal or
/// hexadecimal.
fn is_address(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let decimal = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    let hexadecimal = last
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    decimal || hexadecimal || name.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> PlatformNames {
        PlatformNames::new("sys.example.com", &["extra".to_owned()])
    }

    #[test]
    fn components_and_what_lies_below_them() {
        for name in [
            "uaa.sys.example.com",
            "UAA.SYS.Example.Com.",
            "zone.login.sys.example.com",
            "a.b.log-cache.sys.example.com",
            "extra.sys.example.com",
            "ssh.sys.example.com",
        ] {
            for shared in [true, false] {
                assert_eq!(
                    names().domain(name, shared),
                    Err(Reserved::System),
                    "{name}"
                );
                for host in ["", "*", "x"] {
                    let refused = names().route(host, name, shared);
                    assert_eq!(refused, Err(Reserved::System), "{host} on {name}");
                }
            }
        }
        for host in ["Api", "doppler", "credhub"] {
            let refused = names().route(host, "sys.example.com", true);
            assert_eq!(refused, Err(Reserved::System), "{host}");
        }
    }

    #[test]
    fn what_stands_above_the_components() {
        for name in ["sys.example.com", "example.com", "com"] {
            assert_eq!(names().domain(name, false), Err(Reserved::System), "{name}");
            assert_eq!(names().domain(name, true), Ok(()), "{name}");
            assert_eq!(names().route("*", name, false), Err(Reserved::System));
        }
        assert_eq!(
            names().route("sys", "example.com", true),
            Err(Reserved::System)
        );
        assert_eq!(
            names().route("", "sys.example.com", false),
            Err(Reserved::System)
        );
    }

    #[test]
    fn addresses_and_special_names() {
        for name in [
            "10.0.0.1",
            "127.1",
            "1.0x7f",
            "a.b.0x",
            "::1",
            "fe80::1.x",
            "x.2130706433",
        ] {
            assert_eq!(
                names().domain(name, false),
                Err(Reserved::Address),
                "{name}"
            );
        }
        assert_eq!(names().route("10", "0.0.1", false), Err(Reserved::Address));
        for name in [
            "cf.internal",
            "bbs.service.cf.internal",
            "app.localhost",
            "1.10.in-addr.arpa",
        ] {
            assert_eq!(names().domain(name, true), Err(Reserved::Special), "{name}");
        }
        assert_eq!(
            names().route("cf", "internal", true),
            Err(Reserved::Special)
        );
    }

    #[test]
    fn names_of_apps_are_free() {
        for name in [
            "myapi.sys.example.com",
            "apps.internal",
            "uaa.example.com",
            "notsys.example.com",
            "1.apps.test",
            "127.0.0.1.nip.io",
            "uaa.sys.example.com.evil.test",
        ] {
            assert_eq!(names().domain(name, false), Ok(()), "{name}");
            assert_eq!(names().route("x", name, true), Ok(()), "{name}");
        }
        assert_eq!(names().route("*", "example.com", true), Ok(()));
        assert_eq!(names().route("my-app", "sys.example.com", true), Ok(()));
    }
}
