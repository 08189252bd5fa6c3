//! The app's line of a failed attempt. The access log has one line for each request and names its last attempt alone, so without these
//! lines an app's owner would not see that earlier instances failed, and why.

use super::line::quoted;
use crate::backend::fault::Fault;
use crate::backend::peer;
use http1::Request;
use route_table::registry::Endpoint;
use std::borrow::Cow;
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
    pub(crate) endpoint: &'a Endpoint,
    /// The number of the attempt; the first is 1.
    pub(crate) number: usize,
    pub(crate) fault: &'a Fault,
    pub(crate) took: Duration,
    /// Whether another attempt follows, as long as an instance is left.
    pub(crate) again: bool,
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
        let (address, index) = (self.endpoint.address(), peer::instance_index(self.endpoint));
        let (instance, end) = (peer::instance_guid(self.endpoint), end(self.again));
        let (host, id) = (self.host, quoted(self.request_id));
        Some(format!(
            "{host} {what} attempt {number} failed after {milliseconds:.1} ms at {address} (instance {instance}, index {index}): {reason}; {end} vcap_request_id:{id}"
        ))
    }
}

fn end(again: bool) -> &'static str {
    if again {
        "another instance is tried if there is one"
    } else {
        "no other instance is tried"
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
}
