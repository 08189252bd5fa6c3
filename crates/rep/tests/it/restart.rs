//! Tests of a restarted rep, which finds the containers that outlived its predecessor.

use crate::fixture::{Fixture, app};
use crate::stand_in_bbs::Call;
use garden::api::{ContainerSpec, Exit, Garden as _};
use testkit::wait::wait_for;

fn starts(fixture: &Fixture) -> usize {
    fixture
        .bbs
        .calls()
        .iter()
        .filter(|c| matches!(c, Call::Start(_)))
        .count()
}

#[tokio::test]
async fn a_running_instance_is_adopted_untouched() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    fixture
        .garden
        .wait_for("the process liveness-8080", |g| {
            g.process(&guid, "liveness-8080")
        })
        .await;
    fixture
        .bbs
        .wait_for(|c| matches!(c, Call::Start(_)).then_some(()))
        .await;
    rep.stop().await;
    let before = fixture.garden.processes(&guid);
    assert!(before["action-0"].is_none() && before["envoy"].is_none());
    let reported = starts(&fixture);

    let rep = fixture.rep().await;
    let mut seen = 0;
    fixture
        .bbs
        .wait_for(|c| {
            seen += usize::from(matches!(c, Call::Start(_)));
            if seen > reported { Some(()) } else { None }
        })
        .await;
    assert_eq!(
        fixture.client.state(&rep.url).await.unwrap().lrps[0].instance_guid,
        guid
    );
    assert_eq!(fixture.garden.processes(&guid), before);

    // The rep still watches the instance.
    fixture.garden.exit(
        &guid,
        "action-0",
        Exit {
            status: 1,
            out_of_memory: false,
        },
    );
    let reason = fixture
        .bbs
        .wait_for(|c| {
            if let Call::Crash(crash) = c {
                Some(crash.error_message.clone())
            } else {
                None
            }
        })
        .await;
    assert_eq!(reason, "APP/PROC/WEB: Exited with status 1");
    fixture
        .garden
        .wait_for("the last container to be gone", |g| {
            g.handles().is_empty().then_some(())
        })
        .await;
    rep.stop().await;
}

#[tokio::test]
async fn an_instance_that_ended_meanwhile_is_a_crash() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    fixture
        .garden
        .wait_for("the process liveness-8080", |g| {
            g.process(&guid, "liveness-8080")
        })
        .await;
    rep.stop().await;
    fixture.garden.exit(
        &guid,
        "envoy",
        Exit {
            status: 137,
            out_of_memory: false,
        },
    );
    let rep = fixture.rep().await;
    let reason = fixture
        .bbs
        .wait_for(|c| {
            if let Call::Crash(crash) = c {
                Some(crash.error_message.clone())
            } else {
                None
            }
        })
        .await;
    assert_eq!(reason, "PROXY: Exited with status 137");
    rep.stop().await;
}

#[tokio::test]
async fn unwanted_containers_are_destroyed() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    fixture
        .garden
        .wait_for("the process liveness-8080", |g| {
            g.process(&guid, "liveness-8080")
        })
        .await;
    rep.stop().await;
    fixture.bbs.rows.lock().unwrap().desired.clear();
    let ours = [("executor:owner".to_owned(), "executor".to_owned())].into();
    fixture
        .garden
        .create(ContainerSpec {
            handle: "without-record".into(),
            properties: ours,
            ..ContainerSpec::default()
        })
        .await
        .unwrap();
    fixture
        .garden
        .create(ContainerSpec {
            handle: "somebody-elses".into(),
            ..ContainerSpec::default()
        })
        .await
        .unwrap();
    let rep = fixture.rep().await;
    fixture
        .bbs
        .wait_for(|c| matches!(c, Call::Remove(_)).then_some(()))
        .await;
    assert_eq!(fixture.garden.handles(), ["somebody-elses"]);
    rep.stop().await;
}

#[tokio::test]
async fn rows_without_a_container_are_removed() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    fixture
        .bbs
        .wait_for(|c| matches!(c, Call::Start(_)).then_some(()))
        .await;
    rep.stop().await;
    fixture.garden.destroy(&guid).await.unwrap();
    let rep = fixture.rep().await;
    fixture
        .bbs
        .wait_for(|c| matches!(c, Call::Remove(_)).then_some(()))
        .await;
    wait_for("the end of the comparison", async || {
        let pass = rep.handle.last_bulk();
        pass.is_some_and(|pass| pass.error.is_none())
    })
    .await;
    rep.stop().await;
}
