//! Stories of what an app sees and may do inside its container, and of what an operator sees from outside.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use testkit::foundation::{Foundation, binary, both, example, sh, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story("cell_names_lead_to_the_router", names),
    story("cell_walls_between_apps_and_the_host", walls),
    story("cell_apps_have_no_privileges", no_privileges),
    story("cell_limits_hold", limits),
    story("cell_sidecars_live_and_die_with_the_app", sidecars),
    story("cell_hosts_file_knows_the_routes", hosts_file),
    story(
        "cell_websocket_and_late_apps_by_health_check",
        health_checks,
    ),
    story("cell_exec_tells_what_is_wrong", exec),
    story("cell_routes_command", routes),
    story("cell_two_demos_beside_a_foundation", demos),
];

fn names(f: &mut Foundation) -> Result<()> {
    let https = f.plan["https_port"].to_string();
    let info = f.exec(
        "appA/0",
        &[
            "curl",
            "-sSk",
            "--max-time",
            "20",
            &format!("https://api.{}:{https}/v3/info", f.domain),
        ],
    )?;
    ensure!(info.contains("\"links\""), "{info}");
    let http = f.plan["http_port"].to_string();
    let b = format!("{}:{http}", f.host("appb"));
    let answer = f.exec(
        "appA/0",
        &["curl", "-sS", "--max-time", "20", &format!("http://{b}/id")],
    )?;
    ensure!(answer.contains("appB"), "{answer}");
    // The app itself requests it. If an earlier story pruned its endpoint, the endpoint returns with the next registration.
    wait_for("appA's route", 30, || {
        Ok((f.get(&f.host("appa"), "/")?.status == 200).then_some(()))
    })?;
    let answer = f.get(&f.host("appa"), &format!("/proxy/{b}/id"))?;
    ensure!(answer.body.contains("appB"), "{}", answer.body);
    for name in ["no-such-name.invalid", "no-such-name"] {
        let began = Instant::now();
        let code = f.exec(
            "appA/0",
            &["bash", "-c", &format!("curl -sS http://{name}/; echo $?")],
        )?;
        ensure!(code.trim().ends_with('6'), "{name}: {code}");
        ensure!(
            began.elapsed() < Duration::from_secs(15),
            "an unknown name took {:?}",
            began.elapsed()
        );
    }
    Ok(())
}

fn walls(f: &mut Foundation) -> Result<()> {
    let listener = std::net::TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    let b = f.instances(&f.guid("appB")?)?.remove(0);
    let overlay = b["instance_address"].as_str().context("no overlay IP")?;
    let mapped = &b["ports"][0]["host_tls_proxy_port"];
    let gateway = sh("ip -4 -o addr show scope global | awk '{print $4}' | cut -d/ -f1 | head -1")?;
    for target in [
        format!("{}:{port}", f.cell_ip()),
        format!("{}:{port}", gateway.trim()),
        format!("{}:{}", f.cell_ip(), f.port("bbs")),
        format!("169.254.0.1:{port}"),
        format!("{overlay}:8080"),
        format!("{overlay}:61001"),
        format!("{}:{mapped}", f.cell_ip()),
        format!("{}:{mapped}", gateway.trim()),
    ] {
        let code = f.exec(
            "appA/0",
            &[
                "bash",
                "-c",
                &format!("curl -sk --max-time 3 http://{target}/ >/dev/null; echo $?"),
            ],
        )?;
        ensure!(
            ["7", "28"].contains(&code.trim()),
            "appA reaches {target}: curl reports {code}"
        );
    }
    Ok(())
}

fn no_privileges(f: &mut Foundation) -> Result<()> {
    for look in [
        "cat /proc/self/status",
        "cat $(grep -lx 'Name:[[:space:]]*proxy' /proc/[0-9]*/status | head -1)",
    ] {
        let status = f.exec("appA/0", &["bash", "-c", look])?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|l| l.strip_prefix(name))
                .unwrap_or("missing")
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        for (name, wanted) in [
            ("CapEff:", "0000000000000000"),
            ("CapPrm:", "0000000000000000"),
            ("CapBnd:", "0000000000000000"),
            ("NoNewPrivs:", "1"),
            ("Seccomp:", "2"),
            ("Uid:", "2000"),
        ] {
            ensure!(field(name) == wanted, "{name} {} in\n{status}", field(name));
        }
    }
    ensure!(f.exec("appA/0", &["whoami"])?.trim() == "vcap", "not vcap");
    for forbidden in [
        "mount -t tmpfs none /mnt",
        "unshare -Ur true",
        "touch /etc/x",
        "ls /proc/1/root/",
        "dmesg",
    ] {
        let text = f.exec(
            "appA/0",
            &[
                "bash",
                "-c",
                &format!("{forbidden} >/dev/null 2>&1 && echo allowed || echo refused"),
            ],
        )?;
        ensure!(text.trim() == "refused", "{forbidden} is allowed");
    }
    Ok(())
}

