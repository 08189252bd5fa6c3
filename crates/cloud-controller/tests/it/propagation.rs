//! The propagation of a route: what routers confirm on the bus, and what the API answers.

use crate::fixture::*;
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use testkit::nats::NatsServer;
use testkit::net::free_port;
use wire::router::receipts::{AppliedChange, Question, Receipt, Receipts, ServedProcess};
use wire::router::subject;

/// The table of a router: the processes of each uri.
type Table = Arc<Mutex<BTreeMap<String, Vec<ServedProcess>>>>;

/// A router, as far as the bus shows it.
struct Router {
    bus: async_nats::Client,
    id: String,
    table: Table,
    running: tokio::task::JoinHandle<()>,
}

impl Router {
    /// Starts a router that answers greetings, and questions if it is not an original one.
    async fn start(nats: &NatsServer, id: &str, is_original: bool) -> Self {
        let config = NatsServer::config(nats.port());
        let bus = clients::nats::connect(&config, id, |_| std::future::ready(()))
            .await
            .unwrap();
        let mut greetings = bus.subscribe(subject::GREET).await.unwrap();
        let mut questions = bus.subscribe(subject::ASK_RECEIPTS).await.unwrap();
        bus.flush().await.unwrap();
        let table = Table::default();
        let (client, own, name) = (bus.clone(), table.clone(), id.to_owned());
        let running = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(greeting) = greetings.next() => {
                        let start = json!({ "id": name, "hosts": ["10.0.0.1"],
                            "minimumRegisterIntervalInSeconds": 20, "pruneThresholdInSeconds": 120 });
                        let reply = greeting.reply.unwrap();
                        client.publish(reply, start.to_string().into()).await.unwrap();
                    }
                    Some(question) = questions.next(), if !is_original => {
                        let question: Question = serde_json::from_slice(&question.payload).unwrap();
                        let routes = question.uris.iter().map(|uri| receipt(&own, uri, None));
                        let routes = routes.collect();
                        publish(&client, &name, routes).await;
                    }
                    else => return,
                }
            }
        });
        Self {
            bus,
            id: id.to_owned(),
            table,
            running,
        }
    }

    /// Serves these processes from now on, and confirms the change.
    async fn serve(&self, uri: &str, processes: &[(&str, u64)]) {
        self.set(uri, processes);
        let change = AppliedChange {
            generation: processes.iter().map(|p| p.1).max().unwrap_or(1),
            emitted_at_ns: nanos(),
            applied_at_ns: nanos(),
        };
        let routes = vec![receipt(&self.table, uri, Some(change))];
        publish(&self.bus, &self.id, routes).await;
    }

    fn set(&self, uri: &str, processes: &[(&str, u64)]) {
        let served = processes.iter().map(|(process, generation)| ServedProcess {
            process: (*process).to_owned(),
            generation: *generation,
            endpoints: 1,
        });
        let mut table = self.table.lock().unwrap();
        table.insert(uri.to_owned(), served.collect());
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn nanos() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64
}

fn receipt(table: &Table, uri: &str, change: Option<AppliedChange>) -> Receipt {
    let processes = table.lock().unwrap().get(uri).cloned();
    Receipt {
        uri: uri.to_owned(),
        processes: processes.unwrap_or_default(),
        change,
    }
}

async fn publish(bus: &async_nats::Client, router: &str, routes: Vec<Receipt>) {
    let receipts = Receipts {
        router: router.to_owned(),
        routes,
    };
    let payload = serde_json::to_vec(&receipts).unwrap();
    bus.publish(subject::RECEIPTS, payload.into())
        .await
        .unwrap();
    bus.flush().await.unwrap();
}

async fn bus() -> NatsServer {
    let nats = NatsServer::start(free_port());
    nats.ready().await;
    nats
}

async fn propagation(f: &Foundation, route: &str, wait: &str) -> Value {
    f.get(&format!("/v3/routes/{route}/propagation?wait={wait}"))
        .await
}

