//! The catalogs of service brokers: what follows from their changes, and which are refused.

use crate::fixture::*;
use crate::service_brokers::BROKERS;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use testkit::broker::{Broker, catalog};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_that_changed_is_followed() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let guid = f.register(&broker, "broker", None).await;
    let (small, big) = (
        f.plan_of(&guid, "small").await,
        f.plan_of(&guid, "big").await,
    );
    let instance = f.instance_of_plan("db", &big).await;
    // The big plan, which has an instance, disappears; the small one gets another name; a new one comes.
    broker.change_catalog(|catalog| {
        let plans = catalog["services"][0]["plans"].as_array_mut().unwrap();
        plans.remove(1);
        plans[0]["name"] = json!("tiny");
        plans.push(json!({ "id": "new-id", "name": "new", "description": "d" }));
    });
    let job = f.synchronize(&guid, &broker.url).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    let warning = job["warnings"][0]["detail"].as_str().unwrap();
    let end = "\nService Offering: db\nPlans deactivated: big\n";
    assert!(warning.ends_with(end), "{warning}");
    assert_eq!(f.plan_names("").await, ["big", "new", "tiny"]);
    assert_eq!(f.plan_names("available=true").await, ["new", "tiny"]);
    assert_eq!(f.plan_of(&guid, "tiny").await, small);
    assert_eq!(
        f.event_types(&format!("target_guids={small}")).await,
        ["audit.service_plan.create", "audit.service_plan.update"]
    );

    // A broker with instances cannot be removed, and a plan neither.
    let path = format!("{BROKERS}/{guid}");
    let (status, answer) = f.call(Method::DELETE, &path, None).await;
    assert_eq!(
        (status, answer["errors"][0]["code"].as_i64()),
        (422, Some(270_010))
    );
    let plan = format!("/v3/service_plans/{big}");
    let (status, answer) = f.call(Method::DELETE, &plan, None).await;
    assert_eq!(status, 422);
    assert!(detail(&answer).contains("service_instances"), "{answer}");

    // Without the instance, the plan and then the offering disappear.
    f.delete(&format!("/v3/service_instances/{instance}")).await;
    broker.set_catalog(catalog("other"));
    let job = f.synchronize(&guid, &broker.url).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert_eq!(job["warnings"], json!([]));
    let offerings = f.get("/v3/service_offerings").await;
    assert_eq!(offerings["pagination"]["total_results"], 1);
    assert_eq!(offerings["resources"][0]["name"], "other");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_fails_leaves_everything_as_it_was() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let guid = f.register(&broker, "broker", None).await;
    let path = format!("{BROKERS}/{guid}");
    let before = f.get(&path).await;
    let wrong = json!({
        "name": "new-name",
        "authentication": { "type": "basic", "credentials": { "username": "u", "password": "wrong" } },
        "metadata": { "labels": { "a": "b" } },
    });
    let (status, job) = f.job_of(&f.admin, Method::PATCH, &path, wrong).await;
    assert_eq!((status, &job["state"]), (202, &json!("FAILED")), "{job}");
    let after = f.get(&path).await;
    for key in ["name", "url", "metadata"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    // The old password still works.
    let job = f.synchronize(&guid, &broker.url).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");

    // Two offerings of one name cannot be distinguished while the old one has instances.
    let plan = f.plan_of(&guid, "small").await;
    f.instance_of_plan("db", &plan).await;
    broker.change_catalog(|catalog| {
        catalog["services"][0]["id"] = json!("another-id");
        catalog["services"][0]["plans"][0]["id"] = json!("another-small-id");
        catalog["services"][0]["plans"][1]["id"] = json!("another-big-id");
    });
    let job = f.synchronize(&guid, &broker.url).await;
    assert_eq!(job["state"], "FAILED", "{job}");
    assert!(
        detail(&job).contains("Services with names [\"db\"] already exist"),
        "{job}"
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_is_bounded() {
    let limits = cloud_controller::Limits {
        plans_per_broker: 1,
        service_brokers_per_space: 1,
        ..cloud_controller::Limits::default()
    };
    let f = Foundation::start_limited(Duration::from_secs(3600), limits).await;
    let broker = Broker::start("db").await;
    let body = f.broker_body(&broker.url, "broker", Some(&f.space));
    let (_, job) = f.job_of(&f.admin, Method::POST, BROKERS, body).await;
    assert_eq!(job["state"], "FAILED", "{job}");
    let text = "The catalog has 2 plans; a catalog may have at most 1";
    assert!(detail(&job).contains(text), "{job}");
    let body = f.broker_body(&broker.url, "second", Some(&f.space));
    let (status, answer) = f.call(Method::POST, BROKERS, Some(body)).await;
    assert_eq!(status, 422);
    assert!(detail(&answer).contains("at most 1"), "{answer}");
    f.finish().await;
}
