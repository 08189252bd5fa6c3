//! Keeps blobs in a bucket of an S3 server, under keys such as `packages/NAME`.
//!
//! `rusty_s3` signs the URLs and reads the lists; the requests are sent here. A signed URL is as good as a password for some
//! minutes, so that no error and no log shows one. A request that the server could not answer is repeated, because each of them
//! has the same effect twice. The functions block: they run on threads for blocking work and wait for the runtime.

use super::blobs::{Blobs, Kind, Listed, Opened, Unavailable};
use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use reqwest::{Body, Method, Response, Url, header};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Credentials, S3Action, UrlStyle};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};
use tokio::runtime::Handle;

/// The time for which a signed URL is valid. A request must begin within it.
const VALID: Duration = Duration::from_secs(15 * 60);
const CONNECT: Duration = Duration::from_secs(5);
/// The longest time without any progress.
const IDLE: Duration = Duration::from_secs(60);
/// The pauses before a request is repeated.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];
/// The maximum number of bytes of an error or a list that are read.
const LONGEST_ANSWER: usize = 16 << 20;

/// The checked configuration of a bucket.
#[derive(Clone)]
pub struct S3 {
    bucket: rusty_s3::Bucket,
    credentials: Credentials,
    /// The PEM text of authorities that may have issued the server's certificate, beside the machine's own ones.
    ca_pem: Option<String>,
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
            "endpoint {text:?} would send packages and droplets unencrypted: use https, and ca for an authority of your own"
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

/// The bucket and the client with which requests are sent.
#[derive(Debug)]
pub(super) struct Bucket {
    s3: S3,
    http: reqwest::Client,
    runtime: Handle,
    trouble: Mutex<Option<String>>,
}

/// The reason why a request has failed.
#[derive(Debug)]
enum Fault {
    /// The server could not be reached, or its answer broke off.
    Network(String),
    /// The server refused the request. A `HEAD` has no code and no message.
    Refused {
        status: StatusCode,
        code: String,
        message: String,
    },
}

impl Fault {
    fn network(error: reqwest::Error) -> Self {
        // The URL has a signature.
        Self::Network(format!("{:#}", anyhow::Error::new(error.without_url())))
    }

    fn is_temporary(&self) -> bool {
        match self {
            Self::Network(_) => true,
            Self::Refused { status, code, .. } => {
                status.is_server_error()
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || code == "RequestTimeout"
            }
        }
    }

    /// Returns whether a blob does not exist, in a bucket that exists.
    fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status, code, .. } if *status == StatusCode::NOT_FOUND && code != "NoSuchBucket")
    }

    /// Returns what the operator can do.
    fn advice(&self) -> &'static str {
        let Self::Refused { code, status, .. } = self else {
            return "";
        };
        match code.as_str() {
            "NoSuchBucket" => "; create the bucket, or correct blobs.s3.bucket",
            "InvalidAccessKeyId" => "; correct blobs.s3.access_key",
            "SignatureDoesNotMatch" => "; correct blobs.s3.secret_key",
            "AccessDenied" => {
                "; allow the key to list the bucket, and to read, write and delete its objects"
            }
            "AuthorizationHeaderMalformed"
            | "AuthorizationQueryParametersError"
            | "PermanentRedirect" => "; correct blobs.s3.region and blobs.s3.endpoint",
            "RequestTimeTooSkewed" => "; set the clock of this machine",
            "" if status.is_redirection() => "; correct blobs.s3.region and blobs.s3.endpoint",
            _ => "",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(error) => f.write_str(error)?,
            Self::Refused { status, code, .. } if code.is_empty() => {
                write!(f, "the server returned {status}")?;
            }
            Self::Refused { code, message, .. } => write!(f, "{code}: {message}")?,
        }
        f.write_str(self.advice())
    }
}

