//! The BBS HTTP API: protobuf messages (package `models`, proto3) and the path of every call.
//!
//! Every RPC is a `POST` with a protobuf body and is answered with HTTP 200. A failure is an [`Error`] in field 1 of the answer.

use std::collections::{BTreeMap, HashMap};

/// The paths of the BBS API, at the revisions that current clients call.
pub mod path {
    pub const PING: &str = "/v1/ping";
    pub const DOMAINS_LIST: &str = "/v1/domains/list";
    pub const DOMAINS_UPSERT: &str = "/v1/domains/upsert";
    pub const ACTUAL_LRPS_LIST: &str = "/v1/actual_lrps/list";
    pub const ACTUAL_LRPS_BY_GUIDS: &str = "/v1/actual_lrps/list_by_process_guids";
    /// The deprecated path, as are the two below, of cfdot's `actual-lrp-groups` commands.
    pub const GROUPS_LIST: &str = "/v1/actual_lrp_groups/list";
    pub const GROUPS_BY_GUID: &str = "/v1/actual_lrp_groups/list_by_process_guid";
    pub const GROUP_BY_GUID_AND_INDEX: &str = "/v1/actual_lrp_groups/get_by_process_guid_and_index";
    pub const ACTUAL_LRPS_CLAIM: &str = "/v1/actual_lrps/claim";
    pub const ACTUAL_LRPS_START: &str = "/v1/actual_lrps/start.r1";
    pub const ACTUAL_LRPS_CRASH: &str = "/v1/actual_lrps/crash";
    pub const ACTUAL_LRPS_FAIL: &str = "/v1/actual_lrps/fail";
    pub const ACTUAL_LRPS_REMOVE: &str = "/v1/actual_lrps/remove";
    pub const ACTUAL_LRPS_RETIRE: &str = "/v1/actual_lrps/retire";
    pub const REMOVE_EVACUATING: &str = "/v1/actual_lrps/remove_evacuating";
    pub const EVACUATE_CLAIMED: &str = "/v1/actual_lrps/evacuate_claimed";
    pub const EVACUATE_CRASHED: &str = "/v1/actual_lrps/evacuate_crashed";
    pub const EVACUATE_STOPPED: &str = "/v1/actual_lrps/evacuate_stopped";
    pub const EVACUATE_RUNNING: &str = "/v1/actual_lrps/evacuate_running.r1";
    pub const SCHEDULING_INFOS_LIST: &str = "/v1/desired_lrp_scheduling_infos/list";
    pub const SCHEDULING_INFO_BY_GUID: &str =
        "/v1/desired_lrp_scheduling_infos/get_by_process_guid";
    pub const ROUTING_INFOS_LIST: &str = "/v1/desired_lrp_routing_infos/list";
    pub const DESIRED_LRPS_LIST: &str = "/v1/desired_lrps/list.r3";
    pub const DESIRED_LRPS_LIST_R2: &str = "/v1/desired_lrps/list.r2";
    pub const DESIRED_LRP_BY_GUID: &str = "/v1/desired_lrps/get_by_process_guid.r3";
    pub const DESIRED_LRP_BY_GUID_R2: &str = "/v1/desired_lrps/get_by_process_guid.r2";
    pub const DESIRE_LRP: &str = "/v1/desired_lrp/desire.r2";
    pub const UPDATE_DESIRED_LRP: &str = "/v1/desired_lrp/update";
    pub const REMOVE_DESIRED_LRP: &str = "/v1/desired_lrp/remove";
    pub const TASKS_LIST: &str = "/v1/tasks/list.r3";
    pub const TASKS_LIST_R2: &str = "/v1/tasks/list.r2";
    pub const TASK_BY_GUID: &str = "/v1/tasks/get_by_task_guid.r3";
    pub const TASK_BY_GUID_R2: &str = "/v1/tasks/get_by_task_guid.r2";
    pub const DESIRE_TASK: &str = "/v1/tasks/desire.r2";
    pub const START_TASK: &str = "/v1/tasks/start";
    pub const CANCEL_TASK: &str = "/v1/tasks/cancel";
    pub const RESOLVE_TASK: &str = "/v1/tasks/resolving";
    pub const DELETE_TASK: &str = "/v1/tasks/delete";
    pub const REJECT_TASK: &str = "/v1/tasks/reject";
    pub const COMPLETE_TASK: &str = "/v1/tasks/complete";
    pub const FAIL_TASK: &str = "/v1/tasks/fail";
    /// A path of our own. An original BBS answers 404, and running tasks keep their egress rules.
    pub const UPDATE_TASK: &str = "/v1/tasks/update";
    /// The SSE path of desired and actual LRP events: `POST` with [`super::EventsByCellId`].
    pub const INSTANCE_EVENTS: &str = "/v1/events/lrp_instances.r1";
    /// The SSE path of the deprecated group events: `GET` (with an optional body).
    pub const GROUP_EVENTS: &str = "/v1/events.r1";
    pub const TASK_EVENTS: &str = "/v1/events/tasks.r1";
    pub const CELLS_LIST: &str = "/v1/cells/list.r1";
}

