//! Stories of recovery: what dies is restarted, nothing that was acknowledged is lost, and nothing leaks.

use crate::peers::Nats;
use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use std::process::Command;
use testkit::foundation::{Foundation, example, sh, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story("recovery_app_killed", app_killed),
    story("recovery_envoy_killed", envoy_killed),
    story("recovery_nats_killed", nats_killed),
    story(
        "recovery_whole_cupola_killed_containers_taken_over",
        cupola_killed,
    ),
    story("recovery_second_up_brings_apps_back", second_up),
    story("recovery_a_closed_terminal_drains", closed_terminal),
    story("recovery_python_and_static_apps", other_apps),
    story("recovery_python_client_cloudfoundry_client", python_client),
    story("recovery_push_and_delete_leak_nothing", no_leaks),
];

fn works_again(f: &Foundation, host: &str) -> Result<()> {
    wait_for("the route works again", 20, || {
        Ok((f.get(host, "/")?.status == 200).then_some(()))
    })
}

/// Kills the processes of an instance whose command line matches. The instance may end before this command does; the command then
/// ends with it.
fn kill_in(f: &Foundation, app: &str, pattern: &str) -> Result<()> {
    let killed = f.exec(app, &["bash", "-c", &format!("for p in /proc/[0-9]*; do if tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q -- '{pattern}' && [ ${{p#/proc/}} != $$ ] && ! tr '\\0' ' ' < $p/cmdline | grep -q 'for p in'; then kill -9 ${{p#/proc/}}; fi; done")]);
    match killed {
        Err(error) if !error.to_string().contains("exit status: 137") => Err(error),
        _ => Ok(()),
    }
}

/// Returns appA's instance guid, once its earlier instances have ended.
fn only_instance(f: &Foundation) -> Result<serde_json::Value> {
    wait_for("one instance of appA", 20, || {
        let instances = f.instances(&f.guid("appA")?)?;
        Ok((instances.len() == 1).then(|| instances[0]["instance_guid"].clone()))
    })
}

fn app_killed(f: &mut Foundation) -> Result<()> {
    // The LRP is a new one: crashes of earlier stories would delay its restart by Diego's back-off.
    f.cf_ok(&["restart", "appA"])?;
    let before = only_instance(f)?;
    kill_in(f, "appA/0", "/proxy")?;
    wait_for("a new instance", 20, || {
        Ok(f.instances(&f.guid("appA")?)?
            .first()
            .filter(|l| l["instance_guid"] != before)
            .map(drop))
    })?;
    works_again(f, &f.host("appa"))?;
    wait_for("the crash event", 20, || {
        Ok(f.cf_ok(&["events", "appA"])?
            .contains("app.process.crash")
            .then_some(()))
    })
}

fn envoy_killed(f: &mut Foundation) -> Result<()> {
    // The LRP is a new one: crashes of earlier stories would delay its restart by Diego's back-off.
    f.cf_ok(&["restart", "appA"])?;
    let before = only_instance(f)?;
    let pid = sh(&format!(
        "for p in $(pgrep -x envoy); do if grep -q {} /proc/$p/cgroup /proc/$p/environ 2>/dev/null; then echo $p; fi; done | head -1",
        before.as_str().unwrap_or_default()
    ))?;
    ensure!(
        !pid.trim().is_empty(),
        "no Envoy process of the instance was found"
    );
    sh(&format!("kill -9 {}", pid.trim()))?;
    wait_for("a new instance", 20, || {
        Ok(f.instances(&f.guid("appA")?)?
            .first()
            .filter(|l| l["instance_guid"] != before)
            .map(drop))
    })?;
    works_again(f, &f.host("appa"))
}

fn nats_killed(f: &mut Foundation) -> Result<()> {
    f.kill_nats_server()?;
    f.cf_ok(&["map-route", "appA", &f.domain, "--hostname", "afternats"])?;
    works_again(f, &f.host("afternats"))?;
    works_again(f, &f.host("appa"))?;
    let password = f.plan["nats_password"].as_str().unwrap_or_default();
    Nats::connect(f.port("nats"), "nats", password).map(drop)
}

fn cupola_killed(f: &mut Foundation) -> Result<()> {
    let before = only_instance(f)?;
    f.cf_ok(&["create-space", "acknowledged"])?;
    f.kill()?;
    f.up()?;
    works_again(f, &f.host("appa"))?;
    let after = f.instances(&f.guid("appA")?)?;
    ensure!(
        after.len() == 1 && after[0]["instance_guid"] == before,
        "the container was not taken over: {before} became {after:?}"
    );
    ensure!(
        f.cf_ok(&["spaces"])?.contains("acknowledged"),
        "an acknowledged space was lost"
    );
    let recent = f.get(&f.host("appa"), "/id")?;
    ensure!(
        recent.body.contains(before.as_str().unwrap_or_default()),
        "{}",
        recent.body
    );
    f.exec("appA/0", &["curl", "-s", "localhost:61003/help"])
        .map(drop)
}

