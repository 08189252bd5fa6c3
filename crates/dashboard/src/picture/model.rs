//! The state of the foundation as its components show it: what the BBS has, what runs, what each router's table has, and what the bus
//! carries. The picture and all lists are made from it.

use super::step::Micros;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wire::bbs::{ActualLrp, CellPresence, DesiredLrp, PortMapping};
use wire::lrp_routes::{CF_ROUTER, CfRoute};

/// The state of everything.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// The desired LRPs by process guid.
    pub(crate) desired: BTreeMap<String, Desired>,
    pub(crate) instances: BTreeMap<InstanceKey, Instance>,
    /// The cells that are present, by their ids.
    pub(crate) cells: BTreeMap<String, Cell>,
    /// The routers whose pages are read, by their names.
    pub(crate) routers: BTreeMap<String, Router>,
    /// The routers that announced themselves or confirmed something on the bus, by their ids.
    pub(crate) announced: BTreeMap<String, Announced>,
    /// The emitters that published a digest, by their names.
    pub(crate) emitters: BTreeMap<String, Emitter>,
    pub(crate) bus: Bus,
    pub(crate) sources: BTreeMap<String, Source>,
    /// The last failing request of each host, by the host.
    pub(crate) failing: BTreeMap<String, Failing>,
    /// The time of the last change of each app, by its guid.
    pub(crate) touched: BTreeMap<String, Micros>,
    /// The names of apps by their guids, also of those that were removed since the whole state was read.
    names: BTreeMap<String, String>,
    /// The process guids of instances by their guids, also of some that have ended.
    processes: BTreeMap<String, String>,
    /// The apps whose desired LRPs were removed, newest last. The end of their instances is still to come.
    gone: VecDeque<Desired>,
}

/// A desired LRP.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Desired {
    pub(crate) process_guid: String,
    pub(crate) app_guid: String,
    pub(crate) app_name: String,
    pub(crate) space: String,
    pub(crate) organization: String,
    pub(crate) instances: i32,
    pub(crate) routes: Vec<DesiredRoute>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DesiredRoute {
    pub(crate) uri: String,
    pub(crate) port: u32,
    pub(crate) generation: u64,
    /// Whether only the routers of an isolation segment take the route.
    pub(crate) is_isolated: bool,
}

/// The process guid, the index and the presence: an instance that is evacuated stands beside its successor.
pub(crate) type InstanceKey = (String, i32, i32);

/// An actual LRP.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Instance {
    pub(crate) process_guid: String,
    pub(crate) index: i32,
    pub(crate) instance_guid: String,
    pub(crate) cell_id: String,
    pub(crate) state: String,
    pub(crate) is_routable: bool,
    pub(crate) presence: i32,
    /// The address of the cell.
    pub(crate) address: String,
    /// The address of the container.
    pub(crate) container: String,
    pub(crate) ports: Vec<PortMapping>,
    pub(crate) since: Micros,
    pub(crate) crash_count: i32,
    pub(crate) crash_reason: String,
    pub(crate) placement_error: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cell {
    pub(crate) id: String,
    pub(crate) zone: String,
    pub(crate) rep_url: String,
    pub(crate) memory_mb: i32,
    pub(crate) disk_mb: i32,
    pub(crate) containers: i32,
}

/// A router and its table: the endpoints of each route by their addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Router {
    pub(crate) id: String,
    pub(crate) table: BTreeMap<String, BTreeMap<String, Endpoint>>,
    pub(crate) last_change: Option<Micros>,
    pub(crate) changes: u64,
    /// The time from which on the router can show its table.
    pub(crate) since: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) instance_guid: String,
    pub(crate) app_guid: String,
    pub(crate) component: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Announced {
    pub(crate) hosts: Vec<String>,
    pub(crate) seen: Micros,
    /// The time of the last receipt; `None`: the router confirms nothing.
    pub(crate) confirmed: Option<Micros>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Emitter {
    pub(crate) registrations: u64,
    pub(crate) seen: Micros,
}

/// A request that a router itself answered with an error, and how many there were lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failing {
    pub(crate) at: Micros,
    pub(crate) router: String,
    pub(crate) status: u16,
    pub(crate) error: String,
    pub(crate) path: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Bus {
    pub(crate) messages: u64,
    pub(crate) last: Option<Micros>,
}

/// A component that is followed: whether that works, since when, and why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) since: Micros,
    pub(crate) problem: Option<String>,
}