fn limits(f: &mut Foundation) -> Result<()> {
    f.cf_ok(&[
        "push",
        "limits",
        "-p",
        &example("python"),
        "-m",
        // The threads need room, because kernel memory counts too.
        "256M",
        "-k",
        "128M",
    ])?;
    let disk = f.exec(
        "limits/0",
        &[
            "bash",
            "-c",
            "dd if=/dev/zero of=fill bs=1M count=400 2>&1; stat -c %s fill; rm -f fill",
        ],
    )?;
    ensure!(
        disk.contains("No space left") || disk.contains("quota"),
        "400 MB fit into 128 MB: {disk}"
    );
    let threads = f.exec(
        "limits/0",
        &[
            "python3",
            "-c",
            "import threading, time\nthreading.stack_size(32768)\ntry:\n    for n in range(5000): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n    print('allowed')\nexcept RuntimeError: print('refused', n)",
        ],
    )?;
    ensure!(threads.contains("refused"), "5000 threads are {threads}");
    let output = exec_output(
        f,
        &[
            "limits/0",
            "--",
            "python3",
            "-c",
            "bytearray(300 << 20); print('fits')",
        ],
    )?;
    ensure!(
        !both(&output).contains("fits") && !output.status.success(),
        "300 MB fit into 256 MB: {}",
        both(&output)
    );
    f.cf_ok(&["delete", "limits", "-f", "-r"]).map(drop)
}

fn hosts_file(f: &mut Foundation) -> Result<()> {
    let host = f.host("in-hosts");
    f.cf_ok(&["map-route", "appA", &f.domain, "--hostname", "in-hosts"])?;
    wait_for("the route in /etc/hosts", 20, || {
        let text = sh("cat /etc/hosts")?;
        Ok((text.contains(&format!(" {host}\n")) && text.contains(&f.host("api"))).then_some(()))
    })?;
    sh(&format!(
        "curl -sS --max-time 20 http://{host}:{}/",
        f.plan["http_port"]
    ))?;
    f.cf_ok(&["delete-route", &f.domain, "--hostname", "in-hosts", "-f"])?;
    wait_for("the route leaves /etc/hosts", 20, || {
        Ok((!sh("cat /etc/hosts")?.contains(&host)).then_some(()))
    })
}

fn health_checks(f: &mut Foundation) -> Result<()> {
    let folder = f.folder().join("websocket");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("app.py"), include_str!("websocket.py"))?;
    std::fs::write(folder.join("Procfile"), "web: python3 app.py\n")?;
    let folder = folder.to_string_lossy().into_owned();
    // The app answers 503 on /healthy for three seconds.
    let began = Instant::now();
    f.cf_ok(&[
        "push",
        "socket",
        "-p",
        &folder,
        "-m",
        "64M",
        "-k",
        "128M",
        "-u",
        "http",
        "--endpoint",
        "/healthy",
    ])?;
    ensure!(
        began.elapsed() > Duration::from_secs(3),
        "the route appeared before the app was healthy"
    );
    ensure!(
        f.get(&f.host("socket"), "/healthy")?.status == 200,
        "not healthy"
    );
    websocket(f, &f.host("socket"))?;
    // The app listens four seconds after its start.
    f.cf_ok(&[
        "push",
        "socket",
        "-p",
        &folder,
        "-m",
        "64M",
        "-k",
        "128M",
        "-u",
        "port",
        "-c",
        "LATE=4 python3 app.py",
    ])?;
    ensure!(
        f.get(&f.host("socket"), "/")?.status == 200,
        "the late app does not answer"
    );
    // The app never listens.
    f.cf_ok(&[
        "push",
        "socket",
        "-p",
        &folder,
        "-m",
        "64M",
        "-k",
        "128M",
        "-u",
        "process",
        "-c",
        "sleep 1000",
    ])?;
    wait_for("the instance before to be gone", 20, || {
        Ok((f.instances(&f.guid("socket")?)?.len() == 1).then_some(()))
    })?;
    f.cf_ok(&["delete", "socket", "-f", "-r"]).map(drop)
}

