//! The rules for the hosts, paths and ports of routes, and for their URLs. This module is pure: the caller looks up the facts.

use serde_json::{Map, Value, json};

/// The facts about a route's domain that the rules need.
#[derive(Clone, Debug)]
pub struct DomainFacts<'a> {
    pub name: &'a str,
    pub shared: bool,
    pub internal: bool,
}

/// The reason why a route may not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("Routes with protocol 'http' do not support ports.")]
    Port,
    #[error("Wildcard hosts are not supported for internal domains.")]
    InternalWildcard,
    #[error("Paths are not supported for internal domains.")]
    InternalPath,
    #[error("Missing host. Routes in shared domains must have a host defined.")]
    MissingHost,
    #[error("Wildcard hosts on shared domains can be created by administrators only.")]
    SharedWildcard,
    #[error(
        "Host must be either \"*\" or contain only alphanumeric characters, \"_\", or \"-\" (got '{host}')"
    )]
    HostCharacters { host: String },
    #[error("Host is too long (maximum is 63 characters)")]
    LongHost,
    #[error("Host combined with domain name must be no more than 253 characters")]
    LongName,
    #[error("Path cannot be a single slash")]
    BarePath,
    #[error("Path must begin with a slash")]
    PathStart,
    #[error("Path cannot contain a question mark")]
    PathQuery,
    #[error("Path is too long (maximum is 128 characters)")]
    LongPath,
    #[error("Path contains invalid characters (got '{path}')")]
    PathCharacters { path: String },
}

/// The reason why a manifest's text is not a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The route '{text}' is not a properly formed URL")]
pub struct RouteTextError {
    pub text: String,
}

/// The reason why a route's options stay as they were.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OptionsError {
    #[error("Options must be an object")]
    NotAnObject,
    #[error(
        "Options Loadbalancing must be one of 'round-robin, least-connection' if present (got {value})"
    )]
    LoadBalancing { value: Value },
    #[error("Options contains invalid route option '{name}'. Valid keys: 'loadbalancing'")]
    Unknown { name: String },
}

/// All reasons why a name cannot be a domain's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join(", "))]
pub struct DomainNameError {
    problems: Vec<&'static str>,
}

/// Checks a route. `host` and `path` are empty and `port` is 0 when they are absent.
pub fn check(
    host: &str,
    path: &str,
    port: i64,
    domain: &DomainFacts<'_>,
    admin: bool,
) -> Result<(), RouteError> {
    check_host(host, domain)?;
    check_path(path)?;
    if port != 0 {
        return Err(RouteError::Port);
    }
    if domain.internal && host.starts_with('*') {
        return Err(RouteError::InternalWildcard);
    }
    if domain.internal && !path.is_empty() {
        return Err(RouteError::InternalPath);
    }
    if host.is_empty() && domain.shared {
        return Err(RouteError::MissingHost);
    }
    if host == "*" && domain.shared && !admin {
        return Err(RouteError::SharedWildcard);
    }
    Ok(())
}

fn check_host(host: &str, domain: &DomainFacts<'_>) -> Result<(), RouteError> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if host != "*" && !host.chars().all(word) {
        return Err(RouteError::HostCharacters {
            host: host.to_owned(),
        });
    }
    if host.len() > 63 {
        return Err(RouteError::LongHost);
    }
    if host.len() + 1 + domain.name.len() > 253 {
        return Err(RouteError::LongName);
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), RouteError> {
    match path {
        "" => Ok(()),
        "/" => Err(RouteError::BarePath),
        path if !path.starts_with('/') => Err(RouteError::PathStart),
        path if path.contains('?') => Err(RouteError::PathQuery),
        path if path.len() > 128 => Err(RouteError::LongPath),
        path if path
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '#') =>
        {
            Err(RouteError::PathCharacters {
                path: path.to_owned(),
            })
        }
        _ => Ok(()),
    }
}

/// Returns the text that clients recognise as "the route exists already".
pub fn taken(host: &str, path: &str, port: i64, domain: &str) -> String {
    if port > 0 {
        return format!("Route already exists with port '{port}' for domain '{domain}'.");
    }
    match (host.is_empty(), path.is_empty()) {
        (true, true) => format!("Route already exists for domain '{domain}'."),
        (true, false) => format!("Route already exists with path '{path}' for domain '{domain}'."),
        (false, true) => format!("Route already exists with host '{host}' for domain '{domain}'."),
        (false, false) => format!(
            "Route already exists with host '{host}' and path '{path}' for domain '{domain}'."
        ),
    }
}

pub fn url(host: &str, domain: &str, path: &str, port: i64) -> String {
    match (port, host) {
        (1.., _) => format!("{domain}:{port}"),
        (_, "") => format!("{domain}{path}"),
        _ => format!("{host}.{domain}{path}"),
    }
}

/// Returns the ways to read a route's text as (host, domain name). The first one whose domain exists is used.
pub fn candidates(authority: &str) -> Vec<(String, String)> {
    let mut candidates = Vec::new();
    if !authority.starts_with('*') {
        candidates.push((String::new(), authority.to_owned()));
    }
    if let Some((host, domain)) = authority.split_once('.') {
        candidates.push((host.to_owned(), domain.to_owned()));
    }
    candidates
}

/// A route's text in a manifest: authority, port and path. A scheme is accepted and ignored.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteText {
    pub authority: String,
    pub port: i64,
    pub path: String,
}

