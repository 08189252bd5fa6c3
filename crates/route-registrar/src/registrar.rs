//! The loop and its messages.

use crate::HealthCheck;
use anyhow::Result;
use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt as _;
use kit::CancellationToken;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wire::router::{RegistryMessage, subject};

/// One backend and the uris that lead to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    pub uris: Vec<String>,
    pub host: String,
    /// Plain HTTP; 0 if there is none.
    pub port: u16,
    /// TLS, wins over `port`; 0 if there is none.
    pub tls_port: u16,
    /// The name in the backend's certificate; needed with `tls_port`.
    pub server_cert_domain_san: String,
    pub tags: BTreeMap<String, String>,
    /// `http1` (also when empty) or `http2`.
    pub protocol: String,
    /// Empty: none.
    pub route_service_url: String,
    pub availability_zone: String,
    /// Per-route options, as routers take them.
    pub options: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A route, how often it is registered, and whom to ask before.
#[derive(Clone, Debug)]
pub struct Registration {
    /// For the log.
    pub name: String,
    pub route: Route,
    pub interval: Duration,
    pub health_check: Option<HealthCheck>,
}

impl Route {
    fn message(&self, instance_id: &str) -> RegistryMessage {
        RegistryMessage {
            host: self.host.clone(),
            port: self.port,
            tls_port: (self.tls_port != 0).then_some(self.tls_port),
            uris: self.uris.clone(),
            private_instance_id: Some(instance_id.to_owned()),
            server_cert_domain_san: given(&self.server_cert_domain_san),
            tags: (!self.tags.is_empty()).then(|| self.tags.clone()),
            protocol: given(&self.protocol),
            route_service_url: given(&self.route_service_url),
            availability_zone: given(&self.availability_zone),
            options: self.options.clone(),
            ..RegistryMessage::default()
        }
    }
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Unregistrations of a route whose health check fails, unless told otherwise.
const UNREGISTRATIONS: u32 = 5;

/// Keeps a set of routes registered.
#[derive(Debug)]
pub struct Registrar {
    nats: Client,
    keepers: Vec<Keeper>,
}

impl Registrar {
    /// `interval`: well below the routers' prune threshold (120 s); 20 s is usual.
    pub fn new(nats: Client, routes: &[Route], interval: Duration) -> Result<Self> {
        let registrations = routes.iter().map(|route| Registration {
            name: route.uris.first().cloned().unwrap_or_default(),
            route: route.clone(),
            interval,
            health_check: None,
        });
        Self::with(nats, registrations.collect(), UNREGISTRATIONS)
    }

    /// Each route with its own interval and health check. `unregistration_limit`: how often an unhealthy route is
    /// unregistered in a row.
    pub fn with(
        nats: Client,
        registrations: Vec<Registration>,
        unregistration_limit: u32,
    ) -> Result<Self> {
        let instance_id = uuid::Uuid::new_v4().to_string();
        let mut keepers = Vec::with_capacity(registrations.len());
        for registration in registrations {
            let route = &registration.route;
            anyhow::ensure!(
                !registration.interval.is_zero(),
                "registration interval of route {:?} is 0: give it at least 1 s",
                route.uris
            );
            anyhow::ensure!(
                !route.uris.is_empty(),
                "route to {}: no uri given",
                route.host
            );
            anyhow::ensure!(
                route.port != 0 || route.tls_port != 0,
                "route {:?}: neither port nor tls_port given",
                route.uris
            );
            anyhow::ensure!(
                route.tls_port == 0 || !route.server_cert_domain_san.is_empty(),
                "route {:?}: tls_port needs server_cert_domain_san",
                route.uris
            );
            keepers.push(Keeper {
                nats: nats.clone(),
                message: serde_json::to_vec(&route.message(&instance_id))?.into(),
                unregistration_limit,
                registration,
            });
        }
        Ok(Self { nats, keepers })
    }

    /// Registers until `shutdown`, then unregisters.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut starts = self.nats.subscribe(subject::START).await?;
        let (started, _) = watch::channel(());
        let mut keeping = JoinSet::new();
        for keeper in self.keepers {
            keeping.spawn(keeper.run(started.subscribe(), shutdown.clone()));
        }
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                start = starts.next() => {
                    anyhow::ensure!(start.is_some(), "the NATS subscription to router.start ended");
                    let _ = started.send(());
                }
            }
        }
        while keeping.join_next().await.is_some() {}
        // The bus may be gone for good; nobody is left to tell then.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.nats.flush()).await;
        Ok(())
    }
}

/// Keeps one route.
#[derive(Debug)]
struct Keeper {
    nats: Client,
    registration: Registration,
    message: Bytes,
    unregistration_limit: u32,
}

impl Keeper {
    async fn run(self, mut started: watch::Receiver<()>, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(self.registration.interval);
        let mut unregistered = 0;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tick.tick() => {}
                // This round counts: the next is an interval away.
                Ok(()) = started.changed() => tick.reset(),
            }
            let well = tokio::select! {
                () = shutdown.cancelled() => break,
                well = self.is_well() => well,
            };
            if well {
                unregistered = 0;
                self.publish(subject::REGISTER).await;
            } else if unregistered < self.unregistration_limit {
                unregistered += 1;
                tracing::info!(
                    route = self.registration.name,
                    "unhealthy-route-unregistered"
                );
                self.publish(subject::UNREGISTER).await;
            }
        }
        self.publish(subject::UNREGISTER).await;
    }

    async fn is_well(&self) -> bool {
        match &self.registration.health_check {
            Some(check) => check.is_well().await,
            None => true,
        }
    }

    async fn publish(&self, subject: &'static str) {
        if let Err(error) = self.nats.publish(subject, self.message.clone()).await {
            tracing::warn!(%error, subject, "publish-failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_what_a_router_needs() {
        let route = Route {
            uris: vec!["api.test".into()],
            host: "127.0.0.1".into(),
            port: 8080,
            tags: [("component".to_owned(), "api".to_owned())].into(),
            ..Route::default()
        };
        let json = serde_json::to_value(route.message("me")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"host": "127.0.0.1", "port": 8080, "uris": ["api.test"], "private_instance_id": "me", "tags": {"component": "api"}})
        );
        let tls = Route {
            tls_port: 8443,
            server_cert_domain_san: "api".into(),
            ..route
        };
        let json = serde_json::to_value(tls.message("me")).unwrap();
        assert_eq!(
            (&json["tls_port"], &json["server_cert_domain_san"]),
            (&serde_json::json!(8443), &serde_json::json!("api"))
        );
    }
}
