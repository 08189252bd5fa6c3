//! Tests of names: ours, those of routes on the bus, internal ones, and those that a resolver knows.

use crate::fixture::{ROUTER, Stage, address, addresses, query, resolver};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use testkit::nats::NatsServer;
use testkit::net::free_port;
use testkit::wait::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// The longest time until a query is answered for which no resolver answers.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn our_names_lead_to_the_router_and_others_to_the_resolver() {
    let stage = Stage::start(&[resolver().await], vec![]).await;
    assert_eq!(
        address(&stage.query("api.cupola.test.", RecordType::A).await),
        Some(ROUTER)
    );
    let aaaa = stage.query("api.cupola.test.", RecordType::AAAA).await;
    assert_eq!(
        (aaaa.metadata.response_code, aaaa.answers.len()),
        (ResponseCode::NoError, 0)
    );
    // The server waits for a resolver for a second and a half, which a busy machine may exceed.
    stage
        .wait_for("the resolver's answer", async |stage| {
            let other = stage.query("example.com.", RecordType::A).await;
            assert_eq!(other.metadata.id, 4711);
            address(&other) == Some(Ipv4Addr::new(1, 2, 3, 4))
        })
        .await;
    let mut stream = TcpStream::connect(stage.addr).await.unwrap();
    let bytes = query("app.cupola.test.", RecordType::A);
    stream
        .write_all(&[&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat())
        .await
        .unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).await.unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(address(&Message::from_vec(&answer).unwrap()), Some(ROUTER));
}

#[tokio::test]
async fn dead_resolvers_mean_servfail_in_bounded_time_and_changes_of_the_file_are_seen() {
    // This resolver is bound and never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let stage = Stage::start(&[silent.local_addr().unwrap().to_string()], vec![]).await;
    let started = Instant::now();
    assert_eq!(
        stage
            .query("example.com.", RecordType::A)
            .await
            .metadata
            .response_code,
        ResponseCode::ServFail
    );
    assert!(started.elapsed() < SOON);
    std::fs::write(
        stage.dir.path().join("resolv.conf"),
        format!("# now\nnameserver {}\n", resolver().await),
    )
    .unwrap();
    stage
        .wait_for("the new resolver's answer", async |stage| {
            let answer = stage.query("example.com.", RecordType::A).await;
            address(&answer) == Some(Ipv4Addr::new(1, 2, 3, 4))
        })
        .await;
}

#[tokio::test]
async fn routes_on_the_bus_become_names_here_and_in_the_hosts_file() {
    let nats = NatsServer::open(free_port());
    let server = nats.address();
    let mut stage = Stage::start(&[], vec![server.clone()]).await;
    let config = clients::nats::Config {
        servers: vec![server],
        ..clients::nats::Config::default()
    };
    let bus = clients::nats::connect(&config, "test", |_| std::future::ready(()))
        .await
        .unwrap();
    stage
        .wait_for("the system's names", async |stage| {
            stage.hosts().contains("127.0.0.1 api.cupola.test\n")
        })
        .await;
    assert!(!stage.hosts().contains('*'));
    let message = r#"{"host":"10.0.0.1","port":61001,"uris":["shop.example.com/cart"]}"#;
    stage
        .wait_for("the route to be a name", async |stage| {
            // The server may subscribe after the first message was published.
            bus.publish("router.register", message.into())
                .await
                .unwrap();
            address(&stage.query("shop.example.com.", RecordType::A).await) == Some(ROUTER)
        })
        .await;
    stage
        .wait_for("the route in the file", async |stage| {
            stage.hosts().contains("127.0.0.1 shop.example.com\n")
        })
        .await;
    bus.publish("router.unregister", message.into())
        .await
        .unwrap();
    stage
        .wait_for("the route to be gone", async |stage| {
            !stage.hosts().contains("shop.example.com")
        })
        .await;
    assert_eq!(
        stage
            .query("shop.example.com.", RecordType::A)
            .await
            .metadata
            .response_code,
        ResponseCode::ServFail,
        "no resolver"
    );
    stage.shutdown.cancel();
    stage.running.take().unwrap().await.unwrap().unwrap();
    assert_eq!(stage.hosts(), "127.0.0.1 localhost\n");
}

#[tokio::test]
async fn internal_routes_are_the_containers_addresses_and_no_hosts_file_has_them() {
    let nats = NatsServer::open(free_port());
    let server = nats.address();
    let config = clients::nats::Config {
        servers: vec![server.clone()],
        ..clients::nats::Config::default()
    };
    let bus = clients::nats::connect(&config, "test", |_| std::future::ready(()))
        .await
        .unwrap();
    let mut started = bus.subscribe("service-discovery.start").await.unwrap();
    bus.flush().await.unwrap();
    let stage = Stage::start(&[resolver().await], vec![server]).await;
    // A name server that begins to listen requests the messages that it missed.
    let start = futures::StreamExt::next(&mut started);
    within("service-discovery.start", start).await.unwrap();
    let message = |last: u8, index: u8| {
        format!(
            r#"{{"host":"10.255.0.{last}","port":0,"uris":["shop.apps.internal","{index}.shop.apps.internal"],"app":"a"}}"#
        )
    };
    let (one, two) = (Ipv4Addr::new(10, 255, 0, 1), Ipv4Addr::new(10, 255, 0, 2));
    bus.publish("service-discovery.register", message(1, 0).into())
        .await
        .unwrap();
    bus.publish("service-discovery.register", message(2, 1).into())
        .await
        .unwrap();
    stage
        .wait_for("both instances to be answered", async |stage| {
            let shop = stage.query("shop.apps.internal.", RecordType::A).await;
            addresses(&shop) == [one, two]
        })
        .await;
    let second = stage.query("1.Shop.apps.internal.", RecordType::A).await;
    assert_eq!((addresses(&second), second.answers[0].ttl), (vec![two], 0));
    let six = stage.query("shop.apps.internal.", RecordType::AAAA).await;
    assert_eq!(
        (six.metadata.response_code, six.answers.len()),
        (ResponseCode::NoError, 0)
    );
    // The query never reaches the resolver, which would answer anything.
    let missing = stage.query("none.apps.internal.", RecordType::A).await;
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    bus.publish("service-discovery.unregister", message(1, 0).into())
        .await
        .unwrap();
    stage
        .wait_for("one instance to be gone", async |stage| {
            let shop = stage.query("shop.apps.internal.", RecordType::A).await;
            addresses(&shop) == [two]
        })
        .await;
    assert!(!stage.hosts().contains("internal"), "{}", stage.hosts());
}