/// Opens a WebSocket at a host, whose app sends back what it gets.
pub(crate) fn websocket(f: &Foundation, host: &str) -> Result<()> {
    let port = f.plan["http_port"].as_u64().context("no port")?;
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "GET /chat HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        host
    )?;
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        seen.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&seen).to_ascii_lowercase();
    ensure!(
        head.starts_with("http/1.1 101") && head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    for word in ["hello", "again"] {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![0x81, 0x80 | u8::try_from(word.len())?];
        frame.extend(mask);
        frame.extend(word.bytes().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        stream.write_all(&frame)?;
        let mut echo = vec![0; word.len() + 2];
        stream.read_exact(&mut echo)?;
        ensure!(&echo[2..] == word.as_bytes(), "{echo:?}");
    }
    Ok(())
}

fn exec_output(f: &Foundation, args: &[&str]) -> Result<Output> {
    Ok(Command::new(binary())
        .args(["exec", "--data"])
        .arg(&f.data)
        .args(args)
        .stdin(Stdio::null())
        .output()?)
}

fn exec(f: &mut Foundation) -> Result<()> {
    let guid = f.instances(&f.guid("appA")?)?[0]["instance_guid"].clone();
    for (args, code, text) in [
        (&["appA", "--", "bash", "-c", "exit 7"][..], 7, ""),
        (&["appA", "--", "bash", "-c", "kill -9 $$"], 137, ""),
        (&["appA/0", "--", "true"], 0, ""),
        (&["appA", "--", "no-such-command"], 127, "no-such-command"),
        (&["appA/9", "--", "true"], 1, "no running instance 9"),
        (&["appA/x", "--", "true"], 1, "not a number"),
        (&["nobody", "--", "true"], 1, "nobody"),
        (&[guid.as_str().unwrap_or_default(), "--", "true"], 0, ""),
    ] {
        let output = exec_output(f, args)?;
        ensure!(
            output.status.code() == Some(code) && both(&output).contains(text),
            "exec {args:?} ended with {}: {}",
            output.status,
            both(&output)
        );
    }
    let piped = sh(&format!(
        "echo through | {} exec --data {} appA -- cat",
        binary().display(),
        f.data.display()
    ))?;
    ensure!(piped == "through\n", "{piped:?}");
    Ok(())
}

fn routes(f: &mut Foundation) -> Result<()> {
    let output = Command::new(binary())
        .args(["routes", "--data"])
        .arg(&f.data)
        .output()?;
    ensure!(output.status.success(), "{}", both(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        text.contains(&f.host("appa")) && text.contains(&f.host("api")),
        "{text}"
    );
    Ok(())
}

fn demos(_: &mut Foundation) -> Result<()> {
    let start = || {
        Command::new(binary())
            .arg("demo")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    for demo in [start()?, start()?] {
        let output = demo.wait_with_output()?;
        ensure!(output.status.success(), "{}", both(&output));
    }
    Ok(())
}

/// Tests that a sidecar runs in the app's container, has its own part of the memory, and ends the instance when it ends.
fn sidecars(f: &mut Foundation) -> Result<()> {
    let manifest = f.folder().join("sidecar.yml");
    let text = format!(
        "applications:\n- name: sided\n  path: {}\n  buildpacks: [binary_buildpack]\n  command: ./proxy\n  memory: 96M\n  disk_quota: 128M\n  sidecars:\n  - name: helper\n    process_types: [web]\n    command: 'echo helper is up; exec sleep 86400'\n    memory: 32M\n",
        example("proxy/bin")
    );
    std::fs::write(&manifest, text)?;
    f.cf_ok(&["push", "-f", &manifest.to_string_lossy()])?;
    let app = f.guid("sided")?;
    let shown = f.cf_ok(&["app", "sided"])?;
    ensure!(shown.contains("helper"), "{shown}");
    let guid = f.instances(&app)?[0]["instance_guid"].clone();
    let limit = |program: &str| -> Result<String> {
        let script = format!(
            "tr '\\0' '\\n' < /proc/$(pgrep -x {program} | head -1)/environ | grep ^MEMORY_LIMIT="
        );
        Ok(f.exec("sided/0", &["bash", "-c", &script])?
            .trim()
            .to_owned())
    };
    ensure!(
        (limit("proxy")?.as_str(), limit("sleep")?.as_str())
            == ("MEMORY_LIMIT=64m", "MEMORY_LIMIT=32m"),
        "{} {}",
        limit("proxy")?,
        limit("sleep")?
    );
    let logs = f.cf_ok(&["logs", "sided", "--recent"])?;
    ensure!(
        logs.contains("SIDECAR/HELPER") && logs.contains("helper is up"),
        "{logs}"
    );
    let lrps = f.cfdot(&["desired-lrps"])?;
    let lrp = lrps.iter().find(|lrp| lrp["log_guid"] == app.as_str());
    let memory = lrp.context("no desired LRP")?["memory_mb"].clone();
    ensure!(memory == 96, "the whole instance has {memory} MB");
    // When the sidecar ends, the instance ends.
    f.exec("sided/0", &["bash", "-c", "pkill -9 -x sleep; true"])?;
    wait_for("another instance", 60, || {
        let now = f.instances(&app)?;
        Ok((now.len() == 1 && now[0]["instance_guid"] != guid).then_some(()))
    })?;
    wait_for("the new instance's answer", 30, || {
        Ok((f.get(&f.host("sided"), "/id")?.status == 200).then_some(()))
    })?;
    let events = f.cf_ok(&["events", "sided"])?;
    ensure!(
        events.contains("app.crash") && events.contains("SIDECAR/HELPER"),
        "{events}"
    );
    f.cf_ok(&["delete", "sided", "-f", "-r"]).map(drop)
}
