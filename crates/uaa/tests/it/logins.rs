//! Tests of logins, users and clients: the tokens that they get, and how long these are valid.

use crate::fixture::{start, start_in};
use clients::uaa::{TokenError, TokenVerifier, VerifierConfig};
use serde_json::json;
use std::time::Duration;
use testkit::wait::wait_for;

#[tokio::test]
async fn a_login_returns_a_token_that_apis_accept_and_a_refresh_token_that_they_refuse() {
    let uaa = start().await;
    let (_, prompts) = uaa.send("GET", "/login", "", None).await;
    assert_eq!(prompts["prompts"]["password"][0], "password");
    let (status, body) = uaa.login("admin", "sesame").await;
    assert_eq!(
        (status.as_u16(), body["token_type"].as_str()),
        (200, Some("bearer"))
    );
    let verifier = uaa.verifier();
    let claims = verifier
        .verify(&format!(
            "bearer {}",
            body["access_token"].as_str().unwrap()
        ))
        .await
        .unwrap();
    assert!(claims.is_admin() && claims.has_scope("scim.write"));
    assert_eq!(
        (
            claims.user_name.as_deref(),
            claims.origin.as_deref(),
            claims.client_id.as_str()
        ),
        (Some("admin"), Some("uaa"), "cf")
    );
    let refresh = body["refresh_token"].as_str().unwrap();
    assert!(matches!(
        verifier.verify(&format!("bearer {refresh}")).await,
        Err(TokenError::Invalid(_))
    ));
    let (status, again) = uaa
        .grant(
            ("cf", ""),
            &[("grant_type", "refresh_token"), ("refresh_token", refresh)],
        )
        .await;
    assert_eq!(
        (status.as_u16(), again["refresh_token"].as_str()),
        (200, Some(refresh)),
        "{again}"
    );
    verifier
        .verify(&format!(
            "bearer {}",
            again["access_token"].as_str().unwrap()
        ))
        .await
        .unwrap();
    // An access token is not accepted as a refresh token.
    let (status, body) = uaa
        .grant(
            ("cf", ""),
            &[
                ("grant_type", "refresh_token"),
                ("refresh_token", body["access_token"].as_str().unwrap()),
            ],
        )
        .await;
    assert_eq!(
        (status.as_u16(), body["error"].as_str()),
        (401, Some("invalid_token"))
    );
    let (_, discovery) = uaa
        .send("GET", "/.well-known/openid-configuration", "", None)
        .await;
    assert_eq!(discovery["issuer"], "http://uaa.cupola.test/oauth/token");
}

#[tokio::test]
async fn wrong_passwords_are_refused_and_then_locked_out() {
    let uaa = start().await;
    for _ in 0..5 {
        let (status, body) = uaa.login("admin", "wrong").await;
        assert_eq!(
            (
                status.as_u16(),
                body["error"].as_str(),
                body["error_description"].as_str()
            ),
            (401, Some("unauthorized"), Some("Bad credentials"))
        );
    }
    let (status, body) = uaa.login("admin", "sesame").await;
    assert_eq!(status, 401);
    assert!(
        body["error_description"]
            .as_str()
            .unwrap()
            .contains("locked"),
        "{body}"
    );
    let (status, body) = uaa.login("nobody", "x").await;
    assert_eq!(
        (status.as_u16(), body["error_description"].as_str()),
        (401, Some("Bad credentials"))
    );
    let (status, body) = uaa
        .grant(("cf", "not-empty"), &[("grant_type", "password")])
        .await;
    assert_eq!(
        (status.as_u16(), body["error"].as_str()),
        (401, Some("invalid_client"))
    );
    let (status, body) = uaa.grant(("cf", ""), &[("grant_type", "magic")]).await;
    assert_eq!(
        (status.as_u16(), body["error"].as_str()),
        (400, Some("unsupported_grant_type"))
    );
}

#[tokio::test]
async fn expired_and_invalid_tokens_have_different_errors() {
    let uaa = start_in(
        tempfile::tempdir().unwrap(),
        "sesame",
        false,
        Duration::ZERO,
    )
    .await;
    let token = uaa.token("admin", "sesame").await;
    let verifier = uaa.verifier();
    // Expiry counts whole seconds.
    wait_for("the token to be refused", async || {
        verifier.verify(&token).await.is_err()
    })
    .await;
    assert_eq!(verifier.verify(&token).await, Err(TokenError::Expired));
    let nobody = TokenVerifier::new(VerifierConfig {
        url: "http://127.0.0.1:1".into(),
        audiences: &["cloud_controller"],
        resource_server: None,
    })
    .unwrap();
    assert_eq!(nobody.verify(&token).await, Err(TokenError::Unreachable));
}

