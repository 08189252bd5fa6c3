//! Converts envelopes to messages of RFC 5424 in the form of the original's agents (`loggregator-agent-release`,
//! `src/pkg/egress/syslog/rfc5424.go`), so that receivers which know Cloud Foundry understand them. The functions are pure.
//!
//! ```text
//! <14>1 2026-11-30T08:00:00.123456+00:00 org.space.app GUID [APP/PROC/WEB/0] - [tags@47450 app_name="app" …] the line\n
//! <14>1 2026-11-30T08:00:00.123456+00:00 org.space.app GUID [0] - [gauge@47450 name="cpu" value="0.23" unit="percentage"][tags@47450 …] \n
//! ```
//!
//! The original drops an envelope with characters that a field cannot have. Here those characters are left out.

use time::OffsetDateTime;
use wire::cc::drain_hostname;
use wire::loggregator::{Envelope, GaugeValue, Log, LogType, Message};

/// The longest fields of the header, in bytes.
const LONGEST_HOST: usize = 255;
const LONGEST_APP: usize = 48;
const LONGEST_PROCESS: usize = 128;

/// The facility user with the severities informational and error.
const INFORMATIONAL: u8 = 14;
const ERROR: u8 = 11;

/// Returns the messages of an envelope: one for each metric of a gauge, and one for anything else. `host` is used if the tags name no app.
/// `has_tags`: whether the messages contain the tags.
pub(crate) fn messages(envelope: &Envelope, host: &str, has_tags: bool) -> Vec<Vec<u8>> {
    let Some(message) = &envelope.message else {
        return Vec::new();
    };
    let head = Head::of(envelope, host);
    let tags = if has_tags {
        let pairs = envelope.tags.iter();
        let pairs = pairs.filter(|(name, _)| is_name(name));
        element("tags", pairs.map(|(name, value)| (&**name, &**value)))
    } else {
        String::new()
    };
    let metric = |kind: &str, pairs: &[(&str, &str)]| {
        head.metric(&element(kind, pairs.iter().copied()), &tags)
    };
    match message {
        Message::Log(log) => vec![head.line(log, &tags)],
        Message::Counter(counter) => {
            let (total, delta) = (counter.total.to_string(), counter.delta.to_string());
            vec![metric(
                "counter",
                &[
                    ("name", &counter.name),
                    ("total", &total),
                    ("delta", &delta),
                ],
            )]
        }
        Message::Gauge(gauge) => {
            let one = |(name, gauge): (&String, &GaugeValue)| {
                let value = go_values::number::show(gauge.value);
                metric(
                    "gauge",
                    &[("name", name), ("value", &value), ("unit", &gauge.unit)],
                )
            };
            gauge.metrics.iter().map(one).collect()
        }
        Message::Timer(timer) => {
            let (start, stop) = (timer.start.to_string(), timer.stop.to_string());
            vec![metric(
                "timer",
                &[("name", &timer.name), ("start", &start), ("stop", &stop)],
            )]
        }
        Message::Event(event) => {
            vec![metric(
                "event",
                &[("title", &event.title), ("body", &event.body)],
            )]
        }
    }
}

/// Returns a message as it is sent over a connection: its length, and itself.
pub(crate) fn frame(message: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(message.len().to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(message);
}

/// The parts of the header that depend on the envelope.
struct Head<'a> {
    time: String,
    host: String,
    app: String,
    source_type: &'a str,
    instance: &'a str,
}

impl<'a> Head<'a> {
    fn of(envelope: &'a Envelope, host: &str) -> Self {
        let tag = |name: &str| envelope.tags.get(name).map(String::as_str);
        let names = ["organization_name", "space_name", "app_name"].map(tag);
        let host = if names.iter().any(Option::is_some) {
            let [organization, space, app] = names.map(Option::unwrap_or_default);
            drain_hostname(organization, space, app)
        } else {
            host.to_owned()
        };
        Self {
            time: time(envelope.timestamp),
            host: field(&host, LONGEST_HOST),
            app: field(&envelope.source_id, LONGEST_APP),
            source_type: tag("source_type").unwrap_or_default(),
            instance: &envelope.instance_id,
        }
    }

    /// Returns everything before the structured data.
    fn text(&self, priority: u8, process: &str) -> String {
        let (time, host, app) = (&self.time, &self.host, &self.app);
        let process = field(process, LONGEST_PROCESS);
        format!("<{priority}>1 {time} {host} {app} {process} - ")
    }

