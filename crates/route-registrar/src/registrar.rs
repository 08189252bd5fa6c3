//! Runs the registrar's loop, with one task for each route.

use crate::outlets::Outlets;
use crate::route::{AnyRoute, HttpRoute, Registration, unwanted_part};
use anyhow::Result;
use async_nats::{Client, Subscriber};
use futures::StreamExt as _;
use futures::future::join_all;
use kit::CancellationToken;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wire::router::subject;

/// The default number of unregistrations of a route whose health check fails.
const UNREGISTRATIONS: u32 = 5;
/// The pause after a registration that failed.
const RETRY: Duration = Duration::from_secs(1);
/// The time limit for a last registration and for an unregistration: their receiver may be gone for good.
const PATIENCE: Duration = Duration::from_secs(5);

/// The routes that are wanted from now on.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub registrations: Vec<Registration>,
    /// The highest number of consecutive unregistrations of an unhealthy route.
    pub unregistration_limit: u32,
}

/// A registrar, which keeps a set of routes registered.
#[derive(Debug)]
pub struct Registrar {
    outlets: Outlets,
    wanted: Wanted,
    /// The id of this process, which is in every message.
    instance_id: String,
}

impl Registrar {
    /// Makes a registrar of HTTP routes. `interval` must be well below the routers' prune threshold (120 s); 20 s is usual.
    pub fn new(nats: Client, routes: &[HttpRoute], interval: Duration) -> Result<Self> {
        let registrations = routes.iter().map(|route| Registration {
            name: route.uris.first().cloned().unwrap_or_default(),
            route: AnyRoute::Http(route.clone()),
            interval,
            health_check: None,
        });
        let outlets = Outlets {
            nats: Some(nats),
            tcp_routes: None,
        };
        Self::with(outlets, registrations.collect(), UNREGISTRATIONS)
    }

    /// Makes a registrar of routes that have intervals and health checks of their own. `unregistration_limit` is the highest
    /// number of consecutive unregistrations of an unhealthy route.
    pub fn with(
        outlets: Outlets,
        registrations: Vec<Registration>,
        unregistration_limit: u32,
    ) -> Result<Self> {
        registrations.iter().try_for_each(|r| outlets.check(r))?;
        Ok(Self {
            outlets,
            wanted: Wanted {
                registrations,
                unregistration_limit,
            },
            instance_id: uuid::Uuid::new_v4().to_string(),
        })
    }

    /// Registers until `shutdown`, then unregisters.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        // The wanted routes never change.
        let (_keep, changes) = mpsc::channel(1);
        self.run_changing(changes, shutdown).await
    }

    /// Runs as [`run`](Self::run), while the wanted routes may change: routes that stay are not touched, and those that are no
    /// longer wanted are unregistered.
    pub async fn run_changing(
        self,
        mut changes: mpsc::Receiver<Wanted>,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let mut starts = match &self.outlets.nats {
            Some(nats) => Some(nats.subscribe(subject::START).await?),
            None => None,
        };
        let (started, _) = watch::channel(());
        let mut keepers: Vec<Running> = Vec::new();
        self.change(&mut keepers, &self.wanted, &started).await;
        let outcome = loop {
            tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                start = router_start(&mut starts) => match start {
                    Some(()) => {
                        let _ = started.send(());
                    }
                    None => break Err(anyhow::anyhow!("the NATS subscription to router.start ended")),
                },
                Some(wanted) = changes.recv() => {
                    match wanted.registrations.iter().try_for_each(|r| self.outlets.check(r)) {
                        Ok(()) => self.change(&mut keepers, &wanted, &started).await,
                        Err(error) => tracing::error!(error = format!("{error:#}"), "change-refused"),
                    }
                }
            }
        };
        let none = Wanted {
            registrations: Vec::new(),
            unregistration_limit: 0,
        };
        self.change(&mut keepers, &none, &started).await;
        if let Some(nats) = &self.outlets.nats {
            let _ = timeout(PATIENCE, nats.flush()).await;
        }
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
        join_all(go.into_iter().map(|old| self.end(old, wanted))).await;
        for registration in new {
            let stop = CancellationToken::new();
            let keeper = Keeper {
                outlets: self.outlets.clone(),
                instance_id: self.instance_id.clone(),
                unregistration_limit: wanted.unregistration_limit,
                registration: registration.clone(),
                stop: stop.clone(),
                trouble: String::new(),
            };
            keepers.push(Running {
                registration,
                stop,
                task: tokio::spawn(keeper.run(started.subscribe())),
            });
        }
    }

    async fn end(&self, mut old: Running, wanted: &Wanted) {
        // A registration that is in progress would otherwise arrive after its unregistration.
        old.stop.cancel();
        if timeout(PATIENCE, &mut old.task).await.is_err() {
            old.task.abort();
        }
        let Registration {
            route,
            interval,
            name,
            ..
        } = &old.registration;
        if let Some(part) = unwanted_part(route, &wanted.registrations) {
            let unregistered = self.outlets.unregister(&part, *interval, &self.instance_id);
            match timeout(PATIENCE, unregistered).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let error = format!("{error:#}");
                    tracing::warn!(route = name, error, "route-not-unregistered");
                }
                Err(_) => tracing::warn!(route = name, "route-not-unregistered: no answer"),
            }
        }
    }
}

