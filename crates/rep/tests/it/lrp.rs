//! Tests of the life of an LRP instance.

use crate::fixture::{CELL, Fixture, app, resource, run};
use crate::stand_in_bbs::Call;
use garden::api::{Exit, NetIn, Signal};
use std::time::Duration;
use testkit::sim_garden::Script;
use wire::bbs::*;

fn started(call: &Call) -> Option<StartActualLrpRequest> {
    if let Call::Start(start) = call {
        Some(start.clone())
    } else {
        None
    }
}

fn crashed(call: &Call) -> Option<String> {
    if let Call::Crash(crash) = call {
        Some(crash.error_message.clone())
    } else {
        None
    }
}

fn removed(call: &Call) -> Option<RemoveActualLrpRequest> {
    if let Call::Remove(remove) = call {
        Some(remove.clone())
    } else {
        None
    }
}

#[tokio::test]
async fn work_becomes_a_running_instance() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    let start = fixture.bbs.wait_for(started).await;

    let ports: Vec<_> = start
        .net_info
        .as_ref()
        .unwrap()
        .ports
        .iter()
        .map(|p| {
            (
                p.container_port,
                p.host_port,
                p.container_tls_proxy_port,
                p.host_tls_proxy_port,
            )
        })
        .collect();
    assert_eq!(
        ports,
        [
            (8080, 0, 61001, 61001),
            (8080, 0, 61443, 0),
            (2222, 0, 61002, 61002)
        ]
    );
    assert_eq!(start.net_info.unwrap().address, "10.0.0.1");
    assert_eq!(
        (start.routable, start.availability_zone.as_str()),
        (Some(true), "z1")
    );
    assert_eq!(start.internal_routes[0].hostname, "a.apps.internal");
    assert_eq!(start.metric_tags["process_id"], "p");

    let spec = fixture.garden.spec(&guid).unwrap();
    assert_eq!(spec.limits.memory, 64 << 20, "what the app asked for");
    assert_eq!(spec.limits.sidecar_memory, 64 << 20, "the proxy's own");
    assert_eq!(
        spec.net_in,
        [61001, 61002].map(|container_port| NetIn {
            host_port: 0,
            container_port
        })
    );
    let mounts: Vec<&str> = spec
        .bind_mounts
        .iter()
        .map(|m| m.container.as_str())
        .collect();
    assert_eq!(
        mounts,
        [
            "/etc/cf-instance-credentials",
            "/etc/cf-assets/healthcheck",
            "/etc/cf-assets/envoy",
            "/etc/cf-assets/envoy_config"
        ]
    );
    assert!(
        spec.env
            .contains(&("CF_INSTANCE_GUID".into(), guid.clone()))
    );
    let process = fixture.garden.process(&guid, "action-0").unwrap();
    assert!(
        process
            .env
            .iter()
            .any(|(name, value)| name == "CF_INSTANCE_INTERNAL_IP" && value == "127.255.0.2")
    );
    assert!(fixture.garden.process(&guid, "envoy").unwrap().sidecar);
    let files = fixture.work_dir().join("containers").join(&guid);
    for file in [
        "credentials/instance.crt",
        "credentials/instance.key",
        "envoy/envoy.yaml",
        "envoy/sds-id-cert-and-key.yaml",
        "envoy/sds-c2c-cert-and-key.yaml",
        "envoy/sds-id-validation-context.yaml",
    ] {
        assert!(files.join(file).exists(), "{file}");
    }

    let state = fixture.client.state(&rep.url).await.unwrap();
    assert_eq!(
        (
            state.lrps.len(),
            state.lrps[0].state.as_str(),
            state.lrps[0].instance_guid.as_str()
        ),
        (1, "running", guid.as_str())
    );
    assert_eq!(
        state.total_resources.memory_mb - state.available_resources.memory_mb,
        64 + 64,
        "the app and its sidecars"
    );
    let metrics = fixture.client.container_metrics(&rep.url).await.unwrap();
    assert_eq!(
        (
            metrics.cell_id.as_str(),
            metrics.lrps[0].metrics.memory_quota_bytes
        ),
        (CELL, 64 << 20)
    );
    rep.stop().await;
}

#[tokio::test]
async fn a_crash_is_reported_with_its_reason_and_the_container_goes() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    fixture.bbs.wait_for(started).await;
    fixture.garden.exit(
        &guid,
        "action-0",
        Exit {
            status: 137,
            out_of_memory: true,
        },
    );
    assert_eq!(
        fixture.bbs.wait_for(crashed).await,
        "APP/PROC/WEB: Exited with status 137 (out of memory)"
    );
    fixture
        .garden
        .wait_for("the last container to be gone", |g| {
            g.handles().is_empty().then_some(())
        })
        .await;
    rep.stop().await;
}

