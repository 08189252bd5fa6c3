//! The keys of the calls to service brokers.

use super::file::BrokersSection;
use kit::reach::Reach;
use std::path::PathBuf;
use std::time::Duration;

/// The calls to service brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Brokers {
    /// The longest time of a call.
    pub(crate) timeout: Duration,
    /// The addresses that brokers may have.
    pub(crate) reach: Reach,
    /// The file of authorities that are trusted besides those of the machine.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) skip_ssl_validation: bool,
}

const SECONDS: u32 = 60;
const MOST_SECONDS: u32 = 600;

pub(super) fn check(section: &BrokersSection, problems: &mut Vec<String>) -> Brokers {
    let seconds = section.timeout.unwrap_or(SECONDS);
    if !(1..=MOST_SECONDS).contains(&seconds) {
        problems.push(format!(
            "cloud_controller.brokers.timeout {seconds} is not between 1 and {MOST_SECONDS} seconds"
        ));
    }
    let (permitted, denied) = (&section.permitted_addresses, &section.denied_addresses);
    Brokers {
        timeout: Duration::from_secs(u64::from(seconds)),
        reach: super::reach::check("cloud_controller.brokers", permitted, denied, problems),
        ca: section.ca.clone(),
        skip_ssl_validation: section.skip_ssl_validation.unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_problems() {
        let mut problems = Vec::new();
        let brokers = check(&BrokersSection::default(), &mut problems);
        assert!(problems.is_empty() && !brokers.skip_ssl_validation);
        assert_eq!(brokers.timeout, Duration::from_secs(60));
        let local = "127.0.0.1:8080";
        assert!(!brokers.reach.permits(local.parse().unwrap()));
        let section = BrokersSection {
            timeout: Some(0),
            permitted_addresses: vec![local.to_owned(), "localhost".to_owned()],
            ..BrokersSection::default()
        };
        let brokers = check(&section, &mut problems);
        assert!(brokers.reach.permits(local.parse().unwrap()));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("cloud_controller.brokers.timeout 0"));
        assert!(problems[1].contains("\"localhost\""), "{problems:?}");
    }
}
