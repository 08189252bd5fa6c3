//! Writes gorouter's component log: a JSON object per line with `log_level`, `timestamp`, `message`, `source` and `data`.

use serde_json::{Map, Value, json};
use std::fmt::Debug;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The format of the time in a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampFormat {
    /// A number: the seconds since 1970 with a fraction.
    #[default]
    UnixEpoch,
    /// A text such as `2020-09-13T12:26:40.001002003Z`.
    Rfc3339,
}

impl TimestampFormat {
    fn value(self, at: SystemTime) -> Value {
        match self {
            Self::UnixEpoch => {
                let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default();
                json!(seconds.as_secs_f64())
            }
            Self::Rfc3339 => {
                let at = OffsetDateTime::from(at);
                let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
                let (hour, minute, second) = (at.hour(), at.minute(), at.second());
                let nanos = at.nanosecond();
                json!(format!(
                    "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z"
                ))
            }
        }
    }
}

/// A layer that writes every event to stdout.
#[derive(Debug)]
pub(super) struct Lines {
    timestamp: TimestampFormat,
}

impl Lines {
    pub(super) fn new(timestamp: TimestampFormat) -> Self {
        Self { timestamp }
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let timestamp = self.timestamp.value(SystemTime::now());
        let mut line = line(*metadata.level(), timestamp, metadata.target(), fields);
        line.push('\n');
        // If the reader closed the log, the line is lost.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }
}

/// Returns the line, with the keys in gorouter's order.
fn line(level: Level, timestamp: Value, target: &str, fields: Fields) -> String {
    let level = match level {
        Level::TRACE | Level::DEBUG => 0,
        Level::INFO => 1,
        Level::WARN => 2,
        Level::ERROR => 3,
    };
    format!(
        r#"{{"log_level":{level},"timestamp":{timestamp},"message":{},"source":{},"data":{}}}"#,
        json!(fields.message),
        json!(source(target)),
        Value::Object(fields.data)
    )
}

/// Returns the source of a line: `vcap.gorouter`, with the part of the router that logs.
fn source(target: &str) -> String {
    let mut path = target.split("::");
    match path.next() {
        Some("router") => {}
        Some("gorouter" | "cupola") => return "vcap.gorouter".into(),
        _ => return format!("vcap.gorouter.{}", target.replace("::", ".")),
    }
    match (path.next(), path.next()) {
        (Some("bus"), Some("message")) => "vcap.gorouter.subscriber".into(),
        (Some("route_fetcher"), _) => "vcap.gorouter.route-fetcher".into(),
        (Some("bus"), Some("presence")) => "vcap.gorouter.nats".into(),
        (Some("bus"), _) | (Some("observe"), Some("registrations")) => {
            "vcap.gorouter.registry".into()
        }
        (Some("path"), Some(part @ "tracing_headers"))
        | (Some("listen"), Some(part @ "front_tls")) => format!("vcap.gorouter.{part}"),
        // These modules log what happens to the router or to a request.
        (None | Some("life" | "path" | "backend"), _) => "vcap.gorouter".into(),
        (Some(part), _) => format!("vcap.gorouter.{part}"),
    }
}

#[derive(Debug, Default)]
struct Fields {
    message: String,
    data: Map<String, Value>,
}

impl Fields {
    fn set(&mut self, name: &str, value: Value) {
        if name == "message" {
            self.message = value.as_str().map_or(value.to_string(), str::to_owned);
            return;
        }
        // A name with a dot is `group.name`, a name in a group as in slog.
        let group = name.split_once('.').and_then(|(group, name)| {
            let group = self.data.entry(group).or_insert_with(|| json!({}));
            Some((group.as_object_mut()?, name))
        });
        match group {
            Some((group, name)) => group.insert(name.to_owned(), value),
            None => self.data.insert(name.to_owned(), value),
        };
    }

    /// Sets a value by its debug text. The debug text of a map looks like a JSON object, that of a list of texts like a JSON
    /// array, and they become that.
    fn set_debug(&mut self, name: &str, text: String) {
        let structured = text.starts_with(['{', '[']);
        let structured = structured.then(|| serde_json::from_str(&text));
        let value = structured.and_then(Result::ok);
        self.set(name, value.unwrap_or(Value::String(text)));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set_debug(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_line_as_gorouter_writes_it() {
        let at = UNIX_EPOCH + Duration::new(1_600_000_000, 1_002_003);
        let mut fields = Fields {
            message: "route-registered".into(),
            ..Fields::default()
        };
        fields.data.insert("uri".into(), json!("app.\"test"));
        assert_eq!(
            line(
                Level::INFO,
                TimestampFormat::Rfc3339.value(at),
                "router::bus",
                fields
            ),
            r#"{"log_level":1,"timestamp":"2020-09-13T12:26:40.001002003Z","message":"route-registered","source":"vcap.gorouter.registry","data":{"uri":"app.\"test"}}"#
        );
        let epoch = TimestampFormat::UnixEpoch.value(UNIX_EPOCH + Duration::from_millis(1_500));
        assert_eq!(epoch, json!(1.5));
    }

    #[test]
    fn fields_with_a_dot_are_in_a_group() {
        let mut fields = Fields::default();
        fields.set("num-endpoints", json!(2));
        fields.set("route-endpoint.Addr", json!("10.0.0.1:8080"));
        let tags = std::collections::BTreeMap::from([("component", "a\"b")]);
        fields.set_debug("route-endpoint.Tags", format!("{tags:?}"));
        fields.set_debug("error", "{not a map}".into());
        fields.set_debug("isolation_segments", format!("{:?}", ["is\"1", "is2"]));
        fields.set_debug("address", "[::1]:80".into());
        assert_eq!(
            Value::Object(fields.data),
            json!({
                "num-endpoints": 2, "error": "{not a map}", "address": "[::1]:80",
                "isolation_segments": ["is\"1", "is2"],
                "route-endpoint": {"Addr": "10.0.0.1:8080", "Tags": {"component": "a\"b"}},
            })
        );
    }

    #[test]
    fn sources_name_the_part_that_logs() {
        for (target, wanted) in [
            ("router::life::lifecycle", "vcap.gorouter"),
            ("router::life::workers", "vcap.gorouter"),
            ("router::bus", "vcap.gorouter.registry"),
            ("router::bus::apply", "vcap.gorouter.registry"),
            ("router::bus::presence", "vcap.gorouter.nats"),
            ("router::bus::message", "vcap.gorouter.subscriber"),
            ("router::observe::registrations", "vcap.gorouter.registry"),
            ("router::observe::access_log::file", "vcap.gorouter.observe"),
            ("router::path::forward::report", "vcap.gorouter"),
            ("router::path::route", "vcap.gorouter"),
            (
                "router::path::tracing_headers",
                "vcap.gorouter.tracing_headers",
            ),
            ("router::route_fetcher", "vcap.gorouter.route-fetcher"),
            ("router::listen", "vcap.gorouter.listen"),
            ("router::listen::http1", "vcap.gorouter.listen"),
            (
                "router::listen::front_tls::client",
                "vcap.gorouter.front_tls",
            ),
            ("gorouter::process", "vcap.gorouter"),
            ("cupola::command_line", "vcap.gorouter"),
            ("async_nats", "vcap.gorouter.async_nats"),
        ] {
            assert_eq!(source(target), wanted);
        }
    }
}
