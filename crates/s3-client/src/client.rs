//! The client of a bucket.

use crate::fault::{Cause, Fault, element};
use crate::settings::S3;
use anyhow::Context as _;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::{Body, Method, Response, Url, header};
use rusty_s3::S3Action;
use rusty_s3::actions::ListObjectsV2;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

/// The time for which a signed URL is valid. A request must begin within it.
const VALID: Duration = Duration::from_secs(15 * 60);
const CONNECT: Duration = Duration::from_secs(5);
/// The longest time without any progress.
const IDLE: Duration = Duration::from_secs(60);
/// The pauses before a request is repeated.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];
/// The maximum number of bytes of an error or a list that are read.
const LONGEST_ANSWER: usize = 16 << 20;

/// The bucket and the client with which requests are sent.
#[derive(Debug)]
pub struct Client {
    s3: S3,
    http: reqwest::Client,
    section: &'static str,
    trouble: Mutex<Option<String>>,
}

/// An object that is being read.
pub struct Object {
    /// The number of bytes.
    pub length: u64,
    pub content: BoxStream<'static, io::Result<Bytes>>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key without the prefix that was asked for.
    pub name: String,
    /// The time at which the object was written, in microseconds since the epoch.
    pub written: i64,
    /// The number of bytes.
    pub size: u64,
}

