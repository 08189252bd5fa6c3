//! Desired LRPs, in full and in the part that placement uses.

use super::action::action;
use super::actual_lrp::modification_tag;
use super::definition::{
    cached_dependency, certificate_properties, check_definition, egress_rule, env, file,
    image_layer, log_rate_limit, metric_tags, network, sidecar, volume_mount,
};
use super::{Object, each};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use wire::bbs as m;

/// Returns a desired LRP.
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

/// Returns the part of a desired LRP that placement uses.
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

/// Returns the raw JSON of each router kind. A value that is no JSON is shown as text.
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
