//! The router's routing table: uri → pool of endpoints.
//!
//! The router calls it: its NATS subscriber registers and unregisters, its pruner prunes, and every request looks up a pool. It
//! holds only what messages contained: it never dials, never reads a clock (`now` is an argument) and never logs.
//!
//! The table is split into shards by host, so that a registration delays few look-ups and a hundred thousand routes cost no more
//! per request than one. A look-up takes one read lock and clones one `Arc`. Endpoints are packed ([`texts`]), and a message that
//! was received before is not parsed again ([`Repeats`]).
//!
//! | Event | Effect on an endpoint | Effect on its pool |
//! |---|---|---|
//! | register | added, replaced (last writer wins), only refreshed, or too old to count | made if new |
//! | unregister | removed | gone with its last endpoint: 404; or only after a time in which the next one may come |
//! | silence for its threshold | removed; TLS: after a threshold of its own, or never ([`Registry::prune`]) | gone with its last endpoint: 404 |
//! | wrong certificate name | removed, even the last ([`Pool::fail`]) | stays empty: 503, until an endpoint registers or its time is over |
//! | other TLS or dial failure | removed, unless the last; else skipped for a while | never emptied |
//! | instances are starting | | made empty if new: requests may wait ([`Registry::announce_start`]) |
//!
//! [`ownership`] decides whose endpoints a host accepts at all.

mod attempts;
mod change;
mod endpoint;
mod history;
mod hosts;
mod maglev;
mod members;
mod modification_tag;
mod options;
mod ownership;
mod pick;
mod pool;
mod registration;
mod repeats;
mod served;
mod texts;
mod uri;
mod view;

pub use attempts::Attempts;
pub use change::{Change, ChangeKind, RefusedMessage, RouteChange};
pub use endpoint::{Endpoint, EndpointSpec, InFlight, Protocol, Spec, Tags};
pub use history::{Difference, Snapshot};
pub use modification_tag::{ModificationTag, TagView};
pub use options::{
    Balancing, Caller, PolicyScope, PolicySource, RouteOptions, RoutePolicy, Within,
};
pub use ownership::ComponentHosts;
pub use pick::{Instance, NoPick, Want};
pub use pool::{Consequence, Failure, Place, Pool};
pub use registration::Registration;
pub use repeats::{Fingerprint, Repeats};
pub use served::Served;
pub use uri::{RouteKey, request_host};
pub use view::MemberView;

use endpoint::KnownShapes;
use hosts::Hosts;
use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// The number of shards: many, so that a shard that grows is small. It is a power of two.
const SHARDS: usize = 1024;
/// The length of the longest name in the DNS. A longer host matches no wildcard.
const LONGEST_HOST: usize = 255;

/// The settings of a table, mostly how long its entries live.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The time after which a plain endpoint without a new registration is pruned. A registration may ask for a shorter one only.
    pub stale_threshold: Duration,
    /// The threshold of TLS endpoints. `None` means never, as with gorouter, where a cell whose emitter is away keeps its routes.
    pub stale_tls_threshold: Option<Duration>,
    /// The time for which a pool that lost its last endpoint by a failure answers 503 before it is forgotten.
    pub empty_pool_timeout: Duration,
    /// Whether a pool whose last endpoint was unregistered or pruned stays that long too, as in a gorouter with that time-out.
    pub keep_unregistered: bool,
    /// A number that makes the round robins of two routers start at different endpoints.
    pub seed: u64,
    /// The balancing of routes that do not ask for one: round robin or least connection.
    pub balancing: Balancing,
    /// The platform's own hosts: see [`ownership`]. `None` means that hosts have no owners, as with gorouter.
    pub components: Option<ComponentHosts>,
    /// The time after the unregistration of a route's last endpoint during which its next one is expected and requests may wait
    /// for it. Zero means that the route is gone at once.
    pub expect_successor: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stale_threshold: Duration::from_secs(120),
            stale_tls_threshold: None,
            empty_pool_timeout: Duration::from_secs(120),
            keep_unregistered: false,
            seed: 0,
            balancing: Balancing::RoundRobin,
            components: None,
            expect_successor: Duration::ZERO,
        }
    }
}

/// The result of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The endpoint was added. `new_route` means that it is the first of its pool.
    Added {
        new_route: bool,
    },
    Updated,
    /// The registration is the same as before, so only its time stamp moved.
    Refreshed,
    /// A newer version of the route was already known, so nothing changed, not even the time stamp.
    Unmodified,
    /// The host is a component's, and the endpoint is not.
    Refused,
}

