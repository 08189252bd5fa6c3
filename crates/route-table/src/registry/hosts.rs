//! Holds one shard of the table: host → its pools by context path.

use super::pool::Pool;
use super::uri::{self, RouteKey};
use hashbrown::HashTable;
use std::sync::Arc;

/// The hosts of one shard, keyed by the host names that stand in the pools themselves. The callers compute the hashes.
#[derive(Debug, Default)]
pub(super) struct Hosts(HashTable<Host>);

/// All pools of one host (or of one `*.` wildcard); there is at least one.
#[derive(Debug)]
enum Host {
    /// The only pool of the host, which is by far the most frequent case.
    One(Arc<Pool>),
    Many(Box<Paths>),
}

#[derive(Debug)]
struct Paths {
    /// The pools, sorted by context path.
    pools: Vec<Arc<Pool>>,
    /// The highest number of segments of any context path here. It is an upper bound: it does not shrink.
    depth: usize,
}

impl Paths {
    fn find(&self, path: &str) -> Result<usize, usize> {
        self.pools.binary_search_by(|pool| pool.path().cmp(path))
    }

    fn get(&self, path: &str) -> Option<&Arc<Pool>> {
        self.find(path).ok().map(|at| &self.pools[at])
    }

    fn insert(&mut self, pool: Arc<Pool>) {
        if let Err(at) = self.find(pool.path()) {
            self.depth = self.depth.max(uri::segments(pool.path()));
            self.pools.insert(at, pool);
        }
    }
}

impl Host {
    fn pools(&self) -> &[Arc<Pool>] {
        match self {
            Self::One(pool) => std::slice::from_ref(pool),
            Self::Many(paths) => &paths.pools,
        }
    }

    fn is(&self, wildcard: bool, name: &str) -> bool {
        let host = self.pools()[0].host();
        match host.strip_prefix("*.") {
            Some(tail) => wildcard && tail == name,
            None => !wildcard && host == name,
        }
    }

    fn get(&self, path: &str) -> Option<&Arc<Pool>> {
        match self {
            Self::One(pool) => Some(pool).filter(|pool| pool.path() == path),
            Self::Many(paths) => paths.get(path),
        }
    }

    /// Returns the deepest matching pool with endpoints, or, when all matching pools are empty, the deepest of those.
    fn lookup(&self, path: &str) -> Option<&Arc<Pool>> {
        let paths = match self {
            Self::One(pool) => return Some(pool).filter(|pool| uri::is_within(path, pool.path())),
            Self::Many(paths) => paths,
        };
        let mut empty = None;
        for prefix in uri::prefixes_longest_first(path, paths.depth).chain([""]) {
            match paths.get(prefix) {
                Some(pool) if !pool.is_empty() => return Some(pool),
                Some(pool) => empty = empty.or(Some(pool)),
                None => {}
            }
        }
        empty
    }

    fn insert(&mut self, pool: Arc<Pool>) {
        match self {
            Self::Many(paths) => paths.insert(pool),
            Self::One(old) => {
                let mut paths = Box::new(Paths {
                    pools: Vec::with_capacity(2),
                    depth: 0,
                });
                paths.insert(old.clone());
                paths.insert(pool);
                *self = Self::Many(paths);
            }
        }
    }
}

impl Hosts {
    pub(super) fn pool(&self, hash: u64, key: &RouteKey) -> Option<&Arc<Pool>> {
        let is = |host: &Host| host.is(key.is_wildcard(), key.host_name());
        self.0.find(hash, is)?.get(key.path())
    }

    pub(super) fn lookup(
        &self,
        hash: u64,
        wildcard: bool,
        name: &str,
        path: &str,
    ) -> Option<&Arc<Pool>> {
        let host = self.0.find(hash, |host| host.is(wildcard, name))?;
        host.lookup(path)
    }

    /// Returns all pools of one host, by context path.
    pub(super) fn of_host(&self, hash: u64, wildcard: bool, name: &str) -> &[Arc<Pool>] {
        let host = self.0.find(hash, |host| host.is(wildcard, name));
        host.map_or(&[], Host::pools)
    }

    pub(super) fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.0.iter().flat_map(Host::pools)
    }

    /// Inserts a pool. There must be no pool of its uri yet.
    pub(super) fn insert(&mut self, hash: u64, pool: Arc<Pool>, hash_of: impl Fn(&Pool) -> u64) {
        let host = pool.host();
        let (wildcard, name) = match host.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, host),
        };
        match self.0.find_mut(hash, |host| host.is(wildcard, name)) {
            Some(host) => host.insert(pool),
            None => {
                let rehash = |host: &Host| hash_of(&host.pools()[0]);
                self.0.insert_unique(hash, Host::One(pool), rehash);
            }
        }
    }

    /// Removes the pool of the key if `wanted` holds for it. Returns whether it did.
    pub(super) fn remove_if(
        &mut self,
        hash: u64,
        key: &RouteKey,
        wanted: impl Fn(&Arc<Pool>) -> bool,
    ) -> bool {
        let is = |host: &Host| host.is(key.is_wildcard(), key.host_name());
        let Ok(mut entry) = self.0.find_entry(hash, is) else {
            return false;
        };
        if !entry.get().get(key.path()).is_some_and(wanted) {
            return false;
        }
        let last = match entry.get_mut() {
            Host::One(_) => true,
            Host::Many(paths) => {
                if let Ok(at) = paths.find(key.path()) {
                    paths.pools.remove(at);
                }
                paths.pools.is_empty()
            }
        };
        if last {
            entry.remove();
        }
        true
    }
}
