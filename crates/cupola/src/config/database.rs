//! The keys `database` and `database_ca`: the PostgreSQL server that the Cloud Controller, the UAA and the BBS share.

use kit::db::Server;
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;

/// The URL of a database server. It contains a password, so it is not printed.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Url(String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url")
    }
}

/// Returns the server, or `None` if each component has a file of its own.
pub(super) fn check(
    url: Option<Url>,
    ca: Option<PathBuf>,
    problems: &mut Vec<String>,
) -> Option<Server> {
    let Some(Url(url)) = url else {
        if ca.is_some() {
            problems
                .push("database_ca is set and database is not: set both, or leave both out".into());
        }
        return None;
    };
    match Server::parse(&url, ca.as_deref()) {
        Ok(server) => Some(server),
        Err(error) => {
            problems.push(format!("database is not valid: {error:#}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(url: Option<&str>, ca: Option<&str>) -> String {
        let mut problems = Vec::new();
        let url = url.map(|url| Url(url.into()));
        check(url, ca.map(PathBuf::from), &mut problems);
        problems.join("; ")
    }

    #[test]
    fn keys_are_checked() {
        assert_eq!(problems(None, None), "");
        assert_eq!(problems(Some("postgres://u:p@127.0.0.1/cupola"), None), "");
        assert_eq!(
            problems(None, Some("/ca.pem")),
            "database_ca is set and database is not: set both, or leave both out"
        );
        let error = problems(Some("mysql://u:sesame@127.0.0.1/cupola"), None);
        assert_eq!(
            error,
            "database is not valid: it does not begin with postgres://"
        );
        let error = problems(Some("postgres://u:p@db.example/c"), Some("/nowhere/ca.pem"));
        assert!(error.contains("read /nowhere/ca.pem"), "{error}");
        assert_eq!(
            format!("{:?}", Url("postgres://u:sesame@h/c".into())),
            "Url"
        );
    }
}
