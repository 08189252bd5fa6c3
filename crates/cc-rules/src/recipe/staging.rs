//! Staging: the task that turns a package into a droplet, and the reading of its result, like cloud_controller_ng's
//! `buildpack/staging_action_builder.rb` and `failure_reason_sanitizer.rb`.
//!
//! The cell downloads the package to `/tmp/app`, runs `/tmp/lifecycle/builder` as vcap, and uploads `/tmp/droplet`. Then the BBS
//! posts the content of `/tmp/result.json` to the completion callback.

use super::egress::{self, RuleError};
use super::environment::{self, FILE_DESCRIPTORS, Limits};
use crate::recipe::{
    self, AppIdentity, Artifact, LIFECYCLE_DIR, MAX_PIDS, TRUSTED_CERTIFICATES, USER,
};
use crate::services::Delivered;
use staging_result::{LifecycleMetadata, StagedSidecar, StagingResult};
use std::collections::BTreeMap;
use wire::bbs::{
    Action, CachedDependency, EmitProgressAction, LogRateLimit, ResourceLimits, RunAction,
    SerialAction, TaskCallback, TaskDefinition, UploadAction,
};

const LOG_SOURCE: &str = "STG";
const RESULT_FILE: &str = "/tmp/result.json";
const DROPLET_FILE: &str = "/tmp/droplet";
const BUILD_DIR: &str = "/tmp/app";
const BUILDPACKS_DIR: &str = "/tmp/buildpacks";

/// The values for one staging. The guid of the task is the guid of the build.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StagingSpec {
    pub identity: AppIdentity,
    pub build_guid: String,
    pub stack: String,
    pub package: Artifact,
    pub lifecycle: Artifact,
    /// The URL to which the cell posts the droplet.
    pub droplet_upload_url: String,
    /// The URL to which the BBS posts the result.
    pub completion_callback_url: String,
    /// The buildpacks that the user named, in order. If there are none, the built-in ones are tried one after another.
    pub buildpacks: Vec<String>,
    /// The user's variables, which take precedence over those of the staging environment group.
    pub environment: BTreeMap<String, String>,
    /// The bindings of the app.
    pub services: Delivered,
    pub memory_mb: u32,
    pub disk_mb: u32,
    /// The maximum log rate in bytes per second; -1 means no limit.
    pub log_rate_limit: i64,
    /// The rules of the staging security groups.
    pub egress_rules: Vec<serde_json::Value>,
    pub isolation_segment: Option<String>,
    /// The API's URL, which is in `VCAP_APPLICATION` beside the app's routes.
    pub api_url: String,
    pub uris: Vec<String>,
    pub timeout_seconds: u32,
}

pub const DEFAULT_TIMEOUT_SECONDS: u32 = 900;

/// Returns the task's definition. An error names the security-group rule that is wrong.
pub fn task_definition(spec: &StagingSpec) -> Result<TaskDefinition, RuleError> {
    let steps = vec![
        recipe::download(&spec.package, "app package", BUILD_DIR, "", LOG_SOURCE),
        progress(
            build(spec),
            "Staging...",
            "Staging complete",
            "Staging failed",
        ),
        // The cell itself logs what it uploads.
        progress(upload(spec), "", "Uploading complete", "Uploading failed"),
    ];
    let serial = Action {
        serial: Some(SerialAction {
            actions: steps,
            ..Default::default()
        }),
        ..Default::default()
    };
    Ok(TaskDefinition {
        root_fs: recipe::root_fs(&spec.stack),
        environment_variables: environment::global(),
        action: Some(recipe::timeout(serial, i64::from(spec.timeout_seconds) * 1000)),
        disk_mb: spec.disk_mb as i32,
        memory_mb: spec.memory_mb as i32,
        cpu_weight: 50,
        log_source: LOG_SOURCE.into(),
        log_guid: spec.identity.app_guid.clone(),
        metrics_guid: spec.identity.app_guid.clone(),
        result_file: RESULT_FILE.into(),
        completion_callback_url: spec.completion_callback_url.clone(),
        annotation: serde_json::json!({"lifecycle": "buildpack", "completion_callback": spec.completion_callback_url}).to_string(),
        egress_rules: egress::rules(&spec.egress_rules)?,
        cached_dependencies: dependencies(spec),
        legacy_download_user: USER.into(),
        trusted_system_certificates_path: TRUSTED_CERTIFICATES.into(),
        network: Some(recipe::network(&spec.identity, "staging", &[])),
        placement_tags: spec.isolation_segment.clone().into_iter().collect(),
        max_pids: MAX_PIDS,
        certificate_properties: Some(recipe::certificate_properties(&spec.identity)),
        log_rate_limit: Some(LogRateLimit { bytes_per_second: spec.log_rate_limit }),
        metric_tags: recipe::identity_tags(&spec.identity),
        volume_mounted_files: environment::files(&spec.services),
        ..Default::default()
    })
}

