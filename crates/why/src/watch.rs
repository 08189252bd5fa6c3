//! Follows a route, or the routes of an app, while they change: each component that shows a change is one [`Step`].
//!
//! The caller reads the components and passes what they show: events of the BBS and messages of the bus to the [`Target`], which knows
//! what concerns it, the router's changes likewise, lines of the router's access log to [`Call::read`], and answers to [`answered`].
//! [`Order`] sorts the steps by their times and computes their milliseconds.
//!
//! A step at which a router confirms what it serves belongs into [`Target::of_message`], if routers publish it on the bus.

mod order;
mod target;

pub use order::{Line, Order};
pub use target::Target;

use crate::component::Component;
use std::fmt;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A change that a component shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub at: OffsetDateTime,
    pub component: Component,
    pub text: String,
    /// The id of the user's request that caused it, if the component names one.
    pub request: Option<String>,
}

/// A request to the API, as the router's access log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub at: OffsetDateTime,
    /// `POST /v3/routes/…/destinations: 200 after 3.1 ms`.
    pub text: String,
    /// Its `X-Vcap-Request-Id`.
    pub id: String,
}

impl Call {
    /// Reads a line of the access log. It returns `None` unless the line is of a request that may change something at the API's host.
    pub fn read(line: &str, api: &str) -> Option<Self> {
        let (host, rest) = line.split_once(" - [")?;
        let host = host.split(':').next().unwrap_or(host);
        let (began, rest) = rest.split_once("] \"")?;
        let (request, rest) = rest.split_once("\" ")?;
        let mut words = request.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        if !host.eq_ignore_ascii_case(api) || matches!(method, "GET" | "HEAD" | "OPTIONS") {
            return None;
        }
        let status = rest.split(' ').next()?;
        let id = field(rest, " vcap_request_id:\"", '"')?;
        let seconds: f64 = field(rest, " response_time:", ' ')?.parse().ok()?;
        let path = target.split('?').next().unwrap_or(target);
        Some(Self {
            at: OffsetDateTime::parse(began, &Rfc3339).ok()?,
            text: format!("{method} {path}: {status} after {:.1} ms", seconds * 1e3),
            id: id.to_owned(),
        })
    }

    /// Returns the step of a call that caused another step.
    pub fn step(&self) -> Step {
        Step {
            at: self.at,
            component: Component::CloudController,
            text: self.text.clone(),
            request: Some(self.id.clone()),
        }
    }
}

fn field<'a>(line: &'a str, name: &str, end: char) -> Option<&'a str> {
    let (_, rest) = line.split_once(name)?;
    rest.split(end).next()
}

/// The answer to a request for the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The status, and the router's reason if the router itself answered.
    Status(u16, Option<String>),
    /// No answer came.
    None(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, None) => write!(f, "{status}"),
            Self::Status(status, Some(reason)) => write!(f, "{status} by the router ({reason})"),
            Self::None(reason) => write!(f, "no answer ({reason})"),
        }
    }
}

/// Returns the step if the answer to requests for a route has changed. `last` is the answer before, if there was one.
pub fn answered(
    host: &str,
    last: Option<&Answer>,
    answer: &Answer,
    at: OffsetDateTime,
) -> Option<Step> {
    if last == Some(answer) {
        return None;
    }
    let text = match last {
        None => format!("GET {host}/ is answered with {answer}"),
        Some(last) => format!("GET {host}/ is answered with {answer}, before with {last}"),
    };
    Some(Step {
        at,
        component: Component::Client,
        text,
        request: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"api.a.test - [2026-11-30T10:04:31.250123456Z] "POST /v3/routes/g/destinations?x=y HTTP/1.1" 200 12 34 "-" "cf" "127.0.0.1:1" "127.0.0.1:9022" x_forwarded_for:"127.0.0.1" x_forwarded_proto:"https" vcap_request_id:"the-id" response_time:0.003100 gorouter_time:0.000100 app_id:"-" app_index:"-" instance_id:"-" x_cf_routererror:"-""#;

    #[test]
    fn a_call_that_may_change_something_is_read() {
        let call = Call::read(LINE, "API.a.test").unwrap();
        assert_eq!(call.id, "the-id");
        assert_eq!(
            call.text,
            "POST /v3/routes/g/destinations: 200 after 3.1 ms"
        );
        assert_eq!(call.at.unix_timestamp_nanos() % 1_000_000_000, 250_123_456);
        assert_eq!(call.step().request.as_deref(), Some("the-id"));
        for (from, to) in [
            ("POST", "GET"),
            ("api.a.test -", "app.a.test -"),
            ("vcap_request_id", "other"),
            ("2026-11-30T", ""),
        ] {
            assert_eq!(
                Call::read(&LINE.replace(from, to), "api.a.test"),
                None,
                "{to}"
            );
        }
        assert_eq!(Call::read("", "api.a.test"), None);
    }

    #[test]
    fn only_another_answer_is_a_step() {
        let at = OffsetDateTime::UNIX_EPOCH;
        let gone = Answer::Status(404, Some("unknown_route".to_owned()));
        let works = Answer::Status(200, None);
        assert_eq!(answered("a.test", Some(&works), &works, at), None);
        let step = answered("a.test", Some(&gone), &works, at).unwrap();
        assert_eq!(
            step.text,
            "GET a.test/ is answered with 200, before with 404 by the router (unknown_route)"
        );
        assert!(answered("a.test", None, &gone, at).is_some());
    }
}
