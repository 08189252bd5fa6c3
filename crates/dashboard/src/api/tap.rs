//! Follows one request: sends it through each router, and reads the lines that the routers logged about it in the app's own log, with the
//! user's token. A line has the endpoint, the times and the failed attempts.

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
use line::Line;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The highest number of routers through which a request is sent.
const ROUTERS: usize = 8;
/// The time limit of a request. An app may think for long.
const LIMIT: Duration = Duration::from_secs(15);
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
    let answers = futures::future::join_all(sent).await;
    let lines = lines(&dash, &viewer, route, &answers).await;
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
    let began = Instant::now();
    let request = dash.http.get(format!("{front}{path}"));
    let request = request.header("host", host).timeout(LIMIT);
    let sent = request
        .header("user-agent", "cupola dashboard")
        .send()
        .await;
    let milliseconds = began.elapsed().as_secs_f64() * 1000.0;
    let mut answered = Answered {
        router: pages.name().to_owned(),
        milliseconds,
        ..Answered::default()
    };
    match sent {
        Ok(response) => {
            let text = |name: &str| {
                let value = response.headers().get(name);
                let text =
                    value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
                text.unwrap_or_default()
            };
            answered.router_error = text("x-cf-routererror");
            answered.request_id = text("x-vcap-request-id");
            answered.status = Some(response.status().as_u16());
        }
        Err(error) => answered.problem = Some(format!("{:#}", anyhow::Error::from(error))),
    }
    answered
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
    let attempts: Vec<&str> = own.filter_map(|line| line.attempt.as_deref()).collect();
    json!({
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
        "attempts": attempts,
    })
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
    fn the_most_specific_route_serves() {
        let routes = verdict::routes(&picture().model, NOW);
        assert_eq!(serving(&routes, "a.test/x?y").unwrap().uri, "a.test");
        assert!(serving(&routes, "c.test/").is_none());
    }
}
