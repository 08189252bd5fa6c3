//! The places of brokers: which addresses are called, what the router serves, and whose certificates are trusted.

use crate::fixture::{access_at, alice, client, client_of};
use axum::Json;
use kit::CancellationToken;
use kit::tls::ClientAuth;
use osb::{ErrorKind, Router, Settings};
use testkit::broker::{Broker, catalog};
use testkit::certs::Ca;

fn port(broker: &Broker) -> u16 {
    let port = broker.url.rsplit(':').next().unwrap();
    port.parse().unwrap()
}

#[tokio::test]
async fn addresses_of_the_own_machine_are_refused_whatever_the_name_is() {
    let broker = Broker::start("db").await;
    let (strict, caller) = (client_of(Settings::default()), alice());
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
    ] {
        let access = access_at(&format!("http://{host}:{}", port(&broker)));
        let error = strict.at(&access, &caller).catalog().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Forbidden, "{host}: {error}");
    }
    assert!(broker.requests().is_empty());
    // Another client permits one of them.
    let access = access_at(&broker.url);
    client().at(&access, &caller).catalog().await.unwrap();
    let access = access_at(&format!("http://127.0.0.2:{}", port(&broker)));
    let error = client().at(&access, &caller).catalog().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
}

#[tokio::test]
async fn names_of_the_foundation_are_served_by_its_router() {
    let broker = Broker::start("db").await;
    let client = client_of(Settings {
        own_domains: vec!["apps.test".to_owned()],
        router: Some(Router {
            host: "127.0.0.1".to_owned(),
            http_port: port(&broker),
            https_port: None,
        }),
        ..Settings::default()
    });
    let (access, caller) = (access_at("http://broker.apps.test/"), alice());
    client.at(&access, &caller).catalog().await.unwrap();
    let request = &broker.requests()[0];
    assert_eq!(request.headers["host"], "broker.apps.test");
    assert_eq!(request.path, "/v2/catalog");
}

#[tokio::test]
async fn certificates_are_verified() {
    let identity = Ca::new().issue(&["broker.secure.test"]);
    let tls = kit::tls::server_config(&identity, ClientAuth::None, &["http/1.1"]).unwrap();
    let listener = testkit::net::listener().await;
    let port = listener.local_addr().unwrap().port();
    let app = axum::Router::new().fallback(async || Json(catalog("db")));
    let stop = CancellationToken::new();
    let server = tokio::spawn(kit::http::serve(listener, Some(tls), app, stop.clone()));
    let settings = |authorities_pem: &str, skip_ssl_validation| Settings {
        own_domains: vec!["secure.test".to_owned()],
        router: Some(Router {
            host: "127.0.0.1".to_owned(),
            http_port: 1,
            https_port: Some(port),
        }),
        authorities_pem: authorities_pem.to_owned(),
        skip_ssl_validation,
        ..Settings::default()
    };
    let (access, caller) = (access_at("https://broker.secure.test"), alice());
    for (pem, skip, is_trusted) in [
        ("", false, false),
        (identity.ca_pem.as_str(), false, true),
        ("", true, true),
    ] {
        let client = client_of(settings(pem, skip));
        let answer = client.at(&access, &caller).catalog().await;
        assert_eq!(answer.is_ok(), is_trusted, "{answer:?}");
        if let Err(error) = answer {
            assert_eq!(error.kind, ErrorKind::Unreachable);
            assert!(error.message.contains("TLS failed"), "{error}");
            assert!(!error.leaves_orphan());
        }
    }
    // The name is checked as well.
    let access = access_at("https://other.secure.test");
    let client = client_of(settings(&identity.ca_pem, false));
    assert!(client.at(&access, &caller).catalog().await.is_err());
    stop.cancel();
    server.await.unwrap().unwrap();
}
