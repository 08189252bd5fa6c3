//! The HTTP JSON of rep and auctioneer. The names are exactly the original's (`diego.md` 3.1 and 3.3): members of structs that
//! the original embeds (`PlacementConstraint`, `Resource`, `ActualLRPKey`) are flat in the outer object, some in Go's spelling
//! (`MemoryMB`), some in snake case.
//!
//! The original encodes an empty list as `null`; every list here reads `null` as empty and writes `[]`.

mod inspection;

pub use inspection::{
    InspectedCertificate, InspectedContainer, InspectedMachine, InspectedPort, InspectedProcess,
    InspectedRule, Inspection, Read,
};

use crate::lrp_routes::InternalRoute;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The paths of the rep's network API (mTLS, default port 1801).
pub mod path {
    pub const STATE: &str = "/state";
    pub const WORK: &str = "/work";
    pub const CONTAINER_METRICS: &str = "/container_metrics";
    pub const EVACUATE: &str = "/evacuate";
    /// The path `PUT /v2/lrps/:process_guid/instances/:instance_guid`.
    pub const UPDATE_LRP: &str = "/v2/lrps/{process_guid}/instances/{instance_guid}";
    /// The path `POST /v1/lrps/:process_guid/instances/:instance_guid/stop`.
    pub const STOP_LRP: &str = "/v1/lrps/{process_guid}/instances/{instance_guid}/stop";
    /// The path `POST /v1/tasks/:task_guid/cancel`.
    pub const CANCEL_TASK: &str = "/v1/tasks/{task_guid}/cancel";
    /// The path `GET /v1/instances/:instance_guid/inspection`, which is ours.
    pub const INSPECTION: &str = "/v1/instances/{instance_guid}/inspection";
    /// The path of the auctioneer (default port 9016).
    pub const AUCTION_LRPS: &str = "/v1/lrps";
    pub const AUCTION_TASKS: &str = "/v1/tasks";
}

/// The answer of `GET /state`. An unhealthy cell sends the same body with status 503.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CellState {
    pub rep_url: String,
    pub cell_id: String,
    pub cell_index: i32,
    /// The providers of root file systems, by the scheme: `preloaded`, `docker`.
    #[serde(rename = "RootFSProviders", deserialize_with = "nullable")]
    pub root_fs_providers: BTreeMap<String, RootFsProvider>,
    #[serde(rename = "AvailableResources")]
    pub available_resources: Resources,
    #[serde(rename = "TotalResources")]
    pub total_resources: Resources,
    #[serde(rename = "LRPs", deserialize_with = "nullable")]
    pub lrps: Vec<Lrp>,
    #[serde(rename = "Tasks", deserialize_with = "nullable")]
    pub tasks: Vec<Task>,
    #[serde(rename = "StartingContainerCount")]
    pub starting_container_count: i32,
    #[serde(rename = "Zone")]
    pub zone: String,
    #[serde(rename = "Evacuating")]
    pub evacuating: bool,
    #[serde(rename = "VolumeDrivers", deserialize_with = "nullable")]
    pub volume_drivers: Vec<String>,
    /// The placement tags of the cell. An app must require all of them to be placed here.
    #[serde(rename = "PlacementTags", deserialize_with = "nullable")]
    pub placement_tags: Vec<String>,
    #[serde(rename = "OptionalPlacementTags", deserialize_with = "nullable")]
    pub optional_placement_tags: Vec<String>,
    /// The memory that is added to that of an LRP when it is placed.
    #[serde(rename = "ProxyMemoryAllocationMB")]
    pub proxy_memory_allocation_mb: i32,
}

/// The root file systems of one scheme that a cell can provide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RootFsProvider {
    /// The cell provides any root file system (`docker`).
    Arbitrary,
    /// The cell provides the named ones (`preloaded`); the values are empty objects.
    FixedSet {
        #[serde(default)]
        set: BTreeMap<String, Empty>,
    },
}

impl RootFsProvider {
    pub fn fixed_set<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::FixedSet {
            set: names
                .into_iter()
                .map(|name| (name.into(), Empty {}))
                .collect(),
        }
    }
}

/// An empty object, `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Empty {}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    #[serde(rename = "MemoryMB")]
    pub memory_mb: i32,
    #[serde(rename = "DiskMB")]
    pub disk_mb: i32,
    #[serde(rename = "Containers")]
    pub containers: i32,
}

