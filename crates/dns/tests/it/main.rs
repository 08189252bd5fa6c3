//! Tests the DNS server over real sockets, with a resolver behind it and a real nats-server beside it.

#![expect(clippy::unwrap_used, reason = "a test may end here")]

use dns::{Config, Dns, HostsConfig, Sockets};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use kit::CancellationToken;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use testkit::nats::NatsServer;
use testkit::net::free_port;
use testkit::wait::{wait_for, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 7);
/// The longest time until a query is answered for which no resolver answers.
const SOON: Duration = Duration::from_secs(30);

struct Stage {
    addr: SocketAddr,
    dir: tempfile::TempDir,
    shutdown: CancellationToken,
    running: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Stage {
    /// Starts the server. `resolvers` are the values of `nameserver` lines.
    async fn start(resolvers: &[String], nats: Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (resolv_conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        std::fs::write(
            &resolv_conf,
            resolvers
                .iter()
                .map(|r| format!("nameserver {r}\n"))
                .collect::<String>(),
        )
        .unwrap();
        std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
        let config = Config {
            sockets: vec![Sockets::bind("127.0.0.1:0".parse().unwrap()).await.unwrap()],
            domains: vec!["cupola.test".into()],
            internal_domains: vec!["apps.internal".into()],
            router_ip: ROUTER,
            nats: clients::nats::Config {
                servers: nats,
                ..clients::nats::Config::default()
            },
            learned_ttl: Duration::from_secs(120),
            resolv_conf,
            hosts: Some(HostsConfig {
                path: hosts,
                ip: "127.0.0.1".parse().unwrap(),
                names: vec!["api.cupola.test".into(), "*.cupola.test".into()],
            }),
        };
        let dns = Dns::build(config).unwrap();
        let (addr, shutdown) = (dns.addr().unwrap(), CancellationToken::new());
        let running = Some(tokio::spawn(dns.run(shutdown.clone())));
        Self {
            addr,
            dir,
            shutdown,
            running,
        }
    }

    async fn query(&self, name: &str, kind: RecordType) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&query(name, kind), self.addr).await.unwrap();
        let mut buffer = vec![0; 4096];
        let (length, _) = within("an answer", socket.recv_from(&mut buffer))
            .await
            .unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    fn hosts(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("hosts")).unwrap()
    }

    /// Waits until a condition holds. The panic shows the hosts file.
    async fn wait_for(&self, what: &str, mut is: impl AsyncFnMut(&Self) -> bool) {
        wait_for(what, async || {
            let holds = is(self).await;
            holds.then_some(()).ok_or_else(|| self.hosts())
        })
        .await;
    }
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn address(message: &Message) -> Option<Ipv4Addr> {
    message.answers.iter().find_map(|record| {
        if let RData::A(a) = &record.data {
            Some(a.0)
        } else {
            None
        }
    })
}

/// Starts a resolver that answers every query with one address.
async fn resolver() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let request = Message::from_vec(&buffer[..length]).unwrap();
            let mut response = Message::response(request.metadata.id, OpCode::Query);
            response.add_queries(request.queries.iter().cloned());
            response.add_answer(Record::from_rdata(
                request.queries[0].name().clone(),
                60,
                RData::A(A(Ipv4Addr::new(1, 2, 3, 4))),
            ));
            socket
                .send_to(&response.to_vec().unwrap(), client)
                .await
                .unwrap();
        }
    });
    addr.to_string()
}

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

fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let mut addresses: Vec<_> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(a.0),
            _ => None,
        })
        .collect();
    addresses.sort();
    addresses
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
