//! The configuration of a bucket, as it is written and as it is checked.

use reqwest::Url;
use rusty_s3::{Credentials, UrlStyle};
use std::fmt;
use std::net::IpAddr;

/// The checked configuration of a bucket.
#[derive(Clone)]
pub struct S3 {
    pub(crate) bucket: rusty_s3::Bucket,
    pub(crate) credentials: Credentials,
    /// The PEM text of authorities that may have issued the server's certificate, beside the machine's own ones.
    pub(crate) ca_pem: Option<String>,
}

/// The configuration of a bucket as it is written.
#[derive(Clone, Default)]
pub struct S3Settings {
    pub endpoint: String,
    pub bucket: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: String,
    pub ca_pem: Option<String>,
}

/// Shows the address only.
impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Settings")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl S3 {
    /// Checks a configuration.
    ///
    /// # Errors
    /// It returns every problem, with the key that must be corrected and without secrets.
    pub fn new(settings: S3Settings) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        for (key, value) in [
            ("region", &settings.region),
            ("access_key", &settings.access_key),
            ("secret_key", &settings.secret_key),
        ] {
            if value.trim().is_empty() || value.contains(char::is_whitespace) {
                problems.push(format!("{key} is empty or has spaces"));
            }
        }
        let name = &settings.bucket;
        if !is_bucket_name(name) {
            problems.push(format!(
                "bucket {name:?} is not a name of a bucket: it must have 3 to 63 small letters, digits, dashes and dots"
            ));
        }
        if let Some(pem) = &settings.ca_pem
            && let Err(error) = kit::tls::Authorities::from_pem(pem)
        {
            problems.push(format!("ca is not a PEM file of authorities: {error:#}"));
        }
        let endpoint = check_endpoint(&settings.endpoint)
            .map_err(|problem| problems.push(problem))
            .ok();
        let bucket = endpoint.filter(|_| problems.is_empty()).and_then(|url| {
            let style = style(&url, name);
            rusty_s3::Bucket::new(url, style, name.clone(), settings.region.clone())
                .map_err(|error| problems.push(format!("endpoint is not valid: {error}")))
                .ok()
        });
        match bucket {
            Some(bucket) => Ok(Self {
                bucket,
                credentials: Credentials::new(settings.access_key, settings.secret_key),
                ca_pem: settings.ca_pem,
            }),
            None => Err(problems),
        }
    }
}

/// Shows the address of the bucket only.
impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3")
            .field(&self.bucket.base_url().as_str())
            .finish()
    }
}

fn is_bucket_name(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (3..=63).contains(&name.len())
        && name.bytes().all(is_inner)
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
        && !name.contains("..")
}

fn check_endpoint(text: &str) -> Result<Url, String> {
    let url: Url = text
        .parse()
        .map_err(|error| format!("endpoint {text:?} is not a URL ({error}): use e.g. https://s3.eu-central-1.amazonaws.com"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("endpoint contains a user or a password: use access_key and secret_key".into());
    }
    let host = url.host_str().unwrap_or_default();
    let is_here = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|ip: IpAddr| ip.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        "http" => Err(format!(
            "endpoint {text:?} would send the content unencrypted: use https, and ca for an authority of your own"
        )),
        _ => Err(format!(
            "endpoint {text:?} does not begin with https://: use e.g. https://s3.eu-central-1.amazonaws.com"
        )),
    }
}

/// Returns where the bucket's name is in URLs: in the host for Amazon, which recommends it, and in the path for all others.
fn style(endpoint: &Url, bucket: &str) -> UrlStyle {
    let host = endpoint.host_str().unwrap_or_default();
    let is_amazon = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
    // A certificate for all names below a host covers no name with a dot.
    if is_amazon && !bucket.contains('.') {
        UrlStyle::VirtualHost
    } else {
        UrlStyle::Path
    }
}
