//! Tasks, their definition's members first.

use super::action::action;
use super::definition::{
    cached_dependency, certificate_properties, egress_rule, env, file, image_layer, log_rate_limit,
    metric_tags, network, volume_mount,
};
use super::{Object, each};
use wire::bbs as m;

/// Returns a task, with its definition's members first.
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
