//! Limits of requests and resources are refused by name, with the limit in the text, and no caller keeps others from reading.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;

fn many(count: usize) -> Value {
    (0..count)
        .map(|n| (format!("k{n}"), json!("v")))
        .collect::<Map<_, _>>()
        .into()
}

/// Sends a request that must be refused with 422 and a text.
async fn refused(f: &Foundation, method: Method, path: &str, body: Value, text: &str) {
    let (status, answer) = f.call(method.clone(), path, Some(body)).await;
    assert_eq!(status, 422, "{method} {path}: {answer}");
    assert!(detail(&answer).contains(text), "{text}: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_disk_and_commands() {
    let f = Foundation::start().await;
    let app = f.started_app("web").await;
    let instances = "Instances must be less than or equal to 1000";
    let disk = "must be less than or equal to 10240 MB";
    for path in [
        format!("/v3/processes/{app}/actions/scale"),
        format!("/v3/apps/{app}/processes/web/actions/scale"),
    ] {
        for count in [1001, 2_147_483_647] {
            let body = json!({ "instances": count });
            refused(&f, Method::POST, &path, body, instances).await;
        }
        let body = json!({ "disk_in_mb": 10_241 });
        refused(&f, Method::POST, &path, body, disk).await;
    }
    let long = "x".repeat(4097);
    let command = "Command is too long (maximum is 4096 bytes)";
    let body = json!({ "command": long });
    refused(
        &f,
        Method::PATCH,
        &format!("/v3/processes/{app}"),
        body.clone(),
        command,
    )
    .await;
    let tasks = format!("/v3/apps/{app}/tasks");
    refused(&f, Method::POST, &tasks, body, command).await;
    let body = json!({ "command": "true", "disk_in_mb": 20_000 });
    refused(&f, Method::POST, &tasks, body, disk).await;
    for options in [
        json!({ "web_instances": 1001 }),
        json!({ "disk_in_mb": 20_000 }),
    ] {
        let body =
            json!({ "relationships": { "app": { "data": { "guid": app } } }, "options": options });
        refused(
            &f,
            Method::POST,
            "/v3/deployments",
            body,
            "less than or equal to",
        )
        .await;
    }
    for (yaml, text) in [
        ("  instances: 1001\n", instances),
        ("  disk_quota: 20G\n", disk),
        (&*format!("  command: {long}\n"), command),
    ] {
        let (_, job) = f
            .apply_manifest(&format!("applications:\n- name: web\n{yaml}"))
            .await;
        assert_eq!(job["state"], "FAILED", "{job}");
        assert!(detail(&job).contains(text), "{job}");
    }
    assert_eq!(f.get(&format!("/v3/processes/{app}")).await["instances"], 1);
    assert_eq!(f.lrps(&app).await[0].instances, 1);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_and_annotations_of_every_resource() {
    let f = Foundation::start().await;
    let app = f.started_app("web").await;
    let route = f.create_route("web", "").await;
    let droplet = f.get(&format!("/v3/apps/{app}/droplets/current")).await["guid"].clone();
    let stack = f.get("/v3/stacks").await["resources"][0]["guid"].clone();
    let buildpack = f.get("/v3/buildpacks").await["resources"][0]["guid"].clone();
    let related = json!({ "app": { "data": { "guid": app } } });
    let package = json!({ "type": "bits", "relationships": related });
    let package = f.send(Method::POST, "/v3/packages", package).await["guid"].clone();
    let task = f
        .send(
            Method::POST,
            &format!("/v3/apps/{app}/tasks"),
            json!({ "command": "true" }),
        )
        .await["guid"]
        .clone();
    let text = |guid: &Value| guid.as_str().unwrap().to_owned();
    for path in [
        format!("/v3/apps/{app}"),
        format!("/v3/processes/{app}"),
        format!("/v3/routes/{route}"),
        format!("/v3/domains/{}", f.domain),
        format!("/v3/spaces/{}", f.space),
        format!("/v3/organizations/{}", f.organization),
        format!("/v3/droplets/{}", text(&droplet)),
        format!("/v3/packages/{}", text(&package)),
        format!("/v3/tasks/{}", text(&task)),
        format!("/v3/stacks/{}", text(&stack)),
        format!("/v3/buildpacks/{}", text(&buildpack)),
    ] {
        for (metadata, why) in [
            (json!({ "labels": many(5000) }), "maximum of 50"),
            (
                json!({ "labels": many(51) }),
                "Failed to add 51 labels because it would exceed maximum of 50",
            ),
            (
                json!({ "labels": many(5001) }),
                "'metadata.labels' has 5001 keys (maximum is 5000)",
            ),
            (
                json!({ "annotations": many(201) }),
                "Failed to add 201 annotations because it would exceed maximum of 200",
            ),
            (
                json!({ "labels": { "cloudfoundry.org/x": "y" } }),
                "prefix 'cloudfoundry.org' is reserved",
            ),
            (
                json!({ "labels": { "no dots/x": "y" } }),
                "must be in valid dns format",
            ),
            (
                json!({ "labels": { "x": "-y" } }),
                "starts or ends with invalid characters",
            ),
            (
                json!({ "annotations": { "x y": "y" } }),
                "contains invalid characters",
            ),
            (json!({ "annotations": { "x": "y\u{0}" } }), "NUL"),
        ] {
            refused(
                &f,
                Method::PATCH,
                &path,
                json!({ "metadata": metadata }),
                why,
            )
            .await;
        }
    }
    let labels = many(51);
    let yaml = format!("applications:\n- name: web\n  metadata: {{labels: {labels}}}\n");
    let (_, job) = f.apply_manifest(&yaml).await;
    assert!(detail(&job).contains("maximum of 50"), "{job}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_names_and_environments() {
    let f = Foundation::start().await;
    let app = f.create_app("web").await;
    for name in ["nul\u{0}", "\u{0}"] {
        for (path, body) in [
            ("/v3/organizations", json!({ "name": name })),
            (
                "/v3/apps",
                json!({ "name": name, "relationships": { "space": { "data": { "guid": f.space } } } }),
            ),
            ("/v3/domains", json!({ "name": name })),
            ("/v3/routes", f.route_body(name, "")),
            ("/v3/security_groups", json!({ "name": name })),
        ] {
            refused(
                &f,
                Method::POST,
                path,
                body,
                "must not contain a NUL character",
            )
            .await;
        }
    }
    let variables = format!("/v3/apps/{app}/environment_variables");
    let large: Map<String, Value> = (0..20)
        .map(|n| (format!("K{n}"), json!("x".repeat(4000))))
        .collect();
    refused(
        &f,
        Method::PATCH,
        &variables,
        json!({ "var": large }),
        "at most 65536 bytes together",
    )
    .await;
    refused(
        &f,
        Method::PATCH,
        &variables,
        json!({ "var": { "K": "x".repeat(70_000) } }),
        "'var.K' is too long (maximum is 65536 bytes)",
    )
    .await;
    let guids: Vec<Value> = (0..501)
        .map(|n| json!({ "guid": format!("g{n}") }))
        .collect();
    let quota = f.get("/v3/organization_quotas").await["resources"][0]["guid"].clone();
    let path = format!(
        "/v3/organization_quotas/{}/relationships/organizations",
        quota.as_str().unwrap()
    );
    refused(
        &f,
        Method::POST,
        &path,
        json!({ "data": guids }),
        "Data has 501 elements (maximum is 500)",
    )
    .await;

    // A body that is larger than any body may be gets a 413 in the form of all errors; a manifest does, too.
    let huge = json!({ "name": "x".repeat(5 << 20) });
    let (status, answer) = f.call(Method::POST, "/v3/apps", Some(huge)).await;
    assert_eq!(
        (status, answer["errors"][0]["code"].as_i64()),
        (413, Some(10008)),
        "{answer}"
    );
    assert!(
        detail(&answer).contains("limit of 4194304 bytes"),
        "{answer}"
    );
    let yaml = format!(
        "applications:\n- name: a\n  command: {}\n",
        "x".repeat(2 << 20)
    );
    let (status, answer) = f.apply_manifest(&yaml).await;
    assert_eq!(status, 413, "{answer}");
    assert!(
        detail(&answer).contains("limit of 1048576 bytes"),
        "{answer}"
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_with_too_many_routes_apps_or_processes() {
    let f = Foundation::start().await;
    let lines =
        |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let routes = lines(501, &|n| format!("  - route: r{n}.apps.test\n"));
    let processes = lines(51, &|n| format!("  - type: p{n}\n"));
    for (yaml, text) in [
        (
            format!("applications:\n- name: a\n  routes:\n{routes}"),
            "501 routes (maximum is 500)",
        ),
        (
            format!("applications:\n- name: a\n  processes:\n{processes}"),
            "51 processes in one app (maximum is 50)",
        ),
        (
            format!(
                "applications:\n{}",
                lines(51, &|n| format!("- name: a{n}\n"))
            ),
            "51 apps (maximum is 50)",
        ),
    ] {
        let (status, answer) = f.apply_manifest(&yaml).await;
        assert_eq!(status, 422, "{answer}");
        assert!(detail(&answer).contains(text), "{answer}");
    }
    // The maximum number of routes is applied while others write.
    let routes = lines(500, &|n| format!("  - route: r{n}.apps.test\n"));
    let yaml = format!("applications:\n- name: a\n  routes:\n{routes}");
    let (applied, ()) = tokio::join!(f.apply_manifest(&yaml), async {
        for n in 0..5 {
            f.create_app(&format!("other-{n}")).await;
        }
    });
    assert_eq!(applied.1["state"], "COMPLETE", "{}", applied.1);
    f.finish().await;
}

/// Each manifest alone is within the limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_manifests_give_an_app_no_more_than_one_may() {
    let f = Foundation::start().await;
    let lines = |from: usize, line: &dyn Fn(usize) -> String| {
        (from..from + 30).map(line).collect::<String>()
    };
    let sidecar = |n: usize| format!("  - {{name: s{n}, command: c, process_types: [web]}}\n");
    for (key, line, text) in [
        (
            "processes",
            &(|n: usize| format!("  - type: p{n}\n")) as &dyn Fn(usize) -> String,
            "61 process types; an app may have at most 50",
        ),
        ("sidecars", &sidecar, "an app may have at most 50"),
    ] {
        let yaml = |from| {
            let list = lines(from, line);
            format!("applications:\n- name: {key}\n  {key}:\n{list}")
        };
        assert_eq!(f.apply_manifest(&yaml(0)).await.1["state"], "COMPLETE");
        let (_, job) = f.apply_manifest(&yaml(30)).await;
        assert!(detail(&job).contains(text), "{job}");
    }
    let long = format!("applications:\n- name: {}\n", "n".repeat(256));
    let (status, answer) = f.apply_manifest(&long).await;
    assert_eq!(status, 422, "{answer}");
    assert!(detail(&answer).contains("too long"), "{answer}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_are_bounded() {
    let f = Foundation::start().await;
    let nobody = f.user("nobody", &[]).await;
    for (path, why) in [
        (
            format!("/v3/stacks?names={}", "a,".repeat(15_000)),
            "'names' has 15001 values (maximum is 500)",
        ),
        (
            format!("/v3/apps?guids={}", "a%2C".repeat(600)),
            "'guids' has 601 values",
        ),
        (
            format!("/v3/apps?created_ats={}", "a,".repeat(501)),
            "'created_ats' has 502 values",
        ),
        (
            format!("/v3/apps?label_selector={}", "a,".repeat(501)),
            "'label_selector' has 502 values",
        ),
        (
            format!("/v3/apps?label_selector=a{}", ",a".repeat(50)),
            "Too many label_selector requirements (maximum is 50)",
        ),
        (
            format!("/v3/apps?names={}", "a".repeat(40_000)),
            "bytes long (maximum is 32768)",
        ),
        (
            format!("/v3/apps?{}", "names=a&".repeat(501)),
            "501 parameters",
        ),
        ("/v3/apps?names=a%00b".to_owned(), "NUL"),
        ("/v3/apps/a%00b".to_owned(), "NUL"),
    ] {
        let (status, answer) = f.call_as(&nobody, Method::GET, &path, None).await;
        assert_eq!(status, 400, "{why}: {answer}");
        assert!(detail(&answer).contains(why), "{why}: {answer}");
    }
    let names = (0..500)
        .map(|n| format!("n{n}"))
        .collect::<Vec<_>>()
        .join(",");
    let name = f.create_app("n77").await;
    let found = f.get(&format!("/v3/apps?names={names}")).await;
    assert_eq!(found["resources"][0]["guid"], json!(name));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_roles_keeps_nobody_from_reading() {
    let f = Foundation::start().await;
    let nobody = f.user("nobody", &[]).await;
    let app = f.create_app("web").await;
    let values = (0..500)
        .map(|n| format!("v{n}"))
        .collect::<Vec<_>>()
        .join(",");
    let heavy = format!(
        "/v3/routes?hosts={values}&paths={values}&app_guids={values}&space_guids={values}&per_page=5000"
    );
    let stop = std::sync::atomic::AtomicBool::new(false);
    let hostile = (0..6).map(|_| async {
        let mut answers = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let (status, answer) = f.call_as(&nobody, Method::GET, &heavy, None).await;
            assert!(status == 200 || status == 503, "{status} {answer}");
            answers += 1;
        }
        answers
    });
    let others = async {
        for n in 0..20 {
            f.get(&format!("/v3/apps/{app}")).await;
            f.create_route(&format!("host-{n}"), "").await;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let both = futures::future::join(futures::future::join_all(hostile), others);
    let (answers, ()) = tokio::time::timeout(Duration::from_secs(120), both)
        .await
        .expect("the other user's requests go on");
    assert!(answers.iter().all(|answers| *answers > 0), "{answers:?}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_embeds_and_includes_are_answered() {
    let f = Foundation::start().await;
    let app = f.started_app("web").await;
    // An app without a stack of its own has the default one.
    for (stack, count) in [("cflinuxfs4", 1), ("other", 0)] {
        let found = f.get(&format!("/v3/apps?stacks={stack}")).await;
        assert_eq!(found["pagination"]["total_results"], count, "{stack}");
    }
    // Revisions are not recorded, so that they cannot be enabled.
    let feature = format!("/v3/apps/{app}/features/revisions");
    refused(
        &f,
        Method::PATCH,
        &feature,
        json!({ "enabled": true }),
        "'revisions' is not supported",
    )
    .await;
    f.send(Method::PATCH, &feature, json!({ "enabled": false }))
        .await;
    let (status, answer) = f
        .apply_manifest("applications:\n- name: web\n  features: {revisions: true}\n")
        .await;
    assert_eq!(status, 422, "{answer}");
    assert!(
        detail(&answer).contains("'revisions' is not supported"),
        "{answer}"
    );
    // These paths return one process with its instances.
    for path in [
        format!("/v3/processes/{app}"),
        format!("/v3/apps/{app}/processes/web"),
    ] {
        let process = f.get(&format!("{path}?embed=process_instances")).await;
        assert_eq!(process["process_instances"][0]["index"], 0, "{process}");
        assert!(f.get(&path).await.get("process_instances").is_none());
        for bad in ["embed=other", "include=app"] {
            let (status, answer) = f.call(Method::GET, &format!("{path}?{bad}"), None).await;
            assert_eq!(status, 400, "{answer}");
        }
    }
    // This path returns one role with what it relates.
    f.user(
        "alice",
        &[("organization_user", "organization", &f.organization)],
    )
    .await;
    let role = f
        .get("/v3/roles?types=organization_user&include=user")
        .await["resources"][0]
        .clone();
    let path = format!("/v3/roles/{}", role["guid"].as_str().unwrap());
    let shown = f.get(&format!("{path}?include=user,organization")).await;
    assert_eq!(shown["included"]["users"][0]["username"], "alice");
    assert_eq!(
        shown["included"]["organizations"][0]["guid"],
        json!(f.organization)
    );
    assert_eq!(
        f.call(Method::GET, &format!("{path}?include=nonsense"), None)
            .await
            .0,
        400
    );
    f.finish().await;
}