/// The time after which a router or an emitter that is silent counts as gone. Routers are greeted every 5 s, and emitters publish a
/// digest as often.
const SILENT: Micros = 20_000_000;
/// The number of removed desired LRPs that are kept.
const GONE: usize = 256;
/// The number of apps whose last change is kept.
const TOUCHED: usize = 50_000;
/// The number of instances whose processes are known at which those that have ended are forgotten.
const PROCESSES: usize = 200_000;
/// The time for which a failing request counts.
const FAILED: Micros = 30_000_000;
/// The number of hosts whose failing requests are kept.
const HOSTS: usize = 10_000;

impl Model {
    /// Replaces everything that the BBS has.
    pub(crate) fn replace(&mut self, desired: &[DesiredLrp], actual: &[ActualLrp]) {
        self.desired.clear();
        self.names.clear();
        for lrp in desired.iter().map(Desired::of) {
            self.desire(lrp);
        }
        self.instances.clear();
        self.processes.clear();
        for lrp in actual.iter().filter_map(Instance::of) {
            self.add_instance(lrp);
        }
    }

    pub(crate) fn replace_cells(&mut self, cells: &[CellPresence]) {
        let cells = cells.iter().map(Cell::of);
        self.cells = cells.map(|cell| (cell.id.clone(), cell)).collect();
    }

    /// Adds or replaces a desired LRP.
    pub(crate) fn desire(&mut self, lrp: Desired) {
        if self.names.get(&lrp.app_guid) != Some(&lrp.app_name) {
            self.names
                .insert(lrp.app_guid.clone(), lrp.app_name.clone());
        }
        self.desired.insert(lrp.process_guid.clone(), lrp);
    }

    /// Adds an instance, or its new state.
    pub(crate) fn add_instance(&mut self, lrp: Instance) {
        if self.processes.len() >= PROCESSES {
            self.processes.clear();
            let known = self.instances.values();
            let known = known.map(|own| (own.instance_guid.clone(), own.process_guid.clone()));
            self.processes = known.collect();
        }
        if !lrp.instance_guid.is_empty() && !self.processes.contains_key(&lrp.instance_guid) {
            self.processes
                .insert(lrp.instance_guid.clone(), lrp.process_guid.clone());
        }
        self.instances.insert(lrp.key(), lrp);
    }

    /// Returns the process guid of an instance; empty if it is not known.
    pub(crate) fn process_of(&self, instance_guid: &str) -> &str {
        self.processes.get(instance_guid).map_or("", String::as_str)
    }

    /// Removes a desired LRP.
    pub(crate) fn remove_desired(&mut self, process_guid: &str) {
        if let Some(lrp) = self.desired.remove(process_guid) {
            if self.gone.len() >= GONE {
                self.gone.pop_front();
            }
            self.gone.push_back(lrp);
        }
    }

    /// Returns the desired LRP of a process, also if it was removed lately.
    pub(crate) fn app_of(&self, process_guid: &str) -> Option<&Desired> {
        let gone = || {
            self.gone
                .iter()
                .rev()
                .find(|lrp| lrp.process_guid == process_guid)
        };
        self.desired.get(process_guid).or_else(gone)
    }