/// The resources that one container needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resource {
    #[serde(rename = "MemoryMB")]
    pub memory_mb: i32,
    #[serde(rename = "DiskMB")]
    pub disk_mb: i32,
    #[serde(rename = "MaxPids")]
    pub max_pids: i32,
}

/// The requirements of one container for its cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlacementConstraint {
    #[serde(rename = "PlacementTags", deserialize_with = "nullable")]
    pub placement_tags: Vec<String>,
    #[serde(rename = "VolumeDrivers", deserialize_with = "nullable")]
    pub volume_drivers: Vec<String>,
    /// The root file system as a URL: `preloaded:cflinuxfs4`.
    #[serde(rename = "RootFs")]
    pub root_fs: String,
}

/// One instance, in `/state` and `/work`. In `/work` the `instance_guid` is empty, because the rep makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lrp {
    pub instance_guid: String,
    pub process_guid: String,
    pub index: i32,
    pub domain: String,
    #[serde(flatten)]
    pub constraint: PlacementConstraint,
    #[serde(flatten)]
    pub resource: Resource,
    /// The state: `reserved`, `initializing`, `created`, `running` or `completed`; empty in `/work`.
    pub state: String,
}

impl Lrp {
    /// Returns `process_guid.index`, by which a failed piece of work is identified.
    pub fn identifier(&self) -> String {
        format!("{}.{}", self.process_guid, self.index)
    }
}

/// One task, in `/state`, `/work` and the auctioneer's `/v1/tasks` (where it is called `TaskStartRequest`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Task {
    #[serde(rename = "TaskGuid")]
    pub task_guid: String,
    #[serde(rename = "Domain")]
    pub domain: String,
    #[serde(flatten)]
    pub constraint: PlacementConstraint,
    #[serde(flatten)]
    pub resource: Resource,
    pub state: TaskState,
    pub failed: bool,
}

/// The state of a task by its name, as in the original's generated JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    #[default]
    Invalid,
    Pending,
    Running,
    Completed,
    Resolving,
}

/// The body of `POST /work`. Its answer has the same shape, and contains only the refused work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    #[serde(rename = "LRPs", deserialize_with = "nullable")]
    pub lrps: Vec<Lrp>,
    #[serde(rename = "Tasks", deserialize_with = "nullable")]
    pub tasks: Vec<Task>,
    /// The id of the addressed cell. The rep answers 500 when it is not its own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cell_id: String,
}

impl Work {
    pub fn is_empty(&self) -> bool {
        self.lrps.is_empty() && self.tasks.is_empty()
    }
}

/// The body of `PUT /v2/lrps/:process_guid/instances/:instance_guid`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LrpUpdate {
    pub instance_guid: String,
    pub process_guid: String,
    pub index: i32,
    pub domain: String,
    #[serde(deserialize_with = "nullable")]
    pub internal_routes: Vec<InternalRoute>,
    #[serde(deserialize_with = "nullable")]
    pub metric_tags: BTreeMap<String, String>,
}

/// One element of the array in the body of the auctioneer's `POST /v1/lrps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LrpStartRequest {
    pub process_guid: String,
    pub domain: String,
    /// The indices of the instances. There is one auction for each.
    #[serde(deserialize_with = "nullable")]
    pub indices: Vec<i32>,
    #[serde(flatten)]
    pub constraint: PlacementConstraint,
    #[serde(flatten)]
    pub resource: Resource,
}

/// One element of the array in the body of the auctioneer's `POST /v1/tasks`.
pub type TaskStartRequest = Task;

/// The answer of `GET /container_metrics`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerMetricsCollection {
    pub cell_id: String,
    #[serde(deserialize_with = "nullable")]
    pub lrps: Vec<LrpMetric>,
    #[serde(deserialize_with = "nullable")]
    pub tasks: Vec<TaskMetric>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LrpMetric {
    pub instance_guid: String,
    pub process_guid: String,
    pub index: i32,
    #[serde(flatten)]
    pub metrics: ContainerMetrics,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskMetric {
    pub task_guid: String,
    #[serde(flatten)]
    pub metrics: ContainerMetrics,
}

/// The resource usage of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerMetrics {
    pub metric_guid: String,
    /// The CPU usage; 1.0 is one whole core.
    pub cpu_usage_fraction: f64,
    pub disk_usage_bytes: u64,
    pub disk_quota_bytes: u64,
    pub memory_usage_bytes: u64,
    pub memory_quota_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_bytes: Option<u64>,
}

