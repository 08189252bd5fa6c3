//! The parts of the API's responses that commands read. Unknown fields are ignored, missing ones are empty.

use super::error::Item;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

macro_rules! answers {
    ($( $(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident : $ty:ty),* $(,)? } )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(default)]
        pub(crate) struct $name { $( $(#[$fmeta])* pub(crate) $field: $ty, )* }
    )*};
}

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<T> {
    #[serde(default)]
    pub(crate) pagination: Pagination,
    pub(crate) resources: Vec<T>,
}

answers! {
    Pagination { next: Option<Link> }
    Link { href: Option<String>, meta: BTreeMap<String, Value> }
    Root { links: BTreeMap<String, Option<Link>> }
    Detail { detail: String }
    Job { guid: String, state: String, errors: Vec<Item>, warnings: Vec<Detail> }

    Guid { guid: String }
    /// A to-one relationship.
    One { data: Option<Guid> }
    Relationships { organization: One, space: One, quota: One }
    Named { guid: String, name: String }
    Organization { guid: String, name: String, relationships: Relationships }
    Space { guid: String, name: String, relationships: Relationships }

    App { guid: String, name: String, state: String, lifecycle: Lifecycle }
    Lifecycle { #[serde(rename = "type")] kind: String }
    Process {
        guid: String, #[serde(rename = "type")] kind: String, command: Option<String>, instances: i64, memory_in_mb: i64,
        process_instances: Vec<ProcessInstance>, relationships: ProcessRelationships,
    }
    ProcessRelationships { app: One }
    ProcessInstance { index: i64, state: String }
    Sidecar { name: String }
    Instance {
        index: i64, state: String, uptime: i64, mem_quota: Option<u64>, disk_quota: Option<u64>, log_rate_limit: Option<i64>,
        details: Option<String>, routable: Option<bool>, isolation_segment: Option<String>, usage: Usage,
    }
    Usage { cpu: Option<f64>, cpu_entitlement: Option<f64>, mem: Option<u64>, disk: Option<u64>, log_rate: Option<u64> }
    /// The response of `GET …/stats`: a list without paging.
    Stats { resources: Vec<Instance> }

    Task {
        guid: String, sequence_id: u64, name: String, state: String, created_at: String, command: Option<String>, result: TaskResult,
    }
    TaskResult { failure_reason: Option<String> }
    Policies { policies: Vec<Policy> }
    #[derive(PartialEq)]
    Policy { source: PolicySource, destination: PolicyDestination }
    #[derive(PartialEq)]
    PolicySource { id: String }
    #[derive(PartialEq)]
    PolicyDestination { id: String, protocol: String, ports: PolicyPorts }
    #[derive(PartialEq)]
    PolicyPorts { start: u16, end: u16 }
    Quota { guid: String, name: String, apps: BTreeMap<String, Value>, services: BTreeMap<String, Value>, routes: BTreeMap<String, Value> }

    Package { guid: String, state: String, data: PackageData }
    PackageData { error: Option<String> }
    Build { guid: String, state: String, error: Option<String>, droplet: Option<Guid> }
    Deployment { guid: String, status: DeploymentStatus, new_processes: Vec<Process> }
    DeploymentStatus { value: String, reason: String, details: DeploymentDetails }
    DeploymentDetails { error: Option<String> }
    Droplet { guid: String, created_at: String, stack: Option<String>, image: Option<String>, buildpacks: Option<Vec<DropletBuildpack>> }
    DropletBuildpack { name: String, version: Option<String>, buildpack_name: Option<String>, detect_output: Option<String> }

    Route {
        guid: String, protocol: String, host: String, path: String, port: Option<u32>, url: String, destinations: Vec<Destination>,
        relationships: RouteRelationships, options: Option<BTreeMap<String, Value>>,
    }
    Propagation { state: String, summary: String }
    RouteRelationships { space: One, domain: One }
    Destination { guid: String, app: DestinationApp, port: Option<u32>, protocol: Option<String> }
    DestinationApp { guid: Option<String>, process: DestinationProcess }
    DestinationProcess { #[serde(rename = "type")] kind: String }
    Domain { guid: String, name: String, internal: bool, supported_protocols: Vec<String>, relationships: Relationships, enforce_route_policies: bool, route_policies_scope: Option<String> }
    RoutePolicy { guid: String, source: String, relationships: PolicyRelationships }
    PolicyRelationships { route: One }
    Reservation { matching_route: bool }

    ServiceInstance {
        guid: String, name: String, #[serde(rename = "type")] kind: String, tags: Vec<String>, syslog_drain_url: Option<String>,
        route_service_url: Option<String>, last_operation: LastOperation, dashboard_url: Option<String>, upgrade_available: Option<bool>,
        maintenance_info: Option<MaintenanceInfo>, relationships: InstanceRelationships,
    }
    InstanceRelationships { space: One, service_plan: One }
    MaintenanceInfo { version: String, description: Option<String> }
    /// A page of service instances.
    InstancePage { pagination: Pagination, resources: Vec<ServiceInstance>, included: Market }
    /// The use of a service instance in the spaces with which it is shared.
    ShareUsage { usage_summary: Vec<SpaceUsage> }
    SpaceUsage { space: Guid, bound_app_count: i64 }
    ServiceBroker { guid: String, name: String, url: String }
    ServiceOffering {
        guid: String, name: String, description: String, documentation_url: Option<String>, tags: Vec<String>,
        relationships: OfferingRelationships,
    }
    OfferingRelationships { service_broker: One }
    ServicePlan {
        guid: String, name: String, description: String, free: bool, available: bool, visibility_type: String, costs: Vec<Cost>,
        maintenance_info: Option<MaintenanceInfo>, relationships: PlanRelationships,
    }
    Cost { currency: String, amount: f64, unit: String }
    PlanRelationships { service_offering: One, space: One }
    Visibility { organizations: Vec<Named> }
    /// The resources above instances and plans, as far as a request includes them.
    Market { service_plans: Vec<ServicePlan>, service_offerings: Vec<ServiceOffering>, service_brokers: Vec<Named>, spaces: Vec<Space>, organizations: Vec<Named> }
    /// A page of plans.
    MarketPage { pagination: Pagination, resources: Vec<ServicePlan>, included: Market }
    /// A page of offerings.
    OfferingPage { resources: Vec<ServiceOffering>, included: Market }

    LastOperation {
        #[serde(rename = "type")] kind: String, state: String, description: Option<String>, created_at: String, updated_at: String,
    }
    ServiceBinding { guid: String, created_at: String, name: Option<String>, last_operation: LastOperation, relationships: BindingRelationships }
    BindingRelationships { app: One, service_instance: One }
    RouteBinding { guid: String, relationships: RouteBindingRelationships }
    RouteBindingRelationships { route: One, service_instance: One }

    Stack { name: String, description: Option<String>, state: Option<String> }
    Buildpack {
        name: String, stack: Option<String>, position: i64, enabled: bool, locked: bool, state: String, filename: Option<String>,
        lifecycle: Option<String>,
    }
    Event { created_at: String, #[serde(rename = "type")] kind: String, actor: Actor, data: Value }
    Actor { name: String }
    Env {
        system_env_json: BTreeMap<String, Value>, application_env_json: BTreeMap<String, Value>,
        environment_variables: BTreeMap<String, Value>, running_env_json: BTreeMap<String, Value>,
        staging_env_json: BTreeMap<String, Value>,
    }
    Diff { diff: Vec<Change> }
    Change { op: String, path: String, was: Value, value: Value }
}

/// A file that the platform may already have.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
pub(crate) struct Resource {
    pub(crate) path: String,
    /// The mode as octal text: `0644`.
    pub(crate) mode: String,
    pub(crate) checksum: Checksum,
    pub(crate) size_in_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
pub(crate) struct Checksum {
    pub(crate) value: String,
}

impl App {
    pub(crate) fn is_started(&self) -> bool {
        self.state == "STARTED"
    }
}

impl One {
    pub(crate) fn guid(&self) -> &str {
        self.data.as_ref().map_or("", |d| d.guid.as_str())
    }
}

impl ServiceInstance {
    pub(crate) fn is_managed(&self) -> bool {
        self.kind == "managed"
    }

    /// Returns the version of its plan that the instance has; empty if the plan has no versions.
    pub(crate) fn version(&self) -> &str {
        let info = self.maintenance_info.as_ref();
        info.map_or("", |info| info.version.as_str())
    }

    pub(crate) fn is_upgradable(&self) -> bool {
        self.upgrade_available.unwrap_or_default()
    }
}

impl LastOperation {
    pub(crate) fn is(&self, kind: &str, state: &str) -> bool {
        self.kind == kind && self.state == state
    }
}

impl Market {
    /// Adds what another page includes.
    pub(crate) fn add(&mut self, more: Self) {
        self.service_plans.extend(more.service_plans);
        self.service_offerings.extend(more.service_offerings);
        self.service_brokers.extend(more.service_brokers);
        self.spaces.extend(more.spaces);
        self.organizations.extend(more.organizations);
    }
}

impl ServiceBinding {
    pub(crate) fn app_guid(&self) -> &str {
        self.relationships.app.guid()
    }

    pub(crate) fn instance_guid(&self) -> &str {
        self.relationships.service_instance.guid()
    }
}

impl ServicePlan {
    pub(crate) fn offering_guid(&self) -> &str {
        self.relationships.service_offering.guid()
    }

    pub(crate) fn space_guid(&self) -> &str {
        self.relationships.space.guid()
    }
}

impl RouteBinding {
    pub(crate) fn route_guid(&self) -> &str {
        self.relationships.route.guid()
    }

    pub(crate) fn instance_guid(&self) -> &str {
        self.relationships.service_instance.guid()
    }
}

impl RoutePolicy {
    pub(crate) fn route_guid(&self) -> &str {
        self.relationships.route.guid()
    }

    /// Returns `app`, `space`, `org` or `any`, and the guid in the source (empty for `any`).
    pub(crate) fn parts(&self) -> (&str, &str) {
        let rest = self.source.strip_prefix("cf:").unwrap_or(&self.source);
        rest.split_once(':').unwrap_or((rest, ""))
    }
}

impl Domain {
    pub(crate) fn is_tcp(&self) -> bool {
        self.supported_protocols.iter().any(|p| p == "tcp")
    }
}
