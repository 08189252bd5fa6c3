//! Bindings of managed instances, to apps and as keys: what brokers receive, what apps get, rotation, and failures.

use crate::fixture::*;
use crate::managed_instances::{INSTANCES, code, made};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::broker::{Broker, Call, Fault};

const BINDINGS: &str = "/v3/service_credential_bindings";

impl Foundation {
    pub(crate) fn binding_body(&self, app: &str, instance: &str) -> Value {
        json!({ "type": "app", "relationships": {
            "app": { "data": { "guid": app } },
            "service_instance": { "data": { "guid": instance } },
        } })
    }

    pub(crate) fn key_body(&self, instance: &str, name: &str) -> Value {
        json!({ "type": "key", "name": name, "relationships": { "service_instance": { "data": { "guid": instance } } } })
    }

    /// Binds an app to a managed instance, and returns the guid of the binding when the broker has made it.
    pub(crate) async fn bind_managed(&self, app: &str, instance: &str) -> String {
        let body = self.binding_body(app, instance);
        let job = self.done(Method::POST, BINDINGS, body).await;
        made(&job, "service_credential_binding")
    }

    /// Creates a key of a managed instance, and returns its guid when the broker has made it.
    pub(crate) async fn create_key(&self, instance: &str, name: &str) -> String {
        let body = self.key_body(instance, name);
        let job = self.done(Method::POST, BINDINGS, body).await;
        made(&job, "service_credential_binding")
    }

    /// Returns the value of `VCAP_SERVICES` that new instances of an app get.
    async fn vcap_services(&self, app: &str) -> Value {
        let env = self.get(&format!("/v3/apps/{app}/env")).await;
        env["system_env_json"]["VCAP_SERVICES"].clone()
    }
}

/// A foundation with a broker, one of its instances and an app.
struct Place {
    f: Foundation,
    broker: Broker,
    instance: String,
    app: String,
}

impl Place {
    async fn start() -> Self {
        Self::start_limited(cloud_controller::Limits::default()).await
    }

    async fn start_limited(limits: cloud_controller::Limits) -> Self {
        let f = Foundation::start_limited(Duration::from_secs(3600), limits).await;
        let broker = Broker::start("db").await;
        let (small, _) = f.offer(&broker, "broker").await;
        let instance = f.create_managed("db", &small).await;
        let app = f.create_app("app").await;
        Self {
            f,
            broker,
            instance,
            app,
        }
    }

    fn body(&self) -> Value {
        self.f.binding_body(&self.app, &self.instance)
    }

