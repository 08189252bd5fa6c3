//! Every key of a manifest has an effect, or the manifest is refused and nothing changes.

use crate::fixture::*;
use reqwest::Method;
use serde_json::json;

const WHOLE: &str = "
defaults: &defaults
  memory: 64M
  disk-quota: 128M
applications:
- <<: *defaults
  name: whole
  path: .
  lifecycle: buildpack
  buildpacks: [binary_buildpack]
  stack: cflinuxfs4
  services: []
  env: {A: 1, B: two}
  metadata: {labels: {team: red}, annotations: {note: x}}
  features: {ssh: false}
  instances: '2'
  log_rate_limit_per_second: 1K
  command: ./run
  user: vcap
  timeout: 60
  health_check_type: http
  health-check-http-endpoint: /health
  health-check-invocation-timeout: 5
  readiness-health-check-type: port
  routes:
  - route: whole.apps.test/p
    protocol: http2
    options: {loadbalancing: least-connection}
  sidecars: [{name: s, command: ./s, process_types: [web], memory: 8M}]
  processes:
  - type: worker
    instances: 1
    command: ./w
    memory: 32M
    sidecars: [{name: t, command: ./t}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_applied_is_no_difference_any_more() {
    let f = Foundation::start().await;
    let changes = f.diff(WHOLE).await;
    let paths: Vec<&str> = changes
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["path"].as_str().unwrap())
        .collect();
    for key in [
        "memory",
        "disk-quota",
        "user",
        "processes",
        "sidecars",
        "features",
    ] {
        let path = format!("/applications/0/{key}");
        assert!(paths.contains(&path.as_str()), "{path}: {paths:?}");
    }
    let (status, job) = f.apply_manifest(WHOLE).await;
    assert_eq!((status, &job["state"]), (202, &json!("COMPLETE")), "{job}");
    assert_eq!(f.diff(WHOLE).await, json!([]));
    let app = f.get("/v3/apps?names=whole").await["resources"][0].clone();
    let web = f
        .get(&format!("/v3/processes/{}", app["guid"].as_str().unwrap()))
        .await;
    assert_eq!(
        (
            &web["memory_in_mb"],
            &web["disk_in_mb"],
            &web["instances"],
            &web["user"]
        ),
        (&json!(64), &json!(128), &json!(2), &json!("vcap"))
    );
    assert_eq!(web["health_check"]["data"]["timeout"], 60);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_key_refuses_the_manifest_on_both_endpoints() {
    let f = Foundation::start().await;
    for (yaml, named) in [
        ("nonsense: 1\napplications:\n- name: a\n", "'nonsense'"),
        ("applications:\n- name: a\n  memroy: 1G\n", "'memroy'"),
        ("applications:\n- name: a\n  hosts: [x]\n", "'hosts'"),
        (
            "applications:\n- name: a\n  processes: [{type: web, health: x}]\n",
            "'health'",
        ),
        (
            "applications:\n- name: a\n  routes: [{route: a.apps.test, port: 1}]\n",
            "'port'",
        ),
        (
            "applications:\n- name: a\n  routes: [{route: a.apps.test, options: {sticky: 1}}]\n",
            "'sticky'",
        ),
        (
            "applications:\n- name: a\n  metadata: {tags: {}}\n",
            "'tags'",
        ),
        (
            "applications:\n- name: a\n  features: {fast: true}\n",
            "'fast'",
        ),
        (
            "applications:\n- name: a\n  sidecars: [{name: s, command: c, process_types: [web], cpu: 1}]\n",
            "'cpu'",
        ),
    ] {
        let (status, body) = f.apply_manifest(yaml).await;
        assert_eq!(status, 422, "{yaml}: {body}");
        let detail = body["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(named), "{detail}");
        let (status, body) = f.post_diff(yaml).await;
        assert_eq!(status, 422, "{yaml}: {body}");
    }
    assert_eq!(f.get("/v3/apps").await["pagination"]["total_results"], 0);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_apps_cannot_run_as_is_refused() {
    let f = Foundation::start().await;
    let app = f.create_app("a").await;
    let path = format!("/v3/processes/{app}");
    for (user, expected) in [
        (json!("root"), 422),
        (json!("VCAP"), 200),
        (json!(null), 200),
    ] {
        let (status, body) = f
            .call(Method::PATCH, &path, Some(json!({ "user": user })))
            .await;
        assert_eq!(status, expected, "{user}: {body}");
    }
    f.finish().await;
}
