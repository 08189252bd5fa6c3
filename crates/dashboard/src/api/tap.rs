//! Follows one request: sends it through each router while a tap is open there, and returns the router's trace of this one request.
//! A router without taps has lines about it in the app's own log, which are read with the user's token.

mod line;

use super::lists::sees_route;
use crate::access::Viewer;
use crate::pages::Pages;
use crate::picture::verdict::Route;
use crate::refusal::{Answer, Refusal};
use crate::shared::Dash;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clients::tap::{Event, Tap};
use line::Line;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use wire::router::{AttemptTrace, RequestTrace};

/// The highest number of routers through which a request is sent.
const ROUTERS: usize = 8;
/// The time limit of a request. An app may think for long.
const LIMIT: Duration = Duration::from_secs(15);
/// The time in which a trace arrives after the answer.
const TRACE: Duration = Duration::from_secs(2);
/// The longest answer that is read, in bytes. Then the router's trace says that the client left.
const BODY: usize = 16 << 20;
/// The time in which the routers' lines reach log-cache.
const LINES: Duration = Duration::from_millis(1500);
/// The pause between two looks for the lines.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest URL.
const LONGEST: usize = 2000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    url: String,
}

/// An answer that came through one router.
#[derive(Debug, Default)]
struct Answered {
    router: String,
    status: Option<u16>,
    router_error: String,
    request_id: String,
    milliseconds: f64,
    problem: Option<String>,
    trace: Option<RequestTrace>,
}

pub(super) async fn tap(
    State(dash): State<Dash>,
    headers: HeaderMap,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Answer<Json<Value>> {
    dash.check_origin(&headers)?;
    let viewer = dash.viewer(&headers).await?;
    let Json(asked) = asked.map_err(|error| Refusal::bad_request(error.body_text()))?;
    let (host, path) = target(&asked.url).ok_or_else(|| {
        Refusal::bad_request(
            "url must name a host and may have a path, such as app.example.com/path",
        )
    })?;
    let routes = dash.live.routes();
    let route = serving(&routes, &format!("{host}{path}"));
    let route = route.filter(|route| sees_route(&viewer, route));
    let route = route
        .ok_or_else(|| Refusal::not_found(format!("no route of yours serves {host}{path}")))?;
    dash.metrics.taps.add(1);
    let routers = dash.routers.iter().take(ROUTERS);
    let sent = routers.filter_map(|pages| Some(send(&dash, pages, pages.front()?, &host, &path)));
    let mut answers = futures::future::join_all(sent).await;
    if !viewer.is_operator() {
        for answer in &mut answers {
            answer.trace = answer.trace.take().map(RequestTrace::for_the_app);
        }
    }
    let is_traced = answers.iter().all(|answer| answer.trace.is_some());
    let lines = match is_traced {
        true => Vec::new(),
        false => lines(&dash, &viewer, route, &answers).await,
    };
    let taps: Vec<Value> = answers.iter().map(|answer| shown(answer, &lines)).collect();
    Ok(Json(
        json!({ "url": format!("{host}{path}"), "route": route.uri, "taps": taps }),
    ))
}

/// Returns the host and the path of a URL; `None` if they cannot be sent.
fn target(url: &str) -> Option<(String, String)> {
    let rest = url
        .trim()
        .split_once("://")
        .map_or(url.trim(), |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let host = authority
        .split(':')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let is_host = host.contains('.')
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    let is_path = path.chars().all(|c| c.is_ascii_graphic());
    let path = match path.starts_with('?') {
        true => format!("/{path}"),
        false => path.to_owned(),
    };
    (is_host && is_path && url.len() <= LONGEST).then_some((host, path))
}

/// Returns the route that serves a URL, the most specific one.
fn serving<'a>(routes: &'a [Route], url: &str) -> Option<&'a Route> {
    let url = url.split('?').next().unwrap_or_default();
    let found = routes.iter().filter(|route| why::serves(&route.uri, url));
    found.max_by_key(|route| (!route.uri.starts_with('*'), route.uri.len()))
}

