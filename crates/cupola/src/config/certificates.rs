//! The certificates that an operator brings: for the router's clients, and for the components.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// A certificate chain and its key, PEM files that the configuration names.
#[derive(Clone, Debug)]
pub(crate) struct CertificateFiles {
    /// The section of the configuration, for errors.
    section: &'static str,
    cert: PathBuf,
    key: PathBuf,
}

impl CertificateFiles {
    /// Returns the files of a section. It reports a problem if only one of them is given or if they do not belong together.
    pub(super) fn check(
        section: &'static str,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
        problems: &mut Vec<String>,
    ) -> Option<Self> {
        let files = match (cert, key) {
            (None, None) => return None,
            (Some(cert), Some(key)) => Self { section, cert, key },
            (cert, _) => {
                let (has, lacks) = match cert {
                    Some(_) => ("cert", "key"),
                    None => ("key", "cert"),
                };
                problems.push(format!(
                    "{section}.{has} is set and {section}.{lacks} is not: set both or neither"
                ));
                return None;
            }
        };
        if let Err(error) = files.read() {
            problems.push(format!("{error:#}"));
        }
        Some(files)
    }

    /// Reads the chain and the key, as PEM.
    ///
    /// # Errors Fails if a file cannot be read or is no PEM, or if the key belongs to another certificate.
    pub(crate) fn read(&self) -> Result<(String, String)> {
        let section = self.section;
        let read = |name: &str, path: &Path| {
            std::fs::read_to_string(path).with_context(|| {
                format!(
                    "{section}.{name} {}: the file cannot be read: does it exist, and may this process read it?",
                    path.display()
                )
            })
        };
        let (cert, key) = (read("cert", &self.cert)?, read("key", &self.key)?);
        kit::tls::check_pair(&cert, &key).with_context(|| {
            format!(
                "{section}.cert {} and {section}.key {}",
                self.cert.display(),
                self.key.display()
            )
        })?;
        Ok((cert, key))
    }
}