/// The header of an event stream that continues an earlier one. A request has the id of the last event that the client received;
/// an answer has the id after which its stream begins. If the answer has none, or another id, events are missing.
pub const LAST_EVENT_ID: &str = "last-event-id";
/// The value of [`LAST_EVENT_ID`] with which a stream begins with the oldest event that the BBS keeps. This is our own; an original
/// BBS begins the stream with the next event.
pub const OLDEST_EVENT: &str = "oldest";

/// The states of actual LRPs as they are spelt on the wire.
pub mod state {
    pub const UNCLAIMED: &str = "UNCLAIMED";
    pub const CLAIMED: &str = "CLAIMED";
    pub const RUNNING: &str = "RUNNING";
    pub const CRASHED: &str = "CRASHED";
}

macro_rules! messages {
    ($( $(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident : $ty:ty = [$($attr:tt)*]),* $(,)? } )*) => {$(
        $(#[$meta])*
        #[derive(Clone, PartialEq, ::prost::Message)]
        pub struct $name { $( $(#[$fmeta])* #[prost($($attr)*)] pub $field: $ty, )* }
    )*};
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ErrorType {
    UnknownError = 0,
    InvalidRecord = 3,
    InvalidRequest = 4,
    InvalidResponse = 5,
    InvalidProtobufMessage = 6,
    InvalidJson = 7,
    FailedToOpenEnvelope = 8,
    InvalidStateTransition = 9,
    ResourceConflict = 11,
    ResourceExists = 12,
    ResourceNotFound = 13,
    RouterError = 14,
    ActualLrpCannotBeClaimed = 15,
    ActualLrpCannotBeStarted = 16,
    ActualLrpCannotBeCrashed = 17,
    ActualLrpCannotBeFailed = 18,
    ActualLrpCannotBeRemoved = 19,
    ActualLrpCannotBeUnclaimed = 21,
    RunningOnDifferentCell = 24,
    GuidGeneration = 26,
    Deserialize = 27,
    Deadlock = 28,
    Unrecoverable = 29,
    LockCollision = 30,
    Timeout = 31,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Presence {
    Ordinary = 0,
    Evacuating = 1,
    Suspect = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum PreferredAddress {
    Unknown = 0,
    Instance = 1,
    Host = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum TaskState {
    Invalid = 0,
    Pending = 1,
    Running = 2,
    Completed = 3,
    Resolving = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum UpdateStrategy {
    Rolling = 0,
    Recreate = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MetricTagDynamic {
    Invalid = 0,
    Index = 1,
    InstanceGuid = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum LayerType {
    Invalid = 0,
    Shared = 1,
    Exclusive = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MediaType {
    Invalid = 0,
    Tgz = 1,
    Tar = 2,
    Zip = 3,
}

messages! {
    Error { kind: i32 = [enumeration = "ErrorType", tag = "1"], message: String = [string, tag = "2"] }
    ModificationTag { epoch: String = [string, tag = "1"], index: u32 = [uint32, tag = "2"] }
    EnvironmentVariable { name: String = [string, tag = "1"], value: String = [string, tag = "2"] }
    File { path: String = [string, tag = "1"], content: String = [string, tag = "2"] }
    /// The raw JSON per router kind: see [`crate::lrp_routes`].
    ProtoRoutes { routes: BTreeMap<String, Vec<u8>> = [btree_map = "string, bytes", tag = "1"] }
    PortRange { start: u32 = [uint32, tag = "1"], end: u32 = [uint32, tag = "2"] }
    IcmpInfo { kind: i32 = [int32, tag = "1"], code: i32 = [int32, tag = "2"] }
    /// A permission for egress. The protocol is `tcp`, `udp`, `icmp`, `icmpv6` or `all`.
    SecurityGroupRule {
        protocol: String = [string, tag = "1"],
        destinations: Vec<String> = [string, repeated, tag = "2"],
        ports: Vec<u32> = [uint32, repeated, packed = "false", tag = "3"],
        port_range: Option<PortRange> = [message, optional, tag = "4"],
        icmp_info: Option<IcmpInfo> = [message, optional, tag = "5"],
        log: bool = [bool, tag = "6"],
        annotations: Vec<String> = [string, repeated, tag = "7"],
    }
    CachedDependency {
        name: String = [string, tag = "1"], from: String = [string, tag = "2"], to: String = [string, tag = "3"],
        cache_key: String = [string, tag = "4"], log_source: String = [string, tag = "5"],
        checksum_algorithm: String = [string, tag = "6"], checksum_value: String = [string, tag = "7"],
    }
    ImageLayer {
        name: String = [string, tag = "1"], url: String = [string, tag = "2"], destination_path: String = [string, tag = "3"],
        layer_type: i32 = [enumeration = "LayerType", tag = "4"], media_type: i32 = [enumeration = "MediaType", tag = "5"],
        digest_algorithm: i32 = [int32, tag = "6"], digest_value: String = [string, tag = "7"],
    }
    SharedDevice { volume_id: String = [string, tag = "1"], mount_config: String = [string, tag = "2"] }
    VolumeMount {
        driver: String = [string, tag = "1"], container_dir: String = [string, tag = "3"], mode: String = [string, tag = "6"],
        shared: Option<SharedDevice> = [message, optional, tag = "7"],
    }
    Network { properties: BTreeMap<String, String> = [btree_map = "string, string", tag = "1"] }
    CertificateProperties { organizational_unit: Vec<String> = [string, repeated, tag = "1"] }
    /// The limit of an app's log rate; -1 means no limit.
    LogRateLimit { bytes_per_second: i64 = [int64, tag = "1"] }
    MetricTagValue { static_value: String = [string, tag = "1"], dynamic: i32 = [enumeration = "MetricTagDynamic", tag = "2"] }

    TcpCheck { port: u32 = [uint32, tag = "1"], connect_timeout_ms: u64 = [uint64, tag = "2"], interval_ms: u64 = [uint64, tag = "3"] }
    HttpCheck {
        port: u32 = [uint32, tag = "1"], request_timeout_ms: u64 = [uint64, tag = "2"],
        path: String = [string, tag = "3"], interval_ms: u64 = [uint64, tag = "4"],
    }
    Check { tcp_check: Option<TcpCheck> = [message, optional, tag = "1"], http_check: Option<HttpCheck> = [message, optional, tag = "2"] }
    CheckDefinition {
        checks: Vec<Check> = [message, repeated, tag = "1"], log_source: String = [string, tag = "2"],
        readiness_checks: Vec<Check> = [message, repeated, tag = "3"],
    }

    /// Exactly one of the fields is set.
    Action {
        download: Option<DownloadAction> = [message, optional, tag = "1"],
        upload: Option<UploadAction> = [message, optional, tag = "2"],
        run: Option<RunAction> = [message, optional, tag = "3"],
        timeout: Option<Box<TimeoutAction>> = [message, optional, boxed, tag = "4"],
        emit_progress: Option<Box<EmitProgressAction>> = [message, optional, boxed, tag = "5"],
        try_: Option<Box<TryAction>> = [message, optional, boxed, tag = "6"],
        parallel: Option<ParallelAction> = [message, optional, tag = "7"],
        serial: Option<SerialAction> = [message, optional, tag = "8"],
        codependent: Option<CodependentAction> = [message, optional, tag = "9"],
    }
    DownloadAction {
        artifact: String = [string, tag = "1"], from: String = [string, tag = "2"], to: String = [string, tag = "3"],
        cache_key: String = [string, tag = "4"], log_source: String = [string, tag = "5"], user: String = [string, tag = "6"],
        checksum_algorithm: String = [string, tag = "7"], checksum_value: String = [string, tag = "8"],
    }
    UploadAction {
        artifact: String = [string, tag = "1"], from: String = [string, tag = "2"], to: String = [string, tag = "3"],
        log_source: String = [string, tag = "4"], user: String = [string, tag = "5"],
    }
    ResourceLimits { nofile: Option<u64> = [uint64, optional, tag = "1"], nproc: Option<u64> = [uint64, optional, tag = "2"] }
    RunAction {
        path: String = [string, tag = "1"], args: Vec<String> = [string, repeated, tag = "2"], dir: String = [string, tag = "3"],
        env: Vec<EnvironmentVariable> = [message, repeated, tag = "4"],
        resource_limits: Option<ResourceLimits> = [message, optional, tag = "5"], user: String = [string, tag = "6"],
        log_source: String = [string, tag = "7"], suppress_log_output: bool = [bool, tag = "8"],
        volume_mounted_files: Vec<File> = [message, repeated, tag = "9"],
    }
    TimeoutAction {
        action: Option<Box<Action>> = [message, optional, boxed, tag = "1"], log_source: String = [string, tag = "3"],
        timeout_ms: i64 = [int64, tag = "4"],
    }
    EmitProgressAction {
        action: Option<Box<Action>> = [message, optional, boxed, tag = "1"], start_message: String = [string, tag = "2"],
        success_message: String = [string, tag = "3"], failure_message_prefix: String = [string, tag = "4"],
        log_source: String = [string, tag = "5"],
    }
    TryAction { action: Option<Box<Action>> = [message, optional, boxed, tag = "1"], log_source: String = [string, tag = "2"] }
    ParallelAction { actions: Vec<Action> = [message, repeated, tag = "1"], log_source: String = [string, tag = "2"] }
    SerialAction { actions: Vec<Action> = [message, repeated, tag = "1"], log_source: String = [string, tag = "2"] }
    CodependentAction { actions: Vec<Action> = [message, repeated, tag = "1"], log_source: String = [string, tag = "2"] }
    Sidecar { action: Option<Action> = [message, optional, tag = "1"], disk_mb: i32 = [int32, tag = "2"], memory_mb: i32 = [int32, tag = "3"] }

    DesiredLrp {
        process_guid: String = [string, tag = "1"],
        domain: String = [string, tag = "2"],
        /// The root file system as a URL: `preloaded:cflinuxfs4`, `docker:///…`.
        root_fs: String = [string, tag = "3"],
        instances: i32 = [int32, tag = "4"],
        environment_variables: Vec<EnvironmentVariable> = [message, repeated, tag = "5"],
        setup: Option<Action> = [message, optional, tag = "6"],
        action: Option<Action> = [message, optional, tag = "7"],
        deprecated_start_timeout_s: u32 = [uint32, tag = "8"],
        monitor: Option<Action> = [message, optional, tag = "9"],
        disk_mb: i32 = [int32, tag = "10"],
        memory_mb: i32 = [int32, tag = "11"],
        /// The share of the cell's maximum cpu shares, from 0 to 100.
        cpu_weight: u32 = [uint32, tag = "12"],
        privileged: bool = [bool, tag = "13"],
        ports: Vec<u32> = [uint32, repeated, packed = "false", tag = "14"],
        routes: Option<ProtoRoutes> = [message, optional, tag = "15"],
        log_source: String = [string, tag = "16"],
        log_guid: String = [string, tag = "17"],
        metrics_guid: String = [string, tag = "18"],
        annotation: String = [string, tag = "19"],
        egress_rules: Vec<SecurityGroupRule> = [message, repeated, tag = "20"],
        modification_tag: Option<ModificationTag> = [message, optional, tag = "21"],
        cached_dependencies: Vec<CachedDependency> = [message, repeated, tag = "22"],
        legacy_download_user: String = [string, tag = "23"],
        trusted_system_certificates_path: String = [string, tag = "24"],
        volume_mounts: Vec<VolumeMount> = [message, repeated, tag = "25"],
        network: Option<Network> = [message, optional, tag = "26"],
        start_timeout_ms: i64 = [int64, tag = "27"],
        placement_tags: Vec<String> = [string, repeated, tag = "28"],
        max_pids: i32 = [int32, tag = "29"],
        certificate_properties: Option<CertificateProperties> = [message, optional, tag = "30"],
        image_username: String = [string, tag = "31"],
        image_password: String = [string, tag = "32"],
        check_definition: Option<CheckDefinition> = [message, optional, tag = "33"],
        image_layers: Vec<ImageLayer> = [message, repeated, tag = "34"],
        metric_tags: BTreeMap<String, MetricTagValue> = [btree_map = "string, message", tag = "35"],
        sidecars: Vec<Sidecar> = [message, repeated, tag = "36"],
        log_rate_limit: Option<LogRateLimit> = [message, optional, tag = "37"],
        volume_mounted_files: Vec<File> = [message, repeated, tag = "38"],
        update_strategy: i32 = [enumeration = "UpdateStrategy", tag = "39"],
    }
    DesiredLrpUpdate {
        instances: Option<i32> = [int32, optional, tag = "1"],
        routes: Option<ProtoRoutes> = [message, optional, tag = "2"],
        annotation: Option<String> = [string, optional, tag = "3"],
        metric_tags: BTreeMap<String, MetricTagValue> = [btree_map = "string, message", tag = "4"],
        image_username: Option<String> = [string, optional, tag = "5"],
        image_password: Option<String> = [string, optional, tag = "6"],
        /// A field of our own. An original BBS skips it, and running instances keep their egress rules.
        egress: Option<EgressUpdate> = [message, optional, tag = "1000"],
    }
    /// The new egress rules of instances, which replace the present ones.
    EgressUpdate { rules: Vec<SecurityGroupRule> = [message, repeated, tag = "1"] }
    DesiredLrpKey { process_guid: String = [string, tag = "1"], domain: String = [string, tag = "2"], log_guid: String = [string, tag = "3"] }
    DesiredLrpResource {
        memory_mb: i32 = [int32, tag = "1"], disk_mb: i32 = [int32, tag = "2"], root_fs: String = [string, tag = "3"],
        max_pids: i32 = [int32, tag = "4"],
    }
    VolumePlacement { driver_names: Vec<String> = [string, repeated, tag = "1"] }
    DesiredLrpSchedulingInfo {
        key: Option<DesiredLrpKey> = [message, optional, tag = "1"], annotation: String = [string, tag = "2"],
        instances: i32 = [int32, tag = "3"], resource: Option<DesiredLrpResource> = [message, optional, tag = "4"],
        routes: Option<ProtoRoutes> = [message, optional, tag = "5"],
        modification_tag: Option<ModificationTag> = [message, optional, tag = "6"],
        volume_placement: Option<VolumePlacement> = [message, optional, tag = "7"],
        placement_tags: Vec<String> = [string, repeated, tag = "8"],
    }

    ActualLrpKey { process_guid: String = [string, tag = "1"], index: i32 = [int32, tag = "2"], domain: String = [string, tag = "3"] }
    ActualLrpInstanceKey { instance_guid: String = [string, tag = "1"], cell_id: String = [string, tag = "2"] }
    PortMapping {
        container_port: u32 = [uint32, tag = "1"], host_port: u32 = [uint32, tag = "2"],
        container_tls_proxy_port: u32 = [uint32, tag = "3"], host_tls_proxy_port: u32 = [uint32, tag = "4"],
    }
    ActualLrpNetInfo {
        /// The IP address of the cell.
        address: String = [string, tag = "1"],
        ports: Vec<PortMapping> = [message, repeated, tag = "2"],
        /// The container's overlay IP address.
        instance_address: String = [string, tag = "3"],
        preferred_address: i32 = [enumeration = "PreferredAddress", tag = "4"],
        instance_ipv6_address: String = [string, tag = "5"],
    }
    ActualLrpInternalRoute { hostname: String = [string, tag = "1"] }
    /// Fields 1, 2, 3 and 9 are always encoded, even when empty: the original's decoder expects them.
    ActualLrp {
        key: Option<ActualLrpKey> = [message, optional, tag = "1"],
        instance_key: Option<ActualLrpInstanceKey> = [message, optional, tag = "2"],
        net_info: Option<ActualLrpNetInfo> = [message, optional, tag = "3"],
        crash_count: i32 = [int32, tag = "4"],
        crash_reason: String = [string, tag = "5"],
        state: String = [string, tag = "6"],
        placement_error: String = [string, tag = "7"],
        /// The time of the last change of state in Unix nanoseconds.
        since: i64 = [int64, tag = "8"],
        modification_tag: Option<ModificationTag> = [message, optional, tag = "9"],
        presence: i32 = [enumeration = "Presence", tag = "10"],
        internal_routes: Vec<ActualLrpInternalRoute> = [message, repeated, tag = "11"],
        metric_tags: BTreeMap<String, String> = [btree_map = "string, string", tag = "12"],
        /// Whether the instance is routable. If the field is absent, it is.
        routable: Option<bool> = [bool, optional, tag = "13"],
        availability_zone: String = [string, tag = "14"],
    }
    /// An actual LRP without key, internal routes and metric tags (its numbers start at 3).
    ActualLrpInfo {
        net_info: Option<ActualLrpNetInfo> = [message, optional, tag = "3"],
        crash_count: i32 = [int32, tag = "4"],
        crash_reason: String = [string, tag = "5"],
        state: String = [string, tag = "6"],
        placement_error: String = [string, tag = "7"],
        since: i64 = [int64, tag = "8"],
        modification_tag: Option<ModificationTag> = [message, optional, tag = "9"],
        presence: i32 = [enumeration = "Presence", tag = "10"],
        routable: Option<bool> = [bool, optional, tag = "11"],
        availability_zone: String = [string, tag = "12"],
    }
    ActualLrpGroup { instance: Option<ActualLrp> = [message, optional, tag = "1"], evacuating: Option<ActualLrp> = [message, optional, tag = "2"] }

    TaskDefinition {
        root_fs: String = [string, tag = "1"],
        environment_variables: Vec<EnvironmentVariable> = [message, repeated, tag = "2"],
        action: Option<Action> = [message, optional, tag = "3"],
        disk_mb: i32 = [int32, tag = "4"],
        memory_mb: i32 = [int32, tag = "5"],
        cpu_weight: u32 = [uint32, tag = "6"],
        privileged: bool = [bool, tag = "7"],
        log_source: String = [string, tag = "8"],
        log_guid: String = [string, tag = "9"],
        metrics_guid: String = [string, tag = "10"],
        result_file: String = [string, tag = "11"],
        completion_callback_url: String = [string, tag = "12"],
        annotation: String = [string, tag = "13"],
        egress_rules: Vec<SecurityGroupRule> = [message, repeated, tag = "14"],
        cached_dependencies: Vec<CachedDependency> = [message, repeated, tag = "15"],
        legacy_download_user: String = [string, tag = "16"],
        trusted_system_certificates_path: String = [string, tag = "17"],
        volume_mounts: Vec<VolumeMount> = [message, repeated, tag = "18"],
        network: Option<Network> = [message, optional, tag = "19"],
        placement_tags: Vec<String> = [string, repeated, tag = "20"],
        max_pids: i32 = [int32, tag = "21"],
        certificate_properties: Option<CertificateProperties> = [message, optional, tag = "22"],
        image_username: String = [string, tag = "23"],
        image_password: String = [string, tag = "24"],
        image_layers: Vec<ImageLayer> = [message, repeated, tag = "25"],
        log_rate_limit: Option<LogRateLimit> = [message, optional, tag = "26"],
        metric_tags: BTreeMap<String, MetricTagValue> = [btree_map = "string, message", tag = "27"],
        volume_mounted_files: Vec<File> = [message, repeated, tag = "28"],
    }
    Task {
        task_definition: Option<TaskDefinition> = [message, optional, tag = "1"],
        task_guid: String = [string, tag = "2"],
        domain: String = [string, tag = "3"],
        /// The time in Unix nanoseconds, as in the two fields below.
        created_at: i64 = [int64, tag = "4"],
        updated_at: i64 = [int64, tag = "5"],
        first_completed_at: i64 = [int64, tag = "6"],
        state: i32 = [enumeration = "TaskState", tag = "7"],
        cell_id: String = [string, tag = "8"],
        result: String = [string, tag = "9"],
        failed: bool = [bool, tag = "10"],
        failure_reason: String = [string, tag = "11"],
        rejection_count: i32 = [int32, tag = "12"],
        rejection_reason: String = [string, tag = "13"],
    }

    CellCapacity { memory_mb: i32 = [int32, tag = "1"], disk_mb: i32 = [int32, tag = "2"], containers: i32 = [int32, tag = "3"] }
    Provider { name: String = [string, tag = "1"], properties: Vec<String> = [string, repeated, tag = "2"] }
    CellPresence {
        cell_id: String = [string, tag = "1"], rep_address: String = [string, tag = "2"], zone: String = [string, tag = "3"],
        capacity: Option<CellCapacity> = [message, optional, tag = "4"],
        rootfs_providers: Vec<Provider> = [message, repeated, tag = "5"],
        placement_tags: Vec<String> = [string, repeated, tag = "6"],
        optional_placement_tags: Vec<String> = [string, repeated, tag = "7"],
        rep_url: String = [string, tag = "8"],
        annotations: HashMap<String, String> = [map = "string, string", tag = "9"],
    }

    // Requests and answers follow.
    EmptyRequest {}
    PingResponse { available: bool = [bool, tag = "1"] }
    DomainsResponse { error: Option<Error> = [message, optional, tag = "1"], domains: Vec<String> = [string, repeated, tag = "2"] }
    /// A domain and its freshness: `ttl` is in seconds, and 0 means that it never ends.
    UpsertDomainRequest { domain: String = [string, tag = "1"], ttl: u32 = [uint32, tag = "2"] }
    /// The answer of many calls: it is also `UpsertDomainResponse`, `ActualLRPLifecycleResponse`, `DesiredLRPLifecycleResponse`
    /// and `TaskLifecycleResponse`.
    LifecycleResponse { error: Option<Error> = [message, optional, tag = "1"] }
    ActualLrpsRequest {
        domain: String = [string, tag = "1"], cell_id: String = [string, tag = "2"], process_guid: String = [string, tag = "3"],
        index: Option<i32> = [int32, optional, tag = "4"],
    }
    ActualLrpGroupsRequest { domain: String = [string, tag = "1"], cell_id: String = [string, tag = "2"] }
    ActualLrpGroupsByProcessGuidRequest { process_guid: String = [string, tag = "1"] }
    ActualLrpGroupByProcessGuidAndIndexRequest { process_guid: String = [string, tag = "1"], index: i32 = [int32, tag = "2"] }
    ActualLrpGroupsResponse { error: Option<Error> = [message, optional, tag = "1"], actual_lrp_groups: Vec<ActualLrpGroup> = [message, repeated, tag = "2"] }
    ActualLrpGroupResponse { error: Option<Error> = [message, optional, tag = "1"], actual_lrp_group: Option<ActualLrpGroup> = [message, optional, tag = "2"] }
    ActualLrpsByProcessGuidsRequest { process_guids: Vec<String> = [string, repeated, tag = "1"] }
    ActualLrpsResponse { error: Option<Error> = [message, optional, tag = "1"], actual_lrps: Vec<ActualLrp> = [message, repeated, tag = "2"] }
    ClaimActualLrpRequest {
        process_guid: String = [string, tag = "1"], index: i32 = [int32, tag = "2"],
        instance_key: Option<ActualLrpInstanceKey> = [message, optional, tag = "3"],
    }
    /// The request to start an actual LRP. It is also `EvacuateRunningActualLRPRequest`, whose numbers are the same but for a gap
    /// at 4 (internal routes are at 5).
    StartActualLrpRequest {
        key: Option<ActualLrpKey> = [message, optional, tag = "1"],
        instance_key: Option<ActualLrpInstanceKey> = [message, optional, tag = "2"],
        net_info: Option<ActualLrpNetInfo> = [message, optional, tag = "3"],
        internal_routes: Vec<ActualLrpInternalRoute> = [message, repeated, tag = "4"],
        metric_tags: BTreeMap<String, String> = [btree_map = "string, string", tag = "5"],
        routable: Option<bool> = [bool, optional, tag = "6"],
        availability_zone: String = [string, tag = "7"],
    }
    EvacuateRunningActualLrpRequest {
        key: Option<ActualLrpKey> = [message, optional, tag = "1"],
        instance_key: Option<ActualLrpInstanceKey> = [message, optional, tag = "2"],
        net_info: Option<ActualLrpNetInfo> = [message, optional, tag = "3"],
        internal_routes: Vec<ActualLrpInternalRoute> = [message, repeated, tag = "5"],
        metric_tags: BTreeMap<String, String> = [btree_map = "string, string", tag = "6"],
        routable: Option<bool> = [bool, optional, tag = "7"],
        availability_zone: String = [string, tag = "8"],
    }
    /// The request of crash and evacuate-crashed.
    CrashActualLrpRequest {
        key: Option<ActualLrpKey> = [message, optional, tag = "1"],
        instance_key: Option<ActualLrpInstanceKey> = [message, optional, tag = "2"],
        error_message: String = [string, tag = "3"],
    }
    FailActualLrpRequest { key: Option<ActualLrpKey> = [message, optional, tag = "1"], error_message: String = [string, tag = "2"] }
    RetireActualLrpRequest { key: Option<ActualLrpKey> = [message, optional, tag = "1"] }
    RemoveActualLrpRequest {
        process_guid: String = [string, tag = "1"], index: i32 = [int32, tag = "2"],
        instance_key: Option<ActualLrpInstanceKey> = [message, optional, tag = "3"],
    }
    /// The request of evacuate claimed, evacuate stopped and remove evacuating.
    EvacuateActualLrpRequest {
        key: Option<ActualLrpKey> = [message, optional, tag = "1"],
        instance_key: Option<ActualLrpInstanceKey> = [message, optional, tag = "2"],
    }
    EvacuationResponse { error: Option<Error> = [message, optional, tag = "1"], keep_container: bool = [bool, tag = "2"] }

    DesiredLrpsRequest {
        domain: String = [string, tag = "1"], process_guids: Vec<String> = [string, repeated, tag = "2"],
        app_guids: Vec<String> = [string, repeated, tag = "3"],
    }
    DesiredLrpsResponse { error: Option<Error> = [message, optional, tag = "1"], desired_lrps: Vec<DesiredLrp> = [message, repeated, tag = "2"] }
    DesiredLrpByProcessGuidRequest { process_guid: String = [string, tag = "1"] }
    DesiredLrpResponse { error: Option<Error> = [message, optional, tag = "1"], desired_lrp: Option<DesiredLrp> = [message, optional, tag = "2"] }
    DesiredLrpSchedulingInfosResponse {
        error: Option<Error> = [message, optional, tag = "1"],
        desired_lrp_scheduling_infos: Vec<DesiredLrpSchedulingInfo> = [message, repeated, tag = "2"],
    }
    DesiredLrpSchedulingInfoResponse {
        error: Option<Error> = [message, optional, tag = "1"],
        desired_lrp_scheduling_info: Option<DesiredLrpSchedulingInfo> = [message, optional, tag = "2"],
    }
    DesireLrpRequest { desired_lrp: Option<DesiredLrp> = [message, optional, tag = "1"] }
    UpdateDesiredLrpRequest { process_guid: String = [string, tag = "1"], update: Option<DesiredLrpUpdate> = [message, optional, tag = "2"] }
    RemoveDesiredLrpRequest { process_guid: String = [string, tag = "1"] }

    TasksRequest { domain: String = [string, tag = "1"], cell_id: String = [string, tag = "2"] }
    TasksResponse { error: Option<Error> = [message, optional, tag = "1"], tasks: Vec<Task> = [message, repeated, tag = "2"] }
    TaskByGuidRequest { task_guid: String = [string, tag = "1"] }
    TaskResponse { error: Option<Error> = [message, optional, tag = "1"], task: Option<Task> = [message, optional, tag = "2"] }
    DesireTaskRequest {
        task_definition: Option<TaskDefinition> = [message, optional, tag = "1"], task_guid: String = [string, tag = "2"],
        domain: String = [string, tag = "3"],
    }
    StartTaskRequest { task_guid: String = [string, tag = "1"], cell_id: String = [string, tag = "2"] }
    StartTaskResponse { error: Option<Error> = [message, optional, tag = "1"], should_start: bool = [bool, tag = "2"] }
    /// The request of cancel, resolving and delete.
    TaskGuidRequest { task_guid: String = [string, tag = "1"] }
    UpdateTaskRequest { task_guid: String = [string, tag = "1"], egress: Option<EgressUpdate> = [message, optional, tag = "2"] }
    RejectTaskRequest { task_guid: String = [string, tag = "1"], rejection_reason: String = [string, tag = "2"] }
    FailTaskRequest { task_guid: String = [string, tag = "1"], failure_reason: String = [string, tag = "2"] }
    CompleteTaskRequest {
        task_guid: String = [string, tag = "1"], cell_id: String = [string, tag = "2"], failed: bool = [bool, tag = "3"],
        failure_reason: String = [string, tag = "4"], result: String = [string, tag = "5"],
    }
    CellsResponse { error: Option<Error> = [message, optional, tag = "1"], cells: Vec<CellPresence> = [message, repeated, tag = "2"] }

    // Events follow.
    EventsByCellId { cell_id: String = [string, tag = "1"] }
    DesiredLrpEvent { desired_lrp: Option<DesiredLrp> = [message, optional, tag = "1"], trace_id: String = [string, tag = "2"] }
    DesiredLrpChangedEvent {
        before: Option<DesiredLrp> = [message, optional, tag = "1"], after: Option<DesiredLrp> = [message, optional, tag = "2"],
        trace_id: String = [string, tag = "3"],
    }
    ActualLrpInstanceEvent { actual_lrp: Option<ActualLrp> = [message, optional, tag = "1"], trace_id: String = [string, tag = "2"] }
    ActualLrpInstanceChangedEvent {
        key: Option<ActualLrpKey> = [message, optional, tag = "1"],
        instance_key: Option<ActualLrpInstanceKey> = [message, optional, tag = "2"],
        before: Option<ActualLrpInfo> = [message, optional, tag = "3"], after: Option<ActualLrpInfo> = [message, optional, tag = "4"],
        trace_id: String = [string, tag = "5"],
    }
    ActualLrpCrashedEvent {
        key: Option<ActualLrpKey> = [message, optional, tag = "1"],
        instance_key: Option<ActualLrpInstanceKey> = [message, optional, tag = "2"],
        crash_count: i32 = [int32, tag = "3"], crash_reason: String = [string, tag = "4"], since: i64 = [int64, tag = "5"],
    }
    ActualLrpGroupEvent { actual_lrp_group: Option<ActualLrpGroup> = [message, optional, tag = "1"] }
    ActualLrpGroupChangedEvent {
        before: Option<ActualLrpGroup> = [message, optional, tag = "1"], after: Option<ActualLrpGroup> = [message, optional, tag = "2"],
    }
    TaskEvent { task: Option<Task> = [message, optional, tag = "1"] }
    TaskChangedEvent { before: Option<Task> = [message, optional, tag = "1"], after: Option<Task> = [message, optional, tag = "2"] }
}

/// The JSON body of a task's completion callback: the BBS posts it when the task has ended.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct TaskCallback {
    pub task_guid: String,
    pub failed: bool,
    pub failure_reason: String,
    pub result: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub annotation: String,
    pub created_at: i64,
}

/// One decoded event of a BBS stream.
#[expect(
    clippy::large_enum_variant,
    reason = "events are handled one at a time, never stored in bulk"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    DesiredLrpCreated(DesiredLrpEvent),
    DesiredLrpChanged(DesiredLrpChangedEvent),
    DesiredLrpRemoved(DesiredLrpEvent),
    ActualLrpInstanceCreated(ActualLrpInstanceEvent),
    ActualLrpInstanceChanged(ActualLrpInstanceChangedEvent),
    ActualLrpInstanceRemoved(ActualLrpInstanceEvent),
    ActualLrpCrashed(ActualLrpCrashedEvent),
    TaskCreated(TaskEvent),
    TaskChanged(TaskChangedEvent),
    TaskRemoved(TaskEvent),
}

impl Event {
    /// Returns the name in SSE's `event:`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DesiredLrpCreated(_) => "desired_lrp_created",
            Self::DesiredLrpChanged(_) => "desired_lrp_changed",
            Self::DesiredLrpRemoved(_) => "desired_lrp_removed",
            Self::ActualLrpInstanceCreated(_) => "actual_lrp_instance_created",
            Self::ActualLrpInstanceChanged(_) => "actual_lrp_instance_changed",
            Self::ActualLrpInstanceRemoved(_) => "actual_lrp_instance_removed",
            Self::ActualLrpCrashed(_) => "actual_lrp_crashed",
            Self::TaskCreated(_) => "task_created",
            Self::TaskChanged(_) => "task_changed",
            Self::TaskRemoved(_) => "task_removed",
        }
    }

    /// Returns the protobuf bytes that follow `data:` in base64.
    pub fn encode(&self) -> Vec<u8> {
        use prost::Message as _;
        match self {
            Self::DesiredLrpCreated(e) | Self::DesiredLrpRemoved(e) => e.encode_to_vec(),
            Self::DesiredLrpChanged(e) => e.encode_to_vec(),
            Self::ActualLrpInstanceCreated(e) | Self::ActualLrpInstanceRemoved(e) => {
                e.encode_to_vec()
            }
            Self::ActualLrpInstanceChanged(e) => e.encode_to_vec(),
            Self::ActualLrpCrashed(e) => e.encode_to_vec(),
            Self::TaskCreated(e) | Self::TaskRemoved(e) => e.encode_to_vec(),
            Self::TaskChanged(e) => e.encode_to_vec(),
        }
    }

    /// Decodes one event. `Ok(None)` means that this version does not know the name, which is tolerated.
    pub fn decode(name: &str, data: &[u8]) -> Result<Option<Self>, prost::DecodeError> {
        use prost::Message as _;
        Ok(Some(match name {
            "desired_lrp_created" => Self::DesiredLrpCreated(DesiredLrpEvent::decode(data)?),
            "desired_lrp_changed" => Self::DesiredLrpChanged(DesiredLrpChangedEvent::decode(data)?),
            "desired_lrp_removed" => Self::DesiredLrpRemoved(DesiredLrpEvent::decode(data)?),
            "actual_lrp_instance_created" => {
                Self::ActualLrpInstanceCreated(ActualLrpInstanceEvent::decode(data)?)
            }
            "actual_lrp_instance_changed" => {
                Self::ActualLrpInstanceChanged(ActualLrpInstanceChangedEvent::decode(data)?)
            }
            "actual_lrp_instance_removed" => {
                Self::ActualLrpInstanceRemoved(ActualLrpInstanceEvent::decode(data)?)
            }
            "actual_lrp_crashed" => Self::ActualLrpCrashed(ActualLrpCrashedEvent::decode(data)?),
            "task_created" => Self::TaskCreated(TaskEvent::decode(data)?),
            "task_changed" => Self::TaskChanged(TaskChangedEvent::decode(data)?),
            "task_removed" => Self::TaskRemoved(TaskEvent::decode(data)?),
            _ => return Ok(None),
        }))
    }
}

/// One decoded event of the deprecated stream of groups.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupEvent {
    Created(ActualLrpGroupEvent),
    Changed(Box<ActualLrpGroupChangedEvent>),
    Removed(ActualLrpGroupEvent),
}

impl GroupEvent {
    /// Returns the name in SSE's `event:`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created(_) => "actual_lrp_created",
            Self::Changed(_) => "actual_lrp_changed",
            Self::Removed(_) => "actual_lrp_removed",
        }
    }

    /// Decodes one event. `Ok(None)` means that it is any other event of the stream.
    pub fn decode(name: &str, data: &[u8]) -> Result<Option<Self>, prost::DecodeError> {
        use prost::Message as _;
        Ok(Some(match name {
            "actual_lrp_created" => Self::Created(ActualLrpGroupEvent::decode(data)?),
            "actual_lrp_changed" => {
                Self::Changed(Box::new(ActualLrpGroupChangedEvent::decode(data)?))
            }
            "actual_lrp_removed" => Self::Removed(ActualLrpGroupEvent::decode(data)?),
            _ => return Ok(None),
        }))
    }
}
