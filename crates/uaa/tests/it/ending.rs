//! Tests of tokens that are revoked before they expire, and of the components that must refuse them.

use crate::fixture::{Running, start, start_in};
use clients::uaa::{TokenError, TokenVerifier};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::wait::wait_for;

/// A user with one session, and the components that accept its tokens.
struct Session {
    uaa: Running,
    cc: TokenVerifier,
    user: String,
    /// The access token as `bearer …`.
    access: String,
    refresh: String,
}

impl Session {
    async fn start() -> Self {
        let uaa = start().await;
        let user = uaa.create_user("ann", "first").await;
        let (_, body) = uaa.login("ann", "first").await;
        let session = Self {
            cc: uaa.asking_verifier(),
            user,
            access: format!("bearer {}", body["access_token"].as_str().unwrap()),
            refresh: body["refresh_token"].as_str().unwrap().to_owned(),
            uaa,
        };
        session.must_be_good().await;
        session
    }

    async fn must_be_good(&self) {
        self.cc.verify(&self.access).await.unwrap();
        assert_eq!(
            self.uaa
                .send("GET", "/userinfo", &self.access, None)
                .await
                .0,
            200
        );
        assert!(self.introspected().await);
        assert_eq!(self.uaa.refresh(&self.refresh).await.0, 200);
    }

    async fn introspected(&self) -> bool {
        let form = [("token", &self.access[7..])];
        let request = self.uaa.http.post(format!("{}/introspect", self.uaa.url));
        let request = request.basic_auth("cc", Some("cc-secret")).form(&form);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["active"].as_bool().unwrap()
    }

    /// Checks that the UAA refuses both tokens at once, and Cloud Controller within seconds.
    async fn must_be_over(&self, why: &str) {
        let (status, body) = self.uaa.send("GET", "/userinfo", &self.access, None).await;
        assert_eq!(
            (status.as_u16(), &body["error"]),
            (401, &json!("invalid_token")),
            "{why}"
        );
        assert!(!self.introspected().await, "{why}");
        let (status, body) = self.uaa.refresh(&self.refresh).await;
        assert_eq!(
            (status.as_u16(), &body["error"]),
            (401, &json!("invalid_token")),
            "{why}"
        );
        let what = format!("Cloud Controller to refuse the token ({why})");
        wait_for(&what, async || self.cc.verify(&self.access).await.is_err()).await;
        assert!(matches!(
            self.cc.verify(&self.access).await,
            Err(TokenError::Invalid(_))
        ));
    }