/// Reads `null` as the default, because Go writes a nil slice or map as `null`.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Decodes and encodes the fixture, and expects the same JSON.
    fn round_trip<T: Serialize + serde::de::DeserializeOwned>(fixture: Value) -> T {
        let decoded: T = serde_json::from_value(fixture.clone()).unwrap();
        assert_eq!(serde_json::to_value(&decoded).unwrap(), fixture);
        decoded
    }

    #[test]
    fn cell_state() {
        let resources = json!({"MemoryMB": 4096, "DiskMB": 10240, "Containers": 250});
        let state: CellState = round_trip(json!({
            "rep_url": "https://10.0.0.1:1801", "cell_id": "cell-0", "cell_index": 0,
            "RootFSProviders": {"preloaded": {"type": "fixed_set", "set": {"cflinuxfs4": {}}}, "docker": {"type": "arbitrary"}},
            "AvailableResources": resources, "TotalResources": resources,
            "LRPs": [{"instance_guid": "I", "process_guid": "P", "index": 0, "domain": "cf-apps", "PlacementTags": [], "VolumeDrivers": [],
                "RootFs": "", "MemoryMB": 256, "DiskMB": 1024, "MaxPids": 0, "state": "running"}],
            "Tasks": [{"TaskGuid": "T", "Domain": "cf-tasks", "PlacementTags": ["a"], "VolumeDrivers": [], "RootFs": "preloaded:cflinuxfs4",
                "MemoryMB": 256, "DiskMB": 1024, "MaxPids": 0, "state": "Pending", "failed": false}],
            "StartingContainerCount": 0, "Zone": "z1", "Evacuating": false, "VolumeDrivers": [], "PlacementTags": [],
            "OptionalPlacementTags": [], "ProxyMemoryAllocationMB": 32
        }));
        assert_eq!(state.lrps[0].identifier(), "P.0");
        assert_eq!(state.tasks[0].state, TaskState::Pending);
        assert_eq!(
            state.root_fs_providers["preloaded"],
            RootFsProvider::fixed_set(["cflinuxfs4"])
        );
    }

    #[test]
    fn nil_slices_of_the_original_are_empty() {
        let work: Work = serde_json::from_value(json!({"LRPs": null, "Tasks": null})).unwrap();
        assert!(work.is_empty());
        let lrp: Lrp = serde_json::from_value(json!({"process_guid": "P", "PlacementTags": null, "VolumeDrivers": null, "MemoryMB": 7})).unwrap();
        assert_eq!(lrp.resource.memory_mb, 7);
    }

    #[test]
    fn work_lrp_update_and_start_requests() {
        round_trip::<Work>(json!({"LRPs": [], "Tasks": [], "cell_id": "cell-0"}));
        round_trip::<LrpUpdate>(
            json!({"instance_guid": "I", "process_guid": "P", "index": 0, "domain": "cf-apps",
            "internal_routes": [{"hostname": "a.apps.internal"}], "metric_tags": {"app_name": "x"}}),
        );
        let requests: Vec<LrpStartRequest> = round_trip(
            json!([{"process_guid": "P", "domain": "cf-apps", "indices": [0, 2],
            "PlacementTags": ["iso-1"], "VolumeDrivers": [], "RootFs": "preloaded:cflinuxfs4", "MemoryMB": 256, "DiskMB": 1024, "MaxPids": 1024}]),
        );
        assert_eq!(requests[0].constraint.placement_tags, ["iso-1"]);
    }

    #[test]
    fn container_metrics() {
        round_trip::<ContainerMetricsCollection>(
            json!({"cell_id": "c", "tasks": [], "lrps": [{"instance_guid": "I", "process_guid": "P", "index": 1,
            "metric_guid": "A", "cpu_usage_fraction": 0.5, "disk_usage_bytes": 1, "disk_quota_bytes": 2, "memory_usage_bytes": 3, "memory_quota_bytes": 4}]}),
        );
    }
}