#[tokio::test]
async fn the_end_of_envoy_is_a_crash() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    fixture.bbs.wait_for(started).await;
    fixture.garden.exit(
        &guid,
        "envoy",
        Exit {
            status: 137,
            out_of_memory: false,
        },
    );
    assert_eq!(
        fixture.bbs.wait_for(crashed).await,
        "PROXY: Exited with status 137"
    );
    rep.stop().await;
}

#[tokio::test]
async fn an_exit_with_success_is_a_crash_too() {
    let fixture = Fixture::new().await;
    fixture.garden.script(
        |p| p.path.ends_with("launcher"),
        Script::exits(0).prints("bye\n"),
    );
    // The instance must not become healthy before the app has ended.
    fixture
        .garden
        .script(|p| p.path.ends_with("healthcheck"), Script::runs());
    let rep = fixture.rep().await;
    fixture.place(&rep, app()).await;
    assert_eq!(
        fixture.bbs.wait_for(crashed).await,
        "Codependent step exited"
    );
    assert!(
        !fixture
            .bbs
            .calls()
            .iter()
            .any(|c| matches!(c, Call::Start(_)))
    );
    rep.stop().await;
}

#[tokio::test]
async fn never_healthy() {
    let fixture = Fixture::new().await;
    fixture.garden.script(
        |p| p.args.contains(&"-port=8080".to_owned()),
        Script::exits(4).prints("connection refused\n"),
    );
    let rep = fixture.rep().await;
    fixture.place(&rep, app()).await;
    assert_eq!(
        fixture.bbs.wait_for(crashed).await,
        "Instance never healthy after 1m0s: connection refused; The app does not listen on port 8080; listen on 0.0.0.0:8080 (environment variable PORT)"
    );
    rep.stop().await;
}

#[tokio::test]
async fn unhealthy_later() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    fixture
        .garden
        .wait_for("the process liveness-8080", |g| {
            g.process(&guid, "liveness-8080")
        })
        .await;
    fixture.garden.print(
        &guid,
        "liveness-8080",
        garden::api::Output::Stdout("timed out\n".as_bytes().to_vec().into()),
    );
    fixture.garden.exit(
        &guid,
        "liveness-8080",
        Exit {
            status: 64,
            out_of_memory: false,
        },
    );
    assert_eq!(
        fixture.bbs.wait_for(crashed).await,
        "Instance became unhealthy: timed out"
    );
    rep.stop().await;
}

#[tokio::test]
async fn readiness_decides_about_requests_only() {
    let fixture = Fixture::new().await;
    let mut lrp = app();
    lrp.check_definition.as_mut().unwrap().readiness_checks = vec![Check {
        http_check: Some(HttpCheck {
            port: 8080,
            path: "/ready".into(),
            ..HttpCheck::default()
        }),
        tcp_check: None,
    }];
    fixture.garden.script(
        |p| p.args.iter().any(|a| a.starts_with("-until-ready")),
        Script::runs(),
    );
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, lrp).await;
    fixture
        .bbs
        .wait_for(|c| started(c).filter(|s| s.routable == Some(false)))
        .await;
    let check = |prefix: &'static str| {
        let guid = guid.clone();
        fixture.garden.wait_for(prefix, move |g| {
            g.processes(&guid)
                .into_keys()
                .find(|id| id.starts_with(prefix))
        })
    };
    fixture.garden.exit(
        &guid,
        &check("until-ready").await,
        Exit {
            status: 0,
            out_of_memory: false,
        },
    );
    fixture
        .bbs
        .wait_for(|c| started(c).filter(|s| s.routable == Some(true)))
        .await;
    fixture.garden.exit(
        &guid,
        &check("readiness").await,
        Exit {
            status: 6,
            out_of_memory: false,
        },
    );
    let mut flips = 0;
    fixture
        .bbs
        .wait_for(|c| {
            started(c)
                .filter(|s| s.routable == Some(false))
                .and_then(|_| {
                    flips += 1;
                    (flips > 1).then_some(())
                })
        })
        .await;
    rep.stop().await;
}

