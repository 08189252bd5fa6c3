//! Decides whether a host belongs to a component of the platform or to apps.
//!
//! Logins, tokens and every user's requests to the API pass through the components' routes, so no app may ever receive a part of
//! them. When the table knows the components' hosts ([`super::Settings::components`]), the following laws hold, in whatever order
//! messages arrive:
//!
//! - A host on the list accepts registrations of components only, at every path. While the component is away, no wildcard route
//!   of an app serves its host.
//! - A host at which a component is registered belongs to that component, whether it is on the list or not. When the component
//!   registers, the endpoints of apps at that host are removed ([`super::Registry::evict_apps`]); while it is registered, such
//!   endpoints are refused. The same holds for all hosts below a component's wildcard.
//! - Only a message of a component removes a component's endpoint.
//!
//! Without the list the table accepts every registration at every host, as gorouter does.

use super::endpoint::{Endpoint, EndpointSpec};
use std::collections::HashSet;

/// The component name in the messages of route emitters, which speak for apps.
const EMITTER: &str = "route-emitter";

/// The hosts of the platform's components.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComponentHosts {
    hosts: HashSet<String>,
    /// The ends of host names that belong to components, each with the dot that begins it.
    zones: Vec<String>,
}

impl ComponentHosts {
    /// Makes the set from patterns: `uaa.example.com` stands for one host, `*.uaa.example.com` for all hosts below it.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let mut own = Self::default();
        for pattern in patterns {
            let pattern = plain(&pattern.to_lowercase()).to_owned();
            match pattern.strip_prefix('*') {
                Some(zone) if zone.starts_with('.') => own.zones.push(zone.to_owned()),
                _ => drop(own.hosts.insert(pattern)),
            }
        }
        own
    }

    /// Returns whether the host, in lower case, is a component's. A wildcard (`*.host`) is covered when all hosts below it are.
    pub fn cover(&self, host: &str) -> bool {
        let host = plain(host);
        let in_zone = |zone: &String| host.ends_with(zone.as_str());
        self.hosts.contains(host) || self.zones.iter().any(in_zone)
    }
}

/// Returns the name without the dot that may end it.
fn plain(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

fn is_component(app: &str, index: &str, component: &str) -> bool {
    app.is_empty() && index.is_empty() && !component.is_empty() && component != EMITTER
}

impl Endpoint {
    /// Returns whether a component registered the endpoint for itself: the registration names the component and no app.
    pub fn is_component(&self) -> bool {
        is_component(self.app_id(), self.instance_index(), self.tag("component"))
    }
}

impl EndpointSpec {
    /// Returns whether a component made the registration for itself, as [`Endpoint::is_component`] does.
    pub fn is_component(&self) -> bool {
        let component = self.tags.get("component").map_or("", String::as_str);
        is_component(&self.app_id, &self.instance_index, component)
    }
}
