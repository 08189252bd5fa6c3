//! The router's side of the message bus: everything it knows of routes comes from here.
//!
//! The socket is drained between any two portions of messages, so that a burst is not lost for slow parsing
//! ([`Subscription`]); here messages are parsed and applied, or, when they only repeat what was said before, recognised
//! ([`apply`]). All of it lives in one thread of its own: nothing else waits for it, and no message costs a wake-up of
//! another thread. The bus gone suspends pruning; the bus back, or messages lost because we were too slow, publishes
//! `router.start`, to which every emitter answers with all of its routes.

mod apply;
pub(crate) mod message;

use crate::router::Shared;
use anyhow::Result;
use apply::Applier;
use async_nats::{Client, Event};
use bytes::Bytes;
use clients::nats::{Delivery, Subscription};
use kit::CancellationToken;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use wire::router::{StartMessage, subject};

/// After the last loss: the answers to a `router.start` that comes too early would be lost as well.
const HEAL_AFTER: Duration = Duration::from_secs(1);
const GAUGE_INTERVAL: Duration = Duration::from_secs(1);

/// So many messages are applied before the socket is looked at again.
const PORTION: usize = 64;

/// Keeps the table until `end`.
pub(crate) async fn subscribe(
    shared: Arc<Shared>,
    nats: clients::nats::Config,
    end: CancellationToken,
) -> Result<()> {
    let (events, mut heard) = mpsc::unbounded_channel();
    let client = clients::nats::connect(
        &nats,
        &format!("router-{}", shared.settings.index),
        move |event| {
            let _ = events.send(event);
            std::future::ready(())
        },
    )
    .await?;
    let pending_limit = shared.settings.bus_pending_limit;
    let mut subscription = Subscription::new(&client, "router.*", pending_limit).await?;
    let mut applier = Applier::new(shared.clone());
    let mut heal_at: Option<Instant> = None;
    let mut gauge = tokio::time::interval(GAUGE_INTERVAL);
    loop {
        tokio::select! {
            () = end.cancelled() => break,
            open = subscription.wait() => {
                anyhow::ensure!(open, "the NATS subscription to router.* ended");
                let portion = subscription.front(PORTION);
                applier.apply(portion.iter().filter_map(message), Instant::now());
                let mut asked = Vec::new();
                for delivery in portion {
                    match delivery {
                        Delivery::Message(message) if message.subject.as_str() == subject::GREET => {
                            asked.extend(message.reply.clone());
                        }
                        Delivery::Message(_) => {}
                        Delivery::Lost(count) => lost(&shared, *count, &mut heal_at),
                    }
                }
                let count = portion.len();
                subscription.forget(count);
                for reply in asked {
                    let _ = client.publish(reply, start_payload(&shared)).await;
                }
                if subscription.pending() > 0 {
                    // The client's task reads the socket.
                    tokio::task::yield_now().await;
                }
            },
            Some(event) = heard.recv() => {
                connection(&shared, &client, event, &mut heal_at).await;
            }
            () = until(heal_at) => {
                heal_at = None;
                start(&shared, &client).await;
            }
            _ = gauge.tick() => {
                let pending = subscription.pending() as u64;
                shared.metrics.buffered_messages.store(pending, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

fn message(delivery: &Delivery) -> Option<(&str, &[u8])> {
    match delivery {
        Delivery::Message(message) => Some((message.subject.as_str(), &message.payload)),
        Delivery::Lost(_) => None,
    }
}

async fn connection(shared: &Shared, client: &Client, event: Event, heal_at: &mut Option<Instant>) {
    match event {
        Event::Connected => {
            tracing::info!("nats-connection-reconnected");
            shared.registry.resume_pruning(Instant::now());
            start(shared, client).await;
        }
        Event::Disconnected => {
            tracing::warn!("nats-connection-disconnected");
            if shared.settings.suspend_pruning_if_nats_unavailable {
                shared.registry.suspend_pruning();
            }
        }
        Event::SlowConsumer(_) => lost(shared, 1, heal_at),
        other => tracing::warn!(event = %other, "nats-event"),
    }
}

/// Messages were dropped; which, nobody knows.
fn lost(shared: &Shared, count: u64, heal_at: &mut Option<Instant>) {
    shared.metrics.total_dropped_messages.add(count);
    if heal_at.replace(Instant::now() + HEAL_AFTER).is_none() {
        tracing::error!("nats-slow-consumer");
    }
}

/// `None`: never.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Everybody says everything again. No flush: it could wait for a connection that is lost again, and nobody would read
/// the subscription.
async fn start(shared: &Shared, client: &Client) {
    let _ = client.publish(subject::START, start_payload(shared)).await;
}

fn start_payload(shared: &Shared) -> Bytes {
    let start = StartMessage {
        id: shared.id.clone(),
        hosts: vec![shared.settings.ip.to_string()],
        minimum_register_interval_in_seconds: shared.settings.register_interval.as_secs(),
        prune_threshold_in_seconds: shared.settings.stale_threshold.as_secs(),
    };
    serde_json::to_vec(&start)
        .map(Bytes::from)
        .unwrap_or_default()
}
