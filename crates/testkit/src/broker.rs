//! A service broker: a real HTTP server that keeps instances and bindings, works at once or in the background, and has every fault.
//!
//! ```text
//!  Broker::start() ──▶ url, USER, PASSWORD
//!    next(Call::Provision, Fault::ActAndHang)   the next such call has the fault
//!    always(Call::Catalog, Fault::Drip)         each one has it, until heal(Call::Catalog)
//!    work_in_background(Some(2))                what is requested from now on is done after two polls
//!    requests(), instances(), bindings()        what the platform did, and what exists
//! ```
//!
//! It obeys the specification strictly: it requires authentication and the version, refuses a second instance of a guid with other
//! attributes, and answers 410 for what does not exist. It does not use the client's code, so that both cannot be wrong in the same way.

mod fault;
mod kept;

pub use fault::Fault;

use crate::net;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use kept::Kept;
use kit::CancellationToken;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;

pub const USER: &str = "broker-user";
pub const PASSWORD: &str = "br0ker-passw0rd";

/// The kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Catalog,
    Provision,
    Update,
    Deprovision,
    FetchInstance,
    /// The poll of an operation of an instance.
    InstanceOperation,
    Bind,
    Unbind,
    FetchBinding,
    /// The poll of an operation of a binding.
    BindingOperation,
}

/// A request that the broker received.
#[derive(Clone, Debug)]
pub struct Request {
    pub call: Call,
    /// The path without its query.
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: HeaderMap,
    /// The body; null if there is none.
    pub body: Value,
}

/// A running broker. It stops when it is dropped.
#[derive(Debug)]
pub struct Broker {
    pub url: String,
    shared: Arc<Mutex<Shared>>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    catalog: Value,
    kept: Kept,
    requests: Vec<Request>,
    once: BTreeMap<Call, VecDeque<Fault>>,
    always: BTreeMap<Call, Fault>,
}

/// Returns a catalog with one offering and two plans: `small` is free, `big` is not and has a version.
pub fn catalog(offering: &str) -> Value {
    json!({
        "services": [{
            "id": format!("{offering}-id"),
            "name": offering,
            "description": format!("A {offering} for tests"),
            "bindable": true,
            "plan_updateable": true,
            "instances_retrievable": true,
            "bindings_retrievable": true,
            "tags": [offering, "test"],
            "metadata": { "shareable": true, "documentationUrl": "http://docs.test" },
            "plans": [
                {
                    "id": format!("{offering}-small-id"),
                    "name": "small",
                    "description": "A small one",
                    "free": true,
                },
                {
                    "id": format!("{offering}-big-id"),
                    "name": "big",
                    "description": "A big one",
                    "free": false,
                    "metadata": { "costs": [{ "amount": { "usd": 9.5 }, "unit": "MONTHLY" }] },
                    "maintenance_info": { "version": "1.0.0", "description": "The first" },
                },
            ],
        }],
    })
}

impl Broker {
    /// Starts a broker on loopback with the catalog of one offering.
    pub async fn start(offering: &str) -> Self {
        Self::start_on(net::listener().await, offering)
    }

    /// Starts a broker on another address of the machine. The caller is in a runtime.
    pub fn start_on(listener: TcpListener, offering: &str) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            catalog: catalog(offering),
            kept: Kept::default(),
            requests: Vec::new(),
            once: BTreeMap::new(),
            always: BTreeMap::new(),
        }));
        let address = listener.local_addr().expect("the listener is bound");
        let stop = CancellationToken::new();
        let app = Router::new().fallback(serve).with_state(shared.clone());
        tokio::spawn(kit::http::serve(listener, None, app, stop.clone()));
        Self {
            url: format!("http://{address}"),
            shared,
            stop,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    pub fn set_catalog(&self, catalog: Value) {
        self.lock().catalog = catalog;
    }

    /// Changes the catalog.
    pub fn change_catalog(&self, change: impl FnOnce(&mut Value)) {
        change(&mut self.lock().catalog);
    }

    /// Gives the next call of a kind a fault. Several are used one after the other.
    pub fn next(&self, call: Call, fault: Fault) {
        self.lock().once.entry(call).or_default().push_back(fault);
    }

    /// Gives all calls of a kind a fault.
    pub fn always(&self, call: Call, fault: Fault) {
        self.lock().always.insert(call, fault);
    }

    /// Removes the faults of a kind of calls.
    pub fn heal(&self, call: Call) {
        let mut shared = self.lock();
        shared.always.remove(&call);
        shared.once.remove(&call);
    }

    /// Works in the background from now on: what is requested ends after so many polls. With `None` it works at once.
    pub fn work_in_background(&self, polls: Option<u32>) {
        self.lock().kept.polls = polls;
    }

    /// Lets operations in the background fail from now on, with a description.
    pub fn fail_in_background(&self, description: Option<&str>) {
        self.lock().kept.failure = description.map(str::to_owned);
    }

    /// Sets the JSON text of the credentials of new bindings. It is sent as it is.
    pub fn set_credentials(&self, json: &str) {
        self.lock().kept.credentials = Some(json.to_owned());
    }

    /// Adds keys to the answers of new bindings, such as `syslog_drain_url`.
    pub fn add_to_bindings(&self, keys: Value) {
        self.lock().kept.more = keys;
    }

    /// Returns all requests, the oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    /// Returns the requests of a kind.
    pub fn calls(&self, call: Call) -> Vec<Request> {
        let shared = self.lock();
        let of_kind = shared.requests.iter().filter(|known| known.call == call);
        of_kind.cloned().collect()
    }

    pub fn forget_requests(&self) {
        self.lock().requests.clear();
    }

    /// Returns the guids of the instances that exist.
    pub fn instances(&self) -> Vec<String> {
        self.lock().kept.instances()
    }

    /// Returns the guids of the bindings of an instance.
    pub fn bindings_of(&self, instance: &str) -> Vec<String> {
        self.lock().kept.bindings_of(instance)
    }

    /// Returns the guids of the bindings that exist.
    pub fn bindings(&self) -> Vec<String> {
        self.lock().kept.bindings()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the kind of a call, and the guids of its instance and its binding.
fn parse(method: &str, path: &str) -> Option<(Call, String, String)> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (call, instance, binding) = match (method, parts.as_slice()) {
        ("GET", ["v2", "catalog"]) => (Call::Catalog, "", ""),
        (method, ["v2", "service_instances", instance]) => {
            let call = match method {
                "PUT" => Call::Provision,
                "PATCH" => Call::Update,
                "DELETE" => Call::Deprovision,
                "GET" => Call::FetchInstance,
                _ => return None,
            };
            (call, *instance, "")
        }
        ("GET", ["v2", "service_instances", instance, "last_operation"]) => {
            (Call::InstanceOperation, *instance, "")
        }
        (
            method,
            [
                "v2",
                "service_instances",
                instance,
                "service_bindings",
                binding,
            ],
        ) => {
            let call = match method {
                "PUT" => Call::Bind,
                "DELETE" => Call::Unbind,
                "GET" => Call::FetchBinding,
                _ => return None,
            };
            (call, *instance, *binding)
        }
        (
            "GET",
            [
                "v2",
                "service_instances",
                instance,
                "service_bindings",
                binding,
                "last_operation",
            ],
        ) => (Call::BindingOperation, *instance, *binding),
        _ => return None,
    };
    Some((call, instance.to_owned(), binding.to_owned()))
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), unescape(value)))
        .collect()
}

