//! Asks a router: its page about the URL, and a request through it. An original gorouter has only the whole table.

use crate::{LIMIT, front, host_and_path, within};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use why::{Answer, Probe, Router};
use wire::cc::{PropagationRouter, StoredRoute};
use wire::rep::InspectedCertificate;
use wire::router::{EndpointView, RouteView, VIEW_PATH};

/// The time limit of a connection that only shows whether there is a way.
const CONNECT: Duration = Duration::from_secs(2);

/// A router, and the right to read its operator's pages.
#[derive(Clone)]
pub struct RouterAddress {
    /// The name for people.
    pub name: String,
    /// The operator's listener: `http://127.0.0.1:8082`.
    pub status_url: String,
    pub user: String,
    pub password: String,
    /// The listener for requests, to which a request is sent: `http://127.0.0.1:80`. `None`: no request is sent.
    pub http_url: Option<String>,
    /// The listener for requests with TLS, as `host:port`; `None`: it is not asked for its certificate.
    pub https_address: Option<String>,
    /// Whether there may be no router at all at this address. It is forgotten then, if others are found on the bus.
    pub is_guess: bool,
}

impl std::fmt::Debug for RouterAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouterAddress")
            .field("name", &self.name)
            .field("status_url", &self.status_url)
            .finish_non_exhaustive()
    }
}

impl RouterAddress {
    pub(crate) async fn ask(&self, url: &str) -> Router {
        let mut view = within(self.view(url)).await;
        let probe = match &self.http_url {
            Some(base) => Some(within(probe(base, url)).await),
            None => None,
        };
        // The request may remove an endpoint that fails, so the table is that of before. Its own failure is shown, too.
        if let Ok(view) = &mut view
            && let Ok(after) = within(self.view(url)).await
        {
            view.failures = after.failures;
        }
        Router {
            name: self.name.clone(),
            view,
            probe,
            front: presented(self.https_address.as_deref(), url).await,
        }
    }

    async fn view(&self, url: &str) -> Result<RouteView> {
        let http = client()?;
        let get = |path: &str| {
            let request = http.get(format!("{}{path}", self.status_url));
            request.basic_auth(&self.user, Some(&self.password))
        };
        let response = get(VIEW_PATH).query(&[("url", url)]).send().await;
        let response = response.with_context(|| format!("query {}", self.status_url))?;
        if response.status().is_success() {
            return response.json().await.context("decode its page");
        }
        let is_original = response.status().as_u16() == 404;
        ensure!(is_original, "it answered with status {}", response.status());
        let table = get("/routes").send().await?.error_for_status()?;
        let table: Value = table.json().await.context("decode its table")?;
        Ok(of_table(&table, url))
    }
}

/// Returns what the table of an original gorouter shows about a URL.
fn of_table(table: &Value, url: &str) -> RouteView {
    let routes = table.as_object().into_iter().flatten();
    let route = routes
        .filter(|(uri, _)| why::serves(uri, url))
        // A route without a wildcard is more specific, and then a longer path is.
        .max_by_key(|(uri, _)| (!uri.starts_with('*'), uri.len()));
    let endpoints = route.and_then(|(_, endpoints)| endpoints.as_array());
    let endpoints = endpoints.into_iter().flatten().filter_map(|endpoint| {
        let endpoint: Result<EndpointView, _> = serde_json::from_value(endpoint.clone());
        endpoint.ok()
    });
    RouteView {
        route: route.map(|(uri, _)| uri.clone()),
        endpoints: endpoints.collect(),
        ..RouteView::default()
    }
}

/// Forgets the guesses at which nobody listens. `asked` are the answers of the addresses.
pub(crate) fn forget_guesses(addresses: &[RouterAddress], asked: &mut Vec<Router>) {
    let mut addresses = addresses.iter();
    asked.retain(|router| {
        let is_guess = addresses.next().is_some_and(|address| address.is_guess);
        let is_refused = |problem: &String| problem.contains("refused");
        !is_guess || !router.view.as_ref().is_err_and(is_refused)
    });
}

/// Returns the views of routers that are not among those that were asked by their pages.
pub(crate) fn others(asked: &[Router], found: Vec<RouteView>) -> Vec<RouteView> {
    let known = |view: &RouteView| {
        let mut views = asked.iter().filter_map(|router| router.view.as_ref().ok());
        views.any(|known| known.router == view.router)
    };
    found.into_iter().filter(|view| !known(view)).collect()
}

/// Returns a router that was found on the bus, with the answer to a request through it. It may be on a network that this machine does
/// not reach, and then no request is sent.
pub(crate) async fn found(view: RouteView, url: &str) -> Router {
    let (http, https) = (&view.http_address, &view.https_address);
    let probe = match accepts(http).await {
        true => Some(within(probe(&format!("http://{http}"), url)).await),
        false => None,
    };
    let front = match accepts(https).await {
        true => presented(Some(https.as_str()), url).await,
        false => None,
    };
    let name = [http, https]
        .into_iter()
        .find(|address| !address.is_empty());
    Router {
        name: name.unwrap_or(&view.router).clone(),
        view: Ok(view),
        probe,
        front,
    }
}

