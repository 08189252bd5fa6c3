//! Keeps an event stream of the BBS open. A stream that was opened again continues the one before; if the BBS cannot do that, the
//! receiver must sync.

use crate::convert;
use clients::bbs::Client;
use kit::CancellationToken;
use kit::backoff::Backoff;
use route_table::emission::Event;
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Debug)]
pub(crate) enum StreamEvent {
    /// The stream is open from now on. Events from before were not received. A stream that continues the one before is not
    /// reported.
    Opened,
    /// An event, and the id of the request that caused it; the id is empty if it is not known.
    Event(Box<Event>, String),
}

/// Runs until shutdown, or until the receiver is dropped.
pub(crate) async fn watch(
    bbs: Client,
    cell_id: String,
    out: mpsc::Sender<StreamEvent>,
    shutdown: CancellationToken,
) {
    let listen = async {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut last = String::new();
        loop {
            let opened = stream(&bbs, &cell_id, &out, &mut backoff, &mut last).await;
            if out.is_closed() {
                return;
            }
            if let Err(error) = opened {
                tracing::info!(error = format!("{error:#}"), "bbs-events-lost");
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = listen => {}
    }
}

/// Reads one stream to its end. `last` is the id of the last event that was passed on.
async fn stream(
    bbs: &Client,
    cell_id: &str,
    out: &mpsc::Sender<StreamEvent>,
    backoff: &mut Backoff,
    last: &mut String,
) -> anyhow::Result<()> {
    let mut events = bbs.instance_events_after(cell_id, last).await?;
    if events.is_continued() {
        tracing::info!(after = last.as_str(), "bbs-events-continued");
    } else {
        out.send(StreamEvent::Opened).await?;
    }
    events.last_id().clone_into(last);
    loop {
        let event = events.next().await?;
        backoff.reset();
        let request_id = convert::request_id(&event).to_owned();
        for event in convert::events(event, cell_id) {
            let event = StreamEvent::Event(Box::new(event), request_id.clone());
            out.send(event).await?;
        }
        events.last_id().clone_into(last);
    }
}
