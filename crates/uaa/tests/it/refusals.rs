//! Tests of refusals: tokens of others or for others, credentials in URLs, names, passwords, bodies.

use crate::fixture::{start, start_as};
use clients::uaa::TokenError;
use serde_json::{Value, json};

#[tokio::test]
async fn a_token_for_another_api_is_refused() {
    let uaa = start().await;
    let form = [
        ("grant_type", "password"),
        ("username", "admin"),
        ("password", "sesame"),
        ("scope", "network.write"),
    ];
    let (status, body) = uaa.grant(("cf", ""), &form).await;
    assert_eq!(status, 200, "{body}");
    let token = format!("bearer {}", body["access_token"].as_str().unwrap());
    uaa.verifier_for(&["network"]).verify(&token).await.unwrap();
    let refused = uaa.verifier().verify(&token).await;
    assert!(
        matches!(&refused, Err(TokenError::Invalid(why)) if why.contains("cloud_controller")),
        "{refused:?}"
    );
    for path in [
        "/Users",
        "/userinfo",
        "/oauth/clients/cf",
        "/oauth/authorize?response_type=code&client_id=ssh-proxy",
    ] {
        let (status, body) = uaa.send("GET", path, &token, None).await;
        assert_eq!(
            (status.as_u16(), &body["error"]),
            (403, &json!("access_denied")),
            "{path}"
        );
    }
    // A token with reduced scopes gets no code for a wider one.
    let mut form = form;
    form[3].1 = "cloud_controller.read openid";
    let (_, body) = uaa.grant(("cf", ""), &form).await;
    let token = format!("bearer {}", body["access_token"].as_str().unwrap());
    let path = "/oauth/authorize?response_type=code&client_id=ssh-proxy";
    assert_eq!(uaa.send("GET", path, &token, None).await.0, 403);
}

/// Tests two foundations with one key: a restored copy, or one that moved to another domain.
#[tokio::test]
async fn a_token_of_another_issuer_is_refused() {
    let uaa = start().await;
    let token = uaa.token("admin", "sesame").await;
    uaa.verifier().verify(&token).await.unwrap();
    let mut uaa = uaa;
    let dir = std::mem::replace(&mut uaa.dir, tempfile::tempdir().unwrap());
    uaa.server.stop();
    let moved = start_as(dir, "http://uaa.other.test").await;
    let refused = moved.verifier().verify(&token).await;
    assert!(
        matches!(&refused, Err(TokenError::Invalid(why)) if why.contains("issued by")),
        "{refused:?}"
    );
    assert_eq!(moved.send("GET", "/userinfo", &token, None).await.0, 401);
    let new = moved.token("admin", "sesame").await;
    moved.verifier().verify(&new).await.unwrap();
}

#[tokio::test]
async fn credentials_in_a_url_are_refused_by_name_at_any_position() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    for path in [
        "/oauth/token",
        "/login",
        "/Users",
        "/userinfo",
        "/check_token",
        "/introspect",
        "/oauth/authorize",
        "/oauth/clients",
        "/oauth/clients/cf",
        "/token_keys",
        "/info",
        "/nowhere",
        "/ids/Users",
        "/Users/x/password",
        "/oauth/clients/cf/secret",
        "/oauth/token/revoke/x",
        "/.well-known/openid-configuration",
    ] {
        for name in [
            "password",
            "client_secret",
            "refresh_token",
            "token",
            "oldPassword",
            "passcode",
            "assertion",
        ] {
            for method in ["GET", "POST", "PUT"] {
                let url = format!("{path}?a=b&{name}=hush");
                let (status, body) = uaa.send(method, &url, &admin, None).await;
                let text = body["error_description"].as_str().unwrap_or_default();
                assert!(
                    status == 400 && text.contains(name) && !text.contains("hush"),
                    "{method} {url}: {status} {body}"
                );
            }
        }
    }
    // Cloud Foundry's UAA accepts this grant in the URL.
    let url = format!(
        "{}/oauth/token?grant_type=password&username=admin&password=sesame",
        uaa.url
    );
    let answer = uaa
        .http
        .post(&url)
        .basic_auth("cf", Some(""))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    // The cf CLI sends this in the URL.
    let hint = "login_hint=%7B%22origin%22%3A%22uaa%22%7D";
    let url = format!("{}/oauth/token?{hint}", uaa.url);
    let form = [
        ("grant_type", "password"),
        ("username", "admin"),
        ("password", "sesame"),
    ];
    let answer = uaa
        .http
        .post(&url)
        .basic_auth("cf", Some(""))
        .form(&form)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    // Any other parameter must not be in the URL.
    let url = format!("{}/oauth/token?username=admin", uaa.url);
    let answer = uaa
        .http
        .post(&url)
        .basic_auth("cf", Some(""))
        .form(&form)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
}