async fn send(dash: &Dash, pages: &Pages, front: &str, host: &str, path: &str) -> Answered {
    // The router answers 404 if it has no taps, and 429 if too many are open.
    let tap = pages.tap(host).await.ok();
    let began = Instant::now();
    let request = dash.http.get(format!("{front}{path}"));
    let request = request.header("host", host).timeout(LIMIT);
    let sent = request
        .header("user-agent", "cupola dashboard")
        .send()
        .await;
    let mut answered = Answered {
        router: pages.name().to_owned(),
        ..Answered::default()
    };
    match sent {
        Ok(response) => answered.read(response).await,
        Err(error) => answered.problem = Some(format!("{:#}", anyhow::Error::from(error))),
    }
    answered.milliseconds = began.elapsed().as_secs_f64() * 1000.0;
    if let Some(tap) = tap.filter(|_| !answered.request_id.is_empty()) {
        let trace = tokio::time::timeout(TRACE, traced(tap, &answered.request_id)).await;
        answered.trace = trace.unwrap_or_default();
    }
    answered
}

/// Waits for the trace of a request. Traces of other requests are skipped: nobody may see them here.
async fn traced(mut tap: Tap, request_id: &str) -> Option<RequestTrace> {
    loop {
        match tap.next().await.ok()? {
            Event::Request(trace) if trace.request_id == request_id => return Some(*trace),
            Event::Request(_) | Event::Opened(_) => {}
            Event::Ended(_) => return None,
        }
    }
}

impl Answered {
    /// Reads the answer to its end, so that the router's trace has all of it.
    async fn read(&mut self, mut response: reqwest::Response) {
        let text = |name: &str| {
            let value = response.headers().get(name);
            let text = value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            text.unwrap_or_default()
        };
        self.router_error = text("x-cf-routererror");
        self.request_id = text("x-vcap-request-id");
        self.status = Some(response.status().as_u16());
        let mut length = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            length += chunk.len();
            if length > BODY {
                return;
            }
        }
    }
}

