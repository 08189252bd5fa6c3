//! Stories of starts that fail half way or are stopped, and of parts that are killed at a bad moment: nothing is left behind, and
//! the message states what to do.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::foundation::{Foundation, Machine, binary, both, end, example, sh, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story("robust_stopped_during_boot", stopped_during_boot),
    story("robust_ctrl_c_twice", ctrl_c_twice),
    story("robust_boot_fails_half_way", boot_fails),
    story("robust_disk_full", disk_full),
    story("robust_shim_killed", shim_killed),
    story("robust_a_role_fails_alone", role_fails_alone),
    story("robust_killed_during_a_push", killed_during_push),
];

fn command(data: &Path) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["up", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"])
        .args(["--domain", "robust.cupola.test", "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn wait_for_words(child: &mut Child, words: &str) -> Result<()> {
    use std::io::{BufRead as _, BufReader};
    let stdout = child
        .stdout
        .take()
        .context("the child has no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let found = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|l| l.contains(words));
    ensure!(found, "{words:?} was never logged");
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Ok(())
}

fn stopped_during_boot(f: &mut Foundation) -> Result<()> {
    let data = f.folder().join("stopped");
    let before = Machine::look();
    for pause in [20, 150, 400, 900, 1500] {
        let mut child = command(&data).spawn()?;
        std::thread::sleep(Duration::from_millis(pause));
        end(&mut child, Signal::SIGTERM)?;
        before
            .same_as_now(&data)
            .with_context(|| format!("stopped after {pause} ms"))?;
    }
    Ok(())
}

fn ctrl_c_twice(f: &mut Foundation) -> Result<()> {
    let data = f.folder().join("stopped");
    let before = Machine::look();
    let mut child = command(&data).spawn()?;
    wait_for_words(&mut child, "API endpoint:")?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    nix::sys::signal::kill(pid, Signal::SIGINT)?;
    end(&mut child, Signal::SIGINT)?;
    let mut child = command(&data).spawn()?;
    wait_for_words(&mut child, "API endpoint:")?;
    ensure!(
        end(&mut child, Signal::SIGINT)?.success(),
        "the next up does not stop well"
    );
    before.same_as_now(&data)
}

fn fails(mut command: Command, parts: &[&str]) -> Result<()> {
    let output = command.output()?;
    let text = both(&output);
    ensure!(
        output.status.code() == Some(1),
        "ended with {}: {text}",
        output.status
    );
    for part in parts {
        ensure!(text.contains(part), "{part:?} is missing in: {text}");
    }
    Ok(())
}

fn boot_fails(f: &mut Foundation) -> Result<()> {
    let data = f.folder().join("stopped");
    let config = f.folder().join("robust.yml");
    let configured = |text: &str, data: &Path| -> Result<Command> {
        std::fs::write(&config, text)?;
        let mut command = command(data);
        command.arg("--config").arg(&config);
        Ok(command)
    };
    let before = Machine::look();
    // The message bus' port comes from the plan of the last start.
    let plan: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(data.join("foundation.json"))?)?;
    for (role, reason) in [
        ("nats", "nats-server"),
        ("rep", ""),
        ("uaa", ""),
        ("router_status", ""),
    ] {
        let port = plan["ports"][role].to_string();
        let taken = std::net::TcpListener::bind(format!("127.0.0.1:{port}"))?;
        fails(command(&data), &[&format!("127.0.0.1:{port}"), reason])?;
        drop(taken);
        before
            .same_as_now(&data)
            .with_context(|| format!("port of {role} taken"))?;
    }
    // This is the port of the name server.
    let mut server = Command::new("python3")
        .args(["-c", "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(0, 15, 1); s.bind(('10.253.253.1', 53)); print('bound', flush=True); input()"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    wait_for_words(&mut server, "bound")?;
    let outcome = fails(
        configured("cell: {ip: 10.253.253.1}\n", &f.folder().join("named"))?,
        &["10.253.253.1:53", "cell.ip"],
    );
    server.kill()?;
    server.wait()?;
    outcome?;
    before
        .same_as_now(&f.folder().join("named"))
        .context("port 53 taken")?;
    let broken = f.folder().join("broken.tar");
    std::fs::write(&broken, "this is no archive")?;
    fails(
        configured(
            &format!("cell: {{stacks: {{cflinuxfs4: {}}}}}\n", broken.display()),
            &f.folder().join("broken"),
        )?,
        &["broken.tar", "unpack"],
    )?;
    before
        .same_as_now(&f.folder().join("broken"))
        .context("broken stack")
}

fn disk_full(f: &mut Foundation) -> Result<()> {
    let data = f.folder().join("small");
    std::fs::create_dir_all(&data)?;
    let place = data.display();
    let before = Machine::look();
    sh(&format!("mount -t tmpfs -o size=8m none {place}"))?;
    let outcome = fails(command(&data), &["No space left"]);
    sh(&format!("umount {place}"))?;
    outcome?;
    before.same_as_now(&data)
}

fn shim_killed(f: &mut Foundation) -> Result<()> {
    let guid = f.instances(&f.guid("appA")?)?[0]["instance_guid"].clone();
    let shim = sh(&format!(
        "pgrep -f '^[^ ]*inside shim .*{}' | head -1",
        guid.as_str().unwrap_or_default()
    ))?;
    sh(&format!("kill -9 {}", shim.trim()))?;
    wait_for("another instance of appA", 30, || {
        let now = f.instances(&f.guid("appA")?)?;
        Ok((now.len() == 1 && now[0]["instance_guid"] != guid).then_some(()))
    })?;
    wait_for("appA's route", 20, || {
        Ok((f.get(&f.host("appa"), "/")?.status == 200).then_some(()))
    })
}

/// Tests a message bus that cannot be started for a while: its program is broken, and the running server is killed. Only this
/// role fails, repeatedly. The others serve, and everything works when the program is whole again.
fn role_fails_alone(f: &mut Foundation) -> Result<()> {
    let cupola = f.child.as_ref().context("cupola up does not run")?.id();
    let program = f.programs().join("nats-server");
    let kept = f.programs().join("kept");
    std::fs::rename(&program, &kept)?;
    sh(&format!(
        "printf 'broken' > {0} && chmod 755 {0}",
        program.display()
    ))?;
    let before = f.log().len();
    f.kill_nats_server()?;
    let outcome = (|| {
        wait_for("the role to fail more than once", 60, || {
            answers(f)?;
            let log = f.log();
            let failures = log[before..]
                .lines()
                .filter(|line| line.contains("role-failed") && line.contains("nats"))
                .count();
            Ok((failures > 1).then_some(()))
        })?;
        answers(f)
    })();
    std::fs::rename(&kept, &program)?;
    outcome?;
    let others: Vec<String> = f.log()[before..]
        .lines()
        .filter(|line| line.contains("role-failed") && !line.contains("nats"))
        .map(str::to_owned)
        .collect();
    ensure!(others.is_empty(), "other roles failed, too: {others:?}");
    let host = f.host("after-the-role");
    wait_for("the API to map a route", 30, || {
        let args = [
            "map-route",
            "appA",
            &f.domain,
            "--hostname",
            "after-the-role",
        ];
        Ok(f.cf(&args)?.status.success().then_some(()))
    })?;
    wait_for("a new route, which goes over the bus", 40, || {
        Ok((f.get(&host, "/")?.status == 200).then_some(()))
    })?;
    let now = f.child.as_mut().context("cupola up does not run")?;
    ensure!(
        now.id() == cupola && now.try_wait()?.is_none(),
        "cupola did not go on"
    );
    Ok(())
}

fn answers(f: &Foundation) -> Result<()> {
    for (host, path) in [("appa", "/"), ("api", "/v3/info"), ("login", "/login")] {
        let status = f.get(&f.host(host), path)?.status;
        ensure!(status == 200, "{host} answers {status} while a role fails");
    }
    Ok(())
}

/// The moment at which the whole cupola is killed during a push.
#[derive(Clone, Copy)]
enum Moment {
    Milliseconds(u64),
    /// The time after the first folder of a new container appears, which is while the container is made.
    AfterFolder(Duration),
}

fn killed_during_push(f: &mut Foundation) -> Result<()> {
    let folder = |ms| Moment::AfterFolder(Duration::from_millis(ms));
    let moments = [
        Moment::Milliseconds(300),
        Moment::Milliseconds(800),
        Moment::Milliseconds(1300),
        folder(0),
        folder(3),
        folder(30),
        folder(100),
    ];
    for moment in moments {
        push_and_kill(f, moment)?;
        f.up()?;
        f.cf_ok(&["delete", "halfway", "-f", "-r"])?;
    }
    let folders = f.data.join("garden/containers");
    wait_for("containers to be those of the actual LRPs", 40, || {
        let lrps = f.cfdot(&["actual-lrps"])?.len();
        let containers = std::fs::read_dir(&folders)?.count();
        // The brackets exclude this command line itself.
        let shims = sh(&format!(
            "pgrep -fc '[i]nside shim {}' || true",
            folders.display()
        ))?;
        ensure!(
            lrps == containers && shims.trim() == containers.to_string(),
            "{lrps} actual LRPs, {containers} containers, {} shims",
            shims.trim()
        );
        Ok(Some(()))
    })
}

fn push_and_kill(f: &mut Foundation, moment: Moment) -> Result<()> {
    let folders = f.data.join("garden/containers");
    let before = std::fs::read_dir(&folders)?.count();
    let mut push = Command::new(binary())
        .args(["cf", "push", "halfway", "-p", &example("proxy/bin")])
        .args(["-b", "binary_buildpack", "-c", "./proxy"])
        .args(["-m", "64M", "-k", "128M"])
        .env("CF_HOME", f.folder().join("home"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    match moment {
        Moment::Milliseconds(pause) => std::thread::sleep(Duration::from_millis(pause)),
        Moment::AfterFolder(pause) => {
            let deadline = Instant::now() + Duration::from_secs(20);
            while std::fs::read_dir(&folders)?.count() == before && Instant::now() < deadline {
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(pause);
        }
    }
    f.kill()?;
    push.wait()?;
    Ok(())
}
