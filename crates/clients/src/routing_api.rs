//! The Routing API's client: HTTP routes and their events for routers, TCP routes for registrars.
//!
//! When the API refuses a token, the client fetches a new one once; after that it returns the refusal. It retries nothing else.

use crate::http::{self, Tls};
use crate::sse;
use crate::uaa::{ClientCredentials, TokenFetcher};
use anyhow::{Context as _, Result};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use std::time::Duration;
use wire::routing_api::{DELETE, Refusal, Route, RouterGroup, TcpRoute, UPSERT, path};

/// The longest wait for one answer, as in the original's client. For a stream it bounds the wait for its beginning.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The address of a Routing API, and the identity of this process there.
#[derive(Clone, Debug)]
pub struct Config {
    /// The URL of the API, for example `https://routing-api.service.cf.internal:3001`.
    pub url: String,
    pub tls: Tls,
    /// The client whose tokens are sent. `None` means that the API requires no token.
    pub oauth: Option<ClientCredentials>,
}

/// The reason why a call failed, by the party that is responsible.
#[derive(Debug, thiserror::Error)]
pub enum RoutingApiError {
    /// The UAA returned no token. The reason was logged.
    #[error("no token for the Routing API")]
    Token(#[source] anyhow::Error),
    /// The Routing API did not answer, or broke the connection.
    #[error("the Routing API did not answer {path}")]
    Unreachable {
        path: &'static str,
        #[source]
        source: anyhow::Error,
    },
    /// The Routing API refused the call. A 401 is the answer to a fresh token.
    #[error("the Routing API refused {path}: status {status}, {message:?}")]
    Refused {
        path: &'static str,
        status: u16,
        message: String,
    },
}

impl RoutingApiError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

#[derive(Debug)]
pub struct RoutingApi {
    url: String,
    calls: reqwest::Client,
    streams: reqwest::Client,
    tokens: Option<TokenFetcher>,
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Upsert(Route),
    Delete(Route),
}

impl RoutingApi {
    /// Makes a client, which does not connect yet. It fails when certificates cannot be used.
    pub fn new(config: &Config) -> Result<Self> {
        let tokens = config.oauth.clone().map(TokenFetcher::new).transpose();
        Ok(Self {
            url: config.url.trim_end_matches('/').to_owned(),
            calls: http::client_with(&config.tls, Some(TIMEOUT))
                .context("make the HTTP client of the Routing API")?,
            streams: http::client_with(&config.tls, None)
                .context("make the HTTP client of the Routing API")?,
            tokens: tokens.context("make the client that fetches tokens from the UAA")?,
        })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns every HTTP route.
    pub async fn routes(&self) -> Result<Vec<Route>, RoutingApiError> {
        self.read(path::ROUTES, &[]).await
    }

    /// Subscribes to the events of HTTP routes. There is no replay: read the routes after the stream is open.
    pub async fn events(&self) -> Result<Events, RoutingApiError> {
        let request = |path| {
            self.streams
                .get(format!("{}{path}", self.url))
                .header("accept", "text/event-stream")
        };
        let answer = tokio::time::timeout(TIMEOUT, self.send(path::EVENTS, request)).await;
        let silent = |_| unreachable(path::EVENTS)(anyhow::anyhow!("no answer within {TIMEOUT:?}"));
        let answer = answer.map_err(silent)??;
        Ok(Events(sse::Stream::new(answer, "the event stream")))
    }

    /// Returns the router group with that name, or `None` if there is none.
    pub async fn router_group(&self, name: &str) -> Result<Option<RouterGroup>, RoutingApiError> {
        let query = [("name", name)];
        let found: Result<Vec<RouterGroup>, _> = self.read(path::ROUTER_GROUPS, &query).await;
        match found {
            Ok(groups) => Ok(groups.into_iter().find(|group| group.name == name)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates or refreshes TCP routes.
    pub async fn create_tcp_routes(&self, routes: &[TcpRoute]) -> Result<(), RoutingApiError> {
        self.write(path::TCP_ROUTES_CREATE, routes).await
    }

    pub async fn delete_tcp_routes(&self, routes: &[TcpRoute]) -> Result<(), RoutingApiError> {
        self.write(path::TCP_ROUTES_DELETE, routes).await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        path: &'static str,
        query: &[(&str, &str)],
    ) -> Result<T, RoutingApiError> {
        let request = |path| self.request(Method::GET, path).query(query);
        let answer = self.send(path, request).await?;
        let body = answer.bytes().await.map_err(anyhow::Error::from);
        let read = |body: bytes::Bytes| serde_json::from_slice(&body).context("read its answer");
        body.and_then(read).map_err(unreachable(path))
    }

    async fn write(&self, path: &'static str, routes: &[TcpRoute]) -> Result<(), RoutingApiError> {
        let request = |path| self.request(Method::POST, path).json(routes);
        self.send(path, request).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.calls.request(method, format!("{}{path}", self.url))
    }

    /// Sends a request with a token, and once more with a fresh token if the API refuses the first.
    async fn send(
        &self,
        path: &'static str,
        request: impl Fn(&'static str) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, RoutingApiError> {
        let mut refused = None;
        loop {
            let mut request = request(path);
            let token = match &self.tokens {
                None => None,
                Some(tokens) => {
                    let token = tokens.token(refused.as_deref()).await;
                    Some(token.map_err(RoutingApiError::Token)?)
                }
            };
            if let Some(token) = &token {
                request = request.header("authorization", format!("bearer {token}"));
            }
            let sent = request.send().await;
            let response = sent.map_err(|error| unreachable(path)(error.into()))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status == StatusCode::UNAUTHORIZED && token.is_some() && refused.is_none() {
                refused = token;
                continue;
            }
            let message = response.json::<Refusal>().await.unwrap_or_default().message;
            return Err(RoutingApiError::Refused {
                path,
                status: status.as_u16(),
                message,
            });
        }
    }
}

fn unreachable(path: &'static str) -> impl Fn(anyhow::Error) -> RoutingApiError {
    move |source| RoutingApiError::Unreachable { path, source }
}

/// An open event stream.
#[derive(Debug)]
pub struct Events(sse::Stream);

impl Events {
    /// Returns the next event and skips unknown ones. `Err` means that the stream ended or broke: subscribe again and read the
    /// routes. The future may be dropped and the call repeated.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = decode(&self.0.next().await?)? {
                return Ok(event);
            }
        }
    }
}

fn decode(event: &sse::Event) -> Result<Option<Event>> {
    let route = || serde_json::from_str(&event.data).context("read the route of an event");
    Ok(match event.name.as_str() {
        UPSERT => Some(Event::Upsert(route()?)),
        DELETE => Some(Event::Delete(route()?)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_distinguished() {
        let of = |name: &str, data: &str| {
            let (name, data) = (name.to_owned(), data.to_owned());
            decode(&sse::Event { name, data })
        };
        let json = r#"{"route":"a.test","port":1}"#;
        let route = Route {
            route: "a.test".into(),
            port: 1,
            ..Route::default()
        };
        let upsert = Event::Upsert(route.clone());
        assert_eq!(of("Upsert", json).unwrap(), Some(upsert));
        assert_eq!(of("Delete", json).unwrap(), Some(Event::Delete(route)));
        assert_eq!(of("Invalid", "x").unwrap(), None);
        assert!(of("Upsert", r#"{"port":70000}"#).is_err());
    }
}
