//! Brokers with faults, and Cloud Controllers that end in the middle: no operation is lost, and nothing is left at a broker.

use crate::fixture::*;
use crate::managed_instances::{INSTANCES, code, made};
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::broker::{Broker, Call, Fault};

impl Foundation {
    /// Waits until no job has anything to do.
    pub(crate) async fn idle(&self) {
        let open = "UPDATE jobs SET parts = parts WHERE state IN ('PROCESSING', 'POLLING')";
        wait_for("the end of all jobs", async || match self.sql(open).await {
            0 => Ok(()),
            jobs => Err(format!("{jobs} jobs are open")),
        })
        .await;
    }

    /// Begins to create an instance whose broker does not answer now, and returns its guid.
    async fn begin_managed(&self, name: &str, plan: &str) -> String {
        let body = self.managed_body(name, plan);
        let (status, answer) = self.call(Method::POST, INSTANCES, Some(body)).await;
        assert_eq!(status, 202, "{answer}");
        let list = self.get(&format!("{INSTANCES}?names={name}")).await;
        list["resources"][0]["guid"].as_str().unwrap().to_owned()
    }
}

/// Returns an answer with a description.
fn says(text: &str) -> Value {
    json!({ "description": text })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_broker_answers_nothing_is_left_there() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let (small, _) = f.offer(&broker, "broker").await;
    let elsewhere = Broker::start("queue").await;
    // The second value says whether the broker may have made something.
    let faults = [
        (Fault::Answer(400, says("too small")), false),
        (Fault::Answer(409, json!({})), false),
        (
            Fault::Answer(422, json!({ "error": "AsyncRequired" })),
            false,
        ),
        (Fault::Answer(401, json!({})), false),
        (
            Fault::Redirect(format!("{}/v2/catalog", elsewhere.url)),
            false,
        ),
        (Fault::ActAndAnswer(500, says("out of order")), true),
        (Fault::ActAndText(201, "<html>".to_owned()), true),
        (Fault::ActAndBreak, true),
        (Fault::ActAndLarge(201, 10 << 20), true),
    ];
    for (fault, leaves) in faults {
        broker.forget_requests();
        let shown = format!("{fault:?}");
        broker.next(Call::Provision, fault);
        let body = f.managed_body("db", &small);
        let job = f.failed(Method::POST, INSTANCES, body).await;
        assert_eq!(code(&job), Some(10_009), "{shown}: {job}");
        let guid = made(&job, "service_instances");
        let (kind, state, text) = f.operation(&format!("{INSTANCES}/{guid}")).await;
        assert_eq!((kind.as_str(), state.as_str()), ("create", "failed"));
        assert!(detail(&job).ends_with(&text) && !text.is_empty(), "{job}");
        f.idle().await;
        assert!(broker.instances().is_empty(), "{shown}");
        let removals = broker.calls(Call::Deprovision);
        let removals = removals.iter().filter(|sent| sent.path.ends_with(&guid));
        assert_eq!(removals.count(), usize::from(leaves), "{shown}");
    }
    assert!(
        elsewhere.requests().is_empty(),
        "a redirect is not followed"
    );
    // Each of them had the same name: an instance that was not made does not keep it.
    let list = f.get(INSTANCES).await;
    assert_eq!(list["pagination"]["total_results"], 1);
    let guid = f.create_managed("db", &small).await;
    f.idle().await;
    assert_eq!(broker.instances(), [guid]);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_removal_of_an_orphan_is_repeated() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let (small, _) = f.offer(&broker, "broker").await;
    broker.next(Call::Provision, Fault::ActAndAnswer(500, says("oh")));
    broker.next(Call::Deprovision, Fault::Answer(500, says("no")));
    let body = f.managed_body("db", &small);
    f.failed(Method::POST, INSTANCES, body).await;
    f.idle().await;
    assert!(broker.instances().is_empty());
    assert_eq!(broker.calls(Call::Deprovision).len(), 2);

    // A broker that removes in the background is polled.
    broker.next(Call::Provision, Fault::ActAndAnswer(500, says("oh")));
    broker.work_in_background(Some(0));
    let body = f.managed_body("other", &small);
    f.failed(Method::POST, INSTANCES, body).await;
    f.idle().await;
    assert!(broker.instances().is_empty());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_never_answers_stops_only_its_own_jobs() {
    let f = Foundation::start().await;
    let (slow, quick) = (Broker::start("slow").await, Broker::start("quick").await);
    let (stuck, _) = f.offer(&slow, "slow").await;
    let (small, _) = f.offer(&quick, "quick").await;
    slow.always(Call::Provision, Fault::ActAndHang);
    let bodies: Vec<Value> = (0..20)
        .map(|number| f.managed_body(&format!("stuck-{number}"), &stuck))
        .collect();
    let sent = bodies
        .into_iter()
        .map(|body| f.call(Method::POST, INSTANCES, Some(body)));
    for (status, answer) in futures::future::join_all(sent).await {
        assert_eq!(status, 202, "{answer}");
    }
    let began = std::time::Instant::now();
    f.create_managed("db", &small).await;
    // A call of a test ends after 20 seconds; nobody else waits for that.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    slow.heal(Call::Provision);
    f.idle().await;
    // Those whose calls hung have failed and were removed; the others were made when the broker worked again.
    let list = f.get(&format!("{INSTANCES}?per_page=100")).await;
    let rows = list["resources"].as_array().unwrap();
    let mut alive: Vec<&str> = rows
        .iter()
        .filter(|row| row["last_operation"]["state"] == "succeeded")
        .filter(|row| row["name"] != "db")
        .map(|row| row["guid"].as_str().unwrap())
        .collect();
    alive.sort_unstable();
    assert_eq!(slow.instances(), alive);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_continue_after_a_restart_in_their_middle() {
    let mut f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let (small, _) = f.offer(&broker, "broker").await;
    let ready = f.create_managed("ready", &small).await;
    let app = f.create_app("app").await;
    // The broker has done what was requested, and nobody knows it when the process ends.
    for call in [Call::Provision, Call::Bind] {
        broker.always(call, Fault::ActAndHang);
    }
    let guid = f.begin_managed("db", &small).await;
    let binding = f.binding_body(&app, &ready);
    let bindings = "/v3/service_credential_bindings";
    let (status, _) = f.call(Method::POST, bindings, Some(binding)).await;
    assert_eq!(status, 202);
    wait_for("both requests", async || {
        broker.calls(Call::Provision).len() == 2 && broker.calls(Call::Bind).len() == 1
    })
    .await;
    for call in [Call::Provision, Call::Bind] {
        broker.heal(call);
    }
    f.restart(async |_| {}).await;
    f.idle().await;
    let path = format!("{INSTANCES}/{guid}");
    assert_eq!(f.operation(&path).await.1, "succeeded");
    let mut both = vec![guid.clone(), ready.clone()];
    both.sort_unstable();
    assert_eq!(broker.instances(), both, "none was made twice");
    let list = f.get(bindings).await;
    assert_eq!(list["resources"][0]["last_operation"]["state"], "succeeded");
    assert_eq!(broker.bindings().len(), 1);

    // An operation in the background, and a removal.
    broker.work_in_background(Some(1));
    let change = Some(json!({ "parameters": { "a": 1 } }));
    let (status, _) = f.call(Method::PATCH, &path, change).await;
    assert_eq!(status, 202);
    let (status, _) = f
        .call(Method::DELETE, &format!("{INSTANCES}/{ready}"), None)
        .await;
    assert_eq!(status, 202);
    f.restart(async |_| {}).await;
    f.idle().await;
    assert_eq!(f.operation(&path).await.0, "update");
    assert_eq!(f.operation(&path).await.1, "succeeded");
    assert_eq!(broker.instances(), [guid]);
    assert!(broker.bindings().is_empty());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_instances_are_made_and_removed_at_once() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let (small, _) = f.offer(&broker, "broker").await;
    broker.work_in_background(Some(0));
    let quotas = f.get("/v3/organization_quotas").await;
    let quota = quotas["resources"][0]["guid"].as_str().unwrap();
    let more = json!({ "services": { "total_service_instances": 1000 } });
    f.send(
        Method::PATCH,
        &format!("/v3/organization_quotas/{quota}"),
        more,
    )
    .await;
    let bodies: Vec<Value> = (0..200)
        .map(|number| f.managed_body(&format!("db-{number}"), &small))
        .collect();
    let sent = bodies
        .into_iter()
        .map(|body| f.call(Method::POST, INSTANCES, Some(body)));
    // The Cloud Controller lets 64 requests that write wait.
    let mut sent = futures::stream::iter(sent).buffer_unordered(50);
    while let Some((status, answer)) = sent.next().await {
        assert_eq!(status, 202, "{answer}");
    }
    drop(sent);
    f.idle().await;
    let list = f.get(&format!("{INSTANCES}?per_page=1000")).await;
    let rows = list["resources"].as_array().unwrap();
    let mut guids: Vec<&str> = rows
        .iter()
        .filter(|row| row["last_operation"]["state"] == "succeeded")
        .map(|row| row["guid"].as_str().unwrap())
        .collect();
    guids.sort_unstable();
    assert_eq!(guids.len(), 200);
    assert_eq!(broker.instances(), guids);
    let space = format!("/v3/spaces/{}", f.space);
    f.delete(&space).await;
    f.idle().await;
    assert_eq!(f.call(Method::GET, &space, None).await.0, 404);
    assert!(broker.instances().is_empty());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_removed_while_it_is_being_made() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let (small, _) = f.offer(&broker, "broker").await;
    broker.work_in_background(Some(5));
    let guid = f.begin_managed("db", &small).await;
    let path = format!("{INSTANCES}/{guid}");
    wait_for("the answer of the broker", async || {
        (f.operation(&path).await.1 == "in progress").then_some(())
    })
    .await;
    broker.work_in_background(Some(0));
    f.done(Method::DELETE, &path, json!({})).await;
    f.idle().await;
    assert!(broker.instances().is_empty());
    assert_eq!(f.call(Method::GET, &path, None).await.0, 404);

    // A failure in the background stays visible until the instance is removed.
    broker.fail_in_background(Some("no room"));
    let body = f.managed_body("db", &small);
    let job = f.failed(Method::POST, INSTANCES, body).await;
    assert_eq!(
        detail(&job),
        "create managed could not be completed: no room"
    );
    let path = format!("{INSTANCES}/{}", made(&job, "service_instances"));
    assert_eq!(
        f.operation(&path).await,
        ("create".into(), "failed".into(), "no room".into())
    );
    broker.fail_in_background(None);
    f.done(Method::DELETE, &path, json!({})).await;
    assert!(broker.instances().is_empty());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_ends_with_the_reason_of_its_broker_and_can_be_repeated() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let (small, _) = f.offer(&broker, "broker").await;
    let guid = f.create_managed("db", &small).await;
    let app = f.create_app("app").await;
    f.bind_managed(&app, &guid).await;
    let path = format!("{INSTANCES}/{guid}");
    let refuses = || Fault::Answer(500, says("not now"));
    broker.always(Call::Unbind, refuses());
    let job = f.failed(Method::DELETE, &path, json!({})).await;
    assert!(detail(&job).contains("not now"), "{job}");
    let (kind, state, text) = f.operation(&path).await;
    assert_eq!((kind.as_str(), state.as_str()), ("delete", "failed"));
    assert!(text.contains("not now"), "{text}");

    let space = format!("/v3/spaces/{}", f.space);
    let job = f.failed(Method::DELETE, &space, json!({})).await;
    assert_eq!(code(&job), Some(290_008), "{job}");
    assert!(detail(&job).contains("not now"), "{job}");
    let job = f
        .failed(Method::DELETE, &format!("/v3/apps/{app}"), json!({}))
        .await;
    assert!(detail(&job).contains("not now"), "{job}");

    broker.heal(Call::Unbind);
    broker.next(Call::Deprovision, refuses());
    let job = f.failed(Method::DELETE, &path, json!({})).await;
    assert_eq!(
        detail(&job),
        "delete could not be completed: Service instance db: Service broker error: not now"
    );
    let place = format!("/v3/organizations/{}", f.organization);
    f.done(Method::DELETE, &place, json!({})).await;
    assert!(broker.instances().is_empty() && broker.bindings().is_empty());
    let calls: Vec<Call> = broker.requests().iter().map(|one| one.call).collect();
    assert_eq!(calls.last(), Some(&Call::Deprovision));
    f.finish().await;
}
