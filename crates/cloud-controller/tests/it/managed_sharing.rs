//! Managed service instances that are shared with other spaces.

use crate::fixture::*;
use crate::managed_instances::{INSTANCES, code};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::broker::{Broker, Call, Fault};

const BINDINGS: &str = "/v3/service_credential_bindings";

/// A foundation with an instance, and an app in another space with which it is shared.
struct Shared {
    f: Foundation,
    broker: Broker,
    instance: String,
    target: String,
    app: String,
}

impl Shared {
    async fn start() -> Self {
        let f = Foundation::start().await;
        let broker = Broker::start("db").await;
        let (small, _) = f.offer(&broker, "broker").await;
        let instance = f.create_managed("db", &small).await;
        let target = f.another_space(&f.organization, "target").await;
        let flag = "/v3/feature_flags/service_instance_sharing";
        f.send(Method::PATCH, flag, json!({ "enabled": true }))
            .await;
        let body =
            json!({ "name": "far", "relationships": { "space": { "data": { "guid": target } } } });
        let app = f.send(Method::POST, "/v3/apps", body).await;
        let app = app["guid"].as_str().unwrap().to_owned();
        Self {
            f,
            broker,
            instance,
            target,
            app,
        }
    }

    fn path(&self) -> String {
        format!("{INSTANCES}/{}/relationships/shared_spaces", self.instance)
    }

    async fn share(&self) -> Value {
        let body = json!({ "data": [{ "guid": self.target }] });
        self.f.send(Method::POST, &self.path(), body).await
    }

