//! The texts on which clients match: errors, states of what does not run, and stacks.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};

async fn refusal(f: &Foundation, method: Method, path: &str, body: Value) -> (u16, String) {
    let (status, answer) = f.call(method, path, Some(body)).await;
    (status, detail(&answer).to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_that_clients_know() {
    let f = Foundation::start().await;
    let app = f.create_app("app").await;
    assert_eq!(
        refusal(
            &f,
            Method::POST,
            &format!("/v3/apps/{app}/tasks"),
            json!({ "command": "true" })
        )
        .await,
        (
            422,
            "Task must have a droplet. Specify droplet or assign current droplet to app.".into()
        )
    );
    f.send(Method::POST, "/v3/organizations", json!({ "name": "acme" }))
        .await;
    assert_eq!(
        refusal(
            &f,
            Method::POST,
            "/v3/organizations",
            json!({ "name": "acme" })
        )
        .await,
        (422, "Organization 'acme' already exists.".into())
    );
    assert_eq!(
        refusal(
            &f,
            Method::PATCH,
            &format!("/v3/organizations/{}", f.organization),
            json!({ "name": "acme" })
        )
        .await,
        (422, "Organization name 'acme' is already taken.".into())
    );
    let (status, text) = refusal(
        &f,
        Method::POST,
        "/v3/domains",
        json!({ "name": "no%dots" }),
    )
    .await;
    assert_eq!(status, 422);
    for part in ["RFC 1035", "at least one \".\"", "alphanumeric characters"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let rules =
        json!({ "name": "g", "rules": [{ "protocol": "all", "destination": "1.1.1.1, 2.2.2.2" }] });
    let (status, text) = refusal(&f, Method::POST, "/v3/security_groups", rules).await;
    assert_eq!(status, 422);
    assert!(text.contains("must not contain whitespace"), "{text}");
    let (status, body) = f
        .apply_manifest("applications:\n- name: a\n  instances: -1\n")
        .await;
    assert_eq!(status, 422);
    assert!(
        body.to_string()
            .contains("Instances must be greater than or equal to 0"),
        "{body}"
    );
    let (_, job) = f
        .apply_manifest("applications:\n- name: a\n  buildpacks: [wut]\n")
        .await;
    assert_eq!(
        job["errors"][0]["detail"],
        "For application 'a': Specified unknown buildpack name: \"wut\""
    );
    let scale = format!("/v3/processes/{app}/actions/scale");
    for (body, text) in [
        (
            json!({ "instances": -1 }),
            "Instances must be greater than or equal to 0",
        ),
        (
            json!({ "memory_in_mb": 0 }),
            "Memory in mb must be greater than 0",
        ),
        (
            json!({ "instances": 3_000_000_000_i64 }),
            "Instances must be less than or equal to 2147483647",
        ),
    ] {
        let found = refusal(&f, Method::POST, &scale, body).await;
        assert_eq!(found, (422, text.into()));
    }
    for path in ["/v2/apps", "/nowhere", "/v3x"] {
        let (status, body) = f.call(Method::GET, path, None).await;
        assert_eq!(
            (status, &body["error_code"], &body["code"]),
            (404, &json!("CF-NotFound"), &json!(10000)),
            "{path}"
        );
    }
    let (_, body) = f.call(Method::GET, "/v3/nowhere", None).await;
    assert_eq!(detail(&body), "Unknown request");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_a_template_runs_the_command_that_staging_found() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let task = f
        .send(
            Method::POST,
            &format!("/v3/apps/{app}/tasks"),
            json!({ "template": { "process": { "guid": app } } }),
        )
        .await;
    assert_eq!(task["command"], "./run");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_of_a_stopped_app_are_down() {
    let f = Foundation::start().await;
    let app = f.create_app("app").await;
    let list = f
        .get(&format!("/v3/processes/{app}/process_instances"))
        .await;
    assert_eq!(
        list["resources"],
        json!([{ "index": 0, "state": "DOWN", "since": 0 }])
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stacks_are_made_used_and_deleted() {
    let f = Foundation::start().await;
    let made = f
        .send(
            Method::POST,
            "/v3/stacks",
            json!({ "name": "other", "description": "d", "metadata": { "labels": { "a": "b" } } }),
        )
        .await;
    assert_eq!(
        (&made["name"], &made["default"], &made["metadata"]["labels"]),
        (&json!("other"), &json!(false), &json!({ "a": "b" }))
    );
    let one = format!("/v3/stacks/{}", made["guid"].as_str().unwrap());
    assert_eq!(
        refusal(&f, Method::POST, "/v3/stacks", json!({ "name": "other" })).await,
        (422, "Name must be unique".into())
    );
    let app = f.create_app("app").await;
    let of = |stack: &str| format!("/v3/apps?stacks={stack}");
    let names = |list: Value| list["pagination"]["total_results"].clone();
    assert_eq!(
        names(f.get(&of("cflinuxfs4")).await),
        1,
        "the default stack"
    );
    let data = json!({ "lifecycle": { "type": "buildpack", "data": { "stack": "other" } } });
    f.send(Method::PATCH, &format!("/v3/apps/{app}"), data)
        .await;
    assert_eq!(names(f.get(&of("cflinuxfs4")).await), 0);
    assert_eq!(names(f.get(&of("other")).await), 1);
    assert_eq!(names(f.get(&format!("{one}/apps")).await), 1);
    assert_eq!(
        refusal(&f, Method::DELETE, &one, json!({})).await,
        (
            422,
            "Cannot delete stack 'other' because apps are currently using the stack.".into()
        )
    );
    f.delete(&format!("/v3/apps/{app}")).await;
    f.delete(&one).await;
    assert_eq!(f.call(Method::GET, &one, None).await.0, 404);
    f.finish().await;
}