/// Returns the buildpacks that may stage the app, in order.
fn candidates(spec: &StagingSpec) -> Vec<&str> {
    if spec.buildpacks.is_empty() {
        crate::buildpacks::BUILTIN
            .iter()
            .map(|buildpack| buildpack.name)
            .collect()
    } else {
        spec.buildpacks.iter().map(String::as_str).collect()
    }
}

/// Returns the lifecycle, and each built-in buildpack under its own name, which the cell logs. These buildpacks are part of the
/// lifecycle's bundle, which the cell keeps once.
fn dependencies(spec: &StagingSpec) -> Vec<CachedDependency> {
    let lifecycle = recipe::lifecycle(&spec.lifecycle, &spec.stack, LOG_SOURCE);
    let buildpacks = candidates(spec)
        .into_iter()
        .filter(|name| crate::buildpacks::find(name).is_some())
        .map(|name| CachedDependency {
            name: name.to_owned(),
            to: format!("{BUILDPACKS_DIR}/{name}"),
            ..lifecycle.clone()
        });
    let buildpacks: Vec<_> = buildpacks.collect();
    [lifecycle].into_iter().chain(buildpacks).collect()
}

fn build(spec: &StagingSpec) -> Action {
    let named = candidates(spec);
    let limits = Limits {
        memory_mb: spec.memory_mb,
        disk_mb: spec.disk_mb,
    };
    let uris: Vec<&str> = spec.uris.iter().map(String::as_str).collect();
    let application =
        environment::vcap_application_of(&spec.identity, &spec.api_url, &uris, limits);
    recipe::run(RunAction {
        path: format!("{LIFECYCLE_DIR}/builder"),
        args: vec![
            format!("-buildDir={BUILD_DIR}"),
            format!("-buildpackOrder={}", named.join(",")),
            format!("-skipDetect={}", !spec.buildpacks.is_empty()),
            format!("-outputDroplet={DROPLET_FILE}"),
            format!("-outputMetadata={RESULT_FILE}"),
            "-outputBuildArtifactsCache=/tmp/output-cache".into(),
            "-buildArtifactsCacheDir=/tmp/cache".into(),
            format!("-buildpacksDir={BUILDPACKS_DIR}"),
        ],
        env: environment::staging(
            spec.environment.clone(),
            &application,
            &spec.services,
            limits,
            &spec.stack,
        ),
        resource_limits: Some(ResourceLimits {
            nofile: Some(FILE_DESCRIPTORS),
            nproc: None,
        }),
        user: USER.into(),
        log_source: LOG_SOURCE.into(),
        ..Default::default()
    })
}

fn upload(spec: &StagingSpec) -> Action {
    let upload = UploadAction {
        artifact: "droplet".into(),
        from: DROPLET_FILE.into(),
        to: spec.droplet_upload_url.clone(),
        log_source: LOG_SOURCE.into(),
        user: USER.into(),
    };
    Action {
        upload: Some(upload),
        ..Default::default()
    }
}

