//! Every key of a manifest has an effect, or the manifest is refused and nothing changes. Its apps are applied one by one, by a job.

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_fails_keeps_the_apps_before_it_and_changes_nothing_itself() {
    let f = Foundation::start().await;
    let yaml = "applications:
- name: first
  env: {SECRET: sesame}
  routes: [{route: first.apps.test}]
- name: second
  instances: 3
  routes: [{route: second.apps.test}, {route: x.nowhere.test}]
- name: third
";
    let (status, job) = f.apply_manifest(yaml).await;
    assert_eq!(
        (status, &job["state"], &job["operation"]),
        (202, &json!("FAILED"), &json!("space.apply_manifest"))
    );
    assert_eq!(
        job["errors"][0]["detail"],
        "For application 'second': For route 'x.nowhere.test': No domains exist for route x.nowhere.test"
    );
    assert_eq!(job["warnings"], json!([]));
    assert!(!job.to_string().contains("sesame"), "{job}");
    assert_eq!(app_names(&f).await, ["first"]);
    assert_eq!(
        f.get("/v3/routes").await["pagination"]["total_results"],
        1,
        "the first route of the second app is not left"
    );
    // The caller is the actor of what the job did, and the manifest is not kept.
    let events = f
        .get("/v3/audit_events?types=audit.app.apply_manifest")
        .await;
    let event = &events["resources"][0];
    assert_eq!(
        (&event["actor"]["name"], &event["target"]["name"]),
        (&json!("admin"), &json!("first")),
        "{events}"
    );
    assert_eq!(events["pagination"]["total_results"], 1);
    assert_eq!(stored_inputs(&f).await, 0);

    // The manifest is applied again without the mistake, and the rest of it takes effect.
    let (_, job) = f.apply_manifest(&yaml.replace("nowhere", "apps")).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert_eq!(app_names(&f).await, ["first", "second", "third"]);
    assert_eq!(stored_inputs(&f).await, 0);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_continues_after_the_app_that_was_applied_last() {
    let mut f = Foundation::start().await;
    // This job is as a Cloud Controller leaves it that crashes after the first app. One of an earlier version left its input in clear,
    // and the next start seals it.
    let input = json!({ "manifest": "applications:\n- name: first\n- name: second\n- name: third\n", "admin": false });
    f.sql(&format!(
        "INSERT INTO jobs (guid, created_at, updated_at, operation, state, errors, warnings, resource_type, resource_guid,
            actor_guid, actor_type, actor_name, parts, attempts, due_at, leased_by, leased_until, input)
         VALUES ('interrupted', 1, 1, 'space.apply_manifest', 'PROCESSING', '[]', '[]', 'spaces', '{}',
            'admin-guid', 'user', 'admin', 1, 0, 0, 'gone', 1, '{input}')",
        f.space
    ))
    .await;
    f.restart(async |_| {}).await;
    let job = f.ended_job("/v3/jobs/interrupted").await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert_eq!(app_names(&f).await, ["second", "third"]);
    assert_eq!(stored_inputs(&f).await, 0);
    f.finish().await;
}

async fn app_names(f: &Foundation) -> Vec<String> {
    let apps = f.get("/v3/apps?order_by=name").await;
    let apps = apps["resources"].as_array().unwrap();
    apps.iter()
        .map(|app| app["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Returns the number of jobs that keep an input.
async fn stored_inputs(f: &Foundation) -> u64 {
    f.sql("UPDATE jobs SET parts = parts WHERE input IS NOT NULL")
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_binds_services_and_unbinds_none() {
    let f = Foundation::start().await;
    for name in ["db", "queue"] {
        f.create_instance(name, json!({ "k": "v" })).await;
    }
    let bound =
        "applications: [{name: a, services: [db, {name: queue, binding_name: main}]}]".to_owned();
    let (status, job) = f.apply_manifest(&bound).await;
    assert_eq!((status, &job["state"]), (202, &json!("COMPLETE")), "{job}");
    assert_eq!(f.diff(&bound).await, json!([]));
    let app = f.get("/v3/apps?names=a").await["resources"][0]["guid"].clone();
    let app = app.as_str().unwrap();
    let path = format!("/v3/service_credential_bindings?app_guids={app}");
    let bindings = f.get(&path).await;
    assert_eq!(bindings["resources"][0]["name"], json!(null));
    assert_eq!(bindings["resources"][1]["name"], "main");
    let event = "/v3/audit_events?types=audit.service_binding.create";
    let event = f.get(event).await["resources"][1].clone();
    assert_eq!(event["data"]["manifest_triggered"], true);
    let manifest = f.text(&format!("/v3/apps/{app}/manifest")).await;
    assert!(manifest.contains("services:"), "{manifest}");

    // Another one adds nothing and removes nothing.
    for text in ["applications: [{name: a}]", bound.as_str()] {
        let (_, job) = f.apply_manifest(text).await;
        assert_eq!(job["state"], "COMPLETE", "{job}");
    }
    assert_eq!(f.get(&path).await["resources"].as_array().unwrap().len(), 2);

    let (_, job) = f
        .apply_manifest("applications: [{name: b, services: [none]}]")
        .await;
    assert_eq!(job["state"], "FAILED", "{job}");
    assert_eq!(
        job["errors"][0]["detail"],
        "For application 'b': Service instance 'none' not found"
    );
    assert_eq!(f.get("/v3/apps?names=b").await["resources"], json!([]));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_chooses_files_for_the_bindings() {
    let f = Foundation::start().await;
    let of = |features: &str| format!("applications: [{{name: a, features: {{{features}}}}}]");
    let (file, folders) = ("file-based-vcap-services", "service-binding-k8s");
    for (features, wanted) in [
        (format!("{file}: true"), (true, false)),
        (format!("{file}: false, {folders}: true"), (false, true)),
        (format!("{folders}: false"), (false, false)),
    ] {
        let manifest = of(&features);
        let (_, job) = f.apply_manifest(&manifest).await;
        assert_eq!(job["state"], "COMPLETE", "{features}: {job}");
        assert_eq!(f.diff(&manifest).await, json!([]), "{features}");
        let app = f.get("/v3/apps?names=a").await["resources"][0]["guid"].clone();
        let path = format!("/v3/apps/{}/features", app.as_str().unwrap());
        let is_on = async |name: &str| f.get(&format!("{path}/{name}")).await["enabled"].clone();
        let got = (is_on(file).await, is_on(folders).await);
        assert_eq!(got, (json!(wanted.0), json!(wanted.1)), "{features}");
    }
    let (_, job) = f
        .apply_manifest(&of(&format!("{file}: true, {folders}: true")))
        .await;
    assert_eq!(job["state"], "FAILED", "{job}");
    f.finish().await;
}
