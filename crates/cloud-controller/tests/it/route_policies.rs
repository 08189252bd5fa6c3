//! Route policies: who may call a route of a domain that enforces them, and how Diego receives them.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};

const GUID: &str = "d76446a1-f429-4444-8797-be2f78b75b08";
const POLICIES: &str = "/v3/route_policies";

fn body(route: &str, source: &str) -> Value {
    json!({ "source": source, "relationships": { "route": { "data": { "guid": route } } } })
}

fn app(guid: &str) -> String {
    format!("cf:app:{guid}")
}

async fn guids(f: &Foundation, query: &str) -> Vec<String> {
    let list = f.get(&format!("{POLICIES}?{query}")).await;
    let rows = list["resources"].as_array().unwrap();
    let guid = |row: &Value| row["guid"].as_str().unwrap().to_owned();
    rows.iter().map(guid).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_reaches_diego_with_the_answer_and_leaves_with_it() {
    let f = Foundation::start().await;
    let (callee, route) = (f.started_app("back").await, f.guarded_route("back").await);
    f.map(&route, &callee).await;
    let options = async || f.lrp_routes(&callee).await[0]["options"].clone();
    let closed = json!({ "route_policy_scope": "any" });
    assert_eq!(options().await, closed, "nobody until a policy says so");

    let (first, second) = (app(GUID), format!("cf:space:{}", f.space));
    let policy = f.add_policy(&route, &first).await;
    f.add_policy(&route, &second).await;
    let lrp = f.lrps(&callee).await.remove(0).process_guid;
    assert_eq!(
        options().await,
        json!({ "route_policy_scope": "any", "route_policy_sources": format!("{first},{second}") })
    );
    let change = json!({ "options": { "loadbalancing": "least-connection" } });
    let path = format!("/v3/routes/{route}");
    let shown = f.send(Method::PATCH, &path, change).await;
    assert_eq!(
        shown["options"],
        json!({ "loadbalancing": "least-connection" })
    );
    assert_eq!(options().await["loadbalancing"], "least-connection");
    assert_eq!(options().await["route_policy_scope"], "any");

    let (status, _) = f
        .call(Method::DELETE, &format!("{POLICIES}/{policy}"), None)
        .await;
    assert_eq!(status, 204);
    assert_eq!(options().await["route_policy_sources"], json!(second));
    let after = f.lrps(&callee).await.remove(0).process_guid;
    assert_eq!(after, lrp, "policies make no new version");

    // A route of another domain contains no policies.
    let plain = f.create_route("plain", "").await;
    f.map(&plain, &callee).await;
    assert_eq!(f.lrp_routes(&callee).await[1].get("options"), None);
    for key in ["route_policy_scope", "route_policy_sources"] {
        let sent = json!({ "options": { key: "any" } });
        let text = refused(&f, Method::PATCH, &path, sent).await;
        assert!(text.contains(key), "{text}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_is_shown_listed_changed_and_included() {
    let f = Foundation::start().await;
    let (route, other) = (f.guarded_route("a").await, f.guarded_route("b").await);
    let caller = f.create_app("front").await;
    let mut sent = body(&route, &app(&caller));
    sent["metadata"] = json!({ "labels": { "team": "payments" }, "annotations": { "why": "x" } });
    let policy = f.send(Method::POST, POLICIES, sent).await;
    let guid = policy["guid"].as_str().unwrap();
    let path = format!("{POLICIES}/{guid}");
    assert_eq!(
        policy["relationships"],
        json!({ "route": { "data": { "guid": route } }, "app": { "data": { "guid": caller } }, "space": { "data": null }, "organization": { "data": null } })
    );
    for (link, end) in [
        ("self", path.clone()),
        ("route", format!("/v3/routes/{route}")),
        ("app", format!("/v3/apps/{caller}")),
    ] {
        let href = policy["links"][link]["href"].as_str().unwrap();
        assert!(href.ends_with(&end), "{href}");
    }
    assert_eq!(f.get(&path).await, policy);

    let space = f.add_policy(&route, &format!("cf:space:{}", f.space)).await;
    let gone = f.add_policy(&route, &format!("cf:org:{GUID}")).await;
    let any = f.add_policy(&other, "cf:any").await;
    let on_route = [guid, &space, &gone];
    for (query, wanted) in [
        (String::new(), vec![guid, &space, &gone, &any]),
        (format!("route_guids={route}"), on_route.to_vec()),
        (
            format!("space_guids={}", f.space),
            vec![guid, &space, &gone, &any],
        ),
        (format!("space_guids={GUID}"), vec![]),
        (format!("sources=cf:any,cf:org:{GUID}"), vec![&gone, &any]),
        (format!("source_guids={caller},{GUID}"), vec![guid, &gone]),
        (format!("guids={any}"), vec![&any]),
        ("label_selector=team%3Dpayments".to_owned(), vec![guid]),
        (format!("route_guids={route}&sources=cf:any"), vec![]),
    ] {
        assert_eq!(guids(&f, &query).await, wanted, "{query}");
    }
    let (status, answer) = f
        .call(Method::GET, &format!("{POLICIES}?sources=cf:any,app"), None)
        .await;
    assert_eq!(status, 400);
    let text = detail(&answer);
    assert!(
        text.contains("Sources contains invalid source format: app."),
        "{text}"
    );

    let list = f.get(&format!("{POLICIES}?include=route,source")).await;
    let included = |kind: &str| -> Vec<String> {
        let rows = list["included"][kind].as_array().unwrap().iter();
        rows.map(|row| row["guid"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(included("routes"), [route.clone(), other]);
    assert_eq!(included("apps"), std::slice::from_ref(&caller));
    assert_eq!(included("spaces"), std::slice::from_ref(&f.space));
    assert_eq!(included("organizations"), [""; 0], "the source is gone");
    assert_eq!(list["included"]["routes"][0]["url"], "a.apps.identity");
    let one = f.get(&format!("{path}?include=source")).await;
    assert_eq!(one["included"]["apps"][0]["name"], "front");
    assert_eq!(one["included"].get("routes"), None);
    let routes = f
        .get(&format!("/v3/routes/{route}?include=route_policies"))
        .await;
    let policies = routes["included"]["route_policies"].as_array().unwrap();
    assert_eq!(policies.len(), 3);

    let change = json!({ "metadata": { "labels": { "team": null, "env": "prod" } } });
    let changed = f.send(Method::PATCH, &path, change).await;
    assert_eq!(changed["metadata"]["labels"], json!({ "env": "prod" }));
    let fixed = json!({ "source": "cf:any" });
    assert!(
        refused(&f, Method::PATCH, &path, fixed)
            .await
            .contains("'source'")
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_policies_are_refused_by_name() {
    let f = Foundation::start().await;
    let route = f.guarded_route("a").await;
    let post = async |body: Value| refused(&f, Method::POST, POLICIES, body).await;
    for (source, texts) in [
        (
            json!("app"),
            vec!["Source must be in format", "(got 'app')"],
        ),
        (
            json!("cf:app:x"),
            vec!["'cf:app:<uuid>'", "(got 'cf:app:x')"],
        ),
        (json!(""), vec!["Source can't be blank"]),
        (json!(5), vec!["Source must be a string"]),
        (json!("x".repeat(300)), vec!["Source is too long"]),
        (Value::Null, vec!["Source can't be blank"]),
    ] {
        let mut sent = body(&route, "");
        sent["source"] = source;
        let text = post(sent).await;
        for part in texts {
            assert!(text.contains(part), "{text}");
        }
    }
    let without = post(json!({ "source": "cf:any" })).await;
    assert!(without.contains("Relationships"), "{without}");
    let mut odd = body(&route, "cf:any");
    odd["relationships"]["app"] = json!({ "data": { "guid": GUID } });
    assert!(post(odd).await.contains("'relationships.app'"));

    let (status, answer) = f
        .call(Method::POST, POLICIES, Some(body(GUID, "cf:any")))
        .await;
    assert_eq!((status, detail(&answer)), (404, "Route not found"));
    let plain = f.create_route("plain", "").await;
    let text = post(body(&plain, "cf:any")).await;
    assert!(
        text.contains("does not have enforce_route_policies enabled"),
        "{text}"
    );
    assert!(text.contains("apps.test"), "{text}");
    let internal = f.get("/v3/domains?names=apps.internal").await;
    let mut inside = f.route_body("inside", "");
    inside["relationships"]["domain"]["data"] = json!({ "guid": internal["resources"][0]["guid"] });
    let inside = f.send(Method::POST, "/v3/routes", inside).await;
    let text = post(body(inside["guid"].as_str().unwrap(), "cf:any")).await;
    assert!(text.contains("on internal domains"), "{text}");

    f.add_policy(&route, &app(GUID)).await;
    assert!(
        post(body(&route, &app(GUID)))
            .await
            .contains("already exists")
    );
    assert!(
        post(body(&route, "cf:any"))
            .await
            .contains("'cf:any' cannot coexist")
    );
    let open = f.guarded_route("open").await;
    f.add_policy(&open, "cf:any").await;
    assert!(
        post(body(&open, &app(GUID)))
            .await
            .contains("existing 'cf:any' policy")
    );

    let narrow = f.identity_domain("near.identity", "space").await;
    let mut near = f.route_body("near", "");
    near["relationships"]["domain"]["data"]["guid"] = narrow.into();
    let near = f.send(Method::POST, "/v3/routes", near).await;
    let near = near["guid"].as_str().unwrap();
    let text = post(body(near, &format!("cf:org:{GUID}"))).await;
    assert!(text.contains("route_policies_scope is 'space'"), "{text}");
    f.add_policy(near, &format!("cf:space:{GUID}")).await;

    for number in 1..100 {
        let source = app(&format!("00000000-0000-0000-0000-{number:012}"));
        f.add_policy(&route, &source).await;
    }
    let text = post(body(&route, &format!("cf:space:{GUID}"))).await;
    assert!(text.contains("at most 100 route policies"), "{text}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_enforces_policies_from_its_creation_or_never() {
    let f = Foundation::start().await;
    let domains = "/v3/domains";
    let create = async |fields: Value| {
        let mut sent = json!({ "name": "new.identity" });
        sent.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        f.call(Method::POST, domains, Some(sent)).await
    };
    for (fields, parts) in [
        (
            json!({ "enforce_route_policies": true }),
            vec!["Route policies scope is required", "route_policies_scope"],
        ),
        (
            json!({ "enforce_route_policies": "yes" }),
            vec!["Enforce route policies must be a boolean"],
        ),
        (
            json!({ "enforce_route_policies": true, "route_policies_scope": "world" }),
            vec!["must be one of 'any', 'org', 'space'", "'world'"],
        ),
        (
            json!({ "route_policies_scope": "any" }),
            vec!["'any' has no effect", "enforce_route_policies"],
        ),
        (
            json!({ "enforce_route_policies": true, "route_policies_scope": "any", "internal": true }),
            vec!["Internal domains cannot have route policy enforcement"],
        ),
    ] {
        let (status, answer) = create(fields).await;
        assert_eq!(status, 422, "{answer}");
        for part in parts {
            assert!(detail(&answer).contains(part), "{answer}");
        }
    }
    for scope in ["any", "org", "space"] {
        let fields = json!({ "enforce_route_policies": true, "route_policies_scope": scope, "name": format!("{scope}.identity") });
        let (status, domain) = create(fields).await;
        assert_eq!(status, 201, "{domain}");
        let path = format!("{domains}/{}", domain["guid"].as_str().unwrap());
        for shown in [domain, f.get(&path).await] {
            assert_eq!(shown["enforce_route_policies"], true);
            assert_eq!(shown["route_policies_scope"], scope);
        }
        for change in [
            json!({ "enforce_route_policies": false }),
            json!({ "route_policies_scope": "any" }),
        ] {
            let key = change.as_object().unwrap().keys().next().unwrap().clone();
            let text = refused(&f, Method::PATCH, &path, change).await;
            assert!(
                text.contains(&format!("'{key}' cannot be changed")),
                "{text}"
            );
        }
    }
    let (_, plain) =
        create(json!({ "enforce_route_policies": false, "route_policies_scope": null })).await;
    assert_eq!(plain.get("enforce_route_policies"), None);
    assert_eq!(plain.get("route_policies_scope"), None);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_go_with_their_route_and_stay_without_their_source() {
    let f = Foundation::start().await;
    let (caller, route) = (f.create_app("front").await, f.guarded_route("a").await);
    let policy = f.add_policy(&route, &app(&caller)).await;
    f.delete(&format!("/v3/apps/{caller}")).await;
    assert_eq!(guids(&f, "").await, [policy]);
    let list = f.get(&format!("{POLICIES}?include=source")).await;
    assert_eq!(list["included"]["apps"], json!([]));
    f.delete(&format!("/v3/routes/{route}")).await;
    assert_eq!(guids(&f, "").await, [""; 0]);

    let (org, space) = f.another_place("other").await;
    let domain = f.identity_domain("apps.identity", "any").await;
    for (host, path) in [
        ("b", format!("/v3/spaces/{space}")),
        ("c", format!("/v3/organizations/{org}")),
        ("d", format!("/v3/domains/{domain}")),
    ] {
        let mut sent = f.route_body(host, "");
        sent["relationships"]["domain"]["data"]["guid"] = json!(domain);
        let space = match host {
            "b" => space.clone(),
            "c" => f.another_space(&org, "second").await,
            _ => f.space.clone(),
        };
        sent["relationships"]["space"]["data"]["guid"] = json!(space);
        let route = f.send(Method::POST, "/v3/routes", sent).await;
        f.add_policy(route["guid"].as_str().unwrap(), "cf:any")
            .await;
        assert_eq!(guids(&f, "").await.len(), 1);
        f.delete(&path).await;
        assert_eq!(guids(&f, "").await, [""; 0], "{path}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_sight_are_those_of_the_routes_space() {
    let f = Foundation::start().await;
    let route = f.guarded_route("a").await;
    let policy = f.add_policy(&route, "cf:any").await;
    let path = format!("{POLICIES}/{policy}");
    let change = json!({ "metadata": { "labels": { "a": "b" } } });
    f.send(Method::PATCH, &path, change.clone()).await;
    f.call(Method::DELETE, &path, None).await;
    let events = f
        .get(&format!("/v3/audit_events?target_guids={policy}"))
        .await;
    let events = events["resources"].as_array().unwrap();
    let kinds = ["create", "update", "delete"].map(|verb| format!("audit.route_policy.{verb}"));
    assert_eq!(events.len(), kinds.len());
    for (event, kind) in events.iter().zip(&kinds) {
        assert_eq!(event["type"], json!(kind));
        assert_eq!(event["space"]["guid"], json!(f.space));
        assert_eq!(
            event["target"],
            json!({ "guid": policy, "type": "route_policy", "name": "cf:any" })
        );
    }
    assert_eq!(
        events[0]["data"]["request"],
        json!({ "source": "cf:any", "route_guid": route })
    );
    assert_eq!(events[1]["data"]["request"], change);

    // The developer of another space sees neither the policies of this route nor the sources that are hidden.
    let (org, space) = f.another_place("other").await;
    let stranger = f
        .user(
            "stranger",
            &[
                ("organization_user", "organization", &org),
                ("space_developer", "space", &space),
            ],
        )
        .await;
    let caller = f.create_app("front").await;
    let mine = f.add_policy(&route, &app(&caller)).await;
    let (status, _) = f
        .call_as(&stranger, Method::GET, &format!("{POLICIES}/{mine}"), None)
        .await;
    assert_eq!(status, 404);
    let domain = f.identity_domain("apps.identity", "any").await;
    let mut sent = f.route_body("theirs", "");
    sent["relationships"]["domain"]["data"]["guid"] = json!(domain);
    sent["relationships"]["space"]["data"]["guid"] = json!(space);
    let (status, theirs) = f
        .call_as(&stranger, Method::POST, "/v3/routes", Some(sent))
        .await;
    assert_eq!(status, 201, "{theirs}");
    let sent = body(theirs["guid"].as_str().unwrap(), &app(&caller));
    let (status, answer) = f
        .call_as(&stranger, Method::POST, POLICIES, Some(sent))
        .await;
    assert_eq!(
        status, 201,
        "the caller's app need not be visible: {answer}"
    );
    let list = format!("{POLICIES}?include=source,route");
    let (_, list) = f.call_as(&stranger, Method::GET, &list, None).await;
    assert_eq!(list["resources"].as_array().unwrap().len(), 1);
    assert_eq!(list["included"]["apps"], json!([]));
    f.finish().await;
}

/// The requests are those of `cf` version 9, byte for byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_requests_of_the_original_client_are_answered() {
    let f = Foundation::start().await;
    let root = f.get("/").await;
    let version = &root["links"]["cloud_controller_v3"]["meta"]["version"];
    let minor = version.as_str().unwrap().split('.').nth(1).unwrap();
    assert!(minor.parse::<u32>().unwrap() >= 224, "{version}");
    let domain = json!({ "name": "pay.identity", "internal": false, "enforce_route_policies": true, "route_policies_scope": "org" });
    let domain = f.send(Method::POST, "/v3/domains", domain).await;
    let found = f
        .get("/v3/domains?names=pay.identity&page=1&per_page=1")
        .await;
    assert_eq!(found["resources"][0]["enforce_route_policies"], true);
    let domain = domain["guid"].as_str().unwrap();
    let mut route = f.route_body("back", "/v1");
    route["relationships"]["domain"]["data"]["guid"] = json!(domain);
    let route = f.send(Method::POST, "/v3/routes", route).await;
    let route = route["guid"].as_str().unwrap();
    let routes = f
        .get(&format!(
            "/v3/routes?domain_guids={domain}&hosts=back&paths=%2Fv1"
        ))
        .await;
    assert_eq!(routes["resources"][0]["guid"], json!(route));

    let caller = f.create_app("front").await;
    let source = app(&caller);
    f.send(Method::POST, POLICIES, body(route, &source)).await;
    let of_route = f.get(&format!("{POLICIES}?route_guids={route}")).await;
    let policy = &of_route["resources"][0];
    assert_eq!(policy["source"], json!(source));
    assert_eq!(
        policy["relationships"]["route"]["data"]["guid"],
        json!(route)
    );
    let list = format!("{POLICIES}?include=route%2Csource&space_guids={}", f.space);
    let listed = f.get(&list).await;
    assert_eq!(listed["included"]["routes"][0]["host"], "back");
    assert_eq!(listed["included"]["routes"][0]["path"], "/v1");
    let of = &listed["included"]["routes"][0]["relationships"]["domain"];
    assert_eq!(of["data"]["guid"], json!(domain));
    assert_eq!(listed["included"]["apps"][0]["name"], "front");
    let by_label = f.get(&format!("{list}&label_selector=env%3Dprod")).await;
    assert_eq!(by_label["resources"], json!([]));
    let path = format!("{POLICIES}/{}", policy["guid"].as_str().unwrap());
    let (status, answer) = f.call(Method::DELETE, &path, None).await;
    assert_eq!((status, answer), (204, json!("")));
    f.finish().await;
}

/// An app that is pushed without a route of its own must be reachable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_that_enforces_policies_is_nobodys_default() {
    let f = Foundation::start().await;
    f.identity_domain("apps.identity", "any").await;
    let default = format!("/v3/organizations/{}/domains/default", f.organization);
    assert_eq!(f.get(&default).await["name"], "apps.test");
    f.delete(&format!("/v3/domains/{}", f.domain)).await;
    let (status, answer) = f.call(Method::GET, &default, None).await;
    assert_eq!(status, 404, "{answer}");
    f.finish().await;
}
