//! Locket: locks and presences that exist as long as they are renewed.
//!
//! Each change of a holder is stored. Renewals are kept in memory only, so that a thousand cells cause no writes. After a restart
//! every stored lease lives for one full time to live: its holder renews it, or it becomes free after that.

mod api;

pub(crate) use api::routes;

use crate::failure::Failure;
use crate::journal::Write;
use crate::metrics::LocketMetrics;
use crate::store::Store;
use kit::CancellationToken;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use wire::locket::{Resource, TypeCode};

#[derive(Debug)]
pub(crate) struct Locket {
    table: Mutex<Table>,
    store: Arc<Store>,
    /// The signal that a lease was taken or released: the expiry task computes its next wait again.
    changed: Notify,
    /// The number of changes of presences so far.
    presences: watch::Sender<u64>,
    metrics: LocketMetrics,
}

#[derive(Debug, Default)]
struct Table {
    leases: BTreeMap<String, Lease>,
    /// The presences whose owners released them since they were last present.
    released: BTreeSet<String>,
}

#[derive(Debug)]
struct Lease {
    resource: Resource,
    ttl: Duration,
    expires: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another owner holds the key.
    Collision,
    NotFound,
}

impl Table {
    /// Acquires or renews a lease. `Ok(true)` means that a change must be stored.
    fn lock(&mut self, resource: Resource, ttl: Duration, now: Instant) -> Result<bool, Refused> {
        let known = self
            .leases
            .get(&resource.key)
            .filter(|lease| lease.expires > now);
        if known.is_some_and(|lease| lease.resource.owner != resource.owner) {
            return Err(Refused::Collision);
        }
        let changed = known.is_none_or(|lease| lease.resource != resource || lease.ttl != ttl);
        self.released.remove(&resource.key);
        self.leases.insert(
            resource.key.clone(),
            Lease {
                resource,
                ttl,
                expires: now + ttl,
            },
        );
        Ok(changed)
    }

    fn release(&mut self, key: &str, owner: &str) -> Result<Resource, Refused> {
        let lease = self.leases.get(key).ok_or(Refused::NotFound)?;
        if lease.resource.owner != owner {
            return Err(Refused::Collision);
        }
        let lease = self.leases.remove(key).ok_or(Refused::NotFound)?;
        if lease.resource.kind() == TypeCode::Presence {
            self.released.insert(key.to_owned());
        }
        Ok(lease.resource)
    }

    /// Removes and returns the leases that have expired.
    fn expire(&mut self, now: Instant) -> Vec<Resource> {
        let out: Vec<String> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.expires <= now)
            .map(|(key, _)| key.clone())
            .collect();
        out.iter()
            .filter_map(|key| self.leases.remove(key))
            .map(|lease| lease.resource)
            .collect()
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.expires).min()
    }
}

impl Locket {
    /// Creates a locket without leases.
    pub(crate) fn new(store: Arc<Store>, metrics: LocketMetrics) -> Self {
        Self {
            table: Mutex::default(),
            store,
            changed: Notify::new(),
            presences: watch::Sender::new(0),
            metrics,
        }
    }

    /// Sets the leases of the last process, with their times to live in seconds. Nothing is served before that.
    pub(crate) fn begin(&self, stored: Vec<(Resource, i64)>) {
        let now = Instant::now();
        let lease = |(resource, ttl): (Resource, i64)| {
            let ttl = seconds(ttl);
            (
                resource.key.clone(),
                Lease {
                    resource,
                    ttl,
                    expires: now + ttl,
                },
            )
        };
        self.table().leases = stored.into_iter().map(lease).collect();
    }

