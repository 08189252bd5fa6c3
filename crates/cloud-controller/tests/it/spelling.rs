//! Names keep their spelling, and are compared without regard to case.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};

async fn refused(f: &Foundation, path: &str, body: Value) -> String {
    let (status, answer) = f.call(Method::POST, path, Some(body)).await;
    assert_eq!(status, 422, "{answer}");
    detail(&answer).to_owned()
}

async fn count(f: &Foundation, path: &str) -> Value {
    f.get(path).await["pagination"]["total_results"].clone()
}

fn private(name: &str, organization: &str) -> Value {
    json!({ "name": name, "relationships": { "organization": { "data": { "guid": organization } } } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn domains() {
    let f = Foundation::start().await;
    let domains = "/v3/domains";
    let made = f
        .send(
            Method::POST,
            domains,
            private("MiXed.Example.com", &f.organization),
        )
        .await;
    assert_eq!(made["name"], "MiXed.Example.com");
    let text = refused(&f, domains, json!({ "name": "mixed.EXAMPLE.com" })).await;
    assert_eq!(
        text,
        "The domain name \"mixed.EXAMPLE.com\" is already in use"
    );
    assert_eq!(count(&f, "/v3/domains?names=mixed.example.COM,x").await, 1);
    // Another organization gets no name above or below it, in any spelling.
    let (other, _) = f.another_place("other").await;
    for name in ["a.MIXED.example.com", "example.COM"] {
        let text = refused(&f, domains, private(name, &other)).await;
        assert!(
            text.contains("already reserved by another domain"),
            "{text}"
        );
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_and_what_routers_get() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let made = f
        .send(Method::POST, "/v3/routes", f.route_body("MyHost", "/Path"))
        .await;
    assert_eq!(
        (&made["host"], &made["path"], &made["url"]),
        (
            &json!("MyHost"),
            &json!("/Path"),
            &json!("MyHost.apps.test/Path")
        )
    );
    let text = refused(&f, "/v3/routes", f.route_body("myHOST", "/path")).await;
    assert!(
        text.starts_with("Route already exists with host 'myHOST'"),
        "{text}"
    );
    assert_eq!(count(&f, "/v3/routes?hosts=MYHOST&paths=/PATH").await, 1);
    let reserved = format!(
        "/v3/domains/{}/route_reservations?host=MYhost&path=/path",
        f.domain
    );
    assert_eq!(f.get(&reserved).await["matching_route"], true);

    // A manifest finds the route in any spelling, and so does its difference.
    let yaml = "applications:\n- name: app\n  routes: [{route: MYHOST.Apps.Test/path}]\n";
    assert_eq!(f.apply_manifest(yaml).await.1["state"], "COMPLETE");
    assert_eq!(count(&f, "/v3/routes").await, 1);
    assert_eq!(f.diff(yaml).await, json!([]));

    // Internal names are those that name servers look up.
    let internal = f.get("/v3/domains?names=APPS.internal").await["resources"][0]["guid"].clone();
    let body = json!({ "host": "InSide", "relationships": { "space": { "data": { "guid": f.space } }, "domain": { "data": { "guid": internal } } } });
    let route = f.send(Method::POST, "/v3/routes", body).await;
    assert_eq!(route["url"], "InSide.apps.internal");
    f.map(route["guid"].as_str().unwrap(), &app).await;
    let routes = wait_for("the internal route", async || {
        let lrp = f.lrps(&app).await.pop()?;
        let routes = lrp.routes?.routes.remove("internal-router")?;
        let text = String::from_utf8(routes).unwrap();
        text.contains("internal").then_some(text)
    })
    .await;
    assert!(routes.contains("inside.apps.internal"), "{routes}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_and_their_default_routes() {
    let f = Foundation::start().await;
    let yaml = "applications:\n- name: MyApp\n  default-route: true\n";
    assert_eq!(f.apply_manifest(yaml).await.1["state"], "COMPLETE");
    let routes = f.get("/v3/routes").await;
    assert_eq!(routes["resources"][0]["url"], "MyApp.apps.test");
    let body =
        json!({ "name": "MYAPP", "relationships": { "space": { "data": { "guid": f.space } } } });
    assert_eq!(
        refused(&f, "/v3/apps", body).await,
        "App with the name 'MYAPP' already exists."
    );
    assert_eq!(count(&f, "/v3/apps?names=myapp").await, 1);
    let other = "applications:\n- name: myapp\n  env: {A: 1}\n";
    assert_eq!(f.apply_manifest(other).await.1["state"], "COMPLETE");
    assert_eq!(count(&f, "/v3/apps").await, 1);
    assert_eq!(f.get("/v3/apps").await["resources"][0]["name"], "MyApp");
    assert_eq!(f.diff(other).await, json!([]));
    // An app may change the case of its own name.
    let app = f.get("/v3/apps").await["resources"][0]["guid"].clone();
    let path = format!("/v3/apps/{}", app.as_str().unwrap());
    let renamed = f
        .send(Method::PATCH, &path, json!({ "name": "myApp" }))
        .await;
    assert_eq!(renamed["name"], "myApp");
    f.finish().await;
}