/// Replaces the escapes of a query by their bytes.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let escape = (byte == b'%').then(|| {
            let digits = [rest.next(), rest.next()];
            let digits: Vec<u8> = digits.into_iter().flatten().collect();
            let digits = std::str::from_utf8(&digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(escape.flatten().unwrap_or(byte));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the reason why a request is refused before anything else is looked at.
fn refusal(headers: &HeaderMap) -> Option<(u16, &'static str)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // The Base64 of `USER:PASSWORD`.
    let wanted = "Basic YnJva2VyLXVzZXI6YnIwa2VyLXBhc3N3MHJk";
    if text("authorization") != Some(wanted) {
        return Some((401, "wrong user or password"));
    }
    match text("x-broker-api-version") {
        Some(version) if version.starts_with("2.") => None,
        _ => Some((412, "a version 2 is required")),
    }
}

async fn serve(State(shared): State<Arc<Mutex<Shared>>>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let Some((call, instance, binding)) = parse(parts.method.as_str(), &path) else {
        return text(404, "{}");
    };
    let body = axum::body::to_bytes(body, 16 << 20).await;
    let body: Bytes = body.unwrap_or_default();
    let received = Request {
        call,
        path,
        query: parse_query(parts.uri.query().unwrap_or_default()),
        headers: parts.headers.clone(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let fault = {
        let mut shared = lock(&shared);
        shared.requests.push(received.clone());
        let next = shared.once.get_mut(&call).and_then(VecDeque::pop_front);
        next.or_else(|| shared.always.get(&call).cloned())
    };
    let act = || {
        if let Some((status, reason)) = refusal(&parts.headers) {
            return (status, json!({ "description": reason }).to_string());
        }
        let mut shared = lock(&shared);
        match call {
            Call::Catalog => (200, shared.catalog.to_string()),
            _ => shared.kept.act(&received, &instance, &binding),
        }
    };
    match fault {
        None => {
            let (status, body) = act();
            text(status, body)
        }
        Some(fault) => fault.answer(act).await,
    }
}

/// Returns an answer with a JSON body.
fn text(status: u16, body: impl Into<Body>) -> Response {
    let status = StatusCode::from_u16(status).expect("tests use statuses that exist");
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body.into())
        .expect("the headers are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_recognised() {
        let call = |method: &str, path: &str| parse(method, path).map(|(call, ..)| call);
        assert_eq!(call("GET", "/v2/catalog"), Some(Call::Catalog));
        let instance = "/v2/service_instances/i";
        assert_eq!(call("PUT", instance), Some(Call::Provision));
        assert_eq!(
            call("GET", &format!("{instance}/last_operation")),
            Some(Call::InstanceOperation)
        );
        let binding = format!("{instance}/service_bindings/b");
        let found = parse("PUT", &binding).unwrap();
        assert_eq!(found, (Call::Bind, "i".to_owned(), "b".to_owned()));
        assert_eq!(
            call("GET", &format!("{binding}/last_operation")),
            Some(Call::BindingOperation)
        );
        assert_eq!(call("POST", instance), None);
        assert_eq!(call("GET", "/"), None);
    }

    #[test]
    fn queries_are_read() {
        let query = parse_query("a=1&b=x%20y%26&c");
        assert_eq!(query["a"], "1");
        assert_eq!(query["b"], "x y&");
        assert_eq!(query["c"], "");
    }
}
