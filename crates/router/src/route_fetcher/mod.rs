//! The Routing API as a source of routes beside NATS ([`crate::bus`]); gorouter's `route_fetcher`.
//!
//! One task subscribes to events and reads all routes once the stream is open. It reads them again every half prune interval,
//! which keeps them alive. [`known`] decides what that means for the table; the table itself orders versions of a route by their
//! modification tags. While a list is read, events wait in their stream, so an event is never older than the list before it.
//!
//! This task never ends the router because an API or a UAA cannot be reached. (The check at the start, which may end it in
//! compatibility with gorouter, belongs to the router's command.) The reason is logged once, until it changes, with the key to
//! correct, and the task retries without end. Routes of NATS are not affected.

mod known;

use crate::observe::feed::Source;
use crate::observe::registrations::{self, Message};
use crate::worker::Shared;
use anyhow::Result;
use clients::routing_api::{Event, Events, RoutingApi, RoutingApiError};
use kit::CancellationToken;
use known::{Change, KnownRoutes};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

/// The pause before the router subscribes again, as in gorouter, and before it repeats a read that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the Routing API's routes in the table until `end`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    api: RoutingApi,
    end: CancellationToken,
) -> Result<()> {
    if !shared.lasting.sharding.takes("") {
        tracing::warn!(
            key = "routing_table_sharding_mode",
            "routing-api-not-asked: its routes have no isolation segment, and this router takes only those with one"
        );
        end.cancelled().await;
        return Ok(());
    }
    let fetcher = Fetcher {
        shared,
        api,
        known: KnownRoutes::default(),
        no_list: Trouble::default(),
        no_stream: Trouble::default(),
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = fetcher.run() => {}
    }
    Ok(())
}

struct Fetcher {
    shared: Arc<Shared>,
    api: RoutingApi,
    known: KnownRoutes,
    no_list: Trouble,
    no_stream: Trouble,
}

impl Fetcher {
    async fn run(mut self) {
        let period = (self.shared.lasting.prune_interval / 2).max(Duration::from_millis(1));
        let mut tick = interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stream: Option<Events> = None;
        let mut subscribe_at = Instant::now();
        // The first list is read when the stream is open.
        tick.reset();
        loop {
            let mut read = true;
            tokio::select! {
                _ = tick.tick() => read = self.fetch().await,
                () = sleep_until(subscribe_at.into()), if stream.is_none() => {
                    stream = self.subscribe().await;
                    subscribe_at = Instant::now() + RETRY;
                    if stream.is_some() {
                        read = self.fetch().await;
                    }
                }
                event = next(&mut stream) => match event {
                    Ok(event) => {
                        let change = self.known.applied(event);
                        self.apply(change, Instant::now());
                    }
                    Err(error) => {
                        let error = format!("{error:#}");
                        tracing::warn!(error, "failed-getting-next-event");
                        self.shared.metrics.subscribe_events_errors.add(1);
                        stream = None;
                        subscribe_at = Instant::now() + RETRY;
                    }
                }
            }
            if !read {
                tick.reset_after(RETRY.min(period));
            }
        }
    }

    async fn subscribe(&mut self) -> Option<Events> {
        match self.api.events().await {
            Ok(events) => {
                let url = self.api.url();
                tracing::info!(url, "Successfully-subscribed-to-routing-api-event-stream");
                self.no_stream = Trouble::default();
                Some(events)
            }
            Err(error) => {
                let what = "failed-subscribing-to-routing-api-event-stream";
                self.shared.metrics.subscribe_events_errors.add(1);
                self.no_stream.log(&self.shared, &self.api, what, error);
                None
            }
        }
    }

    /// Reads all routes. Returns `false` if they could not be read.
    async fn fetch(&mut self) -> bool {
        match self.api.routes().await {
            Ok(routes) => {
                tracing::debug!(routes = routes.len(), "syncer-refreshing-endpoints");
                self.no_list = Trouble::default();
                let changes = self.known.fetched(routes);
                self.apply(changes, Instant::now());
                true
            }
            Err(error) => {
                let what = "failed-to-fetch-routes";
                self.no_list.log(&self.shared, &self.api, what, error);
                false
            }
        }
    }

    fn apply(&self, changes: impl IntoIterator<Item = Change>, now: Instant) {
        let shared = &self.shared;
        let message = Message {
            source: Source::RoutingApi,
            component: "",
            now,
        };
        for change in changes {
            match change {
                Change::Register(uri, spec) => {
                    let mut endpoint = shared.registry.endpoint(spec);
                    let made = shared
                        .registry
                        .register_with_place(&uri, &mut endpoint, now, now);
                    registrations::registered(shared, &message, &uri, &endpoint, &made);
                }
                Change::Unregister(uri, spec) => {
                    let (table, tag) = (&shared.registry, &spec.modification_tag);
                    let outcome = table.unregister_version(&uri, &spec.address(), tag, now);
                    let endpoint = table.endpoint(spec);
                    registrations::unregistered(shared, &message, &uri, &endpoint, outcome);
                }
                Change::Ignore(route, error) => {
                    tracing::error!(uri = route.route, error, "routing-api-route-refused");
                }
            }
        }
    }
}

/// Returns the next event. Without a stream it never returns.
async fn next(stream: &mut Option<Events>) -> Result<Event> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

/// The trouble that was logged last.
#[derive(Default)]
struct Trouble(String);

impl Trouble {
    /// Logs the trouble once, until it changes. Trouble with the UAA is logged by the code that requests the token.
    fn log(&mut self, shared: &Shared, api: &RoutingApi, what: &str, error: RoutingApiError) {
        let key = match &error {
            RoutingApiError::Token(_) => {
                shared.metrics.token_fetch_errors.add(1);
                return;
            }
            // The token was fresh, so the client lacks scopes.
            RoutingApiError::Refused { status: 401, .. } => "oauth.client_name",
            _ => "routing_api.uri",
        };
        let error = format!("{:#}", anyhow::Error::from(error));
        if self.0 != error {
            tracing::error!(key, url = api.url(), error, "{what}");
            self.0 = error;
        }
    }
}
