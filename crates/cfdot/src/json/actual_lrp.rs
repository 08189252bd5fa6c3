//! Actual LRPs, and the keys by which their events identify them.

use super::{Object, each};
use wire::bbs as m;

/// Returns one instance.
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

/// Returns an instance together with the evacuating one that it replaces.
pub fn actual_lrp_group(group: &m::ActualLrpGroup) -> Object {
    Object::new()
        .some("instance", group.instance.as_ref().map(actual_lrp))
        .some("evacuating", group.evacuating.as_ref().map(actual_lrp))
}

pub(super) fn key(key: Option<&m::ActualLrpKey>) -> Object {
    let key = key.cloned().unwrap_or_default();
    Object::new()
        .put("process_guid", key.process_guid)
        .put("index", key.index)
        .put("domain", key.domain)
}

pub(super) fn instance_key(key: Option<&m::ActualLrpInstanceKey>) -> Object {
    let key = key.cloned().unwrap_or_default();
    Object::new()
        .put("instance_guid", key.instance_guid)
        .put("cell_id", key.cell_id)
}

pub(super) fn net_info(net: Option<&m::ActualLrpNetInfo>) -> Object {
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

pub(super) fn port_mapping(port: &m::PortMapping) -> Object {
    Object::new()
        .put("container_port", port.container_port)
        .put("host_port", port.host_port)
        .put("container_tls_proxy_port", port.container_tls_proxy_port)
        .put("host_tls_proxy_port", port.host_tls_proxy_port)
}

pub(super) fn modification_tag(tag: Option<&m::ModificationTag>) -> Object {
    let tag = tag.cloned().unwrap_or_default();
    Object::new()
        .put("epoch", tag.epoch)
        .put("index", tag.index)
}

pub(super) fn presence(presence: i32) -> &'static str {
    ["ORDINARY", "EVACUATING", "SUSPECT"]
        .get(presence as usize)
        .unwrap_or(&"ORDINARY")
}

pub(super) fn actual_lrp_info(info: &m::ActualLrpInfo) -> Object {
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
        // The original cfdot names this member differently, and leaves `false` out.
        .put(
            "OptionalRoutable",
            info.routable
                .map(|r| Object::new().some("Routable", r.then_some(true))),
        )
        .put("availability_zone", &info.availability_zone)
}
