//! The specs of `create-desired-lrp`, `create-task` and `update-desired-lrp`.

use super::read::{Members, Place, Read, spec, structs};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use wire::bbs as m;

structs! {
    m::EnvironmentVariable: "EnvironmentVariable" { name: "name", value: "value" }
    m::File: "File" { path: "path", content: "content" }
    m::PortRange: "PortRange" { start: "start", end: "end" }
    m::IcmpInfo: "ICMPInfo" { kind: "type", code: "code" }
    m::SecurityGroupRule: "SecurityGroupRule" {
        protocol: "protocol", destinations: "destinations", ports: "ports", port_range: "port_range",
        icmp_info: "icmp_info", log: "log", annotations: "annotations",
    }
    m::CachedDependency: "CachedDependency" {
        name: "name", from: "from", to: "to", cache_key: "cache_key", log_source: "log_source",
        checksum_algorithm: "checksum_algorithm", checksum_value: "checksum_value",
    }
    m::SharedDevice: "SharedDevice" { volume_id: "volume_id", mount_config: "mount_config" }
    m::VolumeMount: "VolumeMount" { driver: "driver", container_dir: "container_dir", mode: "mode", shared: "shared" }
    m::Network: "Network" { properties: "properties" }
    m::CertificateProperties: "CertificateProperties" { organizational_unit: "organizational_unit" }
    m::LogRateLimit: "LogRateLimit" { bytes_per_second: "bytes_per_second" }
    m::TcpCheck: "TCPCheck" { port: "port", connect_timeout_ms: "connect_timeout_ms", interval_ms: "interval_ms" }
    m::HttpCheck: "HTTPCheck" { port: "port", request_timeout_ms: "request_timeout_ms", path: "path", interval_ms: "interval_ms" }
    m::Check: "Check" { tcp_check: "tcp_check", http_check: "http_check" }
    m::CheckDefinition: "CheckDefinition" { checks: "checks", log_source: "log_source", readiness_checks: "readiness_checks" }
    m::Action: "Action" {
        download: "download", upload: "upload", run: "run", timeout: "timeout", emit_progress: "emit_progress",
        try_: "try", parallel: "parallel", serial: "serial", codependent: "codependent",
    }
    m::DownloadAction: "DownloadAction" {
        artifact: "artifact", from: "from", to: "to", cache_key: "cache_key", log_source: "log_source", user: "user",
        checksum_algorithm: "checksum_algorithm", checksum_value: "checksum_value",
    }
    m::UploadAction: "UploadAction" { artifact: "artifact", from: "from", to: "to", log_source: "log_source", user: "user" }
    m::ResourceLimits: "ResourceLimits" { nofile: "nofile", nproc: "nproc" }
    m::RunAction: "RunAction" {
        path: "path", args: "args", dir: "dir", env: "env", resource_limits: "resource_limits", user: "user",
        log_source: "log_source", suppress_log_output: "suppress_log_output", volume_mounted_files: "volume_mounted_files",
    }
    m::TimeoutAction: "TimeoutAction" { action: "action", log_source: "log_source", timeout_ms: "timeout_ms" }
    m::EmitProgressAction: "EmitProgressAction" {
        action: "action", start_message: "start_message", success_message: "success_message",
        failure_message_prefix: "failure_message_prefix", log_source: "log_source",
    }
    m::TryAction: "TryAction" { action: "action", log_source: "log_source" }
    m::ParallelAction: "ParallelAction" { actions: "actions", log_source: "log_source" }
    m::SerialAction: "SerialAction" { actions: "actions", log_source: "log_source" }
    m::CodependentAction: "CodependentAction" { actions: "actions", log_source: "log_source" }
    m::Sidecar: "Sidecar" { action: "action", disk_mb: "disk_mb", memory_mb: "memory_mb" }
}

