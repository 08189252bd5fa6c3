//! Settings of a gorouter's operator: client certificates, rewritten responses, additional log fields, the late listener.

use crate::backends::Backend;
use crate::certs::Ca;
use crate::client::request;
use crate::http1::read_until;
use crate::world::{Nats, World, wait_for};
use clients::loggregator::Emitter;
use kit::CancellationToken;
use kit::tls::Identity;
use router::{
    ClientCertValidation, Config, ForwardedClientCert, FrontTls, LogField, LogFormat, RedactQuery,
    Reserved, ResponseRewrite, Router, Settings, Status, TlsTerms,
};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_are_forwarded_to_backends() {
    for mode in [
        ForwardedClientCert::SanitizeSet,
        ForwardedClientCert::Forward,
        ForwardedClientCert::AlwaysForward,
    ] {
        let ca = Ca::new();
        let client = ca.issue(&["client"]);
        let settings = Settings {
            forwarded_client_cert: mode,
            front_tls: FrontTls {
                terms: TlsTerms {
                    versions: vec![&rustls::version::TLS12],
                    cipher_suites: vec!["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".into()],
                },
                client_cert_validation: ClientCertValidation::Request,
                client_cas: vec![ca.pem.clone()],
                system_client_cas: true,
                ..FrontTls::default()
            },
            ..Settings::default()
        };
        let world = World::streaming_to(Emitter::discard(), ca, settings).await;
        let backend = Backend::start("x").await;
        world
            .register("app.apps.test", "app", 0, backend.addr)
            .await;
        let names = ("app.apps.test", "app.apps.test");
        let mut seen = Vec::new();
        for identity in [Some(&client), None] {
            let reply = world.dump_by_tls(identity, names, "mine").await.unwrap();
            let text = reply.text();
            let line = text
                .lines()
                .find_map(|l| l.strip_prefix("x-forwarded-client-cert: "));
            seen.push(line.map(str::to_owned));
        }
        let der: String = client
            .cert_pem
            .lines()
            .filter(|l| !l.contains("---"))
            .collect();
        let mine = Some("mine".to_owned());
        let want = match mode {
            ForwardedClientCert::SanitizeSet => [Some(der), None],
            ForwardedClientCert::Forward => [mine, None],
            _ => [mine.clone(), mine],
        };
        assert_eq!(seen, want, "{mode:?}");
        let stranger = Ca::new().issue(&["client"]);
        let refused = world.dump_by_tls(Some(&stranger), names, "mine").await;
        assert!(refused.is_err());
    }
}

