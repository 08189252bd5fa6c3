//! The requests of the original client (v8 and v9) for managed services as they are on the wire, and the values that it reads from the answers.

use crate::fixture::*;
use crate::managed_instances::INSTANCES;
use crate::managed_route_bindings::become_gate;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::broker::Broker;

const BINDINGS: &str = "/v3/service_credential_bindings";
const ROUTE_BINDINGS: &str = "/v3/service_route_bindings";

impl Foundation {
    /// Sends a request as the original client does, which polls a job until it is complete. Returns the states that the job had.
    async fn states(&self, method: Method, path: &str, body: Option<Value>) -> Vec<String> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .header("authorization", format!("bearer {}", self.admin));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let location = response.headers().get("location").cloned();
        let (status, body) = answer(response).await;
        let Some(location) = location else {
            assert!(status < 300, "{path}: {status} {body}");
            return Vec::new();
        };
        assert_eq!(status, 202, "{path}: {body}");
        let job = location.to_str().unwrap();
        let job = job.strip_prefix("http://api.test").unwrap();
        let mut states: Vec<String> = Vec::new();
        wait_for("the end of the job", async || {
            let job = self.get(job).await;
            assert!(job["errors"].is_array() && job["warnings"].is_array());
            let state = job["state"].as_str().unwrap().to_owned();
            assert_ne!(state, "FAILED", "{job}");
            let is_over = state == "COMPLETE";
            states.push(state);
            is_over
        })
        .await;
        states.dedup();
        states
    }
}