impl Read for m::ImageLayer {
    fn name() -> String {
        "models.ImageLayer".into()
    }
    fn read(raw: &RawValue, place: &Place) -> Result<Self, String> {
        let members = Members::of(raw, "ImageLayer", place)?;
        Ok(Self {
            name: members.get("name")?,
            url: members.get("url")?,
            destination_path: members.get("destination_path")?,
            layer_type: members
                .named("layer_type", &["LayerTypeInvalid", "SHARED", "EXCLUSIVE"])?,
            media_type: members.named("media_type", &["MediaTypeInvalid", "TGZ", "TAR", "ZIP"])?,
            digest_algorithm: members.named(
                "digest_algorithm",
                &["DigestAlgorithmInvalid", "SHA256", "SHA512"],
            )?,
            digest_value: members.get("digest_value")?,
        })
    }
}

impl Read for m::MetricTagValue {
    fn name() -> String {
        "models.MetricTagValue".into()
    }
    fn read(raw: &RawValue, place: &Place) -> Result<Self, String> {
        let members = Members::of(raw, "MetricTagValue", place)?;
        let names = ["DynamicValueInvalid", "INDEX", "INSTANCE_GUID"];
        Ok(Self {
            static_value: members.get("static")?,
            // The original cfdot maps any other name to an invalid value, which the BBS refuses.
            dynamic: members.named("dynamic", &names).unwrap_or_default(),
        })
    }
}

/// Routes stay as they were written, because their format depends on their kind.
impl Read for m::ProtoRoutes {
    fn name() -> String {
        "models.Routes".into()
    }
    fn read(raw: &RawValue, place: &Place) -> Result<Self, String> {
        let kinds = BTreeMap::<String, Raw>::read(raw, place)
            .map_err(|error| error.replace("map[string]json.RawMessage", &Self::name()))?;
        Ok(Self {
            routes: kinds.into_iter().map(|(kind, raw)| (kind, raw.0)).collect(),
        })
    }
}

#[derive(Default)]
struct Raw(Vec<u8>);

impl Read for Raw {
    fn name() -> String {
        "json.RawMessage".into()
    }
    fn read(raw: &RawValue, _: &Place) -> Result<Self, String> {
        Ok(Self(raw.get().as_bytes().to_vec()))
    }
}

/// Reads the format that `desired-lrp` prints.
pub fn read_desired_lrp(text: &str) -> Result<Option<m::DesiredLrp>, String> {
    spec(text, "DesiredLRP", |lrp| {
        Ok(m::DesiredLrp {
            process_guid: lrp.get("process_guid")?,
            domain: lrp.get("domain")?,
            root_fs: lrp.get("rootfs")?,
            instances: lrp.get("instances")?,
            environment_variables: lrp.get("env")?,
            setup: lrp.get("setup")?,
            action: lrp.get("action")?,
            deprecated_start_timeout_s: lrp.get("deprecated_timeout_ns")?,
            monitor: lrp.get("monitor")?,
            disk_mb: lrp.get("disk_mb")?,
            memory_mb: lrp.get("memory_mb")?,
            cpu_weight: lrp.get("cpu_weight")?,
            privileged: lrp.get("privileged")?,
            ports: lrp.get("ports")?,
            routes: lrp.get("routes")?,
            log_source: lrp.get("log_source")?,
            log_guid: lrp.get("log_guid")?,
            metrics_guid: lrp.get("metrics_guid")?,
            annotation: lrp.get("annotation")?,
            egress_rules: lrp.get("egress_rules")?,
            // The BBS sets it.
            modification_tag: None,
            cached_dependencies: lrp.get("cached_dependencies")?,
            legacy_download_user: lrp.get("legacy_download_user")?,
            trusted_system_certificates_path: lrp.get("trusted_system_certificates_path")?,
            volume_mounts: lrp.get("volume_mounts")?,
            network: lrp.get("network")?,
            start_timeout_ms: lrp.get("start_timeout_ms")?,
            placement_tags: lrp.get("placement_tags")?,
            max_pids: lrp.get("max_pids")?,
            certificate_properties: lrp.get("certificate_properties")?,
            image_username: lrp.get("image_username")?,
            image_password: lrp.get("image_password")?,
            check_definition: lrp.get("check_definition")?,
            image_layers: lrp.get("image_layers")?,
            metric_tags: lrp.get("metric_tags")?,
            sidecars: lrp.get("sidecars")?,
            log_rate_limit: lrp.get("log_rate_limit")?,
            volume_mounted_files: lrp.get("volume_mounted_files")?,
            update_strategy: lrp.get("update_strategy")?,
        })
    })
}

