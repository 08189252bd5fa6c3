//! Registers TCP routes with the Routing API.

use crate::route::{self, TcpRoute};
use anyhow::{Context as _, Result};
use clients::routing_api::{Config, RoutingApi, RoutingApiError};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A client that registers and unregisters, and remembers the guids of router groups.
#[derive(Debug)]
pub struct TcpRoutes {
    api: RoutingApi,
    max_ttl: Duration,
    groups: Mutex<HashMap<String, String>>,
}

impl TcpRoutes {
    /// Makes the client, which does not connect yet. `max_ttl` is the longest time that a route lives without a new registration.
    pub fn new(api: &Config, max_ttl: Duration) -> Result<Self> {
        Ok(Self {
            api: RoutingApi::new(api)?,
            max_ttl,
            groups: Mutex::default(),
        })
    }

    /// Creates or refreshes the route, for a time that is longer than one `interval`.
    pub(crate) async fn register(&self, route: &TcpRoute, interval: Duration) -> Result<()> {
        let message = self.message(route, interval).await?;
        let done = self.api.create_tcp_routes(&[message]).await;
        self.forget_group_on_error(route, done)
    }

    pub(crate) async fn unregister(&self, route: &TcpRoute, interval: Duration) -> Result<()> {
        let message = self.message(route, interval).await?;
        let done = self.api.delete_tcp_routes(&[message]).await;
        self.forget_group_on_error(route, done)
    }

    async fn message(
        &self,
        route: &TcpRoute,
        interval: Duration,
    ) -> Result<wire::routing_api::TcpRoute> {
        let name = &route.router_group;
        let known = self.groups().get(name).cloned();
        let guid = match known {
            Some(guid) => guid,
            None => {
                let found = self.api.router_group(name).await;
                let found = found.with_context(|| self.place())?;
                let group = found.with_context(|| format!("router_group {name:?} is unknown to the Routing API: correct the name, or create the group"))?;
                self.groups().insert(name.clone(), group.guid.clone());
                group.guid
            }
        };
        Ok(route.message(&guid, route::ttl(interval, self.max_ttl)))
    }

    /// Passes the result on. After an error it forgets the group's guid, because the group may have been created again with another
    /// one.
    fn forget_group_on_error(
        &self,
        route: &TcpRoute,
        done: Result<(), RoutingApiError>,
    ) -> Result<()> {
        if done.is_err() {
            self.groups().remove(&route.router_group);
        }
        done.with_context(|| self.place())
    }

    /// Returns the configuration key with its value, for messages to the operator.
    fn place(&self) -> String {
        format!("routing_api.api_url {}", self.api.url())
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