fn progress(action: Action, start: &str, success: &str, failure: &str) -> Action {
    let progress = EmitProgressAction {
        action: Some(Box::new(action)),
        start_message: start.into(),
        success_message: success.into(),
        failure_message_prefix: failure.into(),
        log_source: LOG_SOURCE.into(),
    };
    Action {
        emit_progress: Some(Box::new(progress)),
        ..Default::default()
    }
}

/// The result of a successful staging.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Staged {
    pub lifecycle_metadata: LifecycleMetadata,
    /// The start commands by process type.
    pub process_types: BTreeMap<String, String>,
    pub execution_metadata: String,
    pub sidecars: Vec<StagedSidecar>,
}

impl Staged {
    /// Returns the start command of the web process.
    pub fn start_command(&self) -> Option<&str> {
        staging_result::start_command(&self.process_types)
    }
}

/// The reason why a build failed. The API shows `id - description` ([`std::fmt::Display`]).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{id} - {description}")]
pub struct StagingError {
    /// The name of the API's error.
    pub id: &'static str,
    pub description: String,
}

/// Reads the result that the BBS posted.
pub fn parse_staging_result(callback: &TaskCallback) -> Result<Staged, StagingError> {
    if callback.failed {
        return Err(failure(&callback.failure_reason));
    }
    let malformed = |problem: &dyn std::fmt::Display| StagingError {
        id: "StagerError",
        description: format!(
            "Stager error: malformed result of staging task {}: {problem}",
            callback.task_guid
        ),
    };
    let result: StagingResult =
        serde_json::from_str(&callback.result).map_err(|error| malformed(&error))?;
    let process_types = result
        .process_types
        .ok_or_else(|| malformed(&"process_types is missing"))?;
    Ok(Staged {
        lifecycle_metadata: result.lifecycle_metadata,
        process_types,
        execution_metadata: result.execution_metadata,
        sidecars: result.sidecars.unwrap_or_default(),
    })
}

/// Derives the error from the builder's exit status or from the text of the auction.
pub fn failure(reason: &str) -> StagingError {
    let exited_with = |status: u8| reason.ends_with(&status.to_string());
    let (id, description) = match reason {
        _ if exited_with(staging_result::DETECT_FAILED) => (
            "NoAppDetectedError",
            "An app was not successfully detected by any available buildpack".to_owned(),
        ),
        _ if exited_with(staging_result::COMPILE_FAILED) => (
            "BuildpackCompileFailed",
            "App staging failed in the buildpack compile phase".to_owned(),
        ),
        _ if exited_with(staging_result::RELEASE_FAILED) => (
            "BuildpackReleaseFailed",
            "App staging failed in the buildpack release phase".to_owned(),
        ),
        r if r.starts_with("insufficient resources") => (
            "InsufficientResources",
            "Insufficient resources".to_owned() + &detail(r, "insufficient resources"),
        ),
        r if r.starts_with("found no compatible cell") => (
            "NoCompatibleCell",
            "Found no compatible cell".to_owned() + &detail(r, "found no compatible cell"),
        ),
        r if r.starts_with("unable to communicate to compatible cells") => (
            "CellCommunicationError",
            "Unable to communicate with cells".to_owned(),
        ),
        "" => ("StagingError", "Staging error: staging failed".to_owned()),
        r => (
            "StagingError",
            format!("Staging error: staging failed ({r})"),
        ),
    };
    StagingError { id, description }
}

