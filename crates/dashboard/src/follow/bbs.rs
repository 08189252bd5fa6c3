//! Follows the BBS: its state once, and then its events.

use super::wait_after;
use crate::live::{Live, now};
use anyhow::Result;
use clients::bbs::Client;
use kit::CancellationToken;
use kit::readiness::Need;
use std::convert::Infallible;
use std::time::Duration;
use wire::bbs::{ActualLrpsRequest, DesiredLrpsRequest};

/// The name of the source on the page.
const NAME: &str = "BBS";
/// The period in which the presences of cells are read, for which there is no event.
const CELLS: Duration = Duration::from_secs(2);

pub(crate) async fn bbs(client: Client, live: Live, need: Need, shutdown: CancellationToken) {
    let mut last = String::new();
    loop {
        let error = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = follow(&client, &live, &need, &mut last) => match ended {
                Ok(never) => match never {},
                Err(error) => error,
            },
        };
        if !wait_after(NAME, &error, &live, Some(&need), &shutdown).await {
            return;
        }
    }
}

/// Follows until the stream breaks. `last` is the id of the last event that was seen.
async fn follow(
    client: &Client,
    live: &Live,
    need: &Need,
    last: &mut String,
) -> Result<Infallible> {
    let mut events = client.instance_events_after("", last).await?;
    if !events.is_continued() {
        // The stream is open already, so a change that these lists miss arrives as an event.
        let desired = client.routing_infos(&DesiredLrpsRequest::default()).await?;
        let actual = client.actual_lrps(&ActualLrpsRequest::default()).await?;
        live.change(|picture| picture.model.replace(&desired, &actual));
        events.last_id().clone_into(last);
    }
    need.met();
    live.source(NAME, None);
    let mut cells = tokio::time::interval(CELLS);
    loop {
        tokio::select! {
            event = events.next() => {
                let event = event?;
                events.last_id().clone_into(last);
                live.change(|picture| picture.event(&event, now()));
            }
            _ = cells.tick() => {
                let cells = client.cells().await?;
                live.change(|picture| picture.model.replace_cells(&cells));
            }
        }
    }
}
