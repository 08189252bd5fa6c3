//! Whose a host is: a component's of the platform, or apps'.
//!
//! Logins, tokens and every user's requests to the API pass the components' routes, so no app may ever get a part of them.
//! When the table knows the components' hosts ([`super::Settings::components`]), these laws hold, in whatever order messages
//! come:
//!
//! - A host of the list takes registrations of components only, at every path. No wildcard route of an app stands in for it
//!   while the component is away.
//! - A host at which a component is registered is that component's, listed or not: apps' endpoints there leave when it
//!   comes ([`super::Registry::evict_apps`]), and none is taken while it is there. The same holds for all hosts below a
//!   component's wildcard.
//! - Only a component's message takes a component's endpoint away.
//!
//! Without the list the table mixes whatever is registered, as gorouter does.

use super::endpoint::{Endpoint, EndpointSpec};
use std::collections::HashSet;

/// What emitters call themselves in their messages. They speak for apps.
const EMITTER: &str = "route-emitter";

/// The hosts of the platform's components.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComponentHosts {
    hosts: HashSet<String>,
    /// With the dot that begins them: all hosts that end so.
    zones: Vec<String>,
}

impl ComponentHosts {
    /// `uaa.example.com` is one host, `*.uaa.example.com` all hosts below it.
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

    /// Whether the host, in lower case, is a component's. A wildcard (`*.host`) is when every host that it names is.
    pub fn cover(&self, host: &str) -> bool {
        let host = plain(host);
        let in_zone = |zone: &String| host.ends_with(zone.as_str());
        self.hosts.contains(host) || self.zones.iter().any(in_zone)
    }
}

/// Without the dot that may end a name.
fn plain(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

fn is_component(app: &str, index: &str, component: &str) -> bool {
    app.is_empty() && index.is_empty() && !component.is_empty() && component != EMITTER
}

impl Endpoint {
    /// Whether its registration came from a component, for itself: it names the component and no app.
    pub fn is_component(&self) -> bool {
        is_component(self.app_id(), self.instance_index(), self.tag("component"))
    }
}

impl EndpointSpec {
    /// See [`Endpoint::is_component`].
    pub fn is_component(&self) -> bool {
        let component = self.tags.get("component").map_or("", String::as_str);
        is_component(&self.app_id, &self.instance_index, component)
    }
}
