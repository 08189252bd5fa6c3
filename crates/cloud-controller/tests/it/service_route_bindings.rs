//! Bindings of routes to services: how Diego receives them, what they show, and how they leave.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const BINDINGS: &str = "/v3/service_route_bindings";
const INSTANCES: &str = "/v3/service_instances";
const SERVICE: &str = "https://service.test/path";

fn body(route: &str, instance: &str) -> Value {
    json!({ "relationships": { "route": { "data": { "guid": route } }, "service_instance": { "data": { "guid": instance } } } })
}

impl Foundation {
    /// Creates a user-provided instance to which routes can be bound, and returns its guid.
    pub(crate) async fn create_route_service(&self, name: &str) -> String {
        let mut body = self.instance_body(name);
        body["route_service_url"] = json!(SERVICE);
        let instance = self.send(Method::POST, INSTANCES, body).await;
        instance["guid"].as_str().unwrap().to_owned()
    }

    /// Binds a route to an instance, and returns the guid of the binding.
    async fn bind_route(&self, route: &str, instance: &str) -> String {
        let body = body(route, instance);
        let binding = self.send(Method::POST, BINDINGS, body).await;
        binding["guid"].as_str().unwrap().to_owned()
    }

    /// Creates a route and an instance of this name, binds them, and returns the guid of the binding.
    pub(crate) async fn bind_new_route(&self, name: &str) -> String {
        let route = self.create_route(name, "").await;
        let instance = self.create_route_service(name).await;
        self.bind_route(&route, &instance).await
    }
}

async fn guids(f: &Foundation, path: &str) -> Vec<String> {
    let list = f.get(path).await;
    let rows = list["resources"].as_array().unwrap();
    let guid = |row: &Value| row["guid"].as_str().unwrap().to_owned();
    rows.iter().map(guid).collect()
}

