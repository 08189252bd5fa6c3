//! Tests of managed services as a person creates, changes, binds, shares and purges them, with brokers that are quick or slow.

use crate::fixture::Person;
use crate::market;
use crate::platform::{Inner, Platform};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

type P = State<Platform>;

/// Returns what is above service instances.
pub(crate) fn included() -> Value {
    let mut included = market::included();
    included["service_plans"] = market::plans();
    included
}

/// Returns the answer to a request about a service: a job, if a broker must do it.
pub(crate) fn answer(inner: &Inner, status: StatusCode, body: Value) -> Response {
    if inner.has_broker {
        let url = format!("{}/v3/jobs/of-instance", inner.url);
        return (StatusCode::ACCEPTED, [("location", url)]).into_response();
    }
    match status {
        StatusCode::NO_CONTENT => status.into_response(),
        status => (status, Json(body)).into_response(),
    }
}

/// Returns the part of the platform for managed services.
pub(crate) fn routes() -> Router<Platform> {
    let shares = "/v3/service_instances/{guid}/relationships/shared_spaces";
    Router::new()
        .route(
            "/v3/jobs/of-instance",
            get(|State(p): P| async move {
                let mut inner = p.lock().unwrap();
                let state = match inner.broker_polls {
                    0 => "COMPLETE",
                    _ => "POLLING",
                };
                inner.broker_polls = inner.broker_polls.saturating_sub(1);
                Json(json!({ "guid": "of-instance", "state": state }))
            }),
        )
        .route(
            "/v3/service_plans/{guid}",
            get(async || {
                let info = json!({ "version": "2.0.0", "description": "new disks" });
                let of_offering = json!({ "service_offering": { "data": { "guid": "o" } } });
                Json(json!({ "guid": "p1", "name": "small", "maintenance_info": info, "relationships": of_offering }))
            }),
        )
        .route(
            "/v3/service_instances/{guid}/parameters",
            get(async || Json(json!({ "disk": 5 }))),
        )
        .route(
            "/v3/service_credential_bindings/{guid}/details",
            get(async || Json(json!({ "credentials": { "password": "s3cret" } }))),
        )
        .route(
            shares,
            get(async || {
                let of_org = json!({ "organization": { "data": { "guid": "o1" } } });
                let spaces = json!([{ "guid": "s2", "name": "other", "relationships": of_org }]);
                let organizations = json!([{ "guid": "o1", "name": "org" }]);
                Json(json!({ "data": [{ "guid": "s2" }], "resources": [], "included": { "spaces": spaces, "organizations": organizations } }))
            })
            .merge(post(|State(p): P, Json(body): Json<Value>| async move {
                p.lock().unwrap().bodies.push(body);
                Json(json!({}))
            })),
        )
        .route(
            &format!("{shares}/usage_summary"),
            get(async || {
                let used = json!([{ "space": { "guid": "s2" }, "bound_app_count": 3 }]);
                Json(json!({ "usage_summary": used }))
            }),
        )
        .route(
            &format!("{shares}/{{space}}"),
            delete(async || StatusCode::NO_CONTENT),
        )
}

async fn person() -> Person {
    let person = Person::new().await;
    person.logs_in().await;
    let mut inner = person.platform.lock().unwrap();
    inner.app_exists = true;
    inner.has_broker = true;
    drop(inner);
    person
}

/// Lets the next job of a broker last for some polls.
fn slow(person: &Person) {
    person.platform.lock().unwrap().broker_polls = 3;
}

/// Lets the broker be quick, and marks all instances as ones that can be upgraded.
fn quick(person: &Person) {
    let mut inner = person.platform.lock().unwrap();
    inner.broker_polls = 0;
    for instance in &mut inner.service_instances {
        instance["upgrade_available"] = json!(true);
        instance["maintenance_info"] = json!({ "version": "1.0.0" });
    }
}

/// Returns the body of the newest request.
fn sent(person: &Person) -> Value {
    let inner = person.platform.lock().unwrap();
    inner.bodies.last().cloned().unwrap_or_default()
}