/// Returns the router's part of an answer.
fn of<'a>(answer: &'a Value, id: &str) -> &'a Value {
    let routers = answer["routers"].as_array().unwrap();
    routers.iter().find(|router| router["id"] == id).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_is_live_when_every_router_has_confirmed_it() {
    let nats = bus().await;
    let [first, second] = [
        Router::start(&nats, "0-first", false).await,
        Router::start(&nats, "1-second", false).await,
    ];
    let f = Foundation::start_on(NatsServer::config(nats.port())).await;
    let app = f.started_app("web").await;
    let route = f.create_route("Web", "/V1").await;
    let uri = "web.apps.test/v1";
    let answer = propagation(&f, &route, "20s").await;
    assert_eq!(answer["state"], "gone", "{answer}");
    assert_eq!(answer["generation"], Value::Null);

    f.map(&route, &app).await;
    let generation = f.lrp_routes(&app).await[0]["generation"].as_u64().unwrap();
    let answer = propagation(&f, &route, "0").await;
    assert_eq!(answer["generation"], generation);
    assert_eq!(answer["state"], "pending");
    first.serve(uri, &[(&app, generation)]).await;
    let waiting = propagation(&f, &route, "20s");
    let confirming = async {
        second.serve(uri, &[(&app, generation - 1)]).await;
        second.serve(uri, &[(&app, generation)]).await;
    };
    let (answer, ()) = tokio::join!(waiting, confirming);
    assert_eq!(answer["state"], "live", "{answer}");
    let summary = answer["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("live on 2/2 routers after "),
        "{summary}"
    );
    assert!(answer["after_ms"].as_f64().unwrap() > 0.0);
    let hops = answer["hops"].as_array().unwrap();
    let names: Vec<_> = hops
        .iter()
        .map(|hop| hop["hop"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["stored", "desired", "emitted", "applied", "confirmed"]
    );
    let served = json!([{ "guid": app, "generation": generation, "endpoints": 1 }]);
    assert_eq!(of(&answer, "1-second")["processes"], served);
    assert_eq!(of(&answer, "1-second")["hosts"], json!(["10.0.0.1"]));

    let destinations = f.get(&format!("/v3/routes/{route}/destinations")).await;
    let destination = destinations["destinations"][0]["guid"].as_str().unwrap();
    f.delete(&format!("/v3/routes/{route}/destinations/{destination}"))
        .await;
    first.serve(uri, &[]).await;
    let answer = propagation(&f, &route, "300ms").await;
    assert_eq!(answer["state"], "pending", "{answer}");
    let missing = of(&answer, "1-second")["missing"][0].as_str().unwrap();
    assert!(missing.starts_with("it still serves process"), "{missing}");
    // This router's receipt was lost, so the answer to a question brings the news.
    second.set(uri, &[]);
    let answer = propagation(&f, &route, "20s").await;
    assert_eq!(answer["state"], "gone", "{answer}");
    assert!(answer["generation"].as_u64().unwrap() > generation);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_does_not_confirm_is_shown_as_one() {
    let nats = bus().await;
    let _original = Router::start(&nats, "7-original", true).await;
    let f = Foundation::start_on(NatsServer::config(nats.port())).await;
    let app = f.started_app("web").await;
    let route = f.create_route("web", "").await;
    f.map(&route, &app).await;
    let answer = propagation(&f, &route, "20s").await;
    assert_eq!(answer["state"], "unconfirmed", "{answer}");
    assert_eq!(of(&answer, "7-original")["state"], "unconfirmed");

    let router = Router::start(&nats, "0-ours", false).await;
    let generation = f.lrp_routes(&app).await[0]["generation"].as_u64().unwrap();
    router.serve("web.apps.test", &[(&app, generation)]).await;
    let answer = propagation(&f, &route, "20s").await;
    assert_eq!(answer["state"], "live", "{answer}");
    let summary = answer["summary"].as_str().unwrap();
    assert!(summary.contains("1 router does not confirm"), "{summary}");

    // A router that left is not waited for.
    drop(router);
    let other = Router::start(&nats, "0-other", false).await;
    other.serve("web.apps.test", &[(&app, generation)]).await;
    let answer = propagation(&f, &route, "20s").await;
    assert_eq!(answer["state"], "live", "{answer}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_bus_nothing_is_known_and_nothing_waits() {
    let f = Foundation::start().await;
    let route = f.create_route("web", "").await;
    let began = std::time::Instant::now();
    let answer = propagation(&f, &route, "30s").await;
    assert_eq!(answer["state"], "unknown");
    assert_eq!(answer["routers"], json!([]));
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
    for wrong in ["31s", "x", "-1"] {
        let path = format!("/v3/routes/{route}/propagation?wait={wrong}");
        let (status, body) = f.call(Method::GET, &path, None).await;
        assert_eq!(status, 400, "{body}");
        assert!(detail(&body).contains("'wait' must be a time"), "{body}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_shows_the_change_and_names_a_router_that_does_not_answer() {
    let nats = bus().await;
    let router = Router::start(&nats, "0-ours", false).await;
    let f = Foundation::start_on(NatsServer::config(nats.port())).await;
    let app = f.started_app("web").await;
    let route = f.create_route("web", "").await;
    f.map(&route, &app).await;
    let generation = f.lrp_routes(&app).await[0]["generation"].as_u64().unwrap();
    router.serve("web.apps.test", &[(&app, generation)]).await;
    let answer = propagation(&f, &route, "20s").await;
    assert_eq!(answer["state"], "live", "{answer}");
    let why = f.get("/v3/why?url=web.apps.test").await;
    let hops = why["hops"].as_array().unwrap();
    let hop = |part: &str| hops.iter().find(|hop| hop["part"] == part).unwrap();
    assert_eq!(hop("route")["generation"], generation, "{why}");
    assert_eq!(hop("desired LRP")["generation"], generation);
    assert!(hop("desired LRP")["after_ms"].is_number());
    // This router confirms changes, and answers no question about a URL.
    assert_eq!(hop("page")["subject"], "10.0.0.1");
    f.finish().await;
}
