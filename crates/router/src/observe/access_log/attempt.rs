//! The app's line of a failed attempt. The access log has one line for each request and names its last attempt alone, so without these
//! lines an app's owner would not see that earlier instances failed, and why.

use super::line::quoted;
use crate::backend::fault::Fault;
use crate::backend::peer;
use http1::Request;
use route_table::registry::Endpoint;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The longest path in a line, in characters.
const LONGEST_PATH: usize = 1000;

/// An attempt that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) host: &'a str,
    pub(crate) request: &'a Request,
    /// The request's `X-Vcap-Request-Id`.
    pub(crate) request_id: &'a str,
    /// An endpoint of the app whose log gets the line.
    pub(crate) owner: &'a Endpoint,
    pub(crate) place: Place<'a>,
    /// The number of the attempt; the first is 1.
    pub(crate) number: usize,
    pub(crate) fault: &'a Fault,
    pub(crate) took: Duration,
    /// Whether another attempt follows, as long as an instance is left.
    pub(crate) again: bool,
}

/// The backend of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    Instance(&'a Endpoint),
    /// The host and port of a route service.
    RouteService(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Instance(endpoint) => {
                let (address, index) = (endpoint.address(), peer::instance_index(endpoint));
                let instance = peer::instance_guid(endpoint);
                write!(f, "{address} (instance {instance}, index {index})")
            }
            Self::RouteService(authority) => {
                // A URL may have credentials before its host.
                let host = authority.rsplit('@').next().unwrap_or_default();
                write!(f, "the route service {host}")
            }
        }
    }
}

impl Attempt<'_> {
    /// Returns the line, or `None` if the client caused the fault.
    pub(super) fn line(&self) -> Option<String> {
        let reason = reason(self.fault)?;
        let target = String::from_utf8_lossy(self.request.received_target());
        let path = target.split('?').next().unwrap_or_default();
        let path: String = path.chars().take(LONGEST_PATH).collect();
        let what = quoted(&format!("{} {path}", self.request.method()));
        let (number, milliseconds) = (self.number, self.took.as_secs_f64() * 1e3);
        let (place, end) = (self.place, self.end());
        let (host, id) = (self.host, quoted(self.request_id));
        Some(format!(
            "{host} {what} attempt {number} failed after {milliseconds:.1} ms at {place}: {reason}; {end} vcap_request_id:{id}"
        ))
    }

    fn end(&self) -> &'static str {
        match (self.place, self.again) {
            (Place::Instance(_), true) => "another instance is tried if there is one",
            (Place::Instance(_), false) => "no other instance is tried",
            (Place::RouteService(_), true) => "it is tried again",
            (Place::RouteService(_), false) => "it is not tried again",
        }
    }
}

/// Returns the reason for the app's owner. The names in the certificate of another app are not the owner's concern.
fn reason(fault: &Fault) -> Option<Cow<'static, str>> {
    match fault {
        Fault::ClientGone | Fault::BadBody(_) | Fault::BodyTimeout | Fault::NotForHttp2 => None,
        Fault::WrongName { .. } => {
            Some("the certificate there does not name this instance, so another one listens".into())
        }
        fault => Some(fault.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_given_unless_the_client_caused_the_fault() {
        let refused = Fault::Dial {
            address: "10.0.0.1:1".into(),
            reason: "connect: connection refused".into(),
        };
        let text = reason(&refused).unwrap();
        assert_eq!(text, "dial tcp 10.0.0.1:1: connect: connection refused");
        assert!(reason(&Fault::ClientGone).is_none());
        let other = Fault::WrongName {
            expected: "mine".into(),
            presented: "of-another-app".into(),
        };
        assert!(!reason(&other).unwrap().contains("of-another-app"));
    }

    #[test]
    fn a_route_service_is_named_without_credentials() {
        let place = Place::RouteService("user:secret@service.test:443");
        assert_eq!(place.to_string(), "the route service service.test:443");
    }
}