/// Returns what the reason adds to its fixed beginning.
fn detail(reason: &str, beginning: &str) -> String {
    let rest = reason[beginning.len()..].trim_start_matches(':').trim();
    if rest.is_empty() {
        String::new()
    } else {
        format!(" ({rest})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_downloads_builds_and_uploads() {
        let spec = StagingSpec {
            build_guid: "B".into(),
            stack: "cflinuxfs4".into(),
            package: Artifact {
                url: "https://cc/packages/P".into(),
                sha256: "aa".into(),
            },
            droplet_upload_url: "https://cc/droplets/B".into(),
            environment: BTreeMap::from([("A".into(), "1".into())]),
            memory_mb: 1024,
            timeout_seconds: 900,
            ..Default::default()
        };
        let task = task_definition(&spec).unwrap();
        assert_eq!(
            (task.root_fs.as_str(), task.result_file.as_str()),
            ("preloaded:cflinuxfs4", "/tmp/result.json")
        );
        let names: Vec<_> = task
            .cached_dependencies
            .iter()
            .map(|dependency| (dependency.name.as_str(), dependency.to.as_str()))
            .collect();
        assert_eq!(
            names[..2],
            [
                ("", "/tmp/lifecycle"),
                (
                    "staticfile_buildpack",
                    "/tmp/buildpacks/staticfile_buildpack"
                )
            ]
        );
        let timeout = task.action.unwrap().timeout.unwrap();
        assert_eq!(timeout.timeout_ms, 900_000);
        let steps = timeout.action.unwrap().serial.unwrap().actions;
        assert_eq!(steps[0].download.as_ref().unwrap().to, "/tmp/app");
        let run = steps[1]
            .emit_progress
            .as_ref()
            .unwrap()
            .action
            .as_ref()
            .unwrap()
            .run
            .as_ref()
            .unwrap();
        assert!(run.args.contains(&"-buildpackOrder=staticfile_buildpack,python_buildpack,procfile_buildpack,binary_buildpack".to_owned()));
        assert!(run.args.contains(&"-skipDetect=false".to_owned()));
        assert!(
            run.env
                .iter()
                .any(|variable| variable.name == "CF_STACK" && variable.value == "cflinuxfs4")
        );
        let upload = steps[2]
            .emit_progress
            .as_ref()
            .unwrap()
            .action
            .as_ref()
            .unwrap()
            .upload
            .as_ref()
            .unwrap();
        assert_eq!(
            (upload.from.as_str(), upload.to.as_str()),
            ("/tmp/droplet", "https://cc/droplets/B")
        );

        let named = task_definition(&StagingSpec {
            buildpacks: vec!["binary_buildpack".into()],
            ..spec
        })
        .unwrap();
        assert!(format!("{named:?}").contains("-skipDetect=true"));
    }

    #[test]
    fn results_are_read() {
        let result = r#"{"lifecycle_type":"buildpack","lifecycle_metadata":{"buildpack_key":"binary_buildpack","detected_buildpack":"Binary",
            "buildpacks":[{"key":"binary_buildpack","name":"binary","version":"1.0.0"}]},"process_types":{"web":"./proxy"},"execution_metadata":""}"#;
        let staged = parse_staging_result(&TaskCallback {
            result: result.into(),
            ..Default::default()
        })
        .unwrap();
        assert_eq!(staged.start_command(), Some("./proxy"));
        assert_eq!(staged.lifecycle_metadata.buildpacks[0].version, "1.0.0");

        let error = parse_staging_result(&TaskCallback {
            task_guid: "T".into(),
            result: "{".into(),
            ..Default::default()
        })
        .unwrap_err();
        assert_eq!(error.id, "StagerError");
    }

    #[test]
    fn failures_have_the_names_and_texts_of_the_api() {
        let text = |reason: &str| failure(reason).to_string();
        assert_eq!(
            text("STG: Exited with status 222"),
            "NoAppDetectedError - An app was not successfully detected by any available buildpack"
        );
        assert_eq!(
            text("Exited with status 223"),
            "BuildpackCompileFailed - App staging failed in the buildpack compile phase"
        );
        assert_eq!(
            text("Exited with status 224"),
            "BuildpackReleaseFailed - App staging failed in the buildpack release phase"
        );
        assert_eq!(
            text("insufficient resources: memory"),
            "InsufficientResources - Insufficient resources (memory)"
        );
        assert_eq!(
            text("found no compatible cell for required rootfs"),
            "NoCompatibleCell - Found no compatible cell (for required rootfs)"
        );
        assert_eq!(
            text("cell disappeared before completion"),
            "StagingError - Staging error: staging failed (cell disappeared before completion)"
        );
    }
}
