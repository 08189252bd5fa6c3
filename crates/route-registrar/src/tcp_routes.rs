//! TCP routes at the Routing API.

use crate::route::{self, TcpRoute};
use anyhow::{Context as _, Result};
use clients::routing_api::{Config, RoutingApi, RoutingApiError};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Registers and unregisters; remembers router groups' guids.
#[derive(Debug)]
pub struct TcpRoutes {
    api: RoutingApi,
    max_ttl: Duration,
    groups: Mutex<HashMap<String, String>>,
}

impl TcpRoutes {
    /// `max_ttl`: no route lives longer than this without being registered again. Connects to nothing yet.
    pub fn new(api: &Config, max_ttl: Duration) -> Result<Self> {
        Ok(Self {
            api: RoutingApi::new(api)?,
            max_ttl,
            groups: Mutex::default(),
        })
    }

    /// Makes or refreshes it, for a time that outlives one `interval`.
    pub(crate) async fn register(&self, route: &TcpRoute, interval: Duration) -> Result<()> {
        let message = self.message(route, interval).await?;
        let done = self.api.create_tcp_routes(&[message]).await;
        self.settled(route, done)
    }

    pub(crate) async fn unregister(&self, route: &TcpRoute, interval: Duration) -> Result<()> {
        let message = self.message(route, interval).await?;
        let done = self.api.delete_tcp_routes(&[message]).await;
        self.settled(route, done)
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
                let group = found.with_context(|| format!("router_group {name:?} is unknown to the Routing API: correct the name, or make the group"))?;
                self.groups().insert(name.clone(), group.guid.clone());
                group.guid
            }
        };
        Ok(route.message(&guid, route::ttl(interval, self.max_ttl)))
    }

    /// A group may have been made again, with another guid.
    fn settled(&self, route: &TcpRoute, done: Result<(), RoutingApiError>) -> Result<()> {
        if done.is_err() {
            self.groups().remove(&route.router_group);
        }
        done.with_context(|| self.place())
    }

    /// What the operator calls it.
    fn place(&self) -> String {
        format!("routing_api.api_url {}", self.api.url())
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
