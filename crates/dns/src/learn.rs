//! Learns the routed hosts from the message bus, as a router does, and the names of containers as well.

use crate::internal::Internal;
use crate::names::Names;
use anyhow::Result;
use clients::nats::{Delivery, PENDING_LIMIT, Subscription};
use kit::CancellationToken;
use kit::readiness::Need;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use wire::router::{RegistryMessage, subject};

const EXPIRE_EVERY: Duration = Duration::from_secs(10);

/// Learns until shutdown. `changed` is notified when a host appeared or disappeared; `bus` is met while a server is connected.
pub(crate) async fn learn(
    nats: &clients::nats::Config,
    names: Arc<Mutex<Names>>,
    changed: Arc<Notify>,
    bus: Need,
    shutdown: CancellationToken,
) -> Result<()> {
    if nats.servers.is_empty() {
        shutdown.cancelled().await;
        return Ok(());
    }
    const SUBJECTS: &[&str] = &[
        subject::REGISTER,
        subject::UNREGISTER,
        subject::CONTAINER_REGISTER,
        subject::CONTAINER_UNREGISTER,
    ];
    let mut routes = Subscription::new(nats, "dns", SUBJECTS, PENDING_LIMIT)?;
    let mut connected = false;
    let mut expire = tokio::time::interval(EXPIRE_EVERY);
    loop {
        let news = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            delivery = routes.next() => match delivery {
                Delivery::Message(message) => match message.subject() {
                    subject::REGISTER => register(&names, message.payload()),
                    subject::UNREGISTER => unregister(&names, message.payload()),
                    subject::CONTAINER_REGISTER => {
                        container(&names, message.payload(), |internal, name, address| {
                            internal.register(name, address, Instant::now());
                        })
                    }
                    _ => container(&names, message.payload(), Internal::unregister),
                },
                // Registrations that were lost are repeated, and lost unregistrations are compensated by the expiry.
                Delivery::Lost(_) => false,
                Delivery::Connected => {
                    connected = true;
                    bus.met();
                    // Without this request emitters would publish the present names only in their next round.
                    routes.publish(subject::CONTAINER_START, b"{}");
                    false
                }
                Delivery::Disconnected(error) => {
                    tracing::warn!(error, "nats-connection-disconnected");
                    bus.unmet(error);
                    connected = false;
                    false
                }
            },
            _ = expire.tick() => tick(&names, connected),
        };
        if news {
            changed.notify_one();
        }
    }
}

fn tick(names: &Mutex<Names>, connected: bool) -> bool {
    let (mut names, now) = (lock(names), Instant::now());
    if !connected {
        names.refresh_all(now);
    }
    names.expire(now)
}

fn register(names: &Mutex<Names>, payload: &[u8]) -> bool {
    let Ok(message) = serde_json::from_slice::<RegistryMessage>(payload) else {
        return false;
    };
    let (mut names, endpoint, now) = (lock(names), endpoint(&message), Instant::now());
    message
        .uris
        .iter()
        .filter(|uri| names.register(uri, &endpoint, now))
        .count()
        > 0
}

fn unregister(names: &Mutex<Names>, payload: &[u8]) -> bool {
    let Ok(message) = serde_json::from_slice::<RegistryMessage>(payload) else {
        return false;
    };
    let (mut names, endpoint) = (lock(names), endpoint(&message));
    message
        .uris
        .iter()
        .filter(|uri| names.unregister(uri, &endpoint))
        .count()
        > 0
}

/// Applies a message about names of containers. The names are not in the hosts file, so no notification is needed.
fn container(
    names: &Mutex<Names>,
    payload: &[u8],
    change: impl Fn(&mut Internal, &str, Ipv4Addr),
) -> bool {
    let Ok(message) = serde_json::from_slice::<RegistryMessage>(payload) else {
        return false;
    };
    if let Ok(address) = message.host.parse() {
        let mut names = lock(names);
        for uri in &message.uris {
            change(&mut names.internal, uri, address);
        }
    }
    false
}

/// Returns the identity of an endpoint of a URI, as in the router. Here it includes the path, because a host may have several.
fn endpoint(message: &RegistryMessage) -> String {
    format!(
        "{}:{} {}",
        message.host,
        message.tls_port.unwrap_or(message.port),
        message
            .uris
            .first()
            .map_or("", |uri| uri.split_once('/').map_or("", |(_, path)| path))
    )
}

fn lock(names: &Mutex<Names>) -> std::sync::MutexGuard<'_, Names> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}
