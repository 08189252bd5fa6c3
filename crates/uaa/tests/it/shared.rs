//! Several UAAs on one database, and restarts: no state that counts lives in a process.

use crate::fixture::{Running, start, start_in};
use std::time::Duration;

/// Starts another UAA on the same data.
async fn second(first: &Running) -> testkit::components::Uaa {
    testkit::components::Uaa::start(first.dir.path(), |config| {
        config.clients = vec![
            uaa::Client::component("cc", "cc-secret", &["scim.userids", "uaa.resource"]),
            uaa::Client::ssh_proxy("ssh-secret", "http://uaa.cupola.test/login"),
        ];
    })
    .await
}

#[tokio::test]
async fn a_code_of_one_works_once_at_another() {
    let first = start().await;
    let second = second(&first).await;
    let admin = first.token("admin", "sesame").await;
    let response = first
        .http
        .get(format!(
            "{}/oauth/authorize?response_type=code&client_id=ssh-proxy",
            second.url
        ))
        .header("authorization", &admin)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 302, "its token is valid there too");
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let code = location.split_once("?code=").unwrap().1;
    let form = [("grant_type", "authorization_code"), ("code", code)];
    let ssh_proxy = ("ssh-proxy", "ssh-secret");
    let (status, body) = first.grant(ssh_proxy, &form).await;
    assert_eq!(status, 200, "{body}");
    for _ in 0..2 {
        let (status, body) = second.grant(ssh_proxy, &form).await;
        assert_eq!(
            (status.as_u16(), body["error"].as_str()),
            (400, Some("invalid_grant"))
        );
    }
}

#[tokio::test]
async fn failures_at_one_lock_the_name_at_another_and_after_a_restart() {
    let mut first = start().await;
    let second = second(&first).await;
    for attempt in 0..5 {
        let (status, _) = match attempt % 2 {
            0 => first.login("admin", "wrong").await,
            _ => second.login("admin", "wrong").await,
        };
        assert_eq!(status, 401);
    }
    let is_locked = |body: serde_json::Value| {
        let text = body["error_description"].as_str().unwrap_or_default();
        text.contains("locked")
    };
    assert!(is_locked(first.login("admin", "sesame").await.1));
    assert!(is_locked(second.login("admin", "sesame").await.1));
    let dir = std::mem::replace(&mut first.dir, tempfile::tempdir().unwrap());
    first.server.stop();
    second.stop();
    let again = start_in(dir, "sesame", false, Duration::from_secs(600)).await;
    assert!(is_locked(again.login("admin", "sesame").await.1));
}

#[tokio::test]
async fn many_start_at_once_and_accept_each_other_s_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let start = || testkit::components::Uaa::start(dir.path(), |_| ());
    if !testkit::postgres::is_chosen() {
        // On files only one process makes the key.
        drop(start().await);
    }
    let (a, b, c) = tokio::join!(start(), start(), start());
    let token = b.token("admin", "sesame").await;
    for server in [&a, &c] {
        let users = reqwest::Client::new()
            .get(format!("{}/Users", server.url))
            .header("authorization", &token)
            .send()
            .await
            .unwrap();
        assert_eq!(users.status(), 200);
    }
}
