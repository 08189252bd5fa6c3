//! Names that belong to the platform or to somebody else: no domain, route or manifest gets them.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};

fn private(name: &str, organization: &str) -> Value {
    json!({ "name": name, "relationships": { "organization": { "data": { "guid": organization } } } })
}

async fn domain(f: &Foundation, body: Value) -> String {
    f.send(Method::POST, "/v3/domains", body).await["guid"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Requests a domain that must be refused with 422, and returns the reason.
async fn refused(f: &Foundation, token: &str, body: Value) -> String {
    let (status, answer) = f
        .call_as(token, Method::POST, "/v3/domains", Some(body.clone()))
        .await;
    assert_eq!(status, 422, "{body}: {answer}");
    detail(&answer).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_a_name_of_the_platform() {
    let f = Foundation::start().await;
    let manager = f
        .user(
            "manager",
            &[("organization_manager", "organization", &f.organization)],
        )
        .await;
    for name in [
        "uaa.apps.test",
        "login.apps.test",
        "API.apps.test",
        "log-cache.Apps.Test",
        "ssh.apps.test",
        "doppler.apps.test",
        "zone.uaa.apps.test",
        "a.b.login.apps.test",
        "10.0.0.1",
        "127.0.0.1",
        "127.1",
        "a.0x7f",
        "bbs.service.cf.internal",
        "cf.internal",
        "x.localhost",
        "1.10.in-addr.arpa",
    ] {
        for token in [&manager, &f.admin] {
            refused(&f, token, private(name, &f.organization)).await;
        }
        refused(&f, &f.admin, json!({ "name": name })).await;
        refused(&f, &f.admin, json!({ "name": name, "internal": true })).await;
    }
    let reason = refused(&f, &manager, private("uaa.apps.test", &f.organization)).await;
    assert!(
        reason.contains("already reserved by the system"),
        "{reason}"
    );
    for name in ["uaa.apps.test.", "2001:db8::1", "[::1].test"] {
        refused(&f, &f.admin, private(name, &f.organization)).await;
    }

    for host in ["api", "UAA", "login", "log-cache", "credhub"] {
        for path in ["", "/path"] {
            let (status, answer) = f
                .call(Method::POST, "/v3/routes", Some(f.route_body(host, path)))
                .await;
            assert_eq!(
                (status, detail(&answer)),
                (422, "Route conflicts with a reserved system route."),
                "{host}{path}"
            );
        }
        let yaml = format!(
            "applications:\n- name: thief\n  routes: [{{route: \"https://{host}.apps.test/x\"}}]\n"
        );
        let (_, job) = f.apply_manifest(&yaml).await;
        assert_eq!(job["state"], "FAILED", "{job}");
        assert!(detail(&job).contains("reserved system route"), "{job}");
    }
    assert_eq!(f.get("/v3/apps?names=thief").await["resources"], json!([]));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_version_stored_gets_no_request() {
    let f = Foundation::start().await;
    let app = f.stopped_app("thief").await;
    let good = f.create_route("good", "").await;
    f.map(&good, &app).await;
    for (at, name) in ["uaa.apps.test", "free.test"].iter().enumerate() {
        let values = format!(
            "'domain-{at}', 1, 1, '{name}', '{}', 0, '{{}}'",
            f.organization
        );
        f.sql(&format!(
            "INSERT INTO domains (guid, created_at, updated_at, name, organization_guid, internal, metadata) VALUES ({values})"
        ))
        .await;
    }
    for (at, (domain, host)) in [
        ("domain-0", ""),
        ("domain-0", "zone"),
        ("domain-0", "*"),
        ("domain-1", "ok"),
        (f.domain.as_str(), "login"),
    ]
    .iter()
    .enumerate()
    {
        let space = &f.space;
        let values =
            format!("'route-{at}', 1, 1, '{host}', '', 0, '{domain}', '{space}', 'null', '{{}}'");
        f.sql(&format!(
            "INSERT INTO routes (guid, created_at, updated_at, host, path, port, domain_guid, space_guid, options, metadata) VALUES ({values})"
        ))
        .await;
        let values = format!("'destination-{at}', 1, 1, 'route-{at}', '{app}', 'web', 'http1'");
        f.sql(&format!(
            "INSERT INTO destinations (guid, created_at, updated_at, route_guid, app_guid, process_type, protocol) VALUES ({values})"
        ))
        .await;
    }
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/actions/start"),
        json!({}),
    )
    .await;
    let lrps = f.lrps(&app).await;
    assert_eq!(
        f.lrp_urls(&lrps[0]),
        json!(["good.apps.test", "ok.free.test"])
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn domains_above_below_and_beside_others() {
    let f = Foundation::start().await;
    let (other, other_space) = f.another_place("other").await;
    let mine = |name: &str| private(name, &f.organization);
    domain(&f, private("theirs.test", &other)).await;

    let reason = refused(&f, &f.admin, mine("theirs.test")).await;
    assert_eq!(reason, "The domain name \"theirs.test\" is already in use");
    refused(&f, &f.admin, mine("Theirs.Test")).await;
    // A name below a private domain of another organization is refused. For a shared name every private domain is such a domain.
    for body in [
        mine("x.theirs.test"),
        mine("a.b.theirs.test"),
        json!({ "name": "x.theirs.test" }),
    ] {
        let reason = refused(&f, &f.admin, body).await;
        assert!(
            reason.contains("\"theirs.test\" is already reserved by another domain"),
            "{reason}"
        );
    }
    domain(&f, private("x.theirs.test", &other)).await;
    // A private name above a domain that does not belong to its organization is refused; a shared name is accepted there.
    domain(&f, private("deep.above.test", &other)).await;
    assert!(
        refused(&f, &f.admin, mine("above.test"))
            .await
            .contains("reserved by another domain")
    );
    domain(&f, json!({ "name": "shared.under.test" })).await;
    refused(&f, &f.admin, mine("under.test")).await;
    domain(&f, json!({ "name": "under.test" })).await;
    // A name below a shared domain is free, unless a route has the name or one above it.
    domain(&f, mine("free.apps.test")).await;
    f.create_route("web", "/path").await;
    for name in ["web.apps.test", "x.web.apps.test", "a.b.WEB.apps.test"] {
        let reason = refused(&f, &f.admin, private(name, &other)).await;
        assert!(reason.contains("already reserved by a route"), "{reason}");
        refused(&f, &f.admin, mine(name)).await;
    }
    // Public suffixes and malformed names are refused.
    for name in [
        "co.test",
        "Co.Test",
        "nodots",
        "-a.test",
        "a-.test",
        "a_b.test",
        "*.free.test",
        "a..test",
        &format!("{}.test", "a".repeat(64)),
        &format!("{}.test", vec!["a".repeat(60); 5].join(".")),
    ] {
        refused(&f, &f.admin, mine(name)).await;
    }
    let reason = refused(&f, &f.admin, mine("co.test")).await;
    assert!(reason.contains("cannot be used for org-scoped"), "{reason}");
    domain(&f, json!({ "name": "co.test" })).await;

    // A route may not be equal to a domain; the name of an app as such may be.
    let (status, answer) = f
        .call(Method::POST, "/v3/routes", Some(f.route_body("free", "")))
        .await;
    assert_eq!(
        (status, detail(&answer)),
        (422, "Route conflicts with domain 'free.apps.test'.")
    );
    // The context paths of one host are in one space on a shared domain, and in several spaces on a private one.
    let private = domain(&f, mine("private.test")).await;
    let second = f.another_space(&f.organization, "second").await;
    let body = |host: &str, path: &str, domain: &str, space: &str| json!({ "host": host, "path": path, "relationships": { "space": { "data": { "guid": space } }, "domain": { "data": { "guid": domain } } } });
    f.send(
        Method::POST,
        "/v3/routes",
        body("c", "/1", &private, &f.space),
    )
    .await;
    f.send(
        Method::POST,
        "/v3/routes",
        body("c", "/2", &private, &second),
    )
    .await;
    f.send(Method::POST, "/v3/routes", body("", "", &private, &second))
        .await;
    for (domain, space) in [(&f.domain, &second), (&f.domain, &other_space)] {
        let (status, answer) = f
            .call(
                Method::POST,
                "/v3/routes",
                Some(body("web", "/2", domain, space)),
            )
            .await;
        assert_eq!(status, 422);
        assert!(
            detail(&answer).starts_with(
                "Routes for this host and domain have been reserved for another space."
            ),
            "{answer}"
        );
    }
    // A transfer may not separate them, nor move a route to a space where its domain is not usable.
    f.send(
        Method::PATCH,
        "/v3/feature_flags/route_sharing",
        json!({ "enabled": true }),
    )
    .await;
    let part = f.create_route("web", "/part").await;
    let alone = f
        .send(
            Method::POST,
            "/v3/routes",
            body("alone", "", &private, &f.space),
        )
        .await;
    for (route, space) in [
        (part.as_str(), &second),
        (alone["guid"].as_str().unwrap(), &other_space),
    ] {
        let (status, answer) = f
            .call(
                Method::PATCH,
                &format!("/v3/routes/{route}/relationships/space"),
                Some(json!({ "data": { "guid": space } })),
            )
            .await;
        assert_eq!(status, 422, "{answer}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_routes() {
    let f = Foundation::start().await;
    let developer = f
        .user(
            "dev",
            &[
                ("organization_user", "organization", &f.organization),
                ("space_developer", "space", &f.space),
            ],
        )
        .await;
    let own = domain(&f, private("own.test", &f.organization)).await;
    let internal = domain(&f, json!({ "name": "more.internal", "internal": true })).await;
    let body = |host: &str, path: &str, domain: &str| {
        let mut body = f.route_body(host, path);
        body["relationships"]["domain"]["data"]["guid"] = json!(domain);
        body
    };
    let shared = f.domain.clone();
    let long = "a".repeat(64);
    for (host, path, domain, developer_gets, admin_gets) in [
        ("*", "", &shared, 422, 201),
        ("*", "", &own, 201, 422),
        ("*", "", &internal, 422, 422),
        ("", "", &shared, 422, 422),
        ("", "", &own, 201, 422),
        ("a.b", "", &own, 422, 422),
        (long.as_str(), "", &own, 422, 422),
        ("under_score", "", &own, 201, 422),
        ("p", "/x", &internal, 422, 422),
        ("p", "", &internal, 201, 422),
    ] {
        for (token, expected) in [(&developer, developer_gets), (&f.admin, admin_gets)] {
            let (status, answer) = f
                .call_as(
                    token,
                    Method::POST,
                    "/v3/routes",
                    Some(body(host, path, domain)),
                )
                .await;
            assert_eq!(status, expected, "{host} {path}: {answer}");
        }
    }
    let (_, job) = f
        .apply_manifest("applications:\n- name: a\n  routes: [{route: \"*.apps.test\"}]\n")
        .await;
    // The route exists already, so that it is mapped. A new one is refused even for administrators.
    assert_eq!(job["state"], "COMPLETE", "{job}");
    f.finish().await;
}
