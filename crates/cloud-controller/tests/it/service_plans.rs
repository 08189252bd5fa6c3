//! The marketplace: offerings and plans, who sees them, and who may use them.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::broker::Broker;

async fn names(f: &Foundation, token: &str, path: &str) -> Vec<String> {
    let (status, list) = f.call_as(token, Method::GET, path, None).await;
    assert_eq!(status, 200, "{list}");
    let rows = list["resources"].as_array().unwrap();
    let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
    rows.iter().map(name).collect()
}

/// Returns the plans that a request without a token sees.
async fn anonymous(f: &Foundation, path: &str) -> (u16, Value) {
    let response = f.http.get(format!("{}{path}", f.url)).send().await;
    answer(response.unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offerings_and_plans_show_what_the_catalog_has() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let guid = f.register(&broker, "broker", None).await;
    let offering = f.offering_of(&guid).await;
    let shown = f.get(&format!("/v3/service_offerings/{offering}")).await;
    assert_eq!(shown["name"], "db");
    assert_eq!(shown["description"], "A db for tests");
    assert_eq!(shown["available"], true);
    assert_eq!(shown["shareable"], true);
    assert_eq!(shown["documentation_url"], "http://docs.test");
    assert_eq!(shown["tags"], json!(["db", "test"]));
    assert_eq!(shown["requires"], json!([]));
    let catalog = &shown["broker_catalog"];
    assert_eq!(catalog["id"], "db-id");
    assert_eq!(
        catalog["features"],
        json!({ "plan_updateable": true, "bindable": true, "instances_retrievable": true, "bindings_retrievable": true, "allow_context_updates": false })
    );
    let related = json!({ "service_broker": { "data": { "guid": guid } } });
    assert_eq!(shown["relationships"], related);

    let plan = f.plan_of(&guid, "big").await;
    let shown = f.get(&format!("/v3/service_plans/{plan}")).await;
    assert_eq!(shown["visibility_type"], "admin");
    assert_eq!(shown["free"], false);
    let costs = json!([{ "currency": "USD", "amount": 9.5, "unit": "MONTHLY" }]);
    assert_eq!(shown["costs"], costs);
    let info = json!({ "version": "1.0.0", "description": "The first" });
    assert_eq!(shown["maintenance_info"], info);
    assert_eq!(shown["broker_catalog"]["id"], "db-big-id");
    assert_eq!(
        shown["broker_catalog"]["features"],
        json!({ "bindable": true, "plan_updateable": true })
    );
    assert_eq!(
        shown["broker_catalog"]["maximum_polling_duration"],
        Value::Null
    );
    let empty = json!({ "parameters": {} });
    assert_eq!(
        shown["schemas"],
        json!({ "service_instance": { "create": empty, "update": empty }, "service_binding": { "create": empty } })
    );
    let small = f.plan_of(&guid, "small").await;
    let shown = f.get(&format!("/v3/service_plans/{small}")).await;
    assert_eq!(
        (&shown["maintenance_info"], &shown["costs"]),
        (&json!({}), &json!([]))
    );

    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    for path in [
        format!("/v3/service_offerings/{offering}"),
        format!("/v3/service_plans/{plan}"),
    ] {
        let changed = f.send(Method::PATCH, &path, labels.clone()).await;
        assert_eq!(changed["metadata"]["labels"], json!({ "a": "b" }));
        let list = path.rsplit_once('/').unwrap().0;
        let found = f.get(&format!("{list}?label_selector=a=b")).await;
        assert_eq!(found["pagination"]["total_results"], 1, "{list}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visibility_decides_who_sees_and_uses_a_plan() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let guid = f.register(&broker, "broker", None).await;
    let plan = f.plan_of(&guid, "small").await;
    let (other, _) = f.another_place("other").await;
    let member = f
        .user("member", &[("organization_user", "organization", &other)])
        .await;
    let path = format!("/v3/service_plans/{plan}");
    let visibility = format!("{path}/visibility");
    let sees = async |token: &str| f.call_as(token, Method::GET, &path, None).await.0 == 200;

    assert_eq!(f.get(&visibility).await, json!({ "type": "admin" }));
    assert!(!sees(&member).await);
    let body = json!({ "type": "organization", "organizations": [{ "guid": f.organization }] });
    let shown = f.set_visibility(&plan, body).await;
    let demo = json!({ "guid": f.organization, "name": "demo" });
    assert_eq!(
        shown,
        json!({ "type": "organization", "organizations": [demo] })
    );
    assert!(!sees(&member).await);
    // POST adds an organization, and PATCH replaces all.
    let body = json!({ "type": "organization", "organizations": [{ "guid": other }] });
    let shown = f.send(Method::POST, &visibility, body.clone()).await;
    assert_eq!(shown, json!({ "type": "organization" }));
    assert!(sees(&member).await);
    let count = |shown: &Value| shown["organizations"].as_array().unwrap().len();
    assert_eq!(count(&f.get(&visibility).await), 2);
    // A member sees the own organization only.
    let (_, shown) = f.call_as(&member, Method::GET, &visibility, None).await;
    assert_eq!(count(&shown), 1);
    assert_eq!(count(&f.set_visibility(&plan, body).await), 1);
    f.delete(&format!("{visibility}/{other}")).await;
    assert!(!sees(&member).await);
    assert_eq!(f.get(&visibility).await, json!({ "type": "admin" }));

    assert_eq!(anonymous(&f, &path).await.0, 404);
    f.set_visibility(&plan, json!({ "type": "public" })).await;
    assert!(sees(&member).await);
    assert_eq!(anonymous(&f, &path).await.0, 200);
    let (_, list) = anonymous(&f, "/v3/service_offerings").await;
    assert_eq!(list["resources"][0]["name"], "db");
    let (_, list) = anonymous(&f, "/v3/service_plans?space_guids=x").await;
    assert_eq!(list["resources"][0]["name"], "small");

    for (body, text) in [
        (
            json!({}),
            "Type must be one of 'public', 'admin', 'organization'",
        ),
        (json!({ "type": "space" }), "Type must be one of"),
        (
            json!({ "type": "organization" }),
            "Organizations can't be blank",
        ),
        (
            json!({ "type": "public", "organizations": [{ "guid": other }] }),
            "Organizations must be blank",
        ),
    ] {
        let (status, answer) = f.call(Method::PATCH, &visibility, Some(body)).await;
        assert_eq!(status, 400, "{answer}");
        assert!(detail(&answer).contains(text), "{answer}");
    }
    let unknown = json!({ "type": "organization", "organizations": [{ "guid": "x" }] });
    assert_eq!(
        f.call(Method::PATCH, &visibility, Some(unknown)).await.0,
        422
    );
    let public = format!("{visibility}/{other}");
    let (status, answer) = f.call(Method::DELETE, &public, None).await;
    assert_eq!(status, 422);
    assert!(detail(&answer).contains("non-org-restricted"), "{answer}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_filtered_and_include_what_is_above() {
    let f = Foundation::start().await;
    let (one, two) = (Broker::start("db").await, Broker::start("queue").await);
    let first = f.register(&one, "one", None).await;
    let second = f.register(&two, "two", Some(&f.space)).await;
    let restricted = f.plan_of(&first, "small").await;
    let body = json!({ "type": "organization", "organizations": [{ "guid": f.organization }] });
    f.set_visibility(&restricted, body).await;
    let (other, foreign) = f.another_place("other").await;
    let plans = "/v3/service_plans?order_by=name";
    let offering = f.offering_of(&first).await;
    for (query, wanted) in [
        (format!("service_broker_guids={first}"), 2),
        ("service_broker_names=two".to_owned(), 2),
        (format!("service_offering_guids={offering}"), 2),
        ("service_offering_names=db,queue".to_owned(), 4),
        ("broker_catalog_ids=db-small-id".to_owned(), 1),
        ("names=big".to_owned(), 2),
        ("available=false".to_owned(), 0),
        ("service_instance_guids=x".to_owned(), 0),
        // These may be used: the restricted one, and those of the space's own broker.
        (format!("space_guids={}", f.space), 3),
        (format!("organization_guids={}", f.organization), 3),
        (format!("space_guids={foreign}"), 0),
        (format!("organization_guids={other}"), 0),
    ] {
        let found = names(&f, &f.admin, &format!("{plans}&{query}")).await;
        assert_eq!(found.len(), wanted, "{query}: {found:?}");
    }
    let offerings = "/v3/service_offerings?order_by=name";
    for (query, wanted) in [
        ("", vec!["db", "queue"]),
        ("&service_broker_names=two", vec!["queue"]),
        ("&broker_catalog_ids=db-id", vec!["db"]),
        ("&available=true", vec!["db", "queue"]),
        (&format!("&space_guids={}", f.space), vec!["db", "queue"]),
        (&format!("&space_guids={foreign}"), vec![]),
        (&format!("&organization_guids={other}"), vec![]),
    ] {
        let found = names(&f, &f.admin, &format!("{offerings}{query}")).await;
        assert_eq!(found, wanted, "{query}");
    }

    let fields = "fields%5Bservice_offering.service_broker%5D=name";
    let path = format!("{plans}&include=space.organization,service_offering&{fields}");
    let included = &f.get(&path).await["included"];
    assert_eq!(included["spaces"][0]["guid"], json!(f.space));
    assert_eq!(included["organizations"][0]["guid"], json!(f.organization));
    assert_eq!(included["service_offerings"].as_array().unwrap().len(), 2);
    let brokers = json!([{ "name": "one" }, { "name": "two" }]);
    assert_eq!(included["service_brokers"], brokers);
    let path = format!("{offerings}&fields%5Bservice_broker%5D=guid,name&names=queue");
    let wanted = json!([{ "guid": second, "name": "two" }]);
    assert_eq!(f.get(&path).await["included"]["service_brokers"], wanted);
    let odd = format!("{offerings}&fields%5Bservice_broker%5D=url");
    let (status, answer) = f.call(Method::GET, &odd, None).await;
    assert_eq!(status, 400);
    assert!(detail(&answer).contains("Fields valid keys"), "{answer}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offering_is_removed_only_without_plans_or_by_purging() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let guid = f.register(&broker, "broker", None).await;
    let path = format!("/v3/service_offerings/{}", f.offering_of(&guid).await);
    let (status, answer) = f.call(Method::DELETE, &path, None).await;
    assert_eq!(status, 422);
    assert!(detail(&answer).contains("service_plans"), "{answer}");
    let calls = broker.requests().len();
    f.delete(&format!("{path}?purge=true")).await;
    assert_eq!(f.call(Method::GET, &path, None).await.0, 404);
    assert_eq!(f.get("/v3/service_plans").await["resources"], json!([]));
    assert_eq!(broker.requests().len(), calls, "the broker is not called");
    let events = f.get("/v3/audit_events?types=audit.service.delete").await;
    let data = &events["resources"][0]["data"];
    assert_eq!(*data, json!({ "request": { "purge": true } }));
    f.finish().await;
}

/// The requests of the original client (v8 and v9) for brokers, the marketplace and access to plans, as they are on the wire, and the
/// values that it reads from the answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_original_client_finds_what_it_reads() {
    let f = Foundation::start().await;
    let (broker, own) = (Broker::start("db").await, Broker::start("queue").await);
    let guid = f.register(&broker, "broker", None).await;
    f.register(&own, "own", Some(&f.space)).await;
    let found = f
        .get("/v3/service_brokers?names=broker&page=1&per_page=1")
        .await;
    assert_eq!(found["resources"][0]["guid"], json!(guid));

    // enable-service-access -o
    let path =
        "/v3/service_offerings?fields%5Bservice_broker%5D=name%2Cguid&names=db&page=1&per_page=2";
    let found = f.get(path).await;
    let offering = found["resources"][0].clone();
    let of_offering = &offering["relationships"]["service_broker"]["data"]["guid"];
    assert_eq!(of_offering, &json!(guid));
    let brokers = json!([{ "guid": guid, "name": "broker" }]);
    assert_eq!(found["included"]["service_brokers"], brokers);
    let offering = offering["guid"].as_str().unwrap();
    let plans = format!("/v3/service_plans?names=small&service_offering_guids={offering}");
    let plan = f.get(&plans).await["resources"][0].clone();
    assert_eq!(plan["visibility_type"], "admin");
    let plan = plan["guid"].as_str().unwrap();
    let visibility = format!("/v3/service_plans/{plan}/visibility");
    let body = json!({ "type": "organization", "organizations": [{ "guid": f.organization }] });
    let shown = f.send(Method::POST, &visibility, body).await;
    assert_eq!(shown["type"], "organization");

    // marketplace
    let fields = "fields%5Bservice_offering.service_broker%5D=name%2Cguid";
    let path = format!(
        "/v3/service_plans?available=true&{fields}&include=service_offering&per_page=5000&space_guids={}",
        f.space
    );
    let found = f.get(&path).await;
    let included = &found["included"];
    let offerings = included["service_offerings"].as_array().unwrap();
    for plan in found["resources"].as_array().unwrap() {
        assert!(plan["costs"].is_array() && plan["free"].is_boolean());
        let guid = &plan["relationships"]["service_offering"]["data"]["guid"];
        let offering = offerings.iter().find(|offering| offering["guid"] == *guid);
        let offering = offering.unwrap();
        assert!(offering["description"].is_string());
        let guid = &offering["relationships"]["service_broker"]["data"]["guid"];
        let brokers = included["service_brokers"].as_array().unwrap();
        assert!(brokers.iter().any(|broker| broker["guid"] == *guid));
    }

    // service-access
    let path = format!(
        "/v3/service_plans?include=space.organization&organization_guids={}",
        f.organization
    );
    let found = f.get(&path).await;
    assert_eq!(found["pagination"]["total_results"], 3);
    let included = &found["included"];
    let space = &included["spaces"][0];
    assert_eq!(space["guid"], json!(f.space));
    let organization = &space["relationships"]["organization"]["data"]["guid"];
    assert_eq!(&included["organizations"][0]["guid"], organization);
    let shown = f.get(&visibility).await;
    assert_eq!(shown["organizations"][0]["name"], "demo");

    // disable-service-access -o, then without it
    f.delete(&format!("{visibility}/{}", f.organization)).await;
    let admin = json!({ "type": "admin" });
    let shown = f.send(Method::POST, &visibility, admin.clone()).await;
    assert_eq!(shown, admin);
    // purge-service-offering
    let path = format!("/v3/service_offerings/{offering}?purge=true");
    assert_eq!(f.call(Method::DELETE, &path, None).await.0, 204);
    f.finish().await;
}
