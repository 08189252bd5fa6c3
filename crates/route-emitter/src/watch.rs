//! Keeps an event stream of the BBS open, and reports when it was opened (again): the receiver must sync then.

use crate::convert;
use clients::bbs::Client;
use kit::CancellationToken;
use kit::backoff::Backoff;
use routing::emission::Event;
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Debug)]
pub(crate) enum StreamEvent {
    /// The stream is open from now on. Events from before were not received.
    Opened,
    Event(Event),
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
        loop {
            let opened = stream(&bbs, &cell_id, &out, &mut backoff).await;
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

async fn stream(
    bbs: &Client,
    cell_id: &str,
    out: &mpsc::Sender<StreamEvent>,
    backoff: &mut Backoff,
) -> anyhow::Result<()> {
    let mut events = bbs.instance_events(cell_id).await?;
    out.send(StreamEvent::Opened).await?;
    loop {
        let event = events.next().await?;
        backoff.reset();
        for event in convert::events(event, cell_id) {
            out.send(StreamEvent::Event(event)).await?;
        }
    }
}