#[tokio::test]
async fn an_unknown_origin_is_named_as_in_the_original() {
    let uaa = start().await;
    let with = |hint: &'static str| {
        let uaa = &uaa;
        async move {
            let form = [
                ("grant_type", "password"),
                ("username", "admin"),
                ("password", "sesame"),
                ("login_hint", hint),
            ];
            uaa.grant(("cf", ""), &form).await
        }
    };
    let (status, body) = with(r#"{"origin":"EA"}"#).await;
    assert_eq!(
        (status.as_u16(), &body["error"], &body["error_description"]),
        (
            401,
            &json!("unauthorized"),
            &json!("The origin provided in the login hint is invalid.")
        )
    );
    assert_eq!(with(r#"{"origin":"uaa"}"#).await.0, 200);
    for broken in ["EA", "{}", r#"{"origin":1}"#, "[]"] {
        assert_eq!(with(broken).await.0, 400, "{broken}");
    }
}

#[tokio::test]
async fn names_that_two_origins_share_stay_two_users() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    for origin in ["uaa", "ldap"] {
        let user = json!({"userName": "twin", "password": "p", "origin": origin});
        assert_eq!(uaa.send("POST", "/Users", &admin, Some(user)).await.0, 201);
    }
    let list = |filter: &str| {
        let path = format!("/Users?filter={filter}");
        let (uaa, admin) = (&uaa, &admin);
        async move { uaa.send("GET", &path, admin, None).await.1 }
    };
    let both = list("userName%20eq%20%22TWIN%22").await;
    assert_eq!(both["totalResults"], 2);
    let one = list("userName%20eq%20%22twin%22%20and%20origin%20eq%20%22ldap%22").await;
    assert_eq!(
        (&one["totalResults"], &one["resources"][0]["origin"]),
        (&json!(1), &json!("ldap"))
    );
}

#[tokio::test]
async fn names_and_passwords_that_the_original_refuses() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    for name in [
        "<script>", "a b", "a#b", "a/b", "a;b", "\u{0}", "a\nb", "😀", "",
    ] {
        let user = json!({"userName": name, "password": "p"});
        let (status, body) = uaa.send("POST", "/Users", &admin, Some(user)).await;
        assert_eq!(
            (status.as_u16(), &body["error"]),
            (400, &json!("invalid_scim_resource")),
            "{name:?}"
        );
    }
    let user = json!({"userName": "<script>", "password": "p"});
    let (_, body) = uaa.send("POST", "/Users", &admin, Some(user)).await;
    assert_eq!(
        body["message"],
        r"Username must match pattern: [\p{L}+0-9+\-_.@'!]+"
    );
    let id = uaa.create_user("o'neill+tag@exämple.com", "first").await;
    let renamed = json!({"userName": "<script>"});
    assert_eq!(
        uaa.send("PUT", &format!("/Users/{id}"), &admin, Some(renamed))
            .await
            .0,
        400
    );

    let own = uaa.token("o'neill+tag@exämple.com", "first").await;
    let path = format!("/Users/{id}/password");
    let same = json!({"oldPassword": "first", "password": "first"});
    for token in [&own, &admin] {
        let (status, body) = uaa.send("PUT", &path, token, Some(same.clone())).await;
        assert_eq!(
            (status.as_u16(), &body["error"], &body["message"]),
            (
                422,
                &json!("invalid_password"),
                &json!("Your new password cannot be the same as the old password.")
            )
        );
    }
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_in_json() {
    let uaa = start().await;
    let admin = uaa.token("admin", "sesame").await;
    let large = "x".repeat(300 << 10);
    let post = |path: &str, kind: &'static str, body: String| {
        let request = uaa
            .http
            .post(format!("{}{path}", uaa.url))
            .header("content-type", kind);
        let request = request.header("authorization", &admin).body(body);
        async move {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.json::<Value>().await.unwrap())
        }
    };
    let form = "application/x-www-form-urlencoded";
    for path in ["/oauth/token", "/check_token", "/introspect"] {
        let (status, body) = post(path, form, format!("token={large}")).await;
        assert_eq!(status, 413, "{path}: {body}");
        assert_eq!(
            post(path, "application/json", "{}".into()).await.0,
            415,
            "{path}"
        );
    }
    for path in ["/Users", "/oauth/clients"] {
        let (status, body) = post(path, "application/json", format!("\"{large}\"")).await;
        assert_eq!(status, 413, "{path}: {body}");
        for broken in ["", "{", "[]", "1"] {
            let (status, body) = post(path, "application/json", broken.into()).await;
            assert_eq!(status, 400, "{path} {broken}: {body}");
        }
    }
    let twice = "grant_type=password&username=admin&password=a&password=sesame";
    let (status, body) = post("/oauth/token", form, twice.into()).await;
    assert!(
        status == 400
            && body["error_description"]
                .as_str()
                .unwrap()
                .contains("password"),
        "{body}"
    );
    let (status, body) = uaa.send("PUT", "/login", "", None).await;
    assert_eq!(
        (status.as_u16(), &body["error"]),
        (405, &json!("method_not_allowed"))
    );
}
