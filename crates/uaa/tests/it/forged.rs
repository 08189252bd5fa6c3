//! Tests of attacks: tokens that were not issued here, tokens of others, and requests that are made to fill something up.

use crate::fixture::{Running, start};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

fn parts(token: &str) -> Vec<&str> {
    token.trim_start_matches("bearer ").split('.').collect()
}

fn json_of(part: &str) -> Value {
    serde_json::from_slice(&BASE64.decode(part).unwrap()).unwrap()
}

fn part(json: &Value) -> String {
    BASE64.encode(json.to_string())
}

impl Running {
    async fn is_accepted(&self, token: &str) -> bool {
        let token = format!("bearer {token}");
        let (status, _) = self.send("GET", "/Users", &token, None).await;
        let by_cc = self.asking_verifier().verify(&token).await.is_ok();
        status == 200 || by_cc
    }
}

#[tokio::test]
async fn forged_tokens_open_nothing() {
    let uaa = start().await;
    let good = uaa.token("admin", "sesame").await;
    let [head, claims, signature] = parts(&good)[..] else {
        panic!("{good}")
    };
    assert!(uaa.is_accepted(&good[7..]).await);
    let mut forged = Vec::new();
    for alg in ["none", "None", "NONE", "", "HS256", "RS512", "ES256"] {
        let mut header = json_of(head);
        header["alg"] = json!(alg);
        for signature in ["", signature] {
            forged.push(format!("{}.{claims}.{signature}", part(&header)));
        }
    }
    // The public key is used as a shared secret, in each form in which it is published.
    let (_, key) = uaa.send("GET", "/token_key", "", None).await;
    for name in ["value", "n", "kid", "e"] {
        let secret = key[name].as_str().unwrap();
        for secret in [secret, secret.trim()] {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = key["kid"].as_str().map(str::to_owned);
            let key = EncodingKey::from_secret(secret.as_bytes());
            forged.push(jsonwebtoken::encode(&header, &json_of(claims), &key).unwrap());
        }
    }
    // The tokens come from another UAA of the same name, or have changed claims.
    let other = start().await.token("admin", "sesame").await;
    forged.push(other[7..].to_owned());
    let [_, other_claims, other_signature] = parts(&other)[..] else {
        panic!("{other}")
    };
    forged.push(format!("{head}.{other_claims}.{other_signature}"));
    let mut changed = json_of(claims);
    changed["exp"] = json!(4_000_000_000_u64);
    forged.push(format!("{head}.{}.{signature}", part(&changed)));
    let mut header = json_of(head);
    header["jku"] = json!(format!("{}/token_keys", uaa.url));
    forged.push(format!("{}.{claims}.{signature}", part(&header)));
    forged.extend([
        format!("{head}.{claims}"),
        format!("{head}.{claims}."),
        format!("{head}.{claims}.{signature}.{signature}"),
        format!("{head}.{claims}.{}", signature.to_uppercase()),
        format!(".{claims}.{signature}"),
        "..".to_owned(),
    ]);
    for token in forged {
        assert!(!uaa.is_accepted(&token).await, "{token}");
    }
    assert!(uaa.is_accepted(&good[7..]).await);
}

#[tokio::test]
async fn a_token_is_good_for_its_own_purpose_and_client() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    let client = json!({
        "client_id": "ci", "client_secret": "s", "authorized_grant_types": ["password", "refresh_token"],
        "scope": ["cloud_controller.read"], "authorities": ["uaa.none"],
    });
    let (status, body) = uaa
        .send("POST", "/oauth/clients", &admin, Some(client))
        .await;
    assert_eq!(status, 201, "{body}");
    let login = [
        ("grant_type", "password"),
        ("username", "admin"),
        ("password", "sesame"),
    ];
    let (status, of_ci) = uaa.grant(("ci", "s"), &login).await;
    assert_eq!(status, 200, "{of_ci}");
    let (_, of_cf) = uaa.login("admin", "sesame").await;
    let text = |body: &Value, name: &str| body[name].as_str().unwrap().to_owned();
    let again = async |client: (&str, &str), token: &str| {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        uaa.grant(client, &form).await.0.as_u16()
    };
    let (ci, cf) = (("ci", "s"), ("cf", ""));
    assert_eq!(again(ci, &text(&of_ci, "refresh_token")).await, 200);
    assert_eq!(again(cf, &text(&of_ci, "refresh_token")).await, 401);
    assert_eq!(again(ci, &text(&of_cf, "refresh_token")).await, 401);
    assert_eq!(
        again(("ci", "wrong"), &text(&of_ci, "refresh_token")).await,
        401
    );
    // An access token does not yield a new one, and a refresh token gives no access.
    assert_eq!(again(cf, &text(&of_cf, "access_token")).await, 401);
    assert!(!uaa.is_accepted(&text(&of_cf, "refresh_token")).await);
    // A refresh does not yield more than was granted.
    let refresh = text(&of_ci, "refresh_token");
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh.as_str()),
        ("scope", "cloud_controller.admin"),
    ];
    assert_eq!(uaa.grant(ci, &form).await.0, 400);
    // A changed secret and a deleted client revoke the tokens that they issued.
    let body = json!({"secret": "new"});
    let changed = uaa
        .send("PUT", "/oauth/clients/ci/secret", &admin, Some(body))
        .await;
    assert_eq!(changed.0, 200);
    assert_eq!(again(("ci", "new"), &refresh).await, 401);
    let (_, of_ci) = uaa.grant(("ci", "new"), &login).await;
    let deleted = uaa.send("DELETE", "/oauth/clients/ci", &admin, None).await;
    assert_eq!(deleted.0, 200);
    // Cloud Controller accepts a token when the UAA answers too late, so it may have to ask several times.
    let ended = text(&of_ci, "access_token");
    let mut accepted = true;
    for _ in 0..5 {
        accepted = accepted && uaa.is_accepted(&ended).await;
    }
    assert!(!accepted);
}

