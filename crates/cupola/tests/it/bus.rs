//! `cupola nats sub` as an operator types it, beside a real nats-server.

use crate::edge::Edge;
use serde_json::Value;
use testkit::wait::block_until;

const MESSAGE: &str =
    r#"{"host":"10.9.9.2","port":82,"uris":["app.test"],"private_instance_id":"i"}"#;

#[test]
fn messages_are_printed_as_lines() {
    let edge = Edge::start();
    let (lines, rows) = (
        edge.begin(&["nats", "sub", "router.*"]),
        edge.begin(&["nats", "sub", "router.register", "--json"]),
    );
    // The commands subscribe at some moment, so the message is published until both have it.
    let (line, row) = block_until("a line of each", || {
        edge.publish("router.register", MESSAGE);
        Some((lines.line_with("app.test")?, rows.line_with("app.test")?))
    });
    let wanted = "router.register    app.test → 10.9.9.2:82 plain  instance i";
    assert!(line.ends_with(wanted), "{line}");
    let row: Value = serde_json::from_str(&row).unwrap();
    assert_eq!(row["subject"], "router.register");
    assert_eq!(row["message"]["uris"][0], "app.test");
}

#[test]
fn a_wrong_subject_and_an_absent_bus_are_named() {
    let mut edge = Edge::start();
    let (code, _, complaint) = edge.cupola(&["nats", "sub", "router..register"]);
    assert_eq!(code, Some(1), "{complaint}");
    let wanted = "subject \"router..register\" is not one: a part between two dots is empty";
    assert!(complaint.contains(wanted), "{complaint}");
    let address = edge.stop_bus();
    let (code, _, complaint) = edge.cupola(&["nats", "sub", ">"]);
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains(&address), "{complaint}");
}