impl Client {
    /// Makes a client. `section` is the section of the configuration that has the bucket's keys; errors name them.
    ///
    /// # Errors
    /// It fails if the authorities of the configuration cannot be used.
    pub fn new(s3: &S3, section: &'static str) -> anyhow::Result<Self> {
        let mut trusted = kit::tls::Authorities::none();
        trusted.add_system();
        if let Some(pem) = &s3.ca_pem {
            trusted
                .add_pem(pem)
                .with_context(|| format!("read {section}.ca"))?;
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(kit::tls::trusting(trusted).with_no_client_auth())
            .connect_timeout(CONNECT)
            .read_timeout(IDLE)
            .build()
            .context("build the client of the bucket")?;
        Ok(Self {
            s3: s3.clone(),
            http,
            section,
            trouble: Mutex::default(),
        })
    }

    /// Returns the URL of the bucket.
    pub fn url(&self) -> &str {
        self.s3.bucket.base_url().as_str()
    }

    /// Lists one object with this prefix, so that a wrong key or bucket is found at the start.
    pub async fn check(&self, prefix: &str) -> Result<(), Fault> {
        let mut list = self.list_action(prefix);
        list.with_max_keys(1);
        self.send(&list, None).await.map(drop)
    }

    /// Stores the content of a local file, replacing an object of the same key.
    pub async fn put(&self, key: &str, file: &Path) -> Result<(), Fault> {
        let action = self.s3.bucket.put_object(Some(&self.s3.credentials), key);
        self.send(&action, Some(file)).await.map(drop)
    }

    /// Opens an object. Returns `None` if there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Object>, Fault> {
        let action = self.s3.bucket.get_object(Some(&self.s3.credentials), key);
        let response = match self.send(&action, None).await {
            Ok(response) => response,
            Err(fault) if fault.is_missing() => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let Some(length) = response.content_length() else {
            return Err(self.fault(Cause::Network(
                "the server announced no length of the object".to_owned(),
            )));
        };
        let content = response
            .bytes_stream()
            .map_err(|error| io::Error::other(error.without_url()))
            .boxed();
        Ok(Some(Object { length, content }))
    }

    /// Returns when an object was written, in microseconds since the epoch. Returns `None` if there is none.
    pub async fn written(&self, key: &str) -> Result<Option<i64>, Fault> {
        let action = self.s3.bucket.head_object(Some(&self.s3.credentials), key);
        let response = match self.send(&action, None).await {
            Ok(response) => response,
            Err(fault) if fault.is_missing() => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let at = response
            .headers()
            .get(header::LAST_MODIFIED)
            .and_then(|value| value.to_str().ok())
            .and_then(http_date);
        Ok(Some(at.unwrap_or_default()))
    }

    /// Removes an object. One that does not exist is no error.
    pub async fn delete(&self, key: &str) -> Result<(), Fault> {
        let credentials = Some(&self.s3.credentials);
        let action = self.s3.bucket.delete_object(credentials, key);
        match self.send(&action, None).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.is_missing() => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Returns all objects whose key begins with the prefix.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Fault> {
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut action = self.list_action(prefix);
            if let Some(token) = &token {
                action.with_continuation_token(token.clone());
            }
            let response = self.send(&action, None).await?;
            let text = text(response).await.map_err(|cause| self.fault(cause))?;
            let page = ListObjectsV2::parse_response(&text).map_err(|error| {
                self.fault(Cause::Network(format!("the list cannot be read: {error}")))
            })?;
            for object in page.contents {
                let written = object.last_modified.as_deref().and_then(rfc3339);
                if let (Some(name), Some(written)) = (object.key.strip_prefix(prefix), written) {
                    found.push(Listed {
                        name: name.to_owned(),
                        written,
                        size: object.size.unwrap_or_default(),
                    });
                }
            }
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// Returns why the last request failed, if it did.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone()
    }

    fn fault(&self, cause: Cause) -> Fault {
        Fault {
            cause,
            section: self.section,
        }
    }

    fn list_action(&self, prefix: &str) -> ListObjectsV2<'_> {
        let mut list = self.s3.bucket.list_objects_v2(Some(&self.s3.credentials));
        list.with_prefix(prefix.to_owned());
        list
    }

    /// Sends a request, with the content of a file as its body, until the server answers it or three attempts have failed.
    async fn send<'a, A: S3Action<'a>>(
        &self,
        action: &A,
        file: Option<&Path>,
    ) -> Result<Response, Fault> {
        let method = Method::from_bytes(A::METHOD.to_str().as_bytes()).unwrap_or(Method::GET);
        let mut pauses = PAUSES.iter();
        let sent = loop {
            // The URL is signed again, because its time runs out.
            let url = action.sign(VALID);
            let sent = self.send_once(method.clone(), url, file).await;
            let sent = sent.map_err(|cause| self.fault(cause));
            match (sent, pauses.next()) {
                (Err(fault), Some(pause)) if fault.is_temporary() => {
                    tracing::debug!(%fault, "bucket-request-repeated");
                    tokio::time::sleep(*pause).await;
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
    ) -> Result<Response, Cause> {
        let mut request = self.http.request(method, url);
        if let Some(path) = file {
            let local = |error: io::Error| Cause::Network(format!("{}: {error}", path.display()));
            let file = tokio::fs::File::open(path).await.map_err(local)?;
            let length = file.metadata().await.map_err(local)?.len();
            let stream = tokio_util::io::ReaderStream::with_capacity(file, 256 << 10);
            // A server of S3 refuses a body whose length is not announced.
            request = request
                .header(header::CONTENT_LENGTH, length)
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .body(Body::wrap_stream(stream));
        }
        let response = request.send().await.map_err(Cause::network)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = text(response).await.unwrap_or_default();
        Err(Cause::Refused {
            status,
            code: element(&text, "Code"),
            message: element(&text, "Message"),
        })
    }
}

/// Reads an answer that is not an object.
async fn text(response: Response) -> Result<String, Cause> {
    let mut body = response.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk.map_err(Cause::network)?);
        if bytes.len() > LONGEST_ANSWER {
            return Err(Cause::Network("the answer is too long".into()));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns a time of a list in microseconds since the epoch.
pub(crate) fn rfc3339(text: &str) -> Option<i64> {
    micros(OffsetDateTime::parse(text, &Rfc3339).ok()?)
}

/// Returns the time of a header in microseconds since the epoch.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    micros(OffsetDateTime::parse(text, &Rfc2822).ok()?)
}

fn micros(at: OffsetDateTime) -> Option<i64> {
    i64::try_from(at.unix_timestamp_nanos() / 1000).ok()
}