impl Bucket {
    /// Makes the client and lists one blob, so that a wrong key or bucket is found at the start.
    pub(super) fn open(s3: &S3) -> Result<Self> {
        let mut trusted = kit::tls::Authorities::none();
        trusted.add_system();
        if let Some(pem) = &s3.ca_pem {
            trusted.add_pem(pem).context("read blobs.s3.ca")?;
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(kit::tls::trusting(trusted).with_no_client_auth())
            .connect_timeout(CONNECT)
            .read_timeout(IDLE)
            .build()
            .context("build the client of the blob store")?;
        let bucket = Self {
            s3: s3.clone(),
            http,
            runtime: Handle::try_current().context("open the blob store within a runtime")?,
            trouble: Mutex::default(),
        };
        let mut list = bucket.list_action(Kind::Package);
        list.with_max_keys(1);
        match bucket.send(&list, None) {
            Ok(_) => {}
            Err(fault) if fault.is_temporary() => {
                tracing::warn!(error = %bucket.unavailable("list", &fault), "blob-store-not-reached");
            }
            Err(fault) => bail!(bucket.unavailable("list", &fault)),
        }
        Ok(bucket)
    }

    fn list_action(&self, kind: Kind) -> ListObjectsV2<'_> {
        let mut list = self.s3.bucket.list_objects_v2(Some(&self.s3.credentials));
        list.with_prefix(format!("{}/", kind.directory()));
        list
    }

    /// Sends a request, with the content of a file as its body, until the server answers it or three attempts have failed.
    fn send<'a, A: S3Action<'a>>(
        &self,
        action: &A,
        file: Option<&Path>,
    ) -> Result<Response, Fault> {
        let method = Method::from_bytes(A::METHOD.to_str().as_bytes()).unwrap_or(Method::GET);
        let mut pauses = PAUSES.iter();
        let sent = loop {
            // The URL is signed again, because its time runs out.
            let url = action.sign(VALID);
            let sent = self
                .runtime
                .block_on(self.send_once(method.clone(), url, file));
            match (sent, pauses.next()) {
                (Err(fault), Some(pause)) if fault.is_temporary() => {
                    tracing::debug!(%fault, "blob-request-repeated");
                    std::thread::sleep(*pause);
                }
                (sent, _) => break sent,
            }
        };
        let trouble = match &sent {
            Err(fault) if !fault.is_missing() => Some(fault.to_string()),
            _ => None,
        };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        sent
    }

    async fn send_once(
        &self,
        method: Method,
        url: Url,
        file: Option<&Path>,
    ) -> Result<Response, Fault> {
        let mut request = self.http.request(method, url);
        if let Some(path) = file {
            let local = |error: io::Error| Fault::Network(format!("{}: {error}", path.display()));
            let file = tokio::fs::File::open(path).await.map_err(local)?;
            let length = file.metadata().await.map_err(local)?.len();
            let stream = tokio_util::io::ReaderStream::with_capacity(file, 256 << 10);
            // A server of S3 refuses a body whose length is not announced.
            request = request
                .header(header::CONTENT_LENGTH, length)
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .body(Body::wrap_stream(stream));
        }
        let response = request.send().await.map_err(Fault::network)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = text(response).await.unwrap_or_default();
        Err(Fault::Refused {
            status,
            code: element(&text, "Code"),
            message: element(&text, "Message"),
        })
    }

    fn unavailable(&self, verb: &str, fault: &Fault) -> Unavailable {
        Unavailable(format!(
            "the blob store {} did not {verb}: {fault}",
            self.s3.bucket.base_url()
        ))
    }

    fn key(kind: Kind, name: &str) -> String {
        format!("{}/{name}", kind.directory())
    }
}

