//! Receives dropsonde envelopes over UDP, as a metron agent does, from components of Cloud Foundry such as gorouter. A gorouter's
//! envelopes about requests so get into the logs of the apps. UDP does not authenticate senders, so the operator opens this port
//! on loopback or not at all.

use crate::intake::{self, Intake};
use anyhow::{Context as _, Result};
use kit::{CancellationToken, datagrams};
use prost::Message as _;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use wire::dropsonde::{self, Event, EventType, MessageType, PeerType};
use wire::loggregator::{Counter, Envelope, Gauge, GaugeValue, Log, LogType, Message, Timer};

/// Receives until `shutdown`. Data that is no envelope is dropped.
pub(crate) async fn serve(
    socket: UdpSocket,
    intake: Intake,
    shutdown: CancellationToken,
) -> Result<()> {
    datagrams::keep_together(&socket);
    let mut buffer = vec![0; datagrams::LARGEST];
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            ready = socket.readable() => ready.context("wait for envelopes over UDP")?,
        }
        let into = buffer.as_mut_slice();
        let received = socket.try_io(Interest::READABLE, || datagrams::receive(&socket, into));
        let received = match received {
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            received => received.context("receive envelopes over UDP")?,
        };
        let now = intake::now();
        let envelopes: Vec<_> = received
            .filter_map(|datagram| read(datagram, now))
            .collect();
        if !envelopes.is_empty() {
            intake.accept(envelopes);
        }
    }
}

/// Reads one datagram. Returns `None` if it is no envelope that can be converted.
fn read(datagram: &[u8], now: i64) -> Option<Envelope> {
    dropsonde::Envelope::decode(datagram)
        .inspect_err(|error| tracing::debug!(%error, "dropsonde-envelope-refused"))
        .ok()
        .and_then(|envelope| convert(envelope, now))
}

/// Converts an envelope to the newer format, with the tags that a metron agent adds. `now`, in Unix nanoseconds, is used if the
/// envelope has no time. Returns `None` if the envelope has no content or no known kind.
fn convert(old: dropsonde::Envelope, now: i64) -> Option<Envelope> {
    let kind = EventType::try_from(old.event_type).ok()?;
    let mut tags = old.tags;
    let mut tag = |name: &str, value: String| {
        if !value.is_empty() {
            tags.insert(name.to_owned(), value);
        }
    };
    tag("deployment", old.deployment.unwrap_or_default());
    tag("job", old.job.unwrap_or_default());
    tag("index", old.index.unwrap_or_default());
    tag("ip", old.ip.unwrap_or_default());
    tag("origin", old.origin.clone());
    tag("__v1_type", format!("{kind:?}"));
    let Content {
        source,
        instance,
        message,
    } = content(old.event?, &mut tag)?;
    let source = source.or_else(|| tags.remove("source_id"));
    let instance = instance.or_else(|| tags.remove("instance_id"));
    Some(Envelope {
        timestamp: old.timestamp.filter(|at| *at > 0).unwrap_or(now),
        source_id: source.filter(|id| !id.is_empty()).unwrap_or(old.origin),
        instance_id: instance.unwrap_or_default(),
        tags,
        message: Some(message),
    })
}

/// The content of an event, and its source.
struct Content {
    source: Option<String>,
    instance: Option<String>,
    message: Message,
}

fn content(event: Event, tag: &mut impl FnMut(&str, String)) -> Option<Content> {
    let of_origin = |message| {
        Some(Content {
            source: None,
            instance: None,
            message,
        })
    };
    match event {
        Event::LogMessage(log) => {
            tag("source_type", log.source_type.unwrap_or_default());
            let kind = match MessageType::try_from(log.message_type) {
                Ok(MessageType::Err) => LogType::Err,
                _ => LogType::Out,
            };
            Some(Content {
                source: log.app_id,
                instance: log.source_instance,
                message: Message::Log(Log {
                    payload: log.message,
                    kind: kind as i32,
                }),
            })
        }
        Event::HttpStartStop(http) => Some(timer(http, tag)),
        Event::ValueMetric(value) => of_origin(gauge([(value.name, value.unit, value.value)])),
        Event::CounterEvent(counter) => of_origin(Message::Counter(Counter {
            name: counter.name,
            delta: counter.delta,
            total: counter.total.unwrap_or_default(),
        })),
        Event::ContainerMetric(container) => Some(Content {
            source: Some(container.application_id),
            instance: Some(container.instance_index.to_string()),
            message: gauge(
                [
                    ("cpu", "percentage", container.cpu_percentage),
                    ("memory", "bytes", container.memory_bytes as f64),
                    ("disk", "bytes", container.disk_bytes as f64),
                ]
                .map(|(name, unit, value)| (name.to_owned(), unit.to_owned(), value)),
            ),
        }),
        Event::Error(_) => None,
    }
}