pub fn parse(text: &str) -> Result<RouteText, RouteTextError> {
    let invalid = || RouteTextError {
        text: text.to_owned(),
    };
    let rest = match text.split_once("://") {
        None => text,
        Some(("http" | "https" | "tcp", rest)) => rest,
        Some(_) => return Err(invalid()),
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (authority, port) = match authority.split_once(':') {
        None => (authority, 0),
        Some((authority, port)) => (
            authority,
            port.parse::<u16>().map_err(|_| invalid())?.into(),
        ),
    };
    let label = |label: &str| {
        !label.is_empty()
            && (label == "*"
                || label
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'))
    };
    if !authority.contains('.') || !authority.split('.').all(label) {
        return Err(invalid());
    }
    Ok(RouteText {
        authority: authority.to_owned(),
        port,
        path: if path == "/" {
            String::new()
        } else {
            path.to_owned()
        },
    })
}

/// Checks per-route options and merges a change (null removes an option) into the present ones.
pub fn merge_options(
    before: Option<&Map<String, Value>>,
    change: &Value,
) -> Result<Option<Map<String, Value>>, OptionsError> {
    let Some(change) = change.as_object() else {
        return if change.is_null() {
            Ok(before.cloned())
        } else {
            Err(OptionsError::NotAnObject)
        };
    };
    let mut options = before.cloned().unwrap_or_default();
    for (key, value) in change {
        match (key.as_str(), value) {
            ("loadbalancing", Value::Null) => drop(options.remove(key)),
            ("loadbalancing", Value::String(policy))
                if policy == "round-robin" || policy == "least-connection" =>
            {
                drop(options.insert(key.clone(), json!(policy)))
            }
            ("loadbalancing", other) => {
                return Err(OptionsError::LoadBalancing {
                    value: other.clone(),
                });
            }
            (other, _) => {
                return Err(OptionsError::Unknown {
                    name: other.to_owned(),
                });
            }
        }
    }
    Ok((!options.is_empty()).then_some(options))
}

/// Refuses a domain name that does not have 3 to 253 characters and at least two labels.
pub fn check_domain_name(name: &str) -> Result<(), DomainNameError> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let mut problems = Vec::new();
    if name.len() < 3 {
        problems.push("Name is too short (minimum is 3 characters)");
    }
    if name.len() > 253 {
        problems.push("Name is too long (maximum is 253 characters)");
    }
    let labels: Vec<&str> = name.split('.').collect();
    if labels.len() < 2 || !labels.iter().all(|part| label(part)) {
        problems.push("Name does not comply with RFC 1035 standards");
    }
    if labels.len() < 2 {
        problems.push("Name must contain at least one \".\"");
    }
    if labels.iter().any(|label| label.len() > 63) {
        problems.push("Name subdomains must each be at most 63 characters");
    }
    if !labels.iter().all(|part| label(part) || part.is_empty()) {
        problems.push("Name must consist of alphanumeric characters and hyphens");
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(DomainNameError { problems })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: DomainFacts<'_> = DomainFacts {
        name: "apps.test",
        shared: true,
        internal: false,
    };

    fn check_shared(host: &str, path: &str) -> Result<(), RouteError> {
        check(host, path, 0, &SHARED, false)
    }

    #[test]
    fn hosts_and_paths() {
        assert_eq!(check_shared("a-1_b", "/x/y"), Ok(()));
        assert_eq!(
            check_shared("a.b", "").unwrap_err().to_string(),
            "Host must be either \"*\" or contain only alphanumeric characters, \"_\", or \"-\" (got 'a.b')"
        );
        assert_eq!(check_shared("", ""), Err(RouteError::MissingHost));
        assert!(check_shared("*", "").is_err());
        assert!(check(&"a".repeat(64), "", 0, &SHARED, true).is_err());
        for path in ["/", "x", "/a?b", "/a b"] {
            assert!(check_shared("a", path).is_err(), "{path}");
        }
        let private = DomainFacts {
            shared: false,
            ..SHARED
        };
        assert_eq!(check("", "", 0, &private, false), Ok(()));
    }

    #[test]
    fn route_texts() {
        let parsed = parse("https://My-App.apps.test/v1/x").unwrap();
        assert_eq!(
            parsed,
            RouteText {
                authority: "My-App.apps.test".into(),
                port: 0,
                path: "/v1/x".into()
            }
        );
        assert_eq!(
            candidates("a.b.c"),
            vec![(String::new(), "a.b.c".into()), ("a".into(), "b.c".into())]
        );
        assert_eq!(candidates("*.b.c").len(), 1);
        assert_eq!(parse("tcp.test:1024").unwrap().port, 1024);
        for bad in ["", "nodots", "a..b", "ftp://a.b", "a b.c", "a.b:x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls() {
        assert_eq!(url("a", "d.test", "/p", 0), "a.d.test/p");
        assert_eq!(url("", "d.test", "", 0), "d.test");
        assert_eq!(url("", "d.test", "", 1024), "d.test:1024");
    }

    #[test]
    fn options_merge_and_vanish() {
        let set = merge_options(None, &json!({"loadbalancing": "least-connection"})).unwrap();
        assert!(set.is_some());
        assert_eq!(
            merge_options(set.as_ref(), &json!({"loadbalancing": null})).unwrap(),
            None
        );
        assert!(merge_options(None, &json!({"sticky": "x"})).is_err());
    }
}
