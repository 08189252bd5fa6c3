//! The parts that definitions of LRPs and tasks have in common: network, limits, mounts, checks.

use super::action::action;
use super::{Object, each};
use std::collections::BTreeMap;
use wire::bbs as m;

pub(super) fn env(variables: &[m::EnvironmentVariable]) -> Vec<Object> {
    each(variables, |v| {
        Object::new().put("name", &v.name).put("value", &v.value)
    })
}

pub(super) fn file(file: &m::File) -> Object {
    Object::new()
        .put("path", &file.path)
        .put("content", &file.content)
}

pub(super) fn network(network: &m::Network) -> Object {
    Object::new().map(
        "properties",
        network
            .properties
            .iter()
            .map(|(k, v)| (k.as_str(), v))
            .collect(),
    )
}

pub(super) fn certificate_properties(properties: &m::CertificateProperties) -> Object {
    Object::new().list(
        "organizational_unit",
        properties.organizational_unit.clone(),
    )
}

pub(super) fn log_rate_limit(limit: &m::LogRateLimit) -> Object {
    Object::new().number("bytes_per_second", limit.bytes_per_second)
}

pub(super) fn metric_tags(tags: &BTreeMap<String, m::MetricTagValue>) -> BTreeMap<&str, Object> {
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

pub(super) fn egress_rule(rule: &m::SecurityGroupRule) -> Object {
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

pub(super) fn cached_dependency(dependency: &m::CachedDependency) -> Object {
    Object::new()
        .put("name", &dependency.name)
        .put("from", &dependency.from)
        .put("to", &dependency.to)
        .put("cache_key", &dependency.cache_key)
        .put("log_source", &dependency.log_source)
        .text("checksum_algorithm", &dependency.checksum_algorithm)
        .text("checksum_value", &dependency.checksum_value)
}

pub(super) fn volume_mount(mount: &m::VolumeMount) -> Object {
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

pub(super) fn image_layer(layer: &m::ImageLayer) -> Object {
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

pub(super) fn sidecar(sidecar: &m::Sidecar) -> Object {
    Object::new()
        .some("action", sidecar.action.as_ref().map(action))
        .put("disk_mb", sidecar.disk_mb)
        .put("memory_mb", sidecar.memory_mb)
}

pub(super) fn check_definition(definition: &m::CheckDefinition) -> Object {
    Object::new()
        .list("checks", each(&definition.checks, check))
        .put("log_source", &definition.log_source)
        .list(
            "readiness_checks",
            each(&definition.readiness_checks, check),
        )
}

pub(super) fn check(check: &m::Check) -> Object {
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
