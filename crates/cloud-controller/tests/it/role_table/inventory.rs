//! One thing of each kind, for tests that call every endpoint.

use super::World;

impl World {
    /// Creates one new resource of each kind, and returns them as (kind, guid).
    pub(crate) async fn inventory(&self) -> Vec<(&'static str, String)> {
        const KINDS: &[&str] = &[
            "org",
            "space",
            "second_space",
            "app",
            "running_app",
            "package",
            "empty_package",
            "build",
            "droplet",
            "empty_droplet",
            "deployment",
            "task",
            "route",
            "destination",
            "guarded_route",
            "route_policy",
            "service_instance",
            "service_credential_binding",
            "managed_instance",
            "managed_binding",
            "service_key",
            "route_service",
            "service_route_binding",
            "managed_route_service",
            "managed_route_binding",
            "service_broker",
            "service_offering",
            "service_plan",
            "domain",
            "shared_domain",
            "org_role",
            "space_role",
            "quota",
            "space_quota",
            "group",
            "global_group",
            "stack",
            "buildpack",
            "event",
            "job",
            "member",
        ];
        let mut things = self.things(true, 'A');
        let mut all = Vec::new();
        for kind in KINDS {
            all.push((*kind, things.fill(&format!("{{{kind}}}")).await));
        }
        all
    }
}
