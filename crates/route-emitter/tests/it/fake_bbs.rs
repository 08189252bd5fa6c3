//! A small BBS for tests: it answers lists from memory and streams events, over mTLS.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::IntoResponse as _;
use axum::routing::post;
use base64::Engine as _;
use bytes::Bytes;
use kit::CancellationToken;
use kit::tls::Identity;
use prost::Message;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use testkit::http::serve;
use tokio::sync::broadcast;
use wire::bbs::{self as m, path};

pub(crate) struct FakeBbs {
    pub(crate) url: String,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
}

struct Shared {
    actuals: Mutex<Vec<m::ActualLrp>>,
    desired: Mutex<Vec<m::DesiredLrp>>,
    domains: Mutex<Vec<String>>,
    /// The sender of events. `None` breaks every open stream.
    events: broadcast::Sender<Option<m::Event>>,
    /// The events with which a stream is continued. `None`: streams are not continued, as with an original BBS.
    missed: Mutex<Option<Vec<m::Event>>>,
    /// The number of times that the state was read.
    syncs: AtomicUsize,
}

impl Drop for FakeBbs {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl FakeBbs {
    pub(crate) async fn start(identity: &Identity) -> Self {
        let shared = Arc::new(Shared {
            actuals: Mutex::default(),
            desired: Mutex::default(),
            domains: Mutex::new(vec!["cf-apps".into()]),
            events: broadcast::channel(100).0,
            missed: Mutex::default(),
            syncs: AtomicUsize::new(0),
        });
        let app = Router::new()
            .route(path::ACTUAL_LRPS_LIST, post(actuals))
            .route(path::ACTUAL_LRPS_BY_GUIDS, post(actuals_of))
            .route(path::DOMAINS_LIST, post(domains))
            .route(path::ROUTING_INFOS_LIST, post(routing_infos))
            .route(path::INSTANCE_EVENTS, post(events))
            .with_state(shared.clone());
        let shutdown = CancellationToken::new();
        let server = serve(app, Some(identity), shutdown.clone()).await;
        Self {
            url: server.url,
            shared,
            shutdown,
        }
    }

    /// Changes the state without an event.
    pub(crate) fn set(&self, desired: Vec<m::DesiredLrp>, actuals: Vec<m::ActualLrp>) {
        *self.shared.desired.lock().unwrap() = desired;
        *self.shared.actuals.lock().unwrap() = actuals;
    }

    pub(crate) fn event(&self, event: m::Event) {
        self.shared.events.send(Some(event)).unwrap();
    }

    pub(crate) fn break_streams(&self) {
        self.shared.events.send(None).unwrap();
    }

    /// Continues the streams of subscribers that come back, with these events.
    pub(crate) fn continue_with(&self, missed: Vec<m::Event>) {
        *self.shared.missed.lock().unwrap() = Some(missed);
    }

    /// Returns how many times the emitter read the whole state.
    pub(crate) fn syncs(&self) -> usize {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.shared.events.receiver_count()
    }
}

async fn actuals(State(shared): State<Arc<Shared>>, body: Bytes) -> Vec<u8> {
    let asked = m::ActualLrpsRequest::decode(body).unwrap();
    let mut actual_lrps = shared.actuals.lock().unwrap().clone();
    actual_lrps.retain(|lrp| lrp.instance_key.as_ref().unwrap().cell_id == asked.cell_id);
    m::ActualLrpsResponse {
        error: None,
        actual_lrps,
    }
    .encode_to_vec()
}

async fn actuals_of(State(shared): State<Arc<Shared>>, body: Bytes) -> Vec<u8> {
    let asked = m::ActualLrpsByProcessGuidsRequest::decode(body).unwrap();
    let mut actual_lrps = shared.actuals.lock().unwrap().clone();
    actual_lrps.retain(|lrp| {
        let guid = &lrp.key.as_ref().unwrap().process_guid;
        asked.process_guids.contains(guid)
    });
    m::ActualLrpsResponse {
        error: None,
        actual_lrps,
    }
    .encode_to_vec()
}

async fn domains(State(shared): State<Arc<Shared>>) -> Vec<u8> {
    shared.syncs.fetch_add(1, Ordering::Relaxed);
    m::DomainsResponse {
        error: None,
        domains: shared.domains.lock().unwrap().clone(),
    }
    .encode_to_vec()
}

async fn routing_infos(State(shared): State<Arc<Shared>>, body: Bytes) -> Vec<u8> {
    let asked = m::DesiredLrpsRequest::decode(body).unwrap();
    let mut desired_lrps = shared.desired.lock().unwrap().clone();
    desired_lrps.retain(|lrp| asked.process_guids.contains(&lrp.process_guid));
    m::DesiredLrpsResponse {
        error: None,
        desired_lrps,
    }
    .encode_to_vec()
}

async fn events(State(shared): State<Arc<Shared>>, request: HeaderMap) -> axum::response::Response {
    let receiver = shared.events.subscribe();
    let missed = shared.missed.lock().unwrap().clone();
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert("content-type", kind);
    let missed = match (request.get(m::LAST_EVENT_ID), missed) {
        (Some(last), Some(missed)) => {
            headers.insert(m::LAST_EVENT_ID, last.clone());
            missed
        }
        _ => Vec::new(),
    };
    let begin = (receiver, missed.into_iter(), 0);
    let stream = futures::stream::unfold(begin, |(mut receiver, mut missed, n)| async move {
        let event = match missed.next() {
            Some(event) => event,
            None => receiver.recv().await.ok()??,
        };
        let data = base64::engine::general_purpose::STANDARD.encode(event.encode());
        let text = format!("id: {n}\nevent: {}\ndata: {data}\n\n", event.name());
        Some((
            Ok::<_, std::convert::Infallible>(Bytes::from(text)),
            (receiver, missed, n + 1),
        ))
    });
    (headers, Body::from_stream(stream)).into_response()
}
