//! Tests of the rep on the real machine: real containers, a real Envoy, real health checks. They need root, crun, iptables, an
//! Envoy and a stack: `CUPOLA_ROOT_TESTS=1 cargo test -p rep --test it machine`.

use crate::fixture::{Fixture, app, run};
use crate::stand_in_bbs::Call;
use garden::api::{Garden, Signal};
use garden::linux::{CellNetwork, GardenConfig, LinuxGarden};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use wire::bbs::*;

/// A tag that differs from those of garden's own tests, which begin with t.
const TAG: &str = "reptest";

fn from_env(name: &str, otherwise: PathBuf) -> PathBuf {
    std::env::var_os(name).map_or(otherwise, PathBuf::from)
}

struct Machine {
    garden: Arc<LinuxGarden>,
    inside: PathBuf,
    envoy: PathBuf,
    data: PathBuf,
}

impl Machine {
    async fn build() -> Self {
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let data = target.join(format!("garden-{TAG}"));
        std::fs::create_dir_all(&data).unwrap();
        let inside = from_env(
            "CUPOLA_INSIDE",
            target
                .parent()
                .unwrap()
                .join("x86_64-unknown-linux-gnu/debug/inside"),
        );
        let network = CellNetwork::claim(TAG, None).await.unwrap();
        let config = GardenConfig {
            tag: TAG.into(),
            data_dir: data.clone(),
            run_dir: format!("/run/cupola-{TAG}").into(),
            crun: "crun".into(),
            inside: inside.clone(),
            stacks: [(
                "cflinuxfs4".to_owned(),
                from_env("CUPOLA_STACK", "/var/cache/cupola/cflinuxfs4.tar".into()),
            )]
            .into(),
            dns: network.cell_ip,
            network,
            router_ports: vec![],
            host_services: vec![],
            log_denied: false,
            limits: garden::linux::SharedLimits::default(),
            memory_mb: 0,
            disk_mb: 0,
            max_containers: 0,
        };
        let garden = Arc::new(LinuxGarden::build(config).await.unwrap());
        Self {
            garden,
            inside,
            envoy: from_env("CUPOLA_ENVOY", "/var/cache/cupola/envoy".into()),
            data,
        }
    }

    async fn clean(self) {
        for container in self.garden.containers().await.unwrap() {
            self.garden.destroy(&container.handle).await.unwrap();
        }
        self.garden.shutdown_clean().await.unwrap();
        std::fs::remove_dir_all(&self.data).unwrap();
    }
}

/// Requests the app through the cell's TLS port, as the router does. Returns `None` if there is no response.
fn fetch(
    fixture: &Fixture,
    guid: &str,
    cell_ip: &str,
    port: u32,
    client_certificate: bool,
) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };
    let identity = &fixture.certificates.identity;
    let mut curl = Command::new("curl");
    curl.args([
        "-sS",
        "--http1.1",
        "--max-time",
        "20",
        "--resolve",
        &format!("{guid}:{port}:{cell_ip}"),
        "--cacert",
        &file("ca.pem", &identity.ca_pem),
    ]);
    if client_certificate {
        curl.args([
            "--cert",
            &file("cert.pem", &identity.cert_pem),
            "--key",
            &file("key.pem", &identity.key_pem),
        ]);
    }
    let output = curl
        .arg(format!("https://{guid}:{port}/hello"))
        .output()
        .unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn python() -> DesiredLrp {
    let mut action = run("/bin/bash");
    action.run.as_mut().unwrap().args = vec![
        "-c".into(),
        "echo \"hello from $CF_INSTANCE_INTERNAL_IP\" > hello && exec python3 -m http.server 8080"
            .into(),
    ];
    DesiredLrp {
        action: Some(action),
        disk_mb: 64,
        memory_mb: 128,
        ..app()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_reached_through_its_envoy_and_survives_the_rep() {
    if std::env::var("CUPOLA_ROOT_TESTS").as_deref() != Ok("1") {
        println!("SKIPPED: needs root and crun; set CUPOLA_ROOT_TESTS=1");
        return;
    }
    let machine = Machine::build().await;
    let fixture = Fixture::new().await;
    let outcome = tokio::spawn({
        let (garden, inside, envoy) = (
            machine.garden.clone(),
            machine.inside.clone(),
            machine.envoy.clone(),
        );
        async move { scenario(&fixture, garden, inside, envoy).await }
    })
    .await;
    machine.clean().await;
    outcome.unwrap();
}

async fn scenario(fixture: &Fixture, garden: Arc<LinuxGarden>, inside: PathBuf, envoy: PathBuf) {
    let begun = std::time::Instant::now();
    let rep = fixture
        .rep_on(garden.clone(), inside.clone(), envoy.clone())
        .await;
    let guid = fixture.place(&rep, python()).await;
    let start = fixture
        .bbs
        .wait_for(|call| match call {
            Call::Start(start) => Some(Ok(start.clone())),
            Call::Crash(crash) => Some(Err(crash.error_message.clone())),
            _ => None,
        })
        .await
        .unwrap();
    println!("work to RUNNING: {:?}", begun.elapsed());
    let net = start.net_info.unwrap();
    let port = net.ports[0].host_tls_proxy_port;
    let want = format!("hello from {}\n", net.instance_address);
    assert_eq!(
        fetch(fixture, &guid, &net.address, port, true).as_deref(),
        Some(want.as_str())
    );
    assert_eq!(fetch(fixture, &guid, &net.address, port, false), None);

    rep.stop().await;
    assert_eq!(
        fetch(fixture, &guid, &net.address, port, true).as_deref(),
        Some(want.as_str())
    );
    let rep = fixture.rep_on(garden.clone(), inside, envoy).await;
    let mut starts = 0;
    fixture
        .bbs
        .wait_for(|call| {
            matches!(call, Call::Start(_))
                .then(|| starts += 1)
                .filter(|()| starts > 1)
        })
        .await;
    assert_eq!(
        fetch(fixture, &guid, &net.address, port, true).as_deref(),
        Some(want.as_str())
    );

    garden.signal(&guid, "envoy", Signal::Kill).await.unwrap();
    let reason = fixture
        .bbs
        .wait_for(|call| {
            if let Call::Crash(crash) = call {
                Some(crash.error_message.clone())
            } else {
                None
            }
        })
        .await;
    assert_eq!(reason, "PROXY: Exited with status 137");
    assert_eq!(rep.handle.drain_all(Duration::from_secs(60)).await, 0);
    assert!(garden.containers().await.unwrap().is_empty());
    rep.stop().await;
}