/// The result of an unregistration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unregistered {
    Removed {
        route_gone: bool,
    },
    NotFound,
    /// The endpoint is a component's, and the message is not.
    Refused,
}

/// An endpoint that [`Registry::prune`] or [`Registry::evict_apps`] removed.
#[derive(Clone, Debug)]
pub struct Pruned {
    pub uri: String,
    pub endpoint: Arc<Endpoint>,
    pub route_gone: bool,
}

/// The state that all pools of one table share.
#[derive(Debug)]
struct Common {
    settings: Settings,
    epoch: Instant,
    suspended: AtomicBool,
    /// The number of registrations: an endpoint counts once for each of its uris.
    endpoints: AtomicUsize,
}

impl Common {
    /// Returns the tenths of a second since the table was made, beginning with 1.
    fn tick(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.epoch);
        u32::try_from(since.as_millis() / 100 + 1).unwrap_or(u32::MAX)
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Relaxed)
    }
}

/// The routing table, shared by all tasks that route. The module's table lists what changes it.
#[derive(Debug)]
pub struct Registry {
    shards: Box<[RwLock<Hosts>]>,
    hasher: RandomState,
    common: Arc<Common>,
    known_shapes: KnownShapes,
    routes: AtomicUsize,
    /// The keys of the hash that numbers peers. They are secret, so that nobody can construct a peer with the number of another.
    peers: [RandomState; 2],
    /// A lock that is held while a host's owner is looked up and an endpoint is registered there.
    ownership: Mutex<()>,
    /// The routes whose last endpoint was unregistered, each with the time at which it ends if no other endpoint comes; oldest
    /// first.
    leaving: Mutex<VecDeque<(u32, String)>>,
    updated_us: AtomicU64,
}

