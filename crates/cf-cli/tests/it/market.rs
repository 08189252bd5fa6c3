//! Tests of brokers and the marketplace as a person registers, lists, permits and purges them.

use crate::fixture::Person;
use crate::platform::Platform;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;

type P = State<Platform>;

fn list(resources: Value, included: &Value) -> Json<Value> {
    Json(json!({ "pagination": { "next": null }, "resources": resources, "included": included }))
}

/// Returns an answer that names the job of brokers, which has succeeded with a warning.
fn accepted(platform: &Platform) -> Response {
    let url = format!("{}/v3/jobs/of-broker", platform.lock().unwrap().url);
    (StatusCode::ACCEPTED, [("location", url)]).into_response()
}

pub(crate) fn included() -> Value {
    let of_broker = json!({ "service_broker": { "data": { "guid": "b" } } });
    json!({
        "service_brokers": [{ "guid": "b", "name": "db-broker" }],
        "service_offerings": [{ "guid": "o", "name": "postgres", "description": "A database", "relationships": of_broker }],
        "spaces": [],
        "organizations": [],
    })
}

/// Returns two plans: one for everybody, and one that an organization may use.
pub(crate) fn plans() -> Value {
    let of_offering = json!({ "service_offering": { "data": { "guid": "o" } } });
    let cost = json!({ "currency": "USD", "amount": 9.5, "unit": "MONTHLY" });
    json!([
        { "guid": "p1", "name": "small", "description": "A small one", "free": true, "available": true, "visibility_type": "public", "costs": [], "relationships": of_offering },
        { "guid": "p2", "name": "big", "description": "A big one", "free": false, "available": true, "visibility_type": "organization", "costs": [cost], "relationships": of_offering },
    ])
}

/// Returns the part of the platform for brokers and the marketplace.
pub(crate) fn routes() -> Router<Platform> {
    Router::new()
        .route(
            "/v3/service_brokers",
            get(|Query(q): Query<HashMap<String, String>>| async move {
                let broker =
                    json!({ "guid": "b", "name": "db-broker", "url": "https://broker.test" });
                let is_there = q.get("names").is_none_or(|name| name != "new");
                let found = if is_there { json!([broker]) } else { json!([]) };
                list(found, &json!({}))
            })
            .post(|State(p): P, Json(body): Json<Value>| async move {
                p.lock().unwrap().bodies.push(body);
                accepted(&p)
            }),
        )
        .route(
            "/v3/service_brokers/{guid}",
            axum::routing::patch(|State(p): P, Json(body): Json<Value>| async move {
                p.lock().unwrap().bodies.push(body);
                accepted(&p)
            })
            .delete(|State(p): P| async move { accepted(&p) }),
        )
        .route(
            "/v3/jobs/of-broker",
            get(async || {
                let warnings = json!([{ "detail": "a plan was deactivated" }]);
                Json(json!({ "guid": "of-broker", "state": "COMPLETE", "warnings": warnings }))
            }),
        )
        .route(
            "/v3/service_offerings",
            get(|Query(q): Query<HashMap<String, String>>| async move {
                let all = included();
                let is_there = q.get("names").is_none_or(|name| name != "none");
                let offerings = all["service_offerings"].clone();
                let found = if is_there { offerings } else { json!([]) };
                list(found, &all)
            }),
        )
        .route(
            "/v3/service_offerings/{guid}",
            axum::routing::delete(async || StatusCode::NO_CONTENT),
        )
        .route(
            "/v3/service_plans",
            get(
                |State(p): P, Query(q): Query<HashMap<String, String>>| async move {
                    let mut found = plans();
                    let all = found.as_array_mut().unwrap();
                    match q.get("names") {
                        // Everything can be done with a plan that an organization may use.
                        _ if p.lock().unwrap().has_everything => {
                            all.remove(0);
                        }
                        Some(name) => all.retain(|plan| plan["name"] == name.as_str()),
                        None => {}
                    }
                    list(found, &included())
                },
            ),
        )
        .route(
            "/v3/service_plans/{guid}/visibility",
            get(async || {
                let organizations =
                    json!([{ "guid": "o1", "name": "org" }, { "guid": "o2", "name": "shop" }]);
                Json(json!({ "type": "organization", "organizations": organizations }))
            })
            .merge(post(
                |State(p): P, Path(guid): Path<String>, Json(mut body): Json<Value>| async move {
                    body["plan"] = json!(guid);
                    p.lock().unwrap().bodies.push(body);
                    Json(json!({}))
                },
            )),
        )
        .route(
            "/v3/service_plans/{guid}/visibility/{organization}",
            axum::routing::delete(async || StatusCode::NO_CONTENT),
        )
}

async fn person() -> Person {
    let person = Person::new().await;
    person.logs_in().await;
    person
}

