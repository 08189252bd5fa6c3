//! Managed service instances: what they show, what their brokers receive, and how they are changed, upgraded, shared and removed.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::broker::{Broker, Call};

pub(crate) const INSTANCES: &str = "/v3/service_instances";

/// Returns the guid of what a job has made.
pub(crate) fn made(job: &Value, noun: &str) -> String {
    let href = job["links"][noun]["href"].as_str().unwrap();
    href.rsplit('/').next().unwrap().to_owned()
}

/// Returns the code of the only error of an answer or a job.
pub(crate) fn code(answer: &Value) -> Option<i64> {
    detail(answer);
    answer["errors"][0]["code"].as_i64()
}

impl Foundation {
    pub(crate) fn managed_body(&self, name: &str, plan: &str) -> Value {
        json!({ "type": "managed", "name": name, "relationships": {
            "space": { "data": { "guid": self.space } },
            "service_plan": { "data": { "guid": plan } },
        } })
    }

    /// Registers a broker whose plans everybody may use, and returns the plans `small` and `big`.
    pub(crate) async fn offer(&self, broker: &Broker, name: &str) -> (String, String) {
        let guid = self.register(broker, name, None).await;
        let small = self.plan_of(&guid, "small").await;
        let big = self.plan_of(&guid, "big").await;
        for plan in [&small, &big] {
            self.set_visibility(plan, json!({ "type": "public" })).await;
        }
        (small, big)
    }

