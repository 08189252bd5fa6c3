//! Reads the router's table as its page `/routes` shows it: what a request meets, and what differs between two tables.

use route_table::registry::{Difference, RouteChange, Snapshot};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt;

/// The endpoints of each route as the page shows them.
pub type Table = Snapshot<Value>;

/// Reads the page. The error names what is not as expected.
pub fn read(page: Value) -> Result<Table, String> {
    let Value::Object(routes) = page else {
        return Err("the page is not an object of routes".to_owned());
    };
    let mut table = Table::default();
    for (uri, rows) in routes {
        let Value::Array(rows) = rows else {
            return Err(format!("the route {uri} has no list of endpoints"));
        };
        let route = table.route(&uri);
        for row in rows {
            let address = text(&row, "address").to_owned();
            route.insert(address, row);
        }
    }
    Ok(table)
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

/// The part of the table that a request meets.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "meets", rename_all = "kebab-case")]
pub enum Encounter {
    /// No route has the host and the path: the router answers 404.
    NoRoute,
    /// The route has no endpoints: the router waits for one or answers 503.
    NoEndpoints { route: String },
    Endpoints {
        route: String,
        /// The endpoints among which the router chooses, as `/routes` shows them.
        endpoints: Vec<Value>,
    },
}

/// Returns what a request to a host and a path meets in a table.
pub fn encounter(table: &Table, host: &str, path: &str) -> Encounter {
    match table.find(host, path) {
        None => Encounter::NoRoute,
        Some((route, endpoints)) if endpoints.is_empty() => Encounter::NoEndpoints {
            route: route.to_owned(),
        },
        Some((route, endpoints)) => Encounter::Endpoints {
            route: route.to_owned(),
            endpoints: endpoints.values().cloned().collect(),
        },
    }
}

impl fmt::Display for Encounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => writeln!(f, "no route: 404"),
            Self::NoEndpoints { route } => writeln!(
                f,
                "the route {route} without endpoints: the router waits for one, then 503"
            ),
            Self::Endpoints { route, endpoints } => {
                let mut services = endpoints.iter().map(|row| text(row, "route_service_url"));
                let service = services.find(|url| !url.is_empty());
                writeln!(f, "the route {route}, endpoints: {}", endpoints.len())?;
                if let Some(url) = service {
                    writeln!(f, "  by the route service {url}")?;
                }
                for row in endpoints {
                    let tls = if row["tls"] == true { "TLS" } else { "plain" };
                    let instance = text(row, "private_instance_id");
                    let address = text(row, "address");
                    writeln!(f, "  {address:<21} {tls:<5} instance {instance}")?;
                }
                Ok(())
            }
        }
    }
}

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Added,
    Removed,
    Changed,
}

/// An endpoint that is only in one of two tables, or differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Differing {
    pub kind: Kind,
    pub uri: String,
    /// The address of the endpoint. `None` means that the route has no endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `new` or `gone`: the route is in one table only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Returns what differs in a later table, sorted by route and address.
pub fn differing(before: &Table, after: &Table) -> Vec<Differing> {
    let found = before.difference(after);
    found.iter().map(one).collect()
}

fn one(difference: &Difference<'_, Value>) -> Differing {
    let kind = match (difference.before, difference.after) {
        (Some(_), Some(_)) => Kind::Changed,
        (None, Some(_)) => Kind::Added,
        (Some(_), None) => Kind::Removed,
        (None, None) if difference.route == RouteChange::New => Kind::Added,
        (None, None) => Kind::Removed,
    };
    Differing {
        kind,
        uri: difference.uri.to_owned(),
        address: difference.address.map(str::to_owned),
        route: difference.route.as_str(),
        before: difference.before.cloned(),
        after: difference.after.cloned(),
    }
}

impl fmt::Display for Differing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        };
        let address = self.address.as_deref().unwrap_or("(no endpoints)");
        write!(f, "{sign} {} → {address}", self.uri)?;
        if let Some(row) = self.after.as_ref().or(self.before.as_ref()) {
            let instance = text(row, "private_instance_id");
            if !instance.is_empty() {
                write!(f, "  instance {instance}")?;
            }
        }
        for (key, before, after) in fields(self.before.as_ref(), self.after.as_ref()) {
            write!(f, "  {key}: {before} → {after}")?;
        }
        match self.route {
            Some(route) => write!(f, "  ({route} route)"),
            None => Ok(()),
        }
    }
}

/// Returns the fields that differ between two rows, if there are two.
fn fields(before: Option<&Value>, after: Option<&Value>) -> Vec<(String, Value, Value)> {
    let rows = (
        before.and_then(Value::as_object),
        after.and_then(Value::as_object),
    );
    let (Some(before), Some(after)) = rows else {
        return Vec::new();
    };
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let get = |row: &Map<String, Value>, key: &String| row.get(key).cloned().unwrap_or_default();
    let all = keys.into_iter().map(|key| {
        let (before, after) = (get(before, key), get(after, key));
        (key.clone(), before, after)
    });
    all.filter(|(_, before, after)| before != after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoint(address: &str, instance: &str) -> Value {
        json!({"address": address, "tls": true, "private_instance_id": instance})
    }

    #[test]
    fn a_request_meets_endpoints_an_empty_route_or_nothing() {
        let page = json!({"a.test": [endpoint("1.2.3.4:5", "i")], "b.test": []});
        let table = read(page).unwrap();
        assert_eq!(
            encounter(&table, "a.test", "/x").to_string(),
            "the route a.test, endpoints: 1\n  1.2.3.4:5             TLS   instance i\n"
        );
        assert_eq!(
            serde_json::to_value(encounter(&table, "b.test", "/")).unwrap(),
            json!({"meets": "no-endpoints", "route": "b.test"})
        );
        assert_eq!(encounter(&table, "c.test", "/"), Encounter::NoRoute);
    }

    #[test]
    fn a_difference_is_a_line() {
        let before = json!({"a.test": [endpoint("1.1.1.1:1", "i"), endpoint("2.2.2.2:2", "j")]});
        let after = json!({"a.test": [endpoint("1.1.1.1:1", "k")], "b.test": []});
        let found = differing(&read(before).unwrap(), &read(after).unwrap());
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "~ a.test → 1.1.1.1:1  instance k  private_instance_id: \"i\" → \"k\"",
                "- a.test → 2.2.2.2:2  instance j",
                "+ b.test → (no endpoints)  (new route)",
            ]
        );
        let first = serde_json::to_value(&found[1]).unwrap();
        assert_eq!(
            (&first["kind"], &first["after"]),
            (&json!("removed"), &Value::Null)
        );
    }

    #[test]
    fn a_page_of_another_form_is_refused_with_its_fault() {
        for (page, fault) in [
            (json!([]), "not an object"),
            (json!({"a.test": 1}), "a.test has no list"),
        ] {
            let error = read(page).unwrap_err();
            assert!(error.contains(fault), "{error}");
        }
    }
}
