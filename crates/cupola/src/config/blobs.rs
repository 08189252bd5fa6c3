//! The key `blobs`: the bucket in which the Cloud Controller keeps packages and droplets.

use cloud_controller::{S3, S3Settings};
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;

/// The maximum size in MiB of a package in a bucket, because a server of S3 accepts no more in one request.
const LARGEST_MB: u32 = 5 << 10;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BlobsSection {
    /// The bucket; default: the blobs are files in the folder of the Cloud Controller.
    pub(super) s3: Option<S3Section>,
}

/// A bucket. It contains a secret, so it is not printed.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct S3Section {
    /// The URL of the server: `https://s3.eu-central-1.amazonaws.com`.
    pub(super) endpoint: Option<String>,
    pub(super) bucket: Option<String>,
    pub(super) region: Option<String>,
    pub(super) access_key: Option<String>,
    pub(super) secret_key: Option<String>,
    /// A PEM file with the authorities that may have issued the certificate of the server.
    pub(super) ca: Option<PathBuf>,
}

impl fmt::Debug for S3Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Section")
    }
}

/// Returns the bucket, or `None` if the blobs are in a folder.
pub(super) fn check(
    section: BlobsSection,
    package_mb: u32,
    problems: &mut Vec<String>,
) -> Option<S3> {
    let s3 = section.s3?;
    let is_too_large = package_mb > LARGEST_MB;
    if is_too_large {
        problems.push(format!(
            "limits.package_mb {package_mb} is more than {LARGEST_MB}, the largest package that a bucket (blobs.s3) can have"
        ));
    }
    bucket(s3, "blobs.s3", problems).filter(|_| !is_too_large)
}

/// Returns the bucket of a section, or `None` if something is wrong with it.
pub(super) fn bucket(s3: S3Section, section: &str, problems: &mut Vec<String>) -> Option<S3> {
    let before = problems.len();
    let mut given = |key: &str, value: Option<String>| {
        if value.is_none() {
            problems.push(format!(
                "{section}.{key} is missing: set it, or leave out {section}"
            ));
        }
        value.unwrap_or_default()
    };
    let mut settings = S3Settings {
        endpoint: given("endpoint", s3.endpoint),
        bucket: given("bucket", s3.bucket),
        region: given("region", s3.region),
        access_key: given("access_key", s3.access_key),
        secret_key: given("secret_key", s3.secret_key),
        ca_pem: None,
    };
    if let Some(ca) = s3.ca {
        match std::fs::read_to_string(&ca) {
            Ok(pem) => settings.ca_pem = Some(pem),
            Err(error) => problems.push(format!(
                "{section}.ca {}: the file cannot be read ({error}): does it exist, and may this process read it?",
                ca.display()
            )),
        }
    }
    if problems.len() > before {
        return None;
    }
    S3::new(settings)
        .map_err(|found| {
            problems.extend(found.iter().map(|problem| format!("{section}.{problem}")));
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, package_mb: u32) -> String {
        let section: BlobsSection = yaml_serde::from_str(text).unwrap();
        assert!(!format!("{section:?}").contains("sesame"));
        let mut problems = Vec::new();
        let bucket = check(section, package_mb, &mut problems);
        assert!(bucket.is_none() || problems.is_empty(), "{problems:?}");
        assert!(!format!("{bucket:?}").contains("sesame"));
        problems.join("; ")
    }

    #[test]
    fn keys_are_checked() {
        let good = "s3: {endpoint: 'http://127.0.0.1:9000', bucket: cupola, region: eu-1, access_key: a, secret_key: sesame}";
        assert_eq!(problems("{}", 9000), "");
        assert_eq!(problems(good, 1024), "");
        assert_eq!(
            problems(good, 9000),
            "limits.package_mb 9000 is more than 5120, the largest package that a bucket (blobs.s3) can have"
        );
        let missing = problems("s3: {secret_key: sesame, ca: /nowhere/ca.pem}", 1024);
        for key in ["endpoint", "bucket", "region", "access_key"] {
            let text = format!("blobs.s3.{key} is missing");
            assert!(missing.contains(&text), "{missing}");
        }
        assert!(
            missing.contains("blobs.s3.ca /nowhere/ca.pem: the file cannot be read"),
            "{missing}"
        );
        assert!(!missing.contains("sesame"), "{missing}");
        let wrong = problems(&good.replace("bucket: cupola", "bucket: Cupola"), 1024);
        assert!(
            wrong.starts_with("blobs.s3.bucket \"Cupola\" is not a name of a bucket"),
            "{wrong}"
        );
        let unknown = yaml_serde::from_str::<BlobsSection>("s3: {secret: sesame}").unwrap_err();
        assert!(unknown.to_string().contains("secret"), "{unknown}");
    }
}