    async fn refused(&self, body: Value) -> String {
        refused(&self.f, Method::POST, BINDINGS, body).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_gets_the_credentials_of_the_broker() {
    let place = Place::start().await;
    let (f, broker) = (&place.f, &place.broker);
    broker.set_credentials(r#"{"z":"s3cret","a":{"y":1,"b":[true,null]}}"#);
    let mut body = place.body();
    body["name"] = json!("main");
    body["parameters"] = json!({ "role": "reader" });
    let job = f.done(Method::POST, BINDINGS, body).await;
    assert_eq!(job["operation"], "service_bindings.create");
    let guid = made(&job, "service_credential_binding");
    let path = format!("{BINDINGS}/{guid}");
    let sent = broker.calls(Call::Bind).remove(0);
    assert_eq!(
        sent.path,
        format!(
            "/v2/service_instances/{}/service_bindings/{guid}",
            place.instance
        )
    );
    assert_eq!(sent.body["app_guid"], json!(place.app));
    assert_eq!(sent.body["bind_resource"]["app_guid"], json!(place.app));
    assert_eq!(sent.body["parameters"], json!({ "role": "reader" }));
    assert_eq!(
        f.text(&format!("{path}/details")).await,
        r#"{"credentials":{"z":"s3cret","a":{"y":1,"b":[true,null]}}}"#
    );
    assert_eq!(
        f.get(&format!("{path}/parameters")).await,
        json!({ "role": "reader" })
    );
    let services = f.vcap_services(&place.app).await;
    assert_eq!(
        services,
        json!({ "db": [{
            "label": "db", "provider": null, "plan": "small", "name": "main", "tags": ["db", "test"], "instance_guid": place.instance,
            "instance_name": "db", "binding_guid": guid, "binding_name": "main",
            "credentials": { "z": "s3cret", "a": { "y": 1, "b": [true, null] } }, "syslog_drain_url": null, "volume_mounts": [],
        }] })
    );
    for filter in [
        "service_plan_names=small",
        "service_offering_names=db",
        "service_instance_names=db&type=app",
    ] {
        let list = f.get(&format!("{BINDINGS}?{filter}")).await;
        assert_eq!(list["resources"][0]["guid"], json!(guid), "{filter}");
    }
    if !postgres::is_chosen() {
        let database = f.database();
        let sql = "SELECT credentials FROM service_credential_bindings";
        let stored: String = sqlite::value(&database, sql);
        assert!(stored.starts_with("v1."), "{stored}");
        let sql = "SELECT COUNT(*) FROM jobs WHERE input IS NOT NULL";
        let inputs: i64 = sqlite::value(&database, sql);
        assert_eq!(inputs, 0);
    }
    let job = f.done(Method::DELETE, &path, json!({})).await;
    assert_eq!(job["operation"], "service_bindings.delete");
    assert!(broker.bindings().is_empty());
    assert_eq!(f.vcap_services(&place.app).await, json!({}));
    let events = f
        .get(&format!("/v3/audit_events?target_guids={guid}"))
        .await;
    assert!(!events.to_string().contains("s3cret"), "{events}");
    assert_eq!(
        f.event_types(&format!("target_guids={guid}")).await,
        [
            "audit.service_binding.create",
            "audit.service_binding.show",
            "audit.service_binding.delete"
        ]
    );
    place.f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_made_shown_and_removed() {
    let place = Place::start().await;
    let (f, broker) = (&place.f, &place.broker);
    let guid = f.create_key(&place.instance, "mine").await;
    let path = format!("{BINDINGS}/{guid}");
    let sent = broker.calls(Call::Bind).remove(0);
    assert_eq!(sent.body.get("app_guid"), None);
    let shown = f.get(&path).await;
    assert_eq!(
        (&shown["type"], &shown["name"]),
        (&json!("key"), &json!("mine"))
    );
    assert!(shown["relationships"].get("app").is_none(), "{shown}");
    let details = f.get(&format!("{path}/details")).await;
    assert_eq!(details["credentials"]["username"], format!("user-{guid}"));
    for (body, text) in [
        (
            f.key_body(&place.instance, "mine"),
            "The binding name is invalid. Key binding names must be unique. The service instance already has a key binding with name 'mine'.",
        ),
        (f.key_body(&place.instance, ""), "Name can't be blank"),
    ] {
        assert_eq!(place.refused(body).await, text);
    }
    let kind = async |kind: &str| {
        let list = f.get(&format!("{BINDINGS}?type={kind}")).await;
        list["pagination"]["total_results"].as_i64()
    };
    assert_eq!((kind("key").await, kind("app").await), (Some(1), Some(0)));
    let job = f.done(Method::DELETE, &path, json!({})).await;
    assert_eq!(job["operation"], "service_keys.delete");
    assert!(broker.bindings().is_empty());
    // A plan without bindings has no keys either.
    broker.change_catalog(|catalog| catalog["services"][0]["bindable"] = json!(false));
    let list = f.get("/v3/service_brokers").await;
    let registered = list["resources"][0]["guid"].as_str().unwrap().to_owned();
    f.synchronize(&registered, &broker.url).await;
    assert_eq!(
        place.refused(f.key_body(&place.instance, "k")).await,
        "Service plan does not allow bindings."
    );
    assert_eq!(
        place.refused(place.body()).await,
        "Service plan does not allow bindings"
    );
    place.f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_rotated_by_a_second_binding() {
    let place = Place::start_limited(cloud_controller::Limits {
        service_bindings_per_app_and_instance: 2,
        ..cloud_controller::Limits::default()
    })
    .await;
    let f = &place.f;
    let first = f.bind_managed(&place.app, &place.instance).await;
    assert_eq!(
        place.refused(place.body()).await,
        "The app is already bound to the service instance"
    );
    let mut more = place.body();
    more["strategy"] = json!("multiple");
    let job = f.done(Method::POST, BINDINGS, more.clone()).await;
    let second = made(&job, "service_credential_binding");
    let used = async || {
        let services = f.vcap_services(&place.app).await;
        let all = services["db"].as_array().unwrap();
        assert_eq!(all.len(), 1);
        all[0]["binding_guid"].as_str().unwrap().to_owned()
    };
    assert_eq!(used().await, second, "the newest one is used");
    assert_eq!(
        place.refused(more.clone()).await,
        "The app has too many bindings to this service instance (limit: 2). Consider deleting existing/orphaned bindings."
    );
    more["name"] = json!("other");
    assert_eq!(
        place.refused(more).await,
        "The binding name cannot be changed for the same app and service instance"
    );
    f.done(Method::DELETE, &format!("{BINDINGS}/{first}"), json!({}))
        .await;
    assert_eq!(used().await, second);
    assert_eq!(place.broker.bindings(), [second]);
    place.f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_binding_is_left_at_a_broker_that_fails() {
    let place = Place::start_limited(cloud_controller::Limits {
        credentials_bytes: 200,
        ..cloud_controller::Limits::default()
    })
    .await;
    let (f, broker) = (&place.f, &place.broker);
    let large = json!({ "credentials": { "a": "x".repeat(300) } });
    let drain = json!({ "credentials": {}, "syslog_drain_url": "syslog://h:1" });
    let faults = [
        (Fault::Answer(400, json!({ "description": "no" })), "no"),
        (
            Fault::ActAndAnswer(500, json!({ "description": "oh" })),
            "oh",
        ),
        (Fault::ActAndText(201, "[".to_owned()), "invalid response"),
        (Fault::ActAndBreak, "could not be reached"),
        (Fault::ActAndAnswer(201, large), "may have at most 200"),
        // The offering does not require the permission for logs.
        (Fault::ActAndAnswer(201, drain), "stream logs"),
    ];
    for (fault, text) in faults {
        let shown = format!("{fault:?}");
        broker.next(Call::Bind, fault);
        let job = f.failed(Method::POST, BINDINGS, place.body()).await;
        assert!(detail(&job).contains(text), "{shown}: {job}");
        let guid = made(&job, "service_credential_binding");
        let path = format!("{BINDINGS}/{guid}");
        let (kind, state, _) = f.operation(&path).await;
        assert_eq!((kind.as_str(), state.as_str()), ("create", "failed"));
        let (status, answer) = f.call(Method::GET, &format!("{path}/details"), None).await;
        assert_eq!(status, 404);
        assert_eq!(detail(&answer), "Creation of service binding failed");
        f.idle().await;
        assert!(broker.bindings().is_empty(), "{shown}");
        assert_eq!(f.vcap_services(&place.app).await, json!({}));
    }
    let guid = f.bind_managed(&place.app, &place.instance).await;
    f.idle().await;
    assert_eq!(broker.bindings(), [guid]);
    place.f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_are_made_and_removed_in_the_background() {
    let place = Place::start().await;
    let (f, broker) = (&place.f, &place.broker);
    broker.work_in_background(Some(1));
    let guid = f.bind_managed(&place.app, &place.instance).await;
    assert_eq!(broker.calls(Call::FetchBinding).len(), 1);
    let services = f.vcap_services(&place.app).await;
    assert_eq!(
        services["db"][0]["credentials"]["password"],
        format!("secret-{guid}")
    );
    let path = format!("{BINDINGS}/{guid}");
    f.done(Method::DELETE, &path, json!({})).await;
    assert!(broker.bindings().is_empty());
    let kind = |verb: &str| format!("audit.service_binding.{verb}");
    assert_eq!(
        f.event_types(&format!("target_guids={guid}")).await,
        ["start_create", "create", "start_delete", "delete"].map(kind)
    );

    // Without a way to fetch the credentials, a binding in the background is of no use.
    broker.change_catalog(|catalog| {
        catalog["services"][0]["bindings_retrievable"] = json!(false);
    });
    let list = f.get("/v3/service_brokers").await;
    let registered = list["resources"][0]["guid"].as_str().unwrap().to_owned();
    f.synchronize(&registered, &broker.url).await;
    let job = f.failed(Method::POST, BINDINGS, place.body()).await;
    assert_eq!(code(&job), Some(90_001));
    assert!(
        detail(&job).ends_with("does not support fetching binding data"),
        "{job}"
    );
    f.idle().await;
    assert!(broker.bindings().is_empty());
    place.f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_failed_is_repeated() {
    let place = Place::start().await;
    let (f, broker) = (&place.f, &place.broker);
    let guid = f.bind_managed(&place.app, &place.instance).await;
    let path = format!("{BINDINGS}/{guid}");
    let wrong = json!({ "description": "not now" });
    broker.next(Call::Unbind, Fault::Answer(500, wrong));
    let job = f.failed(Method::DELETE, &path, json!({})).await;
    assert_eq!(
        detail(&job),
        "unbind could not be completed: Service broker failed to delete service binding for instance db: Service broker error: not now"
    );
    let (kind, state, _) = f.operation(&path).await;
    assert_eq!((kind.as_str(), state.as_str()), ("delete", "failed"));
    assert_eq!(f.vcap_services(&place.app).await, json!({}));
    assert!(
        place
            .refused(place.body())
            .await
            .contains("is getting deleted"),
        "the old one stands in the way"
    );
    f.done(Method::DELETE, &path, json!({})).await;
    f.bind_managed(&place.app, &place.instance).await;

    // Whatever is above the binding waits for it.
    broker.work_in_background(Some(1));
    f.done(
        Method::DELETE,
        &format!("/v3/apps/{}", place.app),
        json!({}),
    )
    .await;
    assert!(broker.bindings().is_empty());
    let app = f.create_app("second").await;
    f.bind_managed(&app, &place.instance).await;
    f.create_key(&place.instance, "k").await;
    broker.forget_requests();
    let path = format!("{INSTANCES}/{}", place.instance);
    f.done(Method::DELETE, &path, json!({})).await;
    let calls: Vec<Call> = broker.requests().iter().map(|sent| sent.call).collect();
    let first = calls.iter().position(|call| *call == Call::Deprovision);
    let last = calls.iter().rposition(|call| *call == Call::Unbind);
    assert!(first > last, "{calls:?}");
    assert!(broker.instances().is_empty() && broker.bindings().is_empty());
    place.f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_waits_for_its_bindings() {
    let place = Place::start().await;
    let (f, broker) = (&place.f, &place.broker);
    broker.work_in_background(Some(1));
    let yaml = "applications: [{name: a, services: [{name: db, binding_name: main, parameters: {role: reader}}]}, {name: b, services: [db]}]";
    let (status, job) = f.apply_manifest(yaml).await;
    assert_eq!((status, &job["state"]), (202, &json!("COMPLETE")), "{job}");
    let sent = broker.calls(Call::Bind);
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].body["parameters"], json!({ "role": "reader" }));
    let list = f.get(BINDINGS).await;
    for row in list["resources"].as_array().unwrap() {
        assert_eq!(row["last_operation"]["state"], "succeeded");
    }
    let (_, job) = f.apply_manifest(yaml).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert_eq!(broker.calls(Call::Bind).len(), 2, "they are bound already");
    broker.work_in_background(None);
    let wrong = json!({ "description": "no" });
    broker.next(Call::Bind, Fault::Answer(400, wrong));
    let yaml = "applications: [{name: c, services: [db]}, {name: d}]";
    let (_, job) = f.apply_manifest(yaml).await;
    assert_eq!(job["state"], "FAILED", "{job}");
    assert_eq!(
        detail(&job),
        "For application 'c': For service 'db': Service broker error: no"
    );
    assert_eq!(f.get("/v3/apps?names=d").await["resources"], json!([]));
    let event = "/v3/audit_events?types=audit.service_binding.create";
    let event = f.get(event).await["resources"][0].clone();
    assert_eq!(event["data"]["manifest_triggered"], true);
    place.f.finish().await;
}