/// Returns the services of an app's routes in Diego, in the order of the routes.
async fn services(f: &Foundation, app: &str) -> Vec<Value> {
    let routes = f.lrp_routes(app).await;
    let routes = routes.as_array().unwrap().iter();
    routes
        .map(|route| route["route_service_url"].clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_reaches_diego_with_the_answer_and_leaves_with_it() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let (route, plain) = (
        f.create_route("bound", "/deep").await,
        f.create_route("plain", "").await,
    );
    f.map(&route, &app).await;
    f.map(&plain, &app).await;
    let service = f.create_route_service("gate").await;
    let lrp = f.lrps(&app).await.remove(0).process_guid;
    let none = Value::Null;
    assert_eq!(services(&f, &app).await, [none.clone(), none.clone()]);

    let binding = f.bind_route(&route, &service).await;
    assert_eq!(services(&f, &app).await, [json!(SERVICE), none.clone()]);

    // Bindings follow their instance.
    let path = format!("{INSTANCES}/{service}");
    let moved = json!({ "route_service_url": "https://moved.test" });
    f.send(Method::PATCH, &path, moved).await;
    let wanted = [json!("https://moved.test"), none.clone()];
    assert_eq!(services(&f, &app).await, wanted);
    let shown = f.get(&format!("{BINDINGS}/{binding}")).await;
    assert_eq!(shown["route_service_url"], "https://moved.test");
    for empty in [json!(""), Value::Null] {
        let change = json!({ "route_service_url": empty });
        let text = refused(&f, Method::PATCH, &path, change).await;
        assert!(text.contains("'gate' is bound to 1 route(s)"), "{text}");
    }
    f.send(Method::PATCH, &path, json!({ "name": "other" }))
        .await;
    assert_eq!(services(&f, &app).await, wanted);

    f.delete(&format!("{BINDINGS}/{binding}")).await;
    assert_eq!(services(&f, &app).await, [none.clone(), none]);
    let change = json!({ "route_service_url": "" });
    f.send(Method::PATCH, &path, change).await;
    let after = f.lrps(&app).await.remove(0).process_guid;
    assert_eq!(after, lrp, "bindings of routes make no new version");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_begins_a_generation_of_its_route() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let route = f.create_route("bound", "").await;
    f.map(&route, &app).await;
    let service = f.create_route_service("gate").await;
    let generation = async || f.lrp_routes(&app).await[0]["generation"].as_u64().unwrap();
    let mut seen = vec![generation().await];
    let binding = f.bind_route(&route, &service).await;
    seen.push(generation().await);
    let moved = json!({ "route_service_url": "https://moved.test" });
    f.send(Method::PATCH, &format!("{INSTANCES}/{service}"), moved)
        .await;
    seen.push(generation().await);
    f.delete(&format!("{BINDINGS}/{binding}")).await;
    seen.push(generation().await);
    let rises = seen.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(rises, "mapped, bound, moved, unbound: {seen:?}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_is_shown_listed_labelled_and_recorded() {
    let f = Foundation::start().await;
    let (route, other) = (
        f.create_route("one", "").await,
        f.create_route("other", "").await,
    );
    let (gate, wall) = (
        f.create_route_service("gate").await,
        f.create_route_service("wall").await,
    );
    let mut sent = body(&route, &gate);
    sent["metadata"] = json!({ "labels": { "tier": "gold" } });
    let made = f.send(Method::POST, BINDINGS, sent.clone()).await;
    let guid = made["guid"].as_str().unwrap().to_owned();
    let path = format!("{BINDINGS}/{guid}");
    let link = |path: &str| json!({ "href": format!("http://api.test{path}") });
    assert_eq!(made["route_service_url"], SERVICE);
    let operation = &made["last_operation"];
    assert_eq!(
        (&operation["type"], &operation["state"]),
        (&json!("create"), &json!("succeeded"))
    );
    assert_eq!(operation["description"], Value::Null);
    assert_eq!(made["relationships"], sent["relationships"]);
    assert_eq!(
        made["metadata"],
        json!({ "labels": { "tier": "gold" }, "annotations": {} })
    );
    assert_eq!(
        made["links"],
        json!({
            "self": link(&path),
            "service_instance": link(&format!("{INSTANCES}/{gate}")),
            "route": link(&format!("/v3/routes/{route}")),
        })
    );
    let mut keys: Vec<&String> = made.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "created_at",
            "guid",
            "last_operation",
            "links",
            "metadata",
            "relationships",
            "route_service_url",
            "updated_at"
        ]
    );
    assert_eq!(f.get(&path).await, made);
    let second = f.bind_route(&other, &wall).await;
    let both = vec![guid.clone(), second.clone()];
    for (query, wanted) in [
        (String::new(), both.clone()),
        (format!("route_guids={route}"), vec![guid.clone()]),
        (format!("route_guids={route},{other}"), both.clone()),
        (
            format!("service_instance_guids={wall}"),
            vec![second.clone()],
        ),
        (
            format!("service_instance_guids={wall}&route_guids={route}"),
            vec![],
        ),
        ("service_instance_names=gate,wall".to_owned(), both.clone()),
        (
            "service_instance_names=wall".to_owned(),
            vec![second.clone()],
        ),
        (format!("guids={guid}"), vec![guid.clone()]),
        ("label_selector=tier".to_owned(), vec![guid.clone()]),
    ] {
        let path = format!("{BINDINGS}?{query}");
        assert_eq!(guids(&f, &path).await, wanted, "{query}");
    }
    let bound = format!("/v3/routes?service_instance_guids={wall}");
    assert_eq!(guids(&f, &bound).await, std::slice::from_ref(&other));
    for path in [
        format!("{BINDINGS}?guids={guid}&include=route,service_instance"),
        format!("{path}?include=route,service_instance"),
    ] {
        let included = &f.get(&path).await["included"];
        assert_eq!(included["routes"][0]["url"], "one.apps.test");
        assert_eq!(included["service_instances"][0]["guid"], json!(gate));
    }
    let (status, answer) = f
        .call(Method::GET, &format!("{BINDINGS}?include=app"), None)
        .await;
    assert_eq!(status, 400);
    assert!(
        detail(&answer).contains("Invalid included resource: 'app'"),
        "{answer}"
    );
    let label = json!({ "metadata": { "labels": { "tier": "silver" } } });
    let labelled = f.send(Method::PATCH, &path, label).await;
    assert_eq!(labelled["metadata"]["labels"]["tier"], "silver");
    let (status, answer) = f
        .call(Method::GET, &format!("{path}/parameters"), None)
        .await;
    assert_eq!((status, &answer["errors"][0]["code"]), (400, &json!(1004)));
    assert_eq!(
        detail(&answer),
        "Bad request: user provided service instances do not support fetching route bindings parameters."
    );
    let (status, answer) = f.call(Method::DELETE, &path, None).await;
    assert_eq!(status, 204, "{answer}");
    let (status, answer) = f.call(Method::GET, &path, None).await;
    assert_eq!(
        (status, detail(&answer)),
        (404, "Service route binding not found")
    );

    let events = f
        .get(&format!("/v3/audit_events?target_guids={guid}"))
        .await;
    let events = events["resources"].as_array().unwrap();
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    let kind = |verb: &str| format!("audit.service_route_binding.{verb}");
    assert_eq!(kinds, [kind("create"), kind("update"), kind("delete")]);
    assert_eq!(
        events[0]["target"],
        json!({ "type": "service_route_binding", "guid": guid, "name": "" })
    );
    assert_eq!(events[0]["space"]["guid"], json!(f.space));
    assert_eq!(events[0]["data"]["request"], sent);
    assert_eq!(
        events[2]["data"]["request"],
        json!({ "app_guid": null, "route_guid": route, "service_instance_guid": gate })
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bindings_are_refused_with_the_originals_texts() {
    let f = Foundation::start().await;
    let (route, gate) = (
        f.create_route("one", "").await,
        f.create_route_service("gate").await,
    );
    f.bind_route(&route, &gate).await;
    let wall = f.create_route_service("wall").await;
    let plain = f.create_instance("plain", json!({})).await;
    let free = f.create_route("free", "").await;
    let internal = f.get("/v3/domains?names=apps.internal").await;
    let mut inside = f.route_body("inside", "");
    inside["relationships"]["domain"]["data"] = json!({ "guid": internal["resources"][0]["guid"] });
    let inside = f.send(Method::POST, "/v3/routes", inside).await;
    let inside = inside["guid"].as_str().unwrap();
    let space = f.another_space(&f.organization, "far").await;
    let mut far = f.route_body("far", "");
    far["relationships"]["space"]["data"]["guid"] = json!(space);
    let far = f.send(Method::POST, "/v3/routes", far).await;
    let far = far["guid"].as_str().unwrap();
    let with = |key: &str, value: Value| {
        let mut body = body(&free, &gate);
        body[key] = value;
        body
    };
    let same = "The route and service instance are already bound.";
    for (body, text) in [
        (
            json!({ "foo": 1 }),
            "Unknown field(s): 'foo', Relationships 'relationships' is not an object",
        ),
        (
            json!({ "relationships": { "route": { "data": { "guid": free } } } }),
            "Relationships Service instance can't be blank",
        ),
        (
            body(&free, "none"),
            "The service instance could not be found: none",
        ),
        (body("none", &gate), "The route could not be found: none"),
        (
            with("parameters", json!({ "a": 1 })),
            "Binding parameters are not supported for user-provided service instances",
        ),
        (
            body(&free, &plain),
            "This service instance does not support route binding",
        ),
        (
            body(inside, &gate),
            "Route services cannot be bound to internal routes",
        ),
        (
            body(far, &gate),
            "The service instance and the route are in different spaces",
        ),
        (
            body(&route, &wall),
            "A route may only be bound to a single service instance",
        ),
        (body(&route, &gate), same),
    ] {
        assert_eq!(refused(&f, Method::POST, BINDINGS, body).await, text);
    }
    // Clients know the code of a binding that exists already.
    let (_, answer) = f
        .call(Method::POST, BINDINGS, Some(body(&route, &gate)))
        .await;
    let error = &answer["errors"][0];
    assert_eq!(
        (&error["code"], &error["title"]),
        (
            &json!(130_008),
            &json!("CF-ServiceInstanceAlreadyBoundToSameRoute")
        )
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_leave_with_their_route_and_with_their_instance() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let gate = f.create_route_service("gate").await;
    let mut bound = Vec::new();
    for host in ["one", "two", "three"] {
        let route = f.create_route(host, "").await;
        f.map(&route, &app).await;
        bound.push((f.bind_route(&route, &gate).await, route));
    }
    let gone = async || {
        let kind = "audit.service_route_binding.delete";
        let events = f.get(&format!("/v3/audit_events?types={kind}")).await;
        let events = events["resources"].as_array().unwrap().clone();
        let guid = |event: &Value| event["target"]["guid"].as_str().unwrap().to_owned();
        events.iter().map(guid).collect::<Vec<_>>()
    };
    f.delete(&format!("/v3/routes/{}", bound[0].1)).await;
    assert_eq!(gone().await, [bound[0].0.clone()]);
    assert_eq!(services(&f, &app).await, [json!(SERVICE), json!(SERVICE)]);

    // A route without destinations that is bound is not one that nobody needs.
    let idle = f.create_route("idle", "").await;
    let idle_binding = f.bind_route(&idle, &gate).await;
    f.create_route("unmapped", "").await;
    f.delete(&format!("/v3/spaces/{}/routes?unmapped=true", f.space))
        .await;
    let hosts = f.get("/v3/routes?hosts=idle,unmapped").await;
    assert_eq!(hosts["pagination"]["total_results"], 1, "{hosts}");

    f.delete(&format!("{INSTANCES}/{gate}")).await;
    assert_eq!(services(&f, &app).await, [Value::Null, Value::Null]);
    let wanted: Vec<String> = bound.iter().map(|one| one.0.clone()).collect();
    assert_eq!(gone().await, [&wanted[..], &[idle_binding]].concat());
    assert_eq!(guids(&f, BINDINGS).await, [""; 0]);

    // With the space goes everything.
    f.bind_new_route("last").await;
    f.delete(&format!("/v3/spaces/{}", f.space)).await;
    assert_eq!(guids(&f, BINDINGS).await, [""; 0]);
    assert_eq!(gone().await.len(), 5);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_is_seen_in_the_space_of_its_route() {
    let f = Foundation::start().await;
    let binding = f.bind_new_route("one").await;
    let organization = ("organization_user", "organization", &*f.organization);
    let auditor = [organization, ("space_auditor", "space", &*f.space)];
    let of_organization = [("organization_auditor", "organization", &*f.organization)];
    let member = [organization];
    let path = format!("{BINDINGS}/{binding}");
    for (name, roles, wanted) in [
        ("auditor", &auditor[..], 200),
        ("reader-of-routes", &of_organization[..], 404),
        ("member", &member[..], 404),
    ] {
        let user = f.user(name, roles).await;
        let (status, answer) = f.call_as(&user, Method::GET, &path, None).await;
        assert_eq!(status, wanted, "{name}: {answer}");
        let (_, list) = f.call_as(&user, Method::GET, BINDINGS, None).await;
        let shown = list["resources"].as_array().unwrap().len();
        assert_eq!(shown, usize::from(wanted == 200), "{name}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_routes_of_one_instance_are_bounded() {
    let limits = cloud_controller::Limits {
        route_bindings_per_service_instance: 1,
        ..cloud_controller::Limits::default()
    };
    let f = Foundation::start_limited(Duration::from_secs(3600), limits).await;
    let gate = f.create_route_service("gate").await;
    let (one, two) = (
        f.create_route("one", "").await,
        f.create_route("two", "").await,
    );
    f.bind_route(&one, &gate).await;
    let text = refused(&f, Method::POST, BINDINGS, body(&two, &gate)).await;
    assert!(text.contains("at most 1"), "{text}");
    f.finish().await;
}
