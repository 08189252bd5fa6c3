//! The loop and its messages.

use crate::HealthCheck;
use anyhow::Result;
use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt as _;
use kit::CancellationToken;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The routes that are to be kept from now on.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub registrations: Vec<Registration>,
    /// How often an unhealthy route is unregistered in a row.
    pub unregistration_limit: u32,
}

/// Keeps a set of routes registered.
#[derive(Debug)]
pub struct Registrar {
    nats: Client,
    wanted: Wanted,
    /// This process's, in every message.
    instance_id: String,
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
        registrations.iter().try_for_each(check)?;
        Ok(Self {
            nats,
            wanted: Wanted {
                registrations,
                unregistration_limit,
            },
            instance_id: uuid::Uuid::new_v4().to_string(),
        })
    }

    /// Registers until `shutdown`, then unregisters.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        // Nothing else will ever be wanted.
        let (_keep, changes) = mpsc::channel(1);
        self.run_changing(changes, shutdown).await
    }

    /// The same, and what is wanted may change meanwhile: routes that stay are not touched, those that go are
    /// unregistered.
    pub async fn run_changing(
        self,
        mut changes: mpsc::Receiver<Wanted>,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let mut starts = self.nats.subscribe(subject::START).await?;
        let (started, _) = watch::channel(());
        let mut keepers: Vec<Running> = Vec::new();
        self.change(&mut keepers, &self.wanted, &started).await;
        let outcome = loop {
            tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                start = starts.next() => match start {
                    Some(_) => {
                        let _ = started.send(());
                    }
                    None => break Err(anyhow::anyhow!("the NATS subscription to router.start ended")),
                },
                Some(wanted) = changes.recv() => {
                    match wanted.registrations.iter().try_for_each(check) {
                        Ok(()) => self.change(&mut keepers, &wanted, &started).await,
                        Err(error) => tracing::error!(%error, "change-refused"),
                    }
                }
            }
        };
        let none = Wanted {
            registrations: Vec::new(),
            unregistration_limit: 0,
        };
        self.change(&mut keepers, &none, &started).await;
        // The bus may be gone for good; nobody is left to tell then.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.nats.flush()).await;
        outcome
    }

    async fn change(
        &self,
        keepers: &mut Vec<Running>,
        wanted: &Wanted,
        started: &watch::Sender<()>,
    ) {
        let mut new = wanted.registrations.clone();
        let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(keepers).into_iter().partition(|old| {
            let at = new.iter().position(|new| *new == old.registration);
            at.map(|at| new.swap_remove(at)).is_some()
        });
        *keepers = stay;
        for old in go {
            // It may be about to register.
            old.task.abort();
            let _ = old.task.await;
            let gone = gone(&old.registration.route, &wanted.registrations);
            if !gone.uris.is_empty() {
                self.publish(subject::UNREGISTER, &gone).await;
            }
        }
        for registration in new {
            let keeper = Keeper {
                nats: self.nats.clone(),
                message: self.message(&registration.route),
                unregistration_limit: wanted.unregistration_limit,
                registration: registration.clone(),
            };
            keepers.push(Running {
                registration,
                task: tokio::spawn(keeper.run(started.subscribe())),
            });
        }
    }

    fn message(&self, route: &Route) -> Bytes {
        serde_json::to_vec(&route.message(&self.instance_id))
            .map(Bytes::from)
            .unwrap_or_default()
    }

    async fn publish(&self, subject: &'static str, route: &Route) {
        if let Err(error) = self.nats.publish(subject, self.message(route)).await {
            tracing::warn!(%error, subject, "publish-failed");
        }
    }
}

/// What of a route is no longer wanted: a changed route keeps its uris, and must not lose them for a moment.
fn gone(route: &Route, wanted: &[Registration]) -> Route {
    let address = |route: &Route| match route.tls_port {
        0 => (route.host.clone(), route.port),
        port => (route.host.clone(), port),
    };
    let here = |other: &&Registration| address(&other.route) == address(route);
    let kept: Vec<&String> = wanted
        .iter()
        .filter(here)
        .flat_map(|other| &other.route.uris)
        .collect();
    let uris = route.uris.iter().filter(|uri| !kept.contains(uri));
    Route {
        uris: uris.cloned().collect(),
        ..route.clone()
    }
}

fn check(registration: &Registration) -> Result<()> {
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
    Ok(())
}

/// A route that is being kept.
#[derive(Debug)]
struct Running {
    registration: Registration,
    task: JoinHandle<()>,
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
    /// Until it is aborted; whoever does that unregisters.
    async fn run(self, mut started: watch::Receiver<()>) {
        let mut tick = tokio::time::interval(self.registration.interval);
        let mut unregistered = 0;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // This round counts: the next is an interval away.
                Ok(()) = started.changed() => tick.reset(),
            }
            if self.is_well().await {
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
    fn a_changed_route_keeps_its_uris() {
        let route = |uris: &[&str], port| Route {
            uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            host: "h".into(),
            port,
            ..Route::default()
        };
        let wanted = |route| Registration {
            name: String::new(),
            route,
            interval: Duration::from_secs(1),
            health_check: None,
        };
        let old = route(&["a", "b"], 1);
        assert_eq!(gone(&old, &[wanted(route(&["b", "c"], 1))]).uris, ["a"]);
        assert_eq!(
            gone(&old, &[wanted(route(&["a", "b"], 2))]).uris,
            ["a", "b"]
        );
        assert_eq!(gone(&old, &[]).uris, ["a", "b"]);
    }

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