    fn line(&self, log: &Log, tags: &str) -> Vec<u8> {
        let priority = match log.kind == LogType::Err as i32 {
            true => ERROR,
            false => INFORMATIONAL,
        };
        let mut message = self.text(priority, &self.process()).into_bytes();
        let data = if tags.is_empty() { "-" } else { tags };
        message.extend_from_slice(data.as_bytes());
        message.push(b' ');
        message.extend(log.payload.iter().copied().filter(|byte| *byte != 0));
        if message.last() != Some(&b'\n') {
            message.push(b'\n');
        }
        message
    }

    fn metric(&self, metric: &str, tags: &str) -> Vec<u8> {
        let process = format!("[{}]", self.instance);
        let mut message = self.text(INFORMATIONAL, &process);
        message.extend([metric, tags, " \n"]);
        message.into_bytes()
    }

    /// Returns the source of a line, as in `[APP/PROC/WEB/0]`. The instance is shortened if both are too long.
    fn process(&self) -> String {
        let mut source = String::new();
        let mut is_after_space = false;
        for c in self.source_type.chars() {
            let is_space = c.is_ascii_whitespace();
            if is_space && !is_after_space {
                source.push('-');
            } else if c.is_ascii_graphic() {
                source.push(c.to_ascii_uppercase());
            }
            is_after_space = is_space;
        }
        source.truncate(source.trim_end_matches('-').len());
        if self.instance.is_empty() {
            return format!("[{source}]");
        }
        let room = LONGEST_PROCESS.saturating_sub(source.len() + "[/]".len());
        let instance = self.instance.chars().filter(char::is_ascii_graphic);
        let instance: String = instance.take(room).collect();
        format!("[{source}/{instance}]")
    }
}

/// Returns the text of a field of the header: its visible characters of ASCII, or `-` if there are none.
fn field(text: &str, longest: usize) -> String {
    let visible = text.chars().filter(char::is_ascii_graphic);
    let field: String = visible.take(longest).collect();
    if field.is_empty() {
        return "-".to_owned();
    }
    field
}

/// Returns the time in microseconds without the zeros at its end.
fn time(nanoseconds: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds.into());
    let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second, micro) = at.to_hms_micro();
    let fraction = format!(".{micro:06}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}+00:00")
}

/// Returns whether a tag can be a parameter's name.
fn is_name(name: &str) -> bool {
    let is_right = |c: char| c.is_ascii_graphic() && !"=]\"".contains(c);
    !name.is_empty() && name.chars().all(is_right)
}

