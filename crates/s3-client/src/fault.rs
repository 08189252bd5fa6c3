//! The reasons why a request has failed, as operators read them.

use http::StatusCode;
use std::fmt;

/// The reason why a request has failed. Its text names the key of the configuration that must be corrected.
#[derive(Debug)]
pub struct Fault {
    pub(crate) cause: Cause,
    /// The section of the configuration that has the bucket's keys: `blobs.s3`.
    pub(crate) section: &'static str,
}

#[derive(Debug)]
pub(crate) enum Cause {
    /// The server could not be reached, or its answer broke off.
    Network(String),
    /// The server refused the request. A `HEAD` has no code and no message.
    Refused {
        status: StatusCode,
        code: String,
        message: String,
    },
}

impl Cause {
    pub(crate) fn network(error: reqwest::Error) -> Self {
        // The URL has a signature.
        Self::Network(format!("{:#}", anyhow::Error::new(error.without_url())))
    }
}

impl Fault {
    /// Returns whether the same request may succeed later.
    pub fn is_temporary(&self) -> bool {
        match &self.cause {
            Cause::Network(_) => true,
            Cause::Refused { status, code, .. } => {
                status.is_server_error()
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || code == "RequestTimeout"
            }
        }
    }

    /// Returns whether an object does not exist, in a bucket that exists.
    pub fn is_missing(&self) -> bool {
        matches!(&self.cause, Cause::Refused { status, code, .. } if *status == StatusCode::NOT_FOUND && code != "NoSuchBucket")
    }

    /// Returns what the operator can do.
    fn advice(&self) -> String {
        let section = self.section;
        let Cause::Refused { code, status, .. } = &self.cause else {
            return String::new();
        };
        match code.as_str() {
            "NoSuchBucket" => format!("; create the bucket, or correct {section}.bucket"),
            "InvalidAccessKeyId" => format!("; correct {section}.access_key"),
            "SignatureDoesNotMatch" => format!("; correct {section}.secret_key"),
            "AccessDenied" => {
                "; allow the key to list the bucket, and to read, write and delete its objects"
                    .to_owned()
            }
            "AuthorizationHeaderMalformed"
            | "AuthorizationQueryParametersError"
            | "PermanentRedirect" => {
                format!("; correct {section}.region and {section}.endpoint")
            }
            "RequestTimeTooSkewed" => "; set the clock of this machine".to_owned(),
            "" if status.is_redirection() => {
                format!("; correct {section}.region and {section}.endpoint")
            }
            _ => String::new(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Network(error) => f.write_str(error)?,
            Cause::Refused { status, code, .. } if code.is_empty() => {
                write!(f, "the server returned {status}")?;
            }
            Cause::Refused { code, message, .. } => write!(f, "{code}: {message}")?,
        }
        f.write_str(&self.advice())
    }
}

impl std::error::Error for Fault {}

/// Returns the text of the first element of this name, or an empty text. Errors of S3 are so simple that this suffices.
pub(crate) fn element(xml: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inner = xml
        .split_once(&open)
        .and_then(|(_, rest)| rest.split_once(&close));
    let text = inner.map_or("", |(text, _)| text);
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
