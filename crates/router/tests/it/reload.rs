//! A new configuration for a running router.

use crate::backends::Backend;
use crate::certs::Ca;
use crate::client::request;
use crate::world::{World, wait_for};
use kit::tls::{ClientAuth, Identity, server_config};
use router::{Certificate, Reload, Settings};
use std::sync::Arc;
use tokio::net::TcpStream;

/// Returns the certificate that a client is presented, if it chains to the authority.
async fn shown(world: &World, ca: &Ca) -> std::io::Result<Vec<u8>> {
    let config =
        kit::tls::trusting(kit::tls::Authorities::from_pem(&ca.pem).unwrap()).with_no_client_auth();
    let stream = TcpStream::connect(world.https).await?;
    let name = "app.apps.test".try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

fn reload(front: Identity, backend_tls: Identity, settings: Settings) -> Reload {
    Reload {
        certificates: vec![Certificate {
            cert_pem: front.cert_pem,
            key_pem: front.key_pem,
        }],
        backend_tls,
        settings: Settings {
            workers: 2,
            ..settings
        },
        pages_tls: None,
        login: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_and_connections_stay() {
    let world = World::new().await;
    let backend = Backend::start("done").await;
    world
        .register("app.apps.test", "app", 0, backend.addr)
        .await;
    let before = shown(&world, &world.ca).await.unwrap();
    let addr = world.addr;
    let slow =
        tokio::spawn(async move { request(addr, "GET", "app.apps.test", "/slow", &[], "").await });
    backend.waiting.notified().await;

    let mut broken = world.ca.issue(&["*.apps.test"]);
    broken.key_pem = world.ca.issue(&["other"]).key_pem;
    let own = world.ca.issue(&["router"]);
    let refused = reload(broken, own.clone(), Settings::default());
    assert!(world.handle.reload(refused).await.is_err());
    assert_eq!(shown(&world, &world.ca).await.unwrap(), before);

    let new = world.ca.issue(&["*.apps.test"]);
    let settings = Settings {
        healthcheck_user_agent: "Probe".into(),
        ..Settings::default()
    };
    world
        .handle
        .reload(reload(new, own, settings))
        .await
        .unwrap();
    wait_for("the new workers alone to accept", async || {
        shown(&world, &world.ca).await.unwrap() != before
    })
    .await;
    let probe = [("user-agent", "Probe")];
    wait_for("the new settings", async || {
        let reply = request(addr, "GET", "nobody.test", "/", &probe, "").await;
        reply.text() == "ok\n"
    })
    .await;
    backend.go.notify_one();
    assert_eq!(slow.await.unwrap().text(), "done", "it ends as it began");
    assert!(world.handle.healthy());
}

/// A connection that an authority has vouched for is not used once that authority is no longer trusted.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_backends_are_not_kept_over_a_change_of_trust() {
    let world = World::new().await;
    let config = server_config(
        &world.ca.issue(&["instance-a"]),
        ClientAuth::Required,
        &["http/1.1"],
    )
    .unwrap();
    let backend = Backend::start_tls("right", config).await;
    world
        .register_tls("app.apps.test", "app", "instance-a", backend.addr)
        .await;
    for _ in 0..4 {
        assert_eq!(world.get("app.apps.test", "/").await.status, 200);
    }
    let stranger = Ca::new();
    let mut distrustful = world.ca.issue(&["router"]);
    distrustful.ca_pem = stranger.pem.clone();
    let front = world.ca.issue(&["*.apps.test"]);
    world
        .handle
        .reload(reload(front, distrustful, Settings::default()))
        .await
        .unwrap();
    // An old worker that a busy machine does not run may accept some more connections.
    wait_for("the new workers alone to accept", async || {
        for _ in 0..20 {
            if world.get("app.apps.test", "/").await.status != 526 {
                return false;
            }
        }
        true
    })
    .await;
}
