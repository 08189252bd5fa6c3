//! Tests of what Diego's own suites expect of a cell, and of the advice that apps get about their mistakes.

use crate::fixture::{Fixture, app, run};
use crate::stand_in_bbs::Call;
use garden::api::{Exit, Protocol};
use std::net::Ipv4Addr;
use std::time::Duration;
use testkit::sim_garden::Script;
use testkit::wait::until;
use wire::bbs::*;

fn started(call: &Call) -> Option<()> {
    matches!(call, Call::Start(_)).then_some(())
}

fn crashed(call: &Call) -> Option<String> {
    match call {
        Call::Crash(crash) => Some(crash.error_message.clone()),
        _ => None,
    }
}

/// Changes the egress rules of the process in the BBS, as a new version.
fn allow(fixture: &Fixture, version: u32, destinations: &[&str]) {
    let mut rows = fixture.bbs.rows.lock().unwrap();
    let lrp = rows.desired.get_mut("process-1").unwrap();
    lrp.egress_rules = destinations
        .iter()
        .map(|destination| SecurityGroupRule {
            protocol: "all".into(),
            destinations: vec![(*destination).to_owned()],
            ..SecurityGroupRule::default()
        })
        .collect();
    lrp.modification_tag = Some(ModificationTag {
        epoch: "e".into(),
        index: version,
    });
}

/// Waits until the container may reach exactly these addresses.
async fn reaches(fixture: &Fixture, guid: &str, addresses: &[&str]) {
    let wanted: Vec<Ipv4Addr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
    until(&format!("egress to {wanted:?} alone"), || {
        let is: Option<Vec<Ipv4Addr>> = fixture.garden.spec(guid).map(|spec| {
            let rules = spec.egress.iter();
            assert!(rules.clone().all(|rule| rule.protocol == Protocol::All));
            rules.map(|rule| rule.destinations[0].0).collect()
        });
        let holds = is.as_ref() == Some(&wanted);
        holds.then_some(()).ok_or_else(|| format!("{is:?}"))
    })
    .await;
}

#[tokio::test]
async fn changed_egress_rules_reach_a_running_instance() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let mut lrp = app();
    lrp.modification_tag = Some(ModificationTag {
        epoch: "e".into(),
        index: 1,
    });
    let guid = fixture.place(&rep, lrp).await;
    fixture.bbs.wait_for(started).await;
    reaches(&fixture, &guid, &[]).await;

    // The change arrives through the BBS's call, and also without one.
    allow(&fixture, 2, &["1.1.1.1", "2.2.2.2"]);
    let update = wire::rep::LrpUpdate {
        instance_guid: guid.clone(),
        process_guid: "process-1".into(),
        ..wire::rep::LrpUpdate::default()
    };
    fixture.client.update_lrp(&rep.url, &update).await.unwrap();
    reaches(&fixture, &guid, &["1.1.1.1", "2.2.2.2"]).await;
    allow(&fixture, 3, &["2.2.2.2"]);
    reaches(&fixture, &guid, &["2.2.2.2"]).await;

    // Rules that cannot be read change nothing; the next readable ones apply.
    allow(&fixture, 4, &["nowhere"]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    reaches(&fixture, &guid, &["2.2.2.2"]).await;
    allow(&fixture, 5, &["3.3.3.3"]);
    reaches(&fixture, &guid, &["3.3.3.3"]).await;

    // A change that was made while no rep ran also arrives.
    rep.stop().await;
    allow(&fixture, 6, &[]);
    let rep = fixture.rep().await;
    reaches(&fixture, &guid, &[]).await;
    assert_eq!(
        fixture.garden.processes(&guid)["action-0"],
        None,
        "the app was not restarted"
    );
    rep.stop().await;
}

#[tokio::test]
async fn an_app_that_listens_elsewhere_learns_so() {
    for (listening, advice) in [
        (
            "127.0.0.1:8080",
            "The app listens on 127.0.0.1:8080 only; listen on 0.0.0.0:8080",
        ),
        (
            "0.0.0.0:3000",
            "The app listens on 0.0.0.0:3000, not on port 8080; listen on 0.0.0.0:8080 (environment variable PORT)",
        ),
    ] {
        let fixture = Fixture::new().await;
        let check = |p: &garden::api::ProcessSpec| p.args.contains(&"-port=8080".to_owned());
        fixture.garden.script(check, Script::runs());
        let rep = fixture.rep().await;
        let guid = fixture.place(&rep, app()).await;
        let check = fixture
            .garden
            .wait_for("a startup check", |g| {
                let mut ids = g.processes(&guid).into_keys();
                ids.find(|id| id.starts_with("startup-8080"))
            })
            .await;
        fixture.garden.listen(
            &guid,
            &[listening.parse().unwrap(), "0.0.0.0:61001".parse().unwrap()],
        );
        let refused = garden::api::Output::Stderr("connection refused".into());
        fixture.garden.print(&guid, &check, refused);
        fixture.garden.exit(
            &guid,
            &check,
            Exit {
                status: 4,
                out_of_memory: false,
            },
        );
        assert_eq!(
            fixture.bbs.wait_for(crashed).await,
            format!("Instance never healthy after 1m0s: connection refused; {advice}")
        );
        rep.stop().await;
    }
}