    async fn admin(&self, method: &str, path: &str, body: Option<Value>) {
        let admin = self.uaa.token("admin", "sesame").await;
        let (status, answer) = self.uaa.send(method, path, &admin, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn a_new_password_ends_all_tokens() {
    let session = Session::start().await;
    let body = json!({"oldPassword": "first", "password": "second"});
    let path = format!("/Users/{}/password", session.user);
    let answer = session
        .uaa
        .send("PUT", &path, &session.access, Some(body))
        .await;
    assert_eq!(answer.0, 200);
    session.must_be_over("own password").await;

    let session = Session::start().await;
    let path = format!("/Users/{}/password", session.user);
    session
        .admin("PUT", &path, Some(json!({"password": "second"})))
        .await;
    session.must_be_over("password by an administrator").await;
}

#[tokio::test]
async fn the_end_of_a_user_ends_all_tokens() {
    let session = Session::start().await;
    let path = format!("/Users/{}", session.user);
    session
        .admin("PUT", &path, Some(json!({"active": false})))
        .await;
    session.must_be_over("deactivated").await;
    assert_eq!(session.uaa.login("ann", "first").await.0, 401);
    session
        .admin("PUT", &path, Some(json!({"active": true})))
        .await;
    assert_eq!(session.uaa.login("ann", "first").await.0, 200);

    let session = Session::start().await;
    session
        .admin("DELETE", &format!("/Users/{}", session.user), None)
        .await;
    session.must_be_over("deleted").await;
}

#[tokio::test]
async fn tokens_are_revoked_by_user_by_client_by_both_and_by_name() {
    for (method, path) in [
        ("GET", "/oauth/token/revoke/user/USER"),
        ("DELETE", "/oauth/token/revoke/user/USER"),
        ("GET", "/oauth/token/revoke/client/cf"),
        ("DELETE", "/oauth/token/revoke/user/USER/client/cf"),
    ] {
        let session = Session::start().await;
        let path = path.replace("USER", &session.user);
        session.admin(method, &path, None).await;
        session.must_be_over(&path).await;
        assert_eq!(
            session.uaa.login("ann", "first").await.0,
            200,
            "only tokens end"
        );
    }
    // For the caller's own tokens, refresh token and access token are revoked together, whichever is named.
    for suffix in ["", "-r"] {
        let session = Session::start().await;
        let claims = session.cc.verify(&session.access).await.unwrap();
        let path = format!("/oauth/token/revoke/{}{suffix}", claims.jti);
        let answer = session
            .uaa
            .send("DELETE", &path, &session.access, None)
            .await;
        assert_eq!(answer.0, 200, "{path}");
        session.must_be_over(&path).await;
    }
}

#[tokio::test]
async fn a_token_from_a_refresh_ends_with_its_session() {
    let mut session = Session::start().await;
    let (_, body) = session.uaa.refresh(&session.refresh).await;
    let first = std::mem::replace(
        &mut session.access,
        format!("bearer {}", body["access_token"].as_str().unwrap()),
    );
    session.must_be_good().await;
    let claims = session.cc.verify(&session.access).await.unwrap();
    let path = format!("/oauth/token/revoke/{}", claims.jti);
    assert_eq!(
        session
            .uaa
            .send("DELETE", &path, &session.access, None)
            .await
            .0,
        200
    );
    session.must_be_over("the second token").await;
    session.access = first;
    session.must_be_over("the first token").await;
}

#[tokio::test]
async fn tokens_of_others_cannot_be_revoked() {
    let session = Session::start().await;
    let admin = session.uaa.token("admin", "sesame").await;
    let claims = session.uaa.verifier().verify(&admin).await.unwrap();
    let id = claims.user_id.unwrap();
    for path in [
        format!("/oauth/token/revoke/user/{id}"),
        format!("/oauth/token/revoke/user/{id}/client/cf"),
        "/oauth/token/revoke/client/cf".to_owned(),
        format!("/oauth/token/revoke/{}", claims.jti),
    ] {
        let (status, _) = session
            .uaa
            .send("DELETE", &path, &session.access, None)
            .await;
        assert_eq!(status, 403, "{path}");
        assert_eq!(
            session.uaa.send("DELETE", &path, "", None).await.0,
            401,
            "{path}"
        );
    }
    session.must_be_good().await;
    let (status, _) = session
        .uaa
        .send("GET", "/oauth/token/revoke/user/nobody", &admin, None)
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_one_time_code_ends_with_its_users_password() {
    let session = Session::start().await;
    let path = "/oauth/authorize?response_type=code&client_id=ssh-proxy&state=a%26b";
    let code = async |token: &str| {
        let request = session.uaa.http.get(format!("{}{path}", session.uaa.url));
        let answer = request.header("authorization", token).send().await.unwrap();
        assert_eq!(answer.status(), 302);
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        let query = location.split_once("?code=").unwrap().1;
        let (code, state) = query.split_once('&').unwrap();
        assert_eq!(state, "state=a%26b");
        code.to_owned()
    };
    let code = code(&session.access).await;
    let path = format!("/Users/{}/password", session.user);
    session
        .admin("PUT", &path, Some(json!({"password": "second"})))
        .await;
    let form = [("grant_type", "authorization_code"), ("code", &*code)];
    let (status, body) = session.uaa.grant(("ssh-proxy", "ssh-secret"), &form).await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test]
async fn a_uaa_that_is_away_stops_no_request() {
    let session = Session::start().await;
    session.uaa.server.stop();
    let health = format!("{}/healthz", session.uaa.url);
    wait_for("the end of the UAA", async || {
        session.uaa.http.get(&health).send().await.is_err()
    })
    .await;
    let wait = async {
        // The pause is longer than a cached response is valid.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        session.cc.verify(&session.access).await
    };
    wait.await.unwrap();
}

#[tokio::test]
async fn the_machine_resets_a_password_beside_a_running_uaa_and_without_one() {
    let session = Session::start().await;
    for _ in 0..6 {
        session.uaa.login("ann", "guess").await;
    }
    let (_, body) = session.uaa.login("ann", "first").await;
    assert!(
        body["error_description"]
            .as_str()
            .unwrap()
            .contains("locked"),
        "{body}"
    );
    let dir = session.uaa.dir.path();
    let server = testkit::postgres::server(dir);
    let database = server.as_ref();
    let reset = uaa::reset_password(dir, database, "ANN", "third")
        .await
        .unwrap();
    assert_eq!((&*reset.user_name, reset.was_inactive), ("ann", false));
    session.must_be_over("reset").await;
    assert_eq!(session.uaa.login("ann", "first").await.0, 401);
    assert_eq!(
        session.uaa.login("ann", "third").await.0,
        200,
        "the lock goes with the old password"
    );

    let error = uaa::reset_password(dir, database, "nobody", "x")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("name one of admin, ann"),
        "{error}"
    );
    let nowhere = dir.join("nowhere");
    let error = uaa::reset_password(&nowhere, None, "admin", "x")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("--data"), "{error}");
    assert!(uaa::reset_password(dir, database, "ann", "").await.is_err());

    let mut stopped = session.uaa;
    let dir = std::mem::replace(&mut stopped.dir, tempfile::tempdir().unwrap());
    stopped.server.stop();
    uaa::reset_password(dir.path(), database, "admin", "new")
        .await
        .unwrap();
    let again = start_in(dir, "sesame", false, Duration::from_secs(600)).await;
    assert_eq!(again.login("admin", "sesame").await.0, 401);
    assert_eq!(again.login("admin", "new").await.0, 200);
}
