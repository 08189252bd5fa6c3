//! `cupola bench propagation` by the bus alone, as an operator types it, beside a real router and a real nats-server.

use crate::edge::Edge;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use testkit::nats::NatsServer;
use testkit::net::free_port;
use testkit::wait::block_until;

/// Returns the routes in the router's table that a measurement made.
fn left(edge: &Edge) -> Vec<String> {
    let (code, table, complaint) = edge.cupola(&["routes"]);
    assert_eq!(code, Some(0), "{complaint}");
    let table: Value = serde_json::from_str(&table).unwrap();
    let routes = table.as_object().unwrap().keys();
    routes
        .filter(|route| route.starts_with("propbench-"))
        .cloned()
        .collect()
}

/// Waits until the router has no route of a measurement.
fn all_gone(edge: &Edge) {
    block_until("the routes to be gone", || {
        let left = left(edge);
        left.is_empty().then_some(()).ok_or(left.join(" "))
    });
}

fn json(edge: &Edge, name: &str) -> Value {
    let text = std::fs::read_to_string(edge.file(name)).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_foundation_in_the_data_directory_is_measured_by_its_bus() {
    let edge = Edge::start();
    let [report, image] = ["report.json", "image.svg"].map(|name| edge.file(name));
    let (code, out, complaint) = edge.cupola(&[
        "bench",
        "propagation",
        "--probes",
        "20",
        "--apps",
        "12",
        "--routes-per-app",
        "3",
        "--churn",
        "200",
        "--json",
        report.to_str().unwrap(),
        "--svg",
        image.to_str().unwrap(),
    ]);
    assert_eq!(code, Some(0), "{out}{complaint}");
    assert!(complaint.contains("measures by the bus"), "{complaint}");
    for part in [
        "register: sent → serving",
        "unregister: sent → gone",
        "by the bus, 20 measured routes, 36 other routes",
        " 0 wrong answers: ",
    ] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
    let report = json(&edge, "report.json");
    assert_eq!(report["ended"], "complete", "{report}");
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 7);
    for row in rows {
        assert_eq!(row["times_ms"].as_array().unwrap().len(), 20, "{row}");
        let at = |q: &str| row["summary"][q].as_f64().unwrap();
        assert!(at("p50") <= at("p99") && at("p99") <= at("max"), "{row}");
    }
    assert_eq!(report["churn"]["failed"], 0, "{report}");
    let image = std::fs::read_to_string(&image).unwrap();
    assert!(image.starts_with("<svg ") && image.ends_with("</svg>\n"));
    assert_eq!(
        image.matches("class=\"p\"").count(),
        14,
        "seven curves and their legend"
    );
    all_gone(&edge);
}

#[test]
fn a_bus_and_its_routers_are_named_without_a_foundation() {
    let edge = Edge::start();
    let bus = NatsServer::config(edge.bus().port());
    let password = edge.file("password");
    std::fs::write(&password, format!("{}\n", bus.password)).unwrap();
    let nowhere = edge.file("nowhere");
    let (code, out, complaint) = edge.cupola(&[
        "bench",
        "propagation",
        "--probes",
        "3",
        "--nats",
        &edge.bus().address(),
        "--nats-user",
        &bus.user,
        "--nats-password-file",
        password.to_str().unwrap(),
        "--router",
        &edge.router(),
        "--router",
        &format!("http://{}", edge.router()),
        "--own-address",
        "127.0.0.1",
        "--json",
        "/dev/null",
    ]);
    assert_eq!(code, Some(0), "{out}{complaint}");
    assert!(out.contains(&edge.bus().address()), "{out}");
    let (code, _, complaint) = edge.cupola(&[
        "bench",
        "propagation",
        "--svg",
        nowhere.join("a.svg").to_str().unwrap(),
    ]);
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains("in a folder that exists"), "{complaint}");
    all_gone(&edge);
}

#[test]
fn an_interrupted_measurement_leaves_no_route() {
    let edge = Edge::start();
    let arguments = "bench propagation --probes 10000 --apps 2 --routes-per-app 5 --churn 50";
    let mut measuring = edge.begin(&arguments.split(' ').collect::<Vec<_>>());
    block_until("routes of all three kinds", || {
        let left = left(&edge);
        let has = |kind: &str| left.iter().any(|route| route.contains(kind));
        let all = has("-p") && has("-r9.") && has("-c");
        all.then_some(()).ok_or(left.join(" "))
    });
    measuring.interrupt();
    assert_eq!(measuring.ended(), Some(1));
    block_until("the table", || {
        measuring.line_with("It was interrupted before all 10000 routes")
    });
    all_gone(&edge);
}

