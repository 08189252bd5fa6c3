//! Uploads: one of several is accepted, what is no archive is refused, and files need not be sent twice.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

async fn package(f: &Foundation, token: &str, app: &str) -> String {
    let body = json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } });
    let (status, package) = f
        .call_as(token, Method::POST, "/v3/packages", Some(body))
        .await;
    assert_eq!(status, 201, "{package}");
    package["guid"].as_str().unwrap().to_owned()
}

async fn droplet(f: &Foundation, app: &str) -> String {
    let body = json!({ "relationships": { "app": { "data": { "guid": app } } }, "process_types": { "web": "./run" } });
    f.send(Method::POST, "/v3/droplets", body).await["guid"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_twelve_parallel_uploads_wins() {
    let f = Foundation::start().await;
    let app = f.create_app("web").await;
    let (package, droplet) = (package(&f, &f.admin, &app).await, droplet(&f, &app).await);
    let content = |n: usize| format!("{n}").repeat(40_000);
    let zips: Vec<Vec<u8>> = (0..12).map(|n| zip("run", &content(n))).collect();
    let tgzs: Vec<Vec<u8>> = (0..12).map(|n| tgz("app/run", &content(n))).collect();
    for (path, kind, bits, good, refused) in [
        (
            format!("/v3/packages/{package}"),
            "packages",
            &zips,
            200,
            (400, 150_004),
        ),
        (
            format!("/v3/droplets/{droplet}"),
            "droplets",
            &tgzs,
            202,
            (422, 10_008),
        ),
    ] {
        let upload = format!("{path}/upload");
        let sent = bits
            .iter()
            .map(|bits| f.send_bits(&f.admin, &upload, Some(bits.clone()), None));
        let answers = futures::future::join_all(sent).await;
        let winners: Vec<usize> = (0..12).filter(|n| answers[*n].0 == good).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        for (at, (status, answer)) in answers.iter().enumerate() {
            if at != winners[0] {
                let code = answer["errors"][0]["code"].as_i64();
                assert_eq!((*status, code), (refused.0, Some(refused.1)), "{answer}");
            }
        }
        let shown = f.get(&path).await;
        let checksum = shown
            .pointer("/data/checksum/value")
            .or_else(|| shown.pointer("/checksum/value"));
        let stored = f.blob(kind, path.rsplit('/').next().unwrap()).await;
        assert_eq!(checksum, Some(&json!(sha256(&stored))), "{shown}");
        assert_eq!(sha256(&stored), sha256(&bits[winners[0]]), "{kind}");
        assert_eq!(f.unfinished_uploads(), 0, "{kind}");
        let (status, _) = f
            .send_bits(&f.admin, &upload, Some(bits[0].clone()), None)
            .await;
        assert_eq!(status, refused.0);
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_droplet_that_is_no_archive_fails() {
    let f = Foundation::start().await;
    let app = f.create_app("web").await;
    let good = tgz("app/run", "#!/bin/sh");
    for bits in [
        b"droplet".to_vec(),
        Vec::new(),
        zip("run", "x"),
        good[..good.len() - 10].to_vec(),
    ] {
        let guid = droplet(&f, &app).await;
        let path = format!("/v3/droplets/{guid}");
        let (status, answer) = f
            .send_bits(&f.admin, &format!("{path}/upload"), Some(bits), None)
            .await;
        assert_eq!(status, 422, "{answer}");
        assert!(
            detail(&answer).starts_with("The droplet upload is invalid:"),
            "{answer}"
        );
        let shown = f.get(&path).await;
        assert_eq!(shown["state"], "FAILED");
        assert_eq!(shown["error"], json!(detail(&answer)));
        let current = format!("/v3/apps/{app}/relationships/current_droplet");
        let body = json!({ "data": { "guid": guid } });
        assert_eq!(f.call(Method::PATCH, &current, Some(body)).await.0, 422);
    }
    assert_eq!(f.unfinished_uploads(), 0);
    f.finish().await;
}

/// Returns a file as a client names it.
fn named(path: &str, content: &str) -> Value {
    json!({
        "path": path,
        "checksum": { "value": hex::encode(Sha1::digest(content)) },
        "size_in_bytes": content.len(),
        "mode": "0755",
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_matched_for_those_who_sent_them() {
    let f = Foundation::start().await;
    let (other, other_space) = f.another_place("other").await;
    let alice = f
        .user(
            "alice",
            &[
                ("organization_user", "organization", &f.organization),
                ("space_developer", "space", &f.space),
            ],
        )
        .await;
    let mallory = f
        .user(
            "mallory",
            &[
                ("organization_user", "organization", &other),
                ("space_developer", "space", &other_space),
            ],
        )
        .await;
    let auditor = f
        .user(
            "auditor",
            &[
                ("organization_user", "organization", &f.organization),
                ("space_auditor", "space", &f.space),
            ],
        )
        .await;
    let app = f.create_app("web").await;
    let big = "secret ".repeat(20_000);
    let matches = async |token: &str, resources: Value| {
        let body = Some(json!({ "resources": resources }));
        let (status, answer) = f
            .call_as(token, Method::POST, "/v3/resource_matches", body)
            .await;
        assert_eq!(status, 201, "{answer}");
        answer["resources"].clone()
    };
    let wanted = json!([named("lib/big.jar", &big), named("run", "#!/bin/sh")]);
    assert_eq!(matches(&alice, wanted.clone()).await, json!([]));
    let first = package(&f, &alice, &app).await;
    let upload = |guid: &str| format!("/v3/packages/{guid}/upload");
    let bits = zip("lib/big.jar", &big);
    let (status, answer) = f.send_bits(&alice, &upload(&first), Some(bits), None).await;
    assert_eq!(status, 200, "{answer}");

    let found = json!([named("lib/big.jar", &big)]);
    assert_eq!(matches(&alice, wanted.clone()).await, found);
    for token in [&mallory, &auditor] {
        assert_eq!(matches(token, wanted.clone()).await, json!([]));
    }
    let mut wrong_size = found.clone();
    wrong_size[0]["size_in_bytes"] = json!(65_536);
    assert_eq!(matches(&alice, wrong_size).await, json!([]));

    // The next package consists of what is sent and what is named.
    for (bits, names) in [
        (Some(zip("run", "#!/bin/sh")), vec!["lib/big.jar", "run"]),
        (None, vec!["lib/big.jar"]),
    ] {
        let guid = package(&f, &alice, &app).await;
        let (status, answer) = f
            .send_bits(&alice, &upload(&guid), bits, Some(found.clone()))
            .await;
        assert_eq!(status, 200, "{answer}");
        let stored = f.blob("packages", &guid).await;
        assert_eq!(answer["data"]["checksum"]["value"], json!(sha256(&stored)));
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(stored)).unwrap();
        let mut members: Vec<String> = archive.file_names().map(str::to_owned).collect();
        members.sort();
        assert_eq!(members, names);
        let content = std::io::read_to_string(archive.by_name("lib/big.jar").unwrap()).unwrap();
        assert_eq!(content, big);
    }

    // A user who did not send the file cannot name it, and a name cannot leave the app's folder.
    let theirs = f
        .send(
            Method::POST,
            "/v3/apps",
            json!({ "name": "theirs", "relationships": { "space": { "data": { "guid": other_space } } } }),
        )
        .await;
    let guid = package(&f, &mallory, theirs["guid"].as_str().unwrap()).await;
    let (status, answer) = f
        .send_bits(
            &mallory,
            &upload(&guid),
            Some(zip("run", "x")),
            Some(found.clone()),
        )
        .await;
    assert_eq!(status, 422, "{answer}");
    assert!(
        detail(&answer).contains("is not known; send it in 'bits'"),
        "{answer}"
    );
    let guid = package(&f, &alice, &app).await;
    let mut outside = found.clone();
    outside[0]["path"] = json!("../../etc/passwd");
    let (status, answer) = f
        .send_bits(&alice, &upload(&guid), None, Some(outside))
        .await;
    assert_eq!(status, 400, "{answer}");
    let guid = package(&f, &alice, &app).await;
    let (status, answer) = f
        .send_bits(&alice, &upload(&guid), None, Some(json!([])))
        .await;
    assert_eq!(status, 422, "{answer}");
    assert_eq!(f.unfinished_uploads(), 0);

    for (resources, why) in [
        (json!([]), "at least 1 resource"),
        (json!("x"), "must be an array"),
        (
            json!([{ "checksum": { "value": "abc" }, "size_in_bytes": 1 }]),
            "non-SHA1",
        ),
    ] {
        let (status, answer) = f
            .call(
                Method::POST,
                "/v3/resource_matches",
                Some(json!({ "resources": resources })),
            )
            .await;
        assert_eq!(status, 422);
        assert!(detail(&answer).contains(why), "{answer}");
    }
    f.send(
        Method::PATCH,
        "/v3/feature_flags/resource_matching",
        json!({ "enabled": false }),
    )
    .await;
    assert_eq!(matches(&alice, wanted).await, json!([]));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diff_covers_processes_metadata_and_routes() {
    let f = Foundation::start().await;
    let manifest = "applications:\n- name: web\n  memory: 64M\n  env: {A: 1}\n  metadata: {labels: {team: red}}\n  routes: [{route: web.apps.test}]\n  processes:\n  - type: worker\n    instances: 1\n    memory: 32M\n";
    assert_eq!(f.apply_manifest(manifest).await.1["state"], "COMPLETE");
    assert_eq!(f.diff(manifest).await, json!([]));
    let changed = manifest
        .replace("32M", "0.5G")
        .replace("red", "blue")
        .replace(
            "[{route: web.apps.test}]",
            "[{route: web.apps.test}, {route: new.apps.test}]",
        )
        + "  - type: clock\n    memory: 16M\n";
    let mut paths: Vec<String> = f
        .diff(&changed)
        .await
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            format!(
                "{} {}",
                change["op"].as_str().unwrap(),
                change["path"].as_str().unwrap()
            )
        })
        .collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "add /applications/0/processes/1",
            "add /applications/0/routes/1",
            "replace /applications/0/metadata/labels/team",
            "replace /applications/0/processes/0/memory",
        ]
    );
    f.finish().await;
}
