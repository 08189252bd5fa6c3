//! Models one row: the data about one instance of a desired LRP. A state contains exactly the data that it may have.

use crate::Nanos;
use ids::{CellId, Domain, InstanceGuid, ProcessGuid};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActualLrpKey {
    pub process_guid: ProcessGuid,
    pub index: i32,
    pub domain: Domain,
}

/// The identity of a container, and its cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceKey {
    pub instance_guid: InstanceGuid,
    pub cell_id: CellId,
}

/// The version of one row. A new row has a new epoch; every stored change adds one to the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModificationTag {
    pub epoch: Arc<str>,
    pub index: u32,
}

impl ModificationTag {
    pub fn new(epoch: impl Into<Arc<str>>) -> Self {
        Self {
            epoch: epoch.into(),
            index: 0,
        }
    }

    #[must_use]
    pub fn next(&self) -> Self {
        Self {
            epoch: self.epoch.clone(),
            index: self.index.wrapping_add(1),
        }
    }

    /// Returns whether `newer` describes a later version than this tag does. Tags of different epochs have no order, and then it
    /// does.
    pub fn succeeded_by(&self, newer: &Self) -> bool {
        self.epoch.is_empty()
            || newer.epoch.is_empty()
            || self.epoch != newer.epoch
            || self.index < newer.index
    }
}

/// The reason why an index may have more than one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Presence {
    Ordinary,
    /// The instance still serves on a cell that drains, until its replacement runs.
    Evacuating,
    /// The cell of the instance has not been present for a while; the instance may still serve.
    Suspect,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PreferredAddress {
    #[default]
    Unknown,
    Instance,
    Host,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortMapping {
    pub container_port: u32,
    pub host_port: u32,
    pub container_tls_proxy_port: u32,
    pub host_tls_proxy_port: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetInfo {
    /// The address of the cell.
    pub address: String,
    /// The port mappings. Their order matters to route emitters: the first mapping of a container port counts.
    pub ports: Vec<PortMapping>,
    /// The address of the container.
    pub instance_address: String,
    pub preferred_address: PreferredAddress,
    pub instance_ipv6_address: String,
}

/// The report of a cell about an instance that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    pub net_info: NetInfo,
    pub internal_routes: Vec<String>,
    pub metric_tags: BTreeMap<String, String>,
    /// Whether the readiness check succeeds.
    pub routable: bool,
    pub availability_zone: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The row waits for a cell. `placement_error` is the reason why the last auction found none, and is empty before the first.
    Unclaimed { placement_error: String },
    /// A cell is about to run the instance.
    Claimed { instance: InstanceKey },
    Running {
        instance: InstanceKey,
        details: Arc<Running>,
    },
    /// The row waits for its restart.
    Crashed,
}

impl State {
    pub fn unclaimed() -> Self {
        Self::Unclaimed {
            placement_error: String::new(),
        }
    }

    /// Returns the state's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unclaimed { .. } => "UNCLAIMED",
            Self::Claimed { .. } => "CLAIMED",
            Self::Running { .. } => "RUNNING",
            Self::Crashed => "CRASHED",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActualLrp {
    pub key: ActualLrpKey,
    pub presence: Presence,
    pub state: State,
    pub crash_count: i32,
    pub crash_reason: String,
    /// The time of the last change of state.
    pub since: Nanos,
    pub tag: ModificationTag,
}

impl ActualLrp {
    /// Returns the instance that claimed or runs the row.
    pub fn instance(&self) -> Option<&InstanceKey> {
        match &self.state {
            State::Claimed { instance } | State::Running { instance, .. } => Some(instance),
            State::Unclaimed { .. } | State::Crashed => None,
        }
    }

    pub fn is_of(&self, instance: &InstanceKey) -> bool {
        self.instance() == Some(instance)
    }

    pub fn running(&self) -> Option<&Running> {
        match &self.state {
            State::Running { details, .. } => Some(details),
            _ => None,
        }
    }

    /// Returns whether the instance runs and passes its readiness check, so that it can replace another instance.
    pub fn serves(&self) -> bool {
        self.running().is_some_and(|r| r.routable)
    }

    pub fn is_unclaimed(&self) -> bool {
        matches!(self.state, State::Unclaimed { .. })
    }

    /// Returns the row after a change of state at `now`.
    pub(crate) fn with(&self, state: State, now: Nanos) -> Self {
        Self {
            state,
            since: now,
            tag: self.tag.next(),
            ..self.clone()
        }
    }
}
