//! Computes what a cell must send to the routers: desired routes × running instances → registrations, and their differences.
//!
//! This is the core of route-emitter, which feeds it the events of the BBS and sends the result. It is pure: no clock, no IO.
//!
//! ```text
//!  desired LRP (routes, instances) ─┐
//!                                   ├─▶ Table ──apply / sync──▶ Changes { register, unregister, starting }
//!  actual LRP (address, ports) ─────┘     └──registrations()──▶ everything, for the periodic emission
//! ```
//!
//! The table holds desired and actual LRPs and derives the registrations from them. It never patches registrations in place, so
//! the order of events cannot leave a trace. Diego's route-emitter learns some changes only with its next full emission (changed
//! options) and some never (an event older than a removal); this table is exact at once.

mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod unregistration_repeats;

pub use snapshot::{Marker, Snapshot};
pub use table::Table;
pub use unregistration_repeats::UnregistrationRepeats;

use std::collections::BTreeMap;
use std::sync::Arc;

/// The version of a row of the BBS. Within an epoch a higher index is newer; different epochs belong to different rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowVersion {
    pub epoch: String,
    pub index: u32,
}

impl RowVersion {
    /// Returns whether `self` is an older version of the same row as `other`.
    fn is_older_than(&self, other: &Self) -> bool {
        !self.epoch.is_empty() && self.epoch == other.epoch && self.index < other.index
    }
}

/// The receivers of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// Routers receive the route: a request from outside reaches one port of a process through the cell.
    #[default]
    Routers,
    /// The name servers of containers receive it: the name stands for the containers' own addresses, and no router learns it.
    Containers,
}

/// A hostname with an optional path that leads to one port of a process, or, for containers, to the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    pub audience: Audience,
    pub uri: String,
    /// The port of the container; 0 in routes for containers, which choose the port themselves.
    pub container_port: u32,
    pub route_service_url: String,
    pub isolation_segment: String,
    pub protocol: String,
    /// The options as the text of a JSON object in one canonical spelling. This crate does not parse them.
    pub options: Option<String>,
    /// The number of the route's last change, as the desired LRP contains it. A new number is a new registration, so that routers can
    /// confirm the change.
    pub generation: Option<u64>,
}

/// The value of a metric tag.
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
    /// The guid of the app.
    pub log_guid: String,
    /// The number of wanted instances. An instance with this index or a higher one is surplus and gets no route.
    pub instances: u32,
    pub routes: Vec<Arc<Route>>,
    pub metric_tags: BTreeMap<String, TagValue>,
    pub tag: RowVersion,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    pub container: u32,
    pub host: u32,
    /// The container's port with TLS; 0 means that there is none.
    pub container_tls: u32,
    pub host_tls: u32,
}

/// One instance as the BBS reports it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actual {
    pub process_guid: String,
    pub index: u32,
    pub instance_guid: String,
    /// Whether this is the row of an instance that leaves the cell. Such a row exists beside the ordinary one.
    pub evacuating: bool,
    /// Whether the instance runs and is not marked as not routable.
    pub routable: bool,
    /// Whether the instance is placed on a cell but does not run yet.
    pub starting: bool,
    pub cell_address: String,
    pub instance_address: String,
    /// Whether routers shall connect to the container itself and not to the cell.
    pub prefer_instance: bool,
    /// The port mappings in the order of the BBS. When two of them map the same container port, the first counts.
    pub ports: Vec<Port>,
    pub availability_zone: String,
    /// The time at which the instance entered its state, in Unix nanoseconds.
    pub since_ns: i64,
    pub tag: RowVersion,
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

/// The identity of one row of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActualKey {
    pub process_guid: String,
    pub instance_guid: String,
    pub evacuating: bool,
}

/// A change of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    DesiredSet(Desired),
    /// More instances than before are wanted: they wait for a cell, maybe for this one.
    InstancesWanted {
        process_guid: String,
    },
    DesiredRemoved {
        process_guid: String,
        tag: RowVersion,
    },
    ActualSet(Actual),
    ActualRemoved {
        key: ActualKey,
        tag: RowVersion,
    },
}

/// An endpoint as its cell publishes it: the address of one instance's port, and the identity of the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmittedEndpoint {
    pub host: String,
    /// The port; 0 means that only the TLS port serves, or, for containers, that any port may.
    pub port: u16,
    pub tls_port: Option<u16>,
    pub app: String,
    /// The instance guid, which is also the name in the instance's certificate.
    pub instance_guid: String,
    pub index: u32,
    pub tags: BTreeMap<String, String>,
    pub availability_zone: String,
}

impl EmittedEndpoint {
    /// Returns the port by which routers distinguish endpoints of one host.
    fn effective_port(&self) -> u16 {
        self.tls_port.unwrap_or(self.port)
    }
}

/// A route to an endpoint: one `router.register` message.
#[derive(Clone, Debug)]
pub struct Registration {
    pub route: Arc<Route>,
    pub endpoint: Arc<EmittedEndpoint>,
    /// The time since which the instance runs, in Unix nanoseconds. Comparisons ignore it.
    pub since_ns: i64,
}

impl PartialEq for Registration {
    fn eq(&self, other: &Self) -> bool {
        self.route == other.route && self.endpoint == other.endpoint
    }
}

/// The key of a registration. Two registrations with equal keys are the same entry of a router's table.
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

/// Registrations, each under the key by which routers know it.
pub type Registrations = BTreeMap<RegistrationKey, Registration>;

/// The messages to send. Registrations go first, so that a route that moves always has an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub register: Vec<Registration>,
    pub unregister: Vec<Registration>,
    /// Whether the app does not want what is unregistered any more: it lost the route, or wants fewer instances. Otherwise instances
    /// ended, and the next ones may follow.
    pub withdrawn: bool,
    /// Whether the registrations are of an instance that just became routable. The propagation is measured from its age then.
    pub new_endpoint: bool,
    /// The uris to announce at once: instances are starting, and none is registered here.
    pub starting: Vec<String>,
    /// Whether the last instance here has left a process that still wants instances, so that one may wait for a cell.
    pub wanted: bool,
}

impl Changes {
    /// Returns whether there is no registration and no unregistration.
    pub fn is_empty(&self) -> bool {
        self.register.is_empty() && self.unregister.is_empty()
    }

    /// Applies the changes to the registrations as a router would.
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

/// Returns the changes from `from` to `to`. Law: applied to `from` they give `to`.
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
        ..Changes::default()
    }
}

/// Returns the registrations of one process. When two instances claim the same address, the younger one gets it, because the row
/// of the older one is outdated and not yet removed.
pub fn derive<'a>(
    desired: &Desired,
    actuals: impl IntoIterator<Item = &'a Actual>,
) -> Registrations {
    let mut registrations = Registrations::new();
    let live = actuals
        .into_iter()
        .filter(|actual| actual.routable && actual.index < desired.instances);
    for actual in live {
        let mut endpoints: BTreeMap<(Audience, u32), Option<Arc<EmittedEndpoint>>> =
            BTreeMap::new();
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

/// Returns the endpoint of an instance for a route. `None` means that the container port is not reachable from outside or that
/// the container has no address yet.
fn endpoint(desired: &Desired, actual: &Actual, route: &Route) -> Option<EmittedEndpoint> {
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
    Some(EmittedEndpoint {
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
