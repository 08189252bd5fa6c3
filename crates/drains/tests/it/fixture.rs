//! Drains with the list that they follow.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::get;
use axum::{Json, Router};
use drains::{Config, Drains, Intake};
use kit::CancellationToken;
use kit::metrics::{Page as _, Registry};
use kit::reach::Reach;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::certs::shared_identity;
use testkit::http::serve;
use testkit::wait::until;
use wire::cc::{DrainCredentials, DrainedApp, SyslogDrain, SyslogDrains};
use wire::loggregator::{Envelope, Gauge, GaugeValue, Log, LogType, Message};

/// The app whose lines the tests drain.
pub(crate) const APP: &str = "app-guid";

/// The list as the Cloud Controller has it; `None`: the Cloud Controller fails.
type List = Arc<Mutex<Option<Vec<SyslogDrain>>>>;

pub(crate) struct Stage {
    list: List,
    pub(crate) intake: Intake,
    registry: Arc<Registry>,
    /// The lines for the logs of apps.
    reports: Arc<Mutex<Vec<Envelope>>>,
    stop: CancellationToken,
    running: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
    _peers: CancelOnDrop,
}

struct CancelOnDrop(CancellationToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Serves the list two URLs at a time.
async fn page(
    State(list): State<List>,
    Query(query): Query<HashMap<String, usize>>,
) -> axum::response::Response {
    let Some(all) = list.lock().unwrap().clone() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let from = query["next_id"];
    let results: Vec<SyslogDrain> = all.into_iter().skip(from).take(2).collect();
    let next_id = (!results.is_empty()).then(|| u32::try_from(from + 2).unwrap());
    Json(SyslogDrains { results, next_id }).into_response()
}

impl Stage {
    /// Starts drains that may connect to this machine.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        kit::logging::init("CUPOLA_LOG", "warn");
        let list: List = Arc::new(Mutex::new(Some(Vec::new())));
        let peers = CancellationToken::new();
        let controller = Router::new()
            .route("/internal/v5/syslog_drain_urls", get(page))
            .with_state(list.clone());
        let controller = serve(controller, Some(&shared_identity()), peers.clone()).await;
        let mut config = Config {
            cloud_controller_url: controller.url,
            identity: shared_identity(),
            interval: Duration::from_millis(20),
            reach: Reach {
                allow: vec!["127.0.0.0/8".parse().unwrap()],
                deny: vec![],
            },
            router: None,
            authorities: String::new(),
            has_tags: true,
            per_app: Config::PER_APP,
            aggregate: Vec::new(),
        };
        change(&mut config);
        let mut registry = Registry::default();
        let drains = Drains::build(config, &mut registry).unwrap();
        let reports: Arc<Mutex<Vec<Envelope>>> = Arc::default();
        let (intake, stop, lines) = (drains.intake(), CancellationToken::new(), reports.clone());
        let report = Arc::new(move |line| lines.lock().unwrap().push(line));
        let running = tokio::spawn(drains.run(report, stop.clone()));
        Self {
            list,
            intake,
            registry: Arc::new(registry),
            reports,
            stop,
            running: Some(running),
            _peers: CancelOnDrop(peers),
        }
    }

    /// Replaces the list, and waits until it was read and that many drains are known.
    pub(crate) async fn set(&self, drains: Vec<SyslogDrain>, known: usize) {
        *self.list.lock().unwrap() = Some(drains);
        let refreshes = || self.metric("syslog_agent_binding_refresh_total").unwrap();
        // The request that is under way may still have the old list.
        let before = refreshes();
        until("the drains of the list", || {
            let metric = self.metric("syslog_agent_drains");
            match metric == Some(known as f64) && refreshes() >= before + 2.0 {
                true => Ok(()),
                false => Err(format!("{metric:?}")),
            }
        })
        .await;
    }

    /// Lets the Cloud Controller fail.
    pub(crate) fn fail(&self) {
        *self.list.lock().unwrap() = None;
    }

    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        testkit::metrics::value(&self.registry.text(), name)
    }

    /// Logs a line of the app.
    pub(crate) fn log(&self, text: &str) {
        self.intake.offer(&line(text));
    }

    /// Returns the lines that the log of an app has of its drains.
    pub(crate) fn reports(&self, app: &str) -> Vec<String> {
        let reports = self.reports.lock().unwrap();
        let of_app = reports.iter().filter(|line| line.source_id == app);
        of_app
            .map(|line| {
                assert_eq!(line.tags["source_type"], "LGR");
                assert!(line.timestamp > 0);
                match &line.message {
                    Some(Message::Log(log)) => String::from_utf8(log.payload.clone()).unwrap(),
                    other => panic!("{other:?}"),
                }
            })
            .collect()
    }

    /// Waits until the log of the app has a line that contains `text`.
    pub(crate) async fn reported(&self, text: &str) {
        until(text, || {
            let reports = self.reports(APP);
            match reports.iter().any(|line| line.contains(text)) {
                true => Ok(()),
                false => Err(format!("{reports:?}")),
            }
        })
        .await;
    }

    /// Stops the drains and waits for their end.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        let running = self.running.take().unwrap();
        running.await.unwrap().unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Returns a drain of apps, with credentials.
pub(crate) fn drain_of(url: &str, apps: &[&str], credentials: DrainCredentials) -> SyslogDrain {
    let app = |guid: &&str| DrainedApp {
        hostname: "org.space.app".to_owned(),
        app_id: (*guid).to_owned(),
    };
    SyslogDrain {
        url: url.to_owned(),
        credentials: vec![DrainCredentials {
            apps: apps.iter().map(app).collect(),
            ..credentials
        }],
    }
}

/// Returns a drain of the app.
pub(crate) fn drain(url: &str) -> SyslogDrain {
    drain_of(url, &[APP], DrainCredentials::default())
}

/// Returns credentials that contain an authority alone.
pub(crate) fn trusting(ca: &str) -> DrainCredentials {
    DrainCredentials {
        ca: ca.to_owned(),
        ..DrainCredentials::default()
    }
}

pub(crate) fn line(text: &str) -> Envelope {
    let message = Message::Log(Log {
        payload: text.as_bytes().to_vec(),
        kind: LogType::Out as i32,
    });
    envelope(message)
}

pub(crate) fn gauge() -> Envelope {
    let cpu = GaugeValue {
        unit: "percentage".to_owned(),
        value: 0.5,
    };
    let metrics = [("cpu".to_owned(), cpu)].into();
    envelope(Message::Gauge(Gauge { metrics }))
}

fn envelope(message: Message) -> Envelope {
    Envelope {
        timestamp: 1_600_000_000_000_000_000,
        source_id: APP.to_owned(),
        instance_id: "0".to_owned(),
        tags: [("source_type".to_owned(), "APP/PROC/WEB".to_owned())].into(),
        message: Some(message),
    }
}

/// Returns the text of a message without its header.
pub(crate) fn text(message: &str) -> &str {
    let (_, text) = message.split_once("] ").unwrap();
    let (_, text) = text.split_once("] ").unwrap();
    text.trim_end_matches('\n')
}
