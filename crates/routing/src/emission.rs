//! What a cell must tell the routers: desired routes × running instances → registrations, and their differences.
//!
//! The core of route-emitter, which feeds it events of the BBS and sends what comes out. Pure: no clock, no IO.
//!
//! ```text
//!  desired LRP (routes, instances) ─┐
//!                                   ├─▶ Table ──apply / sync──▶ Changes { register, unregister, starting }
//!  actual LRP (address, ports) ─────┘     └──registrations()──▶ everything, for the periodic emission
//! ```
//!
//! The table holds both sides as they are and derives registrations from them; nothing is patched in place, so that no order of
//! events can leave a trace. Where Diego's route-emitter only learns with its next full emission (changed options), or not at all
//! (an event older than a removal), this table is exact at once.

mod repeat;
mod table;
#[cfg(test)]
mod tests;

pub use repeat::Farewells;
pub use table::{Marker, Snapshot, Table};

use std::collections::BTreeMap;
use std::sync::Arc;

/// Orders the versions of one object: within an epoch a higher index is newer; different epochs are different rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModificationTag {
    pub epoch: String,
    pub index: u32,
}

impl ModificationTag {
    /// Whether `self` says nothing that `other` does not know better: same row, lower index.
    fn is_older_than(&self, other: &Self) -> bool {
        !self.epoch.is_empty() && self.epoch == other.epoch && self.index < other.index
    }
}

/// Who is to know a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// Routers: a request from outside reaches one port of a process through the cell.
    #[default]
    Routers,
    /// Name servers of containers: the name stands for the containers' own addresses, and no router learns of it.
    Containers,
}

/// One hostname (with an optional path) that leads to one port of a process, or, for containers, to the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    pub audience: Audience,
    pub uri: String,
    /// 0 for containers: they choose the port themselves.
    pub container_port: u32,
    pub route_service_url: String,
    pub isolation_segment: String,
    pub protocol: String,
    /// JSON object text in one canonical spelling; opaque here.
    pub options: Option<String>,
}

/// A metric tag's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagValue {
    Static(String),
    Index,
    InstanceGuid,
}

/// The routes that a process should have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    pub process_guid: String,
    pub domain: String,
    /// App guid.
    pub log_guid: String,
    /// Instances with this index or a higher one are surplus: never routed to.
    pub instances: u32,
    pub routes: Vec<Arc<Route>>,
    pub metric_tags: BTreeMap<String, TagValue>,
    pub tag: ModificationTag,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    pub container: u32,
    pub host: u32,
    /// 0: no TLS there.
    pub container_tls: u32,
    pub host_tls: u32,
}

/// One instance as the BBS knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actual {
    pub process_guid: String,
    pub index: u32,
    pub instance_guid: String,
    /// An instance on its way off the cell has a row of its own beside the ordinary one.
    pub evacuating: bool,
    /// Running, and not marked as not routable.
    pub routable: bool,
    /// Placed on a cell, and not running yet.
    pub starting: bool,
    pub cell_address: String,
    pub instance_address: String,
    /// Routers shall speak to the container itself, not to the cell.
    pub prefer_instance: bool,
    /// In the order of the BBS: of two mappings of one container port the first counts.
    pub ports: Vec<Port>,
    pub availability_zone: String,
    /// Unix nanoseconds since it is in its state.
    pub since_ns: i64,
    pub tag: ModificationTag,
}

impl Actual {
    pub fn key(&self) -> ActualKey {
        ActualKey {
            process_guid: self.process_guid.clone(),
            instance_guid: self.instance_guid.clone(),
            evacuating: self.evacuating,
        }
    }
}

/// Names one row of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActualKey {
    pub process_guid: String,
    pub instance_guid: String,
    pub evacuating: bool,
}

/// What happened to one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    DesiredSet(Desired),
    /// More instances than before are wanted: they wait for a cell, maybe for this one.
    InstancesWanted {
        process_guid: String,
    },
    DesiredRemoved {
        process_guid: String,
        tag: ModificationTag,
    },
    ActualSet(Actual),
    ActualRemoved {
        key: ActualKey,
        tag: ModificationTag,
    },
}

/// Where one instance's port is reached, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    /// 0: TLS only, or, for containers, any port.
    pub port: u16,
    pub tls_port: Option<u16>,
    pub app: String,
    /// Also the name in the instance's certificate.
    pub instance_guid: String,
    pub index: u32,
    pub tags: BTreeMap<String, String>,
    pub availability_zone: String,
}

impl Endpoint {
    /// By which routers tell endpoints of one host apart.
    fn effective_port(&self) -> u16 {
        self.tls_port.unwrap_or(self.port)
    }
}

/// A route to an endpoint: one `router.register` message.
#[derive(Clone, Debug)]
pub struct Registration {
    pub route: Arc<Route>,
    pub endpoint: Arc<Endpoint>,
    /// Since when the instance runs; no part of what is compared.
    pub since_ns: i64,
}

impl PartialEq for Registration {
    fn eq(&self, other: &Self) -> bool {
        self.route == other.route && self.endpoint == other.endpoint
    }
}

/// What makes two registrations the same entry of a router's table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistrationKey {
    pub audience: Audience,
    pub uri: String,
    pub host: String,
    pub port: u16,
}

