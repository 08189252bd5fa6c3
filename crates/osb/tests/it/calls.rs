//! Every call, as a broker receives it and as its answer is read.

use crate::fixture::{access, alice, client, ids};
use cc_rules::ordered_json::OrderedJson;
use osb::{
    Bind, Bound, Caller, Catalog, Deprovision, OperationState, Poll, Progress, Provision, Unbind,
    Update,
};
use std::time::Duration;
use testkit::broker::{Broker, Call, Fault};

fn json(text: &str) -> OrderedJson {
    serde_json::from_str(text).unwrap()
}

fn instance() -> Provision {
    let mut wish = Provision {
        instance_guid: "i".to_owned(),
        ids: ids(),
        parameters: Some(json(r#"{"z":1,"a":2}"#)),
        ..Provision::default()
    };
    wish.context.place.space_name = "dev".to_owned();
    wish.context.instance_name = Some("db".to_owned());
    wish
}

fn binding() -> Bind {
    Bind {
        instance_guid: "i".to_owned(),
        binding_guid: "b".to_owned(),
        ids: ids(),
        context: instance().context,
        app_guid: Some("app".to_owned()),
        resource: json(r#"{"app_guid":"app"}"#),
        parameters: None,
        predecessor: Some("old".to_owned()),
        accepts_incomplete: false,
        requires: Vec::new(),
    }
}

#[tokio::test]
async fn an_instance_is_made_bound_changed_and_removed() {
    let broker = Broker::start("db").await;
    let (client, access, caller) = (client(), access(&broker), alice());
    let calls = client.at(&access, &caller);
    let catalog = Catalog::check(&calls.catalog().await.unwrap()).unwrap();
    assert_eq!(catalog.offerings[0].name, "db");

    let made = calls.provision(&instance()).await.unwrap();
    assert_eq!(made.progress, Progress::Done);
    assert_eq!(
        made.dashboard_url.as_deref(),
        Some("http://dashboard.test/i")
    );
    // The same wish again is no error.
    calls.provision(&instance()).await.unwrap();
    broker.set_credentials(r#"{"z":{"b":1,"a":2},"c":null}"#);
    let Bound::Done(bound) = calls.bind(&binding()).await.unwrap() else {
        panic!("it was made at once");
    };
    let credentials = bound.credentials.unwrap().text();
    assert_eq!(credentials, r#"{"z":{"b":1,"a":2},"c":null}"#);
    let found = calls.fetch_binding("i", "b", &ids()).await.unwrap();
    assert_eq!(found.binding.credentials.unwrap().text(), credentials);
    let found = calls.fetch_instance("i", &ids()).await.unwrap();
    assert_eq!(found.parameters.unwrap().text(), r#"{"a":2,"z":1}"#);
    let change = Update {
        instance_guid: "i".to_owned(),
        ids: ids(),
        parameters: Some(json("{}")),
        ..Update::default()
    };
    assert_eq!(
        calls.update(&change).await.unwrap().progress,
        Progress::Done
    );
    let unbind = Unbind {
        instance_guid: "i".to_owned(),
        binding_guid: "b".to_owned(),
        ids: ids(),
        ..Unbind::default()
    };
    // What is gone is removed.
    for _ in 0..2 {
        assert_eq!(calls.unbind(&unbind).await.unwrap(), Progress::Done);
    }
    let removal = Deprovision {
        instance_guid: "i".to_owned(),
        ids: ids(),
        ..Deprovision::default()
    };
    for _ in 0..2 {
        let removed = calls.deprovision(&removal).await.unwrap();
        assert_eq!(removed.progress, Progress::Done);
    }
    assert!(broker.instances().is_empty() && broker.bindings().is_empty());

    let bind = &broker.calls(Call::Bind)[0];
    assert_eq!(bind.body["bind_resource"]["app_guid"], "app");
    assert_eq!(bind.body["predecessor_binding_id"], "old");
    let provision = &broker.calls(Call::Provision)[0];
    assert_eq!(provision.body["context"]["platform"], "cloudfoundry");
    assert_eq!(provision.body["context"]["instance_name"], "db");
    let header = |name: &str| provision.headers[name].to_str().unwrap();
    assert_eq!(header("x-broker-api-version"), osb::API_VERSION);
    assert_eq!(header("x-vcap-request-id"), "request-1");
    assert_eq!(header("x-api-info-location"), "api.test/");
    // The Base64 of {"user_id":"alice-guid"}.
    assert_eq!(
        header("x-broker-api-originating-identity"),
        "cloudfoundry eyJ1c2VyX2lkIjoiYWxpY2UtZ3VpZCJ9"
    );
    let removal = &broker.calls(Call::Deprovision)[0];
    assert_eq!(removal.query["service_id"], "db-id");
    assert_eq!(removal.query["plan_id"], "db-small-id");
}

#[tokio::test]
async fn an_operation_in_the_background_is_polled() {
    let broker = Broker::start("db").await;
    broker.work_in_background(Some(1));
    let (client, access, caller) = (client(), access(&broker), Caller::default());
    let calls = client.at(&access, &caller);
    let mut wish = instance();
    let refused = calls.provision(&wish).await.unwrap_err();
    assert_eq!(refused.kind, osb::ErrorKind::AsyncRequired);
    wish.accepts_incomplete = true;
    let begun = calls.provision(&wish).await.unwrap();
    let Progress::Started { operation } = begun.progress else {
        panic!("it works in the background");
    };
    let poll = Poll {
        instance_guid: "i".to_owned(),
        ids: ids(),
        operation: operation.clone(),
        ..Poll::default()
    };
    broker.next(Call::InstanceOperation, Fault::RetryAfter(7));
    let found = calls.last_operation(&poll).await.unwrap();
    assert_eq!(found.state, OperationState::InProgress);
    assert_eq!(found.retry_after, Some(Duration::from_secs(7)));
    let found = calls.last_operation(&poll).await.unwrap();
    assert_eq!(found.state, OperationState::Succeeded);
    let request = &broker.calls(Call::InstanceOperation)[0];
    assert_eq!(request.query.get("operation"), operation.as_ref());
    assert!(
        !request
            .headers
            .contains_key("x-broker-api-originating-identity")
    );

    let mut wish = binding();
    wish.accepts_incomplete = true;
    let begun = calls.bind(&wish).await.unwrap();
    assert!(matches!(begun, Bound::Started { operation: Some(_) }));
    broker.fail_in_background(Some("no disk"));
    let removal = Deprovision {
        instance_guid: "i".to_owned(),
        ids: ids(),
        accepts_incomplete: true,
    };
    calls.deprovision(&removal).await.unwrap();
    calls.last_operation(&poll).await.unwrap();
    let found = calls.last_operation(&poll).await.unwrap();
    assert_eq!(found.state, OperationState::Failed);
    assert_eq!(found.description.as_deref(), Some("no disk"));
    let gone = Poll {
        instance_guid: "other".to_owned(),
        ..poll
    };
    let found = calls.last_operation(&gone).await.unwrap();
    assert_eq!(found.state, OperationState::Gone);
}
