//! Tests of access log lines in the app's log stream.

use crate::backends::Backend;
use crate::certs::Ca;
use crate::client::request;
use crate::route_services::services;
use crate::world::{PATIENCE, World, plain, unused_address, wait_for};
use clients::loggregator::Emitter;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kit::tls::{ClientAuth, server_config};
use prost::Message as _;
use router::Settings;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use wire::loggregator::{BATCH_SENDER, Envelope, EnvelopeBatch, Message};

/// Starts a loggregator ingress of one connection: its envelopes arrive in the channel.
async fn ingress(ca: &Ca) -> (String, mpsc::UnboundedReceiver<Envelope>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let config = server_config(&ca.issue(&["127.0.0.1"]), ClientAuth::Required, &["h2"]).unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        // The emitter may have given up an attempt that took too long.
        let stream = loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
            if let Ok(stream) = acceptor.accept(stream).await {
                break stream;
            }
        };
        let service = service_fn(move |request: Request<Incoming>| {
            let sender = sender.clone();
            async move {
                assert_eq!(request.uri().path(), BATCH_SENDER);
                let mut body = request.into_body();
                let mut bytes = Vec::new();
                while let Some(Ok(frame)) = body.frame().await {
                    bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
                    while bytes.len() >= 5 {
                        let end = 5 + u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
                        if bytes.len() < end {
                            break;
                        }
                        for envelope in EnvelopeBatch::decode(&bytes[5..end]).unwrap().batch {
                            let _ = sender.send(envelope);
                        }
                        bytes.drain(..end);
                    }
                }
                Ok::<_, std::convert::Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
            }
        });
        let _ = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
    (url, receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_line_goes_to_the_apps_log_stream() {
    let ca = Ca::new();
    let (url, mut envelopes) = ingress(&ca).await;
    let emitter = Emitter::connect(&url, &ca.issue(&["router"])).unwrap();
    let settings = Settings {
        index: 4,
        ..Settings::default()
    };
    let world = World::streaming_to(emitter, ca, settings).await;
    let backend = Backend::start("x").await;
    world
        .register("app.test", "app-guid", 1, backend.addr)
        .await;
    world.get("nobody.test", "/").await;
    // Each worker writes its own lines: the second line only follows the first if it is requested later.
    world.log_lines(1).await;
    world.get("app.test", "/").await;
    let envelope = tokio::time::timeout(PATIENCE, envelopes.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (envelope.source_id.as_str(), envelope.instance_id.as_str()),
        ("app-guid", "4")
    );
    assert_eq!(envelope.tags["source_type"], "RTR");
    assert_eq!(envelope.tags["process_id"], "app-guid");
    let Some(Message::Log(log)) = envelope.message else {
        panic!("want a log, have {:?}", envelope.message)
    };
    let lines = world.log_lines(2).await;
    assert_eq!(
        String::from_utf8(log.payload).unwrap(),
        lines[1],
        "the app's request alone, as in the file"
    );
}

/// Returns the next line that arrives in the app's log stream.
async fn line(envelopes: &mut mpsc::UnboundedReceiver<Envelope>) -> (String, String) {
    let received = tokio::time::timeout(PATIENCE, envelopes.recv()).await;
    let envelope = received.unwrap().unwrap();
    let Some(Message::Log(log)) = envelope.message else {
        panic!("want a log, have {:?}", envelope.message)
    };
    (envelope.source_id, String::from_utf8(log.payload).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempts_go_to_the_apps_log_stream_with_their_reasons() {
    let ca = Ca::new();
    let (url, mut envelopes) = ingress(&ca).await;
    let emitter = Emitter::connect(&url, &ca.issue(&["router"])).unwrap();
    let world = World::streaming_to(emitter, ca, Settings::default()).await;
    let nobody = unused_address();
    world.register("app.test", "app-guid", 3, nobody).await;
    let answer = world.get("app.test", "/x?secret=y").await;
    assert_eq!(answer.status, 502);
    let (source, first) = line(&mut envelopes).await;
    assert_eq!(source, "app-guid");
    let begins = "app.test \"GET /x\" attempt 1 failed after ";
    assert!(first.starts_with(begins), "{first}");
    let place =
        format!(" ms at {nobody} (instance app-guid-instance-3, index 3): dial tcp {nobody}");
    assert!(first.contains(&place), "{first}");
    assert!(
        first.contains("connection refused; another instance "),
        "{first}"
    );
    assert!(
        first.contains("vcap_request_id:\"") && !first.contains("secret"),
        "{first}"
    );
    // The line of the request itself comes last.
    let last = loop {
        let (source, line) = line(&mut envelopes).await;
        assert_eq!(source, "app-guid");
        if !line.contains(" attempt ") {
            break line;
        }
    };
    assert!(
        last.contains("\"GET /x") && last.contains("HTTP/1.1\" 502"),
        "{last}"
    );
}

/// The first line of a debugged request is that of the access log; the second one is its trace.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_client_debugs_has_a_line_with_its_phases() {
    let ca = Ca::new();
    let (url, mut envelopes) = ingress(&ca).await;
    let emitter = Emitter::connect(&url, &ca.issue(&["router"])).unwrap();
    let settings = Settings {
        zipkin: true,
        ..Settings::default()
    };
    let world = World::streaming_to(emitter, ca, settings).await;
    let backend = Backend::start("x").await;
    world
        .register("app.test", "app-guid", 1, backend.addr)
        .await;
    let headers = [("x-b3-flags", "1")];
    request(world.addr, "GET", "app.test", "/x?secret=y", &headers, "").await;
    let (source, first) = line(&mut envelopes).await;
    assert_eq!(source, "app-guid");
    assert!(
        first.contains("\"GET /x?secret=y HTTP/1.1\" 200"),
        "{first}"
    );
    let (source, trace) = line(&mut envelopes).await;
    assert_eq!(source, "app-guid");
    assert!(trace.starts_with("app.test \"GET /x\" 200 in "), "{trace}");
    let place = format!(
        "; at {} (instance app-guid-instance-1, index 1): pick ",
        backend.addr
    );
    assert!(trace.contains(&place), "{trace}");
    // A sampled request is no debugged one, so the next two lines are those of the next two requests.
    for _ in 0..2 {
        let headers = [("x-b3-sampled", "1")];
        request(world.addr, "GET", "app.test", "/y", &headers, "").await;
        let (_, next) = line(&mut envelopes).await;
        assert!(next.contains("\"GET /y HTTP/1.1\" 200"), "{next}");
    }
}

/// The owner of the app bound the service, so its log shows that requests do not get through it.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_service_that_fails_is_in_the_log_of_the_bound_app() {
    let ca = Ca::new();
    let (url, mut envelopes) = ingress(&ca).await;
    let emitter = Emitter::connect(&url, &ca.issue(&["router"])).unwrap();
    let settings = Settings {
        route_services: Some(services()),
        ..Settings::default()
    };
    let world = World::streaming_to(emitter, ca, settings).await;
    let (backend, nobody) = (Backend::start("x").await, unused_address());
    let mut message = plain("app.test", "app-guid", 1, backend.addr);
    message["route_service_url"] = format!("https://{nobody}/x").into();
    world.publish("router.register", message).await;
    wait_for("the route", async || world.handle.serves("app.test")).await;
    assert_eq!(world.get("app.test", "/x?secret=y").await.status, 502);
    for (number, end) in [
        (1, "it is tried again"),
        (2, "it is tried again"),
        (3, "it is not tried again"),
    ] {
        let (source, line) = line(&mut envelopes).await;
        assert_eq!(source, "app-guid");
        let begins = format!("app.test \"GET /x\" attempt {number} failed after ");
        assert!(line.starts_with(&begins), "{line}");
        let place = format!(" at the route service {nobody}: dial tcp {nobody}");
        assert!(line.contains(&place) && line.contains(end), "{line}");
    }
}
