//! Commands that show, rename, scale and delete apps.

use crate::api::types::{App, Process, Route};
use crate::args::{Parsed, Spec, Usage, switch, value};
use crate::session::{Session, Target};
use crate::{start, summary, units};
use anyhow::{Result, bail};
use serde_json::json;
use std::collections::BTreeMap;

const GROUP: &str = "Apps";

/// The flags of `scale` that change something.
const SIZES: &[&str] = &["instances", "disk", "memory"];

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "apps",
        alias: "a",
        group: GROUP,
        about: "List all apps in the target space",
        args: &[],
        flags: &[],
        examples: &["cf apps"],
    },
    Spec {
        name: "app",
        alias: "",
        group: GROUP,
        about: "Display health and status for an app",
        args: &["APP_NAME"],
        flags: &[switch(None, "guid", "Print the app's guid only")],
        examples: &["cf app my-app", "cf app my-app --guid"],
    },
    Spec {
        name: "scale",
        alias: "",
        group: GROUP,
        about: "Change or view the instance count, disk space limit, and memory limit of an app",
        args: &["APP_NAME"],
        flags: &[
            value(Some('i'), "instances", "N", "Number of instances"),
            value(
                Some('k'),
                "disk",
                "DISK",
                "Disk limit (256M, 1G); restarts the app",
            ),
            value(
                Some('m'),
                "memory",
                "MEMORY",
                "Memory limit (64M, 1G); restarts the app",
            ),
            value(None, "process", "TYPE", "Process to scale (default: web)").needs(SIZES),
            switch(Some('f'), "force", "Restart without asking").needs(SIZES),
        ],
        examples: &["cf scale my-app -i 3", "cf scale my-app -m 128M -f"],
    },
    Spec {
        name: "rename",
        alias: "",
        group: GROUP,
        about: "Rename an app",
        args: &["APP_NAME", "NEW_APP_NAME"],
        flags: &[],
        examples: &["cf rename my-app new-name"],
    },
    Spec {
        name: "delete",
        alias: "d",
        group: GROUP,
        about: "Delete an app",
        args: &["APP_NAME"],
        flags: &[
            switch(Some('f'), "force", "Delete without asking"),
            switch(
                Some('r'),
                "routes",
                "Also delete the routes that lead to this app only",
            ),
        ],
        examples: &["cf delete my-app -f -r"],
    },
];

/// Prints `<doing> app <name> in org … / space … as …...`.
pub(super) fn announce(s: &Session, doing: &str, name: &str, target: &Target) {
    s.ui.flavor(
        &format!("{doing} app {{}} in org {{}} / space {{}} as {{}}..."),
        &[name, &target.org.name, &target.space.name, &target.user],
    );
}

pub(super) async fn app(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    if p.has("guid") {
        s.ui.line(&app.guid);
        return Ok(());
    }
    s.ui.flavor(
        "Showing health and status for app {} in org {} / space {} as {}...",
        &[
            &app.name,
            &target.org.name,
            &target.space.name,
            &target.user,
        ],
    );
    s.ui.blank();
    summary::show(s, &app.guid, false).await
}

pub(super) async fn apps(s: &Session) -> Result<()> {
    let target = s.require_space()?;
    s.ui.flavor(
        "Getting apps in org {} / space {} as {}...",
        &[&target.org.name, &target.space.name, &target.user],
    );
    s.ui.blank();
    let space = target.space.guid.as_str();
    let in_space = [
        ("space_guids", space),
        ("order_by", "name"),
        ("per_page", "5000"),
    ];
    let embeds = has_embedded_instances(&s.config().api_version);
    let mut of_processes = vec![("space_guids", space), ("per_page", "5000")];
    of_processes.extend(embeds.then_some(("embed", "process_instances")));
    let (apps, processes) = tokio::try_join!(
        s.list::<App>("/v3/apps", &in_space),
        s.list::<Process>("/v3/processes", &of_processes)
    )?;
    if apps.is_empty() {
        s.ui.line("No apps found");
        return Ok(());
    }
    let mut counts: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for process in processes {
        let running = if embeds {
            process
                .process_instances
                .iter()
                .filter(|i| i.state == "RUNNING")
                .count()
        } else {
            start::stats(s, &process)
                .await?
                .iter()
                .filter(|i| i.state == "RUNNING")
                .count()
        };
        counts
            .entry(process.relationships.app.guid().to_owned())
            .or_default()
            .push((process.kind, format!("{running}/{}", process.instances)));
    }
    let urls = urls_by_app(s, &apps).await?;
    let row = |app: &App| {
        let mut processes = counts.remove(&app.guid).unwrap_or_default();
        processes.sort_by_key(|(kind, _)| (kind != "web", kind.clone()));
        let processes = processes
            .iter()
            .map(|(kind, count)| format!("{kind}:{count}"))
            .collect::<Vec<_>>()
            .join(", ");
        vec![
            app.name.clone(),
            app.state.to_ascii_lowercase(),
            processes,
            urls.get(&app.guid)
                .map(|u| u.join(", "))
                .unwrap_or_default(),
        ]
    };
    let rows = apps.iter().map(row).collect();
    s.ui.table(
        "",
        &["name", "requested state", "processes", "routes"],
        rows,
    );
    Ok(())
}

