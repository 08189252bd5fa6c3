//! The summary of an app, which `app`, `push`, `start`, `restart`, `restage` and `scale` print at their end.

use crate::api::error::ApiError;
use crate::api::types::{App, Droplet, Instance, Process, Route, Sidecar};
use crate::session::Session;
use crate::start::stats;
use crate::units;
use anyhow::Result;
use futures::future::try_join_all;
use go_values::quantity;
use time::OffsetDateTime;

struct Summary {
    app: App,
    routes: Vec<Route>,
    droplet: Option<Droplet>,
    processes: Vec<(Process, Vec<Sidecar>, Vec<Instance>)>,
}

/// Prints the app, with its start commands if `with_command`.
pub(crate) async fn show(session: &Session, app_guid: &str, with_command: bool) -> Result<()> {
    let summary = load(session, app_guid, with_command).await?;
    let ui = &session.ui;
    let isolation = summary
        .processes
        .iter()
        .flat_map(|p| &p.2)
        .find_map(|i| i.isolation_segment.clone())
        .filter(|s| !s.is_empty());
    let droplet = summary.droplet.unwrap_or_default();
    let buildpacks = droplet.buildpacks.unwrap_or_default();
    let mut rows = vec![
        ("name", summary.app.name.clone()),
        ("requested state", summary.app.state.to_ascii_lowercase()),
    ];
    rows.extend(isolation.map(|name| ("isolation segment", name)));
    rows.push((
        "routes",
        summary
            .routes
            .iter()
            .map(|r| r.url.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    ));
    rows.push((
        "last uploaded",
        if droplet.created_at.is_empty() {
            String::new()
        } else {
            units::long_date(&droplet.created_at)
        },
    ));
    if summary.app.lifecycle.kind == "docker" {
        rows.push(("docker image", droplet.image.unwrap_or_default()));
    } else {
        rows.push(("stack", droplet.stack.unwrap_or_default()));
        rows.push(("buildpacks", String::new()));
    }
    ui.key_values(&rows);
    if !buildpacks.is_empty() {
        let row = |b: crate::api::types::DropletBuildpack| {
            vec![
                b.name,
                b.version.unwrap_or_default(),
                b.detect_output.unwrap_or_default(),
                b.buildpack_name.unwrap_or_default(),
            ]
        };
        ui.table(
            "\t",
            &["name", "version", "detect output", "buildpack name"],
            buildpacks.into_iter().map(row).collect(),
        );
    }
    for (process, sidecars, instances) in &summary.processes {
        ui.blank();
        show_process(session, process, sidecars, instances, with_command);
    }
    Ok(())
}

async fn load(session: &Session, app_guid: &str, with_command: bool) -> Result<Summary> {
    let itself = format!("/v3/apps/{app_guid}");
    let (list, routes_of) = (format!("{itself}/processes"), format!("{itself}/routes"));
    let app = session.get::<App>(&itself);
    let processes = session.list::<Process>(&list, &[]);
    let routes = session.list::<Route>(&routes_of, &[]);
    let (app, mut processes, routes, droplet) =
        tokio::try_join!(app, processes, routes, current_droplet(session, app_guid))?;
    processes.sort_by_key(|p| (p.kind != "web", p.kind.clone()));
    let details = processes.into_iter().map(|process| async move {
        let of_process = format!("/v3/processes/{}/sidecars", process.guid);
        let (sidecars, instances) = tokio::try_join!(
            session.list::<Sidecar>(&of_process, &[]),
            stats(session, &process)
        )?;
        let process = if with_command {
            session
                .get(&format!("/v3/processes/{}", process.guid))
                .await?
        } else {
            process
        };
        anyhow::Ok((process, sidecars, instances))
    });
    Ok(Summary {
        app,
        routes,
        droplet,
        processes: try_join_all(details).await?,
    })
}

async fn current_droplet(session: &Session, app_guid: &str) -> Result<Option<Droplet>> {
    match session
        .get(&format!("/v3/apps/{app_guid}/droplets/current"))
        .await
    {
        Ok(droplet) => Ok(Some(droplet)),
        Err(error)
            if error
                .downcast_ref::<ApiError>()
                .is_some_and(ApiError::is_not_found) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn show_process(
    session: &Session,
    process: &Process,
    sidecars: &[Sidecar],
    instances: &[Instance],
    with_command: bool,
) {
    let running = instances.iter().filter(|i| i.state == "RUNNING").count();
    let mut rows = vec![
        ("type", process.kind.clone()),
        (
            "sidecars",
            sidecars
                .iter()
                .map(|s| s.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        ),
        ("instances", format!("{running}/{}", process.instances)),
        ("memory usage", format!("{}M", process.memory_in_mb)),
    ];
    if let Some(command) = process.command.as_ref().filter(|_| with_command) {
        rows.push(("start command", command.clone()));
    }
    session.ui.key_values(&rows);
    if instances.is_empty() {
        session.ui.blank();
        session
            .ui
            .line("There are no running instances of this process.");
        return;
    }
    let now = OffsetDateTime::now_utc();
    let header = [
        "",
        "state",
        "since",
        "cpu",
        "memory",
        "disk",
        "logging",
        "cpu entitlement",
        "details",
        "ready",
    ];
    session.ui.table(
        "",
        &header,
        instances.iter().map(|i| instance_row(i, now)).collect(),
    );
}

fn instance_row(instance: &Instance, now: OffsetDateTime) -> Vec<String> {
    let usage = &instance.usage;
    let of = |used: Option<u64>, quota: Option<u64>| {
        format!(
            "{} of {}",
            quantity::show(used.unwrap_or(0)),
            quantity::show(quota.unwrap_or(0))
        )
    };
    let percent = |part: f64| format!("{:.1}%", part * 100.0);
    vec![
        format!("#{}", instance.index),
        instance.state.to_ascii_lowercase(),
        units::since(now, instance.uptime),
        percent(usage.cpu.unwrap_or(0.0)),
        of(usage.mem, instance.mem_quota),
        of(usage.disk, instance.disk_quota),
        format!(
            "{}/s of {}",
            quantity::show(usage.log_rate.unwrap_or(0)),
            units::log_rate_limit(instance.log_rate_limit.unwrap_or(-1))
        ),
        usage.cpu_entitlement.map(percent).unwrap_or_default(),
        instance.details.clone().unwrap_or_default(),
        instance.routable.map(|r| r.to_string()).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Usage;

    #[test]
    fn an_instance_row_reads_like_the_original() {
        let usage = Usage {
            cpu: Some(0.012),
            cpu_entitlement: Some(0.2),
            mem: Some(13_002_342),
            disk: Some(1 << 20),
            log_rate: Some(0),
        };
        let instance = Instance {
            index: 1,
            state: "RUNNING".into(),
            uptime: 60,
            mem_quota: Some(256 << 20),
            disk_quota: Some(1 << 30),
            log_rate_limit: Some(-1),
            routable: Some(true),
            usage,
            ..Instance::default()
        };
        let row = instance_row(&instance, time::macros::datetime!(2024-01-02 10:01:00 UTC));
        assert_eq!(
            row,
            [
                "#1",
                "running",
                "2024-01-02T10:00:00Z",
                "1.2%",
                "12.4M of 256M",
                "1M of 1G",
                "0B/s of unlimited",
                "20.0%",
                "",
                "true"
            ]
        );
    }
}
