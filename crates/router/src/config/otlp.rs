//! The receiver of traces by OTLP.

use http::Uri;
use wire::otlp::TRACES_PATH;

/// A receiver of traces by OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    url: String,
}

impl Otlp {
    /// Reads the URL of a receiver. Without a path it gets that of the protocol, `/v1/traces`.
    ///
    /// # Errors The error completes the sentence about the text: "… is not …".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "the URL of an OTLP receiver: use e.g. http://127.0.0.1:4318";
        let uri: Uri = text.parse().map_err(|_| WANTED)?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if !is_http || authority.is_empty() || text.contains('#') {
            return Err(WANTED);
        }
        if authority.contains('@') {
            return Err(
                "a URL without a user and a password, which OTLP does not use: remove them",
            );
        }
        let url = match uri.path_and_query().map_or("/", |path| path.as_str()) {
            "/" => format!("{}{TRACES_PATH}", text.trim_end_matches('/')),
            _ => text.to_owned(),
        };
        Ok(Self { url })
    }

    /// Returns the URL to which traces are sent.
    pub fn url(&self) -> &str {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gets_the_protocol_s_path_if_it_has_none() {
        let url = |text| Otlp::parse(text).map(|otlp| otlp.url);
        for (text, wanted) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://a.test:4318/", "http://a.test:4318/v1/traces"),
            ("https://a.test/own/path", "https://a.test/own/path"),
        ] {
            assert_eq!(url(text).as_deref(), Ok(wanted));
        }
        for text in [
            "",
            "a.test:4318",
            "grpc://a.test",
            "http://",
            "/v1/traces",
            "http://a.test/#x",
        ] {
            assert!(url(text).unwrap_err().contains("OTLP receiver"), "{text}");
        }
        let refused = url("http://u:p@a.test").unwrap_err();
        assert!(refused.contains("without a user"), "{refused}");
    }
}
