//! One container in the rep's table: its purpose, its phase, and the requests of other tasks to the task that owns it.

use kit::CancellationToken;
use kit::listing::{Clock, Moment};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Notify, watch};
use wire::bbs::{
    ActualLrpInstanceKey, ActualLrpKey, ActualLrpNetInfo, ModificationTag, SecurityGroupRule,
};
use wire::rep::{PlacementConstraint, Resource};

/// The purpose of a container: an LRP instance or a task.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    Lrp {
        process_guid: String,
        index: i32,
        domain: String,
    },
    Task {
        domain: String,
    },
}

/// The phases of a container, in order. Any phase may be followed by `Completed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The resources are booked.
    Reserved,
    /// The work is claimed; the container is being made.
    Initializing,
    /// The container exists; setup or start-up checks are running. A task in this phase is started at the BBS.
    Created,
    /// The instance has been healthy once.
    Running,
    Completed,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Initializing => "initializing",
            Self::Created => "created",
            Self::Running => "running",
            Self::Completed => "completed",
        }
    }
}

/// The reason why an instance should stop. It determines the report to the BBS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The BBS or a drain requested the stop. The row is removed.
    Requested,
    /// The BBS has assigned the index to another instance, or evacuation has handled the row. Nothing is reported.
    Replaced,
}

#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) phase: Phase,
    /// The time at which each phase was reached, in the order of the phases.
    reached: Vec<(Phase, Moment)>,
    /// Whether the readiness checks pass. The BBS receives [`Status::reachable`].
    pub(crate) routable: bool,
    pub(crate) stopping: Option<StopReason>,
    pub(crate) internal_routes: Vec<String>,
    pub(crate) metric_tags: BTreeMap<String, String>,
}

impl Status {
    pub(crate) fn reachable(&self) -> bool {
        self.routable && self.stopping.is_none()
    }

    /// Returns the moment since which the phase has been `phase` or a later one; `None` if it was not reached.
    pub(crate) fn since(&self, phase: Phase) -> Option<Moment> {
        let reached = self.reached.iter().find(|(reached, _)| *reached >= phase);
        reached.map(|(_, moment)| *moment)
    }

    fn reach(&mut self, phase: Phase, clock: &Clock) {
        if phase != self.phase {
            self.phase = phase;
            self.reached.push((phase, clock.tick()));
        }
    }
}

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) guid: String,
    pub(crate) work: Work,
    pub(crate) constraint: PlacementConstraint,
    pub(crate) resource: Resource,
    /// The token that is cancelled when the container should stop gracefully.
    pub(crate) stop: CancellationToken,
    /// The first reason why the container cannot continue.
    pub(crate) failure: watch::Sender<Option<String>>,
    /// The signal that wakes the reporter: the status has changed, or the BBS does not know it.
    pub(crate) report: Notify,
    /// The routability that the BBS acknowledged last.
    pub(crate) reported: watch::Sender<Option<bool>>,
    /// The addresses and ports of the instance, once its container exists.
    net_info: OnceLock<ActualLrpNetInfo>,
    /// The signal that wakes the credential rotation, because internal routes have changed.
    pub(crate) internal_routes_changed: Notify,
    /// The signal that wakes the task that applies changes of the desired LRP.
    pub(crate) refresh: Notify,
    /// The egress rules of a task in the BBS; `None` until they have been read after the start.
    pub(crate) egress: watch::Sender<Option<Vec<SecurityGroupRule>>>,
    /// The version of the desired LRP that is applied.
    version: Mutex<Option<ModificationTag>>,
    /// The bytes of memory and disk at the last measurement.
    usage: Mutex<Option<(u64, u64)>>,
    status: Mutex<Status>,
    /// The clock that orders the changes of all containers of the cell.
    clock: Arc<Clock>,
}