#[tokio::test]
async fn an_app_that_listens_rightly_is_watched_on() {
    let fixture = Fixture::new().await;
    let check = |p: &garden::api::ProcessSpec| {
        p.args.contains(&"-port=8080".to_owned()) && p.args.iter().any(|a| a.contains("startup"))
    };
    fixture.garden.script(check, Script::runs());
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    let check = fixture
        .garden
        .wait_for("a startup check", |g| {
            let mut ids = g.processes(&guid).into_keys();
            ids.find(|id| id.starts_with("startup-8080"))
        })
        .await;
    fixture
        .garden
        .listen(&guid, &["0.0.0.0:8080".parse().unwrap()]);
    // The advice stops long before the check ends.
    fixture.garden.wait_for_lists(3).await;
    let exit = |status| Exit {
        status,
        out_of_memory: false,
    };
    fixture.garden.exit(&guid, &check, exit(0));
    fixture.bbs.wait_for(started).await;
    let watched = fixture.garden.wait_for("the process liveness-8080", |g| {
        g.process(&guid, "liveness-8080")
    });
    watched.await;
    fixture.garden.wait_for_lists(3).await;
    fixture.garden.exit(&guid, "liveness-8080", exit(4));
    let reason = fixture.bbs.wait_for(crashed).await;
    assert!(reason.starts_with("Instance became unhealthy"), "{reason}");
    rep.stop().await;
}

#[tokio::test]
async fn all_failing_start_up_checks_are_reported() {
    let fixture = Fixture::new().await;
    for port in [8080, 9090] {
        fixture.garden.script(
            move |p| p.args.contains(&format!("-port={port}")),
            Script::exits(4).prints(&format!("{port} refused")),
        );
    }
    let rep = fixture.rep().await;
    let mut lrp = app();
    let second = Check {
        tcp_check: Some(TcpCheck {
            port: 9090,
            ..TcpCheck::default()
        }),
        http_check: None,
    };
    lrp.check_definition.as_mut().unwrap().checks.push(second);
    fixture.place(&rep, lrp).await;
    let reason = fixture.bbs.wait_for(crashed).await;
    assert!(
        reason.starts_with("Instance never healthy after 1m0s: 8080 refused; 9090 refused"),
        "{reason}"
    );
    rep.stop().await;
}

#[tokio::test]
async fn under_a_monitor_an_action_may_end_with_success() {
    let fixture = Fixture::new().await;
    fixture
        .garden
        .script(|p| p.path == "/daemonize", Script::exits(0));
    let rep = fixture.rep().await;
    let lrp = DesiredLrp {
        action: Some(run("/daemonize")),
        ..app()
    };
    let guid = fixture.place(&rep, lrp).await;
    fixture.bbs.wait_for(started).await;
    fixture
        .garden
        .wait_for("the process liveness-8080", |g| {
            g.process(&guid, "liveness-8080")
        })
        .await;
    fixture.garden.wait_for_lists(3).await;
    assert_eq!(fixture.bbs.calls().iter().find_map(crashed), None);
    let ended = Exit {
        status: 4,
        out_of_memory: false,
    };
    fixture.garden.exit(&guid, "liveness-8080", ended);
    let reason = fixture.bbs.wait_for(crashed).await;
    assert!(reason.starts_with("Instance became unhealthy"), "{reason}");
    rep.stop().await;
}

#[tokio::test]
async fn without_a_monitor_the_end_of_the_action_is_the_end() {
    let fixture = Fixture::new().await;
    fixture
        .garden
        .script(|p| p.path == "/once", Script::exits(0));
    let rep = fixture.rep().await;
    let lrp = DesiredLrp {
        action: Some(run("/once")),
        check_definition: None,
        ..app()
    };
    fixture.place(&rep, lrp).await;
    assert_eq!(fixture.bbs.wait_for(crashed).await, "Exited with status 0");
    rep.stop().await;
}

#[tokio::test]
async fn an_unwatched_container_is_not_reported_as_unhealthy() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    fixture
        .garden
        .wait_for("the process liveness-8080", |g| {
            g.process(&guid, "liveness-8080")
        })
        .await;
    fixture.garden.kill_watcher(&guid);
    let reason = fixture.bbs.wait_for(crashed).await;
    assert!(
        reason.contains(&format!(
            "the process that watches over container {guid} has ended"
        )),
        "{reason}"
    );
    rep.stop().await;
}

#[tokio::test]
async fn instance_guids_have_the_originals_length() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    let parts: Vec<usize> = guid.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 4]);
    assert!(fixture.garden.repairs() > 0, "the firewall is compared");
    rep.stop().await;
}
