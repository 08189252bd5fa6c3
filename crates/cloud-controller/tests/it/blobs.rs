//! Packages and droplets in a folder and in a bucket: both places behave alike, and what is wrong with a bucket is named.

use crate::fixture::*;
use axum::http::StatusCode;
use cloud_controller::bits::store::{Kind, Store, Unavailable};
use cloud_controller::{S3, S3Settings};
use kit::CancellationToken;
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Read as _;
use testkit::moto::Moto;
use testkit::net::unused_address;

const BUCKET: &str = "cupola";

/// Starts a server of S3, if there is one.
async fn moto() -> Option<Moto> {
    let moto = Moto::start().await;
    if moto.is_none() {
        eprintln!("skipped: moto is not installed; scripts/setup-tests installs it");
    }
    moto
}

fn bucket(endpoint: String, name: &str) -> S3 {
    S3::new(S3Settings {
        endpoint,
        bucket: name.into(),
        region: "eu-central-1".into(),
        access_key: "cupola".into(),
        secret_key: "open-sesame".into(),
        ca_pem: None,
    })
    .unwrap()
}

/// Opens a store in a bucket, as a thread for blocking work does.
async fn open(s3: S3) -> anyhow::Result<(tempfile::TempDir, Store)> {
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_bucket(folder.path(), Some(0), &s3)?;
        Ok((folder, store))
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn names(store: &Store, kind: Kind) -> Vec<String> {
    let listed = store.list(kind).unwrap();
    let mut names: Vec<String> = listed.into_iter().map(|blob| blob.name).collect();
    names.sort();
    names
}

/// Checks what every place for blobs must do. It blocks.
fn check(store: &Store) {
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    for (kind, name, content) in [
        (Kind::Package, "a", b"abc".as_slice()),
        (Kind::Droplet, "a", b"".as_slice()),
        (Kind::Resource, "b", large.as_slice()),
    ] {
        assert!(store.read(kind, name).unwrap().is_none());
        assert_eq!(store.written(kind, name).unwrap(), None);
        let before = micros() - 2_000_000;
        let blob = store.put(kind, name, content).unwrap();
        assert_eq!(blob.size, content.len() as u64);
        let written = store.written(kind, name).unwrap().unwrap();
        let listed = store.list(kind).unwrap();
        assert_eq!((listed.len(), &*listed[0].name), (1, name));
        for at in [written, listed[0].written] {
            assert!((before..=micros() + 2_000_000).contains(&at), "{at}");
        }
        let mut opened = store.read(kind, name).unwrap().unwrap();
        assert_eq!(opened.length, content.len() as u64);
        let mut read = Vec::new();
        opened.read_to_end(&mut read).unwrap();
        assert!(read == content, "{kind:?} {name} has another content");
    }

    // A blob is replaced as a whole.
    store
        .put(Kind::Package, "a", b"another".as_slice())
        .unwrap();
    let copy = store.copy(Kind::Package, "a", "guid").unwrap();
    let copied = copy.name.clone();
    copy.keep();
    let opened = store.read(Kind::Package, &copied).unwrap().unwrap();
    assert_eq!(std::io::read_to_string(opened).unwrap(), "another");
    assert_eq!(names(store, Kind::Package), ["a", &copied]);
    let problem = store.copy(Kind::Package, "nobody", "guid").unwrap_err();
    assert!(problem.to_string().contains("has no bits"), "{problem}");

    // To remove something twice is no error, and nothing else is removed.
    for _ in 0..2 {
        store.delete(Kind::Package, "a").unwrap();
    }
    assert_eq!(names(store, Kind::Package), [copied]);
    assert_eq!(names(store, Kind::Droplet), ["a"]);
    assert_eq!(store.trouble(), None);
}

fn micros() -> i64 {
    let now = std::time::SystemTime::now();
    let age = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    age.as_micros() as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_keeps_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Some(0)).unwrap();
    blocking(move || check(&store)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_keeps_blobs() {
    let Some(moto) = moto().await else {
        return;
    };
    moto.create(BUCKET).await;
    let (_folder, store) = open(bucket(moto.endpoint(), BUCKET)).await.unwrap();
    blocking(move || {
        check(&store);
        // A list has pages of 1000.
        std::thread::scope(|scope| {
            for part in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..260 {
                        let name = format!("page-{part}-{n}");
                        store.put(Kind::Droplet, &name, b"x".as_slice()).unwrap();
                    }
                });
            }
        });
        assert_eq!(names(&store, Kind::Droplet).len(), 1041);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_and_droplets_are_in_a_bucket() {
    let Some(moto) = moto().await else {
        return;
    };
    moto.create(BUCKET).await;
    let s3 = bucket(moto.endpoint(), BUCKET);
    let (_folder, store) = open(s3.clone()).await.unwrap();
    let mut f = Foundation::start_in_bucket(s3).await;
    let app = f.create_app("web").await;
    let bits = zip("lib/big.jar", &"x".repeat(70_000));
    let package = f.package(&app, bits.clone()).await;
    let related = json!({ "app": { "data": { "guid": app } } });
    let body = json!({ "relationships": related, "process_types": { "web": "./run" } });
    let droplet = f.send(Method::POST, "/v3/droplets", body).await;
    let droplet = droplet["guid"].as_str().unwrap().to_owned();
    let run = tgz("app/run", "#!/bin/sh");
    let path = format!("/v3/droplets/{droplet}/upload");
    let (status, answer) = f.send_bits(&f.admin, &path, Some(run.clone()), None).await;
    assert_eq!(status, 202, "{answer}");

    // Cells read both, also from a Cloud Controller that has just started. Nothing is in its folder.
    f.restart(async |folder| {
        for kind in [Kind::Package, Kind::Droplet, Kind::Resource] {
            assert!(!folder.join("blobs").join(kind.directory()).exists());
        }
    })
    .await;
    for (path, content) in [
        (format!("v4/packages/{package}/download"), &bits),
        (format!("v2/droplets/{droplet}/checksum/download"), &run),
    ] {
        let url = format!("{}/internal/{path}", f.internal_url);
        let answer = f.cell.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.bytes().await.unwrap() == **content, "{path}");
    }

    // A copy has bits of its own, and a named file comes from the bucket.
    let body =
        json!({ "relationships": { "app": { "data": { "guid": f.create_app("other").await } } } });
    let copied = f
        .send(
            Method::POST,
            &format!("/v3/packages?source_guid={package}"),
            body,
        )
        .await;
    assert_eq!(copied["state"], "READY", "{copied}");
    let listed = store.clone();
    let kept = blocking(move || names(&listed, Kind::Resource)).await;
    assert_eq!(kept.len(), 1, "the large file is kept");
    f.delete_and_wait(&format!("/v3/packages/{package}"), &store)
        .await;
    f.finish().await;
}

impl Foundation {
    /// Deletes a package, and waits until only the copy's bits are in the bucket.
    async fn delete_and_wait(&self, path: &str, store: &Store) {
        let (status, answer) = self.call(Method::DELETE, path, None).await;
        assert_eq!(status, 202, "{answer}");
        wait_for("the bits are removed", async || {
            let store = store.clone();
            blocking(move || names(&store, Kind::Package)).await.len() == 1
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_cloud_controllers_share_a_bucket() {
    if !postgres::is_chosen() {
        eprintln!("skipped: a file has only one Cloud Controller");
        return;
    }
    let Some(moto) = moto().await else {
        return;
    };
    moto.create(BUCKET).await;
    let f = Foundation::start_in_bucket(bucket(moto.endpoint(), BUCKET)).await;
    let app = f.create_app("web").await;
    let bits = zip("run", "#!/bin/sh");
    let package = f.package(&app, bits.clone()).await;
    let mut second = f.second().await;
    let path = format!("/internal/v4/packages/{package}/download");
    let url = format!("{}{path}", second.internal_url);
    let answer = f.cell.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.unwrap() == *bits);
    second.stop().await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_bucket_or_key_is_named_at_the_start() {
    let stop = CancellationToken::new();
    let refusing = axum::Router::new().fallback(async || {
        let body = "<?xml version=\"1.0\"?><Error><Code>InvalidAccessKeyId</Code><Message>The key is unknown</Message></Error>";
        (StatusCode::FORBIDDEN, body)
    });
    let peer = testkit::http::serve(refusing, None, stop.clone()).await;
    let error = open(bucket(peer.url.clone(), BUCKET)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the blob store {}/{BUCKET}/ did not list: InvalidAccessKeyId: The key is unknown; correct blobs.s3.access_key",
            peer.url
        )
    );
    stop.cancel();
    let Some(moto) = moto().await else {
        return;
    };
    let error = open(bucket(moto.endpoint(), "nobodys")).await.unwrap_err();
    let text = error.to_string();
    for part in ["/nobodys/", "NoSuchBucket", "blobs.s3.bucket"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_reached_delays_uploads_only() {
    let endpoint = format!("http://{}", unused_address());
    let (_folder, store) = open(bucket(endpoint.clone(), BUCKET)).await.unwrap();
    let (error, trouble) = blocking(move || {
        let error = store
            .put(Kind::Package, "a", b"abc".as_slice())
            .unwrap_err();
        (error, store.trouble())
    })
    .await;
    assert!(error.downcast_ref::<Unavailable>().is_some(), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("did not store packages/a"), "{text}");
    // A signed URL is a secret.
    assert!(!text.contains("Signature"), "{text}");
    assert!(trouble.is_some());

    let f = Foundation::start_in_bucket(bucket(endpoint, BUCKET)).await;
    let app = f.create_app("web").await;
    let body = json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } });
    let package = f.send(Method::POST, "/v3/packages", body).await;
    let guid = package["guid"].as_str().unwrap();
    let path = format!("/v3/packages/{guid}/upload");
    let bits = Some(zip("run", "#!/bin/sh"));
    let (status, answer) = f.send_bits(&f.admin, &path, bits, None).await;
    let detail = answer["errors"][0]["detail"].as_str().unwrap_or_default();
    assert_eq!(status, 503, "{answer}");
    assert!(
        detail.contains("the blob store http://127.0.0.1"),
        "{detail}"
    );
    let shown: Value = f.get(&format!("/v3/packages/{guid}")).await;
    assert_eq!(shown["state"], "AWAITING_UPLOAD", "it can be sent again");
    let unmet = f.observed().readiness.unmet().join(", ");
    assert!(unmet.contains("the blob store: "), "{unmet}");
    f.finish().await;
}