/// Returns whether one call lists all processes with the states of their instances, which the API has since version 3.211.
fn has_embedded_instances(version: &str) -> bool {
    let mut numbers = version
        .split(['.', '+', '-'])
        .map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (3, 211)
}

async fn urls_by_app(s: &Session, apps: &[App]) -> Result<BTreeMap<String, Vec<String>>> {
    let mut urls: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for batch in apps.chunks(200) {
        let guids = batch
            .iter()
            .map(|a| a.guid.as_str())
            .collect::<Vec<_>>()
            .join(",");
        let routes: Vec<Route> = s
            .list("/v3/routes", &[("app_guids", &guids), ("per_page", "5000")])
            .await?;
        for route in routes {
            let mut mapped: Vec<_> = route
                .destinations
                .iter()
                .filter_map(|d| d.app.guid.clone())
                .collect();
            mapped.sort();
            mapped.dedup();
            for app in mapped {
                urls.entry(app).or_default().push(route.url.clone());
            }
        }
    }
    Ok(urls)
}

pub(super) async fn rename(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    s.ui.flavor(
        "Renaming app {} to {} in org {} / space {} as {}...",
        &[
            p.arg(0),
            p.arg(1),
            &target.org.name,
            &target.space.name,
            &target.user,
        ],
    );
    let app = s.app(p.arg(0), &target).await?;
    let _: App = s
        .patch(
            &format!("/v3/apps/{}", app.guid),
            &json!({"name": p.arg(1)}),
        )
        .await?;
    s.ui.ok();
    Ok(())
}

pub(super) async fn delete(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    if !p.has("force")
        && !s
            .ui
            .confirm(&format!("Really delete the app {}?", s.ui.named(name)))?
    {
        s.ui.line(format!("App '{name}' has not been deleted."));
        return p.end_early();
    }
    announce(s, "Deleting", name, &target);
    let Some(app) = s.find_app(name, &target.space.guid).await? else {
        s.ui.warn(format!("App '{name}' does not exist."));
        s.ui.ok();
        return p.end_early();
    };
    let routes: Vec<Route> = if p.has("routes") {
        s.list(&format!("/v3/apps/{}/routes", app.guid), &[])
            .await?
    } else {
        vec![]
    };
    let leads_elsewhere = |route: &&Route| {
        route
            .destinations
            .iter()
            .any(|d| d.app.guid.as_deref().is_some_and(|g| g != app.guid))
    };
    if let Some(shared) = routes.iter().find(leads_elsewhere) {
        bail!(
            "App '{name}' was not deleted because route '{}' is mapped to more than one app.\nTIP: Use 'cf unmap-route' or 'cf delete {name}' without -r.",
            shared.url
        );
    }
    s.delete(&format!("/v3/apps/{}", app.guid)).await?;
    for route in routes {
        super::routes::delete_if_there(s, &route.guid).await?;
    }
    s.ui.ok();
    Ok(())
}

pub(super) async fn scale(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let instances = p.number::<u32>(spec, "instances")?;
    let (memory, disk) = (quantity(p, "memory")?, quantity(p, "disk")?);
    let is_forced = p.has("force");
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    let (restarts, changes) = (
        memory.is_some() || disk.is_some(),
        instances.is_some() || memory.is_some() || disk.is_some(),
    );
    if changes {
        announce(s, "Scaling", &app.name, &target);
        s.ui.blank();
        if restarts && app.is_started() && !is_forced {
            s.ui.line("This will cause the app to restart.");
            if !s.ui.confirm(&format!(
                "Are you sure you want to scale {}?",
                s.ui.named(&app.name)
            ))? {
                s.ui.line("Scaling cancelled");
                return p.end_early();
            }
            s.ui.blank();
        }
        let mut body = serde_json::Map::new();
        let wanted = [
            ("instances", instances.map(u64::from)),
            ("memory_in_mb", memory),
            ("disk_in_mb", disk),
        ];
        body.extend(
            wanted
                .into_iter()
                .filter_map(|(key, n)| Some((key.to_owned(), n?.into()))),
        );
        let process = p.get("process").unwrap_or("web");
        let _: Process = s
            .post(
                &format!("/v3/apps/{}/processes/{process}/actions/scale", app.guid),
                &body,
            )
            .await?;
        if restarts && app.is_started() {
            s.ui.line("Stopping app...");
            start::action(s, &app, "stop").await?;
            s.ui.blank();
            super::lifecycle::start_and_wait(s, &app, false).await?;
            s.ui.blank();
        }
    }
    s.ui.flavor(
        "Showing current scale of app {} in org {} / space {} as {}...",
        &[
            &app.name,
            &target.org.name,
            &target.space.name,
            &target.user,
        ],
    );
    s.ui.blank();
    summary::show(s, &app.guid, false).await
}

fn quantity(p: &Parsed, flag: &str) -> Result<Option<u64>> {
    match p.get(flag).map(|text| (text, units::megabytes(text))) {
        Some((text, None)) => {
            bail!(Usage(format!(
                "invalid argument for flag `--{flag}' ({text:?}): {}",
                units::QUANTITY
            )))
        }
        Some((_, quantity)) => Ok(quantity),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(
            [
                "3.211.0",
                "3.228.0",
                "4.0.0",
                "3.99.0",
                "3.117.0+cf-k8s",
                ""
            ]
            .map(has_embedded_instances),
            [true, true, true, false, false, false]
        );
    }
}
