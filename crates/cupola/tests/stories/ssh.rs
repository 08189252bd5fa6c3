//! Stories of SSH: sessions in real containers, through the ssh-proxy and the instance's Envoy, with OpenSSH's clients.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use testkit::foundation::{Foundation, both, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story("ssh_story_10_a_command_in_an_instance", command),
    story("ssh_a_shell_has_the_apps_world", shell),
    story("ssh_files_are_copied", files),
    story("ssh_a_port_is_forwarded", forwarding),
    story("ssh_rights_are_checked_at_once", rights),
    story("ssh_sessions_are_recorded", recorded),
    story("ssh_a_session_ends_with_its_instance", instance_ends),
];

const APP: &str = "ssh-app";

fn push(f: &Foundation) -> Result<String> {
    if let Ok(guid) = f.guid(APP) {
        return Ok(guid);
    }
    f.push_proxy(APP)?;
    f.guid(APP)
}

/// Runs a command in the first instance by the built-in client.
fn run(f: &Foundation, command: &str) -> Result<Output> {
    f.cf(&["ssh", APP, "-c", command])
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn command(f: &mut Foundation) -> Result<()> {
    push(f)?;
    let output = run(f, "echo out; echo err >&2; id -un; exit 7")?;
    ensure!(output.status.code() == Some(7), "{}", both(&output));
    ensure!(out(&output).starts_with("out\nvcap\n"), "{}", both(&output));
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(err.contains("err\n"), "{}", both(&output));
    Ok(())
}

fn shell(f: &mut Foundation) -> Result<()> {
    let guid = push(f)?;
    let output = run(
        f,
        "pwd; echo $HOME $PORT $CF_INSTANCE_INDEX; echo $VCAP_APPLICATION",
    )?;
    let shown = out(&output);
    ensure!(
        shown.starts_with("/home/vcap/app\n/home/vcap/app 8080 0\n") && shown.contains(&guid),
        "{}",
        both(&output)
    );
    let terminal = f.cf(&["ssh", APP, "--force-pseudo-tty", "-c", "tty; stty -a"])?;
    ensure!(out(&terminal).contains("/dev/pts/"), "{}", both(&terminal));
    // The keys of the sshd are out of reach for the app's user.
    let keys = run(
        f,
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'",
    )?;
    ensure!(!out(&keys).contains("PRIVATE KEY"), "the host key is shown");
    Ok(())
}

/// A client of OpenSSH with a new code.
fn client(f: &Foundation, program: &str) -> Result<Command> {
    let guid = push(f)?;
    let code = f.cf_ok(&["ssh-code"])?;
    let askpass = f.folder().join("askpass");
    std::fs::write(&askpass, "#!/bin/sh\nprintf '%s\\n' \"$CODE\"\n")?;
    testkit::foundation::sh(&format!("chmod 700 {}", askpass.display()))?;
    let mut client = Command::new("timeout");
    client.args(["60", program, "-F", "none"]);
    for option in [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "PreferredAuthentications=password",
        "LogLevel=ERROR",
        // The first value counts. `sftp -b` appends one with which no program is asked for the code.
        "BatchMode=no",
        &format!("User=cf:{guid}/0"),
        &format!("Port={}", f.port("ssh_proxy")),
    ] {
        client.args(["-o", option]);
    }
    client
        .env("SSH_ASKPASS", &askpass)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("CODE", code.trim())
        .stdin(Stdio::null());
    Ok(client)
}

fn files(f: &mut Foundation) -> Result<()> {
    let (there, back) = (f.folder().join("ssh-there"), f.folder().join("ssh-back"));
    std::fs::create_dir_all(&there)?;
    let content: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(there.join("data"), &content)?;
    for (from, to) in [
        (
            there.display().to_string(),
            "127.0.0.1:/tmp/copied".to_owned(),
        ),
        (
            "127.0.0.1:/tmp/copied".to_owned(),
            back.display().to_string(),
        ),
    ] {
        let output = client(f, "scp")?.args(["-r", &from, &to]).output()?;
        ensure!(output.status.success(), "{from}: {}", both(&output));
    }
    ensure!(
        std::fs::read(back.join("data"))? == content,
        "the data differ"
    );
    let mut sftp = client(f, "sftp")?
        .args(["-b", "-", "127.0.0.1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = sftp.stdin.take().context("a pipe")?;
    input.write_all(b"pwd\nls /tmp/copied\n")?;
    drop(input);
    let output = sftp.wait_with_output()?;
    let shown = out(&output);
    ensure!(
        shown.contains("/home/vcap/app") && shown.contains("/tmp/copied/data"),
        "sftp: {}: {shown}",
        output.status
    );
    Ok(())
}

fn forwarding(f: &mut Foundation) -> Result<()> {
    push(f)?;
    let port = kit::net::free_port()?;
    let forward = format!("{port}:localhost:8080");
    let mut ssh = client(f, "ssh")?
        .args(["-N", "-L", &forward, "127.0.0.1"])
        .spawn()?;
    let answer = wait_for("the forwarded port", 30, || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
            return Ok(None);
        };
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(Some(text))
    });
    ssh.kill()?;
    ssh.wait()?;
    let answer = answer?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

fn rights(f: &mut Foundation) -> Result<()> {
    push(f)?;
    f.cf_ok(&["disable-ssh", APP])?;
    let text = f.cf_ok(&["ssh-enabled", APP])?;
    ensure!(text.contains("ssh is disabled for app"), "{text}");
    let refused = run(f, "true")?;
    ensure!(
        refused.status.code() == Some(255) && both(&refused).contains("Permission denied"),
        "{}",
        both(&refused)
    );
    f.cf_ok(&["enable-ssh", APP])?;
    let output = run(f, "true")?;
    ensure!(output.status.success(), "{}", both(&output));
    let other = f.cf(&["ssh", APP, "-i", "5", "-c", "true"])?;
    ensure!(both(&other).contains("does not run"), "{}", both(&other));
    Ok(())
}

fn recorded(f: &mut Foundation) -> Result<()> {
    push(f)?;
    wait_for("the events and lines of SSH", 30, || {
        let events = f.cf_ok(&["events", APP])?;
        let logs = f.cf_ok(&["logs", APP, "--recent"])?;
        let all = ["audit.app.ssh-authorized", "audit.app.ssh-unauthorized"]
            .iter()
            .all(|kind| events.contains(kind))
            && [
                "Successful remote access by",
                "Remote access ended for",
                "[SSH/0]",
            ]
            .iter()
            .all(|line| logs.contains(line));
        Ok(all.then_some(()))
    })
}

fn instance_ends(f: &mut Foundation) -> Result<()> {
    push(f)?;
    let mut ssh = client(f, "ssh")?
        .args(["127.0.0.1", "echo begun; sleep 1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut line = [0; 6];
    ssh.stdout
        .as_mut()
        .context("a pipe")?
        .read_exact(&mut line)?;
    f.cf_ok(&["stop", APP])?;
    let ended = ssh.wait_with_output()?;
    let text = both(&ended);
    ensure!(
        ended.status.code() == Some(255) && text.contains("instance of the app has ended"),
        "{text}"
    );
    f.cf_ok(&["delete", APP, "-f"])?;
    Ok(())
}
