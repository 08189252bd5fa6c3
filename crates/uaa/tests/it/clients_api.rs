//! Tests of `/oauth/clients`: clients for machines such as CI.

use crate::fixture::{start, start_in};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::wait::wait_for;

fn ci(id: &str) -> Value {
    json!({
        "client_id": id, "client_secret": "s3cret", "authorized_grant_types": ["client_credentials"],
        "authorities": ["cloud_controller.admin", "scim.read"], "scope": [], "name": "the builder",
    })
}

#[tokio::test]
async fn a_client_for_ci_lives_from_creation_to_deletion() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    let (status, created) = uaa
        .send("POST", "/oauth/clients", &admin, Some(ci("ci")))
        .await;
    assert_eq!(status, 201, "{created}");
    assert_eq!(
        (
            &created["client_id"],
            &created["scope"],
            created.get("client_secret")
        ),
        (&json!("ci"), &json!(["uaa.none"]), None)
    );
    let (status, body) = uaa
        .send("POST", "/oauth/clients", &admin, Some(ci("ci")))
        .await;
    assert_eq!(
        (status.as_u16(), &body["error_description"]),
        (409, &json!("Client already exists: ci"))
    );

    let login = |secret: &'static str| {
        let uaa = &uaa;
        async move {
            uaa.grant(("ci", secret), &[("grant_type", "client_credentials")])
                .await
        }
    };
    let (status, body) = login("s3cret").await;
    assert_eq!(status, 200, "{body}");
    let token = format!("bearer {}", body["access_token"].as_str().unwrap());
    let cc = uaa.asking_verifier();
    assert!(cc.verify(&token).await.unwrap().is_admin());
    assert_eq!(uaa.send("GET", "/Users", &token, None).await.0, 200);

    let read = |name: &str| std::fs::read(uaa.dir.path().join(name));
    let (stored, wal) = match testkit::postgres::dump(uaa.dir.path()) {
        Some(dump) => (dump, Vec::new()),
        None => (
            read("uaa.db").unwrap(),
            read("uaa.db-wal").unwrap_or_default(),
        ),
    };
    let is_in = |haystack: &[u8]| haystack.windows(6).any(|part| part == b"s3cret");
    assert!(
        !is_in(&stored) && !is_in(&wal),
        "the secret is stored in clear"
    );

    // The next token shows the update, and PUT drops everything that it does not name.
    let mut changed = ci("ci");
    changed.as_object_mut().unwrap().remove("client_secret");
    changed["authorities"] = json!("cloud_controller.read");
    changed["access_token_validity"] = json!(33);
    let (status, body) = uaa
        .send("PUT", "/oauth/clients/ci", &admin, Some(changed))
        .await;
    assert_eq!(
        (status.as_u16(), &body["authorities"]),
        (200, &json!(["cloud_controller.read"]))
    );
    let (_, body) = login("s3cret").await;
    assert_eq!(
        (&body["scope"], &body["expires_in"]),
        (&json!("cloud_controller.read"), &json!(33))
    );

    // A new secret revokes the old one and its tokens.
    let path = "/oauth/clients/ci/secret";
    let (status, body) = uaa
        .send("PUT", path, &admin, Some(json!({"secret": "another"})))
        .await;
    assert_eq!((status.as_u16(), &body["status"]), (200, &json!("ok")));
    assert_eq!(login("s3cret").await.0, 401);
    assert_eq!(uaa.send("GET", "/Users", &token, None).await.0, 401);
    wait_for("the old secret's token to be refused", async || {
        cc.verify(&token).await.is_err()
    })
    .await;

    let (_, body) = login("another").await;
    let token = format!("bearer {}", body["access_token"].as_str().unwrap());
    assert_eq!(
        uaa.send("DELETE", "/oauth/clients/ci", &admin, None)
            .await
            .0,
        200
    );
    assert_eq!(login("another").await.0, 401);
    assert_eq!(
        uaa.send("GET", "/oauth/clients/ci", &token, None).await.0,
        401
    );
    assert_eq!(
        uaa.send("GET", "/oauth/clients/ci", &admin, None).await.0,
        404
    );
    assert_eq!(
        uaa.send("DELETE", "/oauth/clients/ci", &admin, None)
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn clients_are_listed_in_pages() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    for n in 0..3 {
        assert_eq!(
            uaa.send(
                "POST",
                "/oauth/clients",
                &admin,
                Some(ci(&format!("ci-{n}")))
            )
            .await
            .0,
            201
        );
    }
    let list = |query: &str| {
        let path = format!("/oauth/clients{query}");
        let (uaa, admin) = (&uaa, &admin);
        async move { uaa.send("GET", &path, admin, None).await }
    };
    let ids = |body: &Value| {
        let resources = body["resources"].as_array().unwrap();
        resources
            .iter()
            .map(|client| client["client_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let (_, all) = list("").await;
    assert_eq!(ids(&all), ["cc", "cf", "ci-0", "ci-1", "ci-2", "ssh-proxy"]);
    assert!(!all.to_string().contains("client_secret"), "{all}");
    let (_, page) = list("?startIndex=2&count=2").await;
    assert_eq!(
        (ids(&page), &page["totalResults"], &page["itemsPerPage"]),
        (vec!["cf".into(), "ci-0".into()], &json!(6), &json!(2))
    );
    let (_, some) = list("?filter=client_id%20sw%20%22ci-%22&sortOrder=descending").await;
    assert_eq!(ids(&some), ["ci-2", "ci-1", "ci-0"]);
    let (_, some) = list("?filter=authorized_grant_types%20eq%20%22password%22").await;
    assert_eq!(ids(&some), ["cf"]);
    for wrong in [
        "?filter=x%20eq%201",
        "?sortBy=color",
        "?sortOrder=up",
        "?count=x",
        "?page=2",
    ] {
        assert_eq!(list(wrong).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_malformed_client_is_refused_by_name() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    for (key, value, named) in [
        ("client_id", json!(""), "client_id"),
        ("client_id", json!("a\u{0}b"), "client_id"),
        ("client_secret", json!(""), "client_secret"),
        ("authorized_grant_types", json!([]), "grant type"),
        ("authorized_grant_types", json!(["implicit"]), "implicit"),
        (
            "authorized_grant_types",
            json!(["refresh_token"]),
            "refresh_token",
        ),
        (
            "authorized_grant_types",
            json!(["authorization_code"]),
            "redirect_uri",
        ),
        (
            "redirect_uri",
            json!(["javascript:alert(1)"]),
            "redirect_uri",
        ),
        (
            "redirect_uri",
            json!(["https://*.example.com/"]),
            "redirect_uri",
        ),
        ("scope", json!(["a b"]), "scope"),
        ("scope", json!([1]), "scope"),
        ("authorities", json!({}), "authorities"),
        ("access_token_validity", json!(0), "access_token_validity"),
        (
            "access_token_validity",
            json!(99_999_999),
            "access_token_validity",
        ),
        ("resource_ids", json!(["x"]), "resource_ids"),
        ("color", json!("blue"), "color"),
    ] {
        let mut client = ci("bad");
        client[key] = value.clone();
        let (status, body) = uaa
            .send("POST", "/oauth/clients", &admin, Some(client))
            .await;
        let text = body["error_description"].as_str().unwrap_or_default();
        assert!(
            status == 400 && text.contains(named),
            "{key} {value}: {status} {body}"
        );
    }
    assert_eq!(
        uaa.send("GET", "/oauth/clients/bad", &admin, None).await.0,
        404
    );
}

#[tokio::test]
async fn a_user_who_is_not_an_administrator_grants_only_their_own_scopes() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    let maker = json!({
        "client_id": "maker", "client_secret": "m", "authorized_grant_types": ["client_credentials"],
        "authorities": ["clients.read", "clients.write", "clients.secret", "cloud_controller.read"],
    });
    assert_eq!(
        uaa.send("POST", "/oauth/clients", &admin, Some(maker))
            .await
            .0,
        201
    );
    assert_eq!(
        uaa.send("POST", "/oauth/clients", &admin, Some(ci("strong")))
            .await
            .0,
        201
    );
    let (_, body) = uaa
        .grant(("maker", "m"), &[("grant_type", "client_credentials")])
        .await;
    let token = format!("bearer {}", body["access_token"].as_str().unwrap());

    let (status, body) = uaa
        .send("POST", "/oauth/clients", &token, Some(ci("evil")))
        .await;
    assert_eq!(
        (status.as_u16(), &body["error"]),
        (400, &json!("invalid_scope")),
        "{body}"
    );
    let mut weak = ci("weak");
    weak["authorities"] = json!(["cloud_controller.read"]);
    weak["scope"] = json!(["uaa.admin"]);
    assert_eq!(
        uaa.send("POST", "/oauth/clients", &token, Some(weak.clone()))
            .await
            .0,
        400
    );
    weak["scope"] = json!(["openid"]);
    assert_eq!(
        uaa.send("POST", "/oauth/clients", &token, Some(weak.clone()))
            .await
            .0,
        201
    );
    // The client cannot take over, or remove, a stronger client.
    weak["client_id"] = json!("strong");
    weak.as_object_mut().unwrap().remove("client_secret");
    assert_eq!(
        uaa.send("PUT", "/oauth/clients/strong", &token, Some(weak))
            .await
            .0,
        400
    );
    assert_eq!(
        uaa.send("DELETE", "/oauth/clients/strong", &token, None)
            .await
            .0,
        400
    );
    let new = Some(json!({"secret": "x"}));
    assert_eq!(
        uaa.send("PUT", "/oauth/clients/strong/secret", &token, new)
            .await
            .0,
        403
    );
    // The client changes its own secret with the old one.
    let path = "/oauth/clients/maker/secret";
    assert_eq!(
        uaa.send("PUT", path, &token, Some(json!({"secret": "n"})))
            .await
            .0,
        400
    );
    let right = json!({"oldSecret": "m", "secret": "n"});
    assert_eq!(uaa.send("PUT", path, &token, Some(right)).await.0, 200);
    assert_eq!(
        uaa.send("GET", "/oauth/clients", &token, None).await.0,
        401,
        "its old tokens are over"
    );
}

#[tokio::test]
async fn users_without_the_right_and_the_foundations_own_clients() {
    let uaa = start().await;
    uaa.create_user("ann", "p").await;
    let (ann, admin) = (
        uaa.token("ann", "p").await,
        uaa.token("admin", "sesame").await,
    );
    for (method, path, body) in [
        ("GET", "/oauth/clients", None),
        ("GET", "/oauth/clients/cf", None),
        ("POST", "/oauth/clients", Some(ci("x"))),
        ("PUT", "/oauth/clients/cf", Some(ci("cf"))),
        ("DELETE", "/oauth/clients/cf", None),
        (
            "PUT",
            "/oauth/clients/cf/secret",
            Some(json!({"secret": "x"})),
        ),
    ] {
        assert_eq!(
            uaa.send(method, path, &ann, body.clone()).await.0,
            403,
            "{method} {path}"
        );
        assert_eq!(
            uaa.send(method, path, "", body.clone()).await.0,
            401,
            "{method} {path}"
        );
        if method != "GET" && path != "/oauth/clients" {
            let (status, body) = uaa.send(method, path, &admin, body).await;
            assert_eq!(
                (status.as_u16(), &body["error"]),
                (403, &json!("invalid_client")),
                "{method} {path}"
            );
        }
    }
    // A restart keeps the clients that the API created, and the configuration keeps its own.
    assert_eq!(
        uaa.send("POST", "/oauth/clients", &admin, Some(ci("ci")))
            .await
            .0,
        201
    );
    let mut uaa = uaa;
    let dir = std::mem::replace(&mut uaa.dir, tempfile::tempdir().unwrap());
    uaa.server.stop();
    let again = start_in(dir, "sesame", false, Duration::from_secs(600)).await;
    let form = [("grant_type", "client_credentials")];
    assert_eq!(again.grant(("ci", "s3cret"), &form).await.0, 200);
    assert_eq!(again.grant(("cc", "cc-secret"), &form).await.0, 200);
}
