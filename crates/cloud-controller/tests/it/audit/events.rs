//! The events that each writing endpoint leaves. It is only data; `audit.rs` compares it with the API.

/// The events that each writing endpoint leaves. `-`: Cloud Foundry has no event for it, or it refuses everything.
pub(super) const EVENTS: &[(&str, &str)] = &[
    ("POST /v3/apps", "audit.app.create"),
    ("PATCH /v3/apps/{guid}", "audit.app.update"),
    ("DELETE /v3/apps/{guid}", "audit.app.delete-request"),
    ("POST /v3/apps/{guid}/actions/start", "audit.app.start"),
    ("POST /v3/apps/{guid}/actions/stop", "audit.app.stop"),
    ("POST /v3/apps/{guid}/actions/restart", "audit.app.restart"),
    ("POST /v3/apps/{guid}/actions/clear_buildpack_cache", "-"),
    (
        "PATCH /v3/apps/{guid}/environment_variables",
        "audit.app.update",
    ),
    (
        "PATCH /v3/apps/{guid}/relationships/current_droplet",
        "audit.app.droplet.mapped",
    ),
    ("PATCH /v3/apps/{guid}/features/{name}", "-"),
    ("POST /v3/apps/{guid}/sidecars", "-"),
    ("PATCH /v3/sidecars/{guid}", "-"),
    ("DELETE /v3/sidecars/{guid}", "-"),
    ("POST /v3/apps/{guid}/tasks", "audit.app.task.create"),
    ("PATCH /v3/tasks/{guid}", "-"),
    (
        "POST /v3/tasks/{guid}/actions/cancel",
        "audit.app.task.cancel",
    ),
    ("POST /v3/tasks/{guid}/cancel", "audit.app.task.cancel"),
    ("PUT /v3/tasks/{guid}/cancel", "audit.app.task.cancel"),
    ("PATCH /v3/processes/{guid}", "audit.app.process.update"),
    (
        "PATCH /v3/apps/{guid}/processes/{type}",
        "audit.app.process.update",
    ),
    (
        "POST /v3/processes/{guid}/actions/scale",
        "audit.app.process.scale",
    ),
    (
        "POST /v3/apps/{guid}/processes/{type}/actions/scale",
        "audit.app.process.scale",
    ),
    (
        "DELETE /v3/processes/{guid}/instances/{index}",
        "audit.app.process.terminate_instance",
    ),
    (
        "DELETE /v3/apps/{guid}/processes/{type}/instances/{index}",
        "audit.app.process.terminate_instance",
    ),
    ("POST /v3/packages", "audit.app.package.create"),
    ("PATCH /v3/packages/{guid}", "-"),
    ("DELETE /v3/packages/{guid}", "audit.app.package.delete"),
    (
        "POST /v3/packages/{guid}/upload",
        "audit.app.package.upload",
    ),
    ("POST /v3/resource_matches", "-"),
    ("POST /v3/builds", "audit.app.build.create"),
    ("PATCH /v3/builds/{guid}", "-"),
    ("POST /v3/droplets", "audit.app.droplet.create"),
    ("PATCH /v3/droplets/{guid}", "-"),
    ("DELETE /v3/droplets/{guid}", "audit.app.droplet.delete"),
    (
        "POST /v3/droplets/{guid}/upload",
        "audit.app.droplet.upload",
    ),
    ("POST /v3/deployments", "audit.app.deployment.create"),
    ("PATCH /v3/deployments/{guid}", "-"),
    (
        "POST /v3/deployments/{guid}/actions/cancel",
        "audit.app.deployment.cancel",
    ),
    ("POST /v3/deployments/{guid}/actions/continue", "-"),
    (
        "POST /v3/spaces/{guid}/actions/apply_manifest",
        "audit.app.apply_manifest",
    ),
    ("POST /v3/spaces/{guid}/manifest_diff", "-"),
    ("POST /v3/spaces", "audit.space.create"),
    ("PATCH /v3/spaces/{guid}", "audit.space.update"),
    ("DELETE /v3/spaces/{guid}", "audit.space.delete-request"),
    (
        "DELETE /v3/spaces/{guid}/routes",
        "audit.route.delete-request",
    ),
    ("PATCH /v3/spaces/{guid}/features/{name}", "-"),
    (
        "PATCH /v3/spaces/{guid}/relationships/isolation_segment",
        "-",
    ),
    ("POST /v3/organizations", "audit.organization.create"),
    (
        "PATCH /v3/organizations/{guid}",
        "audit.organization.update",
    ),
    (
        "DELETE /v3/organizations/{guid}",
        "audit.organization.delete-request",
    ),
    (
        "PATCH /v3/organizations/{guid}/relationships/default_isolation_segment",
        "-",
    ),
    ("POST /v3/roles", "audit.user.*_add"),
    ("DELETE /v3/roles/{guid}", "audit.user.*_remove"),
    ("POST /v3/users", "-"),
    ("PATCH /v3/users/{guid}", "-"),
    ("DELETE /v3/users/{guid}", "-"),
    ("POST /v3/routes", "audit.route.create"),
    ("PATCH /v3/routes/{guid}", "audit.route.update"),
    ("DELETE /v3/routes/{guid}", "audit.route.delete-request"),
    (
        "PATCH /v3/routes/{guid}/relationships/space",
        "audit.route.transfer-owner",
    ),
    (
        "POST /v3/routes/{guid}/relationships/shared_spaces",
        "audit.route.share",
    ),
    (
        "DELETE /v3/routes/{guid}/relationships/shared_spaces/{space}",
        "audit.route.unshare",
    ),
    ("POST /v3/route_policies", "audit.route_policy.create"),
    (
        "PATCH /v3/route_policies/{guid}",
        "audit.route_policy.update",
    ),
    (
        "DELETE /v3/route_policies/{guid}",
        "audit.route_policy.delete",
    ),
    ("POST /v3/routes/{guid}/destinations", "audit.app.map-route"),
    (
        "PATCH /v3/routes/{guid}/destinations",
        "audit.app.map-route",
    ),
    (
        "PATCH /v3/routes/{guid}/destinations/{destination}",
        "audit.route.update",
    ),
    (
        "DELETE /v3/routes/{guid}/destinations/{destination}",
        "audit.app.unmap-route",
    ),
    ("POST /v3/domains", "audit.domain.create"),
    ("PATCH /v3/domains/{guid}", "audit.domain.update"),
    ("DELETE /v3/domains/{guid}", "audit.domain.delete-request"),
    (
        "POST /v3/domains/{guid}/relationships/shared_organizations",
        "audit.domain.share",
    ),
    (
        "DELETE /v3/domains/{guid}/relationships/shared_organizations/{organization}",
        "audit.domain.unshare",
    ),
    ("POST /v3/stacks", "audit.stack.create"),
    ("PATCH /v3/stacks/{guid}", "audit.stack.update"),
    ("DELETE /v3/stacks/{guid}", "audit.stack.delete"),
    ("POST /v3/buildpacks", "-"),
    ("PATCH /v3/buildpacks/{guid}", "audit.buildpack.update"),
    ("DELETE /v3/buildpacks/{guid}", "-"),
    ("PATCH /v3/feature_flags/{name}", "-"),
    ("PATCH /v3/environment_variable_groups/{name}", "-"),
    ("POST /v3/security_groups", "-"),
    ("PATCH /v3/security_groups/{guid}", "-"),
    ("DELETE /v3/security_groups/{guid}", "-"),
    (
        "POST /v3/security_groups/{guid}/relationships/{relationship}",
        "-",
    ),
    (
        "DELETE /v3/security_groups/{guid}/relationships/{relationship}/{space}",
        "-",
    ),
    (
        "POST /v3/organization_quotas",
        "audit.organization_quota.create",
    ),
    (
        "PATCH /v3/organization_quotas/{guid}",
        "audit.organization_quota.update",
    ),
    (
        "DELETE /v3/organization_quotas/{guid}",
        "audit.organization_quota.delete",
    ),
    (
        "POST /v3/organization_quotas/{guid}/relationships/organizations",
        "audit.organization_quota.apply",
    ),
    ("POST /v3/space_quotas", "audit.space_quota.create"),
    ("PATCH /v3/space_quotas/{guid}", "audit.space_quota.update"),
    ("DELETE /v3/space_quotas/{guid}", "audit.space_quota.delete"),
    (
        "POST /v3/space_quotas/{guid}/relationships/spaces",
        "audit.space_quota.apply",
    ),
    (
        "DELETE /v3/space_quotas/{guid}/relationships/spaces/{space}",
        "audit.space_quota.remove",
    ),
    (
        "POST /v3/app_usage_events/actions/destructively_purge_all_and_reseed",
        "-",
    ),
    (
        "POST /v3/service_usage_events/actions/destructively_purge_all_and_reseed",
        "-",
    ),
    ("POST /v3/isolation_segments", "-"),
    ("PATCH /v3/isolation_segments/{guid}", "-"),
    ("DELETE /v3/isolation_segments/{guid}", "-"),
    (
        "POST /v3/isolation_segments/{guid}/relationships/organizations",
        "-",
    ),
    (
        "DELETE /v3/isolation_segments/{guid}/relationships/organizations/{organization}",
        "-",
    ),
    ("POST /networking/v1/external/policies", "-"),
    ("POST /networking/v1/external/policies/delete", "-"),
    (
        "POST /v3/service_instances",
        "audit.user_provided_service_instance.create",
    ),
    (
        "PATCH /v3/service_instances/{guid}",
        "audit.user_provided_service_instance.update",
    ),
    (
        "DELETE /v3/service_instances/{guid}",
        "audit.user_provided_service_instance.delete",
    ),
    (
        "POST /v3/service_instances/{guid}/relationships/shared_spaces",
        "audit.service_instance.share",
    ),
    (
        "DELETE /v3/service_instances/{guid}/relationships/shared_spaces/{space}",
        "audit.service_instance.unshare",
    ),
    (
        "POST /v3/service_route_bindings",
        "audit.service_route_binding.create",
    ),
    (
        "PATCH /v3/service_route_bindings/{guid}",
        "audit.service_route_binding.update",
    ),
    (
        "DELETE /v3/service_route_bindings/{guid}",
        "audit.service_route_binding.delete",
    ),
    ("POST /v3/service_brokers", "audit.service_broker.create"),
    (
        "PATCH /v3/service_brokers/{guid}",
        "audit.service_broker.update",
    ),
    (
        "DELETE /v3/service_brokers/{guid}",
        "audit.service_broker.delete",
    ),
    ("PATCH /v3/service_offerings/{guid}", "-"),
    (
        "DELETE /v3/service_offerings/{guid}",
        "audit.service.delete",
    ),
    ("PATCH /v3/service_plans/{guid}", "-"),
    (
        "DELETE /v3/service_plans/{guid}",
        "audit.service_plan.delete",
    ),
    (
        "PATCH /v3/service_plans/{guid}/visibility",
        "audit.service_plan_visibility.update",
    ),
    (
        "POST /v3/service_plans/{guid}/visibility",
        "audit.service_plan_visibility.update",
    ),
    (
        "DELETE /v3/service_plans/{guid}/visibility/{organization}",
        "audit.service_plan_visibility.delete",
    ),
    (
        "POST /v3/service_credential_bindings",
        "audit.service_binding.create",
    ),
    (
        "PATCH /v3/service_credential_bindings/{guid}",
        "audit.service_binding.update",
    ),
    (
        "DELETE /v3/service_credential_bindings/{guid}",
        "audit.service_binding.delete",
    ),
];