    /// Records that something of an app changed.
    pub(crate) fn touch(&mut self, app_guid: &str, at: Micros) {
        if self.touched.len() >= TOUCHED {
            self.touched
                .retain(|_, last| last.saturating_add(SILENT) > at);
        }
        if !app_guid.is_empty() && self.touched.len() < TOUCHED {
            self.touched.insert(app_guid.to_owned(), at);
        }
    }

    /// Returns the name of an app; empty if it had no desired LRP.
    pub(crate) fn app_name(&self, app_guid: &str) -> &str {
        self.names.get(app_guid).map_or("", String::as_str)
    }

    /// Records a failing request.
    pub(crate) fn fail(&mut self, host: &str, failing: Failing) {
        let now = failing.at;
        if self.failing.len() >= HOSTS {
            self.failing
                .retain(|_, known| known.at.saturating_add(FAILED) > now);
        }
        if self.failing.len() < HOSTS {
            self.failing.insert(host.to_owned(), failing);
        }
    }

    /// Returns the last request to the host of a URI that failed a moment ago.
    pub(crate) fn failed(&self, uri: &str, now: Micros) -> Option<&Failing> {
        let host = uri.split('/').next().unwrap_or_default();
        let known = self.failing.get(host)?;
        let is_below = uri
            .split_once('/')
            .is_none_or(|(_, path)| known.path.trim_start_matches('/').starts_with(path));
        (is_below && known.at.saturating_add(FAILED) > now).then_some(known)
    }

    /// Returns the ids of the routers that confirm changes and are not silent.
    pub(crate) fn confirming(&self, now: Micros) -> BTreeSet<String> {
        let live = self.announced.iter().filter(|(_, router)| {
            router.confirmed.is_some() && router.seen.saturating_add(SILENT) > now
        });
        live.map(|(id, _)| id.clone()).collect()
    }

    /// Forgets routers and emitters that have been silent for long, so that these lists stay short.
    pub(crate) fn forget_silent(&mut self, now: Micros) {
        let lives = |seen: Micros| seen.saturating_add(6 * SILENT) > now;
        self.announced.retain(|_, router| lives(router.seen));
        self.emitters.retain(|_, emitter| lives(emitter.seen));
    }

    /// Returns the emitters that are not silent.
    pub(crate) fn live_emitters(&self, now: Micros) -> impl Iterator<Item = &Emitter> {
        let live = move |emitter: &&Emitter| emitter.seen.saturating_add(SILENT) > now;
        self.emitters.values().filter(live)
    }

    pub(crate) fn set_source(&mut self, name: &str, problem: Option<String>, now: Micros) {
        let known = self.sources.get(name);
        let is_same = known.is_some_and(|known| known.problem.is_some() == problem.is_some());
        let since = known.filter(|_| is_same).map_or(now, |known| known.since);
        self.sources
            .insert(name.to_owned(), Source { since, problem });
    }
}

impl Desired {
    pub(crate) fn of(lrp: &DesiredLrp) -> Self {
        let tag = |name: &str| {
            let tag = lrp.metric_tags.get(name);
            tag.map_or_else(String::new, |tag| tag.static_value.clone())
        };
        Self {
            process_guid: lrp.process_guid.clone(),
            app_guid: lrp.log_guid.clone(),
            app_name: tag("app_name"),
            space: tag("space_name"),
            organization: tag("organization_name"),
            instances: lrp.instances,
            routes: routes(lrp),
        }
    }

    /// Returns the URIs of its routes.
    pub(crate) fn uris(&self) -> BTreeSet<&str> {
        self.routes.iter().map(|route| route.uri.as_str()).collect()
    }
}