#[tokio::test]
async fn stop_unregisters_the_route_first_and_removes_the_row_last() {
    let fixture = Fixture::new().await;
    fixture
        .garden
        .script(|p| p.path.ends_with("launcher"), Script::ignores_term());
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    fixture.bbs.wait_for(started).await;
    fixture
        .client
        .stop_lrp(&rep.url, "process-1", &guid)
        .await
        .unwrap();
    fixture
        .garden
        .wait_for("SIGTERM for the app", |g| {
            (g.signals(&guid, "action-0").first() == Some(&Signal::Term)).then_some(())
        })
        .await;
    let last = fixture.bbs.calls().iter().rev().find_map(started).unwrap();
    assert_eq!(last.routable, Some(false));
    let remove = fixture.bbs.wait_for(removed).await;
    assert_eq!(remove.instance_key.unwrap().instance_guid, guid);
    assert!(fixture.garden.handles().is_empty());
    assert!(
        !fixture
            .bbs
            .calls()
            .iter()
            .any(|c| matches!(c, Call::Crash(_)))
    );
    rep.handle.drain_all(Duration::from_secs(60)).await;
    assert!(!fixture.work_dir().join("containers").join(&guid).exists());
    rep.stop().await;
}

#[tokio::test]
async fn an_instance_that_the_bbs_refuses_is_destroyed_without_a_word() {
    let fixture = Fixture::new().await;
    fixture.bbs.rows.lock().unwrap().refuse_start = true;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    fixture
        .garden
        .wait_for("the container", |g| g.spec(&guid))
        .await;
    fixture
        .garden
        .wait_for("the last container to be gone", |g| {
            g.handles().is_empty().then_some(())
        })
        .await;
    assert!(
        !fixture
            .bbs
            .calls()
            .iter()
            .any(|c| matches!(c, Call::Crash(_) | Call::Remove(_)))
    );
    rep.stop().await;
}

#[tokio::test]
async fn a_container_that_cannot_be_made_is_a_crash() {
    let fixture = Fixture::new().await;
    fixture.garden.refuse_create("no space left on device");
    let rep = fixture.rep().await;
    fixture.place(&rep, app()).await;
    assert_eq!(
        fixture.bbs.wait_for(crashed).await,
        "failed to create container: create container: no space left on device"
    );
    rep.stop().await;
}

#[tokio::test]
async fn too_much_work_and_work_for_others_is_refused() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let lrp = |memory_mb| wire::rep::Lrp {
        process_guid: "p".into(),
        resource: wire::rep::Resource {
            memory_mb,
            ..resource()
        },
        ..wire::rep::Lrp::default()
    };
    let work = wire::rep::Work {
        lrps: vec![lrp(100_000)],
        tasks: vec![],
        cell_id: CELL.into(),
    };
    assert_eq!(
        fixture.client.perform(&rep.url, &work).await.unwrap().lrps,
        work.lrps
    );
    let elsewhere = wire::rep::Work {
        cell_id: "cell-2".into(),
        ..work
    };
    assert!(fixture.client.perform(&rep.url, &elsewhere).await.is_err());
    rep.stop().await;
}

/// Tests work without a content type, as Diego's auctioneer sends it.
#[tokio::test]
async fn work_is_accepted_without_a_content_type() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let client = clients::http::client(&fixture.certificates.identity, None).unwrap();
    let post = async |body: String| {
        let request = client.post(format!("{}/work", rep.url)).body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let work = format!(r#"{{"LRPs": [], "Tasks": [], "cell_id": "{CELL}"}}"#);
    let (status, refused) = post(work).await;
    let refused: wire::rep::Work = serde_json::from_str(&refused).unwrap();
    assert!(status == 200 && refused.is_empty());
    assert_eq!(post("no JSON".to_owned()).await.0, 400);
    rep.stop().await;
}

#[tokio::test]
async fn setup_comes_before_the_action_and_sidecars_run_beside_it() {
    let fixture = Fixture::new().await;
    fixture
        .garden
        .script(|p| p.path == "/setup", Script::exits(0));
    let rep = fixture.rep().await;
    let lrp = DesiredLrp {
        setup: Some(run("/setup")),
        sidecars: vec![Sidecar {
            action: Some(run("/sidecar")),
            disk_mb: 0,
            memory_mb: 0,
        }],
        ..app()
    };
    let guid = fixture.place(&rep, lrp).await;
    fixture.bbs.wait_for(started).await;
    let processes = fixture.garden.processes(&guid);
    assert_eq!(processes["setup"].unwrap().status, 0);
    assert!(processes["sidecar-0"].is_none() && processes["action-0"].is_none());
    assert_eq!(rep.handle.drain_all(Duration::from_secs(60)).await, 0);
    assert!(fixture.garden.handles().is_empty());
    fixture.bbs.wait_for(removed).await;
    rep.stop().await;
}
