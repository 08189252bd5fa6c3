//! The `Staticfile` contains the author's settings for the server. The builder reads it at staging and passes the result to the
//! server as JSON beside the app. A key that has no effect here is refused by name rather than ignored.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use yaml_serde::{Mapping, Value};

/// The file in which the builder stores the settings, below the app's folder.
pub(crate) const FILE: &str = ".cloudfoundry/staticfile.json";
/// The folder that is served, below the app's folder.
pub(crate) const PUBLIC: &str = "public";
/// The password file, below the app's folder.
pub(crate) const AUTH_FILE: &str = "Staticfile.auth";

/// The names at the top of the served folder that are never public.
pub(crate) const PRIVATE: &[&str] = &[
    "Staticfile",
    AUTH_FILE,
    "manifest.yml",
    "Procfile",
    "stackato.yml",
    "nginx",
    ".profile",
    ".profile.d",
    ".cloudfoundry",
    ".cfignore",
    ".git",
];

/// A checked `Staticfile`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The folder to publish, relative to the app; `None` means the app's own folder.
    pub(crate) root: Option<String>,
    pub(crate) host_dot_files: bool,
    /// Whether folders without an index page get a list of their files.
    pub(crate) directory: bool,
    /// Whether paths that name no file get index.html.
    pub(crate) pushstate: bool,
    pub(crate) force_https: bool,
    /// The value of `Strict-Transport-Security`.
    pub(crate) strict_transport_security: Option<String>,
    /// The paths of the pages by status.
    pub(crate) status_codes: BTreeMap<u16, String>,
    /// Whether all files require a user of [`AUTH_FILE`].
    pub(crate) basic_auth: bool,
}

const CLIENT_ERRORS: std::ops::RangeInclusive<u16> = 400..=499;
const SERVER_ERRORS: std::ops::RangeInclusive<u16> = 500..=599;
const KNOWN: &str = "root, host_dot_files, directory, pushstate, force_https, http_strict_transport_security, \
    http_strict_transport_security_include_subdomains, http_strict_transport_security_preload, status_codes";

impl Settings {
    /// Parses the text of a `Staticfile`. The error is for the app's author.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let value: Value = yaml_serde::from_str(text)
            .map_err(|error| format!("Staticfile is not YAML: {error}"))?;
        let mapping = match value {
            Value::Null => Mapping::new(),
            Value::Mapping(mapping) => mapping,
            other => {
                return Err(format!(
                    "Staticfile contains {}; expected lines such as root: dist",
                    shown(&other)
                ));
            }
        };
        let mut settings = Self::default();
        let (mut hsts, mut subdomains, mut preload) = (false, false, false);
        for (key, value) in &mapping {
            let Some(key) = key.as_str() else {
                return Err(format!(
                    "Staticfile has the key {}; known are {KNOWN}",
                    shown(key)
                ));
            };
            let on = || switch(key, value);
            match key {
                "root" => settings.root = root(value)?,
                "host_dot_files" => settings.host_dot_files = on()?,
                "directory" => settings.directory = on()?,
                "pushstate" => settings.pushstate = on()?,
                "force_https" => settings.force_https = on()?,
                "http_strict_transport_security" => hsts = on()?,
                "http_strict_transport_security_include_subdomains" => subdomains = on()?,
                "http_strict_transport_security_preload" => preload = on()?,
                "status_codes" => settings.status_codes = status_codes(value)?,
                "ssi" | "enable_http2" => {
                    if on()? {
                        return Err(format!(
                            "Staticfile: {key} is not supported by this buildpack; remove the line {key}"
                        ));
                    }
                }
                "location_include" => {
                    if !matches!(value, Value::Null) {
                        return Err(
                            "Staticfile: location_include is not supported, because this buildpack serves without nginx; remove the line location_include"
                                .to_owned(),
                        );
                    }
                }
                other => {
                    return Err(format!(
                        "Staticfile has the key {other:?}, which is not known; known are {KNOWN}"
                    ));
                }
            }
        }
        if !hsts && (subdomains || preload) {
            return Err(
                "Staticfile: http_strict_transport_security_include_subdomains and http_strict_transport_security_preload need http_strict_transport_security: true"
                    .to_owned(),
            );
        }
        settings.strict_transport_security = hsts.then(|| {
            format!(
                "max-age=31536000{}{}",
                if subdomains {
                    "; includeSubDomains"
                } else {
                    ""
                },
                if preload { "; preload" } else { "" }
            )
        });
        Ok(settings)
    }
}

fn shown(value: &Value) -> String {
    yaml_serde::to_string(value).map_or_else(
        |_| "a value".to_owned(),
        |text| format!("{:?}", text.trim()),
    )
}

fn switch(key: &str, value: &Value) -> Result<bool, String> {
    let text = match value {
        Value::Bool(on) => return Ok(*on),
        Value::Null => "",
        Value::String(text) => text.as_str(),
        _ => "?",
    };
    match text {
        "true" | "enabled" => Ok(true),
        "visible" if key == "directory" => Ok(true),
        "" | "false" | "disabled" => Ok(false),
        _ => Err(format!(
            "Staticfile: {key} is {}; expected true or false",
            shown(value)
        )),
    }
}

