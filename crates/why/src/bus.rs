//! Writes messages of the bus as a person reads them: one line for each, with the route first.

use crate::changes::time_of_day;
use serde_json::{Value, json};
use std::fmt;
use wire::router::{RegistryMessage, StartMessage, StartingMessage, subject};

/// The longest text of a message of an unknown kind, in characters.
const LONGEST: usize = 300;

/// A message that was received on the bus.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The time of its arrival, RFC 3339 in UTC.
    pub time: &'a str,
    pub subject: &'a str,
    /// The subject on which its sender expects an answer.
    pub reply: Option<&'a str>,
    pub payload: &'a [u8],
}

impl Received<'_> {
    /// Returns the message as JSON. A payload that is JSON is a value, any other is text.
    pub fn to_json(&self) -> Value {
        let text = || Value::String(String::from_utf8_lossy(self.payload).into_owned());
        let message = serde_json::from_slice(self.payload).unwrap_or_else(|_| text());
        let mut row = json!({"time": self.time, "subject": self.subject, "message": message});
        if let Some(reply) = self.reply {
            row["reply"] = reply.into();
        }
        row
    }

    /// Returns the fault of a subject to which nobody can subscribe.
    pub fn fault_of_subject(subject: &str) -> Option<&'static str> {
        let tokens: Vec<&str> = subject.split('.').collect();
        let (_, but_last) = tokens.split_last()?;
        if tokens.iter().any(|token| token.is_empty()) {
            Some("a part between two dots is empty")
        } else if subject.contains(|c: char| c.is_whitespace() || c.is_control()) {
            Some("it contains a space")
        } else if but_last.contains(&">") {
            Some("> stands for all that follows, so it must be the last part")
        } else {
            None
        }
    }
}

impl fmt::Display for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {:<18} ", time_of_day(self.time), self.subject)?;
        match self.subject {
            subject::REGISTER
            | subject::UNREGISTER
            | subject::CONTAINER_REGISTER
            | subject::CONTAINER_UNREGISTER => match serde_json::from_slice(self.payload) {
                Ok(message) => registration(f, &message)?,
                Err(_) => self.text(f)?,
            },
            subject::STARTING => match serde_json::from_slice::<StartingMessage>(self.payload) {
                Ok(message) => write!(f, "{}", message.uris.join(", "))?,
                Err(_) => self.text(f)?,
            },
            subject::START => match serde_json::from_slice::<StartMessage>(self.payload) {
                Ok(message) => start(f, &message)?,
                Err(_) => self.text(f)?,
            },
            _ => self.text(f)?,
        }
        match self.reply {
            Some(reply) => write!(f, "  (answer to {reply})"),
            None => Ok(()),
        }
    }
}

impl Received<'_> {
    /// Writes the payload as text on one line.
    fn text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.payload);
        for c in text.chars().take(LONGEST) {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        if text.chars().count() > LONGEST {
            write!(f, " … ({} bytes; --json shows all)", self.payload.len())?;
        }
        Ok(())
    }
}

fn registration(f: &mut fmt::Formatter<'_>, message: &RegistryMessage) -> fmt::Result {
    let (port, transport) = match message.tls_port.filter(|port| *port != 0) {
        Some(port) => (port, "TLS"),
        None => (message.port, "plain"),
    };
    let (uris, host) = (message.uris.join(", "), &message.host);
    write!(f, "{uris} → {host}:{port} {transport}")?;
    let optional = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    for (name, value) in [
        ("instance", &message.private_instance_id),
        ("index", &message.private_instance_index),
        ("of app", &message.app),
        ("by route service", &message.route_service_url),
        ("in isolation segment", &message.isolation_segment),
    ] {
        if let Some(value) = optional(value) {
            write!(f, "  {name} {value}")?;
        }
    }
    let name = optional(&message.server_cert_domain_san);
    if let Some(name) = name.filter(|name| Some(name) != message.private_instance_id.as_ref()) {
        write!(f, "  certificate {name}")?;
    }
    let tags = message.tags.as_ref();
    match tags.and_then(|tags| tags.get("component")) {
        Some(component) => write!(f, "  from {component}"),
        None => Ok(()),
    }
}

fn start(f: &mut fmt::Formatter<'_>, message: &StartMessage) -> fmt::Result {
    write!(
        f,
        "router {} at {} asks for all routes, then every {} s; it prunes after {} s",
        message.id,
        message.hosts.join(", "),
        message.minimum_register_interval_in_seconds,
        message.prune_threshold_in_seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received<'a>(subject: &'a str, payload: &'a str) -> Received<'a> {
        Received {
            time: "2026-11-30T10:04:31.25Z",
            subject,
            reply: None,
            payload: payload.as_bytes(),
        }
    }

    #[test]
    fn each_message_is_a_line() {
        let register = r#"{"host":"10.0.0.1","port":0,"tls_port":61001,"uris":["a.test","b.test"],
            "app":"guid","private_instance_id":"i","private_instance_index":"2","server_cert_domain_san":"i",
            "tags":{"component":"route-emitter"}}"#;
        let plain =
            r#"{"host":"10.0.0.1","port":80,"uris":["a.test"],"server_cert_domain_san":"name"}"#;
        let start = r#"{"id":"0-x","hosts":["10.0.0.6"],"minimumRegisterIntervalInSeconds":20,"pruneThresholdInSeconds":120}"#;
        for (subject, payload, line) in [
            (
                "router.register",
                register,
                "router.register    a.test, b.test → 10.0.0.1:61001 TLS  instance i  index 2  of app guid  from route-emitter",
            ),
            (
                "router.unregister",
                plain,
                "router.unregister  a.test → 10.0.0.1:80 plain  certificate name",
            ),
            (
                "router.starting",
                r#"{"uris":["a.test"]}"#,
                "router.starting    a.test",
            ),
            (
                "router.start",
                start,
                "router.start       router 0-x at 10.0.0.6 asks for all routes, then every 20 s; it prunes after 120 s",
            ),
            ("router.register", "{no\n", "router.register    {no\\n"),
            ("other", r#"{"a":1}"#, r#"other              {"a":1}"#),
        ] {
            let message = received(subject, payload);
            assert_eq!(message.to_string(), format!("10:04:31.250  {line}"));
        }
    }

    #[test]
    fn long_texts_are_cut_and_answers_are_asked_for_somewhere() {
        let long = "x".repeat(400);
        let message = Received {
            reply: Some("_INBOX.1"),
            ..received("other", &long)
        };
        let line = message.to_string();
        assert!(
            line.ends_with("x … (400 bytes; --json shows all)  (answer to _INBOX.1)"),
            "{line}"
        );
        assert_eq!(message.to_json()["message"], long);
        assert_eq!(message.to_json()["reply"], "_INBOX.1");
        let object = received("a", r#"{"b":[1]}"#).to_json();
        assert_eq!(object["message"]["b"][0], 1);
    }

    #[test]
    fn subjects_that_cannot_be_subscribed_to_have_a_fault() {
        for subject in ["router.register", "router.*", ">", "a.>"] {
            assert_eq!(Received::fault_of_subject(subject), None, "{subject}");
        }
        for (subject, fault) in [
            ("", "empty"),
            ("a..b", "empty"),
            ("a b", "space"),
            (">.a", "last"),
        ] {
            let found = Received::fault_of_subject(subject);
            assert!(
                found.is_some_and(|found| found.contains(fault)),
                "{subject}"
            );
        }
    }
}
