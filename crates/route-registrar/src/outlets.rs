//! The places where routes are registered: NATS and the Routing API.

use crate::route::{self, AnyRoute, HttpRoute, Registration};
use crate::tcp_routes::TcpRoutes;
use anyhow::{Context as _, Result};
use async_nats::Client;
use std::sync::Arc;
use std::time::Duration;
use wire::router::subject;

/// The connections to both. Either may be missing where no route needs it.
#[derive(Clone, Debug, Default)]
pub struct Outlets {
    /// The bus, for HTTP routes.
    pub nats: Option<Client>,
    /// The Routing API, for TCP routes.
    pub tcp_routes: Option<Arc<TcpRoutes>>,
}

impl Outlets {
    /// Checks that the registration is valid, and that the connection that it needs is configured.
    pub(crate) fn check(&self, registration: &Registration) -> Result<()> {
        route::check(registration)?;
        match registration.route {
            AnyRoute::Http(_) => self.bus().map(drop),
            AnyRoute::Tcp(_) => self.api().map(drop),
        }
    }

    /// Registers the route. `interval` is the time after which it will be registered again.
    pub(crate) async fn register(
        &self,
        route: &AnyRoute,
        interval: Duration,
        instance_id: &str,
    ) -> Result<()> {
        match route {
            AnyRoute::Http(route) => self.publish(subject::REGISTER, route, instance_id).await,
            AnyRoute::Tcp(route) => self.api()?.register(route, interval).await,
        }
    }

    pub(crate) async fn unregister(
        &self,
        route: &AnyRoute,
        interval: Duration,
        instance_id: &str,
    ) -> Result<()> {
        match route {
            AnyRoute::Http(route) => self.publish(subject::UNREGISTER, route, instance_id).await,
            AnyRoute::Tcp(route) => self.api()?.unregister(route, interval).await,
        }
    }

    async fn publish(
        &self,
        subject: &'static str,
        route: &HttpRoute,
        instance_id: &str,
    ) -> Result<()> {
        let message = serde_json::to_vec(&route.message(instance_id))?;
        let published = self.bus()?.publish(subject, message.into()).await;
        published.with_context(|| format!("publish {subject}"))
    }

    fn bus(&self) -> Result<&Client> {
        let bus = self.nats.as_ref();
        bus.context("an HTTP route needs message_bus_servers, which were not configured at the start: configure them and restart")
    }

    fn api(&self) -> Result<&TcpRoutes> {
        let api = self.tcp_routes.as_deref();
        api.context("a TCP route needs routing_api, which was not configured at the start: configure it and restart")
    }
}
