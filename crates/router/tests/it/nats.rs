//! Tests of the bus in detail: its servers, the router's credentials there, its messages, and a flood of them.

use crate::backends::Backend;
use crate::certs::Ca;
use crate::component_log::{keep_lines, line_about};
use crate::world::{Nats, World, as_gorouter, free_port, plain, wait_for};
use clients::nats::{Delivery, Subscription};
use futures::StreamExt as _;
use kit::tls::Identity;
use router::{Settings, Sharding};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Returns the configuration of a bus with TLS, to which the router presents this identity.
fn with_tls(port: u16, identity: Identity) -> clients::nats::Config {
    clients::nats::Config {
        tls: Some(identity),
        ..Nats::config(port)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_and_a_strange_user_with_a_strange_password() {
    let (ca, port) = (Ca::new(), free_port());
    let (user, password) = ("rou:ter @%/\"", "p@ss:w/o?r#d 'ü\\");
    let server = ca.issue(&["127.0.0.1"]);
    let nats = Nats::with_tls(port, (user, password), &server);
    let mut config = with_tls(port, ca.issue(&["router"]));
    (config.user, config.password) = (user.into(), password.into());
    let world = World::on(nats, config, as_gorouter()).await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    assert_eq!(world.get("app.test", "/").await.text(), "x");
}

/// Both sides present a certificate that the other's authority has signed.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_call_themselves_authorities_are_taken() {
    let (ca, port) = (Ca::new(), free_port());
    let server = ca.issue_authority(&["127.0.0.1"]);
    let nats = Nats::with_tls(port, ("nats", "secret"), &server);
    let config = with_tls(port, ca.issue_authority(&["router"]));
    let world = World::on(nats, config, as_gorouter()).await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    assert_eq!(world.get("app.test", "/").await.text(), "x");
}

/// The line has both keys: the server's name as it is configured, and its address.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_the_server_of_the_bus_and_its_address() {
    keep_lines();
    let port = free_port();
    let mut config = Nats::config(port);
    config.servers = vec![format!("localhost:{port}")];
    let mut world = World::on(Nats::start(port), config, Settings::default()).await;
    let host = format!("localhost:{port}");
    let connected = line_about("Successfully-connected-to-nats", "host", &host).await;
    assert_eq!(connected["addr"], format!("127.0.0.1:{port}"));
    world.nats = None;
    let lost = line_about("nats-connection-disconnected", "host", &host).await;
    assert_eq!(lost["addr"], format!("127.0.0.1:{port}"));
    world.nats = Some(Nats::start(port));
    let again = line_about("nats-connection-reconnected", "host", &host).await;
    assert_eq!(again["addr"], format!("127.0.0.1:{port}"));
}

/// Starts one of two servers that know each other.
fn clustered(ports: [u16; 2], cluster: [u16; 2], n: usize) -> Nats {
    let [listen, other] = [n, 1 - n].map(|n| format!("nats://127.0.0.1:{}", cluster[n]));
    let arguments = [
        "--cluster_name",
        "bus",
        "--cluster",
        &listen,
        "--routes",
        &other,
    ];
    Nats::with(ports[n], &arguments)
}

