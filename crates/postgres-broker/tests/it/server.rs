//! Tests of the server that the broker runs: it is started, comes back after its end, and demands TLS.

use crate::fixture::{BINDING, INSTANCE, World, connect, number, run, settings};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres_broker::{OwnServer, Server};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use testkit::certs::Ca;
use testkit::net::free_port;
use testkit::wait::{until, wait_for};

fn server(folder: &Path, port: u16) -> Server {
    let ca = Ca::new();
    Server::Own(OwnServer {
        folder: folder.join("server"),
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        host: "127.0.0.1".to_owned(),
        port,
        identity: ca.issue(&["127.0.0.1"]),
        connections: 20,
        memory_mb: 16,
    })
}

/// Returns the process of the server.
fn pid(folder: &Path) -> Option<Pid> {
    let file = folder.join("server/data/postmaster.pid");
    let text = std::fs::read_to_string(file).ok()?;
    Some(Pid::from_raw(text.lines().next()?.trim().parse().ok()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_outlives_nothing_and_keeps_everything() {
    let data = tempfile::tempdir().unwrap();
    // The user of the server passes the folder.
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let (path, port) = (data.path().to_owned(), free_port());
    let own = settings(&path, server(&path, port));
    let world = World::with(own.clone(), data, None, None).await;
    world.provision(INSTANCE, "large").await;
    let credentials = world.bind(INSTANCE, BINDING).await;
    assert!(
        credentials["ca_certificate"]
            .as_str()
            .unwrap()
            .contains("BEGIN CERTIFICATE")
    );
    let mut app = connect(&credentials).await.unwrap();
    run(&mut app, "CREATE TABLE t (x int); INSERT INTO t VALUES (1)")
        .await
        .unwrap();

    // Without TLS there is no access.
    let mut plain = credentials.clone();
    let uri = credentials["uri"].as_str().unwrap();
    plain["uri"] = uri.replace("sslmode=require", "sslmode=disable").into();
    assert!(connect(&plain).await.is_err());

    // A server that ends is started again, and what was committed is there.
    let first = pid(&path).unwrap();
    kill(first, Signal::SIGKILL).unwrap();
    let mut app = wait_for("the server to come back", async || {
        connect(&credentials).await
    })
    .await;
    assert_eq!(number(&mut app, "SELECT COUNT(*) FROM t").await.unwrap(), 1);
    assert_ne!(pid(&path).unwrap(), first);

    // A dump works with this server's programs too.
    let made = world.operator().dump(None).await.unwrap();
    assert_eq!(made.len(), 1);

    // Nothing runs when the broker has ended.
    let last = pid(&path).unwrap();
    world.stop().await;
    until("the end of the server", || kill(last, None).is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_password_is_lost_gets_another_one() {
    let data = tempfile::tempdir().unwrap();
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let settings = settings(data.path(), server(data.path(), free_port()));
    let start = async || {
        let unused = tempfile::tempdir().unwrap();
        World::with(settings.clone(), unused, None, None).await
    };
    let world = start().await;
    world.provision(INSTANCE, "large").await;
    let credentials = world.bind(INSTANCE, BINDING).await;
    world.stop().await;

    std::fs::remove_file(data.path().join("secrets.json")).unwrap();
    let world = start().await;
    // It is the instance that was there, and its binding is valid.
    world.provision(INSTANCE, "large").await;
    let listed = world.operator().list().await.unwrap();
    assert_eq!(listed.len(), 1);
    connect(&credentials).await.unwrap();
    // A repeated request gives the user the password that the broker knows now.
    let again = world.bind(INSTANCE, BINDING).await;
    assert_ne!(again["password"], credentials["password"]);
    connect(&again).await.unwrap();
    world.stop().await;
}
