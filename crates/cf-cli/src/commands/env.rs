//! Environment variables of apps.

use crate::api::Request;
use crate::api::types::Env;
use crate::args::{Parsed, Spec};
use crate::session::Session;
use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const GROUP: &str = "Environment variables";

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "env",
        alias: "e",
        group: GROUP,
        about: "Show all env variables for an app",
        args: &["APP_NAME"],
        flags: &[],
        examples: &["cf env my-app"],
    },
    Spec {
        name: "set-env",
        alias: "se",
        group: GROUP,
        about: "Set an env variable for an app",
        args: &["APP_NAME", "ENV_VAR_NAME", "ENV_VAR_VALUE"],
        flags: &[],
        examples: &["cf set-env my-app LOG_LEVEL debug"],
    },
    Spec {
        name: "unset-env",
        alias: "ue",
        group: GROUP,
        about: "Remove an env variable from an app",
        args: &["APP_NAME", "ENV_VAR_NAME"],
        flags: &[],
        examples: &["cf unset-env my-app LOG_LEVEL"],
    },
];

pub(super) async fn env(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    s.ui.flavor(
        "Getting env variables for app {} in org {} / space {} as {}...",
        &[p.arg(0), &target.org.name, &target.space.name, &target.user],
    );
    let app = s.app(p.arg(0), &target).await?;
    let env: Env = s.get(&format!("/v3/apps/{}/env", app.guid)).await?;
    s.ui.line("System-Provided:");
    for (name, value) in env.system_env_json.iter().chain(&env.application_env_json) {
        s.ui.line(format!("{name}: {}", serde_json::to_string_pretty(value)?));
        s.ui.blank();
    }
    if env.system_env_json.is_empty() && env.application_env_json.is_empty() {
        s.ui.line("No system-provided env variables have been set");
        s.ui.blank();
    }
    section(
        s,
        "User-Provided:",
        "No user-provided env variables have been set",
        &env.environment_variables,
    );
    s.ui.blank();
    section(
        s,
        "Running Environment Variable Groups:",
        "No running env variables have been set",
        &env.running_env_json,
    );
    s.ui.blank();
    section(
        s,
        "Staging Environment Variable Groups:",
        "No staging env variables have been set",
        &env.staging_env_json,
    );
    Ok(())
}

fn section(s: &Session, title: &str, none: &str, variables: &BTreeMap<String, Value>) {
    if variables.is_empty() {
        s.ui.line(none);
        return;
    }
    s.ui.line(title);
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let rows: Vec<_> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), text(value)))
        .collect();
    s.ui.key_values(&rows);
}

async fn change(s: &Session, app_guid: &str, name: &str, value: Option<&str>) -> Result<()> {
    let body = json!({"var": {name: value}});
    s.call(
        Request::new(
            Method::PATCH,
            format!("/v3/apps/{app_guid}/environment_variables"),
        )
        .json(&body)?,
    )
    .await
    .map(drop)
}

fn tip(s: &Session, app: &str) {
    s.ui.ok();
    s.ui.line(format!(
        "TIP: Use 'cf restage {app}' to ensure your env variable changes take effect."
    ));
}

pub(super) async fn set_env(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    s.ui.flavor(
        "Setting env variable {} for app {} in org {} / space {} as {}...",
        &[
            p.arg(1),
            p.arg(0),
            &target.org.name,
            &target.space.name,
            &target.user,
        ],
    );
    let app = s.app(p.arg(0), &target).await?;
    change(s, &app.guid, p.arg(1), Some(p.arg(2))).await?;
    tip(s, p.arg(0));
    Ok(())
}

pub(super) async fn unset_env(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    s.ui.flavor(
        "Removing env variable {} from app {} in org {} / space {} as {}...",
        &[
            p.arg(1),
            p.arg(0),
            &target.org.name,
            &target.space.name,
            &target.user,
        ],
    );
    let app = s.app(p.arg(0), &target).await?;
    let env: Env = s.get(&format!("/v3/apps/{}/env", app.guid)).await?;
    if !env.environment_variables.contains_key(p.arg(1)) {
        s.ui.warn(format!("Env variable {} was not set.", p.arg(1)));
        s.ui.ok();
        return p.end_early();
    }
    change(s, &app.guid, p.arg(1), None).await?;
    tip(s, p.arg(0));
    Ok(())
}
