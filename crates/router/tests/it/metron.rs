//! Tests of the envelopes to the machine's metron agent, read from the datagrams by the field numbers alone.

use crate::backends::Backend;
use crate::client::request;
use crate::world::{PATIENCE, World, plain, unused_address, wait_for};
use router::{LogFormat, Metron, Settings};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::UdpSocket;

/// A protobuf message: its fields in their order.
#[derive(Clone, Debug)]
struct Message(Vec<(u64, Value)>);

#[derive(Clone, Debug)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
        shift += 7;
    }
}

impl Message {
    fn read(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Value::Number(varint(&mut bytes)),
                1 => {
                    let (number, rest) = bytes.split_at(8);
                    bytes = rest;
                    Value::Number(u64::from_le_bytes(number.try_into().unwrap()))
                }
                2 => {
                    let length = varint(&mut bytes) as usize;
                    let (part, rest) = bytes.split_at(length);
                    bytes = rest;
                    Value::Bytes(part.to_vec())
                }
                wire => panic!("wire type {wire}"),
            };
            fields.push((key >> 3, value));
        }
        Self(fields)
    }

    fn all(&self, field: u64) -> impl Iterator<Item = &Value> {
        let of = self.0.iter().filter(move |(number, _)| *number == field);
        of.map(|(_, value)| value)
    }

    fn number(&self, field: u64) -> Option<u64> {
        match self.all(field).next()? {
            Value::Number(number) => Some(*number),
            Value::Bytes(_) => panic!("field {field} is no number in {self:?}"),
        }
    }

    fn texts(&self, field: u64) -> Vec<String> {
        let text = |value: &Value| match value {
            Value::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            Value::Number(_) => panic!("field {field} is no text in {self:?}"),
        };
        self.all(field).map(text).collect()
    }

    fn text(&self, field: u64) -> String {
        self.texts(field).into_iter().next().unwrap_or_default()
    }

    fn message(&self, field: u64) -> Option<Self> {
        match self.all(field).next()? {
            Value::Bytes(bytes) => Some(Self::read(bytes)),
            Value::Number(_) => panic!("field {field} is no message in {self:?}"),
        }
    }

    /// Returns the tags of an envelope.
    fn tags(&self) -> BTreeMap<String, String> {
        let pairs = self.all(17).map(|tag| match tag {
            Value::Bytes(bytes) => Self::read(bytes),
            Value::Number(_) => panic!("a tag is no number"),
        });
        pairs.map(|pair| (pair.text(1), pair.text(2))).collect()
    }

    /// Returns the text of an id.
    fn uuid(&self) -> String {
        let halves = [1, 2].map(|field| self.number(field).unwrap().to_le_bytes());
        let bytes: [u8; 16] = halves.concat().try_into().unwrap();
        uuid::Uuid::from_bytes(bytes).to_string()
    }
}

/// A metron agent, which keeps envelopes by their type.
struct Agent {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Message>>>,
}

const HTTP: u64 = 4;
const LOG: u64 = 5;
const VALUE: u64 = 6;
const COUNTER: u64 = 7;

impl Agent {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<Message>>>::default();
        let to = received.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length) = socket.recv(&mut buffer).await {
                let envelope = Message::read(&buffer[..length]);
                assert_eq!(envelope.text(1), "gorouter");
                to.lock().unwrap().push(envelope);
            }
        });
        Self { address, received }
    }

    /// Returns the contents of all envelopes of a type, and their tags.
    fn of(&self, kind: u64) -> Vec<(Message, BTreeMap<String, String>)> {
        let received = self.received.lock().unwrap();
        let of = received.iter().filter(|e| e.number(2) == Some(kind));
        // Types and the fields of their contents have the same order.
        of.map(|e| (e.message(kind + 3).unwrap(), e.tags()))
            .collect()
    }

    async fn wait_for(&self, kind: u64, count: usize) -> Vec<(Message, BTreeMap<String, String>)> {
        let what = format!("{count} envelopes of type {kind}");
        wait_for(&what, async || self.of(kind).len() >= count).await;
        self.of(kind)
    }

    fn everything(&self) -> Metron {
        Metron {
            address: self.address.to_string(),
            logs: true,
            server_events: true,
            client_events: true,
            metrics: true,
        }
    }
}

