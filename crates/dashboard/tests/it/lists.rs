//! Lists: pages, order, wrong parameters, the table of earlier times, and the files of the page.

use crate::fixture::{Stage, host};
use serde_json::{Value, json};
use testkit::wait::wait_for;

fn endpoint(n: usize) -> Value {
    json!([{"address": format!("10.0.0.1:{n}"), "tls": false, "tags": {"component": "static"}}])
}

/// Shows 1000 routes of servers that are not apps.
async fn with_many(stage: &Stage) {
    let table: serde_json::Map<String, Value> = (0..1000)
        .map(|n| (format!("s{n:04}.test"), endpoint(1000 + n)))
        .collect();
    stage.pages.show(Value::Object(table));
    for n in 0..1000 {
        let uri = format!("s{n:04}.test");
        stage.pages.change(
            "registered",
            &uri,
            &format!("10.0.0.1:{}", 1000 + n),
            "",
            "",
        );
    }
    wait_for("a thousand routes", async || {
        let found = stage.get("/api/v1/routes?limit=1").await;
        (found["total"] == 1000)
            .then_some(())
            .ok_or(found["total"].to_string())
    })
    .await;
}

#[tokio::test]
async fn a_long_list_comes_in_bounded_pages() {
    let stage = Stage::start().await;
    with_many(&stage).await;
    let page = stage.get("/api/v1/routes?limit=100000").await;
    assert_eq!(page["rows"].as_array().unwrap().len(), 200);
    let page = stage
        .get("/api/v1/routes?offset=990&limit=50&order=ascending")
        .await;
    assert_eq!(page["rows"].as_array().unwrap().len(), 10);
    assert_eq!(page["rows"][9]["uri"], "s0999.test");
    let page = stage.get("/api/v1/routes?order=descending&limit=1").await;
    assert_eq!(page["rows"][0]["uri"], "s0999.test");
    let found = stage.get("/api/v1/routes?q=S004").await;
    assert_eq!(
        (&found["total"], &found["rows"][0]["state"]),
        (&json!(10), &json!("external"))
    );
    let hits = stage.get("/api/v1/search?q=s0").await;
    assert_eq!(hits["hits"].as_array().unwrap().len(), 20);
    let routers = stage.get("/api/v1/routers").await;
    assert_eq!(
        (&routers["rows"][0]["name"], &routers["rows"][0]["routes"]),
        (&json!("r1"), &json!(1000))
    );
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_name() {
    let stage = Stage::start().await;
    let long = "x".repeat(300);
    for (path, part) in [
        ("/api/v1/routes?order=up".to_owned(), "order must be"),
        ("/api/v1/routes?unknown=1".to_owned(), "unknown"),
        ("/api/v1/routes?limit=-1".to_owned(), "limit"),
        (format!("/api/v1/routes?q={long}"), "longer than"),
        ("/api/v1/changes?before=x".to_owned(), "before"),
    ] {
        let (status, body) = stage.get_as(&stage.admin, &path).await;
        let text = body["error"].as_str().unwrap_or_default();
        assert!(
            status == 400 && text.contains(part),
            "{path}: {status} {body}"
        );
    }
    assert_eq!(
        stage.get_as(&stage.admin, "/api/v1/changes/4711").await.0,
        404
    );
    assert_eq!(stage.get_as(&stage.admin, "/api/v1/nothing").await.0, 404);
}

#[tokio::test]
async fn the_past_of_a_table_can_be_seen() {
    let stage = Stage::start().await;
    let uri = host("shop");
    stage.pages.show(json!({(uri.clone()): endpoint(8080)}));
    stage
        .pages
        .change("registered", &uri, "10.0.0.1:8080", "", "");
    let past = stage.get("/api/v1/history").await;
    assert_eq!(
        (&past["since"], &past["total"]),
        (&json!("2026-11-30T10:00:00Z"), &json!(1))
    );
    let table = stage.get(&format!("/api/v1/table?q={uri}")).await;
    assert_eq!(table["rows"][0]["endpoints"][0]["address"], "10.0.0.1:8080");
    assert_eq!(
        (&table["meets"]["meets"], &table["meets"]["route"]),
        (&json!("endpoints"), &json!(uri))
    );
    let (status, body) = stage.get_as(&stage.admin, "/api/v1/table?at=early").await;
    assert_eq!(status, 410, "{body}");
    assert!(
        body["error"].as_str().unwrap().contains("before 10:00"),
        "{body}"
    );
    assert_eq!(
        stage
            .get_as(&stage.admin, "/api/v1/table?router=r9")
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn files_are_served_with_tags_and_only_they() {
    let stage = Stage::start().await;
    let url = |name: &str| format!("{}/assets/{name}", stage.url);
    let first = stage.http.get(url("main.js")).send().await.unwrap();
    assert_eq!(first.status(), 200);
    assert!(
        first.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/javascript")
    );
    assert_eq!(first.headers()["x-content-type-options"], "nosniff");
    let tag = first.headers()["etag"].clone();
    let again = stage.http.get(url("main.js")).header("if-none-match", tag);
    assert_eq!(again.send().await.unwrap().status(), 304);
    for name in ["none.js", "..%2fCargo.toml", "index.html"] {
        assert_eq!(
            stage.http.get(url(name)).send().await.unwrap().status(),
            404,
            "{name}"
        );
    }
}