#[tokio::test]
async fn a_server_that_only_another_server_announces() {
    let (ports, cluster) = ([free_port(), free_port()], [free_port(), free_port()]);
    let [first, _second] = [0, 1].map(|n| clustered(ports, cluster, n));
    let other = format!("127.0.0.1:{}", ports[1]);
    wait_for("the servers to know each other", async || {
        let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", ports[0])).await else {
            return false;
        };
        let mut greeting = vec![0; 4096];
        let length = stream.read(&mut greeting).await.unwrap();
        String::from_utf8_lossy(&greeting[..length]).contains(&other)
    })
    .await;
    let config = Nats::config(ports[0]);
    let mut subscription = Subscription::new(&config, "test", &["any"], 1 << 20).unwrap();
    let mut next = async || {
        let next = tokio::time::timeout(crate::world::PATIENCE, subscription.next());
        next.await.expect("a delivery")
    };
    assert!(matches!(next().await, Delivery::Connected));
    drop(first);
    assert!(matches!(next().await, Delivery::Disconnected(_)));
    assert!(matches!(next().await, Delivery::Connected));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_servers_dies() {
    let ports = [free_port(), free_port()];
    let cluster = [free_port(), free_port()];
    let server = |n| clustered(ports, cluster, n);
    let mut servers = [0, 1].map(|n| Some(server(n)));
    let config = clients::nats::Config {
        servers: ports.map(|port| format!("127.0.0.1:{port}")).to_vec(),
        ..Nats::config(ports[0])
    };
    let settings = Settings {
        start_delay: Duration::from_millis(10),
        register_interval: Duration::from_secs(7),
        prune_interval: Duration::from_millis(20),
        stale_threshold: Duration::from_millis(1500),
        suspend_pruning_if_nats_unavailable: true,
        ..as_gorouter()
    };
    let mut world = World::on(servers[0].take().unwrap(), config, settings).await;
    let backend = Backend::start("x").await;
    let message = plain("app.test", "app", 0, backend.addr);
    world.register_for_a_moment(message).await;

    // The router's server ends, and returns when the router is on the other one; then that one ends.
    let mut starts = world.bus.subscribe("router.start").await.unwrap();
    world.bus.flush().await.unwrap();
    servers[0] = world.nats.take();
    let mut received = Vec::new();
    for n in 0..2 {
        drop(servers[n].take());
        let start = async {
            // The router or the test may be back first: if the router was, the test greets it.
            tokio::select! {
                start = starts.next() => start.unwrap(),
                answer = async { loop { if let Ok(answer) = world.bus.request("router.greet", "".into()).await { break answer; } } } => answer,
            }
        };
        let start = tokio::time::timeout(crate::world::PATIENCE, start).await;
        received.push(start.expect("a start or an answer").payload);
        let later = format!("later-{n}.test");
        wait_for("registrations over the other server", async || {
            let message = plain(&later, "app", 0, backend.addr);
            world.publish("router.register", message).await;
            world.get(&later, "/").await.status == 200
        })
        .await;
        servers[n] = Some(server(n));
        wait_for("the server to be back", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", ports[n]))
                .await
                .is_ok()
        })
        .await;
    }
    for start in received {
        let mut start: serde_json::Value = serde_json::from_slice(&start).unwrap();
        let id = start.as_object_mut().unwrap().remove("id").unwrap();
        assert!(id.as_str().unwrap().starts_with("0-"), "{id}");
        let rest = json!({"hosts": ["127.0.0.1"], "minimumRegisterIntervalInSeconds": 7, "pruneThresholdInSeconds": 1});
        assert_eq!(start, rest, "the message has no other field");
    }
    // Pruning continues, because no emitter registers any more.
    wait_for("pruning", async || world.handle.routes() == 0).await;
}