/// The address is logged also for a connection that another request had before, as in gorouter.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_contains_the_routers_address_on_the_connection_to_the_backend() {
    let world = World::with(Settings {
        log_format: LogFormat {
            extra_fields: vec![LogField::LocalAddress, LogField::DialTime],
            ..LogFormat::default()
        },
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    // One connection of a client's has one worker, which keeps its connections to backends.
    let mut client = TcpStream::connect(world.addr).await.unwrap();
    for path in ["/length?first", "/length?second"] {
        let get = format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n\r\n");
        client.write_all(get.as_bytes()).await.unwrap();
        read_until(&mut client, "\r\n\r\n").await;
    }
    let lines = world.log_lines(2).await;
    let address = |line: &str| {
        let (_, rest) = line.split_once("local_address:\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    assert!(lines[1].contains("dial_time:\"-\""), "reused: {}", lines[1]);
    assert!(address(&lines[0]).starts_with("127.0.0.1:"), "{}", lines[0]);
    assert_eq!(address(&lines[0]), address(&lines[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_are_rewritten_and_the_log_has_its_additional_fields() {
    let name = |text: &str| text.parse().unwrap();
    let world = World::with(Settings {
        response_rewrite: ResponseRewrite {
            remove: vec![name("x-method")],
            add_if_absent: vec![
                (name("x-added"), "1".parse().unwrap()),
                (name("content-type"), "never/used".parse().unwrap()),
            ],
        },
        logged_headers: vec![name("x-mine")],
        log_format: LogFormat {
            redact_query: RedactQuery::All,
            without_forwarded_for: true,
            without_source_ip: true,
            extra_fields: vec![
                LogField::FailedAttempts,
                LogField::TlsTime,
                LogField::DialTime,
            ],
            ..LogFormat::default()
        },
        empty_pool_503: false,
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let headers = [("x-mine", "a b")];
    let reply = request(
        world.addr,
        "GET",
        "app.test",
        "/length?q=secret",
        &headers,
        "",
    )
    .await;
    assert_eq!(
        (reply.header("x-added"), reply.header("x-method")),
        ("1", "")
    );
    let reply = world.get("nobody.test", "/").await;
    assert_eq!(reply.header("x-added"), "1");
    assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
    // There are two workers, so either line may be first.
    let lines = world.log_lines(2).await;
    let line = lines.iter().find(|line| line.starts_with("app.test"));
    let line = line.unwrap();
    assert!(line.contains("\"GET /length HTTP/1.1\" 200"), "{line}");
    assert!(
        line.contains(&format!(
            " \"-\" \"{}\" x_forwarded_for:\"-\"",
            backend.addr
        )),
        "{line}"
    );
    assert!(
        line.contains(" failed_attempts:0 tls_time:\"-\" dial_time:0.0"),
        "{line}"
    );
    assert!(line.ends_with(" x_mine:\"a b\""), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_can_connect_before_the_start_delay_is_over() {
    let ca = Ca::new();
    let delay = Duration::from_millis(300);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = Config {
        http: Vec::new(),
        https: Vec::new(),
        certificates: Vec::new(),
        status: Status {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            user: String::new(),
            password: String::new(),
        },
        // No server is there; the router waits for one.
        nats: Nats::config(1),
        routing_api: None,
        backend_tls: Identity {
            cert_pem: String::new(),
            key_pem: String::new(),
            ca_pem: ca.pem.clone(),
        },
        access_log: None,
        loggregator: Emitter::discard(),
        settings: Settings {
            workers: 1,
            start_delay: delay,
            ..Settings::default()
        },
    };
    let reserved = Reserved { socket, tls: false };
    let router = Router::build_with(config, vec![reserved], Vec::new())
        .await
        .unwrap();
    let (addr, handle) = (router.addr(), router.handle());
    let stop = CancellationToken::new();
    let began = Instant::now();
    let running = tokio::spawn(router.run(stop.clone()));
    wait_for("a connection", async || {
        TcpStream::connect(addr).await.is_ok()
    })
    .await;
    assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
    wait_for("the router to be healthy", async || handle.healthy()).await;
    assert_eq!(
        request(addr, "GET", "a.test", "/", &[], "").await.status,
        404
    );
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_in_front_announces_the_client() {
    let world = World::with(Settings {
        proxy_protocol: true,
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let get = "GET /dump HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
    let v2 = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x05\x7f\0\0\x01\0\x0b\0\x16";
    for (header, client) in [
        ("PROXY TCP4 1.2.3.4 127.0.0.1 11 22\r\n", "1.2.3.4"),
        (v2, "1.2.3.5"),
        ("", "127.0.0.1"),
    ] {
        let (ask, line) = (
            format!("{header}{get}"),
            format!("x-forwarded-for: {client}\n"),
        );
        // A connection on which nothing comes for a tenth of a second has no load balancer in front of it.
        wait_for(&line, async || {
            crate::client::raw(world.addr, &ask, "")
                .await
                .contains(&line)
        })
        .await;
    }
    let unknown = format!("PROXY UNKNOWN\r\n{get}");
    wait_for("the refusal", async || {
        crate::client::raw(world.addr, &unknown, "")
            .await
            .is_empty()
    })
    .await;
    // There are two workers, so any line may be first.
    let lines = world.log_lines(3).await;
    let of_the_first = |line: &&String| line.contains(" \"1.2.3.4:11\" ");
    assert_eq!(lines.iter().filter(of_the_first).count(), 1, "{lines:?}");
}
