//! The keys `log_cache.drains`: where the logs of apps may be sent, and in which form.

use super::certificates::CertificateFiles;
use kit::reach::Reach;
use serde::Deserialize;
use std::path::PathBuf;

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DrainsSection {
    /// Addresses that drains may have although they belong to this machine or are denied.
    pub(super) permitted_addresses: Vec<String>,
    /// Addresses that no drain may have.
    pub(super) denied_addresses: Vec<String>,
    /// A PEM file with authorities of drains' servers, besides those of the machine.
    pub(super) ca: Option<PathBuf>,
    /// Whether messages have the tags of envelopes, unless the URL of a drain decides it; default: true.
    pub(super) metadata: Option<bool>,
    /// The number of drains that an app may have.
    pub(super) per_app: Option<u32>,
    /// The drains that get the logs of all apps.
    pub(super) aggregate: Vec<AggregateSection>,
}

/// A drain that gets the logs of all apps.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AggregateSection {
    pub(super) url: String,
    /// PEM files with a certificate that is presented to the server, and with its key.
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    /// A PEM file with authorities of this server.
    pub(super) ca: Option<PathBuf>,
}

/// The checked section.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Drains {
    pub(crate) reach: Reach,
    /// The PEM text of the authorities; it may be empty.
    pub(crate) authorities: String,
    pub(crate) metadata: bool,
    pub(crate) per_app: usize,
    /// The drains that get the logs of all apps.
    pub(crate) aggregate: Vec<drains::Aggregate>,
}

/// Prints no URLs of drains, because they may contain passwords.
impl std::fmt::Debug for Drains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drains")
            .field("reach", &self.reach)
            .field("metadata", &self.metadata)
            .field("per_app", &self.per_app)
            .finish_non_exhaustive()
    }
}

const MOST_PER_APP: u32 = 100;

pub(super) fn check(section: DrainsSection, problems: &mut Vec<String>) -> Drains {
    let (permitted, denied) = (&section.permitted_addresses, &section.denied_addresses);
    let reach = super::reach::check("log_cache.drains", permitted, denied, problems);
    let authorities = authorities("ca", section.ca, problems);
    let per_app = section.per_app.map_or(drains::Config::PER_APP, |most| {
        if most > MOST_PER_APP {
            problems.push(format!(
                "log_cache.drains.per_app {most} is more than {MOST_PER_APP}"
            ));
        }
        usize::try_from(most).unwrap_or(usize::MAX)
    });
    let aggregate = section.aggregate.into_iter();
    Drains {
        reach,
        authorities,
        metadata: section.metadata.unwrap_or(true),
        per_app,
        aggregate: aggregate.map(|drain| named(drain, problems)).collect(),
    }
}

/// Checks a drain that gets the logs of all apps.
fn named(drain: AggregateSection, problems: &mut Vec<String>) -> drains::Aggregate {
    const SECTION: &str = "log_cache.drains.aggregate";
    if let Err(problem) = drains::check_url(&drain.url) {
        problems.push(format!("{SECTION}: {problem}"));
    }
    let files = CertificateFiles::check(SECTION, drain.cert, drain.key, problems);
    // The files that cannot be read are among the problems already.
    let pair = files.and_then(|files| files.read().ok());
    let (cert, key) = pair.unwrap_or_default();
    let ca = authorities("aggregate.ca", drain.ca, problems);
    drains::Aggregate {
        url: drain.url,
        credentials: drains::Credentials { cert, key, ca },
    }
}

/// Returns the PEM text of a file with authorities. It is empty if none is named.
fn authorities(key: &str, path: Option<PathBuf>, problems: &mut Vec<String>) -> String {
    let Some(path) = path else {
        return String::new();
    };
    let pem = std::fs::read_to_string(&path).map_err(anyhow::Error::from);
    let checked = pem.and_then(|pem| kit::tls::certs(&pem).map(|_| pem));
    checked.unwrap_or_else(|error| {
        problems.push(format!(
            "log_cache.drains.{key} {}: {error:#}: name a PEM file that this process may read",
            path.display()
        ));
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_problems() {
        let mut problems = Vec::new();
        let drains = check(DrainsSection::default(), &mut problems);
        assert!(problems.is_empty());
        assert_eq!((drains.per_app, drains.metadata), (5, true));
        assert_eq!(drains.reach, Reach::default());
        let text = "{permitted_addresses: ['127.0.0.1:514', here], denied_addresses: [10.0.0.0/8, 10.0.0.0/99], ca: /nowhere/ca.pem, metadata: false, per_app: 101, aggregate: [{url: 'syslog://h:514'}, {url: 'ftp://u:s3cret@h', key: /nowhere/key.pem, ca: /nowhere/own.pem}]}";
        let section: DrainsSection = yaml_serde::from_str(text).unwrap();
        let drains = check(section, &mut problems);
        assert_eq!((drains.reach.allow.len(), drains.reach.deny.len()), (1, 1));
        assert!(!drains.metadata);
        for (at, beginning) in [
            "log_cache.drains.permitted_addresses has \"here\": neither an address",
            "log_cache.drains.denied_addresses has \"10.0.0.0/99\"",
            "log_cache.drains.ca /nowhere/ca.pem: ",
            "log_cache.drains.per_app 101 is more than 100",
            "log_cache.drains.aggregate: Invalid Scheme ftp for syslog drain url ftp://h",
            "log_cache.drains.aggregate.key is set and log_cache.drains.aggregate.cert is not",
            "log_cache.drains.aggregate.ca /nowhere/own.pem: ",
        ]
        .into_iter()
        .enumerate()
        {
            assert!(problems[at].starts_with(beginning), "{problems:?}");
        }
    }
}
