//! The router's routing table: uri → pool of endpoints.
//!
//! Called by the router: its NATS subscriber registers and unregisters, its pruner prunes, and every request looks up.
//! Holds only what it was told: it never dials, never reads a clock (`now` comes in) and never logs.
//!
//! The table is split into shards by host, so that a registration holds up few look-ups and a hundred thousand
//! routes cost no more per request than one. A look-up takes one read lock and clones one `Arc`. Endpoints are packed
//! ([`texts`]); a message that was heard before costs no parsing ([`Repeats`]).
//!
//! | Event | Effect on an endpoint | Effect on its pool |
//! |---|---|---|
//! | register | added, replaced (last writer wins), only refreshed, or too old to count | made if new |
//! | unregister | removed | gone with its last endpoint: 404; or after a while in which its next one may come |
//! | silence for its threshold | removed; TLS: after a threshold of its own, or never ([`Registry::prune`]) | gone with its last endpoint: 404 |
//! | wrong certificate name | removed, even the last ([`Pool::fail`]) | stays empty: 503, until it registers again or the time is up |
//! | other TLS or dial failure | removed, unless the last; else skipped for a while | never emptied |
//! | instances are starting | | made empty if new: requests may wait ([`Registry::announce_start`]) |
//!
//! Whose endpoints a host takes at all is [`ownership`]'s.

mod attempts;
mod endpoint;
mod hosts;
mod maglev;
mod members;
mod modification_tag;
mod options;
mod ownership;
mod pick;
mod pool;
mod repeats;
mod texts;
mod uri;

pub use attempts::Attempts;
pub use endpoint::{Endpoint, EndpointSpec, InFlight, Protocol, Spec, Tags};
pub use modification_tag::{ModificationTag, Version};
pub use options::{
    Balancing, Caller, PolicyScope, PolicySource, RouteOptions, RoutePolicy, Within,
};
pub use ownership::ComponentHosts;
pub use pick::{Instance, NoPick, Want};
pub use pool::{Consequence, Failure, Place, Pool};
pub use repeats::{Fingerprint, Repeats};
pub use uri::{RouteKey, request_host};

use endpoint::KnownTags;
use hosts::Hosts;
use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// A power of two. Many, so that a shard that grows is small.
const SHARDS: usize = 1024;
/// No name in the DNS is longer; what is longer has no wildcard.
const LONGEST_HOST: usize = 255;

/// How long things live.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A plain endpoint that was not heard of for this long is pruned; the most that a registration may ask for.
    pub stale_threshold: Duration,
    /// The same for TLS endpoints. `None`: never, as with gorouter, where a cell whose emitter is away keeps its routes.
    pub stale_tls_threshold: Option<Duration>,
    /// How long a pool that lost its last endpoint by a failure answers 503 before it is forgotten.
    pub empty_pool_timeout: Duration,
    /// A pool whose last endpoint was unregistered or pruned stays that long too, as a gorouter with that time-out keeps it.
    pub keep_unregistered: bool,
    /// Makes the round robin of two routers start at different endpoints.
    pub seed: u64,
    /// Of routes that do not say otherwise: round robin or least connection.
    pub balancing: Balancing,
    /// The platform's own hosts: see [`ownership`]. `None`: no host is anybody's, as with gorouter.
    pub components: Option<ComponentHosts>,
    /// So long after a route's last endpoint was unregistered its next one is expected, and requests may wait for it. Zero:
    /// the route is gone at once.
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

/// What a registration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// `new_route`: the first endpoint of its pool.
    Added {
        new_route: bool,
    },
    Updated,
    /// The same as before: only its time stamp moved.
    Refreshed,
    /// A newer version of the route was known already: nothing changed, not even its time stamp.
    Unmodified,
    /// The host is a component's, and the endpoint is not.
    Refused,
}

/// What an unregistration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unregistered {
    Removed {
        route_gone: bool,
    },
    NotFound,
    /// The endpoint is a component's, and the message is not.
    Refused,
}