/// The lifecycle test covers the other half: pruning that is suspended.
#[tokio::test(flavor = "multi_thread")]
async fn an_absent_bus_keeps_no_route_unless_pruning_is_suspended() {
    let mut world = World::with(Settings {
        prune_interval: Duration::from_millis(20),
        stale_threshold: Duration::from_millis(500),
        suspend_pruning_if_nats_unavailable: false,
        ..Settings::default()
    })
    .await;
    let addr = "127.0.0.1:9".parse().unwrap();
    let message = plain("app.test", "app", 0, addr);
    world.register_for_a_moment(message).await;
    drop(world.nats.take());
    wait_for("pruning", async || world.handle.routes() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_of_isolation_segments_accept_their_own_routes() {
    let mine = || vec!["mine".to_owned()];
    for (sharding, taken) in [
        (
            Sharding::All,
            ["mine.test", "others.test", "shared.test"].as_slice(),
        ),
        (Sharding::Segments(mine()), &["mine.test"]),
        (
            Sharding::SharedAndSegments(mine()),
            &["mine.test", "shared.test"],
        ),
    ] {
        let mode = sharding.mode();
        let settings = Settings {
            sharding,
            ..as_gorouter()
        };
        let world = World::with(settings).await;
        let addr = "127.0.0.1:9".parse().unwrap();
        for (host, segment) in [
            ("others.test", "others"),
            ("shared.test", ""),
            ("mine.test", "mine"),
        ] {
            let mut message = plain(host, "app", 0, addr);
            message["isolation_segment"] = segment.into();
            world.publish("router.register", message).await;
        }
        wait_for("its own", async || world.handle.serves("mine.test")).await;
        let table = world.table().await;
        let routes: Vec<&String> = table.as_object().unwrap().keys().collect();
        assert_eq!(routes, taken, "{mode}");
    }
}

/// The lines that are logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn take_over(&self) -> tracing::subscriber::DefaultGuard {
        let written = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || written.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

#[tokio::test]
async fn a_refused_router_logs_which_key_is_wrong() {
    let log = Log::default();
    let _logging = log.take_over();
    let (ca, other) = (Ca::new(), Ca::new());
    let (secure, named, plain) = (free_port(), free_port(), free_port());
    let secret = ("nats", "secret");
    let _named = Nats::with_tls(named, secret, &ca.issue(&["nats.internal"]));
    let _secure = Nats::with_tls(secure, secret, &ca.issue(&["127.0.0.1"]));
    let _plain = Nats::start(plain);
    let good = ca.issue(&["router"]);
    let cases = [
        (named, "secret", Some(good.clone()), "nats.hosts"),
        (secure, "wrong", Some(good.clone()), "nats.pass"),
        (
            secure,
            "secret",
            Some(other.issue(&["router"])),
            "nats.ca_certs",
        ),
        (secure, "secret", None, "nats.ca_certs"),
        (
            secure,
            "secret",
            Some(Identity {
                ca_pem: ca.pem.clone(),
                ..other.issue(&["router"])
            }),
            "nats.cert_chain and nats.private_key",
        ),
        (plain, "secret", Some(good), "nats.tls_enabled to false"),
    ];
    for (port, password, tls, key) in cases {
        let config = clients::nats::Config {
            servers: vec![format!("127.0.0.1:{port}")],
            user: "nats".into(),
            password: password.into(),
            tls,
            ..clients::nats::Config::default()
        };
        let logged = async || {
            wait_for("the reason", async || {
                log.text().contains("nats-connection-refused")
            })
            .await;
        };
        let mut subscription = Subscription::new(&config, "test", &["any"], 1 << 20).unwrap();
        tokio::select! {
            delivery = subscription.next() => panic!("{delivery:?}"),
            () = logged() => {}
        }
        checked(&log, password, key);
        let _client = clients::nats::connect(&config, "test", |_| std::future::ready(()))
            .await
            .unwrap();
        logged().await;
        checked(&log, password, key);
    }
}

/// Checks that the line names the key and contains no secret. Then it empties the log.
fn checked(log: &Log, password: &str, key: &str) {
    let text = log.text();
    let mut lines = text.lines();
    let line = lines.find(|line| line.contains("nats-connection-refused"));
    let line = line.unwrap();
    assert!(
        line.contains(key) && line.contains("ERROR"),
        "{key}: {line}"
    );
    assert!(!text.contains(password), "{text}");
    log.0.lock().unwrap().clear();
}

#[tokio::test]
async fn a_forbidden_subscription_is_logged() {
    let log = Log::default();
    let _logging = log.take_over();
    let port = free_port();
    let users = r#"authorization { users: [{ user: nats, password: secret, permissions: { subscribe: "other.>" } }] }"#;
    let _nats = Nats::configured(port, users);
    let config = Nats::config(port);
    let mut subscription = Subscription::new(&config, "test", &["router.*"], 1 << 20).unwrap();
    assert!(matches!(subscription.next().await, Delivery::Connected));
    tokio::select! {
        delivery = subscription.next() => panic!("{delivery:?}"),
        () = wait_for("the reason", async || log.text().contains("nats-connection-refused")) => {}
    }
    checked(&log, "secret", "grant the permission on the server");
}

/// The server accepts the router and then stays silent.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_left_after_unanswered_pings() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let config = clients::nats::Config {
        servers: vec![format!("127.0.0.1:{port}")],
        ping_interval: Duration::from_millis(50),
        ..clients::nats::Config::default()
    };
    let mut subscription = Subscription::new(&config, "test", &["any"], 1 << 20).unwrap();
    let server = async {
        let (mut stream, _) = silent.accept().await.unwrap();
        stream.write_all(b"INFO {}\r\nPONG\r\n").await.unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).await.unwrap();
        received
    };
    let client = async {
        assert!(matches!(subscription.next().await, Delivery::Connected));
        match subscription.next().await {
            Delivery::Disconnected(why) => assert_eq!(why, "the server does not answer pings"),
            other => panic!("{other:?}"),
        }
    };
    let both = futures::future::join(server, client);
    let (received, ()) = tokio::time::timeout(crate::world::PATIENCE, both)
        .await
        .expect("it is left");
    // The first PING belongs to the handshake; the other two are never answered.
    assert_eq!(received.matches("PING\r\n").count(), 3, "{received}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_larger_than_the_room_for_it() {
    let port = free_port();
    let _nats = Nats::start(port);
    let config = Nats::config(port);
    let mut subscription = Subscription::new(&config, "test", &["any"], 4 << 20).unwrap();
    assert!(matches!(subscription.next().await, Delivery::Connected));
    let sender = clients::nats::connect(&config, "sender", |_| std::future::ready(()))
        .await
        .unwrap();
    // When one of these arrives, the server has the subscription.
    let publish = async {
        loop {
            for length in [1_000_000, 0, 100_000, 3] {
                let payload = vec![b'x'; length];
                sender.publish("any", payload.into()).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let receive = async {
        let mut received = Vec::new();
        while received.len() < 12 {
            match subscription.next().await {
                Delivery::Message(message) => received.push(message.payload().len()),
                other => panic!("{other:?}"),
            }
        }
        received
    };
    let received = tokio::select! {
        () = publish => unreachable!("publishing does not end"),
        received = tokio::time::timeout(crate::world::PATIENCE, receive) => received.expect("messages"),
    };
    let from = received
        .iter()
        .position(|length| *length == 1_000_000)
        .unwrap();
    for (n, length) in received[from..].iter().enumerate() {
        assert_eq!(*length, [1_000_000, 0, 100_000, 3][n % 4]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_slow_reader_is_bounded_in_bytes() {
    const SENT: u64 = 300;
    let port = free_port();
    let _nats = Nats::start(port);
    let bus = Nats::config(port);
    let sender = clients::nats::connect(&bus, "test", |_| std::future::ready(()));
    let sender = sender.await.unwrap();
    let limit = 10 << 20;
    let mut subscription = Subscription::new(&bus, "test", &["flood"], limit).unwrap();
    assert!(matches!(subscription.next().await, Delivery::Connected));
    let publish = async |payload: Vec<u8>| {
        sender.publish("flood", payload.into()).await.unwrap();
        sender.flush().await.unwrap();
    };
    // When this arrives, the server has the subscription.
    loop {
        publish(b"first".to_vec()).await;
        let first = tokio::time::timeout(Duration::from_millis(100), subscription.next());
        if first.await.is_ok() {
            break;
        }
    }
    let flood = async {
        for _ in 0..SENT {
            publish(vec![b'x'; 1_000_000]).await;
        }
    };
    // No message is read in the meantime.
    let look = async {
        loop {
            subscription.wait().await;
            let (mut read, mut lost) = (0, 0);
            for delivery in subscription.front(usize::MAX) {
                match delivery {
                    Delivery::Message(message) if message.payload() == b"first" => {}
                    Delivery::Message(_) => read += 1,
                    Delivery::Lost(count) => lost += count,
                    other => panic!("{other:?}"),
                }
            }
            if read + lost == SENT {
                return (read, lost);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let both = futures::future::join(flood, look);
    let (_, (read, lost)) = tokio::time::timeout(crate::world::PATIENCE, both)
        .await
        .expect("all comes");
    assert!(lost > 0 && read >= 9, "{read} read, {lost} lost");
    let pending = subscription.pending();
    assert!(pending <= 20, "{pending}: the losses are one word");
    subscription.forget(pending);
    publish(b"small".to_vec()).await;
    let delivery = subscription.next().await;
    assert!(matches!(delivery, Delivery::Message(m) if m.payload() == b"small"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_was_too_slow_requests_all_registrations_again() {
    const ROUTES: usize = 20_000;
    let world = World::with(Settings {
        bus_pending_limit: 16 << 10,
        ..Settings::default()
    })
    .await;
    let dropped = || {
        let text = world.handle.metrics_text();
        let line = text
            .lines()
            .find(|l| l.starts_with("total_dropped_messages "));
        line.unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let addr = "127.0.0.1:9".parse().unwrap();
    let message = |n: usize| plain(&format!("app-{n}.test"), "app", 0, addr).to_string();
    // This emitter floods once, and answers a router's start only as fast as it is read.
    let mut starts = world.bus.subscribe("router.start").await.unwrap();
    for n in 0..ROUTES {
        world
            .bus
            .publish("router.register", message(n).into())
            .await
            .unwrap();
    }
    world.bus.flush().await.unwrap();
    wait_for("losses", async || dropped() > 0).await;
    assert!(world.handle.routes() < ROUTES);
    // A router that stood still in the flood asks before the rest of it has come, loses more, and asks once more.
    'asked: while world.handle.routes() < ROUTES {
        let start = tokio::time::timeout(crate::world::PATIENCE, starts.next()).await;
        start.expect("the router asks again").unwrap();
        for n in 0..ROUTES {
            world
                .bus
                .publish("router.register", message(n).into())
                .await
                .unwrap();
            if n % 20 == 0 || n + 1 == ROUTES {
                // The router answers when it has read everything before, unless it has lost the question.
                let answer = world.bus.request("router.greet", "".into()).await;
                if answer.is_err() {
                    continue 'asked;
                }
            }
        }
    }
    assert_eq!(world.handle.routes(), ROUTES);
}