#[tokio::test]
async fn a_scope_is_granted_once_however_often_it_is_requested() {
    let uaa = start().await;
    let ask = async |scope: &str| {
        let form = [
            ("grant_type", "password"),
            ("username", "admin"),
            ("password", "sesame"),
            ("scope", scope),
        ];
        uaa.grant(("cf", ""), &form).await
    };
    let (status, body) = ask(&"openid ".repeat(20_000)).await;
    assert_eq!((status.as_u16(), &body["scope"]), (200, &json!("openid")));
    let (status, body) = ask(&"x".repeat(100_000)).await;
    assert_eq!(status, 400);
    assert!(body.to_string().len() < 1000);
    for scope in ["uaa.god", "openid uaa.god", "*", "cloud_controller.*"] {
        assert_eq!(ask(scope).await.0, 400, "{scope}");
    }
}

#[tokio::test]
async fn unknown_names_are_not_stored() {
    let uaa = start().await;
    let long = "n".repeat(200_000);
    let (status, body) = uaa.login(&long, "x").await;
    let (other, same) = uaa.login("nobody", "x").await;
    assert_eq!((status, body), (other, same), "as any wrong name");
    for _ in 0..8 {
        assert_eq!(uaa.login(&long, "x").await.0, 401);
    }
}

#[tokio::test]
async fn the_right_to_write_users_does_not_make_an_administrator() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    let client = json!({
        "client_id": "hr", "client_secret": "s", "authorized_grant_types": ["client_credentials"],
        "authorities": ["scim.read", "scim.write"],
    });
    assert_eq!(
        uaa.send("POST", "/oauth/clients", &admin, Some(client))
            .await
            .0,
        201
    );
    let (_, body) = uaa
        .grant(("hr", "s"), &[("grant_type", "client_credentials")])
        .await;
    let hr = format!("bearer {}", body["access_token"].as_str().unwrap());
    let (_, users) = uaa
        .send(
            "GET",
            "/Users?filter=userName%20eq%20%22admin%22",
            &hr,
            None,
        )
        .await;
    let id = users["resources"][0]["id"].as_str().unwrap();
    let path = format!("/Users/{id}/password");
    let taken = uaa
        .send("PUT", &path, &hr, Some(json!({"password": "mine"})))
        .await;
    assert_eq!(taken.0, 403);
    let groups = json!([{"value": "uaa.admin", "display": "uaa.admin"}]);
    let user = json!({"userName": "eve", "password": "p", "groups": groups});
    assert_eq!(uaa.send("POST", "/Users", &hr, Some(user)).await.0, 400);
    assert_eq!(uaa.login("admin", "sesame").await.0, 200);
}

#[tokio::test]
async fn unchangeable_fields_of_a_user_are_refused_by_name() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    let id = uaa.create_user("ann", "first").await;
    let path = format!("/Users/{id}");
    let (_, shown) = uaa.send("GET", &path, &admin, None).await;
    let (status, body) = uaa.send("PUT", &path, &admin, Some(shown.clone())).await;
    assert_eq!(status, 200, "as it was shown: {body}");
    for (key, value) in [
        ("username", json!("bob")),
        ("userName", json!(5)),
        ("userName", json!(["bob"])),
        ("origin", json!("ldap")),
        ("password", json!("second")),
        ("groups", json!([{"display": "uaa.admin"}])),
        ("active", json!("no")),
        ("verified", json!(false)),
        ("id", json!("other")),
        ("emails", json!("a@b")),
        ("name", json!("Ann")),
        ("nickName", json!("A")),
    ] {
        let mut changed = shown.clone();
        changed[key] = value.clone();
        let (status, body) = uaa.send("PUT", &path, &admin, Some(changed)).await;
        let text = body["error_description"].as_str().unwrap_or_default();
        assert!(
            status == 400 && text.contains(key),
            "{key} {value}: {status} {body}"
        );
    }
    for (key, value) in [
        ("userName", json!(5)),
        ("password", json!(5)),
        ("emails", json!({})),
        ("roles", json!([])),
    ] {
        let mut user = json!({"userName": "new", "password": "p", "emails": [{"value": "n"}]});
        user[key] = value;
        let (status, body) = uaa.send("POST", "/Users", &admin, Some(user)).await;
        assert!(
            status == 400 && body.to_string().contains(key),
            "{key}: {status} {body}"
        );
    }
    let (_, after) = uaa.send("GET", &path, &admin, None).await;
    assert_eq!(after["userName"], "ann");
}
