//! Sidecars that the API, a manifest or a buildpack creates, and the LRPs that contain them.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};
use wire::bbs as m;

/// Returns the programs that run together in an app's only LRP, without the sshd.
async fn programs(f: &Foundation, app: &str) -> Vec<m::RunAction> {
    let lrp = f.lrps(app).await.remove(0);
    let together = lrp.action.unwrap().codependent.unwrap().actions;
    together
        .into_iter()
        .map(|action| action.run.unwrap())
        .filter(|run| run.log_source != "CELL/SSHD")
        .collect()
}

fn variable<'a>(run: &'a m::RunAction, name: &str) -> &'a str {
    let found = run.env.iter().find(|variable| variable.name == name);
    &found.unwrap().value
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_runs_beside_its_process() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    f.send(
        Method::PATCH,
        &format!("/v3/apps/{app}/environment_variables"),
        json!({ "var": { "COLOUR": "red" } }),
    )
    .await;
    let body = json!({ "name": "auth", "command": "./auth --fast", "process_types": ["web", "other"], "memory_in_mb": 100 });
    let made = f
        .send(Method::POST, &format!("/v3/apps/{app}/sidecars"), body)
        .await;
    assert_eq!(
        (
            &made["origin"],
            &made["memory_in_mb"],
            &made["process_types"]
        ),
        (&json!("user"), &json!(100), &json!(["web", "other"]))
    );
    let of_process = f.get(&format!("/v3/processes/{app}/sidecars")).await;
    assert_eq!(of_process["resources"], json!([made]));
    assert_eq!(programs(&f, &app).await.len(), 1, "until the restart");

    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/actions/restart"),
        json!({}),
    )
    .await;
    let programs = programs(&f, &app).await;
    let [main, sidecar] = programs.as_slice() else {
        panic!("two programs: {programs:?}")
    };
    assert_eq!(
        (variable(main, "MEMORY_LIMIT"), main.log_source.as_str()),
        ("156m", "APP/PROC/WEB")
    );
    assert_eq!(sidecar.log_source, "APP/PROC/WEB/SIDECAR/AUTH");
    assert_eq!(sidecar.args[..2], ["app", "./auth --fast"]);
    assert_eq!(sidecar.user, "vcap");
    assert_eq!(variable(sidecar, "MEMORY_LIMIT"), "100m");
    assert_eq!(variable(sidecar, "COLOUR"), "red");
    assert_eq!(sidecar.resource_limits, main.resource_limits);

    let task = f
        .send(
            Method::POST,
            &format!("/v3/apps/{app}/tasks"),
            json!({ "command": "true" }),
        )
        .await;
    let task = f.bbs.task(task["guid"].as_str().unwrap()).await.unwrap();
    let text = format!("{task:?}");
    assert!(!text.contains("./auth"), "a task has none");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_are_created_shown_changed_and_deleted() {
    let f = Foundation::start().await;
    let app = f.create_app("app").await;
    let all = format!("/v3/apps/{app}/sidecars");
    let (status, body) = f
        .call(
            Method::POST,
            &all,
            Some(json!({ "process_types": [], "memory_in_mb": 0, "port": 1 })),
        )
        .await;
    assert_eq!(status, 422);
    for part in [
        "Unknown field(s): 'port'",
        "Name can't be blank",
        "Command can't be blank",
        "Process types must have at least 1 process_type",
        "Memory in mb must be",
    ] {
        assert!(body.to_string().contains(part), "{part}: {body}");
    }
    let body = json!({ "name": "a", "command": "./a", "process_types": ["web"] });
    let made = f.send(Method::POST, &all, body.clone()).await;
    let one = format!("/v3/sidecars/{}", made["guid"].as_str().unwrap());
    assert_eq!(f.get(&one).await, made);
    let (status, answer) = f.call(Method::POST, &all, Some(body)).await;
    assert_eq!(
        (status, detail(&answer)),
        (422, "Sidecar with name 'a' already exists for given app")
    );
    let changed = f
        .send(
            Method::PATCH,
            &one,
            json!({ "command": "./b", "memory_in_mb": 32 }),
        )
        .await;
    assert_eq!(
        (
            &changed["name"],
            &changed["command"],
            &changed["memory_in_mb"]
        ),
        (&json!("a"), &json!("./b"), &json!(32))
    );
    let changed = f
        .send(Method::PATCH, &one, json!({ "memory_in_mb": null }))
        .await;
    assert_eq!(changed["memory_in_mb"], Value::Null);
    f.delete(&one).await;
    assert_eq!(f.call(Method::GET, &one, None).await.0, 404);
    assert_eq!(f.get(&all).await["resources"], json!([]));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_leave_memory_for_the_process() {
    let f = Foundation::start().await;
    let app = f.create_app("app").await;
    let all = format!("/v3/apps/{app}/sidecars");
    let sidecar = |name: &str, memory: i64| json!({ "name": name, "command": "./a", "process_types": ["web"], "memory_in_mb": memory });
    let too_large =
        "The memory allocation defined is too large to run with the dependent \"web\" process";
    let (status, body) = f.call(Method::POST, &all, Some(sidecar("a", 256))).await;
    assert_eq!((status, detail(&body)), (422, too_large));
    let made = f.send(Method::POST, &all, sidecar("a", 200)).await;
    let (status, body) = f.call(Method::POST, &all, Some(sidecar("b", 56))).await;
    assert_eq!((status, detail(&body)), (422, too_large));
    f.send(Method::POST, &all, sidecar("b", 55)).await;
    let one = format!("/v3/sidecars/{}", made["guid"].as_str().unwrap());
    f.send(Method::PATCH, &one, json!({ "memory_in_mb": 200 }))
        .await;
    let (status, body) = f
        .call(Method::PATCH, &one, Some(json!({ "memory_in_mb": 201 })))
        .await;
    assert_eq!((status, detail(&body)), (422, too_large));

    let scale = format!("/v3/apps/{app}/processes/web/actions/scale");
    let (status, body) = f
        .call(Method::POST, &scale, Some(json!({ "memory_in_mb": 255 })))
        .await;
    assert_eq!(
        (status, detail(&body)),
        (
            422,
            "The requested memory allocation is not large enough to run all of your sidecar processes"
        )
    );
    f.send(Method::POST, &scale, json!({ "memory_in_mb": 257 }))
        .await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_makes_sidecars_and_shows_them() {
    let f = Foundation::start().await;
    let manifest = "applications:\n- name: app\n  memory: 256M\n  sidecars:\n  - {name: a, command: ./a, process_types: [web, worker], memory: 32M}\n  processes:\n  - type: worker\n    memory: 64M\n    sidecars:\n    - {name: b, command: ./b}\n";
    let (_, job) = f.apply_manifest(manifest).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    let app = f.get("/v3/apps?names=app").await["resources"][0]["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = |list: &Value| -> Vec<Value> {
        list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|sidecar| json!([sidecar["name"], sidecar["process_types"]]))
            .collect()
    };
    assert_eq!(
        shown(&f.get(&format!("/v3/apps/{app}/sidecars")).await),
        [json!(["a", ["web", "worker"]]), json!(["b", ["worker"]])]
    );
    let generated = f.get(&format!("/v3/apps/{app}/manifest")).await;
    let text = generated.as_str().unwrap();
    for part in [
        "sidecars:",
        "name: a",
        "command: ./a",
        "memory: 32M",
        "- worker",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The generated manifest can be applied again, and an existing sidecar is changed.
    assert_eq!(f.apply_manifest(text).await.1["state"], "COMPLETE");
    f.apply_manifest(
        "applications:\n- name: app\n  sidecars: [{name: a, command: ./c, process_types: [web]}]\n",
    )
    .await;
    let list = f.get(&format!("/v3/apps/{app}/sidecars")).await;
    assert_eq!(
        (
            &list["resources"][0]["command"],
            &list["resources"][0]["memory_in_mb"]
        ),
        (&json!("./c"), &json!(32))
    );

    let (status, body) = f
        .apply_manifest("applications:\n- name: app\n  sidecars: [{name: a, memory: lots, port: 8}, {command: ./x, process_types: [web]}]\n")
        .await;
    assert_eq!(status, 422);
    let text = body.to_string();
    for part in [
        "Sidecar \\\"a\\\": unknown key 'port'",
        "Sidecar \\\"a\\\": Command",
        "Sidecar \\\"a\\\": Process types",
        "Sidecar \\\"a\\\": Memory must use a supported unit",
        "Sidecar \\\"\\\": Name",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, job) = f
        .apply_manifest("applications:\n- name: app\n  memory: 30M\n")
        .await;
    assert_eq!(job["state"], "FAILED", "the sidecar needs 32 MB");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_droplets_sidecars_replace_those_of_the_droplet_before() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let assign = format!("/v3/apps/{app}/relationships/current_droplet");
    let droplet = f.get(&assign).await["data"].clone();
    f.sql("UPDATE droplets SET sidecars = '[{\"name\":\"agent\",\"command\":\"./agent\",\"process_types\":[\"web\"],\"memory\":20}]'")
        .await;
    f.send(Method::PATCH, &assign, json!({ "data": droplet }))
        .await;
    let all = format!("/v3/apps/{app}/sidecars");
    let list = f.get(&all).await;
    assert_eq!(
        (
            &list["resources"][0]["name"],
            &list["resources"][0]["origin"]
        ),
        (&json!("agent"), &json!("buildpack"))
    );
    f.sql("UPDATE droplets SET sidecars = '[{\"name\":\"mine\",\"command\":\"./agent\",\"process_types\":[\"web\"]}]'")
        .await;
    f.send(
        Method::POST,
        &all,
        json!({ "name": "mine", "command": "./m", "process_types": ["web"] }),
    )
    .await;
    let (status, body) = f
        .call(Method::PATCH, &assign, Some(json!({ "data": droplet })))
        .await;
    assert_eq!(
        (status, detail(&body)),
        (
            422,
            "Buildpack defined sidecar 'mine' conflicts with an existing user-defined sidecar. Consider renaming 'mine'."
        )
    );
    f.finish().await;
}