const APP: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_reported_by_both_sides_and_as_a_line() {
    let agent = Agent::start().await;
    let world = World::with(Settings {
        index: 4,
        metron: agent.everything(),
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    let mut message = plain("app.test", APP, 3, backend.addr);
    message["tags"]["source_id"] = APP.into();
    world.publish("router.register", message).await;
    wait_for("the route", async || world.handle.serves("app.test")).await;
    let began = nanoseconds();
    world.get("nobody.test", "/").await;
    let headers = [
        ("user-agent", "agent"),
        ("x-forwarded-for", "1.2.3.4, 5.6.7.8"),
    ];
    let reply = request(
        world.addr,
        "POST",
        "app.test:80",
        "/a%20b?c",
        &headers,
        "body",
    )
    .await;
    let id = reply.header("x-vcap-request-id").to_owned();

    let logs = agent.wait_for(LOG, 1).await;
    let lines = world.log_lines(2).await;
    let (log, tags) = &logs[0];
    // There are two workers, so either line may be first in the file.
    let line = lines.iter().find(|line| line.starts_with("app.test"));
    assert_eq!(Some(&log.text(1)), line, "the line of the app alone");
    assert_eq!(log.number(2), Some(1));
    assert!(log.number(3).unwrap() > began);
    let texts = [4, 5, 6].map(|field| log.text(field));
    assert_eq!(texts, [APP, "RTR", "4"]);
    assert_eq!(tags["source_id"], APP);

    let events = agent.wait_for(HTTP, 3).await;
    let of = |peer: u64, status: u64| {
        let found = events
            .iter()
            .find(|(event, _)| (event.number(4), event.number(9)) == (Some(peer), Some(status)));
        found.unwrap_or_else(|| panic!("{peer} {status} in {events:?}"))
    };
    let (server, tags) = of(2, 200);
    let (client, client_tags) = of(1, 200);
    for event in [server, client] {
        assert_eq!(event.message(3).unwrap().uuid(), id);
        assert_eq!(event.number(5), Some(2), "POST");
        assert_eq!(event.text(6), "http://app.test:80/a b");
        assert!(event.text(7).starts_with("127.0.0.1:"));
        assert_eq!(event.text(8), "agent");
        let (start, stop) = (event.number(1).unwrap(), event.number(2).unwrap());
        assert!(began < start && start < stop && stop <= nanoseconds());
    }
    assert!(server.number(1) <= client.number(1) && client.number(2) <= server.number(2));
    assert_eq!(server.number(10), Some(reply.body.len() as u64));
    assert_eq!(server.texts(15), ["1.2.3.4", "5.6.7.8"]);
    assert_eq!(client.texts(15), ["1.2.3.4", "5.6.7.8", "127.0.0.1"]);
    assert_eq!(client.message(12).unwrap().uuid(), APP);
    assert_eq!(client.number(13), Some(3));
    assert_eq!(client.text(14), format!("{APP}-instance-3"));
    assert!(client_tags.is_empty());
    assert_eq!(tags["component"], "route-emitter");
    assert_eq!(tags["trace_id"], id.replace('-', ""));
    assert_eq!(tags["span_id"].len(), 16);
    let (unknown, tags) = of(2, 404);
    assert_eq!(unknown.text(6), "http://nobody.test/");
    assert!(!tags.contains_key("component"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_is_reported() {
    let agent = Agent::start().await;
    let world = World::with(Settings {
        metron: Metron {
            address: agent.address.to_string(),
            client_events: true,
            ..Metron::default()
        },
        ..Settings::default()
    })
    .await;
    let addr = unused_address();
    world.register("app.test", APP, 0, addr).await;
    assert_eq!(world.get("app.test", "/").await.status, 502);
    let (event, _) = &agent.wait_for(HTTP, 1).await[0];
    assert_eq!((event.number(4), event.number(9)), (Some(1), Some(0)));
    assert_eq!(event.message(12).unwrap().uuid(), APP);
    assert!(agent.of(LOG).is_empty() && agent.of(VALUE).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_too_long_for_a_datagram_is_shortened() {
    let agent = Agent::start().await;
    let world = World::with(Settings {
        metron: agent.everything(),
        log_format: LogFormat {
            json: true,
            ..LogFormat::default()
        },
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", APP, 0, backend.addr).await;
    let path = format!("/{}", "x".repeat(64_900));
    world.get("app.test", &path).await;
    let (log, _) = &agent.wait_for(LOG, 1).await[0];
    let line = log.text(1);
    assert!(
        line.contains("xxx...REQUEST-URI-TOO-LONG-TO-LOG--TRUNCATED HTTP/1.1\" 200 "),
        "{line}"
    );
    assert!(line.ends_with("x_cf_routererror:\"-\""), "{line}");
    assert!(
        world.log_lines(1).await[0].contains(&path),
        "the file has all"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_sent_as_they_change() {
    let agent = Agent::start().await;
    let world = World::with(Settings {
        metron: agent.everything(),
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", APP, 0, backend.addr).await;
    for _ in 0..3 {
        world.get("app.test", "/").await;
    }
    world.get("nobody.test", "/").await;
    let counts = || {
        let mut counts = BTreeMap::<String, u64>::new();
        for (counter, _) in agent.of(COUNTER) {
            *counts.entry(counter.text(1)).or_default() += counter.number(2).unwrap();
        }
        counts
    };
    wait_for("the first counters", async || !counts().is_empty()).await;
    world.shutdown.cancel();
    wait_for("the router to end", async || world.running.is_finished()).await;
    wait_for("the last counters", async || {
        let counters = agent.of(COUNTER).into_iter();
        counters
            .filter(|(c, _)| c.text(1) == "total_requests")
            .count()
            >= 2
            && counts().get("rejected_requests") == Some(&1)
            && counts().get("routes_registered") == Some(&1)
    })
    .await;
    let counts = counts();
    for (name, wanted) in [
        ("total_requests", 3),
        ("requests.route-emitter", 3),
        ("responses", 3),
        ("responses.2xx", 3),
        ("responses.5xx", 0),
        ("rejected_requests", 1),
        ("bad_gateways", 0),
        ("registry_message.route-emitter", 1),
        ("routes_registered", 1),
    ] {
        assert_eq!(counts.get(name), Some(&wanted), "{name} in {counts:?}");
    }
    assert!(!counts.contains_key("unregistry_message.route-emitter"));
    let values = agent.of(VALUE);
    let of = |name: &str| {
        let of = values.iter().filter(|(value, _)| value.text(1) == name);
        let of = of.map(|(value, _)| (f64::from_bits(value.number(2).unwrap()), value.text(3)));
        of.collect::<Vec<_>>()
    };
    for (name, unit, times) in [
        ("latency", "ms", 3),
        ("latency.route-emitter", "ms", 3),
        ("gorouter_time", "ms", 3),
        ("route_lookup_time", "ns", 4),
    ] {
        let sent = of(name);
        assert_eq!(sent.len(), times, "{name}");
        let plausible = |(value, of): &(f64, String)| *value > 0.0 && *value < 1e9 && of == unit;
        assert!(sent.iter().all(plausible), "{name}: {sent:?}");
    }
    assert_eq!(of("total_routes")[0], (1.0, String::new()));
    assert!(of("file_descriptors")[0].0 > 5.0);
    assert!(of("uptime")[0].0 >= 4.0 && of("uptime")[0].0 < PATIENCE.as_secs_f64());
}

/// No agent listens, and no request waits for one.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_not_there_costs_nothing() {
    let agent = Agent::start().await;
    let mut metron = agent.everything();
    metron.address = "nobody.invalid:3457".into();
    let world = World::with(Settings {
        metron,
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", APP, 0, backend.addr).await;
    assert_eq!(world.get("app.test", "/").await.status, 200);
    wait_for("the loss to be counted", async || {
        let text = world.handle.metrics_text();
        let dropped = text
            .lines()
            .find_map(|line| line.strip_prefix("envelopes_dropped "));
        dropped.unwrap().parse::<u64>().unwrap() > 0
    })
    .await;
}

fn nanoseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_nanos() as u64
}
