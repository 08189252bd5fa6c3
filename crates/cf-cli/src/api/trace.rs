//! `CF_TRACE` and `-v`: prints every request and response, with secrets hidden.

use crate::ui::boolean;
use reqwest::header::HeaderMap;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

const HIDDEN: &str = "[PRIVATE DATA HIDDEN]";

/// The destination of traces.
pub(crate) struct Trace {
    out: Option<Arc<Mutex<dyn std::io::Write + Send>>>,
    file: Option<PathBuf>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Trace {
    /// Creates the trace. `CF_TRACE` is a truth value (trace to stdout) or the path of a file.
    pub(crate) fn new(
        cf_trace: Option<&str>,
        verbose: bool,
        out: Arc<Mutex<dyn std::io::Write + Send>>,
    ) -> Self {
        let cf_trace = cf_trace.filter(|t| !t.is_empty());
        let file = cf_trace.filter(|t| boolean(t).is_none()).map(PathBuf::from);
        Self {
            out: (verbose || cf_trace.and_then(boolean) == Some(true)).then_some(out),
            file,
        }
    }

    fn is_off(&self) -> bool {
        self.out.is_none() && self.file.is_none()
    }

    pub(crate) fn request(
        &self,
        method: &str,
        url: &str,
        headers: &HeaderMap,
        body: Option<&[u8]>,
    ) {
        if self.is_off() {
            return;
        }
        let (host, path) = url.split_once("://").map_or(("", url), |(_, rest)| {
            rest.find('/').map_or((rest, "/"), |at| rest.split_at(at))
        });
        let path = without_secrets(path);
        let mut text = format!("\nREQUEST:\n{method} {path} HTTP/1.1\nHost: {host}\n");
        render(&mut text, headers, body.unwrap_or_default());
        self.write(&text);
    }

    pub(crate) fn response(&self, status_line: &str, headers: &HeaderMap, body: &[u8]) {
        if self.is_off() {
            return;
        }
        let mut text = format!("\nRESPONSE:\n{status_line}\n");
        render(&mut text, headers, body);
        self.write(&text);
    }

    fn write(&self, text: &str) {
        if let Some(out) = &self.out {
            let _ = out
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write_all(text.as_bytes());
        }
        if let Some(path) = &self.file {
            use std::os::unix::fs::OpenOptionsExt as _;
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path);
            let _ = file.and_then(|mut f| f.write_all(text.as_bytes()));
        }
    }
}

fn render(text: &mut String, headers: &HeaderMap, body: &[u8]) {
    for (name, value) in headers {
        let is_hidden = matches!(name.as_str(), "authorization" | "set-cookie" | "cookie")
            || is_secret(name.as_str());
        let shown = match value.to_str() {
            _ if is_hidden => HIDDEN.to_owned(),
            Ok(url) if name == "location" => without_secrets(url),
            Ok(value) => value.to_owned(),
            Err(_) => "<binary>".to_owned(),
        };
        let _ = writeln!(text, "{name}: {shown}");
    }
    if body.is_empty() {
        return;
    }
    let is_form = headers.get("content-type").is_some_and(|v| {
        v.as_bytes()
            .starts_with(b"application/x-www-form-urlencoded")
    });
    let shown = match serde_json::from_slice::<Value>(body) {
        Ok(mut json) => {
            hide(&mut json);
            serde_json::to_string_pretty(&json).unwrap_or_default()
        }
        Err(_) if is_form => String::from_utf8_lossy(body)
            .split('&')
            .map(hidden_pair)
            .collect::<Vec<_>>()
            .join("&"),
        Err(_) => std::str::from_utf8(body)
            .map_or_else(|_| format!("<{} bytes>", body.len()), str::to_owned),
    };
    let _ = writeln!(text, "\n{shown}");
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    [
        "token",
        "password",
        "secret",
        "passcode",
        "assertion",
        "credential",
        "private_key",
        "authorization",
    ]
    .iter()
    .any(|s| key.contains(s))
        && !matches!(key.as_str(), "token_type" | "token_endpoint")
}

/// Hides secret parameters in a URL, or in a path with its query.
fn without_secrets(url: &str) -> String {
    match url.split_once('?') {
        None => url.to_owned(),
        Some((path, query)) => {
            let pairs: Vec<_> = query
                .split('&')
                .map(|pair| match pair.split_once('=') {
                    Some(("code", _)) => format!("code={HIDDEN}"),
                    _ => hidden_pair(pair),
                })
                .collect();
            format!("{path}?{}", pairs.join("&"))
        }
    }
}

fn hidden_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((key, _)) if is_secret(key) => format!("{key}={HIDDEN}"),
        _ => pair.to_owned(),
    }
}

fn hide(json: &mut Value) {
    match json {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                let says_nothing = matches!(value, Value::Null | Value::Bool(_));
                // Links are no secrets, whatever their name is.
                let is_link = value.get("href").is_some();
                if is_secret(key) && !says_nothing && !is_link {
                    *value = HIDDEN.into();
                } else {
                    hide(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let out = Arc::new(Mutex::new(Vec::new()));
        let trace = Trace::new(Some("1"), false, out.clone());
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "bearer s3cret".parse().unwrap());
        trace.request(
            "POST",
            "https://api.x/v3/apps?a=b",
            &headers,
            Some(br#"{"name":"n","docker":{"password":"s3cret"},"credentials":{"key":"s3cret"},"tokens":["s3cret",5]}"#),
        );
        trace.request(
            "GET",
            "https://login.x/oauth/authorize?client_id=cf&code=s3cret&id_token=s3cret",
            &HeaderMap::new(),
            None,
        );
        headers.insert("location", "https://x/?code=s3cret".parse().unwrap());
        headers.insert("x-client-secret", "s3cret".parse().unwrap());
        headers.insert(
            "content-type",
            "application/x-www-form-urlencoded".parse().unwrap(),
        );
        trace.request(
            "POST",
            "https://login.x/oauth/token",
            &headers,
            Some(b"grant_type=password&password=s3cret"),
        );
        trace.response(
            "HTTP/1.1 200 OK",
            &HeaderMap::new(),
            br#"{"access_token":"s3cret","token_type":"bearer"}"#,
        );
        let text = String::from_utf8(out.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("s3cret"), "{text}");
        assert!(
            text.contains("POST /v3/apps?a=b HTTP/1.1\nHost: api.x\n")
                && text.contains("grant_type=password&password=[PRIVATE")
                && text.contains("\"bearer\"")
        );
    }
}
