//! The Cloud Controller's JSON that other components parse: error bodies and task callbacks.

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

/// What the BBS posts to a task's `completion_callback_url`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskCallback {
    pub task_guid: String,
    #[serde(default)]
    pub failed: bool,
    #[serde(default)]
    pub failure_reason: String,
    #[serde(default)]
    pub result: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub annotation: String,
    /// Unix nanoseconds.
    #[serde(default)]
    pub created_at: i64,
}

/// Paths of the internal mTLS listener.
pub mod internal_path {
    /// `POST` [`super::TaskCallback`].
    pub const BUILD_COMPLETED: &str = "/internal/v3/staging/{guid}/build_completed";
    /// `POST` [`super::TaskCallback`].
    pub const TASK_COMPLETED: &str = "/internal/v4/tasks/{guid}/completed";
    /// `GET`: the zip of a package.
    pub const PACKAGE_DOWNLOAD: &str = "/internal/v4/packages/{guid}/download";
    /// `POST` or `PUT`: the gzipped tar of a droplet, by build guid.
    pub const DROPLET_UPLOAD: &str = "/internal/v4/droplets/{guid}/upload";
    /// `GET`: the droplet that a process runs.
    pub const DROPLET_DOWNLOAD: &str = "/internal/v2/droplets/{guid}/{checksum}/download";
    /// `GET`: the gzipped tar with the programs `builder` and `launcher`.
    pub const LIFECYCLE: &str = "/internal/lifecycle/lifecycle.tgz";
}
