//! The keys of SSH to apps.

use super::file::SshProxySection;
use std::time::Duration;

/// SSH to apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ssh {
    /// Whether anybody may log in.
    pub(crate) is_permitted: bool,
    /// The number of connections at once.
    pub(crate) connections: usize,
    /// The time without any byte after which a session ends.
    pub(crate) idle: Duration,
}

const CONNECTIONS: u32 = 1000;
const MOST_CONNECTIONS: u32 = 10_000;
/// A day: a tunnel to a database may be silent for hours.
const IDLE_MINUTES: u32 = 24 * 60;
const MOST_IDLE_MINUTES: u32 = 31 * 24 * 60;

pub(super) fn check(
    section: &SshProxySection,
    is_permitted: Option<bool>,
    problems: &mut Vec<String>,
) -> Ssh {
    let connections = section.connections.unwrap_or(CONNECTIONS);
    if !(1..=MOST_CONNECTIONS).contains(&connections) {
        problems.push(format!(
            "ssh_proxy.connections {connections} is not between 1 and {MOST_CONNECTIONS}"
        ));
    }
    let minutes = section.idle_minutes.unwrap_or(IDLE_MINUTES);
    if !(1..=MOST_IDLE_MINUTES).contains(&minutes) {
        problems.push(format!(
            "ssh_proxy.idle_minutes {minutes} is not between 1 and {MOST_IDLE_MINUTES}"
        ));
    }
    Ssh {
        is_permitted: is_permitted.unwrap_or(true),
        connections: usize::try_from(connections).unwrap_or(usize::MAX),
        idle: Duration::from_secs(u64::from(minutes) * 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_bounds() {
        let mut problems = Vec::new();
        let ssh = check(&SshProxySection::default(), None, &mut problems);
        assert!(ssh.is_permitted && problems.is_empty());
        assert_eq!((ssh.connections, ssh.idle.as_secs()), (1000, 86_400));
        let section = SshProxySection {
            connections: Some(0),
            idle_minutes: Some(100_000),
            ..SshProxySection::default()
        };
        let ssh = check(&section, Some(false), &mut problems);
        assert!(!ssh.is_permitted);
        assert!(
            problems[0].starts_with("ssh_proxy.connections 0"),
            "{problems:?}"
        );
        assert!(
            problems[1].starts_with("ssh_proxy.idle_minutes 100000"),
            "{problems:?}"
        );
    }
}
