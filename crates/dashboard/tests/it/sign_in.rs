//! Signing in at a real UAA, sessions and their end.

use crate::fixture::{EXTERNAL, Stage};
use reqwest::Response;
use serde_json::Value;
use testkit::http::answer;

/// Returns the value of a cookie that an answer sets.
fn cookie(response: &Response, name: &str) -> Option<String> {
    let all = response.headers().get_all("set-cookie").iter();
    let mut pairs = all.filter_map(|value| value.to_str().ok()?.split(';').next()?.split_once('='));
    pairs
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

fn location(response: &Response) -> String {
    response.headers()["location"].to_str().unwrap().to_owned()
}

/// Begins to sign in. Returns the cookie's nonce, and the path to which the UAA redirects the administrator.
async fn returned(stage: &Stage) -> (String, String) {
    let begun = stage
        .http
        .get(format!("{}/sign-in", stage.url))
        .send()
        .await
        .unwrap();
    assert_eq!(begun.status(), 303);
    let nonce = cookie(&begun, "__Host-dashboard-sign-in").unwrap();
    let form = [("username", "admin"), ("password", "sesame")];
    let page = stage
        .http
        .post(location(&begun))
        .form(&form)
        .send()
        .await
        .unwrap();
    assert_eq!(page.status(), 303);
    let path = location(&page).strip_prefix(EXTERNAL).unwrap().to_owned();
    (nonce, path)
}

async fn finish(stage: &Stage, nonce: &str, path: &str) -> Response {
    let request = stage.http.get(format!("{}{path}", stage.url));
    let request = request.header("cookie", format!("__Host-dashboard-sign-in={nonce}"));
    request.send().await.unwrap()
}

/// Signs the administrator in and returns the cookie of the session.
async fn session(stage: &Stage) -> String {
    let (nonce, path) = returned(stage).await;
    let finished = finish(stage, &nonce, &path).await;
    assert_eq!(
        (finished.status().as_u16(), location(&finished).as_str()),
        (303, "/")
    );
    let set = finished.headers().get_all("set-cookie").iter();
    for value in set.map(|value| value.to_str().unwrap()) {
        assert!(
            value.contains("HttpOnly")
                && value.contains("Secure")
                && value.contains("SameSite=Lax"),
            "{value}"
        );
    }
    cookie(&finished, "__Host-dashboard").unwrap()
}

async fn get(stage: &Stage, session: &str, path: &str) -> Response {
    let request = stage.http.get(format!("{}{path}", stage.url));
    let request = request.header("cookie", format!("__Host-dashboard={session}"));
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_user_signs_in_sees_the_page_and_signs_out() {
    let stage = Stage::start().await;
    let first = stage.http.get(&stage.url).send().await.unwrap();
    assert_eq!(
        (first.status().as_u16(), location(&first).as_str()),
        (303, "/sign-in")
    );
    let session = session(&stage).await;
    let page = get(&stage, &session, "/").await;
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("script-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let html = page.text().await.unwrap();
    assert!(
        html.contains("admin") && html.contains("No route yet"),
        "{html}"
    );
    let (status, me) = answer(get(&stage, &session, "/api/v1/me").await).await;
    assert_eq!((status, &me["role"]), (200, &Value::from("operator")));

    let out = |origin: &'static str| {
        let request = stage.http.post(format!("{}/sign-out", stage.url));
        let request = request.header("cookie", format!("__Host-dashboard={session}"));
        request.header("origin", origin).send()
    };
    let foreign = out("http://evil.test").await.unwrap();
    assert_eq!(
        foreign.status(),
        403,
        "an app of the same domain cannot sign users out"
    );
    assert_eq!(get(&stage, &session, "/api/v1/me").await.status(), 200);
    let ended = out(EXTERNAL).await.unwrap();
    assert_eq!(location(&ended), "/signed-out");
    assert_eq!(get(&stage, &session, "/api/v1/me").await.status(), 401);
}

#[tokio::test]
async fn a_code_is_worth_nothing_without_its_cookie() {
    let stage = Stage::start().await;
    let (_, path) = returned(&stage).await;
    let (other, _) = returned(&stage).await;
    for nonce in ["", &other] {
        let refused = finish(&stage, nonce, &path).await;
        assert_eq!(refused.status(), 400);
        assert!(cookie(&refused, "__Host-dashboard").is_none());
    }
    let error = finish(
        &stage,
        &other,
        "/signed-in?error=access_denied&error_description=%3Cb%3E",
    )
    .await;
    let text = error.text().await.unwrap();
    assert!(
        text.contains("&lt;b&gt;") && !text.contains("<b>"),
        "{text}"
    );
}

#[tokio::test]
async fn a_session_ends_with_its_tokens() {
    let stage = Stage::start().await;
    let session = session(&stage).await;
    assert_eq!(get(&stage, &session, "/api/v1/me").await.status(), 200);
    let request = stage.http.delete(format!(
        "{}/oauth/token/revoke/client/dashboard",
        stage.uaa.url
    ));
    let revoked = request
        .header("authorization", &stage.admin)
        .send()
        .await
        .unwrap();
    // Administrators of the UAA may revoke the tokens of every client.
    assert_eq!(revoked.status(), 200);
    testkit::wait::wait_for("the end of the session", async || {
        get(&stage, &session, "/api/v1/me").await.status() == 401
    })
    .await;
    for name in ["", "x", &session] {
        assert_eq!(get(&stage, name, "/api/v1/routes").await.status(), 401);
    }
}
