//! Service brokers: how they are registered, changed and removed, and that none of their faults harms anybody.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::broker::{Broker, Call, Fault, PASSWORD, USER as BROKER_USER};

pub(crate) const BROKERS: &str = "/v3/service_brokers";

impl Foundation {
    /// Sends a request as a caller and returns its status, and the job that it began when that has ended. A refusal is returned as it is.
    pub(crate) async fn job_of(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .header("authorization", format!("bearer {token}"))
            .json(&body);
        let response = request.send().await.unwrap();
        let location = response.headers().get("location").cloned();
        let (status, body) = answer(response).await;
        match location {
            Some(location) => {
                let path = location.to_str().unwrap();
                let path = path.strip_prefix("http://api.test").unwrap();
                (status, self.ended_job(path).await)
            }
            None => (status, body),
        }
    }

    /// Returns the body that registers a broker.
    pub(crate) fn broker_body(&self, url: &str, name: &str, space: Option<&str>) -> Value {
        let credentials = json!({ "username": BROKER_USER, "password": PASSWORD });
        let mut body = json!({
            "name": name,
            "url": url,
            "authentication": { "type": "basic", "credentials": credentials },
        });
        if let Some(space) = space {
            body["relationships"] = json!({ "space": { "data": { "guid": space } } });
        }
        body
    }

    /// Registers a broker and returns its guid when its catalog is stored.
    pub(crate) async fn register(
        &self,
        broker: &Broker,
        name: &str,
        space: Option<&str>,
    ) -> String {
        let body = self.broker_body(&broker.url, name, space);
        let (status, job) = self.job_of(&self.admin, Method::POST, BROKERS, body).await;
        assert_eq!((status, &job["state"]), (202, &json!("COMPLETE")), "{job}");
        self.broker_named(name).await
    }

    pub(crate) async fn broker_named(&self, name: &str) -> String {
        let list = self.get(&format!("{BROKERS}?names={name}")).await;
        list["resources"][0]["guid"].as_str().unwrap().to_owned()
    }

    /// Returns the first offering of a broker.
    pub(crate) async fn offering_of(&self, broker: &str) -> String {
        let path = format!("/v3/service_offerings?service_broker_guids={broker}");
        let list = self.get(&path).await;
        list["resources"][0]["guid"].as_str().unwrap().to_owned()
    }

