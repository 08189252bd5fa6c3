//! Holds the options of a route: how to balance, and which callers to admit (RFC-0027, RFC-0042, RFC-0055).

use super::endpoint::Endpoint;
use std::fmt;

/// The way in which a pool spreads requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Balancing {
    #[default]
    RoundRobin,
    LeastConnection,
    /// Requests with the same value of a header go to the same endpoint. Requests without the header use the router's own
    /// balancing.
    Hash {
        /// The name of the header, in lower case.
        header: String,
        /// The factor of the average number of requests in flight above which an endpoint is passed over; 0 means never.
        balance: f64,
    },
}

impl Balancing {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnection => "least-connection",
            Self::Hash { .. } => "hash",
        }
    }
}

/// The options of a route that this router supports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteOptions {
    pub balancing: Option<Balancing>,
    pub policy: Option<RoutePolicy>,
}

impl RouteOptions {
    pub(super) const NONE: Self = Self {
        balancing: None,
        policy: None,
    };
}

/// The callers that may use a route on a domain with mutual TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePolicy {
    pub scope: PolicyScope,
    pub sources: Vec<PolicySource>,
}

/// The endpoints that a caller may reach, by the organization and space of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyScope {
    #[default]
    Any,
    /// The endpoints of the caller's organization.
    Org,
    /// The endpoints of the caller's space.
    Space,
}

impl PolicyScope {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "any" => Some(Self::Any),
            "org" => Some(Self::Org),
            "space" => Some(Self::Space),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Org => "org",
            Self::Space => "space",
        }
    }
}

/// One entry of `route_policy_sources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySource {
    Any,
    App(String),
    Space(String),
    Org(String),
}

impl PolicySource {
    /// Parses `cf:any`, `cf:app:<guid>`, `cf:space:<guid>` or `cf:org:<guid>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, guid) = match text.strip_prefix("cf:")?.split_once(':') {
            None => return (text == "cf:any").then_some(Self::Any),
            Some((kind, guid)) => (kind, guid),
        };
        let guid = Some(guid.to_owned()).filter(|guid| !guid.is_empty())?;
        match kind {
            "app" => Some(Self::App(guid)),
            "space" => Some(Self::Space(guid)),
            "org" => Some(Self::Org(guid)),
            _ => None,
        }
    }
}

impl fmt::Display for PolicySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("cf:any"),
            Self::App(guid) => write!(f, "cf:app:{guid}"),
            Self::Space(guid) => write!(f, "cf:space:{guid}"),
            Self::Org(guid) => write!(f, "cf:org:{guid}"),
        }
    }
}

/// The sender of a request, from the certificate that came with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller<'a> {
    pub app: &'a str,
    pub space: &'a str,
    pub org: &'a str,
}

impl RoutePolicy {
    /// Returns whether the sources list the caller. A policy without sources lists no caller.
    pub fn lists(&self, caller: &Caller<'_>) -> bool {
        let same = |guid: &str, own: &str| !own.is_empty() && guid == own;
        self.sources.iter().any(|source| match source {
            PolicySource::Any => true,
            PolicySource::App(guid) => same(guid, caller.app),
            PolicySource::Space(guid) => same(guid, caller.space),
            PolicySource::Org(guid) => same(guid, caller.org),
        })
    }

    /// Returns which of the route's endpoints the caller may reach, for [`super::Want`].
    pub fn within<'a>(&self, caller: &Caller<'a>) -> Within<'a> {
        match self.scope {
            PolicyScope::Any => Within::Anywhere,
            PolicyScope::Org => Within::Org(caller.org),
            PolicyScope::Space => Within::Space(caller.space),
        }
    }
}

/// The part of the platform whose endpoints are wanted, according to their tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Within<'a> {
    #[default]
    Anywhere,
    Org(&'a str),
    Space(&'a str),
}

impl Within<'_> {
    /// Returns whether the endpoint is in this part. A caller without an organization or space reaches no endpoint.
    pub(super) fn holds(&self, endpoint: &Endpoint) -> bool {
        let (tag, guid) = match *self {
            Self::Anywhere => return true,
            Self::Org(guid) => ("organization_id", guid),
            Self::Space(guid) => ("space_id", guid),
        };
        !guid.is_empty() && endpoint.tag(tag) == guid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let of = PolicySource::parse;
        assert_eq!(of("cf:any"), Some(PolicySource::Any));
        assert_eq!(of("cf:app:g"), Some(PolicySource::App("g".into())));
        for text in ["cf:any", "cf:app:g", "cf:space:g", "cf:org:g"] {
            assert_eq!(of(text).unwrap().to_string(), text);
        }
        for bad in ["", "cf:", "cf:app", "cf:app:", "any", "cf:any:x", "cf:x:y"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        let policy = |text: &str| RoutePolicy {
            sources: text.split(',').filter_map(of).collect(),
            ..RoutePolicy::default()
        };
        let caller = Caller {
            app: "a",
            space: "s",
            org: "",
        };
        for (text, listed) in [
            ("cf:any", true),
            ("cf:app:b,cf:app:a", true),
            ("cf:space:s", true),
            ("cf:org:o", false),
            ("cf:app:b", false),
            ("", false),
        ] {
            assert_eq!(policy(text).lists(&caller), listed, "{text}");
        }
    }
}
