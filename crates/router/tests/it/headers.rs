//! Tests of header fields: at the backend, at the client, and in the log.

use crate::backends::Backend;
use crate::client::{raw, request};
use crate::world::World;
use router::Settings;

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_sees_the_request_as_it_came_and_who_asked() {
    let world = World::with(Settings {
        zipkin: true,
        w3c: true,
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world
        .register("app.test", "app-guid", 3, backend.addr)
        .await;
    let answer = raw(
        world.addr,
        "GET /dump/a%2Fb/../%20?q=%zz&x HTTP/1.1\r\nHost: app.test\r\nConnection: close, X-Mine, X-Forwarded-For\r\nX-Mine: 1\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Client-Cert: forged\r\nX-Vcap-Request-Id: forged\r\nX-CF-ApplicationID: forged\r\n\r\n",
        "",
    )
    .await;
    for line in [
        "GET /dump/a%2Fb/../%20?q=%zz&x HTTP/1.1\n",
        "host: app.test\n",
        "x-forwarded-for: 1.1.1.1, 2.2.2.2, 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        "x-cf-applicationid: app-guid\n",
        "x-cf-instanceid: app-guid-instance-3\n",
        "x-cf-instanceindex: 3\n",
        "x-request-start: ",
        "x-vcap-request-id: ",
        "b3: ",
        "x-b3-traceid: ",
        "traceparent: 00-",
        "tracestate: gorouter=",
    ] {
        assert!(answer.contains(line), "{line:?} in\n{answer}");
    }
    for absent in ["x-mine", "forged", "user-agent", "accept-encoding"] {
        assert!(!answer.contains(absent), "{absent:?} in\n{answer}");
    }
    assert!(
        answer.contains("\r\nX-Vcap-Request-Id: "),
        "the client learns the id: {answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_leave_a_doubt_are_refused() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    for (head, start) in [
        (
            "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "GET / HTTP/1.1\r\nHost: app.test\r\nHost: b.test\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 400",
        ),
        ("nonsense\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n", "HTTP/1.0 200"),
        (
            "GET http://app.test/ HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 200",
        ),
    ] {
        let answer = raw(world.addr, head, "").await;
        assert!(
            answer.starts_with(start),
            "{head:?} was answered {answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_line_is_gorouters() {
    let world = World::new().await;
    let backend = Backend::start("hello").await;
    world
        .register("app.test", "app-guid", 2, backend.addr)
        .await;
    request(
        world.addr,
        "POST",
        "app.test:8080",
        "/x%2Fy?q=1",
        &[("user-agent", "te\"st"), ("referer", "http://ref/")],
        "abc",
    )
    .await;
    // Each worker writes its own lines: the second line only follows the first if it is requested later.
    world.log_lines(1).await;
    let refused = world.get("nobody.test", "/").await;
    let lines = world.log_lines(2).await;
    let (head, tail) = lines[0].split_once("] ").unwrap();
    let stamp = head.strip_prefix("app.test:8080 - [").unwrap();
    assert_eq!(
        (stamp.len(), &stamp[19..20], &stamp[29..]),
        (30, ".", "Z"),
        "{stamp}"
    );
    let mut tail = tail.to_owned();
    for (field, end) in [
        ("\"127.0.0.1:", "\""),
        ("vcap_request_id:\"", "\""),
        ("response_time:", " "),
        ("gorouter_time:", " "),
    ] {
        let from = tail.find(field).unwrap() + field.len();
        let length = tail[from..].find(end).unwrap();
        if field.ends_with("time:") {
            assert_eq!(
                tail[from..from + length].split_once('.').unwrap().1.len(),
                6
            );
        }
        tail.replace_range(from..from + length, "*");
    }
    assert_eq!(
        tail,
        format!(
            "\"POST /x%2Fy?q=1 HTTP/1.1\" 200 3 5 \"http://ref/\" \"te\\\"st\" \"127.0.0.1:*\" \"{}\" x_forwarded_for:\"127.0.0.1\" x_forwarded_proto:\"http\" vcap_request_id:\"*\" response_time:* gorouter_time:* app_id:\"app-guid\" app_index:\"2\" instance_id:\"app-guid-instance-2\" x_cf_routererror:\"-\"",
            backend.addr
        )
    );
    let start = format!(
        "\"GET / HTTP/1.1\" 404 0 {} \"-\" \"-\" ",
        refused.body.len()
    );
    assert!(lines[1].contains(&start), "{}", lines[1]);
    assert!(
        lines[1].contains(&format!(
            "vcap_request_id:\"{}\"",
            refused.header("x-vcap-request-id")
        )),
        "{}",
        lines[1]
    );
    assert!(
        lines[1].ends_with(
            " app_id:\"-\" app_index:\"-\" instance_id:\"-\" x_cf_routererror:\"unknown_route\""
        ),
        "{}",
        lines[1]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_answered_whatever_it_asks_for() {
    let world = World::new().await;
    let reply = request(
        world.addr,
        "GET",
        "whatever.test",
        "/x",
        &[("user-agent", "HTTP-Monitor/1.1")],
        "",
    )
    .await;
    assert_eq!(
        (
            reply.status,
            reply.text().as_str(),
            reply.header("cache-control"),
            reply.header("expires")
        ),
        (200, "ok\n", "private, max-age=0", "0")
    );
}
