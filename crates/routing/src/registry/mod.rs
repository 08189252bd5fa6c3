//! The router's routing table: uri → pool of endpoints.
//!
//! Called by the router: its NATS subscriber registers and unregisters, its pruner prunes, and every request looks up.
//! Holds only what it was told: it never dials, never reads a clock (`now` comes in) and never logs.
//!
//! The table is split into shards by host, so that a registration holds up few look-ups and a hundred thousand
//! routes cost no more per request than one. A look-up takes one read lock and clones one `Arc`.
//!
//! | Event | Effect on an endpoint | Effect on its pool |
//! |---|---|---|
//! | register | added, replaced (last writer wins) or only refreshed | made if new |
//! | unregister | removed | gone with its last endpoint: 404 |
//! | silence for its threshold | removed, unless TLS ([`Registry::prune`]) | gone with its last endpoint: 404 |
//! | wrong certificate name | removed, even the last ([`Pool::fail`]) | stays empty: 503, until it registers again or the time is up |
//! | other TLS or dial failure | removed, unless the last; else skipped for a while | never emptied |

mod endpoint;
mod maglev;
mod pool;
mod uri;

pub use endpoint::{Endpoint, EndpointSpec, InFlight, Protocol};
pub use pool::{Balancing, Consequence, Failure, Instance, NoPick, Pool, Want};
pub use uri::{RouteKey, request_host};

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

const SHARDS: usize = 64;

/// How long things live.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A plain endpoint that was not heard of for this long is pruned; the most that a registration may ask for.
    pub stale_threshold: Duration,
    /// How long a pool that lost its last endpoint by a failure answers 503 before it is forgotten.
    pub empty_pool_timeout: Duration,
    /// Makes the round robin of two routers start at different endpoints.
    pub seed: u64,
    /// Of routes that do not say otherwise: round robin or least connection.
    pub balancing: Balancing,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stale_threshold: Duration::from_secs(120),
            empty_pool_timeout: Duration::from_secs(120),
            seed: 0,
            balancing: Balancing::RoundRobin,
        }
    }
}

/// What a registration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    Added {
        new_route: bool,
    },
    Updated,
    /// The same as before: only its time stamp moved.
    Refreshed,
}

/// What an unregistration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unregistered {
    Removed { route_gone: bool },
    NotFound,
}

/// An endpoint that [`Registry::prune`] took out.
#[derive(Clone, Debug)]
pub struct Pruned {
    pub uri: String,
    pub endpoint: Arc<Endpoint>,
    pub route_gone: bool,
}

/// All pools of one host (or of one `*.` wildcard).
#[derive(Debug, Default)]
struct Host {
    /// By context path: lower case, without outer slashes; `""` is the host itself.
    pools: HashMap<Box<str>, Arc<Pool>>,
    /// Most segments of any context path here (an upper bound: it does not shrink).
    depth: usize,
}

impl Host {
    /// The deepest pool with endpoints; when all matching pools are empty, the deepest of those.
    fn lookup(&self, path: &str) -> Option<&Arc<Pool>> {
        let mut empty = None;
        if self.depth > 0 {
            for prefix in uri::prefixes_longest_first(path, self.depth) {
                match self.pools.get(prefix) {
                    Some(pool) if !pool.is_empty() => return Some(pool),
                    Some(pool) => empty = empty.or(Some(pool)),
                    None => {}
                }
            }
        }
        match self.pools.get("") {
            Some(pool) if !pool.is_empty() => Some(pool),
            root => empty.or(root),
        }
    }
}

type Hosts = HashMap<Box<str>, Host>;

#[derive(Debug, Default)]
struct Shard {
    exact: Hosts,
    /// Key: what follows `*.`.
    wildcard: Hosts,
}

/// The table. Shared by all who route; see the module's table for what changes it.
#[derive(Debug)]
pub struct Registry {
    shards: Box<[RwLock<Shard>]>,
    settings: Settings,
    epoch: Instant,
    routes: AtomicUsize,
    transports: AtomicU64,
    suspended: AtomicBool,
    updated_ms: AtomicU64,
}