    /// Returns a plan of a broker by its name.
    pub(crate) async fn plan_of(&self, broker: &str, name: &str) -> String {
        let path = format!("/v3/service_plans?service_broker_guids={broker}&names={name}");
        let list = self.get(&path).await;
        list["resources"][0]["guid"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn set_visibility(&self, plan: &str, body: Value) -> Value {
        let path = format!("/v3/service_plans/{plan}/visibility");
        self.send(Method::PATCH, &path, body).await
    }

    /// Fetches the catalog of a broker again, and returns the job.
    pub(crate) async fn synchronize(&self, broker: &str, url: &str) -> Value {
        let path = format!("{BROKERS}/{broker}");
        let body = json!({ "url": url });
        let (status, job) = self.job_of(&self.admin, Method::PATCH, &path, body).await;
        assert_eq!(status, 202, "{job}");
        job
    }

    pub(crate) async fn plan_names(&self, query: &str) -> Vec<String> {
        let list = self
            .get(&format!("/v3/service_plans?order_by=name&{query}"))
            .await;
        let rows = list["resources"].as_array().unwrap();
        let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
        rows.iter().map(name).collect()
    }

    pub(crate) async fn event_types(&self, query: &str) -> Vec<String> {
        let list = self
            .get(&format!("/v3/audit_events?per_page=1000&{query}"))
            .await;
        let rows = list["resources"].as_array().unwrap();
        let kind = |row: &Value| row["type"].as_str().unwrap().to_owned();
        rows.iter().map(kind).collect()
    }

    /// Makes a service instance one of a plan, as `create-service` does.
    pub(crate) async fn instance_of_plan(&self, name: &str, plan: &str) -> String {
        let guid = self.create_instance(name, json!({})).await;
        let set = format!(
            "UPDATE service_instances SET service_plan_guid = '{plan}' WHERE guid = '{guid}'"
        );
        assert_eq!(self.sql(&set).await, 1);
        guid
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_is_registered_shown_renamed_and_removed() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let mut body = f.broker_body(&broker.url, "db-broker", None);
    body["metadata"] = json!({ "labels": { "tier": "gold" } });
    let (status, job) = f.job_of(&f.admin, Method::POST, BROKERS, body).await;
    assert_eq!((status, &job["state"]), (202, &json!("COMPLETE")), "{job}");
    assert_eq!(job["operation"], "service_broker.catalog.synchronize");
    assert_eq!(job["warnings"], json!([]));
    let guid = f.broker_named("db-broker").await;
    let path = format!("{BROKERS}/{guid}");
    let link = |path: &str| json!({ "href": format!("http://api.test{path}") });
    assert_eq!(job["links"]["service_brokers"], link(&path));
    let shown = f.get(&path).await;
    assert_eq!(shown["name"], "db-broker");
    assert_eq!(shown["url"], json!(broker.url));
    assert_eq!(shown["relationships"], json!({}));
    assert_eq!(shown["metadata"]["labels"], json!({ "tier": "gold" }));
    let offerings = format!("/v3/service_offerings?service_broker_guids={guid}");
    assert_eq!(
        shown["links"],
        json!({ "self": link(&path), "service_offerings": link(&offerings) })
    );
    assert!(!shown.to_string().contains(PASSWORD), "{shown}");

    let calls = broker.calls(Call::Catalog);
    assert_eq!(calls.len(), 1);
    let header = |name: &str| calls[0].headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("x-broker-api-version"), "2.17");
    assert_eq!(header("x-api-info-location"), "api.test/");
    // The Base64 of {"user_id":"admin-guid"}.
    assert_eq!(
        header("x-broker-api-originating-identity"),
        "cloudfoundry eyJ1c2VyX2lkIjoiYWRtaW4tZ3VpZCJ9"
    );
    assert!(!header("x-broker-api-request-identity").is_empty());

    // A new name needs no call of the broker; labels need no job.
    let rename = json!({ "name": "renamed" });
    let (status, job) = f.job_of(&f.admin, Method::PATCH, &path, rename).await;
    assert_eq!((status, &job["state"]), (202, &json!("COMPLETE")), "{job}");
    let labels = json!({ "metadata": { "labels": { "tier": null, "a": "b" } } });
    let changed = f.send(Method::PATCH, &path, labels).await;
    assert_eq!(changed["name"], "renamed");
    assert_eq!(changed["metadata"]["labels"], json!({ "a": "b" }));
    assert_eq!(broker.calls(Call::Catalog).len(), 1);

    let (status, job) = f.job_of(&f.admin, Method::DELETE, &path, json!({})).await;
    assert_eq!((status, &job["state"]), (202, &json!("COMPLETE")), "{job}");
    assert_eq!(f.call(Method::GET, &path, None).await.0, 404);
    assert_eq!(f.get("/v3/service_plans").await["resources"], json!([]));
    let events = f.get("/v3/audit_events?per_page=1000").await;
    assert!(!events.to_string().contains(PASSWORD));
    assert_eq!(
        f.event_types(&format!("target_guids={guid}")).await,
        [
            "audit.service_broker.create",
            "audit.service_broker.update",
            "audit.service_broker.delete"
        ]
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_requests_are_refused_with_their_texts() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    f.register(&broker, "taken", None).await;
    let good = f.broker_body(&broker.url, "new", None);
    let changed = |path: &str, value: Value| {
        let mut body = good.clone();
        *body.pointer_mut(path).unwrap() = value;
        body
    };
    for (body, text) in [
        (json!({}), "Name must be a string"),
        (json!({}), "Url must be a string"),
        (json!({}), "Authentication must be an object"),
        (changed("/name", json!("")), "Name must not be empty string"),
        (changed("/name", json!("taken")), "Name must be unique"),
        (
            changed("/url", json!("ftp://x.test")),
            "Url 'ftp://x.test' must be a valid url",
        ),
        (
            changed("/url", json!("http://u:p@x.test")),
            "Url must not contain authentication",
        ),
        (
            changed("/authentication/type", json!("token")),
            "authentication.type must be one of [\"basic\"]",
        ),
        (
            changed("/authentication/credentials", json!({ "username": "u" })),
            "Field(s) [\"password\"] must be valid",
        ),
    ] {
        let (status, answer) = f.call(Method::POST, BROKERS, Some(body)).await;
        assert_eq!(status, 422, "{answer}");
        assert!(detail(&answer).contains(text), "{answer}");
    }
    let hidden = f.broker_body(&broker.url, "new", Some("unknown"));
    let (status, answer) = f.call(Method::POST, BROKERS, Some(hidden)).await;
    assert_eq!(status, 422);
    assert!(detail(&answer).starts_with("Invalid space."), "{answer}");
    let flag = "/v3/feature_flags/space_scoped_private_broker_creation";
    f.send(Method::PATCH, flag, json!({ "enabled": false }))
        .await;
    let own = f.broker_body(&broker.url, "new", Some(&f.space));
    let (status, answer) = f.call(Method::POST, BROKERS, Some(own)).await;
    assert_eq!(
        (status, answer["errors"][0]["code"].as_i64()),
        (403, Some(330_002))
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_a_broker_harms_anybody() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let guid = f.register(&broker, "broker", None).await;
    let other = Broker::start("queue").await;
    let faults = [
        (
            Fault::Answer(500, json!({ "description": "out of order" })),
            10_001,
            "Service broker error: out of order",
        ),
        (
            Fault::Answer(404, json!({})),
            270_020,
            "Status Code: 404 Not Found. Please check",
        ),
        (
            Fault::Answer(401, json!({})),
            10_001,
            "Authentication with the service broker failed",
        ),
        (Fault::Text(200, "<html>".to_owned()), 270_021, "invalid"),
        (
            Fault::Answer(200, json!({ "services": [] })),
            270_012,
            "at least one service",
        ),
        (
            Fault::Redirect(format!("{}/v2/catalog", other.url)),
            10_001,
            "invalid response. Status Code: 307",
        ),
        (
            Fault::Large(200, 10 << 20),
            10_001,
            "the body has more than",
        ),
        (Fault::ActAndBreak, 10_001, "could not be reached"),
    ];
    for (fault, code, text) in faults {
        broker.next(Call::Catalog, fault);
        let job = f.synchronize(&guid, &broker.url).await;
        assert_eq!(job["state"], "FAILED", "{job}");
        assert_eq!(job["errors"][0]["code"], code, "{job}");
        assert!(detail(&job).contains(text), "{job}");
    }
    assert_eq!(other.requests().len(), 0, "a redirect is not followed");
    // The catalog stays as it was, and the broker can be changed again.
    assert_eq!(f.plan_names("").await, ["big", "small"]);
    let job = f.synchronize(&guid, &broker.url).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hangs_stops_only_its_own_job() {
    let f = Foundation::start().await;
    let slow = Broker::start("slow").await;
    slow.always(Call::Catalog, Fault::Drip);
    let body = f.broker_body(&slow.url, "slow", None);
    let made = f.call(Method::POST, BROKERS, Some(body));
    let quick = Broker::start("quick").await;
    let others = async {
        f.register(&quick, "quick", None).await;
        f.create_app("app").await;
    };
    let ((status, _), ()) = tokio::join!(made, others);
    assert_eq!(status, 202);
    let guid = f.broker_named("slow").await;
    // Another request may not change it meanwhile.
    let path = format!("{BROKERS}/{guid}");
    let (status, answer) = f
        .call(Method::PATCH, &path, Some(json!({ "name": "x" })))
        .await;
    assert_eq!(status, 422);
    assert!(detail(&answer).contains("already in progress"), "{answer}");
    // The call ends after its time.
    let ended = wait_for("the end of the call", async || {
        let body = Some(json!({ "name": "renamed" }));
        let (status, answer) = f.call(Method::PATCH, &path, body).await;
        (status == 202).then_some(()).ok_or(answer.to_string())
    });
    ended.await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_continues_after_a_restart() {
    let mut f = Foundation::start().await;
    let broker = Broker::start("db").await;
    broker.always(Call::Catalog, Fault::Hang);
    let body = f.broker_body(&broker.url, "broker", None);
    let (status, _) = f.call(Method::POST, BROKERS, Some(body)).await;
    assert_eq!(status, 202);
    wait_for("the call", async || {
        (!broker.requests().is_empty()).then_some(())
    })
    .await;
    broker.heal(Call::Catalog);
    f.restart(async |_| {}).await;
    wait_for("the plans", async || {
        (f.plan_names("").await == ["big", "small"]).then_some(())
    })
    .await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_of_the_machine_are_refused() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let port = broker.url.rsplit(':').next().unwrap();
    // The tests permit 127.0.0.1 and no other address of the machine.
    for (name, url) in [
        ("a", format!("http://127.0.0.2:{port}")),
        ("b", format!("http://[::1]:{port}")),
        ("c", format!("http://0.0.0.0:{port}")),
        ("d", "http://169.254.169.254".to_owned()),
    ] {
        let body = f.broker_body(&url, name, None);
        let (status, job) = f.job_of(&f.admin, Method::POST, BROKERS, body).await;
        assert_eq!((status, &job["state"]), (202, &json!("FAILED")), "{job}");
        assert!(detail(&job).contains("does not permit"), "{job}");
    }
    assert_eq!(broker.requests().len(), 0);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_of_a_space_ends_with_it() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let space = f.another_space(&f.organization, "other").await;
    let roles: &[(&str, &str, &str)] = &[
        ("organization_user", "organization", &f.organization),
        ("space_developer", "space", &space),
    ];
    let developer = f.user("dev", roles).await;
    let body = f.broker_body(&broker.url, "own", Some(&space));
    let (status, job) = f.job_of(&developer, Method::POST, BROKERS, body).await;
    assert_eq!((status, &job["state"]), (202, &json!("COMPLETE")), "{job}");
    let guid = f.broker_named("own").await;
    let plan = f.plan_of(&guid, "small").await;
    let shown = f.get(&format!("/v3/service_plans/{plan}")).await;
    assert_eq!(shown["visibility_type"], "space");
    assert_eq!(
        shown["relationships"]["space"]["data"]["guid"],
        json!(space)
    );
    // Others do not see it, and nobody can make it public.
    let stranger = f.user("stranger", &[]).await;
    let path = format!("/v3/service_plans/{plan}");
    assert_eq!(f.call_as(&stranger, Method::GET, &path, None).await.0, 404);
    let body = Some(json!({ "type": "public" }));
    let path = format!("{path}/visibility");
    assert_eq!(f.call(Method::PATCH, &path, body).await.0, 422);

    f.delete(&format!("/v3/spaces/{space}")).await;
    let path = format!("{BROKERS}/{guid}");
    wait_for("the end of the broker", async || {
        (f.call(Method::GET, &path, None).await.0 == 404).then_some(())
    })
    .await;
    let events = f.event_types(&format!("target_guids={guid}")).await;
    assert_eq!(
        events,
        ["audit.service_broker.create", "audit.service_broker.delete"]
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_is_sealed() {
    if postgres::is_chosen() {
        eprintln!("skipped: the file is one of SQLite");
        return;
    }
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    let guid = f.register(&broker, "broker", None).await;
    let path = format!("{BROKERS}/{guid}");
    let body = json!({ "authentication": { "type": "basic", "credentials": { "username": BROKER_USER, "password": PASSWORD } } });
    let (_, job) = f.job_of(&f.admin, Method::PATCH, &path, body).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    let database = f.database();
    let stored: String = sqlite::value(&database, "SELECT password FROM service_brokers");
    assert!(stored.starts_with("v1."), "{stored}");
    let inputs: i64 = sqlite::value(&database, "SELECT COUNT(input) FROM jobs");
    assert_eq!(inputs, 0);
    f.finish().await;
}