fn routes(lrp: &DesiredLrp) -> Vec<DesiredRoute> {
    let kinds = lrp.routes.as_ref().map(|routes| &routes.routes);
    let json = kinds.and_then(|kinds| kinds.get(CF_ROUTER));
    let routes = json.and_then(|json| serde_json::from_slice::<Option<Vec<CfRoute>>>(json).ok());
    let routes = routes.flatten().unwrap_or_default().into_iter();
    routes
        .flat_map(|route| {
            let (port, generation) = (route.port, route.generation.unwrap_or_default());
            let is_isolated = route.isolation_segment.is_some_and(|s| !s.is_empty());
            route.hostnames.into_iter().map(move |uri| DesiredRoute {
                uri: normal(&uri),
                port,
                generation,
                is_isolated,
            })
        })
        .collect()
}

/// Returns a URI as routers name it: in lower case, without outer slashes.
pub(crate) fn normal(uri: &str) -> String {
    uri.trim_matches('/').to_lowercase()
}

impl Instance {
    pub(crate) fn of(lrp: &ActualLrp) -> Option<Self> {
        let key = lrp.key.as_ref()?;
        let instance = lrp.instance_key.clone().unwrap_or_default();
        let net = lrp.net_info.clone().unwrap_or_default();
        Some(Self {
            process_guid: key.process_guid.clone(),
            index: key.index,
            instance_guid: instance.instance_guid,
            cell_id: instance.cell_id,
            state: lrp.state.clone(),
            is_routable: lrp.routable.unwrap_or(true),
            presence: lrp.presence,
            address: net.address,
            container: net.instance_address,
            ports: net.ports,
            since: u64::try_from(lrp.since / 1000).unwrap_or_default(),
            crash_count: lrp.crash_count,
            crash_reason: lrp.crash_reason.clone(),
            placement_error: lrp.placement_error.clone(),
        })
    }

    pub(crate) fn key(&self) -> InstanceKey {
        (self.process_guid.clone(), self.index, self.presence)
    }

    /// Returns whether requests may go to the instance.
    pub(crate) fn serves(&self) -> bool {
        self.state == wire::bbs::state::RUNNING && self.is_routable
    }

    /// Returns the address at which routers reach a port of the app: that of Envoy if there is one.
    pub(crate) fn endpoint(&self, port: u32) -> Option<String> {
        let mapping = self.ports.iter().find(|m| m.container_port == port)?;
        let host = match mapping.host_tls_proxy_port {
            0 => mapping.host_port,
            proxy => proxy,
        };
        (host != 0).then(|| format!("{}:{host}", self.address))
    }

    /// Returns the translation of the port at which routers reach the app, as `cell:port → container:port`.
    pub(crate) fn translation(&self, port: u32) -> Option<String> {
        let mapping = self.ports.iter().find(|m| m.container_port == port)?;
        let (host, inner) = match mapping.host_tls_proxy_port {
            0 => (mapping.host_port, mapping.container_port),
            proxy => (proxy, mapping.container_tls_proxy_port),
        };
        let (address, container) = (&self.address, &self.container);
        (host != 0).then(|| format!("{address}:{host} → {container}:{inner}"))
    }
}

impl Cell {
    fn of(cell: &CellPresence) -> Self {
        let capacity = cell.capacity.clone().unwrap_or_default();
        Self {
            id: cell.cell_id.clone(),
            zone: cell.zone.clone(),
            rep_url: match cell.rep_url.is_empty() {
                true => cell.rep_address.clone(),
                false => cell.rep_url.clone(),
            },
            memory_mb: capacity.memory_mb,
            disk_mb: capacity.disk_mb,
            containers: capacity.containers,
        }
    }
}

impl Endpoint {
    /// Reads an endpoint of the page `/routes`.
    pub(crate) fn of_table(row: &Value) -> Self {
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let tags = &row["tags"];
        Self {
            instance_guid: text(row, "private_instance_id"),
            app_guid: text(tags, "app_id"),
            component: text(tags, "component"),
        }
    }

    pub(crate) fn of_change(endpoint: &why::changes::Endpoint) -> Self {
        Self {
            instance_guid: endpoint.instance_id.clone(),
            app_guid: endpoint.application_id.clone(),
            component: endpoint.component.clone(),
        }
    }
}
