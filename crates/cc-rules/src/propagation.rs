//! Judges how far a change of a route has come: which routers there are, what each of them serves of the route, and whether that is
//! what users want.
//!
//! The Cloud Controller feeds it what the bus brings ([`Propagation::present`], [`Propagation::served`]) and what it did itself
//! ([`Propagation::stored`], [`Propagation::desired`]), and asks for a verdict. The state is bounded: of routes and changes the newest
//! [`MOST`] are kept, and whoever needs an older one asks the routers again.
//!
//! Durations are measured by the clock of the Cloud Controller, from the commit of a change to the arrival of a router's receipt,
//! because the clocks of two machines differ by more than a route needs. Only where a change waited for an instance to start does
//! the emitter's clock count.

mod verdict;

#[cfg(test)]
mod tests;

pub use verdict::{RouterState, RouterVerdict, State, Verdict};

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};
use wire::router::receipts::{AppliedChange, Receipts, ServedProcess};

/// The number of routes and of changes that are kept.
pub const MOST: usize = 10_000;
/// A router that left this many greetings unanswered, and for [`SILENCE`], is silent.
const UNANSWERED: u32 = 3;
const SILENCE: Duration = Duration::from_secs(1);
/// The time after which a silent router is forgotten.
const GONE: Duration = Duration::from_secs(60);
/// The longest time from a change to its receipt. A later receipt is about something else, such as an instance that crashed.
const LATEST_NS: u64 = 60_000_000_000;
/// The time after which a change that an emitter knows has waited for an instance.
const WAITED_NS: u64 = 1_000_000_000;
/// The time for which a receipt counts: a router also loses endpoints without a change of the route.
const FRESH: Duration = Duration::from_secs(2);
/// The time within which a router that is new here confirms something, if it ever does.
const INTRODUCTION: Duration = Duration::from_secs(1);

/// Everything that is known of routers, routes and changes.
#[derive(Debug, Default)]
pub struct Propagation {
    routers: BTreeMap<String, Router>,
    /// The services of the routers, by the normal form of a route's uri.
    routes: Newest<String, BTreeMap<String, Service>>,
    /// The changes that this Cloud Controller made, by the guid of the route.
    changes: Newest<String, Change>,
}

/// A router, as it answers greetings.
#[derive(Debug)]
struct Router {
    hosts: Vec<String>,
    /// Whether it has ever sent a receipt. An original router never does.
    confirms: bool,
    known_since: Instant,
    seen_at: Instant,
    /// The number of greetings since its last answer.
    unanswered: u32,
}

/// The part of a route that one router serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Service {
    processes: Vec<ServedProcess>,
    /// The time of the first receipt with these processes in these generations, in Unix nanoseconds.
    since_ns: u64,
    /// The time at which the change that this receipt confirmed was published.
    emitted_at_ns: Option<u64>,
    /// The time of the last receipt.
    seen_at: Option<Instant>,
    change: Option<AppliedChange>,
}

/// A change of a route with the times of its first hops, in Unix nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub generation: u64,
    pub stored_at_ns: u64,
    /// The time at which the BBS had it.
    pub desired_at_ns: Option<u64>,
}

/// The state that users want of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub route_guid: String,
    /// The normal form of the route's uri.
    pub uri: String,
    /// The generation of the route's last change; 0 if it has none.
    pub generation: u64,
    /// The processes that should run and to which the route leads, each with the generation of its destination.
    pub processes: BTreeMap<String, u64>,
}

impl Propagation {
    /// Records that a router is there: it started, or it answered a greeting.
    pub fn present(&mut self, id: &str, hosts: Vec<String>, now: Instant) {
        let router = self.router(id, now);
        router.hosts = hosts;
        router.unanswered = 0;
        router.seen_at = now;
    }

    /// Records that all routers were greeted. Routers that have been silent for long are forgotten.
    pub fn greeted(&mut self, now: Instant) {
        self.routers.retain(|_, router| {
            router.unanswered += 1;
            !router.is_silent(now) || now.duration_since(router.seen_at) < GONE
        });
    }

    /// Records receipts of a router.
    pub fn served(&mut self, receipts: Receipts, now: Instant, now_ns: u64) {
        let router = self.router(&receipts.router, now);
        router.confirms = true;
        router.unanswered = 0;
        router.seen_at = now;
        for receipt in receipts.routes {
            let services = self.routes.entry(receipt.uri);
            let service = services.entry(receipts.router.clone()).or_default();
            if service.since_ns == 0 || !is_same_state(&service.processes, &receipt.processes) {
                service.since_ns = now_ns;
                let change = receipt.change.as_ref();
                service.emitted_at_ns = change.map(|change| change.emitted_at_ns);
            }
            service.processes = receipt.processes;
            service.seen_at = Some(now);
            if receipt.change.is_some() {
                service.change = receipt.change;
            }
        }
    }

    /// Records that a change of a route was committed.
    pub fn stored(&mut self, route_guid: &str, generation: u64, now_ns: u64) {
        *self.changes.entry(route_guid.to_owned()) = Change {
            generation,
            stored_at_ns: now_ns,
            desired_at_ns: None,
        };
    }