fn second_up(f: &mut Foundation) -> Result<()> {
    f.stop_cleanly()?;
    f.up()?;
    for app in ["appa", "appb"] {
        wait_for("the app is back", 30, || {
            Ok((f.get(&f.host(app), "/")?.status == 200).then_some(()))
        })?;
    }
    Ok(())
}

/// Tests that no signal ends `up` by accident, and that SIGHUP drains like SIGTERM.
fn closed_terminal(f: &mut Foundation) -> Result<()> {
    let pid = f.child.as_ref().context("cupola up is not running")?.id();
    sh(&format!(
        "for s in USR1 USR2 ALRM VTALRM PROF IO STKFLT XCPU XFSZ TRAP SYS PIPE WINCH URG 34 64; do kill -$s {pid} || exit 1; done"
    ))?;
    wait_for("the signals are logged", 20, || {
        Ok(f.log().contains("SIGSYS").then_some(()))
    })?;
    works_again(f, &f.host("appa"))?;
    f.stop_cleanly_by(nix::sys::signal::Signal::SIGHUP)?;
    f.up()?;
    wait_for("the app is back", 30, || {
        Ok((f.get(&f.host("appa"), "/")?.status == 200).then_some(()))
    })
}

fn other_apps(f: &mut Foundation) -> Result<()> {
    f.cf_ok(&[
        "push",
        "python",
        "-p",
        &example("python"),
        "-m",
        "128M",
        "-k",
        "256M",
    ])?;
    ensure!(
        f.get(&f.host("python"), "/")?.status == 200,
        "the python app does not answer"
    );
    f.cf_ok(&[
        "push",
        "static",
        "-p",
        &example("static"),
        "-m",
        "64M",
        "-k",
        "128M",
    ])?;
    let answer = f.get(&f.host("static"), "/")?;
    ensure!(
        answer.status == 200 && answer.head.contains("text/html"),
        "{}",
        answer.head
    );
    for app in ["python", "static"] {
        f.cf_ok(&["delete", app, "-f", "-r"])?;
        wait_for("404 after delete", 20, || {
            Ok((f.get(&f.host(app), "/")?.status == 404).then_some(()))
        })?;
    }
    Ok(())
}

fn python_client(f: &mut Foundation) -> Result<()> {
    let script = f.folder().join("client.py");
    std::fs::write(&script, include_str!("client.py"))?;
    let venv = std::env::var("CUPOLA_CACHE").unwrap_or_else(|_| "/var/cache/cupola".into());
    let output = Command::new(format!("{venv}/client-venv/bin/python"))
        .arg(&script)
        .args([&f.api(), testkit::foundation::PASSWORD, &f.domain])
        .output()
        .context("run the Python client: make setup installs it")?;
    ensure!(
        output.status.success(),
        "{}",
        testkit::foundation::both(&output)
    );
    Ok(())
}

/// A command that counts the processes of a foundation. Other work on this machine also starts and ends processes.
const OUR_PROCESSES: &str = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null; echo; done | grep -cE '^([^ ]*/)?(inside|crun|envoy|cupola|nats-server) '";

fn no_leaks(f: &mut Foundation) -> Result<()> {
    // Other programs of the machine have cgroups of their own, which come and go.
    let count = || {
        sh(&format!(
            "echo $(iptables -w -S | wc -l; iptables -w -t nat -S | wc -l; ip -o link | wc -l; wc -l < /proc/self/mountinfo; find /sys/fs/cgroup -type d -path '*cupola*' | wc -l; losetup -a | wc -l; {OUR_PROCESSES})"
        ))
    };
    let rounds: u32 = std::env::var("CUPOLA_LEAK_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(50);
    let push = |name: &str| {
        f.cf_ok(&[
            "push",
            name,
            "-p",
            &example("static"),
            "-b",
            "staticfile_buildpack",
            "-m",
            "32M",
            "-k",
            "64M",
        ])
        .map(drop)
    };
    push("leak0")?;
    f.cf_ok(&["delete", "leak0", "-f", "-r"])?;
    let steady = || -> Result<String> {
        let mut last = count()?;
        wait_for("the machine to become steady", 30, || {
            std::thread::sleep(std::time::Duration::from_millis(500));
            let now = count()?;
            let same = now
                .split_whitespace()
                .take(6)
                .eq(last.split_whitespace().take(6));
            last = now;
            Ok(same.then(|| last.clone()))
        })
    };
    let before = steady()?;
    for round in 1..=rounds {
        let name = format!("leak{round}");
        push(&name)?;
        f.cf_ok(&["delete", &name, "-f", "-r"])?;
    }
    let after = steady()?;
    let (b, a): (Vec<i64>, Vec<i64>) = (
        before.split_whitespace().flat_map(str::parse).collect(),
        after.split_whitespace().flat_map(str::parse).collect(),
    );
    ensure!(
        b[..6] == a[..6] && (a[6] - b[6]).abs() <= 5,
        "filter rules, nat rules, links, mounts, cgroups, loop devices, processes: before {before} after {rounds} rounds {after}"
    );
    Ok(())
}
