//! `cf push`: manifest → apply → files → package → build → droplet → start → summary. There is one function per phase, in order.

mod archive;
mod diff;
mod files;
mod ignore;
mod manifest;
mod upload;

use crate::api::types::{App, Diff, Guid};
use crate::api::{Request, filter};
use crate::args::{Parsed, Spec, Usage};
use crate::session::{Session, Target};
use crate::start::Strategy;
use crate::{propagation, start, summary, ui, units};
use anyhow::{Context as _, Result, bail, ensure};
use manifest::{Manifest, Overrides, Variables};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The steps that follow the upload.
#[derive(Clone, Copy, Debug)]
struct Plan {
    start: bool,
    wait: bool,
    strategy: Strategy,
}

pub(crate) async fn push(session: &Session, spec: &Spec, parsed: &Parsed) -> Result<()> {
    let overrides = overrides(spec, parsed, &session.cwd)?;
    let plan = Plan {
        start: !parsed.has("no-start"),
        wait: !parsed.has("no-wait"),
        strategy: Strategy::of(spec, parsed)?,
    };
    let target = session.require_space()?;
    let manifest = load_manifest(session, parsed)?.for_push(&overrides)?;
    for key in &manifest.dropped {
        session.ui.warn(format!(
            "The manifest's key '{key}', which is not in 'applications', is ignored: write it into an app."
        ));
    }
    let paths = paths(session, &overrides, &manifest).await?;

    announce(session, &target, &manifest);
    apply(session, &target, &manifest).await?;
    let apps = created_apps(session, &target, &manifest).await?;
    for (i, (definition, path)) in manifest.apps().iter().zip(paths).enumerate() {
        if i > 0 {
            session.ui.blank();
        }
        let name = manifest::name(definition);
        let app = apps
            .get(name)
            .with_context(|| format!("App '{name}' not found after its manifest was applied."))?;
        push_app(session, app, &path, plan).await?;
    }
    Ok(())
}

/// Returns the folder or archive of each app. All are checked before anything is sent, and all problems are reported at once.
async fn paths(
    session: &Session,
    overrides: &Overrides,
    manifest: &Manifest,
) -> Result<Vec<PathBuf>> {
    let given = |app| overrides.path.clone().or_else(|| manifest.path_of(app));
    let paths: Vec<_> = manifest
        .apps()
        .into_iter()
        .map(|app| given(app).unwrap_or_else(|| session.cwd.clone()))
        .collect();
    let looked_at = paths.clone();
    let problems = tokio::task::spawn_blocking(move || {
        let problem = |path: &PathBuf| upload::check(path).err().map(|e| format!("{e:#}"));
        looked_at.iter().filter_map(problem).collect::<Vec<_>>()
    });
    let problems = problems.await?;
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(paths)
}

/// Returns the flags that change the manifest. They are checked before anything is sent.
fn overrides(spec: &Spec, parsed: &Parsed, cwd: &Path) -> Result<Overrides> {
    let quantity = |flag: &str| match parsed.get(flag) {
        Some(text) if units::megabytes(text).is_none() => Err(Usage(format!(
            "invalid argument for flag `--{flag}' ({text:?}): {}",
            units::QUANTITY
        ))),
        quantity => Ok(quantity.map(str::to_owned)),
    };
    let health_check_type = match parsed.get("health-check-type") {
        Some(kind @ ("http" | "port" | "process")) => Some(kind.to_owned()),
        Some("none") => Some("process".to_owned()),
        Some(other) => bail!(Usage(format!(
            "invalid argument for flag `--health-check-type' ({other:?}): it must be \"port\", \"process\", or \"http\""
        ))),
        None => None,
    };
    let endpoint = parsed.get("endpoint").map(str::to_owned);
    let health_check_type = match (health_check_type, &endpoint) {
        (Some(kind), Some(_)) if kind != "http" => bail!(Usage(format!(
            "flag `--endpoint' has no effect with the health check type {kind:?}; it is for \"http\""
        ))),
        (None, Some(_)) => Some("http".to_owned()),
        (kind, _) => kind,
    };
    let path = match parsed.get("path").map(|p| cwd.join(p)) {
        Some(path) if !path.exists() => bail!(Usage(format!(
            "The specified path '{}' does not exist.",
            path.display()
        ))),
        path => path,
    };
    Ok(Overrides {
        app_name: parsed.opt(0).map(str::to_owned),
        path,
        buildpacks: parsed.all("buildpack").to_vec(),
        command: parsed.get("start-command").map(str::to_owned),
        instances: parsed.number::<u32>(spec, "instances")?,
        memory: quantity("memory")?,
        disk: quantity("disk")?,
        stack: parsed.get("stack").map(str::to_owned),
        health_check_type,
        health_check_endpoint: endpoint,
        timeout: parsed.number::<u32>(spec, "app-start-timeout")?,
        no_route: parsed.has("no-route"),
        random_route: parsed.has("random-route"),
    })
}

