//! Bindings of routes to managed instances: brokers make and remove them, and none of their faults leaves requests without the service or
//! a binding at the broker that nobody has.

use crate::fixture::*;
use crate::managed_instances::made;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::broker::{Broker, Call, Fault};

const BINDINGS: &str = "/v3/service_route_bindings";
const INSTANCES: &str = "/v3/service_instances";
const SERVICE: &str = "https://gate.test/by-broker";

fn body(route: &str, instance: &str) -> Value {
    json!({ "relationships": {
        "route": { "data": { "guid": route } },
        "service_instance": { "data": { "guid": instance } },
    } })
}

/// Lets the broker's offerings from now on be services of routes.
pub(crate) fn become_gate(broker: &Broker) {
    broker.change_catalog(|catalog| {
        catalog["services"][0]["requires"] = json!(["route_forwarding"]);
    });
    broker.add_to_bindings(json!({ "route_service_url": SERVICE }));
}

impl Foundation {
    /// Binds a route to a managed instance, and returns the guid of the binding when its broker has made it.
    pub(crate) async fn bind_route_managed(&self, route: &str, instance: &str) -> String {
        let body = body(route, instance);
        let job = self.done(Method::POST, BINDINGS, body).await;
        made(&job, "service_route_binding")
    }
}

/// A broker of route services with an instance.
struct Gate<'a> {
    f: &'a Foundation,
    broker: Broker,
    instance: String,
}

impl<'a> Gate<'a> {
    async fn start(f: &'a Foundation) -> Self {
        let broker = Broker::start("gate").await;
        become_gate(&broker);
        Self::of(f, broker, "gate").await
    }

    /// Registers a broker and creates an instance of the same name.
    async fn of(f: &'a Foundation, broker: Broker, name: &str) -> Self {
        let (plan, _) = f.offer(&broker, name).await;
        let instance = f.create_managed(name, &plan).await;
        Self {
            f,
            broker,
            instance,
        }
    }

    fn body(&self, route: &str) -> Value {
        body(route, &self.instance)
    }

    /// Binds a route and returns the guid of the binding.
    async fn bind(&self, route: &str) -> String {
        self.f.bind_route_managed(route, &self.instance).await
    }

    /// Binds a route, which must fail, and returns the job.
    async fn fail_to_bind(&self, route: &str) -> Value {
        let body = self.body(route);
        self.f.failed(Method::POST, BINDINGS, body).await
    }

    async fn bindings_of(&self, route: &str) -> Vec<String> {
        guids(&self.f.get(&format!("{BINDINGS}?route_guids={route}")).await)
    }

    async fn shown(&self, binding: &str) -> Value {
        self.f.get(&format!("{BINDINGS}/{binding}")).await
    }

    /// Waits until the broker has no binding any more.
    async fn must_be_empty(&self) {
        let check = async || match self.broker.bindings() {
            none if none.is_empty() => Ok(()),
            some => Err(some.join(" ")),
        };
        wait_for("the end of all bindings at the broker", check).await;
    }

    /// Returns the verbs of the events of a binding.
    async fn verbs(&self, binding: &str) -> Vec<String> {
        let path = format!("/v3/audit_events?target_guids={binding}");
        let events = self.f.get(&path).await;
        let events = events["resources"].as_array().unwrap();
        let verb = |event: &Value| {
            let kind = event["type"].as_str().unwrap();
            let verb = kind.strip_prefix("audit.service_route_binding.");
            verb.unwrap_or(kind).to_owned()
        };
        events.iter().map(verb).collect()
    }
}

fn guids(list: &Value) -> Vec<String> {
    let rows = list["resources"].as_array().unwrap();
    let guid = |row: &Value| row["guid"].as_str().unwrap().to_owned();
    rows.iter().map(guid).collect()
}

/// Sends a request that begins a job, and returns the path of the job.
async fn begun(f: &Foundation, method: Method, path: &str, body: Value) -> String {
    let request = f
        .http
        .request(method, format!("{}{path}", f.url))
        .header("authorization", format!("bearer {}", f.admin))
        .json(&body);
    let response = request.send().await.unwrap();
    let location = response.headers().get("location").cloned();
    let (status, body) = answer(response).await;
    assert_eq!(status, 202, "{path}: {body}");
    let location = location.expect("an accepted request has a job");
    let location = location.to_str().unwrap();
    location.strip_prefix("http://api.test").unwrap().to_owned()
}

/// Deletes something by a job that must succeed, and returns the job.
async fn deleted(f: &Foundation, path: &str) -> Value {
    f.done(Method::DELETE, path, json!({})).await
}

