//! The event streams of the BBS.

pub use crate::sse::Ended as StreamEnded;

use super::Client;
use crate::sse;
use anyhow::{Context as _, Result};
use base64::Engine as _;
use prost::Message as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::bbs::{self as m, LAST_EVENT_ID, path};

impl Client {
    /// Subscribes to the events of desired and actual LRPs. A `cell_id` that is not empty leaves out the actual LRPs of other
    /// cells. The stream begins now: read the state after it is open, then apply events.
    pub async fn instance_events(&self, cell_id: &str) -> Result<Events> {
        self.events(path::INSTANCE_EVENTS, cell_id, "").await
    }
    /// Subscribes as [`instance_events`](Self::instance_events), and continues an earlier stream after the event `last`
    /// ([`Events::last_id`]). If [`Events::is_continued`] is false, events are missing: read the state. An empty `last` continues
    /// nothing.
    pub async fn instance_events_after(&self, cell_id: &str, last: &str) -> Result<Events> {
        self.events(path::INSTANCE_EVENTS, cell_id, last).await
    }
    /// Subscribes to the deprecated events of groups of actual LRPs; when `cell_id` is not empty, only to those of that cell.
    pub async fn group_events(&self, cell_id: &str) -> Result<GroupEvents> {
        let events = self.events(path::GROUP_EVENTS, cell_id, "").await?;
        Ok(GroupEvents(events))
    }
    pub async fn task_events(&self) -> Result<Events> {
        self.events(path::TASK_EVENTS, "", "").await
    }

    async fn events(&self, path: &str, cell_id: &str, last: &str) -> Result<Events> {
        let body = m::EventsByCellId {
            cell_id: cell_id.into(),
        }
        .encode_to_vec();
        let mut request = self
            .streams
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/x-protobuf")
            .header("accept", "text/event-stream")
            .body(body);
        if !last.is_empty() {
            request = request.header(LAST_EVENT_ID, last);
        }
        let response = request.send().await.context("subscribe to BBS events")?;
        anyhow::ensure!(
            response.status().is_success(),
            "subscribe to BBS events: status {}",
            response.status()
        );
        let begins_after = response.headers().get(LAST_EVENT_ID);
        let begins_after = begins_after.and_then(|id| id.to_str().ok());
        let begins_after = begins_after.unwrap_or_default().to_owned();
        let mut stream = sse::Stream::new(response, "BBS event stream");
        stream.begin_after(&begins_after);
        Ok(Events {
            stream,
            is_continued: !last.is_empty() && begins_after == last,
        })
    }
}

/// An open event stream.
#[derive(Debug)]
pub struct Events {
    stream: sse::Stream,
    is_continued: bool,
}

impl Events {
    /// Returns whether the stream continues the one that the caller named, so that no event is missing between both.
    pub fn is_continued(&self) -> bool {
        self.is_continued
    }

    /// Returns the id of the last event that [`next`](Self::next) returned or skipped, or that of the event before the stream's
    /// first; empty if the BBS has no ids.
    pub fn last_id(&self) -> &str {
        self.stream.last_id()
    }

    /// Returns the time of the event that [`next`](Self::next) returned last. An original BBS gives its events no time.
    pub fn last_time(&self) -> Option<SystemTime> {
        let nanoseconds = self.stream.last_time().parse().ok()?;
        UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds))
    }

    /// Returns the next event and skips unknown ones. `Err` means that the stream ended ([`StreamEnded`]) or broke: subscribe
    /// again after [`last_id`](Self::last_id), and resync unless that stream is continued.
    pub async fn next(&mut self) -> Result<m::Event> {
        next(&mut self.stream, m::Event::decode).await
    }
}

/// An open stream of the deprecated events of groups.
#[derive(Debug)]
pub struct GroupEvents(Events);

impl GroupEvents {
    /// Returns the next event of a group and skips others. It fails as [`Events::next`] does.
    pub async fn next(&mut self) -> Result<m::GroupEvent> {
        next(&mut self.0.stream, m::GroupEvent::decode).await
    }
}

type Decode<E> = fn(&str, &[u8]) -> Result<Option<E>, prost::DecodeError>;

async fn next<E>(stream: &mut sse::Stream, decode: Decode<E>) -> Result<E> {
    loop {
        let event = stream.next().await?;
        let name = event.name.trim();
        if name.is_empty() {
            continue;
        }
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(event.data.trim())
            .context("event data is not base64")?;
        let decoded = decode(name, &bytes).with_context(|| format!("decode event {name}"))?;
        if let Some(decoded) = decoded {
            return Ok(decoded);
        }
    }
}
