//! Bindings of apps to user-provided instances, and `VCAP_SERVICES` in processes, tasks and stagings.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};
use wire::bbs as m;

const BINDINGS: &str = "/v3/service_credential_bindings";
const INSTANCES: &str = "/v3/service_instances";

/// A text that occurs in no other place than the credentials of these tests.
const SECRET: &str = "s3cret-of-the-test";

fn body(app: &str, instance: &str) -> Value {
    json!({ "type": "app", "relationships": { "app": { "data": { "guid": app } }, "service_instance": { "data": { "guid": instance } } } })
}

impl Foundation {
    /// Binds an app to an instance, and returns the guid of the binding.
    pub(crate) async fn bind(&self, app: &str, instance: &str) -> String {
        let binding = self.send(Method::POST, BINDINGS, body(app, instance)).await;
        binding["guid"].as_str().unwrap().to_owned()
    }

    async fn start_app(&self, app: &str) {
        let path = format!("/v3/apps/{app}/actions/restart");
        self.send(Method::POST, &path, json!({})).await;
    }
}

async fn guids(f: &Foundation, query: &str) -> Vec<String> {
    let list = f.get(&format!("{BINDINGS}?{query}")).await;
    let rows = list["resources"].as_array().unwrap();
    let guid = |row: &Value| row["guid"].as_str().unwrap().to_owned();
    rows.iter().map(guid).collect()
}

/// Returns the value that a variable has in every program of an action, or `None` if one of them lacks it.
fn variable(action: &m::Action, name: &str) -> Option<String> {
    let mut values = Vec::new();
    collect(action, name, &mut values);
    assert!(!values.is_empty(), "{action:?} runs no program");
    assert!(values.windows(2).all(|pair| pair[0] == pair[1]));
    values.remove(0)
}

fn collect(action: &m::Action, name: &str, values: &mut Vec<Option<String>>) {
    if let Some(run) = action.run.as_ref().filter(|run| !run.env.is_empty()) {
        let found = run.env.iter().find(|variable| variable.name == name);
        values.push(found.map(|variable| variable.value.clone()));
    }
    let inner = [
        action.timeout.as_ref().and_then(|a| a.action.as_deref()),
        action
            .emit_progress
            .as_ref()
            .and_then(|a| a.action.as_deref()),
    ];
    let lists = [
        action.serial.as_ref().map(|a| &a.actions),
        action.codependent.as_ref().map(|a| &a.actions),
        action.parallel.as_ref().map(|a| &a.actions),
    ];
    let nested = inner.into_iter().flatten();
    for action in nested.chain(lists.into_iter().flatten().flatten()) {
        collect(action, name, values);
    }
}