/// Returns the routers that the Cloud Controller knows and that answered nobody here. A router that started again has another id, and
/// the address of the one before.
pub(crate) fn silent(route: &Answer<Option<StoredRoute>>, found: &[Router]) -> Vec<Router> {
    let views: Vec<&RouteView> = found.iter().flat_map(|router| &router.view).collect();
    let stored = route.as_ref().ok().and_then(Option::as_ref);
    let propagation = stored.and_then(|route| route.propagation.as_ref());
    let known = propagation.into_iter().flat_map(|known| &known.routers);
    let is_here = |router: &&PropagationRouter| {
        let hosts = |address: &str| {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            router.hosts.iter().any(|own| own == host)
        };
        views.iter().any(|view| {
            view.router == router.id || hosts(&view.http_address) || hosts(&view.https_address)
        })
    };
    // An original router answers no question of ours.
    let silent = known.filter(|router| router.state != "unconfirmed" && !is_here(router));
    silent
        .map(|router| Router {
            name: router.hosts.first().unwrap_or(&router.id).clone(),
            view: Err("it answers no question on the message bus".to_owned()),
            probe: None,
            front: None,
        })
        .collect()
}

/// Returns whether something accepts connections at an address.
async fn accepts(address: &str) -> bool {
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
    matches!(connected, Ok(Ok(_)))
}

/// Returns the certificate of a listener, if the URL is one of `https`.
async fn presented(address: Option<&str>, url: &str) -> Option<Answer<InspectedCertificate>> {
    let address = address.filter(|_| url.starts_with("https://"))?;
    let (host, _) = host_and_path(url);
    Some(within(front::certificate(address, host)).await)
}

/// Sends a request for the URL through a router.
async fn probe(base: &str, url: &str) -> Result<Probe> {
    let (host, path) = host_and_path(url);
    let began = Instant::now();
    let response = client()?
        .get(format!("{base}{path}"))
        .header("host", host)
        .header("user-agent", "cupola why")
        .send()
        .await
        .with_context(|| format!("send a request to {base}"))?;
    let header = |name: &str| {
        let value = response.headers().get(name);
        let text = value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        text.unwrap_or_default()
    };
    Ok(Probe {
        status: response.status().as_u16(),
        router_error: header("x-cf-routererror"),
        request_id: header("x-vcap-request-id"),
        milliseconds: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("build HTTP client")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wire::cc::RoutePropagation;

    #[test]
    fn the_table_of_a_gorouter_is_a_page_without_ages() {
        let endpoint = |address: &str| json!({"address": address, "tls": true, "private_instance_id": "i1", "server_cert_domain_san": "i1", "tags": null, "ttl": 120});
        let table = json!({
            "a.test": [endpoint("10.0.0.1:1")],
            "a.test/x": [endpoint("10.0.0.1:2")],
            "*.test": [endpoint("10.0.0.1:3")],
        });
        let view = of_table(&table, "http://a.test/x/y");
        assert_eq!(view.route.as_deref(), Some("a.test/x"));
        assert_eq!(view.endpoints.len(), 1);
        assert_eq!(view.endpoints[0].address, "10.0.0.1:2");
        assert_eq!(view.endpoints[0].instance_guid, "i1");
        assert_eq!(
            (view.endpoints[0].message_age, view.bus_is_connected),
            (None, None)
        );
        assert_eq!(of_table(&table, "b.test").route.as_deref(), Some("*.test"));
        assert_eq!(of_table(&table, "b.example").route, None);
    }
    #[test]
    fn only_a_guess_where_nobody_listens_is_forgotten() {
        let address = |is_guess| RouterAddress {
            name: "a".to_owned(),
            status_url: String::new(),
            user: String::new(),
            password: String::new(),
            http_url: None,
            https_address: None,
            is_guess,
        };
        for (is_guess, problem, left) in [
            (true, "connect: Connection refused (os error 111)", 0),
            (true, "timed out after 5 s", 1),
            (false, "connect: Connection refused (os error 111)", 1),
        ] {
            let mut asked = vec![Router {
                name: "a".to_owned(),
                view: Err(problem.to_owned()),
                probe: None,
                front: None,
            }];
            forget_guesses(&[address(is_guess)], &mut asked);
            assert_eq!(asked.len(), left, "{is_guess} {problem}");
        }
    }

    #[test]
    fn routers_are_counted_once_and_none_is_forgotten() {
        let view = |router: &str, http: &str| RouteView {
            router: router.to_owned(),
            http_address: http.to_owned(),
            ..RouteView::default()
        };
        let asked = [Router {
            name: "a".to_owned(),
            view: Ok(view("0-a", "10.0.0.1:80")),
            probe: None,
            front: None,
        }];
        let found = vec![view("0-a", "10.0.0.1:80"), view("0-b", "10.0.0.2:80")];
        let others = others(&asked, found);
        assert_eq!(others.len(), 1);
        assert_eq!(others[0].router, "0-b");
        let known = |id: &str, host: &str, state: &str| PropagationRouter {
            id: id.to_owned(),
            hosts: vec![host.to_owned()],
            state: state.to_owned(),
            ..PropagationRouter::default()
        };
        let route = StoredRoute {
            propagation: Some(RoutePropagation {
                routers: vec![
                    known("0-a", "10.0.0.1", "live"),
                    // It is the router a, before it started again.
                    known("0-z", "10.0.0.1", "silent"),
                    known("0-c", "10.0.0.3", "silent"),
                    known("1-d", "10.0.0.4", "unconfirmed"),
                ],
                ..RoutePropagation::default()
            }),
            ..StoredRoute::default()
        };
        let silent = silent(&Ok(Some(route)), &asked);
        assert_eq!(silent.len(), 1);
        assert_eq!(silent[0].name, "10.0.0.3");
        assert!(silent[0].view.is_err());
    }
}