    /// Acquires or renews a lease. When it returns success to a new holder, the lease is durable (a presence only if the database
    /// can be written).
    pub(crate) async fn lock(&self, resource: Resource, ttl_seconds: i64) -> Result<(), LockError> {
        let (key, kind) = (resource.key.clone(), resource.kind());
        let changed = self
            .table()
            .lock(resource.clone(), seconds(ttl_seconds), Instant::now())
            .map_err(LockError::Refused)?;
        if !changed {
            return Ok(());
        }
        let owner = resource.owner.clone();
        let write = Write::Lock(key.clone(), Some((resource, ttl_seconds)));
        let stored = match kind {
            // A cell is present whether or not that can be stored.
            TypeCode::Presence => {
                self.notify(kind);
                self.store.log(vec![write]).await.or_else(|failure| {
                    tracing::warn!(key, why = failure.message, "presence-not-stored");
                    Ok(())
                })
            }
            _ => {
                let stored = self.store.log(vec![write]).await;
                if stored.is_err() {
                    // The caller gets an error, so the lock must not stay held.
                    let _ = self.table().release(&key, &owner);
                }
                self.notify(kind);
                stored
            }
        };
        stored.map_err(LockError::Failed)
    }

    pub(crate) async fn release(&self, key: &str, owner: &str) -> Result<(), LockError> {
        let released = self
            .table()
            .release(key, owner)
            .map_err(LockError::Refused)?;
        self.notify(released.kind());
        self.store
            .log(vec![Write::Lock(key.to_owned(), None)])
            .await
            .map_err(LockError::Failed)
    }

    pub(crate) fn fetch(&self, key: &str) -> Option<Resource> {
        self.table()
            .leases
            .get(key)
            .map(|lease| lease.resource.clone())
    }

    pub(crate) fn fetch_all(&self, kind: TypeCode) -> Vec<Resource> {
        self.table()
            .leases
            .values()
            .filter(|lease| lease.resource.kind() == kind)
            .map(|lease| lease.resource.clone())
            .collect()
    }

    /// Returns whether the owner of the presence released it (rather than letting it expire).
    pub(crate) fn was_released(&self, key: &str) -> bool {
        self.table().released.contains(key)
    }

    pub(crate) fn watch_presences(&self) -> watch::Receiver<u64> {
        self.presences.subscribe()
    }

    /// Removes each lease at the moment it expires, until `shutdown`.
    pub(crate) async fn expire(&self, shutdown: CancellationToken) {
        loop {
            let next = self.table().next_expiry();
            let wait = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = wait => {}
                () = self.changed.notified() => continue,
            }
            let expired = self.table().expire(Instant::now());
            let writes = expired
                .iter()
                .map(|r| Write::Lock(r.key.clone(), None))
                .collect::<Vec<_>>();
            for resource in &expired {
                tracing::info!(key = resource.key, owner = resource.owner, "lease-expired");
                let expired = match resource.kind() {
                    TypeCode::Presence => &self.metrics.presences_expired,
                    TypeCode::Lock | TypeCode::Unknown => &self.metrics.locks_expired,
                };
                expired.add(1);
                self.notify(resource.kind());
            }
            if writes.is_empty() {
                continue;
            }
            // If a row stays behind, its lease lives once more after a restart.
            if let Err(failure) = self.store.log(writes).await {
                tracing::warn!(why = failure.message, "expired-leases-not-stored");
            }
        }
    }

    fn notify(&self, kind: TypeCode) {
        self.changed.notify_one();
        if kind == TypeCode::Presence {
            self.presences.send_modify(|count| *count += 1);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) enum LockError {
    Refused(Refused),
    Failed(Failure),
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default().clamp(1, 24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn leases() {
        let resource = |owner: &str| Resource {
            key: "k".into(),
            owner: owner.into(),
            type_code: TypeCode::Presence as i32,
            ..Resource::default()
        };
        let ttl = Duration::from_secs(15);
        let (mut table, start) = (Table::default(), Instant::now());
        assert_eq!(table.lock(resource("a"), ttl, start), Ok(true));
        assert_eq!(
            table.lock(resource("b"), ttl, start),
            Err(Refused::Collision)
        );
        assert_eq!(
            table.lock(resource("a"), ttl, start + Duration::from_secs(5)),
            Ok(false),
            "a renewal is not stored"
        );
        assert_eq!(table.expire(start + Duration::from_secs(19)).len(), 0);
        assert_eq!(table.release("k", "b"), Err(Refused::Collision));
        assert_eq!(
            table.lock(resource("b"), ttl, start + Duration::from_secs(20)),
            Ok(true),
            "it ran out"
        );
        assert!(table.release("k", "b").is_ok() && table.released.contains("k"));
        assert_eq!(table.release("k", "b"), Err(Refused::NotFound));
    }
}
