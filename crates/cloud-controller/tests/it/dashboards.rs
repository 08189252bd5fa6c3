//! The clients of dashboards at the UAA: a broker owns those of its catalog, and touches no others.

use crate::fixture::*;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use testkit::broker::Broker;

/// The clients that the UAA has, by id.
pub(crate) type Clients = Arc<Mutex<BTreeMap<String, Value>>>;

/// Returns the part of a UAA that manages clients.
pub(crate) fn clients(clients: Clients) -> axum::Router {
    axum::Router::new()
        .route(
            "/oauth/token",
            post(async || Json(json!({ "access_token": "clients-token" }))),
        )
        .route("/oauth/clients", post(create))
        .route("/oauth/clients/{id}", get(show).put(update).delete(remove))
        .route("/oauth/clients/{id}/secret", put(change_secret))
        .with_state(clients)
}

async fn create(State(clients): State<Clients>, Json(client): Json<Value>) -> StatusCode {
    let id = client["client_id"].as_str().unwrap().to_owned();
    clients.lock().unwrap().insert(id, client);
    StatusCode::CREATED
}

async fn show(State(clients): State<Clients>, Path(id): Path<String>) -> StatusCode {
    match clients.lock().unwrap().contains_key(&id) {
        true => StatusCode::OK,
        false => StatusCode::NOT_FOUND,
    }
}

async fn update(
    State(clients): State<Clients>,
    Path(id): Path<String>,
    Json(client): Json<Value>,
) -> StatusCode {
    assert!(client.get("client_secret").is_none(), "PUT has no secret");
    let mut clients = clients.lock().unwrap();
    let secret = clients[&id]["client_secret"].clone();
    clients.insert(id.clone(), client);
    clients.get_mut(&id).unwrap()["client_secret"] = secret;
    StatusCode::OK
}

async fn remove(State(clients): State<Clients>, Path(id): Path<String>) -> StatusCode {
    match clients.lock().unwrap().remove(&id) {
        Some(_) => StatusCode::OK,
        None => StatusCode::NOT_FOUND,
    }
}

async fn change_secret(
    State(clients): State<Clients>,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let mut clients = clients.lock().unwrap();
    let known = &mut clients.get_mut(&id).unwrap()["client_secret"];
    if *known == body["secret"] {
        let text = "The new secret equals the old one: send another";
        let error = json!({ "error": "invalid_client", "error_description": text });
        return (StatusCode::BAD_REQUEST, Json(error));
    }
    *known = body["secret"].clone();
    (StatusCode::OK, Json(json!({})))
}

/// Gives the only offering of a broker a dashboard.
fn set_dashboard(broker: &Broker, id: &str, secret: &str) {
    broker.change_catalog(|catalog| {
        catalog["services"][0]["dashboard_client"] =
            json!({ "id": id, "secret": secret, "redirect_uri": "http://dashboard.test/back" });
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_follow_the_catalog() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    set_dashboard(&broker, "db-dashboard", "s3cret-one");
    let guid = f.register(&broker, "broker", None).await;
    let shown = |id: &str| f.uaa_clients.lock().unwrap().get(id).cloned();
    let client = shown("db-dashboard").unwrap();
    assert_eq!(client["client_secret"], "s3cret-one");
    assert_eq!(
        client["redirect_uri"],
        json!(["http://dashboard.test/back"])
    );
    assert_eq!(
        client["authorized_grant_types"],
        json!(["authorization_code"])
    );

    // Another secret, then the same one again, then another id.
    let path = format!("/v3/service_brokers/{guid}");
    let again = json!({ "url": broker.url });
    for secret in ["s3cret-two", "s3cret-two"] {
        set_dashboard(&broker, "db-dashboard", secret);
        let sent = f.job_of(&f.admin, Method::PATCH, &path, again.clone());
        let (_, job) = sent.await;
        assert_eq!(job["state"], "COMPLETE", "{job}");
        assert_eq!(shown("db-dashboard").unwrap()["client_secret"], secret);
    }
    set_dashboard(&broker, "second", "s3cret-two");
    let (_, job) = f.job_of(&f.admin, Method::PATCH, &path, again).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert_eq!(shown("db-dashboard"), None);
    assert!(shown("second").is_some());

    let (_, job) = f.job_of(&f.admin, Method::DELETE, &path, json!({})).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert_eq!(shown("second"), None);
    let kinds = "audit.service_dashboard_client.create,audit.service_dashboard_client.delete";
    let events = f.get(&format!("/v3/audit_events?types={kinds}")).await;
    assert_eq!(events["pagination"]["total_results"], 4);
    assert!(!events.to_string().contains("s3cret"), "{events}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_somebody_else_is_not_touched() {
    let f = Foundation::start().await;
    let foreign = json!({ "client_id": "foreign", "client_secret": "own" });
    let all = f.uaa_clients.clone();
    all.lock()
        .unwrap()
        .insert("foreign".to_owned(), foreign.clone());
    let (one, two) = (Broker::start("db").await, Broker::start("queue").await);
    set_dashboard(&one, "shared", "s");
    f.register(&one, "one", None).await;
    for id in ["foreign", "shared"] {
        set_dashboard(&two, id, "stolen");
        let body = f.broker_body(&two.url, id, None);
        let (_, job) = f
            .job_of(&f.admin, Method::POST, "/v3/service_brokers", body)
            .await;
        assert_eq!(job["state"], "FAILED", "{job}");
        let text = "Service queue\n  Service dashboard client id must be unique\n";
        assert!(detail(&job).contains(text), "{job}");
    }
    let all = all.lock().unwrap().clone();
    assert_eq!(all["foreign"], foreign);
    assert_eq!(all["shared"]["client_secret"], "s");
    // The catalog of the second broker was not stored.
    let list = f.get("/v3/service_offerings?names=queue").await;
    assert_eq!(list["resources"], json!([]));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_of_a_space_end_with_it() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    set_dashboard(&broker, "own", "s");
    let space = f.another_space(&f.organization, "other").await;
    f.register(&broker, "broker", Some(&space)).await;
    assert!(f.uaa_clients.lock().unwrap().contains_key("own"));
    f.delete(&format!("/v3/spaces/{space}")).await;
    wait_for("the end of the client", async || {
        (!f.uaa_clients.lock().unwrap().contains_key("own")).then_some(())
    })
    .await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dashboard_asks_with_its_users_token_what_the_user_may_do() {
    let f = Foundation::start().await;
    let guid = f.create_instance("db", json!({})).await;
    let roles = [
        ("organization_user", "organization", f.organization.as_str()),
        ("space_auditor", "space", f.space.as_str()),
    ];
    f.user("dev", &roles).await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let token = sign(&json!({
        "user_id": "dev-guid", "user_name": "dev", "origin": "uaa", "client_id": "db-dashboard", "cid": "db-dashboard",
        "scope": ["openid", "cloud_controller_service_permissions.read"],
        "aud": ["db-dashboard", "openid", "cloud_controller_service_permissions"],
        "exp": now + 600, "iat": now, "jti": "dashboard-token", "iss": ISSUER,
    }));
    let instance = format!("/v3/service_instances/{guid}");
    let path = format!("{instance}/permissions");
    let (status, answer) = f.call_as(&token, Method::GET, &path, None).await;
    assert_eq!(
        (status, answer),
        (200, json!({ "manage": false, "read": true }))
    );
    for other in [instance.as_str(), "/v3/apps", "/v3/service_instances"] {
        let (status, answer) = f.call_as(&token, Method::GET, other, None).await;
        assert_eq!(status, 403, "{other}: {answer}");
    }
    f.finish().await;
}
