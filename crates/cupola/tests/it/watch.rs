//! `cupola watch` as an operator types it, beside a real router and bus. Nothing else of a foundation runs.

use crate::edge::Edge;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use testkit::wait::block_until;

/// Starts a backend that answers every request with 200, and returns its port. It ends with the test's process.
fn backend() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                while stream.read(&mut head).is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_route_is_followed_from_the_message_to_the_answer_and_back() {
    let edge = Edge::start();
    let port = backend();
    let watching = edge.begin(&["watch", "app.test", "--json"]);
    block_until("the first answer", || {
        watching.line_with("answered with 404")
    });
    let message = format!(r#"{{"host":"127.0.0.1","port":{port},"uris":["app.test"]}}"#);
    // Subscribers of the bus connect meanwhile, so the message is repeated; the router makes one change of it.
    let lines = block_until("the route to be live", || {
        edge.publish("router.register", &message);
        let texts = [
            "router.register app.test",
            "table: registered app.test",
            "answered with 200",
        ];
        let lines = texts.map(|text| watching.line_with(text));
        lines.into_iter().collect::<Option<Vec<_>>>()
    });
    let [bus, table, client] = [0, 1, 2].map(|at| json(&lines[at]));
    assert_eq!(bus["component"], "nats");
    assert_eq!(table["component"], "router");
    assert_eq!(client["component"], "client");
    let time = |line: &Value| line["since_first_ms"].as_f64().unwrap();
    assert!(time(&table) < time(&client), "{table} {client}");
    edge.publish("router.unregister", &message);
    let gone = block_until("the route to be gone", || {
        watching.line_with("answered with 404 by the router (unknown_route), before with 200")
    });
    assert!(json(&gone)["since_first_ms"].is_number(), "{gone}");
    block_until("the router's change", || {
        watching.line_with("table: unregistered app.test")
    });
}

#[test]
fn the_past_is_shown_first_and_in_order() {
    let edge = Edge::start();
    let message = r#"{"host":"10.9.9.2","port":82,"uris":["past.test"]}"#;
    edge.publish("router.register", message);
    edge.publish("router.unregister", message);
    // The router has received both when it has a later route.
    block_until("the last message", || {
        let last = r#"{"host":"10.9.9.2","port":82,"uris":["last.test"]}"#;
        edge.publish("router.register", last);
        edge.changes().to_string().contains("last.test")
    });
    let watching = edge.begin(&["watch", "past.test", "--past", "--json"]);
    let steps = [
        "table: registered past.test",
        "table: unregistered past.test",
    ];
    let [came, left] = steps.map(|text| block_until(text, || watching.line_with(text)));
    let time = |line: &str| json(line)["since_first_ms"].as_f64().unwrap();
    assert!(time(&came) <= time(&left), "{came} {left}");
}

#[test]
fn an_app_cannot_be_found_without_the_bbs() {
    let edge = Edge::start();
    let (code, _, complaint) = edge.cupola(&["watch", "proxy"]);
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains("operator.crt"), "{complaint}");
}