/// The members of a task's definition.
const DEFINITION: &[&str] = &[
    "rootfs",
    "env",
    "action",
    "disk_mb",
    "memory_mb",
    "cpu_weight",
    "privileged",
    "log_source",
    "log_guid",
    "metrics_guid",
    "result_file",
    "completion_callback_url",
    "annotation",
    "egress_rules",
    "cached_dependencies",
    "legacy_download_user",
    "trusted_system_certificates_path",
    "volume_mounts",
    "network",
    "placement_tags",
    "max_pids",
    "certificate_properties",
    "image_username",
    "image_password",
    "image_layers",
    "log_rate_limit",
    "metric_tags",
    "volume_mounted_files",
];

/// Reads the format that `task` prints: the definition's members are beside the guid and the domain. If none of them is present,
/// there is no definition.
pub fn read_task(text: &str) -> Result<Option<m::Task>, String> {
    spec(text, "Task", |task| {
        let definition = m::TaskDefinition {
            root_fs: task.get("rootfs")?,
            environment_variables: task.get("env")?,
            action: task.get("action")?,
            disk_mb: task.get("disk_mb")?,
            memory_mb: task.get("memory_mb")?,
            cpu_weight: task.get("cpu_weight")?,
            privileged: task.get("privileged")?,
            log_source: task.get("log_source")?,
            log_guid: task.get("log_guid")?,
            metrics_guid: task.get("metrics_guid")?,
            result_file: task.get("result_file")?,
            completion_callback_url: task.get("completion_callback_url")?,
            annotation: task.get("annotation")?,
            egress_rules: task.get("egress_rules")?,
            cached_dependencies: task.get("cached_dependencies")?,
            legacy_download_user: task.get("legacy_download_user")?,
            trusted_system_certificates_path: task.get("trusted_system_certificates_path")?,
            volume_mounts: task.get("volume_mounts")?,
            network: task.get("network")?,
            placement_tags: task.get("placement_tags")?,
            max_pids: task.get("max_pids")?,
            certificate_properties: task.get("certificate_properties")?,
            image_username: task.get("image_username")?,
            image_password: task.get("image_password")?,
            image_layers: task.get("image_layers")?,
            log_rate_limit: task.get("log_rate_limit")?,
            metric_tags: task.get("metric_tags")?,
            volume_mounted_files: task.get("volume_mounted_files")?,
        };
        Ok(m::Task {
            task_definition: task.has_any(DEFINITION).then_some(definition),
            task_guid: task.get("task_guid")?,
            domain: task.get("domain")?,
            ..m::Task::default()
        })
    })
}

/// Reads `{"instances":2,"routes":{"cf-router":[…]},"annotation":"…","metric_tags":{…}}` as an update.
pub fn read_desired_lrp_update(text: &str) -> Result<Option<m::DesiredLrpUpdate>, String> {
    spec(text, "internalDesiredLRPUpdate", |update| {
        Ok(m::DesiredLrpUpdate {
            instances: update.get("instances")?,
            routes: update.get("routes")?,
            annotation: update.get("annotation")?,
            metric_tags: update.get("metric_tags")?,
            image_username: update.get("image_username")?,
            image_password: update.get("image_password")?,
            // The specs of the original cfdot do not have it.
            egress: None,
        })
    })
}
