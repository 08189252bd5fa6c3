//! Routes: who may have which, and how Diego receives a mapping.

use crate::fixture::*;
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_is_in_the_bbs_when_it_is_answered() {
    let f = Foundation::start().await;
    let app = f.started_app("web").await;
    assert_eq!(f.lrp_routes(&app).await, json!([]));
    let lrp = f.lrps(&app).await.remove(0);
    assert!(lrp.process_guid.starts_with(&app));

    let route = f.create_route("web", "/v1").await;
    let mapped = f.map(&route, &app).await;
    assert_eq!(
        mapped["destinations"][0]["app"],
        json!({ "guid": app, "process": { "type": "web" } })
    );
    assert_eq!(
        (
            mapped["destinations"][0]["port"].as_i64(),
            mapped["destinations"][0]["protocol"].as_str()
        ),
        (Some(8080), Some("http1"))
    );
    let routes = f.lrp_routes(&app).await;
    assert_eq!(routes[0]["hostnames"], json!(["web.apps.test/v1"]));
    assert_eq!(
        (routes[0]["port"].as_i64(), routes[0]["protocol"].as_str()),
        (Some(8080), Some("http1"))
    );

    // A second mapping is no change; an option is one.
    let generation = async || {
        let routes = f.lrp_routes(&app).await;
        routes[0]["generation"].as_u64().unwrap()
    };
    let first = generation().await;
    assert!(first > 0, "{routes}");
    f.map(&route, &app).await;
    assert_eq!(generation().await, first);
    f.send(
        Method::PATCH,
        &format!("/v3/routes/{route}"),
        json!({ "options": { "loadbalancing": "least-connection" } }),
    )
    .await;
    assert_eq!(
        f.lrp_routes(&app).await[0]["options"],
        json!({ "loadbalancing": "least-connection" })
    );
    let second = generation().await;
    assert!(second > first, "{second} after {first}");
    assert_eq!(
        f.lrps(&app).await[0].process_guid,
        lrp.process_guid,
        "routes make no new version"
    );

    let destination = mapped["destinations"][0]["guid"].as_str().unwrap();
    f.delete(&format!("/v3/routes/{route}/destinations/{destination}"))
        .await;
    assert_eq!(f.lrp_routes(&app).await, json!([]));
    let (status, body) = f
        .call(
            Method::DELETE,
            &format!("/v3/routes/{route}/destinations/{destination}"),
            None,
        )
        .await;
    assert_eq!(status, 422);
    assert!(detail(&body).starts_with("Unable to unmap route from destination."));

    f.map(&route, &app).await;
    let third = generation().await;
    assert!(
        third > second + 1,
        "the unmapping between them has a number too"
    );
    f.delete(&format!("/v3/routes/{route}")).await;
    assert_eq!(f.lrp_routes(&app).await, json!([]));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_routes_are_refused_with_a_reason() {
    let f = Foundation::start().await;
    f.create_route("taken", "").await;
    let refused = async |body: serde_json::Value| {
        let (status, answer) = f.call(Method::POST, "/v3/routes", Some(body)).await;
        assert_eq!(status, 422, "{answer}");
        detail(&answer).to_owned()
    };
    assert_eq!(
        refused(f.route_body("taken", "")).await,
        "Route already exists with host 'taken' for domain 'apps.test'."
    );
    assert!(
        refused(f.route_body("a.b", ""))
            .await
            .starts_with("Host must be either")
    );
    assert!(
        refused(f.route_body("", ""))
            .await
            .starts_with("Missing host")
    );
    assert!(
        refused(f.route_body("x", "nope"))
            .await
            .contains("begin with a slash")
    );
    assert!(
        refused(f.route_body("api", ""))
            .await
            .contains("reserved system route")
    );

    // The same host on a shared domain belongs to one space.
    let other = f.send(Method::POST, "/v3/spaces", json!({ "name": "other", "relationships": { "organization": { "data": { "guid": f.organization } } } })).await;
    let mut body = f.route_body("taken", "/p");
    body["relationships"]["space"]["data"]["guid"] = other["guid"].clone();
    assert!(
        refused(body)
            .await
            .contains("have been reserved for another space")
    );

    // The private domain belongs to another organization.
    let organization = f
        .send(
            Method::POST,
            "/v3/organizations",
            json!({ "name": "foreign" }),
        )
        .await;
    let domain = json!({ "name": "foreign.test", "relationships": { "organization": { "data": { "guid": organization["guid"] } } } });
    let domain = f.send(Method::POST, "/v3/domains", domain).await;
    let mut body = f.route_body("x", "");
    body["relationships"]["domain"]["data"]["guid"] = domain["guid"].clone();
    assert_eq!(
        refused(body).await,
        "Invalid domain. Domain 'foreign.test' is not available in organization 'demo'."
    );

    assert_eq!(
        f.get(&format!(
            "/v3/domains/{}/route_reservations?host=taken",
            f.domain
        ))
        .await,
        json!({ "matching_route": true })
    );
    assert_eq!(
        f.get(&format!(
            "/v3/domains/{}/route_reservations?host=free",
            f.domain
        ))
        .await,
        json!({ "matching_route": false })
    );
    f.create_route("taken", "/q").await;
    let without_path = f
        .get(&format!(
            "/v3/routes?domain_guids={}&hosts=taken&paths=&per_page=1&page=1",
            f.domain
        ))
        .await;
    assert_eq!(
        (
            without_path["pagination"]["total_results"].as_i64(),
            without_path["resources"][0]["url"].as_str()
        ),
        (Some(1), Some("taken.apps.test"))
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_route_leads_to_two_apps_and_unmapped_ones_can_be_swept() {
    let f = Foundation::start().await;
    let (a, b) = (f.started_app("a").await, f.started_app("b").await);
    let route = f.create_route("both", "").await;
    f.create_route("nowhere", "").await;
    f.map(&route, &a).await;
    assert_eq!(
        f.map(&route, &b).await["destinations"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    for app in [&a, &b] {
        let hosts = json!(["both.apps.test"]);
        assert_eq!(f.lrp_routes(app).await[0]["hostnames"], hosts);
    }
    f.send(
        Method::PATCH,
        &format!("/v3/routes/{route}/destinations"),
        json!({ "destinations": [{ "app": { "guid": b } }] }),
    )
    .await;
    assert_eq!(f.lrp_routes(&a).await, json!([]));
    f.delete(&format!("/v3/spaces/{}/routes?unmapped=true", f.space))
        .await;
    assert_eq!(f.get("/v3/routes").await["pagination"]["total_results"], 1);
    assert_eq!(
        f.get(&format!("/v3/apps/{b}/routes")).await["resources"][0]["host"],
        "both"
    );

    let (status, body) = f
        .call(
            Method::POST,
            &format!("/v3/routes/{route}/destinations"),
            Some(json!({ "destinations": [{ "app": { "guid": "nobody" } }] })),
        )
        .await;
    assert_eq!(
        (status, detail(&body)),
        (
            422,
            "App(s) with guid(s) \"nobody\" do not exist or you do not have access."
        )
    );
    f.finish().await;
}
