use crate::client::{http_date, rfc3339};
use crate::fault::{Cause, element};
use crate::{Fault, S3, S3Settings};
use http::StatusCode;

fn settings() -> S3Settings {
    S3Settings {
        endpoint: "https://s3.eu-central-1.amazonaws.com".into(),
        bucket: "cupola".into(),
        region: "eu-central-1".into(),
        access_key: "AKIA".into(),
        secret_key: "sesame".into(),
        ca_pem: None,
    }
}

fn problems(change: impl FnOnce(&mut S3Settings)) -> Vec<String> {
    let mut settings = settings();
    change(&mut settings);
    S3::new(settings).map_or_else(|problems| problems, |_| Vec::new())
}

#[test]
fn every_problem_is_named_and_no_secret_is_shown() {
    assert!(problems(|_| ()).is_empty());
    let found = problems(|settings| {
        settings.endpoint = "s3.example.com:9000".into();
        settings.bucket = "Cupola".into();
        settings.region = String::new();
        settings.secret_key = "open sesame".into();
        settings.ca_pem = Some("no certificate".into());
    });
    for key in [
        "region",
        "secret_key",
        "bucket \"Cupola\"",
        "ca is",
        "endpoint",
    ] {
        let named = found.iter().filter(|problem| problem.starts_with(key));
        assert_eq!(named.count(), 1, "{key}: {found:?}");
    }
    assert!(!found.join(" ").contains("sesame"), "{found:?}");
    let found = problems(|settings| settings.endpoint = "https://u:p@s3.example.com".into());
    assert!(found[0].contains("access_key"), "{found:?}");
    assert!(!format!("{:?}", settings()).contains("sesame"));
    assert!(!format!("{:?}", S3::new(settings()).unwrap()).contains("sesame"));
}

#[test]
fn nothing_leaves_the_machine_unencrypted() {
    for here in [
        "http://127.0.0.1:9000",
        "http://[::1]:9000",
        "http://localhost",
    ] {
        assert!(
            problems(|settings| settings.endpoint = here.into()).is_empty(),
            "{here}"
        );
    }
    let found = problems(|settings| settings.endpoint = "http://s3.example.com".into());
    assert!(found[0].contains("use https"), "{found:?}");
}

#[test]
fn the_bucket_is_in_the_host_at_amazon_and_in_the_path_elsewhere() {
    let url = |endpoint: &str, bucket: &str| {
        let settings = S3Settings {
            endpoint: endpoint.into(),
            bucket: bucket.into(),
            ..settings()
        };
        let s3 = S3::new(settings).unwrap();
        s3.bucket.base_url().to_string()
    };
    let amazon = "https://s3.eu-central-1.amazonaws.com";
    assert_eq!(
        url(amazon, "cupola"),
        "https://cupola.s3.eu-central-1.amazonaws.com/"
    );
    assert_eq!(url(amazon, "a.b.c"), format!("{amazon}/a.b.c/"));
    assert_eq!(
        url("https://minio.example.com:9000/s3", "cupola"),
        "https://minio.example.com:9000/s3/cupola/"
    );
}

#[test]
fn faults_name_the_cause_and_the_key() {
    let refused = |status, text: &str| Fault {
        cause: Cause::Refused {
            status,
            code: element(text, "Code"),
            message: element(text, "Message"),
        },
        section: "blobs.s3",
    };
    let xml = "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message><BucketName>b</BucketName></Error>";
    let fault = refused(StatusCode::NOT_FOUND, xml);
    assert_eq!(
        fault.to_string(),
        "NoSuchBucket: The specified bucket does not exist; create the bucket, or correct blobs.s3.bucket"
    );
    assert!(!fault.is_missing() && !fault.is_temporary());
    let key = "<Error><Code>NoSuchKey</Code></Error>";
    assert!(refused(StatusCode::NOT_FOUND, key).is_missing());
    assert!(refused(StatusCode::NOT_FOUND, "").is_missing());
    let slow = refused(StatusCode::SERVICE_UNAVAILABLE, "");
    assert!(slow.is_temporary());
    assert_eq!(
        slow.to_string(),
        "the server returned 503 Service Unavailable"
    );
    let moved = refused(StatusCode::MOVED_PERMANENTLY, "");
    assert!(moved.to_string().contains("blobs.s3.region"), "{moved}");
}

#[test]
fn times_are_read() {
    let at = 1_796_010_015_000_000;
    assert_eq!(http_date("Mon, 30 Nov 2026 03:40:15 GMT"), Some(at));
    assert_eq!(rfc3339("2026-11-30T03:40:15.000Z"), Some(at));
    assert_eq!(rfc3339("yesterday"), None);
}