    /// Sends a request that begins a job, and returns the job when it has succeeded.
    pub(crate) async fn done(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, job) = self.job_of(&self.admin, method, path, body).await;
        assert_eq!((status, &job["state"]), (202, &json!("COMPLETE")), "{job}");
        job
    }

    /// Sends a request that begins a job, and returns the job when it has failed.
    pub(crate) async fn failed(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, job) = self.job_of(&self.admin, method, path, body).await;
        assert_eq!((status, &job["state"]), (202, &json!("FAILED")), "{job}");
        job
    }

    /// Creates a managed instance in the fixture's space, and returns its guid when its broker has made it.
    pub(crate) async fn create_managed(&self, name: &str, plan: &str) -> String {
        let body = self.managed_body(name, plan);
        let job = self.done(Method::POST, INSTANCES, body).await;
        made(&job, "service_instances")
    }

    /// Returns the last operation of an instance or a binding.
    pub(crate) async fn operation(&self, path: &str) -> (String, String, String) {
        let operation = self.get(path).await["last_operation"].clone();
        let text = |key: &str| operation[key].as_str().unwrap_or_default().to_owned();
        (text("type"), text("state"), text("description"))
    }

    async fn usage_of(&self, instance: &str) -> Vec<Value> {
        let list = self.get("/v3/service_usage_events?per_page=1000").await;
        let rows = list["resources"].as_array().unwrap().clone();
        let mut rows: Vec<Value> = rows
            .into_iter()
            .filter(|row| row["service_instance"]["guid"] == instance)
            .collect();
        rows.sort_by_key(|row| row["created_at"].as_str().unwrap().to_owned());
        rows
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_made_shown_changed_and_removed() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let (small, big) = f.offer(&broker, "broker").await;
    let mut body = f.managed_body("db", &small);
    body["tags"] = json!(["own"]);
    body["parameters"] = json!({ "z": 1, "a": "s3cret" });
    body["metadata"] = json!({ "annotations": { "example.com/seen": "x", "own": "y" } });
    let job = f.done(Method::POST, INSTANCES, body).await;
    assert_eq!(job["operation"], "service_instance.create");
    let guid = made(&job, "service_instances");
    let path = format!("{INSTANCES}/{guid}");

    let sent = broker.calls(Call::Provision).remove(0);
    assert_eq!(sent.path, format!("/v2/service_instances/{guid}"));
    assert_eq!(sent.query["accepts_incomplete"], "true");
    assert_eq!(sent.body["service_id"], "db-id");
    assert_eq!(sent.body["plan_id"], "db-small-id");
    assert_eq!(sent.body["parameters"], json!({ "z": 1, "a": "s3cret" }));
    assert_eq!(sent.body["space_guid"], json!(f.space));
    let context = &sent.body["context"];
    assert_eq!(context["instance_name"], "db");
    assert_eq!(
        context["instance_annotations"],
        json!({ "example.com/seen": "x" })
    );

    let shown = f.get(&path).await;
    let link = |path: &str| json!({ "href": format!("http://api.test{path}") });
    assert_eq!(shown["type"], "managed");
    assert_eq!(
        shown["dashboard_url"],
        format!("http://dashboard.test/{guid}")
    );
    assert_eq!(shown["maintenance_info"], json!({}));
    assert_eq!(shown["upgrade_available"], false);
    assert_eq!(
        shown["relationships"]["service_plan"]["data"]["guid"],
        json!(small)
    );
    assert_eq!(
        shown["links"]["service_plan"],
        link(&format!("/v3/service_plans/{small}"))
    );
    assert_eq!(
        shown["links"]["shared_spaces"],
        link(&format!("{path}/relationships/shared_spaces"))
    );
    assert!(shown.get("syslog_drain_url").is_none(), "{shown}");
    assert!(shown["links"].get("credentials").is_none(), "{shown}");
    let parameters = f.text(&format!("{path}/parameters")).await;
    assert_eq!(
        serde_json::from_str::<Value>(&parameters).unwrap()["a"],
        "s3cret"
    );

    // The broker need not know of tags and of a name.
    let requests = broker.requests().len();
    let change = json!({ "name": "database", "tags": ["new"] });
    let changed = f.send(Method::PATCH, &path, change).await;
    assert_eq!(changed["name"], "database");
    assert_eq!(changed["tags"], json!(["new"]));
    assert_eq!(broker.requests().len(), requests);
    // It must know of parameters and of a plan.
    let change = json!({ "parameters": { "b": 2 }, "relationships": { "service_plan": { "data": { "guid": big } } } });
    let job = f.done(Method::PATCH, &path, change).await;
    assert_eq!(job["operation"], "service_instance.update");
    let sent = broker.calls(Call::Update).remove(0);
    assert_eq!(sent.body["plan_id"], "db-big-id");
    assert_eq!(sent.body["previous_values"]["plan_id"], "db-small-id");
    assert_eq!(sent.body["parameters"], json!({ "b": 2 }));
    assert_eq!(sent.body["maintenance_info"], json!({ "version": "1.0.0" }));
    let shown = f.get(&path).await;
    assert_eq!(
        shown["relationships"]["service_plan"]["data"]["guid"],
        json!(big)
    );
    assert_eq!(shown["maintenance_info"], json!({ "version": "1.0.0" }));
    assert_eq!(shown["upgrade_available"], false);

    let job = f.done(Method::DELETE, &path, json!({})).await;
    assert_eq!(job["operation"], "service_instance.delete");
    assert_eq!(f.call(Method::GET, &path, None).await.0, 404);
    assert!(broker.instances().is_empty());

    let events = f
        .get(&format!("/v3/audit_events?target_guids={guid}"))
        .await;
    assert!(!events.to_string().contains("s3cret"), "{events}");
    let kind = |verb: &str| format!("audit.service_instance.{verb}");
    assert_eq!(
        f.event_types(&format!("target_guids={guid}")).await,
        [
            kind("create"),
            kind("update"),
            kind("update"),
            kind("delete")
        ]
    );
    let request = &events["resources"][0]["data"]["request"];
    assert_eq!(request["parameters"], "[PRIVATE DATA HIDDEN]");
    let used = f.usage_of(&guid).await;
    let states: Vec<&str> = used.iter().map(|e| e["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["CREATED", "UPDATED", "UPDATED", "DELETED"]);
    assert_eq!(used[0]["service_plan"]["name"], "small");
    assert_eq!(used[2]["service_plan"]["name"], "big");
    assert_eq!(used[3]["service_broker"]["name"], "broker");
    assert_eq!(
        used[3]["service_instance"]["type"],
        "managed_service_instance"
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_in_the_background_are_followed() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let (small, _) = f.offer(&broker, "broker").await;
    broker.work_in_background(Some(1));
    let body = f.managed_body("db", &small);
    let (status, _) = f.call(Method::POST, INSTANCES, Some(body)).await;
    assert_eq!(status, 202);
    let list = f.get(&format!("{INSTANCES}?names=db")).await;
    let guid = list["resources"][0]["guid"].as_str().unwrap().to_owned();
    let path = format!("{INSTANCES}/{guid}");
    wait_for("the answer of the broker", async || {
        (f.operation(&path).await.1 == "in progress").then_some(())
    })
    .await;
    // Meanwhile nothing else changes it.
    let change = Some(json!({ "tags": ["x"] }));
    let (status, answer) = f.call(Method::PATCH, &path, change).await;
    assert_eq!((status, code(&answer)), (409, Some(60_016)));
    let app = f.create_app("app").await;
    let binding = json!({ "type": "app", "relationships": { "app": { "data": { "guid": app } }, "service_instance": { "data": { "guid": guid } } } });
    let bindings = "/v3/service_credential_bindings";
    let (status, answer) = f.call(Method::POST, bindings, Some(binding)).await;
    assert_eq!(status, 422);
    assert_eq!(
        detail(&answer),
        "There is an operation in progress for the service instance"
    );
    wait_for("the instance", async || {
        (f.operation(&path).await.1 == "succeeded").then_some(())
    })
    .await;
    assert_eq!(
        f.get(&path).await["dashboard_url"],
        format!("http://dashboard.test/{guid}")
    );
    let change = json!({ "parameters": {} });
    f.done(Method::PATCH, &path, change).await;
    assert_eq!(
        f.operation(&path).await,
        ("update".into(), "succeeded".into(), String::new())
    );
    f.done(Method::DELETE, &path, json!({})).await;
    assert!(broker.instances().is_empty());
    let kind = |verb: &str| format!("audit.service_instance.{verb}");
    let verbs = [
        "start_create",
        "create",
        "start_update",
        "update",
        "start_delete",
        "delete",
    ];
    assert_eq!(
        f.event_types(&format!("target_guids={guid}")).await,
        verbs.map(kind)
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_upgraded_to_the_version_of_its_plan() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let (small, big) = f.offer(&broker, "broker").await;
    let list = f.get("/v3/service_brokers?names=broker").await;
    let registered = list["resources"][0]["guid"].as_str().unwrap().to_owned();
    let guid = f.create_managed("db", &big).await;
    let path = format!("{INSTANCES}/{guid}");
    let upgrade = |version: &str| json!({ "maintenance_info": { "version": version } });
    broker.change_catalog(|catalog| {
        catalog["services"][0]["plans"][1]["maintenance_info"]["version"] = json!("2.0.0");
    });
    let job = f.synchronize(&registered, &broker.url).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert_eq!(f.get(&path).await["upgrade_available"], true);
    for (body, text) in [
        (
            upgrade("1"),
            "Maintenance info Version must be a Semantic Version string",
        ),
        (
            upgrade("3.0.0"),
            "maintenance_info.version requested is invalid.",
        ),
        (
            json!({ "maintenance_info": { "version": "2.0.0" }, "relationships": { "service_plan": { "data": { "guid": small } } } }),
            "maintenance_info should not be changed when switching to different plan.",
        ),
    ] {
        let (status, answer) = f.call(Method::PATCH, &path, Some(body)).await;
        assert_eq!(status, 422, "{answer}");
        assert!(detail(&answer).starts_with(text), "{answer}");
    }
    f.done(Method::PATCH, &path, upgrade("2.0.0")).await;
    let sent = broker.calls(Call::Update).remove(0);
    assert_eq!(sent.body["maintenance_info"], json!({ "version": "2.0.0" }));
    assert_eq!(
        sent.body["previous_values"]["maintenance_info"]["version"],
        "1.0.0"
    );
    let shown = f.get(&path).await;
    assert_eq!(shown["upgrade_available"], false);
    assert_eq!(shown["maintenance_info"]["version"], "2.0.0");
    // An upgrade to the same version has no effect.
    let requests = broker.requests().len();
    f.send(Method::PATCH, &path, upgrade("2.0.0")).await;
    assert_eq!(broker.requests().len(), requests);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_requests_are_refused_before_a_broker_receives_them() {
    let f = Foundation::start().await;
    let (broker, other) = (Broker::start("db").await, Broker::start("queue").await);
    let (small, _) = f.offer(&broker, "broker").await;
    let (foreign, _) = f.offer(&other, "other").await;
    let third = Broker::start("cache").await;
    let hidden = f.register(&third, "third", None).await;
    let hidden = f.plan_of(&hidden, "small").await;
    let guid = f.create_managed("db", &small).await;
    let path = format!("{INSTANCES}/{guid}");
    let requests = broker.requests().len();
    let with = |key: &str, value: Value| {
        let mut body = f.managed_body("x", &small);
        body[key] = value;
        body
    };
    for (body, text) in [
        (
            f.managed_body("db", &small),
            "The service instance name is taken: db.",
        ),
        (
            with("parameters", json!("x")),
            "Parameters must be an object",
        ),
        (
            with("credentials", json!({ "a": 1 })),
            "Unknown field(s): 'credentials'",
        ),
        (
            f.managed_body("x", &hidden),
            "Invalid service plan. This could be due to a space-scoped broker",
        ),
    ] {
        let (status, answer) = f.call(Method::POST, INSTANCES, Some(body)).await;
        assert_eq!(status, 422, "{answer}");
        assert!(detail(&answer).starts_with(text), "{answer}");
    }
    let plan =
        |guid: &str| json!({ "relationships": { "service_plan": { "data": { "guid": guid } } } });
    let (status, answer) = f.call(Method::PATCH, &path, Some(plan(&foreign))).await;
    assert_eq!((status, code(&answer)), (400, Some(1002)), "{answer}");
    let (status, answer) = f
        .call(Method::GET, &format!("{path}/credentials"), None)
        .await;
    assert_eq!(status, 404, "{answer}");
    assert_eq!(broker.requests().len(), requests);

    // A plan that the catalog lost makes no new instances, and old ones change only what the broker need not know.
    broker.change_catalog(|catalog| {
        let plans = catalog["services"][0]["plans"].as_array_mut();
        plans.unwrap().remove(0);
    });
    let list = f.get("/v3/service_brokers?names=broker").await;
    let registered = list["resources"][0]["guid"].as_str().unwrap().to_owned();
    f.synchronize(&registered, &broker.url).await;
    let body = f.managed_body("new", &small);
    let (status, answer) = f.call(Method::POST, INSTANCES, Some(body)).await;
    assert_eq!(status, 422);
    assert!(
        detail(&answer).contains("has been removed from the service broker's catalog"),
        "{answer}"
    );
    let change = Some(json!({ "parameters": { "a": 1 } }));
    let (status, answer) = f.call(Method::PATCH, &path, change).await;
    assert_eq!(status, 422);
    assert_eq!(
        detail(&answer),
        "Cannot update parameters of a service instance that belongs to inaccessible plan"
    );
    f.send(Method::PATCH, &path, json!({ "tags": ["x"] })).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_limit_instances_keys_and_plans_that_are_not_free() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let (small, big) = f.offer(&broker, "broker").await;
    for (path, related, place) in [
        (
            "/v3/organization_quotas",
            json!({ "organizations": { "data": [{ "guid": f.organization }] } }),
            "organization",
        ),
        (
            "/v3/space_quotas",
            json!({ "organization": { "data": { "guid": f.organization } }, "spaces": { "data": [{ "guid": f.space }] } }),
            "space",
        ),
    ] {
        let services = |instances: i64, keys: i64, paid: bool| {
            json!({ "services": {
                "paid_services_allowed": paid, "total_service_instances": instances, "total_service_keys": keys,
            } })
        };
        let mut body = services(1, 1, false);
        body["name"] = json!("tight");
        body["relationships"] = related;
        let quota = f.send(Method::POST, path, body).await;
        let quota = format!("{path}/{}", quota["guid"].as_str().unwrap());
        let refused = async |path: &str, body: Value, text: String| {
            let (status, answer) = f.call(Method::POST, path, Some(body)).await;
            assert_eq!((status, detail(&answer)), (422, text.as_str()));
        };
        let paid = match place {
            "space" => " for your space",
            _ => "",
        };
        let paid = format!(
            "The service instance cannot be created because paid service plans are not allowed{paid}."
        );
        refused(INSTANCES, f.managed_body("paid", &big), paid).await;
        let guid = f.create_managed("one", &small).await;
        let full = format!("You have exceeded your {place}'s services limit.");
        refused(INSTANCES, f.managed_body("two", &small), full).await;
        f.create_key(&guid, "k").await;
        let key = f.key_body(&guid, "second");
        let full =
            format!("You have exceeded your {place}'s limit for service binding of type key.");
        refused("/v3/service_credential_bindings", key, full).await;
        let guid_of_place = match place {
            "space" => &f.space,
            _ => &f.organization,
        };
        let summary = format!("/v3/{place}s/{guid_of_place}/usage_summary");
        let used = f.get(&summary).await["usage_summary"].clone();
        assert_eq!(
            (&used["service_instances"], &used["service_keys"]),
            (&json!(1), &json!(1))
        );
        // A user-provided instance is not counted.
        let provided = f.create_instance("provided", json!({})).await;
        f.delete(&format!("{INSTANCES}/{provided}")).await;
        f.done(Method::DELETE, &format!("{INSTANCES}/{guid}"), json!({}))
            .await;
        f.send(Method::PATCH, &quota, services(100, 100, true))
            .await;
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purging_leaves_the_broker_alone() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let (small, _) = f.offer(&broker, "broker").await;
    let guid = f.create_managed("db", &small).await;
    let app = f.create_app("app").await;
    let (binding, key) = (
        f.bind_managed(&app, &guid).await,
        f.create_key(&guid, "k").await,
    );
    let requests = broker.requests().len();
    let path = format!("{INSTANCES}/{guid}?purge=true");
    let roles: &[(&str, &str, &str)] = &[
        ("organization_user", "organization", &f.organization),
        ("space_developer", "space", &f.space),
    ];
    let developer = f.user("dev", roles).await;
    let (status, _) = f.call_as(&developer, Method::DELETE, &path, None).await;
    assert_eq!(status, 403, "the plan belongs to the platform");
    let (status, _) = f.call(Method::DELETE, &path, None).await;
    assert_eq!(status, 204);
    assert_eq!(broker.requests().len(), requests);
    assert_eq!(broker.instances(), [guid.clone()]);
    let events = format!("target_guids={guid},{binding},{key}");
    let events = f.event_types(&events).await;
    for kind in [
        "audit.service_instance.purge",
        "audit.service_binding.delete",
        "audit.service_key.delete",
    ] {
        assert!(events.contains(&kind.to_owned()), "{kind}: {events:?}");
    }
    // The offering can be purged with its instances as well.
    let second = f.create_managed("db", &small).await;
    let requests = broker.requests().len();
    let offerings = f.get("/v3/service_offerings").await;
    let offering = offerings["resources"][0]["guid"].as_str().unwrap();
    f.delete(&format!("/v3/service_offerings/{offering}?purge=true"))
        .await;
    let path = format!("{INSTANCES}/{second}");
    assert_eq!(f.call(Method::GET, &path, None).await.0, 404);
    assert_eq!(broker.requests().len(), requests);
    f.finish().await;
}
