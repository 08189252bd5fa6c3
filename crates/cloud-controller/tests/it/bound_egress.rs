//! Egress rules that service bindings add: for the addresses that the operator named, for bound apps, and for no others.

use crate::fixture::{Foundation, wait_for};
use cloud_controller::BoundEgress;
use reqwest::Method;
use serde_json::json;
use testkit::broker::Broker;

const ADDRESS: &str = "198.51.100.7";

async fn unbind_app(f: &Foundation, binding: &str) {
    let path = format!("/v3/service_credential_bindings/{binding}");
    f.done(Method::DELETE, &path, json!({})).await;
}

/// Returns the addresses and ports of the tests' range that an app's instances may reach.
async fn reached(f: &Foundation, app: &str) -> Vec<(String, Vec<u32>)> {
    let lrp = f.lrps(app).await.remove(0);
    let rules = lrp.egress_rules.into_iter();
    rules
        .filter(|rule| {
            rule.destinations
                .iter()
                .any(|to| to.starts_with("198.51.100."))
        })
        .map(|rule| (rule.destinations.join(","), rule.ports))
        .collect()
}

/// Waits until an app reaches exactly the address that bindings open.
async fn opened(f: &Foundation, app: &str) {
    let wanted = [(ADDRESS.to_owned(), vec![5432])];
    wait_for("the rule of the binding", async || {
        let found = reached(f, app).await;
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
}

/// Starts a foundation whose bindings at a broker open an address, and returns a plan of that broker.
async fn opening(broker: &Broker, space: bool) -> (Foundation, String) {
    let mut f = Foundation::start().await;
    f.settings.bound_egress = vec![BoundEgress {
        broker_url: broker.url.clone(),
        addresses: vec![format!("{ADDRESS}:5432").parse().unwrap()],
    }];
    f.restart(async |_| {}).await;
    let own = space.then(|| f.space.clone());
    let registered = f.register(broker, "db", own.as_deref()).await;
    let plan = f.plan_of(&registered, "small").await;
    if !space {
        f.set_visibility(&plan, json!({ "type": "public" })).await;
    }
    (f, plan)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_opens_one_address_and_its_removal_closes_it() {
    let broker = Broker::start("db").await;
    let (f, plan) = opening(&broker, false).await;
    // An answer of the broker opens nothing.
    broker.add_to_bindings(
        json!({ "endpoints": [{ "host": "198.51.100.8", "ports": ["22"], "protocol": "tcp" }] }),
    );
    let (app, other) = (f.started_app("app").await, f.started_app("other").await);
    let instance = f.create_managed("one", &plan).await;
    assert!(reached(&f, &app).await.is_empty());

    let binding = f.bind_managed(&app, &instance).await;
    opened(&f, &app).await;
    assert!(reached(&f, &other).await.is_empty());
    // A task of the app has the rule as well.
    let body = json!({ "command": "sleep 9", "name": "t" });
    let task = f
        .send(Method::POST, &format!("/v3/apps/{app}/tasks"), body)
        .await;
    let task = task["guid"].as_str().unwrap();
    let found = wait_for("the task at the BBS", async || f.bbs.task(task).await).await;
    let rules = found.task_definition.unwrap().egress_rules;
    let has_rule = rules.iter().any(|rule| rule.destinations == [ADDRESS]);
    assert!(has_rule, "{rules:?}");

    // A second binding of the app adds no second rule, and the rule stays until the last one is gone.
    let second = f.create_managed("two", &plan).await;
    let further = f.bind_managed(&app, &second).await;
    opened(&f, &app).await;
    unbind_app(&f, &binding).await;
    opened(&f, &app).await;
    unbind_app(&f, &further).await;
    wait_for("the end of the rule", async || {
        reached(&f, &app).await.is_empty()
    })
    .await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_of_a_space_opens_nothing() {
    let broker = Broker::start("db").await;
    let (f, plan) = opening(&broker, true).await;
    let app = f.started_app("app").await;
    let instance = f.create_managed("one", &plan).await;
    f.bind_managed(&app, &instance).await;
    assert!(reached(&f, &app).await.is_empty());
    f.finish().await;
}
