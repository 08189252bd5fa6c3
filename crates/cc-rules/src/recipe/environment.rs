//! The environment with which an app's process or its staging starts. The cell adds `CF_INSTANCE_*`; the launcher adds the
//! instance's members to `VCAP_APPLICATION`.

use super::{AppIdentity, AppSpec};
use crate::services::Delivered;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use wire::bbs::{EnvironmentVariable, File};

/// The maximum number of open files per process.
pub const FILE_DESCRIPTORS: u64 = 16384;

/// Returns the variables of every process in the container. The stack has this locale.
pub fn global() -> Vec<EnvironmentVariable> {
    vec![variable("LANG", "en_US.UTF-8")]
}

/// Returns the variables of a running process. The user's variables never replace the platform's.
pub(super) fn running(spec: &AppSpec, port: u16, memory_mb: u32) -> Vec<EnvironmentVariable> {
    let mut variables = spec.environment.clone();
    let limits = Limits {
        memory_mb,
        disk_mb: spec.disk_mb,
    };
    platform(
        &mut variables,
        &vcap_application_within(spec, memory_mb),
        &spec.services,
        limits,
    );
    let port = port.to_string();
    variables.insert("PORT".into(), port.clone());
    variables.insert("VCAP_APP_PORT".into(), port);
    variables.insert("VCAP_APP_HOST".into(), "0.0.0.0".into());
    list(variables)
}

/// Returns the variables of the builder.
pub(super) fn staging(
    mut variables: BTreeMap<String, String>,
    application: &Value,
    services: &Delivered,
    limits: Limits,
    stack: &str,
) -> Vec<EnvironmentVariable> {
    platform(&mut variables, application, services, limits);
    variables.insert("CF_STACK".into(), stack.into());
    list(variables)
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) memory_mb: u32,
    pub(super) disk_mb: u32,
}

/// Returns the `VCAP_APPLICATION` of a process. The API shows the same value in an app's environment.
pub fn vcap_application(spec: &AppSpec) -> Value {
    vcap_application_within(spec, spec.own_memory_mb())
}

/// Returns the `VCAP_APPLICATION` for a program with this share of the memory.
fn vcap_application_within(spec: &AppSpec, memory_mb: u32) -> Value {
    let uris: Vec<&str> = spec
        .live
        .routes
        .http
        .iter()
        .map(|route| route.uri.as_str())
        .collect();
    let mut application = vcap_application_of(
        &spec.live.identity,
        &spec.api_url,
        &uris,
        Limits {
            memory_mb,
            disk_mb: spec.disk_mb,
        },
    );
    application["process_id"] = json!(spec.live.process_guid);
    application["process_type"] = json!(spec.live.process_type);
    application["version"] = json!(spec.live.version);
    application["application_version"] = json!(spec.live.version);
    application
}

pub(super) fn vcap_application_of(
    identity: &AppIdentity,
    api_url: &str,
    uris: &[&str],
    limits: Limits,
) -> Value {
    json!({
        "cf_api": api_url,
        "limits": {"fds": FILE_DESCRIPTORS, "mem": limits.memory_mb, "disk": limits.disk_mb},
        "application_id": identity.app_guid,
        "application_name": identity.app_name,
        "application_uris": uris,
        "name": identity.app_name,
        "organization_id": identity.organization_guid,
        "organization_name": identity.organization_name,
        "space_id": identity.space_guid,
        "space_name": identity.space_name,
        "uris": uris,
        "users": null,
    })
}

fn platform(
    variables: &mut BTreeMap<String, String>,
    application: &Value,
    services: &Delivered,
    limits: Limits,
) {
    variables.insert("VCAP_APPLICATION".into(), application.to_string());
    let (name, value) = services.variable.clone();
    variables.insert(name, value);
    variables.insert("MEMORY_LIMIT".into(), format!("{}m", limits.memory_mb));
}

/// Returns the files of an app's bindings as the cell creates them.
pub(super) fn files(services: &Delivered) -> Vec<File> {
    let files = services.files.iter().map(|file| File {
        path: file.path.clone(),
        content: file.content.clone(),
    });
    files.collect()
}

fn list(variables: BTreeMap<String, String>) -> Vec<EnvironmentVariable> {
    variables
        .into_iter()
        .map(|(name, value)| EnvironmentVariable { name, value })
        .collect()
}

fn variable(name: &str, value: &str) -> EnvironmentVariable {
    EnvironmentVariable {
        name: name.into(),
        value: value.into(),
    }
}