/// Reads an answer that is not a blob.
async fn text(response: Response) -> Result<String, Fault> {
    let mut body = response.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk.map_err(Fault::network)?);
        if bytes.len() > LONGEST_ANSWER {
            return Err(Fault::Network("the answer is too long".into()));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the text of the first element of this name, or an empty text. Errors of S3 are so simple that this suffices.
fn element(xml: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inner = xml
        .split_once(&open)
        .and_then(|(_, rest)| rest.split_once(&close));
    let text = inner.map_or("", |(text, _)| text);
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

impl Blobs for Bucket {
    fn put(&self, kind: Kind, name: &str, file: &Path) -> Result<()> {
        let key = Self::key(kind, name);
        let action = self.s3.bucket.put_object(Some(&self.s3.credentials), &key);
        self.send(&action, Some(file))
            .map_err(|fault| self.unavailable(&format!("store {key}"), &fault))?;
        Ok(())
    }

    fn open(&self, kind: Kind, name: &str) -> Result<Option<Opened>> {
        let key = Self::key(kind, name);
        let action = self.s3.bucket.get_object(Some(&self.s3.credentials), &key);
        let response = match self.send(&action, None) {
            Ok(response) => response,
            Err(fault) if fault.is_missing() => return Ok(None),
            Err(fault) => bail!(self.unavailable(&format!("return {key}"), &fault)),
        };
        let length = response
            .content_length()
            .with_context(|| format!("the blob store announced no length of {key}"))?;
        let stream = response
            .bytes_stream()
            .map_err(|error| io::Error::other(error.without_url()))
            .boxed();
        Ok(Some(Opened::remote(length, stream, self.runtime.clone())))
    }

    fn written(&self, kind: Kind, name: &str) -> Result<Option<i64>> {
        let key = Self::key(kind, name);
        let action = self.s3.bucket.head_object(Some(&self.s3.credentials), &key);
        let response = match self.send(&action, None) {
            Ok(response) => response,
            Err(fault) if fault.is_missing() => return Ok(None),
            Err(fault) => bail!(self.unavailable(&format!("find {key}"), &fault)),
        };
        let at = response
            .headers()
            .get(header::LAST_MODIFIED)
            .and_then(|value| value.to_str().ok())
            .and_then(http_date);
        Ok(Some(at.unwrap_or_default()))
    }

    fn delete(&self, kind: Kind, name: &str) -> Result<()> {
        let key = Self::key(kind, name);
        let credentials = Some(&self.s3.credentials);
        let action = self.s3.bucket.delete_object(credentials, &key);
        match self.send(&action, None) {
            Ok(_) => Ok(()),
            Err(fault) if fault.is_missing() => Ok(()),
            Err(fault) => bail!(self.unavailable(&format!("delete {key}"), &fault)),
        }
    }

    fn list(&self, kind: Kind) -> Result<Vec<Listed>> {
        let prefix = format!("{}/", kind.directory());
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut action = self.list_action(kind);
            if let Some(token) = &token {
                action.with_continuation_token(token.clone());
            }
            let fault = |fault: Fault| self.unavailable(&format!("list {prefix}"), &fault);
            let response = self.send(&action, None).map_err(fault)?;
            let text = self.runtime.block_on(text(response)).map_err(fault)?;
            let page = ListObjectsV2::parse_response(&text)
                .with_context(|| format!("read the blob store's list of {prefix}"))?;
            for object in page.contents {
                let written = object.last_modified.as_deref().and_then(rfc3339);
                if let (Some(name), Some(written)) = (object.key.strip_prefix(&prefix), written) {
                    found.push(Listed {
                        name: name.to_owned(),
                        written,
                    });
                }
            }
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone()
    }
}

/// Returns a time of a list in microseconds since the epoch.
fn rfc3339(text: &str) -> Option<i64> {
    micros(OffsetDateTime::parse(text, &Rfc3339).ok()?)
}

/// Returns the time of a header in microseconds since the epoch.
fn http_date(text: &str) -> Option<i64> {
    micros(OffsetDateTime::parse(text, &Rfc2822).ok()?)
}

fn micros(at: OffsetDateTime) -> Option<i64> {
    i64::try_from(at.unix_timestamp_nanos() / 1000).ok()
}

#[cfg(test)]
mod tests;