    async fn unshare(&self) -> (u16, Value) {
        let path = format!("{}/{}", self.path(), self.target);
        self.f.call(Method::DELETE, &path, None).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_shared_used_and_unshared() {
    let shared = Shared::start().await;
    let f = &shared.f;
    let roles: &[(&str, &str, &str)] = &[
        ("organization_user", "organization", &f.organization),
        ("space_developer", "space", &shared.target),
    ];
    let developer = f.user("dev", roles).await;
    let path = format!("{INSTANCES}/{}", shared.instance);
    let seen = async || f.call_as(&developer, Method::GET, &path, None).await.0;
    assert_eq!(seen().await, 404);
    let (status, answer) = f
        .call(
            Method::POST,
            BINDINGS,
            Some(f.binding_body(&shared.app, &shared.instance)),
        )
        .await;
    assert_eq!(status, 422);
    assert_eq!(
        detail(&answer),
        "The service instance and the app are in different spaces"
    );

    let answer = shared.share().await;
    assert_eq!(answer["data"], json!([{ "guid": shared.target }]));
    assert_eq!(seen().await, 200);
    // It is used in the other space, and neither changed nor removed there.
    let (status, _) = f.call_as(&developer, Method::DELETE, &path, None).await;
    assert_eq!(status, 403);
    let secret = format!("{path}/parameters");
    let (status, _) = f.call_as(&developer, Method::GET, &secret, None).await;
    assert_eq!(status, 403);
    let binding = f.bind_managed(&shared.app, &shared.instance).await;
    let sent = shared.broker.calls(Call::Bind).remove(0);
    assert_eq!(sent.body["bind_resource"]["space_guid"], shared.target);
    assert_eq!(sent.body["context"]["space_guid"], f.space);

    let fields = "fields[space]=guid,name&fields[space.organization]=name";
    let list = f.get(&format!("{}?{fields}", shared.path())).await;
    assert_eq!(
        list["included"]["spaces"],
        json!([{ "guid": shared.target, "name": "target" }])
    );
    let usage = f.get(&format!("{}/usage_summary", shared.path())).await;
    assert_eq!(
        usage["usage_summary"],
        json!([{ "space": { "guid": shared.target }, "bound_app_count": 1 }])
    );
    let listed = f
        .get(&format!("{INSTANCES}?space_guids={}", shared.target))
        .await;
    assert_eq!(listed["resources"][0]["guid"], json!(shared.instance));
    // Names are unique among all instances of a space.
    let mut body = f.instance_body("db");
    body["relationships"]["space"]["data"]["guid"] = json!(shared.target);
    let (status, answer) = f.call(Method::POST, INSTANCES, Some(body)).await;
    assert_eq!(
        (status, detail(&answer)),
        (422, "The service instance name is taken: db.")
    );
    let rename = Some(json!({ "name": "new" }));
    let (status, answer) = f.call(Method::PATCH, &path, rename).await;
    assert_eq!(
        (status, detail(&answer)),
        (
            422,
            "Service instances that have been shared cannot be renamed"
        )
    );

    let (status, _) = shared.unshare().await;
    assert_eq!(status, 204);
    assert!(shared.broker.bindings().is_empty());
    let (status, _) = f
        .call(Method::GET, &format!("{BINDINGS}/{binding}"), None)
        .await;
    assert_eq!(status, 404);
    assert_eq!(seen().await, 404);
    let events = f
        .event_types(&format!("target_guids={}", shared.instance))
        .await;
    assert_eq!(
        events[1..],
        [
            "audit.service_instance.share",
            "audit.service_instance.unshare"
        ]
    );
    shared.f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_ends_only_when_its_bindings_are_gone() {
    let shared = Shared::start().await;
    let f = &shared.f;
    shared.share().await;
    f.bind_managed(&shared.app, &shared.instance).await;
    let wrong = json!({ "description": "not now" });
    shared
        .broker
        .always(Call::Unbind, Fault::Answer(500, wrong));
    let (status, answer) = shared.unshare().await;
    assert_eq!((status, code(&answer)), (502, Some(390_001)), "{answer}");
    assert!(detail(&answer).contains("not now"), "{answer}");
    let list = f.get(&shared.path()).await;
    assert_eq!(list["data"], json!([{ "guid": shared.target }]));
    shared.broker.heal(Call::Unbind);
    assert_eq!(shared.unshare().await.0, 204);

    // The end of the other space ends the share.
    shared.share().await;
    f.bind_managed(&shared.app, &shared.instance).await;
    let space = format!("/v3/spaces/{}", shared.target);
    f.done(Method::DELETE, &space, json!({})).await;
    assert!(shared.broker.bindings().is_empty());
    assert_eq!(f.get(&shared.path()).await["data"], json!([]));
    assert_eq!(shared.broker.instances(), [shared.instance.clone()]);
    shared.f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_shared_only_where_its_plan_may_be_used() {
    let shared = Shared::start().await;
    let f = &shared.f;
    let (_, foreign) = f.another_place("other").await;
    let to = |space: &str| Some(json!({ "data": [{ "guid": space }] }));
    let refused = async |space: &str, text: &str| {
        let (status, answer) = f.call(Method::POST, &shared.path(), to(space)).await;
        assert_eq!(status, 422, "{answer}");
        assert!(detail(&answer).contains(text), "{answer}");
    };
    refused(&f.space, "into the space where they were created").await;
    let list = f.get("/v3/service_plans?names=small").await;
    let plan = list["resources"][0]["guid"].as_str().unwrap().to_owned();
    let organizations = json!([{ "guid": f.organization }]);
    let body = json!({ "type": "organization", "organizations": organizations });
    f.set_visibility(&plan, body).await;
    refused(&foreign, "is not enabled in other/").await;
    let mut own = f.instance_body("db");
    own["relationships"]["space"]["data"]["guid"] = json!(shared.target);
    f.send(Method::POST, INSTANCES, own).await;
    refused(
        &shared.target,
        "A service instance called db already exists in target.",
    )
    .await;
    let flag = "/v3/feature_flags/service_instance_sharing";
    f.send(Method::PATCH, flag, json!({ "enabled": false }))
        .await;
    let roles: &[(&str, &str, &str)] = &[
        ("organization_user", "organization", &f.organization),
        ("space_developer", "space", &f.space),
        ("space_developer", "space", &shared.target),
    ];
    let developer = f.user("dev", roles).await;
    let body = to(&shared.target);
    let (status, answer) = f
        .call_as(&developer, Method::POST, &shared.path(), body)
        .await;
    assert_eq!((status, code(&answer)), (403, Some(330_002)), "{answer}");
    shared.f.finish().await;
}
