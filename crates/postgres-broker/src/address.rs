//! Where a PostgreSQL server is, and how the broker authenticates there as its administrator.

use anyhow::{Context as _, Result, bail, ensure};
use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, PgConnection};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The settings of a connection to the server. Its texts never contain the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    /// The database that exists always: `postgres`.
    pub maintenance: String,
    pub tls: Tls,
    /// The file of the authorities that may have issued the server's certificate. `None`: those of the machine.
    pub ca: Option<PathBuf>,
}

/// The use of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    Off,
    /// The certificate is not checked.
    Unverified,
    /// The certificate must come from one of the authorities.
    Authority,
    /// The certificate must also be valid for the host.
    Full,
}

impl Tls {
    fn mode(self) -> &'static str {
        match self {
            Self::Off => "disable",
            Self::Unverified => "require",
            Self::Authority => "verify-ca",
            Self::Full => "verify-full",
        }
    }
}

/// The port of a URL that names none.
const PORT: u16 = 5432;

impl Address {
    /// Reads a URL: `postgres://user:password@host:port/database`. TLS is verified unless the host is this machine or the parameter
    /// `sslmode` says otherwise.
    ///
    /// # Errors
    /// It fails if the text is no such URL. The error does not contain it.
    pub fn parse(url: &str, ca: Option<&Path>) -> Result<Self> {
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme));
        let Some(rest) = rest else {
            bail!("it does not begin with postgres://");
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let Some((credentials, place)) = authority.rsplit_once('@') else {
            bail!("it names no user: write postgres://user:password@host:port/postgres");
        };
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (host, port) = split_port(place)?;
        let is_local = is_this_machine(&host);
        let tls = match sslmode(query)? {
            None if is_local => Tls::Off,
            None => Tls::Full,
            Some(tls) => tls,
        };
        let decoded = |text: &str| -> Result<String> {
            let text = percent_decode_str(text).decode_utf8();
            Ok(text
                .context("it has a user or a password that is no text")?
                .into_owned())
        };
        ensure!(
            !user.is_empty() && !host.is_empty(),
            "it names no user or no host: write postgres://user:password@host:port/postgres"
        );
        let database = decoded(database)?;
        Ok(Self {
            host,
            port,
            user: decoded(user)?,
            password: decoded(password)?,
            maintenance: if database.is_empty() {
                "postgres".to_owned()
            } else {
                database
            },
            tls,
            ca: ca.map(Path::to_owned),
        })
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        let mode = match self.tls {
            Tls::Off => PgSslMode::Disable,
            Tls::Unverified => PgSslMode::Require,
            Tls::Authority => PgSslMode::VerifyCa,
            Tls::Full => PgSslMode::VerifyFull,
        };
        let options = PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .username(&self.user)
            .password(&self.password)
            .database(database)
            .ssl_mode(mode)
            .application_name("postgres-broker")
            // Users make objects in their databases. Names in our statements must not lead to those.
            .options([
                ("search_path", "pg_catalog"),
                ("lock_timeout", "20s"),
                ("statement_timeout", "50s"),
            ]);
        match &self.ca {
            Some(ca) => options.ssl_root_cert(ca),
            None => options,
        }
    }

    /// Connects to a database as the administrator.
    pub(crate) async fn connect(&self, database: &str) -> sqlx::Result<PgConnection> {
        self.options(database).connect().await
    }

    /// Connects to the database that exists always.
    pub(crate) async fn connect_to_maintenance(&self) -> sqlx::Result<PgConnection> {
        self.connect(&self.maintenance).await
    }

    /// Returns the same server for another user.
    pub(crate) fn with_user(&self, user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            ..self.clone()
        }
    }

    /// Returns the variables with which PostgreSQL's own programs connect to a database. A command line would show the password to
    /// all users of the machine.
    pub(crate) fn variables(&self, database: &str) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("PGHOST", self.host.clone()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGPASSWORD", self.password.clone()),
            ("PGDATABASE", database.to_owned()),
            ("PGSSLMODE", self.tls.mode().to_owned()),
            ("PGAPPNAME", "postgres-broker".to_owned()),
            // The clients look for certificates in the home directory.
            ("HOME", "/".to_owned()),
        ];
        if let Some(ca) = &self.ca {
            variables.push(("PGSSLROOTCERT", ca.display().to_string()));
        }
        variables
    }
}

/// Splits `host:port`. An IPv6 address has brackets, which the host loses.
fn split_port(place: &str) -> Result<(String, u16)> {
    let (host, port) = match place
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match place.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().context("its port is no number")?,
        None => PORT,
    };
    Ok((host.to_owned(), port))
}

/// Reads the only parameter that a URL may have.
fn sslmode(query: &str) -> Result<Option<Tls>> {
    let mut found = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        ensure!(
            name == "sslmode",
            "its parameter {name:?} is not known: sslmode is"
        );
        found = Some(match value {
            "disable" => Tls::Off,
            "require" => Tls::Unverified,
            "verify-ca" => Tls::Authority,
            "verify-full" => Tls::Full,
            _ => bail!("its sslmode is none of disable, require, verify-ca, verify-full"),
        });
    }
    Ok(found)
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            user, host, port, ..
        } = self;
        write!(f, "postgres://{user}@{host}:{port}")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let address = Address::parse("postgres://adm:se%40same@db.example:5433/admin", None);
        let address = address.unwrap();
        assert_eq!((&*address.user, &*address.password), ("adm", "se@same"));
        assert_eq!((&*address.host, address.port), ("db.example", 5433));
        assert_eq!((&*address.maintenance, address.tls), ("admin", Tls::Full));
        assert_eq!(address.to_string(), "postgres://adm@db.example:5433");
        assert!(!format!("{address:?}").contains("same"));
        let here = Address::parse("postgresql://a:b@127.0.0.1", None).unwrap();
        assert_eq!((here.port, here.tls), (5432, Tls::Off));
        assert_eq!(here.maintenance, "postgres");
        let six = Address::parse("postgres://a:b@[::1]:5?sslmode=require", None).unwrap();
        assert_eq!((&*six.host, six.port, six.tls), ("::1", 5, Tls::Unverified));
    }

    #[test]
    fn wrong_urls_are_refused_without_their_password() {
        for (url, wanted) in [
            ("mysql://a:sesame@h", "does not begin with postgres://"),
            ("postgres://h/db", "names no user"),
            ("postgres://:sesame@h/db", "names no user or no host"),
            ("postgres://a:sesame@h:x/db", "its port is no number"),
            ("postgres://a:sesame@h/db?host=x", "\"host\" is not known"),
            ("postgres://a:sesame@h/db?sslmode=prefer", "none of disable"),
        ] {
            let error = format!("{:#}", Address::parse(url, None).unwrap_err());
            assert!(error.contains(wanted), "{url}: {error}");
            assert!(!error.contains("sesame"), "{error}");
        }
    }

    #[test]
    fn programs_get_the_password_by_a_variable() {
        let address = Address::parse("postgres://a:b@127.0.0.1:9", Some(Path::new("/ca"))).unwrap();
        let other = address.with_user("t_1", "secret");
        let variables = other.variables("db_1");
        for wanted in [
            ("PGUSER", "t_1"),
            ("PGPASSWORD", "secret"),
            ("PGDATABASE", "db_1"),
            ("PGSSLMODE", "disable"),
            ("PGSSLROOTCERT", "/ca"),
        ] {
            let found = variables.iter().any(|(k, v)| (*k, v.as_str()) == wanted);
            assert!(found, "{wanted:?}");
        }
    }
}
