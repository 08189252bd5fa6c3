//! `cupola routes` with its history, as an operator types it. The real binary is the router as well; a real nats-server carries the
//! messages.

use crate::edge::Edge;
use serde_json::Value;
use testkit::wait::block_until;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Waits until the router's table has the route, or has it no more, and returns the time of the last change.
fn time_when(edge: &Edge, host: &str, is_there: bool) -> String {
    block_until("the change", || {
        let (code, table, complaint) = edge.cupola(&["routes"]);
        let table: Value = serde_json::from_str(&table).map_err(|e| format!("{e} {complaint}"))?;
        let is_as_wanted = code == Some(0) && table.get(host).is_some() == is_there;
        is_as_wanted.then_some(()).ok_or_else(|| table.to_string())
    });
    edge.changes()["changes"]
        .as_array()
        .and_then(|changes| changes.last())
        .map(|change| change["time"].as_str().unwrap_or_default().to_owned())
        .unwrap()
}

#[test]
fn the_table_of_an_earlier_time_is_printed_compared_and_asked() {
    let edge = Edge::start();
    edge.publish(
        "router.register",
        r#"{"host":"10.9.9.1","port":81,"uris":["kept.test"],"private_instance_id":"k"}"#,
    );
    let before = time_when(&edge, "kept.test", true);
    edge.publish(
        "router.register",
        r#"{"host":"10.9.9.2","port":82,"uris":["app.test"],"private_instance_id":"i"}"#,
    );
    let during = time_when(&edge, "app.test", true);
    edge.publish(
        "router.unregister",
        r#"{"host":"10.9.9.2","port":82,"uris":["app.test"],"private_instance_id":"i"}"#,
    );
    let after = time_when(&edge, "app.test", false);

    let (code, table, _) = edge.cupola(&["routes", "--at", &during]);
    assert_eq!(code, Some(0));
    assert_eq!(json(&table)["app.test"][0]["address"], "10.9.9.2:82");
    let (_, met, _) = edge.cupola(&["routes", "app.test/x", "--at", &during]);
    assert!(
        met.contains("meets the route app.test, endpoints: 1"),
        "{met}"
    );
    let (_, met, _) = edge.cupola(&["routes", "app.test/x", "--at", &before, "--json"]);
    assert_eq!(json(&met)["meets"], "no-route", "{met}");

    let (_, lines, _) = edge.cupola(&["routes", "--diff", &before, &during]);
    assert_eq!(lines, "+ app.test → 10.9.9.2:82  instance i  (new route)\n");
    let (_, rows, _) = edge.cupola(&["routes", "--diff", &during, &after, "--json"]);
    assert_eq!(json(&rows)[0]["kind"], "removed", "{rows}");
    let (_, equal, _) = edge.cupola(&["routes", "--diff", &before, &after]);
    assert!(equal.contains("are equal"), "{equal}");
}

#[test]
fn a_time_that_is_not_known_is_refused_with_the_reason() {
    let edge = Edge::start();
    let since = edge.changes()["since"].as_str().unwrap().to_owned();
    for (time, reason) in [
        ("2020-01-01T00:00:00Z", since.as_str()),
        ("2999-01-01T00:00:00Z", "is in the future"),
        ("yesterday", "\"yesterday\" is none: use a time of day"),
    ] {
        let (code, out, complaint) = edge.cupola(&["routes", "--at", time]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{time}: {complaint}");
        assert!(complaint.contains(reason), "{time}: {complaint}");
    }
    let (code, _, complaint) = edge.cupola(&["routes", "--at", "10:00", "--watch"]);
    assert_eq!(code, Some(2), "{complaint}");
}

#[test]
fn changes_are_printed_as_they_happen() {
    let edge = Edge::start();
    let watching = edge.begin(&["routes", "--watch", "app.test"]);
    // The command follows from some moment on, so the route comes and goes until it is seen.
    let line = block_until("a line", || {
        for subject in ["router.register", "router.unregister"] {
            let message = r#"{"host":"10.9.9.2","port":82,"uris":["app.test"]}"#;
            edge.publish(subject, message);
        }
        edge.publish(
            "router.register",
            r#"{"host":"10.9.9.3","port":83,"uris":["other.test"]}"#,
        );
        watching.line_with("registered")
    });
    assert!(line.contains("app.test → 10.9.9.2:82 plain"), "{line}");
    assert!(line.contains("by router."), "{line}");
    assert_eq!(watching.line_with("other.test"), None);
}
