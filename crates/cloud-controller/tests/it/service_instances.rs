//! User-provided service instances: what they show, to whom their credentials are shown, and that nothing of them is stored in clear.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const INSTANCES: &str = "/v3/service_instances";

/// A text that occurs in no other place than the credentials of these tests.
const SECRET: &str = "s3cret-of-the-test";

impl Foundation {
    pub(crate) fn instance_body(&self, name: &str) -> Value {
        json!({ "type": "user-provided", "name": name, "relationships": { "space": { "data": { "guid": self.space } } } })
    }

    /// Creates a user-provided instance in the fixture's space, and returns its guid.
    pub(crate) async fn create_instance(&self, name: &str, credentials: Value) -> String {
        let mut body = self.instance_body(name);
        body["credentials"] = credentials;
        let instance = self.send(Method::POST, INSTANCES, body).await;
        instance["guid"].as_str().unwrap().to_owned()
    }

    /// Returns the body of a response as it was sent.
    pub(crate) async fn text(&self, path: &str) -> String {
        let request = self
            .http
            .get(format!("{}{path}", self.url))
            .header("authorization", format!("bearer {}", self.admin));
        request.send().await.unwrap().text().await.unwrap()
    }
}

async fn names(f: &Foundation, query: &str) -> Vec<String> {
    let list = f.get(&format!("{INSTANCES}?{query}")).await;
    let rows = list["resources"].as_array().unwrap();
    let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
    rows.iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_created_shown_changed_and_removed() {
    let f = Foundation::start().await;
    let mut body = f.instance_body(" db ");
    body["tags"] = json!(["sql", "test"]);
    body["syslog_drain_url"] = json!("syslog-tls://drain.test:6514");
    body["route_service_url"] = json!("https://service.test/x");
    body["metadata"] = json!({ "labels": { "tier": "gold" } });
    let made = f.send(Method::POST, INSTANCES, body).await;
    let guid = made["guid"].as_str().unwrap();
    let path = format!("{INSTANCES}/{guid}");
    let link = |path: &str| json!({ "href": format!("http://api.test{path}") });
    assert_eq!(made["name"], "db");
    assert_eq!(made["type"], "user-provided");
    assert_eq!(made["tags"], json!(["sql", "test"]));
    assert_eq!(made["syslog_drain_url"], "syslog-tls://drain.test:6514");
    assert_eq!(made["route_service_url"], "https://service.test/x");
    assert_eq!(made["metadata"]["labels"], json!({ "tier": "gold" }));
    let operation = &made["last_operation"];
    assert_eq!(operation["type"], "create");
    assert_eq!(operation["state"], "succeeded");
    assert_eq!(operation["description"], "Operation succeeded");
    assert!(operation["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        made["relationships"],
        json!({ "space": { "data": { "guid": f.space } } })
    );
    let of = |kind: &str| link(&format!("/v3/{kind}?service_instance_guids={guid}"));
    assert_eq!(
        made["links"],
        json!({
            "self": link(&path),
            "space": link(&format!("/v3/spaces/{}", f.space)),
            "service_credential_bindings": of("service_credential_bindings"),
            "service_route_bindings": of("service_route_bindings"),
            "credentials": link(&format!("{path}/credentials")),
        })
    );
    assert_eq!(f.get(&path).await, made);
    assert_eq!(f.get(&format!("{path}/credentials")).await, json!({}));

    let change = json!({ "name": "database", "tags": null, "route_service_url": "", "syslog_drain_url": null, "credentials": { "a": 1 } });
    let changed = f.send(Method::PATCH, &path, change).await;
    assert_eq!(changed["name"], "database");
    assert_eq!(changed["tags"], json!([]));
    assert_eq!(changed["route_service_url"], "");
    assert_eq!(changed["syslog_drain_url"], Value::Null);
    assert_eq!(changed["last_operation"]["type"], "update");
    assert_eq!(changed["metadata"], made["metadata"]);
    assert_eq!(
        f.get(&format!("{path}/credentials")).await,
        json!({ "a": 1 })
    );
    let (status, answer) = f
        .call(Method::GET, &format!("{path}/parameters"), None)
        .await;
    assert_eq!(
        (status, answer["errors"][0]["code"].as_i64()),
        (400, Some(120_004))
    );

    let (status, _) = f.call(Method::DELETE, &path, None).await;
    assert_eq!(status, 204);
    let (status, answer) = f.call(Method::GET, &path, None).await;
    assert_eq!(
        (status, detail(&answer)),
        (404, "Service instance not found")
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_listed_by_each_filter_with_their_places() {
    let f = Foundation::start().await;
    for name in ["b", "a", "c"] {
        f.create_instance(name, json!({})).await;
    }
    let (other_org, other_space) = f.another_place("other").await;
    let mut body = f.instance_body("a");
    body["relationships"]["space"]["data"]["guid"] = json!(other_space);
    let far = f.send(Method::POST, INSTANCES, body).await;
    let far = far["guid"].as_str().unwrap();
    let label = json!({ "metadata": { "labels": { "tier": "gold" } } });
    f.send(Method::PATCH, &format!("{INSTANCES}/{far}"), label)
        .await;
    let of = |name: &str, value: &str| format!("{name}={value}");
    for (query, wanted) in [
        (String::new(), "b a c a"),
        (of("order_by", "name"), "a a b c"),
        (of("names", "a,c"), "a c a"),
        (of("space_guids", &other_space), "a"),
        (of("organization_guids", &other_org), "a"),
        (of("organization_guids", &f.organization), "b a c"),
        (of("guids", far), "a"),
        (of("label_selector", "tier%3Dgold"), "a"),
        (of("type", "user-provided"), "b a c a"),
        (of("type", "managed"), ""),
        (of("service_plan_guids", "x"), ""),
        (of("service_plan_names", "x"), ""),
    ] {
        assert_eq!(names(&f, &query).await.join(" "), wanted, "{query}");
    }
    for (query, text) in [
        (
            "type=none",
            "Type must be one of 'managed', 'user-provided'",
        ),
        (
            "fields[space]=x",
            "Fields valid keys for 'space' are: 'guid', 'name', 'relationships.organization'",
        ),
    ] {
        let (status, answer) = f
            .call(Method::GET, &format!("{INSTANCES}?{query}"), None)
            .await;
        assert_eq!(status, 400, "{answer}");
        assert!(detail(&answer).contains(text), "{answer}");
    }
    let fields = "fields[space]=guid,name,relationships.organization&fields[space.organization]=guid,name&fields[service_plan]=guid";
    for path in [
        format!("{INSTANCES}?guids={far}&{fields}"),
        format!("{INSTANCES}/{far}?{fields}"),
    ] {
        let space = json!({ "guid": other_space, "name": f.get(&format!("/v3/spaces/{other_space}")).await["name"],
            "relationships": { "organization": { "data": { "guid": other_org } } } });
        let organization = json!({ "guid": other_org, "name": "other" });
        assert_eq!(
            f.get(&path).await["included"],
            json!({ "spaces": [space], "organizations": [organization] })
        );
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_instances_are_refused_with_the_originals_texts() {
    let f = Foundation::start().await;
    f.create_instance("taken", json!({})).await;
    let with = |key: &str, value: Value| {
        let mut body = f.instance_body("x");
        body[key] = value;
        body
    };
    let of_plan = |plan: &str| f.managed_body("x", plan);
    for (body, text) in [
        (
            with("type", Value::Null),
            "Type must be one of 'managed', 'user-provided'",
        ),
        (with("name", json!("")), "Name can't be blank"),
        (with("name", json!("  ")), "Name can't be blank"),
        (
            with("name", json!("taken")),
            "The service instance name is taken: taken.",
        ),
        (
            with("credentials", json!("x")),
            "Credentials must be an object",
        ),
        (with("tags", json!("x")), "Tags must be an array"),
        (with("tags", json!([1])), "Tags must be a list of strings"),
        (
            with("syslog_drain_url", json!("host")),
            "Syslog drain url must be a valid URI",
        ),
        (
            with("route_service_url", json!("http://x")),
            "Route service url must be https",
        ),
        (
            with("route_service_url", json!("x")),
            "Route service url must be a valid URI",
        ),
        (
            with("parameters", json!({ "a": 1 })),
            "Unknown field(s): 'parameters'",
        ),
        (
            with("type", json!("managed")),
            "Relationships Service plan can't be blank",
        ),
        (
            of_plan("none"),
            "Invalid service plan. Ensure that the service plan exists, is available, and you have access to it.",
        ),
        (
            with(
                "relationships",
                json!({ "space": { "data": { "guid": "none" } } }),
            ),
            "Invalid space. Ensure that the space exists and you have access to it.",
        ),
    ] {
        assert_eq!(refused(&f, Method::POST, INSTANCES, body).await, text);
    }
    let large = json!({ "a": "x".repeat(60_000), "b": "x".repeat(60_000) });
    let text = refused(&f, Method::POST, INSTANCES, with("credentials", large)).await;
    assert!(
        text.starts_with("Credentials must be at most 65536 bytes as JSON"),
        "{text}"
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_keep_their_order_and_are_stored_and_recorded_nowhere_in_clear() {
    let f = Foundation::start().await;
    let sent = format!(r#"{{"z":"{SECRET}","a":{{"y":1,"b":[true,null]}},"m":2.5}}"#);
    let body = format!(
        r#"{{"type":"user-provided","name":"db","credentials":{sent},"relationships":{{"space":{{"data":{{"guid":"{}"}}}}}}}}"#,
        f.space
    );
    let request = f
        .http
        .post(format!("{}{INSTANCES}", f.url))
        .header("authorization", format!("bearer {}", f.admin))
        .body(body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let answer: Value = answer.json().await.unwrap();
    let guid = answer["guid"].as_str().unwrap().to_owned();
    let path = format!("{INSTANCES}/{guid}");
    assert_eq!(f.text(&format!("{path}/credentials")).await, sent);
    for path in [path.as_str(), INSTANCES] {
        assert!(!f.text(path).await.contains(SECRET), "{path}");
    }
    let change = json!({ "credentials": { "new": SECRET } });
    f.send(Method::PATCH, &path, change).await;
    let events = f
        .get(&format!("/v3/audit_events?target_guids={guid}"))
        .await;
    assert!(!events.to_string().contains(SECRET), "{events}");
    let events = events["resources"].as_array().unwrap();
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    let kind = |verb: &str| format!("audit.user_provided_service_instance.{verb}");
    assert_eq!(kinds, [kind("create"), kind("show"), kind("update")]);
    assert_eq!(
        events[0]["target"]["type"],
        "user_provided_service_instance"
    );
    assert_eq!(events[0]["data"]["request"]["credentials"], "[REDACTED]");
    assert_eq!(events[1]["data"], json!({ "request": null }));
    if !postgres::is_chosen() {
        let stored: String =
            sqlite::value(&f.database(), "SELECT credentials FROM service_instances");
        assert!(
            stored.starts_with("v1.") && !stored.contains(SECRET),
            "{stored}"
        );
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_cannot_be_opened_affects_only_its_instance() {
    let f = Foundation::start().await;
    let (one, other) = (
        f.create_instance("one", json!({ "a": 1 })).await,
        f.create_instance("other", json!({ "a": 2 })).await,
    );
    // The secret of another row is not accepted in its place.
    let moved = format!(
        "UPDATE service_instances SET credentials = (SELECT credentials FROM service_instances WHERE guid = '{one}') WHERE guid = '{other}'"
    );
    assert_eq!(f.sql(&moved).await, 1);
    let path = |guid: &str| format!("{INSTANCES}/{guid}/credentials");
    let (status, answer) = f.call(Method::GET, &path(&other), None).await;
    assert_eq!(status, 500, "{answer}");
    assert!(
        detail(&answer).starts_with("A stored secret cannot be read"),
        "{answer}"
    );
    assert_eq!(f.get(&path(&one)).await, json!({ "a": 1 }));
    assert_eq!(names(&f, "order_by=name").await, ["one", "other"]);
    // New credentials mend it.
    let change = json!({ "credentials": { "a": 3 } });
    f.send(Method::PATCH, &format!("{INSTANCES}/{other}"), change)
        .await;
    assert_eq!(f.get(&path(&other)).await, json!({ "a": 3 }));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_readable_after_a_rotation_and_a_restart() {
    let mut f = Foundation::start().await;
    let guid = f.create_instance("db", json!({ "a": 1 })).await;
    let path = format!("{INSTANCES}/{guid}/credentials");
    f.restart(async |folder| {
        let file = folder.join(cloud_controller::KEY_FILE);
        cloud_controller::rotate_key(&file).unwrap();
    })
    .await;
    assert_eq!(f.get(&path).await, json!({ "a": 1 }));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_not_shared_and_says_so_after_the_checks() {
    let f = Foundation::start().await;
    let (flag, on) = (
        "/v3/feature_flags/service_instance_sharing",
        json!({ "enabled": true }),
    );
    f.send(Method::PATCH, flag, on).await;
    let target = f.another_space(&f.organization, "target").await;
    let guid = f.create_instance("db", json!({})).await;
    let path = format!("{INSTANCES}/{guid}/relationships/shared_spaces");
    let to = |space: &str| json!({ "data": [{ "guid": space }] });
    assert_eq!(
        refused(&f, Method::POST, &path, to("none")).await,
        "Unable to share service instance db with spaces ['none']. Ensure the spaces exist and that you have access to them."
    );
    assert_eq!(
        refused(&f, Method::POST, &path, to(&target)).await,
        "User-provided services cannot be shared."
    );
    let service = json!({ "route_service_url": "https://x.test" });
    f.send(Method::PATCH, &format!("{INSTANCES}/{guid}"), service)
        .await;
    assert_eq!(
        refused(&f, Method::POST, &path, to(&target)).await,
        "Route services cannot be shared."
    );
    assert_eq!(f.get(&path).await["data"], json!([]));
    let summary = f.get(&format!("{path}/usage_summary")).await;
    assert_eq!(summary["usage_summary"], json!([]));
    let (status, _) = f
        .call(Method::DELETE, &format!("{path}/{target}"), None)
        .await;
    assert_eq!(status, 204);
    let (status, answer) = f.call(Method::DELETE, &format!("{path}/none"), None).await;
    assert_eq!(status, 422);
    assert_eq!(
        detail(&answer),
        "Unable to unshare service instance from space none. Ensure the space exists."
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_are_shown_to_strangers_and_instances_leave_with_their_space() {
    let f = Foundation::start().await;
    let guid = f.create_instance("db", json!({})).await;
    let path = format!("{INSTANCES}/{guid}/permissions");
    let developer = f
        .user(
            "dev",
            &[
                ("organization_user", "organization", &f.organization),
                ("space_developer", "space", &f.space),
            ],
        )
        .await;
    let stranger = f.user("stranger", &[]).await;
    for (token, may) in [(&f.admin, true), (&developer, true), (&stranger, false)] {
        let (status, answer) = f.call_as(token, Method::GET, &path, None).await;
        assert_eq!(
            (status, answer),
            (200, json!({ "manage": may, "read": may }))
        );
    }
    let (status, _) = f
        .call(Method::GET, &format!("{INSTANCES}/none/permissions"), None)
        .await;
    assert_eq!(status, 404);
    f.delete(&format!("/v3/spaces/{}", f.space)).await;
    assert!(names(&f, "").await.is_empty());
    let kind = "audit.user_provided_service_instance.delete";
    let events = f.get(&format!("/v3/audit_events?types={kind}")).await;
    assert_eq!(events["resources"][0]["target"]["guid"], json!(guid));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_and_bindings_are_bounded() {
    let limits = cloud_controller::Limits {
        service_instances_per_space: 2,
        service_bindings_per_app: 1,
        credentials_bytes: 20,
        ..cloud_controller::Limits::default()
    };
    let f = Foundation::start_limited(Duration::from_secs(3600), limits).await;
    let app = f.create_app("app").await;
    let (one, two) = (
        f.create_instance("one", json!({})).await,
        f.create_instance("two", json!({})).await,
    );
    let text = refused(&f, Method::POST, INSTANCES, f.instance_body("three")).await;
    assert!(text.contains("at most 2"), "{text}");
    let large = json!({ "credentials": { "key": "x".repeat(20) } });
    let text = refused(&f, Method::PATCH, &format!("{INSTANCES}/{one}"), large).await;
    assert!(text.contains("at most 20 bytes"), "{text}");
    f.bind(&app, &one).await;
    let second = json!({ "type": "app", "relationships": { "app": { "data": { "guid": app } }, "service_instance": { "data": { "guid": two } } } });
    let text = refused(&f, Method::POST, "/v3/service_credential_bindings", second).await;
    assert!(text.contains("at most 1"), "{text}");
    f.finish().await;
}