/// Waits until a router has started, or is back on the bus. `None` means that the subscription has ended.
async fn router_start(starts: &mut Option<Subscriber>) -> Option<()> {
    match starts {
        Some(starts) => starts.next().await.map(drop),
        None => std::future::pending().await,
    }
}

/// A route that is kept registered, with its task.
#[derive(Debug)]
struct Running {
    registration: Registration,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The task that keeps one route registered.
#[derive(Debug)]
struct Keeper {
    outlets: Outlets,
    instance_id: String,
    registration: Registration,
    unregistration_limit: u32,
    stop: CancellationToken,
    /// The reason why the route could not be registered, as it was logged.
    trouble: String,
}

impl Keeper {
    /// Runs until it is stopped. The caller that stops it unregisters the route.
    async fn run(mut self, mut started: watch::Receiver<()>) {
        let interval = self.registration.interval;
        let mut tick = tokio::time::interval(interval);
        let over_bus = matches!(self.registration.route, AnyRoute::Http(_));
        let mut unregistered = 0;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
                // This round counts, so the next one is an interval away.
                Ok(()) = started.changed(), if over_bus => tick.reset(),
            }
            let well = tokio::select! {
                () = self.stop.cancelled() => return,
                well = self.is_well() => well,
            };
            if well {
                unregistered = 0;
                if !self.register().await {
                    tick.reset_after(RETRY.min(interval));
                }
            } else if unregistered < self.unregistration_limit {
                unregistered += 1;
                self.unregister().await;
            }
        }
    }

    async fn is_well(&self) -> bool {
        match &self.registration.health_check {
            Some(check) => check.is_well().await,
            None => true,
        }
    }

    /// Registers the route. Returns `false` if that failed. The reason is logged once, until it changes.
    async fn register(&mut self) -> bool {
        let Registration {
            route,
            interval,
            name,
            ..
        } = &self.registration;
        let registered = self.outlets.register(route, *interval, &self.instance_id);
        match registered.await {
            Ok(()) => {
                self.trouble.clear();
                true
            }
            Err(error) => {
                let error = format!("{error:#}");
                if self.trouble != error {
                    tracing::error!(route = name, error, "route-not-registered");
                    self.trouble = error;
                }
                false
            }
        }
    }

    async fn unregister(&self) {
        let Registration {
            route,
            interval,
            name,
            ..
        } = &self.registration;
        tracing::info!(route = name, "unhealthy-route-unregistered");
        let unregistered = self.outlets.unregister(route, *interval, &self.instance_id);
        if let Err(error) = unregistered.await {
            let error = format!("{error:#}");
            tracing::warn!(route = name, error, "route-not-unregistered");
        }
    }
}
