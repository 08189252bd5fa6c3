//! Determines the servers that a command calls and the identity it uses: from flags, otherwise from the environment, otherwise
//! from the foundation on this machine.

use crate::Options;
use crate::failure::Failure;
use crate::flags::Parsed;
use crate::verbs::Server;
use anyhow::Context as _;
use kit::tls::Identity;
use std::collections::BTreeMap;
use std::time::Duration;

/// The servers of one command. The values are known to exist, and the files can be opened.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) bbs_url: String,
    pub(crate) locket_url: String,
    /// The time limit of one request to the BBS.
    pub(crate) timeout: Option<Duration>,
    credentials: Credentials,
}

#[derive(Debug)]
enum Credentials {
    Files {
        cert: String,
        key: String,
        /// The CA; `None` means that any server certificate is accepted.
        ca: Option<String>,
    },
    Foundation(Identity),
}

/// A reader of the settings of one command, in the order of precedence of the original cfdot.
struct Settings<'a> {
    parsed: &'a Parsed,
    environment: &'a BTreeMap<String, String>,
}

impl Settings<'_> {
    /// Returns a setting. An empty flag counts as absent.
    fn text(&self, flag: &str, variable: &str) -> String {
        match self.parsed.text(flag) {
            "" => self.variable(variable).to_owned(),
            text => text.to_owned(),
        }
    }

    fn variable(&self, name: &str) -> &str {
        self.environment.get(name).map_or("", String::as_str)
    }
}

impl Target {
    pub(crate) fn new(
        server: Server,
        parsed: &Parsed,
        environment: &BTreeMap<String, String>,
        options: Options,
    ) -> Result<Self, Failure> {
        let settings = Settings {
            parsed,
            environment,
        };
        let (mut bbs_url, mut locket_url) = (String::new(), String::new());
        match server {
            Server::Bbs | Server::BbsEvents => bbs_url = settings.bbs_url(options.bbs_url)?,
            Server::Locket => locket_url = settings.locket_url(options.locket_url)?,
            Server::None => {}
        }
        let credentials = settings.credentials(options.identity)?;
        let timeout = match server {
            Server::Bbs => settings.timeout()?,
            _ => None,
        };
        Ok(Self {
            bbs_url,
            locket_url,
            timeout,
            credentials,
        })
    }

    /// Reads the certificates. The error names the file.
    pub(crate) fn tls(&self) -> anyhow::Result<rustls::ClientConfig> {
        let (identity, ca) = match &self.credentials {
            Credentials::Foundation(identity) => return kit::tls::client_config(identity),
            Credentials::Files { cert, key, ca } => {
                let read = |path: &str| {
                    std::fs::read_to_string(path)
                        .with_context(|| format!("failed to load keypair: open {path}"))
                };
                let identity = Identity {
                    cert_pem: read(cert)?,
                    key_pem: read(key)?,
                    ca_pem: String::new(),
                };
                (identity, ca)
            }
        };
        let missing = |what: &str| {
            format!("failed to load keypair: tls: failed to find any PEM data in {what} input")
        };
        kit::tls::certs(&identity.cert_pem).map_err(|_| anyhow::anyhow!(missing("certificate")))?;
        kit::tls::key(&identity.key_pem).map_err(|_| anyhow::anyhow!(missing("key")))?;
        let config = match ca {
            None => kit::tls::unverified_client_config(&identity),
            Some(ca) => {
                let ca_pem = std::fs::read_to_string(ca)
                    .with_context(|| format!("failed to read file {ca}"))?;
                let none = || {
                    format!(
                        "no valid certificates read from file {}",
                        go_values::quoted(ca)
                    )
                };
                kit::tls::Authorities::from_pem(&ca_pem).map_err(|_| anyhow::anyhow!(none()))?;
                kit::tls::client_config(&Identity { ca_pem, ..identity })
            }
        };
        config.map_err(|error| match error.root_cause().downcast_ref() {
            Some(rustls::Error::InconsistentKeys(_)) => anyhow::anyhow!(
                "failed to load keypair: tls: private key does not match public key"
            ),
            _ => error,
        })
    }
}