impl Registration {
    pub fn key(&self) -> RegistrationKey {
        RegistrationKey {
            audience: self.route.audience,
            uri: self.route.uri.to_lowercase(),
            host: self.endpoint.host.clone(),
            port: self.endpoint.effective_port(),
        }
    }
}

/// All registrations of something, by what routers know them by.
pub type Registrations = BTreeMap<RegistrationKey, Registration>;

/// What to send. Register first: a route that moves never has nowhere to go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub register: Vec<Registration>,
    pub unregister: Vec<Registration>,
    /// The registrations are of an instance that just became routable: its age is the propagation's start.
    pub new_endpoint: bool,
    /// Uris to announce at once: instances are on their way, and none is registered here.
    pub starting: Vec<String>,
    /// The last instance here has left a process that still wants some: another may wait for a cell.
    pub wanted: bool,
}

impl Changes {
    /// Nothing to register and nothing to unregister.
    pub fn is_empty(&self) -> bool {
        self.register.is_empty() && self.unregister.is_empty()
    }

    /// Performs the changes as a router would.
    pub fn apply_to(&self, registrations: &mut Registrations) {
        for gone in &self.unregister {
            registrations.remove(&gone.key());
        }
        for there in &self.register {
            registrations.insert(there.key(), there.clone());
        }
    }

    fn append(&mut self, mut other: Self) {
        self.register.append(&mut other.register);
        self.unregister.append(&mut other.unregister);
    }
}

/// What turns `from` into `to`. Law: applied to `from` it gives `to`.
pub fn diff(from: &Registrations, to: &Registrations) -> Changes {
    Changes {
        register: to
            .iter()
            .filter(|(key, new)| from.get(key) != Some(new))
            .map(|(_, new)| new.clone())
            .collect(),
        unregister: from
            .iter()
            .filter(|(key, _)| !to.contains_key(key))
            .map(|(_, old)| old.clone())
            .collect(),
        new_endpoint: false,
        starting: Vec::new(),
        wanted: false,
    }
}

/// The registrations of one process. Of two instances that claim the same address the younger is right: the older is a
/// row that was not yet cleared away.
pub fn derive<'a>(
    desired: &Desired,
    actuals: impl IntoIterator<Item = &'a Actual>,
) -> Registrations {
    let mut registrations = Registrations::new();
    let live = actuals
        .into_iter()
        .filter(|actual| actual.routable && actual.index < desired.instances);
    for actual in live {
        let mut endpoints: BTreeMap<(Audience, u32), Option<Arc<Endpoint>>> = BTreeMap::new();
        for route in &desired.routes {
            let endpoint = endpoints
                .entry((route.audience, route.container_port))
                .or_insert_with(|| endpoint(desired, actual, route).map(Arc::new));
            let Some(endpoint) = endpoint else { continue };
            let new = Registration {
                route: route.clone(),
                endpoint: endpoint.clone(),
                since_ns: actual.since_ns,
            };
            let age = |r: &Registration| (r.since_ns, r.endpoint.instance_guid.clone());
            match registrations.entry(new.key()) {
                std::collections::btree_map::Entry::Occupied(old) if age(old.get()) > age(&new) => {
                }
                std::collections::btree_map::Entry::Occupied(mut old) => drop(old.insert(new)),
                std::collections::btree_map::Entry::Vacant(free) => drop(free.insert(new)),
            }
        }
    }
    registrations
}

/// `None`: that container port is not reachable from outside, or the container has no address yet.
fn endpoint(desired: &Desired, actual: &Actual, route: &Route) -> Option<Endpoint> {
    let (host, port, tls_port) = match route.audience {
        Audience::Containers => (&actual.instance_address, 0, 0),
        Audience::Routers => public_address(actual, route.container_port)?,
    };
    if host.is_empty() {
        return None;
    }
    let resolve = |value: &TagValue| match value {
        TagValue::Static(text) => text.clone(),
        TagValue::Index => actual.index.to_string(),
        TagValue::InstanceGuid => actual.instance_guid.clone(),
    };
    let mut tags: BTreeMap<_, _> = desired
        .metric_tags
        .iter()
        .map(|(name, value)| (name.clone(), resolve(value)))
        .collect();
    tags.insert("component".into(), "route-emitter".into());
    Some(Endpoint {
        host: host.clone(),
        port,
        tls_port: (tls_port != 0).then_some(tls_port),
        app: desired.log_guid.clone(),
        instance_guid: actual.instance_guid.clone(),
        index: actual.index,
        tags,
        availability_zone: actual.availability_zone.clone(),
    })
}

fn public_address(actual: &Actual, container_port: u32) -> Option<(&String, u16, u16)> {
    let mapping = actual
        .ports
        .iter()
        .find(|port| port.container == container_port)?;
    let (host, port, tls_port) = if actual.prefer_instance {
        (
            &actual.instance_address,
            mapping.container,
            mapping.container_tls,
        )
    } else {
        (&actual.cell_address, mapping.host, mapping.host_tls)
    };
    let (port, tls_port) = (u16::try_from(port).ok()?, u16::try_from(tls_port).ok()?);
    (port != 0 || tls_port != 0).then_some((host, port, tls_port))
}
