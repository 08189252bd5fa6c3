//! One container as the rep sees it: what it is for, how far it is, and what others ask of the task that owns it.

use kit::CancellationToken;
use kit::listing::{Clock, Moment};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Notify, watch};
use wire::bbs::{
    ActualLrpInstanceKey, ActualLrpKey, ActualLrpNetInfo, ModificationTag, SecurityGroupRule,
};
use wire::rep::{PlacementConstraint, Resource};

/// What a container is for.
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

/// In the order they are passed through; any may end in `Completed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Resources are booked.
    Reserved,
    /// Claimed; the container is being made.
    Initializing,
    /// The container exists, setup or start-up checks go on. A task in this phase is started at the BBS.
    Created,
    /// Healthy once.
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

/// Why an instance should stop, which decides what the BBS is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// Asked to (by the BBS, by a drain): the row is removed.
    Asked,
    /// The BBS has given the index to another instance, or evacuation has taken care of the row: nothing to tell.
    Replaced,
}

#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) phase: Phase,
    /// When each phase was reached, in their order.
    reached: Vec<(Phase, Moment)>,
    /// By readiness checks; what the BBS hears is [`Status::reachable`].
    pub(crate) routable: bool,
    pub(crate) stopping: Option<StopReason>,
    pub(crate) internal_routes: Vec<String>,
    pub(crate) metric_tags: BTreeMap<String, String>,
}

impl Status {
    pub(crate) fn reachable(&self) -> bool {
        self.routable && self.stopping.is_none()
    }

    /// The moment since which the phase has been `phase` or a later one; `None` if it was not reached.
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
    /// Cancelled when the container should stop in good order.
    pub(crate) stop: CancellationToken,
    /// The first reason why it cannot go on.
    pub(crate) failure: watch::Sender<Option<String>>,
    /// Wakes the reporter: the status changed, or the BBS does not know it.
    pub(crate) report: Notify,
    /// The routability that the BBS acknowledged last.
    pub(crate) reported: watch::Sender<Option<bool>>,
    /// Where the instance is reached, once its container exists.
    net_info: OnceLock<ActualLrpNetInfo>,
    /// Wakes the credential rotation: internal routes changed.
    pub(crate) internal_routes_changed: Notify,
    /// Wakes whoever applies changes of the desired LRP.
    pub(crate) refresh: Notify,
    /// What the BBS says a task may reach; `None` until it was read after the start.
    pub(crate) egress: watch::Sender<Option<Vec<SecurityGroupRule>>>,
    /// The version of the desired LRP that is applied.
    version: Mutex<Option<ModificationTag>>,
    status: Mutex<Status>,
    /// Orders the changes of all containers of the cell.
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

    /// The instance is healthy (again): report it.
    pub(crate) fn set_running(&self, routable: bool) {
        {
            let mut status = self.lock();
            status.reach(Phase::Running, &self.clock);
            status.routable = routable;
        }
        self.report.notify_one();
    }

    /// Readiness changed. Tells whether that is news.
    pub(crate) fn set_routable(&self, routable: bool) -> bool {
        let news = std::mem::replace(&mut self.lock().routable, routable) != routable;
        if news {
            self.report.notify_one();
        }
        news
    }

    /// What is known of the routing before the container lives.
    pub(crate) fn begin_routing(
        &self,
        internal_routes: Vec<String>,
        metric_tags: BTreeMap<String, String>,
    ) {
        let mut status = self.lock();
        status.internal_routes = internal_routes;
        status.metric_tags = metric_tags;
    }

    /// The BBS has news about the routing.
    pub(crate) fn change_routing(
        &self,
        internal_routes: Vec<String>,
        metric_tags: BTreeMap<String, String>,
    ) {
        self.begin_routing(internal_routes, metric_tags);
        self.internal_routes_changed.notify_one();
        self.report.notify_one();
    }

    /// Asks for an orderly stop; the first reason stays.
    pub(crate) fn ask_to_stop(&self, reason: StopReason) {
        self.lock().stopping.get_or_insert(reason);
        self.stop.cancel();
    }

    /// The container cannot go on; the first reason stays.
    pub(crate) fn fail(&self, reason: impl Into<String>) {
        self.failure.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason.into());
            }
            first
        });
    }

    /// Waits for the first failure.
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

    /// Wakes the task's owner when it may reach something else from now on.
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

    /// Of an LRP's container.
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
