//! Tests of the page that shows what the cell really has of an instance.

use crate::fixture::{CELL, Fixture, app};
use crate::stand_in_bbs::Call;

#[tokio::test]
async fn an_instance_shows_its_container_and_its_translations() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    fixture
        .bbs
        .wait_for(|call| matches!(call, Call::Start(_)).then_some(()))
        .await;

    let shown = fixture.client.inspect(&rep.url, &guid).await.unwrap();
    assert_eq!(
        (shown.instance_guid.as_str(), shown.cell_id.as_str()),
        (guid.as_str(), CELL)
    );
    assert_eq!(shown.state, "running");
    assert!(shown.is_routable && !shown.is_stopping && shown.now > 1_600_000_000);
    let container = shown.container.as_ref().unwrap();
    let port = container
        .ports
        .iter()
        .find(|port| port.container_port == 61001);
    let translation = format!(
        "--dport {} -j DNAT --to-destination {}:61001",
        port.unwrap().host_port,
        container.address
    );
    let rules = shown.firewall.get().unwrap();
    assert!(
        rules.iter().any(|rule| rule.rule.ends_with(&translation)),
        "{rules:?}"
    );
    assert!(
        container
            .processes
            .iter()
            .any(|process| process.id == "envoy")
    );
    // The simulated garden has no Envoy that answers.
    let problem = shown.envoy.unwrap().get().unwrap_err().to_owned();
    assert!(!problem.is_empty());
    rep.stop().await;
}

#[tokio::test]
async fn an_unknown_instance_has_no_state_and_no_container() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let shown = fixture.client.inspect(&rep.url, "unknown").await.unwrap();
    assert_eq!(shown.state, "");
    assert_eq!(shown.container, None);
    rep.stop().await;
}
