//! Tests of the page on which a person signs in for a program, and of what a one-time code is bound to.

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use testkit::components::Uaa;

const TARGET: &str = "https://dashboard.cupola.test/signed-in";
/// The secret and its digest of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

struct Stage {
    uaa: Uaa,
    http: Client,
    _dir: tempfile::TempDir,
}

impl Stage {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let uaa = Uaa::start(dir.path(), |config| {
            config.clients = vec![uaa::Client::dashboard("dash-secret", TARGET)];
        })
        .await;
        let http = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            uaa,
            http,
            _dir: dir,
        }
    }

    /// Returns the URL of the page. `changes` replace or add parameters.
    fn url(&self, changes: &[(&str, &str)]) -> String {
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", "dashboard"),
            ("redirect_uri", TARGET),
            ("state", "a b"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        for (name, value) in changes {
            parameters.retain(|(known, _)| known != name);
            parameters.push((*name, *value));
        }
        let url = format!("{}/oauth/authorize", self.uaa.url);
        reqwest::Url::parse_with_params(&url, parameters)
            .unwrap()
            .into()
    }

    async fn page(&self, changes: &[(&str, &str)]) -> Response {
        let request = self.http.get(self.url(changes));
        request.header("accept", "text/html").send().await.unwrap()
    }

    async fn enter(&self, user: &str, password: &str) -> Response {
        let form = [("username", user), ("password", password)];
        let request = self.http.post(self.url(&[])).form(&form);
        request.send().await.unwrap()
    }

    /// Signs the administrator in and returns the code.
    async fn code(&self) -> String {
        let response = self.enter("admin", "sesame").await;
        assert_eq!(response.status(), 303);
        let location = response.headers()["location"].to_str().unwrap();
        let rest = location.strip_prefix(&format!("{TARGET}?code=")).unwrap();
        let (code, state) = rest.split_once('&').unwrap();
        assert_eq!(state, "state=a%20b");
        code.to_owned()
    }

    async fn exchange(&self, code: &str, more: &[(&str, &str)]) -> (StatusCode, Value) {
        let mut form = vec![("grant_type", "authorization_code"), ("code", code)];
        form.extend(more);
        self.uaa.grant(("dashboard", "dash-secret"), &form).await
    }
}

#[tokio::test]
async fn a_person_signs_in_and_the_program_gets_tokens() {
    let stage = Stage::start().await;
    let page = stage.page(&[]).await;
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("form-action 'self' https://dashboard.cupola.test;")
            && policy.contains("default-src 'none'")
            && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    let html = page.text().await.unwrap();
    assert!(
        html.contains("<strong>dashboard</strong>") && !html.contains("<script"),
        "{html}"
    );
    let style = format!("{}/sign-in.css", stage.uaa.url);
    assert_eq!(stage.http.get(style).send().await.unwrap().status(), 200);

    let code = stage.code().await;
    let bound = [("redirect_uri", TARGET), ("code_verifier", VERIFIER)];
    let (status, body) = stage.exchange(&code, &bound).await;
    assert_eq!(status, 200, "{body}");
    let scope = body["scope"].as_str().unwrap();
    assert!(
        scope.contains("cloud_controller.admin") && !scope.contains("cloud_controller.write"),
        "{scope}"
    );
    assert!(body["refresh_token"].is_string(), "{body}");
    let (status, body) = stage.exchange(&code, &bound).await;
    assert_eq!(
        (status.as_u16(), &body["error"]),
        (400, &json!("invalid_grant")),
        "a code works once"
    );
}

#[tokio::test]
async fn a_wrong_password_shows_the_page_again_and_locks_the_account() {
    let stage = Stage::start().await;
    for _ in 0..5 {
        let response = stage.enter("admin", "\"><script>").await;
        assert_eq!(response.status(), 401);
        assert!(
            !response.headers().contains_key("www-authenticate"),
            "a browser would open a window of its own"
        );
        let html = response.text().await.unwrap();
        assert!(
            html.contains("Bad credentials") && html.contains(r#"value="admin""#),
            "{html}"
        );
        assert!(!html.contains("script"), "{html}");
    }
    let response = stage.enter("admin", "sesame").await;
    assert_eq!(response.status(), 401);
    let html = response.text().await.unwrap();
    assert!(html.contains("locked"), "{html}");
    let long = "x".repeat(300);
    assert_eq!(stage.enter(&long, "x").await.status(), 401);
}

#[tokio::test]
async fn a_code_is_bound_to_its_redirect_and_its_secret() {
    let stage = Stage::start().await;
    let other = VERIFIER.replace('d', "e");
    for wrong in [
        &[][..],
        &[("redirect_uri", TARGET)],
        &[("code_verifier", VERIFIER)],
        &[("redirect_uri", TARGET), ("code_verifier", other.as_str())],
        &[("redirect_uri", TARGET), ("code_verifier", "short")],
        &[
            ("redirect_uri", "https://evil.test/"),
            ("code_verifier", VERIFIER),
        ],
    ] {
        let code = stage.code().await;
        let (status, body) = stage.exchange(&code, wrong).await;
        assert_eq!(
            (status.as_u16(), &body["error"]),
            (400, &json!("invalid_grant")),
            "{wrong:?}"
        );
    }
    // A secret that the request for the code did not announce.
    let url = stage.url(&[]).replace("code_challenge", "unknown");
    let form = [("username", "admin"), ("password", "sesame")];
    let response = stage.http.post(url).form(&form).send().await.unwrap();
    let location = response.headers()["location"].to_str().unwrap();
    let code = location.split_once("?code=").unwrap().1;
    let code = code.split_once('&').unwrap().0;
    let bound = [("redirect_uri", TARGET), ("code_verifier", VERIFIER)];
    assert_eq!(stage.exchange(code, &bound).await.0, 400);
}

#[tokio::test]
async fn a_request_that_is_not_right_gets_no_page() {
    let stage = Stage::start().await;
    for wrong in [
        ("response_type", "token"),
        ("client_id", "nobody"),
        ("client_id", "cf"),
        ("redirect_uri", "https://evil.test/"),
        ("code_challenge", "short"),
        ("code_challenge_method", "plain"),
    ] {
        assert_eq!(stage.page(&[wrong]).await.status(), 400, "{wrong:?}");
    }
    let request = stage.http.get(stage.url(&[]));
    let response = request.header("accept", "application/json");
    assert_eq!(
        response.send().await.unwrap().status(),
        401,
        "a program without a token is refused as before"
    );
}
