//! Routes of servers that are not apps: they are registered while the servers are healthy, as a route-registrar's configuration
//! states.

use crate::backends::Backend;
use crate::certs::Ca;
use crate::world::{Nats, World, free_port, wait_for};
use kit::CancellationToken;
use route_registrar::{Outlets, Registrar, config};
use router::Settings;
use std::os::unix::fs::PermissionsExt as _;

fn on_bus(client: async_nats::Client) -> Outlets {
    Outlets {
        nats: Some(client),
        tcp_routes: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_an_app_is_routable_while_healthy() {
    let world = World::new().await;
    let backend = Backend::start("api").await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(
        path("check"),
        format!("#!/bin/sh\ntest -e {}\n", path("well").display()),
    )
    .unwrap();
    std::fs::set_permissions(path("check"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(path("slow"), "#!/bin/sh\nexec sleep 60\n").unwrap();
    std::fs::set_permissions(path("slow"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(path("job")).unwrap();
    let port = backend.addr.port();
    std::fs::write(
        path("job").join("registrar.yml"),
        format!("routes:\n- name: stuck\n  port: {port}\n  uris: [stuck.sys.test]\n  registration_interval: 200ms\n  health_check: {{name: slow, script_path: {}, timeout: 50ms}}\n", path("slow").display()),
    )
    .unwrap();
    let text = serde_json::json!({
        "message_bus_servers": [{"host": format!("127.0.0.1:{}", world.nats_port), "user": "nats", "password": "secret"}],
        "host": "127.0.0.1",
        "unregistration_message_limit": 2,
        "dynamic_config_globs": [path("*").join("registrar.yml")],
        "routes": [
            {"name": "checked", "port": port, "uris": ["api.sys.test", "*.api.sys.test"], "registration_interval": "400ms",
             "tags": {"component": "api"}, "health_check": {"name": "check", "script_path": path("check")}},
            {"name": "unchecked", "port": port, "uris": ["uaa.sys.test"], "registration_interval": "20s"}
        ]
    });
    std::fs::write(path("config.json"), text.to_string()).unwrap();

    let config = config::load(&path("config.json")).unwrap();
    let nats = config.nats().unwrap().unwrap();
    let client = clients::nats::connect(&nats, "registrar", |_| std::future::ready(()))
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let registrar = Registrar::with(
        on_bus(client),
        config.registrations,
        config.unregistration_limit,
    );
    let running = tokio::spawn(registrar.unwrap().run(stop.clone()));

    wait_for("the unchecked route", async || {
        world.handle.serves("uaa.sys.test")
    })
    .await;
    assert!(!world.handle.serves("api.sys.test"), "it is not well yet");
    for _ in 0..2 {
        std::fs::write(path("well"), "").unwrap();
        wait_for("the route of a server that is well", async || {
            world.handle.serves("api.sys.test")
        })
        .await;
        // A check that a busy machine delays counts as failed, and the next one brings the route back.
        wait_for("its answer", async || {
            world.get("v3.api.sys.test", "/").await.text() == "api"
        })
        .await;
        std::fs::remove_file(path("well")).unwrap();
        wait_for("the route of a server that is not well to go", async || {
            world.get("api.sys.test", "/").await.status == 404
        })
        .await;
    }
    assert!(
        !world.handle.serves("stuck.sys.test"),
        "a check that hangs counts as a failure"
    );
    stop.cancel();
    running.await.unwrap().unwrap();
    wait_for("no routes", async || world.handle.routes() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_with_mutual_tls() {
    let (ca, port) = (Ca::new(), free_port());
    let nats = Nats::with_tls(port, ("nats", "secret"), &ca.issue(&["127.0.0.1"]));
    let router = clients::nats::Config {
        tls: Some(ca.issue(&["router"])),
        ..Nats::config(port)
    };
    let world = World::on(nats, router, Settings::default()).await;
    let backend = Backend::start("api").await;
    let folder = tempfile::tempdir().unwrap();
    let own = ca.issue(&["registrar"]);
    let path = |name: &str| folder.path().join(name);
    for (name, text) in [
        ("cert", &own.cert_pem),
        ("key", &own.key_pem),
        ("ca", &own.ca_pem),
    ] {
        std::fs::write(path(name), text).unwrap();
    }
    let text = serde_json::json!({
        "message_bus_servers": [{"host": format!("127.0.0.1:{port}"), "user": "nats", "password": "secret"}],
        "nats_mtls_config": {"enabled": true, "cert_path": path("cert"), "key_path": path("key"), "ca_path": path("ca")},
        "host": "127.0.0.1",
        "routes": [{"name": "api", "port": backend.addr.port(), "uris": ["api.sys.test"], "registration_interval": "20s"}]
    });
    std::fs::write(path("config.json"), text.to_string()).unwrap();
    let config = config::load(&path("config.json")).unwrap();
    let bus = config.nats().unwrap().unwrap();
    let client = clients::nats::connect(&bus, "registrar", |_| std::future::ready(()));
    let client = client.await.unwrap();
    let stop = CancellationToken::new();
    let registrar = Registrar::with(
        on_bus(client),
        config.registrations,
        config.unregistration_limit,
    );
    let running = tokio::spawn(registrar.unwrap().run(stop.clone()));
    wait_for("the route", async || world.handle.serves("api.sys.test")).await;
    assert_eq!(world.get("api.sys.test", "/").await.text(), "api");
    stop.cancel();
    running.await.unwrap().unwrap();
    wait_for("no routes", async || world.handle.routes() == 0).await;

    std::fs::remove_file(path("key")).unwrap();
    let config = config::load(&path("config.json")).unwrap();
    let error = config.nats().unwrap_err().to_string();
    assert!(error.starts_with("nats_mtls_config.key_path "), "{error}");
}