#[tokio::test]
async fn an_instance_is_created_shown_changed_and_deleted() {
    let person = person().await;
    let words = [
        "create-service",
        "postgres",
        "small",
        "db",
        "-c",
        r#"{"disk":5}"#,
        "-t",
        "sql, test",
    ];
    let seen = person.runs(&words, |_| {}).await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(
        seen.out,
        "Creating service instance db in org org / space space as admin...\n\nService instance db created.\nOK\n\n"
    );
    assert_eq!(
        sent(&person),
        json!({ "type": "managed", "name": "db", "tags": ["sql", "test"], "parameters": { "disk": 5 }, "relationships": {
            "space": { "data": { "guid": "s1" } }, "service_plan": { "data": { "guid": "p1" } },
        } })
    );
    slow(&person);
    let seen = person.types("cs postgres big other").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert!(
        seen.out.contains("Create in progress. Use 'cf services' or 'cf service other' to check operation status.\nOK\n"),
        "{}",
        seen.out
    );
    slow(&person);
    let seen = person.types("update-service db -t x --wait").await;
    assert!(
        seen.out.contains("Waiting for the operation to complete...\nUpdate of service instance db complete.\nOK\n"),
        "{}",
        seen.out
    );
    quick(&person);
    let seen = person.types("services").await;
    let row = seen.out.lines().find(|line| line.starts_with("db "));
    let columns: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
    assert_eq!(
        columns,
        [
            "db",
            "postgres",
            "small",
            "create",
            "succeeded",
            "db-broker",
            "yes"
        ],
        "{}",
        seen.out
    );
    let seen = person.types("service db").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    for part in [
        "broker:",
        "db-broker",
        "A database",
        "There is an upgrade available",
        "new disks",
        "cf upgrade-service db",
    ] {
        assert!(seen.out.contains(part), "{part}: {}", seen.out);
    }
    let seen = person.types("service db --params").await;
    assert_eq!(seen.out, "{\n  \"disk\": 5\n}\n");
    let seen = person.types("update-service db -p big").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let guid = &sent(&person)["relationships"]["service_plan"]["data"]["guid"];
    assert_eq!(guid, "p2");
    let seen = person.types("update-service db -p small").await;
    assert!(
        seen.out.contains("No changes were made.\nOK\n"),
        "{}",
        seen.out
    );
    let seen = person.types("update-service db").await;
    assert!(seen.out.contains("No flags specified."), "{}", seen.out);
    let seen = person.answers("upgrade-service db", "n\n").await;
    assert!(seen.out.contains("Upgrade cancelled"), "{}", seen.out);
    let seen = person.types("upgrade-service db -f").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(
        sent(&person),
        json!({ "maintenance_info": { "version": "2.0.0" } })
    );
    let seen = person.types("purge-service-instance other -f").await;
    assert!(
        seen.out.contains("Service instance other purged.\nOK\n"),
        "{}",
        seen.out
    );
    slow(&person);
    let seen = person.types("delete-service db -f").await;
    assert!(
        seen.out.contains("Delete in progress. Use 'cf services'"),
        "{}",
        seen.out
    );
    let seen = person.types("create-service postgres none x").await;
    assert_eq!(seen.code, 1);
    assert!(
        seen.err
            .contains("The plan 'none' could not be found for service offering 'postgres'"),
        "{}",
        seen.err
    );
}

#[tokio::test]
async fn apps_are_bound_and_keys_are_made() {
    let person = person().await;
    person.types("create-service postgres small db").await;
    slow(&person);
    let seen = person
        .types("bind-service dora db --strategy multiple")
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert!(
        seen.out.contains("OK\n\nBinding in progress. Use 'cf service db' to check operation status.\n\nTIP: Once this operation succeeds,"),
        "{}",
        seen.out
    );
    assert_eq!(sent(&person)["strategy"], "multiple");
    let seen = person.types("unbind-service dora db --guid none").await;
    assert!(
        seen.out
            .contains("Service binding with GUID none does not exist\nOK\n"),
        "{}",
        seen.out
    );
    slow(&person);
    let seen = person.types("unbind-service dora db --wait").await;
    assert!(
        seen.out.contains(
            "Deleting service binding b1...\nWaiting for the operation to complete...\nOK\n"
        ),
        "{}",
        seen.out
    );

    let seen = person.types("service-keys db").await;
    assert!(
        seen.out.contains("No service keys for service instance db"),
        "{}",
        seen.out
    );
    slow(&person);
    let words = ["csk", "db", "mine", "-c", r#"{"role":"reader"}"#];
    let seen = person.runs(&words, |_| {}).await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert!(seen.out.ends_with("Create in progress.\n"), "{}", seen.out);
    assert_eq!(
        sent(&person),
        json!({ "type": "key", "name": "mine", "parameters": { "role": "reader" },
            "relationships": { "service_instance": { "data": { "guid": "si0" } } } })
    );
    let seen = person.types("sk db").await;
    assert!(seen.out.contains("mine   create succeeded"), "{}", seen.out);
    let seen = person.types("service-key db mine").await;
    assert!(
        seen.out.contains("\"password\": \"s3cret\""),
        "{}",
        seen.out
    );
    let seen = person.types("service-key db mine --guid").await;
    assert_eq!(seen.out, "b1\n");
    quick(&person);
    let seen = person.types("delete-service-key db mine -f").await;
    assert_eq!(
        seen.out,
        "Deleting key mine for service instance db as admin...\nOK\n\n"
    );
    let seen = person.types("dsk db mine -f").await;
    assert!(
        seen.out
            .contains("Service key mine does not exist for service instance db.\nOK\n"),
        "{}",
        seen.out
    );
}

#[tokio::test]
async fn an_instance_is_shared_and_unshared() {
    let person = person().await;
    person.types("create-service postgres small db").await;
    let seen = person.types("share-service db -s space -o org").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(
        seen.out,
        "Sharing service instance db into org org / space space as admin...\nOK\n\n"
    );
    assert_eq!(sent(&person), json!({ "data": [{ "guid": "s1" }] }));
    let seen = person.types("service db").await;
    assert!(seen.out.contains("Shared with spaces:"), "{}", seen.out);
    let row = seen.out.lines().find(|line| line.contains("other"));
    let columns: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
    assert_eq!(columns, ["org", "other", "3"], "{}", seen.out);
    let seen = person.answers("unshare-service db -s space", "n\n").await;
    assert!(seen.out.contains("Unshare cancelled"), "{}", seen.out);
    let seen = person.types("unshare-service db -s space -f").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let path = "/v3/service_instances/si0/relationships/shared_spaces/s1";
    assert_eq!(person.requests(path), 1);
    let seen = person.types("share-service db").await;
    assert_eq!(seen.code, 1);
    assert!(seen.err.contains("Incorrect Usage: "), "{}", seen.err);
}
