//! Requests that pass a service on their way, and everything about it that could be forged.

use crate::backends::Backend;
use crate::certs::Ca;
use crate::client::{Reply, request};
use crate::world::{World, plain, wait_for};
use clients::loggregator::Emitter;
use futures::{SinkExt as _, StreamExt as _};
use kit::tls::{ClientAuth, server_config};
use router::{
    AddressRange, ClientCertValidation, ForwardedClientCert, FrontTls, RouteServices, Settings,
    TlsTerms,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

pub(crate) fn services() -> RouteServices {
    RouteServices {
        secret: "route-secret".into(),
        secret_decrypt_only: None,
        rotation: None,
        timeout: Duration::from_secs(60),
        recommend_https: true,
        return_port: None,
        max_attempts: 3,
        strict_signature_validation: false,
        websockets: true,
        identity: None,
        tls_terms: TlsTerms::default(),
        skip_ssl_validation: false,
        authorities: String::new(),
        system_authorities: false,
        hairpinning: false,
        hairpinning_allowlist: Vec::new(),
        egress_blocklist: Vec::new(),
    }
}

async fn world(services: Option<RouteServices>) -> World {
    World::with(Settings {
        route_services: services,
        ..Settings::default()
    })
    .await
}

/// Starts a service that answers with the request that it got; returns its url.
async fn service(world: &World) -> (Backend, String) {
    let identity = world.ca.issue(&["127.0.0.1"]);
    let tls = server_config(&identity, ClientAuth::None, &["http/1.1"]).unwrap();
    let backend = Backend::start_tls("service", tls).await;
    let url = format!("https://{}/dump/service", backend.addr);
    (backend, url)
}

async fn bind(world: &World, uri: &str, app: &Backend, url: &str) {
    let mut message = plain(uri, "app", 0, app.addr);
    message["route_service_url"] = url.into();
    world.publish("router.register", message).await;
    wait_for("the route", async || world.handle.serves(uri)).await;
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap_or_else(|| panic!("{name} in\n{text}"))
}

async fn signed(world: &World, host: &str, note: (&str, &str)) -> Reply {
    let headers = [
        ("x-cf-proxy-signature", note.0),
        ("x-cf-proxy-metadata", note.1),
        ("x-cf-forwarded-url", "https://app.test/x"),
        ("x-forwarded-proto", "https"),
    ];
    request(world.addr, "GET", host, "/dump/app", &headers, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn story_17_a_request_goes_through_its_route_service_and_comes_back_once() {
    let world = world(Some(services())).await;
    let app = Backend::start("app").await;
    let (service, url) = service(&world).await;
    bind(&world, "app.test", &app, &url).await;
    bind(&world, "other.test", &app, &url).await;

    for _ in 0..2 {
        let reply = world.get("app.test:80", "/x%2F?y").await;
        let sent = reply.text();
        assert!(sent.starts_with("GET /dump/service HTTP/1.1\n"), "{sent}");
        assert_eq!(line(&sent, "host: "), service.addr.to_string());
        assert_eq!(
            line(&sent, "x-cf-forwarded-url: "),
            "https://app.test/x%2F?y"
        );
        assert!(!sent.contains("x-cf-applicationid"), "{sent}");
    }
    let text = world.handle.metrics_text();
    let counted = "responses_route_services{status_group=\"2xx\"} 2\n";
    assert!(text.contains(counted), "{text}");
    let connections = service
        .connections
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(connections <= 2, "connections to services are kept");
    let sent = world.get("app.test", "/x").await.text();
    let note = (
        line(&sent, "x-cf-proxy-signature: "),
        line(&sent, "x-cf-proxy-metadata: "),
    );
    let reply = signed(&world, "app.test", note).await;
    let back = reply.text();
    assert!(back.starts_with("GET /dump/app HTTP/1.1\n"), "{back}");
    assert!(
        !back.contains("x-cf-proxy") && !back.contains("x-cf-forwarded-url"),
        "{back}"
    );
    assert_eq!(line(&back, "x-forwarded-proto: "), "https");
    assert_eq!(line(&back, "x-cf-applicationid: "), "app");

    for (host, note) in [("other.test", note), ("app.test", ("forged", note.1))] {
        let reply = signed(&world, host, note).await;
        assert_eq!((reply.status, reply.router_error()), (502, ""), "{host}");
        assert!(
            reply
                .text()
                .contains("Failed to validate Route Service Signature")
        );
    }
    drop(service);
    let reply = world.get("app.test", "/").await;
    assert_eq!(reply.status, 502);
    assert!(
        reply
            .router_error()
            .starts_with("endpoint_failure (dial tcp"),
        "{reply:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals() {
    let expired = RouteServices {
        timeout: Duration::ZERO,
        strict_signature_validation: true,
        egress_blocklist: vec![AddressRange::parse("127.0.0.2").unwrap()],
        ..services()
    };
    let world = world(Some(expired)).await;
    let app = Backend::start("app").await;
    let (_service, url) = service(&world).await;
    bind(&world, "app.test", &app, &url).await;
    bind(&world, "free.test", &app, "").await;
    let sent = world.get("app.test", "/x").await.text();
    let note = (
        line(&sent, "x-cf-proxy-signature: "),
        line(&sent, "x-cf-proxy-metadata: "),
    );
    for (host, note, status, error) in [
        ("app.test", note, 504, ""),
        ("free.test", note, 504, "expired_route_service_signature"),
        (
            "free.test",
            ("forged", note.1),
            400,
            "invalid_route_service_signature",
        ),
    ] {
        let reply = signed(&world, host, note).await;
        assert_eq!(
            (reply.status, reply.router_error()),
            (status, error),
            "{host}"
        );
    }
    bind(&world, "blocked.test", &app, "https://127.0.0.2/").await;
    let reply = world.get("blocked.test", "/").await;
    assert_eq!(reply.status, 502);
    assert!(
        reply.router_error().contains("blocked address"),
        "{reply:?}"
    );

    let without = crate::route_services::world(None).await;
    bind(&without, "app.test", &app, &url).await;
    let reply = without.get("app.test", "/").await;
    assert_eq!(
        (reply.status, reply.router_error()),
        (502, "route_service_unsupported")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_an_app_here_is_reached_through_the_table_if_allowed() {
    let world = world(Some(RouteServices {
        hairpinning: true,
        hairpinning_allowlist: vec!["*.services.invalid".into()],
        ..services()
    }))
    .await;
    let (app, service) = (Backend::start("app").await, Backend::start("service").await);
    bind(&world, "app.test", &app, "https://rs.services.invalid/dump").await;
    bind(
        &world,
        "deep.test",
        &app,
        "https://a.rs.services.invalid/dump",
    )
    .await;
    for host in ["rs.services.invalid", "a.rs.services.invalid"] {
        world.register(host, "service", 3, service.addr).await;
    }
    let text = world.get("app.test", "/x").await.text();
    assert!(text.starts_with("GET /dump HTTP/1.1\n"), "{text}");
    assert_eq!(line(&text, "host: "), "rs.services.invalid");
    assert_eq!(line(&text, "x-cf-applicationid: "), "service");
    assert_eq!(line(&text, "x-cf-forwarded-url: "), "https://app.test/x");
    assert_eq!(world.get("deep.test", "/x").await.status, 502, "two labels");
    bind(
        &world,
        "sticky.test",
        &app,
        "https://rs.services.invalid/session",
    )
    .await;
    let cookie = [("cookie", "JSESSIONID=1; __VCAP_ID__=app-instance-0")];
    let reply = request(world.addr, "GET", "sticky.test", "/", &cookie, "").await;
    assert_eq!(reply.text(), "service");
    let cookies = reply.headers.get_all("set-cookie").iter().count();
    assert_eq!(cookies, 1, "the service's own alone");
}

/// Starts a service that forwards an upgrade to the router with its note, and then bytes both ways.
async fn passing_service(world: &World) -> String {
    let identity = world.ca.issue(&["127.0.0.1"]);
    let tls = server_config(&identity, ClientAuth::None, &["http/1.1"]).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let router = world.addr;
    let addr = crate::http1::app(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut client = acceptor.accept(stream).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let lines = head.lines().skip(1);
            let lines = lines.filter(|line| !line.to_lowercase().starts_with("host:"));
            let rest: Vec<&str> = lines.collect();
            let head = format!(
                "GET /chat HTTP/1.1\r\nHost: app.apps.test\r\n{}\r\n\r\n",
                rest.join("\r\n").trim_end()
            );
            let mut back = TcpStream::connect(router).await.unwrap();
            back.write_all(head.as_bytes()).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut back).await;
        }
    })
    .await;
    format!("https://{addr}/")
}

/// Starts an app that speaks WebSocket, echoes, and is registered with a service.
async fn echoing(world: &World, url: &str) {
    let addr = crate::http1::app(async |stream| {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await;
    let mut message = plain("app.apps.test", "app", 0, addr);
    message["route_service_url"] = url.into();
    world.publish("router.register", message).await;
    wait_for("the route", async || world.handle.serves("app.apps.test")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_pass_a_service_too() {
    let world = world(Some(services())).await;
    let url = passing_service(&world).await;
    echoing(&world, &url).await;
    // First by HTTP/1.1.
    let stream = TcpStream::connect(world.addr).await.unwrap();
    let (mut socket, answer) = tokio_tungstenite::client_async("ws://app.apps.test/chat", stream)
        .await
        .unwrap();
    assert_eq!(answer.status(), 101);
    socket.send(Message::text("hello")).await.unwrap();
    let echo = socket.next().await.unwrap().unwrap();
    assert_eq!(echo, Message::text("hello"));
    // Then by HTTP/2.
    let sender = crate::h2peer::connect(&world).await;
    wait_for("the router's settings", async || {
        sender.is_extended_connect_protocol_enabled()
    })
    .await;
    let mut chat = crate::h2peer::ask(http::Method::CONNECT, "/chat");
    let websocket = h2::ext::Protocol::from_static("websocket");
    chat.extensions_mut().insert(websocket);
    let version = "13".parse().unwrap();
    chat.headers_mut().insert("sec-websocket-version", version);
    let (answer, mut up) = crate::h2peer::begin(&sender, chat, false).await;
    let mut answer = crate::h2peer::head(answer).await;
    assert_eq!(answer.status(), 200);
    // The frame is "hi", masked with zeros.
    let frame = [&[0x81, 0x82, 0, 0, 0, 0][..], b"hi"].concat();
    up.send_data(frame.into(), false).unwrap();
    let echo = answer.body_mut().data().await.unwrap().unwrap();
    assert_eq!(echo, [&[0x81, 2][..], b"hi"].concat());
}

/// Every way to a blocked address is shut: its plain form, a name, its form mapped into IPv6, and an upgrade.
#[tokio::test(flavor = "multi_thread")]
async fn no_service_is_reached_at_a_blocked_address() {
    let world = world(Some(RouteServices {
        egress_blocklist: vec![
            AddressRange::parse("127.0.0.0/8").unwrap(),
            AddressRange::parse("::1").unwrap(),
        ],
        ..services()
    }))
    .await;
    let app = Backend::start("app").await;
    let (service, _) = service(&world).await;
    let port = service.addr.port();
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"] {
        let uri = format!("h{}.test", host.len());
        bind(&world, &uri, &app, &format!("https://{host}:{port}/dump")).await;
        let upgrade = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ];
        for headers in [&[][..], &upgrade] {
            let reply = request(world.addr, "GET", &uri, "/", headers, "").await;
            assert_eq!(reply.status, 502, "{host}");
            let error = reply.router_error();
            assert!(error.contains("blocked address"), "{host}: {error}");
        }
    }
    let connections = service
        .connections
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(connections, 0);
}

/// The service is an app here and is reached by this router's own port: the fields that it sees are about the client, not about
/// the router that sent the request there. A note that a client wrote itself is not accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_behind_the_own_port_sees_the_client() {
    let services = RouteServices {
        skip_ssl_validation: true,
        ..services()
    };
    let ca = Ca::new();
    let client = ca.issue(&["client"]);
    let settings = Settings {
        route_services: Some(services),
        forwarded_client_cert: ForwardedClientCert::SanitizeSet,
        sanitize_forwarded_proto: true,
        front_tls: FrontTls {
            client_cert_validation: ClientCertValidation::Request,
            client_cas: vec![ca.pem.clone()],
            ..FrontTls::default()
        },
        ..Settings::default()
    };
    let world = World::streaming_to(Emitter::discard(), ca, settings).await;
    let app = Backend::start("app").await;
    let service = Backend::start("service").await;
    world
        .register("localhost", "service", 0, service.addr)
        .await;
    let url = format!("https://localhost:{}/dump/service", world.https.port());
    bind(&world, "app.apps.test", &app, &url).await;

    let names = ("app.apps.test", "app.apps.test");
    let reply = world.dump_by_tls(Some(&client), names, "forged").await;
    let text = reply.unwrap().text();
    assert!(text.starts_with("GET /dump/service "), "{text}");
    assert_eq!(line(&text, "x-forwarded-proto: "), "https");
    let shown = kit::tls::certs(&client.cert_pem).unwrap();
    let shown = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &shown[0]);
    assert_eq!(line(&text, "x-forwarded-client-cert: "), shown);

    let text = world.get("app.apps.test", "/").await.text();
    assert_eq!(line(&text, "x-forwarded-proto: "), "http");
    assert!(!text.contains("x-forwarded-client-cert"), "{text}");

    let note = [
        ("x-cf-proxy-signature", "AAAA"),
        ("x-cf-proxy-metadata", "AAAA"),
        ("x-cf-forwarded-url", "https://app.apps.test/"),
        ("x-forwarded-proto", "https"),
    ];
    let forged = request(world.addr, "GET", "localhost", "/dump", &note, "").await;
    assert_eq!(line(&forged.text(), "x-forwarded-proto: "), "http");
}

/// Routers derive the keys of a rotation from their common secret, so a request may return through another router.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_returns_through_another_router_whose_keys_rotate_alike() {
    let day = Some(Duration::from_secs(86_400));
    let rotating = |rotation| RouteServices {
        rotation,
        ..services()
    };
    let one = world(Some(rotating(day))).await;
    let app = Backend::start("app").await;
    let (_service, url) = service(&one).await;
    bind(&one, "app.test", &app, &url).await;
    let sent = one.get("app.test", "/x").await.text();
    let note = (
        line(&sent, "x-cf-proxy-signature: "),
        line(&sent, "x-cf-proxy-metadata: "),
    );
    for (rotation, status) in [(day, 200), (None, 502)] {
        let other = world(Some(rotating(rotation))).await;
        bind(&other, "app.test", &app, &url).await;
        let reply = signed(&other, "app.test", note).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
}

/// A router at another port than that of the scheme names it to services, and knows its own route again.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_shown_the_port_for_its_way_back() {
    let world = world(Some(RouteServices {
        return_port: Some(8443),
        ..services()
    }))
    .await;
    let app = Backend::start("app").await;
    let (_service, url) = service(&world).await;
    bind(&world, "app.test", &app, &url).await;
    let sent = world.get("app.test:8080", "/x").await.text();
    let shown = line(&sent, "x-cf-forwarded-url: ");
    assert_eq!(shown, "https://app.test:8443/x");
    let note = (
        line(&sent, "x-cf-proxy-signature: "),
        line(&sent, "x-cf-proxy-metadata: "),
    );
    let reply = signed(&world, "app.test:8443", note).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// Services have authorities of their own, which are accepted in addition to those of backends.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_services_is_accepted() {
    let authority = Ca::new();
    let tls = server_config(
        &authority.issue(&["127.0.0.1"]),
        ClientAuth::None,
        &["http/1.1"],
    );
    let service = Backend::start_tls("service", tls.unwrap()).await;
    let app = Backend::start("app").await;
    for (authorities, status) in [(authority.pem.clone(), 200), (String::new(), 526)] {
        let world = world(Some(RouteServices {
            authorities,
            ..services()
        }))
        .await;
        let url = format!("https://{}/dump/service", service.addr);
        bind(&world, "app.test", &app, &url).await;
        let reply = world.get("app.test", "/").await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
}
