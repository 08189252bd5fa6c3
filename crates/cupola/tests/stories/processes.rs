//! Stories of one foundation of several `cupola serve` processes: processes start, stop and are killed, and the rest is not
//! affected.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::process::Command;
use testkit::foundation::{Foundation, binary, both, sh, wait_for};

/// The stories of one process that must also pass with several.
pub(crate) const ALSO_HERE: &[&str] = &[
    "story_01", "story_04", "story_07", "story_09", "story_11", "story_13", "story_15",
];

pub(crate) const STORIES: &[Story] = &[
    story("processes_a_role_runs_once", a_role_runs_once),
    story(
        "processes_cell_restart_keeps_containers",
        cell_restart_keeps_containers,
    ),
    story("processes_router_and_nats_restart", router_and_nats_restart),
    story("processes_control_plane_restart", control_plane_restart),
    story("processes_ssh_proxy_restart", ssh_proxy_restart),
];

/// The stories that run after all others. They leave nothing running on the cell.
pub(crate) const LAST: &[Story] = &[story(
    "processes_an_evacuated_cell_ends_well",
    evacuated_cell_ends,
)];

fn a_role_runs_once(f: &mut Foundation) -> Result<()> {
    let data = f.data.to_string_lossy().into_owned();
    for (args, role) in [(&["up"][..], "nats"), (&["serve", "--roles", "dns"], "dns")] {
        let output = Command::new(binary())
            .args(args)
            .args(["--data", &data])
            .output()?;
        let text = both(&output);
        ensure!(
            output.status.code() == Some(1)
                && text.contains(&format!("{data} is in use"))
                && text.contains(&format!("role {role};")),
            "{args:?}: {text}"
        );
    }
    Ok(())
}

/// Kills the ssh-proxy. The next one has the same host key, which the client checks.
fn ssh_proxy_restart(f: &mut Foundation) -> Result<()> {
    let session = |f: &Foundation| -> Result<()> {
        let output = f.cf(&["ssh", "appA", "-c", "echo here"])?;
        ensure!(
            output.status.success() && output.stdout == b"here\n",
            "{}",
            both(&output)
        );
        Ok(())
    };
    session(f)?;
    f.end("ssh-proxy", Signal::SIGKILL)?;
    f.serve("ssh-proxy")?;
    wait_for(
        "a session through the new proxy",
        30,
        || Ok(session(f).ok()),
    )
}

fn same_instance(f: &Foundation, guid: &str) -> Result<()> {
    let answer = f.get(&f.host("appa"), "/id")?;
    ensure!(
        answer.status == 200 && answer.body.contains(guid),
        "instance {guid} does not answer: {} {}",
        answer.status,
        answer.body
    );
    Ok(())
}

fn cell_restart_keeps_containers(f: &mut Foundation) -> Result<()> {
    // An earlier story may have caused the endpoint to be pruned.
    wait_for("appA's route", 30, || {
        Ok((f.get(&f.host("appa"), "/")?.status == 200).then_some(()))
    })?;
    let app = f.guid("appA")?;
    let guid = f.instances(&app)?[0]["instance_guid"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let status = f.end("cell,dns", signal)?;
        ensure!(
            status.success() == (signal == Signal::SIGTERM),
            "the cell ended with {status}"
        );
        for _ in 0..10 {
            same_instance(f, &guid)?;
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        f.serve("cell,dns")?;
        wait_for("the names are known again", 30, || {
            Ok(sh("cat /etc/hosts")?.contains(&f.host("api")).then_some(()))
        })?;
        // The new process works: a route that is mapped now needs its emitter.
        let host = if signal == Signal::SIGTERM {
            "after-term"
        } else {
            "after-kill"
        };
        f.cf_ok(&["map-route", "appA", &f.domain, "--hostname", host])?;
        wait_for("the new route", 30, || {
            Ok((f.get(&f.host(host), "/")?.status == 200).then_some(()))
        })?;
        same_instance(f, &guid)?;
        let instances = f.instances(&app)?;
        ensure!(
            instances.len() == 1 && instances[0]["instance_guid"] == guid.as_str(),
            "{instances:?}"
        );
        f.exec(
            "appA/0",
            &[
                "curl",
                "-sS",
                "--max-time",
                "20",
                &format!("http://{}:{}/id", f.host("appb"), f.plan["http_port"]),
            ],
        )?;
    }
    Ok(())
}

fn router_and_nats_restart(f: &mut Foundation) -> Result<()> {
    for (roles, signal) in [
        ("router", Signal::SIGTERM),
        ("router", Signal::SIGKILL),
        ("nats", Signal::SIGTERM),
        ("nats", Signal::SIGKILL),
    ] {
        f.end(roles, signal)?;
        f.serve(roles)?;
        wait_for("the route works again", 20, || {
            Ok((f.get(&f.host("appa"), "/")?.status == 200).then_some(()))
        })
        .with_context(|| format!("{roles} after {signal}:\n{}", f.log()))?;
    }
    let host = f.host("after-nats");
    wait_for("the API answers", 20, || {
        Ok(f.cf(&["apps"])?.status.success().then_some(()))
    })?;
    f.cf_ok(&["map-route", "appA", &f.domain, "--hostname", "after-nats"])?;
    wait_for("a new route", 20, || {
        Ok((f.get(&host, "/")?.status == 200).then_some(()))
    })
}

fn control_plane_restart(f: &mut Foundation) -> Result<()> {
    for roles in ["bbs,auctioneer", "uaa,log-cache,cloud-controller"] {
        f.end(roles, Signal::SIGKILL)?;
        ensure!(
            f.get(&f.host("appa"), "/")?.status == 200,
            "appA does not answer without {roles}"
        );
        f.serve(roles)?;
    }
    wait_for("the API answers", 20, || {
        Ok(f.cf(&["apps"])?.status.success().then_some(()))
    })?;
    f.cf_ok(&["restart", "appB"])?;
    ensure!(
        f.get(&f.host("appb"), "/")?.status == 200,
        "appB does not answer after its restart"
    );
    Ok(())
}

fn evacuated_cell_ends(f: &mut Foundation) -> Result<()> {
    let apps = f.cf_curl("/v3/apps?per_page=5000")?;
    for app in apps["resources"].as_array().into_iter().flatten() {
        let name = app["name"].as_str().unwrap_or_default();
        f.cf_ok(&["stop", name])?;
    }
    wait_for("an empty cell", 60, || {
        Ok(f.cfdot(&["actual-lrps"])?.is_empty().then_some(()))
    })?;
    // The name server never ends by itself.
    f.end("cell,dns", Signal::SIGTERM)?;
    f.serve("cell")?;
    f.serve("dns")?;
    wait_for("the cell to be present", 60, || {
        let cells = f.cfdot(&["cells"])?;
        Ok((cells.len() == 1).then_some(()))
    })?;
    let data = f.data.to_string_lossy().into_owned();
    let output = Command::new(binary())
        .args(["evacuate", "--data", &data])
        .output()?;
    let text = both(&output);
    ensure!(
        output.status.success() && text.contains("evacuates its instances"),
        "{text}"
    );
    let status = f.ended("cell", 60)?;
    ensure!(status.code() == Some(0), "the cell ended with {status}");
    wait_for("the cell's presence to end", 40, || {
        Ok(f.cfdot(&["cells"])?.is_empty().then_some(()))
    })
}