    /// Records that the BBS has the change.
    pub fn desired(&mut self, route_guid: &str, generation: u64, now_ns: u64) {
        let change = self.changes.get_mut(route_guid);
        if let Some(change) = change.filter(|change| change.generation == generation) {
            change.desired_at_ns.get_or_insert(now_ns);
        }
    }

    /// Judges how far the last change of the route has come.
    pub fn judge(&self, wish: &Wish, now: Instant) -> Verdict {
        let change = self.changes.get(&wish.route_guid);
        let change = change.filter(|change| change.generation == wish.generation);
        let services = self.routes.get(&wish.uri);
        let routers = self.routers.iter().map(|(id, router)| {
            let service = services.and_then(|services| services.get(id));
            router.judge(id, service, wish, change, now)
        });
        Verdict::new(wish, change.cloned(), routers.collect())
    }

    /// Returns the routers that are there, whether they confirm or not.
    pub fn routers(&self) -> BTreeSet<&str> {
        self.routers.keys().map(String::as_str).collect()
    }

    fn router(&mut self, id: &str, now: Instant) -> &mut Router {
        self.routers.entry(id.to_owned()).or_insert_with(|| Router {
            hosts: Vec::new(),
            confirms: false,
            known_since: now,
            seen_at: now,
            unanswered: 0,
        })
    }
}

impl Router {
    fn is_silent(&self, now: Instant) -> bool {
        self.unanswered >= UNANSWERED && now.duration_since(self.seen_at) >= SILENCE
    }

    fn judge(
        &self,
        id: &str,
        service: Option<&Service>,
        wish: &Wish,
        change: Option<&Change>,
        now: Instant,
    ) -> RouterVerdict {
        let is_fresh = |service: &&Service| {
            let seen_at = service.seen_at;
            seen_at.is_some_and(|at| now.duration_since(at) < FRESH)
        };
        let service = service.filter(is_fresh);
        let missing = match service {
            Some(service) => service.missing(wish),
            None => vec!["it has not answered yet".to_owned()],
        };
        let is_new = now.duration_since(self.known_since) < INTRODUCTION;
        let state = if self.is_silent(now) {
            RouterState::Silent
        } else if !self.confirms && !is_new {
            RouterState::Unconfirmed
        } else if !missing.is_empty() {
            RouterState::Pending
        } else if wish.processes.is_empty() {
            RouterState::Gone
        } else {
            RouterState::Live
        };
        let is_done = matches!(state, RouterState::Live | RouterState::Gone);
        let after = service.zip(change).filter(|_| is_done);
        RouterVerdict {
            id: id.to_owned(),
            hosts: self.hosts.clone(),
            state,
            processes: service.map_or_else(Vec::new, |service| service.processes.clone()),
            confirmed_at_ns: service.filter(|_| is_done).map(|service| service.since_ns),
            after_ns: after
                .and_then(|(service, change)| service.since_ns.checked_sub(service.begin(change)))
                .filter(|after| *after < LATEST_NS),
            applied: service.and_then(|service| service.change.clone()),
            missing: if state == RouterState::Pending {
                missing
            } else {
                Vec::new()
            },
        }
    }
}

impl Service {
    /// Returns when the change could begin to travel to the router: at its commit, or, if no instance ran for long after that, when
    /// the emitter published the first one.
    fn begin(&self, change: &Change) -> u64 {
        let known = change.desired_at_ns.unwrap_or(change.stored_at_ns);
        let waited = |at: &u64| *at > known + WAITED_NS && *at <= self.since_ns;
        let emitted = self.emitted_at_ns.filter(waited);
        emitted.unwrap_or(change.stored_at_ns)
    }

    /// Returns what the router lacks or has too much, one sentence each.
    fn missing(&self, wish: &Wish) -> Vec<String> {
        let mut missing = Vec::new();
        for (process, generation) in &wish.processes {
            let served = self.processes.iter().find(|p| p.process == *process);
            match served {
                None => missing.push(format!("it serves no instance of process {process}")),
                Some(served) if served.generation < *generation => missing.push(format!(
                    "it serves process {process} as of generation {}, not {generation}",
                    served.generation
                )),
                Some(_) => {}
            }
        }
        for served in &self.processes {
            // An endpoint without a process is none of an app, and no change of a route concerns it.
            if !served.process.is_empty() && !wish.processes.contains_key(&served.process) {
                missing.push(format!(
                    "it still serves process {} ({} endpoints)",
                    served.process, served.endpoints
                ));
            }
        }
        missing
    }
}

/// Returns whether both lists have the same processes in the same generations. The number of endpoints may differ.
fn is_same_state(one: &[ServedProcess], other: &[ServedProcess]) -> bool {
    let state = |served: &ServedProcess| (served.process.clone(), served.generation);
    one.iter().map(state).eq(other.iter().map(state))
}

/// A map that keeps the newest [`MOST`] entries.
#[derive(Debug)]
struct Newest<K, V> {
    entries: HashMap<K, V>,
    /// The keys in the order in which they came.
    order: VecDeque<K>,
}

impl<K, V> Default for Newest<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Hash + Eq + Clone, V: Default> Newest<K, V> {
    fn entry(&mut self, key: K) -> &mut V {
        if !self.entries.contains_key(&key) {
            if self.entries.len() >= MOST
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        self.entries.entry(key).or_default()
    }

    fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.get(key)
    }

    fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.get_mut(key)
    }
}
