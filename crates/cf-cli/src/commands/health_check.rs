//! The health check of a process.

use crate::api::types::Process;
use crate::args::{Parsed, Spec, Usage, value};
use crate::session::Session;
use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

pub(super) const SPECS: &[Spec] = &[Spec {
    name: "set-health-check",
    alias: "",
    group: "Apps",
    about: "Change the health check of an app's process",
    args: &["APP_NAME", "HEALTH_CHECK_TYPE"],
    flags: &[
        value(
            None,
            "endpoint",
            "PATH",
            "Path that the http check requests (default: /)",
        ),
        value(
            None,
            "invocation-timeout",
            "SECONDS",
            "Longest time of one invocation of the check",
        ),
        value(None, "process", "TYPE", "Process to change (default: web)"),
    ],
    examples: &[
        "cf set-health-check my-app http --endpoint /up",
        "cf set-health-check my-worker process --process worker",
        "cf set-health-check my-app port --invocation-timeout 10",
    ],
}];

/// Returns the body of the request.
fn request_body(spec: &Spec, p: &Parsed) -> Result<Value> {
    let kind = p.arg(1);
    if !["http", "port", "process"].contains(&kind) {
        bail!(Usage(format!(
            "HEALTH_CHECK_TYPE {kind:?} must be \"port\", \"process\", or \"http\""
        )));
    }
    let mut data = Map::new();
    match (kind, p.get("endpoint")) {
        ("http", endpoint) => {
            data.insert("endpoint".to_owned(), endpoint.unwrap_or("/").into());
        }
        (_, Some(_)) => bail!(Usage(
            "Health check type must be 'http' to set a health check HTTP endpoint.".to_owned()
        )),
        (_, None) => {}
    }
    if let Some(seconds) = p.number::<u32>(spec, "invocation-timeout")? {
        if seconds == 0 {
            bail!(Usage(
                "Value must be greater than or equal to 1: --invocation-timeout".to_owned()
            ));
        }
        data.insert("invocation_timeout".to_owned(), seconds.into());
    }
    Ok(json!({"health_check": {"type": kind, "data": data}}))
}

pub(super) async fn set(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let body = request_body(spec, p)?;
    let kind = p.get("process").unwrap_or("web");
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    s.ui.flavor(
        "Updating health check type for app {} process {} in org {} / space {} as {}...",
        &[
            &app.name,
            kind,
            &target.org.name,
            &target.space.name,
            &target.user,
        ],
    );
    s.ui.blank();
    let path = format!("/v3/apps/{}/processes", app.guid);
    let process: Option<Process> = s.first(&path, &[("types", kind)]).await?;
    let process = process.with_context(|| format!("Process {kind} not found"))?;
    let _: Process = s
        .patch(&format!("/v3/processes/{}", process.guid), &body)
        .await?;
    s.ui.ok();
    if app.is_started() {
        s.ui.line("TIP: An app restart is required for the change to take effect.");
    }
    Ok(())
}
