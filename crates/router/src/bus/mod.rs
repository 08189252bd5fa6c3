//! The router's side of the message bus: everything it knows of routes comes from here.
//!
//! Three parts, so that a burst is never lost for slow parsing: one task does nothing but take messages off the
//! subscription, another parses and applies them, and connection events set the rest in motion: the bus gone suspends
//! pruning, the bus back publishes `router.start`, to which every emitter answers with all of its routes.

mod message;

use crate::router::Shared;
use anyhow::{Context as _, Result};
use async_nats::{Client, Event, Message};
use bytes::Bytes;
use futures::StreamExt as _;
use kit::CancellationToken;
use message::Rejected;
use routing::registry::{Registered, Unregistered};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use wire::router::{StartMessage, subject};

/// Most messages taken off the bus and not yet applied (as gorouter's pending limit).
const BACKLOG: usize = 131_072;

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
    let mut subscription = client
        .subscribe("router.*")
        .await
        .context("subscribe to router.*")?;
    let (backlog, parse) = mpsc::channel(BACKLOG);
    let applied = tokio::spawn(apply_all(shared.clone(), client.clone(), parse));
    loop {
        tokio::select! {
            () = end.cancelled() => break,
            message = subscription.next() => match message {
                Some(message) => {
                    if backlog.try_send(message).is_err() {
                        shared.metrics.total_dropped_messages.add(1);
                    }
                    shared.metrics.buffered_messages.store((BACKLOG - backlog.capacity()) as u64, Ordering::Relaxed);
                }
                None => anyhow::bail!("the NATS subscription to router.* ended"),
            },
            Some(event) = heard.recv() => connection(&shared, &client, event).await,
        }
    }
    drop(backlog);
    let _ = applied.await;
    Ok(())
}

async fn connection(shared: &Shared, client: &Client, event: Event) {
    match event {
        Event::Connected => {
            tracing::info!("nats-connection-reconnected");
            shared.registry.resume_pruning(Instant::now());
            // No flush: it could wait for a connection that is lost again, and nobody would drain the subscription.
            let _ = client.publish(subject::START, start_payload(shared)).await;
        }
        Event::Disconnected => {
            tracing::warn!("nats-connection-disconnected");
            if shared.settings.suspend_pruning_if_nats_unavailable {
                shared.registry.suspend_pruning();
            }
        }
        Event::SlowConsumer(_) => {
            shared.metrics.total_dropped_messages.add(1);
            tracing::error!("nats-slow-consumer");
        }
        other => tracing::warn!(event = %other, "nats-event"),
    }
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

async fn apply_all(shared: Arc<Shared>, client: Client, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        match message.subject.as_str() {
            subject::REGISTER => apply(&shared, &message, register),
            subject::UNREGISTER => apply(&shared, &message, unregister),
            subject::GREET => {
                if let Some(reply) = message.reply {
                    let _ = client.publish(reply, start_payload(&shared)).await;
                }
            }
            _ => {}
        }
    }
}

fn apply(shared: &Shared, message: &Message, then: impl Fn(&Shared, message::Registration)) {
    match message::parse(&message.payload, &shared.settings) {
        Ok(registration) => then(shared, registration),
        Err(Rejected::OtherSegment) => {}
        Err(Rejected::Invalid(error)) => {
            let payload =
                String::from_utf8_lossy(&message.payload[..message.payload.len().min(1024)])
                    .into_owned();
            tracing::error!(
                subject = message.subject.as_str(),
                payload,
                error,
                "validation-error"
            );
        }
    }
}

fn register(shared: &Shared, registration: message::Registration) {
    let now = Instant::now();
    let component = registration.component().to_owned();
    let updated_at_ns = registration.updated_at_ns;
    let endpoint = shared.registry.endpoint(registration.spec, now);
    let spec = endpoint.spec();
    for uri in &registration.uris {
        let outcome =
            shared
                .registry
                .register(uri, &endpoint, registration.balancing.as_ref(), now);
        let action = match outcome {
            Registered::Added { .. } => "endpoint-added",
            Registered::Updated => "endpoint-updated",
            Registered::Refreshed => "endpoint-refreshed",
        };
        shared
            .metrics
            .registry_message
            .add(&format!("component={component:?},action={action:?}"));
        if let Registered::Added { new_route } = outcome {
            if new_route {
                tracing::info!(uri, "route-registered");
            }
            tracing::info!(
                uri,
                route_service_url = dash(&spec.route_service_url),
                backend = endpoint.address(),
                application_id = spec.app_id,
                instance_id = spec.instance_id,
                server_cert_domain_san = spec.server_cert_domain_san,
                protocol = spec.protocol.as_str(),
                isolation_segment = dash(&spec.isolation_segment),
                is_tls = spec.tls,
                "endpoint-registered"
            );
            if let Some(latency) = updated_at_ns.and_then(since) {
                shared
                    .metrics
                    .route_registration_latency
                    .observe(latency.as_secs_f64());
            }
        }
    }
}

fn unregister(shared: &Shared, registration: message::Registration) {
    let now = Instant::now();
    let address = registration.address();
    for uri in &registration.uris {
        let outcome = shared.registry.unregister(uri, &address, now);
        let action = if outcome == Unregistered::NotFound {
            "endpoint-not-unregistered"
        } else {
            "endpoint-unregistered"
        };
        shared.metrics.unregistry_message.add(&format!(
            "component={:?},action={action:?}",
            registration.component()
        ));
        match outcome {
            Unregistered::Removed { route_gone } => {
                tracing::info!(
                    uri,
                    backend = address,
                    application_id = registration.spec.app_id,
                    instance_id = registration.spec.instance_id,
                    "endpoint-unregistered"
                );
                if route_gone {
                    tracing::info!(uri, "route-unregistered");
                }
            }
            Unregistered::NotFound => {
                tracing::debug!(uri, backend = address, "endpoint-not-unregistered")
            }
        }
    }
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn since(ns: i64) -> Option<Duration> {
    let at = UNIX_EPOCH + Duration::from_nanos(u64::try_from(ns).ok()?);
    SystemTime::now().duration_since(at).ok()
}
