//! The internal list of log drains, which is read as the original's agents read it: over mutual TLS, page by page.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};

const INSTANCES: &str = "/v3/service_instances";
const BINDINGS: &str = "/v3/service_credential_bindings";

impl Foundation {
    /// Returns the list of drains for a query.
    async fn drains(&self, query: &str) -> Value {
        let url = format!("{}/internal/v5/syslog_drain_urls{query}", self.internal_url);
        let response = self.cell.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    /// Creates an instance with a drain, and returns its guid.
    async fn create_drain(&self, name: &str, url: &str, credentials: Value) -> String {
        let mut body = self.instance_body(name);
        body["credentials"] = credentials;
        body["syslog_drain_url"] = json!(url);
        let instance = self.send(Method::POST, INSTANCES, body).await;
        instance["guid"].as_str().unwrap().to_owned()
    }
}

fn urls(page: &Value) -> Vec<&str> {
    let results = page["results"].as_array().unwrap();
    results
        .iter()
        .map(|drain| drain["url"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drains_are_listed_by_url_with_their_credentials_and_apps() {
    let f = Foundation::start().await;
    assert_eq!(
        f.drains("").await,
        json!({ "results": [], "next_id": null })
    );
    let (one, two) = (f.create_app("app 1").await, f.create_app("app_2").await);
    let plain = f
        .create_drain("plain", "syslog://a.test:514?x=1,2", json!({}))
        .await;
    let keys = json!({ "cert": "c", "key": "k", "ca": "r", "other": "o" });
    let keyed = f
        .create_drain("keyed", "syslog-tls://b.test:6514", keys)
        .await;
    let odd = json!({ "cert": 1, "key": null });
    let same = f
        .create_drain("same", "syslog-tls://b.test:6514", odd)
        .await;
    let unbound = f
        .create_drain("unbound", "syslog://c.test", json!({}))
        .await;
    let without = f.create_instance("without", json!({ "cert": "c" })).await;
    for (app, instance) in [
        (&one, &plain),
        (&two, &plain),
        (&one, &keyed),
        (&two, &same),
        (&one, &without),
    ] {
        f.bind(app, instance).await;
    }
    let app =
        |name: &str, guid: &str| json!({ "hostname": format!("demo.dev.{name}"), "app_id": guid });
    let nothing = |apps: Value| json!({ "cert": "", "key": "", "ca": "", "apps": apps });
    let first = json!({
        "url": "syslog://a.test:514?x=1%2c2",
        "credentials": [nothing(json!([app("app-1", &one), app("app2", &two)]))],
    });
    let second = json!({
        "url": "syslog-tls://b.test:6514",
        "credentials": [
            { "cert": "c", "key": "k", "ca": "r", "apps": [app("app-1", &one)] },
            nothing(json!([app("app2", &two)])),
        ],
    });
    let listed = f.drains("").await;
    assert_eq!(listed["next_id"], 50);
    let mut results = listed["results"].as_array().unwrap().clone();
    // The databases order dashes and colons differently.
    results.sort_by_key(|drain| drain["url"] == second["url"]);
    assert_eq!(json!(results), json!([first, second]));

    // The URL and the credentials of the instance change those of its bindings.
    let change = json!({ "syslog_drain_url": "https://d.test/logs", "credentials": {} });
    f.send(Method::PATCH, &format!("{INSTANCES}/{keyed}"), change)
        .await;
    let path = format!("{BINDINGS}?app_guids={two}&service_instance_guids={same}");
    let binding = f.get(&path).await["resources"][0]["guid"].clone();
    f.delete(&format!("{BINDINGS}/{}", binding.as_str().unwrap()))
        .await;
    let listed = f.drains("").await;
    let mut seen = urls(&listed);
    seen.sort_unstable();
    assert_eq!(seen, ["https://d.test/logs", "syslog://a.test:514?x=1%2c2"]);
    let change = json!({ "syslog_drain_url": null });
    f.send(Method::PATCH, &format!("{INSTANCES}/{keyed}"), change)
        .await;
    f.delete(&format!("/v3/apps/{one}")).await;
    let listed = f.drains("").await;
    assert_eq!(urls(&listed), ["syslog://a.test:514?x=1%2c2"]);
    assert_eq!(
        listed["results"][0]["credentials"][0]["apps"],
        json!([app("app2", &two)])
    );
    f.delete(&format!("{INSTANCES}/{plain}")).await;
    f.delete(&format!("{INSTANCES}/{unbound}")).await;
    assert_eq!(
        f.drains("").await,
        json!({ "results": [], "next_id": null })
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_that_cannot_be_used_drains_nothing() {
    let f = Foundation::start().await;
    let app = f.create_app("app").await;
    let drain = f.create_drain("drain", "syslog://a.test", json!({})).await;
    f.bind(&app, &drain).await;
    assert_eq!(urls(&f.drains("").await), ["syslog://a.test"]);
    for (kind, state) in [("create", "in progress"), ("delete", "in progress")] {
        let last = json!({
            "type": kind, "state": state, "description": null, "created_at": 1, "updated_at": 1,
        });
        f.sql(&format!(
            "UPDATE service_credential_bindings SET last_operation = '{last}'"
        ))
        .await;
        assert!(urls(&f.drains("").await).is_empty(), "{kind} {state}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_drains_follow_each_other_and_end() {
    let f = Foundation::start().await;
    let app = f.create_app("app").await;
    for n in 0..5 {
        let url = format!("syslog://{n}.test");
        let drain = f.create_drain(&format!("d{n}"), &url, json!({})).await;
        f.bind(&app, &drain).await;
    }
    let (mut next, mut all, mut sizes) = (json!(0), Vec::new(), Vec::new());
    while !next.is_null() {
        let page = f.drains(&format!("?batch_size=2&next_id={next}")).await;
        sizes.push(urls(&page).len());
        all.extend(urls(&page).into_iter().map(str::to_owned));
        next = page["next_id"].clone();
    }
    assert_eq!(sizes, [2, 2, 1, 0]);
    let wanted: Vec<String> = (0..5).map(|n| format!("syslog://{n}.test")).collect();
    assert_eq!(all, wanted);
    assert_eq!(urls(&f.drains("?batch_size=0").await).len(), 1);

    // The list is internal: the API does not have it.
    let (status, answer) = f
        .call(Method::GET, "/internal/v5/syslog_drain_urls", None)
        .await;
    assert_eq!(status, 404, "{answer}");
    f.finish().await;
}