impl Registry {
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            common: Arc::new(Common {
                settings,
                epoch: now,
                suspended: AtomicBool::new(false),
                endpoints: AtomicUsize::new(0),
            }),
            known_shapes: KnownShapes::default(),
            routes: AtomicUsize::new(0),
            peers: [(); 2].map(|()| RandomState::new()),
            ownership: Mutex::default(),
            leaving: Mutex::default(),
            updated_us: AtomicU64::new(0),
        }
    }

    /// Makes one endpoint for all uris of a message, so that they share its counters.
    pub fn endpoint(&self, mut spec: EndpointSpec) -> Arc<Endpoint> {
        let longest = self.common.settings.stale_threshold;
        if spec.stale_threshold.is_zero() || spec.stale_threshold > longest {
            spec.stale_threshold = longest;
        }
        let transport = self.transport(&spec);
        Arc::new(Endpoint::new(&spec, &self.known_shapes, transport))
    }

    /// Returns one number for all registrations of the same instance at the same address, so that an app with a thousand routes
    /// needs no more connections than one with a single route. A server that belongs to no app stays the same peer as long as
    /// its address and its name are the same, whatever instance its registrations name.
    fn transport(&self, spec: &EndpointSpec) -> u128 {
        let instance = if spec.app_id.is_empty() {
            ""
        } else {
            &spec.instance_id
        };
        let peer = (
            (&spec.host, spec.port, spec.tls, spec.protocol.as_str()),
            &spec.server_cert_domain_san,
            (&spec.app_id, instance),
        );
        let [high, low] = self.peers.each_ref().map(|keys| keys.hash_one(peer));
        u128::from(high) << 64 | u128::from(low)
    }

    /// Puts an endpoint under a uri. The last writer wins, because NATS messages carry no order of their own. Registrations of a
    /// Routing API are ordered by their [`ModificationTag`].
    pub fn register(&self, uri: &str, endpoint: &Arc<Endpoint>, now: Instant) -> Registered {
        self.register_with_place(uri, &mut endpoint.clone(), now, now)
            .outcome
    }

    /// Puts an endpoint under a uri, as [`register`](Self::register), and returns its place in the table as well.
    /// `endpoint` becomes the one that the table holds. `changed_at` is the time at which the endpoint took its present state, as far
    /// as the message shows: of several endpoints the one that changed last determines the route's options.
    pub fn register_with_place(
        &self,
        uri: &str,
        endpoint: &mut Arc<Endpoint>,
        changed_at: Instant,
        now: Instant,
    ) -> Registration {
        let key = RouteKey::new(uri);
        if self.common.settings.components.is_none() {
            return self.register_under(&key, endpoint, changed_at, now);
        }
        let _one = self
            .ownership
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !endpoint.is_component() && self.is_of_component(&key) {
            return Registration::new(Registered::Refused, None);
        }
        self.register_under(&key, endpoint, changed_at, now)
    }

    fn register_under(
        &self,
        key: &RouteKey,
        endpoint: &mut Arc<Endpoint>,
        changed_at: Instant,
        now: Instant,
    ) -> Registration {
        self.touch(now);
        // While the shard is locked, even for reading, no other task can drop the pool.
        let at = self.hash(key.is_wildcard(), key.host_name());
        if let Some(pool) = self.read(at).pool(at, key) {
            return pool.register(endpoint, changed_at, now);
        }
        let fresh = Arc::new(Pool::new(key, self.common.clone()));
        let mut shard = self.write(at);
        if let Some(pool) = shard.pool(at, key) {
            return pool.register(endpoint, changed_at, now);
        }
        let registered = fresh.register(endpoint, changed_at, now);
        shard.insert(at, fresh, |pool| self.hash_of(pool));
        self.routes.fetch_add(1, Ordering::Relaxed);
        registered
    }

    /// Returns whether the host of a uri is a component's: because it is on the list, or because a component is registered there.
    fn is_of_component(&self, key: &RouteKey) -> bool {
        let Some(components) = &self.common.settings.components else {
            return false;
        };
        let has = |wildcard: bool, name: &str| {
            let at = self.hash(wildcard, name);
            let shard = self.read(at);
            shard
                .of_host(at, wildcard, name)
                .iter()
                .any(|pool| pool.has_component())
        };
        let (wildcard, name) = (key.is_wildcard(), key.host_name());
        if components.cover(key.host()) || has(wildcard, name) {
            return true;
        }
        let mut rest = name;
        while let Some((_, tail)) = rest.split_once('.') {
            if has(true, tail) {
                return true;
            }
            rest = tail;
        }
        false
    }

    /// Removes the endpoints of apps at the host of a uri under which a component has registered itself, at whatever path, and
    /// below its wildcard. Call it after the component's [`register_with_place`](Self::register_with_place). It does nothing without [`Settings::components`].
    pub fn evict_apps(&self, uri: &str, now: Instant) -> Vec<Pruned> {
        let mut evicted = Vec::new();
        if self.common.settings.components.is_none() {
            return evicted;
        }
        let key = RouteKey::new(uri);
        let (wildcard, name) = (key.is_wildcard(), key.host_name());
        let at = self.hash(wildcard, name);
        let mut pools: Vec<Arc<Pool>> = self.read(at).of_host(at, wildcard, name).to_vec();
        if wildcard {
            let below = |pool: &Pool| {
                let rest = pool.host().strip_suffix(name);
                rest.is_some_and(|rest| rest.ends_with('.') && rest != "*.")
            };
            self.each(|pool| {
                if below(pool) {
                    pools.push(pool.clone());
                }
            });
        }
        for pool in pools {
            let apps = pool.remove_apps(now);
            let route_gone = !apps.is_empty() && self.forget_over(pool.uri(), now);
            evicted.extend(apps.into_iter().map(|endpoint| Pruned {
                uri: pool.uri().to_owned(),
                endpoint,
                route_gone,
            }));
        }
        evicted
    }

    /// Removes the endpoint at `host:port` from a uri's pool, and the pool with its last endpoint.
    pub fn unregister(&self, uri: &str, address: &str, now: Instant) -> Unregistered {
        self.remove(uri, address, None, true, now)
    }

    /// Removes the endpoint that `spec` describes. Only a component's message can remove a component's endpoint. `expects` is whether
    /// the route may get its next endpoint soon ([`Settings::expect_successor`]).
    pub fn unregister_as(
        &self,
        spec: &EndpointSpec,
        uri: &str,
        expects: bool,
        now: Instant,
    ) -> Unregistered {
        let address = spec.address();
        if self.common.settings.components.is_some() && !spec.is_component() {
            let key = RouteKey::new(uri);
            let at = self.hash(key.is_wildcard(), key.host_name());
            let shard = self.read(at);
            let known = shard.pool(at, &key).and_then(|pool| pool.at(&address));
            if known.is_some_and(|endpoint| endpoint.is_component()) {
                return Unregistered::Refused;
            }
        }
        self.remove(uri, &address, None, expects, now)
    }

    /// Removes the endpoint at `address` only if it came from a Routing API as well and is not newer than `tag`.
    pub fn unregister_version(
        &self,
        uri: &str,
        address: &str,
        tag: &ModificationTag,
        now: Instant,
    ) -> Unregistered {
        self.remove(uri, address, Some(tag.as_view()), true, now)
    }

    fn remove(
        &self,
        uri: &str,
        address: &str,
        version: Option<TagView<'_>>,
        expects: bool,
        now: Instant,
    ) -> Unregistered {
        let key = RouteKey::new(uri);
        self.touch(now);
        let at = self.hash(key.is_wildcard(), key.host_name());
        let removed = match self.read(at).pool(at, &key) {
            None => return Unregistered::NotFound,
            Some(pool) => pool.remove(address, version, expects, now),
        };
        let route_gone = self.forget_if(&key, |pool| pool.is_over(now));
        match removed {
            None => Unregistered::NotFound,
            Some(_) => {
                if !route_gone && !self.common.settings.expect_successor.is_zero() {
                    let until = now + self.common.settings.expect_successor;
                    self.leaving()
                        .push_back((self.common.tick(until), key.uri().to_owned()));
                }
                Unregistered::Removed { route_gone }
            }
        }
    }

    /// Announces that instances of a route are starting: its pool exists until `until` even while it is empty. Returns false if
    /// the host is a component's, whose instances are never announced.
    pub fn announce_start(&self, uri: &str, until: Instant, now: Instant) -> bool {
        let key = RouteKey::new(uri);
        if self.is_of_component(&key) {
            return false;
        }
        self.announce_under(&key, until, now);
        true
    }

    fn announce_under(&self, key: &RouteKey, until: Instant, now: Instant) {
        let at = self.hash(key.is_wildcard(), key.host_name());
        if let Some(pool) = self.read(at).pool(at, key) {
            return pool.announce_start(until, now);
        }
        let fresh = Arc::new(Pool::new(key, self.common.clone()));
        fresh.announce_start(until, now);
        let mut shard = self.write(at);
        if let Some(pool) = shard.pool(at, key) {
            return pool.announce_start(until, now);
        }
        shard.insert(at, fresh, |pool| self.hash_of(pool));
        self.routes.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the pool of a request. `host` is as in the request (port and capitals allowed), `path` escaped, with or without
    /// query.
    pub fn lookup(&self, host: &str, path: &str) -> Option<Arc<Pool>> {
        let path = uri::request_path(path);
        uri::lowered(request_host(host), |host| {
            uri::lowered(path, |path| self.find(host, path))
        })
    }

    fn find(&self, host: &str, path: &str) -> Option<Arc<Pool>> {
        let in_shard = |wildcard: bool, name: &str| {
            let at = self.hash(wildcard, name);
            self.read(at).lookup(at, wildcard, name, path).cloned()
        };
        if let Some(pool) = in_shard(false, host) {
            return Some(pool);
        }
        if host.len() > LONGEST_HOST {
            return None;
        }
        // While a component is away, no wildcard route of an app serves its host.
        let components = self.common.settings.components.as_ref();
        let is_component = components.is_some_and(|components| components.cover(host));
        let mut rest = host;
        while let Some((_, tail)) = rest.split_once('.') {
            if let Some(pool) = in_shard(true, tail)
                && (!is_component || pool.has_component())
            {
                return Some(pool);
            }
            rest = tail;
        }
        None
    }

    /// Removes the endpoints whose threshold has passed without a registration, and the pools that stayed empty too long. It does
    /// nothing while pruning is suspended.
    pub fn prune(&self, now: Instant) -> Vec<Pruned> {
        let mut pruned = Vec::new();
        if self.pruning_suspended() {
            return pruned;
        }
        let mut pools = Vec::with_capacity(self.routes());
        self.each(|pool| pools.push(pool.clone()));
        for pool in pools {
            let stale = pool.remove_stale(now);
            let route_gone = pool.is_empty()
                && self.forget_if(&RouteKey::new(pool.uri()), |found| {
                    Arc::ptr_eq(found, &pool) && found.is_over(now)
                });
            pruned.extend(stale.into_iter().map(|endpoint| Pruned {
                uri: pool.uri().to_owned(),
                endpoint,
                route_gone,
            }));
        }
        pruned
    }

    /// Forgets a route whose pool is empty and over. Returns false if it is not, or if there is no such route.
    pub fn forget_over(&self, uri: &str, now: Instant) -> bool {
        self.forget_if(&RouteKey::new(uri), |pool| pool.is_over(now))
    }

    /// Forgets the routes whose last endpoint was unregistered and whose next one did not come, and returns them.
    pub fn forget_left(&self, now: Instant) -> Vec<String> {
        let mut forgotten = Vec::new();
        loop {
            let mut leaving = self.leaving();
            let is_due = |(until, _): &(u32, String)| *until <= self.common.tick(now);
            if !leaving.front().is_some_and(is_due) {
                return forgotten;
            }
            let due = leaving.pop_front();
            drop(leaving);
            forgotten.extend(
                due.map(|(_, uri)| uri)
                    .filter(|uri| self.forget_over(uri, now)),
            );
        }
    }

    fn leaving(&self) -> std::sync::MutexGuard<'_, VecDeque<(u32, String)>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Suspends pruning. While the bus is away no endpoint can be refreshed, so silence proves nothing.
    pub fn suspend_pruning(&self) {
        self.common.suspended.store(true, Ordering::Relaxed);
    }

    /// Resumes pruning when the bus is back. Every endpoint gets its whole threshold from now on to be registered again.
    pub fn resume_pruning(&self, now: Instant) {
        if self.pruning_suspended() {
            self.each(|pool| pool.refresh(now));
            self.common.suspended.store(false, Ordering::Relaxed);
        }
    }

    pub fn pruning_suspended(&self) -> bool {
        self.common.is_suspended()
    }

    /// Returns the number of uris.
    pub fn routes(&self) -> usize {
        self.routes.load(Ordering::Relaxed)
    }

    /// Returns the number of registrations: an endpoint counts once for each of its uris.
    pub fn endpoints(&self) -> usize {
        self.common.endpoints.load(Ordering::Relaxed)
    }

    /// Returns the time since the last message that changed or refreshed anything.
    pub fn since_update(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.common.epoch)
            .saturating_sub(Duration::from_micros(
                self.updated_us.load(Ordering::Relaxed),
            ))
    }

    /// Returns every uri and its pool, sorted by uri.
    pub fn snapshot(&self) -> Vec<(String, Arc<Pool>)> {
        let mut all = Vec::with_capacity(self.routes());
        self.each(|pool| all.push((pool.uri().to_owned(), pool.clone())));
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn each(&self, mut visit: impl FnMut(&Arc<Pool>)) {
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.pools().for_each(&mut visit);
        }
    }

    /// Drops a uri's pool if it is still empty and `wanted` holds for it.
    fn forget_if(&self, key: &RouteKey, wanted: impl Fn(&Arc<Pool>) -> bool) -> bool {
        let at = self.hash(key.is_wildcard(), key.host_name());
        // Most often there are endpoints left, and then this read lock delays no other task.
        if !self.read(at).pool(at, key).is_some_and(|p| p.is_empty()) {
            return false;
        }
        let gone = self
            .write(at)
            .remove_if(at, key, |pool| pool.is_empty() && wanted(pool));
        if gone {
            self.routes.fetch_sub(1, Ordering::Relaxed);
        }
        gone
    }

    fn touch(&self, now: Instant) {
        self.updated_us
            .store(self.common.micros(now), Ordering::Relaxed);
    }

    fn hash(&self, wildcard: bool, host_name: &str) -> u64 {
        use std::hash::BuildHasher as _;
        self.hasher.hash_one((wildcard, host_name))
    }

    fn hash_of(&self, pool: &Pool) -> u64 {
        match pool.host().strip_prefix("*.") {
            Some(name) => self.hash(true, name),
            None => self.hash(false, pool.host()),
        }
    }

    fn read(&self, hash: u64) -> RwLockReadGuard<'_, Hosts> {
        self.shards[shard(hash)]
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, hash: u64) -> RwLockWriteGuard<'_, Hosts> {
        self.shards[shard(hash)]
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the shard of a hash. The hash tables within the shards use the other bits.
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

#[cfg(test)]
mod ownership_tests;
#[cfg(test)]
mod pick_tests;
#[cfg(test)]
mod registration_tests;
#[cfg(test)]
mod tests;
