//! The result of staging: the JSON that the builder writes into a file, which the cell and the BBS carry to the Cloud Controller, and
//! the builder's exit statuses. The names are those of buildpackapplifecycle's `StagingResult`.
//!
//! It is pure and small, because the static binary in every container has it as well.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The exit status of a builder whose buildpacks do not support the app.
pub const DETECT_FAILED: u8 = 222;
/// The exit status of a builder whose buildpack could not make the app ready to run.
pub const COMPILE_FAILED: u8 = 223;
/// The exit status of a builder that could not find out how to start the app.
pub const RELEASE_FAILED: u8 = 224;
/// The exit status of a builder whose supplying buildpacks failed.
pub const SUPPLY_FAILED: u8 = 225;

/// The content of the result file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StagingResult {
    /// The lifecycle: `buildpack`. The Cloud Controller does not read it.
    #[serde(skip_deserializing)]
    pub lifecycle_type: String,
    #[serde(default)]
    pub lifecycle_metadata: LifecycleMetadata,
    /// The start commands by process type. The Cloud Controller refuses a result without them.
    pub process_types: Option<BTreeMap<String, String>>,
    /// The start commands as a list. The Cloud Controller does not read it.
    #[serde(skip_deserializing)]
    pub processes: Vec<Process>,
    #[serde(default)]
    pub execution_metadata: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecars: Option<Vec<StagedSidecar>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifecycleMetadata {
    pub buildpack_key: String,
    pub detected_buildpack: String,
    pub buildpacks: Vec<UsedBuildpack>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsedBuildpack {
    pub key: String,
    pub name: String,
    pub version: String,
}

/// A process type and its start command.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Process {
    #[serde(rename = "type")]
    pub kind: String,
    pub command: String,
}

/// A sidecar that a buildpack declares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StagedSidecar {
    pub name: String,
    pub command: String,
    pub process_types: Vec<String>,
    /// The memory in MB.
    #[serde(default)]
    pub memory: Option<i64>,
}

impl StagingResult {
    /// Returns the result of a staging by one buildpack. `title` is the buildpack's name for people.
    pub fn of_buildpack(
        key: &str,
        title: &str,
        version: &str,
        process_types: BTreeMap<String, String>,
    ) -> Self {
        let processes = process_types.iter().map(|(kind, command)| Process {
            kind: kind.clone(),
            command: command.clone(),
        });
        Self {
            lifecycle_type: "buildpack".to_owned(),
            lifecycle_metadata: LifecycleMetadata {
                buildpack_key: key.to_owned(),
                detected_buildpack: title.to_owned(),
                buildpacks: vec![UsedBuildpack {
                    key: key.to_owned(),
                    name: title.to_lowercase(),
                    version: version.to_owned(),
                }],
            },
            processes: processes.collect(),
            process_types: Some(process_types),
            ..Self::default()
        }
    }

    /// Returns the start command of the web process.
    pub fn start_command(&self) -> Option<&str> {
        start_command(self.process_types.as_ref()?)
    }
}

/// Returns the start command of the web process.
pub fn start_command(process_types: &BTreeMap<String, String>) -> Option<&str> {
    process_types
        .get("web")
        .map(String::as_str)
        .filter(|command| !command.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_result_is_written_as_the_original_builder_writes_it() {
        let web = BTreeMap::from([("web".to_owned(), "./run".to_owned())]);
        let result = StagingResult::of_buildpack("binary_buildpack", "Binary", "1.0.0", web);
        assert_eq!(result.start_command(), Some("./run"));
        assert_eq!(
            serde_json::to_value(&result).unwrap(),
            json!({
                "lifecycle_type": "buildpack",
                "lifecycle_metadata": {
                    "buildpack_key": "binary_buildpack",
                    "detected_buildpack": "Binary",
                    "buildpacks": [{"key": "binary_buildpack", "name": "binary", "version": "1.0.0"}],
                },
                "process_types": {"web": "./run"},
                "processes": [{"type": "web", "command": "./run"}],
                "execution_metadata": "",
            })
        );
    }

    #[test]
    fn a_result_of_another_builder_is_read() {
        let read = |json: serde_json::Value| serde_json::from_value::<StagingResult>(json).unwrap();
        let result = read(json!({
            "lifecycle_type": "buildpack",
            "process_types": {"web": "", "worker": "./work"},
            "processes": null,
            "sidecars": [{"name": "s", "command": "./s", "process_types": ["web"]}],
            "unknown": 1,
        }));
        assert_eq!(result.start_command(), None);
        assert_eq!(result.sidecars.unwrap()[0].memory, None);
        let empty = read(json!({"process_types": null, "sidecars": null}));
        assert_eq!(empty, StagingResult::default());
        assert_eq!(read(json!({})), StagingResult::default());
    }
}
