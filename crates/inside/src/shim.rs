//! The parent of one container on the cell. It is a separate process that outlives the process that started it.
//!
//! It mounts the root file system in a mount namespace of its own (so that no mount is left when shim and container have ended in
//! any way), starts the container's init with crun, then starts processes on request, keeps their output while nobody reads it,
//! and records their exits. It makes no decisions: limits, rules and names come from garden.
//!
//! There is one shim per container, so it has one thread with one `poll` loop and allocates nothing while nothing happens.

use anyhow::{Context, Result};
use nix::sys::prctl::set_child_subreaper;
use nix::unistd::{dup2_stdout, setsid};
use shim_protocol::{Ready, Setup};
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

pub(crate) mod enter;
mod mounts;
mod process;
mod server;
pub(crate) mod userns;

pub(crate) fn main(args: &[String]) -> ExitCode {
    let [setup] = args else {
        eprintln!("usage: shim SETUP_FILE");
        return ExitCode::from(2);
    };
    match begin(setup) {
        Ok(server) => {
            print_ready(&Ready::Pid(server.init()));
            // The starter waits for the end of this process's stdout, so stdout must be closed.
            if let Ok(null) = File::options().write(true).open("/dev/null") {
                let _ = dup2_stdout(null);
            }
            server.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_ready(&Ready::Failed(format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn print_ready(ready: &Ready) {
    if let Ok(line) = serde_json::to_string(ready) {
        println!("{line}");
        let _ = std::io::stdout().flush();
    }
}

fn begin(setup: &str) -> Result<server::Server> {
    // The shim leaves the terminal and the process group of the starter, so that its Ctrl-C does not reach the shim.
    setsid().context("leave the session")?;
    close_inherited();
    set_child_subreaper(true).context("become the parent of orphans")?;
    let signals = server::block_signals()?;
    let text = std::fs::read(setup).with_context(|| format!("read {setup}"))?;
    let setup: Setup = serde_json::from_slice(&text).context("parse the set-up")?;
    std::env::set_current_dir("/").context("go to /")?;
    mounts::mount_root(&setup)?;
    let init = process::start_container(&setup)?;
    let listener = UnixListener::bind(&setup.socket)
        .with_context(|| format!("listen on {}", setup.socket.display()));
    match listener {
        Ok(listener) => server::Server::new(setup, init, listener, signals),
        Err(error) => {
            process::end_container(&setup, Some(init));
            Err(error)
        }
    }
}

/// Closes inherited descriptors, which would otherwise stay open as long as the container lives.
fn close_inherited() {
    let entries = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let open: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // The descriptor of the listed folder is among them, and is closed already.
        let _ = nix::unistd::close(fd);
    }
}
