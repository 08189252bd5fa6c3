//! Internal routes, and the policies that decide who may use them.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_internal_route_goes_to_containers_and_to_no_router() {
    let f = Foundation::start().await;
    let domains = f.get("/v3/domains?names=apps.internal").await;
    let domain = &domains["resources"][0];
    assert_eq!(
        (domain["internal"].as_bool(), &domain["router_group"]),
        (Some(true), &Value::Null)
    );
    let app = f.started_app("back").await;
    let body = |host: &str, path: &str| json!({ "host": host, "path": path, "relationships": { "space": { "data": { "guid": f.space } }, "domain": { "data": { "guid": domain["guid"] } } } });
    let route = f.send(Method::POST, "/v3/routes", body("back", "")).await;
    f.map(route["guid"].as_str().unwrap(), &app).await;
    let lrp = f.lrps(&app).await.remove(0);
    let routes = lrp.routes.unwrap().routes;
    let json = |router: &str| serde_json::from_slice::<Value>(&routes[router]).unwrap();
    assert_eq!(
        json("internal-router"),
        json!([{ "hostname": "back.apps.internal" }])
    );
    assert_eq!(
        json("cf-router"),
        json!([]),
        "a router must not learn of it"
    );
    for (host, path, words) in [
        ("*", "", "Wildcard"),
        ("x", "/p", "Paths"),
        ("a.b", "", "Host must be either"),
    ] {
        let (status, answer) = f
            .call(Method::POST, "/v3/routes", Some(body(host, path)))
            .await;
        assert!(status == 422 && detail(&answer).contains(words), "{answer}");
    }
    // The default domain of a push is never an internal one.
    let default = f
        .get(&format!(
            "/v3/organizations/{}/domains/default",
            f.organization
        ))
        .await;
    assert_eq!(default["name"], DOMAIN);
    f.finish().await;
}

fn policy(source: &str, destination: &str, start: u32, end: u32) -> Value {
    json!({ "policies": [{ "source": { "id": source }, "destination": { "id": destination, "protocol": "tcp", "ports": { "start": start, "end": end } } }] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_stored_shown_and_sent_to_cells() {
    const PATH: &str = "/networking/v1/external/policies";
    let f = Foundation::start().await;
    let (front, back) = (f.started_app("front").await, f.started_app("back").await);
    assert_eq!(
        f.get(PATH).await,
        json!({ "total_policies": 0, "policies": [] })
    );
    let wanted = policy(&front, &back, 8080, 8090);
    for _ in 0..2 {
        assert_eq!(
            f.call(Method::POST, PATH, Some(wanted.clone())).await.0,
            200
        );
    }
    let shown = f.get(PATH).await;
    assert_eq!(
        (&shown["total_policies"], &shown["policies"]),
        (&json!(1), &wanted["policies"])
    );
    assert_eq!(
        f.get(&format!("{PATH}?id={back},x")).await["total_policies"],
        1
    );
    assert_eq!(f.get(&format!("{PATH}?id=x")).await["total_policies"], 0);
    let told: Value = f
        .cell
        .get(format!(
            "{}/networking/v1/internal/policies",
            f.internal_url
        ))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        told["policies"][0]["source"],
        json!({ "id": front, "tag": "0001" })
    );
    assert_eq!(
        told["policies"][0]["destination"]["ports"],
        json!({ "start": 8080, "end": 8090 })
    );

    let refused = async |body: Value, status: u16, words: &str| {
        let (answered, answer) = f.call(Method::POST, PATH, Some(body)).await;
        assert!(
            answered == status && detail(&answer).contains(words),
            "{answered}: {answer}"
        );
    };
    refused(json!({ "policies": [] }), 400, "missing policies").await;
    refused(json!({ "polices": [] }), 422, "'polices'").await;
    refused(policy(&front, &back, 0, 1), 400, "start port").await;
    refused(policy(&front, &back, 9, 8), 400, "port range").await;
    refused(policy(&front, "nobody", 1, 1), 403, "not authorized").await;

    // Another user sees nothing and may change nothing; a developer of the space may.
    let stranger = token("stranger", USER, 600);
    let as_stranger = async |method: Method, path: &str, body: Option<Value>| {
        f.call_as(&stranger, method, path, body).await
    };
    assert_eq!(
        as_stranger(Method::GET, PATH, None).await.1["total_policies"],
        0
    );
    assert_eq!(
        as_stranger(Method::POST, PATH, Some(policy(&front, &back, 1, 1)))
            .await
            .0,
        403
    );
    assert_eq!(
        as_stranger(
            Method::POST,
            &format!("{PATH}/delete"),
            Some(wanted.clone())
        )
        .await
        .0,
        403
    );

    assert_eq!(
        f.call(
            Method::POST,
            &format!("{PATH}/delete"),
            Some(wanted.clone())
        )
        .await
        .0,
        200
    );
    assert_eq!(f.get(PATH).await["total_policies"], 0);
    // A policy is removed together with either of its apps.
    f.call(Method::POST, PATH, Some(wanted)).await;
    f.delete(&format!("/v3/apps/{back}")).await;
    assert_eq!(f.get(PATH).await["total_policies"], 0);
    f.finish().await;
}
