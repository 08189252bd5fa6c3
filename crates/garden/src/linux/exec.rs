//! `cupola exec` runs an operator's command in a container, from any process on the machine.

use super::config::{Paths, find_program, key};
use super::files::Root;
use super::record::{self, Record, write_private};
use super::{oci, preflight};
use anyhow::{Context, Result};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a command as vcap with the app's environment in its home, on this process's stdin, stdout and stderr, with a terminal if
/// stdin and stdout are one. It blocks until the command ends and returns its exit status.
pub fn exec_interactive(
    data_dir: &Path,
    run_dir: &Path,
    handle: &str,
    command: &[String],
) -> Result<i32> {
    let paths = Paths {
        data: data_dir.to_owned(),
        run: run_dir.to_owned(),
    };
    let key = key(handle);
    let record = Record::load(&paths.container(&key))?
        .with_context(|| format!("container {handle} does not exist on this cell"))?;
    let user = record::user(&Root::of(record.shim, &paths.root(&key))?, "vcap")?;
    let mut env = oci::environment(&user, &record.env, &record.app_env);
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if let (true, Ok(term)) = (terminal, std::env::var("TERM")) {
        env.retain(|entry| !entry.starts_with("TERM="));
        env.push(format!("TERM={term}"));
    }
    let shell = ["/bin/bash".to_owned()];
    let args = if command.is_empty() {
        &shell[..]
    } else {
        command
    };
    let mut process = oci::process(&user, args, &env, &user.home, preflight::nofile(0));
    process["terminal"] = terminal.into();
    // The file is in the folder that is removed with the container, in case this process is killed before it removes the file.
    let file = paths
        .container(&key)
        .join(format!("exec-{}.json", std::process::id()));
    write_private(&file, &serde_json::to_vec(&process)?)?;
    let complaint = file.with_extension("log");
    let status = run(&paths, &record, &file, &complaint);
    let message = std::fs::read_to_string(&complaint).unwrap_or_default();
    for file in [file, complaint] {
        let _ = std::fs::remove_file(file);
    }
    Ok(match status? {
        255 => not_started(&message).unwrap_or(255),
        status => status,
    })
}

/// Returns the exit status of a shell for the error with which crun failed to start the command; `None` for other errors.
fn not_started(message: &str) -> Option<i32> {
    if message.contains("not found") || message.contains("No such file or directory") {
        Some(127)
    } else if message.contains("Permission denied") || message.contains("Exec format error") {
        Some(126)
    } else {
        None
    }
}

fn run(paths: &Paths, record: &Record, process: &Path, complaint: &Path) -> Result<i32> {
    let setup = paths.container(&record.key).join("setup.json");
    let setup: shim_protocol::Setup = serde_json::from_slice(
        &std::fs::read(&setup).with_context(|| format!("read {}", setup.display()))?,
    )?;
    let crun = find_program(&setup.crun).unwrap_or_else(|| PathBuf::from("crun"));
    // The shell is the shortest program that joins a cgroup and then executes another program.
    let mut script = Command::new("/bin/sh");
    script.args([
        "-c",
        "while [ \"$1\" != -- ]; do echo 0 > \"$1\" || exit 126; shift; done; shift; exec \"$@\"",
        "sh",
    ]);
    // In the shim's mount namespace, crun accepts the machine's cgroups.
    let namespace = format!("--mount=/proc/{}/ns/mnt", record.shim);
    script
        .args(&setup.app_cgroups)
        .args(["--", "nsenter", &namespace, "--"])
        .arg(crun)
        .arg("--root")
        .arg(&setup.crun_root)
        .arg("--cgroup-manager=disabled")
        .arg("--log")
        .arg(complaint);
    let status = script
        .args(["exec", "--process"])
        .arg(process)
        .arg(&record.key)
        .status()
        .context("run crun")?;
    Ok(status.code().unwrap_or(137))
}