fn root(value: &Value) -> Result<Option<String>, String> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.as_str(),
        other => {
            return Err(format!(
                "Staticfile: root is {}; expected a folder's name",
                shown(other)
            ));
        }
    };
    if text.starts_with('/') {
        return Err(format!(
            "Staticfile: root {text:?} is absolute; expected a folder below the app"
        ));
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.contains(&"..") {
        return Err(format!("Staticfile: root {text:?} leaves the app's folder"));
    }
    Ok(Some(parts.join("/")).filter(|root| !root.is_empty()))
}

/// Parses the status codes: `404: /404.html`, `4xx: /error.html`, `500 502: /down.html`. A single status takes precedence over a
/// class.
fn status_codes(value: &Value) -> Result<BTreeMap<u16, String>, String> {
    let wrong = |what: String| {
        format!("Staticfile: status_codes {what}; expected for example 404: /404.html")
    };
    let Value::Mapping(mapping) = value else {
        return match value {
            Value::Null => Ok(BTreeMap::new()),
            other => Err(wrong(format!("is {}", shown(other)))),
        };
    };
    let (mut classes, mut single) = (BTreeMap::new(), BTreeMap::new());
    for (codes, page) in mapping {
        let page = page
            .as_str()
            .filter(|page| page.starts_with('/') && !page.split('/').any(|part| part == ".."))
            .ok_or_else(|| wrong(format!("has the page {}", shown(page))))?;
        let codes = match codes {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => return Err(wrong(format!("has the status {}", shown(other)))),
        };
        for code in codes.split_whitespace() {
            match code {
                "4xx" => classes.extend(CLIENT_ERRORS.map(|status| (status, page.to_owned()))),
                "5xx" => classes.extend(SERVER_ERRORS.map(|status| (status, page.to_owned()))),
                _ => {
                    let status = code
                        .parse()
                        .ok()
                        .filter(|status| (400..=599).contains(status))
                        .ok_or_else(|| wrong(format!("has the status {code:?}")))?;
                    single.insert(status, page.to_owned());
                }
            }
        }
    }
    classes.extend(single);
    Ok(classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_is_known() {
        let text = "# a\nroot: ./dist/\nhost_dot_files: true\ndirectory: visible\npushstate: enabled\nforce_https: \"true\"\n\
            http_strict_transport_security: true\nhttp_strict_transport_security_include_subdomains: true\n\
            http_strict_transport_security_preload: false\nstatus_codes:\n  404: /404.html\n  5xx: /down.html\nssi: disabled\n";
        let parsed = Settings::parse(text).unwrap();
        assert_eq!(parsed.root.as_deref(), Some("dist"));
        assert!(
            parsed.host_dot_files && parsed.directory && parsed.pushstate && parsed.force_https
        );
        assert_eq!(
            parsed.strict_transport_security.as_deref(),
            Some("max-age=31536000; includeSubDomains")
        );
        assert_eq!(parsed.status_codes[&404], "/404.html");
        assert_eq!(parsed.status_codes[&503], "/down.html");
        assert!(!parsed.status_codes.contains_key(&403));
        for empty in ["", "# nothing\n", "---\n", "root: .", "root:"] {
            assert_eq!(
                Settings::parse(empty).unwrap(),
                Settings::default(),
                "{empty:?}"
            );
        }
    }

    #[test]
    fn what_has_no_effect_is_refused_by_name() {
        for (text, words) in [
            ("ssi: enabled", "ssi is not supported"),
            ("enable_http2: true", "enable_http2 is not supported"),
            (
                "location_include: x.conf",
                "location_include is not supported",
            ),
            ("pushState: enabled", "\"pushState\", which is not known"),
            ("basic_auth: true", "\"basic_auth\", which is not known"),
            (
                "pushstate: yes please",
                "pushstate is \"yes please\"; expected true or false",
            ),
            ("pushstate: [true]", "expected true or false"),
            ("root: ../etc", "leaves the app's folder"),
            ("root: /etc", "is absolute"),
            ("root: 5", "expected a folder's name"),
            ("root", "expected lines such as root: dist"),
            ("root: a\nroot: b", "is not YAML"),
            ("a: [", "is not YAML"),
            (
                "http_strict_transport_security_preload: true",
                "need http_strict_transport_security",
            ),
            ("status_codes:\n  200: /x", "has the status \"200\""),
            ("status_codes:\n  404: x.html", "has the page \"x.html\""),
            ("status_codes:\n  404: https://x/", "has the page"),
            ("status_codes:\n  404: /../x", "has the page"),
            ("status_codes: 5", "status_codes is \"5\""),
        ] {
            let error = Settings::parse(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_single_status_counts_more_than_its_class() {
        let parsed =
            Settings::parse("status_codes:\n  404: /404.html\n  4xx: /oops.html\n").unwrap();
        assert_eq!(parsed.status_codes[&404], "/404.html");
        assert_eq!(parsed.status_codes[&403], "/oops.html");
    }
}
