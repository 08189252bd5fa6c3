//! The Cloud Controller's JSON that other components parse, and the paths of its internal listener.

use serde::{Deserialize, Serialize};

/// Body of every v3 answer that is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    pub errors: Vec<Error>,
}

/// One error; `title` carries the prefix `CF-`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Error {
    pub code: i64,
    pub title: String,
    pub detail: String,
}

/// Paths of the internal mTLS listener.
pub mod internal_path {
    /// `POST` the BBS's task callback.
    pub const BUILD_COMPLETED: &str = "/internal/v3/staging/{guid}/build_completed";
    /// `POST` the BBS's task callback.
    pub const TASK_COMPLETED: &str = "/internal/v4/tasks/{guid}/completed";
    /// `GET`: the zip of a package.
    pub const PACKAGE_DOWNLOAD: &str = "/internal/v4/packages/{guid}/download";
    /// `POST` or `PUT`: the gzipped tar of a droplet.
    pub const DROPLET_UPLOAD: &str = "/internal/v4/droplets/{guid}/upload";
    /// `GET`: the droplet that a process runs.
    pub const DROPLET_DOWNLOAD: &str = "/internal/v2/droplets/{guid}/{checksum}/download";
    /// `GET`: the gzipped tar with the programs `builder` and `launcher`.
    pub const LIFECYCLE: &str = "/internal/lifecycle/lifecycle.tgz";
    /// `GET`: all network policies, as [`super::InternalPolicies`]; cells ask.
    pub const POLICIES: &str = "/networking/v1/internal/policies";
}

/// What cells are told about network policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternalPolicies {
    pub total_policies: usize,
    pub policies: Vec<InternalPolicy>,
}

/// Containers of one app may connect to containers of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternalPolicy {
    pub source: PolicySource,
    pub destination: PolicyDestination,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySource {
    /// App guid.
    pub id: String,
    /// A hexadecimal number of the app's own, never 0; packets of its containers carry it.
    pub tag: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDestination {
    /// App guid.
    pub id: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    pub ports: PolicyPorts,
}

/// Both ends are part of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyPorts {
    pub start: u16,
    pub end: u16,
}
