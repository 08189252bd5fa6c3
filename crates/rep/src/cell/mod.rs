//! The state that all tasks of the rep share: clients, settings, and the table of containers with its ledger.

pub(crate) mod adopt;
pub(crate) mod bulk;
pub(crate) mod evacuation;
pub(crate) mod guard;
pub(crate) mod inspection;
pub(crate) mod levels;
mod machine;
pub(crate) mod policies;
pub(crate) mod presence;
pub(crate) mod server;

use crate::config::Timing;
use crate::identity::{Credential, InstanceIssuer};
use crate::instance::container::{Container, Phase, Work};
use crate::metrics::Metrics;
use crate::supply::assets::Assets;
use crate::supply::cache::Cache;
use cell_plan::credentials::CertificatePlan;
use cell_plan::ledger::{Ledger, ReserveError, Resources};
use clients::loggregator::Emitter;
use garden::api::Garden;
use inspection::Inspector;
use kit::CancellationToken;
use kit::listing::Clock;
use kit::reconcile::{LastPass, Nudge};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;
use wire::rep::{PlacementConstraint, Resource};

/// Memory in MB of an instance's sidecars (proxy, health checks). It is added to the app's own memory. An Envoy takes 14 MiB and
/// about 30 KiB per connection.
pub(crate) const SIDECAR_MEMORY_MB: u64 = 64;
/// The property that marks our containers in garden.
pub(crate) const OWNER_PROPERTY: (&str, &str) = ("executor:owner", "executor");

pub(crate) struct Cell {
    pub(crate) settings: Settings,
    pub(crate) bbs: clients::bbs::Client,
    pub(crate) garden: Arc<dyn Garden>,
    pub(crate) loggregator: Emitter,
    pub(crate) issuer: InstanceIssuer,
    pub(crate) inspector: Inspector,
    pub(crate) assets: Assets,
    pub(crate) cache: Cache,
    pub(crate) metrics: Metrics,
    /// The permits to make containers. They limit how many are made at the same time.
    pub(crate) creators: Semaphore,
    pub(crate) bulk: Nudge,
    /// The last comparison with the BBS.
    pub(crate) last_bulk: LastPass,
    /// The nudge that wakes the comparison of firewall rules.
    pub(crate) repair: Nudge,
    /// The token that is cancelled at shutdown. Tasks then release their containers, which keep running.
    pub(crate) detach: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) evacuating: AtomicBool,
    /// The token that is cancelled when an evacuation has emptied the cell.
    pub(crate) evacuated: CancellationToken,
    /// Whether the cell accepts no new work, because it is evacuating or stopping everything.
    pub(crate) closed: AtomicBool,
    pub(crate) healthy: AtomicBool,
    /// The signal that a container has left the table.
    pub(crate) left: Notify,
    /// The clock that orders the phases of all containers. It makes them comparable with lists from garden and the BBS.
    pub(crate) clock: Arc<Clock>,
    table: Mutex<Table>,
}

/// The settings that do not change.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) cell_id: String,
    pub(crate) zone: String,
    pub(crate) rep_url: String,
    pub(crate) stacks: Vec<String>,
    pub(crate) placement_tags: Vec<String>,
    pub(crate) optional_placement_tags: Vec<String>,
    pub(crate) work_dir: PathBuf,
    pub(crate) proxy: bool,
    pub(crate) router_ca_pem: String,
    pub(crate) route_integrity: bool,
    pub(crate) timing: Timing,
}

struct Table {
    ledger: Ledger,
    containers: BTreeMap<String, Arc<Container>>,
    /// The guids on which somebody acts because they have no container. No container may begin under them meanwhile.
    vacant: BTreeSet<String>,
}

/// The right to act on a guid that has no container. As long as this value lives, the guid gets no container.
pub(crate) struct Vacant<'a> {
    cell: &'a Cell,
    guid: String,
}

impl Drop for Vacant<'_> {
    fn drop(&mut self) {
        self.cell.table().vacant.remove(&self.guid);
    }
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cell")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The parts that [`Cell::new`] puts together.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) bbs: clients::bbs::Client,
    pub(crate) garden: Arc<dyn Garden>,
    pub(crate) loggregator: Emitter,
    pub(crate) issuer: InstanceIssuer,
    pub(crate) inspector: Inspector,
    pub(crate) assets: Assets,
    pub(crate) cache: Cache,
    pub(crate) metrics: Metrics,
}

impl Cell {
    pub(crate) fn new(parts: Parts) -> Self {
        let capacity = parts.garden.capacity();
        let total = Resources {
            memory_mb: capacity.memory_mb,
            disk_mb: capacity.disk_mb,
            containers: capacity.containers,
        };
        Self {
            settings: parts.settings,
            bbs: parts.bbs,
            garden: parts.garden,
            loggregator: parts.loggregator,
            issuer: parts.issuer,
            inspector: parts.inspector,
            assets: parts.assets,
            cache: parts.cache,
            metrics: parts.metrics,
            creators: Semaphore::new(32),
            bulk: Nudge::default(),
            last_bulk: LastPass::default(),
            repair: Nudge::default(),
            detach: CancellationToken::new(),
            tasks: TaskTracker::new(),
            evacuating: AtomicBool::new(false),
            evacuated: CancellationToken::new(),
            closed: AtomicBool::new(false),
            healthy: AtomicBool::new(true),
            left: Notify::new(),
            clock: Arc::default(),
            table: Mutex::new(Table {
                ledger: Ledger::new(total),
                containers: BTreeMap::new(),
                vacant: BTreeSet::new(),
            }),
        }
    }