impl Registry {
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            settings,
            epoch: now,
            routes: AtomicUsize::new(0),
            transports: AtomicU64::new(1),
            suspended: AtomicBool::new(false),
            updated_ms: AtomicU64::new(0),
        }
    }

    /// One endpoint for all uris of a message: they share its counters.
    pub fn endpoint(&self, mut spec: EndpointSpec, now: Instant) -> Arc<Endpoint> {
        if spec.stale_threshold.is_zero() || spec.stale_threshold > self.settings.stale_threshold {
            spec.stale_threshold = self.settings.stale_threshold;
        }
        let transport = self.transports.fetch_add(1, Ordering::Relaxed);
        Arc::new(Endpoint::new(spec, transport, self.epoch, now))
    }

    /// Puts an endpoint under a uri. Last writer wins: NATS messages carry no order of their own.
    pub fn register(
        &self,
        uri: &str,
        endpoint: &Arc<Endpoint>,
        balancing: Option<&Balancing>,
        now: Instant,
    ) -> Registered {
        let key = RouteKey::new(uri);
        self.touch(now);
        // While the shard is locked, even for reading, nobody can drop the pool.
        if let Some(pool) = self
            .hosts(&key, &self.read(key.shard_name()))
            .get(key.host_name())
            .and_then(|host| host.pools.get(key.path()))
        {
            return pool.put(endpoint, balancing, now);
        }
        let mut shard = self.write(key.shard_name());
        let hosts = if key.is_wildcard() {
            &mut shard.wildcard
        } else {
            &mut shard.exact
        };
        let host = hosts.entry(key.host_name().into()).or_default();
        if let Some(pool) = host.pools.get(key.path()) {
            return pool.put(endpoint, balancing, now);
        }
        host.depth = host.depth.max(uri::segments(key.path()));
        let pool = Pool::new(&key, self.epoch, &self.settings);
        pool.put(endpoint, balancing, now);
        host.pools.insert(key.path().into(), Arc::new(pool));
        self.routes.fetch_add(1, Ordering::Relaxed);
        Registered::Added { new_route: true }
    }

    /// Takes the endpoint at `host:port` out of a uri's pool, and the pool with its last endpoint.
    pub fn unregister(&self, uri: &str, address: &str, now: Instant) -> Unregistered {
        let key = RouteKey::new(uri);
        self.touch(now);
        let removed = match self
            .hosts(&key, &self.read(key.shard_name()))
            .get(key.host_name())
            .and_then(|host| host.pools.get(key.path()))
        {
            None => return Unregistered::NotFound,
            Some(pool) => pool.remove(address),
        };
        let route_gone = self.forget_if(&key, |_| true);
        match (removed, route_gone) {
            (None, _) => Unregistered::NotFound,
            (Some(_), route_gone) => Unregistered::Removed { route_gone },
        }
    }

    /// The pool of a request. `host` as in the request (port and capitals allowed), `path` escaped, with or without query.
    pub fn lookup(&self, host: &str, path: &str) -> Option<Arc<Pool>> {
        let path = uri::request_path(path);
        uri::lowered(request_host(host), |host| {
            uri::lowered(path, |path| self.find(host, path))
        })
    }

    fn find(&self, host: &str, path: &str) -> Option<Arc<Pool>> {
        if !host.starts_with("*.")
            && let Some(pool) = self
                .read(host)
                .exact
                .get(host)
                .and_then(|entry| entry.lookup(path))
        {
            return Some(pool.clone());
        }
        let mut rest = host;
        while let Some((_, tail)) = rest.split_once('.') {
            if let Some(pool) = self
                .read(tail)
                .wildcard
                .get(tail)
                .and_then(|entry| entry.lookup(path))
            {
                return Some(pool.clone());
            }
            rest = tail;
        }
        None
    }

    /// Removes plain endpoints that were silent for longer than their threshold, and pools that stayed empty too long.
    /// Does nothing while suspended.
    pub fn prune(&self, now: Instant) -> Vec<Pruned> {
        let mut pruned = Vec::new();
        if self.suspended.load(Ordering::Relaxed) {
            return pruned;
        }
        let mut pools = Vec::with_capacity(self.routes());
        self.each(|pool| pools.push(pool.clone()));
        for pool in pools {
            let stale = pool.remove_stale(now);
            let emptied_by_age = !stale.is_empty() && pool.is_empty();
            let timed_out = pool
                .empty_for(now)
                .is_some_and(|age| age >= self.settings.empty_pool_timeout);
            let route_gone = (emptied_by_age || timed_out)
                && self.forget_if(&RouteKey::new(pool.uri()), |found| {
                    Arc::ptr_eq(found, &pool)
                });
            pruned.extend(stale.into_iter().map(|endpoint| Pruned {
                uri: pool.uri().to_owned(),
                endpoint,
                route_gone,
            }));
        }
        pruned
    }

    /// While the bus is away nobody can refresh anything, so silence proves nothing.
    pub fn suspend_pruning(&self) {
        self.suspended.store(true, Ordering::Relaxed);
    }

    /// The bus is back: everybody gets a whole threshold to be heard of again.
    pub fn resume_pruning(&self, now: Instant) {
        if self.suspended.load(Ordering::Relaxed) {
            self.each(|pool| pool.refresh(now));
            self.suspended.store(false, Ordering::Relaxed);
        }
    }

    pub fn pruning_suspended(&self) -> bool {
        self.suspended.load(Ordering::Relaxed)
    }

    /// Number of uris.
    pub fn routes(&self) -> usize {
        self.routes.load(Ordering::Relaxed)
    }

    /// How long ago the last message changed or refreshed anything.
    pub fn since_update(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
            .saturating_sub(Duration::from_millis(
                self.updated_ms.load(Ordering::Relaxed),
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
            for pool in shard
                .exact
                .values()
                .chain(shard.wildcard.values())
                .flat_map(|host| host.pools.values())
            {
                visit(pool);
            }
        }
    }

    /// Drops a uri's pool if it is (still) empty and `wanted`.
    fn forget_if(&self, key: &RouteKey, wanted: impl Fn(&Arc<Pool>) -> bool) -> bool {
        let mut shard = self.write(key.shard_name());
        let hosts = if key.is_wildcard() {
            &mut shard.wildcard
        } else {
            &mut shard.exact
        };
        let Some(host) = hosts.get_mut(key.host_name()) else {
            return false;
        };
        if !host
            .pools
            .get(key.path())
            .is_some_and(|pool| pool.is_empty() && wanted(pool))
        {
            return false;
        }
        host.pools.remove(key.path());
        if host.pools.is_empty() {
            hosts.remove(key.host_name());
        }
        self.routes.fetch_sub(1, Ordering::Relaxed);
        true
    }

    fn hosts<'a>(&self, key: &RouteKey, shard: &'a Shard) -> &'a Hosts {
        if key.is_wildcard() {
            &shard.wildcard
        } else {
            &shard.exact
        }
    }

    fn touch(&self, now: Instant) {
        self.updated_ms
            .store(endpoint::millis(self.epoch, now), Ordering::Relaxed);
    }

    fn read(&self, name: &str) -> RwLockReadGuard<'_, Shard> {
        self.shards[uri::shard(name) % SHARDS]
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, name: &str) -> RwLockWriteGuard<'_, Shard> {
        self.shards[uri::shard(name) % SHARDS]
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