async fn of_lrp(f: &Foundation, app: &str, name: &str) -> Option<String> {
    let lrps = f.lrps(app).await;
    assert_eq!(lrps.len(), 1, "one LRP of {app}");
    variable(lrps[0].action.as_ref().unwrap(), name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vcap_services_is_the_same_in_processes_tasks_and_stagings() {
    let f = Foundation::start().await;
    let app = f.stopped_app("app").await;
    let credentials = r#"{"z":"x","a":{"y":1,"b":[true,null]}}"#;
    let sent = format!(
        r#"{{"type":"user-provided","name":"db","tags":["sql"],"credentials":{credentials},"relationships":{{"space":{{"data":{{"guid":"{}"}}}}}}}}"#,
        f.space
    );
    let request = f
        .http
        .post(format!("{}{INSTANCES}", f.url))
        .header("authorization", format!("bearer {}", f.admin))
        .body(sent);
    let (status, instance) = answer(request.send().await.unwrap()).await;
    assert_eq!(status, 201, "{instance}");
    let instance = instance["guid"].as_str().unwrap();
    let plain = f.create_instance("plain", Value::Null).await;
    let mut named = body(&app, instance);
    named["name"] = json!("main");
    let first = f.send(Method::POST, BINDINGS, named).await;
    let first = first["guid"].as_str().unwrap();
    let second = f.bind(&app, &plain).await;
    let wanted = format!(
        concat!(
            r#"{{"user-provided":[{{"label":"user-provided","name":"main","tags":["sql"],"instance_guid":"{}","instance_name":"db","#,
            r#""binding_guid":"{}","binding_name":"main","credentials":{},"syslog_drain_url":null,"volume_mounts":[]}},"#,
            r#"{{"label":"user-provided","name":"plain","tags":[],"instance_guid":"{}","instance_name":"plain","#,
            r#""binding_guid":"{}","binding_name":null,"credentials":null,"syslog_drain_url":null,"volume_mounts":[]}}]}}"#,
        ),
        instance, first, credentials, plain, second
    );
    f.start_app(&app).await;
    assert_eq!(
        of_lrp(&f, &app, "VCAP_SERVICES").await.as_ref(),
        Some(&wanted)
    );

    let tasks = format!("/v3/apps/{app}/tasks");
    let task = f
        .send(Method::POST, &tasks, json!({ "command": "true" }))
        .await;
    let package = f.package(&app, zip("run", "#!/bin/sh")).await;
    let package = json!({ "package": { "guid": package } });
    let build = f.send(Method::POST, "/v3/builds", package).await;
    for guid in [&task["guid"], &build["guid"]] {
        let task = f.bbs.task(guid.as_str().unwrap()).await.unwrap();
        let action = task.task_definition.unwrap().action.unwrap();
        let value = variable(&action, "VCAP_SERVICES");
        assert_eq!(value.as_ref(), Some(&wanted));
    }
    let env = f.get(&format!("/v3/apps/{app}/env")).await;
    let wanted: Value = serde_json::from_str(&wanted).unwrap();
    assert_eq!(env["system_env_json"], json!({ "VCAP_SERVICES": wanted }));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_changes_with_the_next_version_only() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let guid = f.lrps(&app).await.remove(0).process_guid;
    let instance = f.create_instance("db", json!({ "a": 1 })).await;
    let binding = f.bind(&app, &instance).await;
    assert_eq!(
        of_lrp(&f, &app, "VCAP_SERVICES").await.as_deref(),
        Some("{}")
    );
    assert_eq!(f.lrps(&app).await.remove(0).process_guid, guid);
    f.start_app(&app).await;
    let services = async || of_lrp(&f, &app, "VCAP_SERVICES").await.unwrap();
    assert!(services().await.contains(r#""credentials":{"a":1}"#));

    // The binding follows its instance.
    let change = json!({ "credentials": { "a": 2 }, "tags": ["new"], "name": "renamed" });
    f.send(Method::PATCH, &format!("{INSTANCES}/{instance}"), change)
        .await;
    let details = f.get(&format!("{BINDINGS}/{binding}/details")).await;
    assert_eq!(details, json!({ "credentials": { "a": 2 } }));
    f.start_app(&app).await;
    let text = services().await;
    for part in [
        r#""credentials":{"a":2}"#,
        r#""tags":["new"]"#,
        r#""name":"renamed""#,
    ] {
        assert!(text.contains(part), "{text}");
    }
    let (status, _) = f
        .call(Method::DELETE, &format!("{BINDINGS}/{binding}"), None)
        .await;
    assert_eq!(status, 204);
    f.start_app(&app).await;
    assert_eq!(services().await, "{}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_is_shown_listed_labelled_and_recorded() {
    let f = Foundation::start().await;
    let (app, other) = (f.create_app("app").await, f.create_app("other").await);
    let (db, queue) = (
        f.create_instance("db", json!({ "k": SECRET })).await,
        f.create_instance("queue", json!({})).await,
    );
    let mut named = body(&app, &db);
    named["name"] = json!("main");
    named["metadata"] = json!({ "labels": { "tier": "gold" } });
    let made = f.send(Method::POST, BINDINGS, named).await;
    let guid = made["guid"].as_str().unwrap().to_owned();
    let path = format!("{BINDINGS}/{guid}");
    let link = |path: &str| json!({ "href": format!("http://api.test{path}") });
    assert_eq!(made["name"], "main");
    assert_eq!(made["type"], "app");
    let operation = &made["last_operation"];
    assert_eq!(
        (&operation["type"], &operation["state"]),
        (&json!("create"), &json!("succeeded"))
    );
    assert_eq!(operation["description"], Value::Null);
    assert_eq!(made["relationships"], body(&app, &db)["relationships"]);
    assert_eq!(
        made["links"],
        json!({
            "self": link(&path),
            "details": link(&format!("{path}/details")),
            "service_instance": link(&format!("{INSTANCES}/{db}")),
            "app": link(&format!("/v3/apps/{app}")),
        })
    );
    assert_eq!(f.get(&path).await, made);
    let second = f.bind(&other, &queue).await;
    let both = vec![guid.clone(), second.clone()];
    for (query, wanted) in [
        (String::new(), both.clone()),
        (format!("app_guids={app}"), vec![guid.clone()]),
        ("app_names=other".to_owned(), vec![second.clone()]),
        (format!("service_instance_guids={db},{queue}"), both.clone()),
        (
            "service_instance_names=queue".to_owned(),
            vec![second.clone()],
        ),
        ("names=main".to_owned(), vec![guid.clone()]),
        ("label_selector=tier".to_owned(), vec![guid.clone()]),
        ("type=app".to_owned(), both),
        ("type=key".to_owned(), vec![]),
        ("service_plan_names=x".to_owned(), vec![]),
        ("service_offering_guids=x".to_owned(), vec![]),
    ] {
        assert_eq!(guids(&f, &query).await, wanted, "{query}");
    }
    let list = f
        .get(&format!(
            "{BINDINGS}?guids={guid}&include=app,service_instance"
        ))
        .await;
    assert_eq!(list["included"]["apps"][0]["guid"], json!(app));
    assert_eq!(list["included"]["service_instances"][0]["guid"], json!(db));
    let label = json!({ "metadata": { "labels": { "tier": "silver" } } });
    let labelled = f.send(Method::PATCH, &path, label).await;
    assert_eq!(labelled["metadata"]["labels"]["tier"], "silver");
    let details = f.get(&format!("{path}/details")).await;
    assert_eq!(details, json!({ "credentials": { "k": SECRET } }));
    let (status, answer) = f
        .call(Method::GET, &format!("{path}/parameters"), None)
        .await;
    assert_eq!(
        (status, answer["errors"][0]["code"].as_i64()),
        (400, Some(90_007))
    );
    f.delete(&path).await;

    let events = f
        .get(&format!("/v3/audit_events?target_guids={guid}"))
        .await;
    assert!(!events.to_string().contains(SECRET), "{events}");
    let events = events["resources"].as_array().unwrap();
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    let kind = |verb: &str| format!("audit.service_binding.{verb}");
    assert_eq!(
        kinds,
        [kind("create"), kind("update"), kind("show"), kind("delete")]
    );
    assert_eq!(events[0]["target"]["type"], "service_binding");
    assert_eq!(
        events[3]["data"]["request"],
        json!({ "app_guid": app, "route_guid": null, "service_instance_guid": db })
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bindings_are_refused_with_the_originals_texts() {
    let f = Foundation::start().await;
    let app = f.create_app("app").await;
    let (db, queue) = (
        f.create_instance("db", json!({})).await,
        f.create_instance("queue", json!({})).await,
    );
    let mut named = body(&app, &db);
    named["name"] = json!("main");
    f.send(Method::POST, BINDINGS, named).await;
    let with = |key: &str, value: Value| {
        let mut body = body(&app, &queue);
        body[key] = value;
        body
    };
    let space = f.another_space(&f.organization, "other").await;
    let mut far = f.instance_body("far");
    far["relationships"]["space"]["data"]["guid"] = json!(space);
    let far = f.send(Method::POST, INSTANCES, far).await;
    let far = far["guid"].as_str().unwrap();
    let key = json!({ "type": "key", "name": "k", "relationships": { "service_instance": { "data": { "guid": db } } } });
    let mut again = body(&app, &db);
    again["name"] = json!("main");
    for (body, text) in [
        (again, "The app is already bound to the service instance"),
        (
            body(&app, &db),
            "The app is already bound to the service instance",
        ),
        (
            body(&app, far),
            "The service instance and the app are in different spaces",
        ),
        (body("none", &db), "The app could not be found: 'none'"),
        (
            body(&app, "none"),
            "The service instance could not be found: 'none'",
        ),
        (with("type", json!("x")), "Type must be 'app' or 'key'"),
        (
            with("strategy", json!("x")),
            "Strategy must be 'single' or 'multiple'",
        ),
        (
            with("parameters", json!({ "a": 1 })),
            "Binding parameters are not supported for user-provided service instances",
        ),
        (
            with("name", json!("a b")),
            "The binding name is invalid. Valid characters are alphanumeric, underscore, and dash.",
        ),
        (
            with("name", json!("main")),
            "The binding name is invalid. Binding names must be unique for a given service instance and app. The app already has a binding with name 'main'.",
        ),
        (
            key,
            "Service credential bindings of type 'key' are not supported for user-provided service instances.",
        ),
    ] {
        assert_eq!(refused(&f, Method::POST, BINDINGS, body).await, text);
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_leave_with_their_app_and_with_their_instance() {
    let f = Foundation::start().await;
    let (app, other) = (f.create_app("app").await, f.create_app("other").await);
    let db = f.create_instance("db", json!({})).await;
    let (first, second) = (f.bind(&app, &db).await, f.bind(&other, &db).await);
    f.delete(&format!("/v3/apps/{app}")).await;
    assert_eq!(guids(&f, "").await, [second.clone()]);
    f.delete(&format!("{INSTANCES}/{db}")).await;
    assert!(guids(&f, "").await.is_empty());
    let kind = "audit.service_binding.delete";
    let events = f.get(&format!("/v3/audit_events?types={kind}")).await;
    let events = events["resources"].as_array().unwrap();
    let gone: Vec<&str> = events
        .iter()
        .map(|event| event["target"]["guid"].as_str().unwrap())
        .collect();
    assert_eq!(gone, [first, second]);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_reach_the_cell_as_files() {
    let f = Foundation::start().await;
    let app = f.stopped_app("app").await;
    let db = f.create_instance("db", json!({ "uri": "u" })).await;
    f.bind(&app, &db).await;
    let feature = |name: &str| format!("/v3/apps/{app}/features/{name}");
    let (file, folders) = ("file-based-vcap-services", "service-binding-k8s");
    let (on, off) = (json!({ "enabled": true }), json!({ "enabled": false }));
    let set = f.send(Method::PATCH, &feature(file), on.clone()).await;
    assert_eq!(
        set,
        json!({ "name": file, "description": "Enable file-based VCAP service bindings for the app", "enabled": true })
    );
    let text = refused(&f, Method::PATCH, &feature(folders), on.clone()).await;
    assert!(
        text.ends_with("features cannot be enabled at the same time."),
        "{text}"
    );
    f.start_app(&app).await;
    let lrp = f.lrps(&app).await.remove(0);
    let action = lrp.action.as_ref().unwrap();
    assert_eq!(variable(action, "VCAP_SERVICES"), None);
    assert_eq!(
        variable(action, "VCAP_SERVICES_FILE_PATH").as_deref(),
        Some("/etc/cf-service-bindings/vcap_services")
    );
    assert_eq!(lrp.volume_mounted_files[0].path, "vcap_services");
    let content = &lrp.volume_mounted_files[0].content;
    assert!(
        content.starts_with(r#"{"user-provided":[{"label":"user-provided","name":"db""#),
        "{content}"
    );
    let env = f.get(&format!("/v3/apps/{app}/env")).await;
    assert_eq!(
        env["system_env_json"],
        json!({ "VCAP_SERVICES_FILE_PATH": "/etc/cf-service-bindings/vcap_services" })
    );

    f.send(Method::PATCH, &feature(file), off).await;
    f.send(Method::PATCH, &feature(folders), on).await;
    f.start_app(&app).await;
    let lrp = f.lrps(&app).await.remove(0);
    let root = variable(lrp.action.as_ref().unwrap(), "SERVICE_BINDING_ROOT");
    assert_eq!(root.as_deref(), Some("/etc/cf-service-bindings"));
    let files = &lrp.volume_mounted_files;
    let content = |path: &str| {
        let file = files.iter().find(|file| file.path == path);
        file.map(|file| file.content.as_str())
    };
    assert_eq!(content("db/uri"), Some("u"));
    assert_eq!(content("db/type"), Some("user-provided"));
    let list = f.get(&format!("/v3/apps/{app}/features")).await;
    let names: Vec<&str> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|feature| feature["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["ssh", "revisions", folders, file]);

    // A binding that could not be a file is refused where it begins.
    let upper = f.create_instance("Upper", json!({})).await;
    let text = refused(&f, Method::POST, BINDINGS, body(&app, &upper)).await;
    assert!(text.contains("Invalid binding name: 'Upper'"), "{text}");
    let change = json!({ "credentials": { "a/b": "x" } });
    let text = refused(&f, Method::PATCH, &format!("{INSTANCES}/{db}"), change).await;
    assert!(text.contains("Invalid file name: a/b"), "{text}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn details_are_not_found_by_those_who_may_not_see_them() {
    let f = Foundation::start().await;
    let app = f.create_app("app").await;
    let db = f.create_instance("db", json!({ "k": SECRET })).await;
    let binding = f.bind(&app, &db).await;
    let auditor = f
        .user(
            "auditor",
            &[
                ("organization_user", "organization", &f.organization),
                ("space_auditor", "space", &f.space),
            ],
        )
        .await;
    let path = format!("{BINDINGS}/{binding}");
    let (status, _) = f.call_as(&auditor, Method::GET, &path, None).await;
    assert_eq!(status, 200);
    let path = format!("{path}/details");
    let (status, answer) = f.call_as(&auditor, Method::GET, &path, None).await;
    assert_eq!(
        (status, detail(&answer)),
        (404, "Service credential binding not found")
    );
    // The environment hides what the auditor may not see.
    let env = format!("/v3/apps/{app}/env");
    let (status, answer) = f.call_as(&auditor, Method::GET, &env, None).await;
    assert!(
        status == 403 && !answer.to_string().contains(SECRET),
        "{answer}"
    );
    f.finish().await;
}