    /// Returns the memory in MB that is booked for the work. It includes the sidecars.
    fn booked_memory(&self, work: &Work, resource: &Resource) -> u64 {
        let memory = u64::try_from(resource.memory_mb).unwrap_or(0);
        match work {
            Work::Lrp { .. } if self.settings.proxy && memory > 0 => memory + SIDECAR_MEMORY_MB,
            _ => memory,
        }
    }

    pub(crate) fn reserve(
        &self,
        guid: &str,
        work: Work,
        constraint: PlacementConstraint,
        resource: Resource,
    ) -> Result<Arc<Container>, ReserveError> {
        let memory = self.booked_memory(&work, &resource);
        let mut table = self.table();
        if table.vacant.contains(guid) {
            return Err(ReserveError::Clearing(guid.to_owned()));
        }
        table
            .ledger
            .reserve(guid, memory, u64::try_from(resource.disk_mb).unwrap_or(0))?;
        let container = Arc::new(Container::new(
            guid.to_owned(),
            work,
            constraint,
            resource,
            self.clock.clone(),
        ));
        table.containers.insert(guid.to_owned(), container.clone());
        Ok(container)
    }

    /// Books a container that already exists.
    pub(crate) fn adopt(
        &self,
        guid: &str,
        work: Work,
        constraint: PlacementConstraint,
        resource: Resource,
    ) -> Arc<Container> {
        let memory = self.booked_memory(&work, &resource);
        let container = Arc::new(Container::new(
            guid.to_owned(),
            work,
            constraint,
            resource,
            self.clock.clone(),
        ));
        let mut table = self.table();
        table
            .ledger
            .adopt(guid, memory, u64::try_from(resource.disk_mb).unwrap_or(0));
        table.containers.insert(guid.to_owned(), container.clone());
        container
    }

    /// Removes a container that is gone from the table, and frees its resources.
    pub(crate) fn remove(&self, container: &Container) {
        container.set_phase(Phase::Completed);
        {
            let mut table = self.table();
            table.ledger.release(&container.guid);
            table.containers.remove(&container.guid);
        }
        self.metrics.completed.add(1);
        self.left.notify_waiters();
    }

    /// Issues a certificate for an instance.
    pub(crate) fn issue(&self, plan: &CertificatePlan) -> anyhow::Result<Credential> {
        let began = Instant::now();
        let issued = self.issuer.issue(plan);
        if issued.is_ok() {
            self.metrics.credentials_succeeded.add(1);
            self.metrics.credentials_duration.observe(began.elapsed());
        } else {
            self.metrics.credentials_failed.add(1);
        }
        issued
    }

    pub(crate) fn container(&self, guid: &str) -> Option<Arc<Container>> {
        self.table().containers.get(guid).cloned()
    }

    /// Claims a guid that has no container. Returns `None` if it has one, or if somebody else acts on it.
    pub(crate) fn vacant(&self, guid: &str) -> Option<Vacant<'_>> {
        let mut table = self.table();
        if table.containers.contains_key(guid) || !table.vacant.insert(guid.to_owned()) {
            return None;
        }
        Some(Vacant {
            cell: self,
            guid: guid.to_owned(),
        })
    }

    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        self.table().containers.values().cloned().collect()
    }

    /// Returns the total and the available resources.
    pub(crate) fn resources(&self) -> (Resources, Resources) {
        let table = self.table();
        (table.ledger.total(), table.ledger.available())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Spawns the task that owns a container. At shutdown the task is dropped and the container keeps running.
    pub(crate) fn own(
        self: &Arc<Self>,
        container: Arc<Container>,
        life: impl Future<Output = ()> + Send + 'static,
    ) {
        let cell = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = cell.detach.cancelled() => {}
                () = life => cell.remove(&container),
            }
        });
    }

    /// Runs `work` to its end even if the caller is dropped. It is for work that must not be interrupted half way.
    pub(crate) async fn whole<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> anyhow::Result<T> {
        Ok(self.tasks.spawn(work).await?)
    }

    /// Destroys a container, to the end even if the caller is dropped.
    pub(crate) async fn destroy(&self, guid: &str) -> anyhow::Result<()> {
        let (garden, handle) = (self.garden.clone(), guid.to_owned());
        let began = Instant::now();
        let destroyed = self
            .whole(async move { garden.destroy(&handle).await })
            .await
            .and_then(|destroyed| destroyed.map_err(anyhow::Error::from));
        let duration = if destroyed.is_ok() {
            &self.metrics.destruction_succeeded
        } else {
            &self.metrics.destruction_failed
        };
        duration.observe(began.elapsed());
        destroyed
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
