//! Rights: operators see everything, developers what the Cloud Controller shows to them, others nothing.

use crate::fixture::{Stage, host};
use serde_json::{Value, json};

#[tokio::test]
async fn a_developer_sees_the_apps_of_the_own_space_alone() {
    let stage = Stage::start().await;
    let space = stage.first("/v3/spaces?names=dev").await;
    let organization = stage.first("/v3/organizations?names=demo").await;
    let other = json!({"name": "other", "relationships": {"organization": {"data": {"guid": organization}}}});
    let other = stage.post("/v3/spaces", other).await;
    let mine = stage.app("mine", &space).await;
    let theirs = stage.app("theirs", other["guid"].as_str().unwrap()).await;
    stage.run(&mine, "mine", &host("mine"), 61001).await;
    stage.run(&theirs, "theirs", &host("theirs"), 61002).await;
    stage.route(&host("mine"), "missing").await;
    stage.route(&host("theirs"), "missing").await;
    let ann = stage.developer("ann", &space).await;

    let (status, me) = stage.get_as(&ann, "/api/v1/me").await;
    assert_eq!((status, &me["role"]), (200, &json!("developer")));
    for path in [
        "/api/v1/routes",
        "/api/v1/instances",
        "/api/v1/changes",
        "/api/v1/picture",
        "/api/v1/search?q=t",
    ] {
        let (status, body) = stage.get_as(&ann, path).await;
        let text = body.to_string();
        assert_eq!(status, 200, "{path}: {text}");
        assert!(
            !text.contains(&theirs) && !text.contains("theirs"),
            "{path}: {text}"
        );
        let (_, all) = stage.get_as(&stage.admin, path).await;
        if path != "/api/v1/picture" {
            assert!(all.to_string().contains(&theirs), "{path}: {all}");
        }
    }
    let (_, own) = stage.get_as(&ann, "/api/v1/instances").await;
    assert_eq!(
        (&own["total"], &own["rows"][0]["app"]),
        (&json!(1), &json!("mine"))
    );
    let (_, picture) = stage.get_as(&ann, "/api/v1/picture").await;
    assert_eq!(picture["stations"], Value::Null);
    let changes = stage.get("/api/v1/changes").await;
    let foreign = changes["rows"].as_array().unwrap();
    let foreign = foreign
        .iter()
        .find(|row| row["app"] == theirs.as_str())
        .unwrap();
    let path = format!("/api/v1/changes/{}", foreign["id"]);
    assert_eq!(stage.get_as(&ann, &path).await.0, 404);
    for path in [
        "/api/v1/cells",
        "/api/v1/routers",
        "/api/v1/table",
        "/api/v1/history",
    ] {
        let (status, body) = stage.get_as(&ann, path).await;
        assert_eq!(status, 403, "{path}");
        assert!(
            body["error"].as_str().unwrap().contains("only operators"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn nobody_sees_anything_without_a_valid_token() {
    let stage = Stage::start().await;
    for token in ["", "bearer x.y.z", "bearer", "basic YTpi"] {
        for path in ["/api/v1/me", "/api/v1/routes", "/api/v1/stream", "/v3/apps"] {
            assert_eq!(stage.get_as(token, path).await.0, 401, "{token} {path}");
        }
    }
}

#[tokio::test]
async fn the_public_api_is_read_with_the_users_own_token() {
    let stage = Stage::start().await;
    let space = stage.first("/v3/spaces?names=dev").await;
    let app = stage.app("shop", &space).await;
    let organization = stage.first("/v3/organizations?names=demo").await;
    let other = json!({"name": "other", "relationships": {"organization": {"data": {"guid": organization}}}});
    let other = stage.post("/v3/spaces", other).await;
    let bob = stage
        .developer("bob", other["guid"].as_str().unwrap())
        .await;
    let path = format!("/v3/apps/{app}");
    assert_eq!(stage.get(&path).await["name"], "shop");
    assert_eq!(stage.get_as(&bob, &path).await.0, 404);
    let (status, body) = stage
        .get_as(&stage.admin, &format!("{path}/environment_variables"))
        .await;
    assert_eq!(status, 404);
    assert!(
        body["error"].as_str().unwrap().contains("does not pass"),
        "{body}"
    );
}
