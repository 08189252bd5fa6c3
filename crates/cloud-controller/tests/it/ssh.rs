//! Tests the rights to log in to an app's instances, the answers to the ssh-proxy, and the keys in the LRP.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};
use wire::bbs as m;
use wire::lrp_routes::DIEGO_SSH;
use wire::ssh::{SshRoute, matches_fingerprint};

fn ssh_route(lrp: &m::DesiredLrp) -> SshRoute {
    serde_json::from_slice(&lrp.routes.as_ref().unwrap().routes[DIEGO_SSH]).unwrap()
}

/// Returns the types of the app's events about SSH, each with the index that it names.
async fn ssh_events(f: &Foundation, app: &str) -> Vec<(String, Value)> {
    let list = f
        .get(&format!("/v3/audit_events?target_guids={app}&per_page=100"))
        .await;
    let events = list["resources"].as_array().unwrap().clone();
    let of_ssh = events.into_iter().filter_map(|event| {
        let kind = event["type"].as_str()?.strip_prefix("audit.app.ssh-")?;
        Some((kind.to_owned(), event["data"]["index"].clone()))
    });
    of_ssh.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_document_names_the_proxy() {
    let f = Foundation::start().await;
    let root = f.get("/").await;
    assert_eq!(
        root["links"]["app_ssh"],
        json!({
            "href": "ssh.apps.test:2222",
            "meta": { "host_key_fingerprint": "bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8", "oauth_client": "ssh-proxy" },
        })
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_lrp_has_keys_of_its_own_that_updates_keep() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let lrp = f.lrps(&app).await.remove(0);
    let route = ssh_route(&lrp);
    assert_eq!(
        (lrp.ports.as_slice(), route.container_port),
        (&[8080, 2222][..], 2222)
    );
    let actions = lrp.action.clone().unwrap().codependent.unwrap().actions;
    let sshd = actions.last().unwrap().run.clone().unwrap();
    assert_eq!(sshd.path, "/tmp/lifecycle/diego-sshd");
    // The fingerprints are those of the key that the sshd gets.
    let host = sshd.args[1].strip_prefix("-hostKey=").unwrap();
    let host = ssh_public_blob(host);
    assert!(matches_fingerprint(&route.host_fingerprint, &host));
    assert!(matches_fingerprint(&route.host_256_fingerprint, &host));
    assert!(
        route
            .private_key
            .starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    );

    // A changed route updates the LRP, and a restarted Cloud Controller does not know what it desired.
    let entry = lrp.routes.unwrap().routes[DIEGO_SSH].clone();
    let first = f.create_route("first", "").await;
    f.map(&first, &app).await;
    let mut f = f;
    f.restart(async |_| {}).await;
    let second = f.create_route("second", "").await;
    f.map(&second, &app).await;
    let lrp = f.lrps(&app).await.remove(0);
    assert_eq!(f.lrp_urls(&lrp).as_array().unwrap().len(), 2);
    assert_eq!(lrp.routes.unwrap().routes[DIEGO_SSH], entry);

    let other = f.started_app("other").await;
    let other = f.lrps(&other).await.remove(0);
    assert_ne!(other.routes.unwrap().routes[DIEGO_SSH], entry);
    f.finish().await;
}

/// Returns the public part of a private key in OpenSSH's form.
fn ssh_public_blob(pem: &str) -> Vec<u8> {
    use base64::Engine as _;
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    let file = base64::engine::general_purpose::STANDARD
        .decode(lines.collect::<String>())
        .unwrap();
    // The magic, three strings and the number of keys come first.
    let at = "openssh-key-v1\0".len() + 8 + 8 + 4 + 4;
    let length = u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
    file[at + 4..][..usize::try_from(length).unwrap()].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_is_answered_by_rights_and_features() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let path = format!("/internal/apps/{app}/ssh_access/1");
    let lrp = f.lrps(&app).await.remove(0);
    assert_eq!(
        f.get(&path).await,
        json!({ "process_guid": lrp.process_guid })
    );
    let developer = f
        .user(
            "dev",
            &[
                ("organization_user", "organization", &f.organization),
                ("space_developer", "space", &f.space),
            ],
        )
        .await;
    assert_eq!(f.call_as(&developer, Method::GET, &path, None).await.0, 200);
    let stranger = token("stranger", USER, 600);
    let (status, answer) = f.call_as(&stranger, Method::GET, &path, None).await;
    assert_eq!((status, &answer["errors"][0]["code"]), (403, &json!(10003)));
    let of_app = format!("/v3/apps/{app}/ssh_enabled");
    for (feature, reason) in [
        (
            format!("/v3/apps/{app}/features/ssh"),
            "ssh is disabled for app",
        ),
        (
            format!("/v3/spaces/{}/features/ssh", f.space),
            "ssh is disabled for space 'dev'",
        ),
    ] {
        let off = json!({ "enabled": false });
        f.send(Method::PATCH, &feature, off).await;
        assert_eq!(
            f.get(&of_app).await,
            json!({ "enabled": false, "reason": reason })
        );
        let (status, answer) = f.call(Method::GET, &path, None).await;
        assert_eq!((status, &answer["errors"][0]["code"]), (400, &json!(10004)));
        f.send(Method::PATCH, &feature, json!({ "enabled": true }))
            .await;
        assert_eq!(
            f.get(&of_app).await,
            json!({ "enabled": true, "reason": "" })
        );
    }
    let one = |kind: &str| (kind.to_owned(), json!("1"));
    assert_eq!(
        ssh_events(&f, &app).await,
        [
            one("authorized"),
            one("authorized"),
            one("unauthorized"),
            one("unauthorized"),
            one("unauthorized"),
        ]
    );
    for (path, status) in [
        ("/internal/apps/none/ssh_access/0".to_owned(), 404),
        (format!("/internal/apps/{app}/ssh_access/x"), 400),
        (format!("/internal/apps/{app}/ssh_access/12345678901"), 400),
    ] {
        assert_eq!(f.call(Method::GET, &path, None).await.0, status, "{path}");
    }
    assert_eq!(ssh_events(&f, &app).await.len(), 5);
    f.finish().await;
}
