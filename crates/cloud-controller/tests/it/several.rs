//! Several Cloud Controllers on one database server behave as one.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::broker::{Broker, Call, Fault};
use testkit::components::CloudController;
use testkit::wait::until;

/// Sends a request to one of the Cloud Controllers.
async fn call(
    f: &Foundation,
    at: &CloudController,
    method: Method,
    path: &str,
    body: Value,
) -> (u16, Value) {
    let request = f
        .http
        .request(method, format!("{}{path}", at.url))
        .header("authorization", format!("bearer {}", f.admin))
        .json(&body);
    testkit::http::answer(request.send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_cloud_controllers_share_a_database_server() {
    if !postgres::is_chosen() {
        eprintln!("skipped: a file has only one Cloud Controller");
        return;
    }
    let f = Foundation::start_syncing(Duration::from_millis(100)).await;
    let mut second = f.second().await;
    one_of_two_gets_the_name(&f, &second).await;
    the_newest_scale_wins(&f, &second).await;
    a_job_of_one_is_seen_by_the_other(&f, &second).await;
    a_broker_is_called_by_one_of_them(&f).await;
    an_instance_is_made_by_one_of_them(&f).await;
    until("a sync of each of them", || {
        f.last_sync().is_some() && second.last_sync.read().is_some()
    })
    .await;
    second.stop().await;
    f.finish().await;
}

async fn one_of_two_gets_the_name(f: &Foundation, second: &CloudController) {
    let body = |name: &str| json!({ "name": name, "relationships": { "space": { "data": { "guid": f.space } } } });
    for name in ["a", "b", "c"] {
        let (first, other) = tokio::join!(
            f.call(Method::POST, "/v3/apps", Some(body(name))),
            call(f, second, Method::POST, "/v3/apps", body(name)),
        );
        let mut statuses = [first.0, other.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 422], "{first:?} {other:?}");
    }
}

async fn the_newest_scale_wins(f: &Foundation, second: &CloudController) {
    let app = f.started_app("scaled").await;
    let path = format!("/v3/processes/{app}/actions/scale");
    for instances in 1..6 {
        let (first, other) = tokio::join!(
            f.call(Method::POST, &path, Some(json!({ "instances": instances }))),
            call(
                f,
                second,
                Method::POST,
                &path,
                json!({ "instances": instances + 10 })
            ),
        );
        assert_eq!((first.0, other.0), (202, 202), "{first:?} {other:?}");
    }
    let (_, process) = call(
        f,
        second,
        Method::GET,
        &format!("/v3/processes/{app}"),
        json!({}),
    )
    .await;
    let wanted = process["instances"].as_i64().unwrap();
    wait_for("the BBS has the newest number of instances", async || {
        let lrps = f.lrps(&app).await;
        lrps.len() == 1 && i64::from(lrps[0].instances) == wanted
    })
    .await;
    // Each change of the number is one event, in the same order for both.
    let events = "/v3/app_usage_events?per_page=1000";
    let (_, theirs) = call(f, second, Method::GET, events, json!({})).await;
    assert_eq!(f.get(events).await["resources"], theirs["resources"]);
}

async fn a_job_of_one_is_seen_by_the_other(f: &Foundation, second: &CloudController) {
    let (organization, _) = f.another_place("short-lived").await;
    let path = format!("/v3/organizations/{organization}");
    let (status, body) = call(f, second, Method::DELETE, &path, json!({})).await;
    assert_eq!(status, 202, "{body}");
    wait_for("the organization is removed", async || {
        f.call(Method::GET, &path, None).await.0 == 404
    })
    .await;
}

async fn a_broker_is_called_by_one_of_them(f: &Foundation) {
    let broker = Broker::start("db").await;
    // Both look at the job while the call is under way, and its lease is renewed meanwhile.
    broker.next(Call::Catalog, Fault::Slow(Duration::from_secs(9)));
    f.register(&broker, "broker", None).await;
    assert_eq!(broker.calls(Call::Catalog).len(), 1);
}

async fn an_instance_is_made_by_one_of_them(f: &Foundation) {
    let broker = Broker::start("cache").await;
    let (plan, _) = f.offer(&broker, "caches").await;
    broker.next(Call::Provision, Fault::Slow(Duration::from_secs(9)));
    let guid = f.create_managed("cache", &plan).await;
    assert_eq!(broker.calls(Call::Provision).len(), 1);
    assert_eq!(broker.instances(), [guid]);
}