/// Waits until the first route of an app in Diego has a service, or none.
async fn leads_to(f: &Foundation, app: &str, service: Value) {
    wait_for("the service of a route in Diego", async || {
        let routes = f.lrp_routes(app).await;
        let seen = routes[0]["route_service_url"].clone();
        if seen == service { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_makes_and_removes_a_binding() {
    let f = Foundation::start().await;
    let gate = Gate::start(&f).await;
    let app = f.started_app("app").await;
    let route = f.create_route("bound", "/deep").await;
    f.map(&route, &app).await;
    let mut body = gate.body(&route);
    body["parameters"] = json!({ "secret": "pa55" });
    body["metadata"] = json!({ "labels": { "tier": "gold" } });
    let job = f.done(Method::POST, BINDINGS, body).await;
    assert_eq!(job["operation"], "service_route_bindings.create");
    let binding = gate.bindings_of(&route).await.remove(0);
    let path = format!("{BINDINGS}/{binding}");
    let link = |path: &str| json!({ "href": format!("http://api.test{path}") });
    assert_eq!(job["links"]["service_route_binding"], link(&path));
    let shown = gate.shown(&binding).await;
    assert_eq!(shown["route_service_url"], SERVICE);
    let operation = &shown["last_operation"];
    assert_eq!(
        (&operation["type"], &operation["state"]),
        (&json!("create"), &json!("succeeded"))
    );
    assert_eq!(shown["metadata"]["labels"]["tier"], "gold");
    assert_eq!(
        shown["links"],
        json!({
            "self": link(&path),
            "service_instance": link(&format!("{INSTANCES}/{}", gate.instance)),
            "route": link(&format!("/v3/routes/{route}")),
            "parameters": link(&format!("{path}/parameters")),
        })
    );
    leads_to(&f, &app, json!(SERVICE)).await;

    let wish = gate.broker.calls(Call::Bind).remove(0);
    assert_eq!(
        wish.body["bind_resource"],
        json!({ "route": "bound.apps.test/deep" })
    );
    assert_eq!(wish.body["parameters"], json!({ "secret": "pa55" }));
    assert_eq!(wish.body["context"]["space_guid"], json!(f.space));
    assert_eq!(wish.body["app_guid"], Value::Null);
    assert_eq!(wish.query["accepts_incomplete"], "true");
    assert_eq!(gate.broker.bindings(), [binding.clone()]);
    let parameters = f.get(&format!("{path}/parameters")).await;
    assert_eq!(parameters, json!({ "secret": "pa55" }));
    let broken = Fault::Answer(500, json!({ "description": "out of order" }));
    gate.broker.next(Call::FetchBinding, broken);
    let (status, answer) = f
        .call(Method::GET, &format!("{path}/parameters"), None)
        .await;
    assert_eq!(status, 502, "{answer}");
    let again = refused(&f, Method::POST, BINDINGS, gate.body(&route)).await;
    assert_eq!(again, "The route and service instance are already bound.");

    let job = deleted(&f, &path).await;
    assert_eq!(job["operation"], "service_route_bindings.delete");
    assert_eq!(f.call(Method::GET, &path, None).await.0, 404);
    assert_eq!(gate.broker.bindings(), [""; 0]);
    leads_to(&f, &app, Value::Null).await;
    assert_eq!(gate.verbs(&binding).await, ["create", "delete"]);
    let events = f.get("/v3/audit_events?per_page=1000").await;
    assert!(!events.to_string().contains("pa55"), "{events}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_works_in_the_background() {
    let f = Foundation::start().await;
    let gate = Gate::start(&f).await;
    let app = f.started_app("app").await;
    let route = f.create_route("bound", "").await;
    f.map(&route, &app).await;
    gate.broker.work_in_background(Some(1));
    let binding = gate.bind(&route).await;
    leads_to(&f, &app, json!(SERVICE)).await;
    let path = format!("{BINDINGS}/{binding}");
    deleted(&f, &path).await;
    leads_to(&f, &app, Value::Null).await;
    assert_eq!(
        gate.verbs(&binding).await,
        ["start_create", "create", "start_delete", "delete"]
    );

    // A binding that is never made is removed.
    gate.broker.work_in_background(Some(u32::MAX));
    let creation = begun(&f, Method::POST, BINDINGS, gate.body(&route)).await;
    let binding = gate.bindings_of(&route).await.remove(0);
    let path = format!("{BINDINGS}/{binding}");
    wait_for("an operation under way", async || {
        let shown = gate.shown(&binding).await;
        let state = shown["last_operation"]["state"].clone();
        if state == "in progress" {
            Ok(())
        } else {
            Err(state)
        }
    })
    .await;
    assert_eq!(gate.shown(&binding).await["route_service_url"], Value::Null);
    let again = refused(&f, Method::POST, BINDINGS, gate.body(&route)).await;
    assert_eq!(again, "The route and service instance are already bound.");
    let (status, answer) = f
        .call(Method::GET, &format!("{path}/parameters"), None)
        .await;
    assert_eq!(
        (status, detail(&answer)),
        (404, "Creation of route binding in progress")
    );
    gate.broker.work_in_background(None);
    deleted(&f, &path).await;
    let job = f.get(&creation).await;
    assert_eq!(job["state"], "FAILED", "{job}");
    gate.must_be_empty().await;
    leads_to(&f, &app, Value::Null).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_a_broker_leaves_a_binding_behind() {
    let f = Foundation::start().await;
    let gate = Gate::start(&f).await;
    let route = f.create_route("bound", "").await;
    let text = |status: u16| Fault::ActAndAnswer(status, json!({ "description": "no luck" }));
    for fault in [
        Fault::Answer(400, json!({ "description": "no luck" })),
        text(500),
        Fault::ActAndBreak,
        Fault::ActAndText(201, "no JSON".to_owned()),
        Fault::ActAndAnswer(201, json!({ "route_service_url": "http://plain.test" })),
    ] {
        let shown = format!("{fault:?}");
        gate.broker.next(Call::Bind, fault);
        let job = gate.fail_to_bind(&route).await;
        let detail = job["errors"][0]["detail"].as_str().unwrap();
        assert!(
            detail.starts_with("bind could not be completed: "),
            "{shown}: {detail}"
        );
        let binding = gate.bindings_of(&route).await.remove(0);
        let failed = gate.shown(&binding).await;
        let operation = &failed["last_operation"];
        assert_eq!(
            (&operation["type"], &operation["state"]),
            (&json!("create"), &json!("failed")),
            "{shown}"
        );
        assert_eq!(failed["route_service_url"], Value::Null, "{shown}");
        gate.must_be_empty().await;
    }

    // The next request replaces what has failed.
    let binding = gate.bind(&route).await;
    assert_eq!(gate.bindings_of(&route).await, [binding.clone()]);
    assert_eq!(gate.broker.bindings(), [binding.clone()]);

    // A removal that fails can be repeated; until it succeeds the route keeps its service.
    let broken = Fault::Answer(400, json!({ "description": "no luck" }));
    gate.broker.always(Call::Unbind, broken);
    let path = format!("{BINDINGS}/{binding}");
    f.failed(Method::DELETE, &path, json!({})).await;
    let kept = gate.shown(&binding).await;
    assert_eq!(kept["route_service_url"], SERVICE);
    let operation = &kept["last_operation"];
    assert_eq!(
        (&operation["type"], &operation["state"]),
        (&json!("delete"), &json!("failed"))
    );
    let again = refused(&f, Method::POST, BINDINGS, gate.body(&route)).await;
    assert_eq!(
        again,
        "The binding is getting deleted or its deletion failed"
    );
    gate.broker.heal(Call::Unbind);
    deleted(&f, &path).await;
    gate.must_be_empty().await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_offerings_that_forward_requests_can_be_bound() {
    let f = Foundation::start().await;
    let route = f.create_route("bound", "").await;
    let plain = Gate::of(&f, Broker::start("plain").await, "plain").await;
    let text = refused(&f, Method::POST, BINDINGS, plain.body(&route)).await;
    assert_eq!(text, "This service instance does not support route binding");

    let broker = Broker::start("unbindable").await;
    become_gate(&broker);
    broker.change_catalog(|catalog| catalog["services"][0]["bindable"] = json!(false));
    let unbindable = Gate::of(&f, broker, "unbindable").await;
    let text = refused(&f, Method::POST, BINDINGS, unbindable.body(&route)).await;
    assert_eq!(text, "This service instance does not support binding");

    let broker = Broker::start("silent").await;
    become_gate(&broker);
    broker.change_catalog(|catalog| catalog["services"][0]["bindings_retrievable"] = json!(false));
    let silent = Gate::of(&f, broker, "silent").await;
    let binding = silent.bind(&route).await;
    let path = format!("{BINDINGS}/{binding}");
    let (status, answer) = f
        .call(Method::GET, &format!("{path}/parameters"), None)
        .await;
    assert_eq!(status, 400, "{answer}");
    deleted(&f, &path).await;
    // The Cloud Controller could not fetch the address of the service after an operation in the background.
    silent.broker.work_in_background(Some(1));
    silent.fail_to_bind(&route).await;
    silent.must_be_empty().await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_has_a_binding_goes_after_it() {
    let f = Foundation::start().await;
    let gate = Gate::start(&f).await;
    let app = f.started_app("app").await;
    let route = f.create_route("one", "").await;
    f.map(&route, &app).await;
    let binding = gate.bind(&route).await;
    leads_to(&f, &app, json!(SERVICE)).await;

    // The broker refuses at first, and everything stays.
    let path = format!("/v3/routes/{route}");
    let broken = Fault::Answer(400, json!({ "description": "no luck" }));
    gate.broker.next(Call::Unbind, broken);
    let job = f.failed(Method::DELETE, &path, json!({})).await;
    let text = job["errors"][0]["detail"].as_str().unwrap();
    assert!(text.contains("no luck"), "{text}");
    assert_eq!(gate.bindings_of(&route).await, [binding]);
    leads_to(&f, &app, json!(SERVICE)).await;
    deleted(&f, &path).await;
    assert_eq!(f.call(Method::GET, &path, None).await.0, 404);
    assert_eq!(gate.broker.bindings(), [""; 0]);
    let kind = "audit.route.delete-request";
    let events = f.get(&format!("/v3/audit_events?types={kind}")).await;
    assert_eq!(events["pagination"]["total_results"], 1, "{events}");

    // A domain goes with its routes.
    let of_organization = json!({ "organization": { "data": { "guid": f.organization } } });
    let body = json!({ "name": "gates.test", "relationships": of_organization });
    let domain = f.send(Method::POST, "/v3/domains", body).await;
    let domain = domain["guid"].as_str().unwrap();
    let mut body = f.route_body("two", "");
    body["relationships"]["domain"]["data"] = json!({ "guid": domain });
    let route = f.send(Method::POST, "/v3/routes", body).await;
    gate.bind(route["guid"].as_str().unwrap()).await;
    deleted(&f, &format!("/v3/domains/{domain}")).await;
    assert_eq!(gate.broker.bindings(), [""; 0]);

    // An instance goes with its bindings, and its routes stay without a service.
    let route = f.create_route("three", "").await;
    f.map(&route, &app).await;
    gate.bind(&route).await;
    leads_to(&f, &app, json!(SERVICE)).await;
    deleted(&f, &format!("{INSTANCES}/{}", gate.instance)).await;
    assert_eq!(gate.broker.instances(), [""; 0]);
    assert_eq!(gate.broker.bindings(), [""; 0]);
    leads_to(&f, &app, Value::Null).await;
    assert_eq!(gate.bindings_of(&route).await, [""; 0]);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_space_goes_with_its_bindings_and_a_purge_leaves_them_at_the_broker() {
    let f = Foundation::start().await;
    let gate = Gate::start(&f).await;
    let app = f.started_app("app").await;
    let route = f.create_route("one", "").await;
    f.map(&route, &app).await;
    let binding = gate.bind(&route).await;
    leads_to(&f, &app, json!(SERVICE)).await;
    let path = format!("{INSTANCES}/{}?purge=true", gate.instance);
    let (status, answer) = f.call(Method::DELETE, &path, None).await;
    assert_eq!(status, 204, "{answer}");
    leads_to(&f, &app, Value::Null).await;
    assert_eq!(gate.bindings_of(&route).await, [""; 0]);
    assert_eq!(gate.broker.bindings(), [binding]);

    let broker = Broker::start("other").await;
    become_gate(&broker);
    let other = Gate::of(&f, broker, "other").await;
    other.bind(&route).await;
    deleted(&f, &format!("/v3/spaces/{}", f.space)).await;
    assert_eq!(other.broker.instances(), [""; 0]);
    assert_eq!(other.broker.bindings(), [""; 0]);
    assert_eq!(guids(&f.get(BINDINGS).await), [""; 0]);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_neither_loses_nor_repeats_a_binding() {
    let mut f = Foundation::start().await;
    let app = f.started_app("app").await;
    let (kept, gone) = (
        f.create_route("kept", "").await,
        f.create_route("gone", "").await,
    );
    f.map(&kept, &app).await;
    let gate = Gate::start(&f).await;
    let removed = gate.bind(&gone).await;
    let body = gate.body(&kept);
    let broker = gate.broker;

    // The broker does both, and the Cloud Controller stops before it knows that.
    broker.next(Call::Bind, Fault::ActAndHang);
    broker.next(Call::Unbind, Fault::ActAndHang);
    let creation = begun(&f, Method::POST, BINDINGS, body).await;
    let path = format!("{BINDINGS}/{removed}");
    let removal = begun(&f, Method::DELETE, &path, json!({})).await;
    f.restart(async |_| {}).await;
    for job in [creation, removal] {
        let job = f.ended_job(&job).await;
        assert_eq!(job["state"], "COMPLETE", "{job}");
    }
    let bindings = guids(&f.get(BINDINGS).await);
    assert_eq!(bindings.len(), 1, "{bindings:?}");
    assert_eq!(broker.bindings(), bindings);
    let wishes: Vec<_> = broker
        .calls(Call::Bind)
        .into_iter()
        .filter(|wish| wish.path.ends_with(&bindings[0]))
        .map(|wish| wish.body)
        .collect();
    assert_eq!(wishes.len(), 2, "{wishes:?}");
    assert_eq!(wishes[0], wishes[1]);
    leads_to(&f, &app, json!(SERVICE)).await;
    f.finish().await;
}