#[test]
fn without_probes_the_routes_are_held_until_the_end() {
    let edge = Edge::start();
    let arguments = "bench propagation --probes 0 --apps 2 --routes-per-app 3 --churn 20";
    let mut holding = edge.begin(&arguments.split(' ').collect::<Vec<_>>());
    block_until("all present routes", || {
        let left = left(&edge);
        let mut present = (0..6).map(|number| format!("-r{number}."));
        let has_all = present.all(|kind| left.iter().any(|route| route.contains(&kind)));
        has_all.then_some(()).ok_or(left.join(" "))
    });
    holding.interrupt();
    assert_eq!(holding.ended(), Some(0));
    all_gone(&edge);
}

/// Unregisters a route of the measurement, as an emitter with an error does.
#[test]
fn a_route_that_is_lost_meanwhile_counts_as_a_wrong_answer() {
    let edge = Edge::start();
    let report = edge.file("report.json");
    let mut measuring = edge.begin(&[
        "bench",
        "propagation",
        "--probes",
        "10000",
        "--routes-per-app",
        "1",
        "--limit",
        "15",
        "--json",
        report.to_str().unwrap(),
    ]);
    let (host, address) = block_until("the present route", || {
        let (_, table, _) = edge.cupola(&["routes"]);
        let table: Value = serde_json::from_str(&table).ok()?;
        let mut routes = table.as_object()?.iter();
        let (host, endpoints) = routes.find(|(host, _)| host.contains("-r0."))?;
        Some((host.clone(), endpoints[0]["address"].as_str()?.to_owned()))
    });
    // The measured routes begin after the present ones are served.
    block_until("a measured route", || {
        left(&edge).iter().any(|route| route.contains("-p"))
    });
    let (ip, port) = address.split_once(':').unwrap();
    let message = format!(r#"{{"host":"{ip}","port":{port},"uris":["{host}"]}}"#);
    edge.publish("router.unregister", &message);
    assert_eq!(measuring.ended(), Some(1));
    let report = json(&edge, "report.json");
    assert_eq!(report["ended"], "time-limit", "{}", report["mistakes"]);
    let mistakes = &report["mistakes"];
    assert!(mistakes["lost"].as_u64().unwrap() > 0, "{mistakes}");
    let first = mistakes["first"].as_str().unwrap();
    assert!(first.contains(&host), "{first}");
    all_gone(&edge);
}

/// Starts a backend that answers every request with 200, and returns its port. It ends with the test's process.
fn backend() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer);
        }
    });
    port
}

#[test]
fn a_measurement_that_is_impossible_is_refused_with_the_reason() {
    let edge = Edge::start();
    let closed = format!("127.0.0.1:{}", free_port());
    let bus = edge.bus().address();
    let [router, both, secret] = [
        format!("--router {closed}"),
        format!("--nats {bus} --router {closed}"),
        format!("--nats {bus} --nats-user me --router a:1"),
    ];
    for (arguments, reason) in [
        (
            "--probes 10001",
            "--probes 10001: use a number from 0 to 10000",
        ),
        ("--apps 1001", "--apps 1001: use a number from 1 to 1000"),
        (
            "--churn 10001",
            "--churn 10001: use a number from 0 to 10000",
        ),
        ("--path x", "--path \"x\" is not a path"),
        (router.as_str(), closed.as_str()),
        (both.as_str(), closed.as_str()),
        (
            "--nats nowhere --router a:1",
            "--nats \"nowhere\" is not the address",
        ),
        (
            secret.as_str(),
            "the password of me is missing: set NATS_PASSWORD",
        ),
        ("--app proxy", "the cf CLI is not logged in"),
        (
            "--api https://api.b.test --app x",
            "`cf login -a https://api.b.test`",
        ),
        ("--user me --app x", "set CF_PASSWORD"),
    ] {
        let words = format!("bench propagation {arguments}");
        let (code, out, complaint) = edge.cupola(&words.split(' ').collect::<Vec<_>>());
        assert_eq!(
            (code, out.as_str()),
            (Some(1), ""),
            "{arguments}: {complaint}"
        );
        assert!(complaint.contains(reason), "{arguments}: {complaint}");
    }
    // A wildcard route answers for every host of the domain.
    let message = format!(
        r#"{{"host":"127.0.0.1","port":{},"uris":["*.propbench.test"]}}"#,
        backend()
    );
    let complaint = block_until("the wildcard to be noticed", || {
        edge.publish("router.register", &message);
        let (code, _, complaint) = edge.cupola(&["bench", "propagation", "--probes", "1"]);
        (code == Some(1)).then_some(complaint)
    });
    assert!(
        complaint.contains("is answered before it was made"),
        "{complaint}"
    );
    all_gone(&edge);
}

#[test]
fn a_bus_that_is_absent_is_named() {
    let mut edge = Edge::start();
    let bus = edge.stop_bus();
    let (code, _, complaint) = edge.cupola(&["bench", "propagation"]);
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains(&bus), "{complaint}");
}
