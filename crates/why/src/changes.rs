//! Reads the changes of the router's table as its page `/changes` shows them, and writes them as lines for people.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The page `/changes`. Unknown keys are skipped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Page {
    /// The id of the router's process. Numbers of another process mean nothing in this one.
    pub router: String,
    pub last: u64,
    /// The number of changes after the reader's number that are not kept any more.
    pub missed: u64,
    pub changes: Vec<Change>,
}

/// A change of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Change {
    pub number: u64,
    /// The time of the change, RFC 3339 in UTC.
    pub time: String,
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    pub source: String,
    pub uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Endpoint>,
}

/// An endpoint of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Endpoint {
    pub address: String,
    pub tls: bool,
    pub application_id: String,
    pub instance_id: String,
    pub instance_index: String,
    pub server_cert_domain_san: String,
    pub component: String,
}

impl Change {
    /// Returns whether the change concerns a route of this host, at whatever path.
    pub fn is_of(&self, host: &str) -> bool {
        let own = self.uri.split('/').next().unwrap_or_default();
        own.eq_ignore_ascii_case(host)
    }
}

/// Returns the time of day of a time of RFC 3339, with milliseconds.
pub fn time_of_day(time: &str) -> String {
    let day = time.split_once('T').map_or(time, |(_, day)| day);
    let day = day.trim_end_matches('Z');
    let (seconds, fraction) = day.split_once('.').unwrap_or((day, ""));
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    format!("{seconds}.{fraction}")
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (time, kind, uri) = (time_of_day(&self.time), &self.kind, &self.uri);
        write!(f, "{time}  {kind:<12} {uri}")?;
        if let Some(endpoint) = &self.endpoint {
            let tls = if endpoint.tls { "TLS" } else { "plain" };
            write!(f, " → {} {tls}", endpoint.address)?;
            if !endpoint.instance_id.is_empty() {
                write!(f, "  instance {}", endpoint.instance_id)?;
            }
            if !endpoint.instance_index.is_empty() {
                write!(f, " (index {})", endpoint.instance_index)?;
            }
            if !endpoint.application_id.is_empty() {
                write!(f, " of app {}", endpoint.application_id)?;
            }
        }
        if let Some(replaced) = &self.replaced
            && let Some(endpoint) = &self.endpoint
            && replaced.instance_id != endpoint.instance_id
        {
            write!(f, "  instead of instance {}", replaced.instance_id)?;
        }
        write!(f, "  by {}", self.source)?;
        if let Some(refused) = &self.refused {
            write!(f, "  (refused: the host is a component's; {refused})")?;
        }
        match self.route.as_deref() {
            Some(route) => write!(f, "  ({route} route)"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_is_a_line() {
        let mut row = json!({
            "number": 7, "time": "2026-11-30T10:04:31.25Z", "kind": "registered", "source": "router.register",
            "uri": "app.test/x", "route": "new", "unknown": 1, "endpoint": {
                "address": "10.0.0.1:61001", "tls": true, "application_id": "app", "instance_id": "new",
                "instance_index": "2", "server_cert_domain_san": "new", "component": "route-emitter",
            },
        });
        let change: Change = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(
            change.to_string(),
            "10:04:31.250  registered   app.test/x → 10.0.0.1:61001 TLS  instance new (index 2) of app app  by router.register  (new route)"
        );
        assert!(change.is_of("App.test") && !change.is_of("test"));
        row["replaced"] = row["endpoint"].clone();
        row["replaced"]["instance_id"] = json!("old");
        row["kind"] = json!("changed");
        let change: Change = serde_json::from_value(row).unwrap();
        assert!(change.to_string().contains("instead of instance old"));
        let forgotten = Change {
            time: "2026-11-30T10:04:31Z".to_owned(),
            kind: "forgotten".to_owned(),
            source: "pruner".to_owned(),
            uri: "a.test".to_owned(),
            ..Change::default()
        };
        assert_eq!(
            forgotten.to_string(),
            "10:04:31.000  forgotten    a.test  by pruner"
        );
    }
}