impl Settings<'_> {
    fn bbs_url(&self, foundation: Option<String>) -> Result<String, Failure> {
        const HOW: &str =
            "Please specify one with the '--bbsURL' flag or the 'BBS_URL' environment variable.";
        let url = match (self.text("bbsURL", "BBS_URL"), foundation) {
            (url, Some(foundation)) if url.is_empty() => foundation,
            (url, _) => url,
        };
        if url.is_empty() {
            return Err(Failure::invalid(format!("BBS URL not set. {HOW}")));
        }
        if !is_url(&url) {
            return Err(Failure::invalid(format!(
                "The value '{url}' is not a valid BBS URL. {HOW}"
            )));
        }
        if !url.to_ascii_lowercase().starts_with("https:") {
            return Err(Failure::invalid(format!(
                "The URL '{url}' does not have an 'https' scheme. {HOW}"
            )));
        }
        Ok(url.trim_end_matches('/').to_owned())
    }

    fn locket_url(&self, foundation: Option<String>) -> Result<String, Failure> {
        let location = match (
            self.text("locketAPILocation", "LOCKET_API_LOCATION"),
            foundation,
        ) {
            (location, Some(foundation)) if location.is_empty() => foundation,
            (location, _) => location,
        };
        if location.is_empty() {
            return Err(Failure::invalid(
                "Locket API Location not set. Please specify one with the '--locketAPILocation' flag or the 'LOCKET_API_LOCATION' environment variable.",
            ));
        }
        Ok(if location.contains("://") {
            location
        } else {
            format!("https://{location}")
        })
    }

    fn credentials(&self, foundation: Option<Identity>) -> Result<Credentials, Failure> {
        let skip = self.skips_verification()?;
        let ca = self.text("caCertFile", "CA_CERT_FILE");
        let cert = self.text("clientCertFile", "CLIENT_CERT_FILE");
        let key = self.text("clientKeyFile", "CLIENT_KEY_FILE");
        let nothing_given = !skip && ca.is_empty() && cert.is_empty() && key.is_empty();
        if let Some(identity) = foundation.filter(|_| nothing_given) {
            return Ok(Credentials::Foundation(identity));
        }
        if !skip {
            if ca.is_empty() {
                return Err(Failure::invalid(
                    "--caCertFile must be specified if using HTTPS and --skipCertVerify is not set",
                ));
            }
            readable(&ca, "CA cert")?;
        }
        if key.is_empty() || cert.is_empty() {
            return Err(Failure::invalid(
                "--clientCertFile and --clientKeyFile must both be specified for TLS connections.",
            ));
        }
        readable(&key, "key")?;
        readable(&cert, "cert")?;
        let ca = (!skip).then_some(ca);
        Ok(Credentials::Files { cert, key, ca })
    }

    fn skips_verification(&self) -> Result<bool, Failure> {
        let variable = self.variable("SKIP_CERT_VERIFY");
        if self.parsed.given("skipCertVerify").is_some() || variable.is_empty() {
            return Ok(self.parsed.switch("skipCertVerify"));
        }
        go_values::boolean(variable).ok_or_else(|| Failure::invalid(format!("The value '{variable}' is not a valid value for SKIP_CERT_VERIFY. Please specify one of the following valid boolean values: 1, t, T, TRUE, true, True, 0, f, F, FALSE, false, False")))
    }

    fn timeout(&self) -> Result<Option<Duration>, Failure> {
        let seconds = match self.parsed.integer("timeout").unwrap_or(0) {
            0 => match self.variable("CFDOT_TIMEOUT") {
                "" => 0,
                text => go_values::integer::decimal(text, 16)
                    .map_err(|error| Failure::unreadable(error.to_string()))?,
            },
            seconds => seconds,
        };
        Ok(u64::try_from(seconds)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs))
    }
}

fn readable(path: &str, what: &str) -> Result<(), Failure> {
    std::fs::File::open(path).map(drop).map_err(|error| {
        Failure::invalid(format!(
            "{what} file '{path}' doesn't exist or is not readable: open {path}: {}",
            reason(&error)
        ))
    })
}

/// Returns a system error in Go's wording.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

/// Returns whether Go can parse the URL: every escape is complete, and there is no control character or second scheme.
fn is_url(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let hex = rest.get(at + 1..at + 3);
        if !hex.is_some_and(|hex| hex.chars().all(|c| c.is_ascii_hexdigit())) {
            return false;
        }
        rest = &rest[at + 3..];
    }
    let scheme_is_there = !text.starts_with(':');
    let first = text.split(['/', '?', '#']).next().unwrap_or_default();
    let digits_first = first
        .split_once(':')
        .is_some_and(|(scheme, _)| !scheme.starts_with(|c: char| c.is_ascii_alphabetic()));
    scheme_is_there && !digits_first && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, is_good) in [
            ("https://bbs.service.cf.internal:8889", true),
            ("bbs", true),
            ("http://x", true),
            ("%zz", false),
            ("127.0.0.1:8889", false),
            (":x", false),
            ("https://x\n", false),
        ] {
            assert_eq!(is_url(text), is_good, "{text:?}");
        }
    }
}