/// An endpoint that [`Registry::prune`] took out.
#[derive(Clone, Debug)]
pub struct Pruned {
    pub uri: String,
    pub endpoint: Arc<Endpoint>,
    pub route_gone: bool,
}

/// What all pools of one table share.
#[derive(Debug)]
struct Common {
    settings: Settings,
    epoch: Instant,
    suspended: AtomicBool,
    /// Registrations: an endpoint counts once for each of its uris.
    endpoints: AtomicUsize,
}

impl Common {
    /// Tenths of a second since the table was made, beginning with 1.
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

/// The table. Shared by all who route; see the module's table for what changes it.
#[derive(Debug)]
pub struct Registry {
    shards: Box<[RwLock<Hosts>]>,
    hasher: RandomState,
    common: Arc<Common>,
    known_tags: KnownTags,
    routes: AtomicUsize,
    /// Secret, so that nobody can make up a peer with another's number.
    peers: [RandomState; 2],
    /// Held while a host's owner is looked for and an endpoint is put there.
    ownership: Mutex<()>,
    /// Routes whose last endpoint was unregistered, and when they are over if no other comes; oldest first.
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
            known_tags: KnownTags::default(),
            routes: AtomicUsize::new(0),
            peers: [(); 2].map(|()| RandomState::new()),
            ownership: Mutex::default(),
            leaving: Mutex::default(),
            updated_us: AtomicU64::new(0),
        }
    }

    /// One endpoint for all uris of a message: they share its counters.
    pub fn endpoint(&self, mut spec: EndpointSpec) -> Arc<Endpoint> {
        let longest = self.common.settings.stale_threshold;
        if spec.stale_threshold.is_zero() || spec.stale_threshold > longest {
            spec.stale_threshold = longest;
        }
        let transport = self.transport(&spec);
        Arc::new(Endpoint::new(&spec, &self.known_tags, transport))
    }

    /// One number for all registrations of the same instance at the same address, so that an app with a thousand routes
    /// needs no more connections than one with a single route.
    fn transport(&self, spec: &EndpointSpec) -> u128 {
        let peer = (
            (&spec.host, spec.port, spec.tls, spec.protocol.as_str()),
            &spec.server_cert_domain_san,
            (&spec.app_id, &spec.instance_id),
        );
        let [high, low] = self.peers.each_ref().map(|keys| keys.hash_one(peer));
        u128::from(high) << 64 | u128::from(low)
    }

    /// Puts an endpoint under a uri. Last writer wins: NATS messages carry no order of their own; what a Routing API says
    /// twice is ordered by its [`ModificationTag`].
    pub fn register(&self, uri: &str, endpoint: &Arc<Endpoint>, now: Instant) -> Registered {
        self.put(uri, &mut endpoint.clone(), now, now).0
    }

    /// The same, and where it stands then, if that can be told. The endpoint becomes the one that stands there. `told`: when the endpoint became what it is, as far as the message knows; of
    /// several endpoints the one that was told something new last says what the route's options are.
    pub fn put(
        &self,
        uri: &str,
        endpoint: &mut Arc<Endpoint>,
        told: Instant,
        now: Instant,
    ) -> (Registered, Option<Place>) {
        let key = RouteKey::new(uri);
        if self.common.settings.components.is_none() {
            return self.put_under(&key, endpoint, told, now);
        }
        let _one = self
            .ownership
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !endpoint.is_component() && self.is_of_component(&key) {
            return (Registered::Refused, None);
        }
        self.put_under(&key, endpoint, told, now)
    }

    fn put_under(
        &self,
        key: &RouteKey,
        endpoint: &mut Arc<Endpoint>,
        told: Instant,
        now: Instant,
    ) -> (Registered, Option<Place>) {
        self.touch(now);
        // While the shard is locked, even for reading, nobody can drop the pool.
        let at = self.hash(key.is_wildcard(), key.host_name());
        if let Some(pool) = self.read(at).pool(at, key) {
            return pool.put(endpoint, told, now);
        }
        let fresh = Arc::new(Pool::new(key, self.common.clone()));
        let mut shard = self.write(at);
        if let Some(pool) = shard.pool(at, key) {
            return pool.put(endpoint, told, now);
        }
        let put = fresh.put(endpoint, told, now);
        shard.insert(at, fresh, |pool| self.hash_of(pool));
        self.routes.fetch_add(1, Ordering::Relaxed);
        put
    }

    /// Whether the host of a uri is a component's: by the list, or because one is registered there.
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

    /// A component has registered itself under the uri: takes out what apps have at its host, at whatever path, and below
    /// its wildcard. To be called after the component's [`put`](Self::put). Does nothing without
    /// [`Settings::components`].
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

    /// Takes the endpoint at `host:port` out of a uri's pool, and the pool with its last endpoint.
    pub fn unregister(&self, uri: &str, address: &str, now: Instant) -> Unregistered {
        self.take_out(uri, address, None, now)
    }

    /// The same, as the sender of a message about `spec` may: a component's endpoint leaves by a component's word only.
    pub fn unregister_as(&self, spec: &EndpointSpec, uri: &str, now: Instant) -> Unregistered {
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
        self.take_out(uri, &address, None, now)
    }

    /// The same, but only if what stands there came from a Routing API as well, and is not newer than `tag`.
    pub fn unregister_version(
        &self,
        uri: &str,
        address: &str,
        tag: &ModificationTag,
        now: Instant,
    ) -> Unregistered {
        self.take_out(uri, address, Some(tag.as_version()), now)
    }

    fn take_out(
        &self,
        uri: &str,
        address: &str,
        version: Option<Version<'_>>,
        now: Instant,
    ) -> Unregistered {
        let key = RouteKey::new(uri);
        self.touch(now);
        let at = self.hash(key.is_wildcard(), key.host_name());
        let removed = match self.read(at).pool(at, &key) {
            None => return Unregistered::NotFound,
            Some(pool) => pool.remove(address, version, now),
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

    /// Instances of a route are on their way: until `until` its pool is there, though it is empty, or becomes so. False: the
    /// host is a component's, whose instances nobody announces.
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

    /// The pool of a request. `host` as in the request (port and capitals allowed), `path` escaped, with or without query.
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
        // While a component is away, nobody stands in for it.
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

    /// Removes endpoints that were silent for longer than their threshold, and pools that stayed empty too long.
    /// Does nothing while suspended.
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

    /// Forgets a route that is empty and over. False: it is not, or there is none.
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

    /// While the bus is away nobody can refresh anything, so silence proves nothing.
    pub fn suspend_pruning(&self) {
        self.common.suspended.store(true, Ordering::Relaxed);
    }

    /// The bus is back: everybody gets a whole threshold to be heard of again.
    pub fn resume_pruning(&self, now: Instant) {
        if self.pruning_suspended() {
            self.each(|pool| pool.refresh(now));
            self.common.suspended.store(false, Ordering::Relaxed);
        }
    }

    pub fn pruning_suspended(&self) -> bool {
        self.common.is_suspended()
    }

    /// Number of uris.
    pub fn routes(&self) -> usize {
        self.routes.load(Ordering::Relaxed)
    }

    /// Number of registrations: an endpoint counts once for each of its uris.
    pub fn endpoints(&self) -> usize {
        self.common.endpoints.load(Ordering::Relaxed)
    }

    /// How long ago the last message changed or refreshed anything.
    pub fn since_update(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.common.epoch)
            .saturating_sub(Duration::from_micros(
                self.updated_us.load(Ordering::Relaxed),
            ))
    }

    /// Every uri and its pool, sorted by uri.
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

    /// Drops a uri's pool if it is (still) empty and `wanted`.
    fn forget_if(&self, key: &RouteKey, wanted: impl Fn(&Arc<Pool>) -> bool) -> bool {
        let at = self.hash(key.is_wildcard(), key.host_name());
        // Most often there are endpoints left: then nobody is held up.
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

/// The hash tables within the shards use the other bits.
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

#[cfg(test)]
mod ownership_tests;
#[cfg(test)]
mod pick_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod told_tests;