/// Returns the lines about these requests in the logs of the route's apps.
async fn lines(dash: &Dash, viewer: &Viewer, route: &Route, answers: &[Answered]) -> Vec<Line> {
    let ids: Vec<&str> = answers.iter().map(|a| a.request_id.as_str()).collect();
    let apps = route.apps.iter().filter(|app| viewer.sees(&app.guid));
    let apps: Vec<&str> = apps.map(|app| app.guid.as_str()).collect();
    let deadline = Instant::now() + LINES;
    let mut found = Vec::new();
    while !apps.is_empty() && Instant::now() < deadline {
        found.clear();
        for app in &apps {
            let read = read(dash, viewer, app).await.unwrap_or_default();
            let lines = read.iter().filter_map(|text| Line::read(text));
            found.extend(lines.filter(|line| ids.contains(&line.request_id.as_str())));
        }
        let is_whole = |id: &&str| {
            found
                .iter()
                .any(|line: &Line| line.request_id == **id && line.finished.is_some())
        };
        if ids.iter().filter(|id| !id.is_empty()).all(is_whole) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    found
}

/// Returns the newest lines of an app's log, oldest first.
async fn read(dash: &Dash, viewer: &Viewer, app: &str) -> anyhow::Result<Vec<String>> {
    let url = format!("{}/api/v1/read/{app}", dash.log_cache_url);
    let request = dash.http.get(url).query(&[
        ("descending", "true"),
        ("limit", "100"),
        ("envelope_types", "LOG"),
    ]);
    let response = request
        .bearer_auth(&viewer.token)
        .timeout(LIMIT)
        .send()
        .await?;
    let body: Value = response.error_for_status()?.json().await?;
    let batch = body["envelopes"]["batch"].as_array().into_iter().flatten();
    let texts = batch.rev().filter_map(|envelope| {
        let payload = envelope["log"]["payload"].as_str()?;
        String::from_utf8(STANDARD.decode(payload).ok()?).ok()
    });
    Ok(texts.collect())
}

fn shown(answer: &Answered, lines: &[Line]) -> Value {
    let own = lines
        .iter()
        .filter(|line| line.request_id == answer.request_id);
    let finished = own.clone().find_map(|line| line.finished.as_ref());
    let failed: Vec<&str> = own.filter_map(|line| line.attempt.as_deref()).collect();
    let mut shown = json!({
        "router": answer.router,
        "status": answer.status,
        "router_error": answer.router_error,
        "request_id": answer.request_id,
        "total_ms": answer.milliseconds,
        "problem": answer.problem,
        "endpoint": finished.map(|line| &line.endpoint),
        "instance_guid": finished.map(|line| &line.instance),
        "instance_index": finished.map(|line| &line.index),
        "router_ms": finished.map(|line| line.router_ms),
        "backend_ms": finished.map(|line| (line.response_ms - line.router_ms).max(0.0)),
        "attempts": failed,
        "trace": answer.trace,
    });
    if let Some(trace) = &answer.trace {
        let last = trace.attempts.last();
        shown["router_ms"] = json!(trace.router_ms);
        shown["backend_ms"] = json!((trace.total_ms - trace.router_ms - trace.held_ms).max(0.0));
        shown["endpoint"] = json!(last.map(|attempt| &attempt.address));
        shown["instance_guid"] = json!(last.map(|attempt| &attempt.instance_id));
        shown["instance_index"] = json!(last.map(|attempt| &attempt.instance_index));
        let numbered = trace.attempts.iter().zip(1..);
        let failed = numbered.filter_map(|(attempt, number)| failure(attempt, number));
        shown["attempts"] = json!(failed.collect::<Vec<String>>());
    }
    shown
}

/// Returns the sentence of an attempt that failed.
fn failure(attempt: &AttemptTrace, number: u32) -> Option<String> {
    let fault = attempt.fault.as_ref()?;
    let at = match attempt.address.is_empty() {
        true => String::new(),
        false => format!(" at {}", attempt.address),
    };
    let next = match attempt.is_retried {
        true => "; another instance was tried",
        false => "",
    };
    // The owner of an app gets no details of attempts at others.
    let reason = match fault.is_empty() {
        true => String::new(),
        false => format!(": {fault}"),
    };
    Some(format!("attempt {number}{at} failed{reason}{next}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::example::{NOW, picture};
    use crate::picture::verdict;

    #[test]
    fn a_url_has_a_host_and_a_path() {
        let of = |url: &str| target(url).map(|(host, path)| format!("{host} {path}"));
        assert_eq!(
            of("https://A.test:443/x?y#z").as_deref(),
            Some("a.test /x?y")
        );
        assert_eq!(of(" a.test ").as_deref(), Some("a.test /"));
        assert_eq!(of("a.test?x=1").as_deref(), Some("a.test /?x=1"));
        for wrong in [
            "",
            "nodot",
            "a.test/\r\nx",
            "a.test/ü",
            "a b.test",
            "http://u@a.test/",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(of(&format!("a.test/{}", "x".repeat(3000))), None);
    }

    #[test]
    fn a_trace_shows_its_last_attempt_and_those_that_failed() {
        let attempt = |address: &str, fault: Option<&str>| AttemptTrace {
            address: address.to_owned(),
            instance_id: "i".to_owned(),
            fault: fault.map(str::to_owned),
            is_retried: fault.is_some(),
            ..AttemptTrace::default()
        };
        let mut answered = Answered {
            trace: Some(RequestTrace {
                total_ms: 5.0,
                router_ms: 1.0,
                held_ms: 0.5,
                attempts: vec![
                    attempt("10.0.0.1:1", Some("refused")),
                    attempt("10.0.0.1:2", None),
                ],
                ..RequestTrace::default()
            }),
            ..Answered::default()
        };
        let value = shown(&answered, &[]);
        assert_eq!(
            (&value["endpoint"], &value["backend_ms"]),
            (&json!("10.0.0.1:2"), &json!(3.5))
        );
        assert_eq!(
            value["attempts"],
            json!(["attempt 1 at 10.0.0.1:1 failed: refused; another instance was tried"])
        );
        answered.trace = answered.trace.map(RequestTrace::for_the_app);
        let value = shown(&answered, &[]);
        assert_eq!(
            value["attempts"],
            json!(["attempt 1 failed; another instance was tried"])
        );
    }

    #[test]
    fn the_most_specific_route_serves() {
        let routes = verdict::routes(&picture().model, NOW);
        assert_eq!(serving(&routes, "a.test/x?y").unwrap().uri, "a.test");
        assert!(serving(&routes, "c.test/").is_none());
    }
}