/// Loads the manifest of `-f`, otherwise the one in the current folder, otherwise an empty one.
fn load_manifest(session: &Session, parsed: &Parsed) -> Result<Manifest> {
    if parsed.has("no-manifest") {
        return Ok(Manifest::empty());
    }
    let file = match parsed.get("manifest").map(|p| session.cwd.join(p)) {
        Some(folder) if folder.is_dir() => Some(manifest_in(&folder).with_context(|| {
            Usage(format!(
                "The specified directory '{}' does not contain a file named 'manifest.yml'.",
                folder.display()
            ))
        })?),
        Some(file) if file.exists() => Some(file),
        Some(file) => bail!(Usage(format!(
            "The specified path '{}' does not exist.",
            file.display()
        ))),
        None => manifest_in(&session.cwd),
    };
    let Some(file) = file else {
        for flag in ["var", "vars-file"] {
            ensure!(
                parsed.all(flag).is_empty(),
                Usage(format!(
                    "flag `--{flag}' has no effect without a manifest: there is no manifest.yml in {}; name one with --manifest",
                    session.cwd.display()
                ))
            );
        }
        return Ok(Manifest::empty());
    };
    let mut variables = Variables::default();
    for path in parsed.all("vars-file") {
        let text = std::fs::read_to_string(session.cwd.join(path))
            .with_context(|| format!("read variables file {path}"))?;
        variables.add_file(path, &text)?;
    }
    for pair in parsed.all("var") {
        variables.add_pair(pair)?;
    }
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("read manifest {}", file.display()))?;
    Manifest::parse(&file, &text, &variables)
}

fn manifest_in(folder: &Path) -> Option<PathBuf> {
    ["manifest.yml", "manifest.yaml"]
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

fn announce(session: &Session, target: &Target, manifest: &Manifest) {
    let names: Vec<_> = manifest.apps().iter().map(|a| manifest::name(a)).collect();
    let apps = if names.len() == 1 { "app" } else { "apps" };
    session.ui.flavor(
        &format!("Pushing {apps} {{}} to org {{}} / space {{}} as {{}}..."),
        &[
            &names.join(", "),
            &target.org.name,
            &target.space.name,
            &target.user,
        ],
    );
}

/// Applies the manifest to the space: it changes apps, processes, routes and variables.
async fn apply(session: &Session, target: &Target, manifest: &Manifest) -> Result<()> {
    let text = manifest.to_yaml()?;
    let yaml =
        |path: String| Request::new(Method::POST, path).body("application/x-yaml", text.clone());
    if let Some(file) = &manifest.file {
        session.ui.flavor(
            "Applying manifest file {}...",
            &[&file.display().to_string()],
        );
        session.ui.blank();
        session.ui.line("Updating with these attributes...");
        let compared = session
            .call(yaml(format!(
                "/v3/spaces/{}/manifest_diff",
                target.space.guid
            )))
            .await;
        let diff = match compared {
            Ok(response) => response.json::<Diff>("manifest_diff")?,
            // The diff is only informative, so an API that cannot compare does not stop the push.
            Err(error)
                if error
                    .downcast_ref::<crate::api::error::ApiError>()
                    .is_some_and(|e| e.status >= 500 || e.status == 404) =>
            {
                Diff::default()
            }
            Err(error) => return Err(error),
        };
        session
            .ui
            .raw(diff::render(&manifest.root, &diff.diff).as_bytes());
    }
    let accepted = session
        .call(yaml(format!(
            "/v3/spaces/{}/actions/apply_manifest",
            target.space.guid
        )))
        .await?;
    session.finish(&accepted).await?;
    if manifest.file.is_some() {
        session.ui.line("Manifest applied");
    }
    Ok(())
}

async fn created_apps(
    session: &Session,
    target: &Target,
    manifest: &Manifest,
) -> Result<BTreeMap<String, App>> {
    let names = manifest
        .apps()
        .iter()
        .map(|a| filter(manifest::name(a)))
        .collect::<Vec<_>>()
        .join(",");
    let apps: Vec<App> = session
        .list(
            "/v3/apps",
            &[("names", &names), ("space_guids", &target.space.guid)],
        )
        .await?;
    Ok(apps
        .into_iter()
        .map(|app| (app.name.clone(), app))
        .collect())
}

async fn push_app(session: &Session, app: &App, path: &Path, plan: Plan) -> Result<()> {
    let ui = &session.ui;
    let package = upload::package(session, app, path).await?;
    if !plan.start {
        if app.is_started() {
            ui.flavor("Stopping app {}...", &[&app.name]);
            start::action(session, app, "stop").await?;
        }
        ui.blank();
        return summary::show(session, &app.guid, true).await;
    }
    ui.blank();
    let droplet = start::stage(session, app, &package.guid).await?;
    match plan.strategy {
        Strategy::Rolling { max_in_flight } if app.is_started() => {
            ui.blank();
            ui.flavor("Starting deployment for app {}...", &[&app.name]);
            start::roll(session, app, Some(&droplet), max_in_flight, !plan.wait).await?;
        }
        _ => {
            start::set_droplet(session, app, &droplet).await?;
            start::action(session, app, "restart").await?;
            ui.blank();
            ui.flavor("Waiting for app {} to start...", &[&app.name]);
            ui.blank();
            start::wait_until_running(session, app, !plan.wait).await?;
        }
    }
    ui.blank();
    summary::show(session, &app.guid, true).await?;
    if plan.wait {
        propagation::show_app(session, &app.guid).await;
    }
    Ok(())
}

/// Creates a package of the app, whose bits will be uploaded.
async fn new_package(session: &Session, app: &App) -> Result<Guid> {
    session
        .post(
            "/v3/packages",
            &json!({"type": "bits", "relationships": {"app": {"data": {"guid": app.guid}}}}),
        )
        .await
}

/// Returns whether a progress bar may be redrawn.
fn is_animated(ui: &ui::Ui) -> bool {
    ui.terminal
}
