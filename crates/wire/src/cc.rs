//! The JSON of the Cloud Controller that other components parse, and the paths of its internal listener.

use serde::{Deserialize, Serialize};

/// The body of every v3 response that is an error.
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

/// The paths of the internal mTLS listener.
pub mod internal_path {
    /// The path of a staging's completion callback: `POST` with the BBS's task callback.
    pub const BUILD_COMPLETED: &str = "/internal/v3/staging/{guid}/build_completed";
    /// The path of a task's completion callback: `POST` with the BBS's task callback.
    pub const TASK_COMPLETED: &str = "/internal/v4/tasks/{guid}/completed";
    /// The path of a package's zip: `GET`.
    pub const PACKAGE_DOWNLOAD: &str = "/internal/v4/packages/{guid}/download";
    /// The path of the upload of a droplet's gzipped tar: `POST` or `PUT`.
    pub const DROPLET_UPLOAD: &str = "/internal/v4/droplets/{guid}/upload";
    /// The path of the droplet that a process runs: `GET`.
    pub const DROPLET_DOWNLOAD: &str = "/internal/v2/droplets/{guid}/{checksum}/download";
    /// The path of the gzipped tar with the programs `builder` and `launcher`: `GET`.
    pub const LIFECYCLE: &str = "/internal/lifecycle/lifecycle.tgz";
    /// The path of all network policies as [`super::InternalPolicies`], which cells request: `GET`.
    pub const POLICIES: &str = "/networking/v1/internal/policies";
    /// The path of the stored state of the route that serves a URL, as [`super::StoredRoute`]: `GET`, with the query `url`.
    pub const STORED_ROUTE: &str = "/internal/v4/stored_route";
    /// The path of the log drains of all apps, as a page of [`super::SyslogDrains`]: `GET`, with the queries `batch_size` and `next_id`.
    pub const SYSLOG_DRAINS: &str = "/internal/v5/syslog_drain_urls";
}

/// A page of the log drains. The one after the last has no results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyslogDrains {
    pub results: Vec<SyslogDrain>,
    /// The `next_id` of the next page; `None` if there is none.
    pub next_id: Option<u32>,
}

/// A drain's URL with the apps whose logs are sent there. The URL may contain a password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyslogDrain {
    pub url: String,
    pub credentials: Vec<DrainCredentials>,
}

/// Prints the credentials only, which hide their secrets.
impl std::fmt::Debug for SyslogDrain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyslogDrain")
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// The PEM texts with which some apps' logs are sent to a drain. An empty text means that there is none.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrainCredentials {
    pub cert: String,
    pub key: String,
    pub ca: String,
    pub apps: Vec<DrainedApp>,
}

/// Prints the apps only, because the key is secret.
impl std::fmt::Debug for DrainCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DrainCredentials")
            .field("apps", &self.apps)
            .finish_non_exhaustive()
    }
}

/// An app whose logs are sent to a drain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct DrainedApp {
    /// The host of its messages ([`drain_hostname`]).
    pub hostname: String,
    /// The guid of the app.
    pub app_id: String,
}

/// The longest part of a drained message's host.
const LONGEST_LABEL: usize = 63;

/// Returns the host of an app's drained messages: the names of its organization, its space and itself, as far as they consist of letters,
/// digits and dashes.
pub fn drain_hostname(organization: &str, space: &str, app: &str) -> String {
    [organization, space, app].map(drain_label).join(".")
}

fn drain_label(name: &str) -> String {
    let mut label = String::new();
    let mut is_after_space = false;
    for c in name.chars() {
        let is_space = c.is_ascii_whitespace();
        if is_space && !is_after_space {
            label.push('-');
        } else if c.is_ascii_alphanumeric() || c == '-' {
            label.push(c);
        }
        is_after_space = is_space;
    }
    label.truncate(label.trim_end_matches('-').len());
    label.truncate(LONGEST_LABEL);
    label
}

/// The route that serves a URL, as the Cloud Controller stores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredRoute {
    pub guid: String,
    /// The route without its scheme: `app.example.com/path`.
    pub url: String,
    pub space_guid: String,
    /// Whether the route is on an internal domain, which no router serves.
    pub is_internal: bool,
    pub destinations: Vec<StoredDestination>,
    /// How far the last change has come; `None` if routers do not serve the route, or if there is no message bus.
    pub propagation: Option<RoutePropagation>,
}

/// How far the last change of a route has come. Times are Unix nanoseconds; `None`: the time is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoutePropagation {
    /// The number of the change; 0 if the route has none.
    pub generation: u64,
    /// The time of the commit.
    pub stored_at_ns: Option<u64>,
    /// The time at which the BBS had the change.
    pub desired_at_ns: Option<u64>,
    pub routers: Vec<PropagationRouter>,
}

/// A router that answered the Cloud Controller within the last minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PropagationRouter {
    pub id: String,
    pub hosts: Vec<String>,
    /// `live`, `gone`, `pending`, `unconfirmed` or `silent`.
    pub state: String,
    /// The times at which the emitter published the last change that the router confirmed, at which the router applied it, and at
    /// which the Cloud Controller had the receipt.
    pub emitted_at_ns: Option<u64>,
    pub applied_at_ns: Option<u64>,
    pub confirmed_at_ns: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredDestination {
    pub app_guid: String,
    pub app_name: String,
    /// Whether the app's desired state is `STARTED`.
    pub is_started: bool,
    /// Whether the app has nothing to run: its staging failed or has not ended.
    pub lacks_droplet: bool,
    pub process_type: String,
    /// The guids of the app's processes of that type; a deployment has two. They are the beginning of Diego's process guids.
    pub process_guids: Vec<String>,
    /// The number of instances of these processes together.
    pub instances: u32,
    /// The port of the app to which the route leads.
    pub port: u16,
    /// The generation of the last change of this destination; 0 if it has none.
    pub generation: u64,
}

/// The network policies as cells receive them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternalPolicies {
    pub total_policies: usize,
    pub policies: Vec<InternalPolicy>,
}

/// A permission for containers of one app to connect to containers of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternalPolicy {
    pub source: NetworkPolicySource,
    pub destination: NetworkPolicyDestination,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPolicySource {
    /// The guid of the app.
    pub id: String,
    /// The mark of the app's packets: a hexadecimal number of its own, never 0.
    pub tag: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPolicyDestination {
    /// The guid of the app.
    pub id: String,
    /// The protocol: `tcp` or `udp`.
    pub protocol: String,
    pub ports: PolicyPorts,
}

/// A range of ports that includes both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyPorts {
    pub start: u16,
    pub end: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drained_host_has_letters_digits_and_dashes() {
        assert_eq!(
            drain_hostname("org-1", "space 1", "app"),
            "org-1.space-1.app"
        );
        assert_eq!(
            drain_hostname("some_org", "a \t b", "some_app--"),
            "someorg.a-b.someapp"
        );
        let long = "a".repeat(100);
        let label = "a".repeat(63);
        assert_eq!(
            drain_hostname(&long, &long, "ä ö"),
            format!("{label}.{label}.")
        );
    }

    #[test]
    fn drains_have_the_form_of_the_original() {
        let text = r#"{"results":[{"url":"syslog://h:1","credentials":[{"cert":"c","key":"k","ca":"","apps":[{"hostname":"o.s.a","app_id":"g"}]}]}],"next_id":null}"#;
        let read: SyslogDrains = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert_eq!(read.results[0].credentials[0].apps[0].app_id, "g");
        let shown = format!("{read:?}");
        assert!(
            !shown.contains("syslog://") && !shown.contains("\"k\""),
            "{shown}"
        );
    }
}
