//! Feature flags, and features that do not exist yet.

use super::*;

/// A flag, a call, its body, callers that the flag stops, and callers that pass.
type Case<'a> = (
    &'static str,
    String,
    &'a dyn Fn() -> Option<Value>,
    &'static str,
    &'static str,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_stop_what_they_name() {
    let world = World::start().await;
    let f = &world.f;
    assert_eq!(
        f.get("/v3/feature_flags").await["pagination"]["total_results"],
        19
    );
    let app = f.started_app("app").await;
    let package = json!({ "type": "bits", "relationships": { "app": to(&app) } });
    let package = f.send(Method::POST, "/v3/packages", package).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let route = f.create_route("shared", "").await;
    let none = || None;
    let scale = || Some(json!({ "instances": 1 }));
    let domain = || {
        Some(
            json!({ "name": format!("{}.test", world.name()), "relationships": { "organization": to(&f.organization) } }),
        )
    };
    let new_route = || Some(f.route_body(&world.name(), ""));
    let matches = || {
        Some(
            json!({ "resources": [{ "checksum": { "value": "da39a3ee5e6b4b0d3255bfef95601890afd80709" }, "size_in_bytes": 70_000, "path": "a", "mode": "644" }] }),
        )
    };
    let task = || Some(json!({ "command": "true" }));
    let to_space = || Some(to(&f.space));
    let many = || Some(json!({ "data": [{ "guid": f.space }] }));
    let cases: Vec<Case<'_>> = vec![
        (
            "app_scaling",
            format!("POST /v3/processes/{app}/actions/scale"),
            &scale,
            "DS",
            "A",
        ),
        (
            "task_creation",
            format!("POST /v3/apps/{app}/tasks"),
            &task,
            "D",
            "A",
        ),
        (
            "task_creation",
            "POST /v3/apps/hidden/tasks".to_owned(),
            &task,
            "DN",
            "",
        ),
        (
            "route_creation",
            "POST /v3/routes".to_owned(),
            &new_route,
            "DSN",
            "A",
        ),
        (
            "private_domain_creation",
            "POST /v3/domains".to_owned(),
            &domain,
            "M",
            "A",
        ),
        (
            "app_bits_upload",
            "POST /v3/resource_matches".to_owned(),
            &matches,
            "DN",
            "A",
        ),
        (
            "env_var_visibility",
            format!("GET /v3/apps/{app}/env"),
            &none,
            "ARDSN",
            "",
        ),
        (
            "env_var_visibility",
            format!("GET /v3/apps/{app}/environment_variables"),
            &none,
            "ARDSN",
            "",
        ),
        (
            "env_var_visibility",
            "GET /v3/apps/hidden/env".to_owned(),
            &none,
            "AN",
            "",
        ),
        (
            "space_developer_env_var_visibility",
            format!("GET /v3/apps/{app}/env"),
            &none,
            "DS",
            "AR",
        ),
        (
            "space_developer_env_var_visibility",
            format!("GET /v3/apps/{app}/environment_variables"),
            &none,
            "DS",
            "AR",
        ),
        (
            "route_sharing",
            format!("GET /v3/routes/{route}/relationships/shared_spaces"),
            &none,
            "ADU",
            "",
        ),
        (
            "route_sharing",
            format!("POST /v3/routes/{route}/relationships/shared_spaces"),
            &many,
            "AD",
            "",
        ),
        (
            "route_sharing",
            format!(
                "DELETE /v3/routes/{route}/relationships/shared_spaces/{}",
                f.space
            ),
            &none,
            "AD",
            "",
        ),
        (
            "route_sharing",
            format!("PATCH /v3/routes/{route}/relationships/space"),
            &to_space,
            "AD",
            "",
        ),
    ];
    for (flag, call, body, stopped, free) in cases {
        world.set_flag(flag, false).await;
        let (method, path) = call.split_once(' ').unwrap();
        for column in stopped.chars() {
            let answer = world
                .as_(column, method.parse().unwrap(), path, body())
                .await;
            assert_eq!(
                code(&answer),
                (403, 330_002),
                "{call} as {column} without {flag}: {}",
                answer.1
            );
        }
        for column in free.chars() {
            let answer = world
                .as_(column, method.parse().unwrap(), path, body())
                .await;
            assert!(
                answer.0 < 300,
                "{call} as {column} without {flag}: {}",
                answer.1
            );
        }
        world.set_flag(flag, flag != "route_sharing").await;
    }
    // The upload has a body that is no JSON, and the operator has set a message.
    f.send(
        Method::PATCH,
        "/v3/feature_flags/app_bits_upload",
        json!({ "enabled": false, "custom_error_message": "closed today" }),
    )
    .await;
    let form = reqwest::multipart::Form::new().part(
        "bits",
        reqwest::multipart::Part::bytes(zip("a", "b")).file_name("x.zip"),
    );
    let request = f
        .http
        .post(format!("{}/v3/packages/{package}/upload", f.url))
        .header("authorization", format!("bearer {}", world.token('D')));
    let refused = answer(request.multipart(form).send().await.unwrap()).await;
    assert_eq!(
        (code(&refused).1, detail(&refused.1)),
        (330_002, "Feature Disabled: closed today")
    );
    assert_eq!(f.upload(&package, zip("a", "b")).await.0, 200);
    // Creating organizations is refused like any missing right, and not as a disabled feature.
    let body = Some(json!({ "name": "own" }));
    assert_eq!(
        code(
            &world
                .as_('N', Method::POST, "/v3/organizations", body.clone())
                .await
        ),
        (403, 10003)
    );
    world.set_flag("user_org_creation", true).await;
    let suspended = Some(json!({ "name": "own", "suspended": true }));
    assert_eq!(
        code(
            &world
                .as_('N', Method::POST, "/v3/organizations", suspended)
                .await
        ),
        (403, 10003)
    );
    let (status, made) = world
        .as_('N', Method::POST, "/v3/organizations", body)
        .await;
    assert_eq!(status, 201);
    let path = format!("/v3/organizations/{}", made["guid"].as_str().unwrap());
    assert_eq!(
        world
            .as_(
                'N',
                Method::PATCH,
                &path,
                Some(json!({ "name": "still own" }))
            )
            .await
            .0,
        200
    );
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_makes_no_route_while_the_flag_is_off_and_scales_all_the_same() {
    let world = World::start().await;
    let f = &world.f;
    world.set_flag("route_creation", false).await;
    world.set_flag("app_scaling", false).await;
    let (_, job) = f
        .apply_manifest("applications:\n- name: a\n  routes: [{route: new.apps.test}]\n")
        .await;
    assert_eq!(
        (job["state"].as_str(), job["errors"][0]["code"].as_i64()),
        (Some("FAILED"), Some(330_002)),
        "{job}"
    );
    let (_, job) = f
        .apply_manifest("applications:\n- name: a\n  instances: 3\n  memory: 64M\n")
        .await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    f.create_route("there", "").await;
    let (_, job) = f
        .apply_manifest("applications:\n- name: a\n  routes: [{route: there.apps.test}]\n")
        .await;
    assert_eq!(
        job["state"], "COMPLETE",
        "an existing route is mapped: {job}"
    );
    world.set_flag("route_creation", true).await;
    let (_, job) = f
        .apply_manifest("applications:\n- name: a\n  routes: [{route: '*.apps.test'}]\n")
        .await;
    assert_eq!(
        job["state"], "FAILED",
        "nobody takes a whole shared domain by a manifest: {job}"
    );
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_yet_is_refused_and_not_advertised() {
    let world = World::start().await;
    let f = &world.f;
    let app = f.create_app("app").await;
    let path = format!("/v3/apps/{app}/features/revisions");
    let body = Some(json!({ "enabled": true }));
    let (status, answer) = world.as_('D', Method::PATCH, &path, body).await;
    assert_eq!(status, 422);
    assert!(detail(&answer).contains("'revisions' is not supported yet"));
    let manifest = "applications: [{name: app, features: {revisions: true}}]";
    assert_eq!(f.apply_manifest(manifest).await.0, 422);
    assert_eq!(f.get(&path).await["enabled"], false);

    // Clients would understand a 422 as "exists already".
    let body = Some(json!({ "name": "x" }));
    let (status, answer) = f.call(Method::POST, "/v3/isolation_segments", body).await;
    assert_eq!(status, 404);
    assert!(detail(&answer).ends_with("not supported yet"), "{answer}");
    let root = f.get("/").await;
    for link in ["network_policy_v0", "routing", "logging", "log_stream"] {
        assert_eq!(root["links"][link], Value::Null, "{link}");
    }

    // Apps that name no stack run on the default one.
    let stack = f.get("/v3/stacks").await["resources"][0]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    for (stack, count) in [(stack.as_str(), 1), ("another", 0)] {
        let list = f.get(&format!("/v3/apps?stacks={stack}")).await;
        assert_eq!(list["pagination"]["total_results"], count, "{stack}");
    }
    // One role and one process accept the parameters of their lists.
    let (_, roles) = world
        .as_('M', Method::GET, "/v3/roles?types=space_developer", None)
        .await;
    let role = format!(
        "/v3/roles/{}",
        roles["resources"][0]["guid"].as_str().unwrap()
    );
    assert_eq!(
        f.get(&format!("{role}?include=user")).await["included"]["users"][0]["guid"],
        "D-guid"
    );
    let process = format!("/v3/processes/{app}");
    assert_eq!(
        f.get(&format!("{process}?embed=process_instances")).await["process_instances"],
        json!([{ "index": 0, "since": 0, "state": "DOWN" }])
    );
    for odd in [
        format!("{role}?include=app"),
        format!("{process}?embed=app"),
        format!("{process}?include=app"),
    ] {
        assert_eq!(f.call(Method::GET, &odd, None).await.0, 400, "{odd}");
    }
    world.finish().await;
}
