use super::request::Body as Wanted;
use super::*;
use crate::testing;
use axum::body::Bytes;
use kit::CancellationToken;
use tokio::net::TcpListener;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| {
            let name = axum::http::HeaderName::from_static(*name);
            (name, HeaderValue::from_str(value).unwrap())
        })
        .collect()
}

#[test]
fn versions_of_the_second_api_are_served() {
    for (version, is_served) in [("2.0", true), ("2.17", true), ("3.0", false), ("", false)] {
        let headers = headers(&[(VERSION, version)]);
        assert_eq!(version_problem(&headers).is_none(), is_served, "{version}");
    }
    let missing = version_problem(&HeaderMap::new()).unwrap();
    assert!(missing.contains("X-Broker-API-Version"), "{missing}");
}

#[test]
fn only_the_platform_with_its_password_is_known() {
    let sent = |user: &str, password: &str| {
        let text = BASE64_STANDARD.encode(format!("{user}:{password}"));
        is_known(
            &headers(&[("authorization", &format!("Basic {text}"))]),
            "sesame",
        )
    };
    assert!(sent("platform", "sesame"));
    assert!(!sent("platform", "sesame2") && !sent("platform", "") && !sent("admin", "sesame"));
    assert!(!is_known(&HeaderMap::new(), "sesame"));
    assert!(!is_known(
        &headers(&[("authorization", "Bearer x")]),
        "sesame"
    ));
}

#[test]
fn requests_for_what_does_not_exist_are_refused() {
    let settings = testing::settings();
    let service = crate::catalog::offering_id(&settings);
    let check = |body: Value| -> std::result::Result<(), (u16, String)> {
        let body = Wanted::read(&Bytes::from(body.to_string()));
        let checked = body.and_then(|body| {
            body.check(&settings)?;
            body.required_plan(&settings).map(drop)
        });
        checked.map_err(|answer| (answer.status.as_u16(), answer.body.to_string()))
    };
    let plan = catalog(&settings)["services"][0]["plans"][0]["id"].clone();
    let good = json!({"service_id": service, "plan_id": plan, "parameters": {}, "unknown": 1});
    assert_eq!(check(good.clone()), Ok(()));
    for (key, value, status, wanted) in [
        ("service_id", json!("other"), 400, "not in the catalog"),
        ("service_id", json!(null), 400, "no service_id"),
        ("plan_id", json!("other"), 400, "not in the catalog"),
        ("plan_id", json!(null), 400, "no plan_id"),
        ("parameters", json!({"size": 7}), 400, "size"),
        ("parameters", json!([]), 400, "no object"),
        (
            "maintenance_info",
            json!({"version": "1.0.0"}),
            422,
            "MaintenanceInfoConflict",
        ),
        ("context", json!(7), 400, "the body is not valid"),
    ] {
        let mut body = good.clone();
        body[key] = value;
        let (found, text) = check(body).unwrap_err();
        assert!(
            found == status && text.contains(wanted),
            "{key}: {found} {text}"
        );
    }
}

#[test]
fn faults_have_the_api_s_statuses() {
    let status = |fault| refused(fault, StatusCode::GONE).status.as_u16();
    assert_eq!(status(Fault::NotReady("it starts".to_owned())), 503);
    assert_eq!(status(Fault::Conflict), 409);
    let busy = refused(Fault::Busy, StatusCode::GONE);
    assert_eq!(
        (busy.status.as_u16(), &busy.body["error"]),
        (422, &json!("ConcurrencyError"))
    );
    let gone = refused(Fault::Missing, StatusCode::GONE);
    assert_eq!((gone.status.as_u16(), gone.body), (410, json!({})));
    let missing = refused(Fault::Missing, StatusCode::NOT_FOUND);
    assert!(missing.body["description"].is_string());
}

/// Tests the whole way of a request, with a broker whose PostgreSQL does not run.
#[tokio::test]
async fn a_broker_without_a_server_says_so() {
    let broker = testing::broker();
    let password = broker.secrets().broker_password.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let served = kit::http::serve(listener, None, router(broker), shutdown.clone());
    let served = tokio::spawn(served);
    let client = testkit::http::client();
    let instance = "00000000-0000-4000-8000-000000000001";
    let get = |path: &str, password: &str| {
        client
            .get(format!("http://{address}{path}"))
            .basic_auth(USER, Some(password))
            .header(VERSION, "2.17")
            .header(IDENTITY, "42")
    };
    let catalog = get("/v2/catalog", &password).send().await.unwrap();
    assert_eq!(catalog.status(), 200);
    assert_eq!(catalog.headers()[IDENTITY], "42");
    let wrong = get("/v2/catalog", "wrong").send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    let path = format!("/v2/service_instances/{instance}");
    let absent = get(&path, &password).send().await.unwrap();
    assert_eq!(absent.status(), 503);
    let text = absent.text().await.unwrap();
    assert!(text.contains("PostgreSQL is not ready"), "{text}");
    let delete = client
        .delete(format!("http://{address}{path}"))
        .basic_auth(USER, Some(&password))
        .header(VERSION, "2.17");
    assert_eq!(delete.send().await.unwrap().status(), 400);
    let bad = get("/v2/service_instances/x", &password)
        .send()
        .await
        .unwrap();
    assert_eq!(bad.status(), 400);
    shutdown.cancel();
    served.await.unwrap().unwrap();
}
