//! The requests with which `cf curl` does what commands of the cf CLI do that this client does not have.
//!
//! A word in capitals stands for a value: `GUID` is that of the thing that the command names.

/// The requests, each with the command that it stands for and the command's alias. The text follows `cf curl `.
const REQUESTS: &[(&str, &str)] = &[
    (
        "apply-manifest",
        "/v3/spaces/SPACE_GUID/actions/apply_manifest -X POST -H 'Content-Type: application/x-yaml' -d @manifest.yml",
    ),
    (
        "bind-running-security-group",
        r#"/v3/security_groups/GUID -X PATCH -d '{"globally_enabled": {"running": true}}'"#,
    ),
    (
        "bind-security-group",
        r#"/v3/security_groups/GUID/relationships/running_spaces -d '{"data": [{"guid": "SPACE_GUID"}]}'"#,
    ),
    (
        "bind-staging-security-group",
        r#"/v3/security_groups/GUID -X PATCH -d '{"globally_enabled": {"staging": true}}'"#,
    ),
    (
        "cancel-deployment",
        "/v3/deployments/GUID/actions/cancel -X POST",
    ),
    (
        "cleanup-outdated-service-bindings",
        "/v3/service_credential_bindings/GUID -X DELETE",
    ),
    (
        "continue-deployment",
        "/v3/deployments/GUID/actions/continue -X POST",
    ),
    (
        "copy-source",
        r#"'/v3/packages?source_guid=PACKAGE_GUID' -d '{"relationships": {"app": {"data": {"guid": "APP_GUID"}}}}'"#,
    ),
    (
        "create-app",
        r#"/v3/apps -d '{"name": "NAME", "relationships": {"space": {"data": {"guid": "SPACE_GUID"}}}}'"#,
    ),
    (
        "create-app-manifest",
        "/v3/apps/GUID/manifest --output manifest.yml",
    ),
    (
        "create-buildpack",
        r#"/v3/buildpacks -d '{"name": "NAME"}'"#,
    ),
    (
        "create-isolation-segment",
        r#"/v3/isolation_segments -d '{"name": "NAME"}'"#,
    ),
    (
        "create-package",
        r#"/v3/packages -d '{"type": "bits", "relationships": {"app": {"data": {"guid": "APP_GUID"}}}}'"#,
    ),
    (
        "create-security-group",
        r#"/v3/security_groups -d '{"name": "NAME", "rules": [{"protocol": "tcp", "destination": "10.0.0.5", "ports": "5432"}]}'"#,
    ),
    ("delete-buildpack", "/v3/buildpacks/GUID -X DELETE"),
    (
        "delete-isolation-segment",
        "/v3/isolation_segments/GUID -X DELETE",
    ),
    (
        "delete-security-group",
        "/v3/security_groups/GUID -X DELETE",
    ),
    ("delete-user", "/v3/users/GUID -X DELETE"),
    (
        "disable-feature-flag",
        r#"/v3/feature_flags/NAME -X PATCH -d '{"enabled": false}'"#,
    ),
    (
        "disable-org-isolation",
        "/v3/isolation_segments/GUID/relationships/organizations/ORG_GUID -X DELETE",
    ),
    (
        "download-droplet",
        "/v3/droplets/GUID/download --output droplet.tgz",
    ),
    ("droplets", "/v3/apps/GUID/droplets"),
    (
        "enable-feature-flag",
        r#"/v3/feature_flags/NAME -X PATCH -d '{"enabled": true}'"#,
    ),
    (
        "enable-org-isolation",
        r#"/v3/isolation_segments/GUID/relationships/organizations -d '{"data": [{"guid": "ORG_GUID"}]}'"#,
    ),
    ("feature-flag", "/v3/feature_flags/NAME"),
    ("feature-flags", "/v3/feature_flags"),
    ("get-health-check", "/v3/apps/GUID/processes"),
    ("get-readiness-health-check", "/v3/apps/GUID/processes"),
    ("isolation-segments", "/v3/isolation_segments"),
    ("labels", "/v3/apps/GUID"),
    (
        "move-route",
        r#"/v3/routes/GUID/relationships/space -X PATCH -d '{"data": {"guid": "SPACE_GUID"}}'"#,
    ),
    ("org-users", "/v3/organizations/GUID/users"),
    ("packages", "/v3/apps/GUID/packages"),
    (
        "rename-org",
        r#"/v3/organizations/GUID -X PATCH -d '{"name": "NEW_NAME"}'"#,
    ),
    (
        "rename-service",
        r#"/v3/service_instances/GUID -X PATCH -d '{"name": "NEW_NAME"}'"#,
    ),
    (
        "rename-space",
        r#"/v3/spaces/GUID -X PATCH -d '{"name": "NEW_NAME"}'"#,
    ),
    (
        "reset-org-default-isolation-segment",
        r#"/v3/organizations/GUID/relationships/default_isolation_segment -X PATCH -d '{"data": null}'"#,
    ),
    (
        "reset-space-isolation-segment",
        r#"/v3/spaces/GUID/relationships/isolation_segment -X PATCH -d '{"data": null}'"#,
    ),
    ("revision", "/v3/revisions/GUID"),
    ("revisions", "/v3/apps/GUID/revisions"),
    (
        "rollback",
        r#"/v3/deployments -d '{"revision": {"guid": "REVISION_GUID"}, "relationships": {"app": {"data": {"guid": "APP_GUID"}}}}'"#,
    ),
    (
        "running-environment-variable-group revg",
        "/v3/environment_variable_groups/running",
    ),
    (
        "running-security-groups",
        "'/v3/security_groups?globally_enabled_running=true'",
    ),
    ("security-group", "'/v3/security_groups?names=NAME'"),
    ("security-groups", "/v3/security_groups"),
    (
        "set-droplet",
        r#"/v3/apps/GUID/relationships/current_droplet -X PATCH -d '{"data": {"guid": "DROPLET_GUID"}}'"#,
    ),
    (
        "set-label",
        r#"/v3/apps/GUID -X PATCH -d '{"metadata": {"labels": {"KEY": "VALUE"}}}'"#,
    ),
    (
        "set-org-default-isolation-segment",
        r#"/v3/organizations/GUID/relationships/default_isolation_segment -X PATCH -d '{"data": {"guid": "SEGMENT_GUID"}}'"#,
    ),
    (
        "set-running-environment-variable-group srevg",
        r#"/v3/environment_variable_groups/running -X PATCH -d '{"var": {"KEY": "VALUE"}}'"#,
    ),
    (
        "set-space-isolation-segment",
        r#"/v3/spaces/GUID/relationships/isolation_segment -X PATCH -d '{"data": {"guid": "SEGMENT_GUID"}}'"#,
    ),
    (
        "set-staging-environment-variable-group ssevg",
        r#"/v3/environment_variable_groups/staging -X PATCH -d '{"var": {"KEY": "VALUE"}}'"#,
    ),
    (
        "share-private-domain",
        r#"/v3/domains/GUID/relationships/shared_organizations -d '{"data": [{"guid": "ORG_GUID"}]}'"#,
    ),
    (
        "share-route",
        r#"/v3/routes/GUID/relationships/shared_spaces -d '{"data": [{"guid": "SPACE_GUID"}]}'"#,
    ),
    ("space-users", "/v3/spaces/GUID/users"),
    ("stack", "'/v3/stacks?names=NAME'"),
    (
        "stage-package stage",
        r#"/v3/builds -d '{"package": {"guid": "PACKAGE_GUID"}}'"#,
    ),
    (
        "staging-environment-variable-group sevg",
        "/v3/environment_variable_groups/staging",
    ),
    (
        "staging-security-groups",
        "'/v3/security_groups?globally_enabled_staging=true'",
    ),
    (
        "unbind-running-security-group",
        r#"/v3/security_groups/GUID -X PATCH -d '{"globally_enabled": {"running": false}}'"#,
    ),
    (
        "unbind-security-group",
        "/v3/security_groups/GUID/relationships/running_spaces/SPACE_GUID -X DELETE",
    ),
    (
        "unbind-staging-security-group",
        r#"/v3/security_groups/GUID -X PATCH -d '{"globally_enabled": {"staging": false}}'"#,
    ),
    (
        "unset-label",
        r#"/v3/apps/GUID -X PATCH -d '{"metadata": {"labels": {"KEY": null}}}'"#,
    ),
    ("unset-org-role", "/v3/roles/GUID -X DELETE"),
    ("unset-space-role", "/v3/roles/GUID -X DELETE"),
    (
        "unshare-private-domain",
        "/v3/domains/GUID/relationships/shared_organizations/ORG_GUID -X DELETE",
    ),
    (
        "unshare-route",
        "/v3/routes/GUID/relationships/shared_spaces/SPACE_GUID -X DELETE",
    ),
    (
        "update-buildpack",
        r#"/v3/buildpacks/GUID -X PATCH -d '{"position": 1}'"#,
    ),
    (
        "update-destination",
        r#"/v3/routes/GUID/destinations/DESTINATION_GUID -X PATCH -d '{"protocol": "http2"}'"#,
    ),
    (
        "update-security-group",
        r#"/v3/security_groups/GUID -X PATCH -d '{"rules": [{"protocol": "tcp", "destination": "10.0.0.5", "ports": "5432"}]}'"#,
    ),
    (
        "update-stack",
        r#"/v3/stacks/GUID -X PATCH -d '{"state": "DEPRECATED"}'"#,
    ),
];