/// Returns an element of the structured data, with the number of the Cloud Foundry Foundation. Without parameters there is none.
fn element<'a>(kind: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut element = String::new();
    for (name, value) in pairs {
        element.push(' ');
        element.push_str(name);
        element.push_str("=\"");
        for c in value.chars() {
            if "\\\"]".contains(c) {
                element.push('\\');
            }
            element.push(c);
        }
        element.push('"');
    }
    if element.is_empty() {
        return element;
    }
    format!("[{kind}@47450{element}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::loggregator::{Counter, Event, Gauge, Timer};

    fn envelope(instance: &str, tags: &[(&str, &str)], message: Message) -> Envelope {
        let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Envelope {
            timestamp: 12_345_678,
            source_id: "guid".to_owned(),
            instance_id: instance.to_owned(),
            tags: tags.collect(),
            message: Some(message),
        }
    }

    fn line(payload: &[u8], kind: LogType) -> Message {
        Message::Log(Log {
            payload: payload.to_vec(),
            kind: kind as i32,
        })
    }

    fn texts(envelope: &Envelope, has_tags: bool) -> Vec<String> {
        let messages = messages(envelope, "o.s.a", has_tags).into_iter();
        let text = |message| String::from_utf8(message).unwrap();
        messages.map(text).collect()
    }

    #[test]
    fn a_line_has_its_source_its_tags_and_one_line_end() {
        let tags = [("source_type", "app/proc/web"), ("a", "1")];
        let out = envelope("2", &tags, line(b"te\0xt", LogType::Out));
        assert_eq!(
            texts(&out, true),
            [
                "<14>1 1970-01-01T00:00:00.012345+00:00 o.s.a guid [APP/PROC/WEB/2] - [tags@47450 a=\"1\" source_type=\"app/proc/web\"] text\n"
            ]
        );
        let err = envelope("2", &tags, line(b"text\n", LogType::Err));
        assert_eq!(
            texts(&err, false),
            ["<11>1 1970-01-01T00:00:00.012345+00:00 o.s.a guid [APP/PROC/WEB/2] - - text\n"]
        );
        let bare = envelope("", &[], line(b"", LogType::Out));
        assert_eq!(
            texts(&bare, true),
            ["<14>1 1970-01-01T00:00:00.012345+00:00 o.s.a guid [] - - \n"]
        );
    }

    #[test]
    fn every_metric_is_a_message() {
        let gauge = |value: f64, unit: &str| GaugeValue {
            unit: unit.to_owned(),
            value,
        };
        let metrics = [
            ("cpu".to_owned(), gauge(0.23, "percentage")),
            ("memory".to_owned(), gauge(33_554_432.0, "bytes")),
        ];
        let metrics = Message::Gauge(Gauge {
            metrics: metrics.into(),
        });
        let head = "<14>1 1970-01-01T00:00:00.012345+00:00 o.s.a guid [1] - ";
        assert_eq!(
            texts(&envelope("1", &[("a", "b")], metrics), true),
            [
                format!(
                    "{head}[gauge@47450 name=\"cpu\" value=\"0.23\" unit=\"percentage\"][tags@47450 a=\"b\"] \n"
                ),
                format!(
                    "{head}[gauge@47450 name=\"memory\" value=\"3.3554432e+07\" unit=\"bytes\"][tags@47450 a=\"b\"] \n"
                ),
            ]
        );
        let name = || "n".to_owned();
        for (message, data) in [
            (
                Message::Counter(Counter {
                    name: name(),
                    delta: 1,
                    total: 99,
                }),
                "[counter@47450 name=\"n\" total=\"99\" delta=\"1\"]",
            ),
            (
                Message::Timer(Timer {
                    name: name(),
                    start: 10,
                    stop: 20,
                }),
                "[timer@47450 name=\"n\" start=\"10\" stop=\"20\"]",
            ),
            (
                Message::Event(Event {
                    title: name(),
                    body: "b".to_owned(),
                }),
                "[event@47450 title=\"n\" body=\"b\"]",
            ),
        ] {
            let messages = texts(&envelope("1", &[], message), true);
            assert_eq!(messages, [format!("{head}{data} \n")]);
        }
    }

    #[test]
    fn the_names_of_the_app_are_the_host() {
        let tags = [("organization_name", "my org"), ("app_name", "a_b-")];
        let message = texts(&envelope("0", &tags, line(b"x", LogType::Out)), false);
        assert!(message[0].contains(" my-org..ab guid "), "{message:?}");
    }

    #[test]
    fn fields_have_their_length_and_only_visible_characters() {
        let long = "x".repeat(300);
        let mut wide = envelope(
            &long,
            &[("source_type", "MY TASK")],
            line(b"x", LogType::Out),
        );
        wide.source_id = long.clone();
        let message = &messages(&wide, &long, false)[0];
        let message = String::from_utf8_lossy(message);
        let fields: Vec<&str> = message.split(' ').collect();
        assert_eq!(fields[2].len(), 255);
        assert_eq!(fields[3].len(), 48);
        assert_eq!(fields[4], format!("[MY-TASK/{}]", "x".repeat(118)));

        let tags = [("source_type", "TASK/こ \t")];
        let mut odd = envelope("2 ", &tags, line(b"x", LogType::Out));
        odd.source_id = " ä".to_owned();
        let text = &texts(&odd, false)[0];
        assert!(text.contains(" o.s.a - [TASK//2] - - x\n"), "{text}");
    }

    #[test]
    fn tags_are_escaped_and_wrong_names_left_out() {
        let tags = [("a", r#"]"\ ä"#), ("b c", "1"), ("d=", "1"), ("", "1")];
        let text = &texts(&envelope("0", &tags, line(b"x", LogType::Out)), true)[0];
        assert!(text.contains(r#"- [tags@47450 a="\]\"\\ ä"] x"#), "{text}");
    }

    #[test]
    fn times_have_microseconds_without_zeros_at_the_end() {
        for (nanoseconds, text) in [
            (0, "1970-01-01T00:00:00+00:00"),
            (500_000_000, "1970-01-01T00:00:00.5+00:00"),
            (
                1_600_000_000_000_001_999,
                "2020-09-13T12:26:40.000001+00:00",
            ),
            (i64::MAX, "2262-04-11T23:47:16.854775+00:00"),
        ] {
            assert_eq!(time(nanoseconds), text);
        }
    }

    #[test]
    fn a_frame_begins_with_the_length() {
        let mut out = b"before".to_vec();
        frame(b"message\n", &mut out);
        assert_eq!(out, b"before8 message\n");
    }
}
