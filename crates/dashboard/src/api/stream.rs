//! The stream of changes as server-sent events: `change` has a change with all its steps, `picture` the sentence and the values of the
//! stations, `skipped` the number of changes that were left out because too many came at once.

use super::lists::{Parameters, parameters, picture_of, sees_train};
use crate::access::Viewer;
use crate::live::Watcher;
use crate::picture::train::Train;
use crate::refusal::{Answer, Refusal};
use crate::shared::Dash;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::Value;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, watch};

/// The shortest pause between two batches, so that a burst of steps is one event.
const PACE: Duration = Duration::from_millis(40);
/// The period in which the sentence and the values are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The period in which the user's right is checked again.
const CHECK: Duration = Duration::from_secs(5);
/// The highest number of changes of a batch; the newest ones are sent.
const BATCH: usize = 40;
/// The pause after which a comment shows that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The parameters of the stream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    /// The revision of the changes that the page has already. The header `Last-Event-ID` goes first.
    after: Option<u64>,
}

struct Stream {
    dash: Dash,
    headers: HeaderMap,
    viewer: Viewer,
    news: watch::Receiver<u64>,
    revision: u64,
    checked: Instant,
    last_picture: Value,
    looked: Option<Instant>,
    _watcher: Watcher,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn stream(
    State(dash): State<Dash>,
    headers: HeaderMap,
    asked: Parameters<After>,
) -> Answer {
    let viewer = dash.viewer(&headers).await?;
    let asked = parameters(asked)?;
    let permit = dash.streams.clone().try_acquire_owned().map_err(|_| {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many pages follow the picture: close one and try again",
        )
    })?;
    // A page that comes back gets what changed since its last event.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let last = last.and_then(|id| id.parse().ok()).or(asked.after);
    let revision = last.unwrap_or_else(|| dash.live.read(|picture| picture.trains.revision()));
    let stream = Stream {
        news: dash.live.news(),
        revision,
        checked: Instant::now(),
        last_picture: Value::Null,
        looked: None,
        _watcher: dash.live.watch(),
        _permit: permit,
        headers: without_last(headers),
        viewer,
        dash,
    };
    let events = futures::stream::unfold(stream, |mut stream| async move {
        let batch = stream.next().await?;
        Some((futures::stream::iter(batch), stream))
    });
    let events = events.flatten().map(Ok::<Event, Infallible>);
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let headers = [("x-accel-buffering", "no"), ("cache-control", "no-store")];
    Ok::<Response, _>((headers, sse).into_response())
}

fn without_last(mut headers: HeaderMap) -> HeaderMap {
    headers.remove("last-event-id");
    headers
}

impl Stream {
    /// Returns the next events; `None` ends the stream.
    async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            if self.checked.elapsed() > CHECK {
                self.viewer = self.dash.viewer(&self.headers).await.ok()?;
                self.checked = Instant::now();
            }
            let mut events = self.changes();
            events.extend(self.picture());
            if !events.is_empty() {
                tokio::time::sleep(PACE).await;
                return Some(events);
            }
            let shutdown = self.dash.shutdown.clone();
            tokio::select! {
                () = shutdown.cancelled() => return None,
                changed = self.news.changed() => changed.ok()?,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn changes(&mut self) -> Vec<Event> {
        let (viewer, after) = (&self.viewer, self.revision);
        let (revision, found) = self.dash.live.read(|picture| {
            // A number that is still to come is from an earlier process.
            let after = if after > picture.trains.revision() {
                0
            } else {
                after
            };
            let trains = picture.trains.after(after);
            let seen = trains.filter(|train| sees_train(viewer, train));
            let found: Vec<Value> = seen.map(Train::json).collect();
            (picture.trains.revision(), found)
        });
        self.revision = revision;
        let skipped = found.len().saturating_sub(BATCH);
        let mut events = Vec::new();
        for change in found.into_iter().take(BATCH).rev() {
            events.extend(event("change", &change));
        }
        if skipped > 0 {
            self.dash.metrics.skipped.add(skipped as u64);
            events.extend(event("skipped", &serde_json::json!({ "count": skipped })));
        }
        if let Some(last) = events.pop() {
            events.push(last.id(revision.to_string()));
        }
        events
    }

    /// Returns the event of the sentence and the values if they changed since they were sent.
    fn picture(&mut self) -> Option<Event> {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return None;
        }
        self.looked = Some(Instant::now());
        let picture = picture_of(&self.dash, &self.viewer);
        if picture["health"] == self.last_picture["health"]
            && picture["stations"] == self.last_picture["stations"]
        {
            return None;
        }
        let shown = event("picture", &picture);
        self.last_picture = picture;
        shown
    }
}

fn event(name: &str, data: &Value) -> Option<Event> {
    Event::default().event(name).json_data(data).ok()
}
