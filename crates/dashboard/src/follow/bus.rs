//! Follows the message bus: registrations, receipts, digests, and the routers that announce themselves.

use crate::live::{Live, now};
use anyhow::{Context as _, Result};
use clients::nats::Config;
use futures::StreamExt as _;
use kit::CancellationToken;
use kit::readiness::Need;
use wire::router::subject;

/// The name of the source on the page.
const NAME: &str = "NATS";
const SUBJECTS: &[&str] = &[
    "router.*",
    subject::RECEIPTS,
    subject::ROUTERS,
    subject::DIGEST,
];

pub(crate) async fn bus(
    config: Config,
    live: Live,
    need: Need,
    shutdown: CancellationToken,
) -> Result<()> {
    let on_event = {
        let (live, need) = (live.clone(), need.clone());
        move |event: async_nats::Event| {
            clients::nats::report(&event, &need);
            match event {
                async_nats::Event::Connected => live.source(NAME, None),
                async_nats::Event::Disconnected | async_nats::Event::Closed => {
                    live.source(NAME, Some("no server is connected".to_owned()));
                }
                _ => {}
            }
            std::future::ready(())
        }
    };
    let client = clients::nats::connect(&config, "dashboard", on_event).await?;
    let mut subscriptions = Vec::new();
    for subject in SUBJECTS {
        let subscription = client.subscribe((*subject).to_owned()).await;
        subscriptions.push(subscription.with_context(|| format!("subscribe to {subject}"))?);
    }
    let mut messages = futures::stream::select_all(subscriptions);
    loop {
        let message = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            message = messages.next() => message.context("the subscriptions have ended")?,
        };
        live.change(|picture| picture.message(&message.subject, &message.payload, now()));
    }
}