#[tokio::test]
async fn administrators_keep_users_and_users_keep_their_password() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    let ann = json!({"userName": "Ann", "password": "first", "origin": "", "name": {"familyName": "A", "givenName": "N"}, "emails": [{"value": "ann@x", "primary": true}]});
    let (status, created) = uaa.send("POST", "/Users", &admin, Some(ann.clone())).await;
    assert_eq!(status, 201, "{created}");
    let id = created["id"].as_str().unwrap();
    let (status, body) = uaa.send("POST", "/Users", &admin, Some(ann)).await;
    assert_eq!(
        (status.as_u16(), body["error"].as_str()),
        (409, Some("scim_resource_already_exists"))
    );
    let (_, found) = uaa
        .send(
            "GET",
            "/Users?filter=userName%20eq%20%22ann%22%20and%20origin%20eq%20%22uaa%22",
            &admin,
            None,
        )
        .await;
    assert_eq!(
        (
            found["totalResults"].as_u64(),
            found["resources"][0]["id"].as_str()
        ),
        (Some(1), Some(id))
    );

    let token = uaa.token("ann", "first").await;
    let claims = uaa.verifier().verify(&token).await.unwrap();
    assert!(!claims.is_admin() && claims.has_scope("cloud_controller.write"));
    assert_eq!(uaa.send("GET", "/Users", &token, None).await.0, 403);
    assert_eq!(uaa.send("GET", "/Users", "", None).await.0, 401);
    assert_eq!(
        uaa.send("GET", "/userinfo", &token, None).await.1["user_name"],
        "Ann"
    );

    let (_, session) = uaa.login("ann", "first").await;
    let path = format!("/Users/{id}/password");
    assert_eq!(
        uaa.send(
            "PUT",
            &path,
            &token,
            Some(json!({"oldPassword": "no", "password": "second"}))
        )
        .await
        .0,
        401
    );
    assert_eq!(
        uaa.send(
            "PUT",
            &path,
            &token,
            Some(json!({"oldPassword": "first", "password": "second"}))
        )
        .await
        .0,
        200
    );
    uaa.token("ann", "second").await;
    let (status, _) = uaa
        .grant(
            ("cf", ""),
            &[
                ("grant_type", "refresh_token"),
                ("refresh_token", session["refresh_token"].as_str().unwrap()),
            ],
        )
        .await;
    assert_eq!(status, 401, "a new password ends old sessions");

    assert_eq!(
        uaa.send("DELETE", &format!("/Users/{id}"), &admin, None)
            .await
            .0,
        200
    );
    assert_eq!(uaa.login("ann", "second").await.0, 401);
    assert_eq!(
        uaa.send("DELETE", &format!("/Users/{id}"), &admin, None)
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn clients_get_tokens_of_their_own_and_look_into_others() {
    let uaa = start().await;
    let (status, body) = uaa
        .grant(("cc", "cc-secret"), &[("grant_type", "client_credentials")])
        .await;
    assert_eq!(status, 200, "{body}");
    let token = format!("bearer {}", body["access_token"].as_str().unwrap());
    let claims = uaa.verifier().verify(&token).await.unwrap();
    assert_eq!((claims.client_id.as_str(), claims.user_name), ("cc", None));
    assert_eq!(
        uaa.send(
            "GET",
            "/ids/Users?filter=userName%20eq%20%22admin%22",
            &token,
            None
        )
        .await
        .1["totalResults"],
        1
    );
    assert_eq!(uaa.send("GET", "/Users", &token, None).await.0, 403);
    // The secret is in the body.
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "cc"),
        ("client_secret", "cc-secret"),
    ];
    assert_eq!(
        uaa.http
            .post(format!("{}/oauth/token", uaa.url))
            .form(&form)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let check = |token: &str| {
        uaa.http
            .post(format!("{}/check_token", uaa.url))
            .basic_auth("cc", Some("cc-secret"))
            .form(&[("token", token.to_owned())])
            .send()
    };
    assert_eq!(check(&token[7..]).await.unwrap().status(), 200);
    assert_eq!(check("x.y.z").await.unwrap().status(), 400);
    let admin = uaa.token("admin", "sesame").await;
    let (status, client) = uaa.send("GET", "/oauth/clients/cc", &admin, None).await;
    assert_eq!(
        (
            status.as_u16(),
            client["client_id"].as_str(),
            client.get("client_secret")
        ),
        (200, Some("cc"), None)
    );
    assert_eq!(
        uaa.send("GET", "/oauth/clients/none", &admin, None).await.0,
        404
    );
}

#[tokio::test]
async fn an_ssh_code_is_exchanged_once() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    let path =
        "/oauth/authorize?response_type=code&grant_type=authorization_code&client_id=ssh-proxy";
    let response = uaa
        .http
        .get(format!("{}{path}", uaa.url))
        .header("authorization", &admin)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 302);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let code = location.split_once("?code=").unwrap().1;
    let form = [("grant_type", "authorization_code"), ("code", code)];
    let (status, body) = uaa.grant(("ssh-proxy", "ssh-secret"), &form).await;
    assert_eq!(status, 200, "{body}");
    let claims = uaa
        .verifier()
        .verify(&format!(
            "bearer {}",
            body["access_token"].as_str().unwrap()
        ))
        .await
        .unwrap();
    assert_eq!(
        (claims.user_name.as_deref(), claims.client_id.as_str()),
        (Some("admin"), "ssh-proxy")
    );
    assert_eq!(uaa.grant(("ssh-proxy", "ssh-secret"), &form).await.0, 400);
}

#[tokio::test]
async fn a_restart_keeps_users_keys_and_the_changed_password() {
    let uaa = start().await;
    let token = uaa.token("admin", "sesame").await;
    let mut uaa = uaa;
    let dir = std::mem::replace(&mut uaa.dir, tempfile::tempdir().unwrap());
    uaa.server.stop();
    let second = start_in(dir, "other", false, Duration::from_secs(600)).await;
    second.verifier().verify(&token).await.unwrap();
    assert_eq!(
        second.login("admin", "other").await.0,
        401,
        "the configured password counts at first start only"
    );
    second.token("admin", "sesame").await;
    let mut second = second;
    let dir = std::mem::replace(&mut second.dir, tempfile::tempdir().unwrap());
    second.server.stop();
    let third = start_in(dir, "other", true, Duration::from_secs(600)).await;
    third.token("admin", "other").await;
}