/// Returns the request that does what a command of the cf CLI does, as it is typed.
pub(crate) fn request(name: &str) -> Option<String> {
    let mut rows = REQUESTS.iter();
    let (_, words) = rows.find(|(names, _)| names.split(' ').any(|known| known == name))?;
    Some(format!("cf curl {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::help::ORIGINAL;

    /// The commands whose work is on the user's machine, at the UAA or at the Routing API, so that no request to the API does it.
    const NOT_OF_THE_API: &[&str] = &[
        "add-plugin-repo",
        "config",
        "install-plugin",
        "list-plugin-repos",
        "passwd",
        "pw",
        "plugins",
        "remove-plugin-repo",
        "repo-plugins",
        "router-groups",
        "uninstall-plugin",
        "v3-push",
    ];

    #[test]
    fn every_other_command_has_a_request() {
        let names = ORIGINAL.iter().flat_map(|line| line.split(' '));
        for name in names {
            assert!(
                request(name).is_some() != NOT_OF_THE_API.contains(&name),
                "{name}: add its request to REQUESTS, or its name to NOT_OF_THE_API"
            );
        }
    }

    #[test]
    fn bodies_are_json_and_quotes_are_closed() {
        for (names, words) in REQUESTS {
            assert_eq!(words.matches('\'').count() % 2, 0, "{names}: {words}");
            let Some((_, rest)) = words.split_once("-d '") else {
                continue;
            };
            let body = rest.strip_suffix('\'').unwrap_or(rest);
            let parsed = serde_json::from_str::<serde_json::Value>(body);
            assert!(parsed.is_ok(), "{names}: {body}");
        }
    }
}