impl Container {
    pub(crate) fn new(
        guid: String,
        work: Work,
        constraint: PlacementConstraint,
        resource: Resource,
        clock: Arc<Clock>,
    ) -> Self {
        let status = Status {
            phase: Phase::Reserved,
            reached: vec![(Phase::Reserved, clock.tick())],
            routable: false,
            stopping: None,
            internal_routes: Vec::new(),
            metric_tags: BTreeMap::new(),
        };
        Self {
            guid,
            work,
            constraint,
            resource,
            stop: CancellationToken::new(),
            failure: watch::Sender::new(None),
            report: Notify::new(),
            reported: watch::Sender::new(None),
            net_info: OnceLock::new(),
            internal_routes_changed: Notify::new(),
            refresh: Notify::new(),
            egress: watch::Sender::new(None),
            version: Mutex::default(),
            usage: Mutex::default(),
            status: Mutex::new(status),
            clock,
        }
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().clone()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.lock().reach(phase, &self.clock);
    }

    /// Records that the instance is healthy, and has it reported.
    pub(crate) fn set_running(&self, routable: bool) {
        {
            let mut status = self.lock();
            status.reach(Phase::Running, &self.clock);
            status.routable = routable;
        }
        self.report.notify_one();
    }

    /// Records the result of the readiness checks. Returns whether it changed.
    pub(crate) fn set_routable(&self, routable: bool) -> bool {
        let news = std::mem::replace(&mut self.lock().routable, routable) != routable;
        if news {
            self.report.notify_one();
        }
        news
    }

    /// Sets the initial routing, before the container exists.
    pub(crate) fn begin_routing(
        &self,
        internal_routes: Vec<String>,
        metric_tags: BTreeMap<String, String>,
    ) {
        let mut status = self.lock();
        status.internal_routes = internal_routes;
        status.metric_tags = metric_tags;
    }

    /// Sets the routing that the BBS has changed, and wakes those who depend on it.
    pub(crate) fn change_routing(
        &self,
        internal_routes: Vec<String>,
        metric_tags: BTreeMap<String, String>,
    ) {
        self.begin_routing(internal_routes, metric_tags);
        self.internal_routes_changed.notify_one();
        self.report.notify_one();
    }

    /// Requests a graceful stop. If several reasons are given, the first one counts.
    pub(crate) fn request_stop(&self, reason: StopReason) {
        self.lock().stopping.get_or_insert(reason);
        self.stop.cancel();
    }

    /// Records that the container cannot continue. If several reasons are given, the first one counts.
    pub(crate) fn fail(&self, reason: impl Into<String>) {
        self.failure.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason.into());
            }
            first
        });
    }

    /// Waits for the first failure and returns its reason.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        let reason = failure
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    pub(crate) fn version(&self) -> Option<ModificationTag> {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        version.clone()
    }

    pub(crate) fn set_version(&self, version: Option<ModificationTag>) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    /// Records the bytes of memory and disk that the container uses.
    pub(crate) fn measured(&self, memory: u64, disk: u64) {
        let usage = Some((memory, disk));
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = usage;
    }

    /// Returns the bytes of memory and disk at the last measurement; `None` before the first.
    pub(crate) fn usage(&self) -> Option<(u64, u64)> {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the task's egress rules, and wakes its owner if they differ from the last ones.
    pub(crate) fn offer_egress(&self, rules: Vec<SecurityGroupRule>) {
        self.egress.send_if_modified(|current| {
            let news = current.as_ref() != Some(&rules);
            if news {
                *current = Some(rules);
            }
            news
        });
    }

    pub(crate) fn net_info(&self) -> Option<ActualLrpNetInfo> {
        self.net_info.get().cloned()
    }

    pub(crate) fn set_net_info(&self, net_info: ActualLrpNetInfo) {
        let _ = self.net_info.set(net_info);
    }

    /// Returns the BBS's keys of an LRP's container; `None` for a task.
    pub(crate) fn lrp_keys(&self, cell_id: &str) -> Option<(ActualLrpKey, ActualLrpInstanceKey)> {
        let Work::Lrp {
            process_guid,
            index,
            domain,
        } = &self.work
        else {
            return None;
        };
        let key = ActualLrpKey {
            process_guid: process_guid.clone(),
            index: *index,
            domain: domain.clone(),
        };
        Some((
            key,
            ActualLrpInstanceKey {
                instance_guid: self.guid.clone(),
                cell_id: cell_id.to_owned(),
            },
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
