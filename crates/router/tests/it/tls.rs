//! Route integrity: a backend is accepted only if its certificate names it.

use crate::backends::Backend;
use crate::certs::Ca;
use crate::client::raw;
use crate::world::{World, unused_address, wait_for};
use clients::loggregator::Emitter;
use kit::tls::{ClientAuth, server_config};
use router::{ClientCertValidation, ForwardedClientCert, FrontTls, Settings, TlsTerms};
use std::io::Write as _;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn required(ca: &Ca, name: &str) -> Arc<rustls::ServerConfig> {
    server_config(&ca.issue(&[name]), ClientAuth::Required, &["http/1.1"]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_instance_answers_over_mutual_tls() {
    let world = World::new().await;
    let backend = Backend::start_tls("right", required(&world.ca, "instance-a")).await;
    world
        .register_tls("app.test", "app", "instance-a", backend.addr)
        .await;
    for _ in 0..5 {
        let reply = world.get("app.test", "/").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "right"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_name_is_never_served_and_prunes_even_the_last_endpoint() {
    let world = World::new().await;
    let wrong = Backend::start_tls("WRONG", required(&world.ca, "instance-b")).await;
    world
        .register_tls("app.test", "app", "instance-a", wrong.addr)
        .await;
    let reply = world.get("app.test", "/").await;
    assert_eq!(reply.status, 503);
    assert_eq!(
        reply.router_error(),
        "endpoint_failure (tls: certificate is valid for instance-b, not instance-a)"
    );
    assert!(!world.handle.serves("app.test"), "pruned");
    let reply = world.get("app.test", "/").await;
    assert_eq!((reply.status, reply.router_error()), (503, "no_endpoints"));
    // It registers again, and is detected again.
    world
        .register_tls("app.test", "app", "instance-a", wrong.addr)
        .await;
    assert_eq!(world.get("app.test", "/").await.status, 503);

    let right = Backend::start_tls("right", required(&world.ca, "instance-c")).await;
    world
        .register_tls("app.test", "app", "instance-c", right.addr)
        .await;
    for round in 0..20 {
        if round % 5 == 0 {
            world
                .register_tls("app.test", "app", "instance-a", wrong.addr)
                .await;
        }
        let reply = world.get("app.test", "/").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "right"));
    }
    assert!(request_metrics(&world).contains("backend_invalid_id"));
}

fn request_metrics(world: &World) -> String {
    world.handle.metrics_text()
}

/// The peer's name counts per registration, also on an address with open connections.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_not_shared_between_names() {
    let world = World::new().await;
    let backend = Backend::start_tls("b", required(&world.ca, "instance-b")).await;
    world
        .register_tls("b.test", "b", "instance-b", backend.addr)
        .await;
    world
        .register_tls("a.test", "a", "instance-a", backend.addr)
        .await;
    for _ in 0..4 {
        assert_eq!(world.get("b.test", "/").await.status, 200);
        assert_eq!(world.get("a.test", "/").await.status, 503);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tls_failure_has_its_status() {
    let world = World::new().await;
    let stranger = Ca::new();
    let plain = Backend::start("plain").await;
    let untrusted = Backend::start_tls(
        "untrusted",
        server_config(&stranger.issue(&["i"]), ClientAuth::None, &[]).unwrap(),
    )
    .await;
    let mut refusing = world.ca.issue(&["i"]);
    refusing.ca_pem = stranger.pem.clone();
    let refusing = Backend::start_tls(
        "refusing",
        server_config(&refusing, ClientAuth::Required, &[]).unwrap(),
    )
    .await;
    for (host, backend, status, says) in [
        ("plain.test", &plain, 525, "525 SSL Handshake Failed\n"),
        (
            "untrusted.test",
            &untrusted,
            526,
            "526 Invalid SSL Certificate\n",
        ),
        (
            "refusing.test",
            &refusing,
            496,
            "496 SSL Certificate Required\n",
        ),
    ] {
        world.register_tls(host, "app", "i", backend.addr).await;
        let reply = world.get(host, "/").await;
        assert_eq!(reply.status, status, "{host}: {}", reply.router_error());
        assert_eq!(reply.text(), says);
        assert!(world.handle.serves(host), "the last endpoint stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_retried_elsewhere_and_never_prunes_the_last() {
    let world = World::new().await;
    let gone = unused_address();
    world
        .register_tls("alone.test", "app", "instance-a", gone)
        .await;
    for _ in 0..3 {
        let reply = world.get("alone.test", "/").await;
        assert_eq!(reply.status, 502);
        assert_eq!(
            reply.router_error(),
            format!("endpoint_failure (dial tcp {gone}: connect: connection refused)")
        );
    }
    let back = Backend::listen(
        "back",
        TcpListener::bind(gone).await.unwrap(),
        Some(required(&world.ca, "instance-a")),
    );
    assert_eq!(world.get("alone.test", "/").await.text(), "back");
    drop(back);

    let gone = unused_address();
    let healthy = Backend::start("healthy").await;
    world.register("two.test", "app", 0, gone).await;
    world.register("two.test", "app", 1, healthy.addr).await;
    for _ in 0..10 {
        assert_eq!(
            crate::client::request(world.addr, "POST", "two.test", "/", &[], "body")
                .await
                .text(),
            "healthy"
        );
    }
    world
        .register_tls("mixed.test", "app", "instance-a", gone)
        .await;
    world.register("mixed.test", "app", 1, healthy.addr).await;
    for _ in 0..10 {
        assert_eq!(world.get("mixed.test", "/").await.text(), "healthy");
    }
    wait_for("the unreachable TLS endpoint to be pruned", async || {
        world.table().await["mixed.test"].as_array().unwrap().len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_on_both_sides() {
    use http_body_util::{BodyExt as _, Full};
    let world = World::with(Settings::default()).await;
    let backend = Backend::start_tls(
        "h2",
        server_config(
            &world.ca.issue(&["instance-a"]),
            ClientAuth::Required,
            &["h2"],
        )
        .unwrap(),
    )
    .await;
    let mut message = crate::world::tls("app.apps.test", "app", "instance-a", backend.addr);
    message["protocol"] = "http2".into();
    world.publish("router.register", message).await;
    wait_for("the route", async || world.handle.serves("app.apps.test")).await;
    assert!(
        world
            .get("app.apps.test", "/dump")
            .await
            .text()
            .starts_with("GET https://app.apps.test/dump HTTP/2.0")
    );

    let mut config = kit::tls::client_config(&world.ca.issue(&["client"])).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(world.https).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect("app.apps.test".try_into().unwrap(), stream)
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let plain = Backend::start("plain").await;
    world
        .register("plain.apps.test", "app", 0, plain.addr)
        .await;
    for host in ["app.apps.test", "plain.apps.test"] {
        let request = hyper::Request::post(format!("https://{host}/dump/x%2Fy?z"))
            .body(Full::new(bytes::Bytes::from_static(b"hello")))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let text = String::from_utf8(
            response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .to_vec(),
        )
        .unwrap();
        assert!(text.contains("/dump/x%2Fy?z HTTP/"), "{text}");
        assert!(text.contains("x-forwarded-proto: https\n"), "{text}");
    }
    // There are two workers, so any line may be first.
    let lines = world.log_lines(3).await;
    let by_http2 = lines
        .iter()
        .filter(|line| line.contains(" HTTP/2.0\" 200 "));
    assert_eq!(by_http2.count(), 2, "{lines:?}");
}

/// The backend behaves like an Envoy: the app has closed its connection, and the socket waits for the router to close.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_with_close_notify_although_the_socket_stays_open() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(required(&world.ca, "instance-a"));
    let app = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            // One write sends both, so the router reads the answer and `close_notify` at once.
            let session = stream.get_mut().1;
            session
                .writer()
                .write_all(b"HTTP/1.0 200 OK\r\n\r\nhello")
                .unwrap();
            session.send_close_notify();
            stream.flush().await.unwrap();
            open.push(stream);
        }
    });
    world
        .register_tls("app.test", "app", "instance-a", addr)
        .await;
    for _ in 0..3 {
        let reply = world.get("app.test", "/").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    }
    app.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn http_on_a_tls_port_is_answered_with_an_explanation() {
    let world = World::new().await;
    let explanation =
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    for request in [
        "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc",
        "OPTIO",
    ] {
        assert_eq!(
            raw(world.https, request, explanation).await,
            explanation,
            "{request}"
        );
    }
    for other in ["DELETE / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x00\x05hello"] {
        let received = raw(world.https, other, explanation).await;
        assert!(!received.contains("HTTP"), "{other:?}: {received:?}");
    }
}

/// Go and OpenSSL accept a certificate that is trusted itself, also when it calls itself an authority.
#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_certificate_needs_no_authority() {
    let (backend, stranger) = (Ca::alone(&["instance-a"]), Ca::alone(&["instance-b"]));
    let (client, other_client) = (Ca::alone(&["client"]), Ca::alone(&["client"]));
    let mut ca = Ca::new();
    ca.pem.push_str(&backend.cert_pem);
    let settings = Settings {
        forwarded_client_cert: ForwardedClientCert::SanitizeSet,
        front_tls: FrontTls {
            client_cert_validation: ClientCertValidation::Require,
            client_cas: vec![client.cert_pem.clone()],
            ..FrontTls::default()
        },
        ..Settings::default()
    };
    let world = World::streaming_to(Emitter::discard(), ca, settings).await;
    for (name, san, identity) in [
        ("trusted.apps.test", "instance-a", &backend),
        ("strange.apps.test", "instance-b", &stranger),
        ("misnamed.apps.test", "instance-c", &backend),
    ] {
        let tls = server_config(identity, ClientAuth::None, &["http/1.1"]).unwrap();
        let backend = Backend::start_tls("trusted", tls).await;
        world.register_tls(name, san, san, backend.addr).await;
        let reply = world.get(name, "/").await;
        let expected = match san {
            "instance-a" => (200, "trusted"),
            "instance-b" => (526, ""),
            _ => (503, ""),
        };
        assert_eq!(reply.status, expected.0, "{name}");
        if reply.status == 200 {
            assert_eq!(reply.text(), expected.1);
            let names = ("trusted.apps.test", "trusted.apps.test");
            let seen = world.dump_by_tls(Some(&client), names, "").await.unwrap();
            assert_eq!(seen.status, 200);
            let refused = world.dump_by_tls(Some(&other_client), names, "").await;
            assert!(refused.is_err());
        }
    }
}

/// Go and OpenSSL accept such a certificate, when an authority has signed it, from backends and from clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_calls_itself_an_authority_is_accepted() {
    let ca = Ca::new();
    let settings = Settings {
        forwarded_client_cert: ForwardedClientCert::SanitizeSet,
        front_tls: FrontTls {
            client_cert_validation: ClientCertValidation::Require,
            client_cas: vec![ca.pem.clone()],
            ..FrontTls::default()
        },
        ..Settings::default()
    };
    let client = ca.issue_authority(&["client"]);
    let backends = [
        ("good.apps.test", ca.issue_authority(&["instance"]), 200),
        ("other.apps.test", ca.issue_authority(&["another"]), 503),
        (
            "strange.apps.test",
            Ca::new().issue_authority(&["instance"]),
            526,
        ),
    ];
    let world = World::streaming_to(Emitter::discard(), ca, settings).await;
    for (host, identity, status) in backends {
        let mut identity = identity;
        identity.ca_pem = world.ca.pem.clone();
        let tls = server_config(&identity, ClientAuth::Required, &["http/1.1"]).unwrap();
        let backend = Backend::start_tls("x", tls).await;
        world
            .register_tls(host, "app", "instance", backend.addr)
            .await;
        let seen = world.dump_by_tls(Some(&client), (host, host), "").await;
        assert_eq!(seen.unwrap().status, status, "{host}");
    }
    let stranger = Ca::new().issue_authority(&["client"]);
    let names = ("good.apps.test", "good.apps.test");
    assert!(world.dump_by_tls(Some(&stranger), names, "").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_of_another_tls_version_is_reported_with_gos_text() {
    let settings = Settings {
        backend_terms: TlsTerms {
            versions: vec![&rustls::version::TLS12],
            cipher_suites: Vec::new(),
        },
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let identity = world.ca.issue(&["instance-a"]);
    let terms = TlsTerms {
        versions: vec![&rustls::version::TLS13],
        cipher_suites: Vec::new(),
    };
    let certs = kit::tls::certs(&identity.cert_pem).unwrap();
    let key = kit::tls::key(&identity.key_pem).unwrap();
    let builder = terms.server().unwrap().with_no_client_auth();
    let tls = builder.with_single_cert(certs, key).unwrap();
    let backend = Backend::start_tls("newer", Arc::new(tls)).await;
    world
        .register_tls("app.test", "app", "instance-a", backend.addr)
        .await;
    let reply = world.get("app.test", "/").await;
    let words = "protocol version not supported";
    assert!(
        reply.router_error().contains(words),
        "{}",
        reply.router_error()
    );
    assert_eq!(reply.status, 502);
}

/// The client's handshake does not fail, as with gorouter: the client learns that no protocol was negotiated.
#[tokio::test(flavor = "multi_thread")]
async fn without_http2_no_protocol_is_negotiated() {
    for (http2, spoken) in [(false, None), (true, Some(&b"h2"[..]))] {
        let world = World::with(Settings {
            http2,
            ..Settings::default()
        })
        .await;
        let mut config = kit::tls::client_config(&world.ca.issue(&["client"])).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = tokio::net::TcpStream::connect(world.https).await.unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect("app.apps.test".try_into().unwrap(), stream)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), spoken);
    }
}

/// The router offers the versions and suites that the operator permits to backends and to route services.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_a_permitted_suite_is_refused() {
    let settings = Settings {
        backend_terms: TlsTerms {
            versions: Vec::new(),
            cipher_suites: vec!["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".into()],
        },
        ..Settings::default()
    };
    let world = World::with(settings).await;
    for (host, suite, status) in [
        ("one.test", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 200),
        ("other.test", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 525),
    ] {
        let identity = world.ca.issue(&["instance-a"]);
        let terms = TlsTerms {
            versions: vec![&rustls::version::TLS12],
            cipher_suites: vec![suite.into()],
        };
        let certs = kit::tls::certs(&identity.cert_pem).unwrap();
        let key = kit::tls::key(&identity.key_pem).unwrap();
        let builder = terms.server().unwrap().with_no_client_auth();
        let tls = builder.with_single_cert(certs, key).unwrap();
        let backend = Backend::start_tls("spoken", Arc::new(tls)).await;
        world
            .register_tls(host, "app", "instance-a", backend.addr)
            .await;
        assert_eq!(world.get(host, "/").await.status, status, "{suite}");
    }
}
