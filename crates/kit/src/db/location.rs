//! Where a database is: a file, or a schema on a PostgreSQL server.

use anyhow::{Context as _, Result, bail, ensure};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

/// The place of a component's data.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file of SQLite.
    File(PathBuf),
    /// A schema on a PostgreSQL server. Its name is that of the component.
    Server(Server, &'static str),
}

impl Location {
    /// Returns the component's schema on the server if one is configured, and otherwise the file.
    pub fn new(server: Option<&Server>, schema: &'static str, file: PathBuf) -> Self {
        match server {
            Some(server) => Self::Server(server.clone(), schema),
            None => Self::File(file),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(server, schema) => write!(f, "{server} (schema {schema})"),
        }
    }
}

/// A database on a PostgreSQL server, and how to reach it. Its texts never contain the password.
#[derive(Clone)]
pub struct Server {
    options: Box<PgConnectOptions>,
    text: String,
}

/// The parameters that a URL may have. Others would be ignored, so they are refused.
const PARAMETERS: &[&str] = &["host", "sslmode", "sslrootcert", "sslcert", "sslkey"];

impl Server {
    /// Reads a URL: `postgres://user:password@host:port/name`. The server's certificate is verified against the name of the host
    /// unless the host is this machine or `sslmode` says otherwise. `ca` is a file with the authorities that may have issued it,
    /// besides the public ones; the parameter `sslrootcert` of the URL has the same meaning.
    ///
    /// # Errors
    /// It fails if the text is no such URL, or if it has parameters that are not known. The error does not contain the URL.
    pub fn parse(url: &str, ca: Option<&Path>) -> Result<Self> {
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme));
        let Some(rest) = rest else {
            bail!("it does not begin with postgres://");
        };
        let parameters = parameters(rest)?;
        // A text of the parser's error could contain a part of the password.
        let Ok(mut options) = PgConnectOptions::from_str(url) else {
            bail!(
                "it is no URL of the form postgres://user:password@host:port/name (characters such as @ or / in the password are written as %40 or %2F)"
            );
        };
        let has = |name: &str| parameters.contains(&name);
        let Some(name) = options.get_database().map(str::to_owned) else {
            bail!("it names no database: write postgres://user:password@host:port/name");
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        ensure!(
            authority.contains('@'),
            "it names no user: write postgres://user:password@host:port/name"
        );
        if !has("sslmode") {
            let mode = match is_local(&options) {
                true => PgSslMode::Disable,
                false => PgSslMode::VerifyFull,
            };
            options = options.ssl_mode(mode);
        }
        if let Some(ca) = ca {
            ensure!(
                !has("sslrootcert"),
                "the authorities are configured twice: remove sslrootcert from the URL or the key of the CA file"
            );
            let pem = std::fs::read(ca).with_context(|| format!("read {}", ca.display()))?;
            options = options.ssl_root_cert_from_pem(pem);
        }
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let text = format!("postgres://{}@{place}/{name}", options.get_username());
        Ok(Self {
            options: Box::new(options),
            text,
        })
    }

    /// Returns whether the server's certificate is checked, or the server needs none because it is on this machine.
    pub fn is_verified(&self) -> bool {
        is_local(&self.options)
            || matches!(
                self.options.get_ssl_mode(),
                PgSslMode::VerifyFull | PgSslMode::VerifyCa
            )
    }

    pub(super) fn options(&self) -> PgConnectOptions {
        (*self.options).clone()
    }
}

/// Returns the names of the parameters.
fn parameters(rest: &str) -> Result<Vec<&str>> {
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let names: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
        .collect();
    for name in &names {
        ensure!(
            PARAMETERS.contains(name),
            "its parameter {name:?} is not known: {} are",
            PARAMETERS.join(", ")
        );
    }
    Ok(names)
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_matches(['[', ']']);
    options.get_socket().is_some()
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> PgSslMode {
        Server::parse(url, None).unwrap().options.get_ssl_mode()
    }

    #[test]
    fn certificates_are_verified_unless_the_server_is_on_this_machine() {
        let full = |mode| matches!(mode, PgSslMode::VerifyFull);
        let off = |mode| matches!(mode, PgSslMode::Disable);
        assert!(full(mode("postgres://u:p@db.example/name")));
        assert!(full(mode("postgresql://u:p@10.0.0.1:5433/name")));
        assert!(off(mode("postgres://u:p@127.0.0.1/name")));
        assert!(off(mode("postgres://u:p@localhost:1/name")));
        assert!(off(mode("postgres://u@[::1]:1/name")));
        assert!(off(mode("postgres://u@x/name?host=/run/postgresql")));
        let weak = Server::parse("postgres://u:p@db.example/c?sslmode=require", None).unwrap();
        assert!(!weak.is_verified());
    }

    #[test]
    fn a_text_never_has_the_password() {
        let server = Server::parse("postgres://u:se%40same@db.example:5433/name", None).unwrap();
        assert_eq!(server.to_string(), "postgres://u@db.example:5433/name");
        assert!(!format!("{server:?}").contains("same"));
        for url in [
            "postgres://u:sesame@db.example:port/c",
            "postgres://u:ses/ame@db.example/c",
            "mysql://u:sesame@db.example/c",
            "postgres://u:sesame@db.example",
            "postgres://u:sesame@db.example/c?sslmode=sesame",
        ] {
            let error = format!("{:#}", Server::parse(url, None).unwrap_err());
            assert!(
                !error.contains("sesame") && !error.contains("ame@"),
                "{error}"
            );
        }
    }

    #[test]
    fn unknown_parameters_are_refused_by_name() {
        let error = Server::parse("postgres://u:p@h/c?connect_timeout=3", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "its parameter \"connect_timeout\" is not known: host, sslmode, sslrootcert, sslcert, sslkey are"
        );
    }
}
