//! BBS messages as the original prints them: Go's encoding of its generated structs. Members of embedded structs stand
//! flat, the order is the struct's, some empty values are left out and some are `null`; jq scripts depend on all of it.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use wire::bbs as m;
use wire::locket;

/// A JSON object whose members keep the order in which they were put.
#[derive(Debug, Default)]
pub struct Object(Vec<(&'static str, Box<RawValue>)>);

impl Object {
    fn new() -> Self {
        Self::default()
    }
    /// A member that is always there.
    fn put(mut self, key: &'static str, value: impl Serialize) -> Self {
        if let Ok(value) = to_raw_value(&value) {
            self.0.push((key, value));
        }
        self
    }
    fn some(self, key: &'static str, value: Option<impl Serialize>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }
    /// Left out when empty.
    fn text(self, key: &'static str, value: &str) -> Self {
        if value.is_empty() {
            self
        } else {
            self.put(key, value)
        }
    }
    /// Left out when zero.
    fn number(self, key: &'static str, value: impl Into<i128>) -> Self {
        match value.into() {
            0 => self,
            n => self.put(key, n as i64),
        }
    }
    /// Left out when empty.
    fn list<T: Serialize>(self, key: &'static str, values: Vec<T>) -> Self {
        if values.is_empty() {
            self
        } else {
            self.put(key, values)
        }
    }
    /// `null` when empty.
    fn nullable<T: Serialize>(self, key: &'static str, values: Vec<T>) -> Self {
        let values = (!values.is_empty()).then_some(values);
        self.put(key, values)
    }
    fn map<V: Serialize>(self, key: &'static str, values: BTreeMap<&str, V>) -> Self {
        if values.is_empty() {
            self
        } else {
            self.put(key, values)
        }
    }
    /// The members of an embedded struct.
    fn embed(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

fn each<'a, T: 'a>(
    values: impl IntoIterator<Item = &'a T>,
    encode: fn(&T) -> Object,
) -> Vec<Object> {
    values.into_iter().map(encode).collect()
}

// ── actual LRPs ──

/// One instance.
pub fn actual_lrp(lrp: &m::ActualLrp) -> Object {
    key(lrp.key.as_ref())
        .embed(instance_key(lrp.instance_key.as_ref()))
        .embed(net_info(lrp.net_info.as_ref()))
        .put("crash_count", lrp.crash_count)
        .text("crash_reason", &lrp.crash_reason)
        .put("state", &lrp.state)
        .text("placement_error", &lrp.placement_error)
        .put("since", lrp.since)
        .put(
            "modification_tag",
            modification_tag(lrp.modification_tag.as_ref()),
        )
        .put("presence", presence(lrp.presence))
        .list(
            "actual_lrp_internal_routes",
            each(&lrp.internal_routes, |r| {
                Object::new().put("hostname", &r.hostname)
            }),
        )
        .map(
            "metric_tags",
            lrp.metric_tags
                .iter()
                .map(|(k, v)| (k.as_str(), v))
                .collect(),
        )
        .put(
            "OptionalRoutable",
            lrp.routable.map(|r| Object::new().put("routable", r)),
        )
        .put("availability_zone", &lrp.availability_zone)
}

fn key(key: Option<&m::ActualLrpKey>) -> Object {
    let key = key.cloned().unwrap_or_default();
    Object::new()
        .put("process_guid", key.process_guid)
        .put("index", key.index)
        .put("domain", key.domain)
}

fn instance_key(key: Option<&m::ActualLrpInstanceKey>) -> Object {
    let key = key.cloned().unwrap_or_default();
    Object::new()
        .put("instance_guid", key.instance_guid)
        .put("cell_id", key.cell_id)
}

fn net_info(net: Option<&m::ActualLrpNetInfo>) -> Object {
    let net = net.cloned().unwrap_or_default();
    Object::new()
        .put("address", net.address)
        .nullable("ports", each(&net.ports, port_mapping))
        .text("instance_address", &net.instance_address)
        .put(
            "preferred_address",
            ["UNKNOWN", "INSTANCE", "HOST"]
                .get(net.preferred_address as usize)
                .unwrap_or(&"UNKNOWN"),
        )
        .text("instance_ipv6_address", &net.instance_ipv6_address)
}

fn port_mapping(port: &m::PortMapping) -> Object {
    Object::new()
        .put("container_port", port.container_port)
        .put("host_port", port.host_port)
        .put("container_tls_proxy_port", port.container_tls_proxy_port)
        .put("host_tls_proxy_port", port.host_tls_proxy_port)
}

fn modification_tag(tag: Option<&m::ModificationTag>) -> Object {
    let tag = tag.cloned().unwrap_or_default();
    Object::new()
        .put("epoch", tag.epoch)
        .put("index", tag.index)
}

fn presence(presence: i32) -> &'static str {
    ["ORDINARY", "EVACUATING", "SUSPECT"]
        .get(presence as usize)
        .unwrap_or(&"ORDINARY")
}

fn actual_lrp_info(info: &m::ActualLrpInfo) -> Object {
    net_info(info.net_info.as_ref())
        .put("crash_count", info.crash_count)
        .text("crash_reason", &info.crash_reason)
        .put("state", &info.state)
        .text("placement_error", &info.placement_error)
        .put("since", info.since)
        .put(
            "modification_tag",
            modification_tag(info.modification_tag.as_ref()),
        )
        .put("presence", presence(info.presence))
        // the original names this one differently, and leaves `false` out
        .put(
            "OptionalRoutable",
            info.routable
                .map(|r| Object::new().some("Routable", r.then_some(true))),
        )
        .put("availability_zone", &info.availability_zone)
}

// ── desired LRPs ──

/// What should run.
pub fn desired_lrp(lrp: &m::DesiredLrp) -> Object {
    Object::new()
        .put("process_guid", &lrp.process_guid)
        .put("domain", &lrp.domain)
        .put("rootfs", &lrp.root_fs)
        .put("instances", lrp.instances)
        .nullable("env", env(&lrp.environment_variables))
        .some("setup", lrp.setup.as_ref().map(action))
        .some("action", lrp.action.as_ref().map(action))
        .put("start_timeout_ms", lrp.start_timeout_ms)
        .number("deprecated_timeout_ns", lrp.deprecated_start_timeout_s)
        .some("monitor", lrp.monitor.as_ref().map(action))
        .put("disk_mb", lrp.disk_mb)
        .put("memory_mb", lrp.memory_mb)
        .put("cpu_weight", lrp.cpu_weight)
        .put("privileged", lrp.privileged)
        .list("ports", lrp.ports.clone())
        .some("routes", lrp.routes.as_ref().map(routes))
        .put("log_source", &lrp.log_source)
        .put("log_guid", &lrp.log_guid)
        .put("metrics_guid", &lrp.metrics_guid)
        .put("annotation", &lrp.annotation)
        .list("egress_rules", each(&lrp.egress_rules, egress_rule))
        .some(
            "modification_tag",
            lrp.modification_tag
                .as_ref()
                .map(|t| modification_tag(Some(t))),
        )
        .list(
            "cached_dependencies",
            each(&lrp.cached_dependencies, cached_dependency),
        )
        .text("legacy_download_user", &lrp.legacy_download_user)
        .text(
            "trusted_system_certificates_path",
            &lrp.trusted_system_certificates_path,
        )
        .list("volume_mounts", each(&lrp.volume_mounts, volume_mount))
        .some("network", lrp.network.as_ref().map(network))
        .list("placement_tags", lrp.placement_tags.clone())
        .put("max_pids", lrp.max_pids)
        .some(
            "certificate_properties",
            lrp.certificate_properties
                .as_ref()
                .map(certificate_properties),
        )
        .text("image_username", &lrp.image_username)
        .text("image_password", &lrp.image_password)
        .some(
            "check_definition",
            lrp.check_definition.as_ref().map(check_definition),
        )
        .list("image_layers", each(&lrp.image_layers, image_layer))
        .map("metric_tags", metric_tags(&lrp.metric_tags))
        .list("sidecars", each(&lrp.sidecars, sidecar))
        .some(
            "log_rate_limit",
            lrp.log_rate_limit.as_ref().map(log_rate_limit),
        )
        .nullable(
            "volume_mounted_files",
            each(&lrp.volume_mounted_files, file),
        )
        .put("update_strategy", lrp.update_strategy)
}

/// What placement needs to know.
pub fn scheduling_info(info: &m::DesiredLrpSchedulingInfo) -> Object {
    let (key, resource) = (
        info.key.clone().unwrap_or_default(),
        info.resource.clone().unwrap_or_default(),
    );
    Object::new()
        .put("process_guid", key.process_guid)
        .put("domain", key.domain)
        .put("log_guid", key.log_guid)
        .put("annotation", &info.annotation)
        .put("instances", info.instances)
        .put("memory_mb", resource.memory_mb)
        .put("disk_mb", resource.disk_mb)
        .put("rootfs", resource.root_fs)
        .put("max_pids", resource.max_pids)
        .put("routes", info.routes.as_ref().map(routes))
        .embed(modification_tag(info.modification_tag.as_ref()))
        .some(
            "volume_placement",
            info.volume_placement
                .as_ref()
                .map(|v| Object::new().nullable("driver_names", v.driver_names.clone())),
        )
        .list("placement_tags", info.placement_tags.clone())
}

/// The raw JSON of each router kind; what is no JSON is shown as text.
fn routes(routes: &m::ProtoRoutes) -> BTreeMap<&str, Box<RawValue>> {
    let raw = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        RawValue::from_string(text.clone())
            .or_else(|_| to_raw_value(&text))
            .ok()
    };
    routes
        .routes
        .iter()
        .filter_map(|(kind, bytes)| Some((kind.as_str(), raw(bytes)?)))
        .collect()
}

/// `{"instances":2,"routes":{"cf-router":[…]},"annotation":"…","metric_tags":{…}}` as an update.
pub fn desired_lrp_update(text: &str) -> Result<m::DesiredLrpUpdate, serde_json::Error> {
    #[derive(serde::Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Tag {
        #[serde(rename = "static")]
        static_value: String,
        dynamic: String,
    }
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Update {
        instances: Option<i32>,
        routes: Option<BTreeMap<String, Box<RawValue>>>,
        annotation: Option<String>,
        metric_tags: BTreeMap<String, Tag>,
        image_username: Option<String>,
        image_password: Option<String>,
    }
    let update: Update = serde_json::from_str(text)?;
    let dynamic = |name: &str| match name {
        "INDEX" => m::MetricTagDynamic::Index,
        "INSTANCE_GUID" => m::MetricTagDynamic::InstanceGuid,
        _ => m::MetricTagDynamic::Invalid,
    };
    Ok(m::DesiredLrpUpdate {
        instances: update.instances,
        routes: update.routes.map(|routes| m::ProtoRoutes {
            routes: routes
                .into_iter()
                .map(|(kind, raw)| (kind, raw.get().as_bytes().to_vec()))
                .collect(),
        }),
        annotation: update.annotation,
        metric_tags: update
            .metric_tags
            .into_iter()
            .map(|(k, t)| {
                (
                    k,
                    m::MetricTagValue {
                        dynamic: dynamic(&t.dynamic) as i32,
                        static_value: t.static_value,
                    },
                )
            })
            .collect(),
        image_username: update.image_username,
        image_password: update.image_password,
    })
}

fn env(variables: &[m::EnvironmentVariable]) -> Vec<Object> {
    each(variables, |v| {
        Object::new().put("name", &v.name).put("value", &v.value)
    })
}

fn file(file: &m::File) -> Object {
    Object::new()
        .put("path", &file.path)
        .put("content", &file.content)
}

fn network(network: &m::Network) -> Object {
    Object::new().map(
        "properties",
        network
            .properties
            .iter()
            .map(|(k, v)| (k.as_str(), v))
            .collect(),
    )
}

fn certificate_properties(properties: &m::CertificateProperties) -> Object {
    Object::new().list(
        "organizational_unit",
        properties.organizational_unit.clone(),
    )
}

fn log_rate_limit(limit: &m::LogRateLimit) -> Object {
    Object::new().number("bytes_per_second", limit.bytes_per_second)
}

fn metric_tags(tags: &BTreeMap<String, m::MetricTagValue>) -> BTreeMap<&str, Object> {
    let dynamic = |tag: &m::MetricTagValue| {
        ["", "INDEX", "INSTANCE_GUID"]
            .get(tag.dynamic as usize)
            .copied()
            .unwrap_or_default()
    };
    tags.iter()
        .map(|(k, tag)| {
            (
                k.as_str(),
                Object::new()
                    .text("static", &tag.static_value)
                    .text("dynamic", dynamic(tag)),
            )
        })
        .collect()
}

fn egress_rule(rule: &m::SecurityGroupRule) -> Object {
    Object::new()
        .text("protocol", &rule.protocol)
        .list("destinations", rule.destinations.clone())
        .list("ports", rule.ports.clone())
        .some(
            "port_range",
            rule.port_range
                .as_ref()
                .map(|r| Object::new().put("start", r.start).put("end", r.end)),
        )
        .some(
            "icmp_info",
            rule.icmp_info
                .as_ref()
                .map(|i| Object::new().put("type", i.kind).put("code", i.code)),
        )
        .put("log", rule.log)
        .list("annotations", rule.annotations.clone())
}

fn cached_dependency(dependency: &m::CachedDependency) -> Object {
    Object::new()
        .put("name", &dependency.name)
        .put("from", &dependency.from)
        .put("to", &dependency.to)
        .put("cache_key", &dependency.cache_key)
        .put("log_source", &dependency.log_source)
        .text("checksum_algorithm", &dependency.checksum_algorithm)
        .text("checksum_value", &dependency.checksum_value)
}

fn volume_mount(mount: &m::VolumeMount) -> Object {
    Object::new()
        .put("driver", &mount.driver)
        .put("container_dir", &mount.container_dir)
        .put("mode", &mount.mode)
        .put(
            "shared",
            mount.shared.as_ref().map(|s| {
                Object::new()
                    .put("volume_id", &s.volume_id)
                    .put("mount_config", &s.mount_config)
            }),
        )
        .put("dedicated", ())
}

fn image_layer(layer: &m::ImageLayer) -> Object {
    let name = |names: [&'static str; 4], value: i32| {
        names.get(value as usize).copied().unwrap_or(names[0])
    };
    let algorithm = name(["", "SHA256", "SHA512", ""], layer.digest_algorithm);
    Object::new()
        .text("name", &layer.name)
        .put("url", &layer.url)
        .put("destination_path", &layer.destination_path)
        .put(
            "layer_type",
            name(
                [
                    "LayerTypeInvalid",
                    "SHARED",
                    "EXCLUSIVE",
                    "LayerTypeInvalid",
                ],
                layer.layer_type,
            ),
        )
        .put(
            "media_type",
            name(["MediaTypeInvalid", "TGZ", "TAR", "ZIP"], layer.media_type),
        )
        .text("digest_algorithm", algorithm)
        .text("digest_value", &layer.digest_value)
}

fn sidecar(sidecar: &m::Sidecar) -> Object {
    Object::new()
        .some("action", sidecar.action.as_ref().map(action))
        .put("disk_mb", sidecar.disk_mb)
        .put("memory_mb", sidecar.memory_mb)
}

fn check_definition(definition: &m::CheckDefinition) -> Object {
    Object::new()
        .list("checks", each(&definition.checks, check))
        .put("log_source", &definition.log_source)
        .list(
            "readiness_checks",
            each(&definition.readiness_checks, check),
        )
}

fn check(check: &m::Check) -> Object {
    let tcp = |c: &m::TcpCheck| {
        Object::new()
            .put("port", c.port)
            .number("connect_timeout_ms", c.connect_timeout_ms)
            .number("interval_ms", c.interval_ms)
    };
    let http = |c: &m::HttpCheck| {
        Object::new()
            .put("port", c.port)
            .number("request_timeout_ms", c.request_timeout_ms)
            .put("path", &c.path)
            .number("interval_ms", c.interval_ms)
    };
    Object::new()
        .some("tcp_check", check.tcp_check.as_ref().map(tcp))
        .some("http_check", check.http_check.as_ref().map(http))
}

// ── actions ──

/// `{"run":{…}}`, `{"serial":{"actions":[…]}}`.
pub fn action(action: &m::Action) -> Object {
    let inner = |a: &Option<Box<m::Action>>| a.as_deref().map(self::action);
    let group = |actions: &[m::Action], log_source: &str| {
        Object::new()
            .list("actions", each(actions, self::action))
            .text("log_source", log_source)
    };
    Object::new()
        .some("download", action.download.as_ref().map(download))
        .some("upload", action.upload.as_ref().map(upload))
        .some("run", action.run.as_ref().map(run))
        .some(
            "timeout",
            action.timeout.as_ref().map(|t| {
                Object::new()
                    .some("action", inner(&t.action))
                    .text("log_source", &t.log_source)
                    .put("timeout_ms", t.timeout_ms)
            }),
        )
        .some(
            "emit_progress",
            action.emit_progress.as_ref().map(|e| {
                Object::new()
                    .some("action", inner(&e.action))
                    .put("start_message", &e.start_message)
                    .put("success_message", &e.success_message)
                    .put("failure_message_prefix", &e.failure_message_prefix)
                    .text("log_source", &e.log_source)
            }),
        )
        .some(
            "try",
            action.try_.as_ref().map(|t| {
                Object::new()
                    .some("action", inner(&t.action))
                    .text("log_source", &t.log_source)
            }),
        )
        .some(
            "parallel",
            action
                .parallel
                .as_ref()
                .map(|g| group(&g.actions, &g.log_source)),
        )
        .some(
            "serial",
            action
                .serial
                .as_ref()
                .map(|g| group(&g.actions, &g.log_source)),
        )
        .some(
            "codependent",
            action
                .codependent
                .as_ref()
                .map(|g| group(&g.actions, &g.log_source)),
        )
}

fn download(a: &m::DownloadAction) -> Object {
    Object::new()
        .text("artifact", &a.artifact)
        .put("from", &a.from)
        .put("to", &a.to)
        .put("cache_key", &a.cache_key)
        .text("log_source", &a.log_source)
        .put("user", &a.user)
        .text("checksum_algorithm", &a.checksum_algorithm)
        .text("checksum_value", &a.checksum_value)
}

fn upload(a: &m::UploadAction) -> Object {
    Object::new()
        .text("artifact", &a.artifact)
        .put("from", &a.from)
        .put("to", &a.to)
        .text("log_source", &a.log_source)
        .put("user", &a.user)
}

fn run(a: &m::RunAction) -> Object {
    Object::new()
        .put("path", &a.path)
        .list("args", a.args.clone())
        .text("dir", &a.dir)
        .list("env", env(&a.env))
        .some(
            "resource_limits",
            a.resource_limits.as_ref().map(|l| {
                Object::new()
                    .some("nofile", l.nofile)
                    .some("nproc", l.nproc)
            }),
        )
        .put("user", &a.user)
        .text("log_source", &a.log_source)
        .put("suppress_log_output", a.suppress_log_output)
        .nullable("volume_mounted_files", each(&a.volume_mounted_files, file))
}

// ── tasks, cells, locks, events ──

/// A task, its definition's members first.
pub fn task(task: &m::Task) -> Object {
    task_definition(&task.task_definition.clone().unwrap_or_default())
        .put("task_guid", &task.task_guid)
        .put("domain", &task.domain)
        .put("created_at", task.created_at)
        .put("updated_at", task.updated_at)
        .put("first_completed_at", task.first_completed_at)
        .put(
            "state",
            ["Invalid", "Pending", "Running", "Completed", "Resolving"]
                .get(task.state as usize)
                .unwrap_or(&"Invalid"),
        )
        .put("cell_id", &task.cell_id)
        .put("result", &task.result)
        .put("failed", task.failed)
        .put("failure_reason", &task.failure_reason)
        .put("rejection_count", task.rejection_count)
        .put("rejection_reason", &task.rejection_reason)
}

fn task_definition(task: &m::TaskDefinition) -> Object {
    Object::new()
        .put("rootfs", &task.root_fs)
        .list("env", env(&task.environment_variables))
        .some("action", task.action.as_ref().map(action))
        .put("disk_mb", task.disk_mb)
        .put("memory_mb", task.memory_mb)
        .put("cpu_weight", task.cpu_weight)
        .put("privileged", task.privileged)
        .put("log_source", &task.log_source)
        .put("log_guid", &task.log_guid)
        .put("metrics_guid", &task.metrics_guid)
        .put("result_file", &task.result_file)
        .text("completion_callback_url", &task.completion_callback_url)
        .text("annotation", &task.annotation)
        .list("egress_rules", each(&task.egress_rules, egress_rule))
        .list(
            "cached_dependencies",
            each(&task.cached_dependencies, cached_dependency),
        )
        .text("legacy_download_user", &task.legacy_download_user)
        .text(
            "trusted_system_certificates_path",
            &task.trusted_system_certificates_path,
        )
        .list("volume_mounts", each(&task.volume_mounts, volume_mount))
        .some("network", task.network.as_ref().map(network))
        .list("placement_tags", task.placement_tags.clone())
        .put("max_pids", task.max_pids)
        .some(
            "certificate_properties",
            task.certificate_properties
                .as_ref()
                .map(certificate_properties),
        )
        .put("image_username", &task.image_username)
        .put("image_password", &task.image_password)
        .list("image_layers", each(&task.image_layers, image_layer))
        .some(
            "log_rate_limit",
            task.log_rate_limit.as_ref().map(log_rate_limit),
        )
        .map("metric_tags", metric_tags(&task.metric_tags))
        .nullable(
            "volume_mounted_files",
            each(&task.volume_mounted_files, file),
        )
}

/// A cell that is there.
pub fn cell_presence(cell: &m::CellPresence) -> Object {
    let capacity = |c: &m::CellCapacity| {
        Object::new()
            .put("memory_mb", c.memory_mb)
            .put("disk_mb", c.disk_mb)
            .put("containers", c.containers)
    };
    Object::new()
        .put("cell_id", &cell.cell_id)
        .put("rep_address", &cell.rep_address)
        .put("zone", &cell.zone)
        .some("capacity", cell.capacity.as_ref().map(capacity))
        .list(
            "rootfs_provider_list",
            each(&cell.rootfs_providers, |p| {
                Object::new()
                    .put("name", &p.name)
                    .list("properties", p.properties.clone())
            }),
        )
        .list("placement_tags", cell.placement_tags.clone())
        .list(
            "optional_placement_tags",
            cell.optional_placement_tags.clone(),
        )
        .put("rep_url", &cell.rep_url)
        .put(
            "annotations",
            cell.annotations.iter().collect::<BTreeMap<_, _>>(),
        )
}

/// A lock or presence.
pub fn resource(resource: &locket::Resource) -> Object {
    Object::new()
        .text("key", &resource.key)
        .text("owner", &resource.owner)
        .text("value", &resource.value)
        .text("type", &resource.type_name)
        .number("type_code", resource.type_code)
}

/// `{"type":"actual_lrp_instance_changed","data":{…}}`.
pub fn event(event: &m::Event) -> Object {
    use m::Event as E;
    let of_desired = |e: &m::DesiredLrpEvent| {
        Object::new()
            .some("desired_lrp", e.desired_lrp.as_ref().map(desired_lrp))
            .put("trace_id", &e.trace_id)
    };
    let of_actual = |e: &m::ActualLrpInstanceEvent| {
        Object::new()
            .some("actual_lrp", e.actual_lrp.as_ref().map(actual_lrp))
            .put("trace_id", &e.trace_id)
    };
    let of_task = |e: &m::TaskEvent| Object::new().some("task", e.task.as_ref().map(task));
    let data = match event {
        E::DesiredLrpCreated(e) | E::DesiredLrpRemoved(e) => of_desired(e),
        E::DesiredLrpChanged(e) => Object::new()
            .some("before", e.before.as_ref().map(desired_lrp))
            .some("after", e.after.as_ref().map(desired_lrp))
            .put("trace_id", &e.trace_id),
        E::ActualLrpInstanceCreated(e) | E::ActualLrpInstanceRemoved(e) => of_actual(e),
        E::ActualLrpInstanceChanged(e) => key(e.key.as_ref())
            .embed(instance_key(e.instance_key.as_ref()))
            .some("before", e.before.as_ref().map(actual_lrp_info))
            .some("after", e.after.as_ref().map(actual_lrp_info))
            .put("trace_id", &e.trace_id),
        E::ActualLrpCrashed(e) => key(e.key.as_ref())
            .embed(instance_key(e.instance_key.as_ref()))
            .put("crash_count", e.crash_count)
            .text("crash_reason", &e.crash_reason)
            .put("since", e.since),
        E::TaskCreated(e) | E::TaskRemoved(e) => of_task(e),
        E::TaskChanged(e) => Object::new()
            .some("before", e.before.as_ref().map(task))
            .some("after", e.after.as_ref().map(task)),
    };
    Object::new().put("type", event.name()).put("data", data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(object: &Object, expected: &str) {
        assert_eq!(serde_json::to_string(object).unwrap(), expected);
    }

    fn instance() -> m::ActualLrp {
        m::ActualLrp {
            key: Some(m::ActualLrpKey {
                process_guid: "P".into(),
                index: 0,
                domain: "cf-apps".into(),
            }),
            instance_key: Some(m::ActualLrpInstanceKey {
                instance_guid: "I".into(),
                cell_id: "cell-0".into(),
            }),
            net_info: Some(m::ActualLrpNetInfo {
                address: "10.0.1.5".into(),
                ports: vec![m::PortMapping {
                    container_port: 8080,
                    host_port: 61012,
                    container_tls_proxy_port: 61001,
                    host_tls_proxy_port: 61014,
                }],
                instance_address: "10.255.7.3".into(),
                preferred_address: m::PreferredAddress::Host as i32,
                ..Default::default()
            }),
            state: "RUNNING".into(),
            since: 1,
            modification_tag: Some(m::ModificationTag {
                epoch: "E".into(),
                index: 2,
            }),
            routable: Some(true),
            availability_zone: "z1".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_running_instance() {
        check(
            &actual_lrp(&instance()),
            r#"{"process_guid":"P","index":0,"domain":"cf-apps","instance_guid":"I","cell_id":"cell-0","address":"10.0.1.5","ports":[{"container_port":8080,"host_port":61012,"container_tls_proxy_port":61001,"host_tls_proxy_port":61014}],"instance_address":"10.255.7.3","preferred_address":"HOST","crash_count":0,"state":"RUNNING","since":1,"modification_tag":{"epoch":"E","index":2},"presence":"ORDINARY","OptionalRoutable":{"routable":true},"availability_zone":"z1"}"#,
        );
    }

    #[test]
    fn an_unclaimed_instance_has_null_ports() {
        let lrp = m::ActualLrp {
            state: "UNCLAIMED".into(),
            placement_error: "no room".into(),
            ..Default::default()
        };
        check(
            &actual_lrp(&lrp),
            r#"{"process_guid":"","index":0,"domain":"","instance_guid":"","cell_id":"","address":"","ports":null,"preferred_address":"UNKNOWN","crash_count":0,"state":"UNCLAIMED","placement_error":"no room","since":0,"modification_tag":{"epoch":"","index":0},"presence":"ORDINARY","OptionalRoutable":null,"availability_zone":""}"#,
        );
    }

    #[test]
    fn a_desired_lrp_shows_routes_and_actions_as_json() {
        let run = m::Action {
            run: Some(m::RunAction {
                path: "/tmp/lifecycle/launcher".into(),
                args: vec!["app".into()],
                user: "vcap".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let lrp = m::DesiredLrp {
            process_guid: "P".into(),
            domain: "cf-apps".into(),
            root_fs: "preloaded:cflinuxfs4".into(),
            instances: 2,
            environment_variables: vec![m::EnvironmentVariable {
                name: "A".into(),
                value: "b".into(),
            }],
            action: Some(m::Action {
                codependent: Some(m::CodependentAction {
                    actions: vec![run],
                    log_source: String::new(),
                }),
                ..Default::default()
            }),
            ports: vec![8080],
            routes: Some(m::ProtoRoutes {
                routes: [(
                    "cf-router".to_owned(),
                    br#"[{"hostnames":["a.b"],"port":8080}]"#.to_vec(),
                )]
                .into(),
            }),
            metric_tags: [
                (
                    "instance_id".to_owned(),
                    m::MetricTagValue {
                        dynamic: 1,
                        ..Default::default()
                    },
                ),
                (
                    "app".to_owned(),
                    m::MetricTagValue {
                        static_value: "x".into(),
                        dynamic: 0,
                    },
                ),
            ]
            .into(),
            log_rate_limit: Some(m::LogRateLimit {
                bytes_per_second: -1,
            }),
            ..Default::default()
        };
        check(
            &desired_lrp(&lrp),
            r#"{"process_guid":"P","domain":"cf-apps","rootfs":"preloaded:cflinuxfs4","instances":2,"env":[{"name":"A","value":"b"}],"action":{"codependent":{"actions":[{"run":{"path":"/tmp/lifecycle/launcher","args":["app"],"user":"vcap","suppress_log_output":false,"volume_mounted_files":null}}]}},"start_timeout_ms":0,"disk_mb":0,"memory_mb":0,"cpu_weight":0,"privileged":false,"ports":[8080],"routes":{"cf-router":[{"hostnames":["a.b"],"port":8080}]},"log_source":"","log_guid":"","metrics_guid":"","annotation":"","max_pids":0,"metric_tags":{"app":{"static":"x"},"instance_id":{"dynamic":"INDEX"}},"log_rate_limit":{"bytes_per_second":-1},"volume_mounted_files":null,"update_strategy":0}"#,
        );
    }

    #[test]
    fn tasks_cells_and_events() {
        let pending = m::Task {
            task_guid: "T".into(),
            domain: "cf-tasks".into(),
            state: m::TaskState::Pending as i32,
            ..Default::default()
        };
        check(
            &task(&pending),
            r#"{"rootfs":"","disk_mb":0,"memory_mb":0,"cpu_weight":0,"privileged":false,"log_source":"","log_guid":"","metrics_guid":"","result_file":"","max_pids":0,"image_username":"","image_password":"","volume_mounted_files":null,"task_guid":"T","domain":"cf-tasks","created_at":0,"updated_at":0,"first_completed_at":0,"state":"Pending","cell_id":"","result":"","failed":false,"failure_reason":"","rejection_count":0,"rejection_reason":""}"#,
        );
        let cell = m::CellPresence {
            cell_id: "c".into(),
            zone: "z1".into(),
            rep_url: "https://c:1801".into(),
            rootfs_providers: vec![m::Provider {
                name: "preloaded".into(),
                properties: vec!["cflinuxfs4".into()],
            }],
            ..Default::default()
        };
        check(
            &cell_presence(&cell),
            r#"{"cell_id":"c","rep_address":"","zone":"z1","rootfs_provider_list":[{"name":"preloaded","properties":["cflinuxfs4"]}],"rep_url":"https://c:1801","annotations":{}}"#,
        );
        let crashed = m::ActualLrpCrashedEvent {
            key: instance().key,
            instance_key: instance().instance_key,
            crash_count: 1,
            crash_reason: "out of memory".into(),
            since: 5,
        };
        check(
            &event(&m::Event::ActualLrpCrashed(crashed)),
            r#"{"type":"actual_lrp_crashed","data":{"process_guid":"P","index":0,"domain":"cf-apps","instance_guid":"I","cell_id":"cell-0","crash_count":1,"crash_reason":"out of memory","since":5}}"#,
        );
        let info = m::ActualLrpInfo {
            state: "RUNNING".into(),
            routable: Some(true),
            ..Default::default()
        };
        let changed = m::ActualLrpInstanceChangedEvent {
            key: instance().key,
            instance_key: instance().instance_key,
            after: Some(info),
            ..Default::default()
        };
        let text =
            serde_json::to_string(&event(&m::Event::ActualLrpInstanceChanged(changed))).unwrap();
        assert!(text.starts_with(r#"{"type":"actual_lrp_instance_changed","data":{"process_guid":"P","index":0,"domain":"cf-apps","instance_guid":"I","cell_id":"cell-0","after":{"address":"","#), "{text}");
        assert!(text.contains(r#""OptionalRoutable":{"Routable":true}"#));
    }

    #[test]
    fn updates_keep_routes_raw() {
        let update = desired_lrp_update(r#"{"instances":3,"routes":{"cf-router":[{"port":8080}]},"metric_tags":{"a":{"dynamic":"INDEX"}}}"#).unwrap();
        assert_eq!((update.instances, update.annotation), (Some(3), None));
        assert_eq!(
            update.routes.unwrap().routes["cf-router"],
            br#"[{"port":8080}]"#
        );
        assert_eq!(update.metric_tags["a"].dynamic, 1);
        assert!(desired_lrp_update("{").is_err());
    }
}
