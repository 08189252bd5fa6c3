//! The roles that a process can run.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A component that a process can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    Nats,
    Bbs,
    Auctioneer,
    Uaa,
    LogCache,
    CloudController,
    Cell,
    Dns,
    Router,
    Dashboard,
    SshProxy,
    PostgresBroker,
}

impl Role {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Nats,
        Self::Bbs,
        Self::Auctioneer,
        Self::Uaa,
        Self::LogCache,
        Self::CloudController,
        Self::Cell,
        Self::Dns,
        Self::Router,
        Self::Dashboard,
        Self::SshProxy,
        Self::PostgresBroker,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Bbs => "bbs",
            Self::Auctioneer => "auctioneer",
            Self::Uaa => "uaa",
            Self::LogCache => "log-cache",
            Self::CloudController => "cloud-controller",
            Self::Cell => "cell",
            Self::Dns => "dns",
            Self::Router => "router",
            Self::Dashboard => "dashboard",
            Self::SshProxy => "ssh-proxy",
            Self::PostgresBroker => "postgres-broker",
        }
    }

    /// Returns the roles of a whole foundation. The broker of databases is one of them if the configuration has its section.
    pub(crate) fn of_foundation(has_postgres: bool) -> Vec<Self> {
        let all = Self::ALL.iter().copied();
        all.filter(|role| has_postgres || *role != Self::PostgresBroker)
            .collect()
    }
}

/// Returns the names of the roles, separated by commas.
pub(crate) fn names(roles: &[Role]) -> String {
    let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    names.join(", ")
}