/// Returns the body of the newest request.
fn sent(person: &Person) -> Value {
    let inner = person.platform.lock().unwrap();
    inner.bodies.last().cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_broker_is_registered_listed_renamed_and_deleted() {
    let person = person().await;
    let seen = person
        .types("create-service-broker new admin s3cret https://broker.test")
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(seen.out, "Creating service broker new as admin...\nOK\n\n");
    assert!(seen.err.contains("a plan was deactivated"), "{}", seen.err);
    let basic = |password: &str| json!({ "type": "basic", "credentials": { "username": "admin", "password": password } });
    assert_eq!(
        sent(&person),
        json!({ "name": "new", "url": "https://broker.test", "authentication": basic("s3cret") })
    );
    // The password is asked for, or is in a variable.
    let seen = person
        .answers(
            "csb new admin https://broker.test --space-scoped",
            "asked\n",
        )
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert!(
        seen.out
            .contains("Creating service broker new in org org / space space as admin..."),
        "{}",
        seen.out
    );
    let body = sent(&person);
    assert_eq!(body["authentication"], basic("asked"));
    assert_eq!(body["relationships"]["space"]["data"]["guid"], "s1");
    let words = [
        "create-service-broker",
        "db-broker",
        "admin",
        "https://b.test",
        "--update-if-exists",
    ];
    let seen = person
        .runs(&words, |e| {
            e.vars
                .insert("CF_BROKER_PASSWORD".to_owned(), "from-env".to_owned());
        })
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(
        seen.out,
        "Updating service broker db-broker as admin...\nOK\n\n"
    );
    assert_eq!(
        sent(&person),
        json!({ "url": "https://b.test", "authentication": basic("from-env") })
    );

    let seen = person.types("service-brokers").await;
    assert!(
        seen.out.contains("db-broker   https://broker.test"),
        "{}",
        seen.out
    );
    let seen = person.types("rename-service-broker db-broker pg").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(sent(&person), json!({ "name": "pg" }));
    let seen = person.types("rename-service-broker new pg").await;
    assert_eq!(seen.code, 1);
    assert!(
        seen.err.contains("Service broker 'new' not found"),
        "{}",
        seen.err
    );
    let seen = person
        .answers("delete-service-broker db-broker", "n\n")
        .await;
    assert!(seen.out.contains("has not been deleted"), "{}", seen.out);
    let seen = person.types("delete-service-broker new -f").await;
    assert!(
        seen.out.contains("'new' does not exist.\nOK\n"),
        "{}",
        seen.out
    );
    let seen = person.types("delete-service-broker db-broker -f").await;
    assert_eq!(seen.out, "Deleting service broker db-broker...\nOK\n\n");
}

#[tokio::test]
async fn the_marketplace_is_listed_with_and_without_a_login() {
    let person = person().await;
    let seen = person.types("marketplace").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let title =
        "Getting all service offerings from marketplace in org org / space space as admin...";
    assert!(seen.out.starts_with(title), "{}", seen.out);
    assert!(
        seen.out
            .contains("postgres   small, big   A database    db-broker"),
        "{}",
        seen.out
    );
    let seen = person.types("m -e postgres").await;
    assert!(seen.out.contains("broker: db-broker\n"), "{}", seen.out);
    assert!(
        seen.out
            .contains("big     A big one     paid           USD 9.50/MONTHLY"),
        "{}",
        seen.out
    );
    let seen = person.types("marketplace --no-plans").await;
    assert!(!seen.out.contains("small"), "{}", seen.out);
    person.types("logout").await;
    let seen = person.types("marketplace").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let title = "Getting all service offerings from marketplace...";
    assert!(seen.out.starts_with(title), "{}", seen.out);
}

#[tokio::test]
async fn access_is_shown_and_changed() {
    let person = person().await;
    let seen = person.types("service-access -e postgres").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let title =
        "Getting service access for service offering postgres as admin...\n\nbroker: db-broker\n";
    assert!(seen.out.starts_with(title), "{}", seen.out);
    let rows: Vec<Vec<&str>> = seen
        .out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(
        rows.contains(&vec!["postgres", "big", "limited", "org,shop"]),
        "{}",
        seen.out
    );
    assert!(
        rows.contains(&vec!["postgres", "small", "all"]),
        "{}",
        seen.out
    );

    let seen = person.types("enable-service-access postgres -o org").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert!(
        seen.out.starts_with(
            "Enabling access to all plans of service offering postgres for org org as admin..."
        ),
        "{}",
        seen.out
    );
    let skipped = "Did not update plan small as it already has visibility all.";
    assert!(seen.out.contains(skipped), "{}", seen.out);
    assert_eq!(
        sent(&person),
        json!({ "plan": "p2", "type": "organization", "organizations": [{ "guid": "o1" }] })
    );
    let seen = person
        .types("enable-service-access postgres -p big -b db-broker")
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(sent(&person), json!({ "plan": "p2", "type": "public" }));
    let seen = person.types("disable-service-access postgres -p big").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(sent(&person), json!({ "plan": "p2", "type": "admin" }));
    let seen = person.types("disable-service-access postgres -o org").await;
    assert_eq!(seen.code, 1);
    assert!(
        seen.err.contains("Cannot remove organization level access"),
        "{}",
        seen.err
    );
    let seen = person
        .types("disable-service-access postgres -o org -p big")
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(person.requests("/v3/service_plans/p2/visibility/o1"), 1);
    let seen = person.types("enable-service-access none").await;
    assert!(
        seen.err.contains("Service offering 'none' not found."),
        "{}",
        seen.err
    );
}

#[tokio::test]
async fn an_offering_is_purged_after_a_warning() {
    let person = person().await;
    let seen = person
        .answers("purge-service-offering postgres", "n\n")
        .await;
    assert!(seen.out.starts_with("WARNING: "), "{}", seen.out);
    assert!(
        seen.out.contains("Purge service offering cancelled."),
        "{}",
        seen.out
    );
    assert_eq!(person.requests("/v3/service_offerings/o"), 0);
    let seen = person.types("purge-service-offering postgres -f").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(seen.out, "Purging service offering postgres...\nOK\n\n");
    let seen = person.types("purge-service-offering none -f").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert!(seen.out.contains("'none' not found.\nOK\n"), "{}", seen.out);
}
