//! The event streams of the BBS.

pub use crate::sse::Ended as StreamEnded;

use super::Client;
use crate::sse;
use anyhow::{Context as _, Result};
use base64::Engine as _;
use prost::Message as _;
use wire::bbs::{self as m, path};

impl Client {
    /// Subscribes to the events of desired and actual LRPs. A `cell_id` that is not empty leaves out the actual LRPs of other
    /// cells. There is no replay: read the state after the stream is open, then apply events.
    pub async fn instance_events(&self, cell_id: &str) -> Result<Events> {
        self.events(path::INSTANCE_EVENTS, cell_id).await
    }
    /// Subscribes to the deprecated events of groups of actual LRPs; when `cell_id` is not empty, only to those of that cell.
    pub async fn group_events(&self, cell_id: &str) -> Result<GroupEvents> {
        Ok(GroupEvents(self.events(path::GROUP_EVENTS, cell_id).await?))
    }
    pub async fn task_events(&self) -> Result<Events> {
        self.events(path::TASK_EVENTS, "").await
    }

    async fn events(&self, path: &str, cell_id: &str) -> Result<Events> {
        let body = m::EventsByCellId {
            cell_id: cell_id.into(),
        }
        .encode_to_vec();
        let request = self
            .streams
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/x-protobuf")
            .header("accept", "text/event-stream")
            .body(body);
        let response = request.send().await.context("subscribe to BBS events")?;
        anyhow::ensure!(
            response.status().is_success(),
            "subscribe to BBS events: status {}",
            response.status()
        );
        Ok(Events(sse::Stream::new(response, "BBS event stream")))
    }
}

/// An open event stream.
#[derive(Debug)]
pub struct Events(sse::Stream);

impl Events {
    /// Returns the next event and skips unknown ones. `Err` means that the stream ended ([`StreamEnded`]) or broke: subscribe
    /// again and resync.
    pub async fn next(&mut self) -> Result<m::Event> {
        next(&mut self.0, m::Event::decode).await
    }
}

/// An open stream of the deprecated events of groups.
#[derive(Debug)]
pub struct GroupEvents(Events);

impl GroupEvents {
    /// Returns the next event of a group and skips others. It fails as [`Events::next`] does.
    pub async fn next(&mut self) -> Result<m::GroupEvent> {
        next(&mut self.0.0, m::GroupEvent::decode).await
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