fn gauge<const N: usize>(metrics: [(String, String, f64); N]) -> Message {
    let metrics = metrics.map(|(name, unit, value)| (name, GaugeValue { unit, value }));
    Message::Gauge(Gauge {
        metrics: BTreeMap::from(metrics),
    })
}

fn timer(http: dropsonde::HttpStartStop, tag: &mut impl FnMut(&str, String)) -> Content {
    let peer = match PeerType::try_from(http.peer_type) {
        Ok(PeerType::Client) => "Client",
        Ok(PeerType::Server) => "Server",
        Err(_) => "",
    };
    tag("request_id", uuid(http.request_id));
    tag("peer_type", peer.into());
    tag("method", dropsonde::method_name(http.method).into());
    tag("uri", http.uri);
    tag("remote_address", http.remote_address);
    tag("user_agent", http.user_agent);
    tag("status_code", http.status_code.to_string());
    tag("content_length", http.content_length.to_string());
    tag("forwarded", http.forwarded.join("\n"));
    tag("routing_instance_id", http.instance_id.unwrap_or_default());
    Content {
        source: http.application_id.map(uuid),
        instance: http.instance_index.map(|index| index.to_string()),
        message: Message::Timer(Timer {
            name: "http".into(),
            start: http.start_timestamp,
            stop: http.stop_timestamp,
        }),
    }
}

/// Formats a UUID, e.g. `f47ac10b-58cc-4372-a567-0e02b2c3d479`.
fn uuid(id: dropsonde::Uuid) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in id.to_bytes().into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(event: Event, tags: &[(&str, &str)]) -> Envelope {
        let mut old = dropsonde::Envelope::new("gorouter", 7, event);
        let pairs = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        old.tags = pairs.collect();
        convert(old, 9).unwrap()
    }

    #[test]
    fn a_line_of_an_app_is_converted() {
        let log = dropsonde::LogMessage {
            message: b"line".to_vec(),
            message_type: 1,
            timestamp: 5,
            app_id: Some("app".into()),
            source_type: Some("RTR".into()),
            source_instance: Some("3".into()),
        };
        let new = envelope(Event::LogMessage(log), &[("process_id", "p")]);
        assert_eq!((new.timestamp, new.source_id.as_str()), (7, "app"));
        assert_eq!(new.instance_id, "3");
        for (tag, wanted) in [
            ("source_type", "RTR"),
            ("origin", "gorouter"),
            ("process_id", "p"),
            ("__v1_type", "LogMessage"),
        ] {
            assert_eq!(new.tags[tag], wanted);
        }
        let payload = b"line".to_vec();
        assert_eq!(new.message, Some(Message::Log(Log { payload, kind: 0 })));
    }

    #[test]
    fn a_request() {
        let id = dropsonde::Uuid::from_bytes([0xab; 16]);
        let http = dropsonde::HttpStartStop {
            start_timestamp: 1,
            stop_timestamp: 2,
            request_id: id,
            peer_type: 2,
            method: 1,
            uri: "http://app.test/".into(),
            status_code: 404,
            ..dropsonde::HttpStartStop::default()
        };
        let new = envelope(Event::HttpStartStop(http.clone()), &[("source_id", "app")]);
        assert_eq!(new.source_id, "app");
        assert!(!new.tags.contains_key("source_id"));
        for (tag, wanted) in [
            ("request_id", "abababab-abab-abab-abab-abababababab"),
            ("peer_type", "Server"),
            ("method", "GET"),
            ("status_code", "404"),
        ] {
            assert_eq!(new.tags[tag], wanted);
        }
        let timer = Timer {
            name: "http".into(),
            start: 1,
            stop: 2,
        };
        assert_eq!(new.message, Some(Message::Timer(timer)));
        let client = dropsonde::HttpStartStop {
            application_id: Some(id),
            instance_index: Some(2),
            ..http
        };
        let new = envelope(Event::HttpStartStop(client), &[]);
        assert_eq!(new.source_id, "abababab-abab-abab-abab-abababababab");
        assert_eq!(new.instance_id, "2");
    }

    #[test]
    fn an_event_without_a_source_belongs_to_its_origin() {
        let counter = dropsonde::CounterEvent {
            name: "n".into(),
            delta: 2,
            total: None,
        };
        let new = envelope(Event::CounterEvent(counter), &[]);
        assert_eq!(new.source_id, "gorouter");
        assert!(matches!(new.message, Some(Message::Counter(c)) if c.delta == 2));
        let error = Event::Error(dropsonde::Error::default());
        assert_eq!(convert(dropsonde::Envelope::new("x", 1, error), 9), None);
    }
}
