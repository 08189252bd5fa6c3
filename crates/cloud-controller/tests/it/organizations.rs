//! Discovery, organizations, spaces and roles: who sees what, and lists.

use crate::fixture::*;
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_needs_no_token_and_everything_else_does() {
    let f = Foundation::start().await;
    let root: serde_json::Value = reqwest::get(format!("{}/", f.url))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        root["links"]["cloud_controller_v3"],
        json!({ "href": "http://api.test/v3", "meta": { "version": "3.228.0" } })
    );
    assert_eq!(root["links"]["login"]["href"], "http://login.test");
    assert!(root.get("cf_on_k8s").is_none());
    assert_eq!(
        reqwest::get(format!("{}/v2/info", f.url))
            .await
            .unwrap()
            .status(),
        200
    );

    let bare = reqwest::get(format!("{}/v3/apps", f.url)).await.unwrap();
    assert_eq!(bare.status(), 401);
    assert_eq!(
        bare.json::<serde_json::Value>().await.unwrap()["errors"][0]["title"],
        "CF-NotAuthenticated"
    );
    for token in ["rubbish".to_owned(), token("admin", ADMIN, -10)] {
        let (status, body) = f.call_as(&token, Method::GET, "/v3/apps", None).await;
        assert_eq!(
            (status, body["errors"][0]["title"].as_str()),
            (401, Some("CF-InvalidAuthToken")),
            "{token}"
        );
    }
    let (status, body) = f.call(Method::GET, "/v3/nonsense", None).await;
    assert_eq!((status, detail(&body)), (404, "Unknown request"));
    assert_eq!(
        f.call(Method::GET, "/v2/apps", None).await.1["error_code"],
        "CF-NotFound"
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn organizations_are_created_changed_and_removed() {
    let f = Foundation::start().await;
    let organization = f
        .send(
            Method::POST,
            "/v3/organizations",
            json!({ "name": "acme", "metadata": { "labels": { "env": "prod" } } }),
        )
        .await;
    let guid = organization["guid"].as_str().unwrap();
    let quota = organization["relationships"]["quota"]["data"]["guid"]
        .as_str()
        .unwrap();
    assert_eq!(
        f.get(&format!("/v3/organization_quotas/{quota}")).await["name"],
        "default"
    );

    let (status, body) = f
        .call(
            Method::POST,
            "/v3/organizations",
            Some(json!({ "name": "Acme" })),
        )
        .await;
    assert_eq!(
        (status, detail(&body)),
        (422, "Organization 'Acme' already exists.")
    );
    let (status, body) = f
        .call(
            Method::POST,
            "/v3/organizations",
            Some(json!({ "nmae": "x" })),
        )
        .await;
    assert_eq!(
        (status, detail(&body)),
        (422, "Unknown field(s): 'nmae', Name can't be blank")
    );

    let space =
        json!({ "name": "dev", "relationships": { "organization": { "data": { "guid": guid } } } });
    f.send(Method::POST, "/v3/spaces", space.clone()).await;
    let (status, body) = f.call(Method::POST, "/v3/spaces", Some(space)).await;
    assert_eq!(
        (status, detail(&body)),
        (422, "Name must be unique per organization")
    );

    let renamed = f
        .send(
            Method::PATCH,
            &format!("/v3/organizations/{guid}/"),
            json!({ "name": "acme2" }),
        )
        .await;
    assert_eq!(renamed["name"], "acme2");
    assert_eq!(
        f.get("/v3/organizations?label_selector=env%3Dprod").await["pagination"]["total_results"],
        1
    );
    assert_eq!(
        f.get("/v3/organizations?label_selector=env!%3Dprod").await["pagination"]["total_results"],
        1
    );
    f.delete(&format!("/v3/organizations/{guid}/")).await;
    let (status, body) = f
        .call(Method::GET, &format!("/v3/organizations/{guid}"), None)
        .await;
    assert_eq!((status, detail(&body)), (404, "Organization not found"));
    assert_eq!(
        f.get(&format!("/v3/spaces?organization_guids={guid}"))
            .await["resources"],
        json!([])
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_organization_is_removed_by_a_job() {
    let f = Foundation::start().await;
    let (org, space) = f.another_place("doomed").await;
    f.another_space(&org, "second").await;
    let of_space = json!({ "space": { "data": { "guid": space } } });
    let mut apps = Vec::new();
    for name in ["a", "b", "c"] {
        let body = json!({ "name": name, "relationships": of_space });
        let app = f.send(Method::POST, "/v3/apps", body).await;
        apps.push(format!("/v3/apps/{}", app["guid"].as_str().unwrap()));
    }
    let request = f.http.delete(format!("{}/v3/organizations/{org}", f.url));
    let response = request
        .header("authorization", format!("bearer {}", f.admin))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str().unwrap();
    let job = location.strip_prefix("http://api.test").unwrap();
    let job = wait_for("the job's end", async || {
        let job = f.get(job).await;
        (job["state"] != "PROCESSING").then_some(job)
    })
    .await;
    assert_eq!(
        (&job["state"], &job["errors"], &job["operation"]),
        (
            &json!("COMPLETE"),
            &json!([]),
            &json!("organization.delete")
        )
    );
    apps.push(format!("/v3/spaces/{space}"));
    apps.push(format!("/v3/organizations/{org}"));
    for gone in apps {
        assert_eq!(f.call(Method::GET, &gone, None).await.0, 404, "{gone}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_have_pages_and_strict_parameters() {
    let f = Foundation::start().await;
    for name in ["c", "a", "b", "x,y"] {
        f.send(Method::POST, "/v3/organizations", json!({ "name": name }))
            .await;
    }
    let page = f
        .get("/v3/organizations?order_by=name&per_page=2&page=2")
        .await;
    let names: Vec<_> = page["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["c", "demo"]);
    assert_eq!(page["pagination"]["total_pages"], 3);
    assert_eq!(
        page["pagination"]["next"]["href"],
        "http://api.test/v3/organizations?page=3&per_page=2&order_by=name"
    );
    assert_eq!(
        page["pagination"]["previous"]["href"],
        "http://api.test/v3/organizations?page=1&per_page=2&order_by=name"
    );
    assert_eq!(
        f.get("/v3/organizations?names=x%252Cy,a").await["pagination"]["total_results"],
        2
    );
    let (status, body) = f.call(Method::GET, "/v3/organizations?nam=x", None).await;
    assert_eq!(
        (status, body["errors"][0]["code"].as_i64()),
        (400, Some(10005))
    );
    assert!(
        detail(&body).contains("Unknown query parameter(s): 'nam'. Valid parameters are: 'names'")
    );
    for empty in [
        "/v3/service_instances?space_guids=x",
        "/v3/service_route_bindings?include=service_instance",
        "/v3/isolation_segments",
        "/v3/deployments",
    ] {
        assert_eq!(f.get(empty).await["resources"], json!([]), "{empty}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_see_nothing_and_roles_decide() {
    let f = Foundation::start().await;
    let app = f.create_app("secret").await;
    let alice = token("alice", USER, 600);
    assert_eq!(
        f.call_as(&alice, Method::GET, "/v3/apps", None).await.1["resources"],
        json!([])
    );
    let (status, body) = f
        .call_as(&alice, Method::GET, &format!("/v3/apps/{app}"), None)
        .await;
    assert_eq!((status, detail(&body)), (404, "App not found"));

    let role = |kind: &str, place: &str, guid: &str| json!({ "type": kind, "relationships": { "user": { "data": { "username": "alice" } }, place: { "data": { "guid": guid } } } });
    let (status, body) = f
        .call(
            Method::POST,
            "/v3/roles",
            Some(role("space_auditor", "space", &f.space)),
        )
        .await;
    assert_eq!(status, 422, "{body}");
    f.send(
        Method::POST,
        "/v3/roles",
        role("organization_user", "organization", &f.organization),
    )
    .await;
    let (status, body) = f
        .call(
            Method::POST,
            "/v3/roles",
            Some(role("organization_user", "organization", &f.organization)),
        )
        .await;
    assert_eq!(status, 422);
    assert!(detail(&body).starts_with("User 'alice' already has 'organization_user' role"));
    f.send(
        Method::POST,
        "/v3/roles",
        role("space_auditor", "space", &f.space),
    )
    .await;

    assert_eq!(
        f.call_as(&alice, Method::GET, &format!("/v3/apps/{app}"), None)
            .await
            .0,
        200
    );
    for (method, path, body) in [
        (Method::DELETE, format!("/v3/apps/{app}"), None),
        (Method::POST, format!("/v3/apps/{app}/actions/stop"), None),
        (
            Method::POST,
            "/v3/routes".to_owned(),
            Some(f.route_body("alice", "")),
        ),
        (Method::GET, format!("/v3/apps/{app}/env"), None),
    ] {
        let (status, answer) = f.call_as(&alice, method, &path, body).await;
        assert_eq!(
            (status, answer["errors"][0]["title"].as_str()),
            (403, Some("CF-NotAuthorized")),
            "{path}"
        );
    }
    let roles = f
        .get(&format!("/v3/roles?space_guids={}&include=user", f.space))
        .await;
    assert_eq!(roles["included"]["users"][0]["username"], "alice");
    f.delete(&format!(
        "/v3/roles/{}",
        roles["resources"][0]["guid"].as_str().unwrap()
    ))
    .await;
    assert_eq!(
        f.call_as(&alice, Method::GET, &format!("/v3/apps/{app}"), None)
            .await
            .0,
        404
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domains_relationships_may_be_null_and_share_it_at_once() {
    let f = Foundation::start().await;
    let nulls = json!({ "organization": null, "shared_organizations": null });
    let shared = json!({ "name": "python.test", "internal": false, "relationships": nulls });
    let domain = f.send(Method::POST, "/v3/domains", shared).await;
    assert_eq!(
        domain["relationships"]["organization"]["data"],
        serde_json::Value::Null
    );

    let (mine, other) = (
        &f.organization,
        f.send(
            Method::POST,
            "/v3/organizations",
            json!({ "name": "other" }),
        )
        .await,
    );
    let both = json!({ "organization": { "data": { "guid": mine } }, "shared_organizations": { "data": [{ "guid": other["guid"] }] } });
    let private = json!({ "name": "private.test", "relationships": both });
    let domain = f.send(Method::POST, "/v3/domains", private).await;
    assert_eq!(
        domain["relationships"]["shared_organizations"]["data"],
        json!([{ "guid": other["guid"] }])
    );

    let ownerless = json!({ "shared_organizations": { "data": [{ "guid": other["guid"] }] } });
    let body = json!({ "name": "x.test", "relationships": ownerless });
    let (status, body) = f.call(Method::POST, "/v3/domains", Some(body)).await;
    assert_eq!(status, 422);
    assert!(
        detail(&body).contains("without an owning organization"),
        "{body}"
    );
    let body = json!({ "name": "x", "relationships": { "organization": null } });
    let (status, body) = f.call(Method::POST, "/v3/spaces", Some(body)).await;
    assert_eq!(
        (status, detail(&body)),
        (422, "Relationships Organization can't be blank")
    );
    f.finish().await;
}
