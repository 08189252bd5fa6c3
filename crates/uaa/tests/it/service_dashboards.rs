//! The clients of services' dashboards: the Cloud Controller makes them, and they get only what their users may grant.

use crate::fixture::{Running, start};
use serde_json::json;

const TARGET: &str = "http://dashboard.test/back";
const SCOPE: &str = "cloud_controller_service_permissions.read";

/// Makes the client that manages the others, as the configuration of a foundation does, and returns its token.
async fn manager(uaa: &Running) -> String {
    let admin = uaa.token("admin", "sesame").await;
    let client = json!({
        "client_id": "manager", "client_secret": "m", "authorized_grant_types": ["client_credentials"],
        "authorities": ["clients.admin"],
    });
    let made = uaa
        .send("POST", "/oauth/clients", &admin, Some(client))
        .await;
    assert_eq!(made.0, 201, "{}", made.1);
    let form = [("grant_type", "client_credentials")];
    let (status, body) = uaa.grant(("manager", "m"), &form).await;
    assert_eq!(status, 200, "{body}");
    format!("bearer {}", body["access_token"].as_str().unwrap())
}

/// Signs a user in for a dashboard, and returns the one-time code.
async fn code(uaa: &Running, user: &str, password: &str) -> String {
    // Dashboards name the scopes that they want.
    let query = [
        ("response_type", "code"),
        ("client_id", "db-dashboard"),
        ("redirect_uri", TARGET),
        ("scope", SCOPE),
    ];
    let url = format!("{}/oauth/authorize", uaa.url);
    let url = reqwest::Url::parse_with_params(&url, query).unwrap();
    let form = [("username", user), ("password", password)];
    let answer = uaa.http.post(url).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), 303);
    let location = answer.headers()["location"].to_str().unwrap();
    let code = location.strip_prefix(&format!("{TARGET}?code="));
    code.unwrap().to_owned()
}

#[tokio::test]
async fn a_dashboard_gets_the_right_to_ask_and_nothing_else() {
    let uaa = start().await;
    let manager = manager(&uaa).await;
    let mut client = json!({
        "client_id": "db-dashboard", "redirect_uri": [TARGET], "scope": ["openid", SCOPE],
        "authorities": ["uaa.resource"], "authorized_grant_types": ["authorization_code"],
    });
    let path = "/oauth/clients/db-dashboard";
    assert_eq!(uaa.send("GET", path, &manager, None).await.0, 404);
    let changed = client.clone();
    client["client_secret"] = json!("first");
    let made = uaa.send("POST", "/oauth/clients", &manager, Some(client));
    let (status, body) = made.await;
    assert_eq!(status, 201, "{body}");
    let (status, body) = uaa.send("PUT", path, &manager, Some(changed)).await;
    assert_eq!(status, 200, "{body}");
    // The Cloud Controller recognises a secret that did not change by this text.
    let secret = format!("{path}/secret");
    for (new, wanted) in [("first", 400), ("second", 200)] {
        let body = json!({ "clientId": "db-dashboard", "secret": new });
        let (status, body) = uaa.send("PUT", &secret, &manager, Some(body)).await;
        assert_eq!(status, wanted, "{body}");
        assert!(wanted == 200 || body["error_description"].to_string().contains("equals"));
    }

    uaa.create_user("ann", "pw").await;
    let code = code(&uaa, "ann", "pw").await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", TARGET),
    ];
    let (status, body) = uaa.grant(("db-dashboard", "second"), &form).await;
    assert_eq!(status, 200, "{body}");
    let scope = body["scope"].as_str().unwrap();
    let mut scopes: Vec<&str> = scope.split(' ').collect();
    scopes.sort_unstable();
    assert_eq!(scopes, [SCOPE, "openid"]);
    let token = format!("bearer {}", body["access_token"].as_str().unwrap());
    let permissions = uaa.verifier_for(&["cloud_controller_service_permissions"]);
    assert!(permissions.verify(&token).await.unwrap().has_scope(SCOPE));
    assert!(uaa.verifier().verify(&token).await.is_err());

    let (status, body) = uaa.send("DELETE", path, &manager, None).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(uaa.send("DELETE", path, &manager, None).await.0, 404);
}
