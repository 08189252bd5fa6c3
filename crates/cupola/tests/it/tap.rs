//! `cupola tap` as an operator types it, beside a real router and bus.

use crate::edge::Edge;
use serde_json::Value;
use testkit::wait::block_until;

#[test]
fn requests_are_lines_and_the_command_ends_with_its_reason() {
    let edge = Edge::start();
    let lines = edge.begin(&["tap", "app.test"]);
    let rows = edge.begin(&["tap", "app.test", "--json", "--limit", "1000"]);
    let both = block_until("both taps to show a request", || {
        let status = edge.request("app.test", "/x?secret=1")?;
        if status != "404" {
            return Err(format!("the status is {status}"));
        }
        let both = lines.line_with("app.test").zip(rows.line_with("app.test"));
        both.ok_or_else(|| "not both have a line".to_owned())
    });
    let (line, row) = both;
    assert!(line.contains("  app.test \"GET /x\" 404 in "), "{line}");
    assert!(
        line.contains(" ms: router ") && line.contains("unknown_route"),
        "{line}"
    );
    let row: Value = serde_json::from_str(&row).unwrap();
    assert_eq!(row["status"], 404);
    assert_eq!(row["path"], "/x");
    assert!(row["total_ms"].as_f64().unwrap() > 0.0, "{row}");
}

#[test]
fn a_tap_of_one_request_ends_after_it() {
    let edge = Edge::start();
    let outcome = std::thread::scope(|scope| {
        let tapping = scope.spawn(|| edge.cupola(&["tap", "app.test", "--limit", "1"]));
        block_until("the tap to end", || {
            let _ = edge.request("app.test", "/");
            tapping.is_finished()
        });
        tapping.join().unwrap()
    });
    let (code, out, complaint) = outcome;
    assert_eq!((code, out.lines().count()), (Some(0), 1), "{complaint}");
    assert!(
        complaint.contains("requests to app.test: at most 1"),
        "{complaint}"
    );
    assert!(
        complaint.contains("requests shown: 1; the tap has reached its limit"),
        "{complaint}"
    );
}

#[test]
fn a_query_that_the_router_refuses_is_reported_with_its_reason() {
    let edge = Edge::start();
    let (code, _, complaint) = edge.cupola(&["tap", "app.test", "--router", "127.0.0.1:1"]);
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains("cupola up"), "{complaint}");
    let (code, out, complaint) = edge.cupola(&["tap", "app.test", "--limit", "0"]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{complaint}");
    assert!(
        complaint.contains("limit is 0: use a number from 1"),
        "{complaint}"
    );
    assert!(!complaint.contains("cupola up"), "{complaint}");
}