fn is_one_of(states: &[String], known: &[&str]) -> bool {
    states.iter().all(|state| known.contains(&state.as_str()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_original_client_manages_services() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    f.offer(&broker, "broker").await;
    let app = f.create_app("app").await;
    let known = ["PROCESSING", "POLLING", "COMPLETE"];

    // create-service, with a broker that works in the background
    broker.work_in_background(Some(0));
    let path =
        "/v3/service_plans?names=small&service_broker_names=broker&service_offering_names=db";
    let plans = f.get(path).await;
    assert_eq!(plans["resources"].as_array().map(Vec::len), Some(1));
    let plan = plans["resources"][0]["guid"].as_str().unwrap();
    let body = json!({
        "type": "managed", "name": "my-db", "tags": ["sql"], "parameters": { "disk": 5 },
        "relationships": { "service_plan": { "data": { "guid": plan } }, "space": { "data": { "guid": f.space } } },
    });
    let states = f.states(Method::POST, INSTANCES, Some(body.clone())).await;
    assert!(is_one_of(&states, &known), "{states:?}");
    assert!(states.contains(&"POLLING".to_owned()), "{states:?}");
    broker.work_in_background(None);
    // The client knows the taken name by this text.
    let (status, taken) = f.call(Method::POST, INSTANCES, Some(body)).await;
    assert_eq!(
        (status, detail(&taken)),
        (422, "The service instance name is taken: my-db.")
    );

    // service
    let fields = "fields%5Bservice_plan%5D=name%2Cguid&fields%5Bservice_plan.service_offering%5D=name%2Cguid%2Cdescription%2Ctags%2Cdocumentation_url&fields%5Bservice_plan.service_offering.service_broker%5D=name%2Cguid&fields%5Bspace%5D=name%2Cguid&fields%5Bspace.organization%5D=name%2Cguid";
    let path = format!(
        "{INSTANCES}?{fields}&names=my-db&page=1&per_page=1&space_guids={}",
        f.space
    );
    let found = f.get(&path).await;
    let instance = &found["resources"][0];
    let guid = instance["guid"].as_str().unwrap().to_owned();
    assert_eq!(instance["type"], "managed");
    assert!(instance["dashboard_url"].is_string() && instance["upgrade_available"].is_boolean());
    assert!(instance["maintenance_info"].is_object());
    let operation = &instance["last_operation"];
    for key in ["type", "state", "description", "created_at", "updated_at"] {
        assert!(operation[key].is_string(), "{key}: {operation}");
    }
    let related = &instance["relationships"];
    assert_eq!(related["service_plan"]["data"]["guid"], plan);
    assert_eq!(related["space"]["data"]["guid"], json!(f.space));
    let included = &found["included"];
    assert_eq!(
        included["service_plans"],
        json!([{ "guid": plan, "name": "small" }])
    );
    let offering = &included["service_offerings"][0];
    assert_eq!(offering["name"], "db");
    assert_eq!(offering["tags"], json!(["db", "test"]));
    assert_eq!(offering["documentation_url"], "http://docs.test");
    assert_eq!(included["service_brokers"][0]["name"], "broker");
    assert_eq!(included["spaces"][0]["name"], "dev");
    assert_eq!(included["organizations"][0]["name"], "demo");
    let offering = offering["guid"].as_str().unwrap();
    let offering = f.get(&format!("/v3/service_offerings/{offering}")).await;
    assert_eq!(offering["shareable"], true);
    let one = format!("{INSTANCES}/{guid}");
    assert_eq!(
        f.get(&format!("{one}/parameters")).await,
        json!({ "disk": 5 })
    );

    // services
    let fields = "fields%5Bservice_plan%5D=guid%2Cname%2Crelationships.service_offering&fields%5Bservice_plan.service_offering%5D=guid%2Cname%2Crelationships.service_broker&fields%5Bservice_plan.service_offering.service_broker%5D=guid%2Cname";
    let path = format!(
        "{INSTANCES}?{fields}&order_by=name&per_page=5000&space_guids={}",
        f.space
    );
    let included = f.get(&path).await["included"].clone();
    let of_plan = &included["service_plans"][0]["relationships"]["service_offering"]["data"];
    assert_eq!(of_plan["guid"], included["service_offerings"][0]["guid"]);
    let of_offering = &included["service_offerings"][0]["relationships"]["service_broker"]["data"];
    assert_eq!(of_offering["guid"], included["service_brokers"][0]["guid"]);

    // bind-service, create-service-key
    let of_instance = json!({ "data": { "guid": guid } });
    let body = json!({ "type": "app", "name": "main", "strategy": "single", "parameters": { "role": "reader" },
        "relationships": { "app": { "data": { "guid": app } }, "service_instance": of_instance } });
    let states = f.states(Method::POST, BINDINGS, Some(body)).await;
    assert_eq!(states.last().map(String::as_str), Some("COMPLETE"));
    let body = json!({ "type": "key", "name": "my-key", "relationships": { "service_instance": of_instance } });
    f.states(Method::POST, BINDINGS, Some(body.clone())).await;
    let (status, taken) = f.call(Method::POST, BINDINGS, Some(body)).await;
    let text = "The binding name is invalid. Key binding names must be unique. The service instance already has a key binding with name 'my-key'.";
    assert_eq!((status, detail(&taken)), (422, text));
    let path = format!("{BINDINGS}?include=app&service_instance_guids={guid}&type=app");
    let found = f.get(&path).await;
    let bound = &found["included"]["apps"][0];
    assert_eq!(bound["name"], "app");
    let space = &bound["relationships"]["space"]["data"]["guid"];
    assert_eq!(space, &json!(f.space));
    assert!(found["resources"][0]["created_at"].is_string());
    let path = format!("{BINDINGS}?app_guids={app}&service_instance_guids={guid}&type=app");
    let binding = f.get(&path).await["resources"][0]["guid"].clone();
    let path =
        format!("{BINDINGS}?names=my-key&page=1&per_page=1&service_instance_guids={guid}&type=key");
    let key = f.get(&path).await["resources"][0]["guid"].clone();
    let key = format!("{BINDINGS}/{}", key.as_str().unwrap());
    let details = f.get(&format!("{key}/details")).await;
    assert!(details["credentials"].is_object(), "{details}");

    // share-service, unshare-service
    let flag = "/v3/feature_flags/service_instance_sharing";
    f.send(Method::PATCH, flag, json!({ "enabled": true }))
        .await;
    let target = f.another_space(&f.organization, "target").await;
    let shares = format!("{one}/relationships/shared_spaces");
    let body = json!({ "data": [{ "guid": target }] });
    f.send(Method::POST, &shares, body).await;
    let path = format!(
        "{shares}?fields%5Bspace%5D=guid%2Cname%2Crelationships.organization&fields%5Bspace.organization%5D=guid%2Cname"
    );
    let found = f.get(&path).await;
    assert_eq!(found["data"], json!([{ "guid": target }]));
    let space = &found["included"]["spaces"][0];
    assert_eq!(space["name"], "target");
    let organization = &space["relationships"]["organization"]["data"]["guid"];
    assert_eq!(&found["included"]["organizations"][0]["guid"], organization);
    let usage = f.get(&format!("{shares}/usage_summary")).await;
    let used = json!([{ "space": { "guid": target }, "bound_app_count": 0 }]);
    assert_eq!(usage["usage_summary"], used);
    let path = format!("{shares}/{target}");
    assert_eq!(f.call(Method::DELETE, &path, None).await.0, 204);

    // update-service, unbind-service, delete-service-key, delete-service
    let path = "/v3/service_plans?names=big&service_offering_names=db";
    let big = f.get(path).await["resources"][0]["guid"].clone();
    let body = json!({ "tags": ["new"], "parameters": { "disk": 6 }, "relationships": { "service_plan": { "data": { "guid": big } } } });
    f.states(Method::PATCH, &one, Some(body)).await;
    let body = json!({ "maintenance_info": { "version": "1.0.0" } });
    assert!(
        f.states(Method::PATCH, &one, Some(body)).await.is_empty(),
        "the instance has this version"
    );
    let binding = format!("{BINDINGS}/{}", binding.as_str().unwrap());
    for path in [&binding, &key, &one] {
        let states = f.states(Method::DELETE, path, None).await;
        assert_eq!(states.last().map(String::as_str), Some("COMPLETE"));
        assert_eq!(f.call(Method::GET, path, None).await.0, 404);
    }
    assert!(broker.instances().is_empty() && broker.bindings().is_empty());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_original_client_binds_routes() {
    let f = Foundation::start().await;
    let broker = Broker::start("gate").await;
    become_gate(&broker);
    let (plan, _) = f.offer(&broker, "broker").await;
    let managed = f.create_managed("gate", &plan).await;
    let provided = f.create_route_service("wall").await;
    let known = ["PROCESSING", "POLLING", "COMPLETE"];
    let guid_of = |list: &Value| list["resources"][0]["guid"].as_str().unwrap().to_owned();
    for (name, instance, host) in [("gate", &managed, "one"), ("wall", &provided, "two")] {
        let wanted = f.create_route(host, "").await;

        // bind-route-service
        let path = format!(
            "{INSTANCES}?names={name}&page=1&per_page=1&space_guids={}",
            f.space
        );
        assert_eq!(guid_of(&f.get(&path).await), *instance);
        let domain = guid_of(&f.get("/v3/domains?names=apps.test&page=1&per_page=1").await);
        let path = format!("/v3/routes?domain_guids={domain}&hosts={host}&paths=");
        let route = guid_of(&f.get(&path).await);
        assert_eq!(route, wanted);
        let mut body = json!({ "relationships": {
            "service_instance": { "data": { "guid": instance } },
            "route": { "data": { "guid": route } },
        } });
        if name == "gate" {
            body["parameters"] = json!({ "limit": 5 });
        }
        let states = f
            .states(Method::POST, ROUTE_BINDINGS, Some(body.clone()))
            .await;
        assert!(is_one_of(&states, &known), "{states:?}");
        // The client takes this text for a success.
        let (status, again) = f.call(Method::POST, ROUTE_BINDINGS, Some(body)).await;
        assert_eq!(
            (status, detail(&again)),
            (422, "The route and service instance are already bound.")
        );

        // routes
        let path = format!("{ROUTE_BINDINGS}?include=service_instance&route_guids={route}");
        let bound = f.get(&path).await;
        let related = &bound["resources"][0]["relationships"];
        assert_eq!(related["route"]["data"]["guid"], json!(route));
        assert_eq!(related["service_instance"]["data"]["guid"], json!(instance));
        let included = &bound["included"]["service_instances"][0];
        assert_eq!(included["name"], name);

        // unbind-route-service
        let path =
            format!("{ROUTE_BINDINGS}?route_guids={route}&service_instance_guids={instance}");
        let binding = guid_of(&f.get(&path).await);
        let path = format!("{ROUTE_BINDINGS}/{binding}");
        let states = f.states(Method::DELETE, &path, None).await;
        assert!(is_one_of(&states, &known), "{states:?}");
        assert_eq!(f.call(Method::GET, &path, None).await.0, 404);
    }
    f.finish().await;
}
